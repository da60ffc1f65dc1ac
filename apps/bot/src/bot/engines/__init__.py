"""Where tasks are worked on: processes of this machine, or of Dask's workers.

tasks ─► Engine ─► what came of each, whichever is done first

`engine` chooses one by a text, `local` is the processes of this machine, `cluster` those of Dask,
`certificates` what lets machines trust one another, `work` what a worker does and refuses.
"""

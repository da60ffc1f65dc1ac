"""Where tasks are worked on: processes of this machine, or of Dask's workers.

tasks ─► Engine ─► what came of each, whichever is done first
"""

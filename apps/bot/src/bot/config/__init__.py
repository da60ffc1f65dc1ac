"""The settings of a run: one tree, where each value comes from, and what may change on the way.

section ─► api, log, notify, paper, signals ─► settings: the tree, and the path of each
environment (where a run may go) ─► validation (whether it answers)
bot.yaml, options, variables, profile ─► layers ─► settled ─► loaded ─► configured ─► a run
an edit while it runs ─► changes ─► an act
"""

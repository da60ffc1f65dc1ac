"""The settings of a run: one tree, where each value comes from, and what may change on the way.

options, variables, bot.yaml, profile ──► configured ──► settings (the tree) ──► a run
an edit while it runs ──► changes ──► an act
"""

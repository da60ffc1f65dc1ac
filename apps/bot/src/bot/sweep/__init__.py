"""Many variants over many recordings, on one machine or several.

grid, recordings ─► tasks ─► an engine ─► one front, N backs each ─► results, keyed and sorted
"""

"""The dashboard: a run copied into a snapshot some times a second, and drawn by dydx_panels.

composition.Bot ──► snapshot ──► screen        leave: the question at the end of a run
"""

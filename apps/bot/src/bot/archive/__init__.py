"""What is here of the past: fetched from the venue, imported from files, listed and verified.

the venue's REST ── fetch ──┐
CSV, Parquet, L2 ── import ─┴─► recordings ─► `bot recordings`
"""

"""What a strategy would have done: figures, trades, intervals, and whether it was luck.

recordings ─► runs ─► figures, by market and in total ─► tables, CSV, Parquet, a page
"""

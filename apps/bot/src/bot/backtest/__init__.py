"""What a strategy would have done: figures, trades, intervals, and whether it was luck.

    words ─► variants, recordings ─► runs ─► figures, by market and in total ─► tables, JSON,
                                        └──► trades as CSV or Parquet, pages     (bot backtest)
    what was held, hour by hour returns ─► intervals, against holding and chance ─► luck or not
    two runs ─► the first decision that differs, and why                          (--compare)

Each recording is a run of its own with a fresh account; several strategies share one pass of it.
"""

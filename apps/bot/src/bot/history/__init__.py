"""What a person reads of runs that are over: orders, positions, profit, errors; and their backup.

typed ──► reading ──► pages and sums of the database ──► listing: a table, CSV or JSON
"""

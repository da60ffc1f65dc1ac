"""What outlives a run: the tables, the one thread that writes them, what a run's rows are made of.

rows ──► writer ──► store ──► tables        spill: what the database does not take, till it does
tables ──► remains ──► what the next run of an account goes on with
"""

"""`bot audit`: what the trading logic is expected to do, scenario by scenario, and whether it does.

scenarios of each subject ─► carried out through the layers that trade ─► terminal, page, JSON
"""

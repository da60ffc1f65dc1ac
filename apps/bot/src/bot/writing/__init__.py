"""Write your own: does a strategy see the future, does it behave, and do signals.

bot prove, bot strategy check, bot signals check ─► what was found, in words
"""

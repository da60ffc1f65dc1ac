"""`bot bundle`: all about one id as one file, which repeats it on another machine.

recording, journal, settings, code ─► packed ─► FILE ─► unpacked, replayed ─► the same hash?
"""

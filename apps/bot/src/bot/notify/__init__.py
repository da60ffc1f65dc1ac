"""Notices to people: what happened in a run, to where it was configured, and never in its way.

run ──► Notice ──► throttle ──► Message ──► spool, a file each ──► sink (apprise)
"""

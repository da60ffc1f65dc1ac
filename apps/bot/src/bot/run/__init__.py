"""One run: all layers joined, what it decides and did in order, and what goes beside it.

frames ──► composition ──► journal; orders ──► a venue: paper, or the wire
what an earlier run left ──► resume ──► its first frame
"""

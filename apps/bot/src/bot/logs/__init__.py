"""What happened, a line of JSON each, in files that rotate; what is known of it is in `events`.

journal, connections, wire errors, stderr, libraries ──► run ──► writer, a thread ──► file
                                                          └── events: names, levels, fields
"""

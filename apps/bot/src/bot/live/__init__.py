"""A run that a person begins: from its source to its report, with all that goes beside it.

commands, trade ──► runs ──► a report        handle, reload: how it is reached meanwhile
"""

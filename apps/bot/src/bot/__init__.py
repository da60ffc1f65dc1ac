"""The bot: every layer composed once, and the commands a person types.

    frames ─► views ─► scores ─► decisions ─► verdicts ─► orders ─► account frames ─┐
                                                  ▲────────────────────────────────┘

`composition` joins the layers and holds the only subscriptions; `journal` records what they did
and the run's hash; `report` puts it in words; `screen` plays a run on a terminal; `why` walks
from a fill back to the wire; `environment` chooses a network and checks it, `doctor` prints the
checks; `keys`, `wire` and `trade` send real orders; `runs` is what the commands that run it have
in common; `acts` is what a person does to a run, `handle` how another process reaches it; `faults`
breaks a recording and `chaos` watches what survives; `__main__` is the command line.
"""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("bot")

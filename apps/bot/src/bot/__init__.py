"""The bot: every layer composed once, and the commands a person types.

    frames ─► views ─► scores ─► decisions ─► verdicts ─► orders ─► account frames ─┐
                                                  ▲────────────────────────────────┘

`composition` joins the layers and holds the only subscriptions, `feedback` brings the strategy what
it holds, `costs` estimates what an order may cost; `journal` records what the layers did, and the
run's hash; `shown` is what a screen adds to that, `snapshot` joins both for the panels, `screen`
plays a run on a terminal; `report` puts a run in words, `why` walks from a fill back to the wire;
`environment` chooses a network and checks it, `machine` looks at what else a run needs, `doctor`
prints both; `keys`, `wire` and `trade` send real orders, once `reconcile` has compared the account;
`runs` is what the commands that run it have in common, `budget` holds a strategy to its time,
`troubles` is what may go wrong around a run; `acts` is what a person does to a run, `handle` how
another process reaches it; `faults` breaks a recording and `chaos` watches what survives; `meters`
times it; `__main__` is the command line, `commands` its commands.
"""

__all__ = ["__version__"]

__version__: str


def __getattr__(name: str) -> str:
    # Few use it, and to look it up takes longer than the whole command line.
    if name != "__version__":
        raise AttributeError(f"expected __version__ of bot, got {name}")
    from importlib.metadata import version

    return version("bot")

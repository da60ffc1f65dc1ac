"""Which lists of a history are played for a fidelity that was typed."""

from collections.abc import Mapping, Sequence
from typing import Final

Kinds = Sequence[str] | None  # None: all that there is

# The first is what a history must have for it. With trades the venue's candles are played, too:
# they say what was before the first trade.
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "trades": ("trades", "candles", "funding"),
    "candles": ("candles", "funding"),
}


def kinds_of(fidelity: str | None) -> Kinds:
    """Return which kinds are played; None for all that there is."""
    return None if fidelity is None else KINDS[fidelity]

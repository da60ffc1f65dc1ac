"""The indexer's jobs: what it does every so often, and not as things happen.

    step ──► each 30 s   what markets trade: statistics, funding, open interest; what changed alone
         ──► each 120 s  orders that expired 20 blocks ago leave the indexer's book

So open interest is seconds to half a minute old, and books are crossed by orders that are gone.
"""

from collections.abc import Mapping
from random import Random
from typing import Final

from accounts import Sink
from tape import SECOND_NS, MarketTape

_MARKETS_NS: Final = 30 * SECOND_NS
_EXPIRED_NS: Final = 120 * SECOND_NS
# An order is removed so many blocks after its end: until then it might come back.
_BLOCKS_AFTER: Final = 20


class Roundtable:
    """Two jobs and their next times."""

    def __init__(
        self, tapes: Mapping[str, MarketTape], sink: Sink, seed: int, start_ns: int
    ) -> None:
        self._tapes, self._sink = tapes, sink
        self._chance = Random(f"{seed} roundtable")
        self._markets_ns = start_ns + int(self._chance.random() * _MARKETS_NS)
        self._expired_ns = start_ns + int(self._chance.random() * _EXPIRED_NS)

    def step(self, now_ns: int, height: int) -> None:
        """Do what is due."""
        if now_ns >= self._markets_ns:
            # A run takes its time, and the next begins an interval after it.
            self._markets_ns = now_ns + _MARKETS_NS + int(self._chance.random() * SECOND_NS / 2)
            self.refresh_markets()
        if now_ns >= self._expired_ns:
            self._expired_ns = now_ns + _EXPIRED_NS
            self.remove_expired(height - _BLOCKS_AFTER)

    def refresh_markets(self) -> None:
        """Work out what markets trade; publish the fields that changed."""
        changes = {ticker: tape.refresh() for ticker, tape in self._tapes.items()}
        if trading := {ticker: change for ticker, change in changes.items() if change}:
            self._sink.publish("v4_markets", "v4_markets", {"trading": trading})

    def remove_expired(self, height: int) -> None:
        """Take off the indexer's books what expired up to a height."""
        for ticker, tape in self._tapes.items():
            for level in tape.levels.remove_expired(height):
                self._sink.publish("v4_orderbook", ticker, tape.level_update(level))

"""What stands between an order and its fill, each with its bias in its name.

    Latency ──► draws       how long each message is on its way
    QueuePosition ──► Place what stands before a resting order
    Optimism                what was assumed to trade, against what the tape shows
    Attempts                how much the chain takes, a block at a time

Pure: no book, no account and no clock. The paper venue asks, and tells what it saw.

Units: quantums, subticks and quote quantums are integers; `*_ns` and `at` nanoseconds of event
time. The error of `Optimism` is a share, a float. Sources: v4-chain x/clob/rate_limit.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import cycle, repeat
from random import Random
from typing import Final, Literal

import msgspec
from dydx_conn import Side

__all__ = ["Attempts", "Latency", "Optimism", "PaperError", "Place", "QueuePosition"]

# === Errors ===


class PaperError(Exception):
    """The caller asked for a venue that cannot be: a latency below 0, an unknown queue model."""


# === Latency ===


class Latency(msgspec.Struct, frozen=True):
    """How long each message of ours is on its way, in nanoseconds of event time: a recipe.

    The samples are used in their order, over and over; with a `seed`, drawn among by chance, the
    same draws each time. What has arrived still waits for the next book view or block. Messages
    may overtake each other, as they do on the wire. `PaperError` without samples or below 0.
    """

    samples: tuple[int, ...] = (0,)
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.samples or min(self.samples) < 0:
            raise PaperError(f"expected latencies of 0 ns or more, got {self.samples[:8]}")

    @classmethod
    def constant(cls, ns: int) -> "Latency":
        """Take the same time for every message; 0 is the next book view or block."""
        return cls((ns,))

    @classmethod
    def measured(cls, samples: Iterable[int]) -> "Latency":
        """Take what was measured, in that order, and begin again at its end."""
        return cls(tuple(samples))

    @classmethod
    def sampled(cls, seed: int, samples: Iterable[int]) -> "Latency":
        """Draw among what was measured, by a seed: the same seed gives the same run."""
        return cls(tuple(samples), seed)

    def draws(self) -> Iterator[int]:
        """Return the latencies of one run, message by message, without end."""
        if self.seed is None:
            return cycle(self.samples)
        chance = Random(self.seed)
        return (chance.choice(self.samples) for _ in repeat(None))


# === Queue position ===

QueuePosition = Literal["pessimistic", "proportional", "optimistic"]
"""Who is thought to leave when a level that we rest at shrinks without a trade.

Pessimistic: those behind us, until none is left. Proportional: everybody alike. Optimistic:
nobody stands before us in the first place.
"""

_TAPE_LAG_BLOCKS: Final = 2  # book and tape tell of one trade within so many blocks


class Place:
    """Where an order rests: the price and size of its level, and how much of it stands before.

    `gone` left the book and may yet be told by the tape, `printed` the other way round: no trade
    counts twice. All in quantums.
    """

    __slots__ = ("ahead", "block", "gone", "offset", "price", "printed", "since_ns", "visible")

    def __init__(self, price: float, visible: int, ahead: int, offset: int, since_ns: int):
        self.price, self.visible, self.ahead, self.offset = price, visible, ahead, offset
        self.since_ns = since_ns
        self.gone = self.printed = self.block = 0

    def see(self, size: int, offset: int, block: int, *, proportional: bool) -> None:
        """Take in the level's size as the book now shows it."""
        self._forget(block)
        fell = max(0, self.visible - size)
        told = min(fell, self.printed)
        self.printed -= told
        left = (fell - told) * self.ahead // self.visible if fell and proportional else 0
        left = max(left, self.ahead - size)
        self.ahead -= left
        self.gone += left
        self.visible, self.offset = size, offset

    def pass_by(self, quantums: int, block: int) -> int:
        """Take in a trade at the level; return what of it goes beyond those before us."""
        self._forget(block)
        told = min(quantums, self.gone)
        self.gone -= told
        spent = min(quantums - told, self.ahead)
        self.ahead -= spent
        self.printed += spent
        return quantums - told - spent

    def _forget(self, block: int) -> None:
        if block - self.block > _TAPE_LAG_BLOCKS:
            self.gone = self.printed = 0
        self.block = block


# === Optimism ===


class _Claim(msgspec.Struct, gc=False):
    """A fill of ours, until the tape has shown as much at its price or beyond."""

    ticker: str
    side: Side
    subticks: int
    quantums: int
    quote: int
    left: int
    since_ns: int
    until: int


class Optimism:
    """What a venue assumed to trade at our prices, against what the tape shows traded there.

    A fill is borne out by trades of its market at its price or beyond, with the same taker's
    side, from its block on and within `window_ns` of event time; no trade bears out two fills.
    `assumed` and `traded` are quote quantums by ticker, of the fills that are judged.
    """

    def __init__(self, window_ns: int = 10_000_000_000):
        self.window_ns = window_ns
        self.assumed: Counter[str] = Counter()
        self.traded: Counter[str] = Counter()
        self._claims: deque[_Claim] = deque()

    @property
    def error(self) -> float | None:
        """Return the share of all fills that the tape does not bear out: 0 all do, 1 none."""
        return _share_missing(self.traded.total(), self.assumed.total())

    def of(self, ticker: str) -> float | None:
        """Return the error in one market; None without a fill there."""
        return _share_missing(self.traded[ticker], self.assumed[ticker])

    @property
    def pending(self) -> int:
        """Count the fills that are still to be judged."""
        return len(self._claims)

    def claim(
        self, ticker: str, side: Side, subticks: int, quantums: int, quote: int, *,
        since_ns: int = 0, at: int = 0, witnessed: bool = False,
    ) -> None:  # fmt: skip
        """Take in a fill, of a taker of this side; `witnessed` if a trade itself made it."""
        until, left = at + self.window_ns, 0 if witnessed else quantums
        claim = _Claim(ticker, side, subticks, quantums, quote, left, since_ns, until)
        if witnessed:
            self._judge(claim)
        else:
            self._claims.append(claim)

    def hear(self, ticker: str, side: str, subticks: int, quantums: int, at_ns: int) -> None:
        """Take in a trade of the tape: the older of two fills has it first."""
        sign = 1 if side == "BUY" else -1
        for claim in self._claims:
            alike = claim.ticker == ticker and claim.side == side and claim.since_ns <= at_ns
            if alike and sign * (subticks - claim.subticks) >= 0:
                found = min(claim.left, quantums)
                claim.left -= found
                quantums -= found

    def settle(self, now: int) -> None:
        """Judge the fills that are borne out, or whose time is over at `now`."""
        while self._claims and (self._claims[0].until <= now or not self._claims[0].left):
            self._judge(self._claims.popleft())

    def _judge(self, claim: _Claim) -> None:
        self.assumed[claim.ticker] += claim.quote
        borne_out = claim.quantums - claim.left
        self.traded[claim.ticker] += claim.quote * borne_out // claim.quantums


def _share_missing(found: int, of: int) -> float | None:
    return 1 - found / of if of else None


# === Limits ===
# Every attempt counts, failed ones too. Sources: x/clob/rate_limit; governance may change them.

_RATES: Final = {
    # Stateful or not: blocks, and the most within them.
    True: ((1, 2), (100, 20)),
    False: ((5, 4_000),),
}


class Attempts:
    """What was sent block by block, held against what the chain takes."""

    def __init__(self) -> None:
        self._sent: dict[bool, Counter[int]] = {kind: Counter() for kind in _RATES}

    def exceed(self, block: int, *, stateful: bool) -> bool:
        """Count one attempt in a block; tell whether it is one too many."""
        sent, rates = self._sent[stateful], _RATES[stateful]
        sent[block] += 1
        for past in [past for past in sent if past <= block - rates[-1][0]]:
            del sent[past]
        return any(
            sum(number for past, number in sent.items() if past > block - blocks) > most
            for blocks, most in rates
        )

"""Paths: an account and what happens to it, drawn by a seed from a table of families.

    seed ──► family (seed modulo their number) ──► Path: an account, events

A family is a row of `FAMILIES`: what its account may look like, and the events it draws, one after
the other. An event's size means what `KINDS` says. The same seed always draws the same path.
"""

import random
from collections.abc import Mapping
from typing import Final

import msgspec

DEPOSIT: Final = 10_000  # USDC
CALM_S: Final = 6  # before anything happens: books, then the account's positions
_TAIL_S: Final = 15  # after the last event
_SHORTEST_S: Final = 45

Range = tuple[float, float]

# === Values ===


class Asset(msgspec.Struct, frozen=True):
    """A market of a path and what the account holds there, in USDC; negative is short."""

    ticker: str
    price: float
    maintenance: float  # of notional
    beta: float
    held_usdc: float
    depth_usdc: float  # a side of the book, in calm


class Event(msgspec.Struct, frozen=True):
    """Something that happens from a second on, for so many seconds, so strongly."""

    kind: str
    at_s: int
    for_s: int
    size: float

    @property
    def until_s(self) -> int:
        """Return the first second in which it happens no more."""
        return self.at_s + self.for_s


class Path(msgspec.Struct, frozen=True):
    """An account and what it is led through."""

    seed: int
    family: str
    assets: tuple[Asset, ...]
    events: tuple[Event, ...]
    seconds: int

    @property
    def side(self) -> int:
        """Return 1 if a fall hurts the account, -1 if a rise does."""
        return 1 if sum(asset.held_usdc * asset.beta for asset in self.assets) > 0 else -1

    def first(self, kind: str) -> Event | None:
        """Return the first event of a kind."""
        return next((event for event in self.events if event.kind == kind), None)


KINDS: Final[Mapping[str, str]] = {
    "slide": "prices go against the account by this share, second by second",
    "gap": "the same, at once",
    "rebound": "prices go back by this share of themselves",
    "recovery": "prices go back by this share of what they have moved since the start",
    "noise": "each price moves by chance, with this deviation a second",
    "thin": "the books keep this share of their depth",
    "vanish": "no bids and no asks",
    "one side": "nobody on the side that would take the position",
    "pulled": "books are shown whole, and what fills is this share of them",
    "squeeze": "as many hours pass as it lasts seconds, and funding of this rate is paid in each",
    "lost": "frames are lost; a snapshot comes after so long",
    "stall": "no book frame comes, prices go on",
    "frozen": "no book and no price comes, blocks go on",
    "oracle lags": "the oracle price is the book's of so many seconds ago",
    "book lags": "the book is around the oracle price of so many seconds ago",
    "interest": "open interest grows until the initial margin is this many times its least",
    "account lags": "the account's frames come so many seconds late",
    "orders lost": "this share of the orders never arrives: half without an answer, half expire",
    "node stops": "no order arrives, and none is answered",
    "restart": "the bot is gone for so long, and begins again from snapshots",
}

# === Families ===


class Draw(msgspec.Struct, frozen=True):
    """How an event is drawn: each range evenly; `wait` is since the one before has ended.

    With `along` it is since that one's beginning instead. `chance` is of its happening at all.
    """

    kind: str
    for_s: tuple[int, int] = (1, 1)
    size: Range = (0.0, 0.0)
    wait: tuple[int, int] = (0, 0)
    along: bool = False
    chance: float = 1.0


class Family(msgspec.Struct, frozen=True):
    """What the paths of a family have in common; `depth` is a side of a book, in positions."""

    draws: tuple[Draw, ...]
    markets: tuple[int, ...] = (1, 1, 2, 3)
    leverage: Range = (1.5, 4.5)
    betas: Range = (0.5, 1.4)
    depth: Range = (1.5, 12.0)
    hedged: bool = False


_ALL: Final = (600, 600)  # longer than any path
_BEFORE: Final = (4, 30)
_SLIDE: Final = Draw("slide", (8, 50), (0.05, 0.42), _BEFORE)
_AFTER: Final = Draw("slide", (5, 40), (0.0, 0.18), (0, 15), chance=0.7)

FAMILIES: Final[Mapping[str, Family]] = {
    "slide": Family((_SLIDE,)),
    "gap": Family((
        Draw("slide", (3, 20), (0.0, 0.12), _BEFORE, chance=0.5),
        Draw("gap", size=(0.02, 0.30), wait=(0, 10)), _AFTER,
    )),
    "double gap": Family((
        Draw("gap", size=(0.02, 0.20), wait=_BEFORE),
        Draw("gap", size=(0.02, 0.20), wait=(2, 30)), _AFTER,
    )),
    "slow bleed": Family((Draw("slide", (60, 200), (0.20, 0.50), _BEFORE),)),
    "frozen feed, then a gap": Family((
        Draw("slide", (3, 20), (0.0, 0.15), _BEFORE, chance=0.5),
        Draw("frozen", (5, 20), wait=(0, 5)), Draw("gap", size=(0.02, 0.25)), _AFTER,
    )),
    "fake depth": Family(
        (_SLIDE, Draw("pulled", _ALL, (0.02, 0.15), (-2, 2), along=True)), depth=(3.0, 12.0)
    ),
    "funding squeeze on a hedge": Family(
        (
            Draw("squeeze", (3, 10), (0.001, 0.006), _BEFORE),
            Draw("slide", (5, 30), (-0.10, 0.30), (0, 5)),
            Draw("squeeze", (3, 10), (0.001, 0.006), (0, 5)),
            Draw("slide", (5, 30), (0.0, 0.30), (0, 5)),
            Draw("squeeze", (3, 10), (0.001, 0.006), (0, 5)),
        ),
        markets=(2,), leverage=(4.0, 6.0), betas=(0.3, 1.0), hedged=True,
    ),
    "correlated markets": Family(
        (_SLIDE, Draw("gap", size=(0.0, 0.12), wait=(0, 20), along=True)),
        markets=(3, 4, 5), leverage=(1.5, 4.0), betas=(0.6, 1.6),
    ),
    "oracle lags the book": Family((
        Draw("oracle lags", _ALL, (3, 8), (0, 4)),
        msgspec.structs.replace(_SLIDE, along=True),
        Draw("gap", size=(0.0, 0.10), wait=(0, 10), chance=0.5),
    )),
    "book lags the oracle": Family((
        Draw("book lags", _ALL, (3, 8), (0, 4)),
        msgspec.structs.replace(_SLIDE, along=True),
        Draw("gap", size=(0.0, 0.10), wait=(0, 10), chance=0.5),
    )),
    "open interest rises": Family((
        _SLIDE, Draw("interest", (5, 30), (2.0, 12.0), (-4, 4), along=True),
    )),
    "half of the orders lost": Family((
        Draw("orders lost", _ALL, (0.5, 0.5), (0, 0)), msgspec.structs.replace(_SLIDE, along=True),
    )),
    "account frames late": Family((
        Draw("account lags", _ALL, (2, 10), (0, 0)), msgspec.structs.replace(_SLIDE, along=True),
        _AFTER,
    )),
    "restart in the middle": Family((
        msgspec.structs.replace(_SLIDE, for_s=(15, 60)),
        Draw("restart", (2, 15), wait=(2, 30), along=True),
    )),
    "node stopped": Family((
        msgspec.structs.replace(_SLIDE, for_s=(15, 60)),
        Draw("node stops", (4, 25), wait=(0, 30), along=True),
    )),
    "V": Family((
        Draw("slide", (3, 40), (0.03, 0.30), _BEFORE),
        Draw("recovery", (5, 40), (0.80, 1.0), (0, 10)),
    )),
    "mixed": Family(()),  # of everything by chance: see `_mixed`
}  # fmt: skip

# Of the mixture: which event, how often, how long and how strong it is.
MIXTURE: Final[Mapping[str, tuple[int, tuple[int, int], Range]]] = {
    "slide": (5, (10, 50), (0.05, 0.35)),
    "gap": (3, (1, 1), (0.01, 0.30)),
    "rebound": (2, (5, 20), (0.02, 0.10)),
    "thin": (4, (10, 60), (0.02, 0.5)),
    "vanish": (2, (2, 15), (0.0, 1.0)),
    "one side": (2, (2, 15), (0.0, 1.0)),
    "squeeze": (2, (1, 6), (0.0005, 0.004)),
    "lost": (2, (2, 10), (0.0, 1.0)),
    "stall": (2, (2, 20), (0.0, 1.0)),
}
_MAINTENANCE: Final = (0.012, 0.03, 0.05)
_HEDGE_CHANCE: Final = 1 / 6  # that a further market is one, which a crash pays


def path_of(seed: int, family: str = "") -> Path:
    """Draw the path of a seed: of the family whose turn it is, or of one that is named."""
    family = family or [*FAMILIES][seed % len(FAMILIES)]
    row, chance = FAMILIES[family], random.Random(seed)
    assets = _assets(chance, row)
    if not row.draws:
        return Path(seed, family, assets, _mixed(chance), 150)
    events = [*_drawn(chance, row), Event("noise", 0, *_noise(chance))]
    last = max(e.until_s for e in events if e.for_s < _ALL[0])
    seconds = max(last + _TAIL_S, _SHORTEST_S)
    return Path(seed, family, assets, tuple(sorted(events, key=lambda e: e.at_s)), seconds)


def _noise(chance: random.Random) -> tuple[int, float]:
    return _ALL[0], chance.uniform(0.0001, 0.001)


def _assets(chance: random.Random, row: Family) -> tuple[Asset, ...]:
    count, leverage = chance.choice(row.markets), chance.uniform(*row.leverage)
    shares = [chance.uniform(0.3, 1.0) for _ in range(count)]
    side, assets = chance.choice((1, -1)), []
    if row.hedged:
        shares = [1.0, chance.uniform(0.8, 1.2)]
    for number, share in enumerate(shares):
        held = side * leverage * DEPOSIT * share / sum(shares)
        hedges = row.hedged or chance.random() < _HEDGE_CHANCE if number else False
        held = -held if hedges else held
        price = chance.choice((0.25, 3.0, 150.0, 3_000.0, 60_000.0)) * chance.uniform(0.8, 1.2)
        depth = abs(held) * chance.uniform(*row.depth)
        beta = 1.0 if number == 0 else chance.uniform(*row.betas)
        mmf = chance.choice(_MAINTENANCE)
        assets.append(Asset(f"M{number}-USD", price, mmf, beta, held, depth))
    return tuple(assets)


def _drawn(chance: random.Random, row: Family) -> list[Event]:
    events: list[Event] = []
    since = until = CALM_S + 1
    for draw in row.draws:
        at = max((since if draw.along else until) + chance.randint(*draw.wait), CALM_S + 1)
        event = Event(draw.kind, at, chance.randint(*draw.for_s), chance.uniform(*draw.size))
        if chance.random() < draw.chance:
            events.append(event)
            since, until = event.at_s, event.until_s
    return events


def _mixed(chance: random.Random) -> tuple[Event, ...]:
    weights = [row[0] for row in MIXTURE.values()]
    kinds = chance.choices([*MIXTURE], weights, k=chance.randint(3, 9))
    events = []
    for kind in ("slide", *kinds):
        _, for_s, size = MIXTURE[kind]
        at_s = chance.randint(CALM_S + 4, 110)
        events.append(Event(kind, at_s, chance.randint(*for_s), chance.uniform(*size)))
    return tuple(sorted(events, key=lambda event: event.at_s))

"""Lead seeded accounts through seeded crashes, guarded and not, and count who is liquidated.

    uv run --all-packages --group dev tools/crash.py --paths 10000      the table
    uv run --all-packages --group dev tools/crash.py --seed 4711        one path, shown
    uv run --all-packages --group dev tools/crash.py --seed 4711 --only 0,3   two events of it

    seed ──► Path: an account, events ──► frames ──┬─► with the guard ──► PathOutcome
                                                   └─► without it ──────► PathOutcome

A path is an account (markets, sides, leverage) and what happens to it: slides, gaps, thin and
vanishing books, funding squeezes, lost frames and stalls. Both runs get the same frames, through
the bot's own composition; its strategy has no opinion, and the account is opened by hand.

A guarded account that is liquidated had an exit if, between its distance falling below the
policy's and its breach, two seconds in a row showed known books that would have taken all it held
and left it something: one to see, one to trade. Such a path is a failure, is shrunk to its fewest
events and makes the exit code 1. A book that is gone leaves no such seconds; and a gap that takes
more than the distance which the policy restores, within one second, no policy promises to survive.
"""

import argparse
import json
import math
import multiprocessing
import random
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final

import msgspec
from bot.composition import Bot, Options, Paper
from dydx_conn import (
    ConnError,
    Frame,
    OrderRequest,
    PerpetualMarket,
    Subaccount,
    from_generator,
    ws_frame,
)
from dydx_data import MarketView
from dydx_risk import Policy

OWNER: Final = Subaccount("dydx1crash", 0)
USDC: Final = 10**6
SECOND: Final = 10**9
DEPOSIT: Final = 10_000
POLICY: Final = Policy(act_below=0.10, restore_to=0.15, keep_above=0.18)
START_NS: Final = 1_767_621_360 * SECOND
CALM_S: Final = 6  # before anything happens: books, then the account's positions

# === Paths ===


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


class Path(msgspec.Struct, frozen=True):
    """An account and what it is led through."""

    seed: int
    assets: tuple[Asset, ...]
    events: tuple[Event, ...]
    seconds: int


# Which event, how often it is drawn, how long and how strong it is at most.
EVENTS: Final[dict[str, tuple[int, tuple[int, int], tuple[float, float]]]] = {
    "slide": (5, (10, 50), (0.05, 0.35)),  # against the account, of the price, over its time
    "gap": (3, (1, 1), (0.01, 0.30)),  # the same, at once
    "rebound": (2, (5, 20), (0.02, 0.10)),
    "thin": (4, (10, 60), (0.02, 0.5)),  # the share of its depth that a book keeps
    "vanish": (2, (2, 15), (0.0, 1.0)),  # no bids and no asks
    "one side": (2, (2, 15), (0.0, 1.0)),  # nobody on the side that would take the position
    "squeeze": (2, (1, 6), (0.0005, 0.004)),  # hours in which funding of this rate is paid
    "lost": (2, (2, 10), (0.0, 1.0)),  # frames are lost; a snapshot comes after so long
    "stall": (2, (2, 20), (0.0, 1.0)),  # no book frame comes, prices go on
}
_MAINTENANCE: Final = (0.012, 0.03, 0.05)


def path_of(seed: int) -> Path:
    """Draw a path: the same seed always draws the same."""
    chance = random.Random(seed)
    count = chance.choice((1, 1, 2, 3))
    leverage = chance.uniform(1.5, 4.5)
    shares = [chance.uniform(0.3, 1.0) for _ in range(count)]
    side = chance.choice((1, -1))
    assets = []
    for number, share in enumerate(shares):
        held = side * leverage * DEPOSIT * share / sum(shares)
        # One in six is a hedge, which a crash pays.
        held = -held if number and chance.random() < 1 / 6 else held
        price = chance.choice((0.25, 3.0, 150.0, 3_000.0, 60_000.0)) * chance.uniform(0.8, 1.2)
        depth = abs(held) * chance.uniform(1.5, 12.0)
        beta = 1.0 if number == 0 else chance.uniform(0.5, 1.4)
        mmf = chance.choice(_MAINTENANCE)
        assets.append(Asset(f"M{number}-USD", price, mmf, beta, held, depth))
    kinds = chance.choices([*EVENTS], [row[0] for row in EVENTS.values()], k=chance.randint(3, 9))
    events = [_event(chance, kind) for kind in ("slide", *kinds)]
    return Path(seed, tuple(assets), tuple(sorted(events, key=lambda e: e.at_s)), 150)


def _event(chance: random.Random, kind: str) -> Event:
    _, (shortest, longest), (weakest, strongest) = EVENTS[kind]
    at_s = chance.randint(CALM_S + 4, 110)
    return Event(kind, at_s, chance.randint(shortest, longest), chance.uniform(weakest, strongest))


# === Frames ===


class _Market:
    """One market's price and book, second by second."""

    def __init__(self, asset: Asset, number: int) -> None:
        self.asset, self.number = asset, number
        self.price = asset.price
        # A tick is about a twenty-thousandth of the price, a step worth up to a dollar.
        self.tick_power = round(math.log10(asset.price / 20_000))
        self.step_power = math.floor(-math.log10(asset.price))
        self.shown: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}

    def fields(self) -> dict[str, Any]:
        """Return what the indexer reports of the market."""
        resolution = self.step_power - 6  # a million quantums a step
        return {
            "clobPairId": str(self.number), "ticker": self.asset.ticker, "status": "ACTIVE",
            "oraclePrice": self.text(self.price), "nextFundingRate": "0",
            "initialMarginFraction": f"{self.asset.maintenance / 0.6:.4f}",
            "maintenanceMarginFraction": f"{self.asset.maintenance:.4f}",
            "openInterest": "1", "atomicResolution": resolution,
            # A thousand subticks a tick.
            "quantumConversionExponent": self.tick_power + resolution + 3,
            "stepBaseQuantums": 1_000_000, "subticksPerTick": 1_000,
        }  # fmt: skip

    def text(self, price: float) -> str:
        """Write a price on the market's tick."""
        ticks = round(price / 10.0**self.tick_power)
        return f"{ticks * 10.0**self.tick_power:.{max(0, -self.tick_power)}f}"

    def book(self, depth: float, gone: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the levels of now: each side's depth over ten levels, ever farther away."""
        size = self.asset.depth_usdc * depth / 10 / self.asset.price
        text = f"{size:.{max(0, -self.step_power)}f}"
        sides: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}
        for side, sign in (("bids", -1), ("asks", 1)):
            for level in range(10) if side not in gone and float(text) else ():
                price = self.price * (1 + sign * (0.0002 + 0.0006 * level))
                sides[side][self.text(price)] = text
        return sides

    def changes(self, now: dict[str, dict[str, str]]) -> dict[str, list[list[str]]]:
        """Return the update that turns the book shown into the one of now."""
        update = {
            side: [[price, "0"] for price in self.shown[side] if price not in levels]
            + [[price, size] for price, size in levels.items()]
            for side, levels in now.items()
        }
        self.shown = now
        return {side: rows for side, rows in update.items() if rows}


def frames_of(path: Path) -> Iterator[list[Frame]]:
    """Yield the frames of each second, as an indexer would send them."""
    return _Wire(path).run()


class _Wire:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.markets = [_Market(asset, n) for n, asset in enumerate(path.assets)]
        self.seq = self.messages = 0
        self.hours = 0
        self.out: list[Frame] = []
        self.second = 0
        self.side = 1 if sum(a.held_usdc for a in path.assets) > 0 else -1

    def run(self) -> Iterator[list[Frame]]:
        for second in range(self.path.seconds):
            self.second, self.out = second, []
            if self.second == 0:
                self._begin()
            happening = [e for e in self.path.events if e.at_s <= self.second < e.at_s + e.for_s]
            for event in happening:
                self._move(event)
            self._publish("v4_block_height", "", self._block())
            prices = {m.asset.ticker: {"oraclePrice": m.text(m.price)} for m in self.markets}
            self._publish("v4_markets", "", {"oraclePrices": prices})
            self._books(happening)
            yield self.out

    def _begin(self) -> None:
        self._publish("", "", None, type_="connected")
        listed = {market.asset.ticker: market.fields() for market in self.markets}
        self._publish("v4_markets", "", {"markets": listed}, type_="subscribed")
        for market in self.markets:
            self._snapshot(market, 1.0, ())

    def _move(self, event: Event) -> None:
        share = {"slide": event.size / event.for_s, "gap": event.size}.get(event.kind, 0.0)
        share = -event.size / event.for_s if event.kind == "rebound" else share
        for market in self.markets:
            market.price *= 1 - self.side * min(share * market.asset.beta, 0.9)
        if event.kind == "squeeze" and self.second == event.at_s:
            self.hours += event.for_s
            rate = {"nextFundingRate": f"{self.side * event.size:.6f}"}
            trading = {market.asset.ticker: rate for market in self.markets}
            self._publish("v4_markets", "", {"trading": trading})

    def _books(self, happening: Sequence[Event]) -> None:
        kinds = {event.kind: event for event in happening}
        depth = min((e.size for e in happening if e.kind == "thin"), default=1.0)
        taker = "bids" if self.side > 0 else "asks"
        gone = ("bids", "asks") if "vanish" in kinds else (taker,) if "one side" in kinds else ()
        lost = kinds.get("lost")
        if lost is not None and self.second == lost.at_s:
            self.seq += 1
            self.out.append(Frame(self.seq, self._now(), self._now(), "c1", "gap", "frames lost"))
        if lost is not None or "stall" in kinds:
            return
        ended = any(e.kind == "lost" and self.second == e.at_s + e.for_s for e in self.path.events)
        for market in self.markets:
            if ended:
                self._snapshot(market, depth, gone)
            elif update := market.changes(market.book(depth, gone)):
                self._publish("v4_orderbook", market.asset.ticker, update)

    def _snapshot(self, market: _Market, depth: float, gone: Sequence[str]) -> None:
        market.shown = market.book(depth, gone)
        levels = {
            side: [{"price": price, "size": size} for price, size in rows.items()]
            for side, rows in market.shown.items()
        }
        self._publish("v4_orderbook", market.asset.ticker, levels, type_="subscribed")

    def _now(self) -> int:
        # The hours of a squeeze pass between two seconds.
        return START_NS + (self.second + self.hours * 3_600) * SECOND

    def _block(self) -> dict[str, str]:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(self._now() // SECOND))
        return {"blockHeight": str(1_000 + self.second), "time": stamp}

    def _publish(self, channel: str, id_: str, contents: Any, type_: str = "channel_data") -> None:
        self.seq += 1
        message = {"type": type_, "message_id": self.messages}
        self.messages += 1
        if channel:
            message |= {"channel": channel, "contents": contents} | ({"id": id_} if id_ else {})
        text = msgspec.json.encode(message).decode()
        self.out.append(ws_frame(self.seq, self._now(), self._now(), "c1", text))


# === Runs ===


class PathOutcome(msgspec.Struct, frozen=True):
    """What became of an account; money is USDC. `exits` are the seconds in which it could leave.

    A deleveraging counts as a liquidation: the chain took the position either way.
    """

    opened: bool
    liquidations: int
    reductions: int
    equity: float | None
    closest: float | None
    exits: int
    lines: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Return whether it was liquidated although it could have left."""
        return self.liquidations > 0 and self.exits >= 2


def lead(path: Path, *, guard: bool, verbose: bool = False) -> PathOutcome:
    """Lead an account down a path."""
    return _Run(path, guard=guard, verbose=verbose).whole()


class _Run:
    """The bot on one path: its account opened by hand, and looked at after each second."""

    def __init__(self, path: Path, *, guard: bool, verbose: bool) -> None:
        self.path, self.verbose = path, verbose
        self.venue = Paper(OWNER, DEPOSIT * USDC)
        self.bot = Bot(Options(strategy="none", guard=guard, policy=POLICY), self.venue)
        self.opened, self.exits, self.most_exits = False, 0, 0
        self.lines: list[str] = []
        self.written = 0  # what of the journal was shown
        self.shown = ""
        self.distance: float | None = None
        self.ended = False

    def whole(self) -> PathOutcome:
        """Run to the end."""
        self.bot.run(from_generator(self._frames))
        ledger, risk = self.venue.ledger, self.bot.risk
        equity = None if ledger.equity is None else ledger.equity / USDC
        return PathOutcome(
            self.opened, self._taken(), self.bot.journal.counts["reduce"], equity, risk.closest,
            self.most_exits, tuple(self.lines),
        )  # fmt: skip

    def _frames(self) -> Generator[Frame]:
        for second, frames in enumerate(frames_of(self.path)):
            yield from frames
            if second == 2:
                self._open()
            if second == CALM_S:
                self.opened = len(self.venue.ledger.holdings) == len(self.path.assets)
            self._look(second)

    def _open(self) -> None:
        for number, asset in enumerate(self.path.assets):
            market = self.bot.data.views[asset.ticker].market
            if market is None:
                raise ConnError(f"expected the parameters of {asset.ticker} of path {self.path}")
            self.bot.place(_entry(asset, market, number))

    def _taken(self) -> int:
        """Count what the chain took: liquidations, and positions that were deleveraged."""
        ledger = self.venue.ledger
        return ledger.tally.liquidations + ledger.history.fills(status="DELEVERAGED").total

    def _look(self, second: int) -> None:
        """Count the seconds in a row in which all could be sold, while it was in danger."""
        taken, distance = self._taken(), self.bot.risk.margin.distance
        shown = "flat" if distance is None else f"distance {distance:.1%}"
        if self.verbose:
            self._narrate(second, f"{shown}, {taken} liquidations" if shown != self.shown else "")
        self.shown = shown
        if taken:
            if not self.ended:
                self.ended = True
                fell = (self.distance or 0.0) - (self.bot.risk.closest or 0.0)
                self.most_exits = 0 if fell > POLICY.restore_to else self.most_exits
            return
        self.distance = distance
        if distance is None or distance >= POLICY.act_below or not self.opened:
            self.exits = self.most_exits = 0
            return
        left = self._after_exit() if distance > 0 else None
        self.exits = self.exits + 1 if left is not None and left > 0 else 0
        self.most_exits = max(self.most_exits, self.exits)

    def _narrate(self, second: int, shown: str) -> None:
        """Note what gate and guard decided since the last look, and how the account stands."""
        decided = self.bot.journal.of_kind("reduce", "gate", "denied", "approved")
        words = [entry.value.why for entry in decided[self.written :]]
        self.written = len(decided)
        self.lines += [f"{second:5} s  {what}" for what in [*words, shown] if what]

    def _after_exit(self) -> int | None:
        """Return what would be left if all were sold into the books as they are; None if not."""
        ledger = self.venue.ledger
        left = ledger.collateral
        for ticker, holding in ledger.holdings.items():
            quote = _sold(self.bot.data.views[ticker], holding.market, holding.quantums)
            if quote is None:
                return None
            left += quote - abs(quote) // 2_000
        return left


def _entry(asset: Asset, market: PerpetualMarket, number: int) -> OrderRequest:
    size = f"{abs(asset.held_usdc) / asset.price:.12f}"
    worst = f"{asset.price * (1.02 if asset.held_usdc > 0 else 0.98):.12f}"
    return OrderRequest(
        ticker=asset.ticker, clob_pair_id=market.clob_pair_id,
        side="BUY" if asset.held_usdc > 0 else "SELL", quantums=market.floor_quantums(size),
        subticks=market.floor_subticks(worst), time_in_force="IOC", client_id=900_000 + number,
        good_til_block=1_010,
    )  # fmt: skip


def _sold(view: MarketView, market: PerpetualMarket, held: int) -> int | None:
    """Return the quote quantums that the visible book pays for a position, or takes for it."""
    if not view.book.known or view.quality.stale:
        return None
    quote, left = 0, abs(held)
    for level in view.book.bids() if held > 0 else view.book.asks():
        taken = min(left, market.floor_quantums(level.size_text))
        quote += market.quote_quantums(taken, market.floor_subticks(level.price_text))
        left -= taken
    if left:
        return None
    return quote if held > 0 else -quote


# === Paths that fail ===


def shrunk(path: Path) -> Path:
    """Leave out every event without which the path fails as well."""
    events = list(path.events)
    for event in list(path.events):
        fewer = [each for each in events if each is not event]
        if lead(_with(path, fewer), guard=True).failed:
            events = fewer
    return _with(path, events)


def _with(path: Path, events: Sequence[Event]) -> Path:
    return msgspec.structs.replace(path, events=tuple(events))


# === Command ===


class Both(msgspec.Struct, frozen=True):
    """The two runs of a path."""

    seed: int
    guarded: PathOutcome
    unguarded: PathOutcome


def both(seed: int) -> Both:
    """Lead a seed's account down its path twice."""
    path = path_of(seed)
    return Both(seed, lead(path, guard=True), lead(path, guard=False))


def main(arguments: Sequence[str]) -> int:
    """Run what was requested; 1 if a guarded account was liquidated that could have left."""
    parser = argparse.ArgumentParser(
        prog="uv run tools/crash.py", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--paths", type=int, default=10_000, help="how many (default 10000)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 for one a core")
    parser.add_argument("--seed", type=int, help="show one path second by second")
    parser.add_argument("--only", help="of its events, these: 0,3")
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    options = parser.parse_args(arguments)
    if options.paths < 1:
        parser.error(f"expected at least one path, got {options.paths}")
    if options.seed is not None:
        return _show(options.seed, options.only)
    return _table(options)


def _show(seed: int, only: str | None) -> int:
    path = path_of(seed)
    if only is not None:
        try:
            path = _with(path, [path.events[int(number)] for number in only.split(",") if number])
        except (ValueError, IndexError):
            what = f"expected numbers of the {len(path.events)} events, such as 0,3"
            print(f"crash: {what}; got {only!r}", file=sys.stderr)
            return 2
    for asset in path.assets:
        print(f"{asset.ticker}  holds {asset.held_usdc:,.0f} USDC at {asset.price:,.4f}")
    for number, event in enumerate(path.events):
        when = f"at {event.at_s} s for {event.for_s} s"
        print(f"event {number}  {event.kind:<9} {when}, {event.size:.3f}")
    guarded = lead(path, guard=True, verbose=True)
    print("\n".join(guarded.lines))
    for name, outcome in (("guarded", guarded), ("unguarded", lead(path, guard=False))):
        equity = "unknown" if outcome.equity is None else f"{outcome.equity:,.2f}"
        print(f"{name:<10} {outcome.liquidations} liquidations, {equity} USDC left")
    return 1 if guarded.failed else 0


def _table(options: argparse.Namespace) -> int:
    started = time.monotonic()
    seeds = range(options.first, options.first + options.paths)
    workers = options.workers or multiprocessing.cpu_count()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        runs = [run for run in pool.imap_unordered(both, seeds, chunksize=20) if run.guarded.opened]
    runs.sort(key=lambda run: run.seed)
    failed = [run.seed for run in runs if run.guarded.failed]
    figures = summary(runs, time.monotonic() - started)
    if options.json:
        alone = [r.seed for r in runs if r.guarded.liquidations and not r.unguarded.liquidations]
        print(json.dumps(figures | {"failed": failed, "alone": alone}))
    else:
        print("\n".join(f"{name:<52}{value:>14}" for name, value in figures.items()))
        for seed in failed[:5]:
            path = path_of(seed)
            needed = [path.events.index(event) for event in shrunk(path).events]
            print(f"failed: --seed {seed} --only {','.join(map(str, needed))}")
    return 1 if failed else 0


def summary(runs: Sequence[Both], seconds: float) -> dict[str, str]:
    """Sum the runs up, in words."""
    saved = [r for r in runs if r.unguarded.liquidations and not r.guarded.liquidations]
    alone = [r for r in runs if r.guarded.liquidations and not r.unguarded.liquidations]
    unguarded = [r for r in runs if r.unguarded.liquidations]
    guarded = [r for r in runs if r.guarded.liquidations]
    calm = [r for r in runs if not r.unguarded.liquidations]
    return {
        "paths (accounts that opened)": f"{len(runs):,}",
        "liquidated without the guard": f"{len(unguarded):,}",
        "liquidated with it": f"{len(guarded):,}",
        "… although there was an exit (must be 0)": f"{sum(r.guarded.failed for r in runs):,}",
        "saved by it": f"{len(saved):,}",
        "liquidated with it alone": f"{len(alone):,}",
        "mean left where both ran, guarded": _mean(r.guarded.equity for r in unguarded),
        "mean left where both ran, unguarded": _mean(r.unguarded.equity for r in unguarded),
        "mean cost of the guard where the other was safe": _mean(
            (r.unguarded.equity or 0.0) - (r.guarded.equity or 0.0) for r in calm
        ),
        "reductions, mean": f"{sum(r.guarded.reductions for r in runs) / max(len(runs), 1):.2f}",
        "took": f"{seconds:.0f} s",
    }


def _mean(values: Any) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):,.2f} USDC" if known else "-"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

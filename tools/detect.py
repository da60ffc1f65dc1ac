"""What the detectors find, against what was really there.

    stand-in, in this process ──► frames ──► market_views ──► detectors ──► found
         └── its spells without makers ─────────────────────► true ──────────┴──► a table

    uv run tools/detect.py makers --seeds 50        makers that come and go
    uv run tools/detect.py discovery --seeds 100    planted leads
    uv run tools/detect.py arbitrage [RECORDING …]  each claim, walked again in exact numbers
    uv run tools/detect.py cost [RECORDING]         µs of processor time a view

Everything runs in event time, as fast as it can. Exit code: 1 where a bound is missed, else 0.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent / "venue"))

from disturbances import Disturbances, Spells  # the venue's modules are siblings of each other
from dydx_conn import Frame, Recording, WireWriter, find_recording, market_fields
from dydx_data import (
    DETECTORS,
    Arbitrage,
    DataState,
    Detection,
    MarketMakers,
    MarketView,
    PriceDiscovery,
    step,
)
from exchange import Exchange, VenueSettings
from indexer import snapshot
from tape import from_iso

SECOND: Final = 1_000_000_000
START_NS: Final = from_iso("2026-01-05T13:56:00Z")

# === Frames of the stand-in ===


class Batches:
    """The sink of an exchange in this process: what a subscriber of everything receives."""

    def __init__(self, wire: WireWriter) -> None:
        self.frames: list[Frame] = []
        self._wire = wire
        self._books: dict[str, list[Any]] = {}

    def wanted(self, channel: str, id: str) -> bool:
        """Return whether a market data channel, apart from candles."""
        return channel in ("v4_orderbook", "v4_trades", "v4_markets", "v4_block_height")

    def publish(self, channel: str, id: str, contents: Any, subaccount: int | None = None) -> None:
        """Take levels into the next batch, and write anything else at once."""
        if channel == "v4_orderbook":
            self._books.setdefault(id, []).append(contents)
        elif self.wanted(channel, id):
            id = "" if channel == "v4_markets" else id
            self.frames.append(self._wire.publish(channel, contents, id=id))

    def flush(self) -> None:
        """Write the batches of all books."""
        for ticker, levels in self._books.items():
            self.frames.append(self._wire.publish("v4_orderbook", *levels, id=ticker))
        self._books = {}


def frames_of(
    exchange: Exchange, wire: WireWriter, sink: Batches, seconds: float
) -> Iterator[Frame]:
    """Let a venue run for some of its seconds; yield what its indexer would send."""
    view = exchange.replicas.snapshot()
    yield wire.message("connected")
    wants = [("v4_markets", ""), ("v4_block_height", "v4_block_height")]
    wants += [(name, ticker) for ticker in exchange.tapes for name in ("v4_orderbook", "v4_trades")]
    for channel, id_ in wants:
        yield wire.publish(channel, snapshot(view, channel, id_), id=id_, snapshot=True)
    start = wire.mono
    for number in range(int(seconds * 10)):
        exchange.step()
        wire.at, wire.mono = exchange.now_ns, start + exchange.now_ns - exchange.settings.start_ns
        if number % 5 in (2, 4):  # every 250 ms, as the venue's steps of 100 ms allow
            sink.flush()
        yield from sink.frames
        sink.frames.clear()


def stand_in(scenario: str, seed: int, seconds: float, **settings: Any) -> Iterator[Frame]:
    """Yield the frames of a stand-in of three markets."""
    wire = WireWriter(at=START_NS)
    sink = Batches(wire)
    chosen = VenueSettings(scenario=scenario, seed=seed, start_ns=START_NS, **settings)
    return frames_of(Exchange(chosen, sink), wire, sink, seconds)


def views_of(frames: Iterable[Frame]) -> Iterator[MarketView]:
    """Fold frames into views, one at a time: a view is only read before the next."""
    state = DataState()
    for frame in frames:
        yield from step(state, frame)


# === Market makers ===
# True is when the venue lets its makers leave; found is when the strength passes the bounds that
# `MarketMakers` names. One of the same kind at most a minute after it confirms a finding.

PRESENT: Final = 0.5
GONE: Final = 0.25
WITHIN_S: Final = 60.0
SCENARIOS: Final = ("calm", "crash", "halt")
LEAVE_S: Final = 60.0  # mean time between two spells, of 5 to 12 s


@dataclass(frozen=True, slots=True)
class Change:
    """The makers of a market came or went, seconds after the start."""

    ticker: str
    kind: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MakersFound:
    """What was found in one run, and what was there."""

    scenario: str
    seed: int
    found: tuple[Change, ...]
    true: tuple[Change, ...]
    frozen: int  # findings of makers while the chain stood

    @property
    def matched(self) -> list[tuple[Change, Change]]:
        """Pair each finding with the newest change before it that it confirms, each once."""
        left, pairs = list(self.true), []
        for one in self.found:
            for other in reversed(left):
                same = (other.ticker, other.kind) == (one.ticker, one.kind)
                if same and 0.0 <= one.at_s - other.at_s <= WITHIN_S:
                    left.remove(other)
                    pairs.append((other, one))
                    break
        return pairs


def find_makers(scenario: str, seed: int, seconds: float, leave_s: float) -> MakersFound:
    """Run a stand-in whose makers leave now and then, and look for them."""
    calm_s, markets = 60.0, ("BTC-USD", "ETH-USD", "SOL-USD")
    settings = {"calm_s": calm_s, "disturbances": Disturbances(makers_leave=leave_s)}
    detector, there, found, frozen = MarketMakers(), dict[str, bool](), list[Change](), 0
    for view in views_of(stand_in(scenario, seed, seconds, **settings)):
        if view.changed not in detector.changes or (seen := detector.step(view)) is None:
            continue
        at_s, ticker = (view.at - START_NS) / SECOND, view.ticker
        frozen += scenario == "halt" and calm_s + 6.0 < at_s <= calm_s + 60.0
        was = there.get(ticker)
        now = seen.strength >= PRESENT if not was else seen.strength > GONE
        there[ticker] = now
        if was is not None and was != now:
            found.append(Change(ticker, "came" if now else "went", at_s))
        elif was is None:
            there[ticker] = True  # the venue begins with its makers
    spells, end = Spells(Random(f"{seed} makers"), leave_s, 5.0, 12.0), int(seconds * 10)
    away = [spells.on(number * SECOND // 10) for number in range(end)]
    changes = [n for n in range(1, end) if away[n] != away[n - 1]]
    true = [
        Change(ticker, "went" if away[n] else "came", n / 10) for n in changes for ticker in markets
    ]
    return MakersFound(
        scenario=scenario, seed=seed, found=tuple(found), true=tuple(true), frozen=frozen
    )


def makers(seeds: int, seconds: float, scenarios: Sequence[str] = SCENARIOS) -> bool:
    """Print what was found over many seeds; return whether the bounds hold.

    Without spells every finding is wrong; in a halt there may be none at all.
    """
    print(f"makers: {seeds} seeds of {seconds:.0f} s, three markets, found within {WITHIN_S:.0f} s")
    print(f"{'scenario':10}{'leave':>6}{'true':>7}{'found':>7}{'right':>7}"
          f"{'precision':>11}{'recall':>8}{'delay s':>9}{'p90':>6}{'frozen':>8}")  # fmt: skip
    good = True
    for scenario, leave_s in ((name, leave_s) for leave_s in (LEAVE_S, 0.0) for name in scenarios):
        runs = [find_makers(scenario, seed, seconds, leave_s) for seed in range(1, seeds + 1)]
        pairs = [pair for run in runs for pair in run.matched]
        found, true = (sum(len(getattr(run, name)) for run in runs) for name in ("found", "true"))
        frozen = sum(run.frozen for run in runs)
        delays = sorted(one.at_s - other.at_s for other, one in pairs) or [math.nan]
        precision = len(pairs) / found if found else 1.0
        recall = f"{len(pairs) / true:.1%}" if true else "-"
        print(f"{scenario:10}{leave_s or '-':>6}{true:7}{found:7}{len(pairs):7}{precision:11.1%}"
              f"{recall:>8}{statistics.median(delays):9.1f}{delays[int(0.9 * len(delays))]:6.1f}"
              f"{frozen:8}", flush=True)  # fmt: skip
        good &= not frozen and (precision >= 0.9 if leave_s else scenario != "halt" or not found)
    return good


# === Price discovery ===
# A random walk that the mid shows at once and the tape (or the oracle) a lead later, each at
# random times of its own and with noise of its own.

LEAD_S: Final = 1.0
OFF_S: Final = 0.25


def planted(seed: int, lead_s: float, seconds: float, *, follows: str) -> Iterator[Frame]:
    """Yield the frames of one market in which a price follows the mid by so much."""
    chance, wire = Random(f"{seed} planted"), WireWriter(at=START_NS)
    walk = [0.0]
    for _ in range(int((seconds + 10.0) * 100)):
        walk.append(walk[-1] + chance.gauss(0.0, 0.5e-4))  # 5 bps a second: fast, as in a crash
    moments = [(at, "mid") for at in _moments(chance, 3.0, seconds)]
    moments += [(at, follows) for at in _moments(chance, 1.0, seconds)]
    yield wire.message("connected")
    yield wire.markets(market_fields("BTC-USD", price=100_000.0, subticksPerTick=1))
    yield wire.book("BTC-USD", [(99_990, 1)], [(100_010, 1)])
    start, bid, ask = wire.at, 99_990.0, 100_010.0
    for at_s, what in sorted(moments):
        wire.at = start + int(at_s * SECOND)
        late_s = max(at_s - (lead_s if what == follows else 0.0) + 5.0, 0.0)
        price = round(100_000.0 * math.exp(walk[int(late_s * 100)] + chance.gauss(0.0, 1e-4)), 1)
        if what == "mid":
            new_bid, new_ask = round(price - 5.0, 1), round(price + 5.0, 1)
            gone_bid = [(bid, 0)] if bid != new_bid else []
            gone_ask = [(ask, 0)] if ask != new_ask else []
            yield wire.levels("BTC-USD", [*gone_bid, (new_bid, 1)], [*gone_ask, (new_ask, 1)])
            bid, ask = new_bid, new_ask
        elif what == "trades":
            yield wire.trade("BTC-USD", "BUY", 1, price)
        else:
            yield wire.oracle("BTC-USD", price)


def _moments(chance: Random, rate: float, seconds: float) -> Iterator[float]:
    at_s = chance.expovariate(rate)
    while at_s < seconds:
        yield at_s
        at_s += chance.expovariate(rate)


def find_lead(seed: int, lead_s: float, seconds: float, follows: str) -> Detection | None:
    """Return the last finding in a planted market."""
    detector, last = PriceDiscovery(), None
    for view in views_of(planted(seed, lead_s, seconds, follows=follows)):
        if view.changed in detector.changes:
            last = detector.step(view) or last
    return last


def discovery(seeds: int, seconds: float) -> bool:
    """Print which planted leads were recovered; return whether 95 of 100 were."""
    print(f"discovery: {seeds} seeds of {seconds:.0f} s, the lead within {OFF_S} s")
    print(
        f"{'follows':9}{'lead s':>7}{'right':>7}{'median':>8}{'sd':>7}{'rho':>6}{'mid share':>11}"
    )
    good = True
    for follows, lead_s in (("trades", LEAD_S), ("oracle", LEAD_S), ("trades", 0.0),
                            ("trades", -LEAD_S), ("trades", 0.6)):  # fmt: skip
        seen = [find_lead(seed, lead_s, seconds, follows) for seed in range(1, seeds + 1)]
        leads, rhos, shares = (
            [value for one in seen if one and (value := one.value(name)) is not None]
            for name in (f"lead_{follows}_s", f"rho_{follows}", "share_mid")
        )
        right = sum(abs(lead - lead_s) <= OFF_S for lead in leads)
        share = f"{statistics.fmean(shares):.2f}" if shares else "-"
        if not leads:
            print(f"{follows:9}{lead_s:7.2f}  none found")
            good = False
            continue
        middle, spread = statistics.median(leads), statistics.pstdev(leads)
        print(f"{follows:9}{lead_s:7.2f}{right:7}{middle:8.2f}{spread:7.3f}"
              f"{statistics.mean(rhos):6.2f}{share:>11}")  # fmt: skip
        good &= right >= 0.95 * seeds
    return good


# === Arbitrage ===
# Each claim again, in exact numbers from the texts of the levels, by a way of its own.


def filled(levels: Iterable[Any], size: Fraction) -> Fraction | None:
    """Return what a size costs on one side of a book, USDC; None where it is too thin."""
    quote = Fraction(0)
    for level in levels:
        part = min(size, Fraction(level.size_text))
        quote, size = quote + part * Fraction(level.price_text), size - part
        if not size:
            return quote
    return None


def funding_due(view: MarketView, usd: Fraction) -> Fraction:
    """Return the next hour's funding of a position, where it is to be paid."""
    return max(usd * Fraction(view.funding.next_rate_text or "0"), Fraction(0))


def basis_pays(view: MarketView, usd: Fraction, taker_ppm: int) -> Fraction | None:
    """Return what the trade against the oracle price brings: in by the book, out at the oracle."""
    fee, oracle = Fraction(taker_ppm, 1_000_000), Fraction(view.oracle.text if view.oracle else 0)
    size = usd / oracle
    bought, sold = filled(view.book.asks(), size), filled(view.book.bids(), size)
    best_bid, best_ask = view.book.best_bid, view.book.best_ask
    if bought is None or sold is None or best_bid is None or best_ask is None:
        return None
    mid = (Fraction(best_bid.price_text) + Fraction(best_ask.price_text)) / 2 * size
    worth = size * oracle
    if mid > worth:  # sold, and bought back at the oracle price and half the spread
        return (sold - worth) - (bought - mid) - fee * (sold + worth) - funding_due(view, -usd)
    return (worth - bought) - (mid - sold) - fee * (bought + worth) - funding_due(view, usd)


def residual_pays(views: dict[str, MarketView], seen: Detection, taker_ppm: int) -> Fraction | None:
    """Return what closing the residual brings, every leg there and back by its book."""
    fee, usd = Fraction(taker_ppm, 1_000_000), Fraction(seen.value("usd") or 0)
    off = Fraction(seen.value("residual_bps") or 0) / 10_000
    legs = [(seen.ticker, -usd if off > 0 else usd)]
    legs += [(name[1:], Fraction(leg)) for name, leg in seen.inputs if name.startswith("-")]
    total = abs(off) * usd
    for ticker, leg in legs:
        book = views[ticker].book
        if book.best_bid is None or book.best_ask is None:
            return None
        mid = (Fraction(book.best_bid.price_text) + Fraction(book.best_ask.price_text)) / 2
        bought, sold = (filled(side, abs(leg) / mid) for side in (book.asks(), book.bids()))
        if bought is None or sold is None:
            return None
        total -= bought - sold + fee * (bought + sold) + funding_due(views[ticker], leg)
    return total


def unpaid(
    views: dict[str, MarketView], seen: Detection, taker_ppm: int
) -> Iterator[tuple[str, float, float | None]]:
    """Yield each claim of a finding with what it is worth exactly; None where it cannot fill."""
    usd = Fraction(seen.value("usd") or 0)
    if (claim := seen.value("basis_usd")) is not None and claim > 0.0:
        paid = basis_pays(views[seen.ticker], usd, taker_ppm)
        yield "basis", claim, None if paid is None else float(paid)
    if (claim := seen.value("residual_usd")) is not None and claim > 0.0:
        paid = residual_pays(views, seen, taker_ppm)
        yield "residual", claim, None if paid is None else float(paid)


def arbitrage(sources: Sequence[str], taker_ppm: int = 500) -> bool:
    """Print every kind of claim on recordings; return whether each is paid by the books."""
    print(
        f"{'recording':34}{'findings':>9}{'claims':>8}{'unpaid':>8}{'largest USDC':>14}{'gap':>10}"
    )
    good = True
    for source in sources:
        state, detector = DataState(), Arbitrage(taker_ppm=taker_ppm)
        findings, claims, wrong, largest, gap = 0, 0, 0, 0.0, 0.0
        for frame in Recording(find_recording(source)):
            for view in step(state, frame):
                if view.changed not in detector.changes or not (seen := detector.step(view)):
                    continue
                findings += 1
                for _, claim, paid in unpaid(state.views, seen, taker_ppm):
                    claims += 1
                    largest = max(largest, claim)
                    over = math.inf if paid is None else claim - paid
                    gap = max(gap, over)
                    wrong += over > 0.0
        print(f"{source[-33:]:34}{findings:9}{claims:8}{wrong:8}{largest:14.2f}{gap:10.1e}")
        good &= not wrong
    return good


# === Cost ===


def cost(source: str) -> bool:
    """Print what each detector costs, paired in one process: µs of processor time a view."""
    frames = list(Recording(find_recording(source)))
    names: dict[str, tuple[Callable[[], Any], ...]] = {
        "none": (), **{make().name: (make,) for make in DETECTORS}, "all": DETECTORS,
    }  # fmt: skip
    least = dict.fromkeys(names, math.inf)
    for _ in range(3):
        for name, makes in names.items():
            state, detectors = DataState(), [make() for make in makes]
            wants = [(detector.changes, detector.step) for detector in detectors]
            views, started = 0, time.process_time()
            for frame in frames:
                for view in step(state, frame):
                    views += 1
                    for changes, take in wants:
                        if view.changed in changes:
                            take(view)
            least[name] = min(least[name], (time.process_time() - started) / views * 1e6)
    print(f"{source}: {views} views, µs a view")
    for name in names:
        print(f"{name:12}{least[name]:8.2f}{least[name] - least['none']:+8.2f}")
    return True


def main(arguments: Sequence[str]) -> int:
    """Measure what was typed; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools/detect.py", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("what", choices=("makers", "discovery", "arbitrage", "cost"))
    parser.add_argument("recordings", nargs="*", default=["quickstart", "sixty"])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=0.0, help="of a run (300, planted 600)")
    parser.add_argument("--scenario", choices=SCENARIOS, help="of makers; by default all three")
    options = parser.parse_args(arguments)
    scenarios = [options.scenario] if options.scenario else SCENARIOS
    match options.what:
        case "makers":
            good = makers(options.seeds, options.seconds or 300.0, scenarios)
        case "discovery":
            good = discovery(options.seeds, options.seconds or 600.0)
        case "arbitrage":
            good = arbitrage(options.recordings)
        case _:
            good = all(map(cost, options.recordings))
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

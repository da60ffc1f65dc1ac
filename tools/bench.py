"""Measure the budget's figures and print each beside its floor in the same run.

    uv run --all-packages --group dev tools/bench.py                 everything: half an hour
    uv run --all-packages --group dev tools/bench.py pipeline margin   these
    uv run --all-packages --group dev tools/bench.py database          a run written down
    uv run --all-packages --group dev tools/bench.py live              250 markets over TLS
    uv run --all-packages --group dev tools/bench.py run               the bot on 60 and 250
    uv run --all-packages --group dev tools/bench.py run --markets 250   on 250 alone
    uv run --all-packages --group dev tools/bench.py peer              beside nautilus_trader
    uv run --all-packages --group dev tools/bench.py ceiling --minutes 2   250, six times as fast
    uv run --all-packages --group dev tools/bench.py screen            account to terminal
    uv run --all-packages --group dev tools/bench.py view              frame to browser
    uv run --all-packages --group dev tools/bench.py sweep             100 variants on one pass

A benchmark reports; it never fails on a slow machine. The floor of a row is the least work
that any program must do for it (reading and decoding the envelope, for a pipeline), measured
here and now, so that rows stay comparable when the machine is not.
"""

import argparse
import contextlib
import gc
import io
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench_ceiling import ceiling
from bench_database import database
from bench_history import history
from bench_layers import detectors, engines, layers
from bench_live import live
from bench_peer import peer
from bench_run import run
from bench_screen import screen
from bench_sweep import sweep
from bench_view import view as in_browsers
from bot.system import memory_mb
from dydx_conn import Frame

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    """Run the benches named, or all."""
    parser = argparse.ArgumentParser(prog="tools/bench.py", description=__doc__.splitlines()[0])
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=", ".join(BENCHES))
    parser.add_argument(
        "--recording", default="sixty", help="what the pipeline is fed (60 markets)"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the ceiling is held")
    parser.add_argument("--markets", type=int, nargs="+", default=[60, 250], help="sizes of run")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.benches if name not in BENCHES]
    if unknown:
        parser.error(f"expected any of {', '.join(BENCHES)}; got {', '.join(unknown)}")
    print(f"{'figure':<46}{'measured':>16}{'floor':>16}  budget")
    more = {"ceiling": {"minutes": options.minutes}, "run": {"markets": options.markets}}
    for name in options.benches or BENCHES:
        rows = BENCHES[name](options.recording, **more.get(name, {}))
        for figure, measured, floor, budget in rows:
            print(f"{figure:<46}{measured:>16}{floor:>16}  {budget}", flush=True)
    return 0


Row = tuple[str, str, str, str]


def best(work: Callable[[], Any], rounds: int = 5, repeats: int = 1) -> float:
    """Return the seconds that one call takes, at best: noise only ever adds."""
    times = []
    for _ in range(rounds):
        gc.collect()
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        times.append((time.perf_counter() - started) / repeats)
    return min(times)


def pipeline(recording: str) -> Iterator[Row]:
    """Replay through the whole pipeline: throughput, latency, memory."""
    from bot.run.composition import Bot, Options
    from bot.system import memory_mb
    from dydx_conn import Recording, collect, contents, find_recording, load_recorded_stream

    path = find_recording(recording)
    floor_s = best(lambda: sum(1 for _ in Recording(path)), rounds=3)

    def decode_all() -> None:
        for frame in Recording(path):
            with contextlib.suppress(Exception):
                contents(frame)

    decode_s = best(decode_all, rounds=3)
    frames = collect(load_recorded_stream(recording))
    markets = 0
    best_s = float("inf")
    for _ in range(3):
        gc.collect()
        bot = Bot(Options())
        started = time.perf_counter()
        bot.run(load_recorded_stream(recording))
        best_s = min(best_s, time.perf_counter() - started)
        markets = len(bot.data.views)
    n = len(frames)
    label = f"replay, disk to order, {markets} markets"
    yield label, f"{n / best_s:,.0f} f/s", f"{n / floor_s:,.0f} f/s", "≥ 20,000 now, 100,000 aimed"
    yield (
        "  the same, read and decoded only",
        f"{n / decode_s:,.0f} f/s",
        f"{n / floor_s:,.0f} f/s",
        "",
    )
    yield "  share of the floor", f"{floor_s / best_s:.1%}", "100 %", "≥ 7 %"
    latency = bot.meters.latency
    for share in (0.5, 0.99, 0.999):
        value = latency.percentile(share) or 0
        budget = "< 1 ms" if share == 0.99 else ""
        yield f"  frame to order, p{share * 100:g}", f"{value / 1e3:,.1f} µs", "", budget
    yield "  frame to order, max", f"{latency.max_ns / 1e3:,.1f} µs", "", ""
    yield _everything_on(recording)
    del frames
    yield "memory after it, this process", f"{memory_mb():.0f} MB", "", "< 150 MB"


def _everything_on(recording: str) -> Row:
    """Compare the CPU of a run with all signals and detectors to that of the default set."""
    from bot.run.composition import Bot, Options
    from dydx_conn import load_recorded_stream

    everything = Options(signals="all", detectors=True)
    least = {True: float("inf"), False: float("inf")}
    for _ in range(3):
        for all_on in (True, False):  # in turns: what else the machine does falls on both
            gc.collect()
            bot = Bot(everything if all_on else Options())
            started = time.process_time()
            bot.run(load_recorded_stream(recording))
            least[all_on] = min(least[all_on], time.process_time() - started)
    ratio = f"{least[True] / least[False]:.2f}x"
    return "  CPU with all signals and detectors on", ratio, "1x", "≤ 1.5x"


def memory(_: str, markets: int = 250) -> Iterator[Row]:
    """Fill every ring of the views and of the standard scores, then let another day pass."""
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        before, full, later = alone.submit(saturated, markets).result()
    yield f"memory, {markets} markets, every ring full", f"{full:.1f} MB", "", "< 80 MB at 250"
    yield "  of it without any market", f"{before:.1f} MB", "", ""
    yield "  a day of event time later", f"{later / full - 1:+.2%}", "", "within 1 %"


def saturated(
    markets: int, measure_mb: Callable[[], float] = memory_mb
) -> tuple[float, float, float]:
    """Return what is in use without a market, with every ring full, and a day later, MB.

    As `measure_mb` has it: by default this process's memory, which must do nothing else.
    """
    from dydx_conn import WireWriter, market_fields
    from dydx_data import DataState, step
    from dydx_signals import Scorer

    state, scorer, link = DataState(), Scorer(), WireWriter()
    tickers, sizes = [f"M{number}-USD" for number in range(markets)], [measure_mb()]
    ids = itertools.count(1)

    def fold(frame: Frame) -> None:
        for view in step(state, frame):
            scorer.step(view)

    def pass_time(steps: int, step_s: float, trades: int) -> None:
        """Let time pass: at each step a block, then so many trades of each market."""
        for number in range(steps):
            link.wait(step_s)
            fold(link.block())
            row = {"side": "BUY", "size": "1.5", "price": f"{100 + number % 7}"}
            for ticker in tickers:
                rows = [{**row, "id": f"{next(ids):024x}"} for _ in range(trades)]
                fold(link.trades(ticker, *rows))

    fold(link.markets(*(market_fields(ticker, price="100") for ticker in tickers)))
    for ticker in tickers:
        levels = [[(f"{100 + sign * n / 10:g}", "1") for n in range(1, 100)] for sign in (-1, 1)]
        fold(link.book(ticker, *levels))
    pass_time(2 * 288, 300.0, 1)  # a ring is cut back once it is an eighth too long
    pass_time(720, 5.0, 3)
    pass_time(60, 1.0, 1)
    sizes.append(measure_mb())
    pass_time(288, 300.0, 1)
    sizes.append(measure_mb())
    return sizes[0], sizes[1], sizes[2]


def margin(_: str) -> Iterator[Row]:
    """Compute an account's margin: from nothing, after one price change, and its prices."""
    from dydx_risk import position_margin, total_margin

    for count in (1, 10, 50, 250):
        risk, view, prices = held_account(count)
        repeats = max(2000 // count, 1)
        market, oracle, collateral = view.market, view.oracle, 10**12
        sizes = [10**9 * (1 + i % 7) for i in range(count)]

        def from_nothing() -> Any:
            terms = [
                position_margin(market, size, oracle.digits, oracle.exponent, 10**13)  # noqa: B023
                for size in sizes  # noqa: B023 - called at once
            ]
            return total_margin(collateral, terms)  # noqa: B023 - called at once

        took = best(from_nothing, repeats=repeats)
        least = best(lambda: [size * 3_000 // 10**9 for size in sizes], repeats=repeats)  # noqa: B023
        yield f"margin from nothing, {count} positions", us(took), us(least), "< 0.25 ms at 250"
        took = best(lambda: change_price(risk, view, prices), repeats=500)  # noqa: B023 - called at once
        yield "  after one price change, guard included", us(took), "", "< 5 µs"
        took = best(risk.positions, repeats=repeats)
        yield "  every figure of every position", us(took), "", "< 25 ms (the brief)"


def gate(_: str) -> Iterator[Row]:
    """Judge an order with every limit on, beside 20 positions, and what funding costs them."""
    from dydx_conn import BookContents
    from dydx_risk import Policy, Risk
    from dydx_strategy import Decision

    limits = Policy(
        max_leverage=50, max_order_usdc=1e9, keep_above=0.11, max_account_usdc=1e9,
        max_market_usdc=1e9, max_positions=100, max_orders_per_minute=10**6,
        max_account_share=50, max_market_share=50, max_slippage_bps=500,
        max_daily_loss_usdc=1e9, max_drawdown=0.9, stale_seconds=1e9,
    )  # fmt: skip
    for name, policy in (("", Policy(stale_seconds=1e9)), (", every limit on", limits)):
        risk, view, _prices = held_account(20, policy)
        view.book.known, view.chain.height = True, 100
        levels = [(n, str(1 + n % 3)) for n in range(1, 101)]
        bids = [(f"{3000 - n / 10:.1f}", size) for n, size in levels]
        asks = [(f"{3000 + n / 10:.1f}", size) for n, size in levels]
        view.book.update([BookContents(bids=bids, asks=asks)])
        decision = Decision(
            id="D1", ticker=view.ticker, seq=9, at=9, action="target", target_usdc=9_000.0,
            previous_usdc=0.0, urgency=0.5, score=70.0, reasons=(), scores=(),
        )  # fmt: skip

        def review(risk: Risk = risk, decision: Decision = decision) -> Any:
            verdict = risk.step(decision)
            risk.account.orders.reserved.clear()
            return verdict

        yield f"gate review, 20 positions{name}", us(best(review, repeats=300)), "", "< 50 µs"
        if not isinstance(review()[0].order.quantums, int):
            raise SystemExit("expected the order to be approved")
    from dydx_risk import funding_impact

    margin, held = risk.margin, held_positions(20)
    took = best(lambda: funding_impact(margin, held), repeats=100)
    yield "  what funding costs, and takes off the distance", us(took), "", "< 50 µs"


def stress(_: str) -> Iterator[Row]:
    """Put 20 positions under every shock: from nothing, after one price change, and read."""
    from dydx_risk import risk_figures, stress_table
    from msgspec.structs import replace

    held = held_positions(20)
    collateral, moved = 10**12, replace(held[1], price=300_075)
    table = stress_table(collateral, held)
    cells = len(table.cells())
    took = best(lambda: stress_table(collateral, held), repeats=100)
    yield "stress table from nothing, 20 positions", us(took), "", ""
    took = best(lambda: table.changed(moved), repeats=500)
    yield "  after one price change", us(took), "", ""
    took = best(lambda: table.changed(moved).cells(), repeats=100)
    yield f"  and all {cells} cells read", us(took), "", ""
    took = best(lambda: risk_figures(collateral, held), repeats=100)
    yield "  every figure of risk of the account", us(took), "", ""


def held_positions(count: int) -> list[Any]:
    """Return holdings of so many markets, with everything known of them."""
    from dydx_conn import PerpetualMarket
    from dydx_risk import Holding
    from msgspec.structs import replace

    market = PerpetualMarket(
        ticker="", clob_pair_id=0, perpetual_id=0, atomic_resolution=-9,
        quantum_conversion_exponent=-9, step_base_quantums=10**6, subticks_per_tick=10**5,
        imf_ppm=50_000, maintenance_fraction_ppm=600_000,
    )  # fmt: skip
    return [
        Holding(
            market=replace(market, ticker=f"M{n}-USD"), quantums=10**9 * (1 + n % 7) * (-1) ** n,
            price=300_025, exponent=-2, open_interest=10**13, funding_8h_ppm=100,
            volatility_1h=0.01, beta=1 + n / 10,
        )
        for n in range(count)
    ]  # fmt: skip


def us(seconds: float) -> str:
    """Write a duration in microseconds."""
    return f"{seconds * 1e6:,.2f} µs"


def held_account(count: int, policy: Any = None) -> Any:
    """Return a Risk that holds `count` positions, and the view of the first one's market."""
    from dydx_conn import Accounts, Subaccount, WireWriter, market_fields
    from dydx_data import DataState, market_views
    from dydx_risk import Risk
    from reactivex import from_iterable

    owner, writer = Subaccount("dydx1bench", 0), WireWriter()
    tickers = [f"M{n}-USD" for n in range(count)]
    markets = [
        market_fields(ticker, price="3000.25", clobPairId=str(n), openInterest="5000")
        for n, ticker in enumerate(tickers)
    ]
    state, prices = DataState(), []
    frames_sent = [writer.markets(*markets), writer.oracle(tickers[0], "3000.75")]
    held = [{"market": ticker, "size": "1", "entryPrice": "3000"} for ticker in tickers]
    views = from_iterable(frames_sent).pipe(market_views(state))
    views.subscribe(lambda view: prices.append(view.oracle) if view.ticker == tickers[0] else None)
    risk = Risk(policy, owner)
    for update in Accounts().step(writer.account(owner, 100_000, held)):
        risk.step(update)
    for view in state.views.values():
        risk.step(view)
    return risk, state.views[tickers[0]], prices


def change_price(risk: Any, view: Any, prices: list[Any]) -> None:
    """Move one oracle price and let risk see it."""
    prices.reverse()
    view.oracle = prices[0]
    view.changed = "oracle"
    risk.step(view)


def flight(_: str) -> Iterator[Row]:
    """Draw the flight plan of 20 positions: from nothing, and after one book moved."""
    from dydx_risk import plan, replan

    margin, positions, views = endangered_account(20)
    old = plan(margin, positions, views)
    took = best(lambda: plan(margin, positions, views), repeats=50)
    least = best(lambda: [view.book.bids(25) for view in views.values()], repeats=50)
    yield f"flight plan, 20 positions, {len(old.rungs)} rungs", us(took), us(least), "< 2 ms"
    moved = {"M0-USD": positions["M0-USD"]}
    took = best(lambda: replan(old, margin, moved, views), repeats=50)
    yield "  after one book moved", us(took), "", ""


def endangered_account(count: int) -> Any:
    """Return margin, positions and views at a distance of 1 %; books of 100 levels a side."""
    from dydx_conn import BookContents, MarketFields
    from dydx_data import Chain, MarketView
    from dydx_risk import position_margin, total_margin
    from msgspec.structs import replace

    first: Any = held_account(1)[1]
    levels = [(n, str(1 + n % 3)) for n in range(1, 101)]
    book = BookContents(
        bids=[(f"{3000 - n / 10:.1f}", size) for n, size in levels],
        asks=[(f"{3000 + n / 10:.1f}", size) for n, size in levels],
    )
    positions: dict[str, int] = {}
    views: dict[str, Any] = {}
    for n in range(count):
        ticker = f"M{n}-USD"
        market = replace(first.market, ticker=ticker)
        view = MarketView(ticker, Chain(), {}, MarketFields(), market=market, status="ACTIVE")
        view.oracle, view.book.known = first.oracle, True
        view.book.update([book])
        views[ticker] = view
        positions[ticker] = 10**9 * (10 + n % 7) * (-1) ** n
    oracle = first.oracle
    terms = [
        position_margin(views[ticker].market, held, oracle.digits, oracle.exponent)
        for ticker, held in positions.items()
    ]
    bare = total_margin(0, terms)
    return total_margin(bare.sensitivity // 100 - bare.cushion, terms), positions, views


def paper(_: str) -> Iterator[Row]:
    """Show the paper venue books while ten orders rest, and let a block go by over them."""
    venue, view = resting_orders(10)
    frames = 10_000

    def show() -> None:
        for _ in range(frames):
            view.seq += 1
            view.at += 1_000_000
            venue.step(view)

    def look() -> None:
        for _ in range(frames):
            view.seq += 1
            view.at += 1_000_000
            view.book.best_bid.price, view.book.best_ask.price  # noqa: B018 - the least to do

    def pass_block() -> None:
        view.chain.height += 1
        venue.step(view)

    took, least = best(show), best(look)
    figure = "paper venue, book frames, 10 orders rest"
    yield figure, f"{frames / took:,.0f} f/s", f"{frames / least:,.0f} f/s", "≥ 100,000 f/s"
    yield "  a block goes by", us(best(pass_block, repeats=500)), "", ""


def resting_orders(count: int) -> Any:
    """Return a paper venue with `count` orders at rest, and the view of their market."""
    import dydx_conn as orders
    from dydx_conn import Side, Subaccount
    from dydx_paper import PaperVenue

    view: Any = next(iter(endangered_account(1)[2].values()))
    venue = PaperVenue(Subaccount("dydx1bench", 0), 10**12)
    view.chain.height, view.changed = 1, "oracle"
    venue.step(view)
    view.changed = "book"
    for n in range(count):
        side: Side = "BUY" if n % 2 else "SELL"
        price = str((2_950 if n % 2 else 3_050) + n)
        terms = orders.Terms(client_id=n, good_til_block_time=10**6)
        venue.step(orders.limit(view.market, side, "1", price, **terms))
        venue.step(view)  # it arrives
        view.chain.height += 1
        venue.step(view)  # and rests once its block is over
    return venue, view


def dashboard(recording: str) -> Iterator[Row]:
    """Draw the dashboard of a finished run: all of it, and with nothing changed."""
    from bot.run.composition import Bot, Options
    from bot.screen.snapshot import snapshot_of
    from dydx_conn import load_recorded_stream
    from dydx_panels import Dashboard, View
    from rich.console import Console

    bot = Bot(Options())
    bot.run(load_recorded_stream(recording))
    copy_s = best(lambda: snapshot_of(bot, mode="REPLAY", name=recording, speed=20.0), repeats=5)
    yield "snapshot of a run", f"{copy_s * 1e3:.2f} ms", "", ""
    newest = max(bot.data.views.values(), key=lambda view: view.seq)
    look_s = best(lambda: bot.risk.watch(newest), repeats=5)
    yield "  and a look of risk, once a second", f"{look_s * 1e3:.2f} ms", "", ""
    shown = snapshot_of(bot, mode="REPLAY", name=recording, speed=20.0)
    for width, height in ((80, 24), (120, 40), (200, 60)):
        console = Console(
            file=io.StringIO(), width=width, height=height, force_terminal=True,
            color_system="truecolor",
        )  # fmt: skip
        fresh_s = best(lambda: Dashboard(console).draw(shown, View()), repeats=5)  # noqa: B023
        same = Dashboard(console)
        same.draw(shown, View())
        same_s = best(lambda: same.draw(shown, View()), repeats=20)  # noqa: B023 - called at once
        per_second = 4 * (fresh_s + copy_s)
        figure = f"dashboard {width}x{height}, drawn in full"
        yield figure, f"{fresh_s * 1e3:.2f} ms", f"{same_s * 1e3:.2f} ms", "< 6 ms at 200x60"
        yield "  at 4 frames a second, all changing", f"{per_second:.1%} of a core", "", "< 3 %"


def start(_: str) -> Iterator[Row]:
    """Start the program: help, and a whole plain run of the bundled recording."""
    bot = [sys.executable, "-m", "bot"]
    environment = {**os.environ, "PYTHONPATH": "", "DYDX_CONFIG": "none"}

    def run(*words: str) -> Callable[[], Any]:
        return lambda: subprocess.run(
            [*bot, *words], check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )

    floor = best(
        lambda: subprocess.run([sys.executable, "-c", "import argparse"], check=True), rounds=5
    )
    took = best(run("--help"))
    yield "bot --help", f"{took * 1e3:.0f} ms", f"{floor * 1e3:.0f} ms", "< 300 ms"
    took = best(run("replay", "quickstart"), rounds=3)
    yield "bot replay quickstart, in a pipe", f"{took:.2f} s", f"{floor:.2f} s", ""


BENCHES: dict[str, Callable[..., Iterator[Row]]] = {
    "pipeline": pipeline,
    "layers": layers,
    "engines": engines,
    "detectors": detectors,
    "memory": memory,
    "margin": margin,
    "gate": gate,
    "stress": stress,
    "flight": flight,
    "paper": paper,
    "dashboard": dashboard,
    "screen": lambda _: screen("account"),
    "view": in_browsers,
    "start": start,
    "database": database,
    "live": live,
    "run": run,
    "sweep": sweep,
    "ceiling": ceiling,
    "history": history,
    "peer": peer,
}

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

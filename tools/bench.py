"""Measure the budget's figures and print each beside its floor in the same run.

    uv run --all-packages --group dev tools/bench.py                 everything
    uv run --all-packages --group dev tools/bench.py pipeline margin   these

A benchmark reports; it never fails on a slow machine. The floor of a row is the least work
that any program must do for it (reading and decoding the envelope, for a pipeline), measured
here and now, so that rows stay comparable when the machine is not.
"""

import argparse
import contextlib
import gc
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    """Run the benches named, or all."""
    parser = argparse.ArgumentParser(prog="tools/bench.py", description=__doc__.splitlines()[0])
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=", ".join(BENCHES))
    parser.add_argument("--recording", default="sixty", help="what the pipeline is fed (60 markets)")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.benches if name not in BENCHES]
    if unknown:
        parser.error(f"expected any of {', '.join(BENCHES)}; got {', '.join(unknown)}")
    print(f"{'figure':<46}{'measured':>16}{'floor':>16}  budget")
    for name in options.benches or BENCHES:
        for figure, measured, floor, budget in BENCHES[name](options.recording):
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
    from bot.composition import Bot, Options
    from bot.meters import memory_mb
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
    best_s, bot = float("inf"), None
    for _ in range(3):
        gc.collect()
        bot = Bot(Options())
        started = time.perf_counter()
        bot.run(load_recorded_stream(recording))
        best_s = min(best_s, time.perf_counter() - started)
        markets = len(bot.data.views)
    assert_ran = bot is not None
    if not assert_ran or bot is None:
        return
    n = len(frames)
    label = f"replay, disk to order, {markets} markets"
    yield label, f"{n / best_s:,.0f} f/s", f"{n / floor_s:,.0f} f/s", "≥ 20,000 now, 100,000 aimed"
    yield "  the same, read and decoded only", f"{n / decode_s:,.0f} f/s", f"{n / floor_s:,.0f} f/s", ""
    yield "  share of the floor", f"{floor_s / best_s:.1%}", "100 %", "≥ 7 %"
    latency = bot.meters.latency
    for share in (0.5, 0.99, 0.999):
        value = latency.percentile(share) or 0
        budget = "< 1 ms" if share == 0.99 else ""
        yield f"  frame to order, p{share * 100:g}", f"{value / 1e3:,.1f} µs", "", budget
    yield "  frame to order, max", f"{latency.max_ns / 1e3:,.1f} µs", "", ""
    del frames
    yield "memory after it, this process", f"{memory_mb():.0f} MB", "", "< 150 MB"


def margin(_: str) -> Iterator[Row]:
    """Compute an account's margin from nothing and after one price change."""
    from dydx_conn import PerpetualMarket
    from dydx_risk import position_margin, total_margin

    market = PerpetualMarket(
        ticker="ETH-USD",
        clob_pair_id=1,
        perpetual_id=1,
        atomic_resolution=-9,
        quantum_conversion_exponent=-9,
        step_base_quantums=1_000_000,
        subticks_per_tick=100_000,
        imf_ppm=20_000,
        maintenance_fraction_ppm=600_000,
        open_interest_lower_cap=20_000_000 * 10**6,
        open_interest_upper_cap=50_000_000 * 10**6,
    )

    def from_nothing(count: int) -> Callable[[], Any]:
        holdings = [(10**9 * (1 + i % 7), 3_000_000_000 + i) for i in range(count)]

        def work() -> Any:
            terms = [position_margin(market, q, p, -6, 5_000_000 * 10**9) for q, p in holdings]
            return total_margin(10**12, terms)

        return work

    def multiply(count: int) -> Callable[[], Any]:
        holdings = [(10**9 * (1 + i % 7), 3_000_000_000 + i) for i in range(count)]
        return lambda: [q * p // 10**9 for q, p in holdings]

    for count in (1, 10, 50, 250):
        took = best(from_nothing(count), repeats=max(2000 // count, 1))
        least = best(multiply(count), repeats=max(2000 // count, 1))
        budget = "< 0.25 ms (with liquidation prices)" if count == 250 else ""
        figure = f"margin from nothing, {count} positions"
        yield figure, f"{took * 1e6:,.1f} µs", f"{least * 1e6:,.1f} µs", budget


def account(_: str) -> Iterator[Row]:
    """Fold an oracle price into a held account, and list its liquidation prices."""
    from account_bench import held_account

    for count in (1, 10, 50, 250):
        risk, view = held_account(count)
        took = best(lambda: risk.step(view), repeats=500)  # noqa: B023 - called at once
        yield f"margin after one price, {count} positions", f"{took * 1e6:,.2f} µs", "", "< 5 µs"
        listed = best(risk.positions, repeats=max(500 // count, 1))
        figure = f"  all liquidation prices, {count} positions"
        yield figure, f"{listed * 1e6:,.1f} µs", "", "< 25 ms (brief)"


def dashboard(recording: str) -> Iterator[Row]:
    """Draw the dashboard of a finished run: all of it, and with nothing changed."""
    from bot.composition import Bot, Options
    from bot.snapshot import snapshot_of
    from dydx_conn import load_recorded_stream
    from dydx_panels import Dashboard, View
    from rich.console import Console

    bot = Bot(Options())
    bot.run(load_recorded_stream(recording))
    copy_s = best(lambda: snapshot_of(bot, mode="REPLAY", name=recording, speed=20.0), repeats=5)
    yield "snapshot of a run", f"{copy_s * 1e3:.2f} ms", "", ""
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
        figure = f"dashboard {width}x{height}, drawn anew"
        yield figure, f"{fresh_s * 1e3:.2f} ms", f"{same_s * 1e3:.2f} ms", "< 6 ms at 200x60"
        yield "  at 4 frames a second, all changing", f"{per_second:.1%} of a core", "", "< 3 %"


def start(_: str) -> Iterator[Row]:
    """Start the program: help, and a whole plain run of the bundled recording."""
    bot = [sys.executable, "-m", "bot"]
    environment = {**os.environ, "PYTHONPATH": ""}

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


BENCHES: dict[str, Callable[[str], Iterator[Row]]] = {
    "pipeline": pipeline,
    "margin": margin,
    "account": account,
    "dashboard": dashboard,
    "start": start,
}

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

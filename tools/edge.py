"""What a strategy is worth: the same stories for each, seed by seed, and what is left of them.

    uv run --all-packages --group dev tools/edge.py --seeds 200                 random walks
    uv run … tools/edge.py --scenario revert --strategy reversion --seeds 50
    uv run … tools/edge.py --scenario revert --strategy reversion --sweep 0,1,2,3
    uv run … tools/edge.py --replay recordings/quickstart.jsonl.zst FOLDER …    what was recorded

    Story ──► frames, folded once ──► a bot per strategy ──► Result: net, costs, gross, trades

`net` is what the account has gained or lost, `costs` are its fees and what its fills paid beyond
the middle of the book, `gross` is both together: what the prices gave. On a random walk no rule can
have a gross result other than 0 in the mean, so that its net result is minus its costs: the table
prints the interval of the mean (95 %, by its standard error). `funding` is in the gross.

The frames are those of `edge_wire`: no socket and no clock. Seeds are dealt to processes.
"""

import argparse
import math
import os
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
from bot.run.composition import Bot, Options
from bot.run.paper import PAPER, Paper, paper_account
from dydx_conn import AccountUpdate, Frame, Recording
from dydx_data import DataState, step
from dydx_strategy import STRATEGIES
from edge_wire import Story, frames_of
from market import PAIR, REVERT, ROUND_TRIP_BPS, SCENARIOS

DEPOSIT: Final = 10_000  # USDC
USDC: Final = 10**6
SWEPT: Final[Mapping[str, float]] = {
    "revert": REVERT.amplitude_bps / 3,
    "pair": PAIR.amplitude_bps / 3,
}
"""What a round trip costs where displacements are traded, in bps: the unit of a sweep."""


# === Results ===


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one strategy's account in one story, in USDC."""

    strategy: str
    net: float
    costs: float
    funding: float
    volume: float
    fills: int

    @property
    def gross(self) -> float:
        """Return what prices and funding gave, before the costs of trading them."""
        return self.net + self.costs


class Mean(msgspec.Struct, frozen=True):
    """A mean and half the width of its 95 % interval."""

    value: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        """Return the mean of at least one value; one alone has no width."""
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return cls(statistics.fmean(values), 1.96 * spread / math.sqrt(len(values)))

    @property
    def holds_zero(self) -> bool:
        """Return whether 0 lies in the interval."""
        return abs(self.value) <= self.half

    def __str__(self) -> str:
        return f"{self.value:+9.2f} ± {self.half:6.2f}"


class _Desk(Paper):
    """A paper venue that notes what its fills cost beside the middle of the book."""

    def __init__(self, data: DataState) -> None:
        super().__init__(paper_account(PAPER), DEPOSIT * USDC)
        self.slipped = self.volume = 0.0
        self._data = data

    def learn(self, update: AccountUpdate) -> None:
        for fill in update.fills:
            mid = self._data.views[fill.ticker].book.mid_price
            size, price = float(fill.signed), float(fill.price)
            self.slipped += size * (price - (price if mid is None else mid))
            self.volume += abs(size) * price


def play(frames: Iterable[Iterable[Frame]], strategies: Sequence[str]) -> list[Result]:
    """Play frames to a bot of each strategy; they share one fold of the market."""
    data = DataState()
    desks = [_Desk(data) for _ in strategies]
    bots = [
        Bot(Options(strategy=name, deposit=DEPOSIT), desk, data)
        for name, desk in zip(strategies, desks, strict=True)
    ]
    for step_frames in frames:
        for frame in step_frames:
            views = step(data, frame)
            for bot in bots:
                bot.shown.last_frames.append(frame)
                for view in views:
                    bot.see(view)
                bot.settle(frame)
    return [
        _result(name, bot, desk) for name, bot, desk in zip(strategies, bots, desks, strict=True)
    ]


def _result(strategy: str, bot: Bot, desk: _Desk) -> Result:
    bot.close()
    figures = desk.figures()
    equity = DEPOSIT * USDC if figures.equity is None else figures.equity
    return Result(
        strategy=strategy,
        net=equity / USDC - DEPOSIT,
        costs=desk.slipped + figures.fees_paid / USDC,
        funding=(figures.unsettled - figures.funding_paid) / USDC,
        volume=desk.volume,
        fills=figures.fills,
    )


def tell(story: Story, strategies: Sequence[str]) -> list[Result]:
    """Play one story to each strategy."""
    return play(frames_of(story), strategies)


def many(
    story: Story, strategies: Sequence[str], seeds: Iterable[int], jobs: int
) -> dict[str, list[Result]]:
    """Play a story of each seed; return each strategy's results, in the order of the seeds."""
    stories = [msgspec.structs.replace(story, seed=seed) for seed in seeds]
    run = partial(tell, strategies=strategies)
    if jobs == 1:
        rows = [*map(run, stories)]
    else:
        with ProcessPoolExecutor(jobs) as pool:
            rows = [*pool.map(run, stories)]
    return {name: [row[n] for row in rows] for n, name in enumerate(strategies)}


# === Words ===

HEAD: Final = (
    f"{'':12} {'net':>18} {'costs':>8} {'gross':>18} {'funding':>8} {'above 0':>8} {'fills':>6}"
    f" {'traded':>8} {'volume':>10}"
)


def row(name: str, results: Sequence[Result]) -> str:
    """Write what the seeds come to: means, how many are above 0, how many traded at all."""
    net, gross = (
        Mean.of([r.net for r in results]),
        Mean.of([r.gross for r in results]),
    )
    costs, funding, fills, volume = (
        statistics.fmean(getattr(r, what) for r in results)
        for what in ("costs", "funding", "fills", "volume")
    )
    above = sum(r.net > 0 for r in results) / len(results)
    traded = sum(r.fills > 0 for r in results) / len(results)
    return (
        f"{name:12} {net} {costs:8.2f} {gross} {funding:8.2f} {above:8.0%} {fills:6.1f}"
        f" {traded:8.0%} {volume:10,.0f}"
    )


def crossing(points: Sequence[tuple[float, float]]) -> float | None:
    """Return where a line through (amplitude, mean net) first goes from below 0 to above it."""
    for (x, below), (y, above) in pairwise(points):
        if below <= 0 < above:
            return x + (y - x) * -below / (above - below)
    return None


def sweep(
    story: Story, strategy: str, times: Sequence[float], seeds: Sequence[int], jobs: int
) -> Iterator[str]:
    """Yield a line per amplitude, in round trips' costs, and at which the profit crosses 0."""
    unit, points = SWEPT.get(story.scenario, ROUND_TRIP_BPS), []
    for many_times in times:
        scaled = msgspec.structs.replace(story, amplitude_bps=many_times * unit)
        results = many(scaled, [strategy], seeds, jobs)[strategy]
        points.append((many_times * unit, statistics.fmean(r.net for r in results)))
        yield row(f"{many_times:g} x {unit:g} bps", results)
    found = crossing(points)
    yield (
        "the mean net result never crosses 0"
        if found is None
        else (f"the mean net result crosses 0 at {found:.1f} bps, {found / unit:.2f} round trips")
    )


# === Command line ===


def main(arguments: Sequence[str]) -> int:
    """Play what was typed, and print a table of it."""
    options = _parser().parse_args(arguments)
    strategies = options.strategy or [*STRATEGIES]
    if options.replay:
        return _replay(options.replay, strategies)
    story = Story(
        scenario=options.scenario, seed=0, markets=options.markets, seconds=options.seconds,
        step_s=options.step,
    )  # fmt: skip
    seeds = range(options.first, options.first + options.seeds)
    hours = options.seconds / 3_600
    print(
        f"{options.scenario}: {len(seeds)} seeds of {hours:g} h, {options.markets} markets, "
        f"a step of {options.step} s, {DEPOSIT:,} USDC"
    )
    print(HEAD)
    if options.sweep:
        times = [float(text) for text in options.sweep.split(",")]
        for strategy in strategies:
            print(strategy)
            for line in sweep(story, strategy, times, seeds, options.jobs):
                print(line, flush=True)
        return 0
    results = many(story, strategies, seeds, options.jobs)
    for name, found in results.items():
        print(row(Path(name).stem, found))
    if options.scenario == "calm":
        for name, found in results.items():
            gross = Mean.of([r.gross for r in found])
            verdict = "no free money" if gross.holds_zero else "EXPECTED 0 in the interval"
            print(f"{Path(name).stem}: gross {str(gross).strip()}: {verdict}")
    return 0


def _replay(paths: Iterable[str], strategies: Sequence[str]) -> int:
    files = [f for path in map(Path, paths) for f in (_files(path) if path.is_dir() else [path])]
    print(HEAD)
    for file in files:
        print(f"{file.parent.name}/{file.name}")
        for result in play([Recording(file)], strategies):
            print(row(Path(result.strategy).stem, [result]), flush=True)
    return 0


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jsonl.zst"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What a strategy is worth on seeded stories.")
    add = parser.add_argument
    add("--scenario", choices=SCENARIOS, default="calm", help="calm is a random walk")
    add("--strategy", action="append", metavar="NAME", help="may be repeated; all without it")
    add("--seeds", type=int, default=200, metavar="N")
    add("--first", type=int, default=1, metavar="SEED")
    add("--markets", type=int, default=2, metavar="N")
    add("--seconds", type=int, default=3_600, metavar="N")
    add("--step", type=int, default=1, metavar="SECONDS", help="between two updates of a market")
    add("--sweep", metavar="N,N…", help="amplitudes, in costs of a round trip")
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    add("--replay", nargs="+", metavar="FILE", help="recordings, or folders of them, instead")
    return parser


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

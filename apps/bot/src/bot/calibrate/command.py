"""`bot calibrate`: what each score was worth on recordings, and a map that makes shares of it.

    recordings ─► market views ─► scores ─► Sampled (every few seconds) ─► Observation
                                                     └─► calibration ─► report, map, plots

A score is taken as it stands at a frame, and the mid as it stands a horizon later, by event time:
what nobody knew at the frame is in the outcome alone. Where the book is unknown, one-sided or stale
there is no outcome. The maps are fitted on what was known before t and judged on what came after
it; a map that is read from a file is judged on what came after all that it was fitted on.
"""

import argparse
import hashlib
import json
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from math import isnan, nan
from pathlib import Path
from typing import Any, Final

import msgspec
from dydx_conn import ConnError, Frame, Recording
from dydx_data import DataState, market_state, step
from dydx_signals import ALL, Scored, Scorer

from bot.backtest.words import recordings_of
from bot.calibrate.calibration import Calibration, IsotonicMap, Observation, measured
from bot.engines.engine import Engine, Here, engine_typed, results_of
from bot.live.runs import until
from bot.outlet import as_lines, behind
from bot.progress import Progress
from bot.report.report import made_words
from bot.times import clock

_SECOND: Final = 1_000_000_000


# === Samples ===
# What is remembered of a market: scores now and then, and each change of the mid.


class Sample(msgspec.Struct, frozen=True, gc=False):
    """The scores of a market at a time (ns), its mid then, and the state that it was in."""

    at: int
    mid: float
    half_spread_bps: float
    state: str
    scores: tuple[tuple[str, float], ...]


class Sampled:
    """One market of one recording: samples `every_ns`, and the mid as of any time."""

    def __init__(self, every_ns: int) -> None:
        self.samples: list[Sample] = []
        self._every_ns, self._due = every_ns, 0
        self._times, self._mids = array("q"), array("d")
        self._known_until = 0

    def take(self, scored: Scored) -> None:
        """Take a market as it stands."""
        view, at = scored.view, scored.at
        mid = nan if view.quality.stale else view.book.mid_price or nan
        self._known_until = at
        # NaN is no NaN's equal: what is unknown is noted each time, and looked up as well.
        if not self._mids or mid != self._mids[-1]:
            self._times.append(at)
            self._mids.append(mid)
        if at < self._due or isnan(mid):
            return
        self._due = at - at % self._every_ns + self._every_ns
        bid, ask = view.book.best_bid, view.book.best_ask
        if bid is None or ask is None:
            return
        values = tuple((score.signal, score.value) for score in scored.scores)
        half_bps = 5e3 * (ask.price - bid.price) / mid
        self.samples.append(Sample(at, mid, half_bps, market_state(view).kind, values))

    def outcomes(self, horizon_s: float) -> Iterator[tuple[Sample, float]]:
        """Yield each sample with the move of the mid after it, in bps, where that is known."""
        horizon_ns = round(horizon_s * _SECOND)
        for sample in self.samples:
            then = sample.at + horizon_ns
            if then > self._known_until:
                return
            mid = self._mids[bisect_right(self._times, then) - 1]
            if not isnan(mid):
                yield sample, 1e4 * (mid / sample.mid - 1.0)


def sampled(frames: Iterable[Frame], every_s: float, seconds: float | None = None) -> list[Sampled]:
    """Play frames through data and signals; return what was seen of each market."""
    state, scorer, goes_on = DataState(), Scorer(ALL), until(seconds, lambda _: True)
    markets: dict[str, Sampled] = {}
    for frame in frames:
        if not goes_on(frame):
            break
        if frame.link == "node":
            continue
        for view in step(state, frame):
            if not view.live_at:  # the venue names all markets; these are not subscribed
                continue
            for scored in scorer.step(view):
                market = markets.get(scored.ticker)
                if market is None:
                    market = markets[scored.ticker] = Sampled(round(every_s * _SECOND))
                market.take(scored)
    return [*markets.values()]


# === Maps as data ===
# What leaves a calibration and enters another one, with what it was fitted on.


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A recording by its name, and the sha256 of its file."""

    name: str
    sha256: str


class Maps(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Isotonic maps and what they were fitted on: all that was known before `until`, in ns."""

    version: int = 1
    fitted_on: tuple[Source, ...]
    until: int
    every_s: float
    maps: tuple[IsotonicMap, ...]

    def find(self, signal: str, horizon_s: float) -> IsotonicMap | None:
        """Return the map of a signal at a horizon; None if there is none."""
        found = (m for m in self.maps if (m.signal, m.horizon_s) == (signal, horizon_s))
        return next(found, None)


def read_maps(path: Path) -> Maps:
    """Read maps that `--save` has written; `ConnError` names what was expected."""
    try:
        maps = msgspec.json.decode(path.read_bytes(), type=Maps)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConnError(f"expected maps of bot calibrate --save in {path}, got {error}") from None
    for one in maps.maps:
        if not one.scores or len(one.scores) != len(one.shares):
            what = f"{len(one.scores)} scores and {len(one.shares)} shares"
            raise ConnError(f"expected a share for each score of {one.signal}, got {what}")
    return maps


def source_of(recording: Recording) -> Source:
    """Return the name of a recording and the hash of its file."""
    with recording.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return Source(name=name_of(recording), sha256=digest.hexdigest())


def name_of(recording: Recording) -> str:
    """Return what a recording goes by: its file, or the folder of one of the many `frames`."""
    name = recording.path.name.removesuffix(".jsonl.zst")
    return recording.path.resolve().parent.name if name == "frames" else name


# === Calibrations ===


def calibrations(
    markets: Sequence[Sampled],
    horizons: Sequence[float],
    known_before: int,
    maps: Maps | None,
    progress: Progress | None = None,
) -> list[Calibration]:
    """Measure every signal at every horizon that anything is known of."""
    found: list[Calibration] = []
    for horizon_s in horizons:
        rows: dict[str, list[Observation]] = {}
        for market in markets:
            for sample, move in market.outcomes(horizon_s):
                for signal, value in sample.scores:
                    rows.setdefault(signal, []).append(
                        Observation(sample.at, value, move, sample.half_spread_bps, sample.state)
                    )
        if progress is not None:
            progress.begin(f"signals over {horizon_s:g} s", len(rows))
        for signal, observations in sorted(rows.items()):
            fitted = maps.find(signal, horizon_s) if maps else None
            found.append(measured(signal, horizon_s, observations, known_before, fitted))
            if progress is not None:
                progress.step(signal)
    return found


def time_of_split(markets: Iterable[Sampled], share: float) -> int:
    """Return the time, in ns, before which a share of the samples lies; `ConnError` without any."""
    times = sorted(sample.at for market in markets for sample in market.samples)
    if not times:
        raise ConnError("expected recordings with a book that has two sides, got none")
    return times[min(int(len(times) * share), len(times) - 1)]


# === Command ===


def calibrate(arguments: argparse.Namespace) -> int:
    """Measure the scores on recordings, print it, and write maps and plots."""
    if arguments.book:
        from bot.calibrate.books import calibrate_books

        return calibrate_books(arguments)
    if arguments.out:
        raise ConnError("expected --out together with --book, got it alone: maps have --save")
    maps = read_maps(Path(arguments.map)) if arguments.map else None
    if arguments.html:
        from bot.pages.style import require_plotly

        require_plotly("--html")  # refused before the run, not after it
    horizons: tuple[float, ...] = arguments.horizon
    every_s = arguments.every or horizons[0] / 2
    recordings = recordings_of(arguments.recordings)
    engine = engine_typed(arguments)
    with engine, Progress("frames", 0) as progress:
        markets = _markets(engine, recordings, every_s, arguments.seconds, progress)
        known_before = maps.until if maps else time_of_split(markets, arguments.fit)
        found = calibrations(markets, horizons, known_before, maps, progress)
    if not found:
        longest = max((m.samples[-1].at - m.samples[0].at for m in markets if m.samples), default=0)
        raise ConnError(
            f"expected recordings longer than the horizon of {horizons[0]:g} s, "
            f"got {longest / _SECOND:.0f} s of scores"
        )
    if maps and not any(one.brier for one in found):
        raise ConnError("expected recordings from after what the map was fitted on, got older ones")
    fitted = maps or Maps(
        fitted_on=tuple(source_of(recording) for recording in recordings),
        until=known_before,
        every_s=every_s,
        maps=tuple(one.map for one in found if one.map),
    )
    _show(arguments, found, recordings, fitted)
    return 0


def _markets(
    engine: Engine,
    recordings: Sequence[Recording],
    every_s: float,
    seconds: float | None,
    progress: Progress,
) -> list[Sampled]:
    """Return the markets of all recordings, in their order, however many are played at a time."""
    found: list[Sampled] = []
    if isinstance(engine, Here):  # and the bar goes on with each frame
        for recording in recordings:
            frames = _frames_in(recording, seconds) if progress.is_shown else 0
            progress.begin(recording.path.name, frames)
            found += sampled(progress.through(recording), every_s, seconds)
        return found
    progress.begin("recordings", len(recordings))
    tasks = [Played(str(one.path.resolve()), every_s, seconds) for one in recordings]
    results = results_of(engine, play_samples, tasks, lambda _: progress.step())
    for recording, (markets, damage) in zip(recordings, results, strict=True):
        found += markets
        recording.damage = damage
    return found


class Played(msgspec.Struct, frozen=True):
    """A task: a recording by its path, how often it is sampled, and how much of it."""

    path: str
    every_s: float
    seconds: float | None


def play_samples(task: Played) -> tuple[list[Sampled], list[str]]:
    """Play a recording, in any process; return its markets and what is damaged in it."""
    recording = Recording(Path(task.path))
    return sampled(recording, task.every_s, task.seconds), recording.damage


def _frames_in(recording: Recording, seconds: float | None) -> int:
    # To read them takes a twentieth of the time that it takes to score them.
    goes_on = until(seconds, lambda _: True)
    return sum(1 for _ in takewhile(goes_on, Recording(recording.path)))


def _show(
    arguments: argparse.Namespace,
    found: Sequence[Calibration],
    recordings: Sequence[Recording],
    maps: Maps,
) -> None:
    report = report_of(found, recordings, maps, arguments.horizon)
    # Files first: whoever reads what is printed may stop at any line.
    if arguments.save:
        written = msgspec.json.format(msgspec.json.encode(maps), indent=1)
        Path(arguments.save).write_bytes(written)
    if arguments.html:
        from bot.calibrate.page import calibrated_page

        page = calibrated_page(found, head_lines(report))
        Path(arguments.html).write_text(page, encoding="utf-8")
    if arguments.json:
        print(json.dumps(report, indent=2))
        return
    from bot.calibrate.curves import print_calibration

    print(as_lines(head_lines(report)))
    print_calibration(found, arguments.horizon, behind(sys.stdout))


def report_of(
    found: Sequence[Calibration],
    recordings: Sequence[Recording],
    maps: Maps,
    horizons: Sequence[float],
) -> dict[str, Any]:
    """Return all of it as plain data; what is unknown is None."""
    return {
        "recordings": [
            {
                "name": name_of(recording),
                "made_by": recording.header.source,
                "damage": recording.damage,
            }
            for recording in recordings
        ],
        "horizons_s": list(horizons),
        "every_s": maps.every_s,
        "fitted_before": maps.until,
        "fitted_on": msgspec.to_builtins(maps.fitted_on),
        "signals": msgspec.to_builtins(found),
    }


def head_lines(report: dict[str, Any]) -> list[str]:
    """Say in words what was measured, and on what."""
    names = [one["name"] for one in report["recordings"]]
    makers = dict.fromkeys(one["made_by"] for one in report["recordings"] if one["made_by"])
    damage = [f"damage       {line}" for one in report["recordings"] for line in one["damage"]]
    fitted = [one["name"] for one in report["fitted_on"]]
    return [
        f"recordings   {_some(names)}",
        *(f"made by      {made_words(maker)}" for maker in makers),
        *damage,
        f"scores       every {report['every_s']:g} s, the mid "
        f"{', '.join(f'{h:g}' for h in report['horizons_s'])} s later",
        f"maps         fitted on {_some(fitted)}",
        f"             before {clock(report['fitted_before'])}, judged after it",
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

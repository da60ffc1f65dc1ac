"""`bot backtest`: strategies over recordings at full speed, and what each came to.

    words ─► Variant, Recording ─► played ─► Outcome ─► tables, JSON, trades, pages

Files are written before anything is printed: whoever reads what is printed may stop at any line.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from dydx_conn import ConnError, Recording

from bot.backtest.compare import compared, compared_lines
from bot.backtest.figures import CONVENTIONS, Figures
from bot.backtest.files import require_parquet, write_trades
from bot.backtest.further import further_lines
from bot.backtest.joined import CARRIED, joined, joined_markets
from bot.backtest.judged import INTERVALS, Judged, judged
from bot.backtest.playing import Job, Outcome, Played, Span, job_of, played
from bot.backtest.sides import sides_of
from bot.backtest.words import Variant, classified, recordings_of, variants_of
from bot.history.when import moment
from bot.outlet import as_lines, behind
from bot.progress import Progress

if TYPE_CHECKING:
    from bot.backtest.walking import Walk

SCHEMA: Final = "bot.backtest/1"
_INTERRUPTED: Final = 130
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")


class Strategy(msgspec.Struct, frozen=True, kw_only=True):
    """What one strategy came to over all recordings, and how far that can be believed."""

    strategy: str
    total: Figures
    markets: dict[str, Figures]
    judged: Judged


class Backtest(msgspec.Struct, frozen=True, kw_only=True):
    """All of it as plain values, money in USDC, times in ns; what is unknown is null."""

    schema: str = SCHEMA
    runs: tuple[Outcome, ...]
    strategies: tuple[Strategy, ...]
    conventions: tuple[str, ...] = (*CONVENTIONS, *INTERVALS, CARRIED)


def backtest(arguments: argparse.Namespace) -> int:
    """Play recordings through strategies and report what each came to."""
    if arguments.schema:
        print(json.dumps(msgspec.json.schema(Backtest), indent=1))
        return 0
    if arguments.compare:
        return _compared(arguments)
    found = classified(arguments.words)
    variants = variants_of(found.variants, arguments)
    recordings = recordings_of(found.recordings or ["quickstart"], arguments.fidelity)
    span = span_of(arguments)
    if arguments.trades:
        require_parquet(arguments.trades)  # refused before the run, not after it
    if arguments.train or arguments.test:
        return _walked(arguments, variants, recordings, span)
    if arguments.objective:
        raise ConnError("expected --train and --test beside --objective, got neither")
    page_of = pages_of(arguments.report_html, len(recordings) * len(variants))
    runs = played_all(recordings, variants, span, page_of)
    outcomes = [run.outcome for run in runs]
    trouble = ""
    if arguments.trades:
        rows = [row for one in outcomes for row in one.trades]
        if trouble := write_trades(arguments.trades, rows):
            print(f"bot: warning: {trouble}", file=sys.stderr)
    _print(arguments, runs, span)
    if not arguments.json:
        typed = found.recordings or ["quickstart"]
        print(as_lines(further_lines(arguments, variants, typed, outcomes)))
    if not all(one.complete for one in outcomes):
        return _INTERRUPTED
    return int(bool(trouble) or any(one.failure or one.trouble for one in outcomes))


def _walked(
    arguments: argparse.Namespace,
    variants: Sequence[Variant],
    recordings: Sequence[Recording],
    span: Span,
) -> int:
    from bot.backtest.walking import Walking, plan_of

    if arguments.journal or arguments.report_html:
        raise ConnError("expected --train alone, or --journal and --report-html, got both")

    def jobs_of(recording: Recording) -> list[Job]:
        return [job_of(variant, recording) for variant in variants]

    plan = plan_of(arguments, span)
    with Progress("folds", 0) as progress:
        walking = Walking(plan, jobs_of, progress)
        walk = walking.walk(recordings)
    if arguments.trades:
        write_trades(arguments.trades, [row for one in walking.outcomes for row in one.trades])
    print_walked(walk, as_json=arguments.json)
    if not walk.complete:
        return _INTERRUPTED
    return int(any(fold.failure for fold in walk.folds))


def print_walked(walk: "Walk", *, as_json: bool) -> None:
    """Print a walk, for people or for a program."""
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(walk), indent=1).decode())
        return
    from bot.backtest.walk_shown import print_walk

    sys.stdout.flush()
    print_walk(walk, behind(sys.stdout))


def _compared(arguments: argparse.Namespace) -> int:
    found = compared(*sides_of(arguments, span_of(arguments)))
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
    else:
        print(as_lines(compared_lines(found)))
    return int(not found.equal)


def pages_of(path: str | None, runs: int) -> Callable[[str, str], Path] | None:
    """Return what names the page of a run: as it was typed, of several each with what it is of."""
    if path is None:
        return None
    from bot.pages.style import require_plotly

    require_plotly("--report-html")  # refused before the run, not after it
    typed = Path(path)

    def page_of(strategy: str, recording: str) -> Path:
        name = _NO_NAME.sub("-", f"{typed.stem}-{strategy}-{recording}")
        return typed if runs == 1 else typed.with_name(f"{name}{typed.suffix}")

    return page_of


def span_of(arguments: argparse.Namespace) -> Span:
    """Return which time of the recordings counts, as it was typed."""
    now = time.time_ns()
    since = moment("--from", arguments.since, now) if arguments.since else None
    until = moment("--to", arguments.until, now) if arguments.until else None
    if since is not None and until is not None and since >= until:
        raise ConnError(f"expected --from before --to, got {arguments.since} and {arguments.until}")
    return Span(since, until, arguments.warmup)


def played_all(
    recordings: Sequence[Recording],
    variants: Sequence[Variant],
    span: Span,
    page_of: Callable[[str, str], Path] | None = None,
) -> list[Played]:
    """Return what each variant came to on each recording; all up to where somebody ended it."""
    runs: list[Played] = []
    # What a strategy of the user's own prints is no part of the report, and no JSON.
    with Progress("frames", 0) as progress, redirect_stdout(sys.stderr):
        for recording in recordings:
            runs += played(recording, variants, span, progress, page_of)
            if not runs[-1].outcome.complete:
                break
    return runs


def as_values(runs: Sequence[Played]) -> Backtest:
    """Return all of it as plain values."""
    by_strategy: dict[str, list[Played]] = {}
    for one in runs:
        by_strategy.setdefault(one.outcome.strategy, []).append(one)
    rows = []
    for name, those in by_strategy.items():
        figures = [one.outcome.figures for one in those]
        rows.append(Strategy(
            strategy=name, total=joined(figures) if len(figures) > 1 else figures[0].total,
            markets=joined_markets(figures), judged=judged([one.part for one in those]),
        ))  # fmt: skip
    return Backtest(runs=tuple(run.outcome for run in runs), strategies=tuple(rows))


def _print(arguments: argparse.Namespace, runs: Sequence[Played], span: Span) -> None:
    for run in runs:
        if run.outcome.trouble:
            print(f"bot: warning: {run.outcome.trouble}", file=sys.stderr)
    found = as_values(runs)
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
        return
    from bot.backtest.shown import print_backtest

    believed = {one.strategy: one.judged for one in found.strategies}
    sys.stdout.flush()
    print_backtest(found.runs, span, behind(sys.stdout), judged=believed)

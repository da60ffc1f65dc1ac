"""Where a backtest left its files, and what shows more of its best run, as it is typed.

Outcomes, what was typed ─► page, trades, next ─► lines under the tables
"""

import argparse
import shlex
from collections.abc import Iterator, Sequence

from dydx_conn import find_recording

from bot.backtest.playing import Outcome
from bot.backtest.words import Variant
from bot.config.configured import typed_again
from bot.options import CHOICES
from bot.outlet import one_line


def further_lines(
    arguments: argparse.Namespace,
    variants: Sequence[Variant],
    recordings: Sequence[str],
    outcomes: Sequence[Outcome],
) -> Iterator[str]:
    """Yield in lines what was written, and what to type next; `recordings` as they were typed."""
    if arguments.trades:
        yield one_line(f"trades       {arguments.trades}")
    # Of a part, or played coarsely, ids are others than those of a replay.
    if arguments.since or arguments.until or arguments.fidelity:
        return
    dealt = [one for one in outcomes if one.figures.total.fills]
    best = max(dealt, key=lambda one: one.figures.total.profit or 0.0, default=None)
    if best is None:
        return
    by_label = {variant.label: variant.arguments for variant in variants}
    words = _typed(by_label.get(best.strategy, arguments))
    name = next(name for name in recordings if _name(name) == best.recording)
    yield one_line("next         " + shlex.join(["bot", "why", "F1", name, *words]))
    if not arguments.report_html:
        yield one_line("             " + shlex.join(["bot", "report", name, *words]))


def _typed(arguments: argparse.Namespace) -> list[str]:
    """Return what a run is chosen by as it is typed: strategy, profile, file of settings."""
    names = [names[0].removeprefix("--").replace("-", "_") for names, _ in CHOICES]
    return typed_again(arguments, *(name for name in names if name != "config"))


def _name(typed: str) -> str:
    return find_recording(typed).name.removesuffix(".jsonl.zst")

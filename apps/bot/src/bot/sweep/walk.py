"""`bot sweep GRID.yaml DATA --train 30d --test 7d`: walk forward over the variants of a grid.

    grid, recordings, settings ─► variants ─► jobs ─► bot.backtest.walking ─► printed as there

All variants share each pass, in this process; nothing is written down of it.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dydx_conn import ConnError

from bot.backtest.command import print_walked
from bot.backtest.playing import Job, Span
from bot.backtest.walking import Walking, plan_of
from bot.backtest.words import recordings_of
from bot.config.configured import loaded_of
from bot.config.varied import base_of
from bot.progress import Progress
from bot.sweep.block import options_of_variant
from bot.sweep.grid import read_grid, variants_of
from bot.sweep.samplers import Listed


def walk(arguments: argparse.Namespace) -> int:
    """Choose the best variant of each training, and judge it by what came after it."""
    if arguments.sampler != "grid" or arguments.seconds is not None:
        raise ConnError("expected --train with all of a grid, got --sampler or --seconds beside it")
    if not arguments.data:
        raise ConnError("expected a recording or more to walk over, got none")
    plan = plan_of(arguments, Span(warmup=arguments.warmup))
    jobs, recordings = _jobs(arguments), recordings_of(arguments.data)
    with Progress("folds", 0) as progress:
        found = Walking(plan, lambda _: jobs, progress).walk(recordings)
    print_walked(found, as_json=arguments.json)
    if not found.complete:
        return 130
    return int(any(fold.failure for fold in found.folds))


def _jobs(arguments: argparse.Namespace) -> Sequence[Job]:
    grid, base = read_grid(Path(arguments.grid)), base_of(loaded_of(arguments))
    variants, left_out = variants_of(base, grid, Listed(grid).ask())
    if not variants:
        raise ConnError(f"expected a variant that can run, got none: {left_out[0].why}")
    return [
        Job(label(variant.changes), arguments, options_of_variant(base, variant))
        for variant in variants
    ]


def label(changes: Mapping[str, Any]) -> str:
    """Name a variant by what is other in it.

    >>> label({"policy.max_leverage": 2, "strategies.rank.enter": 60})
    'max_leverage 2, enter 60'
    """
    return ", ".join(f"{path.rpartition('.')[2]} {value}" for path, value in changes.items())

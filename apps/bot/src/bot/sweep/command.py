"""`bot sweep`: many variants over recordings, on one machine or many.

    GRID.yaml, recordings, settings ─► Plan ─► Sweep on an engine ─► results ─► ranked
        ─► Report (bot.sweep.report), or with --train a walk (bot.sweep.walk)

`bot sweep certs DIR`, `bot sweep scheduler` and `bot sweep worker` prepare other machines.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final

from dydx_conn import ConnError, Recording, find_recording

from bot.backtest.playing import bounds
from bot.backtest.walks import OBJECTIVES
from bot.config.configured import loaded_of
from bot.config.document import near
from bot.config.varied import base_of
from bot.ending import between_frames
from bot.engines.engine import engine_typed
from bot.progress import Progress
from bot.sweep.block import Source, source_of, spans_of
from bot.sweep.grid import Grid, read_grid
from bot.sweep.report import Report
from bot.sweep.results import Results
from bot.sweep.run import Plan, Sweep
from bot.sweep.samplers import Listed, Sampled, Sampler

TRIALS: Final = 100


def sweep(arguments: argparse.Namespace) -> int:
    """Run a sweep, or prepare a machine for one."""
    other = _OTHERS.get(arguments.grid)
    if other is not None:
        return other(arguments)
    if arguments.train or arguments.test:
        from bot.sweep.walk import walk

        return walk(arguments)
    plan, sampler = plan_of(arguments)
    folder = Path(arguments.out or f"sweep-{plan.grid.name}")
    engine = engine_typed(arguments)
    complete = True
    with Results(folder) as results, Progress("results", 1) as progress:
        # What a strategy of the user's own prints is no part of the report, and no JSON.
        with engine, redirect_stdout(sys.stderr):
            run = Sweep(plan, engine, results, progress)
            try:
                with between_frames():
                    run.run(sampler)
            except KeyboardInterrupt:
                complete = False
        report = Report(plan, run.swept, folder, arguments, engine, torn=results.torn)
    report.complete = complete
    report.write()
    report.print()
    return 130 if not complete else int(bool(run.swept.missing))


def _certs(arguments: argparse.Namespace) -> int:
    from bot.engines.certificates import certs

    arguments.folder = _one_word(arguments, "certs DIR")
    return certs(arguments)


def _scheduler(arguments: argparse.Namespace) -> int:
    from bot.engines.serving import scheduler

    arguments.folder = _one_word(arguments, "scheduler HOST:PORT") if arguments.data else ""
    return scheduler(arguments)


def _worker(arguments: argparse.Namespace) -> int:
    from bot.engines.serving import worker

    arguments.folder = _one_word(arguments, "worker HOST:PORT") if arguments.data else ""
    return worker(arguments)


def _one_word(arguments: argparse.Namespace, wanted: str) -> str:
    if len(arguments.data) != 1:
        raise ConnError(f"expected bot sweep {wanted}, got {len(arguments.data)} words")
    return str(arguments.data[0])


_OTHERS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "certs": _certs,
    "scheduler": _scheduler,
    "worker": _worker,
}

# === Plans ===


def plan_of(arguments: argparse.Namespace) -> tuple[Plan, Sampler]:
    """Return what was typed as a plan, and what is tried; `ConnError` for what cannot be meant."""
    grid = read_grid(Path(arguments.grid))
    if not arguments.data:
        raise ConnError("expected a recording or more to sweep over, got none")
    objectives = objectives_typed(arguments.objective)
    span_ns = _span_ns(arguments)
    loaded = loaded_of(arguments)
    sources = [_source(name, arguments) for name in arguments.data]
    seen: dict[str, str] = {}
    for source in sources:
        if (first := seen.setdefault(source.sha256, source.name)) != source.name:
            raise ConnError(f"expected each recording once, got {first} as {source.name} again")
    if len(seen) < len(sources):
        raise ConnError("expected each recording once, got one twice")
    if span_ns:
        sources = [
            one
            for each in sources
            for one in spans_of(each, *bounds(Recording(Path(each.path))), span_ns)
        ]
    plan = Plan(grid=grid, base=base_of(loaded), sources=(*sources,), objectives=objectives)
    return plan, _sampler(arguments, grid, objectives)


def _source(name: str, typed: argparse.Namespace) -> Source:
    path = find_recording(name)
    try:
        return source_of(path, name, typed.seconds, typed.fidelity)
    except OSError as error:
        what = f"expected a recording that can be read at {path}"
        raise ConnError(f"{what}, got {error.strerror or error}") from None


def _span_ns(arguments: argparse.Namespace) -> int:
    """Return how long a span is, 0 for recordings as a whole."""
    text = arguments.span
    if text is None:
        return 0
    found = re.fullmatch(r"([1-9]\d{0,8})([smhdw])", text.strip().lower())
    if found is None:
        raise ConnError(f"expected a span such as 1d, 12h, 30m or 90s, got {text!r}")
    if arguments.seconds is not None:
        raise ConnError("expected --span or --seconds, got both")
    return int(found[1]) * _UNITS_S[found[2]] * 10**9


_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def objectives_typed(text: str) -> tuple[str, ...]:
    """Return objectives by their names; `ConnError` for one that is none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in OBJECTIVES:
            known = ", ".join(OBJECTIVES)
            raise ConnError(f"expected objectives ({known}), got {name!r}{near(name, OBJECTIVES)}")
    if not names or len({*names}) < len(names):
        raise ConnError(f"expected objectives such as profit,max_drawdown, each once, got {text!r}")
    return (*names,)


def _sampler(arguments: argparse.Namespace, grid: Grid, objectives: Sequence[str]) -> Sampler:
    if arguments.sampler == "grid":
        if arguments.trials:
            what = "expected --trials beside a sampler that draws (--sampler random, tpe …)"
            raise ConnError(f"{what}, got it beside grid, which tries all")
        return Listed(grid)
    return Sampled(
        arguments.sampler, grid, trials=arguments.trials or TRIALS, seed=arguments.seed,
        directions=[OBJECTIVES[name] for name in objectives],
    )  # fmt: skip

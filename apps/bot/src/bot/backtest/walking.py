"""Walk-forward over recordings: what choosing by the past would have made of what came after it.

    recordings, jobs of each ─► folds ─► train, choose, test ─► Walk: fold by fold, joined, judged

The tests of all folds are joined to one account that goes on; each begins with a fresh one. Each
span is warmed up by the time before it, and what is held at its end is valued as it stands.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import fsum
from typing import Final, NamedTuple

import msgspec
from dydx_conn import ConnError, Recording

from bot.backtest.figures import CONVENTIONS, Figures
from bot.backtest.joined import joined
from bot.backtest.judged import INTERVALS, Judged, Part, judged
from bot.backtest.playing import Job, Outcome, Played, Source, Span, played_together
from bot.backtest.walks import OBJECTIVES, Fold, Objective, Ran, Walked, folds, walked
from bot.progress import Progress
from bot.times import iso

SCHEMA: Final = "bot.walk/1"
WALKED: Final = (
    "Each fold chooses what was best in its training, and is judged by the test behind it; every "
    "span begins with a fresh account, warmed up by the time before it. The total joins the tests.",
    "Efficiency: profit an hour in the tests over that in the trainings, of what was chosen.",
)


class Plan(NamedTuple):
    """How long to train and to test (ns), by which objective, and in which span."""

    train_ns: int
    test_ns: int
    objective: Objective
    span: Span


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One fold: `train`, `test` and `best` are values of the objective, times ISO 8601."""

    recording: str
    since: str
    tested_from: str
    until: str
    chosen: str
    train: float | None
    test: float | None
    best: float | None
    profit: float | None
    trades: int
    run_hash: str
    failure: str


class Always(msgspec.Struct, frozen=True, kw_only=True):
    """A variant in all tests, had it been chosen always; `chosen` counts the folds in which it was.

    `profit` is USDC, None where it is unknown.
    """

    name: str
    chosen: int
    profit: float | None


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """A walk as plain values: money in USDC; what is unknown is null.

    `total` joins the tests of what was chosen, `judged` says how far that can be believed, and
    `efficiency` is None where the trainings made nothing. `assumed` is what of its histories is not
    of their time.
    """

    schema: str = SCHEMA
    objective: str
    folds: tuple[Step, ...]
    variants: tuple[Always, ...]
    total: Figures
    efficiency: float | None
    judged: Judged
    complete: bool
    assumed: tuple[str, ...] = ()
    conventions: tuple[str, ...] = (*CONVENTIONS, *INTERVALS, *WALKED)


Jobs = Callable[[Recording], Sequence[Job]]


def plan_of(arguments: argparse.Namespace, span: Span) -> Plan:
    """Return what was typed as a plan; `ConnError` for half of one, or an unknown objective."""
    train, test = arguments.train, arguments.test
    if train is None or test is None:
        given, missing = ("--test", "--train") if train is None else ("--train", "--test")
        raise ConnError(f"expected --train and --test, got {given} without {missing}")
    name = arguments.objective or "profit"
    if name not in OBJECTIVES:
        raise ConnError(f"expected an objective ({', '.join(OBJECTIVES)}), got {name!r}")
    return Plan(train, test, Objective.of(name), span)


class Walking:
    """A walk while it goes on: folds of one recording after another, up to where it is ended."""

    def __init__(self, plan: Plan, jobs_of: Jobs, progress: Progress) -> None:
        self._plan, self._jobs_of, self._progress = plan, jobs_of, progress
        self._names: list[str] = []
        self._steps: list[Walked] = []
        self._chosen: list[Outcome] = []
        self._parts: list[Part] = []
        self._tested: list[Played] = []
        self._complete = True

    @property
    def outcomes(self) -> list[Outcome]:
        """Return the tests of what was chosen, for their trades."""
        return self._chosen

    def walk(self, recordings: Sequence[Recording]) -> Walk:
        """Walk over recordings in the order of time; `ConnError` where no fold fits into one."""
        plans = [(each, self._folds(each)) for each in recordings]
        try:
            for recording, steps in plans:
                for step in self._walked(recording, steps):
                    outcome, part = self._tested[step.chosen]
                    self._chosen.append(outcome)
                    self._parts.append(part)
                    self._steps.append(step)
        except KeyboardInterrupt:
            self._complete = False
        return self._found()

    def _folds(self, recording: Recording) -> list[Fold]:
        source = Source(recording, self._plan.span)
        since = max(source.began, source.since)
        return folds(since, source.until, self._plan.train_ns, self._plan.test_ns)

    def _walked(self, recording: Recording, steps: Sequence[Fold]) -> Iterator[Walked]:
        jobs, count = self._jobs_of(recording), 0
        self._names = [job.label for job in jobs]

        def judge(since_ns: int, until_ns: int) -> list[Ran]:
            nonlocal count
            doing = f"fold {count // 2 + 1} of {len(steps)}, {'test' if count % 2 else 'training'}"
            count += 1
            span = Span(since_ns, until_ns, self._plan.span.warmup)
            source = Source(recording, span)
            what = f"{doing}, seconds"
            self._tested = [*played_together(jobs, source, self._progress, what)]
            if not self._tested[0].outcome.complete:
                raise KeyboardInterrupt  # half a span is compared with nothing
            outcomes = [run.outcome for run in self._tested]
            return [Ran(one.figures, one.failure) for one in outcomes]

        return walked(steps, judge, self._plan.objective)

    def _found(self) -> Walk:
        steps, runs = self._steps, [outcome.figures for outcome in self._chosen]
        return Walk(
            objective=self._plan.objective.name,
            folds=tuple(map(self._step, steps, self._chosen)),
            variants=tuple(self._always(steps)),
            total=joined(runs) if runs else Figures(),
            efficiency=efficiency(steps), judged=judged(self._parts), complete=self._complete,
            assumed=(*dict.fromkeys(words for one in self._chosen for words in one.assumed),),
        )  # fmt: skip

    def _step(self, step: Walked, ran: Outcome) -> Step:
        return Step(
            recording=ran.recording, since=iso(step.fold.since_ns),
            tested_from=iso(step.fold.from_ns), until=iso(step.fold.until_ns),
            chosen=self._names[step.chosen], train=step.train, test=step.test, best=step.best,
            profit=ran.figures.total.profit, trades=ran.figures.total.trades,
            run_hash=ran.figures.run_hash, failure=ran.failure,
        )  # fmt: skip

    def _always(self, steps: Sequence[Walked]) -> Iterator[Always]:
        times = Counter(step.chosen for step in steps)
        for number, name in enumerate(self._names):
            profits = [step.tested[number].figures.total.profit for step in steps]
            known = [profit for profit in profits if profit is not None]
            whole = fsum(known) if len(known) == len(profits) else None
            yield Always(name=name, chosen=times[number], profit=whole)


def efficiency(steps: Sequence[Walked]) -> float | None:
    """Return the profit an hour in tests over that in trainings; None where these made none."""
    paces = []
    for runs, spans in (
        ([x.trained[x.chosen] for x in steps], [x.fold.from_ns - x.fold.since_ns for x in steps]),
        ([x.tested[x.chosen] for x in steps], [x.fold.until_ns - x.fold.from_ns for x in steps]),
    ):
        profits = [run.figures.total.profit for run in runs]
        known = [profit for profit in profits if profit is not None]
        if not known or len(known) < len(profits):
            return None
        paces.append(fsum(known) / sum(spans))  # integers
    trained, tested = paces
    return tested / trained if trained > 0 else None

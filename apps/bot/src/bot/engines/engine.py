"""Engines: where tasks are worked on, chosen by a text.

    here ─────────────► this process, one after another
    local, local:4 ───► processes of this machine (bot.engines.local)
    dask://HOST:PORT ─► the workers of a Dask scheduler (bot.engines.cluster), of bot[sweep]

Every engine gives the same results, in whatever order they are done; what it cannot get a result
for is `Lost`, with a reason. Whatever a task's function raises is raised here, as in a loop.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar

from bot.engines.errors import EngineError
from bot.engines.work import Lost, stamp, taken, work

Task = TypeVar("Task")
Result = TypeVar("Result")

DASK: Final = "dask://"


class Engine(AbstractContextManager["Engine"], Protocol):
    """Works on tasks while it is entered; `workers` is how many at a time, as far as known."""

    workers: int

    def run(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result | Lost]]:
        """Yield the number of each task and what came of it, whichever is done first.

        The function must be importable where it is worked on, its tasks and results be picklable.
        """
        ...


class Here:
    """This process: one task after another, in their order."""

    workers = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result | Lost]]:
        """Yield the number of each task and what came of it."""
        wanted = stamp()
        for number, task in enumerate(tasks):
            yield number, taken(work(function, task, wanted), wanted)


def results_of(
    engine: Engine,
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    done: Callable[[Result], object] = lambda _: None,
) -> list[Result]:
    """Return the results in the order of the tasks; `EngineError` where one of them is lost.

    `done` is called with each result as it comes.
    """
    found: dict[int, Result] = {}
    for number, result in engine.run(function, tasks):
        if isinstance(result, Lost):
            raise EngineError(f"expected a result of each of {len(tasks)} tasks, got: {result.why}")
        found[number] = result
        done(result)
    return [found[number] for number in range(len(tasks))]


def engine_of(
    text: str = "local", workers: int | None = None, certificates: Path | None = None
) -> Engine:
    """Return the engine that a text names; `EngineError` for what names none, or is not safe.

    `workers` counts where the text has no number. With `certificates`, a folder of
    `bot sweep certs`, a scheduler is spoken to over mutual TLS; beyond loopback it has to be.
    """
    name, _, number = text.partition(":")
    if text.startswith(DASK):
        from bot.engines.cluster import DaskEngine

        return DaskEngine(text.removeprefix(DASK), certificates)
    if text == "here":
        return Here()
    if name == "local" and (text == "local" or (number.isdecimal() and int(number))):
        from bot.engines.local import Local

        return Local(int(number) if number else workers or cores())
    expected = "expected an engine (here, local, local:4 or dask://127.0.0.1:8786)"
    raise EngineError(f"{expected}, got {text!r}")


def engine_typed(arguments: argparse.Namespace) -> Engine:
    """Return the engine that was typed: --engine, --workers, --certs."""
    certificates = Path(arguments.certs) if arguments.certs else None
    return engine_of(arguments.engine, arguments.workers or None, certificates)


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

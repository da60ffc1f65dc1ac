"""A metric of Prometheus as a row of a table, and what its samples are taken from.

RunFigures, Process ──► Sources ──► Series.samples ──► values of labels, and a value or None
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import msgspec

from bot.serve.figures import RunFigures


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """The process at one moment; None is unknown. `started` is wall time, in seconds."""

    version: str
    revision: str  # the commit, "" where it is not known
    mode: str
    network: str
    started: float
    memory_bytes: float
    peak_bytes: float | None
    cpu_s: float
    threads: int
    disk_free_bytes: float | None


class Sources(NamedTuple):
    """What a sample is taken from."""

    run: RunFigures
    process: Process


Sample = tuple[tuple[str, ...], float | None]


class Series(NamedTuple):
    """One metric: `samples` yields values of its labels, and a value or None for unknown."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Sources], Iterable[Any]]


def one(value: Callable[[Sources], float | None]) -> Callable[[Sources], Iterable[Sample]]:
    """Return the samples of what has no labels."""
    return lambda seen: [((), value(seen))]


def usdc(quantums: int | None) -> float | None:
    """Return money in USDC."""
    return None if quantums is None else quantums / 1e6

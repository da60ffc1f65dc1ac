"""What Prometheus gets of a run: every series, a row each.

    RunFigures, Process ──► SERIES: name, kind, help, labels, samples ──► bot.serve.metrics

Names end as Prometheus has it: `_total` of what only grows within a run, `_seconds`, `_bytes`,
`_ratio` (1 is all), `_usdc`. What is unknown has no sample, and is never 0. Labels are bounded: a
market is one that is watched, 500 at most, and how many more there are is a series of its own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from bot.run.meters import Durations
from bot.serve.sample import Sample, Series, Sources, one
from bot.serve.series_account import ACCOUNT
from bot.serve.series_wire import WIRE

PREFIX: Final = "dydx_bot_"
# Upper bounds of histograms, in seconds; 10, 25, 30 and 50 ms are what layers are given.
BOUNDS_S: Final = (
    25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.03, 0.05, 0.1, 0.25,
    1.0,
)  # fmt: skip
_BOUNDS_NS: Final = tuple(round(bound * 1e9) for bound in BOUNDS_S)
# What a sink counts that only grows, by its last word; all else that it counts stands at a moment.
GROWS: Final = {"written", "lost", "sent", "dropped", "failed"}

# === Process ===


def _sinks(seen: Sources) -> Iterable[Sample]:
    return [((sink.name,), float(not sink.well)) for sink in seen.run.sinks]


def _counts(*, grows: bool) -> Callable[[Sources], Iterator[Sample]]:
    def samples(seen: Sources) -> Iterator[Sample]:
        for sink in seen.run.sinks:
            for what, count in sink.counts:
                if (what.split(" ")[-1] in GROWS) == grows:
                    yield (sink.name, what), count

    return samples


def _of(name: str) -> Callable[[Sources], Iterable[Sample]]:
    return one(lambda seen: getattr(seen.process, name))


def _build(seen: Sources) -> Iterable[Sample]:
    process = seen.process
    return [((process.version, process.revision, process.mode, process.network), 1.0)]


_PROCESS: Final = (
    Series("build_info", "gauge", "1, with what runs here.",
           ("version", "revision", "mode", "network"), _build),
    Series("start_time_seconds", "gauge", "When the run began, in unix time.", (), _of("started")),
    Series("memory_bytes", "gauge", "Memory that the process holds.", (), _of("memory_bytes")),
    Series("memory_peak_bytes", "gauge", "The most it ever held.", (), _of("peak_bytes")),
    Series("cpu_seconds_total", "counter", "Time on a core, of all its threads.", (), _of("cpu_s")),
    Series("threads", "gauge", "Threads of the process.", (), _of("threads")),
    Series("disk_free_bytes", "gauge", "What is free where the run is recorded.", (),
           _of("disk_free_bytes")),
    Series("sink_trouble", "gauge", "1 if something beside the run fails: recorder, database.",
           ("sink",), _sinks),
    Series("sink_items_total", "counter", "What it did so far.", ("sink", "what"),
           _counts(grows=True)),
    Series("sink_items", "gauge", "What waits in it, or stands.", ("sink", "what"),
           _counts(grows=False)),
    Series("figures_duration_seconds", "gauge", "What it took the run to copy all this.", (),
           one(lambda seen: seen.run.took_ns / 1e9)),
)  # fmt: skip

SERIES: Final[tuple[Series, ...]] = (*WIRE, *ACCOUNT, *_PROCESS)


def bars(durations: Durations) -> Mapping[str, float]:
    """Return how many durations are no longer than each bound, by the bound as it is written."""
    counts = durations.up_to(_BOUNDS_NS)
    return {**{f"{bound:g}": count for bound, count in zip(BOUNDS_S, counts, strict=True)},
            "+Inf": durations.count}  # fmt: skip

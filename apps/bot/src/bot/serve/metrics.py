"""What Prometheus scrapes: every series of a run, in its text format or as OpenMetrics.

    GET /metrics ──► figures, at most a second old ──► SERIES ──► text, on a thread apart

The figures are copied by the run's own thread in about a millisecond, at most once a second however
many scrape; all else happens on threads of the server. A run that does not answer is a 503, by
which Prometheus has it down. In a replay that goes back in time counters do so too, as after a
restart.
"""

import asyncio
import shutil
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from math import isnan
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from bot import __version__
from bot.serve.figures import RunFigures
from bot.serve.sample import Process, Series, Sources
from bot.serve.series import PREFIX, SERIES, bars
from bot.serve.served import Served, monitored
from bot.system import memory_mb, peak_mb
from bot.version import commit_of


def process_of(served: Served, run: RunFigures) -> Process:
    """Measure the process; on any thread."""
    peak = peak_mb()
    return Process(
        version=__version__,
        revision=_revision(),
        mode=served.mode.lower(),
        network="" if served.net is None else served.net.name,
        started=time.time() - (time.monotonic_ns() - run.started_ns) / 1e9,
        memory_bytes=memory_mb() * 2**20,
        peak_bytes=None if isnan(peak) else peak * 2**20,
        cpu_s=time.process_time(),
        threads=threading.active_count(),
        disk_free_bytes=free_bytes(served.recording),
    )


@lru_cache(maxsize=1)
def _revision() -> str:
    return commit_of() or ""


def free_bytes(recording: Path | None) -> float | None:
    """Return what is free on the disk where a run is recorded, or where it was begun."""
    try:
        return float(shutil.disk_usage(_existing(recording or Path())).free)
    except OSError:
        return None


@lru_cache(maxsize=4)
def _existing(path: Path) -> Path:
    return next((each for each in (path, *path.absolute().parents) if each.is_dir()), Path("/"))


class Scrape(Collector):
    """All series of one moment, as prometheus_client writes them out."""

    def __init__(self, seen: Sources) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """Yield each metric that has a sample."""
        for row in SERIES:
            metric = Metric(PREFIX + row.name.removesuffix("_total"), row.help, row.kind)
            for values, value in row.samples(self._seen):
                if value is not None:
                    _add(metric, row, dict(zip(row.labels, values, strict=True)), value)
            if metric.samples:
                yield metric

    def describe(self) -> list[Metric]:
        """Return nothing: which metrics there are is known when they are collected."""
        return []


def _add(metric: Metric, row: Series, labels: dict[str, str], value: Any) -> None:
    name = PREFIX + row.name
    if row.kind != "histogram":
        metric.add_sample(name, labels, value)
        return
    for bound, count in bars(value).items():
        metric.add_sample(f"{name}_bucket", labels | {"le": bound}, count)
    metric.add_sample(f"{name}_count", labels, value.count)
    metric.add_sample(f"{name}_sum", labels, value.total_ns / 1e9)


def exposition(seen: Sources, accept: str = "") -> tuple[bytes, str]:
    """Write all series out; return the text and its content type, as what is accepted has it."""
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Scrape(seen))
    return encode(registry), content_type


def routes(served: Served) -> APIRouter:
    """Return the route of the metrics."""
    router = APIRouter(tags=["monitoring"])

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}, "application/openmetrics-text": {}},
                         "description": "every series of the run"}},
    )  # fmt: skip
    async def metrics(request: Request) -> Response:
        """Return all series of the run for Prometheus: latency, wire, REST, orders, account."""
        run = await monitored(served)
        accept = request.headers.get("accept", "")
        # Thousands of lines take some milliseconds, in which others are served.
        text, content_type = await asyncio.to_thread(
            lambda: exposition(Sources(run, process_of(served, run)), accept)
        )
        return Response(text, headers={"content-type": content_type})

    return router

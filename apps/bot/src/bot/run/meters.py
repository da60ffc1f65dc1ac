"""How long frames take and how fast they come: the run's own figures, measured by the app.

No layer reads a clock, so the app does: around each frame, and nowhere else.
"""

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final

import msgspec

# Six significant bits a bucket: a percentile is right to 3 %, at any length of run. A list of them
# takes half the time of a dictionary, with every frame.
_BITS: Final = 6
_HALF: Final = 1 << _BITS - 1
_BITS_OF_ALL: Final = 62  # 146 years
# What durations are shown at, wherever they are.
PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
DRAW_MS: Final = 250.0  # between two pictures of a screen on which nothing happens


class Durations(msgspec.Struct, frozen=True, gc=False):
    """A histogram as it was at one moment; `up_to` reads its buckets."""

    count: int
    total_ns: int
    buckets: tuple[int, ...]

    def up_to(self, bounds_ns: Sequence[int]) -> list[int]:
        """Return how many durations are certainly no longer than each bound, in nanoseconds.

        Those of a bucket that a bound parts are not counted: 3 % of its length at most.
        """
        counts = [0, *accumulate(self.buckets)]
        return [counts[_bucket(bound + 1)] for bound in bounds_ns]


class LatencyHistogram:
    """A histogram of durations in nanoseconds with logarithmic buckets."""

    def __init__(self) -> None:
        self.count = 0
        self.total_ns = 0
        self.max_ns = 0
        self._buckets = [0] * (_BITS_OF_ALL - _BITS + 2) * _HALF

    def add(self, duration_ns: int) -> None:
        """Count one duration."""
        self.count += 1
        self.total_ns += duration_ns
        if duration_ns > self.max_ns:
            self.max_ns = duration_ns
        shift = duration_ns.bit_length() - _BITS
        if shift > 0:
            self._buckets[(shift << _BITS - 1) + (duration_ns >> shift)] += 1
        else:
            self._buckets[duration_ns] += 1

    def durations(self) -> Durations:
        """Copy what is counted so far, in a few microseconds."""
        return Durations(self.count, self.total_ns, tuple(self._buckets))

    def percentile(self, share: float) -> int | None:
        """Return the duration below which `share` of all lie; None before the first."""
        return self.percentiles({"": share}).get("")

    def percentiles(self, shares: Mapping[str, float] = PERCENTILES) -> dict[str, int]:
        """Return by name the duration below which each share of all lies; none before the first."""
        if not self.count:
            return {}
        # One pass for all of them: one for each took a third of a snapshot.
        up_to = [*accumulate(self._buckets)]
        buckets = ((name, bisect_left(up_to, max(share * self.count, 1)))
                   for name, share in shares.items())  # fmt: skip
        return {name: _duration(bucket) for name, bucket in buckets}


def _bucket(duration_ns: int) -> int:
    """Return in which bucket a duration is counted."""
    shift = duration_ns.bit_length() - _BITS
    return (shift << _BITS - 1) + (duration_ns >> shift) if shift > 0 else duration_ns


def _duration(bucket: int) -> int:
    """Return the least duration that is counted in a bucket, in nanoseconds."""
    shift = max(bucket // _HALF - 1, 0)
    return (bucket - shift * _HALF) << shift


class Meters:
    """What a run has cost so far."""

    def __init__(self) -> None:
        self.started_ns = time.monotonic_ns()
        self.latency = LatencyHistogram()
        self.per_second: list[float] = []
        self._mark = (self.started_ns, 0, time.process_time())
        self.cpu_share: float | None = None
        self.frames_per_s: float | None = None
        # From the frame by which something became of the account until the terminal had it.
        self.shown = LatencyHistogram()
        # What a drawing takes, and how many were left out because one took too long.
        self.drawings = LatencyHistogram()
        self.undrawn = 0
        self._drawn_ms: float | None = None

    @property
    def draw_ms(self) -> float | None:
        """Return what the newest drawing took; None before the first."""
        return self._drawn_ms

    @draw_ms.setter
    def draw_ms(self, took_ms: float) -> None:
        self._drawn_ms = took_ms
        self.drawings.add(int(took_ms * 1e6))
        self.undrawn += int(took_ms // DRAW_MS)

    @property
    def elapsed_s(self) -> float:
        """Return the wall time since the start, in seconds."""
        return (time.monotonic_ns() - self.started_ns) / 1e9

    def sample(self) -> None:
        """Take the rates since the last sample, once a second at most."""
        now, cpu = time.monotonic_ns(), time.process_time()
        then, frames, cpu_then = self._mark
        if now - then < 1_000_000_000:
            return
        seconds = (now - then) / 1e9
        self.frames_per_s = (self.latency.count - frames) / seconds
        self.cpu_share = (cpu - cpu_then) / seconds
        self.per_second = [*self.per_second[-119:], self.frames_per_s]
        self._mark = (now, self.latency.count, cpu)

"""Follow an hour's funding on the stand-in: how near the outlook comes to what is settled.

    uv run --all-packages --group dev tools/funding.py            20 seeds, an hour each
    uv run --all-packages --group dev tools/funding.py --seeds 2 --minutes 15

A venue without sockets runs up to a full hour, in a squeeze that makes longs pay. Its frames go
through the data layer as a client's would; each minute the outlook is noted, and at the tick it is
compared with the rate that the venue settled.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "venue"))

from dydx_conn import Frame, WireWriter
from dydx_data import DataState, funding_outlook, step
from exchange import Exchange, VenueSettings  # the folder's modules are siblings
from tape import from_iso

SECOND_NS = 1_000_000_000
TICKER = "BTC-USD"
TICK_NS = from_iso("2026-01-05T14:00:00Z")


def main(arguments: Sequence[str]) -> int:
    """Follow some seeds; 1 where the outlook at the tick is off, or the error did not shrink."""
    parser = argparse.ArgumentParser(prog="tools/funding.py", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="how many (default 20)")
    parser.add_argument("--minutes", type=int, default=60, help="before the tick, 60 at most")
    options = parser.parse_args(arguments)
    by_minute: dict[int, list[float]] = {}
    worst = 0.0
    for seed in range(1, options.seeds + 1):
        settled, noted = hour(seed, options.minutes)
        for minute, predicted in noted.items():
            by_minute.setdefault(minute, []).append(abs(predicted - settled))
        worst = max(worst, abs(noted[0] - settled))
        print(f"seed {seed}: settled {settled} ppm, at the tick {noted[0]} ppm", flush=True)
    errors = {minute: statistics.mean(values) for minute, values in by_minute.items()}
    print("minutes to the tick: mean error in ppm per 8 hours")
    print("  ".join(f"{minute}: {errors[minute]:.1f}" for minute in sorted(errors, reverse=True)))
    quarters = [statistics.mean(errors.values())] if len(errors) < 4 else [*_parts(errors)]
    shrinks = all(later <= before for before, later in pairwise(quarters))
    means = ", ".join(f"{mean:.1f}" for mean in quarters)
    print(f"by quarters: {means}; worst at the tick: {worst:g} ppm")
    return 0 if shrinks and worst <= 1 else 1


def _parts(errors: dict[int, float]) -> Iterator[float]:
    """Return the mean error of each quarter of the time, the earliest first."""
    minutes = sorted(errors, reverse=True)
    for quarter in range(4):
        part = minutes[quarter * len(minutes) // 4 : (quarter + 1) * len(minutes) // 4]
        yield statistics.mean(errors[minute] for minute in part)


class Wire:
    """A sink that turns what the venue publishes into a client's frames."""

    def __init__(self) -> None:
        self.writer = WireWriter(at=0)
        self.frames: list[Frame] = []

    def wanted(self, channel: str, _: str) -> bool:
        """Return whether a channel is subscribed to."""
        return channel in ("v4_markets", "v4_block_height", "v4_orderbook")

    def publish(self, channel: str, id: str, contents: Any, _: int | None = None) -> None:
        """Send a message; a channel of all markets has no id."""
        if self.wanted(channel, id):
            name = "" if channel == id else id
            self.frames.append(self.writer.publish(channel, contents, id=name))


def hour(seed: int, minutes: int = 60) -> tuple[int, dict[int, int]]:
    """Return what an hour settled at, and what was predicted so many minutes before."""
    start_ns = TICK_NS - minutes * 60 * SECOND_NS
    wire = Wire()
    settings = VenueSettings(
        markets=1,
        seed=seed,
        start_ns=start_ns,
        scenario="funding-squeeze",
        calm_s=5.0 * minutes,
    )
    venue, state, noted = Exchange(settings, wire), DataState(), dict[int, int]()
    tape = venue.tapes[TICKER]
    wire.writer.at = start_ns
    begin = wire.writer.publish("v4_markets", {"markets": {TICKER: tape.description()}},
                                snapshot=True)  # fmt: skip
    book = wire.writer.publish("v4_orderbook", tape.orderbook(), id=TICKER, snapshot=True)
    wire.frames[:0] = [begin, book]
    while not tape.funding.rows:  # until the tick
        wire.writer.at = venue.now_ns
        for frame in wire.frames:
            step(state, frame)
        wire.frames.clear()
        outlook = funding_outlook(state.views[TICKER])
        # Time may pass the hour before the block does that settles it.
        if outlook is not None and outlook.seconds_to_tick <= 60 * minutes:
            noted[int(outlook.seconds_to_tick // 60)] = outlook.predicted_ppm
        venue.step()
    return round(float(tape.funding.rows[0]["rate"]) * 8e6), noted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

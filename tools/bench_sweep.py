"""What a variant behind the front takes: rows of `tools/bench.py`.

Variants are those of a grid over the default strategy, half of them of each profile, and for the
last row over every built-in strategy. All of the CPU counts, reading and the front included, over
frames times variants; of some rounds the least, as noise only ever adds.
"""

import gc
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice, product
from multiprocessing import get_context
from typing import TYPE_CHECKING, Final

import msgspec
from dydx_strategy import SETTINGS

if TYPE_CHECKING:
    from bot.run.composition import Options

Row = tuple[str, str, str, str]

ROUNDS: Final = 3
COUNTS: Final = (1, 20, 100)
_PROFILES: Final = ("steady", "reckless")


def sweep(_: str, recordings: Sequence[str] = ("sixty", "quickstart")) -> Iterator[Row]:
    """Play a recording through 1, 20 and 100 variants at once: frames/s of each, and memory."""
    for recording in recordings:
        alone_s, frames = least_s(recording)
        floor = f"{frames / alone_s:,.0f} f/s"
        yield f"one run alone, {recording}", floor, "", ""
        for count in COUNTS:
            took_s, frames = least_s(recording, grid(count))
            yield row(f"  {count} variants, each", frames * count / took_s, floor)
        took_s, frames = least_s(recording, mixed(COUNTS[-1]))
        yield row(f"  {COUNTS[-1]} of five strategies, each", frames * COUNTS[-1] / took_s, floor)
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        one, all_ = (alone.submit(grown_mb, recordings[-1], n).result() for n in (1, COUNTS[-1]))
    yield f"memory of {COUNTS[-1]} more variants, {recordings[-1]}", f"{all_ - one:.0f} MB", "", ""


def row(figure: str, rate: float, floor: str) -> Row:
    """Write how fast frames went through one variant, beside a run alone."""
    return figure, f"{rate:,.0f} f/s", floor, f"≥ 100,000 f/s at 100; {1e6 / rate:.2f} µs a frame"


def grid(count: int) -> list["Options"]:
    """Return the options of so many variants of the default strategy, half of each profile."""
    from bot.run.composition import Options

    chosen = product((56.0, 57.0, 58.0, 60.0, 62.0), (5.0, 10.0), (2, 3, 5, 8, 10))
    made = []
    for enter, look_s, positions in islice(chosen, (count + 1) // 2):
        for profile in _PROFILES:
            options = Options.of(profile)
            change = {"enter": enter, "look_s": look_s, "positions": positions}
            settings = options.settings.model_copy(update=change)
            made.append(msgspec.structs.replace(options, settings=settings))
    return made[:count]


def mixed(count: int) -> list["Options"]:
    """Return the options of so many variants of all built-in strategies."""
    from bot.run.composition import Options

    return [
        Options.of(
            _PROFILES[n // len(SETTINGS) % 2],
            strategy=[*SETTINGS][n % len(SETTINGS)],
            deposit=5_000 + 100 * n,
        )
        for n in range(count)
    ]


def least_s(
    recording: str, variants: Sequence["Options"] = (), rounds: int = ROUNDS
) -> tuple[float, int]:
    """Return the CPU of a pass, of the default run alone without variants, in seconds; frames."""
    from bot.run.composition import Bot, Options
    from bot.run.front import play
    from dydx_conn import replay

    least, frames = math.inf, 0
    for _ in range(rounds):
        gc.collect()
        began = time.process_time()
        if variants:
            bot = play(replay(recording), variants)[0]
        else:
            bot = Bot(Options())
            bot.run(replay(recording))
        least, frames = min(least, time.process_time() - began), bot.data.frames
    return least, frames


def grown_mb(recording: str, count: int) -> float:
    """Return this process's memory with so many variants at their end, in MB."""
    from bot.run.front import play
    from bot.system import memory_mb
    from dydx_conn import replay

    bots = play(replay(recording), grid(count))
    return memory_mb() if bots else 0.0

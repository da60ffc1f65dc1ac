"""How often a result is called luck: on random walks, and where an edge was planted.

    uv run --all-packages --group dev tools/lucky.py               both: ten minutes
    uv run … tools/lucky.py --seeds 100 --scenario calm            random walks alone

    Story of each seed ─► a backtest of each strategy ─► Judged ─► shares that are luck

On a walk nothing can be known, so that 95 of 100 results should be luck, and 90 have to be. Where
prices jump and come back, a strategy that trades for it has an edge before costs: there no more
than half may be. A strategy that traded nothing is not counted. What fills cost is no skill of
anybody: rivals pay it as well. Exit code 1 if either is not so.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from bot.backtest.judged import judged
from bot.backtest.playing import Span, played
from bot.backtest.words import variants_of
from bot.commands import parser
from bot.progress import Progress
from dydx_conn import Header, Recording, RecordingWriter
from edge_wire import Story, frames_of

LEAST: Final = 0.90  # of results on walks
_STEP_S: Final = 4  # between two updates of a market
MOST: Final = 0.50  # of results with an edge
STRATEGIES: Final = {
    "calm": ("rank", "sniper"),
    "revert": ("reversion",),
}  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Play all seeds; print a line for each strategy, and whether it is as it has to be."""
    options = _parser().parse_args(arguments)
    good = True
    with ProcessPoolExecutor(options.jobs) as pool:
        for scenario in options.scenario or STRATEGIES:
            play = partial(verdicts, scenario, options.seconds, options.amplitude)
            rows = [*pool.map(play, range(1, options.seeds + 1))]
            lucky = [luck for row in rows for luck in row.values() if luck is not None]
            share = sum(lucky) / len(lucky) if lucky else None
            for name in STRATEGIES[scenario]:
                print(_line(scenario, name, [row[name] for row in rows]), flush=True)
            fine = share is not None and (share >= LEAST if scenario == "calm" else share <= MOST)
            wanted = f"at least {LEAST:.0%}" if scenario == "calm" else f"at most {MOST:.0%}"
            got = "no trades" if share is None else f"{share:.0%} of {len(lucky)}"
            print(f"{scenario:8} {'ok' if fine else 'WRONG'}: expected {wanted} luck, got {got}")
            good = good and fine
    return int(not good)


def verdicts(
    scenario: str, seconds: int, amplitude_bps: float | None, seed: int
) -> dict[str, bool | None]:
    """Return of each strategy whether its result is luck, None where it held nothing."""
    story = Story(
        scenario=scenario, seed=seed, seconds=seconds, step_s=_STEP_S,
        amplitude_bps=None if scenario == "calm" else amplitude_bps,
    )  # fmt: skip
    names = STRATEGIES[scenario]
    variants = variants_of(names, parser().parse_args(["backtest"]))
    with tempfile.TemporaryDirectory(prefix="lucky-") as folder, Progress("", 0) as progress:
        path = Path(folder) / "story.jsonl.zst"
        _write(story, path)
        runs = [*played(Recording(path), variants, Span(), progress)]
    found = {run.outcome.strategy: judged([run.part]) for run in runs}
    return {name: None if one.luck.low is None else one.is_luck for name, one in found.items()}


def _write(story: Story, path: Path) -> None:
    header = Header(network="local", rest="", ws="", client="", source=f"story {story.scenario}")
    writer = RecordingWriter(path, header)
    for step in frames_of(story):
        for frame in step:
            writer.write_frame(frame)
    writer.close()


def _line(scenario: str, name: str, found: Sequence[bool | None]) -> str:
    known = [luck for luck in found if luck is not None]
    share = f"{sum(known) / len(known):6.1%}" if known else "     -"
    return f"{scenario:8} {name:10} {share} luck, of {len(known)} that held anything"


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description="How often a result is called luck.")
    add = made.add_argument
    add("--scenario", action="append", choices=[*STRATEGIES], help="may be repeated (both)")
    add("--seeds", type=int, default=40, metavar="N", help="(40)")
    add("--seconds", type=int, default=7_200, metavar="N", help="of each story (7,200)")
    add("--amplitude", type=float, default=None, metavar="BPS", help="of what is planted")
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    return made


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

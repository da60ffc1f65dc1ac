"""Compare the speed of two trees of this workspace: the same replay by both, in lockstep.

    uv run --all-packages --group dev tools/paired.py OLD NEW
    uv run --all-packages --group dev tools/paired.py OLD NEW --recording quickstart --rounds 9

A tree is a checkout, or what `git archive` unpacks; both run on the packages of this environment.
Or it is an environment with a bot of its own, as of another Python: then that is what runs.
They take turns every 500 frames, so that what else the machine does falls on both; and of each 500
frames the least CPU of all rounds counts, as noise only ever adds. The hash of each is printed: a
tree that decides otherwise is not the same work done faster.
"""

import argparse
import contextlib
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

ROOT = Path(__file__).resolve().parent.parent

# Takes turns: waits for a line, plays 500 frames, and reports the seconds of CPU that they took.
RUN = """
import sys, time
try:
    from bot.run.composition import Bot, Options
except ImportError:  # an older tree has it here
    from bot.composition import Bot, Options
from dydx_conn import replay

def pace(frame):
    if bot.data.frames % 500 == 499:
        print(time.process_time() - began[0], flush=True)
        sys.stdin.readline()
        began[0] = time.process_time()
    return True

bot = Bot(Options())
sys.stdin.readline()
began = [time.process_time()]
bot.run(replay(sys.argv[1], pace=pace))
print(time.process_time() - began[0], bot.data.frames, bot.journal.hash, flush=True)
"""
Played = tuple[list[float], int, str]  # the seconds of each part, how many frames, and the hash


def main(arguments: list[str]) -> int:
    """Print what a frame takes by each tree, and how much more the new one does in a time."""
    parser = argparse.ArgumentParser(prog="tools/paired.py", description=__doc__.splitlines()[0])
    parser.add_argument("trees", nargs=2, type=Path, metavar="TREE", help="the old and the new")
    parser.add_argument("--recording", default="sixty", help="what is replayed")
    parser.add_argument("--rounds", type=int, default=5, help="how often it is replayed")
    options = parser.parse_args(arguments)
    rounds = [in_turns(options.trees, options.recording) for _ in range(options.rounds)]
    least: list[float] = []
    for tree, played in zip(options.trees, zip(*rounds, strict=True), strict=True):
        parts = zip(*(part for part, _, _ in played), strict=True)
        least.append(math.fsum(map(min, parts)))
        _, frames, run_hash = played[0]
        print(f"{tree}: {least[-1] / frames * 1e6:.2f} µs of CPU a frame, run {run_hash[:12]}")
    pairs = [a / b for old, new in rounds for a, b in zip(old[0], new[0], strict=True)]
    by_median = f"{statistics.median(pairs):.3f}x by the median of all pairs"
    print(f"throughput of the new: {least[0] / least[1]:.3f}x, {by_median}")
    return 0


def in_turns(trees: list[Path], recording: str) -> list[Played]:
    """Replay by each tree, 500 frames at a time."""
    runs = [begun(tree, recording) for tree in trees]
    took: list[list[float]] = [[] for _ in trees]
    try:
        while True:
            reports = [turn(run, tree) for run, tree in zip(runs, trees, strict=True)]
            for parts, (seconds, *_) in zip(took, reports, strict=True):
                parts.append(float(seconds))
            if len(reports[0]) > 1:
                ends = zip(took, reports, strict=True)
                return [(parts, int(frames), end) for parts, (_, frames, end) in ends]
    finally:
        for run in runs:
            run.kill()
            run.communicate()


def begun(tree: Path, recording: str) -> subprocess.Popen[str]:
    """Begin a replay by the sources of a tree."""
    tree = tree.resolve()
    own = tree / "bin" / "python"
    sources = [*sorted(tree.glob("packages/*/src")), tree / "apps/bot/src"]
    if is_own := (tree / "pyvenv.cfg").is_file():
        sources = []
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [str(own) if is_own else sys.executable, "-c", RUN, recording],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources))},
        stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT if is_own else tree,
    )  # fmt: skip


def turn(run: "subprocess.Popen[str]", tree: Path) -> list[str]:
    """Let a replay play on; return its report: three words at its end, else one."""
    to, of = cast(IO[str], run.stdin), cast(IO[str], run.stdout)
    with contextlib.suppress(BrokenPipeError):
        to.write("\n")
        to.flush()
    if report := of.readline().split():
        return report
    sys.exit(f"expected {tree} to replay, got: {run.communicate()[1].strip()[-400:]}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

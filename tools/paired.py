"""Compare the speed of two trees of this workspace: the same replay by each, in turns.

    uv run --all-packages --group dev tools/paired.py OLD NEW
    uv run --all-packages --group dev tools/paired.py OLD NEW --recording quickstart --rounds 9

A tree is a checkout, or what `git archive` unpacks; both run on the packages of this environment.
The turns alternate, so that what else the machine does falls on both; least is what counts, as
noise only ever adds. The hash of each is printed beside it: a tree that decides otherwise is not
the same work done faster.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

RUN = """
import sys, time
from bot.composition import Bot, Options
from dydx_conn import load_recorded_stream
took = []
for _ in range(2):
    bot, began = Bot(Options()), time.process_time()
    bot.run(load_recorded_stream(sys.argv[1]))
    took.append(time.process_time() - began)
print(min(took) / bot.data.frames * 1e6, bot.journal.hash)
"""


def main(arguments: list[str]) -> int:
    """Print what a frame takes by each tree, and how much more the new one does in a time."""
    parser = argparse.ArgumentParser(prog="tools/paired.py", description=__doc__.splitlines()[0])
    parser.add_argument("trees", nargs=2, type=Path, metavar="TREE", help="the old and the new")
    parser.add_argument("--recording", default="sixty", help="what is replayed")
    parser.add_argument("--rounds", type=int, default=5, help="how many turns each has")
    options = parser.parse_args(arguments)
    old, new = (tree.resolve() for tree in options.trees)
    took: dict[Path, list[float]] = {old: [], new: []}
    for turn in range(options.rounds):
        for tree in (old, new) if turn % 2 else (new, old):
            us, run_hash = replayed(tree, options.recording)
            took[tree].append(us)
            print(f"{tree}: {us:.2f} µs of CPU a frame, run {run_hash[:12]}", flush=True)
    least = min(took[old]) / min(took[new])
    pairs = statistics.median(a / b for a, b in zip(took[old], took[new], strict=True))
    print(f"throughput of the new: {least:.3f}x by the least, {pairs:.3f}x by the median of pairs")
    return 0


def replayed(tree: Path, recording: str) -> tuple[float, str]:
    """Replay by the sources of a tree; return its µs of CPU a frame, and the hash of its run."""
    sources = [*sorted(tree.glob("packages/*/src")), tree / "apps/bot/src"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources))}
    command = [sys.executable, "-c", RUN, recording]
    run = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    if run.returncode:
        sys.exit(f"expected {tree} to replay {recording}, got: {run.stderr.strip()[-400:]}")
    us, run_hash = run.stdout.split()
    return float(us), run_hash


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

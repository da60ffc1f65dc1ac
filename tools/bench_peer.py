"""Do the same frames with nautilus_trader, in turns: CPU and memory from wire text to an order.

    the texts of a recording ─┬► bot:      envelope, contents, books, scores, strategy, risk, paper
                              └► nautilus: envelope, contents, deltas and ticks, engine, strategy

Both run on one interpreter, Python 3.12, in an environment of their own, which is made in the
cache of this user and used again; the bench says so where it cannot be made. Each side is a
process of its own that plays a recording some times; the sides take turns, and of each the least
CPU counts, as noise only ever adds. Reading the file, imports and the making of texts are no part
of it; memory is the most that a process had, its texts included.

What each does is in `bench_peer_nautilus` and in `SIDES`. Neither does the other's work: nautilus
books no candles, trade flow, uncrossing, gaps, block heights, guard, journal or run hash; the bot
has no message bus, no cache of all ticks, and no object for each level.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

Row = tuple[str, str, str, str]

WANTED: Final = "nautilus_trader==1.231.0"
PYTHON: Final = "3.12"
RECORDINGS: Final = ("sixty", "quickstart")
ROUNDS: Final = 3

SIDES: Final[Mapping[str, str]] = {
    "nautilus": "nautilus, text to fill",
    "lean": "bot, WebSocket, no candles or flow",
    "lean compiled": "  the same, compiled",
    "bot": "bot, all of it",
    "compiled": "  the same, compiled",
}


def peer(_: str) -> Iterator[Row]:
    """Play both recordings by each side; yield frames a second and memory beside nautilus's."""
    made = environments()
    if isinstance(made, str):
        yield "nautilus_trader", "skipped", "", made
        return
    for recording in RECORDINGS:
        yield from _rows(recording, measured(made, recording))


def measured(made: Mapping[str, Path], recording: str) -> dict[str, dict[str, Any]]:
    """Let the sides take turns; of each figure return the least."""
    found: dict[str, dict[str, Any]] = {}
    for _ in range(ROUNDS):
        for side, interpreter in made.items():
            now = played(interpreter, side, recording)
            least = found.setdefault(side, now)
            if now.get("hash") != least.get("hash"):
                raise SystemExit(f"{side}: expected run {least.get('hash')}, got {now.get('hash')}")
            found[side] = {**now, "cpu_s": min(now["cpu_s"], least["cpu_s"])}
    return found


def played(interpreter: Path, side: str, recording: str) -> dict[str, Any]:
    """Run one side in a process of its own; return what it measured of itself."""
    program = "bench_peer_nautilus" if side == "nautilus" else "bench_peer"
    command = [str(interpreter), str(Path(__file__).with_name(f"{program}.py")), side, recording]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=_bare())
    if done.returncode:
        raise SystemExit(f"expected {side} to play {recording}, got: {done.stderr[-800:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _bare() -> dict[str, str]:
    """Return an environment without what would lead to other packages or settings."""
    given = {name: text for name, text in os.environ.items() if not name.startswith("DYDX")}
    return given | {"PYTHONPATH": "", "DYDX_CONFIG": "none"}


def _rows(recording: str, found: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
    """Write each side's frames a second and how many times nautilus's that is."""
    theirs = found["nautilus"]
    rate = theirs["frames"] / theirs["cpu_s"]
    for side, what in SIDES.items():
        if side in found:
            ours = found[side]
            mine = ours["frames"] / ours["cpu_s"]
            budget = {"lean": "≥ 0.85x", "lean compiled": "≥ 1.00x"}.get(side, "")
            ratio = f"{mine / rate:.2f}x, {ours['memory_mb']:.0f} MB"
            yield f"{recording}: {what}", f"{mine:,.0f} f/s", ratio, budget
    parsed = f"{theirs['parsed_s'] / theirs['cpu_s']:.0%} parsing"
    yield f"  nautilus: {theirs['orders']} orders, {theirs['filled']} filled", parsed, "", ""


# === Environments ===


def environments() -> dict[str, Path] | str:
    """Make the environments, or use them again; return interpreters, or why there are none."""
    from compile import OUT
    from elsewhere import found_python

    python = found_python(PYTHON)
    if python is None:
        return f"expected Python {PYTHON} for nautilus_trader, got none"
    place = cache() / f"peer-{PYTHON}"
    try:
        interpreter = installed(place, python, [WANTED])
        made = {"nautilus": interpreter, "lean": interpreter, "bot": interpreter}
        tag = f"cp{PYTHON.replace('.', '')}"
        wheels = [str(file) for file in sorted(OUT.glob(f"*-{tag}-*.whl"))]
        if wheels:
            made["compiled"] = installed(place.with_name(f"{place.name}-compiled"), python, [])
            _uv(
                "pip",
                "install",
                "--python",
                str(made["compiled"]),
                "--no-deps",
                "--reinstall",
                *wheels,
            )
    except OSError as error:
        return str(error)
    return made


def cache() -> Path:
    """Return where this user's programs put what they can make again."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "dydx-bot"


def installed(place: Path, python: str, beside: list[str]) -> Path:
    """Install the workspace, to be edited, and what stands beside it; return the interpreter."""
    from check import ROOT, members

    interpreter = place / "bin" / "python"
    if not interpreter.exists():
        _uv("venv", "--no-python-downloads", "--python", python, str(place))
    own = [word for path in members().values() for word in ("-e", str(ROOT / path))]
    _uv("pip", "install", "--python", str(interpreter), *beside, *own)
    return interpreter


def _uv(*words: str) -> None:
    """Run uv; `OSError` with the end of what it wrote where it fails."""
    from check import ROOT, find_uv

    command = [find_uv(), *words, "--quiet"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"uv {words[0]} failed: {' '.join(done.stderr.split())[-200:]}")


# === One side, in a process of its own ===


def play(side: str, recording: str, times: int = 2) -> dict[str, Any]:
    """Play a recording through the bot from its texts; return the least CPU, and memory."""
    import gc
    import resource
    import time
    from collections.abc import Generator

    from bot.run.composition import Bot, Options
    from dydx_conn import Frame, Recording, find_recording, from_generator, ws_frame
    from dydx_data import DataState

    frames = list(Recording(find_recording(recording)))
    lean = side.startswith("lean")
    if lean:
        frames = [frame for frame in frames if frame.kind == "ws"]

    def received() -> Generator[Frame]:
        for frame in frames:
            if frame.kind == "ws":
                yield ws_frame(frame.seq, frame.at, frame.mono, frame.link, frame.text)
            else:
                yield frame

    least, run_hash = float("inf"), ""
    for _ in range(times):
        data = DataState(resolutions=(), flow=False) if lean else None
        bot = Bot(Options(), data=data)
        gc.collect()
        gc.disable()  # on both sides: neither is to pay for what the other left
        began = time.process_time()
        bot.run(from_generator(received))
        least = min(least, time.process_time() - began)
        gc.enable()
        run_hash = bot.journal.hash
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_s": least, "frames": len(frames), "memory_mb": memory_mb, "hash": run_hash}


if __name__ == "__main__":
    print(json.dumps(play(sys.argv[1], sys.argv[2])))

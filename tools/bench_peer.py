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

import contextlib
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dydx_conn import Frame
    from reactivex import Observable

Row = tuple[str, str, str, str]

WANTED: Final = "nautilus_trader==1.231.0"
PYTHON: Final = "3.12"
RECORDINGS: Final = ("sixty", "quickstart")
ROUNDS: Final = 3
VARIANTS: Final = 100  # of a sweep, in one pass on one core

SIDES: Final[Mapping[str, str]] = {
    "nautilus": "nautilus, text to fill",
    "lean": "bot, WebSocket, no candles or flow",
    "lean compiled": "  the same, compiled",
    "bot": "bot, all of it",
    "compiled": "  the same, compiled",
    "variants": f"bot, {VARIANTS} variants, each",
    "variants compiled": "  the same, compiled",
}
BUDGETS: Final[Mapping[str, str]] = {
    "lean": "≥ 0.85x",
    "lean compiled": "≥ 1.00x",
    "variants": "≥ 100,000 f/s, ≥ 3x",
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
    for number in range(ROUNDS):
        for side, interpreter in made.items():
            if number and side.startswith("variants"):
                continue  # it is a hundred runs
            now = played(interpreter, side, recording)
            least = found.setdefault(side, now)
            if now.get("hash") != least.get("hash"):
                raise SystemExit(f"{side}: expected run {least.get('hash')}, got {now.get('hash')}")
            found[side] = {**now, "cpu_s": min(now["cpu_s"], least["cpu_s"])}
    hashes = {side: found[side]["hash"] for side in ("bot", "compiled") if side in found}
    if len({*hashes.values()}) > 1:
        raise SystemExit(f"expected one run, got {hashes}: build the wheels again (compile.py)")
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
            budget = BUDGETS.get(side, "")
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
        made = dict.fromkeys(("nautilus", "lean", "bot", "variants"), interpreter)
        tag = f"cp{PYTHON.replace('.', '')}"
        wheels = [str(file) for file in sorted(OUT.glob(f"*-{tag}-*.whl"))]
        if wheels:
            compiled = installed(place.with_name(f"{place.name}-compiled"), python, [])
            made |= dict.fromkeys(("lean compiled", "compiled", "variants compiled"), compiled)
            _uv(
                "pip",
                "install",
                "--python",
                str(compiled),
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


def play(side: str, recording: str) -> dict[str, Any]:
    """Play a recording through the bot from its texts; return the least CPU, and memory."""
    import resource
    from collections.abc import Generator

    from dydx_conn import Frame, Recording, find_recording, from_generator, ws_frame

    frames = list(Recording(find_recording(recording)))
    if side.startswith("lean"):
        frames = [frame for frame in frames if frame.kind == "ws"]

    def received() -> Generator[Frame]:
        for frame in frames:
            if frame.kind == "ws":
                yield ws_frame(frame.seq, frame.at, frame.mono, frame.link, frame.text)
            else:
                yield frame

    if side.startswith("variants"):
        cpu_s, run_hash = varied(from_generator(received))
        count = len(frames) * VARIANTS
    else:
        runs = [alone(from_generator(received), lean=side.startswith("lean")) for _ in range(2)]
        cpu_s, run_hash = min(runs)
        count = len(frames)
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_s": cpu_s, "frames": count, "memory_mb": memory_mb, "hash": run_hash}


def alone(frames: "Observable[Frame]", *, lean: bool) -> tuple[float, str]:
    """Play frames through one bot; return the CPU seconds that it took, and its hash."""
    from bot.run.composition import Bot, Options
    from dydx_data import DataState

    bot = Bot(Options(), data=DataState(resolutions=(), flow=False) if lean else None)
    with stopped_collector():
        began = time.process_time()
        bot.run(frames)
        return time.process_time() - began, bot.journal.hash


def varied(frames: "Observable[Frame]") -> tuple[float, str]:
    """Play frames once through variants that differ in what they may risk; as `alone`."""
    from bot.run.composition import Options
    from bot.run.front import play as played_once
    from msgspec.structs import replace

    usual = Options()
    policies = (
        usual.policy.model_copy(update={"max_leverage": 0.5 + n / VARIANTS})
        for n in range(VARIANTS)
    )
    variants = [replace(usual, policy=policy) for policy in policies]
    with stopped_collector():
        began = time.process_time()
        bots = played_once(frames, variants)
        took_s = time.process_time() - began
    if failed := [bot.failure or bot.stopped for bot in bots if bot.failure or bot.stopped]:
        raise SystemExit(f"expected {VARIANTS} runs to their end, got {failed[0]!r}")
    return took_s, bots[-1].journal.hash


@contextlib.contextmanager
def stopped_collector() -> Iterator[None]:
    """Do without the collector of garbage, on both sides: neither pays for what is left over."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


if __name__ == "__main__":
    print(json.dumps(play(sys.argv[1], sys.argv[2])))

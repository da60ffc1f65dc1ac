"""What a machine has for a run: Python, clock, files, disk, who may read what, the database.

    machine ──► Check: a name, an outcome, what was seen, and what to do about it

Nothing is made or changed, and nothing here waits for longer than a lock of the database is held.
"""

import ctypes
import os
import platform
import shlex
import shutil
import stat
import struct
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from dydx_conn import ConnError

from bot import __version__
from bot.config.environment import too_few_files
from bot.config.validation import Check, CheckOutcome
from bot.run.acts import is_ours, state_directory
from bot.system import file_limits

# === All of it ===


def machine(
    url: str = "", secrets: Sequence[Path] = (), chosen: Mapping[str, Path] = {}
) -> Iterator[Check]:
    """Look at what is here; `url` is the database's, `secrets` are files that only we may read.

    `chosen` are the directories that somebody chose to write to, by what is written there.
    """
    steps = Steps()
    yield from _python()
    yield from _terminal()
    yield from _files()
    places = _places(url)
    yield from _permissions(places, secrets)
    yield from _disk({**places, **chosen})
    yield from _database(url)
    yield _unwritten()
    yield from _ntp()
    yield steps.check()


def _python() -> Iterator[Check]:
    version = platform.python_version()
    right, slow = (3, 11) <= sys.version_info < (3, 13), slowness()
    hint = "" if right else "uv run --python 3.12 bot"
    outcome: CheckOutcome = ("warning" if slow else "ok") if right else "failed"
    seen = f"{version}; wanted 3.11 or 3.12" + (f"; {slow}" if slow else "")
    yield Check("python", outcome, seen, hint or (_FAST if slow else ""))
    yield Check("bot", "ok", __version__)


_FAST: Final = "uv run --managed-python bot: the builds that uv brings are optimized"
# What an optimized build plays of the same frames in the same time of a core (tools/README.md).
_OPTIMISED_BY: Final = 1.1


def slowness() -> str:
    """Say why this Python is slower than it could be; nothing if it is not, or nobody knows."""
    if sysconfig.get_config_var("Py_DEBUG"):
        return "a debug build, which checks itself as it runs"
    options = sysconfig.get_config_var("CONFIG_ARGS")
    # Distributions run the optimizing build by its name, which no option of theirs shows.
    if not options or "--enable-optimizations" in options or sys.base_prefix == "/usr":
        return ""
    return f"built without --enable-optimizations: one with it is {_OPTIMISED_BY:g} times as fast"


def _terminal() -> Iterator[Check]:
    columns, rows = shutil.get_terminal_size()
    if not sys.stdout.isatty():
        yield Check("terminal", "ok", "none: reports are plain, no dashboard")
        return
    fits = columns >= 80 and rows >= 24
    seen = f"{columns}x{rows} {os.environ.get('TERM', '')}; wanted 80x24 or more"
    hint = "" if fits else "make the window larger, or run with --plain"
    yield Check("terminal", "ok" if fits else "warning", seen, hint)


def _files() -> Iterator[Check]:
    few = too_few_files()
    soft, hard = file_limits()
    seen = few or f"up to {soft} open at a time, {hard} if need be"
    yield Check("files", "failed" if few else "ok", seen, "ulimit -n 1024" if few else "")


# === Clock ===
# Orders and funding go by the time of day, waiting by a clock that only goes on.

_STEP_S: Final = 0.05
_UNSYNCHRONISED: Final = 0x40  # STA_UNSYNC of <sys/timex.h>
_SET: Final = "let the system set its clock: timedatectl set-ntp true"


class Steps:
    """How far the time of day has been moved since it was made."""

    def __init__(self, clocks: Callable[[], tuple[int, int]] | None = None) -> None:
        self._clocks = clocks or (lambda: (time.time_ns(), time.monotonic_ns()))
        self._began = self._clocks()

    def check(self) -> Check:
        """Return whether it went as fast as the clock that is never set."""
        (wall, mono), (now, later) = self._began, self._clocks()
        resolution_ns = time.get_clock_info("monotonic").resolution * 1e9
        moved_s = ((now - wall) - (later - mono)) / 1e9
        steps = abs(moved_s) > _STEP_S
        seen = (
            f"monotonic in steps of {resolution_ns:.0f} ns, the time of day moved {moved_s:+.3f} s"
        )
        seen += f" against it in {(later - mono) / 1e9:.1f} s"
        bad = steps or resolution_ns > 1_000_000
        return Check("clock", "warning" if bad else "ok", seen, _SET if bad else "")


def _ntp() -> Iterator[Check]:
    status, most_us = _adjusted()
    if status is None:
        yield Check("ntp", "ok", "the system does not tell whether it sets its clock")
    elif status & _UNSYNCHRONISED:
        yield Check("ntp", "warning", "nothing sets the clock of this system", _SET)
    else:
        yield Check("ntp", "ok", f"the clock is set, and wrong by {most_us / 1e3:.0f} ms at most")


def _adjusted() -> tuple[int | None, int]:
    """Return the status of the kernel's clock and its largest error; None where it tells none."""
    library = ctypes.CDLL(None)
    if not (sys.platform == "linux" and ctypes.sizeof(ctypes.c_long) == 8):
        return None, 0
    answer = ctypes.create_string_buffer(512)  # struct timex, which asks for nothing to be changed
    if library.adjtimex(answer) < 0:
        return None, 0
    # modes, then offset, freq, maxerror, esterror as long, then status.
    *_, most_us, _, status = struct.unpack_from("@i4xqqqqi", answer.raw, 0)
    return status, most_us


# === Places ===
# Where what outlives a run is: who may read and write there, and how much room there is.

_FAILED_MB, _WARNED_MB = 100, 1_024


def _places(url: str) -> dict[str, Path]:
    """Return the directories of a run by name; a recording is written where the bot is started."""
    database = _file(url)
    config = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(config) if config.startswith("/") else Path.home() / ".config"
    return {
        "state": state_directory(),
        **({"data": database.parent} if database is not None else {}),
        "configuration": base / "dydx-bot",
        "recordings": Path.cwd(),
    }


def _file(url: str) -> Path | None:
    from bot.database.tables import default_url, file_of

    return None if url == NONE else file_of(url or default_url())


def _permissions(places: Mapping[str, Path], secrets: Sequence[Path]) -> Iterator[Check]:
    ours = [(name, place) for name, place in places.items() if name != "recordings"]
    data = [places["data"] / "bot.db"] if "data" in places else []
    files = [path for path in (*secrets, *data) if path.is_file()]
    yield from _verdict([*_strangers(ours), *_readable(files)])


def _verdict(found: Sequence[tuple[CheckOutcome, str, str]]) -> Iterator[Check]:
    for outcome, seen, hint in found:
        yield Check("permissions", outcome, seen, hint)
    if not found:
        yield Check("permissions", "ok", "what is stored is ours alone")


def _strangers(places: Iterable[tuple[str, Path]]) -> Iterator[tuple[CheckOutcome, str, str]]:
    for name, place in places:
        if not place.exists():
            continue
        mode = place.stat().st_mode & 0o777
        if not is_ours(place):
            seen = f"expected the {name} directory {place} to be ours alone, got mode {mode:o}"
            yield "failed", f"{seen} of user {place.stat().st_uid}", _only_ours(place)
        elif mode & 0o077 and name != "configuration":
            yield "warning", f"others may look into the {name} directory {place}", _only_ours(place)


def _only_ours(place: Path) -> str:
    return f"chmod {'700' if place.is_dir() else '600'} {shlex.quote(str(place))}"


def _readable(files: Iterable[Path]) -> Iterator[tuple[CheckOutcome, str, str]]:
    for file in files:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            yield "warning", f"others may read {file} (mode {mode:o})", _only_ours(file)


def _disk(places: Mapping[str, Path]) -> Iterator[Check]:
    by_disk: dict[int, list[str]] = {}
    free: dict[int, float] = {}
    for name, place in places.items():
        there = next(each for each in (place, *place.absolute().parents) if each.exists())
        disk = there.stat().st_dev
        by_disk.setdefault(disk, []).append(name)
        free[disk] = shutil.disk_usage(there).free / 1e6
    for disk, names in by_disk.items():
        mb = free[disk]
        outcome: CheckOutcome = "ok" if mb >= _WARNED_MB else "warning"
        outcome = outcome if mb >= _FAILED_MB else "failed"
        seen = f"{mb:,.0f} MB free for {', '.join(names)}; wanted {_WARNED_MB:,} or more"
        hint = "" if outcome == "ok" else "free some: a run that cannot write enters nothing"
        yield Check("disk", outcome, seen, hint)


# === Database ===
# Whether it is there, of this version, and can be written; and how the last run ended.

NONE: Final = "none"
_LOCK_S: Final = 2.0
_LARGE_MB: Final = 4_000.0  # a month or two at 60 markets
_TRIM: Final = "bot backup FILE --trim 30d leaves the figures of older decisions in FILE alone"
_ENDED: Final = {"ended": "ended", "running": "was killed, or still runs", "killed": "was killed"}


def _database(url: str) -> Iterator[Check]:
    from bot.database.tables import default_url, engine_of, explained, shown

    url = url or default_url()
    if url == NONE:
        yield Check("database", "ok", "none is wanted: runs are not written down")
        return
    file = _file(url)
    if file is not None and not file.exists():
        yield Check("database", "ok", f"none yet: the first run makes {file}")
        return
    try:
        engine = engine_of(url, patience_s=_LOCK_S)
        try:
            with explained(url):
                yield from _stored(engine, shown(url))
        finally:
            engine.dispose()
    except ConnError as error:
        hint = "bot restore brings a backup back, or move it away: the next run makes a new one"
        yield Check("database", "failed", str(error), hint)


def _stored(engine: Any, where: str) -> Iterator[Check]:
    from sqlalchemy import select

    from bot.database.tables import REVISIONS, revision_of, runs, writing

    with writing(engine).connect() as connection, connection.begin() as transaction:
        revision = revision_of(connection)
        transaction.rollback()
    size = _size_mb(engine)
    seen = f"{where} can be written, {size:,.1f} MB, version {revision or 'none'}"
    if revision != REVISIONS[-1]:
        yield Check("database", "ok", f"{seen}: the next run brings it to {REVISIONS[-1]}")
        return
    large = size > _LARGE_MB
    yield Check("database", "warning" if large else "ok", seen, _TRIM if large else "")
    with engine.connect() as connection:
        last = connection.execute(select(runs).order_by(runs.c.began.desc()).limit(1)).first()
    if last is not None:
        began = datetime.fromtimestamp(last.began / 1e9, UTC)
        words = f"run {last.id}, {last.mode.lower()} on {last.network}, of {began:%Y-%m-%d %H:%M}"
        yield Check("last run", "ok", f"{words} {_ENDED.get(last.state, last.state)}")


def _unwritten() -> Check:
    """Count what no database has taken yet: in each file a header, and a row a line."""
    from bot.database.spill import REFUSED, directory

    rows = dict.fromkeys(("waiting", "refused"), 0)
    for file in directory().glob("*"):
        lines = file.read_bytes().count(b"\n") if file.is_file() else 0
        rows["refused" if file.suffix == REFUSED else "waiting"] += max(lines - 1, 0)
    if not any(rows.values()):
        return Check("unwritten", "ok", "no row waits for the database")
    seen = f"{rows['waiting']} rows wait in {directory()}, {rows['refused']} were refused"
    return Check("unwritten", "warning", seen, "the next run writes those that wait")


def _size_mb(engine: Any) -> float:
    from sqlalchemy import text

    from bot.database.tables import file_of

    file = file_of(engine.url)
    if file is None:
        with engine.connect() as connection:
            size = connection.execute(text("SELECT pg_database_size(current_database())"))
            return int(size.scalar_one()) / 1e6
    parts = (file, file.with_name(f"{file.name}-wal"))
    return sum(part.stat().st_size for part in parts if part.exists()) / 1e6  # integers

"""What only some systems have: limits and figures of a process, signals, and locks of files.

    resource (Unix) ──► memory_mb, peak_mb, file_limits
    fcntl (Unix) ──► lock: a file taken for as long as this process has it open
    a file of its owner alone ──► secret_of: what is in it, or why it is not safe there
    replacing ──► a file that is there once it is written whole, and as it was before until then
    sys ──► own_command: how this program is started once more
    importlib ──► absent: which extra is not installed, and what installs it

Recordings are played everywhere; a run that others must not join wants a system that locks files.
"""

import math
import mmap
import os
import signal
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from dydx_conn import ConnError

T = TypeVar("T")

try:
    import fcntl
    import resource
except ImportError:  # of Windows
    IS_UNIX = False
else:
    IS_UNIX = True


# How a file is opened that must not be a link to where somebody else may choose.
NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
# And how one is that may be a pipe into which nobody writes.
NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)


def memory_mb() -> float:
    """Return the memory this process holds now, in MiB; its peak where now is not known."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * mmap.PAGESIZE / 2**20
    except OSError:
        return peak_mb()


def peak_mb() -> float:
    """Return the most memory this process ever held, in MiB; no number where nobody counts it."""
    if not IS_UNIX:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def file_limits() -> tuple[float, float]:
    """Return how many files may be open, and to how many that may be raised."""
    if not IS_UNIX:
        return math.inf, math.inf
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = resource.RLIM_INFINITY
    return math.inf if soft == endless else soft, math.inf if hard == endless else hard


def raise_file_limit(soft: int) -> None:
    """Let so many files be open, as `file_limits` allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def secret_of(path: Path, most: int) -> bytes:
    """Return so many bytes at most of a file that nobody else may read, as a token's must be.

    `ConnError` where others may read it, or it is no file; `OSError` where it cannot be opened.
    """
    with open(os.open(path, os.O_RDONLY | NO_LINK | NO_WAIT), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ConnError(f"expected a file in {path}, got something else")
        if IS_UNIX and (found.st_mode & 0o077 or found.st_uid != os.getuid()):
            got = f"mode {found.st_mode & 0o777:o} of user {found.st_uid}"
            raise ConnError(f"expected {path} to be readable by you alone (chmod 600), got {got}")
        return file.read(most)


@contextmanager
def replacing(path: Path, mode: int = 0o600, *, on_disk: bool = False) -> Iterator[BinaryIO]:
    """Yield what is to take the place of a file: whole, or not at all whoever is killed meanwhile.

    `mode` is that of the new one; with `on_disk` no power cut takes it away either.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK, mode)
        with open(file, "wb") as out:
            yield out
            if on_disk:
                out.flush()
                os.fsync(out.fileno())
        beside.replace(path)
        if on_disk:
            _sync(path.parent)
    finally:
        with suppress(OSError):
            beside.unlink()


def _sync(directory: Path) -> None:
    """Put on the disk which files a directory has, where a system can."""
    with suppress(OSError):
        file = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def own_command() -> list[str]:
    """Return what starts this bot once more, before what is typed: an executable has no Python."""
    if getattr(sys, "frozen", False):
        return [sys.executable]
    return [sys.executable, "-m", "bot"]


# What each extra of the bot brings, by the names that are imported.
EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "api": ("fastapi", "starlette", "uvicorn", "websockets", "prometheus_client"),
    "web": ("plotly",),
    "notify": ("apprise",),
    "parquet": ("pyarrow",),
    "sweep": ("distributed", "optuna", "cmaes", "pyarrow"),
}


def absent(extra: str, wanted: str) -> str:
    """Return what is not installed of an extra that `wanted` needs, and what installs it; or ""."""
    lost = [name for name in EXTRAS[extra] if find_spec(name) is None]
    if not lost:
        return ""
    got = f"expected bot[{extra}] to be installed for {wanted}, got no {lost[0]}"
    return f"{got}: uv sync --all-extras (or pip install 'bot[{extra}]')"


def by_number(handlers: Mapping[str, T]) -> dict[int, T]:
    """Return by number what is named by a signal, of the signals that this system has."""
    known = signal.Signals.__members__
    return {known[name]: handler for name, handler in handlers.items() if name in known}


def lock(file: int) -> None:
    """Take an open file for this process alone; `BlockingIOError` where another one has it."""
    if not IS_UNIX:
        what = f"expected a system that locks files, as Linux and macOS, got {sys.platform}"
        raise ConnError(f"{what}: here recordings are played, nothing live")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

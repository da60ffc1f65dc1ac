"""Which bots run on this machine: each has a handle, a socket that only its owner reaches.

    directories ──► PID.sock ──► called? ──► running: by process number

What talks to one, and what it replies, is bot.live.handle.
"""

import os
import socket
from pathlib import Path
from typing import Final

from bot.run.acts import is_ours, state_directory

_PATIENCE_S: Final = 5.0  # of a caller: longer than a run takes to reply that it cannot


def directories() -> list[Path]:
    """Return where handles are, the best place first."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    runtime = Path(given) if given.startswith("/") else Path(f"/run/user/{os.getuid()}")
    found = [runtime / "dydx-bot"] if runtime.is_dir() else []
    return [*found, state_directory() / "run"]


def running() -> dict[int, Path]:
    """Return the handles of the bots that run, by their process's number."""
    found: dict[int, Path] = {}
    for directory in filter(is_ours, directories()):
        for path in sorted(directory.glob("*.sock")):
            if path.stem.isdecimal() and _is_there(path):
                found.setdefault(int(path.stem), path)
    return found


def _is_there(path: Path) -> bool:
    try:
        with called(path):
            return True
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)  # what a killed run left behind
        return False
    except OSError:
        return False


def called(path: Path) -> socket.socket:
    """Return a connection to a handle; `OSError` if nobody is there."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(_PATIENCE_S)
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection

"""Messages that are not sent yet: a file each, in a directory a sink, over any number of runs.

    Message ──► Spool.add ──► SINK/TIME-PID-N.json ──► Spool.oldest ──► the sink ──► remove
                 Flow ──► SINK/flow.PID.…: what was held back, for the next run

A file is written whole before anything is sent, so that a run which is killed loses nothing: at
worst a message is sent twice. Whoever holds the lock sends, in the order of the names; others leave
theirs to it. What cannot be read is set aside and named. Above `MOST` files the oldest are taken
together, and counted.
"""

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from dydx_conn import ConnError

from bot.database.spill import started
from bot.notify.notice import Message
from bot.notify.throttle import Flow
from bot.run.acts import private, state_directory
from bot.system import NO_LINK, lock, replacing

MOST: Final = 500
_MESSAGE: Final = ".json"
_DAMAGED: Final = ".damaged"
_REFUSED: Final = ".refused"
_FLOW: Final = "flow"


def directory() -> Path:
    """Return where the directories of all sinks are."""
    return state_directory() / "notices"


class Spool:
    """The messages of one sink; `aside` names the files that could not be read, or not be sent."""

    def __init__(self, sink: str) -> None:
        self.path = directory() / sink
        self.aside: list[Path] = []
        self._number, self._lock = 0, -1
        self._sent = set[Path]()
        self._taking, self._on_its_way = threading.Lock(), self.path

    def add(self, message: Message) -> Path:
        """Store a message behind all others; `OSError` or `ConnError` if that is not possible."""
        self._begin()
        self._number += 1
        # Numbers go on within a process, times from one to the next.
        name = f"{time.time_ns():020d}-{os.getpid()}-{self._number:06d}{_MESSAGE}"
        self._write(self.path / name, msgspec.json.encode(message))
        with contextlib.suppress(OSError):  # it is stored, and more than there should be
            self._bound()
        return self.path / name

    def waiting(self) -> list[Path]:
        """Return the files that wait, the oldest first."""
        try:
            # What begins with a point is not written to its end yet.
            return sorted({*self.path.glob(f"[!.]*{_MESSAGE}")} - self._sent)
        except OSError:
            return []

    def oldest(self, but: Path | None = None) -> tuple[Path, Message] | None:
        """Return the message that is sent next, `but` one; what cannot be read is set aside."""
        with self._taking:
            for path in self.waiting():
                if path != but and (message := self._read(path)) is not None:
                    self._on_its_way = path
                    return path, message
        return None

    def refuse(self, path: Path) -> None:
        """Set a message aside that the service does not take, though it takes others."""
        self._set_aside(path, _REFUSED)

    def remove(self, path: Path) -> None:
        """Remove a message that was sent; where the disk does not, it is not sent again by us."""
        try:
            path.unlink(missing_ok=True)
        except OSError:
            self._sent.add(path)

    # --- what was held back

    def leave(self, state: Flow) -> None:
        """Store what is held back, for whoever goes on; `OSError` if that is not possible."""
        self._begin()
        pid = os.getpid()
        self._write(self.path / f"{_FLOW}.{pid}.{started(pid)}", msgspec.json.encode(state))

    def held_back(self) -> int:
        """Return how many events runs hold back, those that go on and those that are over."""
        states = [_decoded(path) for path in sorted(self.path.glob(f"{_FLOW}.*"))]
        return sum(state.waiting for state in states if state is not None)

    def take(self) -> Flow:
        """Take what earlier runs held back, and when they sent, but of those that still go on."""
        found = Flow()
        for path in sorted(self.path.glob(f"{_FLOW}.*")):
            _, pid, began = path.name.split(".", 2)
            if pid != str(os.getpid()) and _runs(pid, began):
                continue
            if (state := _decoded(path)) is None:
                self._set_aside(path)
                continue
            found = _joined(found, state)
            path.unlink(missing_ok=True)
        return found

    # --- who sends

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the right to send for a while: True if this process has it."""
        if self._lock < 0:
            with contextlib.suppress(OSError, ConnError):
                self._begin()
                self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | NO_LINK, 0o600)
        if self._lock < 0:
            yield True  # nothing can be stored here, and so nobody else sends any of it
            return
        try:
            lock(self._lock)
        except (OSError, ConnError):
            yield False
            return
        yield True

    def close(self) -> None:
        """Let another process send."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # --- files

    def _begin(self) -> None:
        private(self.path.parent.parent)
        private(self.path.parent)
        private(self.path)

    def _write(self, path: Path, content: bytes) -> None:
        with replacing(path, on_disk=True) as file:
            file.write(content)

    def _read(self, path: Path) -> Message | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Message)
        except FileNotFoundError:
            return None  # somebody else has sent it
        except (OSError, msgspec.MsgspecError):
            self._set_aside(path)
            return None

    def _set_aside(self, path: Path, suffix: str = _DAMAGED) -> None:
        aside = path.with_name(path.name + suffix)
        with contextlib.suppress(OSError):
            path.replace(aside)
        self.aside.append(aside)

    def _bound(self) -> None:
        """Take the oldest together where there are too many; not what is on its way."""
        with self._taking:
            files = [path for path in self.waiting() if path != self._on_its_way]
            for older, newer in itertools.pairwise(files[: max(0, len(files) - MOST) + 1]):
                first, second = self._read(older), self._read(newer)
                if first is not None and second is not None:
                    omitted = first.count + first.omitted + second.omitted
                    together = msgspec.structs.replace(second, omitted=omitted)
                    self._write(newer, msgspec.json.encode(together))
                older.unlink(missing_ok=True)


def _decoded(path: Path) -> Flow | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Flow)
    except (OSError, msgspec.MsgspecError):
        return None


def _runs(pid: str, began: str) -> bool:
    """Return whether a process goes on: its number may be that of another one by now."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except OSError:
        pass  # of another user, and alive
    return started(int(pid)) == began


def _joined(one: Flow, other: Flow) -> Flow:
    """Return what two runs held back as that of one."""
    held = dict(one.held)
    for key, more in other.held.items():
        known = held.get(key)
        added = more if known is None else known.add(more.newest)
        if known is not None:
            added = msgspec.structs.replace(added, count=known.count + more.count)
        held[key] = added
    sent = tuple(sorted((*one.sent, *other.sent)))
    return Flow(max(one.at, other.at), sent, {**one.last, **other.last}, held)

"""Rows that no database would take: a file of them, until one does.

    rows ──► Spill.add ──► FILE.jsonl, on the disk ──► spilled(url) ──► the database, at last

A file a run, in the state directory: a header that names the database and the run, then a row a
line. Its writer holds it locked; what a killed one left behind is found by the next. A line that
was cut off is not a row.
"""

import contextlib
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bot.run.acts import private, state_directory
from bot.system import NO_LINK, lock

Row = dict[str, Any]
Named = tuple[str, Row]  # a row and its table

_PASSWORD: Final = re.compile(r"(://[^:/@]*):[^@]*@")
_AT_ONCE: Final = 500  # rows to hand back at a time
_SUFFIX: Final = ".jsonl"
IDENTITY: Final = ("began", "chain_id", "account", "process")  # what a run is known by
REFUSED: Final = ".refused"  # of rows that no database could hold: nobody tries again


class Header(msgspec.Struct, frozen=True):
    """The first line of a file: the run whose rows follow."""

    run: dict[str, Any]


class Spill:
    """The file of one run; it is made with the first row. `rows` are in it by now."""

    def __init__(self, database: str, run: Mapping[str, Any], suffix: str = _SUFFIX) -> None:
        # By dots: eighty letters without one would be taken for a secret, and the path is printed.
        name = re.sub(r"[\W_]+", ".", f"{run.get('began')} {run.get('process')}").strip(".")
        self.path = directory() / f"{named_after(database)}{name}{suffix}"
        self.rows = 0
        self._run, self._file = dict(run), -1

    def add(self, rows: Sequence[Named]) -> None:
        """Append rows, all or none, and wait for the disk; `OSError` if that is not possible."""
        if self._file < 0:
            self._begin()
        self._append([_line(row) for row in rows])
        self.rows += len(rows)

    def left(self) -> "SpilledRows":
        """Return what is in it, as of a run that is over."""
        return SpilledRows(self.path, os.dup(self._file))

    def remove(self) -> None:
        """Remove the file: all that is in it is in the database."""
        self.rows = 0
        if self._file >= 0:
            self.path.unlink(missing_ok=True)
            self.close()

    def close(self) -> None:
        """Let go of the file, and leave it to the next run."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _begin(self) -> None:
        private(self.path.parent)
        how = os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_LINK
        self._file = os.open(self.path, how, 0o600)
        try:
            lock(self._file)
            if not os.fstat(self._file).st_size:
                self._append([_line(Header(self._run))])
        except OSError:
            self.close()
            raise

    def _append(self, lines: Sequence[bytes]) -> None:
        size, text = os.fstat(self._file).st_size, b"".join(line + b"\n" for line in lines)
        try:
            while text:
                text = text[os.write(self._file, text) :]
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            raise


def _line(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=str)
    except (UnicodeError, OverflowError):  # half a character, from a text of somebody else
        return json.dumps(value, default=str).encode()


def directory() -> Path:
    """Return where the files are."""
    return state_directory() / "unwritten"


def named_after(database: str) -> str:
    """Return with what the names of files begin that wait for a database."""
    # The same with another password, and however a file is named.
    named = _PASSWORD.sub(r"\1@", database).removeprefix("sqlite:///")
    return hashlib.sha256(named.encode()).hexdigest()[:12] + "-"


def process() -> str:
    """Return what names this process among all of all machines: host, number, when it began."""
    return f"{socket.gethostname()} {os.getpid()} {started(os.getpid())}"


def started(pid: int) -> str:
    """Return when a process began, in ticks of its machine; "" if there is none."""
    try:
        # The name of a program may hold anything, brackets and blanks too.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


class SpilledRows:
    """A file that nobody writes any more; `run` is whose rows they are."""

    def __init__(self, path: Path, file: int) -> None:
        self.path, self._file = path, file
        os.lseek(file, 0, os.SEEK_SET)
        with open(os.dup(file), "rb") as lines:
            self.run = msgspec.json.decode(next(lines, b""), type=Header).run
        if not self.run.keys() >= {*IDENTITY}:
            raise msgspec.ValidationError(f"expected a run in {path}, got {[*self.run]}")

    def rows(self) -> Iterator[list[Named]]:
        """Yield the rows, some at a time."""
        os.lseek(self._file, 0, os.SEEK_SET)
        with open(os.dup(self._file), "rb") as lines:
            next(lines)
            some: list[Named] = []
            for line in lines:
                with contextlib.suppress(ValueError, TypeError):  # the run was killed in this line
                    table, row = json.loads(line)
                    some.append((table, row))
                if len(some) == _AT_ONCE:
                    yield some
                    some = []
            if some:
                yield some

    def remove(self, refused: Sequence[Named] = ()) -> None:
        """Remove it: all is in the database but what no database could hold, which is put aside."""
        if refused:
            aside = os.O_WRONLY | os.O_CREAT | os.O_APPEND | NO_LINK
            with open(os.open(self.path.with_suffix(REFUSED), aside, 0o600), "wb") as file:
                file.writelines(_line(row) + b"\n" for row in refused)
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)


@contextlib.contextmanager
def spilled(database: str) -> Iterator[list[SpilledRows]]:
    """Hold what earlier runs could not write to a database, oldest first."""
    with contextlib.ExitStack() as stack:
        found: list[SpilledRows] = []
        for path in sorted(directory().glob(f"{named_after(database)}*{_SUFFIX}")):
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                file = os.open(path, os.O_RDWR | NO_LINK)
                stack.callback(os.close, file)
                lock(file)
                if path.exists():  # nobody has taken it meanwhile
                    found.append(SpilledRows(path, file))
        yield found

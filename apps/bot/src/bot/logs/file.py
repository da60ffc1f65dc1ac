"""The files of a log: lines are appended to one, and it is renamed when it has grown.

    append ─► FILE, of its owner alone ── max_bytes ──► FILE.1 ──► … ──► FILE.N ──► removed

What somebody else renames or removes (logrotate) begins again under its name, and a line that a
full disk cut off goes on where it ended. Nothing is lost silently: `append` returns how much of it
is in the file, and `error` has why it is not all.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dydx_conn import ConnError

from bot.system import IS_UNIX, NO_LINK, NO_WAIT, lock

_HOW: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_LINK | NO_WAIT
_OURS: Final = stat.S_IRUSR | stat.S_IWUSR


class LogFile:
    """One log, open until `close`; `ConnError` where it cannot be, or another bot writes it."""

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        self.path, self.error = path, ""
        self._most, self._backups = max_bytes, backups
        self._file, self._size = -1, 0
        self._rest = self._line = b""  # what is missing of a line that was cut off, and all of it
        try:
            self._open()
        except OSError as error:
            raise ConnError(f"expected to write a log to {path}, got {_words(error)}") from None

    def append(self, lines: Sequence[bytes]) -> int:
        """Append lines in order; return how many are in: fewer than all where `error` says why."""
        done, self.error = 0, ""
        try:
            self._follow()
            while self._rest or done < len(lines):
                if not self._rest and self._size and self._size + len(lines[done]) > self._most:
                    self._rotate()
                done += self._write(lines[done:])
        except OSError as error:
            self.error = _words(error)
        except ConnError as error:
            self.error = str(error)
        return done

    def close(self) -> None:
        """Close it; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, lines: Sequence[bytes]) -> int:
        """Write what fits into this file, at once; return how many lines of it are taken."""
        size, count = self._size + len(self._rest), 0
        while count < len(lines) and (size + len(lines[count]) <= self._most or size == 0):
            size += len(lines[count])
            count += 1
        before = len(self._rest)
        left = os.write(self._file, self._rest + b"".join(lines[:count]))
        self._size += left
        self._rest, left = self._rest[left:], max(left - before, 0)
        if self._rest:
            return 0
        for n, line in enumerate(lines[:count]):
            if left < len(line):
                if left:
                    self._rest, self._line = line[left:], line
                return n + bool(left)
            left -= len(line)
        return count

    def _open(self) -> None:
        file = os.open(self.path, _HOW, _OURS)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise ConnError(f"expected a file for a log, got {self.path}, which is none")
            if IS_UNIX:
                _lock(file, self.path)
                os.fchmod(file, _OURS)
            if self._rest:
                self._rest = self._line  # its beginning is in another file
            # Of whoever was killed in the middle of a line.
            if found.st_size:
                os.lseek(file, -1, os.SEEK_END)
                if os.read(file, 1) != b"\n":
                    os.write(file, b"\n")
        except (OSError, ConnError):
            os.close(file)
            raise
        self._file, self._size = file, found.st_size

    def _follow(self) -> None:
        """Open it again where the name is another file's by now, or nobody's."""
        if self._file >= 0:
            ours = os.fstat(self._file)
            try:
                named = os.stat(self.path, follow_symlinks=False)
            except FileNotFoundError:
                named = None
            if named is not None and (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino):
                self._size = ours.st_size  # or somebody has cut it off
                return
            self.close()
        self._open()

    def _rotate(self) -> None:
        self.close()  # some systems rename no file that is open
        numbered = [self.path.with_name(f"{self.path.name}.{n}") for n in range(self._backups + 1)]
        numbered[0] = self.path
        for older, newer in zip(numbered[:0:-1], numbered[-2::-1], strict=True):
            if newer.exists():
                newer.replace(older)
        if not self._backups:
            self.path.unlink()
        self._open()


def _lock(file: int, path: Path) -> None:
    try:
        lock(file)
    except BlockingIOError:
        what = f"expected a log that no other bot writes, got {path}"
        raise ConnError(f"{what}: --log FILE is another one") from None


def _words(error: OSError) -> str:
    return error.strerror or str(error)

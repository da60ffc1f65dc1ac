"""The files of a log: whatever happens to them, each line is in one of them, whole and once."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bot.logs.file import LogFile
from dydx_conn import ConnError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a log is to be."""
    return tmp_path / "bot.jsonl"


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[..., LogFile]]:
    """Return what opens a log there; it is closed at the end."""
    made: list[LogFile] = []

    def open_(most: int = 1_000_000, backups: int = 3) -> LogFile:
        made.append(LogFile(path, most, backups))
        return made[-1]

    yield open_
    for one in made:
        one.close()


def numbered(first: int, count: int) -> list[bytes]:
    """Return lines of ten bytes, each with its number."""
    return [b"%09d\n" % n for n in range(first, first + count)]


def test_lines_are_appended_to_a_file_of_its_owner_alone(
    path: Path, opened: Callable[..., LogFile]
) -> None:
    """Below what is there; the modes that it had are no matter."""
    path.write_bytes(b"before\n")
    path.chmod(0o644)

    done = opened().append(numbered(1, 2))

    assert path.read_bytes() == b"before\n000000001\n000000002\n"
    assert (done, stat.S_IMODE(path.stat().st_mode)) == (2, 0o600)


@pytest.mark.parametrize("backups", [0, 1, 3])
def test_files_rotate_by_size_and_are_bounded_in_number(
    path: Path, opened: Callable[..., LogFile], backups: int
) -> None:
    """The newest lines stand in FILE, those before in FILE.1, and so on; the oldest are removed."""
    log = opened(50, backups)

    for first in range(0, 100, 20):
        assert log.append(numbered(first, 20)) == 20

    files = [path, *(path.with_name(f"bot.jsonl.{n}") for n in range(1, backups + 1))]
    assert sorted(path.parent.iterdir()) == sorted(files)
    text = b"".join(file.read_bytes() for file in reversed(files))
    assert text == b"".join(numbered(100 - 5 * (backups + 1), 5 * (backups + 1)))
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_line_that_no_file_can_hold_has_one_of_its_own(
    path: Path, opened: Callable[..., LogFile]
) -> None:
    """It is not lost, and not cut."""
    log = opened(50, 3)

    log.append([b"a\n", b"b" * 99 + b"\n", b"c\n"])

    found = [path.with_name(f"bot.jsonl{end}").read_bytes() for end in (".2", ".1", "")]
    assert found == [b"a\n", b"b" * 99 + b"\n", b"c\n"]


@pytest.mark.parametrize("by", ["rename", "unlink", "truncate"])
def test_what_somebody_else_rotates_begins_again_under_its_name(
    path: Path, opened: Callable[..., LogFile], by: str
) -> None:
    """As logrotate does it, in each of its ways."""
    log, other = opened(), path.with_name("old")
    log.append(numbered(1, 1))
    acts: dict[str, Callable[[], object]] = {
        "rename": lambda: path.rename(other),
        "unlink": path.unlink,
        "truncate": lambda: os.truncate(path, 0),
    }

    acts[by]()
    log.append(numbered(2, 1))

    assert path.read_bytes() == b"000000002\n"
    assert not other.exists() or other.read_bytes() == b"000000001\n"


def test_two_bots_do_not_write_one_log(path: Path, opened: Callable[..., LogFile]) -> None:
    """Each would rename the other's files; the words name the way out."""
    opened()

    with pytest.raises(ConnError, match=r"no other bot writes, got .*: --log FILE is another one"):
        opened()


def test_a_log_that_somebody_put_in_its_place_meanwhile_is_not_shared(
    path: Path, opened: Callable[..., LogFile]
) -> None:
    """The name was given away, and its new owner has it locked."""
    log = opened()
    path.unlink()
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(file, fcntl.LOCK_EX)

    try:
        assert log.append(numbered(1, 1)) == 0
        assert "that no other bot writes" in log.error
    finally:
        os.close(file)
    assert log.append(numbered(1, 1)) == 1
    assert not log.error


@pytest.mark.parametrize("what", ["directory", "link", "pipe", "nowhere"])
def test_what_is_no_file_is_refused_with_its_name(path: Path, what: str) -> None:
    """A link leads where somebody else may choose, and a pipe waits for a reader."""
    makes: dict[str, Callable[[], object]] = {
        "directory": path.mkdir,
        "link": lambda: path.symlink_to(path.with_name("elsewhere")),
        "pipe": lambda: os.mkfifo(path),
        "nowhere": lambda: None,
    }
    makes[what]()

    with pytest.raises(ConnError, match=r"expected (to write a|a file for a) log.*bot.jsonl"):
        LogFile(path / "bot.jsonl" if what == "nowhere" else path, 1_000_000, 3)


class Disk:
    """Takes so many bytes of the next writes, and refuses what is beyond them."""

    def __init__(self, room: int) -> None:
        self.room, self._write = room, os.write

    def __call__(self, file: int, text: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = self._write(file, text[: self.room])
        self.room -= done
        return done


@pytest.mark.parametrize("room", range(31))
def test_a_disk_that_is_full_cuts_no_line_for_ever(
    path: Path, opened: Callable[..., LogFile], monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """What was cut off goes on where it ended, and what was not taken is appended again."""
    log, disk, lines = opened(), Disk(room), numbered(1, 3)
    monkeypatch.setattr("bot.logs.file.os.write", disk)

    done = log.append(lines)
    error = log.error
    disk.room = 1_000
    rest = log.append(lines[done:])

    assert error == ("" if room >= 30 else "No space left on device")
    assert (done + rest, log.error) == (3, "")
    assert path.read_bytes() == b"".join(lines)


def test_a_line_that_was_cut_off_in_a_file_that_is_gone_is_whole_in_the_next(
    path: Path, opened: Callable[..., LogFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a line is no line."""
    log, disk, other = opened(), Disk(15), path.with_name("old")
    monkeypatch.setattr("bot.logs.file.os.write", disk)
    done = log.append(numbered(1, 2))

    path.rename(other)
    disk.room = 4
    assert log.append([]) == 0
    disk.room = 1_000
    log.append(numbered(3, 1))

    assert (done, other.read_bytes()) == (2, b"000000001\n00000")
    assert path.read_bytes() == b"000000002\n000000003\n"


def test_a_line_that_a_kill_cut_off_ends_where_the_next_run_begins(
    path: Path, opened: Callable[..., LogFile]
) -> None:
    """Whoever reads line by line loses that one alone."""
    path.write_bytes(b"whole\nha")

    opened().append(numbered(1, 1))

    assert path.read_bytes() == b"whole\nha\n000000001\n"


def test_files_that_cannot_be_renamed_are_an_error_and_no_loss(
    path: Path, opened: Callable[..., LogFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that cannot be bounded does not grow; it goes on once it can."""
    log = opened(20, 1)
    log.append(numbered(1, 2))

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refused)
        assert (log.append(numbered(3, 1)), log.error) == (0, "Permission denied")
    assert log.append(numbered(3, 1)) == 1

    assert path.with_name("bot.jsonl.1").read_bytes() == b"".join(numbered(1, 2))
    assert path.read_bytes() == b"".join(numbered(3, 1))


def test_no_file_is_left_open_by_one_that_is_closed(path: Path) -> None:
    """A second call does nothing."""
    log = LogFile(path, 1_000_000, 1)
    log.close()
    log.close()

    LogFile(path, 1_000_000, 1).close()

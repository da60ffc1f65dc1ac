"""Messages that wait on the disk: whole, in order, private, bounded, and over runs."""

import os
from pathlib import Path

import bot.notify.spool
import pytest
from bot.database.spill import started
from bot.notify.notice import Held, Message, Notice
from bot.notify.spool import MOST, Spool
from bot.notify.throttle import Flow
from dydx_conn import ConnError


def message(title: str = "x", **given: int) -> Message:
    """Return a message."""
    return Message(at=1, level="info", title=title, body="words", **given)


def titles(spool: Spool) -> list[str]:
    """Send all that waits, and return its titles."""
    found = list[str]()
    while (oldest := spool.oldest()) is not None:
        found.append(oldest[1].title)
        spool.remove(oldest[0])
    return found


def test_messages_wait_in_order_for_whoever_comes_next() -> None:
    """Readable by their owner alone."""
    spool = Spool("phone")
    paths = [spool.add(message(str(n))) for n in range(12)]

    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    assert spool.path.stat().st_mode & 0o777 == 0o700
    assert titles(Spool("phone")) == [str(n) for n in range(12)]


def test_what_is_not_written_to_its_end_is_no_message() -> None:
    """Nor is what else lies there."""
    spool = Spool("phone")
    spool.add(message("whole"))
    (spool.path / ".00000000000000000001-1-000001.json").write_text("{")
    (spool.path / "notes.txt").write_text("mine")

    assert titles(spool) == ["whole"]
    assert spool.aside == []


def test_a_damaged_file_is_set_aside_and_named() -> None:
    """And holds up nothing."""
    spool = Spool("phone")
    first = spool.add(message("first"))
    spool.add(message("second"))
    first.write_bytes(b'{"at": "yesterday"}')

    assert titles(spool) == ["second"]
    assert spool.aside == [Path(f"{first}.damaged")]
    assert spool.aside[0].read_bytes() == b'{"at": "yesterday"}'


def test_too_many_are_taken_together_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the oldest on, but for the one that is on its way; nothing is lost from the count."""
    monkeypatch.setattr(bot.notify.spool, "MOST", 5)
    spool = Spool("phone")
    spool.add(message("on its way"))
    on_its_way = spool.oldest()
    for n in range(20):
        spool.add(message(str(n), count=2))

    assert on_its_way is not None
    assert MOST > len(spool.waiting()) == 6
    left = [spool._read(path) for path in spool.waiting()]
    assert [one.title for one in left if one] == ["on its way", *map(str, range(15, 20))]
    assert sum(one.count + one.omitted for one in left if one) == 1 + 20 * 2


def test_one_process_sends_and_others_leave_theirs_to_it() -> None:
    """Until it ends; it may hold the right twice."""
    one, other = Spool("phone"), Spool("phone")

    with one.held() as ours, one.held() as again, other.held() as theirs:
        assert (ours, again, theirs) == (True, True, False)
    one.close()
    with other.held() as theirs:
        assert theirs
    other.close()
    other.close()


def test_what_was_held_back_is_for_the_next_run() -> None:
    """That of several is taken together; that of one that goes on is its own."""
    notice = Notice(kind="order", subject="X", at=3, level="warning", title="rejected")
    spool = Spool("phone")
    spool.leave(Flow(9, (5,), {"order X": 7}, {"order X": Held(2, 4, notice)}))
    ours = next(spool.path.glob("flow.*"))
    (spool.path / "flow.999999.1").write_bytes(ours.read_bytes())  # of a process that is gone
    (spool.path / "flow.999998.1").write_text("no state")
    (spool.path / f"flow.{os.getppid()}.0").write_bytes(ours.read_bytes())  # another one by now

    found = spool.take()

    assert (found.at, found.sent, found.waiting) == (9, (5, 5, 5), 12)
    assert [path.name for path in spool.aside] == ["flow.999998.1.damaged"]
    assert spool.take() == Flow()


def test_a_run_that_goes_on_keeps_what_it_holds_back() -> None:
    """It will send it."""
    spool = Spool("phone")
    spool.leave(Flow(9))
    mine = next(spool.path.glob("flow.*"))
    pid = os.getppid()
    theirs = mine.with_name(f"flow.{pid}.{started(pid)}")
    mine.replace(theirs)

    assert spool.take() == Flow()
    assert theirs.exists()


def test_a_directory_of_somebody_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written where others could read or choose."""
    monkeypatch.setattr(bot.notify.spool, "private", refusing)
    spool = Spool("phone")

    with pytest.raises(ConnError):
        spool.add(message())
    with spool.held() as ours:
        assert ours  # what is in memory is sent all the same
    assert spool.waiting() == []


def refusing(path: Path) -> Path:
    """Refuse a directory as `private` does."""
    raise ConnError(f"expected {path} to be a directory of ours alone")

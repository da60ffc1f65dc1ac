"""What a log has lines of, and that no run waits for it, is changed by it, or shown a secret."""

import errno
import json
import logging
import os
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import pytest
from bot.__main__ import main
from bot.config.loaded import load
from bot.logs import events, writer
from bot.logs.aside import Reported
from bot.logs.errors import Repeated
from bot.logs.events import DEBUG, EVENTS, INFO, WARNING, Line, entry_line
from bot.logs.file import LogFile
from bot.logs.run import Logs, default_log, logged
from bot.logs.writer import LogWriter
from bot.outlet import guarded
from bot.report.report import report_of
from bot.run.composition import Bot, Options
from bot.run.journal import JournalEntry
from dydx_conn import (
    NETWORKS,
    ConnError,
    Frame,
    Inbox,
    OrderState,
    Recording,
    Subaccount,
    find_recording,
    redact,
)
from dydx_conn import Status as OrderStatus
from leaks import plant
from reactivex import from_iterable
from runbook import is_in, pages

MNEMONIC = plant("legal winner thank year wave sausage worth useful legal winner thank yellow")
HEX = plant("5a" * 32)
HASH = "7c" * 32
RUN_FIELDS = ("ts", "wall", "level", "event", "run")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a log is to be."""
    return tmp_path / "log" / "bot.jsonl"


@pytest.fixture
def begun(path: Path) -> Iterator[Callable[..., LogWriter]]:
    """Return what begins a log; each is closed at the end."""
    made: list[LogWriter] = []
    path.parent.mkdir()

    def begin(level: int = INFO, *, starts: bool = True, **how: Any) -> LogWriter:
        made.append(LogWriter(LogFile(path, 10**6, 3), "r1", level=level, **how))
        if starts:
            made[-1].start()
        return made[-1]

    yield begin
    for one in made:
        one.close()


def rows(path: Path) -> list[dict[str, Any]]:
    """Read a log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def line(event: str = "message", **fields: Any) -> Line:
    """Return a line of one time."""
    return Line(event=event, at=1_700_000_000_123_456_789, wall=10**18, fields=fields)


# === Lines ===


def test_a_line_is_json_with_its_times_level_event_and_run_first(
    path: Path, begun: Callable[..., LogWriter]
) -> None:
    """In UTC, to the microsecond."""
    log = begun()
    log.put(line("trouble", who="disk", words="full"))
    log.close()

    assert path.read_text() == (
        '{"ts":"2023-11-14T22:13:20.123456Z","wall":"2001-09-09T01:46:40.000000Z","level":"error",'
        '"event":"trouble","run":"r1","who":"disk","words":"full"}\n'
    )
    assert log.figures() == {"written": 1, "waiting": 0, "dropped": 0}


@pytest.mark.parametrize("secret", [MNEMONIC, HEX, f"password={HEX[:12]}"])
@pytest.mark.parametrize(
    "place",
    [
        lambda secret: {"words": f"got {secret}"},
        lambda secret: {"words": "x" * 19_990 + secret},
        lambda secret: {"changes": {"account.keys": secret}},
        lambda secret: {"changes": {secret: 1}},
        lambda secret: {"markets": ["BTC-USD", [secret]]},
        lambda secret: {"reason": secret},
    ],
)
def test_no_secret_comes_into_a_log(
    path: Path, begun: Callable[..., LogWriter], secret: str, place: Any
) -> None:
    """Wherever it stands; and people see no more than the file does."""
    people = StringIO()
    log = begun(human=people)
    log.put(line("trouble", **place(secret)))
    log.close()

    for text in (path.read_text(), people.getvalue()):
        assert "2023-11-14T22:13:20" in text
        assert secret not in text
        assert "winner thank" not in text
        assert HEX[:12] not in text


def test_a_hash_is_no_secret_and_a_line_break_makes_no_line(
    path: Path, begun: Callable[..., LogWriter]
) -> None:
    """What is called a hash is as public as the run is."""
    log = begun()
    log.put(line("run_ended", run_hash=HASH, words="a\nb\x1b[31m\u202ec"))
    log.close()

    [row] = rows(path)
    assert (row["run_hash"], row["words"]) == (HASH, "a?b?[31m?c")


def test_what_is_below_the_level_is_not_written(
    path: Path, begun: Callable[..., LogWriter]
) -> None:
    """An event has its level unless its line has another."""
    log = begun(level=WARNING)
    for event in ("fill", "gate"):
        log.put(line(event))
    log.put(Line(event="gate", at=0, wall=0, level=INFO))
    log.close()

    assert [row["event"] for row in rows(path)] == ["gate"]


def test_people_get_columns_and_not_what_stderr_has_already(
    begun: Callable[..., LogWriter],
) -> None:
    """A warning stands there by itself."""
    people = StringIO()
    log = begun(human=people)
    log.put(line("fill", ticker="BTC-USD"))
    log.put(line("warning", words="twice"))
    log.close()

    assert people.getvalue().split() == [
        "2023-11-14T22:13:20.123456Z", "[info", "]", "fill", "ticker=BTC-USD",
    ]  # fmt: skip


def test_people_who_went_away_end_nothing(path: Path, begun: Callable[..., LogWriter]) -> None:
    """The file goes on."""
    people = StringIO()
    people.close()
    log = begun(human=people)
    log.put(line("fill"))
    log.put(line("fill"))
    log.close()

    assert len(rows(path)) == 2


def test_every_event_is_in_the_table_of_the_fields() -> None:
    """With the statuses and the kinds that there are."""
    assert events.__doc__ is not None
    assert [name for name in EVENTS if name not in events.__doc__] == []
    assert {*get_args(OrderStatus)} == {*events._ORDER_EVENTS}
    assert {*events._ORDER_EVENTS.values()} <= {*EVENTS}


@pytest.mark.parametrize("status", get_args(OrderStatus))
def test_an_order_has_an_event_for_each_status(status: Any) -> None:
    """With its reason; what is not known of it is left out."""
    state = OrderState(id="abc", status=status, reason="POST_ONLY", seq=7)
    entry = JournalEntry(
        id="O1", kind="order", seq=7, at=1, ticker="", words="w", value=state, parent="V1"
    )

    found = entry_line(entry, 2)

    assert found is not None
    assert found.event.startswith("order_")
    assert found.severity == (WARNING if status in ("REJECTED", "UNRESOLVED") else INFO)
    assert found.fields == {
        "seq": 7, "id": "O1", "words": "w", "parent": "V1", "order_id": "abc", "status": status,
        "reason": "POST_ONLY",
    }  # fmt: skip


def test_an_act_that_stops_is_a_warning_and_a_reload_has_what_changed() -> None:
    """And the note of one that was refused has who it was."""

    def of(who: str, what: str, text: str) -> tuple[str, int, Any]:
        act = Frame(1, 1, 1, who, "act", text, what)
        entry = JournalEntry(id="A1", kind="act", seq=1, at=1, ticker="", words="w", value=act)
        found = entry_line(entry, 2)
        assert found is not None
        return found.event, found.severity, found.fields.get("changes", found.fields.get("who"))

    assert of("key", "halt", "x") == ("act", WARNING, "key")
    assert of("key", "resume", "x") == ("act", INFO, "key")
    assert of("file", "reload", '{"policy.max_leverage":2}') == (
        "reload", INFO, {"policy.max_leverage": 2},
    )  # fmt: skip
    assert of("file", "reload", "{") == ("reload", INFO, "file")
    assert of("file", "refuse", "nothing changes") == ("reload_refused", WARNING, "file")


# === Errors ===


def failed(at_s: float, text: str = "HTTP 503") -> Frame:
    """Return a connection that closes."""
    return Frame(1, int(at_s * 1e9), 1, "c1", "close", text, "1012")


def test_the_first_of_an_error_class_has_a_line_and_the_others_are_counted() -> None:
    """By the minute; one that did not come for a minute is new again."""
    found = Repeated()

    def events_at(*times: float) -> list[tuple[str, Any]]:
        made = [one for at in times for one in found.note(failed(at))]
        return [(one.event, one.fields.get("count")) for one in made]

    assert events_at(60, 61, 62) == [("error", None)]
    assert events_at(121, 122) == [("errors", 2)]
    assert [one.fields["count"] for one in found.over(int(180e9))] == [2]
    assert [*found.over(int(181e9))] == []
    assert [*found.over(int(240e9))] == []
    assert events_at(241) == [("error", None)]
    assert [*found.rest(0)] == []


def test_a_storm_of_endpoints_is_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many of them in a minute."""
    monkeypatch.setattr("bot.logs.errors._MOST", 2)
    found = Repeated()
    made = [
        one for n in range(9) for one in found.note(Frame(1, 1, 1, f"c{n}", "close", "x", "1012"))
    ]

    assert [one.fields["endpoint"] for one in made] == ["c0", "c1", "others"]
    assert [one.fields["count"] for one in found.rest(1)] == [6]


# === Queue ===


def test_a_live_run_never_waits_and_what_does_not_fit_is_counted(
    path: Path, begun: Callable[..., LogWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log itself has how many lines those were."""
    monkeypatch.setattr(writer, "MOST", 3)
    log = begun(starts=False)
    for n in range(10):
        log.put_run(line(n=n))
    log.start()
    log.close()

    assert [(row["event"], row.get("n", row.get("count"))) for row in rows(path)] == [
        ("lines_dropped", 7), ("message", 0), ("message", 1), ("message", 2),
    ]  # fmt: skip
    assert log.figures() == {"written": 4, "waiting": 0, "dropped": 7}


def test_a_replay_waits_for_its_log(
    path: Path, begun: Callable[..., LogWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loses no line, however small the room is."""
    monkeypatch.setattr(writer, "MOST", 3)
    log = begun(waits=True)
    for n in range(200):
        log.put_run(line(n=n))
    log.close()

    assert [row["n"] for row in rows(path)] == [*range(200)]


def test_a_replay_does_not_wait_for_a_thread_that_is_gone(
    begun: Callable[..., LogWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where something in it went wrong."""
    monkeypatch.setattr(writer, "MOST", 1)
    log = begun(waits=True, starts=False)
    for _ in range(3):
        log.put_run(line())

    assert log.dropped == 2


def test_a_line_that_cannot_be_made_ends_no_other(
    path: Path, begun: Callable[..., LogWriter]
) -> None:
    """It is a line about itself."""
    log = begun()
    entry = JournalEntry(id="O1", kind="order", seq=1, at=1, ticker="", words="", value=None)
    log.put((entry, 1))
    log.put(line())
    log.close()

    first, second = rows(path)
    assert first["event"] == "trouble"
    assert "expected a line of the log, got AttributeError" in first["words"]
    assert second["event"] == "message"


class Disk:
    """Refuses to write until there is room."""

    def __init__(self) -> None:
        self.room, self.refused, self._write = threading.Event(), threading.Event(), os.write

    def __call__(self, file: int, text: bytes) -> int:
        if self.room.is_set():
            return self._write(file, text)
        self.refused.set()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_a_trouble_until_there_is_room(
    path: Path, begun: Callable[..., LogWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay does not wait for it, nothing is lost that fits, and the log says what was."""
    disk = Disk()
    monkeypatch.setattr("bot.logs.file.os.write", disk)
    monkeypatch.setattr(writer, "_RETRY_S", [0.01] * 9)
    monkeypatch.setattr(writer, "MOST", 5)
    log = begun(waits=True)
    log.put_run(line(n=0))
    assert disk.refused.wait(10.0)

    while not log.trouble:  # a moment
        disk.refused.wait(0.001)
    trouble = log.trouble
    for n in range(1, 9):
        log.put_run(line(n=n))
    disk.room.set()
    log.close()

    assert trouble == f"expected to write the log {path}, got No space left on device"
    assert any(is_in(words, trouble) for words in pages()["Lost disk"].shows)
    assert log.trouble == ""
    found: list[tuple[str, Any]]
    found = [(row["event"], row.get("n", row.get("count"))) for row in rows(path)]
    assert found[:2] == [("message", 0), ("log_resumed", None)]
    assert found[2][0] == "lines_dropped"
    assert found[3:] == [("message", n) for n in range(1, 1 + len(found) - 3)]
    assert found[2][1] + len(found) - 3 == 8


def test_a_log_that_stays_full_ends_within_its_time(
    begun: Callable[..., LogWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits then is counted."""
    monkeypatch.setattr("bot.logs.file.os.write", Disk())
    log = begun()
    log.put(line())
    log.close(0.2)

    assert log.dropped == 1
    assert log.trouble.endswith("got No space left on device: 1 lines were dropped")


# === A run ===


def ran(path: Path, frames: list[Frame], level: str = "info") -> tuple[Bot, list[dict[str, Any]]]:
    """Run a bot on frames beside its log; return it, and the rows."""
    loaded = load({"log.file": ("--log", str(path)), "log.level": ("--log-level", level)})
    bot = Bot(Options(config=loaded))
    arguments = Namespace(loaded=loaded)
    [log] = logged(arguments, bot, NETWORKS["local"], mode="paper", human=False)
    assert isinstance(log, Logs)
    log.begin(Inbox())
    for frame in frames:
        log.note(frame)
    try:
        bot.run(from_iterable(frames))
    finally:
        log.end()
    return bot, rows(path)


@pytest.fixture(scope="module")
def some() -> list[Frame]:
    """Return the beginning of the bundled recording."""
    return [*islice(Recording(find_recording("quickstart")), 1_000)]


def test_a_run_is_logged_from_its_beginning_to_its_hash(tmp_path: Path, some: list[Frame]) -> None:
    """Connections, verdicts, orders, fills with what caused them; the hash is that without a log."""
    bare = Bot(Options())
    bare.run(from_iterable(some))

    bot, found = ran(tmp_path / "bot.jsonl", some)

    first, *_, last = found
    assert bot.journal.hash == bare.journal.hash == last["run_hash"]
    assert (first["event"], last["event"]) == ("run_began", "run_ended")
    assert (first["network"], first["chain"]) == ("local", "localdydxprotocol")
    assert {tuple(row)[:5] for row in found} == {RUN_FIELDS}
    assert {row["event"] for row in found} == {
        "run_began", "connection", "gate", "verdict_approved", "order_open", "order_filled",
        "fill", "run_ended",
    }  # fmt: skip
    fill = next(row for row in found if row["event"] == "fill")
    order = next(row for row in found if row.get("id") == fill["parent"])
    assert order["order_id"] == fill["order_id"]
    assert last["fills"] == bot.journal.counts["fill"]
    assert bot.shown.log == str(tmp_path / "bot.jsonl")
    assert report_of(bot, name="x")["log"] == bot.shown.log


def test_decisions_are_logged_where_everything_is(tmp_path: Path, some: list[Frame]) -> None:
    """At the lowest level alone: they are many."""
    bot, found = ran(tmp_path / "bot.jsonl", some, "debug")

    decisions = [row["id"] for row in found if row["event"] == "decision"]
    assert decisions == [entry.id for entry in bot.journal.of_kind("decision")]


def test_the_level_may_change_while_a_run_goes(tmp_path: Path, some: list[Frame]) -> None:
    """By a reload, which is an act as any other."""
    loaded = load({"log.file": ("--log", str(tmp_path / "x")), "log.level": ("", "error")})
    bot = Bot(Options(config=loaded))
    [log] = logged(Namespace(loaded=loaded), bot, NETWORKS["local"], mode="paper", human=False)
    assert isinstance(log, Logs)
    bot.options = bot.options.changed({"log.level": "debug"}, bot.scorer.names, "file")

    log.note(some[0])

    assert log.writer.level == DEBUG
    log.writer.close()


def test_a_trouble_has_one_line_though_it_is_printed_as_well(
    tmp_path: Path, some: list[Frame]
) -> None:
    """What was printed before the run began stands in its log; other words of stderr do not."""
    loaded = load({"log.file": ("--log", str(tmp_path / "bot.jsonl"))})
    bot = Bot(Options(config=loaded))
    with guarded():
        sys.stderr.write("bot: warning: before it\n")
        sys.stderr.write("something else\n")
        [log] = logged(Namespace(loaded=loaded), bot, NETWORKS["local"], mode="paper", human=False)
        log.begin(Inbox())
        bot.shown.troubles["recorder"] = "no room"
        sys.stderr.write("bot: warning: no room\n")
        sys.stderr.write("bot: a message")
        sys.stderr.write(" in two parts\n")
        log.note(some[0])
        log.note(some[0])
        log.end()
        sys.stderr.write("bot: after it\n")

    found = [(row["event"], row.get("words")) for row in rows(tmp_path / "bot.jsonl")]
    assert found == [
        ("warning", "before it"), ("run_began", None), ("message", "a message in two parts"),
        ("trouble", "no room"), ("run_ended", None),
    ]  # fmt: skip


def test_a_run_that_ends_by_a_bug_has_it_in_its_last_line(
    tmp_path: Path, some: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an error: whoever looks for those finds why the bot is gone."""

    def failing(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("bot.run.journal.Journal._filled", failing)
    path = tmp_path / "bot.jsonl"

    with pytest.raises(RuntimeError):
        ran(path, some)

    last = rows(path)[-1]
    assert (last["event"], last["level"]) == ("run_ended", "error")
    assert last["error"] == "RuntimeError: a bug"


def test_what_a_library_reports_goes_into_the_log_alone(
    tmp_path: Path, some: list[Frame], capsys: pytest.CaptureFixture[str]
) -> None:
    """From warning on, with what it caught, and without secrets."""
    loaded = load({"log.file": ("--log", str(tmp_path / "bot.jsonl"))})
    bot = Bot(Options(config=loaded))
    [log] = logged(Namespace(loaded=loaded), bot, NETWORKS["local"], mode="paper", human=False)
    log.begin(Inbox())
    library = logging.getLogger("some.library")
    library.info("not this")
    library.warning("expected %s", "a number")
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Reported):
            handler.handle(logging.makeLogRecord({"msg": "%s %d", "args": ("x",), "levelno": 50}))
    try:
        raise ValueError("6e" * 32)
    except ValueError:
        library.exception("it failed")
    log.end()
    library.warning("after the run")

    found = [row for row in rows(tmp_path / "bot.jsonl") if row["event"] == "library"]
    assert [(row["level"], row["logger"], row["words"]) for row in found] == [
        ("warning", "some.library", "expected a number"), ("error", None, "%s %d"),
        ("error", "some.library", "it failed"),
    ]  # fmt: skip
    assert found[2]["error"] == "ValueError: [redacted]"
    assert "expected a number" not in capsys.readouterr().err


def test_where_none_was_chosen_an_account_has_one_in_the_state_directory() -> None:
    """Of its own, private; two runs of it stand in one file."""
    loaded = load()
    bot = Bot(Options(config=loaded))
    path = default_log("paper", NETWORKS["local"], bot.venue.subaccount)

    for _ in range(2):
        [log] = logged(Namespace(loaded=loaded), bot, NETWORKS["local"], mode="paper", human=False)
        log.begin(Inbox())
        log.end()

    assert path.name == "paper.local.dydx1paper.0.jsonl"
    assert oct(path.parent.stat().st_mode)[-3:] == "700"
    assert [row["event"] for row in rows(path)] == ["run_began", "run_ended"] * 2


def test_the_path_of_a_log_is_printed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the address of a real account in it, it is not taken for a secret."""
    monkeypatch.setenv("XDG_STATE_HOME", "/srv/somebody/.local/state")
    account = Subaccount("dydx18y6v62cltpkud6kqr26yxa6swnjv8f4z5p6c78", 128_000)

    path = str(default_log("trade", NETWORKS["mainnet"], account))

    assert redact(path) == path


def test_a_log_that_nobody_chose_and_cannot_be_is_a_trouble_and_one_that_was_is_refused(
    tmp_path: Path,
) -> None:
    """A run goes on without the one; a wrong path is typed again."""
    bot = Bot(Options())
    path = default_log("paper", NETWORKS["local"], bot.venue.subaccount)
    path.parent.parent.mkdir(parents=True)
    path.parent.write_text("")
    loaded = load()
    [log] = logged(Namespace(loaded=loaded), bot, NETWORKS["local"], mode="paper", human=False)
    log.begin(Inbox())
    log.end()
    assert log.trouble.startswith(f"expected to write logs to {path.parent}, got ")

    loaded = load({"log.file": ("--log", str(tmp_path / "none" / "x"))})
    with pytest.raises(ConnError, match="expected to write a log to"):
        logged(Namespace(loaded=loaded), bot, NETWORKS["local"], mode="paper", human=False)


def test_no_log_is_wanted(tmp_path: Path) -> None:
    """Then there is none."""
    loaded = load({"log.file": ("--log", "none")})
    bot = Bot(Options(config=loaded))
    assert logged(Namespace(loaded=loaded), bot, NETWORKS["local"], mode="paper", human=True) == []


@pytest.mark.replays
def test_a_replay_is_logged_where_that_is_typed(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its hash is the same, and people have it on stderr where they want it."""
    path = tmp_path / "bot.jsonl"
    assert main(["replay", str(short), "--json"]) == 0
    bare = json.loads(capsys.readouterr().out)

    assert main(["replay", str(short), "--log", str(path), "--log-human", "--json"]) == 0

    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["run_hash"], found["log"], bare["log"]) == (bare["run_hash"], str(path), "")
    assert rows(path)[-1]["run_hash"] == bare["run_hash"]
    assert "run_began" in printed.err


def test_a_log_that_cannot_be_is_a_two(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what was expected, and what it was."""
    assert main(["replay", str(short), "--log", str(tmp_path)]) == 2
    assert "expected to write a log to" in capsys.readouterr().err

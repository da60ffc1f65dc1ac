"""From an edit of the configuration to changed limits, whoever edits it and however."""

import os
import random
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bot import hangup
from bot.__main__ import main
from bot.config.changes import Reply
from bot.config.loaded import load
from bot.config.settings import DatabaseSettings, Settings
from bot.hangup import handler_of, has_terminal
from bot.live import reload as module
from bot.live.handle import within_reach
from bot.live.reload import Reloader, differences, place_of
from bot.live.runs import conduct
from bot.live.trade import gently
from bot.live.troubles import Terminal
from bot.report.report import report_of
from bot.report.status import status_of
from bot.run.acts import among
from bot.run.composition import Bot, Options
from dydx_conn import ConnError, Frame, Inbox
from pydantic import BaseModel, SecretStr
from reactivex import from_iterable, operators

WAIT_S = 10.0  # for what comes at once


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file of settings, alone in its directory."""
    path = tmp_path / "settings" / "bot.yaml"
    path.parent.mkdir()
    path.write_text("policy:\n  max_leverage: 1.5\n")
    return path


def reloader_of(path: Path | None, most: float | None = None, *, prints: bool = False) -> Reloader:
    """Make one for a run that began with what is in a file, and what was typed."""
    typed = {} if most is None else {"policy.max_leverage": ("--most", most)}
    loaded = load(typed, path=path)
    found = loaded.settings
    bot = Bot(Options(policy=found.policy, settings=found.of_strategy(), config=loaded))
    return Reloader(bot, loaded, Inbox(), prints=prints)


@pytest.fixture
def watched(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Inbox]]:
    """Watch the file; what is not edited is looked at again soon."""
    monkeypatch.setattr(module, "_TICK_MS", 60)
    monkeypatch.setattr(module, "_STEP_MS", 20)
    reloader = reloader_of(file)
    with reloader.watching():
        yield file, reloader._inbox


def came(inbox: Inbox) -> tuple[str, str, str]:
    """Return who did what by the next act, and how it is worded."""
    frame = inbox.take(1, WAIT_S)
    assert frame is not None
    return frame.link, frame.type, frame.text


def requested(reloader: Reloader, path: Path, text: str) -> Reply:
    """Edit a file and have it read again."""
    path.write_text(text)
    return reloader.reload("command")


# === What came of it ===


def test_what_is_another_value_becomes_one_act(file: Path) -> None:
    """Of settings of all sections together, and only of what is another value than before."""
    reloader = reloader_of(file)
    text = "policy:\n  max_leverage: 1.25\n  stale_seconds: 20\nstrategies:\n  rank: {enter: 61}\n"
    reply = requested(reloader, file, text)

    assert reply.now == {
        "policy.max_leverage": 1.25, "policy.stale_seconds": 20.0, "strategies.rank.enter": 61.0,
    }  # fmt: skip
    assert reply.was["policy.max_leverage"] == 1.5
    assert came(reloader._inbox) == (
        "command",
        "reload",
        '{"policy.max_leverage":1.25,"policy.stale_seconds":20.0,"strategies.rank.enter":61.0}',
    )


def test_an_edit_that_means_the_same_is_no_act(file: Path) -> None:
    """A comment, another order, another way to write a number."""
    reloader = reloader_of(file)
    reply = requested(reloader, file, "# calm\npolicy: {max_leverage: 1.50}\n")

    assert reply == Reply()
    assert not reloader._inbox.waiting


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("policy: {max_leverag: 2}", "did you mean max_leverage?"),
        ("policy: {max_leverage: 99}", "got 99"),
        ("policy: [", "got"),
        (" \n", "expected settings, got an empty file"),
    ],
)
def test_what_is_wrong_is_noted_and_changes_nothing(file: Path, text: str, words: str) -> None:
    """It is no restart that is lacking; the next edit is held against what the run goes by."""
    reloader = reloader_of(file)
    reply = requested(reloader, file, text)

    assert (reply.now, reply.restart) == ({}, False)
    assert words in reply.refused
    who, what, note = came(reloader._inbox)
    assert (who, what) == ("command", "refuse")
    assert note.startswith(f"nothing changes: {file}")
    assert requested(reloader, file, "policy: {max_leverage: 1.5}") == Reply()
    assert came(reloader._inbox) == ("command", "reload", "{}")  # what was wrong is over


def test_of_many_faults_an_act_has_the_first(file: Path) -> None:
    """In a line that a tape has room for, and how many more there are; the answer has all."""
    reloader = reloader_of(file)
    reply = requested(reloader, file, "policy: {max_leverag: 2, stale_secon: 1, keep_abov: 3}\n")

    assert len(reply.refused.splitlines()) == 4
    (_, _, text) = came(reloader._inbox)
    assert text.startswith(f"nothing changes: {file}:1:10: ")
    assert text.endswith("did you mean max_leverage? (and 2 more)")


def test_what_somebody_was_answered_is_not_found_again_by_the_watch(file: Path) -> None:
    """One act for one fault; whoever else requests a reload is answered for himself."""
    reloader = reloader_of(file)
    requested(reloader, file, "policy: {max_leverage: x}\n")
    for who in ("file", "file", "api"):
        reloader.reload(who)

    assert [came(reloader._inbox)[:2] for _ in range(2)] == [
        ("command", "refuse"), ("api", "refuse"),
    ]  # fmt: skip
    assert not reloader._inbox.waiting


def test_one_thing_that_needs_a_restart_refuses_all(file: Path) -> None:
    """By its name, and with the limit beside it not changed either."""
    reloader = reloader_of(file)
    reply = requested(reloader, file, "markets: [BTC-USD]\npolicy: {max_leverage: 1.1}\n")

    assert (reply.now, reply.restart) == ({}, True)
    assert reply.refused == (
        'expected no change of markets while it runs, got ["BTC-USD"]: restart for it'
    )
    assert requested(reloader, file, "policy: {max_leverage: 1.1}").was == {
        "policy.max_leverage": 1.5
    }


def test_what_was_typed_stays_above_the_file(file: Path) -> None:
    """The edit changes nothing, and says so; what it gives beside that changes."""
    reloader = reloader_of(file, most=1.75)
    reply = requested(reloader, file, "policy:\n  max_leverage: 1.25\n  stale_seconds: 20\n")

    assert reply.now == {"policy.stale_seconds": 20.0}
    assert reply.above == [
        f"{file}:2: policy.max_leverage 1.25 changes nothing: --most goes over it"
    ]
    assert [came(reloader._inbox)[1] for _ in range(2)] == ["reload", "refuse"]


def test_a_run_without_a_file_has_nothing_to_read_again() -> None:
    """Whoever requests it gets that as the answer."""
    reply = reloader_of(None).reload("command")

    assert reply.restart
    assert reply.refused == "expected a run that goes by a file of settings, got none: restart"


def test_no_edit_ends_who_reads_the_next_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in it is noted as what is wrong with it."""
    reloader = reloader_of(file)
    with monkeypatch.context() as patched:
        patched.setattr(module, "differences", lambda *_: 1 / 0)
        reply = reloader.reload("file")

    assert reply.refused == "expected settings, got ZeroDivisionError: division by zero"
    assert requested(reloader, file, "policy: {max_leverage: 1.25}").now


def test_a_secret_is_no_difference() -> None:
    """It is opened when a run begins, and sealed still where it is read again."""
    opened = Settings(database=DatabaseSettings(url=SecretStr("sqlite:///x")))

    assert differences(opened, Settings()) == {}


# === The whole way ===


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("policy: {max_leverage: 1.25}", 0, "policy.max_leverage 1.5 → 1.25\n"),
        ("policy: {max_leverage: 1.5}", 0, "nothing changes\n"),
        ("policy: {max_leverage: 1.25}\nguard: false", 1, "no change of guard while it runs"),
        ("policy: {max_leverage: x}", 2, "got 'x': nothing changes"),
    ],
)
def test_bot_reload_prints_what_came_of_it(
    file: Path, capsys: pytest.CaptureFixture[str], text: str, code: int, words: str
) -> None:
    """0 if it has its effect, 1 if it needs a restart, 2 if something is wrong."""
    reloader, over = reloader_of(file), threading.Event()
    bot, inbox = reloader._bot, reloader._inbox
    bot.shown.last_frames.append(Frame(1, 1, 1, "c1", "tick"))

    def play() -> None:
        while not over.is_set():
            if (frame := inbox.take(1, 0.002)) is not None:
                bot._act(frame)
            handle.answer()

    file.write_text(text)
    with within_reach(Inbox(), {}) as handle, reloader.watching():
        handle.begin(partial(status_of, bot, "PAPER", "x"), lambda: bot.reload("command"))
        run = threading.Thread(target=play)
        run.start()
        assert main(["reload"]) == code
        over.set()
        run.join()

    assert words in "".join(capsys.readouterr())


def test_an_edit_takes_effect_while_the_frames_flow(
    frames: list[Frame], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the way of every command that runs a bot; nobody but the editor does anything."""
    loaded, inbox = load(path=file), Inbox()
    bot = Bot(Options(policy=loaded.settings.policy, config=loaded))

    def flowing() -> Iterator[Frame]:
        for n, frame in enumerate(frames[:400]):
            if n == 200:
                file.write_text("policy:\n  max_leverage: 1.25\n")
                act = inbox.take(frame.seq, WAIT_S)
                assert act is not None
                yield act
            yield frame

    def source(pace: Any) -> Any:
        return from_iterable(flowing()).pipe(operators.take_while(pace))

    arguments = Namespace(plain=True, json=True, quiet=True)
    assert conduct(arguments, bot, source, inbox, mode="PAPER", name="x")
    assert bot.risk.policy.max_leverage == 1.25
    report = report_of(bot, name="x", complete=True)
    assert "gross at most 1.25 times the equity" in report["profile"]["limits"]
    assert report["config"]["origins"]["policy.max_leverage"] == "reload by file"
    assert "bot: reload by file: policy.max_leverage 1.5 → 1.25" in capsys.readouterr().err


def test_a_process_knows_whether_it_has_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon has none that could hang up."""
    found = []
    for name in (os.devnull, "/nowhere/tty"):
        monkeypatch.setattr(hangup, "_TERMINAL", name)
        found.append(has_terminal())

    assert found == [True, False]


# === Ways to write a file ===


def _in_place(path: Path, text: str) -> None:
    path.write_text(text)


def _by_rename(path: Path, text: str) -> None:
    beside = path.with_name(".bot.yaml.swp")
    beside.write_text(text)
    beside.replace(path)


def _again(path: Path, text: str) -> None:
    path.rename(path.with_name("bot.yaml~"))
    path.write_text(text)


def _in_halves(path: Path, text: str) -> None:
    with path.open("w") as out:
        for part in (text[:14], text[14:]):  # of which the first cannot be meant
            out.write(part)
            out.flush()


def _another_directory(path: Path, text: str) -> None:
    path.parent.rename(path.parent.with_name("former"))
    path.parent.mkdir()
    path.write_text(text)


@pytest.mark.parametrize("write", [_in_place, _by_rename, _again, _in_halves, _another_directory])
def test_however_an_editor_writes_it_is_one_change(watched: tuple[Path, Inbox], write: Any) -> None:
    """Nothing that stood there for a moment is read as what was meant."""
    path, inbox = watched
    for leverage in (1.25, 1.75):
        write(path, f"policy:\n  max_leverage: {leverage}\n")
        assert came(inbox) == ("file", "reload", f'{{"policy.max_leverage":{leverage}}}')
        if write is _another_directory:
            break


def test_who_began_without_a_file_may_begin_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `bot config init` while the run goes; that there was none is nothing to report."""
    monkeypatch.setattr(module, "_TICK_MS", 20)
    loaded, place = load(path=None), tmp_path / "bot.yaml"
    reloader = Reloader(Bot(Options(config=loaded)), loaded, Inbox(), place=place)
    with reloader.watching():
        assert reloader._inbox.take(1, 0.1) is None
        place.write_text("policy:\n  max_leverage: 1.25\n")
        assert came(reloader._inbox)[:2] == ("file", "reload")


def test_who_named_no_file_or_has_a_recordings_settings_waits_for_none() -> None:
    """They stay as they are."""
    plain, recorded = load(), load(recorded={"deposit": 5_000})

    assert place_of(plain, None) == Path("bot.yaml")
    assert [place_of(plain, "none"), place_of(recorded, None)] == [None, None]


def test_a_link_is_followed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it leads to is in another directory, of which nothing is reported."""
    monkeypatch.setattr(module, "_TICK_MS", 60)
    target = file.rename(file.parent.parent / "target.yaml")
    file.symlink_to(target)
    reloader = reloader_of(file)
    with reloader.watching():
        target.write_text("policy:\n  max_leverage: 1.25\n")
        assert came(reloader._inbox)[:2] == ("file", "reload")


def test_a_file_that_went_away_before_the_run_began_is_no_reason_not_to(file: Path) -> None:
    """It was read; what the run goes by is known."""
    loaded = load(path=file)
    file.unlink()
    reloader = Reloader(Bot(Options(config=loaded)), loaded, Inbox())

    assert "No such file" in reloader.reload("command").refused


def test_a_file_that_is_written_all_the_time_is_not_read(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be meant as far as it is there may be half of what will be."""
    monkeypatch.setattr(module, "_STEP_MS", 0)
    written = iter(range(1_000))
    monkeypatch.setattr(module, "_content", lambda _: f"# {next(written)}".encode())
    reloader = reloader_of(file)
    halves = requested(reloader, file, "policy:\n")
    monkeypatch.undo()

    assert halves.refused == f"{file}: expected a file that stands still, got one that does not"
    assert requested(reloader, file, "policy:\n").now == {"policy.max_leverage": 2.0}


def test_a_file_that_is_gone_is_reported_once_and_is_no_change(
    watched: tuple[Path, Inbox],
) -> None:
    """What the run went by stays; once it is there again it is read again."""
    path, inbox = watched
    path.unlink()
    who, what, words = came(inbox)
    path.write_text("policy:\n  max_leverage: 1.25\n")

    assert (who, what) == ("file", "refuse")
    assert words.endswith("can be read, got No such file or directory")
    assert came(inbox)[1:] == ("reload", '{"policy.max_leverage":1.25}')


def test_where_nothing_is_reported_the_clock_finds_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network's disk, or where nothing more may be watched."""

    def refused(*_: object, **__: object) -> Iterator[Any]:
        raise OSError("file watch limit reached")

    monkeypatch.setattr("watchfiles.watch", refused)
    monkeypatch.setattr(module, "_TICK_MS", 20)
    reloader = reloader_of(file)
    with reloader.watching():
        file.write_text("policy:\n  max_leverage: 1.25\n")
        assert came(reloader._inbox)[:2] == ("file", "reload")


def test_a_hangup_is_a_reload_where_there_is_no_terminal(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As daemons do; afterwards it is what it was before."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    monkeypatch.setattr(module, "has_terminal", lambda: False)
    monkeypatch.setattr(module, "_TICK_MS", 20)
    reloader = reloader_of(None)
    with reloader.watching():
        os.kill(os.getpid(), signal.SIGHUP)
        who, what, _ = came(reloader._inbox)
    after = signal.signal(signal.SIGHUP, before)

    assert (who, what) == ("signal", "refuse")
    assert after is signal.SIG_DFL


def test_a_hangup_ends_no_daemon_that_starts_or_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has it read its settings again may not know how far it is."""
    monkeypatch.setattr(hangup, "_TERMINAL", "/nowhere/tty")
    before = signal.signal(signal.SIGHUP, handler_of(signal.SIGHUP, "trade"))
    terminal, stopping = Terminal(), threading.Event()
    with gently(stopping), terminal.held():
        os.kill(os.getpid(), signal.SIGHUP)
    signal.signal(signal.SIGHUP, before)

    assert (terminal.trouble, stopping.is_set()) == ("", False)
    ends = handler_of(signal.SIGHUP, "replay"), handler_of(signal.SIGTERM, "trade")
    assert {*ends} == {signal.default_int_handler}


def test_a_run_without_a_dashboard_prints_what_changes_and_what_is_wrong(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line each, as it takes effect; other acts are not of it."""
    reloader = reloader_of(file, prints=True)
    with reloader.watching():
        for who, what, text in (
            ("file", "reload", '{"policy.max_leverage":1.25}'),
            ("signal", "refuse", "nothing changes: bot.yaml:2: expected a number"),
            ("key", "halt", "a headline"),
        ):
            reloader._bot._act(Frame(1, 1, 1, who, "act", text, what))

    assert capsys.readouterr().err.splitlines() == [
        "bot: reload by file: policy.max_leverage 1.5 → 1.25",
        "bot: settings refused by signal: nothing changes: bot.yaml:2: expected a number",
    ]


# === Under load ===


class Edits:
    """Random edits by a seed: of each the text, and whether it is one that can be meant."""

    def __init__(self, seed: int, count: int) -> None:
        self._chance = random.Random(seed)
        self.texts = [self._text() for _ in range(count)]

    def _text(self) -> str:
        chance = self._chance
        leverage, enter = chance.uniform(1.0, 3.0), chance.uniform(57.0, 65.0)
        lines = [
            "policy:", f"  max_leverage: {leverage:.3f}", f"  max_order_usdc: {leverage * 5_000:.0f}",
            "strategies:", "  rank:", f"    enter: {enter:.2f}", f"    full: {enter + 10:.2f}",
        ]  # fmt: skip
        wrong = chance.choice(["", "", "", "name", "value", "cut", "restart", "between"])
        if wrong == "name":
            lines[1] = lines[1].replace("leverage", "leverag")
        elif wrong == "value":
            lines[5] = "    enter: 99"
        elif wrong == "restart":
            lines.append("markets: [BTC-USD]")
        elif wrong == "between":  # each can be meant, and not both
            lines[6] = f"    full: {enter - 1:.2f}"
        text = "\n".join(lines) + "\n"
        return text[: chance.randrange(len(text))] if wrong == "cut" else text


WAYS = (_in_place, _by_rename, _again, _in_halves)


# The check "edits" has more.
SEEDS = range(int(os.environ.get("TEST_EDIT_SEEDS", "1")))


@pytest.mark.replays
@pytest.mark.parametrize("seed", SEEDS)
def test_a_hundred_edits_under_load_are_never_half_applied(
    frames: list[Frame], file: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Frames flow at full speed: what the run goes by is always one whole edit; so it replays."""
    monkeypatch.setattr(module, "_STEP_MS", 1)
    monkeypatch.setattr(module, "_TICK_MS", 20)
    edits, reloader = Edits(seed, 100), reloader_of(file)
    bot, lived, seen = reloader._bot, list[Frame](), dict[str, None]()
    first = bot.options
    whole = {effective(bot), *(one for text in edits.texts for one in meant(file, text))}
    file.write_text("policy:\n  max_leverage: 1.5\n")

    def edit() -> None:
        chance, between = random.Random(seed), threading.Event()
        for text in edits.texts:
            chance.choice(WAYS)(file, text)
            if chance.random() < 0.5:
                reloader.reload("command")  # as somebody may who does not wait for the watch
            between.wait(0.002)

    def flowing() -> Iterator[Frame]:
        editor = threading.Thread(target=edit)
        editor.start()
        known = None
        for frame in frames:
            if bot.options is not known:
                known, seen[effective(bot)] = bot.options, None
            yield frame
            if not editor.is_alive():
                break
        editor.join()

    bot.made.record = lived.append
    with reloader.watching(), often_switching():
        source = from_iterable(flowing()).pipe(among(reloader._inbox))
        bot.run(source.pipe(operators.do_action(lived.append)))
    again = Bot(first)
    again.run(from_iterable(lived))

    assert seen.keys() <= whole
    assert len(seen) > 5
    assert bot.journal.counts["act"] > len(seen) + 5  # wrong ones came between
    assert again.journal.hash == bot.journal.hash
    assert effective(again) == effective(bot)


@contextmanager
def often_switching() -> Iterator[None]:
    """Let other threads in more often than a thread that never waits would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def effective(bot: Bot) -> str:
    """Return by what a run judges and decides, having seen that all of it agrees."""
    settings = bot.shown.strategy.settings  # type: ignore[union-attr]
    assert bot.options.policy is bot.risk.policy
    assert bot.options.settings is settings
    assert bot.options.config is not None
    assert bot.options.config.settings.policy == bot.risk.policy
    return worded(bot.risk.policy, settings)


def meant(file: Path, text: str) -> Iterator[str]:
    """Yield by what a run would judge and decide, if an edit can be meant and needs no restart."""
    file.write_text(text)
    try:
        settings = load(path=file).settings
    except ConnError:
        return
    if settings.markets == Settings().markets:
        yield worded(settings.policy, settings.of_strategy())


def worded(policy: BaseModel, settings: BaseModel) -> str:
    """Return two models as one text."""
    return policy.model_dump_json() + settings.model_dump_json()

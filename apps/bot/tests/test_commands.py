"""The command line: what is typed, what is printed, and which exit code it is."""

import contextlib
import importlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import pytest
from bot.__main__ import main
from bot.commands import COMMANDS, parser
from bot.run.acts import Standstill, default_database
from bot.run.claim import claimed
from bot.run.composition import Bot, Options
from bot.run.paper import PAPER, paper_account
from bot.screen.earlier import Earlier, earlier_of
from bot.screen.picture import print_panel
from bot.screen.screen import Screen
from dydx_conn import Frame, Inbox, Recording, find_recording, network
from dydx_panels import KEYS, Snapshot, View
from dydx_panels import panel as panel_of
from msgspec.structs import replace as with_fields
from reactivex import from_iterable
from rich.console import Console
from webhook import Hook, listening


def test_a_run_in_a_pipe_is_a_plain_report(short: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No terminal, no dashboard: what happened with its reasons, then money and hash."""
    assert main(["replay", str(short)]) == 0

    printed = capsys.readouterr().out
    for word in ("equity", "profit", "drawdown", "positions", "costs", "run hash"):
        assert f"\n{word}" in printed
    assert "score" in printed


def test_json_holds_the_same_report(short: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints one object and nothing else."""
    assert main(["replay", str(short), "--json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert report["markets"] == ["BTC-USD", "ETH-USD", "SOL-USD"]
    assert len(report["run_hash"]) == 64


@pytest.mark.replays
def test_options_alone_play_the_bundled_recording(capsys: pytest.CaptureFixture[str]) -> None:
    """`bot --json` is `bot replay quickstart --json`."""
    assert main(["--json"]) == 0

    assert json.loads(capsys.readouterr().out)["source"] == "quickstart"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["replay", "nowhere"], "quickstart"),
        (["replay", "/no/such/file"], "got no such file"),
        (["replay", "/"], "got a directory"),
        (["replay", "/dev/null"], "no file but a device"),
        (["replay", "quickstart", "--strategy", "astrology"], "astrology"),
        (["replay", "quickstart", "--deposit", "0"], "to be greater than 0"),
        (["paper", "--network", "moonnet"], "mainnet, testnet, local"),
        (["paper", "--tickers", " , "], "expected tickers"),
        (["panel", "nonsense"], "safety"),
        (["panel", "safety", "--svg", "x.svg", "--size", "wide"], "120x40"),
        (["doctor", "--network", "moonnet"], "moonnet"),
        (["why", "F99999", "account"], "expected the id"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_word_is_an_error_in_one_line(
    typed: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line on standard error: what was expected, what it was."""
    assert main(typed) == 2

    error = capsys.readouterr().err
    assert error.startswith("bot: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("typed", [["fly"], ["replay", "--speed", "0"], ["replay", "--speed", "x"]])
def test_a_word_that_no_command_knows_is_a_two(typed: list[str]) -> None:
    """What argparse refuses has the same exit code."""
    with pytest.raises(SystemExit) as refused:
        main(typed)

    assert refused.value.code == 2


@pytest.mark.parametrize(("typed", "word"), [(["--help"], "paper"), (["--version"], "bot 0.")])
def test_help_and_version(typed: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Both are printed and are a success."""
    with pytest.raises(SystemExit) as done:
        main(typed)

    assert done.value.code == 0
    assert word in capsys.readouterr().out


def test_help_loads_no_layer() -> None:
    """Help and a typing error answer at once: what they need is the command line alone."""
    script = """
import sys
from bot.__main__ import main
try:
    main(["--help"])
except SystemExit:
    print(*sys.modules)
"""

    printed = subprocess.check_output([sys.executable, "-c", script], text=True).splitlines()

    loaded = set(printed[-1].split())
    ours = {name for name in loaded if name.partition(".")[0] == "bot"}
    ours = {name for name in ours if not name.startswith("bot.commands.")}  # tables
    heavy = ("dydx", "rich", "pydantic", "sqlalchemy", "alembic", "shtab", "yaml", "watchfiles")
    assert ours == {"bot", "bot.__main__", "bot.commands", "bot.options", "bot.parsing"}
    assert [name for name in loaded if name.startswith(heavy)] == []


DAMAGED = {
    "empty": (lambda whole: b"", "got an empty file"),
    "truncated header": (lambda whole: whole[:20], "expected"),
    "no recording": (lambda whole: b"hello", "expected"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_is_no_recording_is_a_two(
    name: str, short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be read at all is an error, with its path."""
    spoil, message = DAMAGED[name]
    short.write_bytes(spoil(short.read_bytes()))

    assert main(["replay", str(short)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(short) in error


def test_a_damaged_recording_is_played_and_the_damage_is_reported(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flipped bit costs the lines around it, and the rest is read."""
    whole = bytearray(short.read_bytes())
    whole[len(whole) // 2] ^= 1
    short.write_bytes(whole)

    assert main(["replay", str(short), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["damage"]) == 1
    assert report["frames"] > 100


def test_why_prints_the_chain_down_to_the_wire(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An id in any case; the last lines are the wire's own text."""
    assert main(["why", "f1", str(short)]) == 0

    printed = capsys.readouterr().out
    for kind in ("fill", "order", "allowed", "decision", "wire: frames #"):
        assert kind in printed


def test_a_panel_is_printed_on_its_own(short: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures and samples, once, and done."""
    assert main(["panel", "markets", str(short)]) == 0

    assert "BTC-USD" in capsys.readouterr().out


def test_without_a_name_the_panels_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """A line each, with the key that shows it."""
    assert main(["panel"]) == 0

    rows = capsys.readouterr().out.splitlines()[1:]
    assert [tuple(row.split()[:2]) for row in rows] == [*KEYS.items()]
    assert max(map(len, rows)) <= 96


@pytest.fixture(scope="module")
def played() -> Bot:
    """Return a run of the bundled recording up to its first crash, and a bit more."""
    bot = Bot(Options.of("reckless", detectors=True))
    bot.follow()
    for frame in islice(Recording(find_recording("quickstart")), 9_000):
        bot._take(frame)
    return bot


@pytest.mark.replays
@pytest.mark.parametrize("name", KEYS.values())
def test_every_panel_is_drawn_of_a_run(
    played: Bot, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a pipe and on a dashboard, with what it shows of this run."""
    console = Console(file=io.StringIO(), width=120, height=40, force_terminal=True)
    screen = Screen(played, mode="REPLAY", name="quickstart", console=console, panel=name)
    try:
        screen.draw()
    finally:
        screen.terminal.dashboard.shutdown()
    print_panel(played, "quickstart", name)

    title = panel_of(name, Snapshot(), 80, 24).text.split("\n")[0].split()[2]
    assert title in console.file.getvalue()  # type: ignore[attr-defined]
    assert title in capsys.readouterr().out


@pytest.mark.replays
@pytest.mark.usefixtures("live_frames")
def test_the_network_of_a_panel_may_be_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    """As of every other command; with a recording beside it nobody knows what is meant."""
    assert main(["panel", "markets", "--network", "local"]) == 0
    assert "BTC-USD" in capsys.readouterr().out

    assert main(["panel", "markets", "quickstart", "--network", "local"]) == 2
    assert "expected a recording or a --network" in capsys.readouterr().err


@pytest.mark.replays
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("flight", "Way out"), ("stress", "concentration"), ("venue", "no real trade confirms"),
        ("candles", "forming"), ("flow", "the hour by price"), ("funding", "next payment in"),
        ("quality", "TROUBLES"), ("detectors", "a quote lives"),
    ],
)  # fmt: skip
def test_what_risk_and_the_venue_say_is_printed_on_its_own(
    short: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    """Each by its name, as a screen would show it alone."""
    assert main(["panel", name, str(short)]) == 0

    assert words in capsys.readouterr().out


def test_a_panel_is_drawn_again_while_its_recording_plays(
    short: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal: alone from the first picture on, and nothing is printed after the last."""
    pictures: list[str] = []

    def draw(_: object, snapshot: Snapshot, view: View) -> int:
        pictures.append(f"{view.panel} {len(snapshot.candles.rows)}")
        return 0

    monkeypatch.setattr("bot.live.show.on_dashboard", lambda _: True)
    monkeypatch.setattr("bot.live.runs.on_dashboard", lambda _: True)
    monkeypatch.setattr("bot.screen.screen.Screen.stay", lambda _: None)
    monkeypatch.setattr("bot.screen.redraw.DRAW_NS", 1_000_000)
    monkeypatch.setattr("dydx_panels.Dashboard.draw", draw)

    assert main(["panel", "candles", str(short), "--speed", "1000"]) == 0
    assert pictures[0] == "candles 0"
    assert pictures[-1] > pictures[0]
    assert "Candles" not in capsys.readouterr().out


def test_the_dashboard_is_written_as_a_picture(short: Path, tmp_path: Path) -> None:
    """An SVG of the size that was given, at the moment that was given."""
    picture = tmp_path / "dashboard.svg"

    assert main(["panel", "all", str(short), "--svg", str(picture), "--at", "30"]) == 0
    assert picture.read_text().startswith("<svg")


@pytest.fixture
def live_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand the bundled frames in for the network: live() gives them as they came, acts first."""

    def numbered(inbox: Inbox) -> Iterator[Frame]:
        recorded = islice(Recording(find_recording("quickstart")), 500)
        put = iter(lambda: inbox.take(0, 0.0), None)
        for seq, frame in enumerate(chain(put, recorded), 1):
            yield with_fields(frame, seq=seq)

    def frames(_net: object, _tickers: object, *, inbox: Inbox, **_: object) -> object:
        return from_iterable(numbered(inbox))

    monkeypatch.setattr("bot.live.commands.live", frames)
    monkeypatch.setattr("bot.live.show.live", frames)


@pytest.mark.usefixtures("live_frames")
def test_a_panel_of_a_network_is_printed_as_it_stands_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Live frames, on paper; the market that was typed is shown."""
    assert main(["panel", "flow", "local", "--market", "eth-usd"]) == 0

    printed = capsys.readouterr().out
    assert "Flow ETH-USD" in printed
    assert "24HOURS" in printed
    assert "█" in printed


@pytest.mark.replays
@pytest.mark.usefixtures("live_frames")
def test_paper_trades_live_frames_and_records_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is recorded is complete, and replays to the same hash."""
    recorded = tmp_path / "run.jsonl.zst"

    assert main(["paper", "--network", "local", "--record", str(recorded), "--json"]) == 0
    lived = json.loads(capsys.readouterr().out)["run_hash"]
    assert main(["replay", str(recorded), "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)["run_hash"]

    recording = Recording(recorded)
    assert sum(1 for _ in recording) == 500
    assert recording.complete
    assert replayed == lived


@pytest.mark.replays
@pytest.mark.usefixtures("live_frames")
def test_people_are_notified_of_a_live_run_and_it_replays_to_the_same_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default where a sink is configured, and not with --no-notify, nor of its recording."""
    recorded, paper = tmp_path / "run.jsonl.zst", ["paper", "--network", "local", "--json"]
    with listening(Hook()) as hook:
        sinks = [{"name": "hook", "url": hook.url}]
        monkeypatch.setenv("DYDX__NOTIFY__SINKS", json.dumps(sinks))
        monkeypatch.setattr("bot.notify.notices.END_S", 9.0)  # apprise may load for long
        assert main([*paper, "--record", str(recorded)]) == 0
        lived = json.loads(capsys.readouterr().out)["run_hash"]
        sent = [*hook.titles]
        assert main([*paper, "--no-notify"]) == 0
        capsys.readouterr()
        assert main(["replay", str(recorded), "--json"]) == 0

    assert sent == ["PAPER local: run began", "PAPER local: run ended"]
    assert hook.titles == sent
    assert json.loads(capsys.readouterr().out)["run_hash"] == lived


@pytest.mark.replays
@pytest.mark.usefixtures("live_frames")
def test_a_halt_outlives_a_paper_run_until_somebody_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next run begins with it, and its recording replays to the same bytes, halted."""
    recorded, paper = tmp_path / "run.jsonl.zst", ["paper", "--network", "local", "--json"]
    standstill = Standstill(network("local"), paper_account(PAPER))
    standstill.note(Frame(1, 0, 0, "key", "act", "a headline", "halt"))

    assert main([*paper, "--record", str(recorded)]) == 0
    halted = json.loads(capsys.readouterr().out)
    assert main(["replay", str(recorded), "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)
    standstill.note(Frame(1, 0, 0, "command", "act", "", "resume"))
    assert main(paper) == 0
    resumed = json.loads(capsys.readouterr().out)

    why = "a headline (by key, and nobody resumed) (by restart)"
    assert halted["gate"] == {"state": "HALTED", "reasons": {"HALTED": f"halted: {why}"}}
    assert next(iter(Recording(recorded))).kind == "act"
    assert replayed["run_hash"] == halted["run_hash"] != resumed["run_hash"]
    assert replayed["gate"] == halted["gate"]
    assert resumed["acts"] == 0
    assert "HALTED" not in resumed["gate"]["reasons"]


FAILING = """
class Failing:
    name = "failing"

    def step(self, scored, held):
        raise ValueError("no idea")


strategy = Failing
"""


@pytest.fixture
def failing(tmp_path: Path) -> str:
    """Write a strategy that raises at once."""
    path = tmp_path / "failing.py"
    path.write_text(FAILING)
    return str(path)


def test_a_strategy_that_raises_is_reported_and_is_a_one(
    short: Path, failing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run goes to its end; it is the first line of the report, the traceback is below it."""
    assert main(["replay", str(short), "--strategy", failing]) == 1
    printed = capsys.readouterr()
    assert main(["why", "A1", str(short), "--strategy", failing]) == 0
    why = capsys.readouterr().out

    assert "\nSTOPPED      expected failing to decide with Decisions, got " in printed.out
    assert "\nHALTED       halted: expected failing" in printed.out
    assert "ended early" not in printed.out
    assert 'raise ValueError("no idea")' in printed.err
    assert printed.err.endswith("nothing entered after it, guard and exits went on\n")
    assert why.startswith("A1   act · 20")
    assert "halt by strategy: expected failing" in why


def test_a_strict_run_of_a_strategy_that_raises_is_a_two(
    short: Path, failing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends there, with the error in one line."""
    assert main(["replay", str(short), "--strategy", failing, "--strict"]) == 2

    assert capsys.readouterr().err.startswith("bot: expected failing to decide with Decisions")


@pytest.mark.replays
@pytest.mark.usefixtures("live_frames")
def test_a_paper_run_whose_strategy_raised_starts_halted_the_next_time(
    failing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stopped it is recorded with the frames, and its replay is the same, with the same code."""
    recorded = tmp_path / "run.jsonl.zst"
    typed = ["--strategy", failing, "--json"]

    assert main(["paper", "--network", "local", "--record", str(recorded), *typed]) == 1
    lived = json.loads(capsys.readouterr().out)
    assert main(["replay", str(recorded), *typed]) == 1
    replayed = json.loads(capsys.readouterr().out)
    assert main(["paper", "--network", "local", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)

    assert [frame.link for frame in Recording(recorded) if frame.kind == "act"] == ["strategy"]
    assert replayed["run_hash"] == lived["run_hash"]
    assert replayed["stopped"] == lived["stopped"]
    assert "no idea" in lived["stopped"]
    assert again["gate"]["state"] == "HALTED"
    assert "by restart" in again["gate"]["reasons"]["HALTED"]


@pytest.mark.usefixtures("live_frames")
def test_a_halt_that_cannot_be_stored_is_warned_of(
    failing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run is halted all the same."""
    Path(os.environ["XDG_STATE_HOME"]).write_text("no directory")

    assert main(["paper", "--network", "local", "--strategy", failing]) == 1

    assert "bot: warning: expected to store the halt in " in capsys.readouterr().err


@pytest.mark.usefixtures("live_frames")
def test_a_market_that_the_network_does_not_have_is_a_two(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As soon as the venue has listed its own."""
    assert main(["paper", "--network", "local", "--tickers", "BTC-USD,MOON-USD"]) == 2

    error = capsys.readouterr().err
    assert error.endswith("got MOON-USD\n")
    assert "SOL-USD" in error


@pytest.mark.usefixtures("live_frames")
@pytest.mark.parametrize(
    ("typed", "stays"),
    [
        ([], "bot: 2 positions stay for the next run\n"),
        (["--database", "none"], "bot: 2 positions stay unsaved, and are gone\n"),
    ],
)
def test_ctrl_c_ends_a_paper_run_with_its_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    typed: list[str], stays: str,
) -> None:  # fmt: skip
    """A run without an end is ended by hand; that is no failure. What becomes of positions is named."""
    settle = Bot.settle

    def interrupted(bot: Bot, frame: Frame) -> None:
        settle(bot, frame)
        if frame.seq == 500:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Bot, "settle", interrupted)

    assert main(["paper", "--network", "local", *typed]) == 0
    printed = capsys.readouterr()
    assert "run hash" in printed.out
    assert stays in printed.err


def test_a_network_that_sends_nothing_is_a_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No report on nothing: the reason of the last loss is printed instead."""
    lost = Frame(1, 0, 0, "c1", "close", "ConnectionRefusedError: nobody there", "0")
    monkeypatch.setattr("bot.live.commands.live", lambda *_, **__: from_iterable([lost]))

    assert main(["paper", "--network", "local"]) == 2
    assert "nobody there" in capsys.readouterr().err


def test_a_recording_is_not_written_over(short: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is there stays; another path is needed."""
    before = short.read_bytes()

    assert main(["paper", "--network", "local", "--record", str(short)]) == 2
    assert "exists" in capsys.readouterr().err
    assert short.read_bytes() == before


def test_a_terminal_without_arrows_gets_question_marks(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoding that cannot carry the report's signs is no traceback."""
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", ascii_only)

    assert main(["replay", str(short)]) == 0
    ascii_only.flush()
    assert b"run hash" in ascii_only.buffer.getvalue()


def test_a_picture_that_cannot_be_written_is_a_two(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system's own reason, in one line."""
    assert main(["panel", "all", str(short), "--svg", "/dev/full"]) == 2

    assert "No space" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_failure(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bot | head` ends quietly."""

    def closed(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("bot.live.commands.print_report", closed)
    # main() lets go of standard output for good; the test's own is put back afterwards.
    monkeypatch.setattr("sys.stdout", io.StringIO())

    assert main(["replay", str(short)]) == 0


def test_ctrl_c_elsewhere_is_the_shells_own_code(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """130 is what a shell reports of a command that was interrupted."""

    def interrupted(*_: object) -> Frame:
        raise KeyboardInterrupt

    monkeypatch.setattr("bot.live.commands.Bot", interrupted)

    assert main(["replay", str(short)]) == 130


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands think that a person is looking, and that they leave at the end."""
    monkeypatch.setattr("bot.live.runs.on_dashboard", lambda _: True)
    monkeypatch.setattr("bot.screen.screen.Screen.stay", lambda _: None)


@pytest.mark.usefixtures("dashboard")
def test_a_watched_recording_leaves_its_report(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The dashboard is gone, the figures stay on the terminal."""
    assert main(["replay", str(short), "--speed", "100000"]) == 0

    assert "run hash" in capsys.readouterr().out


@pytest.mark.usefixtures("dashboard", "live_frames")
def test_a_watched_paper_run_leaves_its_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for live frames; whoever ends it has seen all of it: a network has no end."""
    monkeypatch.setattr("bot.screen.screen.Screen.pace", lambda _, frame: frame.seq < 100)

    assert main(["paper", "--network", "local"]) == 0

    assert capsys.readouterr().out.startswith("equity ")


@pytest.mark.usefixtures("dashboard", "live_frames")
def test_a_run_that_is_over_is_left_by_ctrl_c_with_its_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `--seconds`, when its last picture stays."""

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bot.screen.screen.Screen.pace", lambda _, frame: frame.seq < 100)
    monkeypatch.setattr("bot.screen.screen.Screen.stay", interrupted)

    assert main(["paper", "--network", "local"]) == 0
    assert capsys.readouterr().out.startswith("equity ")


def test_without_a_terminal_nobody_is_looking(short: Path) -> None:
    """A pipe, a file or `--plain` gets the plain report."""
    from bot.live.runs import on_dashboard

    assert not on_dashboard(parser().parse_args(["replay", str(short), "--plain"]))


def test_every_command_of_the_table_can_be_loaded() -> None:
    """What does it is named in words, and found only when it is run."""
    found = {name: find(row.does) for name, row in COMMANDS.items()}

    assert all(map(callable, found.values()))
    assert len({id(function) for function in found.values()}) == len(COMMANDS)


def find(does: str) -> object:
    """Load what a row of the table names."""
    module, _, function = does.partition(":")
    return getattr(importlib.import_module(module), function)


def test_markets_are_named_by_tickers_and_still_by_the_old_word() -> None:
    """One word for names; the one it had before is taken too, and not shown."""
    new, old, neither = (
        parser().parse_args(["paper", *typed]).tickers
        for typed in (["--tickers", "A-USD"], ["--markets", "A-USD"], [])
    )

    assert (new, old, neither) == ("A-USD", "A-USD", None)
    with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
        main(["paper", "--help"])
    assert "--tickers" in shown.getvalue()
    assert "--markets" not in shown.getvalue()


def test_authenticators_are_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """What is none is a wrong word."""
    with pytest.raises(SystemExit) as refused:
        main(["trade", "--authenticators", "1,x"])

    assert refused.value.code == 2
    assert "--authenticators" in capsys.readouterr().err


PAPER_RUN: Final = ("paper", "--network", "local", "--json")


@pytest.mark.replays
@pytest.mark.usefixtures("live_frames")
def test_a_paper_run_goes_on_where_the_last_one_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported in a line, and its recording replays to the same hash without a database.

    Whoever looks sees what the last one did, and the hash is the same with it.
    """
    shown: list[Earlier] = []

    def look(*of: Any) -> Earlier:
        shown.append(earlier_of(*of))
        return shown[-1]

    monkeypatch.setattr("bot.screen.earlier.earlier_of", look)
    monkeypatch.setattr("bot.live.runs.is_reached", lambda _: True)
    recorded = tmp_path / "run.jsonl.zst"
    ours = [*PAPER_RUN, "--account", "second", "--profile", "reckless"]
    assert main([*ours, "--deposit", "5000"]) == 0
    first = json.loads(capsys.readouterr().out)

    assert main([*ours, "--record", str(recorded), "--deposit", "7000"]) == 0
    printed = capsys.readouterr()
    second = json.loads(printed.out)
    assert main(["replay", str(recorded), "--profile", "reckless", "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)

    assert "bot: dydx1second/0 goes on from run 1, which ended " in printed.err
    assert "expected a deposit of 7,000 USDC for an account that begins (--fresh)" in printed.err
    assert (5_000, 5_000) == (first["money_usdc"]["deposit"], second["money_usdc"]["deposit"])
    assert second["carried"].startswith("goes on from run 1, which ended ")
    assert "" == first["carried"]
    with claimed(network("local"), paper_account("second"), "paper") as claim:
        assert [(1, 1_025), (2_049, 3_073)] == [*claim.earlier]
    assert replayed["run_hash"] == second["run_hash"] != first["run_hash"]
    (earlier,) = shown
    whole = earlier.dress({}, Snapshot())
    assert {1} == {row.run for row in whole.orders} == {row.run for row in whole.tape}


@pytest.mark.replays
@pytest.mark.usefixtures("live_frames")
@pytest.mark.parametrize("typed", [["--fresh"], ["--account", "second"], ["--database", "none"]])
def test_a_paper_account_begins_where_there_is_none_to_go_on_with(
    typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Because somebody wants it so, under another name, or without a database."""
    assert main([*PAPER_RUN, "--deposit", "5000"]) == 0
    capsys.readouterr()

    assert main([*PAPER_RUN, *typed]) == 0
    printed = capsys.readouterr()
    assert "goes on" not in printed.err
    assert 10_000 == json.loads(printed.out)["money_usdc"]["deposit"]


@pytest.mark.replays
@pytest.mark.usefixtures("live_frames")
@pytest.mark.parametrize(("typed", "warns"), [([], True), (["--fresh"], False)])
def test_a_paper_account_whose_database_is_gone_begins_and_says_so(
    typed: list[str], warns: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless somebody wants it so; no client id serves twice either way."""
    assert main(list(PAPER_RUN)) == 0
    default_database().unlink()
    assert "expected what an earlier run" not in capsys.readouterr().err

    assert main([*PAPER_RUN, *typed]) == 0
    printed = capsys.readouterr()
    what = "expected what an earlier run of dydx1paper/0 left in the database, got none"
    assert (what in printed.err) == warns
    words = "begins, with client ids that no earlier run of it has used"
    assert json.loads(printed.out)["carried"] == words


@pytest.mark.usefixtures("live_frames")
def test_two_bots_do_not_share_a_paper_account(capsys: pytest.CaptureFixture[str]) -> None:
    """The second is refused, with what helps."""
    with claimed(network("local"), paper_account(PAPER), "paper"):
        assert main(list(PAPER_RUN)) == 2

    refused = capsys.readouterr().err
    assert "expected nobody else at dydx1paper/0" in refused
    assert "--account NAME is another account" in refused


@pytest.mark.replays
@pytest.mark.usefixtures("live_frames")
def test_a_paper_account_whose_money_cannot_be_read_does_not_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no empty one; --fresh begins without it."""
    broken = tmp_path / "bot.db"
    assert main([*PAPER_RUN, "--database", str(broken)]) == 0
    with sqlite3.connect(broken) as connection:
        connection.execute("UPDATE ledger_events SET data = '\"{\"'")
    capsys.readouterr()

    assert main([*PAPER_RUN, "--database", str(broken)]) == 2
    assert "--fresh begins a paper account without it" in capsys.readouterr().err
    assert main([*PAPER_RUN, "--database", str(broken), "--fresh"]) == 0


def test_a_market_that_a_recording_does_not_have_is_reported(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is played with all that it has, whatever was chosen: the run is the same."""
    file = tmp_path / "mine.yaml"
    file.write_text("markets: [BTC-USD, MOON-USD]\n")

    assert main(["replay", str(short), "--config", str(file)]) == 0

    warning = capsys.readouterr().err
    assert "expected markets that are in the recording (BTC-USD, ETH-USD, SOL-USD)" in warning
    assert f"got MOON-USD ({file}:1)" in warning

"""The runbook: every command can be typed, and each drill goes as its page has it."""

import dataclasses
import re
import resource
import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bot.config.validation
import bot.live.reconcile
import bot.live.trade
import dydx_conn
import msgspec
import pytest
from bot.__main__ import main
from bot.commands import parser
from bot.config.environment import EnvironmentSettings, RefusalError
from bot.live.reconcile import HeldAt, LastRun, Movement, OpenOrder, Reported, compare
from bot.live.troubles import Recorder, Troubles
from bot.logs.events import INFO, Line
from bot.logs.file import LogFile
from bot.logs.writer import LogWriter
from bot.report.report import report_lines, report_of
from bot.report.status import status_lines, status_of
from bot.run.composition import Bot, Options
from dydx_conn import (
    NETWORKS,
    ChainTip,
    Frame,
    Inbox,
    Network,
    Subaccount,
    collect,
    contents,
    replay,
)
from dydx_data import stopping
from reactivex import Observable, from_iterable, operators
from runbook import RUNBOOK, is_in, pages, table, typed
from sessions import REAL

PAGES = pages()
GIVEN = {"NETWORK": "local", "FILE": "key", "NEWFILE": "new", "HOST:PORT": "127.0.0.1:9"}


@pytest.mark.parametrize("title", PAGES)
def test_every_command_can_be_typed(title: str) -> None:
    """The bot's own parser takes them, with all of their options."""
    for command in PAGES[title].commands:
        name, *words = typed(command, **GIVEN)
        if name == "bot":
            assert parser().parse_args(words).command == words[0]
        else:
            assert name in ("df", "timedatectl")


def test_the_runbook_has_the_pages_that_are_looked_for() -> None:
    """And is short enough to be read while something is wrong."""
    first = ["Lost disk", "Lost node", "Wrong clock", "Chain halt", "Leaked key"]

    assert [*PAGES][:5] == first
    assert all(page.shows for page in PAGES.values())
    assert len(RUNBOOK.read_text().splitlines()) <= 160


def commands(title: str, *words: str) -> list[list[str]]:
    """Return the commands of a page that begin with these words."""
    every = (typed(command, **GIVEN) for command in PAGES[title].commands)
    return [found[1:] for found in every if found[1 : 1 + len(words)] == [*words]]


def test_what_is_wrong_with_settings_is_shown_as_the_page_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A start is refused, and the doctor names the file that is right again."""
    page = PAGES["Wrong edit of bot.yaml"]
    monkeypatch.delenv("DYDX_CONFIG")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bot.yaml").write_text("policy:\n  max_levrage: 3\n")

    assert main(["paper", "--network", "local", "--seconds", "1"]) == 2
    assert is_in(page.shows[0], capsys.readouterr().err)
    (tmp_path / "bot.yaml").write_text("policy:\n  max_leverage: 3\n")
    [mended] = commands(page.title, "doctor")
    assert main(mended) == 0
    assert is_in(page.over[1], capsys.readouterr().out)


def test_drill_lost_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no database is named by the doctor; away with it, and the next run makes one."""
    page, file = PAGES["Lost database"], tmp_path / "bot.db"
    file.write_text("some text " * 999)
    [look] = commands(page.title, "doctor")

    assert main([*look, "--database", str(file)]) == 1
    monkeypatch.setattr("bot.live.reconcile.look", lambda *_: ([], "the indexer at block 9"))
    bot.live.reconcile.reconcile(NETWORKS["local"], Subaccount("dydx1", 0), Inbox(), str(file))
    shown = capsys.readouterr()
    assert all(is_in(words, shown.out + shown.err) for words in page.shows)
    file.rename(tmp_path / "away")
    assert main([*look, "--database", str(file)]) == 0
    over = capsys.readouterr().out
    assert all(is_in(words, over) for words in page.over[1:])


def test_what_a_killed_run_left_is_shown_as_the_page_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it was left, and what its order in flight did since."""
    page, stood = PAGES["Killed (kill -9, power)"], OpenOrder(order_id="o", client_id="1", words="")
    left = LastRun(run="run 3, which was killed", began=0, held=HeldAt(), orders=(stood,))
    fill = Movement(
        kind="fill", at=1, paid_in=0, id="f", ticker="ETH-USD", size=Decimal(-1), order_id="o"
    )
    now = HeldAt(sizes={"ETH-USD": Decimal(-1)})
    views = iter([([], "here"), (compare(left, Reported(held=now, moves=(fill,)), now), "")])
    monkeypatch.setattr("bot.live.reconcile.last_run", lambda *_: left)
    monkeypatch.setattr("bot.live.reconcile.look", lambda *_: next(views))

    for _ in range(2):
        bot.live.reconcile.reconcile(NETWORKS["local"], Subaccount("dydx1"), Inbox())

    shown = capsys.readouterr().err
    assert all(is_in(words, shown) for words in page.shows)


# === Lost disk ===


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file of this process grow beyond 20 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_drill_lost_disk(
    frames: list[Frame], tmp_path: Path, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The recording ends, the run halts, and the doctor has it until there is room again."""
    page, inbox, bot = PAGES["Lost disk"], Inbox(), Bot(Options())
    recording = Recorder(tmp_path / "run.jsonl.zst", NETWORKS["local"])
    troubles = Troubles(bot, inbox, {"recorder": lambda: recording.trouble}, prints=True)
    request.getfixturevalue("small_files")

    for frame in frames[:400]:
        recording.note(frame)
    troubles.look()
    halt = inbox.take(1, 0.0)
    assert halt is not None
    bot.run(from_iterable([*frames[:50], halt]))
    log = LogWriter(LogFile(tmp_path / "bot.jsonl", 10**6, 1), "r1", level=INFO)
    for _ in range(200):
        log.put(Line(event="trouble", at=1, wall=1, fields={"words": "x" * 100}))
    log.start()
    log.close(0.2)

    shown = "\n".join([log.trouble, *report_lines(report_of(bot, name="x"))])
    shown += capsys.readouterr().err
    assert all(is_in(words, shown) for words in page.shows)
    [look] = commands("Lost disk", "doctor")
    usage = SimpleNamespace(free=50 * 10**6)
    monkeypatch.setattr("bot.doctor.machine.shutil.disk_usage", lambda _: usage)
    assert main(look) == 1
    assert "failed   disk " in capsys.readouterr().out
    usage.free = 10**10
    assert main(look) == 0
    over = capsys.readouterr().out + "\n".join(
        status_lines(status_of(Bot(Options()), "PAPER", "x"))
    )
    assert is_in(page.over[1], over)


# === Lost node, wrong clock ===


@pytest.fixture
def indexer(monkeypatch: pytest.MonkeyPatch) -> ChainTip:
    """Let a recording stand in for the indexer; return a node's block that goes with it."""
    found = next(f for f in collect(replay("quickstart")) if f.channel == "v4_block_height")
    (block,) = contents(found)
    height, time_ns = block.block

    def live(_: Network, __: list[str], **given: Any) -> Observable[Frame]:
        return replay("quickstart", pace=given["pace"])

    monkeypatch.setattr("bot.config.validation.live", live)
    return ChainTip("localdydxprotocol", height, time_ns, time_ns)


def refused(net: Network) -> str:
    """Return why a run with real orders does not start on a network."""
    settings = EnvironmentSettings()
    with pytest.raises(RefusalError) as refusal:
        bot.live.trade.fit(settings, net, Subaccount("dydx1", 0))
    return str(refusal.value)


def test_drill_lost_node(
    indexer: ChainTip, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The doctor has it, a start is refused; another node ends it."""
    page = PAGES["Lost node"]
    monkeypatch.setitem(GIVEN, "HOST:PORT", "127.0.0.1:10")
    real, gone = dydx_conn.chain_tip, dataclasses.replace(NETWORKS["local"], node="127.0.0.1:9")
    monkeypatch.setitem(NETWORKS, "local", gone)
    monkeypatch.setattr(
        "bot.config.validation.chain_tip",
        lambda net: indexer if net.node == "127.0.0.1:10" else real(net),
    )
    first, second = commands("Lost node", "doctor")

    assert main(first) == 1
    shown = capsys.readouterr().out + refused(gone)
    assert [words for words in page.shows if not is_in(words, shown)] == []
    assert main(second) == 0
    over = capsys.readouterr().out
    assert all(is_in(words, over) for words in page.over[1:])


def test_drill_wrong_clock(
    indexer: ChainTip, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The doctor has it and what to type, a start is refused; a clock that is set ends it."""
    page, net = PAGES["Wrong clock"], dataclasses.replace(NETWORKS["local"], chain_id="fork-1")
    monkeypatch.setitem(NETWORKS, "local", net)
    monkeypatch.setattr("bot.doctor.machine._adjusted", lambda: (0, 4_000))
    at = [indexer.at + 20 * 10**9]

    def tip(_: Network) -> ChainTip:
        return dataclasses.replace(indexer, chain_id="fork-1", at=at[0])

    monkeypatch.setattr("bot.config.validation.chain_tip", tip)
    # A network that is not local has a clock to be held to, and certificates.
    looks = [each for each in bot.config.validation._LOOKS if each.__name__ != "_tls"]
    monkeypatch.setattr("bot.config.validation._LOOKS", looks)
    [look] = commands("Wrong clock", "doctor")

    assert main(look) == 1
    shown = capsys.readouterr().out + refused(net)
    assert [words for words in page.shows if not is_in(words, shown)] == []
    assert page.commands[0] in shown
    at[0] = indexer.at
    assert main(look) == 0
    over = capsys.readouterr().out
    assert all(is_in(words, over) for words in page.over[1:])


# === Chain halt ===


def test_drill_chain_halt() -> None:
    """A halt of the real chain, made longer by a minute: nothing enters, until blocks come."""
    [session] = [one for one in REAL if str(one) == "21-node-halted"]
    before, after = session.frames[:115], session.frames[115:]
    last = before[-1]
    assert (last.kind, after[0].channel) == ("tick", "v4_block_height")
    pause = [_later(last, n * 10**9) for n in range(1, 61)]
    lived = [*before, *pause, *(_later(frame, 60 * 10**9) for frame in after)]
    run, whys = Bot(Options(strategy="none")), dict[int, list[str]]()

    def look(frame: Frame) -> None:
        views = run.data.views.values()
        stops = [
            one.why for view in views if view.live_at for one in stopping(view, "entry", frame.at)
        ]
        whys[frame.at] = stops

    run.run(from_iterable(lived).pipe(operators.do_action(look)))

    [words, *_] = PAGES["Chain halt"].shows
    assert any(is_in(words, why) for why in whys[pause[-1].at])
    assert whys[lived[-1].at] == []
    assert "gate         ACTIVE" in PAGES["Chain halt"].over


def _later(frame: Frame, by_ns: int) -> Frame:
    return msgspec.structs.replace(frame, at=frame.at + by_ns, mono=frame.mono + by_ns)


# === What is tried again ===


@pytest.mark.parametrize("row", table(), ids=lambda row: row[1])
def test_the_table_of_what_is_tried_again_is_the_code_s(row: list[str]) -> None:
    """Tries and what counts as a failure of the endpoint; statuses go to the error named."""
    what, name, tries, fails, _ = row
    error = getattr(dydx_conn, name)

    assert (str(error.tries), fails) == (tries, "yes" if error.verdict == "bad" else "no")
    for status in map(int, re.findall(r"\b[45]\d\d\b", what)):
        found = dydx_conn._refusal("/v4/time", status, '{"errors":[{"msg":"no"}]}')
        assert type(found) is error


def test_the_table_has_every_error_of_rest() -> None:
    """A new one needs its row."""
    every = {dydx_conn.RestError}
    while more := {sub for each in every for sub in each.__subclasses__()} - every:
        every |= more

    assert {row[1] for row in table()} == {each.__name__ for each in every} - {"RestError"}

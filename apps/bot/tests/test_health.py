"""How the program does: what a run needs, takes, writes and runs by."""

from pathlib import Path

import pytest
from bot.config.loaded import load
from bot.database.writer import Writer
from bot.live.trade import Audited
from bot.live.troubles import Recorder
from bot.run.beside import Beside, Counting
from bot.run.composition import Bot, Options
from bot.screen.closeup import closeup
from dydx_conn import AuditLog, Frame, WireWriter, network, replay
from dydx_panels import HealthPart, HealthRow
from reactivex import from_iterable


def seen(bot: Bot) -> HealthPart:
    """Look at the program."""
    part = closeup(bot, "health", "")["health"]
    assert isinstance(part, HealthPart)
    return part


def row(part: HealthPart, what: str) -> HealthRow:
    """Return one of what a run needs."""
    return next(each for each in part.rows if each.what == what)


@pytest.fixture(scope="module")
def played() -> Bot:
    """Return a run that somebody looked at."""
    bot = Bot(Options(config=load({"policy.act_below": ("--act-below", 0.08)}, environment={})))
    bot.follow_links()
    bot.run(replay("quickstart", pace=lambda frame: frame.seq < 400))
    return bot


def test_a_run_that_is_well_is_good_all_over(played: Bot) -> None:
    """Connection, data, account, trading and strategy each have their row."""
    part = seen(played)

    assert {"connection", "data", "account", "trading", "strategy"} == {x.what for x in part.rows}
    assert {x.state for x in part.rows} == {"good"}
    assert part.frames == 399
    assert (part.memory_mb or 0) > 10
    assert part.threads is not None


def test_before_a_market_is_known_a_connection_is_no_good() -> None:
    """A link that does not come is seen at once."""
    part = seen(Bot(Options()))

    assert row(part, "connection") == HealthRow("connection", "watch", "waiting")
    assert part.ages == ()


@pytest.mark.parametrize(
    ("ticks", "words"),
    [
        (0, "closed: c1: 1006 connection reset"),
        (4, "connecting 4 s, attempt 1: c1: the wait is over"),
    ],
)
def test_a_lost_connection_is_named_with_its_reason(ticks: int, words: str) -> None:
    """As it stands, for how long, and why; at the end of a run it is closed."""
    bot, link = Bot(Options(strategy="none")), WireWriter()
    bot.follow_links()
    frames = [
        link.event("open", text="ws://here"),
        link.event("sent", text='{"type":"subscribe","channel":"v4_orderbook","id":"BTC-USD"}'),
        link.book("BTC-USD", [("99", "1")], [("101", "1")]),
        link.event("close", text="connection reset", type="1006"),
    ]
    for _ in range(ticks):
        link.wait(1)
        frames.append(link.event("tick"))
    bot.run(from_iterable(frames))

    assert row(seen(bot), "connection") == HealthRow("connection", "watch", words)


def test_what_is_written_beside_a_run_is_counted(played: Bot, wrote: Beside) -> None:
    """With what is wrong with it, and what is wrong around the run."""
    played.shown.beside = [wrote]
    played.shown.troubles = {"database": wrote.trouble, "terminal": "it is closed"}

    part = seen(played)

    assert row(part, "database").counts == (("written", 9), ("lost", 1))
    assert row(part, "database").state == "watch"
    assert row(part, "terminal") == HealthRow("terminal", "watch", "it is closed")
    played.shown.beside, played.shown.troubles = (), {}


def test_what_writes_down_counts_it(tmp_path: Path) -> None:
    """Recorder, database writer and audit log each say how much is written, waits or is lost."""
    net = network("testnet")
    recorder = Recorder(tmp_path / "run.jsonl.zst", net)
    audit = AuditLog(tmp_path / "audit.jsonl")
    writer = Writer(f"sqlite:///{tmp_path}/run.db", {"run": "1"})

    recorder.note(Frame(1, 0, 0, "c1", "ws", "{}"))
    audit.write("order")
    writer.put("fills", {})

    assert recorder.figures()["written"] == 1
    assert Audited(audit).figures() == {"written": 1, "lost": 0}
    assert writer.figures() == {"written": 0, "waiting": 1, "in a file": 0, "lost": 0}
    assert all(isinstance(one, Counting) for one in (recorder, Audited(audit), writer))
    recorder.end()
    audit.close()


def test_a_halt_and_a_stopped_strategy_are_dangers(played: Bot) -> None:
    """Each with its reason."""
    played.risk.stops.halt("flash crash (by ann)", foreign=False)
    played.stopped = ValueError("a bug")

    part = seen(played)

    assert row(part, "trading").state == "danger"
    assert "flash crash" in row(part, "trading").words
    assert row(part, "strategy") == HealthRow("strategy", "danger", "stopped: ValueError")
    played.risk.resume()
    played.stopped = None


def test_settings_that_differ_are_listed_with_their_origin(played: Bot) -> None:
    """Those that are as the profile has them are not."""
    (setting,) = seen(played).settings

    assert (setting.path, setting.value, setting.origin) == (
        "policy.act_below",
        "0.08",
        "--act-below",
    )


def test_silent_markets_are_named(played: Bot) -> None:
    """And those without a book."""
    first, second = played.shown.watched[:2]
    first.quality.stale = True
    second.book.forget()

    assert row(seen(played), "data").words == f"silent: {first.ticker} · no book: {second.ticker}"
    first.quality.stale = False


def test_a_place_that_is_not_there_yet_has_a_disk() -> None:
    """It is that of the directory above it."""
    config = load({"record": ("--record", "not/there/yet.jsonl.zst")}, environment={})

    part = seen(Bot(Options(config=config)))

    assert Path(part.disk).name == "there"
    assert (part.disk_free_gb or 0) > 0

"""A dashboard after a restart shows what was there; nothing but the screen knows of it."""

import argparse
import io
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bot.database.tables import engine_of, equity_points, fills, orders, runs, upgrade
from bot.live import runs as live
from bot.run.composition import Bot, Options
from bot.run.curve import MOST, SECOND_NS
from bot.run.paper import paper_account
from bot.run.resume import Left
from bot.screen.earlier import Earlier, earlier_of
from bot.screen.screen import Screen
from bot.screen.snapshot import equity_of, snapshot_of
from dydx_conn import NETWORKS, Frame
from dydx_panels import Snapshot
from msgspec.structs import replace
from reactivex import from_iterable
from rich.console import Console
from sqlalchemy import Connection

CHAIN, US = NETWORKS["local"].chain_id, paper_account("paper")
BEGAN = 1_784_000_000 * SECOND_NS  # before all frames of the recording
LEFT = Left(run=5, at=0, ended=False, ledger=1)


def add_run(connection: Connection, number: int, ledger: int = 1, **more: Any) -> None:
    """Write a run down with three points, the second the deepest, and two orders, one filled."""
    at = BEGAN + number * 100 * SECOND_NS
    row = {"mode": "paper", "chain_id": CHAIN, "account": str(US), "state": "running"} | more
    connection.execute(
        runs.insert().values(id=number, ledger=ledger, began=at, process=str(number), **row)
    )
    whose = {"run_id": number, "chain_id": CHAIN, "account": row["account"], "ledger": ledger}
    for second, (usdc, drawdown) in enumerate(((1_000, 0.0), (900, 0.1), (950, 0.05))):
        connection.execute(equity_points.insert().values(
            run_id=number, at=at + second * SECOND_NS, equity=usdc * 10**6 + number,
            drawdown=drawdown, distance=0.2, leverage=1.5,
        ))  # fmt: skip
    for name, status, filled in (
        ("O9", "OPEN", "0"),
        ("O10", "CANCELLED", "0"),
        ("O2", "FILLED", "0.5"),
    ):
        connection.execute(orders.insert().values(
            **whose, order_id=f"{number}-{name}", id=name, ticker="ETH-USD", side="BUY",
            type="STOP_LIMIT", size="0.5", price="3000", filled=filled, status=status,
            reason="ORDER_REMOVAL_REASON_EXPIRED" if status == "CANCELLED" else "",
            created=at, updated=at,
        ))  # fmt: skip
    for part in (1, 2):
        connection.execute(fills.insert().values(
            **whose, fill_id=f"{number}-{part}", id=f"F{part}", order_id=f"{number}-O2", seq=part,
            at=at + part, ticker="ETH-USD", side="BUY", size="0.25", price="2999",
            quote=749_750_000, fee=100_000, type="LIMIT", words=f"BUY 0.25, part {part}",
        ))  # fmt: skip


def written(url: str) -> str:
    """Fill a database with runs of an account, of which 1 and 5 are; the others are of others."""
    engine = engine_of(url)
    upgrade(engine)
    with engine.begin() as connection:
        add_run(connection, 1)
        add_run(connection, 2, ledger=2)  # --fresh, and given up
        add_run(connection, 3, account="dydx1other/0")
        add_run(connection, 4, mode="trade")
        add_run(connection, 5)
        add_run(connection, 6)  # it is the next one
    engine.dispose()
    return url


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return a file of these runs."""
    return written(str(tmp_path / "bot.db"))


@pytest.fixture(scope="module")
def ran(frames: list[Frame]) -> Bot:
    """Return a bot that has traded, and is looked at."""
    bot = Bot(Options.of("reckless"))
    bot.follow()
    bot.run(from_iterable(frames[:3_000]))
    return bot


def dressed(bot: Bot, earlier: Earlier) -> tuple[Snapshot, Snapshot]:
    """Return what a run shows by itself, and with what was before it."""
    alone = snapshot_of(bot, mode="PAPER", name="x", speed=None)
    return alone, earlier.dress(bot.executed.orders, alone)


def test_the_curve_begins_with_what_the_account_was_worth(url: str, ran: Bot) -> None:
    """Of its own runs alone, in order; the least of both and the deepest fall of all follow."""
    alone, whole = dressed(ran, earlier_of(url, CHAIN, US, LEFT, "paper"))
    own = len(alone.equity.at)

    assert [1_000.000001, 900.000001, 950.000001, 1_000.000005, 900.000005, 950.000005] == [
        *whole.equity.equity[:-own]
    ]
    assert list(whole.equity.at) == sorted(whole.equity.at)
    assert whole.equity.equity[-own:] == alone.equity.equity
    assert whole.equity.profit[-own:] == alone.equity.profit
    assert {0} == {*whole.equity.seqs[:-own]}
    assert 0 not in whole.equity.seqs[-own:]
    assert min(whole.equity.low) == 900.000001
    assert whole.equity.deepest == pytest.approx(100)
    assert whole.equity.deepest_share == pytest.approx(0.1)
    assert whole.safety.result is not None
    assert (whole.safety.result.deepest, whole.safety.result.deepest_share) == (100_000_001, 0.1)


def test_what_this_run_lost_may_be_the_deepest(ran: Bot) -> None:
    """Then it stays."""
    point = (BEGAN, 0, 1.0, 1.0, 1.0, 0.0, 0.0, None, None)
    alone, whole = dressed(ran, Earlier([point]))

    assert alone.equity.deepest
    assert (whole.equity.deepest, whole.safety) == (alone.equity.deepest, alone.safety)


def test_orders_and_fills_of_earlier_runs_stand_below(url: str, ran: Bot) -> None:
    """By the number of their run, the newest first; what may be open is this run's to show."""
    alone, whole = dressed(ran, earlier_of(url, CHAIN, US, LEFT, "paper"))
    own, before = whole.orders[: len(alone.orders)], whole.orders[len(alone.orders) :]
    cancelled, filled = before[:2]

    assert own == alone.orders
    assert ["5/O10", "5/O2", "1/O10", "1/O2"] == [row.id for row in before]
    assert (cancelled.run, cancelled.by, cancelled.why) == (5, "run 5", "expired")
    assert (filled.filled, filled.average, filled.fee) == (0.5, 2_999.0, 200_000)
    assert (filled.kind, filled.age_s) == ("stop limit", None)
    assert filled.market is not None, "its digits"
    assert whole.tape[: len(alone.tape)] == alone.tape
    assert ["5/F2", "5/F1", "1/F2", "1/F1"] == [row.id for row in whole.tape[len(alone.tape) :]]
    assert whole.counts == alone.counts


def test_an_order_that_ended_before_is_listed_once(url: str, ran: Bot) -> None:
    """An indexer lists it again, as nobody's; what this run saw filled is this run's."""
    earlier = earlier_of(url, CHAIN, US, LEFT, "paper")
    alone = snapshot_of(ran, mode="PAPER", name="x", speed=None)
    filled = alone.orders[0]
    again = replace(filled, id="O99", fills=(), by="another")
    seen = ran.executed.orders[filled.id]
    state = replace(seen.state, id="5-O2")
    whole = earlier.dress(
        {filled.id: replace(seen, state=state), "O99": replace(seen, id="O99", state=state)},
        replace(alone, orders=(filled, again)),
    )

    assert filled.fills
    assert [filled.id, "5/O10", "5/O2", "1/O10", "1/O2"] == [row.id for row in whole.orders]


def test_a_server_gives_back_the_same(url: str, postgresql: Callable[[], str], ran: Bot) -> None:
    """PostgreSQL has other types for sums."""
    file, server = (
        dressed(ran, earlier_of(where, CHAIN, US, LEFT, "paper"))[1]
        for where in (url, written(postgresql()))
    )

    assert (file.orders, file.tape, file.equity) == (server.orders, server.tape, server.equity)


def test_a_long_past_is_no_more_points_than_a_curve_has(ran: Bot) -> None:
    """It is thinned with the run, and no extreme of either is lost."""
    points = [
        (BEGAN + n * SECOND_NS, 0, 1.0 + n, 1.0 + n, 1.0 + n, 0.0, 0.0, None, None)
        for n in range(5_000)
    ]
    earlier = Earlier(points)
    alone, whole = dressed(ran, earlier)

    assert len(whole.equity.at) <= MOST
    assert whole.equity.every_s >= alone.equity.every_s
    assert len(whole.equity.at) > MOST // 3, "and not by more than it must be"
    assert (min(whole.equity.low), whole.equity.high[0]) == (1.0, whole.equity.equity[0])
    assert max(whole.equity.high) == max(5_000.0, *alone.equity.high)
    assert earlier.dress({}, alone).equity.at is whole.equity.at, "made once for each point"


def test_a_clock_that_was_set_back_makes_no_curve_that_goes_back(ran: Bot) -> None:
    """What lies after the run's first point is left out."""
    point = (2**62, 0, 1.0, 1.0, 1.0, 0.0, 0.0, None, None)
    alone, whole = dressed(ran, Earlier([point]))

    assert whole.equity.at == alone.equity.at


def test_what_it_is_worth_now_only_the_run_knows(url: str) -> None:
    """Until it does nothing is drawn."""
    _, whole = dressed(Bot(Options()), earlier_of(url, CHAIN, US, LEFT, "paper"))

    assert whole.equity.at == ()
    assert whole.safety.result is None or whole.safety.result.deepest


def test_a_report_is_of_its_run_and_so_is_its_hash(url: str, ran: Bot) -> None:
    """A page and a sum know nothing of what is shown."""
    known, hash_ = equity_of(ran), ran.journal.hash
    try:
        ran.shown.dressed = partial(earlier_of(url, CHAIN, US, LEFT, "paper").dress, {})
        shown = snapshot_of(ran, mode="PAPER", name="x", speed=None)

        assert len(shown.equity.at) == len(known.at) + 6
        assert (equity_of(ran), ran.journal.hash) == (known, hash_)
    finally:
        ran.shown.dressed = None


def test_why_of_an_earlier_row_says_where_it_is(url: str, ran: Bot) -> None:
    """Its id is one of this run, too, which has nothing to do with it."""
    console = Console(file=io.StringIO(), width=120, height=40, force_terminal=True)
    screen = Screen(ran, mode="PAPER", name="x", console=console)
    try:
        assert screen.actions._cause("5/O2") == (
            "5/O2", ("O2 is of run 5, which is over: bot history O2 --run 5",),
        )  # fmt: skip
        assert screen.actions._cause("5/F1")[1][0].endswith("is over: bot history --run 5")
    finally:
        ran.journal.listeners.remove(screen._note)


def break_size(url: str) -> None:
    """Leave a size that is none."""
    with sqlite3.connect(url) as database:
        database.execute("UPDATE orders SET size = 'x'")


def break_table(url: str) -> None:
    """Leave a database without one of its tables."""
    with sqlite3.connect(url) as database:
        database.execute("DROP TABLE equity_points")


def break_file(url: str) -> None:
    """Leave what is no database."""
    Path(url).write_bytes(b"no database" * 1_000)


@pytest.mark.parametrize("breaks", [break_size, break_table, break_file])
def test_what_cannot_be_read_is_not_shown(url: str, ran: Bot, breaks: Any) -> None:
    """And nothing breaks by it."""
    breaks(url)
    alone, whole = dressed(ran, earlier_of(url, CHAIN, US, LEFT, "paper"))

    assert whole == alone


@pytest.mark.parametrize(
    ("left", "looks", "listener", "shows"),
    [(LEFT, True, None, True), (LEFT, False, "a socket", True), (LEFT, False, None, False),
     (None, True, None, False), (Left(run=0, at=0, ended=True), True, None, False)],
)  # fmt: skip
def test_it_is_read_where_an_account_goes_on_and_somebody_looks(
    url: str, monkeypatch: pytest.MonkeyPatch, left: Left | None, looks: bool,
    listener: str | None, shows: bool,
) -> None:  # fmt: skip
    """At a terminal or over HTTP: nobody waits for what is not shown."""
    monkeypatch.setattr(live, "on_dashboard", lambda _: looks)
    monkeypatch.setattr(live, "database_of", lambda _: url)
    bot = Bot(Options())
    live.remembered(argparse.Namespace(listener=listener), bot, NETWORKS["local"], left, "paper")

    assert (bot.shown.dressed is not None) is shows

"""What a report gathers of a run as it goes on: bounded, exact at the ends, and changing nothing."""

from decimal import Decimal
from typing import Any

import pytest
from bot.pages.gathered import Gathered, Line
from bot.pages.sums import (
    Grouping,
    by_market,
    matched,
    performance_by,
    reasons_of,
    trade_of,
)
from bot.run.composition import Bot, Options
from bot.run.journal import JournalEntry
from dydx_conn import AccountFill, Frame
from hypothesis import given
from hypothesis import strategies as st

SECOND = 1_000_000_000


def entry(id_: str, kind: str = "decision", value: Any = None) -> JournalEntry:
    """Return an entry of the journal."""
    return JournalEntry(
        id=id_, kind=kind, seq=1, at=SECOND, ticker="BTC-USD", words="w", value=value
    )


def filled(id_: str, side: Any, size: str, held: str) -> JournalEntry:
    """Return the entry of a fill."""
    fill = AccountFill(
        id=id_, order_id="o", ticker="BTC-USD", side=side, size=Decimal(size), price=Decimal(1),
        quote=1, fee=0, liquidity="TAKER", type="LIMIT", height=1, created_at="",
        held=Decimal(held),
    )  # fmt: skip
    return entry(id_, "fill", fill)


# === Lines ===


def test_a_line_has_no_more_points_than_it_may() -> None:
    """However long it goes on, every other point is let go once there are too many."""
    line = Line(most=10)
    for second in range(1_000):
        line.add(second * SECOND, float(second))

    assert len(line.points) <= 10
    assert line.points[0] == (0, 0.0)


@given(st.lists(st.one_of(st.none(), st.floats(1, 9)), max_size=200))
def test_a_line_is_exact_where_a_price_begins_and_ends(prices: list[float | None]) -> None:
    """Between a price and none no point is ever left out, and time goes on."""
    line = Line(most=400)
    for second, price in enumerate(prices):
        line.add(second * SECOND // 4, price)

    turns = [one is None for n, one in enumerate(prices)
             if not n or (one is None) != (prices[n - 1] is None)]  # fmt: skip
    found = [price is None for _, price in line.points]
    assert [one for n, one in enumerate(found) if not n or one != found[n - 1]] == turns
    assert [at for at, _ in line.points] == sorted({at for at, _ in line.points})


def test_a_line_that_is_thinned_ends_where_it_ends() -> None:
    """What stands before and after a hole stays: nothing is drawn across it."""
    line = Line(most=6)
    for second, price in enumerate([1.0, 2.0, None, 3.0, 4.0, 5.0, 6.0, None]):
        line.add(second * SECOND, price)

    assert (2 * SECOND, None) in line.points
    assert line.points[-1] == (7 * SECOND, None)


# === A run ===


def test_the_oldest_entries_are_let_go_and_counted() -> None:
    """Of a run of months the newest are there, and how many are not."""
    gathered = Gathered(Bot(Options()), most=3)
    for number in range(5):
        gathered.take(entry(f"D{number}"))

    assert [*gathered.entries] == ["D2", "D3", "D4"]
    assert gathered.dropped == 2


def test_of_an_order_the_newest_state_is_there() -> None:
    """It is written down with each change, under one id."""
    gathered = Gathered(Bot(Options()))
    for word in ("first", "last"):
        gathered.take(entry("O1", "order", word))

    assert [one.value for one in gathered.entries.values()] == ["last"]


def test_what_is_wrong_with_frames_is_counted_without_secrets() -> None:
    """By class and endpoint, with the newest text, cut and cleaned."""
    gathered = Gathered(Bot(Options()), most=2)
    for seq, path in enumerate(("/a", "/a", "/b", "/c")):
        status = Frame(seq, seq * SECOND, seq, "rest", "http", "oh\x1b no", "502", path)
        gathered.note(status)
    found = gathered.errors

    assert sum(found.values()) == 4
    assert {kind for kind, _ in found} == {"ServerError"}
    assert all("\x1b" not in sample for sample in gathered.samples.values())


# === Positions and fills ===


@pytest.mark.parametrize(
    ("fills", "made", "exits"),
    [
        ((("BUY", "1", "0"), ("BUY", "1", "1"), ("SELL", "2", "2")), [["0", "1", "2"]], {"2"}),
        ((("BUY", "1", "0"), ("SELL", "1", "1"), ("SELL", "1", "0")), [["0", "1"], ["2"]], {"1"}),
        ((("BUY", "1", "0"), ("SELL", "3", "1")), [["0", "1"], ["1"]], {"1"}),
        ((("SELL", "1", "5"),), [["0"]], {"0"}),
    ],
    ids=["one", "two", "turned", "held before"],
)
def test_fills_are_of_the_position_that_they_make(
    fills: tuple[tuple[str, str, str], ...], made: list[list[str]], exits: set[str]
) -> None:
    """From flat to flat; what turns round ends one and begins another."""
    gathered = Gathered(Bot(Options()))
    for number, fill in enumerate(fills):
        gathered.take(filled(str(number), *fill))

    assert gathered.grouping.made_by == {"BTC-USD": made}
    assert gathered.grouping.exits == exits


def row(ticker: str, opened: int, closed: int | None, **sums: Any) -> dict[str, Any]:
    """Return the row of a position."""
    known = {"realized": 5_000_000, "unrealized": 0, "funding": -1_000_000, "fees": 500_000}
    return {
        "ticker": ticker, "side": "LONG", "status": "CLOSED", "size": "0", "max_size": "1",
        "entry_price": "1", "exit_price": "2", "opened": opened, "closed": closed,
    } | known | sums  # fmt: skip


def test_positions_and_fills_are_joined_from_the_newest() -> None:
    """Where the oldest fills are not there any more, the newest position has its own."""
    rows = [row("A", 2, 3), row("A", 1, 2), row("B", 1, None)]
    found = matched(rows, {"A": [["F9"]]})

    assert [(one["ticker"], one["opened"], [*made]) for one, made in found] == [
        ("A", 1, []), ("B", 1, []), ("A", 2, ["F9"]),
    ]  # fmt: skip


def test_a_trade_with_an_unknown_part_has_no_net() -> None:
    """Nothing is added up that is not known."""
    known, unknown = trade_of(row("A", 1, 2)), trade_of(row("A", 1, None, unrealized=None))

    assert (known.net, known.closed) == ("3.500000", "1970-01-01T00:00:00.000000Z")
    assert (unknown.net, unknown.unrealized, unknown.closed) == (None, None, None)


def test_markets_are_summed_and_the_best_is_first() -> None:
    """What has ended is counted, what it came to is exact."""
    rows = [row("A", 1, 2), row("B", 1, 2, realized=9_000_000), row("A", 1, None, realized=0)]
    found = by_market(rows)

    assert [(one.ticker, one.trades, one.won, one.net) for one in found] == [
        ("B", 1, 1, "7.500000"), ("A", 1, 1, "2.000000"),
    ]  # fmt: skip


def test_reasons_are_counted_and_the_most_frequent_is_first() -> None:
    """Each with the newest of its kind."""
    found = reasons_of(
        [("denied", "STALE", "V1"), ("approved", "", "V2"), ("denied", "STALE", "V3")]
    )

    assert [(one.kind, one.count, one.newest) for one in found] == [
        ("denied", 2, "V3"), ("approved", 1, "V2"),
    ]  # fmt: skip


def test_performance_is_of_the_positions_that_ended_and_are_known() -> None:
    """Half are won; what is open or unknown counts for nothing, and what does not exist says why."""
    rows = [row("A", 1, 2), row("A", 1, 2, realized=-2_000_000), row("A", 1, None),
            row("A", 1, 2, fees=None)]  # fmt: skip
    found = {one.name: one.words for one in performance_by(rows)}
    nothing = {one.name: one.words for one in performance_by([])}

    assert found == {
        "trades": "2", "won": "50.0 %", "profit factor": "1.00", "average win": "3.50 USDC",
        "average loss": "3.50 USDC",
    }  # fmt: skip
    assert nothing["won"] == "unknown: no trade has ended"


def test_a_grouping_begins_empty() -> None:
    """Before the first fill there is no position."""
    assert Grouping().made_by == {}

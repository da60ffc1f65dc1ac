"""What a ledger remembers: pages of it, never more than its caps, and all of it rebuilt."""

from typing import Any

import msgspec
import pytest
from dydx_conn import (
    OrderRequest,
    Subaccount,
    collect,
    load_recorded_stream,
    market_parameters,
)
from dydx_data import DataState, step
from dydx_paper import (
    Caps,
    Filled,
    HistoryError,
    Ledger,
    LedgerError,
    Marked,
    Opened,
    OrderRecord,
    PaperVenue,
    Refused,
    Stamp,
    TransferRecord,
    rebuild,
    transfer_fields,
)
from exchange import settle_funding
from hypothesis import given
from hypothesis import strategies as st

ME = Subaccount("me")
BTC = market_parameters("BTC-USD")
ETH = msgspec.structs.replace(BTC, ticker="ETH-USD", clob_pair_id=1, perpetual_id=1)
COIN = 10**10
USDC = 1_000_000


def at(price: int) -> int:
    """Return a price in subticks."""
    return price * 100_000


def second(n: int) -> Stamp:
    """Return the moment `n` seconds after the epoch, in block `n`."""
    return Stamp(seq=n, at=n * 10**9, time_ns=n * 10**9, height=n)


def order(n: int, **fields: Any) -> OrderRecord:
    """Return an order made in second `n`."""
    given: dict[str, Any] = {
        "ticker": "BTC-USD",
        "side": "BUY",
        "quantums": COIN,
        "subticks": at(50_000),
    }
    return OrderRecord(
        id=f"o{n}", **(given | {"created": second(n), "updated": second(n)} | fields)
    )


# --- orders


def test_the_last_fifty_orders_come_newest_first() -> None:
    """Unless another page is requested."""
    ledger = Ledger(ME)
    for n in range(120):
        ledger.note(order(n))

    first, third = ledger.history.orders(), ledger.history.orders(page=3)

    assert [f"o{n}" for n in range(119, 69, -1)] == [row.id for row in first.rows]
    assert [f"o{n}" for n in range(19, -1, -1)] == [row.id for row in third.rows]
    assert (120, 1, 50) == (first.total, first.page, first.limit)
    assert () == ledger.history.orders(page=4).rows


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"status": "FILLED"}, ["o3", "o1"]),
        ({"status": ("FILLED", "CANCELED")}, ["o3", "o2", "o1"]),
        ({"ticker": "ETH-USD"}, ["o4", "o3"]),
        ({"ticker": "ETH-USD", "status": "FILLED"}, ["o3"]),
        ({"since_ns": 2 * 10**9, "until_ns": 4 * 10**9}, ["o3", "o2"]),
        ({"limit": 2}, ["o4", "o3"]),
        ({"limit": 2, "page": 2}, ["o2", "o1"]),
        ({"ticker": "SOL-USD"}, []),
    ],
)
def test_orders_are_found_by_status_ticker_and_date(
    filters: dict[str, Any], ids: list[str]
) -> None:
    """From the first moment on, until before the last."""
    ledger = Ledger(ME)
    ledger.note(order(1, status="FILLED"))
    ledger.note(order(2, status="CANCELED"))
    ledger.note(order(3, status="FILLED", ticker="ETH-USD"))
    ledger.note(order(4, ticker="ETH-USD"))

    assert ids == [row.id for row in ledger.history.orders(**filters).rows]


@pytest.mark.parametrize("filters", [{"page": 0}, {"limit": 0}, {"limit": 1_001}])
def test_a_page_that_cannot_be_is_an_error(filters: dict[str, int]) -> None:
    """Which names what was expected."""
    with pytest.raises(HistoryError, match="expected a page from 1 and a limit of 1 to 1000"):
        Ledger(ME).history.orders(**filters)


@pytest.mark.parametrize(("flags", "created"), [(64, 1), (0, 9)])
def test_an_order_keeps_its_place_and_its_creation(flags: int, created: int) -> None:
    """However often it is reported again; a short-term one is created by its first fill."""
    ledger = Ledger(ME)
    ledger.note(msgspec.structs.replace(order(1), order_flags=flags))
    ledger.note(order(2))
    for at in (9, 10):
        ledger.note(msgspec.structs.replace(
            order(at), id="o1", order_flags=flags, filled=at - 5, status="FILLED",
        ))  # fmt: skip

    newest, oldest = ledger.history.orders().rows

    assert ("o2", "o1", "FILLED", 5) == (newest.id, oldest.id, oldest.status, oldest.filled)
    assert (second(created), second(10)) == (oldest.created, oldest.updated)


def test_the_oldest_order_that_has_ended_is_forgotten_first() -> None:
    """One that stands is retained; one that came back to life counts as standing."""
    ledger = Ledger(ME, caps=Caps(orders=3))
    ledger.note(order(1))
    ledger.note(order(2, status="CANCELED"))
    ledger.note(order(2))
    ledger.note(order(3, status="FILLED"))
    ledger.note(order(4))
    ledger.note(order(5))

    assert ["o5", "o4", "o2"] == [row.id for row in ledger.history.orders().rows]


# --- fills and positions


def test_fills_are_stored_by_order_with_what_they_earned() -> None:
    """Half closed at 2,000 above the entry."""
    ledger = Ledger(ME, 100_000 * USDC)
    ledger.fill(BTC, COIN, at(50_000), 7, when=second(1), id="a", order_id="x")
    ledger.fill(
        BTC, -COIN // 2, at(52_000), 9, 2, second(2),
        id="b", order_id="y", liquidity="MAKER", builder_fee=4,
    )  # fmt: skip

    (sold,) = ledger.history.fills("y").rows

    assert ["b", "a"] == [fill.id for fill in ledger.history.fills().rows]
    assert (-COIN // 2, -26_000 * USDC) == (sold.quantums, sold.quote)
    assert (9, 4, 2, "MAKER", "LIMIT") == (
        sold.fee, sold.builder_fee, sold.insurance, sold.liquidity, sold.status,
    )  # fmt: skip
    assert (16, 4, 2) == (ledger.paid.fees, ledger.paid.builder, ledger.paid.insurance)


def test_a_fill_without_an_id_is_given_one() -> None:
    """Each its own, and the same in every run."""
    ids = []
    for _ in range(2):
        ledger = Ledger(ME, 100 * USDC)
        ledger.fill(BTC, COIN, at(1))
        ledger.fill(BTC, COIN, at(1))
        ids.append([fill.id for fill in ledger.history.fills().rows])

    assert ids[0] == ids[1]
    assert 2 == len(set(ids[0]))


def test_a_fill_without_an_event_is_the_next_of_its_block() -> None:
    """Height, transaction and event in hexadecimal, the events counted on from the first."""
    ledger = Ledger(ME, 100 * USDC)
    for _ in range(2):
        ledger.fill(BTC, COIN, at(1), when=Stamp(height=255))

    events = [fill.event for fill in ledger.history.fills().rows]
    assert events == ["000000ff0000000200000002", "000000ff0000000200000001"]


def test_a_time_is_shown_to_the_millisecond_and_no_later_than_text_can_name() -> None:
    """Cut, not rounded; what is past the year 9999 is its last millisecond."""
    ledger = Ledger(ME)
    for time_ns in (1_999_999, 10**30):
        ledger.deposit(1, Stamp(time_ns=time_ns))

    shown = [transfer_fields(ME, moved)["createdAt"] for moved in ledger.history.transfers().rows]
    assert shown == ["9999-12-31T23:59:59.999Z", "1970-01-01T00:00:00.001Z"]


def test_positions_show_both_profits() -> None:
    """Over partial and several fills, a flip ending one and opening the next."""
    ledger = Ledger(ME, 100_000 * USDC)
    ledger.value("BTC-USD", 49_000, 0)
    ledger.fill(BTC, COIN, at(50_000), 10, when=second(1))
    ledger.fill(BTC, COIN, at(51_000), 10, when=second(2))
    ledger.fill(BTC, -COIN, at(52_000), 10, when=second(3))
    ledger.fill(BTC, -2 * COIN, at(50_000), 10, when=second(4))

    now, ended = ledger.positions().rows

    assert (1_000 * USDC, 0, 35) == (ended.realized, ended.unrealized, ended.fees)
    assert ("CLOSED", 0, second(4)) == (ended.status, ended.quantums, ended.ended)
    assert (-COIN, "OPEN", 1_000 * USDC, 5) == (
        now.quantums, now.status, now.unrealized, now.fees,
    )  # fmt: skip
    assert (now,) == ledger.positions(status="OPEN").rows
    assert (ended,) == tuple(ledger.history.ended)


def test_a_position_without_a_price_has_no_unrealised_profit() -> None:
    """None, not zero."""
    ledger = Ledger(ME, 100 * USDC)
    ledger.fill(BTC, COIN, at(1))

    (position,) = ledger.positions().rows

    assert position.unrealized is None


def test_a_liquidated_position_is_closed_as_any_other() -> None:
    """When its last quantum is gone: the indexer writes no other word."""
    ledger = Ledger(ME, 100 * USDC)
    ledger.fill(BTC, COIN, at(1))
    booking = ledger.fill(BTC, -COIN, at(1), type="LIQUIDATED")
    ledger.liquidated()

    assert ("CLOSED", 1) == (booking.position.status, ledger.tally.liquidations)
    assert 1 == ledger.positions(status="CLOSED").total


def test_funding_is_stored_by_position() -> None:
    """As the indexer shows it: each payment floored by itself."""
    ledger = Ledger(ME, 100_000 * USDC)
    ledger.fill(BTC, COIN, at(50_000))
    ledger.fill(ETH, -COIN, at(3_000))
    settle_funding(ledger, {"BTC-USD": 100, "ETH-USD": 30}, second(3600))

    (position,) = ledger.positions(ticker="BTC-USD").rows
    (paid,) = ledger.history.payments(position.id).rows

    assert (-1_000_000, 100, COIN, second(3600)) == (
        paid.credited, paid.index, paid.quantums, paid.created,
    )  # fmt: skip
    assert paid.credited == position.net_funding
    assert 2 == ledger.history.payments().total
    assert 300_000 == ledger.history.payments(ticker="ETH-USD").rows[0].credited


def test_historical_profit_is_what_was_not_brought_in() -> None:
    """Unknown while a position has no price."""
    ledger = Ledger(ME, 100 * USDC)
    ledger.fill(BTC, COIN, at(50), 1)
    unknown = ledger.mark(second(1))
    ledger.value("BTC-USD", 60, 0)
    ledger.deposit(5 * USDC, second(2))
    known = ledger.mark(second(3))

    assert (None, None) == (unknown.equity, unknown.total_pnl)
    assert (115 * USDC - 1, 105 * USDC, 10 * USDC - 1) == (
        known.equity, known.net_transfers, known.total_pnl,
    )  # fmt: skip
    assert (known, unknown) == ledger.history.pnl().rows


def test_transfers_name_which_way_they_went() -> None:
    """In the indexer's words."""
    ledger = Ledger(ME, 5)
    ledger.deposit(-2, second(1))
    ledger.deposit(3, second(2), other=Subaccount("me", 128))
    ledger.deposit(-1, second(3), other=Subaccount("me", 128))

    stored = ledger.history.transfers().rows

    assert ["TRANSFER_OUT", "TRANSFER_IN", "WITHDRAWAL", "DEPOSIT"] == [
        row.status for row in stored
    ]
    assert 1 == ledger.history.transfers(status="WITHDRAWAL").total


def test_nothing_grows_past_its_cap() -> None:
    """Whatever happens, a thousand times over."""
    caps = Caps(orders=3, fills=4, positions=5, payments=6, transfers=7, points=8)
    ledger = Ledger(ME, 10**12, caps=caps)
    for n in range(1, 100):
        ledger.note(order(n))
        ledger.fill(BTC, COIN, at(100), when=second(n))
        settle_funding(ledger, {"BTC-USD": n}, second(n))
        ledger.fill(BTC, -COIN, at(100), when=second(n))
        ledger.deposit(1, second(n))
        ledger.mark(second(n))

    stored = ledger.history
    pages = (
        stored.orders(), stored.fills(), stored.payments(), stored.transfers(), stored.pnl(),
    )  # fmt: skip
    assert [3, 4, 6, 7, 8] == [page.total for page in pages]
    assert 5 == len(stored.ended)
    assert 198 == ledger.tally.fills


# --- bad input


def test_a_fill_reported_twice_is_booked_once() -> None:
    """The second report changes nothing and is refused."""
    ledger = Ledger(ME, 100 * USDC)
    fill = Filled(market=BTC, quantums=COIN, subticks=at(1), id="a")
    ledger.take(fill)
    before = ledger.collateral

    again = ledger.take(fill)

    assert Refused("DUPLICATE", "a fill not booked before", "a") == again
    assert (before, 1, COIN) == (ledger.collateral, ledger.tally.fills, ledger.position("BTC-USD"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"quantums": 2**64},
        {"quantums": -(2**64)},
        {"quantums": 0},
        {"subticks": 2**64},
        {"subticks": 0},
        {"subticks": -1},
        {"fee": 2**64},
        {"fee": -(2**64)},
        {"insurance": 2**64},
        {"quote": 2**64},
        {"builder_fee": 2**64},
    ],
)
def test_a_fill_of_impossible_size_is_refused(wrong: dict[str, int]) -> None:
    """The ledger stands as it stood."""
    ledger, untouched = Ledger(ME, 100), Ledger(ME, 100)
    given = {"market": BTC, "quantums": COIN, "subticks": at(1)} | wrong

    refused = ledger.take(Filled(**given))  # type: ignore[arg-type]

    assert isinstance(refused, Refused)
    assert "OVERFLOW" == refused.reason
    assert untouched == ledger
    with pytest.raises(LedgerError, match="OVERFLOW: expected"):
        ledger.fill(**given)  # type: ignore[arg-type]


def test_deleveraging_may_pay_nothing() -> None:
    """A quote given overrules the price, and the price may then be nothing."""
    ledger = Ledger(ME, 100)
    ledger.fill(BTC, COIN, 0, quote=0)

    assert (100, COIN) == (ledger.collateral, ledger.position("BTC-USD"))


def test_a_transfer_of_impossible_size_is_an_error() -> None:
    """No account holds as much."""
    with pytest.raises(LedgerError, match="below 2\\*\\*64"):
        Ledger(ME).deposit(2**64)


# --- the journal


@pytest.mark.parametrize(
    "events",
    [[], [Marked(second(1))], [Opened(ME, 0, Caps()), Opened(ME, 0, Caps())]],
    ids=["empty", "headless", "opened twice"],
)
def test_a_journal_begins_with_its_opening_and_opens_once(events: list[Any]) -> None:
    """Or it is nobody's."""
    with pytest.raises(LedgerError, match="Opened"):
        rebuild(events)


def test_a_journal_that_holds_a_fill_twice_books_it_once() -> None:
    """As the ledger did; what no ledger would have booked is an error."""
    journal: list[Any] = []
    ledger = Ledger(ME, 100 * USDC, journal=journal.append)
    ledger.fill(BTC, COIN, at(1))

    assert ledger == rebuild([*journal, journal[-1]])
    with pytest.raises(LedgerError, match="OVERFLOW"):
        rebuild([*journal, Filled(market=BTC, quantums=0, subticks=1)])


def test_a_market_regraded_under_a_position_needs_more_margin() -> None:
    """And one in which nothing is held leaves no trace."""
    journal: list[Any] = []
    ledger = Ledger(ME, 100_000 * USDC, journal=journal.append)
    ledger.value("BTC-USD", 50_000, 0)
    ledger.fill(BTC, COIN, at(50_000))
    ledger.regrade(BTC)
    ledger.regrade(ETH)
    before = len(journal)
    ledger.regrade(msgspec.structs.replace(BTC, imf_ppm=100_000))

    assert 5_000 * USDC == ledger.margin.initial_margin
    assert before + 1 == len(journal)
    assert ledger == rebuild(journal)


def test_ledgers_that_differ_are_not_equal() -> None:
    """Nor is a ledger equal to anything else."""
    assert Ledger(ME, 1) != Ledger(ME, 2)
    assert Ledger(ME, 1) == Ledger(ME, 1)
    assert Ledger(ME) != "me"


def _signed(most: int) -> st.SearchStrategy[int]:
    return st.integers(-most, most).filter(bool)


deeds = st.lists(
    st.one_of(
        st.tuples(
            st.just("fill"), st.sampled_from([BTC, ETH]), _signed(9), st.integers(1, 90_000),
            st.integers(-9, 99), st.sampled_from(["MAKER", "TAKER"]),
            st.sampled_from(["LIMIT", "LIQUIDATED"]), st.sampled_from(["", "a", "b"]),
        ),
        st.tuples(
            st.just("value"), st.sampled_from(["BTC-USD", "ETH-USD"]), st.integers(1, 90_000)
        ),
        st.tuples(
            st.sampled_from(["fund", "accrue"]), st.sampled_from(["BTC-USD", "ETH-USD"]),
            st.integers(-9_999, 9_999),
        ),
        st.tuples(st.just("settle")),
        st.tuples(st.just("deposit"), _signed(10**9)),
        st.tuples(st.just("withdraw"), st.integers(1, 10**12)),
        st.tuples(st.just("order"), st.integers(0, 5), st.sampled_from(["OPEN", "FILLED"])),
        st.tuples(st.just("regrade"), st.integers(10_000, 900_000)),
        st.tuples(st.just("mark")),
        st.tuples(st.just("liquidated")),
    ),
    max_size=40,
)  # fmt: skip


def _do(ledger: Ledger, n: int, name: str, *args: Any) -> None:
    when = second(n * 900)
    if name == "fill":
        market, steps, price, fee, liquidity, type_, id_ = args
        fill = Filled(
            market=market, quantums=steps * 10**9, subticks=at(price), fee=fee, when=when,
            insurance=fee // 3, liquidity=liquidity, type=type_, id=id_, builder_fee=fee // 2,
        )  # fmt: skip
        ledger.take(fill)
    else:
        ways: dict[str, Any] = {
            "value": lambda ticker, price: ledger.value(ticker, price, 0, price),
            "fund": lambda ticker, index: settle_funding(ledger, {ticker: index}, when),
            "accrue": lambda ticker, index: ledger.accrue({ticker: index}, when),
            "settle": lambda: ledger.settle(when),
            "deposit": lambda quote: ledger.deposit(quote, when),
            "withdraw": lambda quote: ledger.withdraw(quote, when),
            "order": lambda id_, status: ledger.note(order(id_, status=status, updated=when)),
            "regrade": lambda imf: ledger.regrade(msgspec.structs.replace(BTC, imf_ppm=imf)),
            "mark": lambda: ledger.mark(when),
            "liquidated": ledger.liquidated,
        }
        ways[name](*args)


@given(deeds, st.integers(0, 40))
def test_a_journal_rebuilds_the_ledger_to_the_quantum(
    what: list[tuple[Any, ...]], cut: int
) -> None:
    """All that it holds, paid and remembers, at every length; and the rebuilt one goes on alike."""
    journal: list[Any] = []
    caps = Caps(orders=3, fills=5, positions=3, payments=4, transfers=3, points=4)
    ledger = Ledger(ME, 10**10, caps=caps, journal=journal.append)
    for n, deed in enumerate(what[:cut]):
        _do(ledger, n, *deed)

    again: list[Any] = []
    rebuilt = rebuild(journal, again.append)
    assert ledger == rebuilt
    assert journal == again
    assert ledger.margin == rebuilt.margin
    for n, deed in enumerate(what[cut:], cut):
        _do(ledger, n, *deed)
        _do(rebuilt, n, *deed)
    assert ledger == rebuilt == rebuild(journal)


def test_a_refusal_leaves_no_event() -> None:
    """Nothing changed, so nothing is recorded."""
    journal: list[Any] = []
    ledger = Ledger(ME, 100, journal=journal.append)

    assert isinstance(ledger.withdraw(101), Refused)
    assert TransferRecord(quote_quantums=-100) == ledger.withdraw(100)
    assert 2 == len(journal)


@pytest.mark.replays
def test_a_recorded_crash_is_rebuilt_from_its_journal() -> None:
    """A venue's ledger over a whole recording: bought in a dozen pieces, and what became of it."""
    state, journal, books = DataState(), list[Any](), 0
    venue = PaperVenue(ME, 2_000 * USDC, journal=journal.append)
    ledger = venue.ledger
    for frame in collect(load_recorded_stream("quickstart")):
        for view in step(state, frame):
            venue.step(view)
            books += view.changed == "book"
            market, best = view.market, view.book.best_ask
            if view.changed != "book" or books % 200 or market is None or best is None:
                continue
            request = OrderRequest(
                ticker=view.ticker, clob_pair_id=market.clob_pair_id, side="BUY",
                quantums=100 * market.step_base_quantums,
                subticks=market.subticks(best.price_text) + 100 * market.subticks_per_tick,
                time_in_force="IOC", client_id=books, good_til_block=view.chain.height + 20,
            )  # fmt: skip
            venue.step(request)

    assert ledger.tally.fills == sum(isinstance(event, Filled) for event in journal) > 10
    assert ledger == rebuild(journal)
    assert ledger.margin == rebuild(journal).margin
    assert ledger.tally.fills == ledger.history.fills().total
    fills = ledger.history.fills(limit=1_000).rows
    assert ledger.paid.for_fills == sum(fill.quote for fill in fills)
    assert ledger.paid.fees == sum(fill.fee for fill in fills)

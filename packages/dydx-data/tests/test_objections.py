"""May a market be traded and believed: every objection, and whom each stops."""

from typing import Any, get_args

import pytest
from dydx_conn import Frame, WireWriter, market_fields
from dydx_data import (
    STALE_NS,
    Act,
    DataState,
    MarketView,
    Objection,
    objections,
    step,
    stopping,
)

LIMIT_S = STALE_NS // 1_000_000_000


def seen(**fields: Any) -> tuple[WireWriter, DataState, MarketView]:
    """Subscribe to one market and its book; a field that is None is not sent."""
    wire, state = WireWriter(), DataState()
    described = market_fields("BTC-USD", price="100.5") | fields
    market = {name: text for name, text in described.items() if text is not None}
    step(state, wire.publish("v4_markets", {"markets": {"BTC-USD": market}}, snapshot=True))
    step(state, wire.book("BTC-USD", [("100", "1")], [("101", "1")]))
    return wire, state, state.views["BTC-USD"]


def kinds(view: MarketView, at: int | None = None) -> list[str]:
    """Name what stands against a market."""
    return [one.kind for one in objections(view, at)]


def test_a_market_that_trades_and_is_known_has_nothing_against_it():
    """Nothing stands against an active market with a price, a book and fresh data."""
    _, _, view = seen()

    assert objections(view, view.at) == ()


@pytest.mark.parametrize(
    ("fields", "kind", "why"),
    [
        ({"status": "PAUSED"}, "STATUS", "the status is PAUSED"),
        ({"status": None}, "UNKNOWN_STATUS", "the status is unknown"),
        ({"oraclePrice": None}, "UNKNOWN_ORACLE", "the oracle price is unknown"),
        ({"oraclePrice": "0"}, "UNKNOWN_ORACLE", "the oracle price is unknown"),
        ({"clobPairId": None}, "UNKNOWN_MARKET", "the market's parameters are unknown"),
    ],
)
def test_what_the_venue_did_not_report_is_an_objection(fields, kind, why):
    """Each has a kind for programs and words for people."""
    _, _, view = seen(**fields)

    assert [(one.kind, one.why) for one in objections(view)] == [(kind, why)]


@pytest.mark.parametrize(
    ("bids", "asks", "why"),
    [
        ([("100", "1")], [], "the book is one-sided"),
        ([], [("101", "1")], "the book is one-sided"),
        ([], [], "the book is empty"),
    ],
)
def test_a_book_without_both_sides_is_one_sided(bids, asks, why):
    """There is no middle and no spread to go by."""
    connection, state, view = seen()
    step(state, connection.book("BTC-USD", bids, asks))

    assert [(one.kind, one.why) for one in objections(view)] == [("ONE_SIDED", why)]


def test_a_lost_connection_leaves_the_book_unknown_and_not_one_sided():
    """One cause, one objection."""
    connection, state, view = seen()
    step(state, connection.event("close"))

    assert kinds(view) == ["UNKNOWN_BOOK"]


def test_silence_is_stale_whoever_asks():
    """The data layer notices by itself that nothing came; how long ago takes a time to know."""
    connection, state, view = seen()
    connection.wait(2 * LIMIT_S)
    step(state, connection.event("tick", link=""))
    figures = ("age_s", f"{2 * LIMIT_S}.0"), ("limit_s", f"{LIMIT_S}")
    why = f"its link is silent for {2 * LIMIT_S}.0 s, limit {LIMIT_S} s"

    assert objections(view) == (Objection("STALE", "the data are stale"),)
    assert objections(view, connection.at) == (Objection("STALE", why, figures),)


def calm(connection: WireWriter, state: DataState, seconds: int, height: int = 0) -> None:
    """Let seconds pass in which blocks come, or only ticks, and nothing else."""
    for second in range(seconds):
        connection.wait(1)
        step(state, connection.block(height + second) if height else connection.event("tick"))


def test_what_nobody_moves_is_not_old():
    """While blocks come by the markets' link, the last book and oracle price are the venue's."""
    connection, state, view = seen()

    calm(connection, state, 3_600, height=100)

    assert objections(view, connection.at) == ()
    assert state.counts() == {}


def test_with_a_time_the_longest_silence_counts():
    """At the limit it is short enough, later it is named; without a time nothing was noticed."""
    connection, state, view = seen()
    step(state, connection.block(100))
    connection.wait(5)
    step(state, connection.levels("BTC-USD", bids=[("100", "2")]))
    block_at = state.chain.at

    [stale] = objections(view, block_at + STALE_NS + 100_000_000)

    assert kinds(view, block_at + STALE_NS) == []
    assert kinds(view) == []
    assert stale.why == f"no block came for {LIMIT_S}.1 s, limit {LIMIT_S} s"


def test_a_chain_that_halts_makes_every_market_stale_until_its_next_block():
    """Books may be sent again and again meanwhile: nothing can be traded."""
    connection, state, view = seen()
    step(state, connection.block(100))
    for _ in range(LIMIT_S + 1):
        connection.wait(1)
        step(state, connection.levels("BTC-USD", bids=[("100", "2")]))
    halted = kinds(view, connection.at)

    connection.wait(1)
    step(state, connection.block(101))

    assert halted == ["STALE"]
    assert kinds(view, connection.at) == []


def prices(wire: WireWriter, price: Any) -> Frame:
    """Write a price of BTC beside a good one: the frame as a whole can be read."""
    rows = {"BTC-USD": {"oraclePrice": price}, "ETH-USD": {"oraclePrice": "9"}}
    return wire.publish("v4_markets", {"oraclePrices": rows})


LOST = {
    "closed": lambda wire: wire.event("close"),
    "a gap": lambda wire: wire.event("gap"),
    "a gap of any link": lambda wire: wire.event("gap", link=""),
    "unsubscribed": lambda wire: wire.message("unsubscribed", "v4_markets"),
    "unreadable": lambda wire: wire.publish("v4_markets", {"oraclePrices": 7}),
    "an odd row": lambda wire: prices(wire, 40_000),
    "no number": lambda wire: prices(wire, "4x"),
    "nothing": lambda wire: prices(wire, None),
    "left out": lambda wire: wire.markets(market_fields("ETH-USD", price="9")),
    "odd in a snapshot": lambda wire: wire.markets(
        market_fields("ETH-USD", price="9"), market_fields("BTC-USD", price="9", status=7)
    ),
    "connected": lambda wire: wire.message("connected"),
}


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_a_price_that_may_have_moved_unseen_grows_old_until_the_next_snapshot(lost: Any):
    """Whatever else comes by that link or another confirms no price."""
    connection, state, view = seen()
    other = WireWriter("c2", at=connection.at)
    step(state, lost(connection))
    for second in range(LIMIT_S + 2):
        other.wait(1)
        step(state, other.block(100 + second))
        step(state, other.book("BTC-USD", [("100", "1")], [("101", "1")]))
        connection.wait(1)
        step(state, connection.message("pong"))
    [stale] = objections(view, other.at)

    step(state, connection.markets(market_fields("BTC-USD", price="100.5")))

    assert "the oracle price is not confirmed for" in stale.why
    assert kinds(view, other.at) == []


def test_a_polled_price_is_as_old_as_its_answer():
    """While sockets fail, each answer confirms the prices once."""
    connection, state, view = seen()
    step(state, connection.event("close"))
    markets = {"markets": {"BTC-USD": market_fields("BTC-USD", price="100.5")}}
    books = {"bids": [{"price": "100", "size": "1"}], "asks": [{"price": "101", "size": "1"}]}
    for _ in range(LIMIT_S):
        connection.wait(2)
        step(state, connection.answer("/v4/perpetualMarkets", markets))
        step(state, connection.answer("/v4/orderbooks/perpetualMarket/BTC-USD", books))

    assert kinds(view, connection.at) == []
    assert kinds(view, connection.at + STALE_NS + 1) == ["STALE"]


def test_an_answer_confirms_no_market_but_its_own():
    """One about a single ticker has no news of the others."""
    connection, state, view = seen()
    step(state, connection.event("close"))
    one = {"markets": {"ETH-USD": market_fields("ETH-USD", price="9")}}
    for _ in range(LIMIT_S + 2):
        connection.wait(1)
        step(state, connection.answer("/v4/perpetualMarkets?ticker=ETH-USD", one))

    assert view.priced_at < connection.at - STALE_NS
    assert state.views["ETH-USD"].priced_at == connection.at


def test_a_book_is_as_fresh_as_its_own_link():
    """Trades by another one say nothing of it."""
    connection, state, view = seen()
    other = WireWriter("c2", at=connection.at)
    step(state, other.markets(market_fields("BTC-USD", price="100.5")))
    for second in range(LIMIT_S + 2):
        other.wait(1)
        step(state, other.block(100 + second))
        step(state, other.trades("BTC-USD"))

    [stale] = objections(view, other.at)

    assert stale.why.startswith("its link is silent for")


def test_whoever_looks_may_have_a_shorter_limit():
    """The limit is the caller's, 30 s by default."""
    _, _, view = seen()

    [stale] = objections(view, view.at + 3_000_000_000, stale_ns=2_000_000_000)

    assert stale.why == "its link is silent for 3.0 s, limit 2 s"


def test_the_gravest_objection_comes_first():
    """What the venue refuses outweighs what is not known, and that outweighs what is old."""
    connection, state, view = seen(status="PAUSED", oraclePrice=None)
    connection.wait(2 * LIMIT_S)
    step(state, connection.event("tick", link=""))
    step(state, connection.event("close"))

    assert kinds(view) == ["STATUS", "UNKNOWN_ORACLE", "UNKNOWN_BOOK", "STALE"]


@pytest.mark.parametrize(("lag_ns", "found"), [(2_000_000_000, []), (2_000_000_001, ["LAG"])])
def test_frames_that_wait_for_too_long_are_an_objection(lag_ns, found):
    """To what is judged by ages alone: a position is not left because frames are late."""
    connection, state, view = seen()
    step(state, connection.event("tick", f'{{"age_ns":{lag_ns},"waiting":9}}', link="clock"))

    assert kinds(view, view.at) == found
    assert kinds(view) == []
    assert not stopping(view, "exit", view.at)
    assert not stopping(view, "guard", view.at)


def test_a_lag_is_in_words_and_figures():
    """How long, and the limit."""
    connection, state, view = seen()
    step(state, connection.event("tick", '{"age_ns":33000000000}', link="clock"))

    [lag] = objections(view, view.at)

    assert lag.why == "frames wait 33.0 s before they are folded, limit 2 s"
    assert lag.figures == (("lag_s", "33.0"), ("limit_s", "2"))


ALL = frozenset(get_args(Act))


@pytest.mark.parametrize(
    ("kind", "acts"),
    [
        ("STATUS", ALL - {"book"}),
        ("UNKNOWN_STATUS", {"entry"}),
        ("UNKNOWN_MARKET", ALL),
        ("UNKNOWN_ORACLE", {"entry", "match"}),
        ("UNKNOWN_BOOK", {"entry", "match", "book"}),
        ("ONE_SIDED", {"entry", "book"}),
        ("STALE", {"entry", "match", "book"}),
        ("LAG", {"entry"}),
    ],
)
def test_each_objection_stops_what_the_table_lists(kind, acts):
    """An entry is stopped by all; a way out by what the venue refuses alone."""
    connection, state, view = seen()
    {
        "STATUS": lambda: step(state, connection.trading("BTC-USD", status="FINAL_SETTLEMENT")),
        "UNKNOWN_STATUS": lambda: setattr(view, "status", ""),
        "UNKNOWN_MARKET": lambda: setattr(view, "market", None),
        "UNKNOWN_ORACLE": lambda: setattr(view, "oracle", None),
        "UNKNOWN_BOOK": lambda: step(state, connection.event("close")),
        "ONE_SIDED": lambda: step(state, connection.book("BTC-USD", [], [("101", "1")])),
        "STALE": lambda: setattr(view.quality, "stale", True),
        "LAG": lambda: setattr(view.chain, "lag_ns", 33_000_000_000),
    }[kind]()

    at = view.at if kind == "LAG" else None  # it is judged with the ages
    assert kinds(view, at) == [kind]
    assert {act for act in get_args(Act) if stopping(view, act, at)} == acts

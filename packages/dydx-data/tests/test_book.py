"""Books: snapshots, level totals, uncrossing, and when a book is unknown."""

import doctest
from typing import Any

import dydx_data
import pytest
from dydx_conn import WireWriter
from dydx_data import Book, DataState, Level, step, uncross
from hypothesis import given
from hypothesis import strategies as st

PRICES = st.integers(90, 110)
TOTALS = st.tuples(st.sampled_from([0, 1, 2, 5]), st.integers(0, 20))


def _sides(book: Book) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    return (
        [(level.price, level.size) for level in book.bids()],
        [(level.price, level.size) for level in book.asks()],
    )


def test_a_snapshot_makes_the_book_known() -> None:
    """The best levels carry their exact texts, and the mid lies between them."""
    state = DataState()

    link = WireWriter()

    (view,) = step(state, link.book("BTC-USD", [("99.50", "2"), ("98", "1")], [("100.50", "3.10")]))

    assert (view.ticker, view.changed, view.seq, view.book.seq) == ("BTC-USD", "book", 1, 1)
    assert view.book.known
    assert view.book.best_bid == Level(99.5, 2.0, "99.50", "2", 1)
    assert view.book.best_ask == Level(100.5, 3.1, "100.50", "3.10", 1)
    assert (view.book.mid_price, view.book.spread_bps) == (100.0, 100.0)
    assert (view.book.bid_total, view.book.ask_total) == (3.0, 3.1)


def test_an_update_sets_totals_and_zero_removes() -> None:
    """A size is the level's new total; sizes of other levels stand."""
    state, link = DataState(), WireWriter()
    step(state, link.book("BTC-USD", [("99", "2"), ("98", "1")], [("101", "3")]))

    changes = {"bids": [("99", "0"), ("97", "4")]}, {"asks": [("101", "7")]}
    (view,) = step(state, link.publish("v4_orderbook", *changes, id="BTC-USD"))

    assert _sides(view.book) == ([(98.0, 1.0), (97.0, 4.0)], [(101.0, 7.0)])
    assert (view.book.bid_total, view.book.ask_total) == (5.0, 7.0)


def test_a_snapshot_replaces_the_book() -> None:
    """What a new snapshot does not name is gone."""
    state, link = DataState(), WireWriter()
    step(state, link.book("BTC-USD", [("99", "2")], [("101", "3")]))

    (view,) = step(state, link.book("BTC-USD", [("98", "1")], [("102", "1")]))

    assert _sides(view.book) == ([(98.0, 1.0)], [(102.0, 1.0)])


@pytest.mark.parametrize(
    "level", [("99", "-1"), ("99", "nan"), ("99", "inf"), ("99", "x"), ("99", ""), ("0", "1"),
              ("-5", "1"), ("nan", "1"), ("x", "1"), ("1e999", "1"), ("96", "x")]
)  # fmt: skip
def test_a_level_that_is_no_number_is_a_fault_and_touches_nothing_else(
    level: tuple[str, str],
) -> None:
    """It is counted and sampled; the levels beside it are taken."""
    state, link = DataState(), WireWriter()
    step(state, link.book("BTC-USD", [("99", "2")], [("101", "3")]))

    (view,) = step(state, link.levels("BTC-USD", bids=[level, ("98", "1")]))

    assert _sides(view.book) == ([(99.0, 2.0), (98.0, 1.0)], [(101.0, 3.0)])
    assert view.quality.counts == {"malformed": 1}
    assert view.quality.samples[0].seq == 2


def test_one_sided_and_empty_books_have_no_mid() -> None:
    """An absent side is None, not 0."""
    state, link = DataState(), WireWriter()

    (view,) = step(state, link.book("BTC-USD", [("99", "2")]))
    assert _sides(view.book) == ([(99.0, 2.0)], [])
    assert (view.book.best_ask, view.book.mid_price, view.book.spread_bps) == (None, None, None)
    step(state, link.levels("BTC-USD", bids=[("99", "0")]))

    assert view.book.known
    assert view.book.best_bid is None
    assert view.book.bids() == view.book.asks(3) == []
    assert view.book.bid_total == 0.0


def test_a_crossed_book_is_shown_uncrossed_and_stored_as_received() -> None:
    """The older level is hidden, and comes back when what crossed it goes."""
    state, link = DataState(), WireWriter()
    step(state, link.book("BTC-USD", [("99", "2"), ("98", "1")], [("101", "3")]))

    (view,) = step(state, link.levels("BTC-USD", asks=[("98", "5")]))
    shown = _sides(view.book)
    crossed = (view.book.crossed, view.book.bid_total, view.book.mid_price)
    step(state, link.levels("BTC-USD", asks=[("98", "0")]))

    assert shown == ([], [(98.0, 5.0), (101.0, 3.0)])
    assert crossed == (2, 0.0, None)
    assert _sides(view.book) == ([(99.0, 2.0), (98.0, 1.0)], [(101.0, 3.0)])
    assert (view.book.crossed, view.book.bid_total) == (0, 3.0)
    assert view.quality.counts == {"crossed": 1}


def test_at_one_offset_the_larger_size_stays_and_at_a_tie_the_ask() -> None:
    """The rule of the venue's own front end."""
    assert uncross({100: (2, 7)}, {100: (1, 7)}) == ([(100, 2, 7)], [])
    assert uncross({100: (2, 7)}, {100: (2, 7)}) == ([], [(100, 2, 7)])
    assert uncross({100: (2, 6)}, {99: (9, 7), 101: (0, 9)}) == ([], [(99, 9, 7)])


def test_the_examples_in_the_docstrings_are_true() -> None:
    """What a reader tries first works."""
    assert doctest.testmod(dydx_data).failed == 0


@given(st.dictionaries(PRICES, TOTALS), st.dictionaries(PRICES, TOTALS))
def test_uncrossing_never_leaves_a_bid_at_or_above_an_ask(
    bids: dict[int, tuple[int, int]], asks: dict[int, tuple[int, int]]
) -> None:
    """And it invents no level: what is shown was there, best first."""
    shown_bids, shown_asks = uncross(bids, asks)

    assert not shown_bids or not shown_asks or shown_bids[0][0] < shown_asks[0][0]
    assert {p: (s, o) for p, s, o in shown_bids}.items() <= bids.items()
    assert {p: (s, o) for p, s, o in shown_asks}.items() <= asks.items()
    assert [level[0] for level in shown_bids] == sorted((x[0] for x in shown_bids), reverse=True)
    assert [level[0] for level in shown_asks] == sorted(x[0] for x in shown_asks)


CHANGES = st.lists(st.tuples(st.booleans(), PRICES, st.sampled_from(["0", "1", "2.5", "40"])))


@given(st.lists(CHANGES, max_size=30))
def test_a_book_after_any_updates_equals_a_plain_model(
    updates: list[list[tuple[bool, int, str]]],
) -> None:
    """Two dicts and the pure rule give the same levels, totals and best prices."""
    state, link = DataState(), WireWriter()
    (view,) = step(state, link.book("BTC-USD"))
    sides: dict[bool, dict[float, tuple[float, int]]] = {True: {}, False: {}}

    for offset, changes in enumerate(updates, start=2):
        for is_bid, price, size in changes:
            sides[is_bid][float(price)] = (float(size), offset)
        bids = [(str(price), size) for is_bid, price, size in changes if is_bid]
        asks = [(str(price), size) for is_bid, price, size in changes if not is_bid]
        step(state, link.levels("BTC-USD", bids=bids, asks=asks))
        expected_bids, expected_asks = uncross(sides[True], sides[False])

        book = view.book
        assert [(x.price, x.size, x.offset) for x in book.bids()] == expected_bids
        assert [(x.price, x.size, x.offset) for x in book.asks()] == expected_asks
        assert book.bids(2) == book.bids()[:2]
        assert book.asks(2) == book.asks()[:2]
        assert book.best_bid == next(iter(book.bids()), None)
        assert book.best_ask == next(iter(book.asks()), None)
        assert book.bid_total == pytest.approx(sum(size for _, size, _ in expected_bids))
        assert book.ask_total == pytest.approx(sum(size for _, size, _ in expected_asks))
        assert (book.mid_price is None) == (not expected_bids or not expected_asks)


def test_totals_do_not_drift() -> None:
    """Thousands of differences later the total is still the sum of the levels."""
    state, link = DataState(), WireWriter()
    (view,) = step(state, link.book("BTC-USD", [("99", "0.1")], [("101", "3")]))

    for count in range(10_000):
        step(state, link.levels("BTC-USD", bids=[("98", f"{count % 3}.3")]))

    assert view.book.bid_total == pytest.approx(0.4, abs=1e-12)


def test_a_total_finds_again_what_a_giant_level_has_swallowed() -> None:
    """Beside 1e16 a size of 0.1 is lost in a float; within 4,096 updates it is there again."""
    state, link = DataState(), WireWriter()
    (view,) = step(state, link.book("BTC-USD", [("99", "0.1")], [("101", "3")]))
    for size in ("1e16", "0"):
        step(state, link.levels("BTC-USD", bids=[("98", size)]))
    swallowed = view.book.bid_total

    for _ in range(4_096):
        step(state, link.levels("BTC-USD", bids=[("97", "1")]))

    assert swallowed == 0
    assert view.book.bid_total == 1.1


def test_updates_without_a_snapshot_are_counted_and_not_applied() -> None:
    """Totals of a few levels are no book."""
    state, link = DataState(), WireWriter()

    assert step(state, link.levels("BTC-USD", bids=[("99", "1")])) == ()

    view = state.views["BTC-USD"]
    assert (view.book.known, view.book.bids(), view.quality.counts) == (False, [], {"early": 1})


@pytest.mark.parametrize("kind", ["close", "gap", "open"])
def test_a_broken_link_makes_its_books_unknown_until_a_snapshot(kind: str) -> None:
    """Books of other links stand; the view's change is the lost book."""
    state, one, two = DataState(), WireWriter("c1"), WireWriter("c2")
    step(state, one.book("BTC-USD", [("99", "1")], [("101", "1")]))
    step(state, two.book("ETH-USD", [("9", "1")], [("11", "1")]))

    (lost,) = step(state, one.event(kind))
    one.ids.clear()
    early = step(state, one.levels("BTC-USD", bids=[("98", "1")]))
    known = lost.book.known
    step(state, one.book("BTC-USD", [("98", "1")], [("101", "1")]))

    assert (lost.ticker, lost.changed, known, early) == ("BTC-USD", "book", False, ())
    assert state.views["ETH-USD"].book.known
    assert lost.book.known


@pytest.mark.parametrize(("channel", "lost"), [("v4_orderbook", ["BTC-USD"]), ("v4_trades", [])])
def test_a_gap_of_one_subscription_makes_no_other_book_unknown(
    channel: str, lost: list[str]
) -> None:
    """It died alone: what its link carries beside it goes on, and so does the count of ids."""
    state, link = DataState(), WireWriter()
    for ticker in ("BTC-USD", "ETH-USD"):
        step(state, link.book(ticker, [("99", "1")], [("101", "1")]))

    gap = link.event("gap", channel=channel, id="BTC-USD", text="no message for 9 s")
    touched = [view.ticker for view in step(state, gap)]
    step(state, link.levels("ETH-USD", bids=[("98", "1")]))

    assert touched == lost
    assert [name for name, view in state.views.items() if not view.book.known] == lost
    assert state.counts() == {"gap": 1}


def test_a_gap_of_no_link_makes_all_books_unknown() -> None:
    """Frames lost from a recording may have been anyone's."""
    state, one, two = DataState(), WireWriter("c1"), WireWriter("c2")
    step(state, one.book("BTC-USD", [("99", "1")], [("101", "1")]))
    step(state, two.book("ETH-USD", [("9", "1")], [("11", "1")]))

    lost = step(state, one.event("gap", link="", text="3 lines unreadable"))

    assert [view.ticker for view in lost] == ["BTC-USD", "ETH-USD"]
    assert state.quality.counts == {"gap": 1}


def test_unsubscribing_ends_the_book() -> None:
    """No further updates of it will come."""
    state, link = DataState(), WireWriter()
    step(state, link.book("BTC-USD", [("99", "1")], [("101", "1")]))

    (view,) = step(state, link.message("unsubscribed", "v4_orderbook", id="BTC-USD"))
    again = step(state, link.message("unsubscribed", "v4_orderbook", id="BTC-USD"))

    assert not view.book.known
    assert again == ()


# --- answers

PATH = "/v4/orderbooks/perpetualMarket/BTC-USD"
SECOND = 1_000_000_000


def _answer(bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> dict[str, Any]:
    sides = {"bids": bids, "asks": asks}
    return {k: [{"price": p, "size": s} for p, s in v] for k, v in sides.items()}


def test_an_answer_mends_an_unknown_book_and_spares_a_live_one() -> None:
    """Polling replaces its own books; the socket's newest updates stand."""
    state, link = DataState(), WireWriter()
    answer = _answer([("98", "1")], [("102", "1")])

    (view,) = step(state, link.answer(PATH, answer))
    polled = step(state, link.answer(PATH, answer))
    step(state, link.book("BTC-USD", [("99", "1"), ("98", "1")], [("102", "1")]))
    ignored = step(state, link.answer(PATH, answer))

    assert polled == (view,)
    assert ignored == ()
    assert _sides(view.book) == ([(99.0, 1.0), (98.0, 1.0)], [(102.0, 1.0)])


def test_the_socket_adds_nothing_to_a_book_made_of_an_answer() -> None:
    """The answer's age is unknown: the updates between it and this one are missing."""
    state, link = DataState(), WireWriter()
    body = {"bids": [{"price": "99", "size": "3"}], "asks": []}
    step(state, link.answer("/v4/orderbooks/perpetualMarket/BTC-USD", body))
    view = state.views["BTC-USD"]

    touched = step(state, link.levels("BTC-USD", bids=[("98", "1")]))
    bids = [level.price_text for level in view.book.bids()]
    step(state, link.book("BTC-USD", [("97", "1")]))
    step(state, link.levels("BTC-USD", bids=[("96", "1")]))

    assert (list(touched), bids, view.quality.counts) == ([], ["99"], {"early": 1})
    assert [level.price_text for level in view.book.bids()] == ["97", "96"]


def test_an_answer_restores_what_was_lost_between_snapshot_and_first_update() -> None:
    """The venue listens for us only after it has fetched the snapshot; no id is missing."""
    state, link = DataState(), WireWriter()
    step(state, link.book("BTC-USD", [("99", "2"), ("97", "1")], [("101", "3"), ("104", "1")]))
    link.wait(3)
    step(state, link.levels("BTC-USD", asks=[("103", "7")]))

    # In between 99 went, 98 came and 101 shrank.
    (view,) = step(
        state,
        link.answer(PATH, _answer([("98", "5"), ("97", "1")], [("101.0", "2"), ("104", "1")])),
    )
    seq = view.book.seq
    again = step(state, link.answer(PATH, _answer([("98", "5"), ("97", "1")], [("101", "2")])))
    step(state, link.levels("BTC-USD", bids=[("98", "6")]))

    assert _sides(view.book) == (
        [(98.0, 6.0), (97.0, 1.0)],
        [(101.0, 2.0), (103.0, 7.0)],
    )
    assert (seq, again) == (3, (view,))
    assert state.counts() == {}


def test_what_the_socket_updated_in_the_last_second_and_a_half_stands() -> None:
    """A level that it set, and one that it removed; older updates do not."""
    state, link = DataState(), WireWriter()
    step(state, link.book("BTC-USD", [("99", "2"), ("98", "1")], [("101", "3")]))
    link.wait(9)
    step(state, link.levels("BTC-USD", bids=[("97", "1")]))
    link.wait(1.5)
    step(state, link.levels("BTC-USD", bids=[("99", "0")], asks=[("102", "4")]))
    link.wait(1.499999999)

    (view,) = step(
        state, link.answer(PATH, _answer([("99", "2"), ("98", "1")], [("101", "3"), ("102", "9")]))
    )

    assert _sides(view.book) == ([(98.0, 1.0)], [(101.0, 3.0), (102.0, 4.0)])


def test_what_an_answer_never_shows_is_not_gone() -> None:
    """It has a hundred levels, and no crossed ones; ours beyond and beneath them stay."""
    state, link = DataState(), WireWriter()
    bids = [(str(1000 - n), "1") for n in range(102)]
    step(state, link.book("BTC-USD", bids, [("1001", "1"), ("1002", "1")]))
    link.wait(1)
    step(state, link.levels("BTC-USD", asks=[("999.5", "1")]))
    link.wait(3)

    # The venue hides the bid at 1000 behind the newer ask; the one at 901 was taken.
    answer = _answer([*bids[1:99], *bids[100:102]], [("999.5", "1"), ("1001", "1"), ("1002", "1")])
    (view,) = step(state, link.answer(PATH, answer))
    offered = step(state, link.answer(PATH, _answer([], [])))

    prices = [level.price for level in view.book._bids.levels.values()]
    assert sorted(prices) == sorted({float(price) for price, _ in bids} - {901.0})
    assert view.book.crossed == 1
    assert offered == ()


def test_an_answer_with_levels_that_are_no_numbers_is_counted() -> None:
    """It mends what it can, or nothing."""
    state, link = DataState(), WireWriter()
    (view,) = step(state, link.book("BTC-USD", [("99", "2")], [("101", "3")]))
    link.wait(3)

    step(state, link.answer(PATH, _answer([("x", "2")], [])))
    step(state, link.answer(PATH, _answer([("99", "nan"), ("98", "1")], [("101", "3")])))

    assert _sides(view.book) == ([(99.0, 2.0), (98.0, 1.0)], [(101.0, 3.0)])
    assert view.quality.counts == {"malformed": 2}


@given(st.lists(st.tuples(CHANGES, st.booleans()), max_size=20), st.lists(CHANGES, max_size=4))
def test_after_an_answer_the_book_is_the_venues(
    early: list[tuple[list[tuple[bool, int, str]], bool]], late: list[Any]
) -> None:
    """Whichever early updates were lost, and however many late ones the answer has not seen."""
    state, link = DataState(), WireWriter()
    (view,) = step(state, link.book("BTC-USD"))
    truth: dict[bool, dict[str, str]] = {True: {}, False: {}}

    def send(changes: list[tuple[bool, int, str]], *, lost: bool) -> None:
        # Bids below and asks above, so that nothing crosses and all is shown.
        sides: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
        for is_bid, price, size in changes:
            sides[is_bid].append((str(price if is_bid else price + 100), size))
            truth[is_bid][sides[is_bid][-1][0]] = size
        if not lost:
            step(state, link.levels("BTC-USD", bids=sides[True], asks=sides[False]))

    for changes, lost in early:
        send(changes, lost=lost)
    link.wait(2)
    known = [[(p, s) for p, s in truth[side].items() if s != "0"] for side in (True, False)]
    for changes in late:
        send(changes, lost=False)
    step(state, link.answer(PATH, _answer(*known)))

    for side, shown in zip((True, False), _sides(view.book), strict=True):
        levels = {float(price): float(size) for price, size in truth[side].items() if size != "0"}
        if any(known):
            assert dict(shown) == levels

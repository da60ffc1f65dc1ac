"""Frames that come too late: books folded together, and nothing else."""

import msgspec
import pytest
from dydx_conn import Frame, WireWriter
from dydx_data import DataState, MarketView, step
from hypothesis import given
from hypothesis import strategies as st

AGE_NS = 300_000_000


def late(wire: WireWriter, **books: int) -> Frame:
    """Report a lag: up to which frame from here on each book is folded together."""
    lag = {"age_ns": AGE_NS, "waiting": 9, "books": {f"{name}-USD": n for name, n in books.items()}}
    return wire.event("tick", msgspec.json.encode(lag).decode(), link="clock")


def seen(state: DataState, *frames: Frame) -> list[list[tuple[str, str]]]:
    """Fold frames; return, of each, which markets it showed and what changed of them."""
    return [[(v.ticker[0], v.changed) for v in step(state, frame)] for frame in frames]


def begun() -> tuple[WireWriter, DataState]:
    """Begin with two books."""
    wire, state = WireWriter(), DataState()
    for ticker in ("A-USD", "B-USD"):
        step(state, wire.book(ticker, [("99", "1")], [("101", "1")]))
    return wire, state


def bid(wire: WireWriter, ticker: str, size: int) -> Frame:
    """Set the size of a bid."""
    return wire.levels(ticker, [("99", str(size))])


def shape(view: MarketView) -> list[tuple[float, float, int]]:
    """Return the levels of a book, with the number of the update that set each."""
    levels = [*view.book.bids(), *view.book.asks()]
    return [(level.price, level.size, level.offset) for level in levels]


def test_a_book_is_shown_once_after_the_last_of_its_updates():
    """Each market has its own; a book that the tick does not name is shown at once."""
    wire, state = begun()

    shown = seen(
        state, late(wire, A=3), bid(wire, "A-USD", 2), bid(wire, "B-USD", 2), bid(wire, "A-USD", 3),
        bid(wire, "A-USD", 4),
    )  # fmt: skip

    assert shown == [[], [], [("B", "book")], [("A", "book")], [("A", "book")]]
    assert state.chain.lag_ns == AGE_NS


def test_trades_are_shown_one_by_one_on_the_newest_book():
    """Nothing of a tape is folded together, and the book beside it is not held back either."""
    wire, state = begun()
    view = state.views["A-USD"]

    shown = seen(state, late(wire, A=3), bid(wire, "A-USD", 2), wire.trade("A-USD", "BUY", 1, 101))
    held = view.book.bids(1)[0].size
    shown += seen(state, bid(wire, "A-USD", 3))

    assert shown == [[], [], [("A", "trades")], [("A", "book")]]
    assert held == 2.0


def test_a_book_that_is_lost_is_so_at_once():
    """And what comes after it, before a snapshot, is early as ever."""
    wire, state = begun()

    shown = seen(
        state, late(wire, A=3), bid(wire, "A-USD", 2), wire.event("gap", "lost"),
        bid(wire, "A-USD", 3),
    )  # fmt: skip

    assert shown[:3] == [[], [], [("A", "book"), ("B", "book")]]
    assert not state.views["A-USD"].book.known
    assert state.views["A-USD"].quality.counts["early"] == 1


def test_a_last_update_that_shows_nothing_shows_what_came_before_it():
    """As a message that came twice: the place of the last one counts, not what is in it."""
    wire, state = begun()
    tick, first = late(wire, A=2), bid(wire, "A-USD", 2)
    twice = msgspec.structs.replace(first, seq=first.seq + 1)

    assert seen(state, tick, first, twice) == [[], [], [("A", "book")]]


def test_an_update_that_cannot_be_read_is_shown_at_once():
    """The book is lost with it, and is not held back."""
    wire, state = begun()

    shown = seen(
        state, late(wire, A=3), bid(wire, "A-USD", 2),
        wire.message("channel_batch_data", "v4_orderbook", [{"bids": 7}], "A-USD"),
        bid(wire, "A-USD", 3),
    )  # fmt: skip

    assert shown == [[], [], [("A", "book")], []]


@pytest.mark.parametrize("text", ["{}", '{"age_ns":260000000,"books":{"B-USD":1}}'])
def test_the_next_report_shows_what_it_no_longer_names(text):
    """The end of a lag names no book."""
    wire, state = begun()

    shown = seen(
        state, late(wire, A=9, B=9), bid(wire, "A-USD", 2), wire.event("tick", text, link="clock")
    )

    assert shown == [[], [], [("A", "book")]]
    assert state.views["A-USD"].seq == state.seq


def test_a_second_that_passes_says_nothing_of_a_lag():
    """A tick without text leaves it as it is."""
    wire, state = begun()

    shown = seen(state, late(wire, A=3), wire.event("tick", link="clock"), bid(wire, "A-USD", 2))

    assert shown == [[], [], []]
    assert state.chain.lag_ns == AGE_NS


def test_a_report_that_cannot_be_read_is_counted():
    """What was reported before it stands."""
    wire, state = begun()

    shown = seen(state, late(wire), wire.event("tick", '{"age_ns":"x"}', link="clock"))

    assert shown == [[], []]
    assert state.quality.counts == {"malformed": 1}
    assert state.chain.lag_ns == AGE_NS


UPDATES = st.lists(
    st.tuples(st.sampled_from(["A-USD", "B-USD"]), st.integers(98, 102), st.integers(0, 3)),
    min_size=1, max_size=12,
)  # fmt: skip


@given(UPDATES, st.data())
def test_books_are_level_for_level_what_they_are_without_a_lag(updates, data):
    """Whatever is folded together, and wherever a report comes in between."""
    books = {}
    for is_late in (False, True):
        wire, state = begun()
        for ticker, price, size in updates:
            if is_late and data.draw(st.booleans()):
                ends = data.draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
                step(state, late(wire, A=ends[0], B=ends[1]))
            step(state, wire.levels(ticker, [(str(price), str(size))]))
        step(state, wire.event("tick", "{}", link="clock"))
        books[is_late] = [shape(view) for view in state.views.values()]
        assert not state._behind.unseen

    assert books[True] == books[False]

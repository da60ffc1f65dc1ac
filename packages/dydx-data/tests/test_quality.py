"""Troubles: message ids, silence, unreadable frames; counted, sampled, never raised."""

import json
import random

import msgspec
import pytest
from dydx_conn import Frame, WireWriter, ws_frame
from dydx_data import DataState, step
from hypothesis import given, settings
from hypothesis import strategies as st

SECOND = 1_000_000_000
SUBSCRIBE = '{"type":"subscribe","channel":"v4_orderbook","id":"BTC-USD"}'


def _pair(state: DataState) -> WireWriter:
    """Fold two books of one link; return the link."""
    link = WireWriter()
    step(state, link.book("BTC-USD", [("99", "1")], [("101", "1")]))
    step(state, link.book("ETH-USD", [("9", "1")], [("11", "1")]))
    return link


def _known(state: DataState) -> list[bool]:
    return [view.book.known for view in state.views.values()]


# --- ids


def test_a_hole_in_the_ids_costs_the_books_of_the_link() -> None:
    """What was lost may have been a level of any of them."""
    state = DataState()
    link = _pair(state)
    link.ids["c1"] += 1

    views = step(state, link.trades("BTC-USD"))

    assert _known(state) == [False, False]
    assert [(view.ticker, view.changed) for view in views] == [
        ("BTC-USD", "trades"),
        ("ETH-USD", "book"),
    ]
    assert state.quality.counts == {"gap": 1}
    assert state.quality.samples[0].text == "message_id 4 on c1, channel v4_trades"


def test_what_another_link_lost_costs_no_book_of_this_one() -> None:
    """Whatever the other is called."""
    for other in ("c0", "c2"):
        state = DataState()
        link = _pair(state)

        step(state, link.event("gap", link=other, text="3 messages lost"))

        assert _known(state) == [True, True]


def test_a_duplicate_is_dropped() -> None:
    """The same message twice counts once."""
    state = DataState()
    link = _pair(state)
    frame = link.levels("BTC-USD", bids=[("98", "1")])
    step(state, frame)
    step(state, link.levels("BTC-USD", bids=[("98", "2")]))

    assert step(state, frame) == ()

    assert state.views["BTC-USD"].book.bids()[-1].size == 2.0
    assert state.quality.counts == {"duplicate": 1}


def test_a_message_that_comes_late_costs_its_own_book_alone() -> None:
    """Its levels are older than the book, so they are not taken; a late trade is."""
    state = DataState()
    link = _pair(state)
    late = link.levels("BTC-USD", bids=[("98", "1")])
    late_trade = link.trade("BTC-USD", "BUY", 1, 1)
    late_oracle = link.oracle("ETH-USD", "12")
    step(state, link.book("BTC-USD", [("99", "1")], [("101", "1")]))
    step(state, link.book("ETH-USD", [("9", "1")], [("11", "1")]))

    (view,) = step(state, late_trade)
    traded = view.changed, len(view.fresh), _known(state)
    nothing = step(state, late_oracle)
    lost = step(state, late)

    assert traded == ("trades", 1, [True, True])
    assert list(nothing) == []
    assert state.views["ETH-USD"].oracle is None
    assert [(view.ticker, view.changed) for view in lost] == [("BTC-USD", "book")]
    assert _known(state) == [False, True]
    assert state.quality.counts == {"out_of_order": 3}


def test_a_snapshot_that_was_requested_may_come_late() -> None:
    """It carries the id of its request: the hole it left is no loss."""
    state, link = DataState(), WireWriter()
    step(state, link.event("open"))
    for ticker in ("BTC-USD", "ETH-USD"):
        text = f'{{"type": "subscribe", "channel": "v4_orderbook", "id": "{ticker}"}}'
        step(state, link.event("sent", text=text))
    step(state, link.message("connected"))
    step(state, link.event("sent", text='{"type":"ping"}'))
    slow = link.book("BTC-USD", [("99", "1")], [("101", "1")])

    step(state, link.book("ETH-USD", [("9", "1")], [("11", "1")]))
    step(state, link.levels("ETH-USD", bids=[("8", "1")]))
    step(state, slow)
    step(state, link.levels("ETH-USD", bids=[("7", "1")]))

    assert _known(state) == [True, True]
    assert state.counts() == {}


def test_an_answer_that_never_comes_costs_the_books_of_its_link() -> None:
    """The hole that its request explained may have been a loss, and would explain the next."""
    state = DataState()
    link = _pair(state)
    step(state, WireWriter("c2").book("SOL-USD", [("5", "1")], [("6", "1")]))
    step(state, link.event("sent", text=SUBSCRIBE))
    link.ids["c1"] += 1
    step(state, link.levels("BTC-USD", bids=[("98", "1")]))
    link.wait(10)
    step(state, link.event("tick", link="clock"))
    patient = _known(state)
    link.wait(1)

    lost = step(state, link.event("tick", link="clock"))

    assert patient == [True, True, True]
    assert [(view.ticker, view.changed) for view in lost] == [
        ("BTC-USD", "book"), ("ETH-USD", "book"),
    ]  # fmt: skip
    assert _known(state) == [False, False, True]
    assert state.quality.counts == {"gap": 1}
    assert state.quality.samples[0].text == "1 answers overdue on c1"


def test_an_answer_that_the_connection_gave_up_is_given_up_once() -> None:
    """A gap frame has reported it; the next message restarts the count."""
    state = DataState()
    link = _pair(state)
    step(state, link.event("sent", text=SUBSCRIBE))
    link.wait(11)
    step(state, link.event("gap", text="1 answers overdue: v4_orderbook BTC-USD"))
    step(state, link.event("tick", link="clock"))
    step(state, link.book("BTC-USD", [("99", "1")], [("101", "1")]))
    link.ids["c1"] += 1
    step(state, link.levels("BTC-USD", bids=[("98", "1")]))

    assert state.quality.counts == {"gap": 2}


def test_what_was_owed_is_owed_once() -> None:
    """A hole after all answers have come is a loss again."""
    state, link = DataState(), WireWriter()
    step(state, link.event("sent", text=SUBSCRIBE))
    step(state, link.book("BTC-USD", [("99", "1")], [("101", "1")]))
    step(state, link.levels("BTC-USD", bids=[("98", "1")]))
    link.ids["c1"] += 2

    step(state, link.levels("BTC-USD", bids=[("97", "1")]))

    assert _known(state) == [False]
    assert state.quality.counts == {"gap": 1}


@pytest.mark.parametrize("type_", ["error", "pong"])
def test_errors_and_pongs_repeat_the_current_id(type_: str) -> None:
    """That is no duplicate; an error is counted as what it is."""
    state = DataState()
    link = _pair(state)

    step(state, link.message(type_, message="no"))
    step(state, link.levels("BTC-USD", bids=[("98", "1")]))

    assert _known(state) == [True, True]
    assert state.counts() == ({"refused": 1} if type_ == "error" else {})


def test_a_refused_subscription_takes_an_id() -> None:
    """The error stands for the snapshot that will not come."""
    state = DataState()
    link = _pair(state)
    step(state, link.event("sent", text=SUBSCRIBE))
    link.ids["c1"] += 1

    step(state, link.message("error", message="no"))
    step(state, link.levels("BTC-USD", bids=[("98", "1")]))

    assert _known(state) == [True, True]
    assert state.counts() == {"refused": 1}


def test_a_jump_that_was_wrong_does_not_silence_the_link() -> None:
    """One flipped digit: the message after it restarts the count."""
    state = DataState()
    link = _pair(state)
    link.ids["c1"], before = 900, link.ids["c1"]
    step(state, link.trades("BTC-USD"))
    link.ids["c1"] = before

    for _ in range(2):
        step(state, link.trades("BTC-USD"))
    step(state, link.book("BTC-USD", [("99", "1")], [("101", "1")]))
    step(state, link.levels("BTC-USD", bids=[("98", "1")]))

    assert state.quality.counts == {"gap": 1}
    assert state.views["BTC-USD"].book.known


def test_a_gap_that_was_reported_is_not_found_again() -> None:
    """A live source puts a gap frame before the message that shows it; both are recorded."""
    state = DataState()
    link = _pair(state)
    link.ids["c1"] += 3

    lost = step(state, link.event("gap", text="3 messages lost", message_id=3))
    step(state, link.trades("BTC-USD"))
    step(state, link.trades("BTC-USD"))
    counted = dict(state.quality.counts)
    link.ids["c1"] += 1
    step(state, link.trades("BTC-USD"))

    assert [view.ticker for view in lost] == ["BTC-USD", "ETH-USD"]
    assert _known(state) == [False, False]
    assert counted == {"gap": 1}
    assert state.quality.counts == {"gap": 2}


def test_a_new_connection_restarts_the_count_and_has_no_books() -> None:
    """`connected` begins the count at 0."""
    state = DataState()
    link = _pair(state)

    lost = step(state, link.message("connected"))
    step(state, link.book("BTC-USD", [("99", "1")], [("101", "1")]))

    assert len(lost) == 2
    assert _known(state) == [True, False]
    assert state.counts() == {}


def test_the_state_shows_how_the_links_stand() -> None:
    """Waiting, live, partial, closed."""
    state, one, two = DataState(), WireWriter("c1"), WireWriter("c2")

    seen = [state.connection]
    for frame in (one.event("open"), two.event("open"), one.event("close"), two.event("close")):
        step(state, frame)
        seen.append(state.connection)

    assert seen == ["waiting", "live", "live", "partial", "closed"]
    assert (state.frames, state.seq, state.at) == (4, 2, one.at)


# --- silence


def _two_links(state: DataState) -> tuple[WireWriter, WireWriter]:
    """Receive BTC-USD by one link and ETH-USD by another."""
    one, two = WireWriter("c1"), WireWriter("c2")
    step(state, one.book("BTC-USD", [("99", "1")], [("101", "1")]))
    step(state, two.book("ETH-USD", [("9", "1")], [("11", "1")]))
    return one, two


def test_a_market_of_a_silent_link_becomes_stale_on_any_frame_and_is_emitted_once() -> None:
    """Ticks carry the time of silence; any message of its link ends it."""
    state = DataState()
    one, two = _two_links(state)
    two.wait(20)
    step(state, two.levels("ETH-USD", bids=[("8", "1")]))
    one.wait(30)

    (silent,) = step(state, one.event("tick"))
    first = (silent.ticker, silent.changed, silent.quality.stale, silent.at)
    one.wait(1)
    again = step(state, one.event("tick"))
    one.wait(1)
    (ended,) = step(state, one.block(100))

    assert first == ("BTC-USD", "stale", True, one.at - 2 * SECOND)
    assert again == ()
    assert (ended.ticker, ended.changed, ended.quality.stale) == ("BTC-USD", "stale", False)
    assert silent.quality.counts == {"stale": 1}


def test_a_silent_market_touched_by_something_else_is_emitted_once() -> None:
    """An oracle price by another link does not make a dead one live."""
    state = DataState(stale_after_ns=SECOND)
    _, two = _two_links(state)
    two.wait(5)

    views = step(state, two.oracle("BTC-USD", "1"))

    assert [(view.ticker, view.changed, view.quality.stale) for view in views] == [
        ("BTC-USD", "oracle", True)
    ]


@pytest.mark.parametrize("jump_s", [3_600, -3_600, 2, -2])
def test_a_wall_clock_that_jumps_makes_nobody_stale_and_hides_nobody(jump_s: int) -> None:
    """Silence is measured by the clock that only goes on; views have the time from before."""
    state = DataState()
    link, _ = _two_links(state)
    link.wait(2)
    link.at += jump_s * SECOND
    spoke = step(state, link.levels("BTC-USD", bids=[("99", "1")]))
    spoke_at = spoke[0].at
    link.wait(27)
    step(state, link.event("tick"))
    early = [view.quality.stale for view in state.views.values()]
    link.wait(2)
    (silent,) = step(state, link.event("tick"))

    now = link.at - jump_s * SECOND
    assert spoke_at == now - 29 * SECOND
    assert not any(early)
    assert (silent.ticker, silent.changed, silent.at) == ("ETH-USD", "stale", now)
    assert state.at == now
    assert state.quality.samples[0].text == f"the wall clock jumped by {jump_s:+.3f} s"
    assert state.quality.counts == {"clock": 1}


def test_time_by_the_wall_clock_alone_is_believed() -> None:
    """A frame without `mono` has no other clock to be judged by."""
    state, link = DataState(), WireWriter()
    step(state, link.book("BTC-USD"))
    link.wait(60)

    (silent,) = step(state, msgspec.structs.replace(link.event("tick"), mono=0))

    assert (silent.changed, silent.at) == ("stale", link.at)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40 * SECOND),
            st.sampled_from([0, 0, 0, 0, 3_600, -3_600, 86_400, -86_400]),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_time_never_goes_back_nor_stands_still(steps: list[tuple[int, int, bool]]) -> None:
    """However the wall clock is set, with a monotonic clock or without: what is due comes due."""
    state, link = DataState(), WireWriter()
    step(state, link.book("BTC-USD", [("99", "1")], [("101", "1")]))
    step(state, link.event("tick"))

    for passed_ns, jump_s, has_mono in steps:
        before = state.at
        link.at += passed_ns + jump_s * SECOND
        link.mono += passed_ns
        tick = link.event("tick")
        step(state, tick if has_mono else msgspec.structs.replace(tick, mono=0))
        assert state.at >= before - SECOND
        assert state._judged.due_at <= state.at + SECOND

    start = state.at
    for _ in range(70):
        link.wait(1)
        step(state, link.event("tick"))

    assert state.at >= start + 68 * SECOND
    assert state.views["BTC-USD"].quality.stale


def test_a_market_that_never_spoke_is_unknown_and_not_stale() -> None:
    """It has no book to be old."""
    state, link = DataState(), WireWriter()
    step(state, link.oracle("BTC-USD", "1"))
    link.wait(1000)

    assert step(state, link.event("tick")) == ()


# --- unreadable


def test_an_unreadable_book_update_costs_that_book_alone() -> None:
    """It may have carried levels; other books did not lose any."""
    state = DataState()
    link = _pair(state)

    (view,) = step(state, link.publish("v4_orderbook", {"bids": [["99"]]}, id="BTC-USD"))

    assert (view.ticker, view.changed) == ("BTC-USD", "book")
    assert _known(state) == [False, True]
    assert view.quality.counts == {"malformed": 1}


def test_a_text_cut_short_leaves_a_hole_that_the_next_message_shows() -> None:
    """Whose levels it carried is unknown, so each book of the link waits for a snapshot."""
    state = DataState()
    link = _pair(state)

    nothing = step(state, link.raw(link.levels("BTC-USD", bids=[("98", "1")]).text[:-9]))
    lost = step(state, link.levels("ETH-USD", bids=[("8", "1")]))

    assert (nothing, _known(state)) == ((), [False, False])
    assert [(view.ticker, view.changed) for view in lost] == [
        ("BTC-USD", "book"),
        ("ETH-USD", "book"),
    ]
    assert state.quality.counts == {"malformed": 1, "gap": 1}


def test_noise_costs_nothing() -> None:
    """A text that took no id leaves no hole."""
    state = DataState()
    link = _pair(state)

    for text in ("", "null", "[]", "\x00", '{"type":1}', "[" * 50_000, '{"message_id":3'):
        assert step(state, link.raw(text)) == ()
    step(state, link.levels("BTC-USD", bids=[("98", "1")]))

    assert _known(state) == [True, True]
    assert set(state.counts()) <= {"malformed", "unknown"}
    assert sum(state.counts().values()) == 7


def test_unreadable_contents_of_a_known_market_touch_its_quality() -> None:
    """The view is emitted, so that a panel sees it; of an unknown one the state counts."""
    state = DataState()
    link = _pair(state)

    (view,) = step(state, link.publish("v4_trades", {"trades": None}, id="BTC-USD"))
    step(state, link.publish("v4_markets", {"oraclePrices": None}))

    assert view.changed == "quality"
    assert view.quality.counts == {"malformed": 1}
    assert state.quality.counts == {"malformed": 1}
    assert len(state.quality.samples[0].text) <= 120


def test_unknown_messages_are_counted() -> None:
    """Type, channel or kind of frame: each is sampled; account channels are not ours."""
    state, link = DataState(), WireWriter()

    step(state, link.message("channel_data", "v4_orders", {}, "x"))
    step(state, link.message("greeting", "v4_orderbook", {}, "x"))
    step(state, link.event("smoke"))
    step(state, link.message("channel_data", "v4_subaccounts", {}, "dydx1/0"))

    assert state.counts() == {"unknown": 3}


def test_an_act_is_no_message_and_no_trouble() -> None:
    """Whoever halted the bot: the markets are what they were."""
    state, link = DataState(), WireWriter()

    touched = step(state, link.event("act", type="halt", text="a headline"))

    assert (list(touched), state.counts(), state.frames) == ([], {}, 1)


def test_answers_that_refuse_are_counted_and_others_ignored() -> None:
    """An error body, a bad status, a body that is no answer; account paths are not ours."""
    state, link = DataState(), WireWriter()
    errors = {"errors": [{"msg": "Too many requests"}]}

    step(state, link.answer("/v4/perpetualMarkets", errors, status="429"))
    step(state, link.answer("/v4/perpetualMarkets", errors))
    step(state, link.answer("/v4/orderbooks/perpetualMarket/BTC-USD", "<html>"))
    step(
        state,
        link.answer("/v4/candles/perpetualMarkets/BTC-USD?resolution=1MIN", {"candles": None}),
    )
    step(state, link.answer("/v4/addresses/dydx1", "{}"))

    assert state.counts() == {"refused": 2, "malformed": 2}
    assert state.quality.samples[0].text.startswith("expected /v4/perpetualMarkets, got 429")


def test_an_answer_that_cannot_be_read_spares_a_live_book() -> None:
    """It lost nothing that the socket sent."""
    state = DataState()
    link = _pair(state)

    (view,) = step(state, link.answer("/v4/orderbooks/perpetualMarket/BTC-USD", "<html>"))

    assert view.changed == "quality"
    assert _known(state) == [True, True]


# --- anything at all

TEXTS = st.one_of(
    st.text(),
    st.binary().map(lambda octets: octets.decode("utf-8", "replace")),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ).map(json.dumps),
)
CONTENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "0", "-1", "nan", "100", "BTC-USD", "2026-01-01T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["bids", "asks", "price", "size", "trades", "id", "side", "createdAt", "candles", "markets",
             "trading", "oraclePrices", "BTC-USD", "oraclePrice", "status", "height", "blockHeight", "time",
             "atomicResolution", "openInterest", "nextFundingRate", "clobPairId", "startedAt"]
        ),
        inner,
        max_size=4,
    ),
)  # fmt: skip
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["subscribed", "channel_data", "channel_batch_data", "connected", "error", "unsubscribed", "pong", "x"]),
        "channel": st.sampled_from(["v4_orderbook", "v4_trades", "v4_candles", "v4_markets", "v4_block_height", "v4_subaccounts", "x"]),
        "id": st.sampled_from(["BTC-USD", "BTC-USD/1MIN", "", "x", "BTC-USD/1MIN/2", None]),
        "message_id": st.integers(-3, 12) | st.sampled_from([2**53, 2**63 - 1, 2**70]),
        "contents": CONTENTS,
    },
).map(json.dumps)  # fmt: skip
PATHS = st.sampled_from(
    ["/v4/perpetualMarkets", "/v4/orderbooks/perpetualMarket/BTC-USD", "/v4/trades/perpetualMarket/BTC-USD",
     "/v4/candles/perpetualMarkets/BTC-USD?resolution=1MIN", "/v4/height", "/v4/orderbooks", "/v4/trades/perpetualMarket/x", ""]
)  # fmt: skip
ANYTHING = st.one_of(
    st.tuples(st.just("ws"), TEXTS | MESSAGES),
    st.tuples(PATHS, TEXTS | CONTENTS.map(json.dumps)),
    st.tuples(st.sampled_from(["sent", "open", "close", "gap", "tick", "x", ""]), TEXTS),
)


@settings(max_examples=100)
@given(st.lists(st.tuples(ANYTHING, st.integers(-(10**9), 10**20)), max_size=12))
def test_no_frame_raises(frames: list[tuple[tuple[str, str], int]]) -> None:
    """Whatever the texts, the kinds and the times; and each view is emitted once a frame."""
    state, link = DataState(), WireWriter()

    for (kind, text), at in frames:
        link.at = link.mono = at
        if kind == "ws":
            frame = link.raw(text)
        elif kind.startswith("/"):
            frame = link.answer(kind, text)
        else:
            frame = link.event(kind, text=text)
        views = list(step(state, frame))
        assert len(views) == len({view.ticker for view in views})
        for view in views:
            assert view.seq == frame.seq

    assert state.frames == len(frames)


def _conversation() -> list[Frame]:
    link = WireWriter()
    frames = [link.message("connected"), link.book("BTC-USD", [("99", "1")], [("101", "1")])]
    for number in range(12):
        frames.append(
            link.levels("BTC-USD", bids=[(str(90 + number), "1")], asks=[(str(101 + number), "2")])
        )
        link.wait(1)
    return frames


@given(st.integers(0, 2**32))
def test_shuffled_duplicates_never_raise_nor_cross_the_view(seed: int) -> None:
    """A known book is uncrossed after every frame, in whatever order they come."""
    frames = _conversation() * 2
    random.Random(seed).shuffle(frames)
    state = DataState()

    for frame in frames:
        step(state, frame)
        for view in state.views.values():
            bid, ask = view.book.best_bid, view.book.best_ask
            assert bid is None or ask is None or bid.price < ask.price


def test_duplicates_in_place_change_nothing() -> None:
    """Each message twice gives the book of each message once."""
    once, twice = DataState(), DataState()

    for frame in _conversation():
        step(once, frame)
        step(twice, frame)
        if frame.type != "connected":
            step(twice, frame)

    books = [state.views["BTC-USD"].book for state in (once, twice)]
    assert books[0].bids() == books[1].bids()
    assert books[0].asks() == books[1].asks()
    assert twice.counts()["duplicate"] == 13


def test_a_flipped_bit_anywhere_never_raises() -> None:
    """Nor does any single character of a real message gone wrong stop what follows."""
    text = _conversation()[2].text
    for position in range(len(text)):
        state = DataState()
        link = _pair(state)
        broken = text[:position] + chr(ord(text[position]) ^ 4) + text[position + 1 :]

        step(state, ws_frame(3, link.at, 3, "c1", broken))
        link.ids["c1"] = 3
        step(state, link.book("BTC-USD", [("99", "1")], [("101", "1")]))

        assert state.views["BTC-USD"].book.known

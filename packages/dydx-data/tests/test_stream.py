"""The operator: what it emits, and when it ends."""

import pytest
import reactivex
from dydx_conn import MARBLE_CASES, WireWriter, collect, play
from dydx_data import DataState, MarketView, market_views
from reactivex.testing import ReactiveTest, TestScheduler


@pytest.mark.parametrize("case", MARBLE_CASES)
def test_views_are_as_drawn(case: str) -> None:
    """One for each market that a frame touched, within the frame; they end as their source."""
    wire = WireWriter()
    prices = {"oraclePrices": {"BTC-USD": {"oraclePrice": "1"}, "ETH-USD": {"oraclePrice": "2"}}}
    frames = {
        "t": wire.event("tick", link="clock"), "b": wire.book("BTC-USD", [(99, 1)], [(101, 1)]),
        "p": wire.publish("v4_markets", prices),
    }  # fmt: skip

    def letter(view: MarketView) -> str:
        return view.changed[0]

    came, drawn = play(market_views, market_views(), frames, letter, case)

    assert came == drawn


def test_a_frame_after_the_end_is_not_seen() -> None:
    """Late data changes nothing, not even the state."""
    scheduler, wire, state = TestScheduler(), WireWriter(), DataState()
    source = scheduler.create_hot_observable(
        ReactiveTest.on_completed(210), ReactiveTest.on_next(220, wire.book("BTC-USD"))
    )

    scheduler.start(lambda: market_views(state)(source))

    assert state.frames == 0


def test_the_same_object_comes_again_and_the_state_holds_it() -> None:
    """Updated in place: copy a figure to store it."""
    wire, state = WireWriter(), DataState()
    frames = [wire.book("BTC-USD", [("99", "1")]), wire.levels("BTC-USD", bids=[("98", "1")])]

    first, second = collect(market_views(state)(reactivex.from_iterable(frames)))

    assert first is second is state.views["BTC-USD"]
    assert state.frames == 2


def test_two_subscribers_without_a_state_share_nothing() -> None:
    """Each folds its own, from the first frame on."""
    views = market_views()(reactivex.just(WireWriter().book("BTC-USD", [("99", "1")])))

    (one,), (two,) = collect(views), collect(views)

    assert isinstance(one, MarketView)
    assert one is not two
    assert one.book.bids() == two.book.bids()

"""The operator: what it emits, and when it ends."""

from operator import attrgetter
from typing import Any

import reactivex
from dydx_conn import collect
from dydx_data import DataState, MarketView, market_views
from reactivex import Observable, operators
from reactivex.testing import ReactiveTest, TestScheduler


def _recorded(scheduler: TestScheduler, source: Observable[Any]) -> list[tuple[int, str, str]]:
    """Run `source` through the operator; return when and what each view said changed."""
    views: Observable[Any] = market_views()(source)
    result = scheduler.start(lambda: views.pipe(operators.map(attrgetter("changed"))))
    messages: list[Any] = result.messages
    return [(int(m.time), m.value.kind, getattr(m.value, "value", "")) for m in messages]


def test_each_frame_puts_out_the_views_it_touched_and_completes(wire: Any) -> None:
    """One view per market: none for a tick, one for a book, two for two oracle prices."""
    scheduler, link = TestScheduler(), wire()
    prices = {"oraclePrices": {"BTC-USD": {"oraclePrice": "1"}, "ETH-USD": {"oraclePrice": "2"}}}
    source = scheduler.create_hot_observable(
        ReactiveTest.on_next(210, link.frame("tick")),
        ReactiveTest.on_next(220, link.snapshot([("99", "1")], [("101", "1")])),
        ReactiveTest.on_next(230, link.markets(prices)),
        ReactiveTest.on_completed(240),
    )

    assert _recorded(scheduler, source) == [
        (220, "N", "book"),
        (230, "N", "oracle"),
        (230, "N", "oracle"),
        (240, "C", ""),
    ]


def test_never_stays_never() -> None:
    """No frame, no view."""
    assert _recorded(TestScheduler(), reactivex.never()) == []


def test_empty_completes() -> None:
    """At once."""
    assert _recorded(TestScheduler(), reactivex.empty()) == [(200, "C", "")]


def test_an_error_ends_the_stream_with_it(wire: Any) -> None:
    """What the source raises is the source's to mend."""
    scheduler, link = TestScheduler(), wire()
    source = scheduler.create_hot_observable(
        ReactiveTest.on_next(210, link.snapshot([], [])), ReactiveTest.on_error(220, OSError("x"))
    )

    assert [(at, kind) for at, kind, _ in _recorded(scheduler, source)] == [(210, "N"), (220, "E")]


def test_a_frame_after_the_end_is_not_seen(wire: Any) -> None:
    """Late data changes nothing."""
    scheduler, link, state = TestScheduler(), wire(), DataState()
    source = scheduler.create_hot_observable(
        ReactiveTest.on_completed(210), ReactiveTest.on_next(220, link.snapshot([], []))
    )

    scheduler.start(lambda: market_views(state)(source))

    assert state.frames == 0


def test_the_same_object_comes_again_and_the_state_holds_it(wire: Any) -> None:
    """Updated in place: whoever keeps a figure copies it."""
    link, state = wire(), DataState()
    frames = [link.snapshot([("99", "1")], []), link.book({"bids": [["98", "1"]]})]

    first, second = collect(market_views(state)(reactivex.from_iterable(frames)))

    assert first is second is state.views["BTC-USD"]
    assert state.frames == 2


def test_two_subscribers_without_a_state_share_nothing(wire: Any) -> None:
    """Each folds its own, from the first frame on."""
    views = market_views()(reactivex.just(wire().snapshot([("99", "1")], [])))

    (one,), (two,) = collect(views), collect(views)

    assert isinstance(one, MarketView)
    assert one is not two
    assert one.book.bids() == two.book.bids()

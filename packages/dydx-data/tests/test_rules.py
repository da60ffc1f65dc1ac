"""The rules: what is odd is counted under its rule, what cannot be is not folded."""

import random
from typing import Any

import pytest
from dydx_conn import WireWriter, collect, load_recorded_stream, market_fields
from dydx_data import RULES, DataState, MarketView, step

SECOND = 1_000_000_000


def calm() -> tuple[DataState, WireWriter, MarketView]:
    """Begin with one market at 60,000 and a first trade: ticks of 1, steps of 0.0001."""
    state, link = DataState(), WireWriter()
    step(state, link.markets(market_fields("BTC-USD", price="60000", openInterest="100")))
    step(state, link.block(10))
    step(state, link.book("BTC-USD", [("59990", "1")], [("60010", "1")]))
    step(state, link.trade("BTC-USD", "BUY", "0.1", "60000"))
    return state, link, state.views["BTC-USD"]


@pytest.mark.parametrize(
    ("size", "price", "rule"),
    [
        ("0.1", "600000", "trade_price"),
        ("0.1", "58000", "trade_price"),
        ("100000000", "60000", "trade_size"),
        ("0.1", "60000.5", "trade_grid"),
        ("0.10005", "60000", "trade_grid"),
        ("100000000000000", "60000", "trade_range"),
    ],
)
def test_an_odd_trade_is_counted_under_its_rule(size: str, price: str, rule: str) -> None:
    """Used where it is suspect alone; what cannot be is left out."""
    state, link, view = calm()
    step(state, link.trade("BTC-USD", "SELL", size, price))

    assert view.quality.counts == {rule: 1}
    assert len(view.trades) == (1 if RULES[rule].severity == "refused" else 2)
    assert view.quality.verdict == RULES[rule].severity


def test_a_trade_is_held_against_its_own_moment_and_kind() -> None:
    """A snapshot's is of other prices, a deleveraging's is computed: neither on a grid nor near."""
    state, link, view = calm()
    old = {"side": "BUY", "size": "0.1", "price": "50000"}
    computed = {**old, "price": "50000.755", "type": "DELEVERAGED"}
    step(state, link.trades("BTC-USD", old, snapshot=True))
    step(state, link.trades("BTC-USD", computed))

    assert not view.quality.counts
    assert view.quality.verdict == "ok"


def test_a_size_beyond_ten_times_the_tail_is_suspect() -> None:
    """Once a thousand trades have shown where the tail is."""
    state, link, view = calm()
    for n in range(1_100):
        step(state, link.trade("BTC-USD", "BUY", f"0.{1 + n % 10:03d}", "60000"))
    step(state, link.trade("BTC-USD", "BUY", "0.05", "60000"))
    usual = dict(view.quality.counts)
    step(state, link.trade("BTC-USD", "BUY", "1.2", "60000"))

    assert usual == {}
    assert view.quality.counts == {"trade_tail": 1}


@pytest.mark.parametrize("price", ["6000", "80000"])
def test_an_oracle_price_that_jumps_is_suspect(price: str) -> None:
    """And it is used: the chain computes with it, whatever it is."""
    state, link, view = calm()
    step(state, link.oracle("BTC-USD", price))

    assert view.quality.counts == {"oracle_jump": 1}
    assert view.oracle is not None
    assert view.oracle.text == price


def test_a_rate_beyond_the_clamp_is_suspect() -> None:
    """90 % an hour where the chain charges up to 1.5 %."""
    state, link, view = calm()
    step(state, link.trading("BTC-USD", nextFundingRate="0.014"))
    usual = dict(view.quality.counts)
    step(state, link.trading("BTC-USD", nextFundingRate="0.9"))

    assert usual == {}
    assert view.quality.counts == {"funding_clamp": 1}


def live(state: DataState, link: WireWriter, seconds: int, **levels: Any) -> None:
    """Let seconds pass, each with a block and a touch of the book."""
    for _ in range(seconds):
        link.wait(1)
        step(state, link.block())
        step(state, link.levels("BTC-USD", **levels))


def test_a_book_apart_from_the_oracle_price_is_suspect_once_it_lasts() -> None:
    """Sources come one after the other: not at once, and once for each time."""
    state, link, view = calm()
    step(state, link.oracle("BTC-USD", "63000"))
    live(state, link, 2, bids=[("59000", "1")])
    at_once = dict(view.quality.counts)
    live(state, link, 5, bids=[("59000", "1")])

    assert at_once == {}
    assert view.quality.counts == {"book_oracle": 1}


def test_a_trade_far_outside_the_book_makes_the_book_suspect() -> None:
    """By more than a tenth, for three seconds."""
    state, link, view = calm()
    step(state, link.trade("BTC-USD", "BUY", "0.1", "67000"))
    live(state, link, 4, bids=[("59000", "1")])

    assert view.quality.counts == {"trade_price": 1, "book_trade": 1}


def test_a_level_off_the_grid_is_suspect() -> None:
    """At the best prices within a second, anywhere within ten minutes."""
    state, link, view = calm()
    live(state, link, 2, bids=[("59990.5", "1")])
    best = view.quality.counts["book_grid"]
    state, link, view = calm()
    live(state, link, 605, bids=[("59000.5", "1")])

    assert (best, view.quality.counts["book_grid"]) == (1, 1)


def test_a_level_that_crosses_the_book_beyond_all_recent_prices_is_suspect() -> None:
    """Counted once for each; one among the prices of late may be an order that expired."""
    state, link, view = calm()
    step(state, link.levels("BTC-USD", bids=[("60500", "1")]))
    step(state, link.levels("BTC-USD", asks=[("60010", "2")]))
    live(state, link, 5, bids=[("59990", "2")])
    near = view.quality.counts["book_hidden"]
    step(state, link.levels("BTC-USD", bids=[("62500", "1")]))
    step(state, link.levels("BTC-USD", asks=[("60010", "3")]))
    live(state, link, 5, bids=[("59990", "3")])

    assert (near, view.quality.counts["book_hidden"], view.book.crossed) == (0, 1, 2)


def test_a_price_twice_in_a_snapshot_is_suspect() -> None:
    """Which of the two is the total?"""
    state, link, view = calm()
    step(state, link.book("BTC-USD", [("59990", "1"), ("59990", "2")], [("60010", "1")]))

    assert view.quality.counts == {"book_levels": 1}


def test_blocks_that_are_slow_or_late_are_suspect() -> None:
    """Of the chain, so counted with no market."""
    state, link, _ = calm()
    link.wait(40)
    step(state, link.block())
    link.wait(40)
    step(state, link.block(time="2026-01-01T00:00:41Z"))

    assert {rule: state.quality.counts[rule] for rule in ("block_pace", "receive_lag")} == {
        "block_pace": 1, "receive_lag": 1,
    }  # fmt: skip


@pytest.mark.replays
def test_nothing_in_a_crash_is_suspect() -> None:
    """A fall of 30 % with a gap and a thin book is a market, not an error."""
    state = DataState()
    for frame in collect(load_recorded_stream("quickstart")):
        step(state, frame)

    assert set(state.counts()) <= {"crossed"}


def test_a_grid_is_exact_for_every_true_price_and_size() -> None:
    """Floats tell steps apart: no true one is refused."""
    state, link, view = calm()
    dice = random.Random(1)
    for _ in range(500):
        size, price = dice.randrange(1, 10**7), dice.randrange(59_500, 60_500)
        step(state, link.trade("BTC-USD", "BUY", f"{size / 10_000:.4f}", str(price)))

    assert view.quality.counts["trade_grid"] == 0

"""Figures read on demand: what data are worth, what a market is like, its book second by second."""

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from dydx_conn import WireWriter, collect, load_recorded_stream, market_fields
from dydx_data import (
    DataError,
    DataState,
    Depth,
    MarketState,
    MarketView,
    book_depths,
    book_snapshots,
    market_state,
    market_views,
    price_ranges,
    quality_figures,
    step,
)

DEEP = [(100 - n, "200") for n in range(1, 6)], [(100 + n, "200") for n in range(1, 6)]


class World:
    """A market that lives second by second."""

    def __init__(self, price: str = "100", **fields: str) -> None:
        self.state, self.link = DataState(), WireWriter()
        known = market_fields("BTC-USD", price=price, subticksPerTick=1_000, **fields)
        step(self.state, self.link.markets(known))
        step(self.state, self.link.block())

    @property
    def view(self) -> MarketView:
        return self.state.views["BTC-USD"]

    def book(self, spread: float = 0.1, size: str = "500", mid: float = 100.0) -> None:
        """Begin a book of five levels a side."""
        bids = [(round(mid - spread / 2 - n / 10, 2), size) for n in range(5)]
        asks = [(round(mid + spread / 2 + n / 10, 2), size) for n in range(5)]
        step(self.state, self.link.book("BTC-USD", bids, asks))

    def seconds(self, count: int) -> None:
        """Let seconds pass, each with a block."""
        for _ in range(count):
            self.link.wait(1)
            step(self.state, self.link.block())

    def minutes(self, prices: Sequence[float]) -> None:
        """Trade once a minute."""
        for price in prices:
            self.link.wait(60)
            step(self.state, self.link.block())
            step(self.state, self.link.trade("BTC-USD", "BUY", "0.01", f"{price:.2f}"))

    def state_of(self) -> MarketState:
        """Judge it."""
        return market_state(self.view)


# === Price ===


def test_a_market_has_the_price_of_its_book_or_else_the_oracles() -> None:
    """None where neither is known."""
    world, unknown = World(price="99"), World()
    unknown.view.oracle = None
    before = world.view.price
    world.book(mid=100.0)

    assert (before, world.view.price, unknown.view.price) == (99.0, 100.0, None)


# === Quality ===


def test_seconds_in_which_nothing_came_were_not_known() -> None:
    """A process that stood still for five minutes saw one of six."""
    world = World()
    world.book()
    world.seconds(60)
    world.link.wait(300)
    step(world.state, world.link.block())
    seen = quality_figures(world.view, world.link.at)

    assert seen.known == pytest.approx(60 / 360, abs=0.01)
    assert seen.messages_s == pytest.approx(0.0, abs=0.01)


def test_the_figures_of_a_market_say_how_far_to_believe_it() -> None:
    """Messages of late against what is usual, parts known, seconds known, ages, lag."""
    world = World()
    world.book()
    for n in range(60):
        world.seconds(1)
        step(world.state, world.link.levels("BTC-USD", bids=[(90, n + 1)]))
    step(world.state, world.link.trade("BTC-USD", "BUY", "0.01", "100"))
    seen = quality_figures(world.view, world.link.at)

    assert seen.messages_s == pytest.approx(1.0, abs=0.1)
    assert seen.expected_s == pytest.approx(1.0, abs=0.1)
    assert (seen.complete, seen.verdict, seen.counts) == (1.0, "ok", {})
    assert seen.known > 0.95
    assert set(seen.ages_s) == {"book", "trades", "oracle", "funding", "block"}
    assert (seen.ages_s["book"], seen.ages_s["oracle"]) == (0.0, 60.0)
    assert (seen.lag_p50_ms, seen.lag_p99_ms) == (0.0, 0.0)


def test_what_was_never_received_has_no_age_and_no_lag() -> None:
    """Absent, and less complete."""
    state, link = DataState(), WireWriter()
    step(state, link.book("BTC-USD", *DEEP))
    seen = quality_figures(state.views["BTC-USD"], link.at)

    assert set(seen.ages_s) == {"book"}
    assert seen.complete == pytest.approx(1 / 6)
    assert seen.known == 0.0
    assert (seen.lag_p50_ms, seen.lag_p99_ms) == (None, None)


# === Books of late ===


def test_a_book_is_stored_each_second_from_when_it_is_first_read() -> None:
    """At most 120 seconds, ten levels a side; a second without a book is left out."""
    world = World()
    world.book()
    world.seconds(5)
    before = book_snapshots(world.view)
    for n in range(130):
        step(world.state, world.link.levels("BTC-USD", bids=[(99.95, n + 1)]))
        world.seconds(1)
    found = book_snapshots(world.view)
    step(world.state, world.link.event("close"))
    world.seconds(3)

    assert before == []
    assert len(found) == 120
    assert [x.bids[0] for x in found] == [(99.95, float(n + 1)) for n in range(10, 130)]
    assert (len(found[-1].bids), found[-1].asks[-1]) == (5, (100.45, 500.0))
    assert [b.at - a.at for a, b in pairwise(found)] == [10**9] * 119
    assert len(book_snapshots(world.view)) == 120


# === Market state ===


def test_a_market_that_takes_no_order_is_halted() -> None:
    """By its status, or because no block comes."""
    paused, silent = World(status="PAUSED"), World()
    silent.book()
    silent.link.wait(40)
    step(silent.state, silent.link.levels("BTC-USD", bids=[(90, 1)]))

    assert (paused.state_of().kind, silent.state_of().kind) == ("halted", "halted")


def test_a_market_without_book_or_minutes_is_unknown() -> None:
    """No state is made up."""
    blind, young = World(), World()
    young.book()

    assert (blind.state_of().kind, young.state_of().kind) == ("unknown", "unknown")


def test_a_book_apart_or_a_price_that_runs_is_disorderly() -> None:
    """1 % from the oracle price, or 2 % since the minute before."""
    apart, runs = World(), World()
    apart.book(mid=102)
    runs.minutes([97.0, 97.0])
    runs.book(mid=100)

    assert [x.state_of().kind for x in (apart, runs)] == ["disorderly", "disorderly"]


def test_a_wide_a_shallow_and_a_one_sided_book_are_thin() -> None:
    """What it costs to trade decides."""
    wide, shallow, torn = World(), World(), World()
    wide.book(spread=0.4)
    shallow.book(size="0.5")
    step(torn.state, torn.link.book("BTC-USD", [(99, 1)]))

    assert [x.state_of().kind for x in (wide, shallow, torn)] == ["thin"] * 3


def test_closes_that_go_one_way_trend_and_others_range() -> None:
    """Of at least ten minutes."""
    trend, still, ranging = World(), World(), World()
    trend.minutes([100 + n / 100 for n in range(20)])
    still.minutes([100] * 20)
    ranging.minutes([100 + n % 2 / 10 for n in range(20)])
    for world in (trend, still, ranging):
        world.book()

    assert [x.state_of().kind for x in (trend, still, ranging)] == [
        "trending", "ranging", "ranging",
    ]  # fmt: skip


@pytest.mark.replays
def test_the_crash_is_disorderly_and_what_came_before_it_is_not() -> None:
    """On the recording, of each market."""
    state = DataState()
    calm: set[str] = set()
    crash: set[str] = set()
    for frame in collect(load_recorded_stream("quickstart")):
        step(state, frame)
        if frame.kind == "tick" and frame.seq > 2_000:
            kinds = {market_state(view).kind for view in state.views.values()}
            (calm if frame.seq < 6_000 else crash).update(kinds)

    assert "disorderly" not in calm
    assert "disorderly" in crash


# === Ranges and depths ===


def test_a_range_is_of_the_candles_of_its_span() -> None:
    """High, low, change and volume of the last five minutes know nothing of what was before."""
    world = World()
    world.minutes([200.0, 100.0, 104.0, 98.0, 101.0, 102.0])

    found = {row.span: row for row in price_ranges(world.view)}

    five, hour = found["5MINS"], found["1HOUR"]
    assert (five.open, five.high, five.low, five.close) == (100.0, 104.0, 98.0, 102.0)
    assert (five.trades, five.periods, five.wanted) == (5, 5, 5)
    assert five.change == pytest.approx(0.02)
    assert five.usd == pytest.approx(5.05)
    assert five.size == pytest.approx(0.05)
    assert (hour.high, hour.periods, hour.wanted) == (200.0, 6, 60)
    assert (five.partial, five.resolution, hour.resolution) == (0, "1MIN", "1MIN")


def test_volatility_is_the_root_mean_square_of_the_returns_of_an_hour() -> None:
    """A price that goes to and fro by the same step each minute has sixty of them in an hour."""
    world = World()
    world.minutes([100.0, 101.0] * 4)
    step_ = math.log(101 / 100)

    found = {row.span: row.volatility_1h for row in price_ranges(world.view)}

    assert found["1HOUR"] == pytest.approx(step_ * math.sqrt(60))
    assert found["5MINS"] == pytest.approx(step_ * math.sqrt(60))
    # The hour that grows is partial: of a day the minutes know more.
    assert found["24HOURS"] == pytest.approx(step_ * math.sqrt(60))


def test_a_range_counts_the_candles_that_lack_trades() -> None:
    """What a gap hid may have been its high."""
    world = World()
    world.minutes([100.0])
    assert price_ranges(world.view, ["5MINS"])[0].volatility_1h is None

    world.link.ids["c1"] += 1
    world.minutes([101.0, 102.0, 103.0])

    found = price_ranges(world.view, ["5MINS"])[0]
    assert (found.periods, found.partial) == (4, 1)


def test_a_span_that_is_none_is_refused() -> None:
    """The message lists those that there are; a market without candles has no range."""
    world = World()
    with pytest.raises(DataError, match=r"expected a span among 5MINS, .*, got '2DAYS'"):
        price_ranges(world.view, ["2DAYS"])
    assert price_ranges(world.view) == []


def test_depth_is_what_stands_within_so_many_points_of_the_mid_price() -> None:
    """Each level counts from the distance on at which it stands."""
    world = World()
    assert book_depths(world.view.book) == []
    world.book(spread=0.1)

    found = book_depths(world.view.book, (1, 5, 16, 50))

    assert found[0] == Depth(1, 0.0, 0.0)
    assert found[0].imbalance is None
    assert (found[1].bid_usd, found[1].ask_usd) == (99.95 * 500, 100.05 * 500)
    assert found[2].bid_usd == pytest.approx((99.95 + 99.85) * 500)
    assert found[3].imbalance == pytest.approx(-0.0025, abs=1e-4)


@pytest.mark.replays
def test_the_newest_rows_are_the_candles() -> None:
    """Read without making candles of them: the same figures, and as many of them partial."""
    state, apart = DataState(), []

    def look(view: MarketView) -> None:
        if view.seq % 701:
            return
        for candles in view.candles.values():
            rows, partial = candles.newest(40)
            whole = [*candles][-40:]
            read = [(x.open, x.high, x.low, x.close, x.volume, x.trades) for x in rows]
            made = [(x.open, x.high, x.low, x.close, x.volume, x.trades) for x in whole]
            count = sum(candle.state == "partial" for candle in whole)
            apart.append(read != made or partial != count)

    load_recorded_stream("quickstart").pipe(market_views(state)).subscribe(look)

    assert len(apart) > 20
    assert not any(apart)

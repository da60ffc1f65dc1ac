"""Flow: windows of buckets equal a recount of the tape, however its trades came."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest
from dydx_conn import WireWriter, collect, load_recorded_stream
from dydx_data import WINDOWS, DataError, DataState, Flow, Trade, step
from hypothesis import given
from hypothesis import strategies as st

SECOND = 1_000_000_000
BUCKET_S = {"1S": 1, "10S": 1, "1MIN": 1, "5MINS": 5, "1HOUR": 5, "24HOURS": 300}
LENGTH_S = {"1S": 1, "10S": 10, "1MIN": 60, "5MINS": 300, "1HOUR": 3_600, "24HOURS": 86_400}

# Sizes and prices with few digits: their products are whole millionths, so that sums are exact.
ODD = st.sampled_from(["LIMIT"] * 8 + ["LIQUIDATED", "DELEVERAGED"])
TRADES = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 90), st.integers(0, 5_000), st.integers(0, 100_000)),
        st.sampled_from(["BUY", "SELL"]), st.sampled_from([0.001, 0.25, 1.0, 8.5]),
        st.sampled_from([10.0, 10.5, 99.9]), ODD,
    ),
    max_size=60,
)  # fmt: skip


def trade(second: int, side: str, size: float, price: float, type_: str = "LIMIT") -> Trade:
    """Make a trade of a second."""
    return Trade("", side, price, size, str(price), str(size), second * SECOND, type_, 1)


def recount(trades: Iterable[Trade], window: str, now_ns: int) -> list[Trade]:
    """Return the trades of a window, by a look at all of them."""
    width = BUCKET_S[window]
    newest = max([now_ns, *(x.at_ns for x in trades)]) // SECOND // width
    first = newest - LENGTH_S[window] // width + 1
    return [x for x in trades if first <= x.at_ns // SECOND // width]


def figures(flow: Flow, window: str) -> tuple[Any, ...]:
    """Gather what a window shows."""
    seen = flow.over(window)
    return seen.trades, seen.buys, seen.sells, seen.usd, seen.largest, seen.liquidated


def expected(trades: list[Trade]) -> tuple[Any, ...]:
    """Count the same from single trades."""
    bought = math.fsum(x.size for x in trades if x.side == "BUY")
    sold = math.fsum(x.size for x in trades if x.side == "SELL")
    forced = math.fsum(x.size for x in trades if x.type != "LIMIT")
    usd = math.fsum(x.size * x.price for x in trades)
    largest = max((x.size for x in trades), default=0.0)
    return len(trades), bought, sold, usd, largest, forced / ((bought + sold) or 1.0)


@given(TRADES, st.integers(0, 100_000))
def test_every_window_is_the_plain_sum_of_its_trades(
    rows: list[tuple[int, str, float, float, str]], now: int
) -> None:
    """In order or late, and whatever time has passed since."""
    flow, trades = Flow(), [trade(*row) for row in rows]
    for one in trades:
        flow.add(one)
    flow.now_ns = now * SECOND

    for window in WINDOWS:
        assert figures(flow, window) == pytest.approx(
            expected(recount(trades, window, flow.now_ns)), rel=1e-12
        )


@given(TRADES, st.randoms())
def test_the_order_of_a_tape_changes_no_window(
    rows: list[tuple[int, str, float, float, str]], dice: Any
) -> None:
    """A late trade counts in the second it is of."""
    trades = [trade(*row) for row in rows]
    sorted_flow, mixed = Flow(), Flow()
    for flow in (sorted_flow, mixed):
        flow.by_price()
    for one in sorted(trades, key=lambda x: x.at_ns):
        sorted_flow.add(one)
    dice.shuffle(trades)
    for one in trades:
        mixed.add(one)

    for window in WINDOWS:
        assert figures(mixed, window) == figures(sorted_flow, window)
        assert sorted(mixed.sizes(window)) == sorted(sorted_flow.sizes(window))
    assert mixed.by_price() == sorted_flow.by_price()


@given(TRADES, st.integers(0, 30))
def test_quantiles_and_prices_are_of_the_trades_since_they_were_first_read(
    rows: list[tuple[int, str, float, float, str]], unread: int
) -> None:
    """Exactly those, of the window: nothing is stored for who does not ask."""
    rows.sort(key=lambda row: row[0])
    flow, trades = Flow(), [trade(*row) for row in rows]
    for number, one in enumerate(trades):
        if number == unread:
            flow.by_price()
        flow.add(one)
    known = trades[unread:]

    sizes = sorted(x.size for x in recount(known, "1MIN", 0)) if known else []
    profile: dict[float, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for one in recount(known, "1HOUR", 0) if known else []:
        profile[one.price][one.side == "SELL"] += one.size
    rank = max(math.ceil(0.9 * len(sizes)) - 1, 0)
    assert flow.over("1MIN").quantile(0.9) == (sizes[rank] if sizes else None)
    assert {p: pytest.approx(row) for p, row in flow.by_price().items()} == {
        p: tuple(row) for p, row in profile.items()
    }


def test_a_full_log_forgets_its_oldest_trades() -> None:
    """Its memory is bounded: the rest stays right."""
    flow = Flow()
    flow.by_price()
    for number in range(40_000):
        flow.add(trade(1_000 + number // 100, "BUY", 1.0, float(number % 7)))

    assert len(flow.sizes("24HOURS")) <= 32_768 < len(flow.sizes("24HOURS")) + 4_096
    assert sum(buys for buys, _ in flow.by_price().values()) == len(flow.sizes("1HOUR"))
    assert flow.over("24HOURS").trades == 40_000


def test_a_window_has_an_average_price_and_a_delta_or_neither() -> None:
    """Without a trade there is no price; nothing is made up."""
    flow = Flow()
    empty = flow.over("1MIN")
    flow.add(trade(5, "BUY", 3.0, 10.0))
    flow.add(trade(6, "SELL", 1.0, 14.0))
    seen = flow.over("1MIN")

    assert (empty.vwap, empty.delta, empty.quantile(0.5), empty.liquidated) == (None, 0, None, 0)
    assert (seen.vwap, seen.delta, seen.size) == (11.0, 2.0, 4.0)


@pytest.mark.parametrize(("window", "share"), [("1MINUTE", 0.5), ("1MIN", 1.5), ("1MIN", -0.1)])
def test_an_unknown_window_or_an_impossible_share_is_refused(window: str, share: float) -> None:
    """With what was expected."""
    with pytest.raises(DataError, match=r"expected a (window|share)"):
        Flow().over(window).quantile(share)


def test_time_passes_a_window_though_nothing_is_traded() -> None:
    """With the event time of any frame, once a second."""
    state, link = DataState(), WireWriter()
    step(state, link.block(10, "2026-01-01T00:00:00Z"))
    rows = {"id": "a", "side": "BUY", "size": "1", "price": "100",
            "createdAt": "2026-01-01T00:00:00Z"}  # fmt: skip
    (view,) = step(state, link.trades("BTC-USD", rows))
    before = view.flow.over("10S").trades
    link.wait(30)
    step(state, link.levels("BTC-USD", bids=[("98", "1")]))

    assert (before, view.flow.over("10S").trades, view.flow.over("1MIN").trades) == (1, 0, 1)


@pytest.mark.replays
def test_a_recordings_windows_are_recounted_to_the_last_trade() -> None:
    """Each window of each market, ever and again through the crash."""
    state, seen = DataState(), defaultdict[str, list[Trade]](list)
    for frame in collect(load_recorded_stream("quickstart")):
        for view in step(state, frame):
            if view.fresh and view.changed == "trades":
                seen[view.ticker] += view.fresh
        if frame.seq % 1_000 == 0:
            for ticker, trades in seen.items():
                for window in WINDOWS:
                    flow = state.views[ticker].flow
                    rows = expected(recount(trades, window, flow.now_ns))
                    assert figures(flow, window) == pytest.approx(rows, rel=1e-12)
    assert sum(map(len, seen.values())) > 10_000


def test_a_size_beyond_all_bounds_leaves_the_windows_as_they_are() -> None:
    """A float could not hold what it comes to, and no window could be read any more."""
    state, link = DataState(), WireWriter()
    row = {"id": "1", "side": "BUY"}
    odd = {**row, "price": "0." + "0" * 32 + "1", "size": "1" + "0" * 33}
    step(state, link.trades("BTC-USD", odd, {**row, "id": "2", "price": "100", "size": "2"}))
    view = state.views["BTC-USD"]

    assert view.flow.over("1MIN").buys == 2
    assert view.quality.counts == {"malformed": 1}


def test_without_flow_and_candles_a_tape_is_still_one() -> None:
    """Who measures books and trades alone gets both; the flow stays empty, and so do candles."""
    state, link = DataState(resolutions=(), flow=False), WireWriter()
    row = {"id": "1", "side": "BUY", "price": "100", "size": "2"}

    (view,) = step(state, link.trades("BTC-USD", row))

    assert [trade.size for trade in view.trades] == [2.0] == [x.size for x in view.fresh]
    assert (view.flow.over("1MIN").trades, view.candles) == (0, {})

"""Trades and what grows from them: flow and candles; candles of the wire; blocks."""

from typing import Any

import pytest
from dydx_conn import WireWriter, instant
from dydx_data import RESOLUTIONS, Candle, Candles, DataState, Trade, step
from hypothesis import given
from hypothesis import strategies as st

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


def _time(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"2026-01-01T{int(hours):02d}:{int(minutes):02d}:{rest:06.3f}Z"


def trade(id: str, side: str, size: str, price: str, created_at: str) -> dict[str, str]:
    """Describe a trade as the indexer does."""
    return {"id": id, "side": side, "size": size, "price": price, "createdAt": created_at}


def _plain(candles: Candles) -> list[tuple[float, ...]]:
    return [(x.open, x.high, x.low, x.close, x.volume, x.trades) for x in candles]


def test_a_trade_is_stored_with_its_texts_and_its_own_time() -> None:
    """`fresh` holds what this frame brought, and is empty again with the next."""
    state, link = DataState(), WireWriter()

    (view,) = step(state, link.trades("BTC-USD", trade("a", "BUY", "0.50", "100.10", _time(1.5))))
    fresh = list(view.fresh)
    step(state, link.book("BTC-USD", [("99", "1")], [("101", "1")]))
    step(state, link.levels("BTC-USD", bids=[("98", "1")]))

    expected = Trade(
        "a", "BUY", 100.1, 0.5, "100.10", "0.50", link.at + 1_500_000_000, "LIMIT", 1
    )  # fmt: skip
    assert fresh == [expected]
    assert list(view.trades) == [expected]
    assert view.fresh == []


def test_a_trade_that_came_before_is_not_counted_again() -> None:
    """A snapshot after a reconnect repeats what the tape had; its newest comes first."""
    state, link = DataState(), WireWriter()
    step(state, link.trades("BTC-USD", trade("a", "BUY", "1", "100", _time(1))))

    (view,) = step(
        state,
        link.trades(
            "BTC-USD",
            trade("c", "SELL", "1", "102", _time(2)),
            trade("b", "BUY", "1", "101", _time(2)),
            trade("a", "BUY", "1", "100", _time(1)),
            snapshot=True,
        ),
    )

    assert [x.id for x in view.fresh] == ["b", "c"]
    assert [x.id for x in view.trades] == ["a", "b", "c"]
    assert view.flow.over("1MIN").trades == 3


def test_ids_are_remembered_for_a_while_and_not_for_ever() -> None:
    """Two thousand trades later an id may come again: memory is bounded."""
    state, link = DataState(), WireWriter()
    for number in range(2_100):
        (view,) = step(
            state, link.trades("BTC-USD", trade(str(number), "BUY", "1", "100", _time(1)))
        )

    (again,) = step(state, link.trades("BTC-USD", trade("2099", "BUY", "1", "100", _time(1))))
    fresh = list(again.fresh)
    step(state, link.trades("BTC-USD", trade("0", "BUY", "1", "100", _time(1))))

    assert fresh == []
    assert len(view.fresh) == 1
    assert len(view.trades) == 64


@pytest.mark.parametrize(
    "bad", [("x", "BUY", "0", "100", _time(1)), ("x", "BUY", "1", "-1", _time(1)),
            ("x", "BUY", "ten", "100", _time(1)), ("x", "BUY", "1e999", "100", _time(1)),
            ("x", "BUY", "1", "100", "yesterday")]
)  # fmt: skip
def test_a_trade_that_makes_no_sense_is_counted_and_the_others_stand(bad: tuple[str, ...]) -> None:
    """One bad trade costs itself alone."""
    state, link = DataState(), WireWriter()

    (view,) = step(
        state, link.trades("BTC-USD", trade(*bad), trade('b', 'SELL', '2', '101', _time(2)))
    )  # fmt: skip

    assert [x.id for x in view.fresh] == ["b"]
    assert view.quality.counts == {"malformed": 1}


def test_a_trade_of_the_future_is_refused_once_the_chain_time_is_known() -> None:
    """It would roll every candle past all trades yet to come."""
    state, link = DataState(), WireWriter()
    step(state, link.block(10, _time(1)))

    (view,) = step(
        state, link.trades("BTC-USD", trade("a", "BUY", "1", "100", "2036-01-01T00:00:00Z"))
    )

    assert view.fresh == []
    assert view.quality.counts == {"malformed": 1}


def test_candles_grow_with_trades() -> None:
    """Each resolution has its own; a new period begins with the first trade in it."""
    state, link = DataState(resolutions=("1MIN", "5MINS")), WireWriter()

    (view,) = step(
        state,
        link.trades(
            "BTC-USD",
            trade("a", "BUY", "1", "100", _time(1)),
            trade("b", "BUY", "1", "105", _time(2)),
            trade("c", "BUY", "1", "95", _time(3)),
            trade("d", "BUY", "2", "101", _time(61)),
        ),
    )

    assert view.candles["1MIN"][0] == Candle(link.at, 100.0, 105.0, 95.0, 95.0, 3.0, 300.0, 3)
    assert view.candles["1MIN"].last == Candle(
        link.at + MINUTE, 101.0, 101.0, 101.0, 101.0, 2.0, 202.0, 1
    )
    assert _plain(view.candles["5MINS"]) == [(100.0, 105.0, 95.0, 101.0, 5.0, 4)]
    assert view.candles["1MIN"].closes(1) == [101.0]
    assert view.candles["1MIN"].closes() == [95.0, 101.0]


def test_a_minute_without_trades_is_flat_at_the_last_close() -> None:
    """It appears when event time has passed it, or when the next trade comes."""
    state, link = DataState(), WireWriter()
    (view,) = step(state, link.trades("BTC-USD", trade("a", "BUY", "1", "100", _time(1))))

    link.wait(120)
    step(state, link.book("BTC-USD", [("99", "1")], [("101", "1")]))
    waiting = _plain(view.candles["1MIN"])
    step(state, link.trades("BTC-USD", trade("b", "BUY", "1", "90", _time(2 * 60 + 1))))
    step(state, link.trades("BTC-USD", trade("c", "BUY", "1", "80", _time(4 * 60 + 1))))

    flat = (100.0, 100.0, 100.0, 100.0, 0.0, 0)
    assert waiting == [(100.0, 100.0, 100.0, 100.0, 1.0, 1), flat, flat]
    assert _plain(view.candles["1MIN"])[1:] == [
        flat,
        (90.0, 90.0, 90.0, 90.0, 1.0, 1),
        (90.0, 90.0, 90.0, 90.0, 0.0, 0),
        (80.0, 80.0, 80.0, 80.0, 1.0, 1),
    ]


def test_a_venue_that_lives_in_another_year_keeps_its_candles() -> None:
    """Receive time alone rolls nothing: a stand-in may trade in a January long past."""
    state, link = DataState(), WireWriter()
    link.wait(300 * 86_400)

    (view,) = step(
        state, link.trades("BTC-USD", trade("a", "BUY", "1", "100", _time(1)), snapshot=True)
    )
    before = len(view.candles["1MIN"])
    step(state, link.block(10, _time(30)))
    link.wait(60)
    step(state, link.trades("BTC-USD", trade("b", "BUY", "1", "101", _time(91))))

    assert before == 1
    assert view.candles["1MIN"].closes() == [100.0, 101.0]
    assert view.flow.over("1MIN").trades == 1


def test_a_late_trade_mends_its_candle_and_the_flat_ones_after_it() -> None:
    """The flat candles of a silence take over the close that came late."""
    candles = Candles(MINUTE)
    candles.add(0, 100.0, 1.0)
    candles.roll(2 * MINUTE)

    candles.add(59 * SECOND, 103.0, 1.0)

    assert _plain(candles) == [
        (100.0, 103.0, 100.0, 103.0, 2.0, 2),
        (103.0, 103.0, 103.0, 103.0, 0.0, 0),
        (103.0, 103.0, 103.0, 103.0, 0.0, 0),
    ]


def test_the_close_of_a_candle_is_its_newest_trade() -> None:
    """One that was overtaken, or that an answer brought, is in it, but does not end it."""
    candles = Candles(MINUTE)
    candles.add(10 * SECOND, 100.0, 1.0)
    candles.add(30 * SECOND, 110.0, 1.0)

    candles.add(20 * SECOND, 120.0, 1.0)

    assert _plain(candles) == [(100.0, 120.0, 100.0, 110.0, 3.0, 3)]


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 300)), min_size=1, max_size=30),
    st.randoms(),
)
def test_trades_of_a_block_are_ordered_by_their_events(
    trades: list[tuple[int, int]], dice: Any
) -> None:
    """A snapshot has the newest block first and those of a block in no order; an id is an event."""
    rows = [
        trade(f"{block:08x}0000000200{n:06x}", "BUY", "1", str(price), _time(block * 7))
        for n, (block, price) in enumerate(sorted(trades, key=lambda one: one[0]))
    ]
    told = rows.copy()
    dice.shuffle(told)
    told.sort(key=lambda row: row["createdAt"], reverse=True)
    state, link = DataState(resolutions=["1MIN"]), WireWriter()

    (view,) = step(state, link.trades("BTC-USD", *told, snapshot=True))

    assert [x.id for x in view.trades] == [row["id"] for row in rows]
    assert view.candles["1MIN"].closes(1) == [float(rows[-1]["price"])]


def test_trades_of_an_answer_go_to_their_places() -> None:
    """The last trade stays the last, though REST brings older ones after it."""
    state, link = DataState(), WireWriter()
    step(state, link.trades("BTC-USD", trade("c", "BUY", "1", "103", _time(3))))
    rows = [trade(name, "BUY", "1", "100", _time(at)) for name, at in (("b", 2), ("a", 1))]

    step(state, link.answer("/v4/trades/perpetualMarket/BTC-USD", {"trades": rows}))

    assert [x.id for x in state.views["BTC-USD"].trades] == ["a", "b", "c"]
    assert state.views["BTC-USD"].candles["1MIN"].closes(1) == [103.0]


def test_a_late_candle_of_the_wire_is_carried_on_by_the_flat_ones_after_it() -> None:
    """As a late trade is: nothing was traded since, so its close is the price."""
    candles = Candles(MINUTE)
    candles.put(Candle(0, 105.0, 105.0, 105.0, 105.0, 1.0, 105.0, 1))
    candles.roll(3 * MINUTE)

    candles.put(Candle(0, 105.0, 110.0, 105.0, 110.0, 2.0, 215.0, 2))

    assert candles.closes() == [110.0] * 4


def test_the_ring_keeps_the_newest_candles() -> None:
    """What is older than the ring is gone, and a trade for it is too."""
    candles = Candles(MINUTE, capacity=3)
    for minute in range(5):
        candles.add(minute * MINUTE, 100.0 + minute, 1.0)

    candles.add(0, 1.0, 1.0)

    assert candles.closes() == [102.0, 103.0, 104.0]
    assert [x.started_at for x in candles] == [2 * MINUTE, 3 * MINUTE, 4 * MINUTE]
    assert candles[-3] == candles[0]
    with pytest.raises(IndexError, match="out of range"):
        candles[3]


def test_a_silence_longer_than_the_ring_leaves_flat_candles_alone() -> None:
    """And it costs no more than the ring is long."""
    candles = Candles(MINUTE, capacity=3)
    candles.roll(MINUTE)
    candles.add(0, 100.0, 1.0)

    candles.roll(10**18)

    assert candles.closes() == [100.0] * 3
    assert [x.trades for x in candles] == [0, 0, 0]
    assert candles.started_at == 10**18 - 10**18 % MINUTE


@given(st.lists(st.tuples(st.integers(0, 20 * 60), st.integers(1, 50)), min_size=1))
def test_candles_equal_a_plain_grouping_of_the_trades(trades: list[tuple[int, int]]) -> None:
    """Highs, lows, closes, volumes and the flat ones between."""
    trades.sort(key=lambda pair: pair[0])
    candles = Candles(MINUTE)
    groups: dict[int, list[float]] = {}

    for second, price in trades:
        candles.add(second * SECOND, float(price), 2.0)
        groups.setdefault(second // 60, []).append(float(price))

    close, expected = 0.0, []
    for minute in range(min(groups), max(groups) + 1):
        prices = groups.get(minute, [])
        if prices:
            close = prices[-1]
            row = (prices[0], max(prices), min(prices), close, 2.0 * len(prices), len(prices))
        else:
            row = (close, close, close, close, 0.0, 0)
        expected.append(row)
    assert _plain(candles) == expected


def _wire_candle(started_at: str, close: str, **more: Any) -> dict[str, Any]:
    return {
        "startedAt": started_at, "low": "90", "high": "110", "open": "100", "close": close,
        "baseTokenVolume": "2", "usdVolume": "200", "trades": 3, "resolution": "1MIN", **more,
    }  # fmt: skip


def test_candles_of_the_wire_take_the_place_of_ours() -> None:
    """A trade from before the last of them is in it; the next one is added."""
    state, link = DataState(), WireWriter()
    (view,) = step(state, link.trades("BTC-USD", trade("a", "BUY", "1", "100", _time(1))))

    first, second = _wire_candle(_time(120), "104"), _wire_candle(_time(0), "102")
    step(state, link.candles("BTC-USD", "1MIN", first, second, snapshot=True))
    changed = view.changed
    link.wait(121)
    step(state, link.candles("BTC-USD", "1MIN", _wire_candle(_time(120), "105")))
    step(state, link.trades("BTC-USD", trade("b", "BUY", "1", "1", _time(121))))
    step(state, link.trades("BTC-USD", trade("c", "BUY", "1", "2", _time(123))))

    assert changed == "candles"
    assert _plain(view.candles["1MIN"]) == [
        (100.0, 110.0, 90.0, 102.0, 2.0, 3),
        (102.0, 102.0, 102.0, 102.0, 0.0, 0),
        (100.0, 110.0, 2.0, 2.0, 3.0, 4),
    ]
    assert view.candles["1HOUR"].closes() == [2.0]


def test_trades_go_on_from_candles_that_were_requested_once() -> None:
    """An answer is history: only what was traded after it is added, and nothing twice."""
    state, link = DataState(), WireWriter()
    path = "/v4/candles/perpetualMarkets/BTC-USD?resolution=1MIN"
    link.wait(130)
    step(state, link.block(1, _time(130)))
    step(state, link.trades("BTC-USD", trade("a", "BUY", "1", "100", _time(125))))

    history = [_wire_candle(_time(120), "104"), _wire_candle(_time(60), "102")]
    (view,) = step(state, link.answer(path, {"candles": history}))
    step(state, link.trades("BTC-USD", trade("b", "BUY", "1", "103", _time(128)), snapshot=True))
    step(state, link.trades("BTC-USD", trade("c", "BUY", "1", "111", _time(140))))

    assert _plain(view.candles["1MIN"]) == [
        (100.0, 110.0, 90.0, 102.0, 2.0, 3),
        (100.0, 111.0, 90.0, 111.0, 3.0, 4),
    ]


def test_what_the_venue_sent_is_kept_apart_from_what_was_made_of_trades() -> None:
    """All before the newest that it sent is its own; minutes that follow are ours."""
    state, link = DataState(), WireWriter()
    history = [_wire_candle(_time(120), "104"), _wire_candle(_time(60), "102")]
    (view,) = step(state, link.candles("BTC-USD", "1MIN", *history, snapshot=True))
    step(state, link.trades("BTC-USD", trade("a", "BUY", "1", "111", _time(200))))

    assert view.candles["1MIN"].started_at == instant(_time(180))
    assert view.candles["1MIN"].reported_at == instant(_time(120))


def test_candles_may_be_requested() -> None:
    """Each names its resolution; a new one is stored from then on."""
    state, link = DataState(), WireWriter()
    path = "/v4/candles/perpetualMarkets/BTC-USD?limit=2&resolution=1DAY"

    candle = _wire_candle(_time(0), "102", resolution="1DAY")

    (view,) = step(state, link.answer(path, {"candles": [candle]}))

    assert view.candles["1DAY"].closes() == [102.0]


def test_trades_may_be_requested() -> None:
    """An answer is folded like the snapshot of the channel."""
    state, link = DataState(), WireWriter()
    trades = [trade("b", "BUY", "1", "101", _time(2)), trade("a", "BUY", "1", "100", _time(1))]

    (view,) = step(state, link.answer("/v4/trades/perpetualMarket/BTC-USD", {"trades": trades}))

    assert [x.id for x in view.fresh] == ["a", "b"]


def test_a_candle_that_makes_no_sense_is_counted() -> None:
    """The others of its frame stand; one of an unknown resolution makes no sense."""
    state, link = DataState(), WireWriter()
    good, bad = _wire_candle(_time(60), "102"), _wire_candle(_time(0), "nan")
    older = _wire_candle("2020-01-01T00:00:00Z", "1")

    (view,) = step(state, link.candles("BTC-USD", "1MIN", older, good, bad, snapshot=True))
    odd = {**good, "resolution": "2MINS"}
    step(state, link.candles("BTC-USD", "2MINS", odd))
    step(state, link.candles("BTC-USD", "1MIN", older))

    assert view.candles["1MIN"].closes() == [102.0]
    assert "2MINS" not in view.candles
    assert view.quality.counts == {"malformed": 2}


def test_an_odd_row_counts_against_its_market() -> None:
    """The channel names it, whatever the row looks like; the rows beside it stand."""
    state, link = DataState(), WireWriter()
    good, sold = _wire_candle(_time(60), "102"), trade("1", "SELL", "1", "102", _time(61))

    step(state, link.trades("BTC-USD", {**sold, "id": "0"}))
    step(state, link.candles("BTC-USD", "1MIN", good, {**good, "open": 7}, snapshot=True))
    (view,) = step(state, link.trades("BTC-USD", sold, {**sold, "size": 7}))

    assert view.quality.counts == {"malformed": 2}
    assert not state.quality.counts
    assert (view.candles["1MIN"].closes(), len(view.fresh)) == ([102.0], 1)


def test_unknown_resolutions_are_refused_at_once() -> None:
    """A typing error is raised, not counted."""
    with pytest.raises(ValueError, match="expected resolutions among 1MIN"):
        DataState(resolutions=["1MINUTE"])
    assert set(DataState(resolutions=RESOLUTIONS)._resolutions) == set(RESOLUTIONS)


def test_blocks_set_height_and_time() -> None:
    """All views share the chain; the skew lets windows roll in the venue's own time."""
    state, link = DataState(), WireWriter()
    step(state, link.book("BTC-USD"))
    link.wait(1)

    assert step(state, link.block(26543049, _time(0.25))) == ()
    step(state, link.answer("/v4/height", {"height": "26543050", "time": _time(0.75)}))
    step(state, link.block(26543048, _time(0)))

    chain = state.views["BTC-USD"].chain
    assert (chain.height, chain.time_ns, chain.seq) == (26543050, link.at - SECOND // 4, 3)
    assert chain.skew_ns == -SECOND // 4
    assert state.quality.counts == {"out_of_order": 1}


@pytest.mark.parametrize("height", [985, 999])
def test_a_snapshot_from_behind_takes_no_height_back(height: int) -> None:
    """A replica that answers late, or another indexer; it confirms no block either."""
    state, link = DataState(), WireWriter()
    step(state, link.block(1000, _time(30)))
    first_ns = state.chain.time_ns
    link.wait(1)
    behind = {"height": str(height), "time": _time(30 - (1000 - height))}

    step(state, link.answer("/v4/height", behind))
    step(state, link.publish("v4_block_height", behind, snapshot=True))

    assert (state.chain.height, state.chain.time_ns) == (1000, first_ns)
    assert state.chain.at == link.at - SECOND
    assert not state.quality.counts


def test_a_chain_that_began_again_is_followed() -> None:
    """Lower at a later time: no replica is that."""
    state, link = DataState(), WireWriter()
    step(state, link.block(1000, _time(30)))

    step(state, link.answer("/v4/height", {"height": "3", "time": _time(90)}))

    assert state.chain.height == 3


def test_times_without_a_zone_are_utc() -> None:
    """The venue always writes Z; whoever leaves it out means the same."""
    state, link = DataState(), WireWriter()

    (view,) = step(
        state, link.trades("BTC-USD", trade("a", "BUY", "1", "100", "2026-01-01T00:00:01"))
    )

    assert view.fresh[0].at_ns == link.at + SECOND


def test_several_blocks_may_come_at_once() -> None:
    """An indexer that lags catches up."""
    state, link = DataState(), WireWriter()
    for height in (10, 11, 60):
        step(state, link.block(height))

    assert (state.chain.height, state.quality.counts) == (60, {})

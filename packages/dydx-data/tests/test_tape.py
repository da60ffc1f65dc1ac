"""Trades and flow; blocks."""

from typing import Any

import pytest
from dydx_conn import WireWriter
from dydx_data import RESOLUTIONS, DataState, Trade, step
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


def test_a_trade_is_stored_with_its_texts_and_its_own_time() -> None:
    """`fresh` holds what this frame brought, and is empty again with the next."""
    state, link = DataState(), WireWriter()
    id_ = "000000070000000200000003"

    (view,) = step(state, link.trades("BTC-USD", trade(id_, "BUY", "0.50", "100.10", _time(1.5))))
    fresh = list(view.fresh)
    step(state, link.book("BTC-USD", [("99", "1")], [("101", "1")]))
    step(state, link.levels("BTC-USD", bids=[("98", "1")]))

    expected = Trade(
        id_, "BUY", 100.1, 0.5, "100.10", "0.50", link.at + 1_500_000_000, "LIMIT", 1,
        7 << 64 | 2 << 32 | 3,
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


def test_ids_are_remembered_for_a_while_and_older_ones_count_as_seen() -> None:
    """Memory is bounded; what is older than all that is in it would be counted twice."""
    state, link = DataState(), WireWriter()
    for number in range(1, 2_500):
        (view,) = step(
            state, link.trades("BTC-USD", trade(f"{number:024x}", "BUY", "1", "100", _time(1)))
        )

    news = []
    for number in (2_499, 1_000, 1, 0, 2_500):
        row = trade(f"{number:024x}", "BUY", "1", "100", _time(1))
        step(state, link.trades("BTC-USD", row))
        news.append(len(view.fresh))

    assert news == [0, 0, 0, 0, 1]
    assert len(view.trades) == 64


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**64 - 1), st.integers(0, 3))))
def test_an_id_is_new_once_in_whatever_order(events: list[tuple[int, int, int]]) -> None:
    """The packed ids are those of a plain set."""
    state, link, seen = DataState(), WireWriter(), set[str]()

    for height, middle, event in events:
        id_ = f"{height:08x}{middle >> 32:08x}{event:08x}"
        (view,) = step(state, link.trades("BTC-USD", trade(id_, "BUY", "1", "100", _time(1))))
        assert len(view.fresh) == (id_ not in seen)
        seen.add(id_)


@pytest.mark.parametrize(
    "bad", [("1", "BUY", "0", "100", _time(1)), ("1", "BUY", "1", "-1", _time(1)),
            ("1", "BUY", "ten", "100", _time(1)), ("1", "BUY", "1e999", "100", _time(1)),
            ("1", "BUY", "1", "100", "yesterday"), ("", "BUY", "1", "100", _time(1))]
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
    mixed = rows.copy()
    dice.shuffle(mixed)
    mixed.sort(key=lambda row: row["createdAt"], reverse=True)
    state, link = DataState(resolutions=["1MIN"]), WireWriter()

    (view,) = step(state, link.trades("BTC-USD", *mixed, snapshot=True))

    assert [x.id for x in view.trades] == [row["id"] for row in rows]
    assert view.trades[-1].price == float(rows[-1]["price"])


def test_trades_of_an_answer_go_to_their_places() -> None:
    """The last trade stays the last, though REST brings older ones after it."""
    state, link = DataState(), WireWriter()
    step(state, link.trades("BTC-USD", trade("c", "BUY", "1", "103", _time(3))))
    rows = [trade(name, "BUY", "1", "100", _time(at)) for name, at in (("b", 2), ("a", 1))]

    step(state, link.answer("/v4/trades/perpetualMarket/BTC-USD", {"trades": rows}))

    assert [x.id for x in state.views["BTC-USD"].trades] == ["a", "b", "c"]
    assert state.views["BTC-USD"].trades[-1].price == 103.0


def test_trades_may_be_requested() -> None:
    """An answer is folded like the snapshot of the channel."""
    state, link = DataState(), WireWriter()
    trades = [trade("b", "BUY", "1", "101", _time(2)), trade("a", "BUY", "1", "100", _time(1))]

    (view,) = step(state, link.answer("/v4/trades/perpetualMarket/BTC-USD", {"trades": trades}))

    assert [x.id for x in view.fresh] == ["a", "b"]


def test_an_odd_row_counts_against_its_market() -> None:
    """The channel names it, whatever the row looks like; the rows beside it stand."""
    state, link = DataState(), WireWriter()
    sold = trade("1", "SELL", "1", "102", _time(61))

    step(state, link.trades("BTC-USD", {**sold, "id": "0"}))
    (view,) = step(state, link.trades("BTC-USD", sold, {**sold, "size": 7}))

    assert view.quality.counts == {"malformed": 1}
    assert not state.quality.counts
    assert len(view.fresh) == 1


def test_unknown_resolutions_are_refused_at_once() -> None:
    """A typing error is raised, not counted."""
    with pytest.raises(ValueError, match="expected resolutions among 1MIN"):
        DataState(resolutions=["1MINUTE"])
    assert set(DataState(resolutions=RESOLUTIONS).resolutions) == set(RESOLUTIONS)


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

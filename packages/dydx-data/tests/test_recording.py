"""The bundled recording, from its frames to the views."""

from dydx_conn import Frame, collect, load_recorded_stream
from dydx_data import Candles, DataState, MarketView, market_views, step

MINUTE = 60 * 1_000_000_000


def _folded() -> tuple[DataState, list[Frame], list[MarketView]]:
    """Fold all of it; return the state, the frames and the views that came out."""
    state, frames = DataState(), load_recorded_stream("quickstart")
    views = collect(frames.pipe(market_views(state)))
    return state, collect(frames), views


def test_the_recording_fills_every_view_and_troubles_none() -> None:
    """Each market ends with trades, parameters, an oracle price and a funding rate."""
    state, frames, views = _folded()

    assert state.frames == len(frames)
    assert {view.ticker for view in views} == set(state.views)
    assert set(state.counts()) <= {"crossed"}
    for view in state.views.values():
        assert view.market is not None
        assert view.oracle is not None
        assert (view.status, view.funding.known) == ("ACTIVE", True)
        assert view.trades
        assert view.flow.over("1MIN").trades


def test_no_view_of_the_recording_is_ever_crossed_and_the_chain_only_grows() -> None:
    """After each frame, on every view it touched."""
    state, height, known = DataState(), 0, set()

    for frame in collect(load_recorded_stream("quickstart")):
        for view in step(state, frame):
            bids, asks = view.book.bids(1), view.book.asks(1)
            assert view.seq == frame.seq
            assert view.book.best_bid == (bids[0] if bids else None)
            assert view.book.best_ask == (asks[0] if asks else None)
            assert not bids or not asks or bids[0].price < asks[0].price
            known.update([view.ticker] if bids and asks else [])
        assert state.chain.height >= height
        height = state.chain.height

    assert known == set(state.views) != set()
    assert height > 0


def _consistent(candles: Candles) -> bool:
    """Check whether they follow without a hole and none closes outside its own range."""
    return all(
        now.low <= min(now.open, now.close) <= max(now.open, now.close) <= now.high
        and bool(now.trades) == (now.volume > 0)
        and now.started_at == candles[0].started_at + place * candles.period_ns
        for place, now in enumerate(candles)
    )


def test_the_candles_of_the_recording_are_consistent() -> None:
    """Every resolution ends with the last trade, and holds at least the trades of its minutes."""
    state, _, _ = _folded()

    for view in state.views.values():
        minutes = view.candles["1MIN"]
        assert minutes.last is not None
        assert view.market is not None
        assert minutes.last.close == view.market.subticks(view.trades[-1].price_text)
        for candles in view.candles.values():
            assert _consistent(candles)
            assert candles.closes(1) == minutes.closes(1)
            assert candles.last is not None
            assert candles.last.trades >= minutes.last.trades

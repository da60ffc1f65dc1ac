"""A book where none was recorded, an oracle price between two hours, and what both are worth."""

from datetime import UTC, datetime
from typing import Any

import pytest
from dydx_conn import HISTORY, WireWriter, market_fields, market_parameters
from dydx_data import (
    DISTANCES_BPS,
    BookFit,
    BookModel,
    BookTerms,
    DataState,
    MarketView,
    ModelledBook,
    OracleEstimate,
    step,
)
from hypothesis import given
from hypothesis import strategies as st

SECOND = 1_000_000_000
BTC = "BTC-USD"
DEPTH = (1e3, 2e3, 4e3, 8e3, 16e3, 32e3, 64e3)
TERMS = BookTerms(half_spread_bps=2.0, impact_bps=1.0, depth_usdc=DEPTH)


class Past:
    """A history of one market, frame by frame."""

    def __init__(self, **state: Any) -> None:
        self.state, self.link = DataState(**state), WireWriter(HISTORY)
        step(self.state, self.link.event("open"))
        step(self.state, self.link.message("connected"))
        fields = market_fields(BTC, price=None)
        step(self.state, self.link.markets(fields))
        step(self.state, self.link.block(1))

    def trade(self, price: float, side: Any = "BUY", wait: float = 1.0) -> MarketView:
        """Make a block with a trade."""
        self.link.wait(wait)
        step(self.state, self.link.block())
        (view,) = step(self.state, self.link.trade(BTC, side, 1, price))
        return view

    def candle(self, *prices: float, resolution: str = "1MIN") -> MarketView:
        """End a candle now."""
        self.link.wait(60)
        open_, high, low, close = map(str, prices)
        start = datetime.fromtimestamp(self.link.at / 1e9 - 60, UTC).isoformat()
        row = {
            "startedAt": start, "open": open_, "high": high, "low": low, "close": close,
            "baseTokenVolume": "5", "usdVolume": "1", "trades": 2,
        }  # fmt: skip
        (view,) = step(self.state, self.link.candles(BTC, resolution, row))
        return view


def test_a_trade_of_the_past_puts_a_book_around_it() -> None:
    """A buyer paid the ask: the ask is there, moved on by what buyers move it, the bid below."""
    past = Past(model=BookModel(markets={BTC: TERMS}))

    view = past.trade(50_000)

    book = view.book
    assert (book.modelled, book.fidelity, book.known, past.state.fidelity) == (
        True, "trades", True, "trades",
    )  # fmt: skip
    assert book.best_ask is not None
    assert book.best_bid is not None
    assert book.best_ask.price == pytest.approx(50_000 * 1.0001, abs=1)
    assert book.best_bid.price == pytest.approx(50_000 * (1 - 4e-4), abs=1)


def test_a_recorded_book_is_no_model() -> None:
    """On any other link trades model nothing."""
    state, link = DataState(), WireWriter()
    step(state, link.markets(market_fields(BTC, price=50_000)))
    step(state, link.trade(BTC, "BUY", 1, 50_000))

    book = state.views[BTC].book
    assert (book.modelled, book.fidelity, book.known, state.fidelity) == (
        False, "book", False, "book",
    )  # fmt: skip


def test_a_block_shows_what_was_traded_in_the_one_before_and_all_now_and_then() -> None:
    """Orders that were sent on a trade arrive with it; what stands still is known to."""
    past = Past()
    past.trade(50_000)
    past.link.wait(1)
    at_once = step(past.state, past.link.block())
    past.link.wait(1)
    again = step(past.state, past.link.block())
    past.link.wait(10)
    later = step(past.state, past.link.block())

    assert [len(views) for views in (at_once, again, later)] == [1, 0, 1]
    assert later[0].changed == "book"


def test_candles_put_a_book_around_their_close_and_leave_a_bar() -> None:
    """The shortest resolution decides; a bar is of the frame that brought it."""
    past = Past()

    view = past.candle(100, 104, 99, 102)
    past.candle(100, 200, 50, 150, resolution="5MINS")

    assert (view.book.fidelity, past.state.fidelity) == ("candles", "candles")
    assert view.bar is not None
    assert (view.bar.open, view.bar.high, view.bar.low, view.bar.close) == (100, 104, 99, 102)
    assert view.book.mid_price == pytest.approx(102, abs=1)


def test_candles_are_shown_at_the_block_behind_them_and_time_alone_in_between() -> None:
    """Orders fill as a candle comes; whoever decides sees all candles of an end together."""
    past = Past()
    view = past.candle(100, 104, 99, 102)
    as_it_comes = view.changed
    shown = [each.changed for each in step(past.state, past.link.block())]
    past.link.wait(10)
    between = [each.changed for each in step(past.state, past.link.block())]

    assert (as_it_comes, shown, between) == ("bar", ["book"], ["time"])


def test_where_trades_come_too_a_candle_models_nothing() -> None:
    """Trades know better where the price is."""
    past = Past()
    past.candle(100, 104, 99, 102)
    past.trade(110)

    view = past.candle(110, 120, 100, 105)

    assert (view.book.fidelity, view.bar, view.changed) == ("trades", None, "candles")


def test_a_candle_that_cannot_be_is_counted_and_models_nothing() -> None:
    """A close above the high is no price."""
    past = Past()

    view = past.candle(100, 101, 99, 102)

    assert view.book.known is False
    assert view.quality.counts["malformed"] >= 1


def test_between_two_hours_the_oracle_price_is_estimated() -> None:
    """From trades, off by as much as in the last hour; the hour's own price is none."""
    past = Past()
    past.trade(50_000)
    estimated = past.state.views[BTC].oracle
    past.link.wait(1)
    step(past.state, past.link.oracle(BTC, 50_050))
    true = past.state.views[BTC].oracle
    view = past.trade(51_000, wait=120)

    assert estimated is not None
    assert estimated.estimated
    assert estimated.price == 50_000
    assert true is not None
    assert not true.estimated
    assert true.price == 50_050
    assert view.oracle is not None
    assert view.oracle.estimated
    assert view.oracle.price == pytest.approx(51_000 * 50_050 / 50_000)


def test_an_hour_before_the_first_trade_is_where_the_estimate_begins() -> None:
    """A first trade that is far off does not move it alone."""
    past = Past()
    step(past.state, past.link.oracle(BTC, 50_000))

    view = past.trade(50_100)

    assert view.oracle is not None
    assert view.oracle.price == pytest.approx(50_050)


def test_a_gap_makes_a_modelled_book_unknown_until_the_next_trade() -> None:
    """What was traded in it nobody knows: nothing is decided on the price before it."""
    past = Past()
    book = past.trade(50_000).book
    step(past.state, past.link.event("gap", "a window is missing"))
    lost = (book.known, book.best_bid, book.bids())

    view = past.trade(51_000)

    assert lost == (False, None, [])
    assert view.book.known


def test_an_estimate_is_the_median_of_a_minute() -> None:
    """One odd trade moves nothing, and what is old is forgotten."""
    estimate = OracleEstimate()
    unknown = estimate.price
    for at, price in enumerate((100.0, 100.0, 130.0)):
        estimate.trade(at * SECOND, price)
    steady = estimate.price
    estimate.trade(600 * SECOND, 110.0)

    assert (unknown, steady, estimate.price) == (None, 100.0, 110.0)


PRICES = st.floats(1e-3, 1e6)


@given(PRICES, st.sampled_from(["BUY", "SELL", ""]), st.sampled_from([BTC, "ETH-USD", "X-USD"]))
def test_a_modelled_book_is_on_the_grid_and_never_crossed(
    mid: float, taker: str, ticker: str
) -> None:
    """Whatever the price: bids fall, asks rise, both are prices that the chain would take."""
    market = market_parameters(ticker)
    book = ModelledBook(market, TERMS, "trades")

    book.place(mid, SECOND, 1, taker)

    bids, asks = book.bids(), book.asks()
    prices = [level.price for level in [*bids[::-1], *asks]]
    assert prices == sorted({*prices})
    for level in (*bids, *asks):
        assert market.price(market.subticks(level.price_text)) == market.price(
            market.floor_subticks(level.price_text)
        )
        assert market.quantums(level.size_text) >= 0
    assert book.outermost == (book.best_bid.price, book.best_ask.price)  # type: ignore[union-attr]


def test_depth_is_as_stated_by_distance_and_never_more() -> None:
    """Each part of it stands at the far end of its band: a taker pays rather too much."""
    book = ModelledBook(market_parameters(BTC), TERMS, "trades")
    book.place(50_000, SECOND, 1)

    asks, best = book.asks(), book.asks()[0].price
    for distance, usdc in zip(DISTANCES_BPS, DEPTH, strict=True):
        near = sum(x.price * x.size for x in asks if x.price <= best * (1 + distance / 1e4))
        assert near <= usdc
    assert sum(x.price * x.size for x in asks) == pytest.approx(DEPTH[-1], rel=0.01)
    assert book.ask_total == pytest.approx(DEPTH[-1] / best)
    assert book.bid_total == pytest.approx(DEPTH[-1] / book.bids()[0].price)
    assert book.around(40_000).asks(1)[0].price == pytest.approx(40_000 * 1.0002, abs=1)


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        ({"half_spread_bps": 1.0, "depth_usdc": (1.0, 2.0)}, "expected 7 depths"),
        ({"half_spread_bps": 1.0, "depth_usdc": DEPTH[::-1]}, "none less than the one before"),
        ({"half_spread_bps": 1.0, "depth_usdc": (0.0,) * 7}, "expected 7 depths"),
        ({"half_spread_bps": -1.0, "depth_usdc": DEPTH}, "half-spread and an impact"),
        ({"half_spread_bps": 1.0, "impact_bps": 9e9, "depth_usdc": DEPTH}, "half-spread and an"),
    ],
)
def test_terms_that_are_no_book_are_refused(terms: dict[str, Any], why: str) -> None:
    """A file may hold anything."""
    with pytest.raises(ValueError, match=why):
        BookTerms(**terms)


def test_a_market_that_nobody_calibrated_is_modelled_by_its_kind() -> None:
    """The venue wants more margin where less is traded: spreads are wider there."""
    model = BookModel(markets={BTC: TERMS})
    kinds = [
        market_parameters("X-USD", imf_ppm=ppm) for ppm in (20_000, 50_000, 100_000, 2 * 10**6)
    ]

    spreads = [model.terms_of(market).half_spread_bps for market in kinds]

    assert model.terms_of(market_parameters(BTC)) is TERMS
    assert spreads == [1.65, 6.0, 15.0, 15.0]


def recorded(seconds: int, spread: float = 10.0) -> BookFit:
    """Fit a market whose book is the same each second, with a trade at each side in turn."""
    state, link, fit = DataState(), WireWriter(), BookFit()
    step(state, link.markets(market_fields(BTC, price=50_000)))
    step(state, link.block(1, snapshot=True))
    bids = [(50_000 - spread / 2 - n * 10, 1) for n in range(60)]
    asks = [(50_000 + spread / 2 + n * 10, 1) for n in range(60)]
    step(state, link.book(BTC, bids, asks))
    for n in range(seconds):
        link.wait(1)
        step(state, link.block())
        price, side = (asks[0][0], "BUY") if n % 2 else (bids[0][0], "SELL")
        for view in step(state, link.trade(BTC, side, 0.01, price)):  # type: ignore[arg-type]
            fit.see(view)
    return fit


def test_a_fit_finds_the_spread_the_depth_and_how_wrong_it_is() -> None:
    """A book that stands still is modelled without error at its best, and worse beyond it."""
    terms = recorded(60).terms()

    assert terms is not None
    assert terms.half_spread_bps == pytest.approx(1.0, abs=0.01)
    assert terms.impact_bps == 0.0
    assert terms.depth_usdc[0] == pytest.approx(50_000, rel=0.01)
    assert terms.depth_usdc[4] == pytest.approx(650_000, rel=0.1)
    assert [(x.usdc, x.median_bps, x.better) for x in terms.errors] == [(1e3, 0, 0), (1e4, 0, 0)]
    assert terms.samples in (59, 60)
    assert terms.oracle_median_bps is not None
    assert terms.oracle_median_bps < 2


def test_too_little_of_a_book_makes_no_fit() -> None:
    """Some seconds are no quantile."""
    assert recorded(5).terms() is None
    assert BookFit().terms() is None

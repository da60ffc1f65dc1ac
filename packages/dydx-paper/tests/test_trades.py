"""Trades one by one and together, and fills against mid, checked by hand."""

import pytest
from dydx_conn import Subaccount, market_parameters
from dydx_paper import (
    Execution,
    Ledger,
    Stamp,
    TradeFigures,
    distribution,
    execution_figures,
    performance,
    trade_figures,
)
from hypothesis import given
from hypothesis import strategies as st

BTC, ETH = market_parameters("BTC-USD"), market_parameters("ETH-USD")
MARKETS = {"BTC-USD": BTC, "ETH-USD": ETH}
COIN = 10**10
USDC = 1_000_000
HOUR = 3_600 * 10**9


def hour(n: float) -> Stamp:
    """Return a moment `n` hours after the hundredth, and a frame of its own."""
    return Stamp(seq=int(n * 10), time_ns=int((100 + n) * HOUR))


def traded(*trades: tuple[int, int, int], deposit: int = 1_000) -> Ledger:
    """Trade so many coins in and out, at these prices, an hour each; a USDC of fee each way."""
    ledger = Ledger(Subaccount("me"), deposit * USDC)
    for n, (size, entry, exit_) in enumerate(trades):
        ledger.fill(BTC, size * COIN, entry * 100_000, USDC, when=hour(2 * n))
        ledger.fill(BTC, -size * COIN, exit_ * 100_000, USDC, when=hour(2 * n + 1))
    return ledger


def figures(ledger: Ledger) -> TradeFigures:
    """Return what a ledger's trades come to."""
    return trade_figures(ledger.history, ledger.deposits, MARKETS)


def execution(**fields: object) -> Execution:
    """Return a fill that took one coin at 101 while mid was 100."""
    known = {
        "id": "F1", "order": "O1", "ticker": "BTC-USD", "side": "BUY", "size": 1.0, "price": 101.0,
        "liquidity": "TAKER", "fee": 50_000, "mid_price": 100.5, "mid_sent": 100.0,
        "waited_ns": 2 * 10**9,
    }  # fmt: skip
    return Execution(**{**known, **fields})  # type: ignore[arg-type]


def test_a_history_without_an_end_has_no_figures() -> None:
    """Nothing that ended, nothing to say."""
    ledger = Ledger(Subaccount("me"), 100)
    ledger.fill(BTC, COIN, 100 * 100_000, when=hour(0))

    assert figures(ledger) == TradeFigures()


def test_a_round_trip_has_its_prices_its_profit_and_its_frames() -> None:
    """Two coins from 100 to 112 earn 24, less a fee each way; they were a fifth of the account."""
    [trip] = figures(traded((2, 100, 112))).trips

    assert (trip.ticker, trip.is_long, trip.entry, trip.exit) == ("BTC-USD", True, 100.0, 112.0)
    assert (trip.size, trip.usdc, trip.share) == (2.0, 200.0, 0.2)
    assert (trip.pnl, trip.fees, trip.funding, trip.returned) == (22.0, 2.0, 0.0, 0.11)
    assert (trip.opened.seq, trip.ended.seq, trip.held_s) == (0, 10, 3_600.0)


def test_a_short_earns_when_the_price_falls() -> None:
    """Sold at 100, bought back at 90: ten, less the fees."""
    [trip] = figures(traded((-1, 100, 90))).trips

    assert (trip.is_long, trip.size, trip.pnl) == (False, 1.0, 8.0)


def test_trades_together_have_expectancy_payoff_best_and_worst() -> None:
    """Won 10 and 4, lost 6: the mean is 8 / 3, the average win 7 against a loss of 6."""
    seen = figures(traded((1, 100, 112), (1, 100, 96), (1, 100, 106)))

    assert seen.expectancy == pytest.approx(8 / 3)
    assert seen.payoff == pytest.approx(7 / 6)
    assert seen.best is not None
    assert seen.worst is not None
    assert (seen.best.pnl, seen.worst.pnl) == (10.0, -6.0)
    assert [trip.pnl for trip in seen.trips] == [4.0, -6.0, 10.0]
    assert (seen.held_s, seen.usdc) == ((3_600.0,) * 3, (100.0,) * 3)


def test_each_market_has_its_own_row_the_best_first() -> None:
    """One that won stands over one that lost."""
    ledger = traded((1, 100, 96))
    ledger.fill(ETH, 10**9, ETH.subticks_per_tick * 100, when=hour(8))
    ledger.fill(ETH, -(10**9), ETH.subticks_per_tick * 200, when=hour(9))

    rows = figures(ledger).markets

    assert [(row.ticker, row.trades, row.won) for row in rows] == [
        ("ETH-USD", 1, 1), ("BTC-USD", 1, 0),
    ]  # fmt: skip
    assert (rows[1].pnl, rows[1].fees, rows[1].best, rows[1].worst) == (-6.0, 2.0, -6.0, -6.0)


def test_a_share_is_of_the_last_equity_before_the_trade() -> None:
    """What was deposited counts until the first point; none of it counts once it is gone."""
    ledger = traded((1, 100, 100))
    ledger.collateral = 400 * USDC
    ledger.mark(hour(3))
    ledger.fill(BTC, COIN, 100 * 100_000, when=hour(4))
    ledger.fill(BTC, -COIN, 100 * 100_000, when=hour(5))

    assert [trip.share for trip in figures(ledger).trips] == [0.25, 0.1]


def test_a_market_of_an_unknown_grid_has_no_size() -> None:
    """Its profit is known all the same."""
    ledger = traded((1, 100, 112))
    [trip] = trade_figures(ledger.history, ledger.deposits, {}).trips

    assert (trip.size, trip.usdc, trip.share, trip.returned) == (None, None, None, None)
    assert trip.pnl == 10.0


PRICES = st.tuples(st.sampled_from([-3, -1, 1, 2]), st.integers(50, 150), st.integers(50, 150))


@given(st.lists(PRICES, min_size=1, max_size=9))
def test_trips_add_up_to_what_the_ledger_says(trades: list[tuple[int, int, int]]) -> None:
    """Every profit is in a trip, in its market's row and in one bar of the distribution."""
    ledger = traded(*trades)
    seen, did = figures(ledger), performance(ledger)

    profit = ledger.collateral - ledger.deposits
    assert sum(trip.pnl for trip in seen.trips) * USDC == pytest.approx(profit)
    assert sum(row.pnl for row in seen.markets) * USDC == pytest.approx(profit)
    assert sum(count for _, _, count in seen.bars) == len(trades) == did.trades


@given(st.lists(st.floats(-1e9, 1e9), max_size=40), st.integers(2, 20))
def test_bars_are_alike_and_hold_every_value(values: list[float], bars: int) -> None:
    """One width, side by side, no more than were requested, no value outside."""
    made = distribution(values, bars)

    assert sum(count for _, _, count in made) == len(values)
    assert len(made) <= bars + 1
    if made:
        rounding = 1e-9 * max(map(abs, values))
        assert made[0][0] <= min(values) + rounding
        assert max(values) <= made[-1][1] + rounding


def test_what_is_no_number_is_in_no_bar() -> None:
    """Nor does it stop the rest."""
    made = distribution([float("nan"), float("inf"), 3.0], 5)

    assert [count for _, _, count in made] == [1]


def test_slippage_is_how_much_worse_than_mid_a_fill_is() -> None:
    """A buyer pays more, a seller gets less; waiting at a better price is a gain."""
    bought, sold = execution(), execution(side="SELL", price=99.0)
    rested = execution(price=99.5, mid_price=None)

    assert bought.slippage_bps == pytest.approx(100.0)
    assert sold.slippage_bps == pytest.approx(100.0)
    assert rested.slippage_bps == pytest.approx(-50.0)
    assert rested.spread_bps is None
    assert bought.spread_bps == pytest.approx(0.5 / 100.5 * 1e4)


def test_fills_are_counted_by_liquidity_and_weighed_by_their_money() -> None:
    """A maker's and a taker's apart: three coins at 100 bps and one at 0 are 75."""
    rows = execution_figures(
        [
            execution(size=3.0, price=101.0),
            execution(price=100.0),
            execution(liquidity="MAKER", mid_sent=None, waited_ns=None),
        ]
    )

    maker, taker = rows
    assert (maker.liquidity, maker.fills, maker.slippage_bps, maker.waited_s) == (
        "MAKER",
        1,
        None,
        None,
    )
    assert taker.fills == 2
    assert taker.usdc == 403.0
    assert taker.fee == pytest.approx(0.1)
    assert taker.fee_bps == pytest.approx(1_000 / 403)
    assert taker.slippage_bps == pytest.approx(100 * 303 / 403)
    assert taker.slippage == pytest.approx(3.03)
    assert taker.worst_bps == pytest.approx(100.0)
    assert taker.waited_s == 2.0

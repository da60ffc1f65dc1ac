"""Performance on its declared conventions, against figures computed by hand or the long way."""

from itertools import pairwise
from math import sqrt
from statistics import mean, stdev

import pytest
from dydx_conn import Subaccount, market_parameters
from dydx_paper import Caps, Ledger, Stamp, performance
from exchange import settle_funding
from hypothesis import given
from hypothesis import strategies as st

ME = Subaccount("me")
BTC = market_parameters("BTC-USD")
COIN = 10**10
USDC = 1_000_000
HOUR = 3_600 * 10**9


def at(price: int) -> int:
    """Return a price in subticks."""
    return price * 100_000


def hour(n: float) -> Stamp:
    """Return a moment `n` hours after the hundredth."""
    return Stamp(time_ns=int((100 + n) * HOUR))


def trade(ledger: Ledger, entry: int, exit_: int, start: float, end: float, fee: int = 0) -> None:
    """Hold one coin from one hour to another."""
    ledger.fill(BTC, COIN, at(entry), fee, when=hour(start))
    ledger.fill(BTC, -COIN, at(exit_), fee, when=hour(end))


def worth(*equities: int, deposit: int | None = None) -> Ledger:
    """Return a ledger that was worth this much, hour by hour."""
    ledger = Ledger(ME, equities[0] if deposit is None else deposit)
    for n, equity in enumerate(equities):
        ledger.collateral = equity
        ledger.mark(hour(n))
    return ledger


def test_an_account_that_did_nothing_has_no_ratios() -> None:
    """None, not zero: nothing was won and nothing lost."""
    seen = performance(Ledger(ME, 100))

    assert 0 == seen.trades == seen.volume == seen.fees == seen.max_drawdown == seen.drawdown_ns
    assert {None} == {
        seen.win_rate, seen.profit_factor, seen.average_win, seen.average_loss, seen.sharpe,
        seen.sortino, seen.exposure, seen.turnover, seen.max_drawdown_ratio,
    }  # fmt: skip


def test_a_trade_is_a_position_from_its_opening_to_its_end_after_costs() -> None:
    """Won 10, lost 4 and lost 2 by fees alone; one that is even counts, one still open does not."""
    ledger = Ledger(ME, 1_000 * USDC)
    trade(ledger, 100, 112, 0, 1, USDC)
    trade(ledger, 100, 98, 1, 2, USDC)
    trade(ledger, 100, 100, 2, 3, USDC)
    trade(ledger, 100, 102, 3, 4, USDC)
    ledger.fill(BTC, COIN, at(100), when=hour(4))

    seen = performance(ledger)

    assert (4, 0.25) == (seen.trades, seen.win_rate)
    assert (10 * USDC, 3 * USDC) == (seen.average_win, seen.average_loss)
    assert pytest.approx(10 / 6) == seen.profit_factor
    assert (8 * USDC, 912 * USDC) == (seen.fees, seen.volume)


def test_funding_is_part_of_a_trade() -> None:
    """What the price gave, funding took."""
    ledger = Ledger(ME, 1_000 * USDC)
    ledger.fill(BTC, COIN, at(100), when=hour(0))
    settle_funding(ledger, {"BTC-USD": 500}, hour(1))
    ledger.fill(BTC, -COIN, at(102), when=hour(2))

    seen = performance(ledger)

    assert (5 * USDC, 3 * USDC, 0.0) == (seen.funding, seen.average_loss, seen.win_rate)


def test_exposure_is_time_in_the_market() -> None:
    """Two hours of eight, and the one until now in which something is open again."""
    ledger = Ledger(ME, 1_000 * USDC)
    ledger.mark(hour(0))
    trade(ledger, 100, 100, 1, 3)
    ledger.fill(BTC, COIN, at(100), when=hour(7))
    ledger.mark(hour(8))

    assert 3 / 8 == performance(ledger).exposure


def test_a_flip_goes_on_being_exposed() -> None:
    """From long to short there is no moment without a position."""
    ledger = Ledger(ME, 1_000 * USDC)
    ledger.fill(BTC, COIN, at(100), when=hour(0))
    ledger.fill(BTC, -2 * COIN, at(100), when=hour(1))
    ledger.fill(BTC, COIN, at(100), when=hour(2))
    ledger.mark(hour(4))

    assert 0.5 == performance(ledger).exposure


def test_turnover_is_volume_over_mean_equity() -> None:
    """Two hundred traded on a hundred and fifty."""
    ledger = worth(100 * USDC, 200 * USDC)
    trade(ledger, 100, 100, 2, 2)

    assert pytest.approx(200 / 150) == performance(ledger).turnover


def test_a_drawdown_lasts_until_its_peak_is_reached_again() -> None:
    """The deepest one, not the longest."""
    seen = performance(worth(100, 120, 90, 110, 125, 124, 123, 122, 121, 125))

    assert (30, 3 * HOUR) == (seen.max_drawdown, seen.drawdown_ns)
    assert pytest.approx(0.25) == seen.max_drawdown_ratio


def test_a_drawdown_not_made_up_for_lasts_until_now() -> None:
    """And a deeper one begins at its own peak."""
    seen = performance(worth(100, 90, 110, 80, 85, 84))

    assert (30, 3 * HOUR) == (seen.max_drawdown, seen.drawdown_ns)


def test_a_drawdown_begins_when_its_peak_was_last_seen() -> None:
    """A plateau is no drawdown, and reaching the peak ends one."""
    seen = performance(worth(100, 100, 100, 90, 100, 100))

    assert (10, 2 * HOUR) == (seen.max_drawdown, seen.drawdown_ns)


def test_what_the_insurance_fund_took_is_a_cost_of_the_trade() -> None:
    """As a fee is."""
    ledger = Ledger(ME, 1_000 * USDC)
    ledger.fill(BTC, COIN, at(100), when=hour(0))
    ledger.fill(BTC, -COIN, at(101), 2 * USDC, 3 * USDC, hour(1), type="LIQUIDATED")

    seen = performance(ledger)

    assert (4 * USDC, 3 * USDC) == (seen.average_loss, seen.insurance)


def test_money_brought_in_is_no_profit() -> None:
    """Neither in the drawdown nor in the returns."""
    ledger = Ledger(ME, 100)
    for n in range(30):
        ledger.mark(hour(n))
        ledger.deposit(-50 if n % 3 == 0 else 50, hour(n))

    seen = performance(ledger)

    assert (0, 0.0) == (seen.max_drawdown, seen.max_drawdown_ratio)
    assert (None, None) == (seen.sharpe, seen.sortino)  # nothing varies


def test_sharpe_and_sortino_are_of_hourly_returns() -> None:
    """Annualised by the root of the hours of a year."""
    equities = [1_000, 1_010, 1_000, 1_030, 1_020, 1_050]
    returns = [b / a - 1 for a, b in pairwise(equities)]
    down = sqrt(mean(min(r, 0) ** 2 for r in returns))

    seen = performance(worth(*equities), least_returns=5)

    assert pytest.approx(mean(returns) / stdev(returns) * sqrt(8760)) == seen.sharpe
    assert pytest.approx(mean(returns) / down * sqrt(8760)) == seen.sortino


def test_too_few_returns_give_no_ratio() -> None:
    """A day of them by default."""
    ledger = worth(*(1_000 + n % 2 for n in range(24)))
    assert (None, None) == (performance(ledger).sharpe, performance(ledger).sortino)

    ledger.collateral = 1_005
    ledger.mark(hour(24))

    assert None not in (performance(ledger).sharpe, performance(ledger).sortino)


def test_what_never_fell_has_no_sortino() -> None:
    """Nothing below zero to divide by."""
    seen = performance(worth(100, 110, 115, 130), least_returns=2)

    assert seen.sharpe is not None
    assert seen.sortino is None


def test_an_hour_counts_by_its_last_point_and_a_gap_makes_no_return() -> None:
    """A return over three hours is not an hourly one."""
    ledger = Ledger(ME, 100)
    for n, equity in ((0, 50), (0.5, 100), (1, 110), (4, 500), (5, 450)):
        ledger.collateral = equity
        ledger.mark(hour(n))
    returns = [0.1, -0.1]

    seen = performance(ledger, least_returns=2)

    assert seen.sharpe is not None
    assert pytest.approx(mean(returns) / stdev(returns) * sqrt(8760)) == seen.sharpe
    assert performance(ledger, least_returns=3).sharpe is None


def test_an_account_once_worth_nothing_has_no_ratios() -> None:
    """A share of nothing is not a figure; what was lost still is one."""
    seen = performance(worth(100, -5, 20), least_returns=2)

    assert (None, None, None) == (seen.sharpe, seen.sortino, seen.max_drawdown_ratio)
    assert 105 == seen.max_drawdown


def test_points_of_unknown_worth_count_for_nothing() -> None:
    """They are no zero in the curve."""
    ledger = worth(100, 110)
    ledger.fill(BTC, COIN, at(1), when=hour(2))
    ledger.mark(hour(2))

    assert 0 == performance(ledger).max_drawdown


def test_totals_outlive_what_the_history_forgets() -> None:
    """Fifty trades, of which one position is retained."""
    ledger = Ledger(ME, 10**12, caps=Caps(positions=1, fills=1))
    for n in range(50):
        trade(ledger, 100, 101, n, n + 1)

    assert (50, 1.0, USDC) == (
        performance(ledger).trades, performance(ledger).win_rate, performance(ledger).average_win,
    )  # fmt: skip


@given(st.lists(st.integers(1, 1_000), min_size=2, max_size=30))
def test_a_drawdown_is_the_deepest_fall_of_all(equities: list[int]) -> None:
    """Whichever peak and trough one picks; and it never takes longer than there is time."""
    seen = performance(worth(*equities))

    falls = [a - b for i, a in enumerate(equities) for b in equities[i:]]
    assert max(falls) == seen.max_drawdown
    assert 0 <= seen.drawdown_ns <= (len(equities) - 1) * HOUR
    ratios = [1 - b / a for i, a in enumerate(equities) for b in equities[i:]]
    assert pytest.approx(max(ratios), abs=1e-9) == seen.max_drawdown_ratio


@given(
    st.lists(st.tuples(st.integers(-5, 5).filter(bool), st.integers(90, 110)), max_size=30),
    st.integers(0, 50_000),
)
def test_trades_account_for_all_that_was_earned(fills: list[tuple[int, int]], fee: int) -> None:
    """Once flat, gross profit less gross loss is what the balance gained."""
    ledger = Ledger(ME, 10**12)
    for steps, price in fills:
        ledger.fill(BTC, steps * COIN, at(price), fee)
    left = ledger.position("BTC-USD")
    if left:
        ledger.fill(BTC, -left, at(100), fee)

    tally = ledger.tally
    gained = ledger.collateral - ledger.deposits
    # Each trade rounds its profit to the nearest quantum.
    trades = tally.won + tally.lost + tally.even
    assert abs(gained - (tally.gross_profit - tally.gross_loss)) <= trades

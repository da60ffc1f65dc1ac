"""What is watched of an account: returns, figures, shocks and ladder."""

from math import log, sqrt
from typing import Any

import pytest
from dydx_conn import MarketFields
from dydx_data import Candle, Candles, Chain, MarketView, Oracle
from dydx_risk import Policy, Returns, Watch, risk_figures, stress_table
from hypothesis import given
from hypothesis import strategies as st

SECOND = 1_000_000_000


# === Returns ===


def seen(**prices: float) -> dict[str, MarketView]:
    """Make views of markets with these oracle prices."""
    views = {ticker: MarketView(ticker, Chain(), {}, MarketFields()) for ticker in prices}
    for ticker, price in prices.items():
        views[ticker].oracle = Oracle(price, 0, 0, 0, 0, str(price))
    return views


def test_volatility_is_the_root_mean_square_return_of_an_hour() -> None:
    """Every ten seconds one per cent up or down: nineteen per cent an hour."""
    returns = Returns(least=4)
    for step in range(7):
        returns.sample(SECOND * 10 * (1 + step), seen(A=101.0 if step % 2 else 100.0))

    assert returns.volatility_1h("A") == pytest.approx(log(1.01) * sqrt(360))
    assert returns.volatility_1h("B") is None


def test_beta_is_a_markets_part_in_what_all_do() -> None:
    """One moves by twice as much as the other: 4/3 and 2/3 of their mean."""
    returns = Returns(least=4)
    for step in range(6):
        up = step % 2
        returns.sample(SECOND * 10 * (1 + step), seen(A=100 * 1.02**up, B=100 * 1.02 ** (up / 2)))

    assert returns.beta("A") == pytest.approx(4 / 3)
    assert returns.beta("B") == pytest.approx(2 / 3)


def test_what_was_not_watched_for_long_is_not_known() -> None:
    """Few steps, a market that came late, a market at rest: no volatility, no beta of nothing."""
    returns = Returns(least=4)
    for step in range(4):
        returns.sample(SECOND * 10 * (1 + step), seen(A=100.0))
    assert returns.volatility_1h("A") is None

    returns.sample(SECOND * 50, seen(A=100.0, B=3.0))
    assert (returns.volatility_1h("A"), returns.beta("A")) == (0.0, None)
    assert returns.volatility_1h("B") is None


def with_minutes(at_s: int, *closes: int, reported_s: int = 0) -> dict[str, MarketView]:
    """Make a view of a market whose closes of a minute end now; the venue sent all but the last."""
    views, minute = seen(A=100.0), 60 * SECOND
    candles = views["A"].candles["1MIN"] = Candles(minute)
    start = at_s * SECOND // minute * minute - (len(closes) - 1) * minute
    for n, price in reversed([*enumerate(closes)]):
        candles.put(
            Candle(start + n * minute, price, price, price, price, 1, 1, 1),
            at_s * SECOND,
            final=True,
        )
    if reported_s:
        candles.reported_at = reported_s * SECOND
    return views


def test_candles_of_the_venue_are_what_was_before_the_first_price() -> None:
    """Six closes, five returns of a minute and per cent: volatility after a first look."""
    returns = Returns()
    returns.sample(SECOND * 6_000, with_minutes(6_000, 100, 101, 100, 101, 100, 101, 999))

    assert returns.known_s("A") == 300.0
    assert returns.volatility_1h("A") == pytest.approx(log(1.01) * sqrt(60))
    assert returns.beta("A") is None


def test_candles_count_as_soon_as_they_come() -> None:
    """Between two steps, though somebody has looked before."""
    returns, views = Returns(), seen(A=100.0)
    returns.sample(SECOND * 6_000, views)
    before = returns.known_s("A")
    views["A"].candles = with_minutes(6_000, 100, 101, 100, 101, 100)["A"].candles

    assert (before, returns.known_s("A")) == (0.0, 180.0)


@pytest.mark.parametrize("step_ms", [10_000, 10_900, 11_990])
def test_the_longest_warm_up_comes_to_an_end(step_ms: int) -> None:
    """A step is taken with a block or, at the latest, after two seconds without one."""
    returns, views = Returns(), seen(A=100.0)
    for step in range(7_200_000 // step_ms):
        returns.sample(SECOND * 6_000 + step * step_ms * 10**6, views)

    assert returns.known_s("A") >= Policy(warm_up_s=3_000).warm_up_s


def test_who_looks_changes_no_volatility() -> None:
    """Where it was known already when the candles came, it is the same as if nobody had looked."""
    found = []
    for looks in (False, True):
        returns, views = Returns(), seen(A=100.0)
        for step in range(20):
            views["A"].oracle = seen(A=102.0 if step % 2 else 100.0)["A"].oracle
            returns.sample(SECOND * (6_000 + 10 * step), views)
        if looks:
            assert returns.volatility_1h("A") is not None
        views["A"].candles = with_minutes(6_000, 100, 101, 100, 101, 100)["A"].candles
        found.append((returns.volatility_1h("A"), returns.known_s("A")))

    assert found[0] == found[1]


def test_minutes_and_steps_are_one_past() -> None:
    """Two minutes and ten steps: all their squares, over all their time."""
    returns, views = Returns(), with_minutes(6_000, 100, 101, 100, 100)
    for step in range(11):
        views["A"].oracle = seen(A=102.0 if step % 2 else 100.0)["A"].oracle
        returns.sample(SECOND * (6_000 + 10 * step), views)

    assert returns.known_s("A") == 220.0
    square = 2 * log(1.01) ** 2 + 10 * log(1.02) ** 2
    assert returns.volatility_1h("A") == pytest.approx(sqrt(square * 3_600 / 220))


@pytest.mark.parametrize(
    ("at_s", "reported_s", "known_s"),
    [
        (6_000, 5_820, 0.0),  # they end three minutes before
        (6_000, 5_880, 60.0),  # of four, those that had begun and ended by then
        (6_000, 6_000, 180.0),
        (6_059, 6_000, 180.0),
    ],
)
def test_only_what_the_venue_sent_and_up_to_the_first_price_counts(
    at_s: int, reported_s: int, known_s: float
) -> None:
    """What was made here, of trades, may lack what was missed; old candles are of another day."""
    returns = Returns()
    views = with_minutes(6_000, 100, 101, 100, 101, 100)
    views["A"].candles["1MIN"].reported_at = reported_s * SECOND
    returns.sample(SECOND * at_s, views)

    assert returns.known_s("A") == known_s


def test_an_hour_ago_is_not_known_any_more() -> None:
    """Candles and steps alike: what is older than an hour counts no more."""
    returns, views = Returns(), with_minutes(6_000, *[100] * 200)
    returns.sample(SECOND * 6_000, views)
    before = returns.known_s("A")
    for step in range(1, 13):
        returns.sample(SECOND * (6_000 + 10 * step), views)
    after = returns.known_s("A")
    returns.sample(SECOND * 9_700, views)

    assert (before, after, returns.known_s("A")) == (3_540.0, 3_540.0, 20.0)


def test_a_market_that_is_stale_has_no_step() -> None:
    """Its price stands still because nobody reports it."""
    returns, views = Returns(), seen(A=100.0, B=1.0)
    for step in range(4):
        views["A"].quality.stale = step > 1
        returns.sample(SECOND * 10 * (1 + step), views)

    assert (returns.known_s("A"), returns.known_s("B")) == (10.0, 30.0)


def test_a_silence_is_no_step() -> None:
    """What a price did while nobody listened was not done in ten seconds."""
    returns = Returns(least=1)
    returns.sample(SECOND * 10, seen(A=100.0))
    returns.sample(SECOND * 15, seen(A=150.0))
    returns.sample(SECOND * 90, seen(A=200.0))
    assert returns.volatility_1h("A") is None

    returns.sample(SECOND * 100, seen(A=202.0))
    assert returns.volatility_1h("A") == pytest.approx(log(1.01) * sqrt(360))


def test_only_the_last_hour_counts() -> None:
    """Two wild steps are forgotten after 360 calm ones."""
    returns = Returns(least=1)
    for step in range(363):
        returns.sample(SECOND * 10 * (1 + step), seen(A=200.0 if step == 1 else 100.0))

    assert returns.volatility_1h("A") == 0.0


# === Watch ===


def watched(world: Any) -> Watch:
    """Look at the world's account."""
    watch: Watch = world.risk.watch(world.state.views["ETH-USD"])
    return watch


def test_a_watch_is_the_account_with_every_figure(make_world: Any) -> None:
    """What risk holds, put to the same functions as anybody may."""
    world = make_world()
    world.account("-20000", {"ETH-USD": ("10", "3000")})
    watch = watched(world)

    assert watch.figures.margin == world.risk.margin
    assert watch.plan is world.risk.flight_plan
    assert watch.stress.now().equity == 10_000_000_000
    assert [cell.liquidatable for cell in watch.stress.market("ETH-USD")][:1] == [True]
    assert watch.figures.funding_1h == 3_000_000
    assert [advice.ticker for advice in watch.leverage] == ["ETH-USD"]
    assert (watch.trouble, watch.seq) == ("", world.state.views["ETH-USD"].seq)
    # Nobody has watched the market for long enough.
    assert watch.figures.positions[0].sigmas is None
    assert watch.stress.assumed == ("ETH-USD",)


def test_distance_is_given_in_the_markets_own_volatility(make_world: Any) -> None:
    """After some minutes of prices, sigmas and beta are known."""
    world = make_world()
    world.account("-20000", {"ETH-USD": ("10", "3000")})
    for step in range(60):
        world.at += 4 * SECOND
        world.block()
        world.oracle("ETH-USD", "3003" if step % 4 < 2 else "3000")
    watch = watched(world)
    (position,) = watch.figures.positions

    assert position.sigmas == pytest.approx((position.distance or 0) / (0.001 * sqrt(360)), rel=0.1)
    assert watch.stress.assumed == ()
    assert watch.leverage[0].leverage is not None


def test_what_is_not_known_is_not_left_out(make_world: Any) -> None:
    """A position in a market never received: no sum of the account is a sum of its rest."""
    world = make_world()
    world.account("0", {"ETH-USD": ("10", "3000"), "XRP-USD": ("5", "0.5")})
    watch = watched(world)

    assert watch.figures.margin is None
    assert watch.figures.unknown[0] == "XRP-USD: the market is not known"
    assert [position.ticker for position in watch.figures.positions] == ["ETH-USD"]
    assert watch.stress.unknown == ("XRP-USD: the market is not known",)
    assert {cell.equity for cell in watch.stress.cells()} == {None}


def test_a_size_that_cannot_be_read_is_not_known(world: Any) -> None:
    """Its market is: the watch and the ladder name what is lacking, and of what."""
    world.account("0", {"ETH-USD": ("1" + "0" * 80, "3000")})
    watch = watched(world)

    assert watch.figures.unknown[0] == "ETH-USD: its size is not known"
    assert dict(watch.plan.left) == {"ETH-USD": "its size is not known"}
    assert watch.plan.unknown == ("ETH-USD",)
    world.account("100")
    assert watched(world).plan.why == "nothing is held"


def test_a_watch_has_why_the_account_is_in_doubt(world: Any) -> None:
    """A lost link does not take the figures away, and is not hidden either."""
    world.account("10000", {"ETH-USD": ("1", "3000")})
    world.lose()
    watch = watched(world)

    assert "account frames were lost" in watch.trouble
    assert watch.figures.margin is not None


_MOVES = st.lists(
    st.tuples(
        st.sampled_from(("ETH-USD", "BTC-USD")),
        st.integers(2_000, 4_000),
        st.integers(-20, 20),
        st.integers(-9_000, 90_000),
    ),
    min_size=1,
    max_size=12,
)


@given(_MOVES)
def test_a_watch_equals_what_is_computed_from_nothing(make_world: Any, moves: Any) -> None:
    """Whatever moved since the last look: prices, positions opened and closed, collateral."""
    world = make_world(guard=False)
    world.oracle("BTC-USD", "3000")
    held: dict[str, tuple[str, str]] = {}
    for ticker, price, size, usdc in moves:
        world.oracle(ticker, str(price))
        held = {t: h for t, h in held.items() if t != ticker} | (
            {ticker: (f"{size / 10:.1f}", "3000")} if size else {}
        )
        world.account(str(usdc), held)
        watch = watched(world)
        holdings = [row.holding for row in watch.stress.rows.values()]

        assert {h.ticker for h in holdings} == held.keys()
        fresh = stress_table(usdc * 10**6, holdings)
        assert sorted(watch.stress.cells(), key=str) == sorted(fresh.cells(), key=str)
        by_ticker = {h.ticker: h for h in holdings}
        ordered = [by_ticker[ticker] for ticker in world.risk.account.positions]
        assert watch.figures == risk_figures(usdc * 10**6, ordered)

"""A run of any length is a few hundred points, and none of its extremes is lost."""

from bot.run.curve import MOST, SECOND_NS, Curve
from dydx_risk import Falls, MarginFigures
from hypothesis import given
from hypothesis import strategies as st

START = 1_784_021_467 * SECOND_NS


def margin(usdc: float, notional: float = 0.0) -> MarginFigures:
    """Return an account worth so much, with so much held and no maintenance margin."""
    held = round(notional * 1e6)
    return MarginFigures(round(usdc * 1e6), 0, 0, held, held)


def curve_of(worth: list[float], most: int = MOST) -> Curve:
    """Return the curve of an account that was worth so much, second by second."""
    curve, falls = Curve(most), Falls()
    falls.begin(round(worth[0] * 1e6))
    for second, usdc in enumerate(worth):
        falls.move(round(usdc * 1e6), round(usdc * 1e6), 1)
        curve.take(START + second * SECOND_NS, second, margin(usdc), 0, falls)
    return curve


def test_a_second_of_event_time_is_a_point() -> None:
    """What lies within the second after a point is no other one."""
    curve, falls = Curve(), Falls()

    for moment in (0, 400_000_000, 999_999_999, SECOND_NS, SECOND_NS + 1):
        curve.take(START + moment, moment, margin(100.0), 0, falls)

    assert [START, START + SECOND_NS] == list(curve.columns.at)


def test_what_moves_the_account_does_not_wait_for_a_second() -> None:
    """A crash takes less: its second ends with what is left, and keeps both extremes."""
    curve, falls = Curve(), Falls()
    start = START - START % SECOND_NS
    for moment, usdc in ((0, 100.0), (1, 99.95), (2, 40.0), (3, 60.0)):
        curve.take(start + moment, moment, margin(usdc), 0, falls)

    assert (60.0,) == curve.columns.equity
    assert (40.0, 100.0) == (curve.columns.low[0], curve.columns.high[0])


def test_what_is_paid_in_is_no_profit() -> None:
    """A deposit lifts the equity, and nothing was won by it."""
    curve, falls = Curve(), Falls()
    for second, (usdc, paid_in) in enumerate(
        ((100.0, 0), (150.0, 50_000_000), (149.0, 50_000_000))
    ):
        curve.take(START + second * SECOND_NS, second, margin(usdc), paid_in, falls)

    assert (100.0, 150.0, 149.0) == curve.columns.equity
    assert (0.0, 0.0, -1.0) == curve.columns.profit


def test_a_long_run_stays_in_sight_as_a_whole() -> None:
    """Once there are too many points, each stands for twice as long."""
    curve = curve_of([100.0 + second for second in range(1_000)], most=100)

    assert 50 <= len(curve.columns.at) <= 100
    assert 16 * SECOND_NS == curve.every_ns
    assert 100.0 == curve.columns.low[0]
    assert 1_099.0 == curve.columns.equity[-1] == curve.columns.high[-1]


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=300), st.integers(2, 50))
def test_no_extreme_is_lost(worth: list[int], most: int) -> None:
    """The deepest and the highest second are on it, however few points there are."""
    columns = curve_of([float(usdc) for usdc in worth], most).columns

    assert (min(worth), max(worth)) == (min(columns.low), max(columns.high))
    assert len(columns.at) <= most
    assert list(columns.at) == sorted(set(columns.at))
    assert float(worth[-1] - worth[0]) == columns.profit[-1]


def test_what_is_not_known_is_no_point() -> None:
    """A position without a price makes the equity unknown, and not 0."""
    curve = Curve()

    curve.take(START, 1, MarginFigures(0, unknown=("ETH-USD",)), 0, Falls())

    assert () == curve.columns.at
    assert curve.result is None


def test_what_was_lost_is_as_of_the_last_point() -> None:
    """Whatever moved since, a drawing of it is the same."""
    curve, falls = Curve(), Falls()
    falls.begin(100_000_000)
    falls.move(80_000_000, 80_000_000, 1)
    curve.take(START, 1, margin(80.0), 0, falls)
    falls.move(79_990_000, 79_990_000, 1)
    curve.take(START + 1, 2, margin(79.99), 0, falls)

    assert curve.result is not None
    assert (20.0, 0.2, 20.0) == (
        curve.result.depth, curve.result.depth_share, curve.result.deepest,
    )  # fmt: skip


def test_distance_is_the_closest_and_leverage_the_highest_of_a_point() -> None:
    """Two that become one keep the worse of both; what is flat has neither."""
    curve, falls = Curve(1), Falls()
    start = START - START % (64 * SECOND_NS)
    for second, held in enumerate((0.0, 200.0, 100.0)):
        curve.take(start + second * SECOND_NS, 1, margin(100.0, held), 0, falls)

    assert (0.5,) == curve.columns.distance
    assert (2.0,) == curve.columns.leverage


def test_the_same_points_are_the_same_value() -> None:
    """A screen compares what it drew with what there is: between two points nothing is made."""
    curve = curve_of([1.0, 2.0])

    assert curve.columns is curve.columns

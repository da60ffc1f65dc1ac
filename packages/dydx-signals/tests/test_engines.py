"""The engines beyond the standard six: their right values, and when they are silent."""

import math
from statistics import fmean

import pytest
from dydx_signals import (
    ALL,
    Basis,
    BookDepth,
    Carry,
    Interest,
    Jumps,
    Liquidations,
    Microprice,
    Reversion,
    Score,
    SignalError,
    Strength,
    TakerFlow1min,
    TakerFlow5min,
    TakerFlow10s,
    Trend,
)
from tape import Tape, scored

BTC = "BTC-USD"


def last(tape: Tape, engine: type) -> Score | None:
    """Return the newest score of one engine."""
    return next(iter(scored(tape.frames, [engine])[-1].scores), None)


def known(tape: Tape, engine: type) -> Score:
    """Return the newest score, which must exist."""
    score = last(tape, engine)
    assert score is not None
    return score


def figures(tape: Tape, engine: type) -> dict[str, float]:
    """Return what the newest score came from."""
    return dict(known(tape, engine).inputs)


def walk(tape: Tape, mids: list[float], half: float = 0.05) -> None:
    """Write a book a second."""
    for second, mid in enumerate(mids):
        tape.book(second, BTC, mid - half, mid + half, 10, 10)


def taken(tape: Tape, at: float, side: str, usd: float, kind: str = "LIMIT") -> None:
    """Print one trade at 100 USDC."""
    row = {"side": side, "size": str(usd / 100), "price": "100", "type": kind}
    tape.frames.append(tape.wire(at).trades(BTC, row))


NAMES = [make().name for make in ALL]


def test_there_are_nineteen_of_different_names():
    """Sixteen at least, each its own."""
    assert len(set(NAMES)) == len(NAMES) == 19


@pytest.mark.parametrize("make", ALL[6:], ids=NAMES[6:])
def test_an_engine_is_absent_of_a_market_it_never_saw_and_of_an_unknown_book(make):
    """Never a made-up 50."""
    tape = Tape(BTC)
    walk(tape, [100 + math.sin(second) / 10 for second in range(90)])
    tape.close(91)
    engine = make()

    assert engine.read("ETH-USD") is None
    assert last(tape, make) is None


@pytest.mark.parametrize("make", [lambda: Basis(scale_bps=0), lambda: BookDepth(distance_bps=-1)])
def test_engines_that_cannot_work_are_refused(make):
    """The message names what was expected and what it got."""
    with pytest.raises(SignalError, match=r"expected .*, got "):
        make()


def test_the_microprice_leans_to_the_side_that_is_thin():
    """Three times as much bid as offered: the next price is nearer to the ask."""
    tape = Tape(BTC)
    mids = [100 + 0.02 * (second % 2) for second in range(40)]
    for second, mid in enumerate(mids):
        tape.book(second, BTC, mid - 0.02, mid + 0.02, 30, 10)

    score, inputs = known(tape, Microprice), figures(tape, Microprice)

    assert inputs["micro"] == pytest.approx(mids[-1] + 0.01)
    assert inputs["edge_bps"] == pytest.approx(1, rel=0.01)
    assert inputs["sigma_bps"] == pytest.approx(2 * math.sqrt(10), rel=0.01)
    assert score.value == pytest.approx(100 / (1 + math.exp(-1 / (2 * math.sqrt(10)))), abs=0.2)


@pytest.mark.parametrize(
    ("engine", "buys", "sells", "count"),
    [(TakerFlow10s, 100, 300, 3), (TakerFlow1min, 600, 300, 4), (TakerFlow5min, 1_600, 300, 5)],
)
def test_taker_flow_is_of_its_own_window(engine, buys, sells, count):
    """And says less the fewer the trades are."""
    tape = Tape(BTC)
    for at, side, usd in (
        (0, "BUY", 9_000), (100, "BUY", 1_000), (270, "BUY", 500), (293, "BUY", 100),
        (294, "SELL", 100), (301, "SELL", 200),
    ):  # fmt: skip
        taken(tape, at, side, usd)

    inputs, score = figures(tape, engine), known(tape, engine)

    assert inputs == {"buys_usd": buys, "sells_usd": sells, "trades": count}
    lean = (buys - sells) / (buys + sells) * count / (count + 1)
    assert score.value == pytest.approx(50 + 50 * lean)


def test_taker_flow_goes_by_time_alone_and_names_the_first_trade_it_rests_on():
    """What is older is gone without another trade."""
    tape = Tape(BTC)
    for at in (0, 5, 6, 7):
        taken(tape, at, "BUY", 100)
    tape.book(12, BTC, 99, 101)
    within = known(tape, TakerFlow10s)
    tape.book(16, BTC, 99, 101)

    assert within.first == 4
    assert last(tape, TakerFlow10s) is None


def test_depth_weighs_levels_by_their_distance():
    """Ten bps away counts 1 / e of what is at the mid."""
    tape = Tape(BTC)
    tape.frames.append(tape.wire(0).book(BTC, [(9_990, 4)], [(10_010, 1), (10_030, 9)]))

    bids, asks = 4 / math.e, 1 / math.e + 9 / math.e**3
    assert figures(tape, BookDepth) == pytest.approx({"bid_depth": bids, "ask_depth": asks})
    assert known(tape, BookDepth).value == pytest.approx(100 * bids / (bids + asks))


def test_a_trend_is_one_where_all_horizons_agree():
    """A steady rise is near 100; one against a longer fall is none."""
    rise, turn = Tape(BTC), Tape(BTC)
    noise = [2e-4 * (-1) ** second for second in range(200)]
    walk(rise, [100 * math.exp(2e-4 * second + noise[second]) for second in range(200)])
    walk(turn, [100 * math.exp(2e-4 * abs(second - 100) + noise[second]) for second in range(200)])

    assert known(rise, Trend).value > 90
    assert 35 < known(turn, Trend).value < 65


def test_reversion_points_back_to_what_was_paid():
    """Above the average price that was paid it scores below 50, by its standard deviations."""
    tape = Tape(BTC)
    mids = [100 + 0.2 * math.sin(second / 3) for second in range(100)]
    for second, mid in enumerate(mids):
        taken(tape, second, "BUY", 100)
        tape.book(second + 0.1, BTC, mid - 0.05, mid + 0.05)

    inputs, score = figures(tape, Reversion), known(tape, Reversion)

    assert inputs["vwap"] == pytest.approx(100)
    assert inputs["sigma_bps"] == pytest.approx(20 / math.sqrt(2), rel=0.1)
    assert 1 < inputs["half_life_s"] < 30
    z = 1e4 * math.log(mids[-1] / 100) / inputs["sigma_bps"]
    expected = 100 / (1 + math.exp(z / (1 + inputs["half_life_s"] / 60)))
    assert score.value == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize(("step", "half_life"), [(-0.01, 1.0), (0.0, 3_600.0)])
def test_a_deviation_that_turns_or_stays_has_the_ends_of_the_half_life(step, half_life):
    """One that turns at once comes back within a second; one that stays never does."""
    tape = Tape(BTC)
    for second in range(100):
        taken(tape, second, "BUY", 100)
        mid = 100.1 if step == 0 or second % 2 else 99.9
        tape.book(second + 0.1, BTC, mid - 0.05, mid + 0.05)

    assert figures(tape, Reversion)["half_life_s"] == pytest.approx(half_life, rel=0.5)


def test_basis_is_below_50_where_the_market_is_dear():
    """Five bps above the oracle price are 27."""
    tape = Tape(BTC)
    tape.oracle(0, BTC, 100)
    walk(tape, [100.05] * 12)

    assert figures(tape, Basis)["basis_bps"] == pytest.approx(5, rel=1e-3)
    assert known(tape, Basis).value == pytest.approx(100 / (1 + math.e), abs=0.02)


def test_basis_is_absent_while_the_oracle_price_may_miss_an_update():
    """An unreadable price is not the one before it."""
    tape = Tape(BTC)
    tape.oracle(0, BTC, 100)
    walk(tape, [100.05] * 12)
    tape.frames.append(tape.wire(13).oracle(BTC, "nonsense"))
    tape.book(14, BTC, 99, 101)

    assert last(tape, Basis) is None


def test_carry_is_the_rate_in_what_rates_have_been():
    """By the time that each stood: 60 s of 1 bp and 60 s of 3."""
    tape = Tape(BTC)
    for at, rate in ((0, "0.0001"), (60, "0.0003"), (120, "-0.0002")):
        tape.funding(at, BTC, rate)

    usual = math.sqrt(fmean([1, 9]))
    assert figures(tape, Carry)["usual_bps"] == pytest.approx(usual, rel=1e-3)
    assert known(tape, Carry).value == pytest.approx(100 / (1 + math.exp(-2 / usual)), abs=0.02)


def test_carry_is_in_what_the_venue_answered_of_its_rates():
    """A day of hourly rates of 2 bps: no warm-up, and one of 1 bp is half of what is usual."""
    tape, path = Tape(BTC), f"/v4/historicalFunding/{BTC}?limit=100"
    rows = [
        {
            "ticker": BTC,
            "rate": "0.0002",
            "price": "100",
            "effectiveAt": at,
            "effectiveAtHeight": "1",
        }
        for at in (f"2025-12-31T{hour:02}:00:00.000Z" for hour in range(24))
    ]
    tape.frames.append(tape.wire(0).answer(path, {"historicalFunding": rows}))
    tape.funding(1, BTC, "0.0001")

    assert figures(tape, Carry) == pytest.approx(
        {"rate_1h_bps": 1, "usual_bps": 2, "history_h": 24}
    )
    assert known(tape, Carry).value == pytest.approx(100 / (1 + math.exp(0.5)))


def test_carry_knows_no_absurd_rate():
    """It is no figure of the venue."""
    tape = Tape(BTC)
    for at, rate in ((0, "0.0001"), (60, "1e200"), (120, "0.0001")):
        tape.funding(at, BTC, rate)

    assert last(tape, Carry) is None


@pytest.mark.parametrize(
    ("growth", "drift", "low", "high"),
    [(1, 1, 70, 100), (1, -1, 0, 30), (-1, 1, 0, 30), (0, 1, 50, 50)],
)
def test_interest_backs_the_way_of_the_price_or_does_not(growth, drift, low, high):
    """New positions on a rise are up, on a fall down; positions that close say the opposite."""
    tape = Tape(BTC)
    for second in range(90):
        interest = str(1_000 * (1 + 1e-4 * growth * second))
        tape.frames.append(tape.wire(second).trading(BTC, openInterest=interest))
        mid = 100 * (1 + 1e-4 * drift * second)
        tape.book(second + 0.1, BTC, mid - 0.05, mid + 0.05)

    assert low <= known(tape, Interest).value <= high


def test_liquidations_are_a_share_of_what_was_traded():
    """Sold by force: below 50."""
    tape = Tape(BTC)
    for at, usd, kind in ((0, 600, "LIMIT"), (1, 100, "LIQUIDATED"), (2, 300, "DELEVERAGED")):
        taken(tape, at, "SELL", usd, kind)

    assert known(tape, Liquidations).value == pytest.approx(50 - 50 * 0.4)


def test_a_jump_shows_in_a_walk():
    """One step of fifty usual ones, and which way it went."""
    tape = Tape(BTC)
    walk(tape, [100 + 0.01 * (second % 2) - 1.0 * (second >= 50) for second in range(60)])
    calm = Tape(BTC)
    walk(calm, [100 + 0.01 * (second % 2) for second in range(60)])

    assert known(tape, Jumps).value < 5
    assert known(calm, Jumps).value == pytest.approx(50, abs=1)


def test_a_market_that_does_not_move_jumps_not_and_has_no_strength():
    """No step is no jump; nothing up and nothing down has no ratio."""
    tape = Tape(BTC)
    walk(tape, [100.0] * 60)

    assert known(tape, Jumps).value == 50
    assert last(tape, Strength) is None


def test_strength_is_the_share_of_what_went_up():
    """Three up for each one down."""
    tape, mid = Tape(BTC), [100.0]
    for second in range(200):
        mid.append(mid[-1] * math.exp(3e-4 if second % 2 else -1e-4))
    walk(tape, mid)

    assert known(tape, Strength).value == pytest.approx(75, abs=1)

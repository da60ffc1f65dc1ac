"""The engines, one by one: their values, when they are silent, and the values they never have."""

import itertools
import json
import math

import msgspec
import pytest
from dydx_conn import Frame
from dydx_signals import (
    STANDARD,
    Day,
    Funding,
    Imbalance,
    Liquidity,
    Momentum,
    Score,
    Scorer,
    SignalError,
    Volatility,
    Volume,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tape import Read, Tape, scored

pytestmark = pytest.mark.traced

BTC = "BTC-USD"


def walk(tape: Tape, seconds: int, step_bps: float, every: float = 1.0, since: float = 0) -> float:
    """Write a book per step whose mid goes up and down by 2 bps and drifts by `step_bps`."""
    mid = 1000.0
    for index in range(round(seconds / every)):
        mid *= 1 + (step_bps + (2 if index % 2 else -2)) * 1e-4
        tape.book(since + index * every, BTC, mid - 0.05, mid + 0.05)
    return mid


def last(tape: Tape, engine: type, ticker: str = BTC) -> Score | None:
    """Return the newest score of one engine in one market."""
    found = [one for one in scored(tape.frames, [engine]) if one.ticker == ticker]
    return next(iter(found[-1].scores), None)


def known(tape: Tape, engine: type) -> Score:
    """Return the newest score, which must exist."""
    score = last(tape, engine)
    assert score is not None
    return score


def value(tape: Tape, engine: type) -> float:
    """Return the value of the newest score, which must exist."""
    return known(tape, engine).value


def test_a_score_names_its_market_its_signal_its_frame_and_its_figures():
    """A person can compute a score again from what it carries."""
    tape = Tape(BTC)
    tape.funding(1, BTC, "0.0000125")

    score = known(tape, Funding)

    assert score == Score(
        BTC, "funding", score.value, (("rate_1h_bps", 0.125), ("scale_bps", 0.25)), 3, 3, score.at
    )
    assert score.value == pytest.approx(100 / (1 + math.exp(0.125 / 0.25)))


def test_scored_gives_a_value_by_name_and_none_for_an_absent_signal():
    """`value` is how the layers above read one signal."""
    tape = Tape(BTC)
    tape.funding(1, BTC, "0")

    newest = scored(tape.frames)[-1]

    assert newest.value("funding") == 50.0
    assert newest.value("momentum") is None


@pytest.mark.parametrize("engine", STANDARD)
def test_a_signal_is_absent_until_it_can_be_computed(engine):
    """The first view of a market makes no score: never a made-up 50."""
    tape = Tape(BTC)
    tape.book(1, BTC, 99, 101)

    assert last(tape, engine) is None


# === Momentum ===


@pytest.mark.parametrize(("step_bps", "low", "high"), [(3, 90, 100), (-3, 0, 10), (0, 40, 60)])
def test_momentum_is_high_in_a_rise_low_in_a_fall_and_middling_without_a_trend(step_bps, low, high):
    """A drift far beyond chance reaches the ends of the scale."""
    tape = Tape(BTC)
    walk(tape, 60, step_bps)

    assert low <= value(tape, Momentum) <= high


def test_momentum_can_be_computed_again_from_its_inputs():
    """The value is logistic(z), where z = trend / sigma, trend = ln(fast / slow)."""
    tape = Tape(BTC)
    walk(tape, 30, 1)

    score = known(tape, Momentum)
    figures = dict(score.inputs)

    trend_bps = 1e4 * math.log(figures["fast"] / figures["slow"])
    assert figures["trend_bps"] == pytest.approx(trend_bps)
    assert figures["z"] == pytest.approx(trend_bps / figures["sigma_bps"])
    assert score.value == pytest.approx(100 / (1 + math.exp(-figures["z"])))


def test_momentum_follows_its_documented_formula():
    """Averages, variance and the random walk's deviation, computed here the slow way."""
    tape = Tape(BTC)
    mids = [1000 + 3 * math.sin(second) + second / 7 for second in range(25)]
    for second, mid in enumerate(mids):
        tape.book(second, BTC, mid - 0.5, mid + 0.5)

    fast = slow = mids[0]
    squares = time = 0.0
    for before, mid in itertools.pairwise(mids):
        fast = mid + (fast - mid) * 2 ** (-1 / 10)
        slow = mid + (slow - mid) * 2 ** (-1 / 60)
        squares = squares * 2 ** (-1 / 120) + math.log(mid / before) ** 2
        time = time * 2 ** (-1 / 120) + 1
    tau = {"fast": 10 / math.log(2), "slow": 60 / math.log(2)}

    def area(x: str, y: str) -> float:
        c = 1 / (1 / tau[x] + 1 / tau[y])
        return (1 - math.exp(-24 / c)) * c

    walk_variance = area("slow", "slow") + area("fast", "fast") - 2 * area("fast", "slow")
    z = math.log(fast / slow) / math.sqrt(squares / time * walk_variance)
    assert value(tape, Momentum) == pytest.approx(100 / (1 + math.exp(-z)))


def test_momentum_of_a_price_that_never_moves_is_neutral():
    """No variance is not an infinite trend."""
    tape = Tape(BTC)
    for second in range(20):
        tape.book(second, BTC, 99, 101)

    assert value(tape, Momentum) == 50.0


def test_momentum_vanishes_with_the_book_and_returns_with_it():
    """A closed connection makes the book unknown: there is no mid price to speak of."""
    tape = Tape(BTC)
    walk(tape, 30, 1)
    known = last(tape, Momentum)
    tape.close(31)
    lost = last(tape, Momentum)
    tape.book(32, BTC, 999, 1001)

    assert known is not None
    assert lost is None
    assert last(tape, Momentum) is not None


def test_a_crash_of_any_depth_stays_on_the_scale():
    """A z far beyond any chance is 0 or 100, and overflows nothing."""
    down, up = Tape(BTC), Tape(BTC)
    for second in range(20):
        down.book(second, BTC, 99, 101)
        up.book(second, BTC, 99, 101)
    for second in range(20, 400):
        down.book(second, BTC, 1e-9, 1.1e-9)
        up.book(second, BTC, 1e15, 1.1e15)

    for one in scored(down.frames) + scored(up.frames):
        assert all(0 <= score.value <= 100 for score in one.scores)


# === Levels ===


def test_volume_is_50_as_always_and_climbs_when_more_is_traded():
    """A steady tape is usual; a burst is not."""
    tape = Tape(BTC)
    for second in range(120):
        tape.trade(second, BTC, 100, 1)
    usual = value(tape, Volume)
    for second in range(120, 140):
        tape.trade(second, BTC, 100, 10)

    assert usual == pytest.approx(50, abs=3)
    assert value(tape, Volume) > 65


def test_volume_falls_with_time_alone():
    """Silence is news: the books that keep coming show it, once a second."""
    tape = Tape(BTC)
    for second in range(60):
        tape.trade(second, BTC, 100, 1)
    for quarter in range(240, 480):
        tape.book(quarter / 4, BTC, 99, 101)

    seen = [score for one in scored(tape.frames, [Volume]) for score in one.scores]

    assert seen[-1].value < 30
    assert 60 <= len({score.value for score in seen if score.seq > 62}) <= 62


def test_trades_from_before_the_subscription_are_history_and_do_not_count():
    """A snapshot of the tape spans hours; only what is near its newest trade is now."""
    tape = Tape(BTC)
    old, new = "2025-12-31T22:00:00.000Z", "2026-01-01T00:00:00.000Z"
    trades = [
        {"side": "BUY", "size": "1", "price": "100", "createdAt": at}
        for at in [new, new, new, old, old, old, old]
    ]
    tape.frames.append(tape.wire(0).trades(BTC, *trades, snapshot=True))
    tape.book(16, BTC, 99, 101)

    assert dict(known(tape, Volume).inputs)["trades"] == 3.0


def test_trades_within_five_seconds_of_the_newest_count():
    """Five seconds older still counts, a millisecond more does not."""
    tape = Tape(BTC)
    times = ["10.000", "08.000", "05.000", "04.999", "00.000"]
    trades = [
        {"side": "BUY", "size": "1", "price": "100", "createdAt": f"2026-01-01T00:00:{at}Z"}
        for at in times
    ]
    tape.frames.append(tape.wire(0).trades(BTC, *trades, snapshot=True))
    tape.book(16, BTC, 99, 101)

    assert dict(known(tape, Volume).inputs)["trades"] == 3.0


def test_volume_needs_three_trades():
    """One trade is no rate."""
    tape = Tape(BTC)
    tape.trade(1, BTC, 100, 1)
    tape.trade(2, BTC, 100, 1)
    tape.book(60, BTC, 99, 101)

    assert last(tape, Volume) is None


def test_volume_of_a_market_that_never_trades_is_nothing_however_usual_that_is():
    """After days of silence nothing is usual: it is not active by its own measure."""
    tape = Tape(BTC)
    for second in range(5):
        tape.trade(second, BTC, 100, 1)
    tape.book(20, BTC, 99, 101)
    tape.book(20 + 86_400 * 30, BTC, 99, 101)

    assert value(tape, Volume) == pytest.approx(0, abs=1e-9)


def test_volatility_is_near_80_at_twice_the_usual_deviation():
    """The value is 100 · now² / (now² + usual²), and the inputs have both deviations."""
    tape = Tape(BTC)
    walk(tape, 300, 0)
    calm = value(tape, Volatility)
    for second in range(300, 330):
        mid = 1000 * (1 + (second % 2) * 30e-4)
        tape.book(second, BTC, mid - 0.05, mid + 0.05)

    wild = known(tape, Volatility)
    figures = dict(wild.inputs)

    assert calm == pytest.approx(50, abs=2)
    assert wild.value > 90
    now, usual = figures["now_bps"] ** 2, figures["usual_bps"] ** 2
    assert wild.value == pytest.approx(100 * now / (now + usual))
    assert figures["minute_bps"] == pytest.approx(figures["now_bps"] * math.sqrt(60))


@pytest.mark.parametrize(("prices", "warm"), [(10, False), (11, True)])
def test_volatility_is_absent_until_there_are_ten_returns(prices: int, warm: bool):
    """Nine returns may be anything; ten are made of eleven prices a second apart."""
    tape = Tape(BTC)
    walk(tape, prices, 0.0)

    assert (last(tape, Volatility) is not None) == warm


def test_volatility_goes_on_by_the_oracle_while_the_book_is_unknown():
    """A change of source is not a return: the oracle may stand well off the mid."""
    tape = Tape(BTC)
    walk(tape, 60, 0)
    before = value(tape, Volatility)
    tape.close(60)
    for second in range(61, 75):
        tape.oracle(second, BTC, 1200 * (1 + (second % 2) * 2e-4))

    score = known(tape, Volatility)

    assert score.value == pytest.approx(before, abs=5)
    assert score.seq == len(tape.frames)


def test_volatility_vanishes_when_neither_book_nor_oracle_has_a_price():
    """An old score must not pass for a new one."""
    tape = Tape(BTC)
    walk(tape, 60, 0)
    tape.close(60)

    assert last(tape, Volatility) is None


def test_imbalance_leans_to_the_heavier_side_and_settles_with_its_half_life():
    """Twice the usual five seconds leave a quarter of what it was."""
    tape = Tape(BTC)
    tape.book(0, BTC, 99, 101, 3, 1)
    tape.book(5, BTC, 99, 101, 3, 1)
    leaning = value(tape, Imbalance)
    tape.book(15, BTC, 99, 101, 1, 1)

    assert leaning == pytest.approx(75)
    assert value(tape, Imbalance) == pytest.approx(50 + 25 / 4)


def test_imbalance_vanishes_with_one_side_of_the_book():
    """An empty side has no lean."""
    tape = Tape(BTC)
    tape.book(0, BTC, 99, 101)
    tape.book(6, BTC, 99, 101, 1, 0)

    assert last(tape, Imbalance) is None


def test_liquidity_falls_when_the_spread_widens_and_the_book_thins():
    """A twentieth of the usual dollars per basis point is a poor book."""
    tape = Tape(BTC)
    for second in range(60):
        tape.book(second, BTC, 999.5, 1000.5, 50, 50)
    usual = value(tape, Liquidity)
    for second in range(60, 70):
        tape.book(second, BTC, 995, 1005, 20, 20)

    poor = known(tape, Liquidity)
    figures = dict(poor.inputs)

    assert usual == pytest.approx(50, abs=1)
    assert poor.value < 10
    assert figures["spread_bps"] == pytest.approx(100)
    assert figures["resting_usd"] == pytest.approx(40_000)


def test_liquidity_vanishes_with_one_side_and_an_impossible_book():
    """Neither half a book nor an absurd one can be judged."""
    half, absurd = Tape(BTC), Tape(BTC)
    for tape in (half, absurd):
        tape.book(0, BTC, 99, 101)
        tape.book(6, BTC, 99, 101)
    half.book(8, BTC, 99, 101, 0, 1)
    absurd.book(8, BTC, 99, 101, 1e300, 1e300)

    assert last(half, Liquidity) is None
    assert last(absurd, Liquidity) is None
    assert last(absurd, Imbalance) is None


def test_liquidity_says_what_trading_costs_on_the_book():
    """By walking both sides; what the book cannot fill costs 1,000 bps."""
    tape = Tape(BTC)
    for second in range(8):
        levels = [[(1000 - 1 * side, 3), (1000 - 4 * side, 27)] for side in (1, -1)]
        tape.frames.append(tape.wire(second).book(BTC, *levels))

    figures = dict(known(tape, Liquidity).inputs)

    assert figures["cost_1k_bps"] == pytest.approx(10)
    # On each side 3 at 10 bps, and what is left of 10,000 USDC at 40.
    assert figures["cost_10k_bps"] == pytest.approx((3 * 10 + 7 * 40) / 10)
    assert figures["cost_100k_bps"] == pytest.approx(
        (3 * 10 + 27 * 40 + 70 * 1_000) / 100, rel=2e-3
    )


def test_a_market_that_goes_thin_and_stays_thin_is_never_liquid_again():
    """From a spread of 1 bp to one of 30, from 200,000 USDC to 6,000: for an hour, and after it."""
    tape = Tape(BTC)
    for second in range(0, 10_000, 4):
        half, size = (0.005, 1_000) if second < 1_800 else (0.15, 30)
        tape.book(second, BTC, 100 - half, 100 + half, size, size)

    made = [one.scores[0].value for one in scored(tape.frames, [Liquidity])[10:]]

    assert made[:400] == pytest.approx([50] * 400, abs=1)
    assert max(made[450:]) < 5


# === Day ===


spells = st.lists(
    st.tuples(st.floats(min_value=1e-6, max_value=1e9), st.integers(0, 7_200), st.integers(-5, 90)),
    min_size=1,
    max_size=60,
)


@given(spells)
def test_a_days_median_and_ranks_are_those_of_its_seconds(happened):
    """Within the width of a bucket, of the hours that are not a day old."""
    day, at, seconds = Day(), 10**18, []
    for figure, pause, stood in happened:
        at += pause * 10**9
        day.add(figure, at, stood)
        seconds += [(at // (3_600 * 10**9), figure)] * min(max(stood, 1), 60)
    hour = at // (3_600 * 10**9)
    left = sorted(figure for then, figure in seconds if then > hour - 24)
    low, high = left[(len(left) - 1) // 2], left[len(left) // 2]

    assert day.seconds == len(left)
    assert low / 1.05 <= day.median <= high * 1.05
    below = sum(figure < high / 1.05 for figure in left)
    above = sum(figure > high * 1.05 for figure in left)
    assert 100 * below / len(left) <= day.rank(high) <= 100 - 100 * above / len(left)


@given(spells, spells)
def test_a_day_goes_on_where_its_rows_left_off(before, after):
    """A run cut in two, with the rows between, knows what the whole run knows."""
    whole, first, second, at = Day(), Day(), Day(), 10**18
    for figure, pause, stood in before:
        at += pause * 10**9
        whole.add(figure, at, stood)
        first.add(figure, at, stood)
    second.restore(first.rows(), 7)
    for figure, pause, stood in after:
        at += pause * 10**9
        whole.add(figure, at, stood)
        second.add(figure, at, stood)

    assert second.rows() == whole.rows()
    assert second.median == pytest.approx(whole.median, rel=1e-9)
    assert second.first == 7


def test_a_day_of_which_nothing_is_known_has_no_median():
    """Unknown is an error, and no 0."""
    with pytest.raises(SignalError, match=r"expected a day of which .*, got none of it"):
        _ = Day().median


# === Funding ===


@pytest.mark.parametrize(
    ("rate", "expected"), [("0", 50.0), ("0.001", 0.0), ("-0.001", 100.0), ("0.000025", 26.9)]
)
def test_funding_that_longs_pay_scores_below_50(rate, expected):
    """Positive rates are paid by longs."""
    tape = Tape(BTC)
    tape.funding(1, BTC, rate)

    assert value(tape, Funding) == pytest.approx(expected, abs=0.05)


def test_funding_keeps_its_value_and_its_first_frame_until_another_rate_comes():
    """Oracle prices come with every block: the same value, with each of their frames."""
    tape = Tape(BTC)
    tape.funding(1, BTC, "0.00001")
    first = known(tape, Funding)
    tape.oracle(2, BTC, 100)

    stands = known(tape, Funding)
    assert stands == msgspec.structs.replace(first, seq=first.seq + 1, at=stands.at)


def test_an_absurd_funding_rate_makes_no_score():
    """Whatever is beyond any figure on the venue is no figure."""
    tape = Tape(BTC)
    tape.oracle(1, BTC, 100)
    tape.funding(1, BTC, "1e20")

    assert last(tape, Funding) is None


# === Settings ===


@pytest.mark.parametrize(
    "make",
    [
        lambda: Momentum(fast=40, slow=60),
        lambda: Momentum(fast=0),
        lambda: Momentum(slow=math.inf),
        lambda: Volume(now=0),
        lambda: Volatility(now=-1),
        lambda: Volatility(now=math.nan),
        lambda: Imbalance(half_life=0),
        lambda: Liquidity(now=-5),
        lambda: Funding(scale_bps=0),
        lambda: Scorer([Momentum, Momentum]),
    ],
)
def test_engines_that_cannot_work_are_refused(make):
    """The message names what was expected and what it got."""
    with pytest.raises(SignalError, match=r"expected .*, got "):
        make()


# === What never happens ===

TICKERS = ("BTC-USD", "ETH-USD")
positive = st.floats(min_value=1e-9, max_value=1e12)
events = st.lists(
    st.tuples(
        st.sampled_from(["book", "book", "trade", "oracle", "funding", "close"]),
        st.sampled_from(TICKERS),
        st.floats(min_value=-2, max_value=40),
        positive,
        st.floats(min_value=0, max_value=1e9),
        st.floats(min_value=0, max_value=1e9),
    ),
    max_size=60,
)


def written(happened, tickers=TICKERS) -> Tape:
    """Write what happened; time goes on by each event's own pace and sometimes back."""
    tape = Tape(*TICKERS)
    at = 0.0
    for kind, ticker, pace, price, bids, asks in happened:
        at = max(0.0, at + pace)
        if ticker not in tickers and kind != "close":
            tape.wait(at)  # time is the same for all markets
        elif kind == "book":
            tape.book(at, ticker, price, price * 1.001, bids, asks)
        elif kind == "trade":
            tape.trade(at, ticker, price, bids)
        elif kind == "oracle":
            tape.oracle(at, ticker, price)
        elif kind == "funding":
            tape.funding(at, ticker, str(asks - bids))
        else:
            tape.close(at)
    return tape


@settings(max_examples=150)
@given(events)
def test_scores_and_their_figures_are_always_numbers_on_the_scale(happened):
    """Whatever comes: from 0 to 100, finite, one per signal, of their own market."""
    for one in scored(written(happened).frames):
        assert len({score.signal for score in one.scores}) == len(one.scores)
        for score in one.scores:
            assert 0.0 <= score.value <= 100.0
            assert all(math.isfinite(figure) for _, figure in score.inputs)
            assert score.ticker == one.ticker
            assert score.seq <= one.seq


def inputs_of(all_scored: list[Read], ticker: str) -> list[list[tuple[str, float]]]:
    """Return what one market's scores came from, without frame numbers."""
    return [[(s.signal, s.value) for s in one.scores] for one in all_scored if one.ticker == ticker]


@settings(max_examples=50)
@given(events)
def test_the_same_events_give_the_same_scores(happened):
    """No clock, no chance, no memory between two engines."""
    frames = written(happened).frames

    first, second = scored(frames), scored(frames)

    assert [(one.seq, one.scores) for one in first] == [(one.seq, one.scores) for one in second]


@settings(max_examples=50)
@given(events)
def test_a_markets_scores_do_not_depend_on_other_markets(happened):
    """However the others' events are mixed in, a market's scores stay as they are alone."""
    together = scored(written(happened).frames)

    for ticker in TICKERS:
        alone = scored(written(happened, (ticker,)).frames)
        assert inputs_of(together, ticker) == inputs_of(alone, ticker)


@pytest.mark.parametrize(
    "row", [[5, 40_000, 60], [5, 10**18, 30], [5, 0, 3_661], [5, 0], [5, 0, 0]]
)
def test_a_day_that_no_run_can_have_left_is_refused(row):
    """A figure beyond all floats, more seconds than an hour has, half a pair, no time at all."""
    text = json.dumps({"source": "x", "levels": {"volume": {"BTC-USD": [row]}}})
    frame = Frame(seq=1, at=1, mono=1, link="", kind="state", channel="", id="", text=text)
    scorer = Scorer()
    with pytest.raises(SignalError, match=r"expected the state of a run, got .* for an hour"):
        scorer.restore(frame)
    assert json.loads(scorer.state("y"))["levels"]["volume"] == {}

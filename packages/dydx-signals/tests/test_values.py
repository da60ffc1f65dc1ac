"""Values without scores are those of the scores; and what a run leaves for the next."""

import json
import math
from collections.abc import Callable, Iterable

import msgspec
import pytest
import reactivex
from dydx_conn import HISTORY, Frame, WireWriter, market_fields
from dydx_data import DataState, step
from dydx_signals import ALL, STANDARD, BookDepth, Day, Engine, Liquidity, Scored, Scorer, scores
from tape import SECOND, Tape, views

BTC = "BTC-USD"
BY_BOOK = {"momentum", "imbalance", "liquidity"}
SIX = {"volume", "volatility", "funding", *BY_BOOK}


def seen(frames: Iterable[Frame], engines: Iterable[Callable[[], Engine]] = STANDARD) -> Scorer:
    """Return a scorer that has seen all frames, and made no score yet."""
    state, scorer = DataState(), Scorer(engines)
    for frame in frames:
        for view in step(state, frame):
            scorer.step(view)
    return scorer


def busy(seconds: int = 20) -> Tape:
    """Write a market of which, in time, every signal of the standard six can be computed."""
    tape = Tape(BTC)
    tape.oracle(0, BTC, 100)
    tape.funding(0, BTC, "0.00001")
    for second in range(seconds):
        mid = 100 + 0.1 * (second % 3)
        tape.trade(second, BTC, mid, 10 + second)
        tape.book(second + 0.5, BTC, mid - 0.05, mid + 0.05, 300, 100 + second)
    return tape


def then(write: Callable[[Tape], None], seconds: int = 20) -> list[Frame]:
    """Write something after a busy time."""
    tape = busy(seconds)
    write(tape)
    return tape.frames


def no_asks(tape: Tape) -> None:
    """Leave one side of the book."""
    tape.book(21, BTC, 99, 101, 1, 0)


def absurd_rate(tape: Tape) -> None:
    """Send a rate beyond any figure on the venue."""
    tape.funding(21, BTC, "1e20")


def past() -> list[Frame]:
    """Write the frames of a history, of which no book was recorded."""
    wire = WireWriter(HISTORY)
    frames = [wire.event("open"), wire.message("connected")]
    frames += [wire.markets(market_fields(BTC, price=None, nextFundingRate="0.00001"))]
    for second in range(20):
        wire.wait(1)
        frames += [wire.block(), wire.trade(BTC, "BUY", 1, 50_000 + 20 * (second % 3))]
    return frames


@pytest.mark.parametrize(
    ("frames", "known"),
    [
        pytest.param(busy().frames, SIX, id="busy"),
        pytest.param(Tape(BTC).frames, set(), id="new"),
        pytest.param(busy(7).frames, {"imbalance", "liquidity", "funding"}, id="warming up"),
        pytest.param(then(lambda tape: tape.close(21)), SIX - BY_BOOK, id="lost"),
        pytest.param(then(lambda tape: tape.wait(90)), SIX, id="stale"),
        pytest.param(then(no_asks), SIX - BY_BOOK, id="one-sided"),
        pytest.param(then(no_asks, seconds=0), {"funding"}, id="never two-sided"),
        pytest.param(then(absurd_rate), SIX - {"funding"}, id="absurd rate"),
        pytest.param(past(), SIX - {"imbalance"}, id="modelled"),
    ],
)
def test_a_value_is_that_of_its_score_whatever_is_known(frames, known):
    """To the last digit in all engines, and absent where the score is."""
    scorer = seen(frames, ALL)

    values = scorer.values(BTC)

    expected = {score.signal: score.value for score in scorer.scores(BTC)}
    assert (values, SIX & {*values}) == (expected, known)


def test_what_needs_sizes_that_rested_is_absent_on_a_modelled_book():
    """Its sizes are those of the model, and lean to no side."""
    by_size = {"imbalance", "microprice", "depth"}
    recorded, modelled = (seen(frames, ALL).values(BTC) for frames in (busy().frames, past()))

    assert by_size & {*recorded} == by_size
    assert by_size & {*modelled} == set()


def test_a_value_stays_as_it_is_once_its_score_was_made():
    """Whoever reads some scores first reads the same values."""
    scorer = seen(busy().frames)
    before = scorer.values(BTC)

    scorer.read(BTC, "volume")

    assert scorer.values(BTC) == before


def test_a_market_or_a_signal_that_nobody_scores_has_neither_score_nor_value():
    """Unknown names are absent, and no error."""
    scorer = seen(busy().frames)

    assert (scorer.values("ETH-USD"), scorer.scores("ETH-USD")) == ({}, ())
    assert (scorer.read("ETH-USD", "volume"), scorer.read(BTC, "nonsense")) == (None, None)


@pytest.mark.parametrize(
    ("levels", "usd", "cost_bps"),
    [
        (1, 50_000, 10.0),
        (2, 8_000, (8_000 * 10 + 2_000 * 20) / 10_000),
        (3, 1_000, (1_000 * (10 + 20 + 30) + 7_000 * 1_000) / 10_000),
        (8, 1_000, (1_000 * 360 + 2_000 * 1_000) / 10_000),
        (12, 1_000, 1_000 * 550 / 10_000),
        (12, 800, (800 * 780 + 400 * 1_000) / 10_000),
    ],
)
def test_the_cost_in_a_value_is_that_of_its_score_however_deep_the_book_is(levels, usd, cost_bps):
    """It ends at the best level, within the first few, beyond them, or nowhere."""
    tape = Tape(BTC)
    for second in range(7):
        sides = [
            [(price, usd / price) for price in (100 + way * n / 10 for n in range(1, levels + 1))]
            for way in (-1, 1)
        ]
        tape.frames.append(tape.wire(second).book(BTC, *sides))
    scorer = seen(tape.frames, [Liquidity])

    values = scorer.values(BTC)

    (score,) = scorer.scores(BTC)
    assert values == {"liquidity": score.value}
    assert dict(score.inputs)["cost_10k_bps"] == pytest.approx(cost_bps)


def test_levels_beyond_any_distance_have_no_depth():
    """What weighs nothing on both sides has no balance; nor has one side alone."""
    tape = Tape(BTC)
    tape.book(1, BTC, 1, 1_000_000)
    far = seen(tape.frames, [BookDepth]).scores(BTC)
    tape.book(2, BTC, 99, 101, 1, 0)

    assert (far, seen(tape.frames, [BookDepth]).scores(BTC)) == ((), ())


def test_engines_take_no_step_within_a_second_nor_back_in_time():
    """Several books within one second, and a clock that was set back, leave all on the scale."""
    tape = busy(70)
    for at in (69.6, 69.7, 69.7, 60):
        tape.book(at, BTC, 99.95, 100.05, 30, 10)

    values = seen(tape.frames, ALL).values(BTC).values()

    assert all(math.isfinite(value) and 0 <= value <= 100 for value in values)


# === What a run leaves ===


def test_a_run_goes_on_from_what_another_left():
    """Every level knows its day at once; a score of it rests on the frame that brought it."""
    left = seen(busy().frames).state("0123")
    state, *rest = [WireWriter().event("state", left), *busy(8).frames]
    scorer = Scorer()
    scorer.restore(state)
    restored = scorer.state("4567")

    for view in views(msgspec.structs.replace(frame, seq=frame.seq + 1) for frame in rest):
        scorer.step(view)

    liquidity = scorer.read(BTC, "liquidity")
    assert restored == left.replace("0123", "4567")
    assert liquidity is not None
    assert liquidity.first == state.seq
    assert dict(liquidity.inputs)["day_h"] == pytest.approx(28 / 3_600, rel=0.1)


def test_a_run_leaves_no_day_of_which_nothing_is_known():
    """After seven seconds there is a usual liquidity, but no usual volume."""
    levels = json.loads(seen(busy(7).frames).state("0123"))["levels"]

    assert {level: [*days] for level, days in levels.items()} == {
        "volume": [], "volatility": [], "liquidity": [BTC],
    }  # fmt: skip


def test_a_level_that_has_begun_or_that_nobody_scores_is_left_alone():
    """What another run left comes before the first view, and may be of engines not in this one."""
    tape = busy()
    left = tape.wire(30).event("state", seen(busy(40).frames).state("0123"))
    scorer = seen(tape.frames, [Liquidity])
    before = scorer.state("")

    scorer.restore(left)

    assert scorer.state("") == before


def test_a_day_begins_again_where_the_clock_was_set_back_by_hours():
    """Hours of another clock are no part of this day; those of the last hour are."""
    day, hour = Day(), 3_600 * SECOND
    day.add(1.0, 100 * hour, 5)
    day.add(1.0, 99 * hour, 5)
    together = day.seconds
    day.add(8.0, 5 * hour, 7)

    assert (together, day.seconds) == (10, 7)
    assert day.median == pytest.approx(8.0, rel=0.05)


def test_whoever_made_the_scorer_of_a_stream_reads_all_scores():
    """The stream folds into it."""
    scorer, made = Scorer(), list[Scored]()
    reactivex.from_iterable(views(busy().frames)).pipe(scores(scorer)).subscribe(made.append)

    assert scorer.scores(BTC) == made[-1].scores

"""The operators: what they emit, and how they end."""

import reactivex
from dydx_conn import Frame
from dydx_data import market_views
from dydx_signals import Funding, Score, Scored, scores, signal
from reactivex import Observable
from reactivex import operators as ops
from reactivex.testing import ReactiveTest, TestScheduler
from tape import Tape, views

on_next, on_completed, on_error = (
    ReactiveTest.on_next,
    ReactiveTest.on_completed,
    ReactiveTest.on_error,
)


def funded() -> Tape:
    """A tape whose three last frames change scores."""
    tape = Tape("BTC-USD")
    for at, rate in enumerate(["0", "0.00001", "-0.00001"]):
        tape.funding(at, "BTC-USD", rate)
    return tape


def frames_at(scheduler: TestScheduler, tape: Tape, *ends) -> Observable[Frame]:
    """Make a hot stream of the tape's frames, 10 apart from 300 on."""
    messages = [on_next(300 + 10 * i, frame) for i, frame in enumerate(tape.frames)]
    return scheduler.create_hot_observable(*messages, *ends)


def started(scheduler: TestScheduler, source: Observable[Frame]):
    """Run the operator; return when it said what."""
    result = scheduler.start(lambda: source.pipe(market_views(), scores()))
    return [(m.time, getattr(m.value, "kind", "")) for m in result.messages]


def test_scores_emits_within_the_frame_and_completes_with_its_source():
    """--v--v--v--|  gives  --S--S--S--|."""
    scheduler = TestScheduler()
    source = frames_at(scheduler, funded(), on_completed(400))

    assert started(scheduler, source) == [(320, "N"), (330, "N"), (340, "N"), (400, "C")]


def test_scores_of_a_silent_source_are_silent():
    """A source that never speaks is waited for."""
    assert started(TestScheduler(), reactivex.never()) == []


def test_scores_of_an_empty_source_are_empty():
    """Nothing in, nothing out, and an end."""
    assert started(TestScheduler(), reactivex.empty()) == [(200, "C")]


def test_scores_hands_an_error_on():
    """What fails below fails here."""
    scheduler = TestScheduler()
    source = frames_at(scheduler, funded(), on_error(335, ValueError("gone")))

    assert started(scheduler, source) == [(320, "N"), (330, "N"), (335, "E")]


def test_scores_ignores_what_comes_after_the_end():
    """Late data after completion makes no score."""
    scheduler = TestScheduler()
    source = frames_at(scheduler, funded(), on_completed(325))

    assert started(scheduler, source) == [(320, "N"), (325, "C")]


def test_each_subscriber_gets_engines_of_its_own():
    """Two subscribers see the same scores, not each other's state."""
    chain = reactivex.from_iterable(funded().frames).pipe(market_views(), scores(), ops.to_list())

    assert [one.scores for one in chain.run()] == [one.scores for one in chain.run()]


def test_signal_gives_each_score_of_one_type_once():
    """A score that other changes left alone is not told again."""
    tape = funded()
    tape.oracle(5, "BTC-USD", 100)
    seen: list[Score] = []
    source = reactivex.from_iterable(tape.frames)
    source.pipe(market_views(), scores(), signal("funding")).subscribe(seen.append)

    assert [score.seq for score in seen] == [3, 4, 5]
    assert {score.signal for score in seen} == {"funding"}


def test_counts_of_trouble_make_no_scored():
    """Nobody above waits for a score when only a count of bad messages went up."""
    tape = Tape("BTC-USD")
    tape.funding(1, "BTC-USD", "nonsense")

    emitted: list[Scored] = []
    reactivex.from_iterable(list(views(tape.frames))).pipe(scores([Funding])).subscribe(
        emitted.append
    )

    assert emitted == []

"""The operators: what they emit, and how they end."""

import pytest
import reactivex
from dydx_conn import MARBLE_CASES, WireWriter, play
from dydx_data import market_views
from dydx_signals import Funding, Score, Scored, scores, signal
from reactivex import compose
from reactivex import operators as ops
from tape import Tape, scored, views


def funded() -> Tape:
    """A tape whose three last frames change scores."""
    tape = Tape("BTC-USD")
    for at, rate in enumerate(["0", "0.00001", "-0.00001"]):
        tape.funding(at, "BTC-USD", rate)
    return tape


@pytest.mark.parametrize("case", MARBLE_CASES)
def test_scores_are_as_drawn(case):
    """Within the frame, for what can change a score alone; they end as their source."""
    wire = WireWriter()
    frames = {
        "b": wire.book("BTC-USD", [(99, 1)], [(101, 1)]),
        "q": wire.publish("v4_trades", {"trades": None}, id="BTC-USD"),
        "t": wire.trade("BTC-USD", "BUY", 1, 100),
        "o": wire.oracle("BTC-USD", 100),
    }

    came, drawn = play(scores, compose(market_views(), scores()), frames, lambda _: "S", case)

    assert came == drawn


@pytest.mark.parametrize("case", MARBLE_CASES)
def test_a_signal_is_as_drawn(case):
    """Each score once, when it was computed; it ends as its source."""
    tape = Tape("BTC-USD")
    tape.funding(1, "BTC-USD", "0.00001")
    tape.oracle(2, "BTC-USD", 100)
    fresh, stands = scored(tape.frames)

    def letter(score: Score) -> str:
        return score.signal[0]

    came, drawn = play(signal, signal("funding"), {"F": fresh, "o": stands}, letter, case)

    assert came == drawn


def test_each_subscriber_gets_engines_of_its_own():
    """Two subscribers see the same scores, not each other's state."""
    chain = reactivex.from_iterable(funded().frames).pipe(market_views(), scores(), ops.to_list())

    assert [one.scores for one in chain.run()] == [one.scores for one in chain.run()]


def test_signal_gives_each_score_of_one_type_once():
    """A score that other changes left alone is not emitted again."""
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

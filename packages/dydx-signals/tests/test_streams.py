"""The operators: what they emit, and how they end."""

import math

import msgspec
import pytest
import reactivex
from dydx_conn import MARBLE_CASES, WireWriter, play
from dydx_data import market_views
from dydx_signals import (
    Basis,
    Funding,
    Score,
    Scored,
    Scorer,
    SignalError,
    every,
    latest,
    scores,
    signal,
    window,
)
from reactivex import compose
from reactivex import operators as ops
from tape import Read, Tape, views


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
    """With every tick, changed or not; nothing where it is absent; it ends as its source."""
    wire = WireWriter()
    frames = {
        "F": wire.trading("BTC-USD", nextFundingRate="0.00001"),
        "o": wire.oracle("BTC-USD", 100),
        "n": wire.oracle("ETH-USD", 100),
    }
    chain = compose(market_views(), scores([Funding]), signal("funding"))

    came, drawn = play(signal, chain, frames, lambda score: score.signal[0], case)

    assert came == drawn


def rated(*seconds: float, ticker: str = "BTC-USD") -> dict[str, Score]:
    """Scores a, b, c … of one market at some seconds."""
    return {
        chr(97 + n): Score(ticker, "funding", 50.0, (), n, 0, round(at * 10**9))
        for n, at in enumerate(seconds)
    }


@pytest.mark.parametrize("case", MARBLE_CASES)
def test_every_is_as_drawn(case):
    """By the scores' own time; it ends as its source."""
    came, drawn = play(every, every(2), rated(0, 1, 2), lambda one: "abc"[one.seq], case)

    assert came == drawn


@pytest.mark.parametrize("case", MARBLE_CASES)
def test_a_window_is_as_drawn(case):
    """Two seconds hold two scores a second apart; it ends as its source."""
    came, drawn = play(window, window(2, len), rated(0, 1, 2), lambda n: " AB"[n], case)

    assert came == drawn


@pytest.mark.parametrize("case", MARBLE_CASES)
def test_latest_is_as_drawn(case):
    """Together, of one frame, or not at all; it ends as its source."""
    wire = WireWriter()
    frames = {
        "F": wire.trading("BTC-USD", nextFundingRate="0.00001"),
        "n": wire.oracle("ETH-USD", 100),
        "G": wire.trading("BTC-USD", nextFundingRate="0.00002"),
    }
    chain = compose(market_views(), scores([Funding, Basis]), latest("funding"))

    came, drawn = play(latest, chain, frames, lambda made: made[0].signal[0], case)

    assert came == drawn


def test_latest_knows_no_state_that_never_was():
    """All of one frame, and nothing until each exists."""
    tape = Tape("BTC-USD")
    for second in range(8):
        tape.book(second, "BTC-USD", 99, 101)
        tape.oracle(second + 0.5, "BTC-USD", 100)
    tape.funding(9, "BTC-USD", "0.00001")
    tape.book(10, "BTC-USD", 99, 101)

    source = reactivex.from_iterable(tape.frames)
    made = source.pipe(
        market_views(), scores([Funding, Basis]), latest("basis", "funding"), ops.to_list()
    ).run()

    assert [[one.signal for one in both] for both in made] == [["basis", "funding"]] * 2
    assert [{one.seq for one in both} for both in made] == [{19}, {20}]


def test_markets_have_windows_and_paces_of_their_own():
    """What one does changes nothing in the other."""
    one, other = rated(0, 1), rated(0, 1, ticker="ETH-USD")
    mixed = [one["a"], other["a"], one["b"], other["b"]]

    assert [*reactivex.from_iterable(mixed).pipe(window(9, len), ops.to_list()).run()] == [
        1,
        1,
        2,
        2,
    ]
    assert reactivex.from_iterable(mixed).pipe(every(5), ops.to_list()).run() == mixed[:2]


def test_whoever_holds_when_the_next_is_due_goes_on_from_there():
    """A second subscription lets nothing through that the first would not have."""
    rows, due = rated(0, 1, 6), dict[str, int]()
    first, second = [rows["a"]], [rows["b"], rows["c"]]

    assert reactivex.from_iterable(first).pipe(every(5, due), ops.to_list()).run() == first
    assert reactivex.from_iterable(second).pipe(every(5, due), ops.to_list()).run() == second[1:]


@pytest.mark.parametrize("make", [lambda: every(0), lambda: window(-1, len), latest])
def test_operators_that_cannot_work_are_refused(make):
    """The message names what was expected and what it got."""
    with pytest.raises(SignalError, match=r"expected .*, got "):
        make()


def test_each_subscriber_gets_engines_of_its_own():
    """Two subscribers see the same scores, not each other's state."""
    read = compose(market_views(), scores(), ops.map(Read.of), ops.to_list())
    chain = reactivex.from_iterable(funded().frames).pipe(read)

    assert chain.run() == chain.run()


def test_signal_gives_a_score_with_every_tick():
    """What other changes left alone stands with their frames, too."""
    tape = funded()
    tape.oracle(5, "BTC-USD", 100)
    seen: list[Score] = []
    source = reactivex.from_iterable(tape.frames)
    source.pipe(market_views(), scores(), signal("funding")).subscribe(seen.append)

    assert [score.seq for score in seen] == [3, 4, 5, 6]
    assert seen[-1].value == seen[-2].value
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


def test_a_scored_is_read_within_its_frame():
    """Views and engines go on: what is read later would be of another frame."""
    scorer, stored = Scorer(), list[Scored]()
    for view in views(funded().frames):
        stored += scorer.step(view)

    newest = stored.pop()

    assert newest.view.ticker == "BTC-USD"
    assert newest.value("funding") == newest.scores[0].value
    for name in ("view", "scores", "markets"):
        with pytest.raises(SignalError, match=r"expected BTC-USD as of frame 4 .*, got frame 5"):
            getattr(stored[-1], name)
    for read in (stored[0].value, stored[0].score):
        with pytest.raises(SignalError, match=r"expected BTC-USD as of frame 3 .*, got frame 5"):
            read("funding")


def test_a_scored_knows_every_market_as_of_its_frame():
    """Each with the frame and the time of the market at hand."""
    tape = Tape("BTC-USD", "ETH-USD")
    tape.funding(1, "ETH-USD", "0.00001")
    tape.funding(2, "BTC-USD", "-0.00001")
    scorer, made = Scorer(), list[Scored]()
    for view in views(tape.frames):
        made += scorer.step(view)
    newest = made[-1]

    markets = newest.markets

    assert list(markets) == ["BTC-USD", "ETH-USD"]
    assert {(one.seq, one.at) for one in markets.values()} == {(newest.seq, newest.at)}
    assert [one.value("funding") for one in markets.values()] == [
        pytest.approx(100 / (1 + math.exp(rate / 0.25))) for rate in (-0.1, 0.1)
    ]
    assert markets.get("SOL-USD") is None


class Counting(Funding):
    """One whose readings are counted."""

    readings = 0

    def read(self, ticker: str) -> Score | None:
        """Count it."""
        type(self).readings += 1
        return super().read(ticker)


def test_a_score_is_made_when_it_is_read_and_once():
    """Nobody reads: nothing is made; whoever reads after the first gets the same."""
    scorer = Scorer([Counting])
    for view in views(funded().frames):
        made = scorer.step(view)
    assert Counting.readings == 0

    first = made[0].scores

    assert made[0].scores == first
    assert made[0].markets["BTC-USD"].score("funding") is first[0]
    assert Counting.readings == 1


def test_an_engine_that_inherits_from_a_standard_one_is_read_itself_for_its_value():
    """What it changed of a score is in the value, too."""

    class Doubled(Funding):
        def read(self, ticker: str) -> Score | None:
            score = super().read(ticker)
            return score and msgspec.structs.replace(score, value=2.0 * score.value)

    scorers = [Scorer([Funding]), Scorer([Doubled])]
    for view in views(funded().frames):
        plain, doubled = ([made.values for made in scorer.step(view)] for scorer in scorers)

    assert doubled == [{"funding": 2.0 * plain[0]["funding"]}]


def test_scorers_of_the_same_engines_read_what_one_alone_reads():
    """Whoever shares engines lets them fold each view once, and notes it for each scorer."""
    engine, alone = Funding(), Scorer([Funding])
    several = [Scorer([lambda: engine]), Scorer([lambda: engine])]
    for view in views(funded().frames):
        emitted = alone.step(view)
        noted = [scorer.note(view) for scorer in several]
        if view.changed in Funding.changes:
            engine.update(view)
        read = [one.scores for one in emitted]
        assert [[one.scores for one in each] for each in noted] == [read, read]

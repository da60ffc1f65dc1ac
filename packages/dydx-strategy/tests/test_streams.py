"""The operator: what it numbers, what it refuses, and how it ends."""

import math
import sys

import msgspec
import pytest
import reactivex
from dydx_signals import Scored
from dydx_strategy import Decider, Decision, RankAndTarget, StrategyError, decisions
from market import Market
from reactivex import Observable
from reactivex import operators as ops
from reactivex.testing import ReactiveTest, TestScheduler

on_next, on_completed, on_error = (
    ReactiveTest.on_next,
    ReactiveTest.on_completed,
    ReactiveTest.on_error,
)


class Echo:
    """Decide the composite to be whatever momentum is."""

    name = "echo"

    def __init__(self, made=None) -> None:
        self.made = made

    def step(self, scored: Scored):
        return [decision(scored)] if self.made is None else self.made(scored)


def decision(scored: Scored, target: float = 1.0) -> Decision:
    """Make a decision out of nothing."""
    return Decision(
        ticker=scored.ticker,
        seq=scored.seq,
        at=scored.at,
        action="target",
        target_usdc=target,
        previous_usdc=0.0,
        urgency=0.0,
        score=50.0,
        reasons=("because",),
        scores=scored.scores,
    )


def started(source: Observable[Scored], scheduler: TestScheduler | None = None):
    """Run the operator; return when it said what."""
    result = (scheduler or TestScheduler()).start(lambda: source.pipe(decisions(Echo)))
    return [(m.time, getattr(m.value, "kind", "")) for m in result.messages]


def two_and(scheduler: TestScheduler, end) -> Observable[Scored]:
    """Make a hot stream of two, and an end between them."""
    market = Market()
    return scheduler.create_hot_observable(
        on_next(300, market.scored(0)), end, on_next(400, market.scored(1))
    )


def test_decisions_come_within_the_frame_and_end_with_the_source():
    """--S----S--|  gives  --D----D--|, and nothing after the end."""
    scheduler = TestScheduler()

    assert started(two_and(scheduler, on_completed(450)), scheduler) == [
        (300, "N"),
        (400, "N"),
        (450, "C"),
    ]


def test_late_scores_after_the_end_decide_nothing():
    """What comes after completion is not heard."""
    scheduler = TestScheduler()

    assert started(two_and(scheduler, on_completed(350)), scheduler) == [(300, "N"), (350, "C")]


def test_decisions_hands_an_error_on():
    """What fails below fails here."""
    scheduler = TestScheduler()
    source = two_and(scheduler, on_error(350, ValueError("gone")))

    assert started(source, scheduler) == [(300, "N"), (350, "E")]


def test_a_silent_source_decides_nothing():
    """A source that never speaks is waited for."""
    assert started(reactivex.never()) == []


def test_an_empty_source_ends_empty():
    """Nothing in, nothing out, and an end."""
    assert started(reactivex.empty()) == [(200, "C")]


def test_decisions_are_numbered_from_one_for_each_subscriber():
    """D1, D2, …: each subscription has a strategy and a count of its own."""
    market = Market()
    source = reactivex.of(market.scored(0), market.scored(1))
    chain = source.pipe(decisions(Echo), ops.to_list())

    for _ in range(2):
        assert [one.id for one in chain.run()] == ["D1", "D2"]


def test_without_a_strategy_it_ranks():
    """The standard strategy is the default, there and in `Decider`."""
    market = Market()
    source = reactivex.of(*(market.scored(at, momentum=95.0) for at in (0, 5)))
    seen: list[Decision] = []
    source.pipe(decisions()).subscribe(seen.append)

    assert [one.target_usdc for one in seen] == [12_000]
    assert Decider().strategy.name == "rank"


def raising(scored: Scored):
    """Fail at once."""
    raise KeyError("BTC")


def late(scored: Scored):
    """Decide, and fail while deciding again."""
    yield decision(scored)
    1 / 0  # noqa: B018


def leaving(scored: Scored):
    """Leave the program."""
    sys.exit("enough")


def with_fields(**fields):
    """Decide with a field that does not fit."""
    return lambda scored: [msgspec.structs.replace(decision(scored), **fields)]


@pytest.mark.parametrize(
    ("made", "was"),
    [
        (lambda scored: (None,), "it was missing"),
        (lambda scored: ["buy"], "it was a str"),
        (lambda scored: 42, "it was a int"),
        (with_fields(target_usdc=math.nan), "one whose target_usdc is nan"),
        (with_fields(target_usdc=math.inf), "one whose target_usdc is inf"),
        (with_fields(target_usdc=-1.1e12), r"one whose target_usdc is -1\.1e\+12"),
        (with_fields(score=math.nan), "one whose score is nan"),
        (with_fields(target_usdc="much"), r"got `str` - at `\$.target_usdc`"),
        (with_fields(action="buy"), "one whose action is 'buy', neither 'target' nor 'hold'"),
        (with_fields(reasons="because"), r"got `str` - at `\$.reasons`"),
        (raising, r"it raised KeyError: 'BTC' at test_streams.py:\d+"),
        (late, r"it raised ZeroDivisionError: division by zero at test_streams.py:\d+"),
        (leaving, r"it raised SystemExit: enough at test_streams.py:\d+"),
    ],
)
def test_a_strategy_of_a_users_own_that_goes_wrong_is_an_error_of_the_input(made, was):
    """No nonsense goes on to the layer that trades, and the sentence is for who wrote the file."""
    with pytest.raises(StrategyError, match=f"expected echo to decide .*{was}"):
        Decider(lambda: Echo(made)).step(Market().scored(0))


def test_what_a_users_strategy_raised_is_the_cause():
    """The traceback is there for who wants it."""
    with pytest.raises(StrategyError) as caught:
        Decider(lambda: Echo(raising)).step(Market().scored(0))

    assert isinstance(caught.value.__cause__, KeyError)


def test_a_strategy_of_the_house_that_raises_is_a_bug(monkeypatch):
    """Nobody's input is to blame for it."""
    monkeypatch.setattr(RankAndTarget, "step", lambda self, scored: raising(scored))

    with pytest.raises(KeyError):
        Decider().step(Market().scored(0))


def test_ctrl_c_is_not_the_strategys_error():
    """Whoever stops the bot stops it."""

    def stopped(scored: Scored):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Decider(lambda: Echo(stopped)).step(Market().scored(0))


def test_figures_and_reasons_are_taken_as_people_write_them():
    """A whole number is a figure, a list of reasons is as good as a tuple, the largest counts."""
    made = with_fields(target_usdc=10**12, reasons=["because"])
    [one] = Decider(lambda: Echo(made)).step(Market().scored(0, momentum=60.0))

    assert (one.id, one.target_usdc, one.reasons) == ("D1", 1e12, ("because",))
    assert [score.value for score in one.scores] == [60.0]


def test_a_strategy_that_forgets_to_return_is_told_how():
    """The commonest slip in a user's own file."""

    class Forgetful(Echo):
        def step(self, scored: Scored):
            return None

    with pytest.raises(StrategyError, match=r"it was None \(return \(\) to decide nothing\)"):
        Decider(Forgetful).step(Market().scored(0))

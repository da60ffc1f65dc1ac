"""The operator: what it numbers, what it refuses, and how it ends."""

import math

import pytest
import reactivex
from dydx_signals import Scored
from dydx_strategy import Decider, Decision, StrategyError, decisions
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


@pytest.mark.parametrize(
    ("made", "was"),
    [
        (lambda scored: (None,), "it was missing"),
        (lambda scored: ["buy"], "it was a str"),
        (lambda scored: [decision(scored, math.nan)], "target_usdc is no finite number"),
        (lambda scored: [decision(scored, math.inf)], "target_usdc is no finite number"),
    ],
)
def test_a_strategy_that_decides_nonsense_is_stopped(made, was):
    """No target that is no number goes on to the layer that trades."""
    with pytest.raises(StrategyError, match=f"expected echo to decide .*{was}"):
        Decider(lambda: Echo(made)).step(Market().scored(0))


def test_a_strategy_that_forgets_to_return_is_told_how():
    """The commonest slip in a user's own file."""

    class Forgetful(Echo):
        def step(self, scored: Scored):
            return None

    with pytest.raises(StrategyError, match=r"it was None \(return \(\) to decide nothing\)"):
        Decider(Forgetful).step(Market().scored(0))

"""`throttle`, `debounce` and `distinct_targets`: anybody's decisions, on event time, as drawn."""

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import reactivex
from dydx_strategy import Decision, debounce, distinct_targets, throttle
from market import Market
from reactivex.testing import TestScheduler
from reactivex.testing.marbles import marbles_testing

GONE = ValueError("gone")
OPERATORS = {
    "throttle": throttle(4),
    "debounce": debounce(8),
    "distinct_targets": distinct_targets(),
}


def drawn(name: str):
    """Return an operator's own diagram: what goes in, and what comes out."""
    doc = {"throttle": throttle, "debounce": debounce, "distinct_targets": distinct_targets}[name]
    found = re.findall(rf"^ +(?:decisions|{name}) +(\S+)$", doc.__doc__ or "", re.MULTILINE)
    return pytest.param(name, *found, id=f"{name}, as in its docstring")


def decision(at: float, target: float, held: float = 0.0, **fields) -> Decision:
    """Decide on a target at a second."""
    made = Decision.of(Market().scored(at), target, "because")
    return msgspec.structs.replace(made, previous_usdc=held, **fields)


def played(name: str, diagram: str) -> tuple[list[Any], Callable[[str], list[Any]]]:
    """Play decisions through an operator; each is made at the second where it is drawn."""
    # The letters: two targets too near to be two, others, an exit, and a hold.
    targets = {"a": 100.0, "b": 200.0, "c": 300.0, "d": 400.0, "x": 0.0, "h": 0.0}
    at = {letter: float(diagram.find(letter)) for letter in targets}
    lookup: dict[str | float, Any] = {
        letter: decision(
            at[letter], target, held=100.0 if letter == "x" else 0.0,
            action="hold" if letter == "h" else "target",
        )
        for letter, target in targets.items()
    }  # fmt: skip
    scheduler = TestScheduler()
    with marbles_testing(timespan=1.0) as (_, _, _, records):
        source = scheduler.create_hot_observable(*records(diagram, lookup, GONE))
        results = scheduler.start(lambda: source.pipe(OPERATORS[name]))
        return results.messages, lambda text: records(text, lookup, GONE)


@pytest.mark.parametrize(
    ("name", "decided", "passed"),
    [
        *map(drawn, OPERATORS),
        *(pytest.param(name, "-a-a-h-", None, id=f"{name} never ends") for name in OPERATORS),
        *(pytest.param(name, "-|", "-|", id=f"{name}, empty") for name in OPERATORS),
        *(pytest.param(name, "-a-#", "-a-#", id=f"{name}, error") for name in OPERATORS),
        *(pytest.param(name, "-a-|-b-", "-a-|", id=f"{name}, late data") for name in OPERATORS),
    ],
)
def test_decisions_pass_as_drawn(name: str, decided: str, passed: str | None):
    """Targets that add wait their turn; a hold and an exit never do; the end is the source's."""
    messages, records = played(name, decided)

    # A letter is one decision, of one second: drawn again it is the same one, which is no news.
    assert messages == records("-a---h-" if passed is None else passed)


@pytest.mark.parametrize("name", OPERATORS)
def test_markets_and_subscribers_share_nothing(name: str):
    """A target in another market passes, and each subscription begins with nothing."""
    first, second = decision(0, 100.0), decision(1, 100.0, ticker="ETH-USD")

    for _ in range(2):
        assert passing(name, first, second) == [first, second]


@pytest.mark.parametrize(
    ("name", "passes"),
    [("throttle", [True, False, False, True]), ("debounce", [True, False, True, True]),
     ("distinct_targets", [True, False, True, False])],
)  # fmt: skip
def test_what_is_the_same_and_what_comes_too_soon(name: str, passes: list[bool]):
    """At once, the same after 1 s, another after 3 s, and that again 13 s later."""
    made = [decision(at, x) for at, x in ((0, 100.0), (1, 102.0), (3, 200.0), (16, 200.0))]

    assert [one in passing(name, *made) for one in made] == passes


def test_what_is_held_already_is_no_other_target():
    """It is compared with what is held too, wherever a first target has passed."""
    made = [decision(0, 100.0), decision(60, 300.0, held=299.0)]

    assert passing("distinct_targets", *made) == made[:1]


@pytest.mark.parametrize("name", OPERATORS)
def test_no_exit_waits(name: str):
    """Neither one that follows at once, nor its repetition; a turn adds, and waits."""
    opened, left = decision(0, 100.0), decision(1, 40.0, held=100.0)
    again, turned = decision(2, 40.0, held=100.0), decision(3, -100.0, held=100.0)
    passed = passing(name, opened, left, again, turned)

    assert passed[:3] == [opened, left, again]
    assert (turned in passed) == (name != "throttle")


def passing(name: str, *made: Decision) -> list[Decision]:
    """Return what passes an operator."""
    seen: list[Decision] = []
    reactivex.from_iterable(made).pipe(OPERATORS[name]).subscribe(seen.append)
    return seen

"""Other settings while a strategy runs: nothing that it saw, wants or has on its way is lost."""

from typing import Any

import pytest
from dydx_strategy import (
    Allocation,
    Allocator,
    AllocatorSettings,
    Carry,
    CarrySettings,
    Decider,
    Pairs,
    PairsSettings,
    RankAndTarget,
    RankSettings,
    Reversion,
    ReversionSettings,
    Sniper,
    SniperSettings,
    StrategyError,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from street import Street
from test_allocator import Scripted
from test_strategies import PAIR, apart, drifting, jumping

QUICK: dict[str, Any] = {"warm_up_s": 30.0, "report_s": 20.0, "throttle_s": 5.0}
EACH: dict[str, tuple[type[BaseModel], Any, BaseModel, Any]] = {
    "rank": (RankSettings, RankAndTarget, RankSettings(report_s=10.0), drifting),
    "sniper": (SniperSettings, Sniper, SniperSettings(**QUICK), drifting),
    "reversion": (ReversionSettings, Reversion, ReversionSettings(**QUICK), jumping),
    "carry": (CarrySettings, Carry, CarrySettings(**QUICK), drifting),
    "pairs": (PairsSettings, Pairs, PAIR, apart),
}
SECONDS, LEGS = 160, ("BTC-USD", "ETH-USD")


def _members(**changed: Any) -> AllocatorSettings:
    rows = (
        Allocation(use="reversion", weight=2.0, settings=dict(QUICK)),
        Allocation(use="sniper", settings=QUICK | changed.pop("sniper", {})),
    )
    return AllocatorSettings(strategies=changed.pop("strategies", rows), **changed)


def _allocator(chosen: AllocatorSettings) -> Allocator:
    kinds: dict[str, Any] = {"reversion": ReversionSettings, "sniper": SniperSettings}
    makes: dict[str, Any] = {"reversion": Reversion, "sniper": Sniper}
    made = [makes[one.use](kinds[one.use](**one.settings)) for one in chosen.strategies]
    return Allocator(chosen, made)


EACH["allocator"] = AllocatorSettings, _allocator, _members(), jumping
FIXED = {"pairs": {"pairs"}, "allocator": {"strategies", "sample_s"}}


@st.composite
def _others(draw: Any, name: str) -> BaseModel:
    """Draw other settings: some fields of numbers and booleans half or twice as large."""
    kind, _, known, _ = EACH[name]
    fields = {
        field: value
        for field, value in dict(known).items()
        if isinstance(value, float | int) and field not in FIXED.get(name, ())
    }
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=4, unique=True))
    changed = {field: type(fields[field])(fields[field] * draw(_FACTORS)) for field in chosen}
    try:
        return kind(**dict(known) | changed)
    except ValidationError:
        return known


_FACTORS = st.sampled_from([0.5, 0.75, 1.25, 2.0])


def _street(name: str) -> Street:
    _, make, known, _ = EACH[name]
    return Street(make(known), *(LEGS if name == "pairs" else ("BTC-USD",)))


@pytest.mark.parametrize("name", EACH)
def test_each_goes_on_by_other_settings_and_back_as_if_nothing_had_been(name: str) -> None:
    """There and back at any second: each decision is the same, so that nothing was forgotten."""

    @settings(max_examples=3)
    @given(at=st.integers(1, SECONDS), other=_others(name))
    def property_(at: int, other: BaseModel) -> None:
        runs = []
        for there in (None, other):
            street, prices = _street(name), EACH[name][3]()
            street.run(at, prices)
            if there is not None:
                street.decider.step(there)
                street.decider.step(EACH[name][2])
            street.run(SECONDS - at, prices)
            runs.append(street.decided)
        assert runs[0] == runs[1]

    property_()


@pytest.mark.parametrize("name", EACH)
def test_each_that_is_changed_before_it_begins_began_with_it(name: str) -> None:
    """No figure of the first settings is left anywhere."""

    @settings(max_examples=3)
    @given(other=_others(name))
    def property_(other: BaseModel) -> None:
        _, make, _, prices = EACH[name]
        tickers = LEGS if name == "pairs" else ("BTC-USD",)
        changed, begun = _street(name), Street(make(other), *tickers)
        changed.decider.step(other)
        assert changed.run(SECONDS, prices()) == begun.run(SECONDS, prices())

    property_()


@pytest.mark.parametrize("name", ["sniper", "reversion", "pairs"])
def test_what_was_seen_fades_by_the_new_half_lives(name: str) -> None:
    """A tenth of each: what it remembers after a while is another thing."""
    kind, _, known, prices = EACH[name]
    names = {"trend_s", "usual_s", "vwap_s", "mean_s"} & {*kind.model_fields}
    quick = kind(**dict(known) | {field: 0.1 * getattr(known, field) for field in names})
    words = []
    for other in (known, quick):
        street, moves = _street(name), prices()
        street.run(40, moves)
        street.decider.step(other)
        words.append([one.reasons for one in street.run(SECONDS, moves)])

    assert words[0] != words[1]


def test_the_pace_is_that_of_the_new_settings() -> None:
    """What was decided a moment ago is known still: now it is too soon for a minute."""
    street, prices = _street("rank"), drifting()
    street.run(30, prices)
    slow = RankSettings(throttle_s=77.0)
    street.decider.step(slow)

    assert street.decider._pacing.pace is slow
    assert street.strategy._pacing.pace is slow  # type: ignore[attr-defined]


def test_pairs_do_not_change_while_they_run() -> None:
    """What is held of one is no part of another."""
    pairs = Pairs(PairsSettings())
    other = PairsSettings(pairs=(("SOL-USD", "ETH-USD"),))

    with pytest.raises(StrategyError, match="expected no change of pairs while it runs, got"):
        pairs.change(other)
    assert pairs.settings == PairsSettings()


def test_one_without_change_needs_a_restart() -> None:
    """As a user's own, which has no settings that anybody could know."""
    decider = Decider(Scripted)

    with pytest.raises(StrategyError, match="takes other settings while it runs, got scripted"):
        decider.step(RankSettings())


def test_weights_and_settings_of_members_change_together() -> None:
    """Each sees its new part of the account at once, and decides by its own settings."""
    allocator = _allocator(_members())
    rows = (
        Allocation(use="reversion", weight=1.0, settings=dict(QUICK)),
        Allocation(use="sniper", weight=3.0, settings=QUICK | {"arm": 5.0}),
    )
    allocator.change(_members(strategies=rows, gross_share=0.5))

    assert [result.share for result in allocator.results()] == [0.25, 0.75]
    assert [one.settings for one in allocator.strategies] == [  # type: ignore[attr-defined]
        ReversionSettings(**QUICK),
        SniperSettings(**QUICK | {"arm": 5.0}),
    ]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"strategies": (Allocation(use="sniper"),)},
            "expected no change of strategies and their markets",
        ),
        ({"sample_s": 60.0}, "expected no change of sample_s while it runs, got 60.0: restart"),
        ({"sniper": {"arm": 0.5}}, "expected settings of sniper that can be meant: .*leave below"),
    ],
)
def test_members_change_together_or_not_at_all(changed: dict[str, Any], words: str) -> None:
    """The first member's part is its old one again where the second member's is refused."""
    allocator = _allocator(_members())
    before = allocator.settings, [result.share for result in allocator.results()]
    with pytest.raises(StrategyError, match=words):
        allocator.change(_members(**changed))

    assert (allocator.settings, [r.share for r in allocator.results()]) == before

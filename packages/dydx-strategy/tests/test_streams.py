"""The operator: what it numbers, what it refuses, and how it ends."""

import math
import re
import sys
from typing import Any

import msgspec
import pytest
import reactivex
from dydx_signals import Scored
from dydx_strategy import (
    Decider,
    Decision,
    Holdings,
    Outcome,
    RankAndTarget,
    StrategyError,
    decisions,
)
from market import Account, Market
from reactivex import operators as ops
from reactivex.testing import TestScheduler
from reactivex.testing.marbles import marbles_testing


class Echo:
    """Decide the composite to be whatever momentum is."""

    name = "echo"

    def __init__(self, made=None) -> None:
        self.made = made

    def step(self, scored: Scored, held: Holdings):
        return [decision(scored)] if self.made is None else self.made(scored)


def decision(scored: Scored, **fields) -> Decision:
    """Make a decision out of nothing."""
    made = Decision.of(scored, 1.0, "because", urgency=0.5)
    return msgspec.structs.replace(made, **fields)


# === The operator, as drawn ===


class Shy(Echo):
    """Want one thing once; after a denial hold once, and want nothing more."""

    name = "shy"

    def __init__(self) -> None:
        self.wanted = False
        self.denial = ""

    def step(self, scored: Scored, held: Holdings):
        if self.denial:
            yield msgspec.structs.replace(decision(scored), action="hold", reasons=(self.denial,))
            self.denial = ""
        elif not self.wanted:
            self.wanted = True
            yield Decision.of(scored, 1_000.0, f"{held.equity_usdc:.0f} USDC of equity")

    def learn(self, outcome: Outcome) -> None:
        self.denial = outcome.why


DRAWN = re.findall(r"^ +(?:events|decisions) +(\S+)$", decisions.__doc__ or "", re.MULTILINE)


@pytest.mark.parametrize(
    ("events", "decided"),
    [
        pytest.param(*DRAWN, id="as in its docstring"),
        pytest.param("-H-S-", "---T-", id="never ends"),
        pytest.param("-|", "-|", id="empty"),
        pytest.param("-H-S-#", "---T-#", id="error"),
        pytest.param("-H-S-|-O-S-", "---T-|", id="late data after the end"),
    ],
)
def test_decisions_come_within_the_frame_and_end_as_the_source_does(events, decided):
    """What is held and what became of a decision are known when the next scores come."""
    market = Market()
    scored = market.scored(0, momentum=80.0)
    shy = decision(scored, id="D1", target_usdc=1_000.0, previous_usdc=500.0, urgency=0.5)
    denied: dict[str, Any] = {"decision": "D1", "ticker": "BTC-USD", "kind": "denied"}
    lookup: dict[str | float, Any] = {
        "S": scored,
        "H": Account(BTC_USD=500.0).held,
        "O": Outcome(**denied, seq=scored.seq, at=scored.at, why="too much"),
        "T": msgspec.structs.replace(shy, reasons=("10000 USDC of equity",)),
        "D": decision(
            scored, id="D2", action="hold", target_usdc=500.0, previous_usdc=500.0,
            reasons=("too much",),
        ),
    }  # fmt: skip

    scheduler = TestScheduler()
    with marbles_testing(timespan=10.0) as (_, _, _, records):
        source = scheduler.create_hot_observable(*records(events, lookup, GONE))
        results = scheduler.start(lambda: source.pipe(decisions(Shy)))

        assert results.messages == records(decided, lookup, GONE)


GONE = ValueError("gone")


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
    rated = [market.scored(at, momentum=95.0) for at in (0, 5)]
    events: list[Scored | Holdings | Outcome] = [Account().held, *rated]
    seen: list[Decision] = []
    reactivex.from_iterable(events).pipe(decisions()).subscribe(seen.append)

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
        (lambda scored: (None,), "got nothing"),
        (lambda scored: ["buy"], "got a str"),
        (lambda scored: 42, "got a int"),
        (with_fields(target_usdc=math.nan), "one whose target_usdc is nan"),
        (with_fields(target_usdc=math.inf), "one whose target_usdc is inf"),
        (with_fields(target_usdc=-1.1e12), r"one whose target_usdc is -1\.1e\+12"),
        (with_fields(score=math.nan), "one whose score is nan"),
        (with_fields(target_usdc="much"), r"got `str` - at `\$.target_usdc`"),
        (with_fields(action="buy"), "one whose action is 'buy', neither 'target' nor 'hold'"),
        (with_fields(reasons="because"), r"got `str` - at `\$.reasons`"),
        (with_fields(entry="maker"), r"one with a wrong field: .*'maker'"),
        (with_fields(entry="make"), "one whose patience_s is 0, although its entry is 'make'"),
        (
            with_fields(entry="make", patience_s=-1.0),
            "one whose patience_s is -1, not within 0 and 2.592e\\+06",
        ),
        (
            with_fields(entry="make", patience_s=9.0, entry_offset_bps=5_001.0),
            "one whose entry_offset_bps is 5001, not within 0 and 5000",
        ),
        (
            with_fields(entry="stop", patience_s=9.0),
            "one whose trigger_price is 0, although its entry is 'stop'",
        ),
        (with_fields(trigger_price=99.0), "one whose trigger_price is 99, although .* is 'take'"),
        (with_fields(patience_s=9.0), "one whose patience_s is 9, although its entry is 'take'"),
        (with_fields(stop_loss=math.nan), "one whose stop_loss is nan, not within"),
        (
            with_fields(stop_loss=105.0, take_profit=104.0),
            "one whose stop_loss is 105, not below take_profit 104, for a long",
        ),
        (
            with_fields(target_usdc=-9.0, stop_loss=104.0, take_profit=105.0),
            "one whose take_profit is 105, not below stop_loss 104, for a short",
        ),
        (
            with_fields(entry="stop", patience_s=9.0, trigger_price=100.0, stop_loss=100.0),
            "one whose stop_loss is 100, not below trigger_price 100, for a long",
        ),
        (
            with_fields(entry="stop", patience_s=9.0, trigger_price=100.0, take_profit=99.0),
            "one whose trigger_price is 100, not below take_profit 99, for a long",
        ),
        (raising, r"got KeyError: 'BTC' at test_streams.py:\d+"),
        (late, r"got ZeroDivisionError: division by zero at test_streams.py:\d+"),
        (leaving, r"got SystemExit: enough at test_streams.py:\d+"),
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
    monkeypatch.setattr(RankAndTarget, "step", lambda self, scored, held: raising(scored))

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


@pytest.mark.parametrize(
    "intent",
    [
        {"entry": "make", "patience_s": 30, "entry_offset_bps": 2.5},
        {"entry": "stop", "patience_s": 3_600.0, "trigger_price": 101.0, "stop_loss": 99.0},
        {"stop_loss": 99.0, "take_profit": 103.0},
        {"target_usdc": -500.0, "stop_loss": 103.0, "take_profit": 99.0},
        # Nothing is to be held: prices to leave at have no side to be on the wrong one of.
        {"target_usdc": 0.0, "stop_loss": 103.0, "take_profit": 99.0},
    ],
)
def test_how_a_target_is_entered_and_left_is_part_of_the_decision(intent):
    """`Decision.of` takes it, and it comes out as it went in."""
    fields = {"target_usdc": 500.0, **intent}
    decider = Decider(lambda: Echo(lambda scored: [Decision.of(scored, **fields)]))
    decider.step(Account(BTC_USD=math.copysign(50.0, fields["target_usdc"])).held)
    [one] = decider.step(Market().scored(0))

    assert {name: getattr(one, name) for name in fields} == fields


def test_a_strategy_that_forgets_to_return_is_refused_with_the_remedy():
    """The commonest slip in a user's own file."""

    class Forgetful(Echo):
        def step(self, scored: Scored, held: Holdings):
            return None

    with pytest.raises(StrategyError, match=r"got None \(return \(\) to decide nothing\)"):
        Decider(Forgetful).step(Market().scored(0))


def test_holdings_read_like_a_mapping_of_what_is_held():
    """By ticker, with the equity beside; what is not held is worth nothing."""
    held = Account(BTC_USD=500.0, ETH_USD=0.0).held

    assert list(held) == ["BTC-USD"]
    assert (len(held), held["BTC-USD"].usdc) == (1, 500.0)
    assert (held.usdc("BTC-USD"), held.usdc("ETH-USD"), held.equity_usdc) == (500.0, 0.0, 10_000.0)


def test_a_strategy_that_goes_wrong_while_it_learns_is_an_error_of_the_input_too():
    """As while it decides."""

    class Slow(Echo):
        def learn(self, outcome: Outcome) -> None:
            raise KeyError(outcome.ticker)

    outcome = Outcome(decision="D1", ticker="BTC-USD", kind="filled", seq=1, at=1)

    with pytest.raises(StrategyError, match=r"expected echo to decide .* got KeyError"):
        Decider(Slow).step(outcome)


def test_what_the_houses_own_raises_while_it_learns_is_a_bug(monkeypatch):
    """It is raised as it is."""

    def raises(self: RankAndTarget, outcome: Outcome) -> None:
        raise KeyError(outcome.ticker)

    monkeypatch.setattr(RankAndTarget, "learn", raises)

    with pytest.raises(KeyError):
        Decider().step(Outcome(decision="D1", ticker="BTC-USD", kind="filled", seq=1, at=1))

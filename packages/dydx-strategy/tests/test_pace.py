"""Pace: what adds risk waits, whoever wrote the strategy; what takes it away never does."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from dydx_signals import Scored
from dydx_strategy import Decider, Decision, Holdings, Outcome, Pace, StrategyError
from hypothesis import given, settings
from hypothesis import strategies as st
from market import SECOND, Account, Market, stamp
from pydantic import ValidationError

TICKER = "BTC-USD"


class Scripted:
    """A user's strategy that wants what a test sets."""

    name = "scripted"

    def __init__(self) -> None:
        self.wants: list[float] = []
        self.urgency = 0.5

    def step(self, scored: Scored, held: Holdings) -> Iterable[Decision]:
        """Decide on each of the targets, once."""
        wants, self.wants = self.wants, []
        return [Decision.of(scored, usdc, "because", urgency=self.urgency) for usdc in wants]


class Desk:
    """A paced strategy, its account and what becomes of its decisions, as a test sets it."""

    def __init__(self, pace: Pace | None = None, equity_usdc: float = 10_000.0) -> None:
        self.strategy, self.market = Scripted(), Market(TICKER)
        if pace is not None:
            self.strategy.pace = pace  # type: ignore[attr-defined]
        self.decider = Decider(lambda: self.strategy)
        self.account = Account(equity_usdc)
        self.last = ""

    def want(self, at: float, *targets: float) -> list[Decision]:
        """Let the strategy want something; return what passes."""
        self.decider.step(self.account.held)
        self.strategy.wants = [*targets]
        made = self.decider.step(self.market.scored(at))
        self.last = next((one.id for one in reversed(made) if one.action == "target"), self.last)
        return made

    def become(self, kind: str, at: float, decision: str = "", **fields: Any) -> None:
        """Report what became of the last target, or of another."""
        self.decider.step(
            Outcome(
                decision=decision or self.last, ticker=TICKER, kind=kind,  # type: ignore[arg-type]
                seq=1, at=stamp(at), **fields,
            )
        )  # fmt: skip

    def hold(self, usdc: float) -> None:
        """Change what the account holds."""
        self.account.usdc[TICKER] = usdc


def targets(made: list[Decision]) -> list[float]:
    """Return the targets that passed."""
    return [one.target_usdc for one in made if one.action == "target"]


def first_reason(made: list[Decision]) -> str:
    """Return why nothing but a hold came."""
    [hold] = made
    assert hold.action == "hold"
    return hold.reasons[0]


# === What adds ===


def test_targets_of_a_market_that_add_are_a_throttle_apart():
    """30 s by default, for a strategy that nobody of the house wrote."""
    desk = Desk()
    desk.want(0, 1_000)
    desk.hold(1_000)

    early = desk.want(29, 2_000)
    late = desk.want(30, 2_000)

    assert first_reason(early) == "last target 29 s ago < 30 s between two"
    assert early[0].target_usdc == early[0].previous_usdc == 1_000
    assert targets(late) == [2_000]


def test_other_markets_do_not_wait_for_each_other():
    """The throttle is a market's own."""
    decider, markets = Decider(Scripted), {t: Market(t) for t in ("A-USD", "B-USD")}
    made = []
    for market in markets.values():
        decider.strategy.wants = [1_000.0]  # type: ignore[attr-defined]
        made += decider.step(market.scored(0))

    assert [(one.ticker, one.target_usdc) for one in made] == [("A-USD", 1e3), ("B-USD", 1e3)]


def test_the_first_dropped_target_has_the_reason_and_the_next_to_pass_the_number():
    """A flood of targets makes two lines, not a thousand."""
    desk = Desk()
    desk.want(0, 1_000)
    desk.hold(1_000)

    flood = [one for at in range(1, 30) for one in desk.want(at, 2_000)]
    [passed] = desk.want(30, 2_000)

    assert [one.action for one in flood] == ["hold"]
    assert passed.reasons == ("because", "29 targets were dropped since the last that passed")


def test_the_same_target_again_waits_for_the_debounce():
    """A position that was cut or drifted is not topped up at once; another target may pass."""
    desk = Desk()
    desk.want(0, 1_000)
    desk.hold(900)

    again = desk.want(59, 1_000)
    other = desk.want(59, 1_200)
    desk.hold(700)
    later = desk.want(119, 1_200)

    assert first_reason(again) == "the same target 59 s ago < 60 s"
    assert (targets(other), targets(later)) == ([1_200], [1_200])


def test_what_is_held_to_five_per_cent_is_held():
    """A trade of less is not worth its fee, whenever it comes."""
    desk = Desk()
    desk.hold(1_000)

    assert first_reason(desk.want(0, 1_050)) == "+1,000 USDC are held already"
    assert targets(desk.want(1, 1_060)) == [1_060]


def test_nothing_is_to_be_done_about_nothing():
    """A strategy that wants 0 of everything all the time bothers nobody."""
    assert first_reason(Desk().want(0, 0.0)) == "nothing is held"


def test_while_an_order_is_in_flight_nothing_is_added():
    """Its reason has how much is on its way; when it has filled or ended the way is free."""
    desk = Desk(Pace(throttle_s=0, debounce_s=0))
    desk.want(0, 1_000)
    desk.become("approved", 0, usdc=1_000, open_usdc=1_000)

    waiting = desk.want(1, 2_000)
    desk.become("filled", 2, usdc=1_000)
    desk.hold(1_000)

    assert first_reason(waiting) == "an order for +1,000 USDC is in flight"
    assert targets(desk.want(2, 2_000)) == [2_000]


@pytest.mark.parametrize(
    ("kind", "fields", "refusal"),
    [
        ("denied", {"reason": "MARGIN", "why": "needs more"}, "refused MARGIN (needs more)"),
        ("expired", {"usdc": 1.0, "why": "1 of 2"}, "expired (1 of 2)"),
    ],
)
def test_what_was_refused_is_retried_after_ever_longer_waits(kind, fields, refusal):
    """10 s, 20 s, 40 s; each retry names which it is and how the last one ended."""
    desk, passed = Desk(Pace(throttle_s=0)), []
    for at in range(80):
        made = desk.want(at, 1_000)
        if targets(made):
            passed.append((at, *made[0].reasons[1:2]))
            desk.become(kind, at, **fields)

    assert passed == [
        (0,),
        (10, f"retry 1 after 10 s: {refusal}"),
        (30, f"retry 2 after 20 s: {refusal}"),
        (70, f"retry 3 after 40 s: {refusal}"),
    ]


def test_a_refused_target_names_what_it_waits_for():
    """The refusal, when it was, and the wait."""
    desk = Desk()
    desk.want(0, 1_000)
    desk.become("denied", 0, reason="LEVERAGE", why="leverage would be 6.00, limit 5")

    waits = "refused LEVERAGE (leverage would be 6.00, limit 5), 3 s ago < 10 s before retry"
    assert first_reason(desk.want(3, 1_000)) == waits


def test_the_waits_have_an_end_and_begin_again():
    """After the longest one it is another market."""
    desk, passed = Desk(Pace(throttle_s=0, back_off_s=10, back_off_most_s=40)), []
    for at in range(0, 140):
        if targets(desk.want(at, 1_000)):
            passed.append(at)
            desk.become("denied", at, reason="STALE", why="old")

    assert passed == [0, 10, 30, 70, 110]


def test_what_was_refused_while_nothing_may_enter_rests_until_something_may():
    """Once a closure: its reason is named, exits pass, and then it is a retry as any other."""
    desk, passed = Desk(Pace(throttle_s=0)), []
    for at in range(0, 4_000, 10):
        desk.account.closed = at < 1_000 or 2_000 <= at < 3_000
        if targets(made := desk.want(at, 1_000)):
            passed.append(at)
            desk.become("denied", at, reason="DAILY_LOSS", why="until 00:00 UTC")
        elif at == 10:
            waits = "refused DAILY_LOSS (until 00:00 UTC), no retry before anything may enter"
            assert first_reason(made) == waits

    assert [at for at in passed if at < 1_000] == [0]
    assert passed[1] == 1_000
    assert len([at for at in passed if 2_000 <= at < 3_000]) == 1
    assert passed[-1] > 3_000
    desk.account.closed = True
    desk.hold(1_000)
    assert targets(desk.want(4_000, 0)) == [0]


def test_a_strategy_that_never_waits_may_be_refused_for_ever():
    """A whole crash is thousands of refusals, and none of them is an error."""
    desk, passed = Desk(Pace(throttle_s=0, debounce_s=0, back_off_s=0)), 0
    for at in range(1_200):
        passed += bool(targets(desk.want(at, 1_000)))
        desk.become("denied", at, reason="HALTED", why="halted")

    assert passed == 1_200


def test_a_fill_ends_the_back_off():
    """What passed once is not held against the next."""
    desk = Desk(Pace(throttle_s=0))
    desk.want(0, 1_000)
    desk.become("denied", 0, reason="STALE", why="old")
    desk.want(10, 1_000)
    desk.become("approved", 10, usdc=1_000, open_usdc=1_000)
    desk.become("filled", 11, usdc=1_000)
    desk.hold(1_000)

    [grown] = desk.want(12, 2_000)

    assert grown.reasons == ("because",)


@pytest.mark.parametrize("cut", ["GUARD", "LIQUIDATED"])
def test_after_a_cut_nothing_grows_for_a_while_in_any_market(cut):
    """The margin is shared, and what is bought back at once pays the exit twice."""
    desk = Desk()
    outcome = {"decision": "", "ticker": "ETH-USD", "kind": "cut", "usdc": -500.0, "seq": 1}
    desk.decider.step(Outcome(**outcome, at=stamp(0), reason=cut))  # type: ignore[arg-type]

    early, late = desk.want(299, 1_000), desk.want(300, 1_000)

    assert first_reason(early) == f"ETH-USD was cut 299 s ago < 300 s of cool-down ({cut})"
    assert targets(late) == [1_000]


# === What shrinks ===


def test_a_turn_closes_at_once_and_enters_the_other_side_later():
    """The near half takes risk away, the far half adds it."""
    desk = Desk()
    desk.want(0, 1_000)
    desk.hold(1_000)

    [closed] = desk.want(1, -1_000)
    desk.hold(0)
    early, late = desk.want(2, -1_000), desk.want(31, -1_000)

    assert closed.target_usdc == 0
    assert closed.reasons[1] == (
        "closes first, the other side waits: last target 1 s ago < 30 s between two"
    )
    assert targets(early) == []
    assert targets(late) == [-1_000]


def turning(desk: Desk) -> Decision:
    """Decide once to go from a long to a short; return the close, approved and on its way."""
    desk.hold(1_000)
    [closed] = desk.want(0, -1_000)
    desk.become("approved", 0, usdc=-1_000, open_usdc=-1_000)
    return closed


def test_a_turn_is_two_decisions_and_the_second_follows_the_first():
    """Not while the close is on its way, and once: the pace was kept by the turn as a whole."""
    desk = Desk()
    closed = turning(desk)
    during = desk.want(1)
    desk.become("filled", 2, usdc=-1_000)
    desk.hold(0)
    then, later = desk.want(3), desk.want(4)

    assert (closed.id, closed.target_usdc) == ("D1", 0)
    assert closed.reasons[1] == "closes first, the other side follows when what is held is closed"
    assert (during, later) == ([], [])
    [opened] = then
    assert (opened.id, opened.target_usdc, opened.previous_usdc) == ("D2", -1_000, 0)
    assert opened.at == stamp(3)
    assert opened.reasons == ("because", "the other side of a turn: what was held is closed")


def test_a_turn_whose_near_side_is_open_holds_up_no_other():
    """Two markets turn; the second closes first and enters its other side."""
    strategy, markets = Scripted(), {ticker: Market(ticker) for ticker in ("BTC-USD", "ETH-USD")}
    decider, account = Decider(lambda: strategy), Account(BTC_USD=1_000, ETH_USD=1_000)
    decider.step(account.held)
    for market in markets.values():
        strategy.wants = [-1_000]
        assert targets(decider.step(market.scored(0))) == [0]
    account.usdc["ETH-USD"] = 0.0
    decider.step(account.held)

    [far] = decider.step(markets["ETH-USD"].scored(1))

    assert (far.ticker, far.target_usdc) == ("ETH-USD", -1_000)


def test_a_turn_of_cents_is_a_turn():
    """However little is held, no one order closes it and opens the other side."""
    desk = Desk()
    desk.hold(0.8)

    assert targets(desk.want(0, -0.5)) == [0]


def test_the_close_of_a_turn_takes_no_price_but_a_bounded_one():
    """A target of 0 at urgency 1 leaves at any price; a turn, however urgent, is none."""
    desk = Desk()
    desk.strategy.urgency = 1.0
    turned = turning(desk)
    left = Desk()
    left.strategy.urgency = 1.0
    left.hold(1_000)
    [closed] = left.want(0, 0)

    assert (turned.target_usdc, turned.urgency) == (0, 0.9)
    assert (closed.target_usdc, closed.urgency) == (0, 1.0)


def test_who_decides_on_a_turn_at_every_look_gets_the_same():
    """The newest size is what is opened."""
    desk = Desk()
    turning(desk)
    during = desk.want(1, -1_500)
    desk.become("filled", 2, usdc=-1_000)
    desk.hold(0)

    assert first_reason(during) == "an order for -1,000 USDC is in flight"
    assert targets(desk.want(3, -2_000)) == [-2_000]


@pytest.mark.parametrize("kind", ["denied", "expired", "cut"])
def test_a_turn_whose_close_fails_is_over(kind: str):
    """What is left of the position is the strategy's to decide on again."""
    desk = Desk()
    turning(desk)
    desk.become(kind, 1, usdc=-400)
    desk.hold(0)

    assert desk.want(2) == []


@pytest.mark.parametrize("instead", [0, 500])
def test_a_turn_is_over_when_something_else_is_decided(instead: float):
    """The newest decision is the one that counts."""
    desk = Desk()
    turning(desk)
    desk.want(1, instead)
    desk.become("filled", 2, usdc=-1_000)
    desk.hold(0)

    assert desk.want(3) == []


def test_after_a_cut_the_far_side_of_a_turn_cools_down():
    """The margin is shared: the cut was in another market."""
    desk = Desk()
    turning(desk)
    cut = {"decision": "", "ticker": "ETH-USD", "kind": "cut", "usdc": -500.0, "seq": 1}
    desk.decider.step(Outcome(**cut, at=stamp(1), reason="GUARD"))  # type: ignore[arg-type]
    desk.become("filled", 2, usdc=-1_000)
    desk.hold(0)

    held = desk.want(3)

    assert first_reason(held) == "ETH-USD was cut 2 s ago < 300 s of cool-down (GUARD)"
    assert desk.want(400) == []


@pytest.mark.parametrize("target", [0, 400, -1_000])
def test_a_market_that_takes_no_orders_is_not_asked_for_an_exit(target: float):
    """One hold with the reason, and the exit when the status allows it."""
    desk = Desk()
    desk.hold(1_000)
    desk.market.trading(0, status="FINAL_SETTLEMENT")

    first, second = desk.want(1, target), desk.want(2, target)
    desk.market.trading(3, status="ACTIVE")

    assert first_reason(first) == "cannot be closed: the status is FINAL_SETTLEMENT"
    assert second == []
    assert targets(desk.want(4, target)) == [max(target, 0)]


def test_a_close_that_is_on_its_way_is_not_sent_again():
    """Until it has ended: what is left then may be closed at once."""
    desk = Desk()
    desk.hold(1_000)
    desk.want(0, 0)
    desk.become("approved", 0, usdc=-1_000, open_usdc=-1_000)

    during, turned = desk.want(1, 0), desk.want(1, -1_000)
    desk.become("expired", 2, usdc=-400, why="part")
    desk.hold(400)

    assert first_reason(during) == "an order for -1,000 USDC is in flight"
    assert turned == []
    assert targets(desk.want(2, 0)) == [0]


happens = st.one_of(
    st.tuples(st.just("want"), st.floats(-5_000, 5_000)),
    st.tuples(st.just("want"), st.sampled_from([0.0, 1_000.0, -1_000.0])),
    st.tuples(st.just("hold"), st.sampled_from([0.0, 400.0, 1_000.0, 1_020.0, -1_000.0, 3_000.0])),
    st.tuples(st.just("approved"), st.floats(-3_000, 3_000)),
    st.tuples(st.sampled_from(["denied", "filled", "expired", "cut"]), st.just(0.0)),
)
paces = st.builds(
    Pace,
    throttle_s=st.floats(0, 100),
    debounce_s=st.floats(0, 100),
    same_share=st.floats(0, 0.5),
    back_off_s=st.floats(0, 100),
    cool_down_s=st.floats(0, 400),
)


@settings(max_examples=300)
@given(paces, st.lists(st.tuples(st.floats(-2, 30), happens), max_size=30))
def test_no_pace_delays_what_lowers_a_position_or_changes_its_size(pace, events):
    """Towards zero it passes at once and whole; of a turn the near half does.

    The one exception is no delay: an order towards that very target is under way already.
    """
    desk, at = Desk(pace), 0.0
    on_its_way: dict[str, float] = {}
    for passed, (what, figure) in events:
        at = max(at + passed, 0.0)
        if what == "hold":
            desk.hold(figure)
        elif what != "want":
            desk.become(what, at, usdc=figure, open_usdc=figure)
            if what != "cut":
                on_its_way[desk.last] = figure
        elif (held := desk.account.usdc.get(TICKER, 0.0)) * figure < 0 or abs(figure) < abs(held):
            target = figure if figure * held >= 0 else 0.0
            leaving = sum(on_its_way.values())
            under_way = (
                leaving * held < 0
                and max(abs(held) - abs(leaving), 0)
                <= abs(target) + abs(pace.same_share * held) + 1e-9
            )
            made = [(one.action, one.target_usdc) for one in desk.want(at, figure)]
            assert under_way or made in ([("target", figure)], [("target", target)])
        else:
            desk.want(at, figure)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(0, 20), st.floats(-5_000, 5_000)), max_size=40))
def test_whatever_a_strategy_wants_it_adds_no_more_often_than_its_pace(wanted):
    """Each target that passes is held at once; two that add are a throttle apart."""
    desk, at, added = Desk(), 0.0, []
    for passed, figure in wanted:
        at += passed
        for one in desk.account.take(desk.want(at, figure)):
            turns = one.target_usdc * one.previous_usdc < 0
            if turns or abs(one.target_usdc) > abs(one.previous_usdc):
                added.append(one.at)

    assert all(b - a >= 30 * SECOND for a, b in pairwise(added))


# === Settings ===


def test_a_strategy_may_have_a_pace_of_its_own():
    """Whoever writes one down means it."""
    desk = Desk(Pace(throttle_s=5))
    desk.want(0, 1_000)
    desk.hold(1_000)

    assert targets(desk.want(5, 2_000)) == [2_000]


def test_a_pace_that_is_none_is_refused():
    """A number is no pace."""

    class Hasty(Scripted):
        pace = 5

    with pytest.raises(
        StrategyError, match=r"expected the pace of scripted to be a Pace, .* a int"
    ):
        Decider(Hasty)


def test_an_approval_is_no_fill_and_ends_no_back_off():
    """Denied, approved, expired: the second refusal in a row waits twice as long."""
    desk = Desk(Pace(throttle_s=0, debounce_s=0, back_off_s=10))
    desk.want(0, 1_000)
    desk.become("denied", 0, reason="MARGIN", why="too little")
    desk.want(11, 1_000)
    desk.become("approved", 11, usdc=1_000.0, open_usdc=1_000.0)
    desk.become("expired", 12, usdc=1_000.0)

    assert "10 s ago < 20 s before retry" in first_reason(desk.want(22, 1_000))


@pytest.mark.parametrize("name", Pace.model_fields)
def test_a_pace_may_be_any_fraction_of_a_second_or_none_and_is_never_negative(name: str):
    """Zero switches a wait off; below it there is nothing to mean."""
    for meant in (0.0, 0.5):
        assert getattr(Pace(**{name: meant}), name) == meant
    for wrong in (-0.001, float("inf"), float("nan")):
        with pytest.raises(ValidationError):
            Pace(**{name: wrong})


@pytest.mark.parametrize("wrong", [{"throttle_s": -1}, {"same_share": 1}, {"patience": 1}])
def test_a_pace_that_cannot_be_meant_is_refused(wrong):
    """As settings are."""
    with pytest.raises(ValidationError):
        Pace(**wrong)


def test_each_number_of_a_pace_has_its_reason():
    """The reason stands beside it, where a person looks it up."""
    assert all(len(field.description or "") > 40 for field in Pace.model_fields.values())


def test_a_hold_of_a_users_own_passes_and_repeats_what_is_held():
    """Whatever its target: nothing was wanted."""
    desk = Desk()
    desk.hold(500)
    desk.decider.step(desk.account.held)
    scored = desk.market.scored(0)
    hold = msgspec.structs.replace(Decision.of(scored, 7.0, "nothing"), action="hold")
    desk.strategy.step = lambda *_: [hold]  # type: ignore[method-assign]

    [made] = desk.decider.step(scored)

    assert (made.action, made.target_usdc, made.previous_usdc) == ("hold", 500, 500)


# === Intents ===


class Patient(Scripted):
    """Want targets with an entry that waits, or prices to leave at."""

    def __init__(self) -> None:
        super().__init__()
        self.intent: dict[str, Any] = {}

    def step(self, scored: Scored, held: Holdings) -> Iterable[Decision]:
        """Decide on each of the targets, once, as it is meant."""
        wants, self.wants = self.wants, []
        return [Decision.of(scored, usdc, "because", **self.intent) for usdc in wants]


class Waiting(Desk):
    """A desk whose strategy says how it enters and leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.strategy = self.patient = Patient()
        self.decider = Decider(lambda: self.patient)

    def mean(self, at: float, target: float, **intent: Any) -> list[Decision]:
        """Let the strategy want a target, entered and left so."""
        self.patient.intent = intent
        return self.want(at, target)


MAKE: dict[str, Any] = {"entry": "make", "patience_s": 20.0}


def test_what_waits_for_its_price_can_be_taken_back() -> None:
    """By a target of what is held; a take that is on its way comes too soon for that."""
    desk = Waiting()
    assert targets(desk.mean(0, 1_000.0, **MAKE)) == [1_000.0]
    desk.become("approved", 0, usdc=1_000.0, open_usdc=1_000.0)

    [back] = desk.mean(1, 0.0)
    assert (back.action, back.target_usdc, back.previous_usdc) == ("target", 0.0, 0.0)
    assert back.reasons[-1] == "what waits for its price is taken back"

    taking = Waiting()
    taking.mean(0, 1_000.0)
    taking.become("approved", 0, usdc=1_000.0, open_usdc=1_000.0)
    assert first_reason(taking.mean(1, 0.0)) == "nothing is held"


def test_an_entry_that_waited_in_vain_is_no_refusal() -> None:
    """It was to wait so long and no longer: the next keeps the pace alone."""
    desk = Waiting()
    desk.mean(0, 1_000.0, **MAKE)
    desk.become("approved", 0, usdc=1_000.0, open_usdc=1_000.0)
    desk.become("expired", 31, usdc=1_000.0)
    assert targets(desk.mean(32, 2_000.0, **MAKE)) == [2_000.0]

    taking = Waiting()
    taking.mean(0, 1_000.0)
    taking.become("approved", 0, usdc=1_000.0, open_usdc=1_000.0)
    taking.become("expired", 31, usdc=1_000.0)
    assert "before retry" in first_reason(taking.mean(32, 2_000.0))


def test_where_to_leave_moves_without_a_trade() -> None:
    """What is held is the target then; the same prices again are no news, and it keeps the pace."""
    desk = Waiting()
    desk.mean(0, 1_000.0, stop_loss=90.0)
    desk.become("filled", 1, usdc=1_000.0)
    desk.hold(990.0)
    assert first_reason(desk.mean(2, 1_000.0, stop_loss=90.0)) == "+990 USDC are held already"

    desk = Waiting()
    desk.mean(0, 1_000.0, stop_loss=90.0)
    desk.become("filled", 1, usdc=1_000.0)
    desk.hold(990.0)
    assert "between two" in first_reason(desk.mean(2, 1_000.0, stop_loss=95.0))
    [moved] = desk.mean(31, 1_000.0, stop_loss=95.0)
    assert (moved.action, moved.target_usdc, moved.previous_usdc) == ("target", 990.0, 990.0)
    assert moved.stop_loss == 95.0


def test_a_position_that_was_found_can_be_given_brackets_at_once() -> None:
    """Nothing was decided about it before: there is no pace to keep."""
    desk = Waiting()
    desk.hold(1_000.0)

    [moved] = desk.mean(0, 1_000.0, take_profit=120.0)
    assert (moved.target_usdc, moved.take_profit) == (1_000.0, 120.0)

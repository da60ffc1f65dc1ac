"""Several strategies on one account: shares that add up, limits that hold, and who has what."""

import math
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from dydx_strategy import (
    Allocation,
    Allocator,
    AllocatorSettings,
    Decision,
    Outcome,
    Pairs,
    RankAndTarget,
    Reversion,
    Sniper,
    Stake,
    StakesLeft,
    StrategyError,
    load_strategy,
    share_out,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from market import START
from street import Prices, Street, held, words
from test_strategies import PAIR, apart, still

BTC, ETH = "BTC-USD", "ETH-USD"


class Scripted:
    """Decide on what a test has it want, once a second for each market."""

    name = "scripted"

    def __init__(self, *plan: tuple[int, str, float], **fields: Any) -> None:
        self.plan, self.fields = [*plan], fields
        self.learnt: list[Outcome] = []
        self.seen: dict[str, float] = {}
        self.equity: float | None = None

    def step(self, scored, held):
        self.seen = {ticker: round(one.usdc) for ticker, one in held.items()}
        self.equity = held.equity_usdc
        second = (scored.at - START) // 10**9
        for row in [row for row in self.plan if row[0] <= second and row[1] == scored.ticker]:
            self.plan.remove(row)
            yield Decision.of(scored, row[2], f"wants {row[2]:g}", **self.fields)

    def learn(self, outcome: Outcome) -> None:
        self.learnt.append(outcome)


# What bounds nothing, so that a test sees one thing at a time.
WIDE: dict[str, Any] = {
    "gross_share": 99.0, "net_share": 99.0, "market_share": 99.0, "cluster_share": 99.0,
    "volatility_1h": 99.0, "drawdown_share": 0.9, "throttle_s": 0.0, "debounce_s": 0.0,
}  # fmt: skip


def several(*strategies: Any, weights: Iterable[float] = (), **limits: Any) -> Allocator:
    """Put strategies on one account."""
    parts = [*weights] or [1.0] * len(strategies)
    rows = tuple(
        Allocation(use="rank", name=f"s{number}", weight=weight)
        for number, weight in enumerate(parts)
    )
    return Allocator(AllocatorSettings(strategies=rows, **{**WIDE, **limits}), strategies)


def at_100(_: int) -> dict[str, float]:
    """Both stand still."""
    return {BTC: 100.0, ETH: 10.0}


def stakes(allocator: Allocator, ticker: str = BTC) -> list[float]:
    """Return what each has of a market, in USDC at the price of `at_100`."""
    unit = {BTC: 100.0 * 1e-10, ETH: 10.0 * 1e-9}[ticker]
    return [
        round(row.stakes[ticker].quantums * unit, 2) if ticker in row.stakes else 0.0
        for row in allocator.results()
    ]


# === Shares ===


numbers = st.integers(0, 10**15)


@given(
    st.integers(-(10**20), 10**20),
    st.lists(numbers, min_size=1, max_size=6) | st.lists(st.integers(-(10**15), 10**15)),
)
def test_shares_add_up_and_none_is_off_by_a_whole(total, parts):
    """To the quantum, on the side of its part, and nothing for who has no part."""
    if not sum(parts):
        with pytest.raises(ValueError, match="expected parts that do not add up to 0"):
            share_out(total, parts)
        return
    shares = share_out(total, parts)

    assert sum(shares) == total
    assert all(s * total * p * sum(parts) >= 0 for s, p in zip(shares, parts, strict=True))
    assert all(
        abs(s * sum(parts) - total * p) < abs(sum(parts))
        for s, p in zip(shares, parts, strict=True)
    )
    assert all(part or not share for share, part in zip(shares, parts, strict=True))


# === Netting ===


def test_targets_are_netted_and_what_is_against_each_other_changes_hands_inside():
    """+1,000 and -400 are one order for 600; the rest is between the two, at the middle."""
    one, other = Scripted((5, BTC, 1_000.0)), Scripted((5, BTC, -400.0))
    allocator = several(one, other)
    street = Street(allocator, BTC)

    assert street.targets(8, at_100) == [600.0]
    assert stakes(allocator) == [1_000.0, -400.0]
    assert street.held[BTC].usdc == pytest.approx(600.0)
    assert (one.seen, other.seen) == ({BTC: 1_000}, {BTC: -400})


def test_each_decides_by_its_part_of_the_equity():
    """Three to one."""
    one, other = Scripted(), Scripted()
    Street(several(one, other, weights=(3.0, 1.0)), BTC).run(3, at_100)

    assert (one.equity, other.equity) == (7_500.0, 2_500.0)


def test_a_fill_is_shared_by_what_each_still_wants():
    """Two want 600 and 300, half of it fills: 300 and 150; the rest is given up."""
    one, other = Scripted((5, BTC, 600.0)), Scripted((5, BTC, 300.0))
    allocator = several(one, other)
    street = Street(allocator, BTC)
    street.run(4, at_100)
    street.dead.add(BTC)
    [decision] = [d for d in street.run(1, at_100) if d.action == "target"]
    street.dead.clear()
    street._coming.clear()
    street.tell(decision, "filled", quantums=450 * 10**8, cash=-450 * 10**6, fee=225_001)
    street.tell(decision, "expired", why="half did not fill")

    assert stakes(allocator) == [300.0, 150.0]
    assert [row.stakes[BTC].fees for row in allocator.results()] == [150_001, 75_000]
    assert [outcome.kind for outcome in one.learnt] == ["filled", "expired"]
    assert street.targets(5, at_100) == []


def test_a_cut_is_borne_by_what_each_holds_of_that_side():
    """A guard sells 450 of 900: each half of its own; a bystander learns of nothing."""
    one, other, none = Scripted((5, BTC, 600.0)), Scripted((5, BTC, 300.0)), Scripted()
    allocator = several(one, other, none)
    street = Street(allocator, BTC)
    street.run(8, at_100)
    cut = Outcome(
        decision="", ticker=BTC, kind="cut", seq=1, at=1, quantums=-450 * 10**8,
        cash=450 * 10**6, fee=0, reason="GUARD",
    )  # fmt: skip
    allocator.learn(cut)

    assert stakes(allocator) == [300.0, 150.0, 0.0]
    assert one.learnt[-1] == cut
    assert none.learnt == []


def test_what_nobody_holds_or_wants_is_nobodys():
    """A fill that comes from nowhere is counted, and nobody's."""
    allocator = several(Scripted())
    fill = {"quantums": 7, "cash": -5, "fee": 1}
    allocator.learn(Outcome(decision="", ticker=BTC, kind="filled", seq=1, at=1, **fill))  # type: ignore[arg-type]

    assert (allocator.nobody[BTC].quantums, allocator.nobody[BTC].cash) == (7, -5)


def test_what_is_found_belongs_to_the_first_that_trades_the_market():
    """The second, where the first is limited to another market."""
    rows = (
        Allocation(use="rank", name="a", markets=(ETH,)), Allocation(use="rank", name="b"),
    )  # fmt: skip
    allocator = Allocator(
        AllocatorSettings(strategies=rows, **WIDE), [Scripted(), Scripted((9, BTC, 0.0))]
    )
    street = Street(allocator, BTC)
    street.run(1, at_100)
    street.held[BTC] = held(BTC, 500.0, 100.0)
    street.decider = street.decider
    allocator._found = None
    street.run(1, at_100)

    assert stakes(allocator) == [0.0, 500.0]
    assert street.targets(12, at_100) == [0.0]


@settings(max_examples=30)
@given(
    st.dictionaries(st.sampled_from(["", "s0", "s1", "gone"]), st.integers(-9, 9)),
    st.integers(-20, 20),
)
def test_what_was_left_is_whose_it_was_and_adds_up_to_what_is_found(had, units):
    """To the quantum, whatever was closed or bought while no bot ran, and whoever is gone."""
    one, other = Scripted(), Scripted()
    allocator = several(one, other)
    allocator.recall({
        title: StakesLeft(stakes={BTC: Stake(quantums=n * 10**10, cash=-n, fees=1, entry=1.0)})
        for title, n in had.items()
    })  # fmt: skip
    street = Street(allocator, BTC)
    if units:
        street.held[BTC] = held(BTC, units * 100.0, 100.0)
    street.run(2, at_100)

    rows = [row.stakes.get(BTC, Stake()) for row in allocator.results()]
    rows.append(allocator.nobody.get(BTC, Stake()))
    assert sum(row.quantums for row in rows) == units * 10**10
    assert sum(row.fees for row in rows) == len(had)
    if sum(had.values()) == units:
        owed = had.get("gone", 0)
        expected = [had.get("s0", 0) + owed, had.get("s1", 0), had.get("", 0)]
        assert [row.quantums for row in rows] == [n * 10**10 for n in expected]


def test_a_strategy_that_rested_rests_in_the_next_run_too():
    """Until its time is over; its best is what it was, and what it leaves is the same again."""
    allocator = several(Scripted((0, BTC, 500.0)), Scripted((0, BTC, 300.0)))
    row = StakesLeft(
        stakes={BTC: Stake(cash=-50, fees=2, funding=3)}, best_usdc=7.0,
        rests_until=START + 10 * 10**9, state="rests: 5 USDC below",
    )  # fmt: skip
    left = {"": StakesLeft(), "s0": row, "s1": StakesLeft()}
    allocator.recall(left)
    assert allocator.left == left

    street = Street(allocator, BTC)
    street.run(5, at_100)
    assert [one.state for one in allocator.results()] == ["rests: 5 USDC below", "trades"]
    assert allocator.results()[0].best_usdc == 7.0
    street.run(10, at_100)
    assert allocator.results()[0].state == "trades"


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([BTC, ETH]), st.integers(-3_000, 3_000), st.integers(-3_000, 3_000)
        ),
        max_size=8,
    ),
    st.sets(st.integers(0, 7)),
)
def test_what_all_have_adds_up_to_what_was_filled(plan, dead):
    """Whatever they want, and whatever of it fails: whole quantums, cash and fees."""
    one = Scripted(*((3 * n, row[0], float(row[1])) for n, row in enumerate(plan)))
    other = Scripted(*((3 * n, row[0], float(row[2])) for n, row in enumerate(plan)))
    allocator = several(one, other)
    street = Street(allocator, BTC, ETH)
    for number in range(8):
        street.dead = {BTC, ETH} if number in dead else set()
        street.run(3, at_100)
    street.dead = set()
    street.run(3, at_100)
    rows = [*(row.stakes for row in allocator.results()), allocator.nobody]
    paid = sum(stake.fees - stake.cash for row in rows for stake in row.values())

    assert paid == street.paid
    for ticker, unit in ((BTC, 1e-10), (ETH, 1e-9)):
        quantums = sum(row[ticker].quantums for row in rows if ticker in row)
        size = float(street.held[ticker].size) if ticker in street.held else 0.0
        assert quantums == round(size / unit)


# === Limits ===


amounts = st.floats(-20_000, 20_000).map(lambda usdc: round(usdc, 2))
wanted = st.dictionaries(st.sampled_from(["A", "B", "C", "D"]), amounts, max_size=4)


@pytest.mark.parametrize("known", [False, True])
def test_what_is_allowed_is_within_every_limit_and_turns_no_side(known):
    """Whatever they want: market, cluster, net, gross, and each one's deviation of an hour."""
    from dydx_strategy import _Risks, allocate  # their own values, to be called directly

    limits = AllocatorSettings(
        strategies=(Allocation(use="rank", name="x"), Allocation(use="rank", name="y"))
    )
    risks = _Risks(limits)
    risks.watched |= {"A", "B", "C", "D"}
    if known:
        _teach(risks)

    @settings(max_examples=50)
    @given(wanted, wanted)
    def holds(one, other):
        wants, parts = {"x": one, "y": other}, {"x": 5_000.0, "y": 5_000.0}
        made, why = allocate(wants, parts, 10_000.0, risks, limits, {})
        net = {t: math.fsum(row.get(t, 0.0) for row in made.values()) for t in why}

        assert all(abs(usdc) <= 4_000.001 for usdc in net.values())
        assert abs(math.fsum(net.values())) <= 8_000.001
        assert math.fsum(map(abs, net.values())) <= 10_000.001
        for group in risks.clusters(net):
            assert len(group) == 1 or abs(math.fsum(net[t] for t in group)) <= 6_000.001
        for title, want in wants.items():
            # A market's limit may take a hedge away after that.
            if not any(cut.startswith("cut to") for cuts in why.values() for cut in cuts):
                assert risks.deviation_usdc(made[title]) <= 50.001
            for ticker, usdc in want.items():
                assert 0.0 <= made[title][ticker] * usdc <= usdc * usdc
        cut = {
            t
            for row, want in zip(made.values(), wants.values(), strict=True)
            for t in want
            if row[t] != want[t]
        }
        assert {ticker for ticker, cuts in why.items() if cuts} >= cut

    holds()


def _teach(risks: Any) -> None:
    """Let A and B move together, C against them, D alone."""
    for number in range(60):
        step, alone = 1e-3 * (-1) ** number, 1e-3 * (-1) ** (number // 2)
        moves = {"A": step, "B": step, "C": -step, "D": alone}
        for one, step_one in moves.items():
            for other, step_other in moves.items():
                if one <= other:
                    risks._add(one, other, step_one * step_other)


def test_markets_that_move_together_are_one_cluster():
    """And a strategy with legs against each other is less at risk than one with both ways alike."""
    street = Street(several(Scripted((5, BTC, 100.0), (5, ETH, 100.0)), sample_s=5.0), BTC, ETH)
    street.run(200, lambda s: {BTC: 100.0 + s // 5 % 2, ETH: 10.0 + 0.1 * (s // 5 % 2)})
    risks = street.strategy._risks  # type: ignore[attr-defined]

    assert risks.clusters([BTC, ETH]) == [{BTC, ETH}]
    assert risks.deviation_usdc({BTC: 100.0, ETH: -100.0}) < 1.0
    assert risks.deviation_usdc({BTC: 100.0, ETH: 100.0}) > 10.0
    assert risks.raw(BTC, "SOL-USD") is None


def test_a_cut_is_in_words():
    """Which limit, how much was wanted, how much there may be."""
    greedy = Scripted(*((5, ticker, 19_000.0) for ticker in (BTC, ETH)))
    street = Street(several(greedy, market_share=0.4, gross_share=0.5, net_share=0.5), BTC, ETH)
    decided = [one for one in street.run(8, at_100) if one.action == "target"]

    assert abs(math.fsum(one.usdc for one in street.held.values())) <= 5_000.01
    assert "cut to 21%: BTC-USD 19,000 > 4,000" in decided[0].reasons
    assert any("net 8,000 > 5,000" in why for why in decided[-1].reasons)


def test_a_deviation_of_an_hour_cuts_a_strategy_as_a_whole():
    """Both legs by as much: 1 % of its part, at 1 % an hour while nothing is known."""
    legs = Scripted((5, BTC, 2_000.0), (5, ETH, -2_000.0))
    street = Street(several(legs, volatility_1h=0.001), BTC, ETH)
    targets = [one for one in street.run(8, at_100) if one.action == "target"]

    assert targets[-1].target_usdc == pytest.approx(-500.0, abs=1)
    assert street.held[BTC].usdc == pytest.approx(500.0, abs=1)
    assert any("s0 cut to 25%: ±40 USDC an hour > 10" in why for why in targets[-1].reasons)
    assert legs.seen == {BTC: 2_000, ETH: -2_000}


def test_what_is_too_little_is_nothing():
    """Less than half a per cent of the equity is not worth a fee."""
    street = Street(several(Scripted((5, BTC, 40.0))), BTC)

    assert street.targets(8, at_100) == []
    assert not street.held


def test_a_strategy_that_loses_is_closed_and_rests_and_begins_again():
    """5 % of its part below its best; the other goes on, and learns of nothing."""
    one, other = Scripted((5, BTC, 4_000.0), (99, BTC, 1_000.0)), Scripted((5, ETH, 500.0))
    allocator = several(one, other, drawdown_share=0.05, drawdown_rest_s=60.0)
    street = Street(allocator, BTC, ETH)
    street.run(8, at_100)
    fallen: Prices = still({BTC: 93.0, ETH: 10.0})
    closed = [d for d in street.run(10, fallen) if d.action == "target"]

    assert [d.target_usdc for d in closed] == [0.0]
    assert closed[0].reasons[0].startswith("s0 rests: 28")
    assert closed[0].urgency == 0.9
    assert {*street.held} == {ETH}
    assert allocator.results()[0].state.startswith("rests: ")
    assert street.targets(110, fallen) == pytest.approx([1_000.0])
    assert allocator.results()[0].state == "trades"


def test_one_alone_enters_in_its_own_way():
    """A bid stays a bid; two that want the same take."""
    bid = Scripted((5, BTC, 1_000.0), entry="make", patience_s=9.0, urgency=0.3)
    [alone] = [d for d in Street(several(bid), BTC).run(6, at_100) if d.action == "target"]
    bid.plan.append((5, BTC, 1_000.0))
    both = several(bid, Scripted((5, BTC, 100.0)))
    [two] = [d for d in Street(both, BTC).run(6, at_100) if d.action == "target"]

    assert (alone.entry, alone.patience_s) == ("make", 9.0)
    assert (two.entry, two.urgency) == ("take", 0.5)
    assert two.target_usdc == pytest.approx(1_100.0)


def test_holds_say_whose_they_are():
    """The reason begins with the strategy's name."""
    street = Street(several(Reversion()), BTC)

    assert {one.split(":")[0] for one in words(street.run(130, at_100))} == {"s0"}


def test_a_pair_keeps_both_legs_when_it_is_cut():
    """It sees what it wanted, holds less of both, and leaves both."""
    allocator = several(Pairs(PAIR), volatility_1h=0.001, sample_s=1e9)
    street = Street(allocator, BTC, ETH)
    targets = [one for one in street.run(900, apart()) if one.action == "target"]

    assert len(targets) >= 4
    assert len(targets) == 2 * len({one.seq for one in targets})
    assert max(abs(one.target_usdc) for one in targets) < 1_000.0
    assert not any("leg" in why and "none" not in why for why in words(targets))


def test_funding_is_shared_by_what_each_has_and_on_which_side():
    """Longs of 1,000 and a short of 400 are paid for 600: what the others pay, the short has."""
    allocator = several(Scripted((5, BTC, 1_000.0)), Scripted((5, BTC, -400.0)))
    street = Street(allocator, BTC)
    street.run(8, at_100)
    facts: dict[str, Any] = {"seq": 1, "at": 1, "decision": ""}
    allocator.learn(Outcome(ticker=BTC, kind="funding", cash=-601, **facts))
    allocator.learn(Outcome(ticker=ETH, kind="funding", cash=5, **facts))

    assert [row.stakes[BTC].funding for row in allocator.results()] == [-1_002, 401]
    assert allocator.nobody[ETH].funding == 5
    assert allocator.results()[0].pnl_usdc == pytest.approx(-0.3 - 0.001002, abs=1e-6)


def test_what_is_found_waits_for_the_account_and_for_a_price():
    """An account that is not known yet, then a market without one: it is somebody's after that."""
    allocator = several(Scripted((9, BTC, 0.0)))
    street = Street(allocator, BTC, equity=None)
    street.run(2, at_100)
    street.held[BTC], street.held[ETH] = held(BTC, 500.0, 100.0), held(ETH, -90.0, 10.0)
    street.equity = 10_000.0
    street.run(2, at_100)

    assert stakes(allocator) == [500.0]
    assert {*(allocator._found or {})} == {ETH}
    assert street.targets(12, at_100) == [0.0]


def test_what_fills_after_it_was_given_up_is_of_who_wanted_it():
    """An order expires, and then fills after all: nobody else has it, and it can be closed."""
    one, other = Scripted((5, BTC, 600.0), (20, BTC, 0.0)), Scripted()
    allocator = several(other, one)
    street = Street(allocator, BTC)
    street.run(4, at_100)
    [decision] = [d for d in street.run(1, at_100) if d.action == "target"]
    street._coming.clear()
    street.tell(decision, "expired", why="cancelled")
    street.tell(decision, "filled", quantums=6 * 10**10, cash=-600 * 10**6, fee=3)
    street.held[BTC] = held(BTC, 600.0, 100.0)

    assert stakes(allocator) == [0.0, 600.0]
    assert not allocator.nobody
    assert street.targets(20, at_100) == [0.0]


def test_what_was_never_sent_is_not_sent_with_anothers_trade():
    """A want that had to wait is over after 15 s: the next trade is the other's alone."""
    waits, trades = Scripted((12, BTC, 600.0)), Scripted((5, BTC, 300.0), (55, BTC, 900.0))
    street = Street(several(waits, trades, throttle_s=40.0), BTC)

    assert street.targets(60, at_100) == pytest.approx([300.0, 900.0])


def test_a_hedge_is_cut_as_one_by_every_limit():
    """A market's limit, what is not worth a fee, and another's trade on one side."""
    from dydx_strategy import _Risks, allocate  # their own values, to be called directly

    limits = AllocatorSettings(strategies=(Allocation(use="rank", name="x"),), volatility_1h=9.0)
    parts, hedges = {"x": 5_000.0, "y": 5_000.0}, {"x": ((BTC, ETH),)}

    @settings(max_examples=80)
    @given(amounts, st.dictionaries(st.sampled_from([BTC, ETH, "D"]), amounts, max_size=3))
    def holds(leg, other):
        wants = {"x": {BTC: leg, ETH: -leg}, "y": other}
        made, why = allocate(wants, parts, 10_000.0, _Risks(limits), limits, hedges)
        net = [math.fsum(row.get(t, 0.0) for row in made.values()) for t in why]

        assert made["x"][BTC] == pytest.approx(-made["x"][ETH])
        assert all(abs(usdc) <= 4_000.001 for usdc in net)
        assert abs(math.fsum(net)) <= 8_000.001
        assert math.fsum(map(abs, net)) <= 10_000.001

    holds()


def test_a_hedge_needs_all_its_markets():
    """One that may trade one leg of two alone is refused, before the first frame."""
    rows = (Allocation(use="pairs", markets=(BTC,)),)
    with pytest.raises(StrategyError, match=r"pairs to trade all its legs, got ETH-USD beside"):
        Allocator(AllocatorSettings(strategies=rows), [Pairs()])


def test_the_farthest_stop_of_a_side_stands_for_all_that_is_held():
    """Whoever moves; a short's stop leaves no long, and one alone takes its profit."""
    one = Scripted((5, BTC, 900.0), stop_loss=90.0, take_profit=130.0)
    other = Scripted((10, BTC, 300.0), (20, BTC, -300.0), stop_loss=80.0)
    short = Scripted((30, BTC, -100.0), stop_loss=120.0)
    street = Street(several(one, other, short), BTC)
    targets = [d for d in street.run(40, at_100) if d.action == "target"]

    assert [(d.target_usdc, d.stop_loss, d.take_profit) for d in targets] == [
        (900.0, 90.0, 130.0), (1_200.0, 80.0, 0.0), (600.0, 90.0, 0.0), (500.0, 90.0, 0.0),
    ]  # fmt: skip


def test_a_loser_that_could_not_be_closed_is_closed_later():
    """Its exit is denied: nobody decides for it while it rests, and it is sent again."""
    allocator = several(Scripted((5, BTC, 4_000.0)), Scripted(), drawdown_share=0.05)
    street = Street(allocator, BTC)
    street.run(8, at_100)
    fallen: Prices = still({BTC: 93.0, ETH: 10.0})
    targets: list[Decision] = []
    while not targets and street.second < 30:
        targets = [d for d in street.run(1, fallen) if d.action == "target"]
    street._coming.clear()
    street.tell(targets[0], "denied", reason="HALTED", why="the market is halted")

    assert street.targets(10, fallen) == [0.0]
    assert not street.held


def test_each_sees_what_it_paid_itself():
    """What changed hands inside has a price, too, and what the account paid is another's."""
    one, other = Scripted((5, BTC, 1_000.0)), Scripted((15, BTC, 1_000.0), (25, BTC, -500.0))
    allocator = several(one, other)
    street = Street(allocator, BTC)
    street.run(10, at_100)
    street.run(30, still({BTC: 110.0}))
    entries = [row.stakes[BTC].entry for row in allocator.results()]

    assert entries == pytest.approx([100e6 * 1e-10, 110e6 * 1e-10])


class Odd(Scripted):
    """Decide as nobody should."""

    def __init__(self, made: Any) -> None:
        super().__init__()
        self.made = made

    def step(self, scored, held):
        return self.made(scored) if callable(self.made) else self.made


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (None, r"got None \(return \(\) to decide nothing\), from s0"),
        (lambda s: [Decision.of(s, math.nan)], "target_usdc is nan, beyond .*, from s0"),
        (lambda s: [Decision.of(s, 1.0, entry="stop")], "patience_s is 0, .*, from s0"),
        ([7], "got a int, from s0"),
    ],
)
def test_what_one_of_several_decides_is_checked_as_if_it_were_alone(made, why):
    """With its name."""
    with pytest.raises(StrategyError, match=why):
        Street(several(Odd(made)), BTC).run(3, at_100)


def test_one_of_several_may_not_trade_elsewhere():
    """A market that is not its own is refused, and a decision without reasons is none the worse."""
    rows = (Allocation(use="rank", name="a", markets=(BTC,)),)
    elsewhere = Odd(lambda s: [msgspec.structs.replace(Decision.of(s, 1e3), ticker=ETH)])
    allocator = Allocator(AllocatorSettings(strategies=rows, **WIDE), [elsewhere])
    with pytest.raises(StrategyError, match="one about ETH-USD, no market of its own, from a"):
        Street(allocator, BTC, ETH).run(3, at_100)
    wordless = Odd(lambda s: [Decision.of(s, 1e3)])
    quiet = Odd(lambda s: [msgspec.structs.replace(Decision.of(s, 1e3), action="hold")])
    decided = Street(several(wordless, quiet), BTC).run(3, at_100)

    assert {d.reasons for d in decided} >= {("s0 +1,000",), ("s1",)}


# === Lists ===


def test_a_list_names_strategies_with_their_weights_and_settings(tmp_path):
    """TOML and JSON alike; what they read is what all of them read."""
    toml = tmp_path / "mix.toml"
    toml.write_text(
        'net_share = 0.5\n[[strategies]]\nuse = "sniper"\nweight = 2\nsettings = {arm = 4.0}\n'
        '[[strategies]]\nuse = "rank"\nmarkets = ["BTC-USD"]\nsettings = {positions = 1}\n'
        '[[strategies]]\nuse = "carry"\n'
    )
    json = tmp_path / "mix.json"
    json.write_text('{"strategies": [{"use": "reversion"}]}')
    mixed, alone = load_strategy(toml)(), load_strategy(str(json))()

    assert isinstance(mixed, Allocator)
    assert isinstance(mixed._children[0].strategy, Sniper)
    assert mixed._children[0].strategy.settings.arm == 4.0
    assert mixed.settings.net_share == 0.5
    assert {*mixed.signals} == {"funding", "liquidity", *RankAndTarget().signals}
    assert [row.title for row in mixed.results()] == ["sniper", "rank", "carry"]
    assert isinstance(alone, Allocator)
    assert mixed is not load_strategy(toml)()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[strategies]]\nuse = 1", r"settings of the allocator .*strategies\.0\.use: .*, got 1"),
        ("strategies = []", "at least 1 item"),
        ("gros_share = 1.0\n[[strategies]]\nuse = 'rank'", "gros_share"),
        ("[[strategies]]\nuse = 'sniper'\nsettings = {arm = -1}", "settings of sniper .*arm: "),
        ("[[strategies]]\nuse = 'rank'\n[[strategies]]\nuse = 'rank'", "a name for each of two"),
        ("[[strategies]]\nuse = 'snipre'", "expected a strategy"),
        (
            "[[strategies]]\nuse = 'mine.py'\nsettings = {a = 1}",
            r"of a built-in .* some of mine\.py",
        ),
        ("strategies = [", "expected a list of strategies in"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(tmp_path, text, why):
    """With the field, what was expected and what it is."""
    file = tmp_path / "mix.toml"
    file.write_text(text)
    with pytest.raises(StrategyError, match=why):
        load_strategy(file)


def test_a_list_that_is_none_is_refused(tmp_path):
    """No file, and a list where a table is expected."""
    with pytest.raises(StrategyError, match=r"expected a list of strategies in .*none\.json"):
        load_strategy(tmp_path / "none.json")
    file = tmp_path / "mix.json"
    file.write_text("[]")
    with pytest.raises(StrategyError, match=r"expected a table with strategies in .* got a list"):
        load_strategy(file)

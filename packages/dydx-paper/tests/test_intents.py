"""How a decision enters and leaves, on a venue: entries wait, brackets stand and go."""

import random

import pytest
from dydx_conn import CONDITIONAL, LONG_TERM
from dydx_risk import Approved, Bracket, Denied, Policy, Reduce, Withdraw
from exchange import USDC
from hypothesis import given, settings
from hypothesis import strategies as st
from intents import POLICY, TICKER, Desk

STOP_AND_PROFIT = {"stop_loss": 49_000.0, "take_profit": 52_000.0}
STANDING = [("STOP_LOSS", "SELL", 1.0, 49_000.0), ("TAKE_PROFIT", "SELL", 1.0, 52_000.0)]


def entered(**intent: object) -> Desk:
    """Return a desk that holds one BTC, its brackets on the venue."""
    desk = Desk()
    desk.decide(1, **(STOP_AND_PROFIT | intent))
    desk.blocks()
    assert desk.held == 1
    return desk


# === Brackets ===


def test_a_stop_and_a_profit_stand_for_what_is_held() -> None:
    """On the venue, reduce-only, for as long as it takes conditional orders."""
    desk = entered()

    assert desk.standing == STANDING
    orders = [one.order for one in desk.verdicts if isinstance(one, Bracket)]
    assert {(order.reduce_only, order.order_flags) for order in orders} == {(True, CONDITIONAL)}
    assert [order.subticks for order in orders] == [4_655_000_000, 5_174_000_000]
    [approved] = [one for one in desk.verdicts if isinstance(one, Approved)]
    assert approved.why.endswith(
        "; a stop loss at 49,000 and a take profit at 52,000 on the venue for all that is held"
    )


@pytest.mark.parametrize(("price", "way"), [(48_900, "stop"), (52_100, "profit")])
def test_the_one_that_fires_takes_the_other_with_it(price: float, way: str) -> None:
    """Nothing is held, and nothing stands that could leave it again."""
    desk = entered()
    desk.move(price)
    desk.blocks(5)

    assert (desk.held, desk.standing, desk.meant) == (0, [], [])
    assert desk.denials() == []


def test_a_shorts_brackets_are_the_mirror() -> None:
    """Its stop is above, its profit below."""
    desk = Desk()
    desk.decide(-1, stop_loss=51_000.0, take_profit=48_000.0)
    desk.blocks()
    assert desk.standing == [
        ("STOP_LOSS", "BUY", 1.0, 51_000.0), ("TAKE_PROFIT", "BUY", 1.0, 48_000.0),
    ]  # fmt: skip

    desk.move(51_100)
    desk.blocks(5)
    assert (desk.held, desk.standing) == (0, [])


def test_brackets_go_with_a_position_that_is_closed() -> None:
    """By a decision of the strategy."""
    desk = entered()
    desk.decide(0)
    desk.blocks(5)

    assert (desk.held, desk.standing) == (0, [])
    withdrawn = [one.why for one in desk.verdicts if isinstance(one, Withdraw)]
    assert withdrawn == [
        f"the {what} is taken back: nothing is held any more"
        for what in ("stop loss", "take profit")
    ]


def test_brackets_are_resized_to_what_is_left() -> None:
    """Of a decision that shrinks, and says again where to leave."""
    desk = entered()
    desk.decide(0.4, previous_usdc=50_000.0, **STOP_AND_PROFIT)
    desk.blocks(5)

    assert desk.held == 0.4
    assert desk.standing == [(kind, side, 0.4, at) for kind, side, _, at in STANDING]


def test_a_target_without_brackets_takes_those_that_stand_back() -> None:
    """They are what the last target says."""
    desk = entered()
    desk.decide(1.5, previous_usdc=50_000.0)
    desk.blocks(5)

    assert (desk.held, desk.standing) == (1.5, [])


def test_what_grows_in_parts_is_covered_in_pieces() -> None:
    """Nothing that covers it is taken away meanwhile; of pieces there are few."""
    desk = Desk()
    for n in range(1, 6):
        desk.decide(n / 10, previous_usdc=n * 5_000 - 5_000.0, stop_loss=49_000.0)
        desk.blocks(4)
        stops = [size for _, _, size, _ in desk.standing]
        assert sum(stops) == pytest.approx(n / 10)
        assert len(stops) <= 3
    assert desk.held == 0.5


def test_a_stop_is_moved_by_a_decision_that_moves_nothing_else() -> None:
    """A target that is held already, with another price to leave at."""
    desk = entered()
    moved = desk.decide(1, previous_usdc=50_000.0, stop_loss=49_500.0, take_profit=52_000.0)
    desk.blocks()

    assert [type(one) for one in moved] == [Withdraw, Bracket]
    assert [(kind, at) for kind, _, _, at in desk.standing] == [
        ("STOP_LOSS", 49_500), ("TAKE_PROFIT", 52_000),
    ]  # fmt: skip


def test_the_guard_reduces_as_if_no_bracket_stood() -> None:
    """In the same step; the brackets are cut to what it leaves."""
    policy = POLICY.model_copy(update={"protect": True, "max_leverage": 2.0})
    desk, bare = Desk(guard=True, policy=policy), Desk(guard=True, policy=policy)
    desk.decide(3.8, stop_loss=30_000.0, take_profit=70_000.0)
    bare.decide(3.8)
    for one in (desk, bare):
        one.blocks()
        for price in (49_000, 48_000, 47_000, 46_000):
            one.move(price)
        one.blocks(6)

    cuts = [[(v.seq, v.order.quantums) for v in each.verdicts if isinstance(v, Reduce)]
            for each in (desk, bare)]  # fmt: skip
    assert cuts[0] == cuts[1] != []
    assert 0 < desk.held < 3.8
    assert [size for _, _, size, _ in desk.standing] == [desk.held, desk.held]


def test_a_bracket_that_the_venue_refuses_is_reported_and_tried_again() -> None:
    """After one block, two, four …: each try counts against the venue's limits."""
    desk = Desk(deposit=15)  # below 20 USDC the venue lets no order stand
    desk.decide(0.0002, stop_loss=49_000.0)
    desk.blocks(20)

    tries = [one for one in desk.verdicts if isinstance(one, Bracket)]
    assert [desk.held, desk.standing, len(tries)] == [0.0002, [], 5]
    assert len(desk.denials()) == 5
    assert desk.denials()[0] == (
        "the stop loss of BTC-USD at 49,000 ended: clob 10001: "
        "ErrOrderWouldExceedMaxOpenOrdersEquityTierLimit"
    )

    desk.venue.deposit(1_000 * USDC)
    desk.blocks(40)
    assert desk.standing == [("STOP_LOSS", "SELL", 0.0002, 49_000.0)]


# === Restart ===


def test_brackets_survive_a_restart_of_the_bot() -> None:
    """They are found by their client ids, and go on as before: not one order is sent."""
    desk = entered()
    sent = len(desk.verdicts)
    desk.restart()
    desk.blocks(5)

    assert desk.standing == STANDING
    assert [one for one in desk.verdicts[sent:] if isinstance(one, Bracket | Withdraw)] == []
    assert desk.risk._upkeep.levels[TICKER].stop_loss == 4_900_000_000

    desk.decide(0.5, previous_usdc=50_000.0, **STOP_AND_PROFIT)
    desk.blocks(5)
    assert desk.standing == [(kind, side, 0.5, at) for kind, side, _, at in STANDING]


def test_what_was_closed_while_no_bot_ran_leaves_no_orphan() -> None:
    """The brackets that are found then leave nothing that is held."""
    desk = entered()
    desk.order("SELL", "1", "49000", client_id=900, reduce_only=True)
    for account_blind in range(3):
        desk.second += account_blind
    desk.restart()
    desk.blocks(5)

    assert (desk.held, desk.standing) == (0, [])


def test_what_was_cut_while_no_bot_ran_is_covered_again() -> None:
    """By brackets at the same prices."""
    desk = entered()
    desk.order("SELL", "0.3", "49000", client_id=900, reduce_only=True)
    desk.restart()
    desk.blocks(5)

    assert desk.standing == [(kind, side, 0.7, at) for kind, side, _, at in STANDING]


def test_an_entry_of_an_earlier_run_does_not_stay() -> None:
    """Nobody knows any more what it was for."""
    desk = Desk()
    desk.decide(1, entry="make", patience_s=600.0)
    desk.blocks()
    assert [kind for kind, *_ in desk.standing] == ["POST_ONLY"]

    desk.restart()
    desk.blocks(5)
    assert (desk.held, desk.standing) == (0, [])


def test_orders_of_somebody_else_are_left_alone() -> None:
    """A stop of the owner's own hand has another client id."""
    desk = entered()
    desk.order(
        "SELL", "1", "47000", client_id=4_000_000_000, good_til_block=0, reduce_only=True,
        good_til_block_time=1_700_100_000, order_flags=CONDITIONAL, condition_type="STOP_LOSS",
        trigger_subticks=4_800_000_000,
    )  # fmt: skip
    desk.restart()
    desk.blocks(3)

    assert len(desk.standing) == 3


# === Entries ===


def test_a_maker_rests_behind_the_best_price_and_is_filled_there() -> None:
    """Post-only and long-term, until its patience is over by the chain's clock."""
    desk = Desk()
    [made] = desk.decide(1, entry="make", entry_offset_bps=10.0, patience_s=60.0)
    assert isinstance(made, Approved)
    order = made.order
    assert (order.time_in_force, order.order_flags) == ("POST_ONLY", LONG_TERM)
    assert order.subticks == 4_994_900_000  # ten bps below the best bid of 49,999, to the tick
    assert "resting as a maker, for 60 s" in made.why

    desk.blocks()
    assert desk.standing == [("POST_ONLY", "BUY", 1.0, 49_949.0)]
    assert desk.risk.valued.reserved.initial_margin > 0
    desk.trade("SELL", 3, 49_940)
    desk.move(49_900)
    assert (desk.held, desk.standing) == (1, [])
    assert desk.risk.account.orders.reserved == {}


def test_a_maker_that_waited_as_long_as_it_was_to_is_gone() -> None:
    """The venue ends it, and what was reserved for it is free again."""
    desk = Desk()
    desk.decide(1, entry="make", patience_s=10.0)
    desk.blocks(3)
    assert len(desk.standing) == 1

    desk.blocks(14)
    assert (desk.standing, desk.risk.account.orders.reserved) == ([], {})


def test_a_maker_that_fills_in_part_is_covered_as_far_as_it_is_filled() -> None:
    """And the collateral for the rest stays reserved."""
    desk = Desk()
    desk.decide(1, entry="make", patience_s=600.0, stop_loss=49_000.0)
    desk.blocks()
    whole = desk.risk.valued.reserved.initial_margin
    desk.book([(49_990, 5)], [(49_999, 0.4)])
    desk.blocks(5)

    assert 0 < desk.held < 1
    assert sum(size for kind, _, size, _ in desk.standing if kind == "STOP_LOSS") == desk.held
    assert desk.risk.valued.reserved.initial_margin == pytest.approx(whole, rel=0.01)


def test_a_stop_entry_takes_once_its_price_has_come() -> None:
    """Upwards for a long; with brackets around its trigger."""
    desk = Desk()
    intent = {"trigger_price": 50_500.0, "patience_s": 600.0}
    [made] = desk.decide(1, entry="stop", stop_loss=50_200.0, **intent)
    assert isinstance(made, Approved)
    assert "once the price rises to 50,500, for 600 s" in made.why
    desk.blocks()
    assert desk.standing == [("IOC", "BUY", 1.0, 50_500.0)]

    desk.move(50_600)
    desk.blocks()
    assert desk.held == 1
    assert desk.standing == [("STOP_LOSS", "SELL", 1.0, 50_200.0)]


@pytest.mark.parametrize(
    ("target", "intent", "why"),
    [
        (1, {"stop_loss": 50_500.0}, "the stop loss 50,500 is not below the oracle price 50,000"),
        (1, {"take_profit": 49_000.0}, "the take profit 49,000 is not above the oracle price"),
        (-1, {"stop_loss": 49_500.0}, "the stop loss 49,500 is not above the oracle price 50,000"),
        (-1, {"take_profit": 50_001.0}, "the take profit 50,001 is not below the oracle price"),
        (
            1,
            {"entry": "stop", "trigger_price": 49_000.0, "patience_s": 9.0},
            "the trigger 49,000 is not above the oracle price 50,000: it would fire at once",
        ),
        (
            -1,
            {"entry": "stop", "trigger_price": 50_001.0, "patience_s": 9.0},
            "the trigger 50,001 is not below the oracle price 50,000: it would fire at once",
        ),
        (
            1,
            {"entry": "make", "patience_s": 9.0, "stop_loss": 49_999.0},
            "the stop loss 49,999 is not below the entry's make 49,999",
        ),
    ],
)
def test_what_the_market_has_made_wrong_is_denied(
    target: float, intent: dict[str, float], why: str
) -> None:
    """With the prices in words; the strategy could not know."""
    [denied] = Desk().decide(target, **intent)

    assert isinstance(denied, Denied)
    assert denied.reason == "INTENT"
    assert why in denied.why


@pytest.mark.parametrize("what", ["halt", "decide", "guard"])
def test_an_entry_that_may_not_stand_is_taken_back(what: str) -> None:
    """When a person halts, when the strategy wants nothing, and when the account is not known."""
    desk = Desk()
    desk.decide(1, entry="make", patience_s=600.0)
    desk.blocks()
    if what == "halt":
        desk.risk.stops.halt("enough")
    elif what == "decide":
        desk.decide(0)
    else:
        desk.risk.account.trouble = "lost"
    desk.blocks(3)

    assert (desk.standing, desk.held) == ([], 0)


def test_an_exit_takes_the_entry_that_rests_beside_it_back() -> None:
    """Or what was left would be bought again."""
    desk = Desk()
    desk.decide(1)
    desk.blocks()
    desk.decide(2, previous_usdc=50_000.0, entry="make", patience_s=600.0)
    desk.blocks()
    assert len(desk.standing) == 1

    verdicts = desk.decide(0, previous_usdc=50_000.0)
    assert [type(one) for one in verdicts] == [Approved, Withdraw]
    desk.blocks(3)
    assert (desk.held, desk.standing) == (0, [])


def test_entries_leave_room_for_brackets_in_the_venues_pace() -> None:
    """It takes 20 orders that stand in 100 blocks."""
    desk = Desk()
    for _ in range(12):
        desk.decide(1, entry="make", patience_s=1.0)
        desk.blocks(4)

    assert desk.denials()[-1] == "10 orders that stand in 100 blocks, limit 10"


# === Whatever happens ===


@settings(max_examples=25)
@given(st.integers(0, 2**32))
def test_what_stands_never_exceeds_what_is_held(seed: int) -> None:
    """In any sequence of entries, exits, fills, cuts, restarts: after each step, and at rest."""
    chance = random.Random(seed)
    policy = Policy(**(POLICY.model_dump() | {"protect": True, "max_leverage": 2.0}))
    desk = Desk(guard=True, policy=policy)
    price = 50_000.0
    for _ in range(12):
        what, previous = chance.random(), desk.held * desk.price
        below, above = (
            price * (1 - chance.uniform(0.002, 0.1)),
            price * (1 + chance.uniform(0.002, 0.1)),
        )
        side = chance.choice((-1, 1)) if not desk.held else (1 if desk.held > 0 else -1)
        size = side * chance.choice((0.3, 1, 2, 3.5))
        brackets = {"stop_loss": below, "take_profit": above}
        if side < 0:
            brackets = {"stop_loss": above, "take_profit": below}
        if chance.random() < 0.3:
            brackets = {}
        if what < 0.4:
            desk.decide(size, previous_usdc=previous, **brackets)
        elif what < 0.5:
            desk.decide(size, previous_usdc=previous, entry="make", patience_s=5.0, **brackets)
        elif what < 0.6:
            desk.decide(0, previous_usdc=previous)
        elif what < 0.65:
            desk.restart()
        elif what < 0.75 and desk.held:
            way = "SELL" if desk.held > 0 else "BUY"
            desk.order(
                way,
                "0.2",
                "40000" if way == "SELL" else "60000",
                reduce_only=True,
                client_id=4_000_000_000 + chance.randrange(10**6),
            )
        else:
            price *= 1 + chance.uniform(-0.04, 0.04)
            desk.move(round(price))
        check(desk)
        desk.blocks(chance.choice((1, 2, 5)))
        check(desk)
    desk.decide(0, previous_usdc=1.0, urgency=1.0)
    desk.blocks(30)
    assert (desk.held, desk.standing, desk.meant) == (0, [], [])


def check(desk: Desk) -> None:
    """Hold what is meant to stand, by the account as it is known, to what is held."""
    held = desk.risk.valued.size(TICKER)
    for kind in ("STOP_LOSS", "TAKE_PROFIT"):
        meant = [bracket for bracket in desk.meant if bracket.kind == kind]
        assert sum(bracket.left for bracket in meant) <= abs(held)
        assert all(bracket.side == ("SELL" if held > 0 else "BUY") for bracket in meant)

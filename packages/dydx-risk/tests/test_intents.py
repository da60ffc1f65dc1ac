"""How a decision enters and leaves: the orders that risk makes of it, and how it looks after them."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from dydx_conn import (
    CONDITIONAL,
    LONG_TERM,
    CancelRequest,
    Frame,
    OrderFields,
    OrderState,
    order_id,
)
from dydx_risk import (
    Approved,
    Bracket,
    Denied,
    Levels,
    MarginFigures,
    Policy,
    Reduce,
    StandingBracket,
    Withdraw,
    audit_row,
    bracket_changes,
)
from dydx_strategy import Decision
from hypothesis import given
from hypothesis import strategies as st
from world import OWNER, World, open_world, state_of

TICKER = "ETH-USD"
AROUND: dict[str, Any] = {"stop_loss": 2_900.0, "take_profit": 3_200.0}
MAKE: dict[str, Any] = {"entry": "make", "patience_s": 60.0}
SECOND = 1_784_021_467  # of the chain, in the blocks of `World`


def decide(world: World, eth: float, held: float = 0.0, **intent: Any) -> list[Any]:
    """Decide on so many ETH; return the verdicts."""
    fields: dict[str, Any] = {"previous_usdc": held * 3_000, "urgency": 0.5} | intent
    return world.put(Decision(
        id=f"D{world.seq}", ticker=TICKER, seq=world.seq, at=world.at, action="target",
        target_usdc=eth * 3_000, score=70.0, reasons=(), scores=(), **fields,
    ))  # fmt: skip


def hold(world: World, size: str, *orders: OrderState, usdc: str = "10000") -> list[Any]:
    """Report what is held, and how orders stand."""
    states = (state,) if (state := state_of(TICKER, size, "3000")) is not None else ()
    return world.update(positions=states, orders=orders, height=world.height)


def state(order: Any, status: Any = "OPEN", filled: str = "0", **more: Any) -> OrderState:
    """Report how an order of ours stands."""
    return OrderState(
        id=order_id(OWNER, order), status=status, size=Decimal(order.quantums).scaleb(-9),
        filled=Decimal(filled), seq=1, **more,
    )  # fmt: skip


def found(
    client_id: int, kind: str = "STOP_LIMIT", trigger: str = "2900", **row: Any
) -> OrderState:
    """Report an order that an earlier run sent."""
    flags = row.pop("flags", CONDITIONAL)
    named = CancelRequest(ticker=TICKER, clob_pair_id=1, client_id=client_id, order_flags=flags)
    fields: dict[str, Any] = {
        "side": "SELL",
        "type": kind,
        "reduce_only": True,
        "trigger_price": trigger,
    } | row
    return OrderState(
        id=order_id(OWNER, named), status="OPEN", size=Decimal(1), named=named, seq=1,
        row=OrderFields(id="", **fields),
    )  # fmt: skip


def covered(**intent: Any) -> tuple[World, list[Bracket]]:
    """Return a world that holds one ETH, its brackets reported."""
    world = open_world()
    [bought] = decide(world, 1, **(AROUND | intent))
    brackets = hold(world, "1", state(bought.order, "FILLED", "1"))
    hold(world, "1", *(state(one.order) for one in brackets))
    for _ in range(2):  # so that the venue takes two more
        world.block()
    world.update(height=world.height)
    return world, brackets


def withdrawn(verdicts: list[Any]) -> list[int]:
    """Return the client ids of what is taken back."""
    return [one.cancel.client_id for one in verdicts if isinstance(one, Withdraw)]


# === Entries ===


@pytest.mark.parametrize(
    ("eth", "bps", "price"), [(1, 0.0, "2999.9"), (1, 10.0, "2996.9"), (-1, 0.5, "3000.3")]
)
def test_a_maker_rests_behind_the_best_price_of_its_own_side(
    eth: float, bps: float, price: str
) -> None:
    """To the tick that is farther away, until its patience is over."""
    world = open_world()
    [made] = decide(world, eth, **MAKE, entry_offset_bps=bps)
    order = made.order

    assert (order.time_in_force, order.order_flags, order.reduce_only) == (
        "POST_ONLY", LONG_TERM, False,
    )  # fmt: skip
    market = world.state.views[TICKER].market
    assert market is not None
    assert market.price(order.subticks) == Decimal(price)
    assert (order.good_til_block, order.good_til_block_time) == (0, SECOND + 60)
    assert "resting as a maker, for 60 s" in made.why
    assert made.levels is None


def test_a_maker_is_bound_by_the_oracle_price_too() -> None:
    """However far the book is from it."""
    world = open_world(Policy(max_oracle_bps=100))
    world.oracle(TICKER, "2900")
    [made] = decide(world, 1, **MAKE)
    market = world.state.views[TICKER].market

    assert market is not None
    assert market.price(made.order.subticks) == Decimal("2929")
    [made] = decide(open_world(Policy(max_oracle_bps=100)), -1, **MAKE)
    assert market.price(made.order.subticks) == Decimal("3000.1")


@pytest.mark.parametrize(("eth", "trigger", "side"), [(1, 3_100.04, "BUY"), (-1, 2_900.04, "SELL")])
def test_a_stop_takes_beyond_its_trigger(eth: float, trigger: float, side: str) -> None:
    """A conditional order of the venue's own, at once or not at all once it has fired."""
    world = open_world()
    [made] = decide(world, eth, entry="stop", trigger_price=trigger, patience_s=0.5)
    order, market = made.order, world.state.views[TICKER].market

    assert market is not None
    assert (order.side, order.time_in_force, order.order_flags) == (side, "IOC", CONDITIONAL)
    assert (order.condition_type, order.good_til_block_time) == ("STOP_LOSS", SECOND + 1)
    fires = market.price(order.trigger_subticks)
    assert fires == Decimal("3100.1" if eth > 0 else "2900")
    worst = market.price(order.subticks)
    assert worst == Decimal("3109.4" if eth > 0 else "2891.3")


@pytest.mark.parametrize(
    ("intent", "reason", "why"),
    [
        ({"stop_loss": 3_000.0}, "INTENT", "the stop loss 3,000 is not below the oracle price"),
        ({"stop_loss": 0.01}, "INTENT", "the stop loss 0.01 is not below the oracle price 3,000"),
        ({"take_profit": 2_999.0}, "INTENT", "the take profit 2,999 is not above the oracle"),
        (MAKE | {"stop_loss": 2_999.95}, "INTENT", "not below the entry's make 2,999.9"),
        (
            {"entry": "stop", "patience_s": 9.0, "trigger_price": 2_999.0},
            "INTENT",
            "the trigger 2,999 is not above the oracle price 3,000: it would fire at once",
        ),
        (MAKE | {"target_usdc": 1.0}, "BELOW_STEP", "less than one step"),
    ],
)
def test_an_intent_that_the_market_has_passed_is_denied(
    intent: dict[str, Any], reason: str, why: str
) -> None:
    """With what it is, what it was to be, and the price that it was held to."""
    world, fields = open_world(), dict(intent)
    [denied] = decide(world, fields.pop("target_usdc", 3_000.0) / 3_000, **fields)

    assert (type(denied), denied.reason) == (Denied, reason)
    assert why in denied.why


def test_an_entry_that_stands_needs_a_price_to_rest_behind_and_an_end() -> None:
    """No best price of its own side, or no block time: no entry."""
    world = open_world()
    world.book(TICKER, [], [("3000.1", "5")])
    [denied] = decide(world, 1, **MAKE)
    assert denied.reason == "NO_BOOK"

    world = open_world()
    world.state.views[TICKER].chain.time_ns = 0
    [denied] = decide(world, 1, **MAKE)
    assert (denied.reason, denied.why) == (
        "UNKNOWN_HEIGHT", "no block time seen yet: an order that stands has an end",
    )  # fmt: skip


def test_an_entry_that_the_venue_has_no_room_for_is_denied() -> None:
    """It counts what stands by the equity, and what was sent by the blocks."""
    world = open_world()
    others = (found(n, flags=LONG_TERM, trigger="", reduce_only=True) for n in range(100))
    world.update(orders=tuple(others))
    [denied] = decide(world, 1, **MAKE)
    assert denied.why == "100 orders stand on the venue, it takes 100 of an equity like this"

    world = open_world()
    for _ in range(10):
        [made] = decide(world, 1, **MAKE)
        world.update(orders=(state(made.order, "CANCELLED"),))
    [denied] = decide(world, 1, **MAKE)
    assert (denied.reason, denied.why) == (
        "ORDER_RATE", "10 orders that stand in 100 blocks, limit 10",
    )  # fmt: skip
    for _ in range(101):
        world.block()
    world.update(height=world.height)
    assert isinstance(decide(world, 1, **MAKE)[0], Approved)


def test_what_waits_for_its_price_reserves_until_it_ends() -> None:
    """In part as it fills; until its end, and a little longer where nothing is reported."""
    world = open_world()
    [made] = decide(world, 2, **MAKE)
    whole = world.risk.valued.reserved.initial_margin
    [denied] = decide(world, 3, **MAKE)
    assert "waits for its price until 09:32:07 UTC" in denied.why

    hold(world, "0.5", state(made.order, "PARTIALLY_FILLED", "0.5"))
    held = world.risk.margin.initial_margin
    assert world.risk.valued.reserved.initial_margin == pytest.approx(held + whole * 0.75, rel=0.01)
    hold(world, "1", state(made.order, "PARTIALLY_FILLED", "1"))
    held = world.risk.margin.initial_margin
    assert world.risk.valued.reserved.initial_margin == pytest.approx(held + whole * 0.5, rel=0.01)

    for second, reserved in ((16, True), (19, False)):
        world.block(time=f"2026-07-14T09:32:{second}.000Z")
        world.oracle(TICKER, "3001")
        assert bool(world.risk.account.orders.reserved) is reserved
    assert not world.risk.account.orders.reserved


@pytest.mark.parametrize("status", ["REJECTED", "CANCELLED", "FILLED"])
def test_a_standing_order_that_is_over_reserves_nothing(status: str) -> None:
    """Sent in its turn, what one node refuses no other has."""
    world = open_world()
    [made] = decide(world, 1, **MAKE)
    world.update(orders=(state(made.order, status),))

    assert not world.risk.account.orders.reserved


def test_no_exit_waits_for_an_entry_that_stands() -> None:
    """It leaves at once, whole, and takes the entry back."""
    world = open_world()
    [made] = decide(world, 1, **MAKE)
    hold(world, "-0.5", state(made.order))
    exits = decide(world, 0, held=-0.5)

    assert [type(one) for one in exits] == [Approved, Withdraw]
    assert exits[0].order.quantums == 5 * 10**8
    assert withdrawn(exits) == [made.order.client_id]


@pytest.mark.parametrize("why", ["halt", "decide", "lost", "guard"])
def test_what_may_not_enter_may_not_stand(why: str) -> None:
    """It is cancelled at once, and again until the venue reports its end."""
    world = open_world(Policy(max_leverage=5.0, act_below=0.06, restore_to=0.15, keep_above=0.2))
    if why == "guard":
        world.account("-4000", {"BTC-USD": ("0.1", "60000")})
    [made] = decide(world, 1 if why != "guard" else 0.1, **MAKE)
    assert isinstance(made, Approved)
    world.update(orders=(state(made.order),), height=world.height)

    if why == "halt":
        world.risk.stops.halt("enough")
        taken = world.put(Frame(world.seq, world.at, 0, "key", "act", "enough", "halt"))
    elif why == "decide":
        taken = decide(world, 0)
    elif why == "lost":
        taken = world.update(doubt="account frames were lost")
    else:
        world.block()
        taken = world.oracle("BTC-USD", "46000")
        assert any(isinstance(one, Reduce) for one in taken)
    assert withdrawn(taken) == [made.order.client_id]

    again = []
    for _ in range(11):
        again += world.block()
        again += world.update(height=world.height, doubt=world.risk.account.trouble)
    assert withdrawn(again) == [made.order.client_id]
    world.update(orders=(state(made.order, "CANCELLED"),))
    assert withdrawn([v for _ in range(12) for v in world.block()]) == []


def test_a_market_in_its_cool_down_keeps_no_entry() -> None:
    """As it takes none."""
    world = open_world(Policy(cool_down_s=60.0))
    [made] = decide(world, 1, **MAKE)
    world.risk._rest.begin([TICKER], world.risk._elapsed.now, 60 * 10**9, whole=False)

    world.block()
    assert withdrawn(world.oracle(TICKER, "3001")) == [made.order.client_id]
    assert world.verdicts[-1].why == "the entry is taken back: ETH-USD was reduced"


# === Brackets ===


sizes = st.integers(-20, 20)


@given(
    sizes,
    st.one_of(st.none(), st.builds(
        Levels, is_long=st.booleans(), stop_loss=st.sampled_from((0, 7, 8)),
        take_profit=st.sampled_from((0, 9)),
    )),
    st.lists(st.tuples(
        st.sampled_from(("STOP_LOSS", "TAKE_PROFIT")), st.sampled_from(("BUY", "SELL")),
        st.sampled_from((7, 8, 9)), st.integers(1, 20),
    ), max_size=6),
)  # fmt: skip
def test_what_stands_covers_what_is_held_and_no_more(
    held: int, levels: Levels | None, rows: list[Any]
) -> None:
    """Whatever stood before; what fits stays, unless it is in too many pieces."""
    named = CancelRequest(ticker=TICKER, clob_pair_id=1, client_id=1)
    stood = [
        StandingBracket(
            order_id=str(n), ticker=TICKER, kind=kind, side=side, trigger=at, quantums=left,
            left=left, named=named, sent=0,
        )
        for n, (kind, side, at, left) in enumerate(rows)
    ]  # fmt: skip
    change = bracket_changes(held, levels, stood)
    stays = [one for one in stood if one not in change.withdraw]
    means = levels is not None and held != 0 and levels.is_long == (held > 0)

    for kind in ("STOP_LOSS", "TAKE_PROFIT"):
        trigger = levels.trigger(kind) if levels is not None and means else 0
        mine = [one for one in stays if one.kind == kind]
        total = sum(one.left for one in mine) + sum(n for k, n in change.place if k == kind)
        assert total == (abs(held) if trigger else 0)
        assert {(one.trigger, one.side) for one in mine} <= {
            (trigger, "SELL" if held > 0 else "BUY")
        }
        assert len(mine) + sum(k == kind for k, _ in change.place) <= max(3, len(mine))
    again = bracket_changes(held, levels, [
        *stays,
        *(StandingBracket(
            order_id=f"new{kind}", ticker=TICKER, kind=kind,
            side="SELL" if held > 0 else "BUY", trigger=levels.trigger(kind),  # type: ignore[union-attr]
            quantums=size, left=size, named=named, sent=0,
        ) for kind, size in change.place),
    ])  # fmt: skip
    assert (again.withdraw, again.place) == ([], [])


def test_brackets_stand_once_something_is_held() -> None:
    """Not before: they are of what is held, reduce-only, conditional, good for long."""
    world = open_world()
    [bought] = decide(world, 1, **AROUND)
    assert bought.why.endswith(
        "; a stop loss at 2,900 and a take profit at 3,200 on the venue for all that is held"
    )
    stop, profit = hold(world, "0.4", state(bought.order, "FILLED", "0.4"))

    assert [(b.kind, b.decision, b.order.quantums) for b in (stop, profit)] == [
        ("STOP_LOSS", bought.decision.id, 4 * 10**8), ("TAKE_PROFIT", bought.decision.id, 4 * 10**8),
    ]  # fmt: skip
    assert stop.why == (
        "stop loss on the venue: sell 0.4 ETH-USD at >= 2,755 once the price falls to 2,900, "
        "reduce-only"
    )
    assert all(b.order.reduce_only and b.order.order_flags == CONDITIONAL for b in (stop, profit))
    assert stop.order.good_til_block_time == SECOND + 90 * 86_400
    assert {stop.id, profit.id} == {"V2", "V3"}
    row = audit_row(stop)
    assert (row["verdict"], row["order_condition_type"]) == ("Bracket", "STOP_LOSS")


def test_a_fill_takes_the_other_bracket_with_it() -> None:
    """And what is taken back is requested again until its end is reported."""
    world, (stop, profit) = covered()
    taken = hold(world, "0", state(stop.order, "FILLED", "1"))
    assert withdrawn(taken) == [profit.order.client_id]
    assert taken[0].why == "the take profit is taken back: nothing is held any more"
    assert audit_row(taken[0])["order_client_id"] == str(profit.order.client_id)

    again = [world.block() + world.update(height=world.height) for _ in range(11)]
    assert withdrawn([one for each in again for one in each]) == [profit.order.client_id]
    world.update(orders=(state(profit.order, "CANCELLED"),))
    assert not world.risk.account.orders.brackets
    assert not world.risk.account.orders.failed


def test_a_bracket_that_fills_in_part_covers_the_rest() -> None:
    """No other is placed beside it."""
    world, (stop, profit) = covered()
    world.block()
    changed = hold(world, "0.3", state(stop.order, "PARTIALLY_FILLED", "0.7"))

    assert withdrawn(changed) == [profit.order.client_id]
    assert [(b.kind, b.order.quantums) for b in changed if isinstance(b, Bracket)] == [
        ("TAKE_PROFIT", 3 * 10**8)
    ]


def test_where_to_leave_is_moved_by_a_decision_of_its_own() -> None:
    """A target of what is held: no order of it, but brackets."""
    world, (stop, _) = covered()
    world.block()
    world.update(height=world.height)
    moved = decide(world, 1, held=1, stop_loss=2_950.0, take_profit=3_200.0)
    assert withdrawn(moved) == [stop.order.client_id]
    assert [one.kind for one in moved if isinstance(one, Bracket)] == ["STOP_LOSS"]

    [denied, *_] = decide(world, 1, held=1, stop_loss=3_050.0)
    assert (denied.reason, denied.decision.stop_loss) == ("INTENT", 3_050.0)
    [denied, *_] = decide(world, -1, held=-1, stop_loss=3_050.0)
    assert denied.why == "no short is held that a stop or a profit could leave"
    unknown = Decision(
        ticker="XYZ-USD", seq=1, at=1, action="target", target_usdc=1.0, previous_usdc=1.0,
        urgency=0.5, score=1.0, reasons=(), scores=(),
    )  # fmt: skip
    [denied] = world.put(unknown)
    assert isinstance(denied, Denied)
    assert denied.reason == "UNKNOWN_MARKET"

    gone = decide(world, 1, held=1)
    assert len(withdrawn(gone)) == 2
    assert world.risk._upkeep.levels == {}


def test_of_a_turn_what_is_held_goes_as_it_was_to_go() -> None:
    """The far side's prices are none of its business."""
    world, _ = covered()
    turned = decide(world, -1, held=1, stop_loss=3_100.0)

    assert [type(one) for one in turned] == [Approved]
    assert world.risk._upkeep.levels[TICKER].stop_loss


def test_who_shrinks_says_where_the_rest_is_left() -> None:
    """Passed already, a stop is one that has been hit: nothing is refused."""
    world, _ = covered()
    world.block()
    [approved, *_] = decide(world, 0.5, held=1, stop_loss=3_010.0)

    assert approved.levels is not None
    assert approved.order.reduce_only
    placed = hold(world, "0.5", state(approved.order, "FILLED", "0.5"))
    stop = next(one for one in placed if isinstance(one, Bracket)).order
    market = world.state.views[TICKER].market
    assert market is not None
    assert market.price(stop.trigger_subticks) == Decimal("3010")
    # It fires at once, and its worst price goes by the oracle's.
    assert market.price(stop.subticks) == Decimal("2850")


def test_a_bracket_that_ends_unfilled_is_reported_and_placed_again() -> None:
    """After 1, 2, 4 … blocks; a new decision begins again."""
    world, (stop, _) = covered()
    ended = hold(world, "1", state(stop.order, "CANCELLED", reason="clob 10001"))
    [denied] = [one for one in ended if isinstance(one, Denied)]
    assert (denied.reason, denied.decision) == ("BRACKET", None)
    assert denied.why == "the stop loss of ETH-USD at 2,900 ended: clob 10001"

    waits = []
    for _ in range(3):
        blocks = 0
        while not (placed := [v for v in world.verdicts[-1:] if isinstance(v, Bracket)]):
            world.block()
            world.update(height=world.height)
            blocks += 1
        waits.append(blocks)
        hold(world, "1", state(placed[0].order, "CANCELLED", reason="clob 10001"))
    assert waits == [1, 2, 4]

    for _ in range(8):
        world.block()
        world.update(height=world.height)
    placed = [one for one in world.verdicts[-1:] if isinstance(one, Bracket)]
    hold(world, "1", *(state(one.order) for one in placed))
    world.height += 260
    world.update(height=world.height)
    hold(world, "1", state(placed[-1].order, "CANCELLED", reason="EXPIRED"))
    assert [one.figures[-1] for one in world.verdicts if isinstance(one, Denied)][-1][1] == "1"

    again = decide(world, 1, held=1, **AROUND)
    assert [one.kind for one in again if isinstance(one, Bracket)] == ["STOP_LOSS"]
    hold(world, "0", state(again[0].order, "CANCELLED", reason="reduce-only"))
    assert not isinstance(world.verdicts[-1], Denied)


def test_a_bracket_without_an_answer_is_given_up_and_placed_again() -> None:
    """It may stand or not: reduce-only as both are, they do no harm."""
    world = open_world()
    [bought] = decide(world, 1, stop_loss=2_900.0)
    [first] = hold(world, "1", state(bought.order, "FILLED", "1"))
    later: list[Any] = []
    for _ in range(60):
        later += world.block()
        later += world.update(height=world.height)

    assert withdrawn(later).count(first.order.client_id) == 3
    second = next(one for one in later if isinstance(one, Bracket))
    assert order_id(OWNER, first.order) not in world.risk.account.orders.brackets
    # It was there after all: it is taken back as one too many.
    hold(world, "1", state(second.order))
    late = state(first.order, named=CancelRequest(
        ticker=TICKER, clob_pair_id=1, client_id=first.order.client_id, order_flags=CONDITIONAL,
    ), row=OrderFields(
        id="", side="SELL", type="STOP_LIMIT", reduce_only=True, trigger_price="2900",
    ))  # fmt: skip
    assert first.order.client_id in withdrawn(hold(world, "1", late))


def test_no_more_brackets_go_out_than_the_venue_takes() -> None:
    """Two in a block, or what may be one, and the stops of all markets before any profit."""
    world = open_world()
    world.book("BTC-USD", [("59990", "5")], [("60010", "5")])
    for ticker, low, high in ((TICKER, 2_900.0, 3_200.0), ("BTC-USD", 50_000.0, 70_000.0)):
        world.put(Decision(
            ticker=ticker, seq=1, at=world.at, action="target", target_usdc=3_000.0, urgency=0.5,
            score=1.0, reasons=(), scores=(), stop_loss=low, take_profit=high,
        ))  # fmt: skip
    held = tuple(state_of(*row) for row in ((TICKER, "1", "3000"), ("BTC-USD", "0.05", "60000")))
    first = world.update(positions=held, height=world.height)
    assert [one.kind for one in first if isinstance(one, Bracket)] == ["STOP_LOSS"] * 2
    assert world.update() == []

    world.block()
    assert world.update(height=world.height) == []
    world.block()
    world.update(height=world.height)
    later = [one for one in world.verdicts if isinstance(one, Bracket)][2:]
    assert [one.kind for one in later] == ["TAKE_PROFIT"] * 2


def test_a_bracket_is_moved_once_another_may_go_out() -> None:
    """Elsewhere than it is to be is better than nowhere; profits leave room for stops."""
    world, (stop, profit) = covered()
    for n in range(14):
        world.risk._upkeep.pace.count(world.height - 40 + n, 0)
    world.height += 1
    world.update(height=world.height)
    moved = decide(world, 1, held=1, stop_loss=2_950.0, take_profit=3_300.0)
    assert withdrawn(moved) == [stop.order.client_id]
    [placed] = [one for one in moved if isinstance(one, Bracket)]
    assert placed.kind == "STOP_LOSS"
    standing = world.risk.account.orders.brackets[order_id(OWNER, profit.order)]
    assert not standing.cancel_sent

    # What is too much is taken back all the same.
    less = hold(world, "0.5", state(placed.order))
    assert {placed.order.client_id, profit.order.client_id} <= {*withdrawn(less)}


def test_a_refusal_for_its_pace_lets_all_wait() -> None:
    """Each try counts, and what an earlier run sent is not known."""
    world, (stop, profit) = covered()
    why = "clob 5001: block rate limit (rate of 21 exceeds the limit of 20)"
    hold(world, "1", *(state(one.order, "REJECTED", reason=why) for one in (stop, profit)))
    waits = 0
    while not any(isinstance(one, Bracket) for one in world.verdicts[-2:]):
        world.block()
        world.update(height=world.height)
        waits += 1

    assert waits == 10
    hold(world, "0")
    world.update(orders=(OrderState(
        id="another", status="REJECTED", reason=why, seq=1, size=Decimal(1),
    ),))  # fmt: skip
    [denied] = [one for one in decide(world, 1, **MAKE) if isinstance(one, Denied)]
    assert denied.reason == "ORDER_RATE"


@pytest.mark.parametrize("what", ["shut", "no time", "by hand", "unknown"])
def test_where_nothing_can_be_placed_it_waits(what: str) -> None:
    """What stands stays: it only reduces."""
    world = open_world()
    [bought] = decide(world, 1, **AROUND)
    if what == "shut":
        world.send(world.wire.trading(TICKER, status="PAUSED"))
    elif what == "no time":
        world.state.views[TICKER].chain.time_ns = 0
    elif what == "by hand":
        world.risk.account.by_hand.add(TICKER)
    doubt = "lost" if what == "unknown" else ""
    filled = (state(bought.order, "FILLED", "1"),)
    position = (state_of(TICKER, "1", "3000"),)
    assert world.update(positions=position, orders=filled, doubt=doubt) == []


def test_where_to_leave_is_forgotten_with_the_position() -> None:
    """But not before a fill that is late would be reported."""
    world, (stop, profit) = covered()
    hold(world, "0", state(stop.order, "FILLED", "1"), state(profit.order, "CANCELLED"))
    for _ in range(40):
        world.block()
        world.update(height=world.height)
    assert TICKER in world.risk._upkeep.levels

    for _ in range(2):
        world.block()
        world.update(height=world.height)
    assert world.risk._upkeep.levels == {}


# === Restart ===


def restarted(*states: OrderState, size: str = "1") -> tuple[World, list[Any]]:
    """Return a world whose orders an earlier run sent, and what comes of them."""
    world = open_world()
    world.risk.account.orders.remember([(100, 200)])
    return world, hold(world, size, *states)


def test_brackets_of_an_earlier_run_are_found_and_stand() -> None:
    """Where they leave, what is held is left; resized, they are ours."""
    stop, profit = found(101), found(102, "TAKE_PROFIT", "3200")
    world, verdicts = restarted(stop, profit)

    assert verdicts == []
    levels, market = world.risk._upkeep.levels[TICKER], world.state.views[TICKER].market
    assert market is not None
    assert market.price(levels.stop_loss) == Decimal(2_900)
    assert market.price(levels.take_profit) == Decimal(3_200)
    changed = hold(world, "0.5")
    assert withdrawn(changed) == [101, 102]
    assert all(one.cancel.good_til_block_time for one in changed if isinstance(one, Withdraw))
    assert [b.decision for b in changed if isinstance(b, Bracket)] == ["", ""]


def test_what_an_earlier_run_left_without_a_position_is_taken_back() -> None:
    """Brackets and entries: nobody knows what they are for."""
    _, verdicts = restarted(found(101), found(103, flags=LONG_TERM, trigger=""), size="0")

    assert withdrawn(verdicts) == [103, 101]


def test_nothing_enters_a_market_where_an_order_of_an_earlier_run_may_fill() -> None:
    """With what the next run decides it would be twice as much; until its end is reported."""
    stray = found(103, flags=LONG_TERM, trigger="", reduce_only=False, side="BUY")
    world, _ = restarted(stray, size="0")

    [denied] = decide(world, 1)
    hold(world, "0", msgspec.structs.replace(stray, status="CANCELLED"))
    [bought] = decide(world, 1)

    assert (denied.reason, bought.order.side) == ("IN_FLIGHT", "BUY")
    assert denied.why == "an order of an earlier run, client id 103, is still to be taken back"


@pytest.mark.parametrize(
    "state",
    [found(7), found(101, flags=0), msgspec.structs.replace(found(101), status="CANCELLED")],
)
def test_what_is_not_ours_or_over_is_left_alone(state: OrderState) -> None:
    """Somebody else's, a short-term one, one that has ended."""
    world, verdicts = restarted(state)

    assert (verdicts, world.risk.account.orders.brackets, world.risk.account.orders.strays) == (
        [],
        {},
        {},
    )


@pytest.mark.parametrize("row", [{"trigger": "x"}, {"side": None}, {"trigger": ""}])
def test_an_order_that_cannot_be_read_is_no_bracket(row: dict[str, Any]) -> None:
    """It is taken back like an entry: what it would do is not known."""
    _, verdicts = restarted(found(101, **row))

    assert withdrawn(verdicts) == [101]


def test_no_more_client_ids_are_remembered_than_may_stand() -> None:
    """Or a run of weeks would hold all that it ever sent."""
    world = open_world()
    [made] = decide(world, 1, **MAKE)
    for n in range(2_000):
        world.risk.account.orders.stand(msgspec.structs.replace(made.order, client_id=n))

    assert len(world.risk.account.orders._stood) == 1_024


def test_a_stray_of_a_market_not_known_yet_waits() -> None:
    """Its grid comes with the markets."""
    stray = found(101)
    assert stray.named is not None
    other = msgspec.structs.replace(stray.named, ticker="XYZ-USD")
    world, verdicts = restarted(msgspec.structs.replace(stray, named=other))

    assert (verdicts, len(world.risk.account.orders.strays)) == ([], 1)


def test_a_reservation_that_has_not_filled_is_as_it_was() -> None:
    """Nor does one that fills at once scale."""
    world = open_world()
    [made] = decide(world, 1)
    [held] = world.risk.account.orders.reserved.values()
    assert held.filled(state(made.order, "PARTIALLY_FILLED", "0.5")) is held
    assert isinstance(held.effect, MarginFigures)

"""How an order enters and leaves, in words; what stays on the venue when a run ends."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from bot.run.composition import Bot, Options
from bot.run.feedback import Feedback
from bot.run.journal import Journal, decision_words, order_words
from bot.run.wire import WireVenue
from bot.screen.leave import Leave
from dydx_conn import (
    CONDITIONAL,
    LONG_TERM,
    AccountFill,
    AccountUpdate,
    Frame,
    OrderFields,
    OrderRequest,
    OrderState,
    PositionState,
    Subaccount,
    order_id,
)
from dydx_conn import cancel as cancel_of
from dydx_risk import Bracket, StandingBracket, Withdraw
from dydx_strategy import Decision, Outcome

US = Subaccount("dydx1us", 0)
STOP = OrderRequest(
    ticker="ETH-USD", clob_pair_id=1, side="SELL", quantums=10**9, subticks=10**8, client_id=7,
    time_in_force="IOC", reduce_only=True, order_flags=CONDITIONAL, condition_type="STOP_LOSS",
    trigger_subticks=2 * 10**8, good_til_block_time=2_000_000_000,
)  # fmt: skip
ENTRY = msgspec.structs.replace(
    STOP, client_id=8, reduce_only=False, order_flags=LONG_TERM, time_in_force="POST_ONLY",
    condition_type="", trigger_subticks=0,
)  # fmt: skip


def decision(**intent: Any) -> Decision:
    """Decide to hold 500 USDC more."""
    return Decision(
        id="D1", ticker="ETH-USD", seq=1, at=1, action="target", target_usdc=500.0, urgency=0.5,
        score=50.0, reasons=("because",), scores=(), **intent,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("intent", "words"),
    [
        ({}, "target +0 → +500 USDC: because"),
        (
            {"entry": "make", "entry_offset_bps": 2.5, "patience_s": 30.0},
            "target +0 → +500 USDC resting 2.5 bps behind the best price for 30 s: because",
        ),
        (
            {"entry": "stop", "trigger_price": 3_100.5, "patience_s": 9.0, "take_profit": 3_300.0},
            "target +0 → +500 USDC once the price is 3,100.5 for 9 s, take profit at 3,300: because",
        ),
        ({"stop_loss": 2_900.0}, "target +0 → +500 USDC, stop loss at 2,900: because"),
    ],
)
def test_a_decision_says_how_it_enters_and_leaves(intent: dict[str, Any], words: str) -> None:
    """Where it takes, and leaves when it is decided, there is nothing to say."""
    assert decision_words(decision(**intent)) == words


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"type": "STOP_LIMIT", "trigger_price": "2900", "reduce_only": True},
            "SELL 1 at 2,871 reduce-only stop at 2,900 until 2026-07-14T09:31:37: OPEN",
        ),
        (
            {"type": "TAKE_PROFIT", "trigger_price": "3200"},
            "SELL 1 at 2,871 take profit at 3,200 until 2026-07-14T09:31:37: OPEN",
        ),
        ({"post_only": True}, "SELL 1 at 2,871 post-only until 2026-07-14T09:31:37: OPEN"),
    ],
)
def test_an_order_that_stands_says_for_what_and_how_long(fields: Any, words: str) -> None:
    """As the venue reports it."""
    row = OrderFields(
        id="o", side="SELL", size="1", price="2871",
        good_til_block_time="2026-07-14T09:31:37.000Z", **fields,
    )  # fmt: skip
    assert order_words(OrderState(id="o", status="OPEN", row=row, seq=1)) == words


def test_a_bracket_leads_back_to_the_decision_that_set_it() -> None:
    """In the journal, as an order's verdict does; what is taken back leads nowhere."""
    journal, listed = Journal(), list[Any]()
    journal.listeners.append(listed.append)
    journal.decided(decision(stop_loss=2_900.0))
    bracket = Bracket(
        id="V1", order=STOP, kind="STOP_LOSS", decision="D1", seq=2, at=2, why="stop loss",
    )  # fmt: skip
    back = Withdraw(id="V2", ticker="ETH-USD", cancel=cancel_of(STOP), seq=3, at=3, why="flat")
    journal.judged(bracket)
    journal.judged(back)

    found = [journal.find(id_) for id_ in ("V1", "V2")]
    assert [(e.kind, e.ticker, e.parent) for e in found if e is not None] == [
        ("bracket", "ETH-USD", "D1"), ("withdraw", "ETH-USD", ""),
    ]  # fmt: skip
    assert listed[1:] == found


def sent(order: OrderRequest, seq: int) -> Frame:
    """Report that this run sent an order."""
    place = msgspec.to_builtins(order)
    text = json.dumps({"ids": [order_id(US, order)], "subaccount": str(US), "place": place})
    return Frame(seq, seq, seq, "node", "sent", text, "", "place")


def test_brackets_stay_when_a_run_ends() -> None:
    """Its entries are taken off the books; what leaves a position stays as long as that does."""
    venue = WireVenue(US)
    bot = Bot(Options(strategy="none"), venue)
    for seq, order in enumerate((STOP, ENTRY), 1):
        for update in venue.accounts.step(sent(order, seq)):
            venue.learn(update)
    id_ = order_id(US, STOP)
    bot.risk.account.orders.brackets[id_] = StandingBracket.of(id_, STOP, 1)

    assert [state.order for state in venue.open] == [ENTRY]
    assert venue.brackets == [id_]
    assert WireVenue(US).brackets == []

    held = PositionState(ticker="ETH-USD", size=Decimal(1), entry_price=Decimal(3_000))
    bot.risk.step(AccountUpdate(
        seq=3, at=3, subaccount=US, height=1, collateral=10**10, positions=(held,),
    ))  # fmt: skip
    leave = Leave(bot, lambda _: False, flatten=False)
    assert leave.open == "1 position stays open, unguarded but for 1 bracket on the venue"


def test_the_fill_of_a_bracket_that_was_found_is_news() -> None:
    """No decision of this run set it."""
    venue = WireVenue(US)
    bot, feedback = Bot(Options(strategy="none"), venue), Feedback(US)
    id_ = order_id(US, STOP)
    bot.risk.account.orders.brackets[id_] = StandingBracket.of(id_, STOP, 1)
    feedback.news(bot.risk, {}, 1, 1)
    fill = AccountFill(
        id="f", order_id=id_, ticker="ETH-USD", side="SELL", size=Decimal(1), price=Decimal(2_900),
        quote=0, fee=0, liquidity="TAKER", type="LIMIT", height=1, created_at="",
    )  # fmt: skip
    feedback.filled(AccountUpdate(seq=2, at=2, subaccount=US, height=1, fills=(fill,)), {})

    [outcome] = [o for o in feedback.news(bot.risk, {}, 2, 2) if isinstance(o, Outcome)]
    assert (outcome.kind, outcome.decision, outcome.usdc) == ("filled", "", -2_900.0)
    assert (outcome.reason, outcome.why) == ("STOP_LOSS", "the stop loss of an earlier run")

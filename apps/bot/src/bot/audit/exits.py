"""The audit's scenarios of leaving and of cost: stops, profits, cancel all; fees, tiers, estimates.

Stage, estimate, fee_tier ──► EXITS, COSTS ──► bot.audit.command
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from dydx_conn import (
    STANDARD_FEE_TIERS,
    BatchCancel,
    Fees,
    OrderRequest,
    cancel,
    cancel_all,
    estimate,
    fee_tier,
    stop_loss,
    take_profit,
)

from bot.audit.scenarios import Evidence, Group, above
from bot.audit.stage import ASKS, BIDS, BTC, LONG_TERM_END, USDC, Stage, usdc

EXITS: Final = Group("Stop loss, take profit, cancel all")
COSTS: Final = Group("Fees and gas")

# === Exits ===


@EXITS.shows(
    "stop loss",
    "it waits, fires with the oracle price, and closes what is held, no more",
    "paper/conditional::a_stop_waits_and_fires_with_the_oracle_price",
    "paper/intents::what_stands_never_exceeds_what_is_held",
)
def _stop() -> Iterator[Evidence]:
    stage, order = _long_with(stop_loss, trigger="49500", price="45000")
    yield Evidence("long 0.5, stop at 49,500; oracle 50,000", "OPEN", _status(stage, order))
    yield Evidence("as the venue has it", "UNTRIGGERED", _row(stage, order).status)
    stage.market_at(49_400)
    stage.block()
    stage.touch()
    yield Evidence("oracle 49,400", "FILLED", _status(stage, order))
    yield Evidence("held", "0", stage.size())


@EXITS.shows(
    "take profit",
    "it waits for the better price, and closes what is held",
    "paper/conditional::a_take_profit_that_finds_nothing_is_over",
    "paper/triggers::side_and_condition_decide_which_way_a_price_triggers",
    "conn/orders::a_conditional_order_names_its_condition_and_trigger",
)
def _profit() -> Iterator[Evidence]:
    stage, order = _long_with(take_profit, trigger="51000", price="50500")
    stage.market_at(50_900)
    yield Evidence(
        "long 0.5, profit at 51,000; oracle 50,900", "UNTRIGGERED", _row(stage, order).status
    )
    stage.market_at(51_100)
    stage.block()
    stage.touch()
    yield Evidence("oracle 51,100", "FILLED", _status(stage, order))
    yield Evidence("held", "0", stage.size())
    yield Evidence("won, in quantums of USDC", above(0), stage.money.realized_pnl)


@EXITS.shows(
    "a stop that is cancelled",
    "it does not fire any more",
    "paper/conditional::an_untriggered_order_expires_and_can_be_cancelled",
)
def _stop_cancelled() -> Iterator[Evidence]:
    stage, order = _long_with(stop_loss, trigger="49500", price="45000")
    stage.place(cancel(order))
    stage.block()
    stage.touch()
    yield Evidence("cancelled", "CANCELLED", _status(stage, order))
    stage.market_at(49_400)
    stage.block()
    yield Evidence("oracle 49,400, below its trigger: held", "0.5", stage.size())


@EXITS.shows(
    "both around a position",
    "a decision's stop and profit stand once something is held; one takes the other with it",
    "paper/intents::a_stop_and_a_profit_stand_for_what_is_held",
    "paper/intents::the_one_that_fires_takes_the_other_with_it",
    "paper/intents::brackets_are_resized_to_what_is_left",
)
def _brackets() -> Iterator[Evidence]:
    stage = Stage()
    verdict = stage.want(BTC, 5_000.0, stop_loss=49_000.0, take_profit=51_000.0)
    stage.touch()
    for _ in range(3):
        stage.block()
        stage.touch()
    yield Evidence("5,000 USDC wanted", "approved", verdict.kind)
    yield Evidence("standing beside what is held", ["UNTRIGGERED"] * 2, _conditional(stage))
    stage.market_at(51_200)
    for _ in range(4):
        stage.block()
        stage.touch()
    yield Evidence("oracle 51,200: held", "0", stage.size())
    yield Evidence("standing after it", [], _conditional(stage))


@EXITS.shows(
    "cancel all",
    "every open order goes: short-term ones in one batch, the others one by one",
    "conn/orders::cancel_all_takes_short_term_orders_in_batches_and_the_others_one_by_one",
    "bot/trade::cancel_all_takes_everything_off",
    "bot/trade::an_order_that_stays_is_a_one",
)
def _cancel_all() -> Iterator[Evidence]:
    stage = Stage()
    for price in ("49000", "48000", "47000"):
        stage.trade("BUY", "0.1", price, time_in_force="GTT")
    stage.trade("BUY", "0.1", "46000", time_in_force="GTT", good_til_block_time=LONG_TERM_END)
    stage.block()
    stage.touch()
    lifecycle = stage.bot.venue.accounts.orders
    yield Evidence("open before", 4, len(lifecycle.open()))
    (requests,) = cancel_all(lifecycle.open(), good_til_block_time=LONG_TERM_END).values()
    batches = [one for one in requests if isinstance(one, BatchCancel)]
    yield Evidence("requests: a batch of three, one more", (1, 2), (len(batches), len(requests)))
    for request in requests:
        for one in request.cancels if isinstance(request, BatchCancel) else [request]:
            stage.place(msgspec.convert(one, type(one)))
    for _ in range(25):
        stage.block()
    stage.touch()
    yield Evidence("open after", 0, len(lifecycle.open()))
    stage.market_at(40_000)
    yield Evidence("the market falls through all of them: fills", 0, len(stage.fills()))


# === Costs ===


@COSTS.shows(
    "fee of a fill",
    "5 bp of what is taken, rounded up to the quantum; less for who rests",
    "conn/fees::a_fee_is_rounded_up",
    "conn/fees::a_fill_pays_by_who_was_there_first",
    "paper/sessions::each_fill_costs_what_the_chain_charged",
)
def _fee() -> Iterator[Evidence]:
    stage = Stage()
    stage.trade("BUY", "0.5", "50100")
    yield Evidence(
        "taker, 0.5 at 50,001: 25,000.50 at 5 bp", "12.50025 USDC", usdc(stage.money.fees_paid)
    )
    yield Evidence("rounded up: 1 quantum at 5 bp", 1, Fees().of(1, "TAKER"))
    yield Evidence(
        "maker, 25,000.50 USDC at 1 bp", "2.50005 USDC", usdc(Fees().of(25_000_500_000, "MAKER"))
    )


@COSTS.shows(
    "fee tiers",
    "more volume of thirty days costs less, and no tier is skipped",
    "conn/fees::a_tier_is_reached_by_volume_and_shares",
    "conn/fees::no_tier_is_skipped",
    "paper/conservation::a_tier_is_earned_by_thirty_days_of_trading",
)
def _tiers() -> Iterator[Evidence]:
    everybody = 10**18  # a millionth of it is no share that counts
    found = [
        fee_tier(taker_volume=millions * 10**12, total_volume=everybody).taker_ppm
        for millions in (0, 1, 5, 25, 125)
    ]
    yield Evidence("taker ppm at 0, 1, 5, 25, 125 million", [500, 450, 400, 350, 300], found)
    paid = [tier.taker_ppm for tier in STANDARD_FEE_TIERS]
    yield Evidence("never dearer further up", sorted(paid, reverse=True), paid)


@COSTS.shows(
    "estimate before sending",
    "no fill costs more than was estimated; gas is none; what cannot be afforded is named",
    "conn/orders::no_fill_costs_more_than_was_estimated",
    "conn/orders::what_the_account_cannot_afford_is_reported_in_the_chains_words",
    "bot/trade::what_an_order_may_cost_is_written_down_before_it_is_sent",
)
def _estimate() -> Iterator[Evidence]:
    stage = Stage()
    order = stage.order("BUY", "0.5", "50100")
    oracle = stage.market().subticks("50000")
    guess = estimate(order, stage.market(), Fees(), oracle_subticks=oracle)
    stage.place(order)
    stage.touch()
    yield Evidence("estimated at worst", "12.525 USDC", usdc(guess.fee))
    yield Evidence("paid", "12.50025 USDC", usdc(stage.money.fees_paid))
    yield Evidence("gas", 0, guess.gas)
    yield Evidence("initial margin, 5 % of 25,050", "1252.5 USDC", usdc(guess.initial_margin))
    poor = estimate(order, stage.market(), Fees(), oracle_subticks=oracle, net_collateral=USDC)
    yield Evidence("with 1 USDC: affordable", False, poor.affordable)


# === Underneath ===


def _status(stage: Stage, order: OrderRequest) -> str:
    return stage.state(order).status


def _row(stage: Stage, order: OrderRequest) -> Any:
    return stage.state(order).row


def _conditional(stage: Stage) -> list[str]:
    """Return how the conditional orders stand that are not over."""
    states = stage.bot.venue.accounts.orders.open()
    return [s.row.status or "" for s in states if s.row is not None and s.row.trigger_price]


def _long_with(build: Any, trigger: str, price: str) -> tuple[Stage, OrderRequest]:
    """Return a stage on which 0.5 BTC are held, and the order that is to close it."""
    stage = Stage()
    stage.trade("BUY", "0.5", "50100")
    stage.client += 1
    order = build(
        stage.market(), "SELL", "0.5", trigger, price, at_once=True, reduce_only=True,
        client_id=stage.client, good_til_block_time=LONG_TERM_END,
    )  # fmt: skip
    stage.place(order)
    stage.book(BIDS, ASKS)
    stage.block()
    stage.touch()
    return stage, order

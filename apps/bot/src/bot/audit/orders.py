"""The audit's scenarios of orders: their life, time in force, stops and profits, cost, history.

Stage, Accounts, objection, estimate ──► ORDERS, IN_FORCE, EXITS, COSTS ──► bot.audit.command
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from dydx_conn import (
    Accounts,
    Frame,
    OrderRequest,
    Subaccount,
    WireWriter,
    cancel,
    code_of,
    limit,
    market_parameters,
    objection,
    order_id,
)

from bot.audit.scenarios import Evidence, Group, has
from bot.audit.stage import BTC, ETH, LONG_TERM_END, Stage, later

ORDERS: Final = Group("Order lifecycle and history")
IN_FORCE: Final = Group("Time in force and validity")

_WE: Final = Subaccount("dydx1audit", 0)
_MARKET: Final = market_parameters(BTC)
_HEIGHT: Final = 1_000

# === Life of an order ===


@ORDERS.shows(
    "filled in parts",
    "OPEN, then PARTIALLY_FILLED, then FILLED, with what was filled so far",
    "paper/venue::a_limit_order_takes_what_it_can_and_rests",
    "conn/lifecycle::frames_move_an_order_from_state_to_state",
)
def _parts() -> Iterator[Evidence]:
    stage = Stage()
    order = stage.trade("BUY", "1.5", "50001", time_in_force="GTT")
    yield Evidence(
        "buy 1.5 at 50,001, 1 is offered: status", "PARTIALLY_FILLED", _status(stage, order)
    )
    yield Evidence("filled so far", "1", f"{stage.state(order).filled}")
    stage.levels(asks=[(50_001, 0)])
    stage.levels(asks=[(50_000, 2)])
    yield Evidence("2 more come at 50,000", "FILLED", _status(stage, order))
    yield Evidence(
        "on its way", ["OPEN", "PARTIALLY_FILLED", "FILLED"], stage.statuses(order)
    )  # fmt: skip
    yield Evidence(
        "each part a fill of its own", ["1", "0.5"], [f"{f.value.size}" for f in stage.fills()]
    )


@ORDERS.shows(
    "pending, unresolved, rejected",
    "PENDING once sent; a refusal is REJECTED with the chain's reason; no answer is UNRESOLVED",
    "conn/lifecycle::a_refusal_has_its_reason_whenever_it_comes",
    "conn/lifecycle::codes_are_judged_within_their_codespace",
    "conn/trader::everything_is_written_down_and_no_secret",
)
def _node() -> Iterator[Evidence]:
    yield Evidence("sent", "PENDING", _by_node().status)
    refused = _by_node(code_of("ErrPostOnlyWouldCrossMakerOrder"))
    yield Evidence("the node refuses with code 2003", "REJECTED", refused.status)
    yield Evidence("reason", has("would have traded at once"), refused.reason)
    yield Evidence("no answer came", "UNRESOLVED", _by_node(error="DEADLINE_EXCEEDED").status)
    yield Evidence("the indexer then shows it", "OPEN", _by_node(error="x", row="OPEN").status)


@ORDERS.shows(
    "cancelled",
    "a cancel takes a resting order off the book; a node's word alone is no end of it",
    "paper/venue::an_unfilled_short_term_order_is_cancelled_with_best_effort",
    "conn/lifecycle::a_best_effort_cancel_is_reported_as_leaving",
    "paper/conditional::an_untriggered_order_expires_and_can_be_cancelled",
)
def _cancelled() -> Iterator[Evidence]:
    stage = Stage()
    short = stage.trade("BUY", "1", "49000", time_in_force="GTT")
    long = stage.trade("BUY", "1", "48000", time_in_force="GTT", good_til_block_time=LONG_TERM_END)
    stage.block()
    for order in (short, long):
        stage.place(cancel(order))
    stage.touch()
    yield Evidence("short-term, cancelled by a node: leaving", True, stage.state(short).leaving)
    yield Evidence("and not over", "OPEN", _status(stage, short))
    stage.block()
    stage.touch()
    yield Evidence("long-term, cancelled by the chain", "CANCELLED", _status(stage, long))
    for _ in range(21):
        stage.block()
    yield Evidence("short-term, once its last block is over", "CANCELLED", _status(stage, short))
    yield Evidence("nothing of either was filled", 0, len(stage.fills()))


@ORDERS.shows(
    "removed with a reason",
    "what the venue takes off says why: reduce-only with nothing to reduce, no collateral",
    "paper/venue::a_reduce_only_order_without_a_position_is_rejected",
    "paper/venue::a_taker_without_collateral_is_removed",
)
def _removed() -> Iterator[Evidence]:
    stage = Stage(deposit=1_000)
    nothing = stage.trade("SELL", "0.1", "49000", reduce_only=True)
    reason = "clob 2001: ErrReduceOnlyWouldIncreasePositionSize"
    yield Evidence("reduce-only, nothing held", reason, stage.state(nothing).reason)
    poor = stage.trade("BUY", "1", "50100")
    yield Evidence("1 BTC with 1,000 USDC", has("UNDERCOLLATERALIZED"), stage.state(poor).reason)
    yield Evidence("fills", 0, len(stage.fills()))


@ORDERS.shows(
    "order history",
    "the last fifty, newest first, by pages; chosen by status, ticker and date; parts with prices",
    "paper/history::the_last_fifty_orders_come_newest_first",
    "paper/history::orders_are_found_by_status_ticker_and_date",
    "bot/history::filters_choose_orders",
    "bot/history::an_order_is_shown_with_all_that_led_to_it",
)
def _history() -> Iterator[Evidence]:
    stage = Stage()
    for n in range(60):
        stage.trade("BUY", "0.1", *(("1000", ETH) if n % 2 else ("40000", BTC)))
        stage.block()
    walked = stage.trade("BUY", "2", "50100")
    history = stage.venue.ledger.history
    first, second = history.orders(), history.orders(page=2)
    yield Evidence("61 orders: rows of page 1 and 2", [50, 11], [len(first.rows), len(second.rows)])
    yield Evidence("the newest is first", "FILLED", first.rows[0].status)
    yield Evidence("of ETH-USD", 30, history.orders(ticker=ETH).total)
    yield Evidence("filled", 1, history.orders(status="FILLED").total)
    middle = first.rows[-1].created.time_ns
    counts = history.orders(since_ns=middle).total, history.orders(until_ns=middle).total
    yield Evidence("from a date on, and before it", (50, 11), counts)
    fills = history.fills(order_id=order_id(stage.venue.subaccount, walked)).rows
    prices = sorted(f"{_MARKET.price(fill.subticks).normalize():f}" for fill in fills)
    yield Evidence("prices of the parts of the last", ["50001", "50010"], prices)


# === Time in force ===


@IN_FORCE.shows(
    "good till time",
    "it stands until its end, by block or by time, and not beyond",
    "paper/venue::a_short_term_order_expires_with_its_block",
    "paper/venue::a_long_term_order_expires_with_its_time",
    "conn/lifecycle::an_order_ends_one_block_after_its_last",
)
def _until() -> Iterator[Evidence]:
    stage = Stage()
    order = stage.trade("BUY", "1", "49000", time_in_force="GTT", good_til_block=_HEIGHT + 3)
    for _ in range(2):
        stage.block()
        stage.touch()
    yield Evidence("until block 1,003: at block 1,002", "OPEN", _status(stage, order))
    stage.block()
    stage.touch()
    yield Evidence("once block 1,003 is made", "CANCELLED", _status(stage, order))
    yield Evidence("reason", "EXPIRED", stage.state(order).reason)
    long = stage.trade("BUY", "1", "49000", time_in_force="GTT", good_til_block_time=LONG_TERM_END)
    stage.block(80_000)
    stage.touch()
    yield Evidence("for a day: after 22 hours", "OPEN", _status(stage, long))
    stage.block(7_000)
    stage.touch()
    stage.block()
    yield Evidence("after 24 hours and more", "CANCELLED", _status(stage, long))


@IN_FORCE.shows(
    "immediate or cancel",
    "what is there is taken, the rest is cancelled, nothing rests",
    "paper/order_book::an_ioc_order_never_rests",
    "paper/venue::an_ioc_order_that_finds_nothing_is_over",
    "paper/venue::a_taker_walks_the_recorded_levels",
)
def _at_once() -> Iterator[Evidence]:
    stage = Stage()
    order = stage.trade("BUY", "1.5", "50001")
    yield Evidence("1.5 wanted, 1 offered: bought", "1", stage.size())
    yield Evidence("the rest", "CANCELLED", _status(stage, order))
    reason = stage.state(order).reason
    yield Evidence("reason", has("IMMEDIATE_OR_CANCEL"), reason)
    nothing = stage.trade("BUY", "1", "49000")
    yield Evidence("too low a price: filled", "0", f"{stage.state(nothing).filled}")
    stage.levels(asks=[(48_000, 5)])
    yield Evidence("a better offer comes later: held", "1", stage.size())


@IN_FORCE.shows(
    "post only",
    "it rests, or it is refused; it never takes",
    "paper/venue::a_post_only_order_that_crosses_is_removed",
    "paper/order_book::a_post_only_order_that_would_trade_is_rejected_whole",
)
def _post_only() -> Iterator[Evidence]:
    stage = Stage()
    crossing = stage.trade("BUY", "1", "50001", time_in_force="POST_ONLY")
    yield Evidence("at the ask: filled", "0", f"{stage.state(crossing).filled}")
    yield Evidence("reason", has("POST_ONLY"), stage.state(crossing).reason)
    resting = stage.trade("BUY", "1", "49999", time_in_force="POST_ONLY")
    yield Evidence("at the bid", "OPEN", _status(stage, resting))


@IN_FORCE.shows(
    "fill or kill",
    "it is always refused, as the chain does, before anything is sent",
    "conn/validity::an_order_is_refused_with_the_chains_own_reason",
    "paper/venue::what_the_chain_refuses_is_refused_with_its_reason",
)
def _fok() -> Iterator[Evidence]:
    yield Evidence("FOK", "ErrDeprecatedField", _objection(time_in_force="FOK"))
    yield Evidence("its code on the chain", 48, code_of("ErrDeprecatedField"))
    stage = Stage()
    stage.bot.place(later(stage.order("BUY", "1", "50001"), time_in_force="FOK"))
    stage.touch()
    yield Evidence("the venue counts it as refused", 1, stage.venue.refusals["ErrDeprecatedField"])
    yield Evidence("held", "0", stage.size())


_INVALID: Final[tuple[tuple[str, dict[str, Any], str], ...]] = (
    ("an unknown time in force", {"time_in_force": "DAY"}, "ErrInvalidTimeInForce"),
    ("a size of nothing", {"quantums": 0}, "ErrInvalidOrderQuantums"),
    ("a price of nothing", {"subticks": 0}, "ErrInvalidOrderSubticks"),
    ("a price off the tick", {"subticks": 5_000_000_001}, "ErrInvalidPlaceOrder"),
    ("a last block that has passed", {"good_til_block": 1_000}, "ErrHeightExceedsGoodTilBlock"),
    ("one too far ahead", {"good_til_block": 1_042}, "ErrGoodTilBlockExceedsShortBlockWindow"),
    ("no last block", {"good_til_block": 0}, "ErrInvalidOrderGoodTilBlock"),
    ("reduce-only at rest", {"reduce_only": True, "time_in_force": "GTT"}, "ErrReduceOnlyDisabled"),
    ("another market's number", {"clob_pair_id": 7}, "ErrInvalidClob"),
    ("nothing wrong", {}, ""),
)  # fmt: skip


@IN_FORCE.shows(
    "invalid orders",
    "each is refused before it is sent, with the chain's own name for the reason",
    "conn/validity::an_order_is_refused_with_the_chains_own_reason",
    "conn/validity::the_windows_end_where_the_chains_do",
    "conn/units::a_size_off_the_step_is_refused",
    "conn/orders::what_the_chain_would_refuse_is_refused_here_in_its_words",
)
def _invalid() -> Iterator[Evidence]:
    for what, terms, error in _INVALID:
        yield Evidence(what, error or "no objection", _objection(**terms) or "no objection")
    paused = objection(_order(), _MARKET, height=_HEIGHT, status="PAUSED")
    yield Evidence("a market that is paused", "ErrOrderConflictsWithClobPairStatus", paused)


# === Underneath ===


def _status(stage: Stage, order: OrderRequest) -> str:
    return stage.state(order).status


def _order(**terms: Any) -> OrderRequest:
    made = limit(
        _MARKET, "BUY", "1", "50000", client_id=7, good_til_block=_HEIGHT + 10, time_in_force="IOC"
    )
    return later(made, **terms)


def _objection(**terms: Any) -> str:
    return objection(_order(**terms), _MARKET, height=_HEIGHT)


def _by_node(code: int | None = None, error: str = "", row: str = "") -> Any:
    """Return how an order stands by what a node answered, and what the indexer shows then."""
    order = _order()
    ids, end = [order_id(_WE, order)], order.good_til_block
    size = str(_MARKET.size(order.quantums))
    sent = {"ids": ids, "subaccount": str(_WE), "size": size, "place": msgspec.to_builtins(order)}
    frames = [Frame(1, 0, 0, "node", "sent", json.dumps(sent), channel="place")]
    answer: dict[str, Any] = {"to": "place", "ids": ids, "until": end}
    if code is not None:
        result = {"code": code, "codespace": "clob", "log": "", "hash": ""}
        text = json.dumps(answer | {"result": result})
        frames.append(Frame(2, 0, 0, "node", "http", text, str(code), "broadcast"))
    if error:
        text = json.dumps(answer | {"errors": [{"msg": error}]})
        frames.append(Frame(2, 0, 0, "node", "http", text, "-1", "broadcast"))
    if row:
        shown = {"orders": [{"id": ids[0], "status": row}]}
        frames.append(WireWriter().message("channel_data", "v4_subaccounts", shown, str(_WE)))
    accounts = Accounts([_WE])
    for frame in frames:
        accounts.step(frame)
    return accounts.orders.orders[ids[0]]

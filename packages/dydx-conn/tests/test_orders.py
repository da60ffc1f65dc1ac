"""Orders before they are sent: built exactly, refused in the chain's words, priced, and written."""

from decimal import Decimal
from itertools import islice
from typing import Any, get_args

import pytest
from dydx_conn import (
    CONDITIONAL,
    LONG_TERM,
    SHORT_TERM,
    TWAP,
    Accounts,
    BatchCancel,
    CancelRequest,
    Fees,
    GridError,
    OrderDenied,
    OrderRequest,
    OrderState,
    Recording,
    Replace,
    Side,
    Subaccount,
    TimeInForce,
    batch_cancel_message,
    cancel,
    cancel_all,
    cancel_message,
    cancel_objection,
    client_ids,
    estimate,
    find_recording,
    limit,
    market,
    market_parameters,
    objection,
    place_message,
    replacement,
    stop_loss,
    take_profit,
    twap,
)
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

BTC = market_parameters("BTC-USD")
US = Subaccount("dydx199tqg4wdlnu4qjlxchpd7seg454937hjrknju4", 0)
SOON: dict[str, Any] = {"client_id": 7, "good_til_block": 110}
LATER: dict[str, Any] = {"client_id": 7, "good_til_block_time": 1_800_000_000}

# === Builders ===


@pytest.mark.parametrize("time_in_force", get_args(TimeInForce))
def test_a_short_term_order_is_built_from_a_size_and_a_price(time_in_force: TimeInForce) -> None:
    """0.0003 BTC are 3,000,000 quantums, and no float has seen them."""
    order = limit(BTC, "BUY", "0.0003", "60000", time_in_force=time_in_force, **SOON)

    assert order == OrderRequest(
        ticker="BTC-USD", clob_pair_id=0, side="BUY", quantums=3_000_000, subticks=6_000_000_000,
        time_in_force=time_in_force, client_id=7, good_til_block=110,
    )  # fmt: skip


def test_a_market_order_fills_at_once_and_is_marked() -> None:
    """An IOC with the worst price it takes, and the metadata that front ends look for."""
    order = market(BTC, "BUY", "0.0003", "60000", **SOON)

    assert (order.time_in_force, order.client_metadata) == ("IOC", 1)


def test_an_end_in_time_makes_an_order_long_term() -> None:
    """The same words, and another flag."""
    assert limit(BTC, "SELL", "1", "60000", **LATER).order_flags == LONG_TERM
    assert limit(BTC, "SELL", "1", "60000", **SOON).order_flags == SHORT_TERM


@pytest.mark.parametrize(
    ("build", "at_once", "condition", "time_in_force", "metadata"),
    [
        (stop_loss, False, "STOP_LOSS", "GTT", 0),
        (stop_loss, True, "STOP_LOSS", "IOC", 1),
        (take_profit, False, "TAKE_PROFIT", "GTT", 0),
        (take_profit, True, "TAKE_PROFIT", "IOC", 1),
    ],
)
def test_a_conditional_order_names_its_condition_and_trigger(
    build: Any, at_once: bool, condition: str, time_in_force: str, metadata: int
) -> None:
    """Limit or market, a stop or a profit: four kinds."""
    order = build(BTC, "SELL", "0.01", "59000", "58000", at_once=at_once, **LATER)

    assert (order.order_flags, order.condition_type) == (CONDITIONAL, condition)
    assert (order.trigger_subticks, order.subticks) == (5_900_000_000, 5_800_000_000)
    assert (order.time_in_force, order.client_metadata) == (time_in_force, metadata)


def test_a_twap_order_names_its_slices() -> None:
    """Without a price it fills near the oracle's."""
    order = twap(BTC, "BUY", "0.01", duration_s=600, interval_s=60, tolerance_ppm=5_000, **LATER)

    assert (order.order_flags, order.subticks) == (TWAP, 0)
    assert (order.twap_duration_s, order.twap_interval_s) == (600, 60)
    assert order.twap_tolerance_ppm == 5_000


@pytest.mark.parametrize(
    ("side", "price", "subticks"),
    [("BUY", "60000.9", 6_000_000_000), ("SELL", "60000.1", 6_000_100_000)],
)
def test_rounding_toward_less_is_chosen_by_the_caller(side: Any, price: str, subticks: int) -> None:
    """Sizes go down, a buy's price down, a sell's up; by default nothing is rounded."""
    order = limit(BTC, side, "0.00019", price, rounding="less", **SOON)

    assert (order.quantums, order.subticks) == (1_000_000, subticks)
    with pytest.raises(GridError, match=r"0\.0001"):
        limit(BTC, side, "0.00019", "60000", **SOON)
    with pytest.raises(GridError, match="price in multiples of 1"):
        limit(BTC, side, "0.0001", price, **SOON)


@pytest.mark.parametrize(
    ("side", "build", "trigger"),
    [
        ("SELL", stop_loss, 5_900_000_000),
        ("BUY", stop_loss, 5_900_100_000),
        ("SELL", take_profit, 5_900_100_000),
        ("BUY", take_profit, 5_900_000_000),
    ],
)
def test_a_rounded_trigger_fires_later_as_the_chain_rounds_prices(
    side: Any, build: Any, trigger: int
) -> None:
    """Up if the price has to rise to it, down if it has to fall."""
    order = build(BTC, side, "0.01", "59000.5", "59000", rounding="less", **LATER)

    assert order.trigger_subticks == trigger


@given(st.decimals("0", "10", places=12), st.decimals("1", "100000", places=9))
def test_rounding_never_orders_more(size: Decimal, price: Decimal) -> None:
    """Not more size, not a worse price; what comes to nothing is denied, never raised."""
    for side in get_args(Side):
        if size < Decimal("0.0001"):
            with pytest.raises(OrderDenied, match="ErrInvalidOrderQuantums"):
                limit(BTC, side, size, price, rounding="less", **SOON)
            continue
        order = limit(BTC, side, size, price, rounding="less", **SOON)
        assert 0 <= size - BTC.size(order.quantums) < Decimal("0.0001")
        better = price - BTC.price(order.subticks)
        assert 0 <= (better if side == "BUY" else -better) < 1


def _stop(**changed: Any) -> OrderRequest:
    return stop_loss(BTC, "SELL", "0.01", "59000", "58000", **{**LATER, **changed})


@pytest.mark.parametrize(
    ("build", "error", "code"),
    [
        (lambda: limit(BTC, "BUY", "0", "60000", **SOON), "ErrInvalidOrderQuantums", 4),
        (lambda: limit(BTC, "BUY", "-1", "60000", **SOON), "ErrInvalidOrderQuantums", 4),
        (lambda: limit(BTC, "BUY", "1", "0", **SOON), "ErrInvalidOrderSubticks", 6),
        (lambda: limit(BTC, "BUY", "1", "60000", client_id=1), "ErrInvalidOrderGoodTilBlock", 5),
        (
            lambda: limit(BTC, "BUY", "1", "60000", time_in_force="IOC", **LATER),
            "ErrLongTermOrdersCannotRequireImmediateExecution",
            3002,
        ),
        (
            lambda: limit(BTC, "BUY", "1", "60000", reduce_only=True, **SOON),
            "ErrReduceOnlyDisabled",
            9003,
        ),
        (lambda: _stop(reduce_only=True), "ErrReduceOnlyDisabled", 9003),
        (
            lambda: _stop(good_til_block=9, good_til_block_time=0),
            "ErrInvalidStatefulOrderGoodTilBlockTime",
            3001,
        ),
        (
            lambda: stop_loss(BTC, "SELL", "1", "0", "58000", **LATER),
            "ErrInvalidConditionalOrderTriggerSubticks",
            6001,
        ),
        (
            lambda: twap(BTC, "BUY", "1", duration_s=299, interval_s=30, tolerance_ppm=1, **LATER),
            "ErrInvalidPlaceOrder",
            12,
        ),
        (
            lambda: limit(BTC, "BUY", "1", "60000", builder_fee_ppm=10_001, **SOON),
            "ErrInvalidBuilderCode",
            50,
        ),
        (
            lambda: limit(BTC, "BUY", "1", "60000", client_id=2**32, good_til_block=1),
            "ErrInvalidPlaceOrder",
            12,
        ),
    ],
)
def test_what_the_chain_would_refuse_is_refused_here_in_its_words(
    build: Any, error: str, code: int
) -> None:
    """Before it is sent, with the chain's name and code, and what that means."""
    with pytest.raises(OrderDenied) as denied:
        build()

    assert (denied.value.error, denied.value.code) == (error, code)
    assert error in str(denied.value)


def test_a_reduce_only_market_order_is_taken() -> None:
    """Reduce-only goes with immediate-or-cancel."""
    assert market(BTC, "SELL", "1", "50000", reduce_only=True, **SOON).reduce_only
    assert _stop(at_once=True, reduce_only=True).reduce_only


# === Replacements and cancels ===


def test_a_short_term_order_is_replaced_by_a_later_one_of_its_kind() -> None:
    """Same id, greater block; size and price may change."""
    old = limit(BTC, "BUY", "1", "60000", **SOON)
    new = limit(BTC, "BUY", "2", "61000", client_id=7, good_til_block=111)

    assert replacement(old, new) is new


@pytest.mark.parametrize(
    "new",
    [
        limit(BTC, "BUY", "1", "60000", **SOON),
        limit(BTC, "SELL", "1", "60000", client_id=7, good_til_block=111),
        limit(BTC, "BUY", "1", "60000", time_in_force="POST_ONLY", client_id=7, good_til_block=111),
        limit(BTC, "BUY", "1", "60000", client_id=8, good_til_block=111),
    ],
)
def test_other_replacements_are_refused(new: OrderRequest) -> None:
    """Not at the same block, of another side or kind, nor under another id."""
    with pytest.raises(OrderDenied, match="ErrInvalidReplacement"):
        replacement(limit(BTC, "BUY", "1", "60000", **SOON), new)


def test_a_stateful_order_is_cancelled_before_another_one_takes_its_place() -> None:
    """With a new client id; the same one, or a short-term order, cannot."""
    old = limit(BTC, "BUY", "1", "60000", **LATER)
    new = limit(BTC, "BUY", "1", "61000", client_id=8, good_til_block_time=1_800_000_000)

    assert replacement(old, new) == Replace(cancel=cancel(old), order=new)
    for wrong in (old, limit(BTC, "BUY", "1", "60000", **SOON)):
        with pytest.raises(OrderDenied, match="ErrStatefulOrderAlreadyExists"):
            replacement(old, wrong)


def test_a_cancel_lasts_at_least_as_long_as_its_order() -> None:
    """Or the order would stay on the book."""
    short, long = limit(BTC, "BUY", "1", "60000", **SOON), limit(BTC, "BUY", "1", "60000", **LATER)

    assert cancel(short).good_til_block == 110
    assert cancel(short, good_til_block=120).good_til_block == 120
    assert cancel(long) == CancelRequest(
        ticker="BTC-USD", clob_pair_id=0, client_id=7, order_flags=64,
        good_til_block_time=1_800_000_000,
    )  # fmt: skip


def _state(client_id: int, **changed: Any) -> OrderState:
    named = CancelRequest(
        ticker="X", clob_pair_id=client_id % 2, client_id=client_id, good_til_block=100 + client_id
    )
    fields = {"id": str(client_id), "subaccount": "us/0", "status": "OPEN", "named": named}
    return OrderState(**{"seq": 1, **fields, **changed})


TWAP_CANCEL = CancelRequest(
    ticker="X", clob_pair_id=2, client_id=4, order_flags=128, good_til_block_time=1_800_000_000
)


def test_cancel_all_takes_short_term_orders_in_batches_and_the_others_one_by_one() -> None:
    """At most 100 at once, grouped by market, by subaccount; what is final or unnamed is left."""
    stateful = cancel(limit(BTC, "BUY", "1", "60000", **LATER))
    states = [_state(n) for n in range(101)]
    states += [_state(200, named=stateful), _state(201, status="FILLED"), _state(202, named=None)]
    states += [_state(203, subaccount="us/128")]

    cancels = cancel_all(states, good_til_block=150)

    own = cancels["us/0"]
    assert own[0] == stateful
    [first, last] = own[1:]
    assert isinstance(first, BatchCancel)
    assert isinstance(last, BatchCancel)
    assert [request.client_id for request in first.cancels] == list(range(100))
    assert [request.client_id for request in last.cancels] == [100]
    assert {request.good_til_block for request in first.cancels} == {199}
    assert {request.good_til_block for request in last.cancels} == {200}
    [child] = cancels["us/128"]
    assert isinstance(child, BatchCancel)
    assert [request.client_id for request in child.cancels] == [203]


def test_cancel_all_names_a_twap_and_never_a_part_of_it() -> None:
    """Where no more than a leg was reported its end is not known: the furthest there is holds."""
    whole, leg = (
        _state(1, named=TWAP_CANCEL),
        _state(2, named=replace(TWAP_CANCEL, order_flags=256)),
    )
    endless = replace(TWAP_CANCEL, good_til_block_time=0)
    filling = _state(3, named=endless, status="PARTIALLY_FILLED", filled=Decimal(30))

    cancels = cancel_all([whole, leg, filling], good_til_block=9, good_til_block_time=77)

    assert cancels == {"us/0": [TWAP_CANCEL, replace(endless, good_til_block_time=77)]}


def test_cancel_all_ends_the_twap_of_a_real_session() -> None:
    """The venue's own words for it are FILLED, after a leg of ten: it goes on until it is named."""
    folder = find_recording("account").parent / "localnet" / "09-twap-cancelled"
    frames = list(Recording(folder / "frames.jsonl.zst"))
    accounts = Accounts()

    def named(*, after: int, until: int) -> list[Any]:
        for frame in frames[after:until]:
            list(accounts.step(frame))
        return [each for cancels in cancel_all(accounts.orders.open()).values() for each in cancels]

    assert [(each.client_id, each.order_flags) for each in named(after=0, until=500)] == [
        (779838383, 128)
    ]
    assert named(after=500, until=len(frames)) == []


@pytest.mark.parametrize("flags", [256, 1, 127])
def test_what_only_the_chain_places_is_neither_placed_nor_cancelled(flags: int) -> None:
    """A suborder is its own; other flags it does not know."""
    order = replace(limit(BTC, "BUY", "1", "60000", **LATER), order_flags=flags)

    assert objection(order, BTC) == "ErrInvalidOrderFlag"
    assert cancel_objection(cancel(order)) == "ErrInvalidOrderFlag"


# === Estimates ===

ORDER = limit(BTC, "BUY", "0.1", "60000", **LATER)  # 6,000 USDC


def test_an_estimate_counts_the_worse_fee_and_the_builders() -> None:
    """Rounded up, in quote quantums; gas is free."""
    found = estimate(ORDER, BTC, Fees(taker_ppm=500, maker_ppm=100))

    assert (found.quote, found.fee, found.gas) == (6_000_000_000, 3_000_000, 0)
    assert found.initial_margin == 300_000_000
    assert (found.affordable, found.objection) == (None, "")


def test_a_sell_is_worth_its_oracle_value_if_that_is_more() -> None:
    """It may fill above its own price, and the fee is taken of that."""
    sell = limit(BTC, "SELL", "0.1", "60000", **LATER)

    assert estimate(sell, BTC, Fees(), oracle_subticks=7_000_000_000).fee == 3_500_000


def test_a_sell_is_worth_what_is_bid_for_it_if_that_is_more() -> None:
    """Margin too; a buy pays its own price at most, whatever is bid."""
    sell = limit(BTC, "SELL", "0.1", "60000", **LATER)
    prices: dict[str, Any] = {"oracle_subticks": 6_500_000_000, "best_bid_subticks": 7_000_000_000}

    sold, bought = estimate(sell, BTC, Fees(), **prices), estimate(ORDER, BTC, Fees(), **prices)

    assert (sold.quote, sold.fee, sold.initial_margin) == (7_000_000_000, 3_500_000, 350_000_000)
    assert (bought.quote, bought.initial_margin) == (6_500_000_000, 325_000_000)


@given(
    st.sampled_from(get_args(Side)), *[st.integers(50_000, 70_000)] * 3,
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 500)), min_size=1, max_size=9),
    st.sampled_from([500, 100, -110]),
)  # fmt: skip
def test_no_fill_costs_more_than_was_estimated(
    side: Any, own: int, oracle: int, bid: int, fills: list[tuple[int, int]], rate: int
) -> None:
    """Wherever between its own price and the best bid it fills; but for a quantum each."""
    most = max(own, oracle, bid) if side == "SELL" else own
    prices = [max(own, most - off) if side == "SELL" else own - off for off, _ in fills]
    size = sum(steps for _, steps in fills)
    order = limit(BTC, side, Decimal(size) / 10_000, str(own), **SOON)

    found = estimate(
        order, BTC, Fees(), oracle_subticks=oracle * 100_000, best_bid_subticks=bid * 100_000
    )

    steps = [
        (price * 100_000, count * 1_000_000)
        for price, (_, count) in zip(prices, fills, strict=True)
    ]
    worth = [BTC.quote_quantums(quantums, subticks) for subticks, quantums in steps]
    paid = sum(Fees(taker_ppm=rate).of(quote, "TAKER") for quote in worth)
    assert sum(worth) <= found.quote
    assert paid <= found.fee + len(fills) - 1
    assert found.initial_margin >= found.quote * BTC.imf_ppm // 1_000_000


@pytest.mark.parametrize(
    ("changed", "affordable", "objection"),
    [
        ({"net_collateral": 303_000_000}, True, ""),
        # Resting, it would pay a maker's fee, and the chain looks at that.
        ({"net_collateral": 302_999_999}, False, ""),
        ({"net_collateral": 300_600_000}, False, ""),
        ({"net_collateral": 300_599_999}, False, "ErrStatefulOrderCollateralizationCheckFailed"),
        (
            {"net_collateral": 400_000_000, "initial_margin": 100_000_000},
            False,
            "ErrStatefulOrderCollateralizationCheckFailed",
        ),
        ({"net_collateral": 303_000_000, "open_stateful": 4}, True, ""),
        (
            {"net_collateral": 303_000_000, "open_stateful": 5},
            True,
            "ErrOrderWouldExceedMaxOpenOrdersEquityTierLimit",
        ),
        (
            {"net_collateral": 303_000_000, "imf_ppm": 51_000},
            False,
            "ErrStatefulOrderCollateralizationCheckFailed",
        ),
        # Bought 100 USDC above the oracle's price: 10 USDC are gone at once; and below, won.
        (
            {"net_collateral": 303_000_000, "oracle_subticks": 5_990_000_000},
            False,
            "ErrStatefulOrderCollateralizationCheckFailed",
        ),
        ({"net_collateral": 21_000_000, "oracle_subticks": 7_000_000_000}, True, ""),
        # What makes a short smaller is always taken.
        ({"net_collateral": 21_000_000, "position": -1_000_000_000}, True, ""),
    ],
)
def test_what_the_account_cannot_afford_is_reported_in_the_chains_words(
    changed: dict[str, Any], affordable: bool, objection: str
) -> None:
    """3007 for collateral, 10001 for the equity tier."""
    found = estimate(ORDER, BTC, Fees(), **changed)

    assert (found.affordable, found.objection) == (affordable, objection)


def test_only_what_the_chain_checks_at_placement_is_an_objection() -> None:
    """Short-term and conditional orders are checked when they match."""
    short = limit(BTC, "BUY", "0.1", "60000", **SOON)

    for order in (short, _stop()):
        found = estimate(order, BTC, Fees(), net_collateral=20_000_001)
        assert (found.affordable, found.objection) == (False, "")


# === Messages ===


def test_a_message_holds_integers_and_what_the_client_leaves_out() -> None:
    """Condition, trigger and metadata are written; one end alone is."""
    order = place_message(_stop(at_once=True), US).order

    assert (order.order_id.subaccount_id.owner, order.order_id.client_id) == (US.owner, 7)
    assert (order.order_id.order_flags, order.order_id.clob_pair_id) == (32, 0)
    assert (order.side, order.quantums, order.subticks) == (2, 100_000_000, 5_800_000_000)
    assert (order.time_in_force, order.condition_type) == (1, 1)
    assert order.conditional_order_trigger_subticks == 5_900_000_000
    assert order.client_metadata == 1
    assert order.WhichOneof("good_til_oneof") == "good_til_block_time"
    assert place_message(limit(BTC, "BUY", "1", "60000", **SOON), US).order.good_til_block == 110


def test_twap_and_builder_stand_where_the_chain_reads_them() -> None:
    """At 12 and 13; the client's older protocol has the builder at 12."""
    order = twap(
        BTC, "BUY", "1", duration_s=600, interval_s=60, tolerance_ppm=5_000,
        builder_address=US.owner, builder_fee_ppm=7, **LATER,
    )  # fmt: skip
    message = place_message(order, US)
    back = type(message).FromString(message.SerializeToString()).order

    inner = UnknownFieldSet(back.builder_code_parameters)
    at_12 = {inner[i].field_number: inner[i].data for i in range(len(inner))}
    assert at_12 == {1: 600, 3: 5_000}
    assert back.builder_code_parameters.fee_ppm == 60
    outer = UnknownFieldSet(back)
    assert (len(outer), outer[0].field_number) == (1, 13)
    builder = type(back.builder_code_parameters).FromString(outer[0].data)
    assert (builder.builder_address, builder.fee_ppm) == (US.owner, 7)


def test_cancels_name_orders_as_the_chain_does() -> None:
    """One by one with either end, or many with one block."""
    short, long = (
        cancel_message(cancel(limit(BTC, "BUY", "1", "60000", **terms)), US)
        for terms in (SOON, LATER)
    )
    cancels = tuple(
        CancelRequest(ticker="", clob_pair_id=pair, client_id=id, good_til_block=9)
        for pair, id in ((0, 1), (1, 3), (0, 2))
    )
    batch = batch_cancel_message(BatchCancel(cancels=cancels), US)

    assert (short.good_til_block, short.order_id.client_id) == (110, 7)
    assert (long.good_til_block_time, long.order_id.order_flags) == (1_800_000_000, 64)
    ids = [(group.clob_pair_id, list(group.client_ids)) for group in batch.short_term_cancels]
    assert (ids, batch.good_til_block) == ([(0, [1, 2]), (1, [3])], 9)


# === Client ids ===

BEGUN = 1_800_000_000 * 10**9


def test_client_ids_count_on_from_where_the_clock_stands() -> None:
    """The same beginning gives the same numbers, so a replay gives those of its run."""
    first, again = (list(islice(client_ids(BEGUN), 300)) for _ in range(2))

    assert first == again == [(900_000_000_000 + n) % 2**32 for n in range(300)]


@given(st.integers(0, 99 * 86_400), st.integers(1, 20))
def test_a_run_that_begins_later_repeats_no_client_id(after_s: int, seconds: int) -> None:
    """If the one before placed at most 500 orders a second, for 99 days."""
    before = set(islice(client_ids(BEGUN), 500 * min(seconds, after_s)))

    later = islice(client_ids(BEGUN + after_s * 10**9), 1_000)

    assert before.isdisjoint(later)


def test_client_ids_come_round_at_32_bits() -> None:
    """The number after the last is the first."""
    assert list(islice(client_ids((2**32 - 2) * 2_000_000), 3)) == [2**32 - 2, 2**32 - 1, 0]

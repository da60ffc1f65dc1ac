"""What the chain would refuse, before it is sent: each reason, and the bounds around it."""

from typing import Any

import msgspec
import pytest
from dydx_conn import (
    CONDITIONAL,
    LONG_TERM,
    MAX_BATCH,
    SHORT_BLOCK_WINDOW,
    SHORT_TERM,
    STATEFUL_WINDOW_S,
    TWAP,
    CancelRequest,
    OrderRequest,
    Subaccount,
    TimeInForce,
    batch_cancel_objection,
    cancel_objection,
    code_of,
    codespace_of,
    is_address,
    market_parameters,
    meaning,
    objection,
    takes,
)
from hypothesis import given
from hypothesis import strategies as st

ADDRESS = "dydx1kzsvkf2ghjqlysuffdkhcdctknl4rsvcx5hkm5"
OWNER = Subaccount(ADDRESS, 0)
BTC = market_parameters("BTC-USD", imf_ppm=20_000)
HEIGHT, NOW = 1_000, 1_700_000_000

SHORT: dict[str, Any] = {"good_til_block": HEIGHT + 10}
LONG: dict[str, Any] = {"order_flags": LONG_TERM, "good_til_block_time": NOW + 60}
STOP: dict[str, Any] = {
    "order_flags": CONDITIONAL,
    "good_til_block_time": NOW + 60,
    "condition_type": "STOP_LOSS",
    "trigger_subticks": 4_900_000_000,
}
SLICED: dict[str, Any] = {
    "order_flags": TWAP,
    "good_til_block_time": NOW + 60,
    "twap_duration_s": 300,
    "twap_interval_s": 30,
}


def order(**fields: Any) -> OrderRequest:
    """Make a short-term limit order that nothing is wrong with, but for what is given."""
    plain: dict[str, Any] = {
        "ticker": "BTC-USD",
        "clob_pair_id": 0,
        "side": "BUY",
        "quantums": 10_000_000,
        "subticks": 5_000_000_000,
        "time_in_force": "GTT",
        "client_id": 7,
    }
    return OrderRequest(**plain | (SHORT if "order_flags" not in fields else {}) | fields)


def judged(given: OrderRequest, **terms: Any) -> str:
    """Judge an order as if it were sent now."""
    known: dict[str, Any] = {"subaccount": OWNER, "height": HEIGHT, "time": NOW}
    return objection(given, BTC, **known | terms)


def cancel(**fields: Any) -> CancelRequest:
    """Make a cancel of a short-term order that nothing is wrong with, but for what is given."""
    plain: dict[str, Any] = {"ticker": "BTC-USD", "clob_pair_id": 0, "client_id": 7}
    return CancelRequest(**plain | (SHORT if "order_flags" not in fields else {}) | fields)


# === Orders ===


@pytest.mark.parametrize(
    "fields",
    [
        SHORT,
        SHORT | {"time_in_force": "IOC", "reduce_only": True},
        SHORT | {"time_in_force": "POST_ONLY", "side": "SELL"},
        LONG,
        LONG | {"time_in_force": "POST_ONLY"},
        STOP,
        STOP | {"condition_type": "TAKE_PROFIT", "time_in_force": "IOC", "reduce_only": True},
        SLICED,
        SLICED | {"subticks": 0},
        SLICED | {"twap_duration_s": 86_400, "twap_interval_s": 3_600, "quantums": 24_000_000},
        SLICED | {"twap_tolerance_ppm": 999_999},
        SHORT | {"builder_address": ADDRESS, "builder_fee_ppm": 10_000},
        SHORT | {"client_id": 2**32 - 1},
    ],
)
def test_an_order_that_the_chain_takes_is_not_objected_to(fields: dict[str, Any]) -> None:
    """Of each kind, and each kind's time in force."""
    assert judged(order(**fields)) == ""


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"time_in_force": "FOK"}, "ErrDeprecatedField"),
    ({"side": "HOLD"}, "ErrInvalidOrderSide"),
    ({"time_in_force": "DAY"}, "ErrInvalidTimeInForce"),
    ({"condition_type": "TRAILING"}, "ErrInvalidConditionType"),
    ({"quantums": 0}, "ErrInvalidOrderQuantums"),
    ({"quantums": -1_000_000}, "ErrInvalidOrderQuantums"),
    ({"quantums": 2**64}, "ErrInvalidOrderQuantums"),
    ({"good_til_block": 0}, "ErrInvalidOrderGoodTilBlock"),
    ({"good_til_block": 2**32}, "ErrInvalidOrderGoodTilBlock"),
    (LONG | {"good_til_block_time": 0}, "ErrInvalidStatefulOrderGoodTilBlockTime"),
    (STOP | {"good_til_block_time": 0}, "ErrInvalidStatefulOrderGoodTilBlockTime"),
    (SLICED | {"good_til_block_time": 0}, "ErrInvalidStatefulOrderGoodTilBlockTime"),
    ({"order_flags": 256}, "ErrInvalidOrderFlag"),
    ({"order_flags": 1}, "ErrInvalidOrderFlag"),
    (LONG | {"time_in_force": "IOC"}, "ErrLongTermOrdersCannotRequireImmediateExecution"),
    ({"reduce_only": True}, "ErrReduceOnlyDisabled"),
    (LONG | {"reduce_only": True}, "ErrReduceOnlyDisabled"),
    (STOP | {"reduce_only": True, "time_in_force": "POST_ONLY"}, "ErrReduceOnlyDisabled"),
    ({"subticks": 0}, "ErrInvalidOrderSubticks"),
    ({"subticks": -100_000}, "ErrInvalidOrderSubticks"),
    (SLICED | {"subticks": -100_000}, "ErrInvalidOrderSubticks"),
    ({"subticks": 2**64}, "ErrInvalidOrderSubticks"),
    (STOP | {"condition_type": ""}, "ErrInvalidConditionType"),
    ({"condition_type": "STOP_LOSS"}, "ErrInvalidConditionType"),
    (STOP | {"trigger_subticks": 0}, "ErrInvalidConditionalOrderTriggerSubticks"),
    ({"trigger_subticks": 100_000}, "ErrInvalidConditionalOrderTriggerSubticks"),
    ({"builder_address": ADDRESS}, "ErrInvalidBuilderCode"),
    ({"builder_fee_ppm": 10}, "ErrInvalidBuilderCode"),
    ({"builder_address": ADDRESS, "builder_fee_ppm": 10_001}, "ErrInvalidBuilderCode"),
    ({"builder_address": ADDRESS[:-1] + "q", "builder_fee_ppm": 10}, "ErrInvalidBuilderCode"),
    (SLICED | {"twap_interval_s": 0, "twap_duration_s": 0}, "ErrInvalidPlaceOrder"),
    (SLICED | {"twap_interval_s": 29, "twap_duration_s": 290}, "ErrInvalidPlaceOrder"),
    (SLICED | {"twap_interval_s": 3_601, "twap_duration_s": 3_601}, "ErrInvalidPlaceOrder"),
    (SLICED | {"twap_duration_s": 299}, "ErrInvalidPlaceOrder"),
    (SLICED | {"twap_duration_s": 86_430}, "ErrInvalidPlaceOrder"),
    (SLICED | {"twap_interval_s": 70}, "ErrInvalidPlaceOrder"),
    (SLICED | {"twap_tolerance_ppm": 1_000_000}, "ErrInvalidPlaceOrder"),
    (SLICED | {"quantums": 9_000_000}, "ErrInvalidPlaceOrder"),
    ({"client_id": 2**32}, "ErrInvalidPlaceOrder"),
    ({"client_id": -1}, "ErrInvalidPlaceOrder"),
    ({"client_metadata": 2**32}, "ErrInvalidPlaceOrder"),
    ({"clob_pair_id": 1}, "ErrInvalidClob"),
    ({"quantums": 10_000_001}, "ErrInvalidPlaceOrder"),
    ({"subticks": 5_000_000_001}, "ErrInvalidPlaceOrder"),
    (STOP | {"trigger_subticks": 4_900_000_001}, "ErrInvalidPlaceOrder"),
    ({"good_til_block": HEIGHT}, "ErrHeightExceedsGoodTilBlock"),
    ({"good_til_block": HEIGHT + 42}, "ErrGoodTilBlockExceedsShortBlockWindow"),
    (LONG | {"good_til_block_time": NOW}, "ErrTimeExceedsGoodTilBlockTime"),
    (
        STOP | {"good_til_block_time": NOW + STATEFUL_WINDOW_S + 1},
        "ErrGoodTilBlockTimeExceedsStatefulOrderTimeWindow",
    ),
]


@pytest.mark.parametrize(("fields", "error"), REFUSED)
def test_an_order_is_refused_with_the_chains_own_reason(fields: dict[str, Any], error: str) -> None:
    """And the reason has a code and a meaning."""
    assert judged(order(**fields)) == error
    assert meaning(codespace_of(error), code_of(error)) not in ("", "accepted")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"time_in_force": "FOK"}, {"quantums": 0}),
        ({"quantums": 0}, {"good_til_block": 0}),
        ({"good_til_block": 0}, {"reduce_only": True}),
        ({"reduce_only": True}, {"subticks": 0}),
        ({"subticks": 0}, {"condition_type": "STOP_LOSS"}),
        ({"condition_type": "STOP_LOSS"}, {"trigger_subticks": 1}),
        ({"trigger_subticks": 1}, {"builder_fee_ppm": 1}),
        ({"builder_fee_ppm": 1}, {"clob_pair_id": 1}),
        ({"clob_pair_id": 1}, {"quantums": 1}),
        ({"quantums": 1}, {"good_til_block": HEIGHT}),
    ],
)
def test_of_two_objections_the_chains_first_is_returned(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    """As its own checks stand: a trader sees the same name before and after sending."""
    assert judged(order(**second)) != judged(order(**first))
    assert judged(order(**first | second)) == judged(order(**first))


@pytest.mark.parametrize(
    ("subaccount", "error"),
    [
        (Subaccount(ADDRESS, 128_000), ""),
        (Subaccount(ADDRESS, 128_001), "ErrInvalidSubaccountIdNumber"),
        (Subaccount(ADDRESS, -1), "ErrInvalidSubaccountIdNumber"),
        (Subaccount("dydx1owner", 0), "ErrInvalidSubaccountIdOwner"),
    ],
)
def test_a_subaccount_that_cannot_be_is_refused(subaccount: Subaccount, error: str) -> None:
    """Of orders and of cancels; in its own codespace."""
    assert judged(order(), subaccount=subaccount) == error
    assert cancel_objection(cancel(), subaccount=subaccount) == error
    assert batch_cancel_objection([cancel()], subaccount=subaccount) == error
    assert codespace_of(error) == ("subaccounts" if error else "")


@pytest.mark.parametrize("kind", [SHORT, LONG])
def test_what_is_unknown_is_not_judged(kind: dict[str, Any]) -> None:
    """Neither the window without a height or a time, nor a subaccount that is not given."""
    far = order(**kind | {"good_til_block": 2**32 - 1, "good_til_block_time": 2**32 - 1})

    assert objection(far, BTC) == ""
    assert judged(far) in (
        "ErrGoodTilBlockExceedsShortBlockWindow",
        "ErrGoodTilBlockTimeExceedsStatefulOrderTimeWindow",
    )


def test_the_windows_end_where_the_chains_do() -> None:
    """The next block and forty after it; a second from now and 95 days."""
    blocks = [HEIGHT + 1, HEIGHT + 1 + SHORT_BLOCK_WINDOW]
    seconds = [NOW + 1, NOW + STATEFUL_WINDOW_S]

    assert [judged(order(good_til_block=block)) for block in blocks] == ["", ""]
    assert [judged(order(**LONG | {"good_til_block_time": s})) for s in seconds] == ["", ""]


@pytest.mark.parametrize(
    ("status", "taken"),
    [
        ("ACTIVE", "GTT IOC POST_ONLY"),
        ("", "GTT IOC POST_ONLY"),
        ("POST_ONLY", "POST_ONLY"),
        ("INITIALIZING", "POST_ONLY"),
        ("CANCEL_ONLY", ""),
        ("PAUSED", ""),
        ("FINAL_SETTLEMENT", ""),
        ("A_NEW_WORD", ""),
    ],
)
def test_a_status_takes_some_kinds_of_orders(status: str, taken: str) -> None:
    """One table for all layers; what nobody knows takes nothing."""
    kinds: tuple[TimeInForce, ...] = ("GTT", "IOC", "POST_ONLY")

    assert [kind for kind in kinds if takes(status, kind)] == taken.split()


@pytest.mark.parametrize(
    ("status", "fields", "taken"),
    [
        ("ACTIVE", SHORT, True),
        ("", SHORT, True),
        ("PAUSED", SHORT, False),
        ("CANCEL_ONLY", SHORT | {"time_in_force": "POST_ONLY"}, False),
        ("FINAL_SETTLEMENT", SHORT | {"time_in_force": "IOC", "reduce_only": True}, False),
        ("POST_ONLY", SHORT, False),
        ("POST_ONLY", LONG | {"time_in_force": "POST_ONLY"}, True),
        ("INITIALIZING", SHORT, False),
        ("INITIALIZING", SHORT | {"time_in_force": "POST_ONLY"}, True),
        ("INITIALIZING", LONG | {"time_in_force": "POST_ONLY"}, False),
    ],
)
def test_a_markets_status_admits_some_orders(
    status: str, fields: dict[str, Any], taken: bool
) -> None:
    """While a market gathers, post-only and short-term alone; an unknown status is not judged."""
    assert judged(order(**fields), status=status) == (
        "" if taken else "ErrOrderConflictsWithClobPairStatus"
    )


@pytest.mark.parametrize(
    ("side", "subticks", "taken"),
    [("BUY", 100, True), ("BUY", 101, False), ("SELL", 100, True), ("SELL", 99, False)],
)
def test_a_market_that_gathers_keeps_orders_on_their_side_of_the_oracle(
    side: str, subticks: int, taken: bool
) -> None:
    """Buys at or below it, sells at or above."""
    gathering = order(side=side, subticks=subticks * 100_000, time_in_force="POST_ONLY")

    found = judged(gathering, status="INITIALIZING", oracle_subticks=100 * 100_000)

    assert found == ("" if taken else "ErrOrderConflictsWithClobPairStatus")


orders = st.builds(
    OrderRequest,
    ticker=st.just("BTC-USD"),
    clob_pair_id=st.sampled_from([0, 0, 0, 1]),
    side=st.sampled_from(["BUY", "SELL"]),
    quantums=st.integers(-1, 20).map(lambda n: n * 500_000),
    subticks=st.integers(-1, 10**6).map(lambda n: n * 50_000),
    time_in_force=st.sampled_from(["GTT", "IOC", "POST_ONLY", "FOK"]),
    client_id=st.integers(0, 2**32 - 1),
    reduce_only=st.booleans(),
    order_flags=st.sampled_from([SHORT_TERM, CONDITIONAL, LONG_TERM, TWAP, 256]),
    good_til_block=st.integers(HEIGHT - 1, HEIGHT + 50),
    good_til_block_time=st.integers(NOW - 1, NOW + 100),
    condition_type=st.sampled_from(["", "STOP_LOSS", "TAKE_PROFIT"]),
    trigger_subticks=st.sampled_from([0, 50_000, 100_000]),
    twap_duration_s=st.sampled_from([0, 300, 301]),
    twap_interval_s=st.sampled_from([0, 30, 60]),
    twap_tolerance_ppm=st.sampled_from([-1, 0, 1_000_000]),
)


@given(orders)
def test_whatever_passes_is_on_the_grid_and_in_time(given_order: OrderRequest) -> None:
    """Every answer is nothing or a name that the chain has, and nothing wrong gets through."""
    found = judged(given_order)

    assert (code_of(found) == 0) == (found == "")
    if not found:
        assert given_order.quantums > 0 == given_order.quantums % BTC.step_base_quantums
        assert given_order.subticks % BTC.subticks_per_tick == 0
        assert given_order.reduce_only <= (given_order.time_in_force == "IOC")
        assert given_order.time_in_force in ("GTT", "IOC", "POST_ONLY")
        if given_order.order_flags == SHORT_TERM:
            assert HEIGHT < given_order.good_til_block <= HEIGHT + 41
        else:
            assert given_order.good_til_block_time > NOW


def test_an_orders_new_terms_are_written_only_where_they_are_set() -> None:
    """What has always been written still is: hashes of what was decided before hold."""
    plain = msgspec.json.encode(order())
    sliced = msgspec.json.encode(order(**SLICED))

    assert b'"reduce_only":false' in plain
    assert b'"trigger_subticks":0}' in plain
    assert b"twap" not in plain
    assert b'"twap_duration_s":300' in sliced
    assert msgspec.json.decode(plain, type=OrderRequest) == order()
    assert msgspec.json.decode(sliced, type=OrderRequest) == order(**SLICED)


# === Cancels ===


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, ""),
        ({"order_flags": LONG_TERM, "good_til_block_time": NOW + 9}, ""),
        ({"order_flags": 256}, "ErrInvalidOrderFlag"),
        ({"good_til_block": 0}, "ErrInvalidOrderGoodTilBlock"),
        ({"order_flags": CONDITIONAL}, "ErrInvalidStatefulOrderGoodTilBlockTime"),
        ({"good_til_block": HEIGHT}, "ErrHeightExceedsGoodTilBlock"),
        ({"good_til_block": HEIGHT + 42}, "ErrGoodTilBlockExceedsShortBlockWindow"),
        (
            {"order_flags": TWAP, "good_til_block_time": NOW},
            "ErrTimeExceedsGoodTilBlockTime",
        ),
        (
            {"order_flags": LONG_TERM, "good_til_block_time": NOW + STATEFUL_WINDOW_S + 1},
            "ErrGoodTilBlockTimeExceedsStatefulOrderTimeWindow",
        ),
        (
            {"order_flags": LONG_TERM, "good_til_block_time": NOW + 8},
            "ErrInvalidStatefulOrderCancellation",
        ),
    ],
)
def test_a_cancel_is_refused_with_the_chains_own_reason(fields: dict[str, Any], error: str) -> None:
    """Its windows are those of orders, and it must not end before its order does."""
    found = cancel_objection(
        cancel(**fields), subaccount=OWNER, height=HEIGHT, time=NOW, order_ends=NOW + 9
    )

    assert found == error


def test_a_batch_cancels_up_to_a_hundred() -> None:
    """One more is refused; none at all is nothing to object to."""
    hundred = [cancel(client_id=n) for n in range(MAX_BATCH)]

    assert batch_cancel_objection(hundred, height=HEIGHT) == ""
    assert batch_cancel_objection([*hundred, cancel(client_id=100)]) == "ErrInvalidBatchCancel"
    assert batch_cancel_objection([]) == ""


@pytest.mark.parametrize(
    ("other", "error"),
    [
        ({}, "ErrInvalidBatchCancel"),
        ({"client_id": 8}, ""),
        ({"clob_pair_id": 1}, ""),
        ({"client_id": 8, "good_til_block": HEIGHT + 11}, "ErrInvalidBatchCancel"),
        (
            {"client_id": 8, "order_flags": LONG_TERM, "good_til_block": HEIGHT + 10},
            "ErrInvalidBatchCancel",
        ),
    ],
)
def test_a_batch_names_each_order_once_and_ends_at_one_block(
    other: dict[str, Any], error: str
) -> None:
    """Client ids may repeat across markets."""
    assert batch_cancel_objection([cancel(), cancel(**other)], height=HEIGHT) == error


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"order_flags": LONG_TERM, "good_til_block": HEIGHT + 1}, "ErrInvalidBatchCancel"),
        ({"good_til_block": 0}, "ErrInvalidOrderGoodTilBlock"),
        ({"good_til_block": HEIGHT}, "ErrHeightExceedsGoodTilBlock"),
        ({"good_til_block": HEIGHT + 42}, "ErrGoodTilBlockExceedsShortBlockWindow"),
    ],
)
def test_a_batch_is_short_term_and_in_the_window(fields: dict[str, Any], error: str) -> None:
    """Stateful orders are cancelled one by one."""
    assert batch_cancel_objection([cancel(**fields)], height=HEIGHT) == error


# === Refusals ===


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dydx1",
        "cosmos1kzsvkf2ghjqlysuffdkhcdctknl4rsvcx5hkm5",
        ADDRESS[:-1] + "6",
        ADDRESS + "q",
        "\u00e9" + ADDRESS,
        "dydx1pqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq",
    ],
)
def test_what_is_no_address_of_the_chain_is_reported(text: str) -> None:
    """Prefix, length and checksum."""
    assert not is_address(text)
    assert is_address(ADDRESS)


@pytest.mark.parametrize(
    ("codespace", "codes"),
    [
        ("sdk", [4, 5, 6, 7, 8, 11, 12, 13, 15, 18, 19, 20, 32]),
        ("dydxaccountplus", [*range(1, 7), *range(100, 106)]),
        ("clob", [2, 4, 6, 7, 9, 10, 11, 12, 20, 24, 30, 34, 45, 46, 47, 48, *range(2001, 2006)]),
        ("clob", [*range(3000, 3011), 5001, 6000, 6001, 6002, 9003, 10001, 11002, 11003, 11004]),
        ("subaccounts", [102, 402, 700, 701, 702, 703]),
    ],
)
def test_every_code_that_traders_meet_has_a_meaning(codespace: str, codes: list[int]) -> None:
    """In words, and each within its codespace alone."""
    found = [meaning(codespace, code) for code in codes]

    assert not [words for words in found if "unknown" in words]
    assert meaning("bank", codes[0]).startswith("unknown error")


def test_a_code_means_nothing_without_its_codespace() -> None:
    """The same number is two things; an unknown one is reported, with both."""
    assert meaning("clob", 4) == "the size is not above zero"
    assert "not authorised" in meaning("sdk", 4)
    assert meaning("clob", 424_242) == "unknown error 424242 of clob"
    assert meaning("", 4) == "unknown error 4 of an unnamed codespace"
    assert meaning("whatever", 0) == "accepted"


def test_names_and_codes_are_the_chains() -> None:
    """Success has neither; a name in two codespaces is the order book's."""
    assert (code_of(""), codespace_of("")) == (0, "")
    assert (code_of("ErrInvalidClob"), codespace_of("ErrInvalidClob")) == (8, "clob")
    assert code_of("ErrInvalidOrderGoodTilBlock") == 5
    assert code_of("ErrInvalidLeverage") == 11002
    assert (code_of("ErrWrongSequence"), codespace_of("ErrWrongSequence")) == (32, "sdk")
    with pytest.raises(KeyError):
        code_of("ErrOfNobody")

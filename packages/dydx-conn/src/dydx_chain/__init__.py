"""The chain's own numbers and rules: grids, orders, ids, validity, fees, networks.

    "0.0003", BTC-USD ──► 3000000 quantums ──► OrderRequest ──► objection, order_id, fee

`PerpetualMarket` turns sizes and prices into quantums and subticks, exactly or by a rounding
that its method names; `OrderRequest` and `CancelRequest` are what is sent, to the chain or to
the paper venue. `objection` and `cancel_objection` say what the chain would refuse before it
looks at a book, `meaning` what an answer's code says; `fee_tier`, `fee_ppm` and `fee` what a
fill costs. `Network` says where a venue answers and which chain it must be.

Units: `size` and `price` are decimal text or `Decimal`; `quantums`, `subticks` and quote
quantums (1e-6 USDC) are integers, rates parts per million, and no float touches money.
Everything here is pure. Sources: v4-chain/protocol lib/quantums.go, x/clob/types, x/clob/keeper,
x/feetiers, x/subaccounts/types, cosmos-sdk types/errors; indexer/packages/postgres (ids).
"""

# One name a line would be a page.
# fmt: off
__all__ = [
    "CONDITIONAL", "EQUITY_TIERS", "LONG_TERM", "MAX_BATCH", "MAX_BUILDER_FEE_PPM", "NETWORKS",
    "SHORT_BLOCK_WINDOW", "SHORT_TERM", "STANDARD_FEE_TIERS", "STATEFUL_WINDOW_S", "TWAP",
    "CancelRequest", "ConditionType", "ConnError", "FeeTier", "Fees", "GridError",
    "MarketDiscount", "Network", "NetworkError", "OrderRequest", "PerpetualMarket", "Side",
    "StakingLevel", "Subaccount", "TimeInForce", "TransactionFee", "base_to_quote",
    "batch_cancel_objection", "cancel_objection", "code_of", "codespace_of", "event_id", "exact",
    "fee", "fee_ppm", "fee_tier", "fill_to_quote", "is_address", "meaning", "network", "number",
    "objection", "order_id", "ppm", "quote_to_base", "staking_discount_ppm",
    "stateful_order_limit", "subaccount_id", "transaction_fee",
]
# fmt: on

import contextlib
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import msgspec

# === Errors ===


class ConnError(Exception):
    """Anything the connection refuses; children say what the caller should do."""


class GridError(ConnError):
    """A size or price that is not on the market's grid: do not send it."""


class NetworkError(ConnError):
    """A network that is unknown or cannot be reached: check the name, then wait."""


# === Values ===

Side = Literal["BUY", "SELL"]
TimeInForce = Literal["GTT", "IOC", "POST_ONLY"]
ConditionType = Literal["", "STOP_LOSS", "TAKE_PROFIT"]
SHORT_TERM: Final = 0
CONDITIONAL: Final = 32
LONG_TERM: Final = 64
TWAP: Final = 128  # the chain cuts it into suborders of its own, with flags 256


class Subaccount(msgspec.Struct, frozen=True, gc=False, order=True):
    """An owner's numbered account; as text it is the id of the subaccount channels."""

    owner: str
    number: int = 0

    def __str__(self) -> str:
        return f"{self.owner}/{self.number}"


_Positive = Annotated[int, msgspec.Meta(gt=0)]
_Fraction = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
# An absurd power of ten would not end in an error, but not end.
_Power = Annotated[int, msgspec.Meta(ge=-40, le=40)]


class PerpetualMarket(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The parameters of a perpetual, as the chain calculates with them."""

    ticker: str
    clob_pair_id: int
    perpetual_id: int
    atomic_resolution: _Power
    quantum_conversion_exponent: _Power
    step_base_quantums: _Positive
    subticks_per_tick: _Positive
    imf_ppm: _Positive  # the tier's base fraction
    maintenance_fraction_ppm: _Fraction  # of the initial margin; may be 0
    open_interest_lower_cap: int = 0  # in quote quantums, 0 for none
    open_interest_upper_cap: int = 0
    market_type: str = "CROSS"

    def quantums(self, size: Decimal | str) -> int:
        """Convert base units to quantums, exactly; `GridError` off the step."""
        return self._on_grid("size", size, -self.atomic_resolution, self.step_base_quantums)

    def subticks(self, price: Decimal | str) -> int:
        """Convert a price to subticks, exactly; `GridError` off the tick."""
        return self._on_grid("price", price, self._price_shift, self.subticks_per_tick)

    def size(self, quantums: int) -> Decimal:
        """Convert quantums to base units."""
        return Decimal(quantums).scaleb(self.atomic_resolution)

    def price(self, subticks: int) -> Decimal:
        """Convert subticks to a price in USDC per base unit."""
        return Decimal(subticks).scaleb(-self._price_shift)

    def floor_quantums(self, size: Decimal | str) -> int:
        """Round a size toward zero to the step: toward less risk, and maybe to nothing."""
        value, unit = _steps(size, -self.atomic_resolution, self.step_base_quantums)
        return _truncate(value, unit) * self.step_base_quantums

    def floor_subticks(self, price: Decimal | str) -> int:
        """Round a price down to the tick."""
        value, unit = _steps(price, self._price_shift, self.subticks_per_tick)
        return value // unit * self.subticks_per_tick

    def ceil_subticks(self, price: Decimal | str) -> int:
        """Round a price up to the tick."""
        value, unit = _steps(price, self._price_shift, self.subticks_per_tick)
        return -(-value // unit) * self.subticks_per_tick

    def quote_quantums(self, quantums: int, subticks: int) -> int:
        """Return the quote quantums of a fill, truncated toward zero as the chain does."""
        return _scale(quantums * subticks, self.quantum_conversion_exponent)

    @property
    def _price_shift(self) -> int:
        return self.atomic_resolution - self.quantum_conversion_exponent + 6

    def _on_grid(self, what: str, value: Decimal | str, shift: int, grid: int) -> int:
        steps, unit = _steps(value, shift, grid)
        if steps % unit:
            what = f"{self.ticker}: expected a {what} in multiples of"
            raise GridError(f"{what} {Decimal(grid).scaleb(-shift).normalize():f}, got {value}")
        return steps // unit * grid


def _always(default: Any) -> Any:
    # Written down though it is the default, as it was before orders had terms that are not:
    # what was hashed then hashes alike.
    return msgspec.field(default_factory=lambda: default)


class OrderRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """An order as it would be sent, to the chain or to the paper venue.

    A TWAP order is cut into `twap_duration_s / twap_interval_s` pieces, each at most
    `twap_tolerance_ppm` worse than the oracle; `subticks` 0 sets it no limit besides.
    """

    ticker: str
    clob_pair_id: int
    side: Side
    quantums: int
    subticks: int
    time_in_force: TimeInForce
    client_id: int
    reduce_only: bool = _always(False)
    order_flags: int = _always(SHORT_TERM)
    # Of a short-term order; the others have a time, in unix seconds.
    good_til_block: int = _always(0)
    good_til_block_time: int = _always(0)
    client_metadata: int = _always(0)
    condition_type: ConditionType = _always("")
    trigger_subticks: int = _always(0)
    twap_duration_s: int = 0
    twap_interval_s: int = 0
    twap_tolerance_ppm: int = 0
    builder_address: str = ""
    builder_fee_ppm: int = 0

    @property
    def signed_quantums(self) -> int:
        """Return the size with its direction: positive buys."""
        return self.quantums if self.side == "BUY" else -self.quantums


class CancelRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A wish to take an order off the book, named as the chain names it."""

    ticker: str
    clob_pair_id: int
    client_id: int
    order_flags: int = SHORT_TERM
    good_til_block: int = 0
    good_til_block_time: int = 0


# The indexer derives its ids from this namespace; so do we, and paper ids equal live ones.
_INDEXER_NAMESPACE = uuid.UUID("0f9da948-a6fb-4c45-9edc-4685c3f3317d")


def event_id(*parts: object) -> str:
    """Return a uuid made of `parts` alone: the same parts always give the same id."""
    return str(uuid.uuid5(_INDEXER_NAMESPACE, "-".join(map(str, parts))))


@lru_cache(maxsize=1_024)  # it is part of every order's id
def subaccount_id(subaccount: Subaccount) -> str:
    """Return the indexer's id of a subaccount."""
    return event_id(subaccount.owner, subaccount.number)


def order_id(subaccount: Subaccount, order: OrderRequest | CancelRequest) -> str:
    """Return the indexer's id of an order, known before it is sent."""
    owner = subaccount_id(subaccount)
    return event_id(owner, order.client_id, order.clob_pair_id, order.order_flags)


# === Units ===


def base_to_quote(quantums: int, price: int, exponent: int, atomic_resolution: int) -> int:
    """Value base quantums at an oracle price, toward zero (lib/quantums.go)."""
    return _scale(quantums * price, exponent + atomic_resolution + 6)


def quote_to_base(quote_quantums: int, price: int, exponent: int, atomic_resolution: int) -> int:
    """Convert quote quantums to base quantums, dividing twice toward zero as the chain does."""
    return _truncate(_scale(quote_quantums, -(exponent + atomic_resolution + 6)), price)


def fill_to_quote(quantums: int, subticks: int, quantum_conversion_exponent: int) -> int:
    """Value a fill in quote quantums, toward zero (x/clob/types/quantums.go)."""
    return _scale(quantums * subticks, quantum_conversion_exponent)


def exact(text: Decimal | str) -> tuple[int, int]:
    """Split decimal text into an integer and a power of ten: "63132.81" is (6313281, -2)."""
    # Nearly all are short and plain, and this is on the way of every price.
    if isinstance(text, str) and len(text) <= 40:
        whole, _, part = text.partition(".")
        if (plain := whole + part).isdecimal():
            return int(plain), -len(part)
    sign, digits, exponent = number(text).as_tuple()
    return int("".join(map(str, digits))) * (-1 if sign else 1), int(exponent)


def ppm(fraction: str) -> int:
    """Read a decimal fraction such as "0.05" as parts per million."""
    return int((number(fraction) * 1_000_000).to_integral_value())


def _scale(value: int, exponent: int) -> int:
    power: int = 10 ** abs(exponent)
    if exponent >= 0:
        return value * power
    return value // power if value >= 0 else -(-value // power)


def _truncate(value: int, divisor: int) -> int:
    # `//` floors; the chain's big.Int.Quo goes toward zero.
    return value // divisor if (value >= 0) == (divisor > 0) else -(-value // divisor)


def number(text: Decimal | str) -> Decimal:
    """Read a decimal number of sensible size; `GridError` if it is not one."""
    with contextlib.suppress(InvalidOperation):
        number = Decimal(text)
        # An exponent of a billion is a number to Decimal, and an endless sum to an integer.
        if number.is_finite() and abs(number.adjusted()) <= 40 and len(str(text)) <= 80:
            return number
    raise GridError(f"expected a number of sensible size, got {str(text)[:80]!r}")


def _steps(value: Decimal | str, shift: int, grid: int) -> tuple[int, int]:
    # Counts grid steps as a fraction of integers: Decimal would round at 28 digits.
    digits, exponent = exact(value)
    power = exponent + shift
    return (digits * 10**power, grid) if power >= 0 else (digits, grid * 10**-power)


# === Refusals ===
# The chain's errors by codespace and code: its name for each, and what it means to a person.

# Where two codespaces share a name, that of the order book is meant: it comes last.
_ERRORS: Final[Mapping[str, Mapping[int, tuple[str, str]]]] = {
    "sdk": {
        2: ("ErrTxDecode", "the transaction cannot be read"),
        4: ("ErrUnauthorized", "not authorised: wrong key, chain id, account or sequence"),
        5: ("ErrInsufficientFunds", "insufficient funds for the amount and its fee"),
        9: ("ErrUnknownAddress", "the account does not exist: nobody ever sent it anything"),
        11: ("ErrOutOfGas", "out of gas: a higher gas limit is needed"),
        13: ("ErrInsufficientFee", "the fee is too low"),
        19: ("ErrTxInMempoolCache", "this very transaction is already in the node's mempool"),
        20: ("ErrMempoolIsFull", "the node's mempool is full: try later"),
        21: ("ErrTxTooLarge", "the transaction is too large"),
        28: ("ErrInvalidChainID", "wrong chain id"),
        30: ("ErrTxTimeoutHeight", "the transaction came after its last block"),
        32: (
            "ErrWrongSequence",
            "wrong sequence number, or a timestamp nonce used or over 30 s off",
        ),
    },
    "undefined": {
        111222: ("ErrPanic", "the node failed inside"),
    },
    "accountplus": {
        1: ("ErrAuthenticatorNotFound", "there is no such permissioned key"),
        2: ("ErrInvalidAccountAddress", "the address is none of dYdX"),
        3: ("ErrAuthenticatorDataExceedsMaximumLength", "the key's permissions are too long"),
        4: ("ErrSmartAccountNotActive", "the network takes no permissioned keys now"),
        5: ("ErrInitializingAuthenticator", "the key's permissions cannot be read"),
        6: ("ErrTxnHasMultipleSigners", "a permissioned key signs alone"),
        100: ("ErrSignatureVerification", "the permissioned key did not sign this"),
        101: ("ErrMessageTypeVerification", "the permissioned key may not send this message"),
        102: ("ErrClobPairIdVerification", "the permissioned key may not trade this market"),
        103: ("ErrSubaccountVerification", "the permissioned key may not use this subaccount"),
        104: ("ErrAllOfVerification", "the permissioned key may not do all of this"),
        105: ("ErrAnyOfVerification", "the permissioned key may do none of this"),
    },
    "subaccounts": {
        102: (
            "ErrFailedToUpdateSubaccounts",
            "the account cannot afford it, or withdrawals are held back",
        ),
        200: ("ErrInvalidSubaccountIdNumber", "the subaccount's number is above 128000"),
        201: ("ErrInvalidSubaccountIdOwner", "the owner is not an address of dYdX"),
        402: (
            "ErrCannotModifyPerpOpenInterestForOIMF",
            "the open interest could not be counted in",
        ),
        403: (
            "ErrCannotRevertPerpOpenInterestForOIMF",
            "the open interest could not be counted out",
        ),
        500: ("ErrAssetTransferQuantumsNotPositive", "the amount is not above zero"),
        700: ("ErrInvalidLeverage", "the leverage makes no sense"),
        701: ("ErrLeverageExceedsMaximum", "the leverage is above what the market allows"),
        702: ("ErrInitialMarginPpmIsZero", "the market has no initial margin"),
        703: ("ErrLeverageViolatesMarginRequirements", "at this leverage margin would be lacking"),
    },
    "clob": {
        3: ("ErrInvalidOrderSide", "the side is neither buy nor sell"),
        4: ("ErrInvalidOrderQuantums", "the size is not above zero"),
        5: ("ErrInvalidOrderGoodTilBlock", "a short-term order must say its last block"),
        6: ("ErrInvalidOrderSubticks", "the price is not above zero"),
        7: ("ErrOrderIsCanceled", "already cancelled: a new one needs a later last block"),
        8: ("ErrInvalidClob", "there is no such market"),
        9: ("ErrMemClobCancelAlreadyExists", "a cancel that lasts as long is already known"),
        10: ("ErrHeightExceedsGoodTilBlock", "its last block has passed"),
        11: ("ErrGoodTilBlockExceedsShortBlockWindow", "its last block is too far ahead"),
        12: ("ErrInvalidPlaceOrder", "off the market's grid, or a TWAP's times do not fit"),
        20: (
            "ErrInvalidReplacement",
            "only the same side and kind with a later last block replaces",
        ),
        24: ("ErrOrderFullyFilled", "nothing of the order is left to fill"),
        29: ("ErrInvalidStatefulOrderCancellation", "the cancel ends before the order does"),
        32: ("ErrStatefulOrderCancellationAlreadyExists", "a cancel of it is already on its way"),
        34: ("ErrOrderConflictsWithClobPairStatus", "the market's status does not allow it"),
        36: ("ErrOperationConflictsWithClobPairStatus", "the market's status does not allow it"),
        44: ("ErrInvalidTimeInForce", "there is no such time in force"),
        45: ("ErrInvalidBatchCancel", "a batch is up to 100 short-term orders, each once"),
        46: ("ErrBatchCancelFailed", "some of the batch could not be cancelled"),
        47: ("ErrClobNotInitialized", "the node has just started: try in the next block"),
        48: ("ErrDeprecatedField", "fill-or-kill is no longer supported"),
        49: ("ErrInvalidTwapOrderPlacement", "the TWAP order cannot be placed"),
        50: ("ErrInvalidBuilderCode", "a builder has an address and a fee of 1 to 10000 ppm"),
        2001: (
            "ErrReduceOnlyWouldIncreasePositionSize",
            "reduce-only, but it would add to the position",
        ),
        2002: (
            "ErrReduceOnlyWouldChangePositionSide",
            "reduce-only, but it would turn the position",
        ),
        2003: ("ErrPostOnlyWouldCrossMakerOrder", "a post-only order would have traded at once"),
        2004: (
            "ErrImmediateExecutionOrderAlreadyFilled",
            "an immediate-or-cancel order fills once",
        ),
        2005: (
            "ErrWouldViolateIsolatedSubaccountConstraints",
            "an isolated market needs a subaccount of its own",
        ),
        3000: ("ErrInvalidOrderFlag", "there is no such kind of order"),
        3001: (
            "ErrInvalidStatefulOrderGoodTilBlockTime",
            "an order that is not short-term must say when it ends",
        ),
        3002: (
            "ErrLongTermOrdersCannotRequireImmediateExecution",
            "a long-term order cannot be immediate-or-cancel",
        ),
        3003: ("ErrTimeExceedsGoodTilBlockTime", "the time at which it ends has passed"),
        3004: (
            "ErrGoodTilBlockTimeExceedsStatefulOrderTimeWindow",
            "it would last longer than 95 days",
        ),
        3005: (
            "ErrStatefulOrderAlreadyExists",
            "already placed, and cannot be replaced: cancel it first",
        ),
        3006: ("ErrStatefulOrderDoesNotExist", "there is no such order to cancel"),
        3007: (
            "ErrStatefulOrderCollateralizationCheckFailed",
            "the account lacks collateral for it",
        ),
        3008: ("ErrStatefulOrderPreviouslyCancelled", "cancelled before it was placed"),
        3009: ("ErrStatefulOrderPreviouslyRemoved", "removed before it was placed"),
        3010: (
            "ErrStatefulOrderCancellationFailedForAlreadyRemovedOrder",
            "the order is already gone",
        ),
        5001: ("ErrBlockRateLimitExceeded", "too many orders and cancels in the last blocks"),
        6000: ("ErrInvalidConditionType", "conditional orders alone stop a loss or take a profit"),
        6001: (
            "ErrInvalidConditionalOrderTriggerSubticks",
            "conditional orders alone have a trigger",
        ),
        6002: ("ErrConditionalOrderUntriggered", "the order has not been triggered yet"),
        9003: ("ErrReduceOnlyDisabled", "reduce-only orders must be immediate-or-cancel"),
        10001: (
            "ErrOrderWouldExceedMaxOpenOrdersEquityTierLimit",
            "the account's worth allows no more open orders",
        ),
        11002: ("ErrInvalidLeverage", "the leverage makes no sense"),
        11003: ("ErrLeverageExceedsMaximum", "the leverage is above what the market allows"),
        11004: ("ErrInitialMarginPpmIsZero", "the market has no initial margin"),
    },
}
_NAMED: Final = {
    name: (codespace, code)
    for codespace, errors in _ERRORS.items()
    for code, (name, _) in errors.items()
}


def meaning(codespace: str, code: int) -> str:
    """Say what a node's answer means to a person; codes count within their codespace alone."""
    if code == 0:
        return "accepted"
    unknown = ("", f"unknown error {code} of {codespace or 'an unnamed codespace'}")
    return _ERRORS.get(codespace, {}).get(code, unknown)[1]


def code_of(error: str) -> int:
    """Return the chain's code of an error name, 0 for none; `KeyError` if it has no such error."""
    return _NAMED[error][1] if error else 0


def codespace_of(error: str) -> str:
    """Return the codespace of an error name, empty for none; `KeyError` as `code_of`."""
    return _NAMED[error][0] if error else ""


# === Validity ===
# What the chain refuses before it looks at a book, in its order; the first objection wins.
# Sources: ValidateBasic of x/clob/types/message_*.go; then x/clob/keeper, orders.go.

SHORT_BLOCK_WINDOW: Final = 40  # blocks after the next one; older deployments refuse beyond 20
STATEFUL_WINDOW_S: Final = 95 * 86_400
MAX_BUILDER_FEE_PPM: Final = 10_000
MAX_BATCH: Final = 100
_MAX_SUBACCOUNT: Final = 128_000

_Objections = Iterable[tuple[str, bool | int]]


def objection(
    order: OrderRequest, market: PerpetualMarket, *, subaccount: Subaccount | None = None,
    status: str = "ACTIVE", height: int = 0, time: int = 0, oracle_subticks: int = 0,
) -> str:  # fmt: skip
    """Name what the chain would refuse an order for before matching, or return nothing.

    `height` is the last block and `time` its unix seconds; `subaccount`, `height`, `time` and
    `oracle_subticks` are not judged where they are unknown (None or 0). What depends on the
    account is judged elsewhere: collateral, position, equity tier, orders already known.
    """
    return _first(_unsound(order, subaccount)) or _first([
        ("ErrInvalidClob", order.clob_pair_id != market.clob_pair_id),
        ("ErrInvalidPlaceOrder", order.subticks % market.subticks_per_tick),
        ("ErrInvalidPlaceOrder", order.quantums % market.step_base_quantums),
        ("ErrOrderConflictsWithClobPairStatus", not _admitted(order, status, oracle_subticks)),
        *_untimely(order, height, time),
        ("ErrInvalidPlaceOrder", order.trigger_subticks % market.subticks_per_tick),
        ("ErrInvalidPlaceOrder",
         order.order_flags == TWAP and _leg_quantums(order) < market.step_base_quantums),
    ])  # fmt: skip


def cancel_objection(
    cancel: CancelRequest, *, subaccount: Subaccount | None = None,
    height: int = 0, time: int = 0, order_ends: int = 0,
) -> str:  # fmt: skip
    """Name what the chain would refuse a cancel for, or return nothing; unknowns as `objection`.

    `order_ends` is the `good_til_block_time` of the order: its cancel must not end earlier. (A
    short-term cancel that ends earlier is taken, and leaves the order on the book.)
    """
    until = cancel.good_til_block_time
    stateful = cancel.order_flags != SHORT_TERM
    return _first([
        *_misnamed(subaccount),
        ("ErrInvalidOrderFlag", cancel.order_flags not in _FLAGS),
        *_endless(cancel),
        *_untimely(cancel, height, time),
        ("ErrInvalidStatefulOrderCancellation", stateful and until < order_ends),
    ])  # fmt: skip


def batch_cancel_objection(
    cancels: Sequence[CancelRequest], *, subaccount: Subaccount | None = None, height: int = 0
) -> str:
    """Name what the chain would refuse a batch of cancels for, or return nothing.

    A batch holds short-term orders of one subaccount, each once, and ends at one block.
    """
    repeats = Counter((cancel.clob_pair_id, cancel.client_id) for cancel in cancels)
    ends = {(cancel.order_flags, cancel.good_til_block) for cancel in cancels}
    return _first([
        *_misnamed(subaccount),
        ("ErrInvalidBatchCancel", len(repeats) < len(cancels) or len(cancels) > MAX_BATCH),
        ("ErrInvalidBatchCancel", len(ends) > 1),
        *(each for cancel in cancels[:1] for each in (
            ("ErrInvalidBatchCancel", cancel.order_flags != SHORT_TERM),
            *_endless(cancel), *_untimely(cancel, height, 0),
        )),
    ])  # fmt: skip


def is_address(text: str) -> bool:
    """Tell whether a text is an address of dYdX: bech32 of 20 bytes, its checksum right."""
    import bech32

    prefix, words = bech32.bech32_decode(text)
    octets = bech32.convertbits(words or [], 5, 8, pad=False)
    return prefix == "dydx" and octets is not None and len(octets) == 20


def _first(objections: _Objections) -> str:
    return next((error for error, holds in objections if holds), "")


def _unsound(order: OrderRequest, subaccount: Subaccount | None) -> _Objections:
    # A request may come from outside, where types are promises.
    side, time_in_force, condition = map(
        str, (order.side, order.time_in_force, order.condition_type)
    )
    ioc, twap = time_in_force == "IOC", order.order_flags == TWAP
    conditional, trigger = order.order_flags == CONDITIONAL, order.trigger_subticks
    return [
        ("ErrDeprecatedField", time_in_force == "FOK"),
        *_misnamed(subaccount),
        ("ErrInvalidOrderSide", side not in ("BUY", "SELL")),
        ("ErrInvalidTimeInForce", time_in_force not in ("GTT", "IOC", "POST_ONLY")),
        ("ErrInvalidConditionType", condition not in ("", "STOP_LOSS", "TAKE_PROFIT")),
        ("ErrInvalidOrderQuantums", not 0 < order.quantums < 2**64),
        *_endless(order),
        ("ErrInvalidOrderFlag", order.order_flags not in _FLAGS),
        ("ErrLongTermOrdersCannotRequireImmediateExecution",
         ioc and order.order_flags == LONG_TERM),
        ("ErrReduceOnlyDisabled", order.reduce_only and not ioc),
        ("ErrInvalidOrderSubticks", not (0 if twap else 1) <= order.subticks < 2**64),
        ("ErrInvalidConditionType", conditional != bool(condition)),
        ("ErrInvalidConditionalOrderTriggerSubticks", conditional != (0 < trigger < 2**64)),
        ("ErrInvalidBuilderCode", not _is_builder(order.builder_address, order.builder_fee_ppm)),
        ("ErrInvalidPlaceOrder", twap and not _is_twap(order)),
        # Where the chain has no word for it: what its message has no room for.
        ("ErrInvalidPlaceOrder", not 0 <= order.client_id < 2**32),
        ("ErrInvalidPlaceOrder", not 0 <= order.client_metadata < 2**32),
    ]  # fmt: skip


_FLAGS: Final = (SHORT_TERM, CONDITIONAL, LONG_TERM, TWAP)


def _misnamed(subaccount: Subaccount | None) -> _Objections:
    if subaccount is None:
        return []
    return [
        ("ErrInvalidSubaccountIdNumber", not 0 <= subaccount.number <= _MAX_SUBACCOUNT),
        ("ErrInvalidSubaccountIdOwner", not is_address(subaccount.owner)),
    ]


def _endless(request: OrderRequest | CancelRequest) -> _Objections:
    block, until = request.good_til_block, request.good_til_block_time
    short = request.order_flags == SHORT_TERM
    return [
        ("ErrInvalidOrderGoodTilBlock", short and not 0 < block < 2**32),
        ("ErrInvalidStatefulOrderGoodTilBlockTime",
         request.order_flags in _FLAGS and not short and not 0 < until < 2**32),
    ]  # fmt: skip


def _untimely(request: OrderRequest | CancelRequest, height: int, time: int) -> _Objections:
    block, until = request.good_til_block, request.good_til_block_time
    # Judged for the next block, the first one that it could be in.
    if request.order_flags == SHORT_TERM:
        far = 0 < height < block - 1 - SHORT_BLOCK_WINDOW
        return [
            ("ErrHeightExceedsGoodTilBlock", block <= height),
            ("ErrGoodTilBlockExceedsShortBlockWindow", far),
        ]
    far = 0 < time < until - STATEFUL_WINDOW_S
    return [
        ("ErrTimeExceedsGoodTilBlockTime", until <= time),
        ("ErrGoodTilBlockTimeExceedsStatefulOrderTimeWindow", far),
    ]


def _admitted(order: OrderRequest, status: str, oracle_subticks: int) -> bool:
    # The chain knows ACTIVE, INITIALIZING and FINAL_SETTLEMENT; the indexer has more words.
    post_only = order.time_in_force == "POST_ONLY"
    if status == "INITIALIZING":
        # Liquidity gathers around the oracle price, on the right side of it.
        ahead = order.subticks - oracle_subticks
        crosses = ahead > 0 if order.side == "BUY" else ahead < 0
        return order.order_flags == SHORT_TERM and post_only and not (oracle_subticks and crosses)
    return status in ("ACTIVE", "") or (status == "POST_ONLY" and post_only)


def _is_builder(address: str, fee_ppm: int) -> bool:
    if not address and not fee_ppm:
        return True
    return 0 < fee_ppm <= MAX_BUILDER_FEE_PPM and is_address(address)


def _is_twap(order: OrderRequest) -> bool:
    duration, interval = order.twap_duration_s, order.twap_interval_s
    timely = 300 <= duration <= 86_400 and 30 <= interval <= 3_600 and duration % interval == 0
    return timely and 0 <= order.twap_tolerance_ppm < 1_000_000


def _leg_quantums(order: OrderRequest) -> int:
    return order.quantums // (order.twap_duration_s // order.twap_interval_s)


# === Fees ===
# Governance sets tiers and discounts: these are the chain's defaults, a node says today's.


class Fees(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What fills cost, in parts per million of their quote; a negative one is a rebate."""

    taker_ppm: int = 500
    maker_ppm: int = 100

    def of(self, quote_quantums: int, liquidity: str) -> int:
        """Return the fee of a fill in quote quantums, rounded up: rebates too."""
        return fee(quote_quantums, self.taker_ppm if liquidity == "TAKER" else self.maker_ppm)


class FeeTier(Fees, frozen=True, gc=False, kw_only=True):
    """Fees, and what one must have traded in 30 days to pay them.

    `volume` is in quote quantums, the shares are of all that was traded on the chain.
    """

    name: str
    volume: int = 0
    total_share_ppm: int = 0
    maker_share_ppm: int = 0


class StakingLevel(msgspec.Struct, frozen=True, gc=False):
    """What staking `min_staked` of the token's smallest unit takes off a positive fee."""

    min_staked: int
    discount_ppm: int


class MarketDiscount(msgspec.Struct, frozen=True, gc=False):
    """What a market charges of every fee and rebate from `start` until before `end` (unix s)."""

    clob_pair_id: int
    start: int
    end: int
    charge_ppm: int

    def at(self, clob_pair_id: int, time: int) -> int:
        """Return the parts per million charged in a market at a time: all, unless it is on."""
        on = clob_pair_id == self.clob_pair_id and self.start <= time < self.end
        return self.charge_ppm if on else _PPM


_PPM: Final = 1_000_000
# Name, volume in millions of USDC, shares of the total and of makers, taker and maker fee.
STANDARD_FEE_TIERS: Final = tuple(
    FeeTier(
        name=name, volume=millions * 10**12, total_share_ppm=total, maker_share_ppm=maker_share,
        taker_ppm=taker, maker_ppm=maker,
    )
    for name, millions, total, maker_share, taker, maker in (
        ("1", 0, 0, 0, 500, 100),
        ("2", 1, 0, 0, 450, 100),
        ("3", 5, 0, 0, 400, 50),
        ("4", 25, 0, 0, 350, 0),
        ("5", 125, 0, 0, 300, 0),
        ("6", 125, 5_000, 0, 250, -50),
        ("7", 125, 5_000, 10_000, 250, -90),
        ("8", 125, 5_000, 20_000, 250, -110),
        ("9", 125, 5_000, 40_000, 250, -110),
    )
)  # fmt: skip


def fee_tier(
    tiers: Sequence[FeeTier] = STANDARD_FEE_TIERS, *, maker_volume: int = 0,
    taker_volume: int = 0, total_volume: int = 0, is_vault: bool = False, least: int = 0,
) -> FeeTier:  # fmt: skip
    """Choose a trader's tier: upward until the first whose requirements do not all hold.

    Volumes are of 30 days, in quote quantums; `total_volume` is everybody's. A vault has the
    top tier; `least` is the index below which a referred trader does not fall.
    """
    if is_vault:
        return tiers[-1]
    index = 0
    for i, tier in enumerate(tiers):
        both = maker_volume + taker_volume
        if (
            both < max(tier.volume, total_volume * tier.total_share_ppm // _PPM)
            or maker_volume < total_volume * tier.maker_share_ppm // _PPM
        ):
            break
        index = i
    return tiers[max(index, min(least, len(tiers) - 1))]


def fee_ppm(ppm: int, *, charge_ppm: int = _PPM, discount_ppm: int = 0) -> int:
    """Apply a market's charge to a tier's fee, then a staking discount to what is above zero.

    Each is truncated toward zero, so that a discounted rebate is never larger.
    """
    charged = _truncate(ppm * charge_ppm, _PPM)
    return charged * (_PPM - discount_ppm) // _PPM if charged > 0 else charged


def staking_discount_ppm(
    levels: Mapping[str, Sequence[StakingLevel]], tier: str, staked: int
) -> int:
    """Return the discount of the highest level reached among those of a tier's name."""
    reached = (level for level in levels.get(tier, ()) if staked >= level.min_staked)
    return max(reached, key=lambda level: level.min_staked, default=StakingLevel(0, 0)).discount_ppm


def fee(quote_quantums: int, ppm: int) -> int:
    """Return a fee in quote quantums, rounded up, which makes rebates smaller.

    A builder's fee is reckoned alike and comes on top.
    """
    return -(-quote_quantums * ppm // _PPM)


# Net collateral in quote quantums, and the open stateful orders that it allows.
EQUITY_TIERS: Final[Sequence[tuple[int, int]]] = (
    (0, 0), (20 * 10**6, 1), (100 * 10**6, 5), (1_000 * 10**6, 10), (10_000 * 10**6, 100),
    (100_000 * 10**6, 200),
)  # fmt: skip


def stateful_order_limit(
    net_collateral: int, tiers: Sequence[tuple[int, int]] = EQUITY_TIERS
) -> int:
    """Return how many long-term, conditional and TWAP orders may be open at once.

    `net_collateral` is in quote quantums. Short-term orders are not limited by it any more.
    """
    return max((limit for least, limit in tiers if net_collateral >= least), default=0)


# === Networks ===


@dataclass(frozen=True, slots=True)
class Network:
    """Where a venue answers: REST, socket and node, and the chain it must say it is."""

    name: str
    rest: str
    ws: str
    node: str
    chain_id: str
    usdc_denom: str = "ibc/8E27BA2D5493AF5636760E354E46004562C46AB7EC0CC4C1CA14E9E20E2545B5"
    chain_denom: str = "adv4tnt"


# A row for the indexer's addresses and one for the node's.
NETWORKS: Final[Mapping[str, Network]] = {
    "mainnet": Network("mainnet", "https://indexer.dydx.trade", "wss://indexer.dydx.trade/v4/ws",
                       "dydx-ops-grpc.kingnodes.com:443", "dydx-mainnet-1", chain_denom="adydx"),
    "testnet": Network("testnet", "https://indexer.v4testnet.dydx.exchange",
                       "wss://indexer.v4testnet.dydx.exchange/v4/ws",
                       "test-dydx-grpc.kingnodes.com:443", "dydx-testnet-4"),
    "local": Network("local", "http://127.0.0.1:3002", "ws://127.0.0.1:3003/v4/ws",
                     "127.0.0.1:9090", "localdydxprotocol"),
}  # fmt: skip


def network(name: str) -> Network:
    """Return a network by name; `NetworkError` lists the names."""
    if name not in NETWORKS:
        raise NetworkError(f"expected one of {', '.join(NETWORKS)}; got network {name!r}")
    return NETWORKS[name]


class TransactionFee(msgspec.Struct, frozen=True, gc=False):
    """What a transaction may use and what it pays: `amount` of `denom`, both integers."""

    gas: int
    amount: int = 0
    denom: str = ""


_CLOB_GAS: Final = 1_000_000
# The node's own default; governance of a network may ask for more.
_MICRO_USDC_PER_GAS: Final = (25, 1_000)
# Between a simulation and the block, state may grow: the official client's margin, 1.8.
_GAS_MARGIN: Final = (18, 10)


def transaction_fee(network: Network, simulated_gas: int | None = None) -> TransactionFee:
    """Return what a transaction pays: nothing for orders and cancels, whatever their kind.

    Others (deposits, transfers, withdrawals) say by `simulated_gas` what a simulation used.
    Source: app/ante/gas.go and cmd/dydxprotocold/cmd/config.go.
    """
    if simulated_gas is None:
        return TransactionFee(_CLOB_GAS)
    (up, down), (price, unit) = _GAS_MARGIN, _MICRO_USDC_PER_GAS
    gas = simulated_gas * up // down
    return TransactionFee(gas, -(-gas * price // unit), network.usdc_denom)

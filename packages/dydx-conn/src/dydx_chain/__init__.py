"""The chain's own numbers: markets as grids of integers, orders, ids, networks.

    "0.0003", BTC-USD ──► 3000000 quantums ──► OrderRequest ──► order_id

`PerpetualMarket` turns sizes and prices into quantums and subticks, exactly or by a rounding
that its method names; `OrderRequest` and `CancelRequest` are what is sent, to the chain or to
the paper venue; `Network` says where a venue answers and which chain it must be.

Units: `size` and `price` are decimal text or `Decimal`; `quantums`, `subticks` and quote
quantums (1e-6 USDC) are integers, and no float touches money. Everything here is pure.
Sources: v4-chain/protocol lib/quantums.go, x/clob/types; indexer/packages/postgres (ids).
"""

# One name a line would be a page.
# fmt: off
__all__ = [
    "CONDITIONAL", "LONG_TERM", "NETWORKS", "SHORT_TERM", "CancelRequest", "ConditionType",
    "ConnError", "GridError", "Network", "NetworkError", "OrderRequest", "PerpetualMarket",
    "Side", "Subaccount", "TimeInForce", "base_to_quote", "event_id", "exact", "fill_to_quote",
    "network", "number", "order_id", "ppm", "quote_to_base", "subaccount_id",
]
# fmt: on

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final, Literal

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
        return fill_to_quote(quantums, subticks, self.quantum_conversion_exponent)

    @property
    def _price_shift(self) -> int:
        return self.atomic_resolution - self.quantum_conversion_exponent + 6

    def _on_grid(self, what: str, value: Decimal | str, shift: int, grid: int) -> int:
        steps, unit = _steps(value, shift, grid)
        if steps % unit:
            what = f"{self.ticker}: expected a {what} in multiples of"
            raise GridError(f"{what} {Decimal(grid).scaleb(-shift).normalize():f}, got {value}")
        return steps // unit * grid


class OrderRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An order as it would be sent, to the chain or to the paper venue."""

    ticker: str
    clob_pair_id: int
    side: Side
    quantums: int
    subticks: int
    time_in_force: TimeInForce
    client_id: int
    reduce_only: bool = False
    order_flags: int = SHORT_TERM
    good_til_block: int = 0  # of a short-term order; the others have a time, in unix seconds
    good_til_block_time: int = 0
    client_metadata: int = 0
    condition_type: ConditionType = ""
    trigger_subticks: int = 0

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
    sign, digits, exponent = number(text).as_tuple()
    return int("".join(map(str, digits))) * (-1 if sign else 1), int(exponent)


def ppm(fraction: str) -> int:
    """Read a decimal fraction such as "0.05" as parts per million."""
    return int((number(fraction) * 1_000_000).to_integral_value())


def _scale(value: int, exponent: int) -> int:
    return value * 10**exponent if exponent >= 0 else _truncate(value, 10**-exponent)


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


# === Networks ===


@dataclass(frozen=True, slots=True)
class Network:
    """Where a venue answers: REST, socket and node, and the chain it must say it is."""

    name: str
    rest: str
    ws: str
    node: str
    chain_id: str


# A row for the indexer's addresses and one for the node's.
NETWORKS: Final[Mapping[str, Network]] = {
    "mainnet": Network("mainnet", "https://indexer.dydx.trade", "wss://indexer.dydx.trade/v4/ws",
                       "dydx-ops-grpc.kingnodes.com:443", "dydx-mainnet-1"),
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

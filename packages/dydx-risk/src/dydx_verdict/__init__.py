"""What is decided of an order, and by which rules: a policy, three verdicts, and their record.

    Policy ──► the gate and the guard of dydx_risk ──► Approved | Denied | Reduce ──► audit_row

Only an `Approved` or a `Reduce` carries an order. A `Denied` carries the objection and the
figures that it rests on; `Standing` is the state of the gate with every reason for it.

Units: distances are fractions (0.06 is six per cent), limits of a policy are USDC, money in a
verdict is quote quantums (1e-6 USDC), sizes are quantums, prices of orders subticks.
Nothing here decides: these are the values that deciding speaks in.
"""

from decimal import Decimal
from typing import Any, Final, Literal, Self

import msgspec
from dydx_conn import OrderRequest
from dydx_flight import FlightPolicy
from dydx_margin import MarginFigures
from dydx_strategy import Decision
from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "Alarm", "Approved", "Denied", "GateState", "Policy", "PositionFigures", "Reason", "Reduce",
    "Standing", "Verdict", "audit_row",
]  # fmt: skip

# === Policy ===


def _limit(unit: str) -> Any:
    return Field(default=None, gt=0, description=unit)


class Policy(BaseModel):
    """How much risk may be taken; the defaults suit a paper account of 10,000 USDC.

    `act_below`, `restore_to` and `keep_above` are distances to liquidation (0.06 is six per
    cent): the guard acts below the first, and earlier where the books are thin, sizes its orders
    to reach the second, and no order that adds risk may come nearer than the third. Every limit
    is judged as if all orders in flight had filled; None is no limit. None of them blocks what
    shrinks a position.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    act_below: float = Field(default=0.06, gt=0, lt=1)
    restore_to: float = Field(default=0.10, gt=0, lt=1)
    keep_above: float = Field(default=0.12, gt=0, lt=1)
    max_leverage: float = Field(default=5.0, gt=0, le=50)
    max_order_usdc: float = Field(default=20_000.0, gt=0)
    slippage_bps: int = Field(default=30, ge=0, le=1_000)
    guard_slippage_bps: int = Field(default=100, ge=0, le=1_000)
    guard_cuts: int = Field(default=4, ge=1, le=10)
    taker_fee_ppm: int = Field(default=500, ge=0, le=100_000)
    good_til_blocks: int = Field(default=5, ge=1, le=20)
    stale_seconds: float = Field(default=30.0, gt=0)
    max_account_usdc: float | None = _limit("gross notional of the account at oracle prices, USDC")
    max_market_usdc: float | None = _limit("notional of one market at its oracle price, USDC")
    market_usdc: dict[str, float] = Field(
        default={}, description="`max_market_usdc` of single tickers, in its place"
    )
    max_positions: int | None = _limit("markets with a position or an order in flight")
    max_orders_per_minute: int | None = _limit("orders sent in 60 s of event time")
    max_slippage_bps: float | None = _limit("average price by the book shown, from mid, in bps")
    max_daily_loss_usdc: float | None = _limit("equity lost since 00:00 UTC, in USDC")
    max_drawdown: float | None = _limit("equity lost since its peak, 0.2 is 20 per cent")
    bear_move: float | None = _limit(
        "an order is cut to what survives this move of every market against its position"
    )
    max_volatility_1h: float | None = _limit(
        "an order is cut so that a usual hour of its market moves equity by no more than this"
    )

    @property
    def flight(self) -> FlightPolicy:
        """Return what the guard flies by."""
        return FlightPolicy(
            act_below=self.act_below,
            restore_to=self.restore_to,
            cuts=self.guard_cuts,
            slippage_bps=self.guard_slippage_bps,
            taker_fee_ppm=self.taker_fee_ppm,
        )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        distances = self.act_below, self.restore_to, self.keep_above
        if not distances[0] < distances[1] <= distances[2]:
            raise ValueError(f"expected act_below < restore_to <= keep_above, got {distances}")
        return self


# === Verdicts ===

_TOLD: Final = ("net_collateral", "initial_margin", "maintenance_margin", "notional")
Reason = Literal[
    "UNKNOWN_ACCOUNT", "UNKNOWN_MARKET", "UNKNOWN_ORACLE", "UNKNOWN_HEIGHT", "STATUS", "STALE",
    "NO_BOOK", "IN_FLIGHT", "BELOW_STEP", "ISOLATED", "LEVERAGE", "DISTANCE", "MARGIN",
    "NOTIONAL", "MARKET_NOTIONAL", "POSITIONS", "ORDER_RATE", "SLIPPAGE", "SIZE", "DAILY_LOSS",
    "DRAWDOWN", "HALTED",
]  # fmt: skip
GateState = Literal["ACTIVE", "REDUCING", "HALTED"]


class Standing(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The state of the gate, and every reason for it, the gravest first."""

    state: GateState
    reasons: tuple[tuple[Reason, str], ...] = ()


class Approved(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A decision that may become this order; `after` is at its worst price, fees paid."""

    id: str
    order: OrderRequest
    decision: Decision
    seq: int
    at: int
    before: MarginFigures
    after: MarginFigures
    why: str


class Denied(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An objection; `decision` is None where the guard itself could not act."""

    id: str
    ticker: str
    decision: Decision | None
    seq: int
    at: int
    reason: Reason
    figures: tuple[tuple[str, str], ...] = ()
    why: str


class Reduce(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The guard's order: a rung of its flight plan, or several of one market.

    `cost` is the estimated loss to spread, impact and fee in quote quantums; `rung` counts the
    times that the guard fired since the account was last safe.
    """

    id: str
    order: OrderRequest
    seq: int
    at: int
    before: MarginFigures
    after: MarginFigures
    distance: float
    rung: int
    cost: int
    why: str


Verdict = Approved | Denied | Reduce


def audit_row(verdict: Verdict) -> dict[str, str]:
    """Flatten a verdict into one row, every figure as text: what JSON or CSV can take.

    Money is quote quantums, sizes quantums, prices subticks, `at` nanoseconds; a figure that is
    not known says `unknown`, one that a verdict does not have is left out.
    """
    row = {"verdict": type(verdict).__name__}
    for name in verdict.__struct_fields__:
        value = getattr(verdict, name)
        if isinstance(value, MarginFigures):
            row |= _told(value, f"{name}_")
        elif isinstance(value, Decision):
            row |= {"decision": value.id, "target_usdc": str(value.target_usdc)}
        elif isinstance(value, OrderRequest):
            order = msgspec.structs.asdict(value)
            row |= {f"order_{key}": str(part) for key, part in order.items()}
        elif isinstance(value, tuple):
            row |= {f"figure_{key}": part for key, part in value}
        elif value is not None:
            row[name] = str(value)
    return row


def _told(margin: MarginFigures, prefix: str) -> dict[str, str]:
    row = {name: str(getattr(margin, name)) for name in _TOLD}
    for name in ("free_collateral", "cushion", "leverage", "distance"):
        value = getattr(margin, name)
        flat = value is None and margin.known and not margin.notional
        row[name] = "none" if flat else "unknown" if value is None else str(value)
    if margin.unknown:
        row |= dict.fromkeys(row, "unknown") | {"unknown": " ".join(margin.unknown)}
    return {prefix + name: text for name, text in row.items()}


# === Figures ===

Alarm = Literal["unknown", "flat", "safe", "danger", "liquidatable"]


class PositionFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One position with every figure that its oracle price allows; None is unknown.

    Money is quote quantums, prices USDC. `distance` is this price's own adverse move to
    `liquidation_price`, all others standing still; `funding_1h` what the next hour costs
    (positive is paid).
    """

    ticker: str
    size: Decimal
    entry_price: Decimal
    oracle_price: Decimal | None = None
    net_notional: int | None = None
    initial_margin: int | None = None
    maintenance_margin: int | None = None
    unrealized_pnl: Decimal | None = None
    liquidation_price: Decimal | None = None
    distance: float | None = None
    funding_1h: int | None = None
    seq: int = 0

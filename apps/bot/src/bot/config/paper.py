"""How real the paper venue is: every choice that `dydx_paper.PaperVenue` has.

PaperSettings ──► choices ──► bot.run.paper
"""

from typing import Annotated, Any, Final

from dydx_conn import Fees
from dydx_paper import Latency, QueuePosition
from dydx_risk import LiquidationTerms
from pydantic import Field

from bot.config.section import AT_HOME, Section

_USDC: Final = 10**6


class LatencySettings(Section):
    """How long a message of ours is on its way to the venue."""

    samples_ms: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.0,), min_length=1,
        description="ms that messages take, one after the other and over again; 0 is the next book",
    )  # fmt: skip
    seed: int | None = Field(
        default=None, description="draw among the samples by this seed, and not in their order"
    )

    def latency(self) -> Latency:
        """Return it as the venue takes it."""
        return Latency(tuple(round(ms * 1e6) for ms in self.samples_ms), self.seed)


class FeeSettings(Section):
    """What fills cost, in place of the tier of what the account has traded."""

    taker_ppm: int = Field(default=500, ge=0, le=100_000, description="parts per million, taking")
    maker_ppm: int = Field(
        default=100, ge=-100_000, le=100_000,
        description="parts per million, making; a rebate is negative",
    )  # fmt: skip

    def fees(self) -> Fees:
        """Return them as the venue takes them."""
        return Fees(taker_ppm=self.taker_ppm, maker_ppm=self.maker_ppm)


class LiquidationSettings(Section):
    """The chain's liquidation settings, which governance may change."""

    bankruptcy_adjustment_ppm: int = Field(
        default=1_000_000, ge=1, description="how far beyond its bankruptcy price one may be closed"
    )
    spread_to_maintenance_margin_ratio_ppm: int = Field(
        default=1_500_000, ge=1, description="spread of the fillable price, of maintenance margin"
    )
    max_liquidation_fee_ppm: int = Field(
        default=15_000, ge=0, le=1_000_000, description="most that the insurance fund takes of one"
    )
    min_position_notional: int = Field(
        default=1_000_000_000, ge=1, description="least that is liquidated, quote quantums"
    )
    max_position_portion_ppm: int = Field(
        default=100_000, ge=1, le=1_000_000, description="most of a position that is liquidated"
    )
    max_subaccount_notional: int = Field(
        default=100_000_000_000, ge=1, description="most a block of one account, quote quantums"
    )
    max_subaccount_insurance_lost: int = Field(
        default=1_000_000_000_000, ge=1,
        description="most a block that the insurance fund loses of one account, quote quantums",
    )  # fmt: skip

    def terms(self) -> LiquidationTerms:
        """Return them as the venue takes them."""
        return LiquidationTerms(**self.model_dump())


class PaperSettings(Section):
    """How real the paper venue is."""

    latency: LatencySettings = LatencySettings()
    queue: QueuePosition = Field(
        default="pessimistic",
        description="who leaves when a level at which an order rests shrinks without a trade: "
        "those behind it, everybody alike (proportional), or nobody stands before it (optimistic)",
    )
    fees: FeeSettings | None = Field(
        default=None, description="fixed fees; without them those of the tier of its own volume"
    )
    insurance_fund_usdc: int | None = Field(
        default=1_000_000, ge=0,
        description="USDC in the insurance fund at first; null for one that never ends",
    )  # fmt: skip
    min_price_change_ppm: int = Field(
        default=1_000, ge=1, le=1_000_000,
        description="governance's, of x/prices: bounds the trades that trigger conditional orders",
    )  # fmt: skip
    liquidation: LiquidationSettings = LiquidationSettings()
    book_model: Annotated[str | None, AT_HOME] = Field(
        default=None,
        description="file of bot calibrate --book --out: how books are modelled where a history "
        "has none; null for what is usual for the kind of market",
    )  # fmt: skip

    def choices(self) -> dict[str, Any]:
        """Return what `PaperVenue` takes."""
        fund = self.insurance_fund_usdc
        return {
            "latency": self.latency.latency(),
            "queue": self.queue,
            "fees": None if self.fees is None else self.fees.fees(),
            "terms": self.liquidation.terms(),
            "insurance_fund": None if fund is None else fund * _USDC,
            "min_price_change_ppm": self.min_price_change_ppm,
        }

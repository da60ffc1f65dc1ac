"""One subaccount's money, settled as the chain settles it.

    fills, funding, transfers ──► Ledger ──► collateral, holdings, margin, profit
                                    │ └────► History and Tally, of the floor below
                                    └──────► journal ──► rebuild ──► the same Ledger

`Ledger` is the money, `Holding` a position in it, `charge` what a fill costs, `transfer` how
collateral moves, `InsuranceFunds` who pays for liquidations. Every payment has two ends: what
leaves the balance is found again in one of the ledger's sums. Every change is an `Event`:
`rebuild` makes of a journal the same ledger, to the quantum.

Units: money is quote quantums (1e-6 USDC), sizes are signed quantums, positive for long, times
are unix nanoseconds; fees are rounded up and fills truncated, as the chain does. No floats.
Sources: v4-chain x/subaccounts, x/sending, x/clob/keeper/process_single_match.go; indexer ender.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, Literal

import dydx_margin as margin
import msgspec
from dydx_conn import (
    STANDARD_FEE_TIERS,
    Fees,
    FeeTier,
    PerpetualMarket,
    Subaccount,
    event_id,
    fee_tier,
)
from dydx_conn import fee as fee_of
from dydx_history import (
    NEVER,
    Caps,
    FillRecord,
    FundingRecord,
    History,
    OrderRecord,
    Page,
    PnlPoint,
    PositionRecord,
    Stamp,
    Tally,
    TransferRecord,
    page_of,
)

__all__ = [
    "SHARED_FUND", "Charge", "Event", "Filled", "Funded", "Holding", "InsuranceFunds", "Ledger",
    "LedgerError", "Liquidated", "Marked", "Opened", "Refused", "Regraded", "Settled", "Valued",
    "charge", "collateral_pool", "parent_of", "rebuild", "transfer", "withdrawals_blocked",
]  # fmt: skip

# === Errors ===


class LedgerError(Exception):
    """Anything this floor refuses as a bug of the caller; expected refusals are `Refused`."""


class Refused(msgspec.Struct, frozen=True, gc=False):
    """What was not done to a ledger, and why; nothing changed."""

    reason: Literal["DUPLICATE", "OVERFLOW", "BLOCKED", "UNKNOWN", "UNDERCOLLATERALIZED", "SAME"]
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.reason}: expected {self.expected}, got {self.got}"


# === Events ===
# Every change of a ledger, as it was asked for: applied in order to a ledger opened alike they
# make the same ledger. What was refused changed nothing and leaves no event.


class Opened(msgspec.Struct, frozen=True, gc=False):
    """A ledger began, with what it holds and how much it remembers."""

    subaccount: Subaccount
    deposit: int
    caps: "Caps"


class Filled(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A fill: signed quantums at a price. `quote` (unsigned) overrules it, as deleveraging does.

    The same `id` is booked once; an empty one is made up from the count of fills.
    """

    market: PerpetualMarket
    quantums: int
    subticks: int
    fee: int = 0
    insurance: int = 0
    when: Stamp = NEVER
    quote: int | None = None
    id: str = ""
    order_id: str = ""
    liquidity: str = "TAKER"
    type: str = "LIMIT"
    builder_fee: int = 0


class Valued(msgspec.Struct, frozen=True, gc=False):
    """A market's oracle price or open interest moved."""

    ticker: str
    price: int
    exponent: int
    interest: int | None


class Funded(msgspec.Struct, frozen=True, gc=False):
    """Funding indices moved: what positions owe by it waits until the account is touched."""

    indices: dict[str, int]
    when: Stamp


class Settled(msgspec.Struct, frozen=True, gc=False):
    """The account was touched: what its funding came to went to its balance."""

    when: Stamp


class Regraded(msgspec.Struct, frozen=True, gc=False):
    """Governance changed a market's terms under an open position."""

    market: PerpetualMarket


class Liquidated(msgspec.Struct, frozen=True, gc=False):
    """The chain liquidated some or all of a position; its fills are events of their own."""


class Marked(msgspec.Struct, frozen=True, gc=False):
    """A point of the historical profit was taken."""

    when: Stamp


Event = (
    Opened | Filled | Valued | Funded | Settled | Regraded | Liquidated | Marked
    | TransferRecord | OrderRecord
)  # fmt: skip


# === Money ===
# What fills cost, and when the chain lets collateral leave.

BLOCKED_AFTER_NEGATIVE: Final = 50
_UINT64: Final = 2**64


class Charge(msgspec.Struct, frozen=True, gc=False):
    """What a fill costs: the chain's fee (a rebate if negative) and a builder's on top."""

    fee: int
    builder_fee: int = 0

    @property
    def total(self) -> int:
        """Return what the trader pays."""
        return self.fee + self.builder_fee


def charge(
    quote_quantums: int, liquidity: str, fees: Fees, *,
    builder_fee_ppm: int = 0, liquidation: bool = False,
) -> Charge:  # fmt: skip
    """Return what a fill costs one side, each part rounded up, rebates too.

    Who is liquidated pays no taker fee, and who trades against it gets no rebate.
    Source: x/clob/keeper/process_single_match.go.
    """
    if not liquidation:
        builder = fee_of(quote_quantums, builder_fee_ppm)
        return Charge(fees.of(quote_quantums, liquidity), builder)
    return Charge(0 if liquidity == "TAKER" else max(0, fees.of(quote_quantums, "MAKER")))


SHARED_FUND: Final = "insurance-fund"


class InsuranceFunds:
    """What pays where a liquidation brings too little, and gets what it brings too much.

    `balances` (quote quantums) stand under the chain's names: cross markets share one fund, an
    isolated market has its own. The shared one opens with `shared`; the others open empty, as
    those of new markets do. None pays whatever is asked, below zero too.
    Source: x/clob/keeper/deleveraging.go, IsValidInsuranceFundDelta.
    """

    def __init__(self, shared: int | None):
        if shared is not None and shared < 0:
            raise LedgerError(f"expected an insurance fund of 0 or more, got {shared}")
        self.balances = {SHARED_FUND: shared or 0}
        self._bottomless = shared is None

    def covers(self, market: PerpetualMarket, delta: int) -> bool:
        """Tell whether a market's fund can take in `delta`: negative is paid out."""
        after = self.balances.get(_fund_of(market), 0) + delta
        return delta >= 0 or after >= 0 or self._bottomless

    def take(self, market: PerpetualMarket, delta: int) -> None:
        """Take in what a liquidation in a market brought too much, or negative pay it."""
        name = _fund_of(market)
        self.balances[name] = self.balances.get(name, 0) + delta


def _fund_of(market: PerpetualMarket) -> str:
    alone = market.market_type == "ISOLATED"
    return f"{SHARED_FUND}:{market.perpetual_id}" if alone else SHARED_FUND


def withdrawals_blocked(
    height: int, negative_at: int | None = None, outage_at: int | None = None
) -> bool:
    """Tell whether the chain lets nothing leave a collateral pool at a height.

    `negative_at` is the last block that saw an account of that pool worth less than nothing,
    `outage_at` the first one after a chain outage of five minutes. Source: x/subaccounts/keeper.
    """
    seen = (block for block in (negative_at, outage_at) if block is not None)
    return any(height - block < BLOCKED_AFTER_NEGATIVE for block in seen)


def collateral_pool(markets: Iterable[PerpetualMarket]) -> str:
    """Return the pool that holds an account's USDC: an isolated market's ticker, or nothing."""
    isolated = (market.ticker for market in markets if market.market_type == "ISOLATED")
    return next(isolated, "")


def parent_of(subaccount: Subaccount) -> Subaccount:
    """Return the cross subaccount (0 to 127) to which an isolated one belongs, or itself."""
    return Subaccount(subaccount.owner, subaccount.number % 128)


def transfer(
    sender: "Ledger", recipient: "Ledger", quote_quantums: int, when: Stamp = NEVER, *,
    blocked: bool = False,
) -> TransferRecord | Refused:  # fmt: skip
    """Move collateral between two ledgers, a parent and its isolated child say.

    The sender must stay initially collateralised; `blocked` is what `withdrawals_blocked` says
    of either pool. Returns the sender's record. Source: x/sending/types, x/subaccounts/keeper.
    """
    if sender.subaccount == recipient.subaccount:
        return Refused("SAME", "another subaccount as recipient", str(sender.subaccount))
    to = recipient.subaccount
    sent = sender.withdraw(quote_quantums, when, blocked=blocked, other=to)
    if isinstance(sent, TransferRecord):
        recipient.deposit(quote_quantums, when, other=sender.subaccount)
    return sent


# === Ledger ===


class Holding(msgspec.Struct, gc=False, kw_only=True):
    """One position from its opening to its end, with the indexer's averages.

    Costs are sums of quantums times subticks, so that every average is exact.
    """

    market: PerpetualMarket
    id: str
    is_long: bool
    quantums: int = 0
    peak: int = 0
    opened: int = 0
    open_cost: int = 0
    closed: int = 0
    close_cost: int = 0
    funding_index: int = 0
    net_funding: int = 0
    fees: int = 0
    status: str = "OPEN"
    created: Stamp = NEVER
    ended: Stamp | None = None

    @property
    def realized(self) -> int:
        """Return the profit of what was closed, with funding, without fees: quote quantums."""
        return self.gain_of(self.closed, self.close_cost) + self.net_funding

    def unrealized(self, net_notional: int) -> int:
        """Return the profit of what is open at its present value, in quote quantums."""
        return net_notional - self._per_opened(self.quantums * self.open_cost)

    def record(self, net_notional: int | None) -> PositionRecord:
        """Return the position as it stands, at its present value if that is known."""
        return PositionRecord(
            id=self.id, ticker=self.market.ticker, status=self.status, is_long=self.is_long,
            quantums=self.quantums, peak=self.peak, opened=self.opened,
            open_cost=self.open_cost, closed=self.closed, close_cost=self.close_cost,
            fees=self.fees, net_funding=self.net_funding, realized=self.realized,
            unrealized=None if net_notional is None else self.unrealized(net_notional),
            created=self.created, ended=self.ended,
        )  # fmt: skip

    def gain_of(self, quantums: int, cost: int) -> int:
        """Return what closing `quantums` for `cost` earns over the average entry."""
        gain = cost * self.opened - self.open_cost * quantums
        return self._per_opened(gain if self.is_long else -gain)

    def _per_opened(self, numerator: int) -> int:
        exponent = self.market.quantum_conversion_exponent
        up, down = (int(10 ** max(0, power)) for power in (exponent, -exponent))
        return numerator * up // (self.opened * down)


class Ledger:
    """One subaccount's money, settled as the chain settles it.

    `collateral` is the USDC balance in quote quantums. Every payment has its other end in
    `paid_for_fills`, `fees_paid`, `funding_paid` or `insurance_paid`: taken from `deposits`
    they always leave the balance. Fills and transfers settle funding first, as the chain does,
    and margin counts what is `unsettled`. `indices` are the newest funding indices,
    `oracles` price, exponent and open interest by ticker. `builder_paid` is part of
    `fees_paid`. `journal` is handed every change as an `Event`, once it has happened.
    """

    def __init__(
        self, subaccount: Subaccount, deposit: int = 0, *, caps: Caps | None = None,
        journal: Callable[[Event], object] | None = None,
    ):  # fmt: skip
        self.subaccount = subaccount
        self.collateral = self.deposits = deposit
        self.holdings: dict[str, Holding] = {}
        self.indices: dict[str, int] = {}
        self.paid_for_fills = self.fees_paid = self.funding_paid = self.insurance_paid = 0
        self.builder_paid = self.unsettled = 0
        self.fills = self.liquidations = self.wins = self.losses = 0
        self._realized = self._opened = 0
        self.oracles: dict[str, tuple[int, int, int | None]] = {}
        self._parts: dict[str, margin.PositionMargin] = {}
        self._margin: margin.MarginFigures | None = None
        self.history = History(caps or Caps())
        self.tally = Tally()
        self._days: dict[int, tuple[int, int]] = {}  # maker and taker volume
        self._journal = journal
        if deposit:
            self.history.keep(TransferRecord(quote_quantums=deposit))
        if journal is not None:
            journal(Opened(subaccount, deposit, self.history.caps))

    def __eq__(self, other: object) -> bool:
        """Two ledgers are equal if all that they hold, paid and remember is, to the quantum."""
        return isinstance(other, Ledger) and self._state() == other._state()

    __hash__ = None  # type: ignore[assignment] # what changes is no key

    def deposit(
        self, quote_quantums: int, when: Stamp = NEVER, *, other: Subaccount | None = None
    ) -> None:
        """Bring collateral in, or take it out (negative) without asking whether that is allowed."""
        self._move(TransferRecord(quote_quantums=quote_quantums, other=other, created=when))

    def withdraw(
        self, quote_quantums: int, when: Stamp = NEVER, *, blocked: bool = False,
        other: Subaccount | None = None,
    ) -> TransferRecord | Refused:  # fmt: skip
        """Take collateral out if the chain would allow it; `blocked`: see `withdrawals_blocked`."""
        refused = self._keeps(quote_quantums)
        if blocked:
            refused = Refused("BLOCKED", "a pool from which one may withdraw", "a blocked one")
        if refused is not None:
            return refused
        record = TransferRecord(quote_quantums=-quote_quantums, other=other, created=when)
        self._move(record)
        return record

    def fill(
        self, market: PerpetualMarket, quantums: int, subticks: int, fee: int = 0,
        insurance: int = 0, when: Stamp = NEVER, *, quote: int | None = None, **terms: Any,
    ) -> list[Holding]:  # fmt: skip
        """Buy (positive) or sell at a price; return the positions touched, the ended first.

        `terms` are the other fields of `Filled`. For fills of one's own making: raises
        `LedgerError` where `take` would answer that it refused.
        """
        touched = self.take(Filled(
            market=market, quantums=quantums, subticks=subticks, fee=fee, insurance=insurance,
            when=when, quote=quote, **terms,
        ))  # fmt: skip
        if isinstance(touched, Refused):
            raise LedgerError(str(touched))
        return touched

    def take(self, fill: Filled) -> list[Holding] | Refused:
        """Book a reported fill; return the positions touched, the ended first, or a refusal."""
        refused = self._judge(fill)
        if refused is not None:
            return refused
        self.fills += 1
        if not fill.id:
            order = fill.order_id or None
            id_ = event_id("fill", self.subaccount, order, fill.when.seq, self.fills)
            fill = msgspec.structs.replace(fill, id=id_)
        settled = self.settle(fill.when)
        paid = self._pay(fill)
        was_flat, market = not self.holdings, fill.market
        gain, touched = self._trade(fill)
        touched += [holding for holding in settled if holding.market.ticker != market.ticker]
        self._expose(was_flat, fill.when)
        self._revalue(market.ticker)
        self.history.keep_fill(FillRecord(
            id=fill.id, order_id=fill.order_id, ticker=market.ticker, quantums=fill.quantums,
            subticks=fill.subticks, quote=paid, fee=fill.fee, builder_fee=fill.builder_fee,
            insurance=fill.insurance, gain=gain, liquidity=fill.liquidity, status=fill.type,
            created=fill.when,
        ))  # fmt: skip
        self._tell(fill)
        return touched

    def value(self, ticker: str, price: int, exponent: int, interest: int | None = None) -> None:
        """Take in a market's oracle price (an integer and its power of ten) and open interest."""
        self.oracles[ticker] = (price, exponent, interest)
        if ticker in self.holdings:
            self._revalue(ticker)
        if self._journal is not None:  # the hot path: no event is made for nobody
            self._journal(Valued(ticker, price, exponent, interest))

    def regrade(self, market: PerpetualMarket) -> None:
        """Take in what governance changed of a market, if a position is open in it."""
        holding = self.holdings.get(market.ticker)
        if holding is not None and holding.market != market:
            holding.market = market
            self._revalue(market.ticker)
            self._tell(Regraded(market))

    def liquidated(self) -> None:
        """Count a liquidation, its fills being booked."""
        self.liquidations += 1
        self._tell(Liquidated())

    def note(self, order: OrderRecord) -> None:
        """Remember how an order stands."""
        self.history.keep_order(order)
        self._tell(order)

    def mark(self, when: Stamp) -> PnlPoint:
        """Take a point of the historical profit; one an hour is what `performance` counts on."""
        point = PnlPoint(equity=self.equity, net_transfers=self.deposits, created=when)
        self.tally.see(when)
        self.history.keep(point)
        self._tell(Marked(when))
        return point

    def positions(self, **filters: Any) -> Page[PositionRecord]:
        """Return positions, the open ones as they stand, with the filters of `page_of`."""
        return page_of(chain(self.history.ended, self._open_records()), **filters)

    def tier(
        self, time_ns: int, total_volume: int = 0, tiers: Sequence[FeeTier] = STANDARD_FEE_TIERS
    ) -> FeeTier:
        """Return the fee tier that the last 30 days' fills earn; `total_volume` is everybody's."""
        since = time_ns // _DAY_NS - _TIER_DAYS
        days = [volumes for day, volumes in self._days.items() if day > since]
        maker, taker = (sum(each) for each in zip(*days, strict=True)) if days else (0, 0)
        return fee_tier(tiers, maker_volume=maker, taker_volume=taker, total_volume=total_volume)

    def position(self, ticker: str) -> int:
        """Return the signed quantums held."""
        holding = self.holdings.get(ticker)
        return 0 if holding is None else holding.quantums

    def part(self, ticker: str) -> margin.PositionMargin:
        """Return what one position adds to the account; nothing if it has no value yet."""
        return self._parts.get(ticker) or margin.PositionMargin()

    def margin_of(self, market: PerpetualMarket, quantums: int) -> margin.PositionMargin:
        """Return the margin of a size of a market at its latest oracle price."""
        return margin.position_margin(market, quantums, *self.oracles[market.ticker])

    @property
    def margin(self) -> margin.MarginFigures:
        """Return the account's margin at the latest oracle prices."""
        if self._margin is None:
            unknown = sorted(self.holdings.keys() - self._parts.keys())
            worth = self.collateral + self.unsettled
            self._margin = margin.total_margin(worth, self._parts.values(), unknown)
        return self._margin

    @property
    def breached(self) -> bool:
        """Tell whether the chain may liquidate; never while a position has no price."""
        sums = self.margin
        return sums.known and margin.is_liquidatable(sums.net_collateral, sums.maintenance_margin)

    @property
    def equity(self) -> int | None:
        """Return what the account is worth, if every position has a price."""
        return self.margin.net_collateral if self.margin.known else None

    @property
    def realized_pnl(self) -> int:
        """Return the profit of all that was ever closed, with funding, without fees."""
        return self._realized + sum(holding.realized for holding in self.holdings.values())

    @property
    def unrealized_pnl(self) -> int:
        """Return the profit of what is open and has an oracle price; `margin` names the rest."""
        held = self.holdings
        return sum(held[t].unrealized(part.net_notional) for t, part in self._parts.items())

    def affords(self, market: PerpetualMarket, quantums: int, subticks: int, fee: int) -> bool:
        """Tell whether the chain would let this fill happen, with the open interest it makes.

        Of the two accounts that meet, the other may open a long: that is what counts against us.
        """
        before, ticker = self.margin, market.ticker
        if not before.known or ticker not in self.oracles or not self.admits(market):
            return False
        held, (price, exponent, interest) = self.position(ticker), self.oracles[ticker]
        if interest is not None:
            interest += max(0, held + quantums) - max(0, held) + max(0, -quantums)
        part = margin.position_margin(market, held + quantums, price, exponent, interest)
        quote = market.quote_quantums(abs(quantums), subticks)
        left = self.collateral + self.unsettled - fee - (quote if quantums > 0 else -quote)
        after = margin.total_margin(left, (self._parts | {ticker: part}).values())
        return margin.state_change(before, after) == "Success"

    def admits(self, market: PerpetualMarket) -> bool:
        """Tell whether the isolated rule lets the account trade a market beside what it holds."""
        if market.ticker in self.holdings or not self.holdings:
            return True
        held = [holding.market for holding in self.holdings.values()]
        return not margin.mixes_isolated([*held, market])

    def bankruptcy(self, market: PerpetualMarket, quantums: int) -> int:
        """Return the quote received, at the bankruptcy price, for closing by signed `quantums`."""
        rest = self.margin_of(market, self.position(market.ticker) + quantums)
        return margin.bankruptcy_price(self.margin, self.part(market.ticker), rest)

    def accrue(self, indices: Mapping[str, int], when: Stamp = NEVER) -> list[FundingRecord]:
        """Take in how far funding indices have moved; keep and return each position's payment."""
        payments = []
        for ticker, holding in self.holdings.items():
            since = self.indices.get(ticker, 0)
            index = indices.get(ticker, since)
            if index != since:
                moved = margin.funding_settlement_ppm(holding.quantums, index, since)
                payments.append(FundingRecord(
                    position_id=holding.id, ticker=ticker, quantums=holding.quantums,
                    index=index, credited=moved // margin.PPM, created=when,
                ))  # fmt: skip
                self.history.keep(payments[-1])
        self.indices.update(indices)
        self.unsettled = margin.funding_settlement(map(self.owed_ppm, self.holdings.values()))
        self._margin = None
        self.tally.see(when)
        self._tell(Funded(dict(indices), when))
        return payments

    def settle(self, when: Stamp = NEVER) -> list[Holding]:
        """Settle what is owed, as whatever touches the account does: one floor for all of it."""
        touched = self.owing
        for holding in touched:
            holding.net_funding += self.owed_ppm(holding) // margin.PPM
            holding.funding_index = self.indices[holding.market.ticker]
        self.collateral += self.unsettled
        self.funding_paid -= self.unsettled
        self.unsettled = 0
        if touched:
            self._tell(Settled(when))
        return touched

    @property
    def owing(self) -> list[Holding]:
        """Return the positions whose funding the next touch settles."""
        return [holding for holding in self.holdings.values() if self.owed_ppm(holding)]

    def settle_funding(self, indices: Mapping[str, int], when: Stamp = NEVER) -> list[Holding]:
        """Take in funding indices and settle at once; return the positions touched."""
        self.accrue(indices, when)
        return self.settle(when)

    def owed_ppm(self, holding: Holding) -> int:
        """Return what a position's funding would credit (negative: take) now, in 1e-6 quantums."""
        index = self.indices.get(holding.market.ticker, 0)
        return margin.funding_settlement_ppm(holding.quantums, index, holding.funding_index)

    def _state(self) -> dict[str, object]:
        # Margin is made of the rest when it is asked for; a journal only listens.
        made = {"_margin", "_journal"}
        return {name: what for name, what in vars(self).items() if name not in made}

    def _judge(self, fill: Filled) -> Refused | None:
        if fill.id and self.history.knows_fill(fill.id):
            return Refused("DUPLICATE", "a fill not booked before", fill.id)
        # A deleveraging may pay nothing at all; every other fill has a price.
        priced = fill.subticks if fill.quote is None else 1
        if not (0 < abs(fill.quantums) < _UINT64 and 0 < priced < _UINT64):
            got = f"{fill.quantums} quantums at {fill.subticks} subticks"
            return Refused("OVERFLOW", "a size and a price of 1 to 2**64 - 1", got)
        sums = (fill.fee, fill.insurance, fill.quote or 0, fill.builder_fee)
        if max(map(abs, sums)) >= _UINT64:
            return Refused("OVERFLOW", "payments below 2**64 quote quantums", str(max(sums)))
        return None

    def _keeps(self, quote_quantums: int) -> Refused | None:
        """Judge what would be left after a withdrawal."""
        if not 0 < quote_quantums < _UINT64:
            got = f"{quote_quantums} quote quantums"
            return Refused("OVERFLOW", "1 to 2**64 - 1 quote quantums", got)
        sums = self.margin
        if not sums.known:
            return Refused("UNKNOWN", "a price for every position", ", ".join(sums.unknown))
        if sums.free_collateral < quote_quantums:
            expected = f"at most {max(0, sums.free_collateral)} quote quantums"
            return Refused("UNDERCOLLATERALIZED", expected, str(quote_quantums))
        return None

    def _move(self, record: TransferRecord) -> None:
        if abs(record.quote_quantums) >= _UINT64:
            got = record.quote_quantums
            raise LedgerError(f"expected a transfer below 2**64 quote quantums, got {got}")
        self.settle(record.created)
        self.deposits += record.quote_quantums
        self.collateral += record.quote_quantums
        self._margin = None
        self.tally.see(record.created)
        self.history.keep(record)
        self._tell(record)

    def _pay(self, fill: Filled) -> int:
        """Take a fill off the balance; return its signed quote."""
        size, tally, day = abs(fill.quantums), self.tally, fill.when.time_ns // _DAY_NS
        quote = fill.quote
        if quote is None:
            quote = fill.market.quote_quantums(size, fill.subticks)
        paid = quote if fill.quantums > 0 else -quote
        self.paid_for_fills += paid
        self.fees_paid += fill.fee
        self.builder_paid += fill.builder_fee
        self.insurance_paid += fill.insurance
        self.collateral -= paid + fill.fee + fill.insurance
        made, took = (abs(quote), 0) if fill.liquidity == "MAKER" else (0, abs(quote))
        tally.maker_volume += made
        tally.taker_volume += took
        if day not in self._days:
            self._days = {d: both for d, both in self._days.items() if d > day - _TIER_DAYS}
        maker, taker = self._days.get(day, (0, 0))
        self._days[day] = (maker + made, taker + took)
        return paid

    def _trade(self, fill: Filled) -> tuple[int, list[Holding]]:
        """Close, open, or both; return what closing earned and the positions touched."""
        size, cost = abs(fill.quantums), abs(fill.quantums) * fill.subticks
        fee, gain = fill.fee + fill.insurance, 0
        touched: list[Holding] = []
        holding = self.holdings.get(fill.market.ticker)
        if holding is not None and holding.is_long != (fill.quantums > 0):
            closing = min(size, abs(holding.quantums))
            share, charged = cost * closing // size, fee * closing // size
            holding.fees += charged
            gain = self._close(holding, closing, share, fill)
            touched.append(holding)
            size, cost, fee = size - closing, cost - share, fee - charged
        if size:
            signed = size if fill.quantums > 0 else -size
            opened = self._open(fill.market, signed, cost, fill.when)
            opened.fees += fee
            touched.append(opened)
        return gain, touched

    def _expose(self, was_flat: bool, when: Stamp) -> None:
        tally = self.tally
        tally.see(when)
        if was_flat:
            tally.held_since_ns = when.time_ns
        if not self.holdings:
            since, tally.held_since_ns = tally.held_since_ns, 0
            tally.exposed_ns += max(0, when.time_ns - since) if since else 0

    def _open_records(self) -> Iterable[PositionRecord]:
        for ticker, holding in self.holdings.items():
            part = self._parts.get(ticker)
            yield holding.record(None if part is None else part.net_notional)

    def _tell(self, event: Event) -> None:
        if self._journal is not None:
            self._journal(event)

    def _open(self, market: PerpetualMarket, quantums: int, cost: int, when: Stamp) -> Holding:
        ticker = market.ticker
        holding = self.holdings.get(ticker)
        if holding is None:
            self._opened += 1
            id_ = event_id("position", self.subaccount, ticker, self._opened)
            holding = Holding(market=market, id=id_, is_long=quantums > 0, created=when)
            holding.funding_index = self.indices.get(ticker, 0)
            self.holdings[ticker] = holding
        holding.opened += abs(quantums)
        holding.open_cost += cost
        holding.quantums += quantums
        holding.peak = max(holding.peak, holding.quantums, key=abs)
        return holding

    def _close(self, holding: Holding, size: int, cost: int, fill: Filled) -> int:
        gain = holding.gain_of(size, cost)
        self.wins += gain > 0
        self.losses += gain < 0
        holding.closed += size
        holding.close_cost += cost
        holding.quantums -= size if holding.is_long else -size
        if not holding.quantums:
            ended = "LIQUIDATED" if fill.type == "LIQUIDATED" else "CLOSED"
            holding.status, holding.ended = ended, fill.when
            self._realized += holding.realized
            self.tally.end(holding.realized - holding.fees)
            self.history.keep(holding.record(0))
            del self.holdings[holding.market.ticker]
        return gain

    def _revalue(self, ticker: str) -> None:
        holding, self._margin = self.holdings.get(ticker), None
        if holding is not None and ticker in self.oracles:
            self._parts[ticker] = self.margin_of(holding.market, holding.quantums)
        else:
            self._parts.pop(ticker, None)


_DAY_NS: Final = 86_400 * 10**9
_TIER_DAYS: Final = 30


def rebuild(events: Iterable[Event], journal: Callable[[Event], object] | None = None) -> Ledger:
    """Make the ledger of a journal again, equal to the quantum in all it holds and remembers.

    A fill that stands twice in the journal is booked once. Raises `LedgerError` for a journal
    that does not begin with `Opened` or opens twice, and for what no ledger would have booked.
    """
    rest = iter(events)
    first = next(rest, None)
    if not isinstance(first, Opened):
        raise LedgerError(f"expected a journal that begins with Opened, got {first}")
    ledger = Ledger(first.subaccount, first.deposit, caps=first.caps, journal=journal)
    for event in rest:
        if isinstance(event, Opened):
            raise LedgerError(f"expected one Opened, got another: {event}")
        _REPLAY[type(event)](ledger, event)
    return ledger


def _book(ledger: Ledger, fill: Filled) -> None:
    refused = ledger.take(fill)
    if isinstance(refused, Refused) and refused.reason != "DUPLICATE":
        raise LedgerError(str(refused))


_REPLAY: Final[dict[type, Callable[[Ledger, Any], object]]] = {
    Filled: _book,
    Valued: lambda ledger, e: ledger.value(e.ticker, e.price, e.exponent, e.interest),
    Funded: lambda ledger, e: ledger.accrue(e.indices, e.when),
    Settled: lambda ledger, e: ledger.settle(e.when),
    Regraded: lambda ledger, e: ledger.regrade(e.market),
    Liquidated: lambda ledger, e: ledger.liquidated(),
    Marked: lambda ledger, e: ledger.mark(e.when),
    TransferRecord: lambda ledger, e: ledger.deposit(e.quote_quantums, e.created, other=e.other),
    OrderRecord: Ledger.note,
}

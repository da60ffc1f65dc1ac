"""The venue as the wire tells of it: where real orders go, and what comes back of them.

    views, orders ──► WireVenue ──► Trader ──► node
    frames of the wire ──► WireVenue.heard ──► account frames (as PaperVenue makes them)

`WireVenue` stands where a paper run has its PaperVenue; everything else is the same code. What
becomes of an order is told by frames alone, so a recording of a run replays to the same bytes:
there the orders go nowhere, because their fate is in the recording already.
"""

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec
from dydx_conn import (
    AuditLog,
    CancelRequest,
    ConnError,
    Denied,
    Fees,
    Frame,
    Lifecycle,
    OrderRequest,
    OrderState,
    PerpetualMarket,
    Queued,
    Subaccount,
    SubaccountContents,
    Trader,
    cancel_all,
    contents,
    estimate,
    exact,
    fold_order_frame,
)
from dydx_data import MarketView

if TYPE_CHECKING:
    from dydx_risk import Risk

# === Money ===


class Money(msgspec.Struct):
    """What the account did since the run began, in quote quantums; positive costs are paid."""

    equity: int | None = None
    realized_pnl: int = 0
    unrealized_pnl: int = 0
    fees_paid: int = 0
    funding_paid: int = 0
    unsettled: int = 0
    insurance_paid: int = 0
    fills: int = 0
    wins: int = 0
    losses: int = 0
    liquidations: int = 0


class _Stand(msgspec.Struct):
    """A position's sums: as the run found them, and now."""

    realized_before: int = 0
    funding_before: int = 0
    realized: int = 0
    funding: int = 0


class Tally:
    """The money of one account, folded from its frames."""

    def __init__(self) -> None:
        self.money = Money()
        self._stands: dict[str, _Stand] = {}
        self._fills: set[str] = set()
        self._begun = False

    def take(self, change: SubaccountContents) -> None:
        """Count what one message changes."""
        if change.subaccount is not None:
            self._snapshot(change.subaccount.open_perpetual_positions)
        for fields in change.perpetual_positions:
            self._position(fields)
        for fill in change.fills:
            if fill.id not in self._fills and self._begun:
                self._fills.add(fill.id)
                self.money.fills += 1
                self.money.fees_paid += _quantums(fill.fee)
                self.money.liquidations += fill.type == "LIQUIDATED"

    def _snapshot(self, positions: dict[str, Any]) -> None:
        for ticker in set(self._stands) - set(positions):
            self._close(ticker)  # while nobody was listening
        for ticker, fields in positions.items():
            sums = _quantums(fields.realized_pnl or "0"), _quantums(fields.net_funding)
            if not self._begun:
                self._stands[ticker] = _Stand(*sums, *sums)
            self._position(fields)
        self._begun = True

    def _position(self, fields: Any) -> None:
        stand = self._stands.setdefault(fields.market, _Stand())
        realized, funding = _quantums(fields.realized_pnl or "0"), _quantums(fields.net_funding)
        self.money.realized_pnl += realized - stand.realized
        self.money.funding_paid -= funding - stand.funding
        stand.realized, stand.funding = realized, funding
        if fields.status != "OPEN":
            self._close(fields.market)

    def _close(self, ticker: str) -> None:
        stand = self._stands.pop(ticker)
        gained = stand.realized - stand.realized_before
        self.money.wins += gained > 0
        self.money.losses += gained < 0


def _quantums(usdc: str) -> int:
    digits, power = exact(usdc)
    return int(digits * 10 ** (power + 6)) if power >= -6 else digits // 10 ** -(power + 6)


# === Venue ===

_ACCOUNT: Final = "v4_subaccounts"
_LOSSES: Final = ("close", "gap")
# New numbers for 500 orders a second from the first frame on, so that a restart repeats none.
_NUMBER_NS: Final = 2_000_000
_NUMBERS: Final = 1 << 32


class WireVenue:
    """The venue as the wire tells of it: where orders go, and what is heard of the account.

    Without a trader orders go nowhere, as in the replay of a run whose orders were sent.
    """

    def __init__(self, subaccount: Subaccount) -> None:
        self.subaccount = subaccount
        self.lifecycle = Lifecycle()
        self.tally = Tally()
        self.refusals: Counter[str] = Counter()
        # What the trader checks an order against, as the views had it last.
        self.markets: dict[str, PerpetualMarket] = {}
        self.statuses: dict[str, str] = {}
        self.trader: Trader | None = None
        self.audit: AuditLog | None = None
        self.closing = False
        self._risk: Risk | None = None
        self._links: set[str] = set()
        self._numbered = False

    def begin(self, risk: "Risk") -> None:
        """Learn who judges the account's worth."""
        self._risk = risk

    def heard(self, frame: Frame) -> list[Frame]:
        """Return the frame if it is of the account: what it says, or that some of it is lost."""
        if not self._numbered and self._risk is not None:
            self._numbered = True
            self._risk.next_client_id = frame.at // _NUMBER_NS % _NUMBERS
        if self.trader is not None:
            self.trader.observe(frame)
        for state in fold_order_frame(self.lifecycle, frame):
            if state.status == "REJECTED":
                self.refusals[state.reason] += 1
        if frame.kind in _LOSSES:
            return [frame] if frame.link in self._links or not frame.link else []
        if frame.kind == "http" and self.subaccount.owner in frame.channel:
            return [frame]  # the account, asked for while its socket is away
        if frame.channel != _ACCOUNT or frame.id != str(self.subaccount) or frame.kind != "ws":
            return []
        self._links.add(frame.link)
        with contextlib.suppress(ConnError, ArithmeticError):
            for change in contents(frame):
                self.tally.take(change)
        return [frame]

    def step(self, event: MarketView | OrderRequest | CancelRequest) -> list[Frame]:
        """Take a view to check orders against, or send an order; frames will tell the rest."""
        if isinstance(event, MarketView):
            if event.market is not None:
                self.markets[event.ticker] = event.market
                self.statuses[event.ticker] = event.status
        elif self.trader is not None and not self.closing:
            if isinstance(event, OrderRequest):
                self._estimate(event)
            self._noted(self.trader.submit(event))
        return []

    def _estimate(self, order: OrderRequest) -> None:
        # Before it is sent: what it may cost at worst, and whether the account can carry it.
        market, risk = self.markets.get(order.ticker), self._risk
        if self.audit is None or market is None or risk is None:
            return
        held = risk.account.positions.get(order.ticker)
        known = risk.margin.known and not risk.account.trouble
        worst = estimate(
            order,
            market,
            Fees(),
            position=(held.quantums or 0) if held is not None else 0,
            net_collateral=risk.margin.net_collateral if known else None,
            initial_margin=risk.margin.initial_margin,
        )
        figures = msgspec.structs.asdict(worst)
        self.audit.write("estimate", ticker=order.ticker, client_id=order.client_id, **figures)

    def figures(self) -> Money:
        """Return what the account did and what it is worth."""
        money, risk = self.tally.money, self._risk
        if risk is not None and not risk.account.trouble and risk.margin.known:
            pnl = [row.unrealized_pnl or 0 for row in risk.positions()]
            money.equity = risk.margin.net_collateral
            money.unrealized_pnl = int(sum(pnl) * 10**6)
        return money

    @property
    def known(self) -> bool:
        """Tell whether the account has said what it holds."""
        return bool(self._links)

    @property
    def open(self) -> list[OrderState]:
        """Return this run's orders that may still stand on a book, or of which nobody knows."""
        return [s for s in self.lifecycle.open() if s.order is not None and not s.leaving]

    def withdraw(self, states: list[OrderState]) -> None:
        """Send nothing more but the cancels of these orders."""
        self.closing = True
        self.cancel(states)

    def cancel(self, states: list[OrderState]) -> None:
        """Send the cancels of these orders."""
        if self.trader is None:
            return
        until = self.trader.good_til_block()
        for id_, wishes in cancel_all(states, good_til_block=until).items():
            number = int(id_.rpartition("/")[2])
            for wish in wishes:
                self._noted(self.trader.submit(wish, number))

    def _noted(self, answer: Queued | Denied) -> None:
        if isinstance(answer, Denied):
            self.refusals[answer.reason] += 1

"""The venue behind the wire: where real orders go, and what comes back of them.

    views, orders ──► WireVenue ──► Trader ──► node
    frames of the wire ──► WireVenue.receive ──► account frames (as PaperVenue makes them)

`WireVenue` stands where a paper run has its PaperVenue; everything else is the same code. What
becomes of an order is known from frames alone, so a recording of a run replays to the same bytes:
there the orders go nowhere, because their fate is in the recording already.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from dydx_conn import (
    CONDITIONAL,
    Accounts,
    AccountUpdate,
    AuditLog,
    CancelRequest,
    Frame,
    NotQueued,
    OrderRequest,
    OrderState,
    Origins,
    PerpetualMarket,
    Profit,
    Queued,
    Stranger,
    Subaccount,
    Trader,
    cancel_all,
    client_ids,
)
from dydx_data import MarketView

from bot.run.claim import Claim
from bot.run.costs import worst_case

if TYPE_CHECKING:
    from dydx_risk import Risk

# === Money ===


class Money(msgspec.Struct):
    """What the account did since the run began, in quote quantums; positive costs are paid.

    What positions had gained before, `unrealized_pnl` leaves out: no run of ours won it.
    `complete` is False where fills are missing: what they earned is in no figure.
    """

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
    complete: bool = True

    @property
    def profit(self) -> int:
        """Return what all of it brought, after fees, funding and what insurance took."""
        won = self.realized_pnl + self.unrealized_pnl + self.unsettled
        return won - self.fees_paid - self.funding_paid - self.insurance_paid


# === Venue ===

_RANGE: Final = re.compile(r"(\d+)-(\d+)")


def range_words(ranges: Sequence[tuple[int, int]]) -> str:
    """Put ranges of client ids in the words that `ranges` reads: first, and one after the last."""
    return f"sent by earlier runs: {', '.join(f'{first}-{end}' for first, end in ranges)}"


def ranges(words: str) -> tuple[tuple[int, int], ...]:
    """Read ranges of client ids, as the act has them that begins a run."""
    return tuple((int(first), int(end)) for first, end in _RANGE.findall(words))


class WireVenue:
    """The venue behind the wire: where orders go, and what is received of the account.

    Without a trader orders go nowhere, as in the replay of a run whose orders were sent.
    """

    def __init__(self, subaccount: Subaccount) -> None:
        self.subaccount = subaccount
        self.accounts = Accounts([subaccount])
        self.origins = Origins(self.accounts.orders)
        self.profit = Profit()
        self.refusals: Counter[str] = Counter()
        # What the trader checks an order against, as the views had it last.
        self.markets: dict[str, PerpetualMarket] = {}
        self.statuses: dict[str, str] = {}
        self._views: dict[str, MarketView] = {}
        self.trader: Trader | None = None
        self.audit: AuditLog | None = None
        self.claim: Claim | None = None
        self.closing = False
        self.known = False  # whether an account snapshot has come
        self._risk: Risk | None = None
        self._numbered = False
        self._gained_before: int | None = None  # by what is held when the account is first known

    def begin(self, risk: "Risk") -> None:
        """Learn who judges the account's worth."""
        self._risk = risk

    def receive(self, frame: Frame) -> list[Frame]:
        """Return the frame: it may be of the account, or report that some of it is lost."""
        if not self._numbered and self._risk is not None:
            self._numbered = True
            self._risk.next_client_id = next(client_ids(frame.at))
        if self._gained_before is None and self.known:
            self._gained_before = self._gained()
        if self.trader is not None:
            self.trader.observe(frame)
        self.origins.observe(frame)
        if frame.kind == "act" and frame.type == "ids":
            self.origins.earlier = ranges(frame.text)
            if self._risk is not None:
                self._risk.account.orders.remember(self.origins.earlier)
        return [frame]

    def learn(self, update: AccountUpdate) -> None:
        """Take what became of the account and its orders."""
        self.profit, self.known = update.profit, self.known or update.collateral is not None
        self.origins.take(update)
        for state in update.orders:
            if state.status == "REJECTED":
                self.refusals[state.reason] += 1

    def strangers(self) -> Sequence[Stranger]:
        """Return the orders of somebody else that were noticed since the last call."""
        return self.origins.found()

    @property
    def standing(self) -> list[OrderState]:
        """Return the orders that stood before the run and may still fill: they are left alone."""
        orders = self.accounts.orders.orders
        known = (orders.get(id_, state) for id_, state in self.origins.standing.items())
        return [state for state in known if not (state.final or state.leaving)]

    def step(self, event: MarketView | OrderRequest | CancelRequest) -> list[Frame]:
        """Take a view to check orders against, or send an order; frames will report the rest."""
        if isinstance(event, MarketView):
            if event.market is not None:
                self.markets[event.ticker] = event.market
                self.statuses[event.ticker] = event.status
                self._views[event.ticker] = event
        elif self.trader is not None and not self.closing:
            if isinstance(event, OrderRequest):
                if self.claim is not None:
                    self.claim.note(event.client_id)
                self._estimate(event)
            self._noted(self.trader.submit(event))
        return []

    def _estimate(self, order: OrderRequest) -> None:
        # Before it is sent: what it may cost at worst, and whether the account can carry it.
        if self.audit is None or self._risk is None:
            return
        worst = worst_case(order, self._views.get(order.ticker), self._risk)
        if worst is not None:
            figures = msgspec.structs.asdict(worst)
            self.audit.write("estimate", ticker=order.ticker, client_id=order.client_id, **figures)

    def figures(self) -> Money:
        """Return what the account did and what it is worth."""
        profit, risk = self.profit, self._risk
        money = Money(
            realized_pnl=profit.realized, fees_paid=profit.fees, funding_paid=profit.funding,
            insurance_paid=profit.insurance, fills=profit.fills, wins=profit.wins,
            losses=profit.losses, liquidations=profit.liquidations, complete=profit.complete,
        )  # fmt: skip
        if risk is not None and (gained := self._gained()) is not None:
            money.equity = risk.margin.net_collateral
            # Until the next frame comes nothing was gained here.
            before = gained if self._gained_before is None else self._gained_before
            money.unrealized_pnl = gained - before
        return money

    def _gained(self) -> int | None:
        risk = self._risk
        if risk is None or risk.account.trouble or not risk.margin.known:
            return None
        return int(sum(row.unrealized_pnl or 0 for row in risk.positions()) * 10**6)

    @property
    def open(self) -> list[OrderState]:
        """Return this run's orders that may still stand on a book, or of which nobody knows.

        Not those that leave a position by themselves, and stay as long as it does: `brackets`.
        """
        orders = [s for s in self.accounts.orders.open() if s.order is not None and not s.leaving]
        return [state for state in orders if not _is_bracket(state)]

    @property
    def brackets(self) -> list[str]:
        """Return the ids of the stops and take-profits of ours that stand."""
        return [] if self._risk is None else [*self._risk.account.orders.brackets]

    def withdraw(self, states: list[OrderState]) -> None:
        """Send nothing more but the cancels of these orders."""
        self.closing = True
        self.cancel(states)

    def cancel(self, states: Iterable[OrderState]) -> list[Frame]:
        """Send the cancels of these orders; frames will report what came of it."""
        if self.trader is None:
            return []
        ends = {
            "good_til_block": self.trader.good_til_block(),
            "good_til_block_time": self.trader.good_til_block_time(),
        }
        for id_, requests in cancel_all(states, **ends).items():
            number = int(id_.rpartition("/")[2])
            for request in requests:
                self._noted(self.trader.submit(request, number))
        return []

    def _noted(self, answer: Queued | NotQueued) -> None:
        if isinstance(answer, NotQueued):
            self.refusals[answer.reason] += 1


def _is_bracket(state: OrderState) -> bool:
    order = state.order
    return order is not None and order.reduce_only and order.order_flags == CONDITIONAL

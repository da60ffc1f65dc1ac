"""Real orders: where they go, what comes back of them, and the way out of a run.

    views, orders ──► WireVenue ──► Trader ──► node
    frames of the wire ──► WireVenue.heard ──► account frames (as PaperVenue makes them)

`WireVenue` stands where a paper run has its PaperVenue; everything else is the same code. What
becomes of an order is told by frames alone, so a recording of a run replays to the same bytes:
there the orders go nowhere, because their fate is in the recording already. A run ends in two
steps: what is open of it is taken off the books first, then the sources are let go.
"""

import argparse
import contextlib
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from dydx_conn import (
    AuditLog,
    CancelRequest,
    ConnError,
    Denied,
    Frame,
    Inbox,
    Keys,
    Lifecycle,
    Network,
    OrderRequest,
    OrderState,
    PerpetualMarket,
    Queued,
    Subaccount,
    SubaccountContents,
    Trader,
    cancel_all,
    client_ids,
    contents,
    exact,
    fold_order_frame,
    live,
)
from dydx_data import MarketView
from reactivex import Observable, operators

from bot.commands import lived, options_of, recorder, tickers_of, until
from bot.composition import Bot
from bot.costs import worst_case
from bot.environment import RefusalError, Settings, enter, settings_of, validate
from bot.keys import address_of, keys_of

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
        self._views: dict[str, MarketView] = {}
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
            self._risk.next_client_id = next(client_ids(frame.at))
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
                self._views[event.ticker] = event
        elif self.trader is not None and not self.closing:
            if isinstance(event, OrderRequest):
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


# === Ends ===

_GRACE_NS: Final = 5_000_000_000
_ENDS: Final = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))


def closing(
    venue: WireVenue, pace: Callable[[Frame], bool], stopping: threading.Event
) -> Callable[[Frame], bool]:
    """End a source once the run's orders are off the books, or 5 s after somebody ended it."""
    ends: list[int] = []

    def bounded(frame: Frame) -> bool:
        if not ends:
            if not stopping.is_set() and pace(frame):
                return True
            ends.append(frame.mono + _GRACE_NS)
            venue.withdraw(venue.open)
        if venue.open and frame.mono < ends[0]:
            return True
        if stopping.is_set():
            raise KeyboardInterrupt  # now it may end as any run that is interrupted
        return False

    return bounded


@contextlib.contextmanager
def gently(stopping: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM ask for the end, and only the second one force it."""

    def asked(*_: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    before = {number: signal.getsignal(number) for number in _ENDS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, asked)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# === Commands ===


def trade(arguments: argparse.Namespace) -> int:
    """Trade for real until told to stop, take what is open off the books, and report."""
    settings = settings_of(arguments)
    net = enter(settings, orders=True)
    tickers = tickers_of(arguments)
    keys = keys_of(arguments)
    subaccount = account_of(arguments, keys)
    worth = fit(settings, net, subaccount)
    venue, inbox, stopping = WireVenue(subaccount), Inbox(), threading.Event()
    options = options_of(arguments, worth)
    bot = Bot(options, venue)
    with (
        recorder(arguments.record, net, f"trade {subaccount} {options.deposit}") as keep,
        AuditLog(arguments.audit) as audit,
        trading(venue, net, keys, inbox, audit, arguments.authenticators),
        gently(stopping),
    ):

        def receive(pace: Callable[[Frame], bool]) -> Observable[Frame]:
            bounded = closing(venue, until(arguments.seconds, pace), stopping)
            frames = live(net, tickers, subaccount=subaccount, pace=bounded, inbox=inbox)
            return frames.pipe(operators.do_action(audit.passed))

        return lived(arguments, bot, net, tickers, receive, keep, mode="TRADE")


def withdraw_all(arguments: argparse.Namespace) -> int:
    """Take every order of a subaccount off the books, whoever placed it; 1 if some stay."""
    settings = settings_of(arguments)
    net = enter(settings, orders=True)
    keys = keys_of(arguments)
    venue, inbox = WireVenue(account_of(arguments, keys)), Inbox()
    found: list[OrderState] = []
    ends: list[int] = []

    def pace(frame: Frame) -> bool:
        ends.append(frame.mono + 2 * _GRACE_NS) if not ends else None
        if venue.known and not venue.closing:
            found.extend(venue.lifecycle.open())
            venue.withdraw(found)
        return frame.mono < ends[0] and not (venue.closing and not left())

    def left() -> list[OrderState]:
        return [state for state in venue.lifecycle.open() if not state.leaving]

    def hear(frame: Frame) -> None:
        audit.passed(frame)
        venue.heard(frame)

    with (
        AuditLog(arguments.audit) as audit,
        trading(venue, net, keys, inbox, audit, arguments.authenticators),
    ):
        live(net, [], subaccount=venue.subaccount, pace=pace, inbox=inbox).subscribe(hear)
    if not venue.known:
        raise RefusalError(f"expected the orders of {venue.subaccount}, {net.name} told of none")
    gone = len(found) - len(left())
    print(f"{venue.subaccount}: {gone} of {len(found)} orders are off the books")
    for reason, count in venue.refusals.items():
        print(f"{count} refused: {reason}", file=sys.stderr)
    return 1 if left() else 0


def account_of(arguments: argparse.Namespace, keys: Keys) -> Subaccount:
    """Return the subaccount to trade for: the key's own, or one that it may sign for."""
    owner = address_of(arguments) if arguments.authenticators else ""
    return Subaccount(owner or keys.address, arguments.subaccount)


def fit(settings: Settings, net: Network, subaccount: Subaccount) -> int:
    """Return what the account is worth in USDC, on a network that is fit to trade on."""
    found, heard = validate(settings, net, subaccount)
    if found.status != "ok":
        why = "; ".join(f"{check.name}: {check.seen}" for check in found.failed)
        raise RefusalError(f"expected {net.name} fit to trade on, it is {found.status}: {why}")
    told = heard.get(_ACCOUNT)
    (said,) = contents(told) if told is not None and not told.is_refusal else (None,)
    if said is None or said.subaccount is None or float(said.subaccount.equity) < 1:
        raise RefusalError(f"expected money in {subaccount}, {net.name} knows of none there")
    return int(float(said.subaccount.equity))


@contextlib.contextmanager
def trading(
    venue: WireVenue,
    net: Network,
    keys: Keys,
    inbox: Inbox,
    audit: AuditLog,
    authenticators: Sequence[int] = (),
) -> Iterator[None]:
    """Let a venue's orders out; however it ends, what is open is taken back first."""
    trader = Trader(
        net, keys, venue.subaccount, inbox, audit,
        markets=venue.markets, statuses=venue.statuses, authenticators=authenticators,
    )  # fmt: skip
    audit.write("trading", network=net.name, chain=net.chain_id, subaccount=str(venue.subaccount))
    try:
        with trader:
            venue.trader, venue.audit = trader, audit
            try:
                yield
            finally:
                if not venue.closing:
                    venue.withdraw(venue.open)
    finally:
        left = [state.id for state in venue.open]
        audit.write("ended", refusals=dict(venue.refusals), open=left)

"""What the strategy learns of its account, in the strategy's own values.

    verdict ─────────────► judged ──┐
    account updates ─────► filled ──┼─► news ─► Outcome, Holdings
    what risk reserves ─────────────┘

A strategy imports nothing from above it, so somebody must translate; nothing is judged here. An
order is followed from its verdict until risk reserves nothing for it any more, which is so for an
order too that no update ever came for.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec
from dydx_conn import AccountFill, AccountUpdate, Subaccount, order_id
from dydx_data import MarketView
from dydx_risk import (
    Approved,
    Bracket,
    Denied,
    GateChange,
    Reduce,
    Reservation,
    Risk,
    StandingBracket,
    Verdict,
    Withdraw,
)
from dydx_strategy import Held, Holdings, Outcome, share_out

# Fills that nobody ordered: the venue took a position, or a part of it.
_TAKEN: Final = ("LIQUIDATED", "DELEVERAGED", "OFFSETTING")
_REMEMBERED: Final = 1_024  # orders, so as to know a fill that is reported after the order's end


class _Sent(msgspec.Struct):
    """An order that was let go: signed base units, and the price that values them."""

    decision: str
    ticker: str
    why: str
    price: float
    size: Decimal
    filled: Decimal = Decimal(0)
    ended: bool = False
    bracket: str = ""  # STOP_LOSS or TAKE_PROFIT, where the order is one

    @property
    def open_usdc(self) -> float:
        return 0.0 if self.ended else self.usdc(self.size - self.filled)

    def usdc(self, size: Decimal) -> float:
        return float(size) * self.price


class Feedback:
    """The orders of one subaccount on their way, and what the strategy is still to learn."""

    def __init__(self, subaccount: Subaccount) -> None:
        self._subaccount = subaccount
        self._sent: dict[str, _Sent] = {}
        self._open: dict[str, None] = {}
        self._news: list[Outcome | Holdings] = []
        # Whatever moves a position, its value or the collateral makes a new margin in risk.
        self._margin: object = None
        self._trouble = ""
        self._closed = self._turned = False  # the gate, and whether it is news
        self._held: Mapping[str, Held] = {}
        self._funding = 0  # quote quantums, of all time

    def is_waiting(self, risk: Risk) -> bool:
        """Return whether `news` would have any now, or may soon: of an order's end."""
        moved = risk.margin is not self._margin or risk.account.trouble != self._trouble
        return bool(moved or self._turned or self._open or self._news)

    def judged(self, verdict: Verdict | GateChange, views: Mapping[str, MarketView]) -> None:
        """Note what a verdict means for the decision that it is of; the guard's has none."""
        if isinstance(verdict, GateChange):
            closed = verdict.state != "ACTIVE"
            self._turned, self._closed = self._turned or closed != self._closed, closed
            return
        if isinstance(verdict, Denied):
            if verdict.decision is not None:
                self._news.append(_denied(verdict, verdict.decision.id))
            return
        if isinstance(verdict, Withdraw):
            return
        sent = _sent(verdict, views[verdict.order.ticker])
        id_ = order_id(self._subaccount, verdict.order)
        if not sent.bracket:
            self._open[id_] = None
        self._remember(id_, sent)
        if sent.decision and not sent.bracket:
            usdc = sent.usdc(sent.size)
            self._news.append(Outcome(
                decision=sent.decision, ticker=sent.ticker, kind="approved", seq=verdict.seq,
                at=verdict.at, usdc=usdc, open_usdc=usdc, why=verdict.why,
            ))  # fmt: skip

    def filled(self, update: AccountUpdate, views: Mapping[str, MarketView]) -> None:
        """Note what new fills did for a decision, or to a position without one, and what was paid.

        Funding first: the chain settles it for what was held before the fills.
        """
        paid, self._funding = update.profit.funding - self._funding, update.profit.funding
        for ticker, cash in _by_market(paid, self._held, views) if paid else ():
            self._news.append(Outcome(
                decision="", ticker=ticker, kind="funding", seq=update.seq, at=update.at, cash=cash
            ))  # fmt: skip
        for fill in update.fills:
            sent = self._sent.get(fill.order_id)
            usdc = float(fill.signed) * float(fill.price)
            quantums, cash = _exact(fill, views.get(fill.ticker))
            if sent is not None:
                sent.filled += fill.signed
            if sent is not None and (sent.decision or sent.bracket):
                self._news.append(Outcome(
                    decision=sent.decision, ticker=sent.ticker, kind="filled", seq=update.seq,
                    at=update.at, usdc=usdc, open_usdc=0.0 if sent.bracket else sent.open_usdc,
                    reason=sent.bracket, why=sent.why if sent.bracket else "",
                    quantums=quantums, cash=cash, fee=fill.fee,
                ))  # fmt: skip
            elif sent is not None or fill.type in _TAKEN:
                reason = "GUARD" if sent is not None else fill.type
                why = sent.why if sent is not None else f"the venue took it: {fill.type}"
                self._news.append(Outcome(
                    decision="", ticker=fill.ticker, kind="cut", seq=update.seq, at=update.at,
                    usdc=usdc, reason=reason, why=why,
                    quantums=quantums, cash=cash, fee=fill.fee,
                ))  # fmt: skip

    def news(
        self, risk: Risk, views: Mapping[str, MarketView], seq: int, at: int
    ) -> Sequence[Outcome | Holdings]:
        """Return what is new since the last call, oldest first, and then what is held now."""
        if risk.account.orders.brackets:
            self._know(risk.account.orders.brackets.values())
        margin, trouble = risk.margin, risk.account.trouble
        moved = self._turned or margin is not self._margin or trouble != self._trouble
        if not (moved or self._open or self._news):
            return ()  # as nearly always: it is called with every score
        if self._open:
            self._end(risk.account.orders.reserved, seq, at)
        if moved:
            self._margin, self._trouble, self._turned = margin, trouble, False
            held = _holdings(risk, views, seq, at, closed=self._closed)
            self._held = held.positions
            self._news.append(held)
        news, self._news = self._news, []
        return news

    def _know(self, brackets: Iterable[StandingBracket]) -> None:
        # Those of an earlier run were found: their fills are news like any others.
        for bracket in brackets:
            if bracket.order_id not in self._sent:
                why = f"the {bracket.kind.lower().replace('_', ' ')} of an earlier run"
                self._remember(
                    bracket.order_id,
                    _Sent("", bracket.ticker, why, 0.0, Decimal(0), bracket=bracket.kind),
                )

    def _remember(self, id_: str, sent: _Sent) -> None:
        self._sent[id_] = sent
        if len(self._sent) > _REMEMBERED:
            oldest = next(iter(self._sent))
            del self._sent[oldest]
            self._open.pop(oldest, None)

    def _end(self, reserved: Mapping[str, Reservation], seq: int, at: int) -> None:
        # One in doubt may fill after all: then its fills are reported like any others.
        for id_ in [i for i in self._open if i not in reserved or reserved[i].doubted]:
            del self._open[id_]
            sent = self._sent[id_]
            sent.ended, left = True, sent.size - sent.filled
            if sent.decision and left:
                self._news.append(Outcome(
                    decision=sent.decision, ticker=sent.ticker, kind="expired", seq=seq, at=at,
                    usdc=sent.usdc(left), why=f"{abs(left):f} of {abs(sent.size):f} did not fill",
                ))  # fmt: skip


def _holdings(
    risk: Risk, views: Mapping[str, MarketView], seq: int, at: int, *, closed: bool
) -> Holdings:
    """Return what is held, valued as `views` have it now, and the equity if it is certain."""
    positions = {}
    for ticker, position in risk.account.positions.items():
        view, entry_price = views.get(ticker), float(position.entry_price or 0)
        price = entry_price if view is None or view.oracle is None else view.oracle.price
        positions[ticker] = Held(
            ticker=ticker, size=position.size, usdc=float(position.size) * price,
            entry_price=entry_price, seq=seq, at=at,
        )  # fmt: skip
    certain = risk.margin.known and not risk.account.trouble
    equity = risk.margin.net_collateral / 1e6 if certain else None
    return Holdings(positions, equity, closed)


def _by_market(
    paid: int, held: Mapping[str, Held], views: Mapping[str, MarketView]
) -> Iterator[tuple[str, int]]:
    """Yield what each market brought of a settlement, which the chain reports of all together.

    By the hours that explain it best at the rates of now; what they leave open, by value held.
    """
    if not held:
        yield "", paid  # of an account that was not known yet
        return
    rates = {t: views[t].funding for t in held if t in views}
    hourly = {t: -held[t].usdc * rate.next_rate_1h * 1e6 for t, rate in rates.items() if rate.known}
    together = math.fsum(hourly.values())
    hours = min(max(round(paid / together), 0), 1_000) if abs(together) >= 1.0 else 0
    shares = {ticker: round(hours * hourly.get(ticker, 0.0)) for ticker in held}
    left, values = paid - sum(shares.values()), [round(abs(one.usdc)) for one in held.values()]
    values = values if any(values) else [1] * len(held)
    for (ticker, share), rest in zip(shares.items(), share_out(left, values), strict=True):
        if share + rest:
            yield ticker, share + rest


def _exact(fill: AccountFill, view: MarketView | None) -> tuple[int, int]:
    """Return a fill's signed quantums, and the quote quantums that it brought; 0 if unknown."""
    if view is None or view.market is None:
        return 0, 0
    quantums = int(fill.signed.scaleb(-view.market.atomic_resolution))
    return quantums, -fill.quote if quantums > 0 else fill.quote


def _sent(verdict: Approved | Reduce | Bracket, view: MarketView) -> _Sent:
    order, market = verdict.order, view.market
    if market is None:
        raise ValueError(f"expected a market that risk knows, got {order.ticker}")
    price = float(market.price(order.subticks)) if view.oracle is None else view.oracle.price
    size, bracket = market.size(order.signed_quantums), ""
    decision = verdict.decision.id if isinstance(verdict, Approved) else ""
    if isinstance(verdict, Bracket):
        decision, bracket = verdict.decision, verdict.kind
    return _Sent(decision, order.ticker, verdict.why, price, size, bracket=bracket)


def _denied(verdict: Denied, decision: str) -> Outcome:
    return Outcome(
        decision=decision,
        ticker=verdict.ticker,
        kind="denied",
        seq=verdict.seq,
        at=verdict.at,
        reason=verdict.reason,
        why=verdict.why,
    )

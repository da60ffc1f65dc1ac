"""What a run came to, in total and market by market: numbers alone, cheap to make and to send.

    Bot at its end ─► figures_of ─► RunFigures: a hash, a span, Figures by market and in total

Conventions, the same everywhere (`CONVENTIONS` has them in words): a trade is a position from its
opening to its end, after fees and funding. Returns are those of the equity by the hour, a year has
24 * 365 of them, the risk-free rate is 0, and fewer than 24 give no ratio. What does not exist is
None, and never 0. All of it is opinion, hence floats; money is USDC, ratios are fractions.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import fsum
from statistics import fmean
from typing import Final

import msgspec
from dydx_paper import (
    Caps,
    History,
    Ledger,
    Paid,
    PaperVenue,
    PnlPoint,
    Stamp,
    Tally,
    performance,
)

from bot.backtest.statistics import calmar, sharpe, sortino
from bot.run.composition import Bot
from bot.run.dealt import Dealings, Trade

_SECOND_NS: Final = 1_000_000_000
_HOUR_NS: Final = 3_600 * _SECOND_NS
LEAST_RETURNS: Final = 24
Curve = tuple[tuple[int, float], ...]  # ns, USDC

CONVENTIONS: Final = (
    "A trade is a position from its opening to its end; its profit is after fees and funding.",
    "Sharpe, Sortino: hourly returns of equity, 24 * 365 of them a year, risk-free rate 0; none "
    "with fewer than 24. Calmar: what a year returns at this pace, over the drawdown by the hour.",
    "Drawdown: of equity at every frame, its length by the hour. A market has no equity of its "
    "own: of the deposit, and what its trades came to as they ended.",
    "Exposure: share of the time that anything was held. Leverage: what was held, at the price of "
    "its last fill, over mean equity, on average. Turnover: volume over mean equity.",
    "Slippage: against mid as the order was let go, by USDC; it is in the prices already.",
)


class Figures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What was won and lost, at which risk and cost; None is unknown, or does not exist.

    `profit` is after all costs, with what is open. `expectancy` is USDC a trade, `max_drawdown`
    USDC, its length in s. `exposure` is the share of time, `leverage` the mean of what was held
    over equity, `turnover` volume over equity. Fees, funding and insurance are what was paid.
    `closest` is the least distance to liquidation, of the account alone. `exits` counts trades by
    why they ended (`bot.run.dealt`), `reductions` the orders of the guard.
    """

    profit: float | None = None
    trades: int = 0
    won: int = 0
    win_rate: float | None = None
    profit_factor: float | None = None
    gross_profit: float = 0.0
    gross_loss: float = 0.0
    expectancy: float | None = None
    max_drawdown: float | None = None
    max_drawdown_share: float | None = None
    drawdown_s: float | None = None
    sharpe: float | None = None
    sortino: float | None = None
    calmar: float | None = None
    exposure: float | None = None
    leverage: float | None = None
    fills: int = 0
    volume: float = 0.0
    turnover: float | None = None
    fees_paid: float = 0.0
    funding_paid: float | None = None
    insurance_paid: float | None = None
    slippage: float | None = None
    slippage_bps: float | None = None
    closest: float | None = None
    reductions: int = 0
    liquidations: int = 0
    exits: dict[str, int] = {}


class RunFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one run on one recording came to.

    `fidelity` says what its fills were made on (book, trades or candles), `optimism` which share of
    them the tape does not bear out. `equity` is (ns, USDC) at the start, by the hour, at the end.
    """

    run_hash: str
    fidelity: str
    optimism: float | None
    since_ns: int
    until_ns: int
    total: Figures
    markets: dict[str, Figures]
    equity: Curve


def figures_of(bot: Bot, since_ns: int = 0) -> RunFigures:
    """Return what a run has come to, as it stands between two frames.

    It is reckoned from its first frame on, or from `since_ns` where nothing entered before that.
    """
    account = _Account(bot, since_ns)
    return RunFigures(
        run_hash=bot.journal.hash,
        fidelity=bot.data.fidelity,
        optimism=bot.venue.optimism.error if isinstance(bot.venue, PaperVenue) else None,
        since_ns=account.since, until_ns=account.until,
        total=account.total(),
        markets={ticker: account.market(ticker) for ticker in sorted(bot.dealt.markets)},
        equity=account.equity,
    )  # fmt: skip


class _Judged(msgspec.Struct):
    """A market as if it were an account of its own, for `performance`."""

    history: History
    tally: Tally
    paid: Paid


class _Account:
    """The account of a run while its figures are made."""

    def __init__(self, bot: Bot, since_ns: int) -> None:
        self.bot, self.until = bot, bot.data.at
        self.since = max(bot.data.clock.began_at, since_ns)
        self.ledger = bot.venue.ledger if isinstance(bot.venue, PaperVenue) else None
        self.points = [] if self.ledger is None else [*self.ledger.history.points]
        self.equity = () if self.ledger is None else self._equity(self.ledger)
        # What is held is measured against it; an account worth nothing has no leverage.
        mean = fmean(worth for _, worth in self.equity) if self.equity else 0.0
        self.mean: float | None = mean if mean > 0 else None
        self.trades: dict[str, list[Trade]] = {}
        for trade in bot.dealt.trades:
            self.trades.setdefault(trade.record.ticker, []).append(trade)

    def _equity(self, ledger: Ledger) -> Curve:
        rows = [(self.since, float(self.bot.options.deposit))]
        rows += [(p.created.at, p.equity / 1e6) for p in self.points
                 if p.equity is not None and self.since < p.created.at < self.until]  # fmt: skip
        now = ledger.equity
        return tuple(rows if now is None else [*rows, (self.until, now / 1e6)])

    def total(self) -> Figures:
        """Return the figures of the account."""
        bot, dealt = self.bot, self.bot.dealt
        did = performance(_Judged(_points(self.equity), Tally(), Paid()))
        account, falls = bot.venue.figures(), bot.risk.falls
        held_ns = dealt.exposed_until(self.until)
        return msgspec.structs.replace(
            self._figures([*dealt.markets.values()], self.equity, held_ns),
            profit=None if account.equity is None else account.profit / 1e6,
            max_drawdown=falls.deepest / 1e6, max_drawdown_share=falls.share,
            drawdown_s=did.drawdown_ns / 1e9 if self.equity else None,
            fees_paid=account.fees_paid / 1e6, insurance_paid=account.insurance_paid / 1e6,
            funding_paid=(account.funding_paid - account.unsettled) / 1e6,
            closest=bot.risk.closest,
        )  # fmt: skip

    def market(self, ticker: str) -> Figures:
        """Return the figures of one market, whose curve is made of its trades as they ended."""
        dealings = self.bot.dealt.markets[ticker]
        held_ns = dealings.held_until(self.until)
        if self.ledger is None:
            return self._figures([dealings], (), held_ns)
        curve = self._curve(ticker)
        paid = Paid(fees=dealings.fees, funding=-dealings.funding)
        did = performance(_Judged(_points(curve), dealings.tally, paid))
        of_open, funding = _open(self.ledger, ticker)
        ended, won = did.trades > 0, dealings.tally.gross_profit - dealings.tally.gross_loss
        return msgspec.structs.replace(
            self._figures([dealings], curve, held_ns),
            profit=None if of_open is None else (won + of_open) / 1e6,
            max_drawdown=did.max_drawdown / 1e6 if ended else None,
            max_drawdown_share=did.max_drawdown_ratio if ended else None,
            drawdown_s=did.drawdown_ns / 1e9 if ended else None,
            funding_paid=-(dealings.funding + funding) / 1e6,
        )  # fmt: skip

    def _figures(self, dealings: Sequence[Dealings], curve: Curve, held_ns: int) -> Figures:
        """Return what sums of markets give, and a curve of what they were worth."""
        exits: Counter[str] = Counter()
        for one in dealings:
            exits.update(one.exits)
        tallies = [one.tally for one in dealings]
        won, lost = sum(t.won for t in tallies), sum(t.lost for t in tallies)  # integers
        trades = won + lost + sum(t.even for t in tallies)  # integers
        gained = sum(t.gross_profit - t.gross_loss for t in tallies)  # integers
        gone = sum(t.gross_loss for t in tallies)  # integers
        volume = sum(t.maker_volume + t.taker_volume for t in tallies) / 1e6  # integers
        judged, span = fsum(one.judged for one in dealings), self.until - self.since
        slipped = fsum(one.slipped for one in dealings)
        notional_ns = fsum(one.notional_until(self.until) for one in dealings)
        mean = self.mean
        return Figures(
            trades=trades, won=won,
            win_rate=won / trades if trades else None,
            profit_factor=(gained + gone) / gone if gone else None,
            gross_profit=(gained + gone) / 1e6, gross_loss=gone / 1e6,
            expectancy=gained / trades / 1e6 if trades else None,
            exposure=held_ns / span if span > 0 else None,
            leverage=notional_ns / span / mean if span > 0 and mean else None,
            fills=sum(t.fills for t in tallies), volume=volume,
            turnover=volume / mean if mean else None,
            fees_paid=sum(one.fees for one in dealings) / 1e6,
            slippage=slipped / 1e4 if judged else None,
            slippage_bps=slipped / judged if judged else None,
            **ratios_of(hourly_returns(curve)),
            reductions=sum(one.reductions for one in dealings),
            liquidations=sum(t.liquidations for t in tallies),
            exits=dict(exits.most_common()),
        )  # fmt: skip

    def _curve(self, ticker: str) -> Curve:
        """Return the deposit and what the trades of a market came to: by the hour, and at each."""
        worth = self.bot.options.deposit * 10**6
        moments = [(at, 0) for at, _ in self.equity]
        for trade in self.trades.get(ticker, ()):
            moments.append((trade.ended, trade.record.realized - trade.record.fees))
        curve = []
        for at, gain in sorted(moments):
            worth += gain
            curve.append((at, worth / 1e6))
        return tuple(curve)


def hourly_returns(curve: Curve) -> list[float]:
    """Return by how much each hour ended above the one before it, as a share of that.

    Hours that nothing is known of have none, and an account that is worth nothing has no more.
    """
    last = {at // _HOUR_NS: worth for at, worth in curve}
    returns = []
    for (hour, before), (following, after) in pairwise(sorted(last.items())):
        if before <= 0:
            break
        if following == hour + 1:
            returns.append(after / before - 1)
    return returns


def ratios_of(returns: Sequence[float]) -> dict[str, float | None]:
    """Return Sharpe, Sortino and Calmar by their names; None of all where there are too few."""
    found = {"sharpe": sharpe, "sortino": sortino, "calmar": calmar}
    enough = len(returns) >= LEAST_RETURNS
    return {name: figure(returns) if enough else None for name, figure in found.items()}


def _points(curve: Curve) -> History:
    history = History(Caps(points=max(len(curve), 1)))
    for at, worth in curve:
        point = PnlPoint(equity=round(worth * 1e6), net_transfers=0, created=Stamp(time_ns=at))
        history.keep(point)
    return history


def _open(ledger: Ledger, ticker: str) -> tuple[int | None, int]:
    """Return what is open has come to, None where it has no price, and the funding in it."""
    holding = ledger.holdings.get(ticker)
    if holding is None:
        return 0, 0
    record, owed = ledger.standing(holding), ledger.owed_ppm(holding) // 10**6
    funding = record.net_funding + owed
    if record.unrealized is None:
        return None, funding
    return record.realized + record.unrealized - record.fees + owed, funding

"""The figures of a run as monitors read them: copied between two frames, written out elsewhere.

    Bot ──► figures_of (the run's thread) ──► RunFigures, frozen ──► /metrics, /health
                        (served.monitored: one answer serves a second)

Nothing is computed here that can be computed later: what the run's thread does is copy, for about
a millisecond at 250 markets, at most once a second however many monitors there are. Money is in
quote quantums, times are event time in nanoseconds; None is unknown.
"""

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec
from dydx_conn import Metrics
from dydx_data import MarketView, silence
from dydx_risk import MarginFigures, PositionFigures, Standing

from bot.run.beside import Counting
from bot.run.composition import Bot
from bot.run.meters import Durations

# Markets that are watched, of which each has its own series: the venue has some three hundred.
MOST_MARKETS: Final = 500

Count = tuple[str, int]


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """How all links stand together: state "" until it is known; `lost_at` None while live."""

    state: str
    lost_at: int | None
    attempts: int


class MarketFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How far the data of a market can be believed; `lags_ns` are of its newest live trades.

    `silent_ns` is how long the worst of its sources is silent, `known` in which share of the time
    it could be traded.
    """

    ticker: str
    stale: bool
    book_known: bool
    silent_ns: int
    complete: float
    known: float | None
    messages_s: float
    lags_ns: tuple[int, ...]
    troubles: tuple[Count, ...]


class Money(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the account did, in quote quantums; `funding` is what was received."""

    equity: int | None
    realized_pnl: int | None
    unrealized_pnl: int | None
    funding: int | None
    fees_paid: int | None
    insurance_paid: int | None
    drawdown: float | None
    today: int | None


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What is held; `margin` None while it is not known. `trouble` is why the account is not."""

    trouble: bool
    margin: MarginFigures | None
    money: Money
    positions: tuple[PositionFigures, ...]
    standing: Standing
    guard: bool


class Sink(msgspec.Struct, frozen=True, kw_only=True):
    """What goes beside a run (recorder, database, notices …): what it counts, and is it well."""

    name: str
    well: bool
    counts: tuple[Count, ...]


class RunFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A run at one moment between two frames; counts are of the whole run."""

    at: int
    took_ns: int  # to copy this
    started_ns: int  # monotonic
    frames_per_s: float | None
    cpu_share: float | None  # of a core, of late
    latency: Durations
    stages: tuple[tuple[str, Durations], ...]
    frames: tuple[Count, ...]
    bytes: int
    connection: Connection
    height: int
    height_at: int
    late_ns: int
    pings: tuple[tuple[str, float], ...]
    rest: Metrics | None
    rest_wait_s: float | None
    answers: tuple[tuple[tuple[str, int], int], ...]
    faults: tuple[tuple[tuple[str, str], int], ...]
    journal: tuple[Count, ...]
    written: int
    open_orders: tuple[Count, ...]
    refusals: tuple[Count, ...]
    trades: tuple[Count, ...]
    liquidations: int
    account: Account
    markets: tuple[MarketFigures, ...]
    markets_left_out: int
    troubles: tuple[Count, ...]  # of the wire, and of no market
    sinks: tuple[Sink, ...]
    stopped: str  # what the strategy raised, by its class
    failed: bool
    monitored: bool


def figures_of(bot: Bot) -> RunFigures:
    """Copy what monitors read; on the run's thread, between two frames."""
    began = time.perf_counter_ns()
    data, shown, vitals = bot.data, bot.shown, bot.shown.feeds.vitals
    done, watched, monitor = bot.venue.figures(), shown.watched, bot.shown.monitor
    bot.meters.sample()
    if monitor is not None:
        monitor.is_read = True
    return RunFigures(
        at=data.at,
        started_ns=bot.meters.started_ns,
        frames_per_s=bot.meters.frames_per_s,
        cpu_share=bot.meters.cpu_share,
        latency=bot.meters.latency.durations(),
        stages=() if monitor is None else tuple(
            (name, each.durations()) for name, each in monitor.stages.latencies.items()
        ),
        frames=(*shown.kinds.items(),),
        bytes=shown.bytes,
        connection=_connection(bot),
        height=data.chain.height,
        height_at=data.chain.at,
        late_ns=data.chain.lag_ns,
        pings=() if vitals is None else (*((link, s[-1]) for link, s in [*vitals.pings.items()]),),
        rest=None if vitals is None else vitals.rest,
        rest_wait_s=None if vitals is None or vitals.rest is None else vitals.rest_wait_s,
        answers=(*shown.feeds.answers.items(),),
        faults=() if monitor is None else (*monitor.faults.counts.items(),),
        journal=(*bot.journal.counts.items(),),
        written=bot.journal.written,
        open_orders=_open_orders(bot),
        refusals=(*bot.venue.refusals.items(),),
        trades=(("won", done.wins), ("lost", done.losses)),
        liquidations=done.liquidations,
        account=_account(bot, done),
        markets=tuple(_market(view, data.at) for view in islice(watched, MOST_MARKETS)),
        markets_left_out=max(len(watched) - MOST_MARKETS, 0),
        troubles=(*data.quality.counts.items(),),
        sinks=tuple(_sinks(bot)),
        stopped="" if bot.stopped is None else type(bot.stopped).__name__,
        failed=bot.failure is not None,
        monitored=monitor is not None,
        took_ns=time.perf_counter_ns() - began,
    )  # fmt: skip


def _connection(bot: Bot) -> Connection:
    links = bot.shown.links
    if links is None:
        return Connection(state="", lost_at=None, attempts=0)
    return Connection(state=links.state, lost_at=links.lost_at, attempts=links.attempts)


def _open_orders(bot: Bot) -> tuple[Count, ...]:
    found: dict[str, int] = {}
    for state in bot.risk.account.orders.open.values():
        found[state.status] = found.get(state.status, 0) + 1
    return (*found.items(),)


def _account(bot: Bot, done: Any) -> Account:
    risk = bot.risk
    trouble, margin = bool(risk.account.trouble), risk.margin
    return Account(
        trouble=trouble,
        margin=None if trouble or not margin.known else margin,
        money=_money(bot, done),
        positions=() if trouble else tuple(risk.positions()),
        standing=risk.standing,
        guard=risk.guard,
    )


def _money(bot: Bot, done: Any) -> Money:
    falls, trouble = bot.risk.falls_now, bool(bot.risk.account.trouble)
    equity: int | None = None if trouble else done.equity
    # Of an account on the wire fills may be missing: then what they brought is in no figure.
    complete = getattr(done, "complete", True)
    return Money(
        equity=equity,
        realized_pnl=done.realized_pnl if complete else None,
        unrealized_pnl=None if equity is None else done.unrealized_pnl,
        funding=done.unsettled - done.funding_paid if complete else None,
        fees_paid=done.fees_paid if complete else None,
        insurance_paid=done.insurance_paid if complete else None,
        drawdown=None if equity is None else falls.share_of(equity),
        today=None if equity is None else falls.today,
    )


def _market(view: MarketView, at: int) -> MarketFigures:
    quality = view.quality
    parts = (view.book.known, view.trades, view.oracle, view.funding.at, view.chain.at, view.market)
    return MarketFigures(
        ticker=view.ticker,
        stale=quality.stale,
        book_known=view.book.known,
        silent_ns=silence(view, at)[0],
        complete=sum(map(bool, parts)) / len(parts),  # integers
        known=quality.known_s / quality.seconds if quality.seconds else None,
        messages_s=quality.rate,
        lags_ns=(*quality.lags_ns,),
        troubles=(*quality.counts.items(),),
    )


def _sinks(bot: Bot) -> Iterator[Sink]:
    troubles = bot.shown.troubles
    for one in bot.shown.beside:
        counts = (*one.figures().items(),) if isinstance(one, Counting) else ()
        yield Sink(name=one.name, well=not one.trouble, counts=counts)
    known = {one.name for one in bot.shown.beside}
    for name in troubles:
        if name not in known:
            yield Sink(name=name, well=False, counts=())

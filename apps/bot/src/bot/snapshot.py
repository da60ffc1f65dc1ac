"""The run as the panels draw it: live state in, one frozen Snapshot out.

    DataState, Risk, PaperVenue, Journal, Meters ──► snapshot_of ──► dydx_panels.Snapshot

Called a few times a second, between frames, so nothing moves while it copies.
"""

from collections.abc import Iterable
from decimal import Decimal
from itertools import islice
from typing import Final

from dydx_data import MarketView
from dydx_panels import (
    Account,
    Book,
    DecisionRow,
    FillRow,
    Header,
    LayerRow,
    MarketRow,
    PositionRow,
    Quality,
    Safety,
    ScoreRow,
    Snapshot,
    Speed,
    TapeRow,
    VerdictRow,
    Wire,
)
from dydx_risk import PositionFigures, Reduce

from bot.composition import Bot
from bot.journal import Entry
from bot.meters import memory_mb

ROWS: Final = 60
LEVELS: Final = 12


def snapshot_of(bot: Bot, *, mode: str, name: str, speed: float | None) -> Snapshot:
    """Copy what stands now; `speed` is the replay's, None when live."""
    shown = _shown_market(bot)
    return Snapshot(
        header=_header(bot, mode, name, speed),
        safety=_safety(bot),
        positions=tuple(_position(bot, row) for row in bot.risk.positions()),
        markets=tuple(_market(bot, view) for view in bot.data.views.values()),
        scores=_scores(bot),
        decisions=tuple(_decision(entry) for entry in _newest(bot, "decision")),
        verdicts=tuple(_verdict(entry) for entry in _newest(bot, "approved", "denied", "reduce")),
        fills=tuple(_fill(entry) for entry in _newest(bot, "fill")),
        account=_account(bot),
        book=_book(bot.data.views[shown]) if shown else Book(),
        quality=_quality(bot),
        speed=_speed(bot),
        wire=_wire(bot, name),
        tape=_tape(bot),
    )


def _tape(bot: Bot) -> tuple[TapeRow, ...]:
    rows = (
        TapeRow(at=entry.at, kind=entry.kind, text=f"{entry.ticker} {entry.words}", id=entry.id)
        for entry in reversed(bot.journal.entries)
        if entry.kind != "order"
    )
    return tuple(islice(rows, ROWS))


def _newest(bot: Bot, *kinds: str) -> Iterable[Entry]:
    entries = (entry for entry in reversed(bot.journal.entries) if entry.kind in kinds)
    return islice(entries, ROWS)


def _header(bot: Bot, mode: str, name: str, speed: float | None) -> Header:
    meters, data = bot.meters, bot.data
    p99 = meters.latency.percentile(0.99)
    newest = max((view.live_at for view in data.views.values()), default=0)
    return Header(
        mode=mode,
        source=name,
        speed=speed,
        clock_ns=data.at or None,
        connection=f"{data.connection} {sum(v.live_at > 0 for v in data.views.values())}",
        lag_p99_ms=None if p99 is None else p99 / 1e6,
        data_age_ms=(data.at - newest) / 1e6 if newest else None,
        frames_per_s=meters.frames_per_s,
        memory_mb=memory_mb(),
        cpu_percent=None if meters.cpu_share is None else meters.cpu_share * 100,
        run_hash=bot.journal.hash,
    )


def _usdc(quote_quantums: int) -> float:
    return quote_quantums / 1e6


def _safety(bot: Bot) -> Safety:
    risk, margin = bot.risk, bot.risk.margin
    known = not risk.account.trouble and margin.known
    rungs = [entry for entry in _newest(bot, "reduce") if isinstance(entry.value, Reduce)]
    last = rungs[0] if rungs else None
    return Safety(
        positions=len(risk.account.positions),
        distance=margin.distance if known else None,
        closest=risk.closest,
        act_below=risk.policy.act_below if risk.guard else None,
        restore_to=risk.policy.restore_to,
        equity=_usdc(margin.net_collateral) if known else None,
        free_collateral=_usdc(margin.free_collateral) if known else None,
        initial_margin=_usdc(margin.initial_margin) if known else None,
        maintenance_margin=_usdc(margin.maintenance_margin) if known else None,
        usage=margin.usage if known else None,
        leverage=margin.leverage if known else None,
        rungs=bot.journal.counts["reduce"],
        last_rung=last.words if last else "",
        last_rung_at=last.at if last else None,
        next_rung=_next_rung(bot),
        history=tuple(d for _, d in bot.distances if d is not None),
    )


def _next_rung(bot: Bot) -> str:
    policy, distance = bot.risk.policy, bot.risk.margin.distance
    if not bot.risk.guard:
        return "none: the guard is off, nothing prevents liquidation"
    if distance is None:
        return "none: no position is held"
    return f"none due: acts below {policy.act_below:.1%}, restores {policy.restore_to:.1%}"


def _float(number: Decimal | None) -> float | None:
    return None if number is None else float(number)


def _position(bot: Bot, row: PositionFigures) -> PositionRow:
    view = bot.data.views.get(row.ticker)
    return PositionRow(
        ticker=row.ticker,
        size=float(row.size),
        entry=float(row.entry_price),
        oracle=_float(row.oracle_price),
        pnl=_float(row.unrealized_pnl),
        liquidation_price=_float(row.liquidation_price),
        distance=row.distance,
        funding_1h=None if row.funding_1h is None else _usdc(row.funding_1h),
        cause=f"#{row.seq}",
        digits=_digits(view),
        size_digits=_size_digits(view),
    )


def _digits(view: MarketView | None) -> int:
    if view is None or view.market is None:
        return 2
    tick = view.market.price(view.market.subticks_per_tick).normalize()
    return max(-int(tick.as_tuple().exponent), 0)


def _size_digits(view: MarketView | None) -> int:
    if view is None or view.market is None:
        return 3
    step = view.market.size(view.market.step_base_quantums).normalize()
    return max(-int(step.as_tuple().exponent), 0)


def _market(bot: Bot, view: MarketView) -> MarketRow:
    candles = view.candles.get("1MIN")
    closes = tuple(candles.closes(60)) if candles else ()
    price = view.book.mid_price or (view.oracle.price if view.oracle else None)
    before = closes[-2] if len(closes) > 1 else None
    return MarketRow(
        ticker=view.ticker,
        price=price,
        move=0 if price is None or before is None else (price > before) - (price < before),
        history=closes,
        spread_bps=view.book.spread_bps,
        volume_60s=view.flow.usd,
        oracle=view.oracle.price if view.oracle else None,
        funding_1h=view.funding.next_rate_1h if view.funding.known else None,
        status=view.status,
        stale=view.quality.stale,
        age_s=(bot.data.at - view.live_at) / 1e9 if view.live_at else None,
        scores=tuple((score.signal, score.value) for score in bot.scored.get(view.ticker, ())),
        digits=_digits(view),
    )


def _scores(bot: Bot) -> tuple[ScoreRow, ...]:
    return tuple(
        ScoreRow(
            ticker=ticker,
            signal=score.signal,
            value=score.value,
            inputs=score.inputs,
            seq=score.seq,
        )
        for ticker, scores in bot.scored.items()
        for score in scores
    )


def _decision(entry: Entry) -> DecisionRow:
    decision = entry.value
    return DecisionRow(
        id=decision.id,
        at=decision.at,
        ticker=decision.ticker,
        action=decision.action,
        target=decision.target_usdc,
        previous=decision.previous_usdc,
        score=decision.score,
        urgency=decision.urgency,
        reasons=decision.reasons,
        seq=decision.seq,
    )


def _verdict(entry: Entry) -> VerdictRow:
    verdict = entry.value
    order = getattr(verdict, "order", None)
    return VerdictRow(
        id=verdict.id,
        at=verdict.at,
        ticker=entry.ticker,
        verdict=entry.kind,
        order="" if order is None else f"{order.side} {order.time_in_force}",
        reason=getattr(verdict, "reason", ""),
        figures=getattr(verdict, "figures", ()),
        why=verdict.why,
        seq=verdict.seq,
    )


def _fill(entry: Entry) -> FillRow:
    fill = entry.value
    return FillRow(
        id=entry.id,
        at=entry.at,
        ticker=entry.ticker,
        side=fill.side,
        size=fill.size,
        price=fill.price,
        fee=float(fill.fee),
        liquidity=fill.liquidity,
        type=fill.type,
        seq=entry.seq,
    )


def _account(bot: Bot) -> Account:
    figures, counts = bot.venue.figures(), bot.journal.counts
    return Account(
        collateral=_usdc(figures.collateral),
        realized=_usdc(figures.realized_pnl),
        unrealized=_usdc(figures.unrealized_pnl),
        fees=_usdc(figures.fees_paid),
        funding=_usdc(figures.funding_paid),
        open_orders=len(bot.risk.account.open_orders),
        fills=figures.fills,
        denied=counts["denied"],
        approved=counts["approved"],
        reduced=counts["reduce"],
        wins=figures.wins,
        losses=figures.losses,
    )


def _shown_market(bot: Bot) -> str:
    """Choose the market with the largest position, or else the first."""
    positions = bot.risk.account.positions.values()
    held = max(positions, key=lambda p: abs(p.size * p.entry_price), default=None)
    if held is not None and held.ticker in bot.data.views:
        return held.ticker
    return next(iter(bot.data.views), "")


def _book(view: MarketView) -> Book:
    book, candles = view.book, view.candles.get("1MIN")
    return Book(
        ticker=view.ticker,
        known=book.known,
        bids=tuple((level.price, level.size) for level in book.bids(LEVELS)),
        asks=tuple((level.price, level.size) for level in book.asks(LEVELS)),
        mid_price=book.mid_price,
        spread_bps=book.spread_bps,
        crossed=book.crossed,
        seq=book.seq,
        trades=tuple(
            (trade.at_ns, trade.side, trade.price, trade.size, trade.seq)
            for trade in islice(reversed(view.trades), LEVELS)
        ),
        candles=tuple(
            (c.started_at, c.open, c.high, c.low, c.close, c.volume) for c in candles or ()
        )[-LEVELS:],
        digits=_digits(view),
        size_digits=_size_digits(view),
    )


def _quality(bot: Bot) -> Quality:
    samples = [*bot.data.quality.samples]
    for view in bot.data.views.values():
        samples += view.quality.samples
    samples.sort(key=lambda sample: -sample.seq)
    return Quality(
        counts=tuple(sorted(bot.data.counts().items())),
        samples=tuple((sample.seq, sample.kind, sample.text) for sample in samples[:ROWS]),
        stale=tuple(view.ticker for view in bot.data.views.values() if view.quality.stale),
    )


def _speed(bot: Bot) -> Speed:
    latency = bot.meters.latency
    p50, p99 = latency.percentile(0.5), latency.percentile(0.99)
    return Speed(
        layers=(
            LayerRow(
                layer="frame to order",
                p50_us=None if p50 is None else p50 / 1e3,
                p99_us=None if p99 is None else p99 / 1e3,
                max_us=latency.max_ns / 1e3,
                count=latency.count,
            ),
        ),
        throughput=tuple(bot.meters.per_second),
        frames=bot.data.frames,
        decisions=bot.journal.counts["target"] + bot.journal.counts["hold"],
        draw_ms=bot.meters.draw_ms,
    )


def _wire(bot: Bot, name: str) -> Wire:
    data = bot.data
    return Wire(
        state=data.connection,
        network=name,
        height=data.chain.height or None,
        block_time_ns=data.chain.time_ns or None,
        frames=data.frames,
        faults=sum(data.counts().values()),
        reconnects=bot.kinds["close"],
        gaps=bot.kinds["gap"] + data.counts().get("gap", 0),
        bytes=bot.bytes,
        kinds=tuple(bot.kinds.most_common(8)),
        samples=tuple((f.seq, f.kind, f.channel, f.text[:200]) for f in reversed(bot.last_frames)),
    )

"""The run as the panels draw it: live state in, one frozen Snapshot out.

    DataState, Risk, PaperVenue, Journal, Meters ──► snapshot_of ──► dydx_panels.Snapshot

Called a few times a second, between frames, so nothing moves while it copies. The layers' frozen
values go in as they are; what goes on changing is copied.
"""

import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby, islice
from typing import Any, Final, NamedTuple

from dydx_conn import FeeTier
from dydx_data import Detection, MarketView, book_depths, silence
from dydx_panels import (
    BookPart,
    EquityPart,
    HeaderPart,
    MarketRow,
    QualityPart,
    ResultPart,
    SafetyPart,
    Snapshot,
    SpeedPart,
    TapeRow,
    TimelinePart,
    VenuePart,
    WirePart,
    Witnessed,
)
from dydx_paper import SHARED_FUND, PaperVenue
from dydx_risk import Reduce, Verdict
from dydx_strategy import Decision, RankAndTarget, RankSettings
from msgspec.structs import asdict

from bot.run.composition import Bot
from bot.run.curve import Columns
from bot.run.journal import VERDICTS, Journal, JournalEntry, fee_words
from bot.run.links import WORDS, reason_words
from bot.screen.closeup import candles_of, closeup
from bot.screen.quality import worst_first
from bot.screen.walks import held_costs, orders_of
from bot.system import memory_mb

ROWS: Final = 60
LEVELS: Final = 12
POINTS: Final = 16  # of a score's curve
MINUTE_NS: Final = 60_000_000_000
WAIT_S: Final = 1.0  # a wait for a rate limit that somebody notices
POLLED_NS: Final = 5_000_000_000
LOST_NS: Final = 2_000_000_000  # a connection that is lost for less is back before it matters
# Troubles of a market, which the wire has no part in.
OF_MARKETS: Final = {"crossed", "stale"}


def snapshot_of(
    bot: Bot,
    *,
    mode: str,
    name: str,
    speed: float | None,
    panel: str = "",
    timeline: TimelinePart | None = None,
    rows: "MarketRows | None" = None,
) -> Snapshot:
    """Copy what stands now; `speed` and `timeline` are a replay's, `panel` is shown alone.

    With `rows` of the snapshot before only those markets are copied of which something came.
    """
    shown = _shown_market(bot)
    row_of = _market if rows is None else rows.of
    written = _written(bot.journal, bot.journal.written)
    safety = _safety(bot, written.guarded)
    speed_part = _speed(bot) if rows is None else rows.speed(bot)
    whole = Snapshot(
        triggers=_triggers(bot),
        header=_header(bot, mode, name, speed, dict(speed_part.latency_us).get("p99")),
        gate=bot.risk.standing,
        safety=safety,
        equity=_equity(bot, safety.result),
        positions=tuple(bot.risk.positions()),
        held=held_costs(bot),
        markets=tuple(row_of(bot, view) for view in bot.shown.watched),
        decisions=written.decisions,
        verdicts=written.verdicts,
        orders=orders_of(bot, ROWS),
        money=_money(bot),
        counts=_counts(bot),
        watch=bot.shown.watch(),
        venue=_venue(bot),
        book=_book(bot.data.views[shown], alone=panel == "book") if shown else BookPart(),
        quality=_quality(bot, alone=panel == "quality"),
        speed=speed_part,
        wire=_wire(bot),
        tape=written.tape,
        detections=_detections(bot),
        timeline=timeline,
        candles=candles_of(bot, shown),
        **closeup(bot, panel, shown),
    )
    return whole if bot.shown.dressed is None else bot.shown.dressed(whole)


def _detections(bot: Bot) -> tuple[Detection, ...] | None:
    found = bot.shown.detected
    return None if found is None else tuple(found[key] for key in sorted(found))


def _money(bot: Bot) -> tuple[tuple[str, int], ...]:
    ledger = bot.venue.figures()
    return (
        ("realized_pnl", ledger.realized_pnl),
        ("unrealized_pnl", ledger.unrealized_pnl),
        ("fees", -ledger.fees_paid),
        ("funding", ledger.unsettled - ledger.funding_paid),
    )


def _counts(bot: Bot) -> tuple[tuple[str, int], ...]:
    ledger, counts = bot.venue.figures(), bot.journal.counts
    verdicts = ((kind, counts[kind]) for kind in ("approved", "denied", "reduce"))
    ended = (("fills", ledger.fills), ("won", ledger.wins), ("lost", ledger.losses))
    return (*verdicts, ("open", len(bot.risk.account.orders.open)), *ended)


def _venue(bot: Bot) -> VenuePart | None:
    """Return how paper was traded on; None where orders go over the wire."""
    venue = bot.venue
    if not isinstance(venue, PaperVenue):
        return None
    optimism, assumed = venue.optimism, venue.optimism.assumed.most_common()
    fees = venue.fees
    return VenuePart(
        performance=bot.shown.performance(),
        liquidations=venue.figures().liquidations,
        maker_ppm=fees.maker_ppm,
        taker_ppm=fees.taker_ppm,
        queue=venue.queue,
        error=optimism.error,
        pending=optimism.pending,
        fills=tuple(
            Witnessed(t, quote, optimism.traded[t], optimism.of(t)) for t, quote in assumed
        ),
        refusals=tuple(venue.refusals.most_common()),
        owed=tuple(sorted(venue.funding_owed.items())),
        unsettled=venue.figures().unsettled,
        fund=venue.insurance.balances[SHARED_FUND],
        tier=fees.name if isinstance(fees, FeeTier) else None,
    )


class _Written(NamedTuple):
    """The newest of a journal, newest first, and what the guard did last."""

    decisions: tuple[Decision, ...]
    verdicts: tuple[Verdict, ...]
    tape: tuple[TapeRow, ...]
    guarded: Reduce | None


# A journal that has run for long is read whole: not for each drawing, but once it has grown.
@lru_cache(maxsize=2)
def _written(journal: Journal, written: int) -> _Written:
    entries = [entry for entry in reversed(journal.entries) if entry.kind != "order"]
    return _Written(
        decisions=_values(entries, "decision"),
        verdicts=_values(entries, *VERDICTS),
        tape=tuple(islice(_rows(entries), ROWS)),
        guarded=next((entry.value for entry in entries if isinstance(entry.value, Reduce)), None),
    )


def _values(entries: Iterable[JournalEntry], *kinds: str) -> tuple[Any, ...]:
    return tuple(islice((entry.value for entry in entries if entry.kind in kinds), ROWS))


def _rows(entries: Iterable[JournalEntry]) -> Iterator[TapeRow]:
    """Put entries in words; the fills of one order are one row, or they would fill the tape."""

    def order(entry: JournalEntry) -> str:
        return entry.parent if entry.kind == "fill" and entry.parent else entry.id

    for _, group in groupby(entries, key=order):
        fills = list(group)
        newest = fills[0]
        kind, value = newest.kind, newest.value
        if kind == "decision" and value.action == "hold":
            kind = "hold"
        elif kind == "fill" and value.type == "LIQUIDATED":
            kind = "liquidated"
        yield TapeRow(
            id=newest.id,
            at=newest.at,
            seq=newest.seq,
            kind=kind,
            ticker=newest.ticker,
            text=newest.words if len(fills) == 1 else _together(fills),
            side=value.order.side if isinstance(value, Reduce) else "",
        )


def _together(entries: list[JournalEntry]) -> str:
    fills = [entry.value for entry in entries]
    size = sum(fill.size for fill in fills)
    paid = sum(fill.price * fill.size for fill in fills)
    average = paid / size if size else fills[0].price
    first, fees = fills[0], sum(fill.fee for fill in fills)
    # As many digits as the prices have.
    places = max(-int(fill.price.as_tuple().exponent) for fill in fills)
    return (
        f"{first.side} {size:,f} in {len(fills)} fills at {average:,.{max(places, 0)}f} on "
        f"average, {first.liquidity.lower()} {fee_words(fees)}"
    )


def _header(
    bot: Bot, mode: str, name: str, speed: float | None, p99_us: float | None
) -> HeaderPart:
    meters, data = bot.meters, bot.data
    live = [view.live_at for view in bot.shown.watched]
    connection, why = _connection(bot)
    wait_s = 0.0 if (vitals := bot.shown.feeds.vitals) is None else vitals.rest_wait_s
    return HeaderPart(
        mode=mode,
        source=name,
        speed=speed,
        clock_ns=data.at or None,
        connection=connection,
        link_why=why,
        waits_s=wait_s if wait_s >= WAIT_S else None,
        lag_p99_ms=None if p99_us is None else p99_us / 1e3,
        data_age_s=(data.at - max(live)) / 1e9 if live else None,
        late_s=data.chain.lag_ns / 1e9 or None,
        frames_per_s=meters.frames_per_s,
        memory_mb=memory_mb(),
        cpu_percent=None if meters.cpu_share is None else meters.cpu_share * 100,
        run_hash=bot.journal.hash,
    )


def _connection(bot: Bot) -> tuple[str, str]:
    """Return how the connections stand, and why they are not live."""
    watched, links = bot.shown.watched, bot.shown.links
    fresh = sum(not view.quality.stale for view in watched)
    live = f"{bot.data.connection} {fresh}/{len(watched)}"
    if links is None or not links.state or links.state == "live":
        return live, ""
    why = "" if links.lost_at is None else reason_words(links.reason)
    return links.words(bot.data.at), why


def _safety(bot: Bot, guarded: Reduce | None) -> SafetyPart:
    risk, account = bot.risk, bot.risk.account
    history = [distance for _, distance in bot.shown.distances if distance is not None]
    doubt, doubt_s = doubt_of(bot)
    return SafetyPart(
        # What is held in doubt is worth the same as long as nobody knows better: grey, not gone.
        margin=risk.margin if risk.margin.known and (doubt or not account.trouble) else None,
        result=_result(bot),
        doubt=doubt,
        doubt_s=doubt_s,
        positions=None if account.trouble and not account.positions else len(account.positions),
        change=_change(bot),
        closest=risk.closest,
        act_below=risk.policy.act_below if risk.guard else None,
        last=guarded,
        history=tuple(history),
    )


def equity_of(bot: Bot) -> EquityPart:
    """Return how the account went over the run so far."""
    return _equity(bot, _result(bot))


def _equity(bot: Bot, result: ResultPart | None) -> EquityPart:
    curve, policy = bot.shown.curve, bot.risk.policy
    columns, then = curve.columns, curve.result
    if then is None:
        return EquityPart()
    return EquityPart(
        **asdict(columns),
        **asdict(then),
        every_s=curve.every_ns / 1e9,
        deposited=_begun(columns) if result is None else result.paid_in / 1e6,
        since="at the start" if result is None else result.paid_words,
        most_fall=policy.max_drawdown if policy.protect else None,
        act_below=policy.act_below if bot.risk.guard else None,
    )


def _begun(columns: Columns) -> float | None:
    """Return what a run began with, by its curve: of a worth that is in doubt for now."""
    return columns.equity[-1] - columns.profit[-1] if columns.equity else None


def _result(bot: Bot) -> ResultPart | None:
    """Return what the account won or lost; None while its worth is not known."""
    did, falls, policy = bot.venue.figures(), bot.risk.falls_now, bot.risk.policy
    if (equity := did.equity) is None:
        return None
    paid_in, opened = equity - did.profit, equity - falls.today
    return ResultPart(
        profit=did.profit,
        share=did.profit / max(paid_in, 1),
        paid_in=paid_in,
        paid_words="deposited" if isinstance(bot.venue, PaperVenue) else "at the start",
        today=falls.today,
        today_share=falls.today_of(equity),
        fall=falls.depth,
        fall_share=falls.share_of(equity),
        deepest=falls.deepest,
        deepest_share=falls.share,
        most_today=policy.day_share(opened) if policy.protect else None,
        most_fall=policy.max_drawdown if policy.protect else None,
    )


def doubt_of(bot: Bot) -> tuple[str, float | None]:
    """Return why what is held, or its prices, are not those of now, and for how long, in seconds.

    The one place that decides it: a market of a position is stale, the connections are lost for
    more than a moment and nothing stands in for them, or what the account did was not received.
    """
    account = bot.risk.account
    doubt, doubt_s = _prices_doubted(bot)
    if doubt or not (account.trouble and account.positions):
        return doubt, doubt_s
    return account.trouble, None


def _prices_doubted(bot: Bot) -> tuple[str, float | None]:
    at, links, views = bot.data.at, bot.shown.links, bot.data.views
    held = [views[ticker] for ticker in bot.risk.account.positions if ticker in views]
    silent_ns, words, worst = max(((*silence(view, at), view) for view in held),
                                  key=lambda one: one[0], default=(0, "", None))  # fmt: skip
    if worst is None:
        return "", None
    if links is not None and links.lost_at is not None:
        # What stands in for a connection answers every second, or it does not stand in for it.
        polled = links.state == "polling"
        lost_ns = silent_ns if polled else at - links.lost_at
        if lost_ns >= (POLLED_NS if polled else LOST_NS):
            why = f"link {WORDS[links.state]}, {reason_words(links.reason)}"
            return why, max(lost_ns, silent_ns) / 1e9
    if worst.quality.stale:
        more = sum(view.quality.stale for view in held) - 1  # integers
        who = f"{worst.ticker} and {more} more are" if more else f"{worst.ticker} is"
        return f"{who} stale, {words}", silent_ns / 1e9
    return "", None


def _change(bot: Bot) -> float | None:
    """Compare the distance with that of a minute ago, or of the oldest within it."""
    now = bot.risk.margin.distance
    then = next((then for at, then in bot.shown.distances if at >= bot.data.at - MINUTE_NS), None)
    return None if now is None or then is None else now - then


def _market(bot: Bot, view: MarketView) -> MarketRow:
    candles = view.candles.get("1MIN")
    return MarketRow(
        ticker=view.ticker,
        market=view.market,
        price=view.price,
        history=tuple(candles.closes(60)) if candles else (),
        spread_bps=view.book.spread_bps,
        volume_60s=view.flow.over("1MIN").usd,
        oracle=view.oracle.price if view.oracle else None,
        funding_1h=view.funding.next_rate_1h if view.funding.known else None,
        status=view.status,
        stale_s=silence(view, bot.data.at)[0] / 1e9 if view.quality.stale else None,
        scores=bot.scorer.scores(view.ticker),
        curves=_curves(bot, view.ticker),
    )


class MarketRows:
    """The newest row of each market, for whoever copies many times a second.

    Scores are made when they are read, which of sixty markets is most of a snapshot: a row is made
    again once a frame of its market came, if it is among the first, of which `fresh` fit on a
    screen; any other, and for what changes by time alone, once a second.
    """

    def __init__(self, fresh: int = 12) -> None:
        self.fresh = fresh
        self._speed: tuple[int, SpeedPart] | None = None
        self._known: dict[str, tuple[int, int, MarketRow]] = {}
        self._places: dict[str, int] = {}

    def speed(self, bot: Bot) -> SpeedPart:
        """Return what frames take, a second old at most."""
        now = time.monotonic_ns()
        if self._speed is None or now - self._speed[0] >= _AGE_NS:
            self._speed = now, _speed(bot)
        return self._speed[1]

    def of(self, bot: Bot, view: MarketView) -> MarketRow:
        """Return the row of a market."""
        known, at = self._known.get(view.ticker), bot.data.at
        place = self._places.setdefault(view.ticker, len(self._places))
        is_recent = known is not None and 0 <= at - known[1] < _AGE_NS
        if known is not None and is_recent and (known[0] == view.seq or place >= self.fresh):
            return known[2]
        row = _market(bot, view)
        self._known[view.ticker] = view.seq, at, row
        return row


_AGE_NS: Final = 1_000_000_000


def _curves(bot: Bot, ticker: str) -> dict[str, tuple[float, ...]]:
    marks = bot.shown.curves.get(ticker, {})
    return {name: tuple(islice(reversed(x.points), POINTS))[::-1] for name, x in marks.items()}


def _triggers(bot: Bot) -> dict[str, tuple[float, ...]]:
    """Return the values of a signal from which the built-in strategy damps, and stays out."""
    settings = bot.options.settings
    if bot.options.strategy != RankAndTarget.name or not isinstance(settings, RankSettings):
        return {}
    return {
        "composite": (settings.enter, settings.exit),
        "volatility": (settings.volatility_calm, settings.volatility_extreme),
        "liquidity": (settings.liquidity_calm, settings.liquidity_extreme),
    }


def _shown_market(bot: Bot) -> str:
    """Choose the market that was typed, or else that of the largest position, or the first."""
    if bot.shown.ticker in bot.data.views:
        return bot.shown.ticker
    positions = bot.risk.account.positions.values()
    held = max(positions, key=lambda p: abs(p.size * (p.entry_price or 0)), default=None)
    if held is not None and held.ticker in bot.data.views:
        return held.ticker
    return bot.shown.watched[0].ticker if bot.shown.watched else ""


def _book(view: MarketView, *, alone: bool) -> BookPart:
    book, levels = view.book, ROWS if alone else LEVELS
    return BookPart(
        ticker=view.ticker,
        market=view.market,
        known=book.known,
        bids=tuple(book.bids(levels)),
        asks=tuple(book.asks(levels)),
        mid_price=book.mid_price,
        spread_bps=book.spread_bps,
        crossed=book.crossed,
        seq=book.seq,
        trades=tuple(islice(reversed(view.trades), levels)),
        depths=tuple(book_depths(book)) if alone else (),
    )


def _quality(bot: Bot, *, alone: bool) -> QualityPart:
    samples = [*bot.data.quality.samples]
    for view in bot.data.views.values():
        samples += view.quality.samples
    samples.sort(key=lambda sample: -sample.seq)
    return QualityPart(
        counts=tuple(sorted(bot.data.counts().items())),
        samples=tuple(samples[:ROWS]),
        stale=tuple(view.ticker for view in bot.shown.watched if view.quality.stale),
        markets=worst_first(bot) if alone else (),
    )


def _speed(bot: Bot) -> SpeedPart:
    latency = bot.meters.latency
    return SpeedPart(
        latency_us=tuple((name, ns / 1e3) for name, ns in latency.percentiles().items()),
        throughput=tuple(bot.meters.per_second),
        draw_ms=bot.meters.draw_ms,
    )


def _wire(bot: Bot) -> WirePart:
    data, troubles = bot.data, bot.data.counts()
    faults = sum(count for kind, count in troubles.items() if kind not in OF_MARKETS)
    return WirePart(
        height=data.chain.height or None,
        block_time_ns=data.chain.time_ns or None,
        counts=(
            ("frames", data.frames),
            ("faults", faults),
            ("gaps", bot.shown.kinds["gap"] + troubles.get("gap", 0)),
            ("reconnects", bot.shown.kinds["close"]),
            ("kB", bot.shown.bytes // 1_000),
        ),
        kinds=tuple(bot.shown.kinds.most_common(8)),
        samples=tuple(reversed(bot.shown.last_frames)),
    )

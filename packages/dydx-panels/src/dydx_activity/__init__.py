"""What is it doing? The panels of markets, opinions, orders and the machine under them.

    Snapshot ──► MARKETS, SIGNALS, DECISIONS, ORDERS, TAPE, QUALITY, WIRE ──► rows
             ──► VENUE, book_rows, speed_rows ──────────────────────────────► rows

Each panel is a pure function (snapshot, view, width, height) of the inside -> rows, or a `Table`.
All of them show figures beside real samples, each with the frame that it came from.
Nothing here judges how safe the account is: that is dydx_safety's.
"""

from typing import Final

from dydx_conn import Frame
from dydx_data import Level, Sample
from dydx_draw import (
    UNKNOWN,
    Cell,
    Column,
    Row,
    Table,
    beside,
    clock,
    figure,
    gauge,
    grid,
    pairs,
    percent,
    signed,
    spark,
    trend,
    usdc,
)
from dydx_paper import Performance
from dydx_risk import Denied, MarginFigures, Verdict
from dydx_snapshot import Book, MarketRow, Snapshot, TapeRow, View
from dydx_strategy import Decision

__all__ = [
    "DECISIONS", "MARKETS", "ORDERS", "QUALITY", "SIGNALS", "TAPE", "VENUE", "WIRE", "book_rows",
    "speed_rows",
]  # fmt: skip

# === Markets and signals ===


def _moved(row: MarketRow) -> Cell:
    before = row.history[-2] if len(row.history) > 1 else None
    return trend(None if before is None or row.price is None else row.price - before)


def _status(row: MarketRow) -> Cell:
    if row.stale_s is not None:
        return f"stale {figure(row.stale_s, 0)} s", "watch"
    return row.status or UNKNOWN, "dim" if row.status == "ACTIVE" else "watch"


def _market_columns(snapshot: Snapshot) -> list[Column]:
    names = dict.fromkeys(score.signal for row in snapshot.markets for score in row.scores)
    # Six scores, a history and a spread must find room side by side at 120 columns.
    bar = 4 if len(names) < 5 else 2

    def column(name: str) -> Column:
        title = name.upper()[:10] if bar == 4 or len(name) < 7 else name.upper()[:5] + "."

        def cell(row: MarketRow) -> Cell:
            value = next((score.value for score in row.scores if score.signal == name), None)
            text = "  —" if value is None else f"{gauge(value / 100, bar)} {figure(value, 0):>3}"
            return text, "accent"

        return Column(title, max(bar + 4, len(title)), cell, 1, True)

    return [*_MARKET_COLUMNS, *map(column, names)]


_MARKET_COLUMNS: Final = (
    Column("TICKER", 10, lambda row: (row.ticker, "bold"), 0, True),
    Column("PRICE", 10, lambda row: (figure(row.price, grid(row.market)[0]), "")),
    Column("", 1, _moved),
    Column("HISTORY", 16, lambda row: (spark(row.history, 16), "accent"), 3, True),
    Column("SPREAD", 8, lambda row: (figure(row.spread_bps, 2, unit=" bp"), ""), 2),
    Column("VOL 60s", 10, lambda row: (figure(row.volume_60s, 0), ""), 4),
    Column("ORACLE", 11, lambda row: (figure(row.oracle, grid(row.market)[0]), ""), 8),
    Column("FUNDING/h", 10, lambda row: (percent(row.funding_1h, 4, sign=True), ""), 9),
    Column("STATUS", 11, _status, 1, True),
)
MARKETS: Final = Table("markets", lambda snapshot: snapshot.markets, _market_columns,
                         "no market yet", "ticker",
                         faded=lambda row: row.stale_s is not None)  # fmt: skip


SIGNALS: Final = Table(
    "signals", lambda snapshot: [score for row in snapshot.markets for score in row.scores],
    lambda snapshot: (
        Column("TICKER", 10, lambda score: (score.ticker, "bold"), 0, True),
        Column("SIGNAL", 11, lambda score: (score.signal, ""), 0, True),
        Column("SCORE", 7, lambda score: (figure(score.value, 1), "bold")),
        Column("", 10, lambda score: (gauge(score.value / 100, 10), "accent"), 2),
        Column("FRAME", 8, lambda score: (f"#{score.seq}", "dim"), 3, True),
        Column("COMPUTED FROM", 0, lambda score: (
            " · ".join(f"{name} {value:,.6g}" for name, value in score.inputs), ""), 1, True),
    ), "no score yet: the engines warm up", "ticker")  # fmt: skip

# === Decisions, orders and tape ===


def _target(row: Decision) -> Cell:
    target = f"{figure(row.target_usdc, 0, sign=True)} USDC"
    if row.action == "hold":
        return target, "dim"
    return f"{figure(row.previous_usdc, 0, sign=True)} → {target}", trend(row.target_usdc)[1]


DECISIONS: Final = Table("decisions", lambda snapshot: snapshot.decisions, lambda snapshot: (
    Column("", 8, lambda row: (clock(row.at), "dim"), 0, True),
    Column("", 5, lambda row: (row.id, "key"), 0, True),
    Column("", 10, lambda row: (row.ticker, "bold"), 0, True),
    Column("", 6, lambda row: (row.action, "dim" if row.action == "hold" else "accent"),
            0, True),
    Column("", 23, _target, 0, True),
    Column("", 10, lambda row: (f"score {figure(row.score, 1)}", ""), 1, True),
    Column("", 12, lambda row: (f"urgency {figure(row.urgency, 2)}", "dim"), 2, True),
    Column("", 9, lambda row: (f"#{row.seq}", "dim"), 3, True),
), "no decision yet", below=lambda row: " · ".join(row.reasons))  # fmt: skip

_KINDS: Final = {
    "approved": "good", "decision": "accent", "denied": "watch", "fill": "up", "hold": "dim",
    "liquidated": "danger", "reduce": "danger",
}  # fmt: skip


def _history(snapshot: Snapshot) -> list[TapeRow]:
    """Tell verdicts and fills as one history, newest first."""
    rows = [*map(_told, snapshot.verdicts), *snapshot.fills]
    return sorted(rows, key=lambda row: (row.at, row.seq), reverse=True)


def _told(verdict: Verdict) -> TapeRow:
    """Say what a verdict was in a word and why in a line, where size and worst price are."""
    if isinstance(verdict, Denied):
        # What the margin would be can be asked for with `w`.
        known = MarginFigures.__struct_fields__
        figures = "".join(f", {name} {n}" for name, n in verdict.figures if name not in known)
        ticker, text = verdict.ticker, f"{verdict.reason}: {verdict.why}{figures}"
    else:
        order, ticker = verdict.order, verdict.order.ticker
        only = " reduce-only" if order.reduce_only else ""
        text = f"{verdict.why} · {order.time_in_force}{only} until block {order.good_til_block}"
    kind = type(verdict).__name__.lower()
    return TapeRow(verdict.at, kind, text, ticker, verdict.id, verdict.seq)


def _results(snapshot: Snapshot, width: int) -> list[Row]:
    money = [(name, signed(usdc(quote))[0]) for name, quote in snapshot.money]
    return [pairs(width, *money), pairs(width, *snapshot.counts)]


# Orders and tape are told alike.
_TOLD_COLUMNS: Final = (
    Column("", 8, lambda row: (clock(row.at), "dim"), 0, True),
    Column("", 10, lambda row: (row.kind, _KINDS.get(row.kind, "")), 0, True),
    Column("", 4, lambda row: (row.id, "key"), 0, True),
    Column("", 8, lambda row: (row.ticker, "bold"), 0, True),
    Column("", 0, lambda row: (row.text, ""), 0, True),
)
ORDERS: Final = Table("orders", _history, lambda _: _TOLD_COLUMNS, "no order yet", above=_results)
TAPE: Final = Table("tape", lambda snapshot: snapshot.tape, lambda _: _TOLD_COLUMNS,
                      "nothing has happened yet")  # fmt: skip

# === Paper venue ===


def _venue_rows(snapshot: Snapshot, width: int) -> list[Row]:
    venue = snapshot.venue
    if venue is None:
        return [[("no paper venue: what is sent goes over the wire, to a real one", "watch")]]
    refused = ", ".join(f"{count:,} {why}" for why, count in venue.refusals) or "nothing"
    owed = ", ".join(f"{ticker} {hours} h" for ticker, hours in venue.owed) or "none"
    told = [_performance_rows(venue.performance, width)] if venue.performance else []
    fees = (f"{name} {figure(None if ppm is None else ppm / 1e4, 3)} %" for name, ppm in (
        ("maker", venue.maker_ppm), ("taker", venue.taker_ppm)))  # fmt: skip
    kept = [] if venue.fund is None else [("insurance fund", f"{figure(usdc(venue.fund))} USDC")]
    kept += [] if venue.tier is None else [("fee tier", venue.tier)]
    return [
        *(row for rows in told for row in rows),
        pairs(width, ("fees", ", ".join(fees)), ("queue", venue.queue or UNKNOWN)),
        *([pairs(width, *kept)] if kept else []),
        [("refused ", "dim"), (refused, "watch" if venue.refusals else "")],
        pairs(width, ("funding not settled", figure(usdc(venue.unsettled), unit=" USDC")),
              ("of an unknown rate", owed)),
        pairs(width, ("not borne out by the tape", percent(venue.error)),
              ("still to be judged", UNKNOWN if venue.pending is None else venue.pending),
              ("liquidations", UNKNOWN if venue.liquidations is None else venue.liquidations)),
    ]  # fmt: skip


def _performance_rows(did: Performance, width: int) -> list[Row]:
    """Tell how the account did; what does not exist yet is unknown, each with its reason."""
    # Nothing marked yet is no drawdown of 0.
    marked = did.max_drawdown_ratio is not None or did.max_drawdown > 0
    fall = usdc(did.max_drawdown) if marked else None
    hours = figure(did.drawdown_ns / 3.6e12 if marked else None, 1, unit=" h")
    return [
        pairs(width, ("trades", did.trades), ("won", percent(did.win_rate)),
              ("profit factor", figure(did.profit_factor)),
              ("average win", figure(_each(did.average_win))),
              ("loss", figure(_each(did.average_loss)))),
        pairs(width, ("drawdown", figure(fall, unit=" USDC")),
              ("of equity", percent(did.max_drawdown_ratio)), ("lasted", hours)),
        pairs(width, ("Sharpe", figure(did.sharpe)), ("Sortino", figure(did.sortino)),
              ("annual", "from 24 hourly returns on")),
        pairs(width, ("in the market", percent(did.exposure)),
              ("turnover", figure(did.turnover, 1)), ("volume", figure(usdc(did.volume), 0))),
        pairs(width, ("paid: fees", figure(usdc(did.fees))), ("funding", figure(usdc(did.funding))),
              ("insurance", f"{figure(usdc(did.insurance))} USDC")),
    ]  # fmt: skip


def _each(quote_quantums: float | None) -> float | None:
    return None if quote_quantums is None else quote_quantums / 1e6


VENUE: Final = Table(
    "venue", lambda snapshot: snapshot.venue.fills if snapshot.venue else (),
    lambda snapshot: (
        Column("MARKET", 10, lambda row: (row.ticker, "bold"), 0, True),
        Column("ASSUMED", 14, lambda row: (figure(usdc(row.assumed)), "")),
        Column("TRADED", 14, lambda row: (figure(usdc(row.traded)), "")),
        Column("ERROR", 8, lambda row: (percent(row.error), "bold")),
        Column("", 10, lambda row: (gauge(row.error, 10), "accent"), 1),
    ), "no fill of ours is judged yet", "ticker", _venue_rows)  # fmt: skip

# === Book, quality, speed and wire ===


def book_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    """Draw one market's book as a ladder, its newest trades beside it where there is room."""
    book = snapshot.book
    if not book.known:
        return [[(f"book unknown for {book.ticker}" if book.ticker else "book unknown", "watch")]]
    ladder = 34 if width >= 72 else min(width, 44)
    rows, (digits, size_digits) = _ladder(book, ladder, height), grid(book.market)
    if width - ladder < 40:
        return rows
    trades: list[Row] = [[("last trades", "dim")]]
    for trade in book.trades:
        size, price = figure(trade.size, size_digits), figure(trade.price, digits)
        side = (f"{trade.side:<4} ", "up" if trade.side == "BUY" else "down")
        trades.append([(f"{clock(trade.at_ns)} ", "dim"), side, (f"{size:>7} @ {price:>8}", ""),
                       (f" #{trade.seq}", "dim")])  # fmt: skip
    return beside(rows, ladder + 3, trades[:height])


def _ladder(book: Book, width: int, height: int) -> list[Row]:
    digits, size_digits = grid(book.market)
    asks, bids = (side[: max(1, (height - 1) // 2)] for side in (book.asks, book.bids))
    largest = max((level.size for level in asks + bids), default=0.0) or 1.0

    def row(level: Level, style: str) -> Row:
        bar = gauge(level.size / largest, max(width - 26, 4)).replace("░", " ")
        size = f"{figure(level.size, size_digits):>11} "
        return [(f"{figure(level.price, digits):>12} ", style), (size, ""), (bar, style)]

    crossed = f" · {book.crossed} crossed" if book.crossed else ""
    middle: Row = [
        (f"{figure(book.mid_price, digits):>12} mid", "bold"),
        (f" · {figure(book.spread_bps, 2)} bp{crossed} · #{book.seq}", "dim"),
    ]
    return [*(row(level, "down") for level in asks[::-1]), middle,
            *(row(level, "up") for level in bids)]  # fmt: skip


def _troubles(snapshot: Snapshot, width: int) -> list[Row]:
    quality = snapshot.quality
    stale = ", ".join(quality.stale) or "none"
    return [
        pairs(width, *quality.counts) if quality.counts else [("no trouble so far", "good")],
        [("stale markets ", "dim"), (stale, "watch" if quality.stale else "")],
    ]


_SAMPLE_COLUMNS: Final = (
    Column("", 8, lambda row: (f"#{row.seq}", "dim"), 0, True),
    Column("", 14, lambda row: (row.kind, "accent"), 0, True),
    Column("", 0, lambda row: (row.text, ""), 0, True),
)
QUALITY: Final = Table("quality", lambda snapshot: snapshot.quality.samples,
                         lambda _: _SAMPLE_COLUMNS, id="seq", above=_troubles)  # fmt: skip


def speed_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    """Draw what a frame costs, at its percentiles, and how many come."""
    speed = snapshot.speed
    now = f"{figure(speed.throughput[-1] if speed.throughput else None, 0)} f/s "
    largest = max((us for _, us in speed.latency_us), default=0.0) or 1.0
    rows: list[Row] = [
        [(now, "bold"), (spark(speed.throughput, width - 14), "accent")],
        pairs(width, ("a drawing takes", figure(speed.draw_ms, 2, unit=" ms"))),
        [("a frame takes, from its arrival to its last order", "dim")],
    ]
    for name, us in speed.latency_us:
        bar = gauge(us / largest, max(width - 20, 4))
        text = f"{us:,.1f} µs" if us < 1_000 else f"{us / 1_000:,.2f} ms"
        rows.append([(f"{name:>6} ", "dim"), (f"{text:>10}  ", "bold"), (bar, "accent")])
    return rows


def _traffic(snapshot: Snapshot, width: int) -> list[Row]:
    wire = snapshot.wire
    block = ("block", figure(wire.height, 0))
    made_at = ("at", clock(wire.block_time_ns, "%Y-%m-%d %H:%M:%SZ"))
    return [pairs(width, *told) for told in ((block, made_at), wire.counts, wire.kinds)]


def _sample(frame: Frame) -> Sample:
    # All texts begin alike: the contents say more.
    start = max(frame.text.find('"contents"', 0, 400), 0)
    text = ("…" if start else "") + frame.text[start : start + 2_000]
    return Sample(frame.seq, frame.channel or frame.kind, text)


WIRE: Final = Table("wire", lambda snapshot: list(map(_sample, snapshot.wire.samples)),
                      lambda _: _SAMPLE_COLUMNS, "no frame yet", "seq", _traffic)  # fmt: skip

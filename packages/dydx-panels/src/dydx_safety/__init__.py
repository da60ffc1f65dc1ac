"""Am I safe? The panels of the account: its distance to liquidation and its positions.

    Snapshot ──► safety_rows, POSITIONS ──► rows

Each panel is a pure function (snapshot, view, width, height) of the inside -> rows, or a `Table`.
`state_of` says in one word how safe the account is; the frame of the panel has its colour.
Nothing here computes a figure of risk: all of them are dydx_risk's own.
"""

import math
from decimal import Decimal
from typing import Final

from dydx_draw import (
    TIMES,
    UNKNOWN,
    Cell,
    Column,
    Row,
    Table,
    banner,
    beside,
    clock,
    distance_text,
    figure,
    gauge,
    grid,
    percent,
    signed,
    spark,
    trend,
    usdc,
)
from dydx_risk import PositionFigures
from dydx_snapshot import Safety, Snapshot, View

__all__ = ["POSITIONS", "safety_rows", "state_of"]

# === Safety and positions ===

_ACT: Final = 0.05


def _alarm(distance: float | None, act_below: float | None) -> tuple[str, str]:
    """Say how safe a distance is, in a word and a colour."""
    act = _ACT if act_below is None else act_below
    if distance is None or math.isnan(distance):
        return "UNKNOWN", "danger"
    if distance < act:
        return "DANGER", "danger"
    return ("WATCH", "watch") if distance < act * 1.5 else ("SAFE", "good")


def state_of(safety: Safety) -> tuple[str, str]:
    """Say how safe the account is: what is not known is a danger to open positions alone."""
    if safety.margin is None and not safety.positions:
        return "UNKNOWN", "watch"
    if safety.margin is not None and safety.distance is None:
        return "FLAT", "good"
    return _alarm(safety.distance, safety.act_below)


def safety_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    """Draw the distance to liquidation as large as there is room, and what the guard does."""
    safety = snapshot.safety
    word, style = state_of(safety)
    figures, last = _safety_figures(safety, word, style), safety.last
    rungs: list[Row] = [[("next rung ", "dim"), _next_rung(safety)]]
    if last is not None:
        # A rung is red for half a minute of event time.
        alarm = "danger" if (snapshot.header.clock_ns or 0) - last.at < 30 * 10**9 else "watch"
        rungs.insert(0, [(f"last rung {clock(last.at)} ", "dim"), (last.why, alarm)])
    distance = "" if safety.distance is None else distance_text(safety.distance)
    sizes = ((4, 8), (3, 6), (2, 4), (2, 3), (1, 2), (1, 1))
    drawn = (banner(distance or word, high, wide) for high, wide in sizes)
    big = next((big for big in drawn if len(big) <= height - 2 and len(big[0]) <= width - 34), ())
    if not big:
        head = (f"{word} {distance}".rstrip() + " ", style)
        return [[head, *figures[0][1:]], _distance_bar(safety, style, width), *rungs, *figures[1:]]
    room = max(len(big), min(height - 1 - len(rungs), len(figures)))
    rows = beside([[("  " + line, style)] for line in big], len(big[0]) + 4, figures[:room])
    line = spark(safety.history, width - 16)
    return [*rows, _distance_bar(safety, style, width), *rungs,
            [("last minutes    ", "dim"), (line, "accent")]]  # fmt: skip


def _safety_figures(safety: Safety, word: str, style: str) -> list[Row]:
    margin, change = safety.margin, safety.change or 0.0
    usage, leverage = (margin.usage, margin.leverage) if margin else (None, None)
    arrow, direction = trend(change)
    # What rounds to nothing has not moved.
    moved = f" {arrow}{abs(change) * 100:.1f}/min" if abs(change) >= 0.0005 else ""
    alarm = "" if usage is None or usage < 0.7 else "watch" if usage < 1 else "danger"
    times = "" if leverage is None else f"  {figure(leverage, 1)}{TIMES}"
    to = "" if safety.distance is None else "to liquidation"

    def money(name: str, quote_quantums: int | None, weight: str = "") -> Row:
        text = figure(usdc(quote_quantums))
        return [(f"{name:<10}", "dim"), (f"{text:>13}", weight), (" USDC", "dim")]

    return [
        [(f"{word} ", style), (to, "dim"), (moved, direction)],
        money("equity", margin.net_collateral if margin else None, "bold"),
        money("free", margin.free_collateral if margin else None),
        money("maint.", margin.maintenance_margin if margin else None),
        [("usage     ", "dim"), (f"{percent(usage):>13}", alarm), (times, "dim")],
        [("closest   ", "dim"), (f"{distance_text(safety.closest):>13}", "")],
        money("initial", margin.initial_margin if margin else None),
    ]


def _distance_bar(safety: Safety, style: str, width: int) -> Row:
    """Draw the distance against four times the guard's threshold, which is marked."""
    act = safety.act_below or _ACT
    label = f" guard acts at {percent(act)}" if safety.act_below else " no guard"
    room = max(width - len(label) - 1, 4)
    distance = math.nan if safety.margin is None else safety.distance or 0.0
    bar, mark = gauge(distance / (act * 4), room), room // 4
    sign = ("┃", "key") if safety.act_below else (bar[mark], style)
    return [(bar[:mark], style), sign, (bar[mark + 1 :], style), (label, "dim")]


def _next_rung(safety: Safety) -> Cell:
    distance, act = safety.distance, safety.act_below
    if safety.margin is None:
        return UNKNOWN, "dim"
    if act is None:
        return "none: the guard is off, nothing prevents liquidation", "watch"
    if distance is None:
        return "none: no position is held", ""
    until = f"reduces until {percent(safety.restore_to)}"
    if distance < act:
        return f"due now: {until}", "danger"
    return f"{distance_text(distance - act)} further against us: {until}", ""


def _position_columns(snapshot: Snapshot) -> list[Column]:
    grids = {row.ticker: grid(row.market) for row in snapshot.markets}
    act, sides = snapshot.safety.act_below, (("LONG", "up"), ("SHORT", "down"))

    def price(row: PositionFigures, value: Decimal | None) -> Cell:
        return figure(value, grids.get(row.ticker, (2, 3))[0]), ""

    def liquidation(row: PositionFigures) -> Cell:
        # A price cannot fall below 0: the rest of the account carries such a position.
        value = row.liquidation_price
        return ("none", "") if value is not None and value <= 0 else price(row, value)

    def size(row: PositionFigures) -> Cell:
        return figure(abs(row.size), grids.get(row.ticker, (2, 3))[1]), ""

    def bar(row: PositionFigures) -> Cell:
        scale = None if row.distance is None else row.distance / ((act or _ACT) * 4)
        return gauge(scale, 10), _alarm(row.distance, act)[1]

    return [
        Column("TICKER", 10, lambda row: (row.ticker, "bold"), 0, True),
        Column("SIDE", 5, lambda row: sides[row.size < 0], 0, True),
        Column("SIZE", 10, size),
        Column("ENTRY", 10, lambda row: price(row, row.entry_price), 3),
        Column("ORACLE", 10, lambda row: price(row, row.oracle_price), 2),
        Column("UPNL", 10, lambda row: signed(row.unrealized_pnl)),
        Column("LIQ PRICE", 10, liquidation, 1),
        Column("DISTANCE", 8, lambda row: (distance_text(row.distance), bar(row)[1])),
        Column("", 10, bar, 5),
        # Risk tells what the next hour costs; here it is what it brings.
        Column("FUNDING/h", 10, lambda row: signed(usdc(row.funding_1h, -1), 4), 4),
        Column("CAUSE", 9, lambda row: (f"#{row.seq}", "dim"), 6),
    ]  # fmt: skip


POSITIONS: Final = Table("positions", lambda snapshot: snapshot.positions, _position_columns,
                           "no open position is known", "ticker")  # fmt: skip

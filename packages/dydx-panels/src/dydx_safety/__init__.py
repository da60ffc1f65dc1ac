"""Am I safe? The panels of the account: its distance to liquidation, its way out, every shock.

    Snapshot ──► safety_rows, POSITIONS ──► rows
    its Watch ─► FLIGHT, STRESS ──────────► rows

Each panel is a pure function (snapshot, view, width, height) of the inside -> rows, or a `Table`.
`state_of` says in one word how safe the account is; the frame of the panel has its colour.
Nothing here computes a figure of risk: all of them are dydx_risk's own.
"""

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Final, NamedTuple

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
    folded,
    gauge,
    grid,
    pairs,
    percent,
    signed,
    spark,
    trend,
    usdc,
)
from dydx_risk import (
    MOVES_PERCENT,
    Exit,
    FlightPlan,
    Holding,
    LeverageAdvice,
    PositionFigures,
    PositionRisk,
    RiskFigures,
    Rung,
    StressCell,
    StressTable,
    Watch,
    due,
)
from dydx_snapshot import Safety, Snapshot, View

__all__ = ["FLIGHT", "POSITIONS", "STRESS", "safety_rows", "state_of"]

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
    rungs: list[Row] = [[("next rung ", "dim"), _next_rung(safety, snapshot.watch)]]
    if last is not None:
        # A rung is red for half a minute of event time.
        alarm = "danger" if (snapshot.header.clock_ns or 0) - last.at < 30 * 10**9 else "watch"
        rungs.insert(0, [(f"last rung {clock(last.at)} ", "dim"), (last.why, alarm)])
    distance = "" if safety.distance is None else distance_text(safety.distance)
    sizes = ((4, 8), (3, 6), (2, 4), (2, 3), (1, 2), (1, 1))
    drawn = (banner(distance or word, high, wide) for high, wide in sizes)
    big = next(
        (big for big in drawn if len(big) < height - len(rungs) and len(big[0]) <= width - 34), ()
    )
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


def _next_rung(safety: Safety, watch: Watch | None) -> Cell:
    """Say in the ladder's own words what the guard does next, and at which distance."""
    if safety.margin is not None and safety.distance is None:
        return "none: no position is held", ""
    if watch is None:
        return UNKNOWN, "dim"
    if safety.act_below is None:
        return "none: the guard is off, nothing prevents liquidation", "watch"
    plan = watch.plan
    if not plan.rungs:
        return f"none: {plan.why}", "watch"
    rung = plan.rungs[0]
    what = f"{rung.words}, {rung.ends}"
    if rung in due(plan, plan.distance_next):
        return f"due now: {what}", "danger"
    return f"below {distance_text(rung.fires_below)}: {what}", ""


def _position_columns(snapshot: Snapshot) -> list[Column]:
    grids = {row.ticker: grid(row.market) for row in snapshot.markets}
    act, sides = snapshot.safety.act_below, (("LONG", "up"), ("SHORT", "down"))
    margin = snapshot.safety.margin
    sound = margin is not None and not margin.unknown and margin.cushion >= 0

    def away(row: PositionFigures) -> float | None:
        # Where all else is known, a position without such a price is one that none liquidates.
        never = sound and row.oracle_price is not None and row.liquidation_price is None
        return math.inf if never else row.distance

    def price(row: PositionFigures, value: Decimal | None) -> Cell:
        return figure(value, grids.get(row.ticker, (2, 3))[0]), ""

    def liquidation(row: PositionFigures) -> Cell:
        # A price cannot fall below 0: the rest of the account carries such a position.
        value = row.liquidation_price
        none = away(row) == math.inf if value is None else value <= 0
        return ("none", "") if none else price(row, value)

    def size(row: PositionFigures) -> Cell:
        return figure(abs(row.size), grids.get(row.ticker, (2, 3))[1]), ""

    def bar(row: PositionFigures) -> Cell:
        distance = away(row)
        scale = None if distance is None else distance / ((act or _ACT) * 4)
        return gauge(scale, 10), _alarm(distance, act)[1]

    return [
        Column("TICKER", 10, lambda row: (row.ticker, "bold"), 0, True),
        Column("SIDE", 5, lambda row: sides[row.size < 0], 0, True),
        Column("SIZE", 10, size),
        Column("ENTRY", 10, lambda row: price(row, row.entry_price), 3),
        Column("ORACLE", 10, lambda row: price(row, row.oracle_price), 2),
        Column("UPNL", 10, lambda row: signed(row.unrealized_pnl)),
        Column("LIQ PRICE", 10, liquidation, 1),
        Column("DISTANCE", 8, lambda row: (distance_text(away(row)), bar(row)[1])),
        Column("", 10, bar, 5),
        # Risk tells what the next hour costs; here it is what it brings.
        Column("FUNDING/h", 10, lambda row: signed(usdc(row.funding_1h, -1), 4), 4),
        Column("CAUSE", 9, lambda row: (f"#{row.seq}", "dim"), 6),
    ]  # fmt: skip


POSITIONS: Final = Table("positions", lambda snapshot: snapshot.positions, _position_columns,
                           "no open position is known", "ticker")  # fmt: skip

# === Way out ===


class _Step(NamedTuple):
    """A rung, its place in the ladder, whether it is due, and its market's exit as costed."""

    place: int
    rung: Rung
    is_due: bool
    exit: Exit | None

    @property
    def ticker(self) -> str:
        return self.rung.ticker


def _steps(snapshot: Snapshot) -> list[_Step]:
    if snapshot.watch is None:
        return []
    plan = snapshot.watch.plan
    exits = {exit_.ticker: exit_ for exit_ in plan.exits if isinstance(exit_, Exit)}
    firing = len(due(plan, plan.distance_next))
    return [
        _Step(place, rung, place <= firing, exits.get(rung.ticker))
        for place, rung in enumerate(plan.rungs, 1)
    ]


def _plan_rows(snapshot: Snapshot, width: int) -> list[Row]:
    watch, safety = snapshot.watch, snapshot.safety
    if watch is None:
        return _UNSEEN
    plan = watch.plan
    word, style = _alarm(plan.distance_now, safety.act_below) if plan.exits else ("FLAT", "good")
    now = distance_text(plan.distance_now) if plan.exits else "nothing is held"
    guard = "is off" if safety.act_below is None else f"below {percent(safety.act_below)}"
    after = ("after another block like these", distance_text(plan.distance_next))
    return [
        [(f"{word} ", style), (f"{now} ", style), ("now  ", "dim"), *pairs(
            width - len(word) - len(now) - 7, after if plan.exits else _seen(watch),
            ("guard", guard))],
        *([_ladder_row(plan, watch, width)] if plan.rungs else []),
        *([(f"{ticker} stays: {why}", "watch")] for ticker, why in plan.left),
        *_unknown_rows(width, watch.trouble, *(f"{t}: no figure at all" for t in plan.unknown)),
    ]  # fmt: skip


def _ladder_row(plan: FlightPlan, watch: Watch, width: int) -> Row:
    count, enough = len(plan.rungs), "" if plan.is_enough else ", not enough"
    end = f"from {distance_text(plan.drawn_at)} to {_reached(plan.distance_after)}{enough}"
    return pairs(
        width,
        (f"{count} rung{'s' * (count > 1)}", end),
        ("cost", f"{figure(usdc(plan.cost))} USDC"),
        _seen(watch),
    )


_UNSEEN: Final[list[Row]] = [[("unknown: nobody has looked at the account yet", "watch")]]


def _seen(watch: Watch) -> tuple[str, str]:
    return "at", f"{clock(watch.at)} #{watch.seq}"


def _reached(distance: float | None) -> str:
    return "nothing held" if distance == math.inf else distance_text(distance)


def _unknown_rows(width: int, *reasons: str) -> list[Row]:
    """Tell what is not known and why, at most on three rows."""
    told = "; ".join(filter(None, reasons))
    lines = folded(f"{UNKNOWN}: {told}", width)[:3] if told else []
    return [[(line, "watch")] for line in lines]


def _held(quantums: int) -> Cell:
    return ("LONG", "up") if quantums > 0 else ("SHORT", "down")


def _size(rung: Rung, quantums: int) -> str:
    return figure(rung.market.size(abs(quantums)), grid(rung.market)[1])


def _fires(step: _Step) -> Cell:
    text = distance_text(step.rung.fires_below)
    return (f"DUE {text}", "danger") if step.is_due else (f"below {text}", "")


_FLIGHT_COLUMNS: Final = (
    Column("", 2, lambda step: (f"{step.place}", "key")),
    Column("MARKET", 9, lambda step: (step.ticker, "bold"), 0, True),
    Column("SIDE", 4, lambda step: (step.rung.side, _held(step.rung.delta)[1]), 1, True),
    Column("SIZE", 8, lambda step: (_size(step.rung, step.rung.quantums), "")),
    Column("HELD", 9, lambda step: (
        f"{'+' if step.rung.held > 0 else '-'}{_size(step.rung, step.rung.held)}",
        _held(step.rung.held)[1])),
    Column("WORST", 9, lambda step: (
        figure(step.rung.market.price(step.rung.subticks), grid(step.rung.market)[0]), "")),
    Column("COST", 7, lambda step: (figure(usdc(step.rung.cost)), "bold")),
    Column("RESTORES", 8, lambda step: (_restored(step.rung), "")),
    Column("FIRES", 12, _fires, 0, True),
    Column("SPREAD", 8, lambda step: (figure(usdc(step.rung.spread)), "dim"), 5),
    Column("IMPACT", 8, lambda step: (figure(usdc(step.rung.impact)), "dim"), 6),
    Column("FEE", 8, lambda step: (figure(usdc(step.rung.fee)), "dim"), 7),
)  # fmt: skip


def _restored(rung: Rung) -> str:
    return "flat" if rung.restores == math.inf else distance_text(rung.restores)


def _costs(step: _Step) -> str:
    """Tell what a rung's cost is made of, what doing nothing would cost, and on which prices."""
    rung, exit_ = step.rung, step.exit
    spread, impact, fee = (figure(usdc(part)) for part in (rung.spread, rung.impact, rung.fee))
    blind = f"BLIND, {rung.blind}: the oracle less a haircut"
    depth = blind if rung.blind else f"{percent(rung.depth_share, 0)} of the depth"
    parts = _size(rung, rung.liquidation_quantums)
    liquidated = f"liquidated {figure(usdc(rung.liquidation_cost))} at most, {parts} a block"
    told = [f"spread {spread} impact {impact} fee {fee}", depth, liquidated]
    if exit_ is not None:
        digits = grid(exit_.market)[0]
        told.append(f"oracle {figure(_oracle(exit_.price, exit_.exponent), digits)}")
        if exit_.best:
            told.append(f"best {figure(exit_.market.price(exit_.best), digits)}")
    return " · ".join(told)


def _oracle(price: int | None, exponent: int) -> Decimal | None:
    return None if price is None else Decimal(price).scaleb(exponent)


FLIGHT: Final = Table("flight", _steps, lambda _: _FLIGHT_COLUMNS, "no rung is drawn", "ticker",
                      _plan_rows, _costs, gap=1)  # fmt: skip

# === Stress ===


class _Shock(NamedTuple):
    """One row of the table: what each move leaves, 0 being no move, and the figures under it."""

    ticker: str
    cells: dict[int, StressCell]
    act_below: float | None
    told: str = ""


def _shocks(snapshot: Snapshot) -> list[_Shock]:
    watch, act = snapshot.watch, snapshot.safety.act_below
    if watch is None or not watch.stress.rows:
        return []
    table, figures = watch.stress, watch.figures
    now, capped, clamped = table.now(), table.capped(), table.clamped()
    free = None if capped.equity is None else capped.equity - (capped.initial_margin or 0)
    hours = f"{table.funding_hours} h of the highest funding, all paying"
    initial = figure(usdc(capped.initial_margin))
    return [
        _Shock("now", {0: now}, act, _equity_words(figures)),
        _Shock("together", _by_move(table.together()), act, _together_words(table)),
        _Shock("OI capped", {0: capped}, act,
               f"every open interest at its cap: initial {initial}, free {figure(usdc(free))}"),
        _Shock("funding", {0: clamped}, act,
               f"{hours}: equity {figure(usdc(clamped.equity))}"),
        *(_Shock(ticker, _by_move(table.market(ticker)), act, told)
          for ticker, told in _market_words(watch)),
    ]  # fmt: skip


def _by_move(cells: list[StressCell]) -> dict[int, StressCell]:
    return {cell.move_percent: cell for cell in cells}


def _equity_words(figures: RiskFigures) -> str:
    margin = figures.margin
    if margin is None:
        return UNKNOWN
    named = (
        ("equity", margin.net_collateral),
        ("initial", margin.initial_margin),
        ("maint.", margin.maintenance_margin),
        ("free", margin.free_collateral),
    )
    return " · ".join(f"{name} {figure(usdc(quote))}" for name, quote in named)


def _together_words(table: StressTable) -> str:
    ends = [cell for cell in table.together() if abs(cell.move_percent) == 10]
    equity = ", ".join(f"{figure(usdc(c.equity))} at {c.move_percent:+} %" for c in ends)
    known = ((t, row.holding.beta) for t, row in table.rows.items() if t not in table.assumed)
    betas = [f"{ticker} {figure(beta)}" for ticker, beta in known]
    betas += [f"{ticker} unknown (1)" for ticker in table.assumed]
    return f"equity {equity} · betas {', '.join(betas)}"


def _market_words(watch: Watch) -> Iterator[tuple[str, str]]:
    """Tell of each market that is held, the nearest to liquidation first."""
    advice = {advised.ticker: advised for advised in watch.leverage}
    rows = watch.stress.rows
    held = [position for position in watch.figures.positions if position.ticker in rows]
    held.sort(key=lambda p: math.inf if p.distance is None else p.distance)
    told = {p.ticker: _position_words(p, rows[p.ticker].holding, advice.get(p.ticker))
            for p in held}  # fmt: skip
    yield from ((ticker, told.get(ticker, UNKNOWN)) for ticker in dict.fromkeys((*told, *rows)))


def _position_words(position: PositionRisk, holding: Holding, advice: LeverageAdvice | None) -> str:
    price_digits, size_digits = grid(holding.market)
    size = figure(holding.market.size(abs(position.quantums)), size_digits)
    oracle = figure(position.oracle_price, price_digits)
    liquidated = f"liquidated at {figure(position.liquidation_price, price_digits)}"
    never = position.liquidation_price is None and position.distance == math.inf
    told = [
        f"{_held(position.quantums)[0]} {size} at {oracle}",
        f"{distance_text(position.distance)}, {figure(position.sigmas, 1)} sigmas",
        *([] if advice is None else _advised(advice)),
        "no price of it liquidates" if never else liquidated,
        f"{percent(position.share)} of gross",
        f"funding {figure(usdc(position.funding_1h), 4, sign=True)} USDC/h",
        *([] if advice is None else advice.reasons[:-1]),
        *position.unknown,
    ]
    return " · ".join(told)


def _advised(advice: LeverageAdvice) -> list[str]:
    most = f"at most {figure(advice.most, 1)}{TIMES}"
    why = advice.reasons[-1] if advice.reasons else "no reason is given"
    if advice.leverage is None:
        return [f"leverage unknown: {why}", most]
    return [f"lever {figure(advice.leverage, 1)}{TIMES}: {why}", most]


def _left(shock: _Shock, move: int) -> Cell:
    """Write the distance that a shock leaves in four letters, rounded down."""
    cell = shock.cells.get(move)
    if cell is None:
        return "", ""
    if cell.liquidatable is None:
        return "?", "watch"
    if cell.liquidatable:
        return "LIQ", "danger"
    distance = cell.distance
    if distance is None or math.isnan(distance):
        return "none", ""
    near = shock.act_below is not None and distance < shock.act_below
    tenths = int(min(max(distance, 0.0), 10.0) * 1_000 + 1e-9)
    whole = tenths >= 1_000 or (near and tenths >= 100)
    text = ">999" if tenths > 9_990 else f"{tenths // 10}" if whole else f"{tenths / 10:.1f}"
    return (f"{text}!", "watch") if near else (text, "bold" if not move else "")


def _move_column(move: int) -> Column:
    title = f"{move:+}" if move else "0"
    rank = {1: 4, 2: 3, 5: 2, 20: 1}.get(abs(move), 0)
    return Column(title, 4, lambda shock: _left(shock, move), rank)


_AROUND: Final = sorted((*MOVES_PERCENT, 0))
_STRESS_COLUMNS: Final = (
    Column("MOVE IN %", 10, lambda shock: (shock.ticker, "bold"), 0, True),
    *(_move_column(move) for move in _AROUND),
)


def _risk_rows(snapshot: Snapshot, width: int) -> list[Row]:
    watch = snapshot.watch
    if watch is None:
        return _UNSEEN
    figures, table = watch.figures, watch.stress
    if not table.rows and not table.unknown:
        return [[("nothing is held: no price can hurt", "good")], pairs(width, _seen(watch))]
    margin = figures.margin
    distance = margin.distance if margin is not None else None
    word, style = _alarm(distance, snapshot.safety.act_below)
    hours = figures.hours_to_breach
    alone = "never" if hours == math.inf else figure(hours, 0, unit=" h")
    share = percent(figures.largest_share, 0)
    # Each reason once: positions and table tell of the same ones.
    lacking = dict.fromkeys((*table.unknown, *figures.unknown))
    return [
        [(f"{word} {distance_text(distance)}  ", style), *pairs(
            width - len(word) - 12, ("sigmas of an hour", figure(figures.sigmas, 1)),
            ("usage", percent(margin.usage if margin else None)), _seen(watch))],
        pairs(width, ("funding", figure(usdc(figures.funding_1h), 4, sign=True)),
              ("a day", f"{figure(usdc(figures.funding_1d), 2, sign=True)} USDC"),
              ("takes off the distance", percent(figures.funding_distance_1d, 3)),
              ("breaches alone", alone)),
        pairs(width, ("largest", f"{figures.largest or UNKNOWN} {share}"),
              ("herfindahl", figure(figures.herfindahl)),
              ("long", figure(usdc(figures.long_notional), 0)),
              ("short", figure(usdc(figures.short_notional), 0)),
              ("net", figure(usdc(figures.net_notional), 0, sign=True))),
        *_unknown_rows(width, watch.trouble, *lacking),
        [("distance left in %  ", "dim"), ("LIQ", "danger"), (" liquidatable  ", "dim"),
         ("!", "watch"), (" below where the guard acts", "dim")],
    ]  # fmt: skip


STRESS: Final = Table("stress", _shocks, lambda _: _STRESS_COLUMNS, "no shock is reckoned",
                      "ticker", _risk_rows, lambda shock: shock.told, gap=1)  # fmt: skip

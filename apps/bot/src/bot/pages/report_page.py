"""A report as a page: its head, its figures, its charts, and tables that say why.

Report ──► figures (bot.pages.charts), tables (bot.pages.tables) ──► report_page ──► HTML
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from dydx_panels import CandleRow, CandlesPart, FillMark
from dydx_risk import percent_text
from msgspec.structs import astuple

from bot.pages import bars, charts, tables
from bot.pages.page import chart, escaped, folded, page, pairs, section, side_by_side, tiles
from bot.pages.shape import Market, Report

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_LEAST_NS: Final = 600_000_000_000  # of candles before a run
_BARS: Final = ("p50", "p99", "max")  # of a stage's latency; the table has all
_OPEN: Final = 3  # charts of candles that are shown without a click


class _Part(NamedTuple):
    """A part of the page: its name, its title, and what is in it; "" for nothing."""

    name: str
    title: str
    inner: Callable[[Report], str]
    small: Callable[[Report], str] = lambda _: ""


def report_page(report: Report) -> str:
    """Return the page of a report."""
    found = [(part, part.inner(report)) for part in _PARTS]
    links = "".join(f'<a href="#{part.name}">{part.title}</a>' for part, inner in found if inner)
    body = [
        f'<header>{_head(report)}</header><nav aria-label="parts"><div>{links}</div></nav>',
        f'<main class="{"" if _days(report) > 1 else "one-day"}">',
        *(section(p.name, p.title, inner, small=p.small(report)) for p, inner in found if inner),
        f"</main><footer>{_foot(report)}</footer>",
    ]
    islands = {"entries": report.entries, "wire": report.wire}
    return page(f"{report.mode} {report.source}", body, figures_of(report), islands)


# === Charts ===


def figures_of(report: Report) -> dict[str, "Figure"]:
    """Return the charts of a report by their names; of what is not known there is none."""
    curve = report.curve
    found = {f"candles {market.ticker}": _candles(report, market) for market in report.markets}
    if curve.at:
        found |= {
            "equity": charts.equity(curve), "drawdown": charts.drawdown(curve),
            "exposure": charts.exposure(curve, report.most_leverage),
            "distance": charts.distance(curve, report.levels),
        }  # fmt: skip
    if report.by_market:
        found["profits"] = bars.profits({x.ticker: float(x.net) for x in report.by_market})
    if paid := {x.kind: float(x.paid) for x in report.costs if x.paid is not None}:
        found["costs"] = bars.costs(paid)
    if report.latency:
        found["latency"] = bars.latencies({
            one.stage: {name: us for name, us in one.us.items() if name in _BARS}
            for one in report.latency
        })  # fmt: skip
    return found


def _candles(report: Report, market: Market) -> "Figure":
    fills = tuple(
        FillMark(fill.at_ns, fill.side, float(fill.price), float(fill.size), fill.is_exit)
        for fill in report.fills
        if fill.ticker == market.ticker
    )
    part = CandlesPart(
        ticker=market.ticker, resolution=market.resolution, fills=fills,
        rows=tuple(CandleRow(*astuple(candle)) for candle in market.candles),
    )  # fmt: skip
    return charts.candles(part, liquidation=market.liquidation, focus=_focus(report, market))


def _focus(report: Report, market: Market) -> tuple[int, int] | None:
    """Return the time of the run, and a fourth as much before it: older candles are not shown."""
    if not report.curve.at or not market.candles:
        return None
    began, ended = report.curve.at[0], report.curve.at[-1]
    last = max(ended, market.candles[-1].started_at)
    return began - max((ended - began) // 4, _LEAST_NS), last + _LEAST_NS // 10


# === Head and foot ===


def _head(report: Report) -> str:
    mode = escaped(report.mode.lower())
    where = " · ".join(filter(None, [report.network, report.account, _span(report)]))
    guard = {True: "guarded", False: "NOT GUARDED", None: ""}[report.guarded]
    how = " · ".join(filter(None, [report.strategy, report.profile, guard, report.made_by]))
    wrong = "".join(f"<p>{escaped(line)}</p>" for line in report.wrong)
    return "".join([
        f'<h1><span class="badge {mode}">{mode.upper()}</span>{escaped(report.source)}</h1>',
        f'<p class="note">{escaped(where)}</p><p class="note">{escaped(how)}</p>',
        f'<p class="hash">run hash {escaped(report.run_hash or "not known")}</p>',
        f'<div class="card wrong">{wrong}</div>' if wrong else "",
    ])  # fmt: skip


def _span(report: Report) -> str:
    if report.began is None or report.ended is None:
        return "when is not known"
    began, ended = report.began, report.ended
    last = ended[11:19] if began[:10] == ended[:10] else f"{ended[:10]} {ended[11:19]}"
    return f"{began[:10]} {began[11:19]} to {last} UTC"


def _days(report: Report) -> int:
    """Return on how many days anything is that a table shows."""
    ends = [report.began, report.ended, *(trade.opened for trade in report.trades)]
    return len({end[:10] for end in ends if end is not None}) or 2


def _foot(report: Report) -> str:
    commit = f", commit {report.commit}" if report.commit else ""
    bot = f"bot {report.versions.get('bot', '')}{commit}"
    return escaped(f"{bot}. Times are UTC. Paper orders are not trades, and nothing is advice.")


# === Parts ===


def _summary(report: Report) -> str:
    return tiles(_tiles(report)) + side_by_side(
        pairs((one.name, one.words) for one in report.summary if one.name != "run hash"),
        pairs((one.name, one.words) for one in report.performance),
    )


def _tiles(report: Report) -> Iterator[tuple[str, str, str]]:
    curve, closed = report.curve, [trade for trade in report.trades if trade.closed is not None]
    if curve.equity:
        yield "equity, USDC", f"{curve.equity[-1]:,.2f}", ""
    if curve.equity and curve.deposited is not None:
        won = curve.equity[-1] - curve.deposited
        yield f"of {curve.deposited:,.0f} {curve.since}", f"{won:+,.2f}", _trend(won)
    if curve.fall:
        yield "deepest fall", f"{100 * max(curve.fall):.2f} %", ""
    known = [distance for distance in curve.distance if distance is not None]
    if curve.at:
        near = percent_text(min(known)) if known else "nothing was held"
        act = curve.act_below
        style = "danger" if known and act is not None and min(known) < act else ""
        yield "closest to liquidation", near, style
    won_ = sum(1 for trade in closed if trade.net is not None and Decimal(trade.net) > 0)
    yield "trades ended, and won", f"{len(closed):,} · {won_:,}", ""
    yield "steps of the guard", f"{len(report.guard):,}", "danger" if report.guard else ""


def _trend(value: float) -> str:
    return "" if not value else "up" if value > 0 else "down"


def _curves(report: Report) -> str:
    if not report.curve.at:
        return ""
    every = f"a point stands for {report.curve.every_s:.4g} s"
    return side_by_side(
        chart("equity", "Equity", f"USDC, {every}"),
        chart("distance", "Distance to liquidation", "closest within a point; far is at the top"),
        chart("drawdown", "Drawdown", "below the peak, transfers aside"),
        chart("exposure", "Exposure", "gross notional, in equities"),
    )


def _chance(report: Report) -> str:
    return pairs((one.name, one.words) for one in report.chance) if report.chance else ""


def _markets(report: Report) -> str:
    names = [market.ticker for market in report.markets]
    drawn = [
        chart(f"candles {market.ticker}", market.ticker, f"{market.resolution}, our fills, USDC")
        for market in report.markets
    ]
    rest = f"{len(names) - _OPEN} more: {', '.join(names[_OPEN:])}"
    profits = chart("profits", "Profit by market", "after funding and fees")
    parts = [side_by_side(profits, tables.markets(report))] if report.by_market else []
    parts += drawn[:_OPEN] + ([folded(rest, *drawn[_OPEN:])] if drawn[_OPEN:] else [])
    return "".join(f'<div class="gap">{part}</div>' for part in parts)


def _verdicts(report: Report) -> str:
    every = folded("each of them", tables.verdicts(report)) if report.verdicts else ""
    return tables.reasons(report) + every


def _costs(report: Report) -> str:
    drawn = chart("costs", "Costs by kind", "USDC; what was received is positive")
    return side_by_side(drawn, tables.funding(report)) if report.costs else ""


def _latency(report: Report) -> str:
    drawn = chart("latency", "What a frame takes", "µs, by stage")
    return side_by_side(drawn, tables.latency(report)) if report.latency else ""


def _settings(report: Report) -> str:
    if not report.settings:
        return ""
    chosen = sum(1 for one in report.settings if one.origin not in (None, "default"))
    words = f"{len(report.settings)} settings, {chosen} of them not by default"
    return folded(words, tables.settings(report))


def _versions(report: Report) -> str:
    commit = [("commit", report.commit)] if report.commit else []
    return pairs([*report.versions.items(), *commit])


def _absent(report: Report) -> str:
    unknown = [("not known", words) for words in report.missing]
    return pairs([*unknown, *(("left out", words) for words in report.left_out)])


def _counted(name: str, report: Report) -> str:
    count = len(getattr(report, name))
    return f"{count:,}, the newest first; an id shows why" if count else ""


_PARTS: Final = (
    _Part("summary", "Summary", _summary),
    _Part("chance", "Chance", _chance, lambda _: "where 95 of 100 samples lie"),
    _Part("account", "Account", _curves),
    _Part("months", "Months", tables.months, lambda _: "UTC; a year stands below its months"),
    _Part("markets", "Markets", _markets),
    _Part("trades", "Trades", tables.trades, partial(_counted, "trades")),
    _Part("fills", "Fills", tables.fills, partial(_counted, "fills")),
    _Part("guard", "Guard", tables.guard, partial(_counted, "guard")),
    _Part("decisions", "Decisions", tables.decisions, partial(_counted, "decisions")),
    _Part("verdicts", "Verdicts", _verdicts, lambda _: "by reason"),
    _Part("acts", "Acts", tables.acts),
    _Part("costs", "Costs", _costs),
    _Part("latency", "Latency", _latency),
    _Part("quality", "Data", tables.quality, lambda _: "how far it could be believed at the end"),
    _Part("errors", "Errors", tables.errors),
    _Part("settings", "Settings", _settings),
    _Part("versions", "Versions", _versions),
    _Part("absent", "Not in this report", _absent),
)

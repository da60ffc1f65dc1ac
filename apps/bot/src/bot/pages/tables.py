"""The tables of a report, a function each: its rows as HTML that sorts, with a button for each why.

Report ──► trades, fills, guard, decisions, verdicts … ──► HTML

Money is shown to the cent, and sorted by what it is; what is not known is a question mark.
"""

from collections.abc import Iterable
from decimal import Decimal
from functools import partial
from typing import Any, Final

from dydx_panels import wording

from bot.pages.page import Column, escaped, table, whys
from bot.pages.shape import Entry, Fill, Latency, Money, Report, Setting, Time, Trade

UNKNOWN: Final = "?"
_CENT: Final = Decimal("0.01")


def signed(amount: Money | None) -> str:
    """Show money to the cent with its sign, to the quantum where it is less than one.

    >>> signed("-1234.567000"), signed("0.001800"), signed("0.000000")
    ('-1,234.57', '+0.001800', '0.00')
    """
    if amount is None:
        return UNKNOWN
    number = Decimal(amount)
    if not number:
        return "0.00"
    return f"{number:+,.6f}" if abs(number) < _CENT else f"{number:+,.2f}"


def trend(amount: Money | None) -> str:
    """Return the style of money that came or went, or did neither; "" for what is not known."""
    if amount is None:
        return ""
    number = Decimal(amount)
    return "dim" if not number else "up" if number > 0 else "down"


def _figure(text: str) -> str:
    """Show a size or a price with at most eight digits; as it is if it is none."""
    try:
        number = Decimal(text)
    except ArithmeticError:
        return text or UNKNOWN
    return f"{number:,.8g}" if len(text) > 10 else f"{number:,f}"


def _money(title: str, name: str) -> Column:
    return Column(
        title, lambda row: signed(getattr(row, name)), "n", lambda row: getattr(row, name),
        style=lambda row: trend(getattr(row, name)),
    )  # fmt: skip


def _number(title: str, name: str) -> Column:
    return Column(
        title, lambda row: _figure(getattr(row, name)), "n", lambda row: getattr(row, name)
    )


def _text(title: str, name: str, kind: str = "t") -> Column:
    return Column(title, lambda row: wording(str(getattr(row, name))), kind)


def _moment(at: Time) -> str:
    """Return a time as HTML; a page of one day does not show the day, which its head has."""
    return f'<span class="day">{escaped(at[5:10])} </span>{escaped(at[11:19])}'


def _time(title: str, name: str) -> Column:
    def show(row: Any) -> str:
        return _moment(getattr(row, name))

    return Column(title, lambda _: "", "t", lambda row: getattr(row, name), html=show)


_SIDES: Final = {"LONG": "up", "BUY": "up", "SHORT": "down", "SELL": "down"}
_SIDE: Final = Column(
    "side", lambda row: row.side.lower(), "t", style=lambda row: _SIDES.get(row.side, "")
)
_TICKER: Final = _text("market", "ticker")


# === What was traded ===


def months(report: Report) -> str:
    """Return months and years, a row each; nothing where there are none."""
    return table(_MONTHS, report.months, "") if report.months else ""


def _share_of(title: str, name: str) -> Column:
    def show(row: Any) -> str:
        value = getattr(row, name)
        return UNKNOWN if value is None else f"{100 * value:+,.2f} %"

    return Column(title, show, "n", lambda row: getattr(row, name))


_MONTHS: Final = (
    _text("month", "name"),
    _share_of("return", "returned"),
    _money("profit, USDC", "net"),
    Column(
        "drawdown",
        lambda row: UNKNOWN if row.drawdown is None else f"{100 * row.drawdown:,.2f} %",
        "n",
        lambda row: row.drawdown,
    ),
    Column("trades", lambda row: f"{row.trades:,}", "n", lambda row: row.trades),
    Column("won", lambda row: f"{row.won:,}", "n", lambda row: row.won),
)


def trades(report: Report) -> str:
    """Return the positions from their openings to their ends; the why of one is that of its orders.

    What was liquidated has no order: then it is that of its fill.
    """
    of = {fill.id: fill.order or fill.id for fill in report.fills}

    def orders(row: Trade) -> list[str]:
        return [*dict.fromkeys(of[name] for name in row.fills if name in of)]

    def shown(row: Trade) -> str:
        names = orders(row)
        return whys(names[:_WHYS]) + (f"and {len(names) - _WHYS} more" * (len(names) > _WHYS))

    why = Column("why", lambda _: "", "o", lambda row: len(orders(row)), html=shown)
    is_open = any(trade.closed is None for trade in report.trades)
    known = (column for column in _TRADES if is_open or column.title != _OPEN)
    return table((*known, why), report.trades, "nothing was traded")


_WHYS: Final = 24
_OPEN: Final = "unrealized"  # of what is open alone


def _ended(row: Trade) -> str:
    """Return as HTML when it ended, and how if it was not closed; how it stands if it has not."""
    status = escaped(row.status.lower())
    if row.closed is None:
        return status
    at = _moment(row.closed)
    return at if status == "closed" else f"{at} {status}"


def _status(row: Trade) -> str:
    return {"LIQUIDATED": "danger", "OPEN": "watch", "LEFT": "watch"}.get(row.status, "")


_TRADES: Final = (
    _TICKER, _SIDE, _number("size at most", "size"), _number("entry", "entry"),
    _number("exit", "exit"), _money("realized", "realized"), _money(_OPEN, _OPEN),
    _money("funding", "funding"), Column(
        "fees", lambda row: UNKNOWN if row.fees is None else f"{Decimal(row.fees):z,.2f}", "n",
        lambda row: row.fees,
    ),
    _money("net", "net"), _time("opened", "opened"),
    Column("closed", lambda _: "", "t", lambda row: row.closed or "", _ended, _status),
)  # fmt: skip


def fills(report: Report) -> str:
    """Return each fill."""
    return table(_FILLS, report.fills, "no order was filled")


def _liquidity(row: Fill) -> str:
    return row.type.lower() if row.type == "LIQUIDATED" else row.liquidity.lower()


_FILLS: Final = (
    Column("why", lambda row: row.id, html=lambda row: whys([row.id])),
    _time("time", "at"), _TICKER, _SIDE, _number("size", "size"), _number("price", "price"),
    Column("USDC", lambda row: f"{Decimal(row.usdc):,.2f}", "n", lambda row: row.usdc),
    Column("fee", lambda row: f"{Decimal(row.fee):,.4f}", "n", lambda row: row.fee),
    Column("", _liquidity, "t", style=lambda row: "danger" * (row.type == "LIQUIDATED")),
)  # fmt: skip


def funding(report: Report) -> str:
    """Return each payment of funding."""
    return table(_FUNDING, report.funding, "no funding was paid or received")


_FUNDING: Final = (
    _time("time", "at"), _TICKER, _number("held", "size"), _money("received", "received"),
)  # fmt: skip


# === What was decided ===

_ENTRY: Final = (
    Column("why", lambda row: row.id, html=lambda row: whys([row.id])),
    _time("time", "at"), _TICKER, Column("", lambda row: row.words, "w"),
)  # fmt: skip
_VERDICT: Final = (*_ENTRY[:3], _text("", "kind"), _ENTRY[3])


def _entries(report: Report, ids: Iterable[str]) -> list[Entry]:
    return [report.entries[id_] for id_ in ids if id_ in report.entries]


def decisions(report: Report) -> str:
    """Return what the strategy decided, newest first."""
    return table(_ENTRY, _entries(report, report.decisions), "nothing was decided")


def verdicts(report: Report) -> str:
    """Return what became of the decisions before they were orders, newest first."""
    return table(_VERDICT, _entries(report, report.verdicts), "nothing was judged")


def reasons(report: Report) -> str:
    """Return how often each verdict was given, by its reason."""
    return table(_REASONS, report.reasons, "nothing was judged")


def _reason(row: Any) -> str:
    return row.reason.replace("_", " ").lower() or "within all limits"


_REASONS: Final = (
    _text("verdict", "kind"), Column("reason", _reason, "t"),
    Column("times", lambda row: f"{row.count:,}", "n", lambda row: row.count),
    Column("newest", lambda row: row.newest, "t", html=lambda row: whys([row.newest])),
)  # fmt: skip


def guard(report: Report) -> str:
    """Return each step of the guard, newest first."""
    return table(_ENTRY, _entries(report, report.guard), "the guard had nothing to do")


def acts(report: Report) -> str:
    """Return what people and watchdogs did, and how the gate changed, newest first."""
    found = _entries(report, (*report.acts, *report.gate))
    found.sort(key=lambda entry: entry.at, reverse=True)
    return table(_VERDICT, found, "nobody acted, and the gate did not change")


# === What it cost, and how it went ===


def markets(report: Report) -> str:
    """Return what each market came to."""
    return table(_MARKETS, report.by_market, "nothing was traded")


_MARKETS: Final = (
    _TICKER,
    Column("trades ended", lambda row: f"{row.trades:,}", "n", lambda row: row.trades),
    Column("won", lambda row: f"{row.won:,}", "n", lambda row: row.won),
    _money("net", "net"), _money("funding", "funding"),
    Column("fees", lambda row: f"{Decimal(row.fees):z,.2f}", "n", lambda row: row.fees),
)  # fmt: skip


def latency(report: Report) -> str:
    """Return what frames took by stage, in microseconds."""
    names = [*dict.fromkeys(name for row in report.latency for name in row.us)]
    columns = [
        _text("stage", "stage"),
        *(Column(name, partial(_shown_us, name), "n", partial(_us, name)) for name in names),
        Column("frames", lambda row: f"{row.frames:,}", "n", lambda row: row.frames),
    ]  # fmt: skip
    return table(columns, report.latency, "it was not measured")


def _us(name: str, row: Latency) -> float | None:
    return row.us.get(name)


def _shown_us(name: str, row: Latency) -> str:
    took = _us(name, row)
    return UNKNOWN if took is None else f"{took:,.1f}"


def quality(report: Report) -> str:
    """Return how far the data of each market could be believed at the end."""
    return table(_QUALITY, report.quality, "it was not stored with the run")


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:.0f} %"


_QUALITY: Final = (
    _TICKER,
    Column("", lambda row: row.why or "ok", "t", style=lambda row: "watch" * bool(row.why)),
    Column("known", lambda row: _share(row.known), "n", lambda row: row.known),
    Column("complete", lambda row: _share(row.complete), "n", lambda row: row.complete),
    Column("lag p99, ms", lambda row: UNKNOWN if row.lag_p99_ms is None
           else f"{row.lag_p99_ms:,.0f}", "n", lambda row: row.lag_p99_ms),
    Column("troubles", lambda row: ", ".join(f"{n:,} {wording(name)}" for name, n
                                             in row.troubles.items()) or "none",
           "w", lambda row: sum(row.troubles.values())),
)  # fmt: skip


def errors(report: Report) -> str:
    """Return what went wrong, the most frequent first."""
    return table(_ERRORS, report.errors, "nothing went wrong")


_ERRORS: Final = (
    _text("class", "kind"), _text("where", "endpoint"),
    Column("times", lambda row: f"{row.count:,}", "n", lambda row: row.count),
    Column("newest", lambda row: row.sample, "w"),
)  # fmt: skip


def settings(report: Report) -> str:
    """Return every setting, where it comes from, and what it is."""
    return table(_SETTINGS, report.settings, "they were not stored with the run")


def _origin(row: Setting) -> str:
    return row.origin or "not stored"


_SETTINGS: Final = (
    _text("setting", "path"), Column("value", lambda row: row.value, "w"),
    Column("from", _origin, "t", style=lambda row: "dim" * (row.origin == "default")),
)  # fmt: skip

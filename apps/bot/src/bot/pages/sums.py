"""Rows of a run, as the database has them, put together as the parts of a report.

    position rows ──► trades ──► a sum a market
    fill rows ──► fills ──► costs by kind
    verdicts ──► how often, by reason

A row is a mapping with the columns of bot.database.tables, whether it was read there or made of a
run that is over. Everything here is pure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from dydx_panels import wording
from dydx_paper import Performance

from bot.pages.shape import Fill, MarketSum, Money, Named, Reason, Trade, exact, money
from bot.times import iso

Row = Mapping[Any, Any]

# The guard's levels by the names they have in a chart, and in the policy.
LEVELS: Final = {
    "all closed below": "act_below", "defended": "restore_to", "no entry below": "keep_above",
}  # fmt: skip

# === Trades ===


def fill_of(row: Row, order: str = "", *, is_exit: bool = False) -> Fill:
    """Return a fill; `order` is the id that the run gave its order."""
    return Fill(
        id=row["id"], at=iso(row["at"]), at_ns=row["at"], ticker=row["ticker"],
        side=row["side"], size=row["size"], price=row["price"], usdc=exact(row["quote"] or 0),
        fee=exact(row["fee"] or 0), liquidity=row["liquidity"], type=row["type"], order=order,
        is_exit=is_exit,
    )  # fmt: skip


def trade_of(row: Row, fills: Sequence[str] = ()) -> Trade:
    """Return a trade; of what is not known of it nothing is added up."""
    parts = [row[name] for name in ("realized", "unrealized", "funding", "fees")]
    known = all(part is not None for part in parts)
    net = parts[0] + parts[1] + parts[2] - parts[3] if known else None
    return Trade(
        ticker=row["ticker"], side=row["side"], status=row["status"], size=row["max_size"],
        entry=row["entry_price"], exit=row["exit_price"], realized=money(parts[0]),
        unrealized=money(parts[1]), funding=money(parts[2]), fees=money(parts[3]),
        net=money(net), opened=iso(row["opened"]),
        closed=None if row["closed"] is None else iso(row["closed"]), fills=tuple(fills),
    )  # fmt: skip


def matched(
    rows: Iterable[Row], made_by: Mapping[str, Sequence[Sequence[str]]]
) -> list[tuple[Row, Sequence[str]]]:
    """Return each position with the fills that made it, oldest first.

    Both are in order within a market, and of both the newest are there: they are joined from the
    end. What was held before the run began has the fills of the run alone.
    """
    rows = sorted(rows, key=lambda row: (row["opened"], row["closed"] or 2**63))
    by_market: dict[str, list[Row]] = {}
    for row in rows:
        by_market.setdefault(row["ticker"], []).append(row)
    fills: dict[int, Sequence[str]] = {}
    for ticker, those in by_market.items():
        pairs = zip(reversed(those), reversed(made_by.get(ticker, ())), strict=False)
        fills |= {id(row): made for row, made in pairs}
    return [(row, fills.get(id(row), ())) for row in rows]


def by_market(rows: Iterable[Row]) -> tuple[MarketSum, ...]:
    """Return what the positions of each market came to, as far as is known; the best first."""
    sums: dict[str, list[int]] = {}
    for row in rows:
        net = (row["realized"] or 0) + (row["unrealized"] or 0) + (row["funding"] or 0)
        net -= row["fees"] or 0
        ended = row["closed"] is not None
        parts = ended, ended and net > 0, net, row["funding"] or 0, row["fees"] or 0
        known = sums.get(row["ticker"], [0] * 5)
        sums[row["ticker"]] = [one + other for one, other in zip(known, parts, strict=True)]
    ordered = sorted(sums.items(), key=lambda item: (-item[1][2], item[0]))
    return tuple(
        MarketSum(ticker=ticker, trades=trades, won=won, net=exact(net),
                  funding=exact(funding), fees=exact(fees))
        for ticker, (trades, won, net, funding, fees) in ordered
    )  # fmt: skip


class Grouping:
    """By which fills each position came to be, as they come, a list for each, by market."""

    def __init__(self) -> None:
        self.made_by: dict[str, list[list[str]]] = {}
        self.exits: set[str] = set()

    def take(self, id_: str, ticker: str, before: Decimal, change: Decimal) -> None:
        """Take a fill: what was held before it, and what it added, in signed base units."""
        made, after = self.made_by.setdefault(ticker, []), before + change
        if before * change < 0:
            self.exits.add(id_)
        if not made or not before:
            made.append([])
        made[-1].append(id_)
        if before * after < 0:  # it has turned: the same fill ends one, and begins another
            made.append([id_])


# === Verdicts ===


def reasons_of(verdicts: Iterable[tuple[str, str, str]]) -> tuple[Reason, ...]:
    """Count verdicts, given as kind, reason and id, oldest first; the most frequent come first."""
    counts: dict[tuple[str, str], tuple[int, str]] = {}
    for kind, reason, id_ in verdicts:
        counts[kind, reason] = counts.get((kind, reason), (0, ""))[0] + 1, id_
    ordered = sorted(counts.items(), key=lambda item: (-item[1][0], item[0]))
    return tuple(
        Reason(kind=kind, reason=reason, count=count, newest=id_)
        for (kind, reason), (count, id_) in ordered
    )


# === Words ===

_NAME: Final = 13  # columns, in the lines of a report


def named_lines(lines: Iterable[str]) -> tuple[Named, ...]:
    """Take lines of a printed report apart: what each is called, and what it says."""
    return tuple(Named(name=line[:_NAME].strip(), words=line[_NAME:]) for line in lines)


def _share(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.1f} %"


def _plain(value: float | None) -> str | None:
    return None if value is None else f"{value:,.2f}"


def _usdc(value: float | None) -> str | None:
    return None if value is None else f"{value / 1e6:,.2f} USDC"


_FIGURES: Final[Mapping[str, tuple[Callable[[float | None], str | None], str]]] = {
    "win_rate": (_share, "no trade has ended"),
    "profit_factor": (_plain, "no trade was lost"),
    "average_win": (_usdc, "no trade was won"),
    "average_loss": (_usdc, "no trade was lost"),
    "max_drawdown_ratio": (_share, "fewer than two hourly points"),
    "sharpe": (_plain, "fewer than 24 hourly returns"),
    "sortino": (_plain, "fewer than 24 hourly returns, or none lost"),
    "exposure": (
        lambda share: f"{_share(share)} from first to last event" if share is not None else None,
        "no time passed",
    ),
    "turnover": (
        lambda value: None if value is None else f"{value:,.1f} times",
        "no hourly point yet",
    ),
    "volume": (_usdc, ""),
}


# What a row of the terminal has beside its figure, and a line of its own has not.
_TITLES: Final = {"max_drawdown_ratio": "drawdown by the hour"}


def performance_of(did: Performance | None) -> tuple[Named, ...]:
    """Put in words how a paper account did; what does not exist has its reason."""
    if did is None:
        return ()
    rows = [Named(name="trades", words=f"{did.trades:,}")]
    for name, (word, without) in _FIGURES.items():
        words = word(getattr(did, name))
        unknown = f"unknown: {without}" if without else "unknown"
        title = _TITLES.get(name, wording(name))
        rows.append(Named(name=title, words=unknown if words is None else words))
    return tuple(rows)


def performance_by(rows: Iterable[Row]) -> tuple[Named, ...]:
    """Put in words how an account did by its positions alone: those that have ended, and are known.

    What needs the worth of the account hour by hour is a paper ledger's (`performance_of`).
    """
    ended = [row for row in rows if row["closed"] is not None and row["fees"] is not None]
    nets = [row["realized"] + row["funding"] - row["fees"] for row in ended
            if row["realized"] is not None and row["funding"] is not None]  # fmt: skip
    won, lost = [net for net in nets if net > 0], [-net for net in nets if net < 0]
    figures: tuple[tuple[str, str | None], ...] = (
        ("win_rate", _share(len(won) / len(nets)) if nets else None),
        ("profit_factor", _plain(sum(won) / sum(lost)) if lost else None),
        ("average_win", _usdc(sum(won) / len(won)) if won else None),
        ("average_loss", _usdc(sum(lost) / len(lost)) if lost else None),
    )
    rows_ = [Named(name="trades", words=f"{len(nets):,}")]
    for name, words in figures:
        unknown = f"unknown: {_FIGURES[name][1]}"
        rows_.append(Named(name=wording(name), words=words or unknown))
    return tuple(rows_)


def total(amounts: Iterable[int | None]) -> Money:
    """Return the exact sum of quote quantums, those that are known."""
    return exact(sum(amount or 0 for amount in amounts))  # integers

"""Whether a recording of history is whole: one fold over its pages, a window at a time.

    Page, Page, … ──► verify ──► Verdict: how many rows, what is wrong, what the venue has not

The trades of a minute have to make its candle exactly, as the indexer makes it from the same trades
in the order of the chain. From a market's first trade on it makes a candle of each minute, of one
without trades from the close before; only where no block came for a minute is there none. Funding
takes effect once an hour. Nothing is read or printed here.

Source: v4-chain, indexer/services/ender/src/lib/candles-generator.ts.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import groupby, pairwise
from typing import Any, Final

import msgspec
from dydx_conn import History

from bot.archive.rows import HOUR_NS, MINUTE_NS, Candle, Hour, Page, Trade, up_to_ms

# What may be found of a market, in words that stand behind how many.
FINDINGS: Final[Mapping[str, str]] = {
    "missing": "minutes without a candle",
    "differs": "minutes whose trades do not make their candle",
    "uneven": "minutes without trades whose candle is not the close before",
    "unpaid": "hours without a funding rate",
    "twice": "rows that came twice",
    "shuffled": "rows or pages that are not in order",
    "outside": "rows that were not requested",
    "misdated": "trades whose time is not that of their block",
    "unreadable": "rows that cannot be read",
    "strange": "rows of another market",
    "cut": "lists that end before their window begins",
}
# And what is as it is: no fault of the recording.
ABSENCES: Final[Mapping[str, str]] = {
    "younger": "minutes before the first candle, of which the venue has none",
    "unkept": "trades that candles count and the venue has no more",
    "unrated": "hours before the first funding rate, of which the venue has none",
    "still": "minutes without a candle of any market (no block came, or they are lost)",
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """How many of something were found in a span of a market, or more; `first` is one of them."""

    what: str
    ticker: str
    since_ns: int
    until_ns: int
    count: int
    first: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording holds, by kind, and what is found: findings are faults, absences are not.

    `damage` is what of its file cannot be read, and that its end is missing.
    """

    rows: dict[str, int]
    pages: int
    findings: tuple[Finding, ...]
    absences: tuple[Finding, ...]
    damage: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Return whether nothing is wrong with it."""
        return not (self.findings or self.damage)


def verify(history: History, pages: Iterable[Page]) -> Verdict:
    """Fold the pages of a recording; those of a window come together, windows in order."""
    fold = _Fold(history)
    for window_ns, of_window in groupby(pages, lambda page: page.window_ns):
        fold.take(window_ns, [*of_window])
    return fold.verdict()


def is_walked(history: History, pages: Sequence[Page]) -> bool:
    """Return whether the pages of a window are all that belong to it, as far as they can show."""
    since = pages[0].window_ns
    until = min(since + history.window_s * 1_000_000_000, history.until_ns)
    return all(
        _is_walked([page for page in pages if (page.kind, page.ticker) == (kind, ticker)],
                   since, until)
        for kind in history.kinds for ticker in history.markets
    )  # fmt: skip


class _Fold:
    """What is known of all windows so far."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._noted: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        self._markets = {ticker: _Market() for ticker in history.markets}
        self._next_ns = history.since_ns
        self._counts = dict.fromkeys(history.kinds, 0)
        self._pages = 0

    def take(self, window_ns: int, pages: Sequence[Page]) -> None:
        """Settle a window, and those before it that have no page."""
        step = self._history.window_s * 1_000_000_000
        of_grid = (window_ns - self._history.since_ns) % step == 0
        if not (of_grid and self._next_ns <= window_ns < self._history.until_ns):
            self._pages += len(pages)
            for page in pages:
                self._note("shuffled", page.ticker, window_ns, window_ns, len(page.rows) or 1)
            return
        while self._next_ns < window_ns:
            self._settle([])
        self._settle(pages)

    def verdict(self) -> Verdict:
        """Return what was found; windows that are lost at the end have no page."""
        while self._next_ns < self._history.until_ns:
            self._settle([])
        noted = [each for of_kind in self._noted.values() for each in of_kind]
        noted.sort(key=lambda each: (each.since_ns, each.ticker))
        return Verdict(
            rows=self._counts,
            pages=self._pages,
            findings=tuple(each for each in noted if each.what in FINDINGS),
            absences=tuple(each for each in noted if each.what in ABSENCES),
        )

    def _settle(self, pages: Sequence[Page]) -> None:
        since = self._next_ns
        self._next_ns = since + self._history.window_s * 1_000_000_000
        until = min(self._next_ns, self._history.until_ns)
        self._pages += len(pages)
        gaps: list[set[int]] = []
        for ticker, market in self._markets.items():
            rows = {}
            for kind in self._history.kinds:
                of_kind = [page for page in pages if (page.kind, page.ticker) == (kind, ticker)]
                self._note_all(ticker, _faults(of_kind, since, until))
                rows[kind] = _within(of_kind, since, until)
                self._counts[kind] += len(rows[kind])
            if "funding" in rows:
                self._note_all(ticker, _unpaid(market, rows["funding"], since, until))
            if "candles" in rows:
                found, missing = _minutes(market, rows, since, until)
                self._note_all(ticker, found)
                gaps.append(missing)
        for page in pages:
            if page.ticker not in self._markets or page.kind not in self._history.kinds:
                self._note("outside", page.ticker, since, until, len(page.rows) or 1)
        self._note_gaps(gaps)

    def _note_gaps(self, gaps: Sequence[set[int]]) -> None:
        # Of one market alone nobody can say that no block came.
        still = set.intersection(*gaps) if len(gaps) > 1 else set()
        for minute in sorted(still):
            self._note("still", "", minute, minute + MINUTE_NS)
        for ticker, missing in zip(self._markets, gaps, strict=False):
            for minute in sorted(missing - still):
                self._note("missing", ticker, minute, minute + MINUTE_NS)

    def _note_all(self, ticker: str, found: Iterable["_Fault"]) -> None:
        for what, since, until, count, first in found:
            self._note(what, ticker, since, until, count, first)

    def _note(
        self, what: str, ticker: str, since: int, until: int, count: int = 1, first: str = ""
    ) -> None:
        spans = self._noted[what, ticker]
        if spans and spans[-1].until_ns >= since:  # what touches is one
            last = spans.pop()
            since, count, first = last.since_ns, last.count + count, last.first or first
            until = max(until, last.until_ns)
        spans.append(Finding(what=what, ticker=ticker, since_ns=since, until_ns=until,
                             count=count, first=first))  # fmt: skip


class _Market(msgspec.Struct):
    # What the minutes before say of the next one.
    begun: bool = False  # whether a candle has been seen
    close: Decimal | None = None  # of the candle before; None where there is none
    traded: bool = False  # whether a trade has been seen
    paid: bool = False


_Fault = tuple[str, int, int, int, str]


# === Pages ===
# What is wrong with the pages of one kind, market and window, whatever their rows come to.


def _faults(pages: Sequence[Page], since: int, until: int) -> Iterator[_Fault]:
    seen: dict[Any, Any] = {}
    for page in pages:
        for what, count in (("unreadable", page.odd), ("strange", page.strange)):
            if count:
                yield what, since, until, count, ""
        keys = [_order(row) for row in page.rows]
        wrong = sum(later > earlier for earlier, later in pairwise(keys))  # integers
        if page.numbered:  # the oldest first, or the newest
            wrong = min(wrong, sum(later < earlier for earlier, later in pairwise(keys)))
        if wrong:
            yield "shuffled", since, until, wrong, ""
        yield from _repeats(page, seen, since)
        yield from _strays(page)
    if not _is_walked(pages, since, until):
        yield "cut", since, until, 1, ""


def _order(row: Trade | Candle | Hour) -> int:
    # Trades of one block come in no order.
    return row.height if isinstance(row, Trade) and row.height >= 0 else row.at_ns


def _repeats(page: Page, seen: dict[Any, Any], since: int) -> Iterator[_Fault]:
    """Yield rows that came before, but those at the instant where a page goes on from another."""
    here = set()
    for row in page.rows:
        key = row.id if isinstance(row, Trade) else row.at_ns
        again = key in here or (
            key in seen and not page.numbered and up_to_ms(row.at_ns) != page.until_ns
        )
        if again or seen.get(key, row) != row:
            yield "twice", max(row.at_ns, since), row.at_ns, 1, str(key)
        here.add(key)
        seen.setdefault(key, row)


def _strays(page: Page) -> Iterator[_Fault]:
    """Yield rows that are newer than was requested, or at no time that such a row can have."""
    for row in page.rows:
        late = page.until_ns is not None and (
            row.at_ns >= page.until_ns if isinstance(row, Candle) else row.at_ns > page.until_ns
        )
        if late or (isinstance(row, Candle) and row.at_ns % MINUTE_NS):
            yield "outside", row.at_ns, row.at_ns, 1, ""
    for earlier, later in pairwise(sorted(filter(_has_height, page.rows), key=_order)):
        same = _order(earlier) == _order(later)
        if later.at_ns < earlier.at_ns or (same and later.at_ns != earlier.at_ns):
            yield "misdated", later.at_ns, later.at_ns, 1, ""


def _has_height(row: Trade | Candle | Hour) -> bool:
    return isinstance(row, Trade) and row.height >= 0


def _is_walked(pages: Sequence[Page], since: int, until: int) -> bool:
    """Return whether pages lead from the end of a window to its beginning, none left out."""
    if not pages or (pages[0].until_ns is not None and pages[0].until_ns < until):
        return False
    for page, following in pairwise(pages):
        if following.numbered or page.numbered:
            continue
        if page.oldest_ns is None or following.until_ns != up_to_ms(page.oldest_ns):
            return False
    last = pages[-1]
    oldest = last.oldest_ns
    short = len(last.rows) + last.odd + last.strange < last.limit and not last.numbered
    # A candle at the beginning is the first that was requested; of trades there may be more.
    reached = oldest is not None and (oldest <= since if last.kind == "candles" else oldest < since)
    return short or reached


def _within(pages: Sequence[Page], since: int, until: int) -> list[Any]:
    """Return the rows of a window, each once, in the order of the chain."""
    rows: dict[Any, Trade | Candle | Hour] = {}
    for page in pages:
        for row in page.rows:
            if since <= row.at_ns < until:
                rows.setdefault(row.id if isinstance(row, Trade) else row.at_ns, row)
    return sorted(rows.values(), key=_in_chain)


def _in_chain(row: Trade | Candle | Hour) -> tuple[int, str]:
    return row.at_ns, row.id if isinstance(row, Trade) else ""


# === Minutes and hours ===
# What the rows of a window come to: candles that trades make, and an hour's one rate.


def made_of(trades: Sequence[Trade]) -> Candle | None:
    """Make a candle of the trades of a minute, in the order of the chain; None of none."""
    if not trades:
        return None
    prices = [trade.price for trade in trades]
    return Candle(
        trades[0].at_ns // MINUTE_NS * MINUTE_NS, prices[0], max(prices), min(prices), prices[-1],
        sum((trade.size for trade in trades), Decimal(0)),
        sum((trade.price * trade.size for trade in trades), Decimal(0)), len(trades),
    )  # fmt: skip


def _minutes(
    market: _Market, rows: Mapping[str, list[Any]], since: int, until: int
) -> tuple[list[_Fault], set[int]]:
    """Return what is wrong with the minutes of a window, and which of them have no candle."""
    candles = {row.at_ns: row for row in rows["candles"]}
    by_minute: dict[int, list[Trade]] = defaultdict(list)
    for trade in rows.get("trades", ()):
        by_minute[trade.at_ns // MINUTE_NS * MINUTE_NS].append(trade)
    found: list[_Fault] = []
    missing: set[int] = set()
    for minute in range(since, until, MINUTE_NS):
        candle, trades = candles.get(minute), by_minute.get(minute, [])
        market.traded = market.traded or bool(trades)
        if candle is None and not trades:
            if not market.begun:
                found.append(("younger", minute, minute + MINUTE_NS, 1, ""))
            else:
                missing.add(minute)
        else:
            fault = _fault_of(market, candle, trades, with_trades="trades" in rows)
            if fault is not None:
                what, count, first = fault
                found.append((what, minute, minute + MINUTE_NS, count, first))
        market.begun = market.begun or candle is not None
        market.close = None if candle is None else candle.close
    return found, missing


def _fault_of(
    market: _Market, candle: Candle | None, trades: Sequence[Trade], *, with_trades: bool
) -> tuple[str, int, str] | None:
    """Return what is wrong with a minute that has a candle, or trades, or both."""
    if with_trades:
        made = made_of(trades)
        if candle is None or (made is None) != (candle.trades == 0):
            if candle is not None and not market.traded:
                return "unkept", candle.trades, ""
            counted = "no candle" if candle is None else f"a candle of {candle.trades}"
            return "differs", 1, f"{counted}, and {len(trades)} trades"
        if made is not None:
            return None if made == candle else ("differs", 1, _difference(candle, made))
    if candle is None or candle.trades:
        return None
    flat = candle.open == candle.high == candle.low == candle.close
    if flat and candle.base == candle.usd == 0 and market.close in (None, candle.close):
        return None
    return "uneven", 1, ""


def _difference(candle: Candle, made: Candle) -> str:
    for name in candle.__struct_fields__:
        theirs, ours = getattr(candle, name), getattr(made, name)
        if theirs != ours:
            return f"its {name} is {theirs}, that of the trades {ours}"
    return ""


def _unpaid(market: _Market, hours: Sequence[Hour], since: int, until: int) -> Iterator[_Fault]:
    """Yield hours that begin in a window and have no rate, or two."""
    rates: dict[int, int] = defaultdict(int)
    for row in hours:
        rates[row.at_ns // HOUR_NS * HOUR_NS] += 1
    first = -(-since // HOUR_NS) * HOUR_NS
    for hour in range(first, until, HOUR_NS):
        if rates[hour] > 1:
            yield "twice", hour, hour + HOUR_NS, rates[hour] - 1, ""
        # The first block of an hour may come a little after it.
        elif not rates[hour] and hour + MINUTE_NS <= until:
            yield "unpaid" if market.paid else "unrated", hour, hour + HOUR_NS, 1, ""
        market.paid = market.paid or bool(rates[hour])

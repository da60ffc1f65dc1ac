"""Captures of order books and trades as the frames of a link, as the venue would have sent them.

    tardis.dev: incremental_book_L2, trades, derivative_ticker (CSV) ─┐
    cryptofeed: books with deltas, trades (JSON lines) ───────────────┼─► events, merged ─► frames
    tardis.dev: raw messages (a time and a message a line) ───────────┘

Of raw messages each text stays as it was. Of the others the link is made up: it opens, describes
the markets with the parameters at hand, and has a block a second. Where no file has oracle prices
they are reckoned from the middle of the book, and the report has it.

Sources: docs.tardis.dev, downloadable CSV files; cryptofeed, backends.
"""

import heapq
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count, groupby, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from dydx_conn import ConnError, Frame, Header, WireWriter, number

from bot.archive.import_files import columns_in, kind_of, lines_of, rows_of
from bot.archive.import_rows import ABSURD, SECOND_NS, Clock, Tally, UnfitError, stamp

TRADES: Final = "trades"
_SORTED: Final = 4_096  # messages within which what came late is put right
_JUMP_NS: Final = 60 * SECOND_NS  # no block is made up in a silence longer than this
_SILENCE_NS: Final = 600 * SECOND_NS
_MOVED: Final = 0.001  # the chain takes an oracle price where it has moved by so much
_ABNORMAL: Final = "1006"  # of a link that was lost without a word
_LOOKED_AT: Final = 2_000  # lines in which a capture that has markets shows them
_OF_THE_DAY: Final = frozenset([
    "oraclePrice", "price", "nextFundingRate", "openInterest", "baseOpenInterest",
    "priceChange24H", "volume24H", "trades24H",
])  # fmt: skip
_RAW: Final = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+Z) (\{.*)")

Levels = dict[str, list[tuple[str, str]]]
"""By bids and asks: prices and sizes."""


class _Event(NamedTuple):
    # What a capture has at one time; `order` is that within all, so that no two compare equal.
    at_ns: int
    order: int
    kind: str
    ticker: str
    what: Any


def capture_of(path: Path) -> str:
    """Return of what a file is a capture; "" of a table, "trades" of what can be both."""
    kind = kind_of(path)
    if kind == "json":
        line = next((line for _, line in lines_of(path, Tally()) if line.strip()), "")
        if _RAW.match(line):
            return "raw"
        names = set(_object(line) or ())
        if {"book", "delta"} & names:
            return "feed"
        return TRADES if {"receipt_timestamp", "side", "price"} <= names else ""
    names = set(columns_in(path))
    if {"local_timestamp", "is_snapshot", "side", "price", "amount"} <= names:
        return "book"
    if {"local_timestamp", "index_price", "symbol"} <= names:
        return "ticker"
    return TRADES if {"local_timestamp", "side", "price", "amount"} <= names else ""


def header_of_captures(files: Iterable[Path], now_ns: int) -> Header:
    """Describe a recording of captures that were imported now."""
    names = ", ".join(file.name for file in files)
    return Header(
        network="mainnet", rest="", ws="", client="bot import",
        source=f"imported from {names}, not received from the venue", ns=now_ns,
    )  # fmt: skip


class Captures:
    """Captures that belong together: `frames` is their one link, `tallies` what was noticed."""

    def __init__(
        self,
        files: Mapping[Path, str],
        markets: Mapping[str, Any],
        tallies: Mapping[Path, Tally],
        *,
        ticker: str,
        now_ns: int,
    ) -> None:
        self._files, self._markets, self._tallies = files, markets, tallies
        self._ticker, self._now_ns = ticker, now_ns
        self._order = count()

    def frames(self) -> Iterator[Frame]:
        """Yield the frames, by when each arrived."""
        merged = heapq.merge(*(self._ordered(file) for file in self._files))
        kinds = set(self._files.values())
        if "raw" not in kinds:
            link = _Link(self._markets, reckons="ticker" not in kinds)
            yield from link.play(merged, next(iter(self._tallies.values())))
            return
        if kinds != {"raw"}:
            raise UnfitError("expected raw messages alone, or none, got both")
        described = any(self._has_markets(file) for file in self._files)
        yield from _raw(merged, None if described else self._markets)

    def _has_markets(self, file: Path) -> bool:
        lines = islice(lines_of(file, Tally()), _LOOKED_AT)
        return any('"v4_markets"' in line for _, line in lines)

    def _ordered(self, file: Path) -> Iterator[_Event]:
        """Yield the events of a file by their times, as far as those that are late are near."""
        tally, waiting, last, read = self._tallies[file], list[_Event](), 0, 0
        for event in _READERS[self._files[file]](self, file, tally):
            if event.at_ns < read:
                tally.add("messages that stood later than their time: sorted", stamp(event.at_ns))
            read = max(read, event.at_ns)
            heapq.heappush(waiting, event)
            if len(waiting) > _SORTED:
                event = heapq.heappop(waiting)
                last = max(last, event.at_ns)
                yield event._replace(at_ns=last)
        while waiting:
            event = heapq.heappop(waiting)
            last = max(last, event.at_ns)
            yield event._replace(at_ns=last)

    def _event(self, at_ns: int, kind: str, ticker: str, what: Any) -> _Event:
        return _Event(at_ns, next(self._order), kind, ticker, what)

    def _ticker_of(self, exchange: str | None, symbol: str | None, tally: Tally, at: str) -> str:
        if exchange and "dydx" not in exchange.lower():
            what = f"expected a capture of dYdX, got one of {exchange[:40]!r} at {at}"
            raise UnfitError(f"{what}: prices of another venue are no past of this one")
        ticker = (symbol or "").upper().removesuffix("-PERP")
        if self._ticker and ticker != self._ticker:
            tally.add("rows of other markets: not wanted")
        elif ticker in self._markets:
            return ticker
        else:
            tally.add("rows of markets whose parameters are not known (--markets)", ticker or at)
        return ""

    # --- tardis.dev ---

    def books(self, file: Path, tally: Tally) -> Iterator[_Event]:
        """Read incremental_book_L2: rows with one arrival are one message."""
        rows = self._rows(file, tally, lambda _, row: row)

        def message(found: tuple[int, str, Mapping[str, str | None]]) -> tuple[int, str, bool]:
            at, ticker, row = found
            return at, ticker, (row["is_snapshot"] or "").lower() in ("true", "1")

        for (at, ticker, is_snapshot), group in groupby(rows, message):
            levels: Levels = {"bids": [], "asks": []}
            for _, _, row in group:
                try:
                    side = _SIDES[(row["side"] or "").lower()]
                    levels[side].append(_level(row["price"], row["amount"]))
                except (KeyError, ValueError, ConnError):
                    tally.add("levels that cannot be read", stamp(at))
            yield self._event(at, "snapshot" if is_snapshot else "levels", ticker, levels)

    def trades(self, file: Path, tally: Tally) -> Iterator[_Event]:
        """Read trades of either, each a message."""
        clock = Clock(now_ns=self._now_ns)

        def trade(at: int, row: Mapping[str, str | None]) -> dict[str, str]:
            side = (row["side"] or "").upper()
            price, size = _level(row["price"], row["amount"])
            if side not in ("BUY", "SELL") or size == "0":
                raise ValueError("rows that are no trade")
            made = row.get("timestamp")
            created = clock.read(made) if made else at
            named = {"id": row["id"] or ""} if row.get("id") else {}
            return {"side": side, "size": size, "price": price, "createdAt": stamp(created)} | named

        seen = set[str]()
        for at, ticker, fields in self._rows(file, tally, trade):
            if fields.get("id") in seen:
                tally.add("rows that came twice: taken once", stamp(at))
                continue
            seen |= {fields["id"]} if "id" in fields else set()
            yield self._event(at, "trade", ticker, fields)

    def tickers(self, file: Path, tally: Tally) -> Iterator[_Event]:
        """Read derivative_ticker: its index price is the oracle's."""
        rows = self._rows(file, tally, lambda _, row: row)
        last: dict[str, tuple[str | None, str | None]] = {}
        for at, ticker, row in rows:
            price, rate = row["index_price"] or row.get("mark_price"), row.get("funding_rate")
            try:
                price = _level(price, "0")[0] if price else ""
                rate = f"{number(rate):f}" if rate else ""
            except (ValueError, ConnError):
                tally.add("prices that cannot be read", stamp(at))
                continue
            if last.get(ticker) != (price, rate):
                last[ticker] = (price, rate)
                yield self._event(at, "oracle", ticker, (price, rate))

    def _rows(
        self, file: Path, tally: Tally, make: Callable[[int, Mapping[str, str | None]], Any]
    ) -> Iterator[tuple[int, str, Any]]:
        """Yield what is made of each row that can be read: when it arrived, its market, and it."""
        clock = Clock(now_ns=self._now_ns)
        for place, row in rows_of(file, tally):
            ticker = self._ticker_of(row.get("exchange"), row.get("symbol"), tally, place)
            if not ticker:
                continue
            try:
                text = row.get("local_timestamp") or row.get("receipt_timestamp")
                at = clock.read(text or row.get("timestamp") or "")
                yield at, ticker, make(at, row)
            except ValueError as error:
                tally.add(str(error)[:100], place)
            except UnfitError:
                raise
            except ConnError:
                tally.add("rows whose numbers cannot be read", place)

    # --- cryptofeed ---

    def feed(self, file: Path, tally: Tally) -> Iterator[_Event]:
        """Read books with their deltas, a line each."""
        clock = Clock(now_ns=self._now_ns)
        for place, line in lines_of(file, tally):
            row = _object(line)
            if row is None:
                tally.add("lines that are no JSON object", place)
                continue
            named = (str(row.get("exchange", "")), str(row.get("symbol", "")))
            ticker = self._ticker_of(*named, tally, place)
            try:
                at = clock.read(str(row.get("receipt_timestamp") or row.get("timestamp") or ""))
                delta = row.get("delta")
                sides = delta if isinstance(delta, dict) else row["book"]
                levels = {f"{side}s": _levels(sides[side]) for side in ("bid", "ask")}
            except (ValueError, KeyError, TypeError, ConnError):
                tally.add("lines that cannot be read", place)
                continue
            if ticker:
                kind = "levels" if sides is delta else "snapshot"
                yield self._event(at, kind, ticker, levels)

    # --- raw messages ---

    def raw(self, file: Path, tally: Tally) -> Iterator[_Event]:
        """Read raw messages: an empty line is where the connection was lost."""
        clock, at = Clock(now_ns=self._now_ns), 0
        for place, line in lines_of(file, tally):
            found = _RAW.match(line)
            if found is None and line.strip():
                tally.add("lines without a time and a message", place)
            elif found is None and at:
                yield self._event(at, "close", "", "")
            elif found is not None and self._is_message(found[2], tally, place):
                try:
                    at = clock.read(found[1])
                except ValueError as error:
                    tally.add(str(error)[:100], place)
                    continue
                yield self._event(at, "raw", "", found[2])

    @staticmethod
    def _is_message(text: str, tally: Tally, place: str) -> bool:
        head = _object(text)
        if head is None:
            tally.add("messages that are no JSON object", place)
            return False
        channel = head.get("channel", "v4_")
        if "type" not in head or not str(channel).startswith("v4_"):
            raise UnfitError(f"expected messages of dYdX v4, got {text[:80]} at {place}")
        return True


_READERS: Final[dict[str, Callable[[Captures, Path, Tally], Iterator[_Event]]]] = {
    "book": Captures.books,
    "trades": Captures.trades,
    "ticker": Captures.tickers,
    "feed": Captures.feed,
    "raw": Captures.raw,
}
_SIDES: Final = {"bid": "bids", "ask": "asks", "buy": "bids", "sell": "asks"}


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(line.encode(), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    return found


def _levels(side: Any) -> list[tuple[str, str]]:
    pairs = side.items() if isinstance(side, dict) else side
    return [_level(str(price), str(size)) for price, size in pairs]


def _level(price: str | None, size: str | None) -> tuple[str, str]:
    """Return a level's texts without exponents; `ValueError` if it can be none."""
    at, total = number(price or ""), number(size or "")
    if at <= 0 or total < 0:
        raise ValueError("rows with a price or size below 0")
    return f"{at.normalize():f}", f"{total.normalize():f}"


def _raw(events: Iterable[_Event], markets: Mapping[str, Any] | None) -> Iterator[Frame]:
    """Yield raw messages as they came; with `markets` a link beside them describes these."""
    writer, number = WireWriter("c1"), 1
    is_open = False
    for event in events:
        writer.mono += event.at_ns - writer.at if writer.seq else 0
        writer.at = event.at_ns
        if markets is not None:
            writer.link = "import"
            yield writer.event("open", "bot import")
            yield writer.message("connected")
            yield writer.markets(*map(_lasting, markets.values()))
            markets, writer.link = None, "c1"
        if not is_open and event.kind == "raw":
            writer.link, is_open = f"c{number}", True
            yield writer.event("open", "a capture")
        if event.kind == "raw":
            yield writer.raw(event.what)
        elif is_open:
            is_open, number = False, number + 1
            yield writer.event("close", "the capture has a gap here", type=_ABNORMAL)


def _lasting(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a market's description without what changes by the day."""
    usual = fields.get("defaultFundingRate1H") or "0"
    lasting = {name: value for name, value in fields.items() if name not in _OF_THE_DAY}
    return lasting | {"nextFundingRate": usual}


# === The link ===


class _Link:
    """The link that is made up of events: where its blocks, books and oracle prices stand."""

    def __init__(self, markets: Mapping[str, Any], *, reckons: bool) -> None:
        self._markets, self._reckons = markets, reckons
        self._writer = WireWriter("c1")
        self._books: dict[str, dict[str, dict[str, float]]] = {}
        self._oracle: dict[str, float] = {}
        self._block_ns = 0

    def play(self, events: Iterable[_Event], tally: Tally) -> Iterator[Frame]:
        """Yield a frame for each event that can be played, and the blocks between."""
        for event in events:
            if self._block_ns and event.at_ns - self._writer.at > _SILENCE_NS:
                tally.add("silences of ten minutes and more, which may be gaps",
                          stamp(self._writer.at))  # fmt: skip
            yield from self._move(event.at_ns)
            yield from self._frame(event, tally)
        if self._reckons and self._oracle:
            tally.add(_RECKONED)

    def _move(self, at_ns: int) -> Iterator[Frame]:
        """Let time pass until an event, with a block a second."""
        writer = self._writer
        if not self._block_ns:
            writer.at = self._block_ns = at_ns
            writer.height = 1
            yield writer.event("open", "bot import")
            yield writer.message("connected")
            yield writer.markets(*map(_lasting, self._markets.values()))
            yield writer.block(1, snapshot=True)
            return
        if at_ns - self._block_ns > _JUMP_NS:
            writer.height += (at_ns - self._block_ns) // SECOND_NS - 1
            self._block_ns = at_ns - SECOND_NS
        while self._block_ns + SECOND_NS <= at_ns:
            self._block_ns += SECOND_NS
            self._stamp(self._block_ns)
            yield writer.block()
            yield from self._oracles()
        self._stamp(at_ns)

    def _stamp(self, at_ns: int) -> None:
        self._writer.mono += at_ns - self._writer.at
        self._writer.at = at_ns

    def _oracles(self) -> Iterator[Frame]:
        for ticker, book in self._books.items() if self._reckons else ():
            if not (book["bids"] and book["asks"]):
                continue
            middle = (max(map(float, book["bids"])) + min(map(float, book["asks"]))) / 2
            if abs(middle / self._oracle.get(ticker, 1e-99) - 1) >= _MOVED:
                self._oracle[ticker] = middle
                yield self._writer.oracle(ticker, float(f"{middle:.9g}"))

    def _frame(self, event: _Event, tally: Tally) -> Iterator[Frame]:
        ticker, what = event.ticker, event.what
        if event.kind == "trade":
            yield self._writer.trades(ticker, what)
        elif event.kind == "oracle":
            price, rate = what
            if price:
                yield self._writer.oracle(ticker, price)
            if rate:
                yield self._writer.trading(ticker, nextFundingRate=rate)
        elif event.kind == "snapshot":
            self._books[ticker] = {"bids": {}, "asks": {}}
            yield self._writer.book(ticker, **self._taken(ticker, what, tally, event.at_ns))
            yield from self._oracles()
        elif ticker not in self._books:
            tally.add("changes of a book before its first snapshot", stamp(event.at_ns))
        else:
            changed = self._taken(ticker, what, tally, event.at_ns)
            if any(changed.values()):
                yield self._writer.levels(ticker, **changed)

    def _taken(self, ticker: str, levels: Levels, tally: Tally, at_ns: int) -> dict[str, Any]:
        """Put levels into the book as it stands, those that cannot be left out."""
        book, taken = self._books[ticker], dict[str, Any]()
        about = self._oracle.get(ticker)
        for side, changes in levels.items():
            fit = taken[side] = []
            for price, size in changes:
                if about and size != "0" and not about / ABSURD < float(price) < about * ABSURD:
                    tally.add("levels whose price is far from the oracle's", stamp(at_ns))
                    continue
                fit.append((price, size))
                if size == "0":
                    book[side].pop(price, None)
                else:
                    book[side][price] = float(size)
        return taken


_RECKONED: Final = "capture without oracle prices: reckoned from the middle of its books"

"""Trades and candles of files as a recording of history: pages like the venue's, window by window.

    Trade, Candle ──► rows in the indexer's names ──► http frames: once the markets, then windows

It plays as a fetched one does. Where it is from stands in its header, and ids of trades count up
from 1 within a market, as no id of the venue does.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from dydx_conn import CANDLE_S, Frame, Header, History

from bot.archive.import_rows import SECOND_NS, Row, stamp

_WINDOW_S: Final = 6 * 3600
_MS_NS: Final = 1_000_000
_LIMIT: Final = 1_000
# A full page could be one that was cut off: these are never full.
_PAGE: Final = _LIMIT - 1


class Table(msgspec.Struct, frozen=True):
    """The rows of one kind of one market, in order; `resolution` is of candles."""

    ticker: str
    kind: str
    rows: Sequence[Row]
    resolution: str = ""


def header_of(tables: Sequence[Table], origin: str, now_ns: int) -> Header:
    """Describe a recording of tables that were imported now, from an origin."""
    minute = 60 * SECOND_NS
    since = min(table.rows[0].at_ns for table in tables) // minute * minute
    until = max(_end(table) for table in tables)
    history = History(
        markets=tuple(sorted({table.ticker for table in tables})),
        kinds=tuple(sorted({table.kind for table in tables}, reverse=True)),
        since_ns=since,
        until_ns=-(-until // minute) * minute,
        window_s=_WINDOW_S,
        origin=origin,
    )
    return Header(
        network="mainnet", rest="", ws="", client="bot import",
        source=f"imported from {origin}, not fetched from the venue", history=history, ns=now_ns,
    )  # fmt: skip


def _end(table: Table) -> int:
    last = table.rows[-1].at_ns
    return last + CANDLE_S[table.resolution] * SECOND_NS if table.resolution else last + 1


def frames_of(
    tables: Sequence[Table], markets: Mapping[str, Any], header: Header
) -> Iterator[Frame]:
    """Yield the frames of a recording: the parameters of its markets, then all pages in order."""
    history = header.history
    if history is None:
        return
    described = {ticker: markets[ticker] for ticker in history.markets}
    yield _page("/v4/perpetualMarkets", {"markets": described}, "", header.ns)
    step = history.window_s * SECOND_NS
    for window in range(history.since_ns, history.until_ns, step):
        for table in tables:
            yield from _window(table, window, min(window + step, history.until_ns), header.ns)


def _window(table: Table, since: int, until: int, now_ns: int) -> Iterator[Frame]:
    """Yield a window's pages, the newest first: each asks for what is older than the one before."""
    first, last = (bisect_left(table.rows, at, key=lambda row: row.at_ns) for at in (since, until))
    path, part, row_of = _PARTS[table.kind]
    query = f"limit={_LIMIT}&createdBeforeOrAt="
    if table.resolution:
        query = f"resolution={table.resolution}&limit={_LIMIT}&toISO="
    bound = until
    for end in range(last, first, -_PAGE) or [first]:
        numbers = range(end - 1, max(first, end - _PAGE) - 1, -1)
        body = {part: [row_of(table, n) for n in numbers]}
        channel = f"{path}{table.ticker}?{query}{stamp(bound)}"
        yield _page(channel, body, stamp(since), now_ns)
        if numbers:
            bound = -(-table.rows[numbers[-1]].at_ns // _MS_NS) * _MS_NS


def _trade(table: Table, n: int) -> dict[str, Any]:
    row: Any = table.rows[n]
    return {
        "id": f"{n + 1:012d}", "side": row.side, "size": row.size, "price": row.price,
        "type": "LIMIT", "createdAt": stamp(row.at_ns),
    }  # fmt: skip


def _candle(table: Table, n: int) -> dict[str, Any]:
    row: Any = table.rows[n]
    traded = int(Decimal(row.size) > 0)
    return {
        "startedAt": stamp(row.at_ns), "ticker": table.ticker, "resolution": table.resolution,
        "low": row.low, "high": row.high, "open": row.open, "close": row.close,
        "baseTokenVolume": row.size,
        "usdVolume": row.usd or f"{Decimal(row.size) * Decimal(row.close):f}",
        "trades": traded if row.trades is None else row.trades, "startingOpenInterest": "0",
    }  # fmt: skip


_PARTS: Final = {
    "trades": ("/v4/trades/perpetualMarket/", "trades", _trade),
    "candles": ("/v4/candles/perpetualMarkets/", "candles", _candle),
}


def _page(path: str, body: Any, window: str, now_ns: int) -> Frame:
    text = msgspec.json.encode(body).decode()
    return Frame(0, now_ns, now_ns, "rest", "http", text, type="200", channel=path, id=window)

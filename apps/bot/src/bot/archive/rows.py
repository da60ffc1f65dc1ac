"""The pages of a recording of history as rows: what each was requested for, and what it holds.

    an `http` frame ──► page_of ──► Page: trades, candles or hours of funding, as they came

A row that cannot be read is counted and left out; nothing is sorted, and none is thrown away.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import msgspec
from dydx_conn import ConnError, Frame, instant, number

from bot.times import iso

MINUTE_NS: Final = 60_000_000_000
HOUR_NS: Final = 60 * MINUTE_NS
MOST_ROWS: Final = 1_000  # of a page, as the venue allows

_MS_NS: Final = 1_000_000

KINDS: Final = ("trades", "candles", "funding")


class Trade(msgspec.Struct, frozen=True, gc=False):
    """A trade of a page: `height` and the order in its block are parts of its id, -1 if of none."""

    id: str
    at_ns: int
    price: Decimal
    size: Decimal
    side: str
    height: int


class Candle(msgspec.Struct, frozen=True, gc=False):
    """A candle of a minute."""

    at_ns: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    base: Decimal
    usd: Decimal
    trades: int


class Hour(msgspec.Struct, frozen=True, gc=False):
    """A funding rate, and when it took effect: with the first block of its hour."""

    at_ns: int
    rate: Decimal


Row = Trade | Candle | Hour


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What one request brought: rows as they came, the newest first.

    `window_ns` is the beginning of its window, `until_ns` the bound that was requested, None if
    none was; `limit` how many rows may have come. `numbered` pages are the oldest first. `odd`
    rows cannot be read, `strange` ones are of another market or resolution.
    """

    kind: str
    ticker: str
    window_ns: int
    until_ns: int | None = None
    limit: int = MOST_ROWS
    numbered: bool = False
    rows: tuple[Row, ...] = ()
    odd: int = 0
    strange: int = 0

    @property
    def oldest_ns(self) -> int | None:
        """Return the time of its oldest row; None where there is none."""
        return min((row.at_ns for row in self.rows), default=None)


class _Trade(msgspec.Struct, rename="camel", gc=False):
    id: str
    side: str
    size: str
    price: str
    created_at: str


class _Candle(msgspec.Struct, rename="camel", gc=False):
    started_at: str
    open: str
    high: str
    low: str
    close: str
    base_token_volume: str
    usd_volume: str
    trades: int
    ticker: str = ""
    resolution: str = ""


class _Hour(msgspec.Struct, rename="camel", gc=False):
    effective_at: str
    rate: str
    price: str
    ticker: str = ""


def _trade(raw: _Trade) -> Trade:
    height = int(raw.id[:8], 16) if re.fullmatch("[0-9a-f]{24}", raw.id) else -1
    price, size = _above_0(raw.price), _above_0(raw.size)
    return Trade(raw.id, instant(raw.created_at), price, size, raw.side, height)


def _candle(raw: _Candle) -> Candle:
    at_ns, base, usd = (
        instant(raw.started_at),
        number(raw.base_token_volume),
        number(raw.usd_volume),
    )
    first, high, low, last = map(_above_0, (raw.open, raw.high, raw.low, raw.close))
    return Candle(at_ns, first, high, low, last, base, usd, raw.trades)


def _hour(raw: _Hour) -> Hour:
    _above_0(raw.price)
    return Hour(instant(raw.effective_at), number(raw.rate))


def _above_0(text: str) -> Decimal:
    if (value := number(text)) <= 0:
        raise ValueError(f"expected a number above 0, got {text}")
    return value


class _Kind(msgspec.Struct, frozen=True, kw_only=True):
    # How the pages of one kind are requested and read.
    path: str
    part: str  # of the answer
    bound: str
    shape: Any
    row: Callable[[Any], Row]

    def rows(self, text: str) -> list[Any] | None:
        # All at once where they can be read, and one by one where some cannot.
        for shape in (self.shape, msgspec.Raw):
            with suppress(msgspec.DecodeError, RecursionError, UnicodeError):
                rows: list[Any] = _decoder(self.part, shape).decode(text).rows
                return rows
        return None


@lru_cache
def _decoder(part: str, shape: Any) -> Any:
    fields = [("rows", list.__class_getitem__(shape), msgspec.field(name=part))]
    return msgspec.json.Decoder(msgspec.defstruct("Answer", fields))


_KINDS: Final[Mapping[str, _Kind]] = {
    "trades": _Kind(
        path="/v4/trades/perpetualMarket/", part="trades", bound="createdBeforeOrAt",
        shape=_Trade, row=_trade,
    ),
    "candles": _Kind(
        path="/v4/candles/perpetualMarkets/", part="candles", bound="toISO",
        shape=_Candle, row=_candle,
    ),
    "funding": _Kind(
        path="/v4/historicalFunding/", part="historicalFunding", bound="effectiveBeforeOrAt",
        shape=_Hour, row=_hour,
    ),
}  # fmt: skip


def page_of(frame: Frame) -> Page | None:
    """Read a page; None of a frame that is none, such as the parameters of markets.

    An answer that is no list of its kind is a page with one odd row.
    """
    path, _, query = frame.channel.partition("?")
    name = next((name for name, kind in _KINDS.items() if path.startswith(kind.path)), None)
    if frame.kind != "http" or name is None or not frame.id:
        return None
    kind, given = _KINDS[name], {key: values[-1] for key, values in parse_qs(query).items()}
    ticker = unquote(path.removeprefix(kind.path))
    raws = kind.rows(frame.text) if frame.ok else None
    rows, odd, strange = [], int(raws is None), 0
    for raw in raws or ():
        try:
            read = msgspec.json.decode(raw, type=kind.shape) if type(raw) is msgspec.Raw else raw
            if _is_strange(read, ticker):
                strange += 1
            else:
                rows.append(kind.row(read))
        except (ConnError, ValueError, RecursionError):
            odd += 1
    limit = given.get("limit", "")
    return Page(
        kind=name,
        ticker=ticker,
        window_ns=_instant(frame.id) or 0,
        until_ns=_instant(given.get(kind.bound, "")),
        limit=int(limit) if limit.isdecimal() else MOST_ROWS,
        numbered="page" in given,
        rows=tuple(rows),
        odd=odd,
        strange=strange,
    )


def _is_strange(raw: Any, ticker: str) -> bool:
    if isinstance(raw, _Candle) and raw.resolution not in ("", "1MIN"):
        return True
    return getattr(raw, "ticker", "") not in ("", ticker)


def _instant(text: str) -> int | None:
    with suppress(ValueError):
        return instant(text)
    return None


def stamp(at_ns: int) -> str:
    """Return a time as the venue writes it: to the millisecond, with the zone."""
    return f"{iso(at_ns)[:-4]}Z"


def up_to_ms(at_ns: int) -> int:
    """Return the millisecond at a time or after it: the bound of a list that has what is there."""
    return -(-at_ns // _MS_NS) * _MS_NS

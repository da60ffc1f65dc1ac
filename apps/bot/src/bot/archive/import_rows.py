"""Rows of anybody's table as trades and candles: read one by one, or refused.

    names of columns ──► Columns ──► Reader: each row ──► Trade | Candle | a refusal, counted
    rows ──► in_order ──► sorted, each once, none far from its neighbours

Which column is which is typed, or guessed by common names. Times are numbers of s, ms, us or ns,
or ISO; of the one the unit is guessed by its size, of the other a zone has to be known. Sizes are
in base units, times of candles are those of their beginning, all texts of numbers stay as they are.
Nothing is opened or printed here.
"""

import re
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Final, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from dydx_conn import CANDLE_S, ConnError, instant, number

SECOND_NS: Final = 1_000_000_000
_SHOWN: Final = 3  # places that are named of each kind of trouble
# What a file can be of: no exchange of this kind is older, and what is to come is a wrong zone.
_OLDEST_NS: Final = instant("2010-01-01T00:00:00Z")
_SPARE_NS: Final = 60 * SECOND_NS
# A price this many times that of its neighbours is a mistake; of candles too.
ABSURD: Final = 5.0
_NEIGHBOURS: Final = 5  # on each side
# Where nothing happens for so long something may be missing.
SILENCE_NS: Final = 3_600 * SECOND_NS
_SILENT: Final = "silences of an hour and more, which may be gaps"
UNITS: Final[Mapping[str, int]] = {"s": SECOND_NS, "ms": 1_000_000, "us": 1_000, "ns": 1}


class UnfitError(ConnError):
    """A file, or what was typed about it, that cannot be imported: the message says why."""


class Trade(msgspec.Struct, frozen=True, gc=False):
    """A trade of a file; `side` is the taker's, "" where the file has none."""

    at_ns: int
    price: str
    size: str
    side: str = ""
    id: str = ""


class Candle(msgspec.Struct, frozen=True, gc=False):
    """A candle of a file, by its beginning; `usd` is "" and `trades` None where it has none."""

    at_ns: int
    open: str
    high: str
    low: str
    close: str
    size: str
    usd: str = ""
    trades: int | None = None


Row = Trade | Candle
_R = TypeVar("_R", bound=Row)


class Tally:
    """What was refused, changed or noticed of a file: how many, and where first."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.places: dict[str, list[str]] = {}

    def add(self, what: str, place: str = "", count: int = 1) -> None:
        """Count something, at a place such as a line."""
        self.counts[what] += count
        places = self.places.setdefault(what, [])
        if place and len(places) < _SHOWN:
            places.append(place)

    def lines(self) -> list[str]:
        """Return a line for each thing, the most frequent first."""
        found = []
        for what, count in self.counts.most_common():
            places = self.places[what]
            more = ", …" if count > len(places) > 0 else ""
            where = f" ({', '.join(places)}{more})" if places else ""
            found.append(f"{count:,} {what}{where}")
        return found


# === Columns ===

# Names that columns have, by what they hold; the first that a table has counts.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "time": (
        "timestamp", "time", "ts", "datetime", "date", "createdat", "startedat", "opentime",
        "starttime", "exchangetimestamp", "unix", "unixtime", "t",
    ),
    "price": ("price", "px", "tradeprice", "p"),
    "size": ("size", "qty", "quantity", "amount", "basesize", "sz", "volume", "q"),
    "side": ("side", "takerside", "direction", "s"),
    "id": ("id", "tradeid", "tid"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("basetokenvolume", "basevolume", "volume", "vol", "v"),
    "usd": ("usdvolume", "quotevolume", "volumeusd", "quoteassetvolume", "turnover"),
    "trades": ("trades", "tradecount", "numberoftrades", "numtrades", "count", "n"),
    "symbol": ("symbol", "ticker", "market", "instrument", "pair", "productid"),
    "exchange": ("exchange", "venue", "feed"),
    "resolution": ("resolution", "interval", "timeframe"),
}  # fmt: skip
_NEEDED: Final = {
    "candles": ("time", "open", "high", "low", "close", "volume"),
    "trades": ("time", "price", "size"),
}
_OPTIONAL: Final = {
    "candles": ("usd", "trades", "symbol", "exchange", "resolution"),
    "trades": ("side", "id", "symbol", "exchange"),
}


class Columns(msgspec.Struct, frozen=True):
    """Which column holds what: the kind of the table, and the columns' own names by role."""

    kind: str
    of: dict[str, str]


def columns_of(names: Sequence[str], typed: Mapping[str, str]) -> Columns:
    """Choose the columns of a table; `UnfitError` where one that is needed is not found."""
    for role, name in typed.items():
        if role not in _NAMES:
            known = ", ".join(_NAMES)
            raise UnfitError(f"--map: expected one of {known} before =, got {role!r}")
        if name not in names:
            raise UnfitError(f"--map: expected a column of {_listed(names)}, got {name!r}")
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(names)}
    found = {
        role: next((plain[name] for name in known if name in plain), "")
        for role, known in _NAMES.items()
    } | dict(typed)
    kind = "candles" if found["open"] and found["close"] else "trades"
    missing = [role for role in _NEEDED[kind] if not found[role]]
    if missing:
        what = f"expected columns for the {' and '.join(missing)} of {kind}"
        example = ",".join(f"{role}=COLUMN" for role in missing)
        raise UnfitError(f"{what}, got {_listed(names)}: name them by --map {example}")
    roles = (*_NEEDED[kind], *_OPTIONAL[kind])
    return Columns(kind, {role: found[role] for role in roles if found[role]})


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return shown[:200] or "no columns"


# === Times ===


class Clock:
    """Reads the times of one file; `unit` is found by its first row where none was typed."""

    def __init__(self, unit: str = "", zone: str = "", *, now_ns: int) -> None:
        self.unit = unit
        self._zone = _zone(zone)
        self._now_ns = now_ns

    def read(self, text: str) -> int:
        """Return a time in nanoseconds; `ValueError` of one that is none, or none of the past."""
        text = text.strip()
        at_ns = self._numeric(text) if _NUMBER.fullmatch(text) else self._iso(text)
        if at_ns > self._now_ns + _SPARE_NS:
            raise ValueError("rows of the future")
        if at_ns < _OLDEST_NS:
            raise ValueError("rows from before 2010")
        return at_ns

    def _numeric(self, text: str) -> int:
        value = Decimal(text)
        unit = self.unit
        if unit in ("", "iso"):
            unit = unit_of(value)
            self.unit = self.unit or unit
        if self.unit == "iso":
            raise ValueError("rows with a time of another kind than the first")
        return int(value * UNITS[unit])

    def _iso(self, text: str) -> int:
        try:
            moment = datetime.fromisoformat(text.removesuffix(" UTC"))
        except ValueError:
            raise ValueError("rows without a time that can be read") from None
        if self.unit not in ("", "iso"):
            raise ValueError("rows with a time of another kind than the first")
        self.unit = "iso"
        if text.endswith(" UTC"):
            moment = moment.replace(tzinfo=UTC)
        if moment.tzinfo is None:
            if self._zone is None:
                raise UnfitError(
                    f"expected a zone for times such as {text[:40]!r}: --timezone UTC, or "
                    "whichever it is"
                )
            moment = moment.replace(tzinfo=self._zone)
        return instant(moment.astimezone(UTC).isoformat())


_NUMBER: Final = re.compile(r"\d{1,20}(\.\d{1,12})?")


def unit_of(value: Decimal) -> str:
    """Guess the unit of a time since 1970 by its size: each is a thousand times the next."""
    return next((name for name, most in _SIZES if value < most), "ns")


_SIZES: Final = (("s", 10**11), ("ms", 10**14), ("us", 10**17))


def _zone(name: str) -> "ZoneInfo | None":
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        such = "UTC, Europe/Berlin or America/New_York"
        raise UnfitError(f"--timezone: expected a zone such as {such}, got {name!r}") from None


# === Rows ===

_SIDES: Final = {
    "buy": "BUY", "b": "BUY", "bid": "BUY", "long": "BUY", "1": "BUY",
    "sell": "SELL", "s": "SELL", "a": "SELL", "ask": "SELL", "short": "SELL", "-1": "SELL",
    "": "", "unknown": "", "none": "",
}  # fmt: skip


class Reader:
    """Reads the rows of one table; what cannot be used is counted in `tally`."""

    def __init__(self, columns: Columns, clock: Clock, tally: Tally) -> None:
        self.columns, self.clock, self.tally = columns, clock, tally
        self._make: Callable[[Mapping[str, str]], Row] = (
            self._candle if columns.kind == "candles" else self._trade
        )

    def read(self, place: str, row: Mapping[str, str | None]) -> Row | None:
        """Read a row; None of one that is refused."""
        of = {role: (row.get(name) or "").strip() for role, name in self.columns.of.items()}
        try:
            return self._make(of)
        except (ValueError, OverflowError) as error:
            self.tally.add(str(error)[:100], place)
        except ConnError as error:
            if isinstance(error, UnfitError):
                raise
            self.tally.add("rows whose numbers cannot be read", place)
        return None

    def _trade(self, of: Mapping[str, str]) -> Trade:
        at_ns = self.clock.read(of["time"])
        side = _SIDES.get(of.get("side", "").lower())
        if side is None:
            raise ValueError("rows with a side that is neither buy nor sell")
        return Trade(at_ns, _above_0(of["price"]), _above_0(of["size"]), side, of.get("id", ""))

    def _candle(self, of: Mapping[str, str]) -> Candle:
        at_ns = self.clock.read(of["time"])
        first, high, low, last = (_above_0(of[role]) for role in ("open", "high", "low", "close"))
        prices = sorted(map(Decimal, (first, last)))
        if not Decimal(low) <= prices[0] <= prices[1] <= Decimal(high):
            raise ValueError("rows whose open or close is not within high and low")
        size, usd = _not_below_0(of["volume"]), of.get("usd", "")
        count = of.get("trades", "")
        trades = int(number(count)) if count else None
        return Candle(at_ns, first, high, low, last, size, _not_below_0(usd) if usd else "", trades)


def _above_0(text: str) -> str:
    if number(text) <= 0:
        raise ValueError("rows with a price or size that is not above 0")
    return _plain(text)


def _not_below_0(text: str) -> str:
    if number(text) < 0:
        raise ValueError("rows with a volume below 0")
    return _plain(text)


def _plain(text: str) -> str:
    """Return the text of a number as the venue would have it: as it was, but for exponents."""
    return text if _DIGITS.fullmatch(text) else f"{number(text):f}"


_DIGITS: Final = re.compile(r"(0|[1-9]\d*)(\.\d+)?")

# === Order ===


def in_order(rows: Iterable[_R], tally: Tally) -> list[_R]:
    """Return rows sorted by time, each once, without those whose price cannot be."""
    found = [*rows]
    late = sum(b.at_ns < a.at_ns for a, b in pairwise(found))  # integers
    if late:
        tally.add("rows that stood later than their time: sorted", count=late)
        found.sort(key=lambda row: row.at_ns)
    chosen = sane(once(found, tally), tally)
    for before, after in pairwise(chosen):
        if isinstance(before, Trade) and after.at_ns - before.at_ns > SILENCE_NS:
            tally.add(_SILENT, stamp(before.at_ns))
    return chosen


def once(rows: Iterable[_R], tally: Tally) -> list[_R]:
    """Return rows without those that came before: the same candle, id, or trade without one."""
    seen: set[object] = set()
    chosen = list[_R]()
    for row in rows:
        # Two trades alike can be two: only what has an id is known to be the same.
        key = row.at_ns if isinstance(row, Candle) else row.id
        if key != "" and key in seen:
            tally.add("rows that came twice: taken once", stamp(row.at_ns))
        else:
            seen.add(key)
            chosen.append(row)
    return chosen


def sane(rows: Sequence[_R], tally: Tally) -> list[_R]:
    """Return rows without those whose price is many times their neighbours', or a fraction."""
    prices = [_price(row) for row in rows]
    chosen = list[_R]()
    for row, middle in zip(rows, medians(prices, _NEIGHBOURS), strict=True):
        low, high = _reach(row)
        if low * ABSURD < middle or high > middle * ABSURD:
            tally.add(
                f"rows whose price is {ABSURD:g} times that of those beside it, or a fraction",
                f"{stamp(row.at_ns)} at {row.close if isinstance(row, Candle) else row.price}",
            )
        else:
            chosen.append(row)
    return chosen


def medians(values: Sequence[float], reach: int) -> list[float]:
    """Return for each value the median of it and its neighbours, `reach` on each side.

    >>> medians([1.0, 2.0, 90.0, 3.0, 4.0], 1)
    [2.0, 2.0, 3.0, 4.0, 4.0]
    """
    ordered, found = sorted(values[:reach]), list[float]()
    for n in range(len(values)):
        if n + reach < len(values):
            insort(ordered, values[n + reach])
        if n > reach:
            del ordered[bisect_left(ordered, values[n - reach - 1])]
        found.append(ordered[len(ordered) // 2])
    return found


def _price(row: Row) -> float:
    return float(row.close if isinstance(row, Candle) else row.price)


def _reach(row: Row) -> tuple[float, float]:
    if isinstance(row, Candle):
        return float(row.low), float(row.high)
    return float(row.price), float(row.price)


def sided(trades: Iterable[Trade], tally: Tally) -> list[Trade]:
    """Return trades with a side each: where a file has none, the way the price went."""
    found, last, side = list[Trade](), 0.0, "BUY"
    for trade in trades:
        price = float(trade.price)
        side = "BUY" if price > last else "SELL" if price < last else side
        last = price
        if not trade.side:
            tally.add("trades without a side: it is the way the price went")
            trade = msgspec.structs.replace(trade, side=side)
        found.append(trade)
    return found


def resolution_of(candles: Sequence[Candle], tally: Tally) -> str:
    """Return the resolution of candles in order; `UnfitError` if it is none of the venue's."""
    steps = Counter(b.at_ns - a.at_ns for a, b in pairwise(candles))
    usual = steps.most_common(1)[0][0] if steps else 60 * SECOND_NS
    name = next((name for name, s in CANDLE_S.items() if s * SECOND_NS == usual), "")
    if not name:
        known = ", ".join(CANDLE_S)
        raise UnfitError(f"expected candles of {known}, got one each {usual / SECOND_NS:g} s")
    for before, after in pairwise(candles):
        for at in range(before.at_ns + usual, after.at_ns, usual):
            tally.add(f"candles of {name} are missing between the others", stamp(at))
    off = sum(candle.at_ns % usual != 0 for candle in candles)  # integers
    if off:
        what = f"expected candles that begin with their {name}, got {off:,} that do not"
        raise UnfitError(f"{what}, the first at {stamp(candles[0].at_ns)}: see --timezone")
    return name


def stamp(at_ns: int) -> str:
    """Return a time as the venue writes it, to the microsecond where it has any."""
    moment = datetime.fromtimestamp(at_ns // SECOND_NS, UTC)
    micros = at_ns % SECOND_NS // 1_000
    rest = f"{micros:06d}" if micros % 1_000 else f"{micros // 1_000:03d}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest}Z"

"""The venue's past: fetched page by page, verified against its own candles, and listed."""

import asyncio
import json
import random
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from bot.__main__ import main
from bot.archive.part import Part, part_of
from bot.archive.rows import HOUR_NS, MINUTE_NS, Page, page_of, stamp
from bot.archive.spans import WantedError, wanted
from bot.archive.verdict import as_rows, lines_of
from bot.archive.verify import Verdict, verify
from bot.archive.walk import Walk, came
from dydx_conn import (
    BadAnswer,
    BadRequest,
    ConnError,
    Frame,
    Header,
    History,
    Network,
    Recording,
    RecordingWriter,
    Rest,
    Unreachable,
    find_recording,
    instant,
)
from hypothesis import given, settings
from hypothesis import strategies as st

SECOND = 1_000_000_000
SINCE = instant("2026-11-20T06:00:00.000Z")
UNTIL = SINCE + 3 * HOUR_NS
TICKERS = ("BTC-USD", "ETH-USD")
HISTORY = History(
    markets=TICKERS, kinds=("trades", "candles", "funding"), since_ns=SINCE, until_ns=UNTIL,
    window_s=3_600,
)  # fmt: skip

Row = dict[str, Any]
Json = dict[str, Any]


class Past:
    """A venue's past, made from a seed: blocks, their trades, and what the indexer makes of them.

    `late` markets have their first trade half an hour later; no block comes from 07:10 to 07:13.
    """

    tickers: ClassVar = TICKERS
    newest_first = False  # of numbered pages: the stand-in's are

    def __init__(self, seed: int = 1, *, busy: int = 0, late: str = "") -> None:
        chance = random.Random(seed)
        self.newest_ns = UNTIL + 30 * SECOND
        self.trades: dict[str, list[Row]] = {ticker: [] for ticker in TICKERS}
        self.funding: dict[str, list[Row]] = {ticker: [] for ticker in TICKERS}
        self.requests: list[str] = []
        at, height, price = SINCE - 2 * HOUR_NS, 5_000, 60_000
        paid = at // HOUR_NS
        while at < self.newest_ns:
            at, height = at + 17_123_000_000, height + 1
            if 70 * MINUTE_NS <= at - SINCE < 73 * MINUTE_NS:
                continue
            if at // HOUR_NS > paid:
                paid = at // HOUR_NS
                for ticker in TICKERS:
                    self.funding[ticker].append(_hour(ticker, at, height))
            for ticker in TICKERS:
                if ticker == late and at < SINCE + HOUR_NS // 2:
                    continue
                count = max(chance.randrange(-9, 5), 0)
                if ticker == "BTC-USD" and busy and at // MINUTE_NS == SINCE // MINUTE_NS + 90:
                    count, busy = busy, 0
                for event in range(count):
                    price += chance.randrange(-5, 6)
                    self.trades[ticker].append(_trade(at, height, event, price, chance))
        self.blocks = {row["createdAt"]: row for rows in self.trades.values() for row in rows}
        self.candles = {ticker: [*self._candles(ticker)] for ticker in TICKERS}

    def _candles(self, ticker: str) -> Iterator[Row]:
        """Make candles as they come about: trade by trade, and from the close before."""
        trades = self.trades[ticker]
        minute, candle = instant(trades[0]["createdAt"]) // MINUTE_NS, dict[str, Any]()
        for trade in [*trades, None]:
            at = self.newest_ns if trade is None else instant(trade["createdAt"])
            while minute < at // MINUTE_NS:
                yield _as_text(candle)
                minute += 1
                if 70 <= minute - SINCE // MINUTE_NS < 73:
                    minute += 3
                candle = _flat(ticker, minute, candle["close"])
            if trade is not None:
                price, size = Decimal(trade["price"]), Decimal(trade["size"])
                if not candle or not candle["trades"]:
                    candle = _flat(ticker, minute, price)
                candle["high"] = max(candle["high"], price)
                candle["low"] = min(candle["low"], price)
                candle["close"] = price
                candle["baseTokenVolume"] += size
                candle["usdVolume"] += price * size
                candle["trades"] += 1

    def answer(self, target: str) -> tuple[int, Json]:
        """Answer a request as the indexer does; trades of one block come in no order."""
        self.requests.append(target)
        path, given = urlsplit(target).path, parse_qs(urlsplit(target).query)
        query = {name: values[-1] for name, values in given.items()}
        ticker, limit = path.rpartition("/")[2], int(query.get("limit", "1000"))
        if path == "/v4/perpetualMarkets":
            return 200, {"markets": {ticker: {"ticker": ticker} for ticker in self.tickers}}
        if path == "/v4/height":
            return 200, {"height": "9000", "time": stamp(self.newest_ns)}
        if path == "/v4/time":
            return 200, {"iso": stamp(self.newest_ns), "epoch": self.newest_ns / 1e9}
        if not 1 <= limit <= 1_000:
            return 400, {"errors": [{"msg": "limit must be a positive integer", "param": "limit"}]}
        if "/trades/" in path:
            return 200, self._page(ticker, query, limit)
        if "/candles/" in path:
            rows = [
                row for row in reversed(self.candles[ticker])
                if query["fromISO"] <= row["startedAt"] < query["toISO"]
            ]  # fmt: skip
            return 200, {"candles": rows[:limit]}
        before = query["effectiveBeforeOrAt"]
        rows = [row for row in reversed(self.funding[ticker]) if row["effectiveAt"] <= before]
        return 200, {"historicalFunding": rows[:limit]}

    def _page(self, ticker: str, query: Row, limit: int) -> Json:
        before = query["createdBeforeOrAt"]
        rows = [row for row in self.trades[ticker] if row["createdAt"] <= before]
        if (page := int(query.get("page", "0"))) > 0:
            start = (page - 1) * limit
            rows = rows[::-1] if self.newest_first else rows
            of_it = {"pageSize": limit, "totalResults": len(rows), "offset": start}
            return {"trades": rows[start : start + limit], **of_it}
        chance = random.Random(len(self.requests))
        rows.sort(key=lambda row: (-int(row["createdAtHeight"]), chance.random()))
        return {"trades": rows[:limit]}


def _trade(at: int, height: int, event: int, price: int, chance: random.Random) -> Row:
    return {
        "id": f"{height:08x}00000002{event:08x}", "side": chance.choice(["BUY", "SELL"]),
        "size": f"0.{chance.randrange(1, 10_000):04}", "price": f"{price}.5", "type": "LIMIT",
        "createdAt": stamp(at), "createdAtHeight": str(height),
    }  # fmt: skip


def _hour(ticker: str, at: int, height: int) -> Row:
    return {
        "ticker": ticker, "rate": "0.0000125", "price": "60000.5", "effectiveAt": stamp(at),
        "effectiveAtHeight": str(height),
    }  # fmt: skip


def _flat(ticker: str, minute: int, price: Decimal) -> Row:
    figures = dict.fromkeys(("open", "high", "low", "close"), price)
    none = {"baseTokenVolume": Decimal(0), "usdVolume": Decimal(0), "trades": 0}
    return {"startedAt": stamp(minute * MINUTE_NS), "ticker": ticker, "resolution": "1MIN",
            **figures, **none}  # fmt: skip


def _as_text(candle: Row) -> Row:
    return {name: str(x) if isinstance(x, Decimal) else x for name, x in candle.items()}


# === A fetch ===


async def fetched(
    past: Past, history: History = HISTORY, fault: Callable[[int, str, Json], Any] | None = None
) -> list[Frame]:
    """Walk all windows of a history with nothing on the wire; return the frames of their pages."""
    frames: list[Frame] = []
    async with Rest(Network("local", "http://venue", "", "", ""), on_answer=came,
                    sleep=_at_once) as rest:  # fmt: skip
        rest._fetch = partial(_answered, past, fault)  # type: ignore[method-assign]
        walk = Walk(rest, _at_once)
        async for _, pages in walk.windows(history, history.since_ns):
            frames += pages
    return frames


async def _answered(
    past: Past, fault: Callable[[int, str, Json], Any] | None, target: str, _host: str
) -> tuple[int, dict[str, str], bytes]:
    status, body = past.answer(target)
    changed = fault(len(past.requests), target, body) if fault else None
    if isinstance(changed, Exception):
        raise changed
    return status, {}, (changed if changed is not None else msgspec.json.encode(body))


async def _at_once(_: float) -> None:
    await asyncio.sleep(0)


@cache
def pages_of(seed: int) -> tuple[Frame, ...]:
    """Return the pages of a past, fetched once."""
    return tuple(asyncio.run(fetched(Past(seed))))


def verdict_of(frames: Any, history: History = HISTORY) -> Verdict:
    """Verify frames as they would be read from a file."""
    return verify(history, filter(None, map(page_of, frames)))


def whats(verdict: Verdict) -> set[str]:
    """Return what was found, by its short names."""
    return {each.what for each in (*verdict.findings, *verdict.absences)}


def test_what_is_fetched_is_all_of_the_past_and_whole() -> None:
    """Each trade of the span once, its candles, its hours; only minutes without a block lack."""
    past = Past(1)
    verdict = verdict_of(pages_of(1))

    within = [
        row for rows in past.trades.values() for row in rows
        if SINCE <= instant(row["createdAt"]) < UNTIL
    ]  # fmt: skip
    assert verdict.rows == {"trades": len(within), "candles": 2 * 177, "funding": 6}
    assert verdict.findings == ()
    assert [(each.what, each.count) for each in verdict.absences] == [("still", 3)]
    assert [*lines_of(verdict)] == [
        "  minutes without a candle of any market (no block came, or they are lost): 3, "
        "2026-11-20 07:10:00 to 2026-11-20 07:13:00"
    ]


def test_no_more_trades_are_requested_than_candles_count() -> None:
    """And one more, which shows that the window is walked to its beginning."""
    past = Past(1)
    asyncio.run(fetched(past))

    counts = [page_of(frame) for frame in pages_of(1)]
    most = [len(page.rows) - page.limit for page in counts if page and page.kind == "trades"]
    assert set(most) == {0}
    assert len(past.requests) == 3 * 2 * 3  # windows, markets, kinds: a page each


@pytest.mark.parametrize(("busy", "newest_first"), [(2_345, False), (1_650, True)])
def test_a_block_with_more_trades_than_a_page_is_fetched_whole(
    busy: int, newest_first: bool
) -> None:
    """The list without pages ends nowhere there; numbered pages go on, in whichever order."""
    past = Past(2, busy=busy)
    past.newest_first = newest_first
    frames = asyncio.run(fetched(past))
    verdict = verdict_of(frames)

    assert verdict.is_whole
    assert verdict.rows["trades"] > busy
    assert any("page=" in frame.channel for frame in frames)


def test_pages_that_end_within_a_block_lose_none_of_its_trades() -> None:
    """Without candles nobody counts the trades of a window: the walk goes on until it is out."""
    history = msgspec.structs.replace(HISTORY, kinds=("trades",))
    past = Past(3, busy=900)
    frames = asyncio.run(fetched(past, history))

    assert verdict_of(frames, history).is_whole
    assert len(frames) < 6 * 3
    assert verdict_of(frames, history).rows["trades"] == sum(
        SINCE <= instant(row["createdAt"]) < UNTIL for rows in past.trades.values() for row in rows
    )


def test_a_market_younger_than_the_span_is_reported_and_no_fault() -> None:
    """It has no candle before its first trade; it is reported with when it begins."""
    verdict = verdict_of(asyncio.run(fetched(Past(4, late="ETH-USD"))))

    younger = [each for each in verdict.absences if each.what == "younger"]
    assert verdict.is_whole
    assert [(each.ticker, each.since_ns) for each in younger] == [("ETH-USD", SINCE)]
    assert 30 <= younger[0].count <= 33


def test_trades_that_the_venue_has_no_more_are_reported() -> None:
    """Its candles count them still; what is there is right."""
    past = Past(5)
    oldest = SINCE + HOUR_NS
    past.trades["ETH-USD"] = [
        row for row in past.trades["ETH-USD"] if instant(row["createdAt"]) >= oldest
    ]
    verdict = verdict_of(asyncio.run(fetched(past)))

    unkept = [each for each in verdict.absences if each.what == "unkept"]
    assert verdict.is_whole
    assert {each.ticker for each in unkept} == {"ETH-USD"}
    assert max(each.until_ns for each in unkept) <= oldest


# === Faults on the way ===


def test_an_answer_that_was_interrupted_is_requested_again() -> None:
    """Half of a JSON text, a lost connection, a page of HTML: what is written is whole."""
    faults = {3: b'{"trades":[{"id":', 5: Unreachable("the line is dead"), 8: b"<html>busy</html>"}
    frames = asyncio.run(fetched(Past(1), fault=lambda n, *_: faults.get(n)))

    assert verdict_of(frames).is_whole


def test_a_row_that_cannot_be_read_is_requested_again_and_then_reported() -> None:
    """If it stays so, the page is written as it is, and verifying names it."""

    def corrupt(_: int, target: str, body: Json) -> bytes | None:
        if "/trades/" in target and "ETH" in target and "T07:00" in target:
            body = json.loads(json.dumps(body))
            body["trades"][2]["price"] = "-1"
            body["trades"][3].pop("size")
            return msgspec.json.encode(body)
        return None

    past = Past(1)
    verdict = verdict_of(asyncio.run(fetched(past, fault=corrupt)))

    assert whats(verdict) == {"unreadable", "differs", "still"}
    assert sum("ETH-USD" in row and "/trades/" in row for row in past.requests) == 3 + 2


def test_a_fetch_that_ends_names_what_was_wrong_and_not_that_it_waited() -> None:
    """After some failures nothing is requested for a while: that is no reason by itself."""

    def busy(n: int, _: str, __: Json) -> bytes | None:
        return b"<html>" if n > 3 else None

    with pytest.raises(BadAnswer, match="JSON"):
        asyncio.run(fetched(Past(1), fault=busy))


def test_an_answer_about_another_market_ends_the_fetch() -> None:
    """It is refused in words that name both; nothing of it is written."""

    def another(_: int, target: str, body: Json) -> bytes | None:
        text = msgspec.json.encode(body)
        return text.replace(b"BTC-USD", b"DOGE-USD") if "/candles/" in target else None

    with pytest.raises(ConnError, match="expected candles of BTC-USD, got those of another market"):
        asyncio.run(fetched(Past(1), fault=another))


def test_a_request_that_is_refused_ends_the_fetch_at_once() -> None:
    """There is no use in repeating what the venue calls wrong."""
    past = Past(1)

    def refused(_: int, __: str, ___: Json) -> Exception:
        return BadRequest("expected another limit")

    with pytest.raises(BadRequest):
        asyncio.run(fetched(past, fault=refused))
    assert len(past.requests) <= 8


# === Verifying ===


HARMS = ("lost", "twice", "moved", "changed", "swapped", "page")
# By how much, in what a row of its kind is one of.
BY = (-2, -1, 1, 2)
STEP = {"trades": MINUTE_NS, "candles": MINUTE_NS, "funding": HOUR_NS}
# What is changed of a row, by its kind.
FIGURE = {"trades": "price", "candles": "high"}


@cache
def read(seed: int) -> tuple[Page, ...]:
    """Return the pages of a past as they are read."""
    return tuple(page for page in map(page_of, pages_of(seed)) if page is not None)


@cache
def unharmed(seed: int) -> frozenset[tuple[str, str]]:
    """Return what is found of a past to which nothing was done: minutes without a block."""
    return named(verify(HISTORY, read(seed)))


def named(verdict: Verdict) -> frozenset[tuple[str, str]]:
    """Return what was found of which market."""
    return frozenset((each.what, each.ticker) for each in (*verdict.findings, *verdict.absences))


def moved(rows: list[Any], by: int) -> list[Any]:
    """Return rows of which the third is at another time."""
    return [*rows[:2], msgspec.structs.replace(rows[2], at_ns=rows[2].at_ns + by), *rows[3:]]


@pytest.mark.parametrize(
    ("kind", "harm", "what"),
    [
        ("trades", lambda rows: [*rows[:4], *rows[3:]], "twice"),
        ("trades", lambda rows: [rows[-1], *rows[:-1]], "shuffled"),
        ("trades", lambda rows: moved(rows, HOUR_NS), "outside"),
        ("trades", lambda rows: moved(rows, -9 * MINUTE_NS), "misdated"),
        ("trades", lambda rows: rows[:-3], "differs"),
        ("trades", lambda rows: rows[5:], "differs"),
        ("candles", lambda rows: moved(rows, SECOND), "outside"),
        ("candles", lambda rows: rows[1:], "differs"),
        ("funding", lambda rows: rows[1:], "unpaid"),
        ("funding", lambda rows: moved([*rows, *rows], HOUR_NS // 2), "twice"),
    ],
)
def test_each_harm_has_its_name(
    kind: str, harm: Callable[[list[Any]], list[Any]], what: str
) -> None:
    """What is done to the rows of the last window is found as what it is."""
    pages = [
        msgspec.structs.replace(page, rows=tuple(harm([*page.rows])))
        if page.kind == kind and page.window_ns == UNTIL - HOUR_NS else page
        for page in read(1)
    ]  # fmt: skip

    assert what in whats(verify(HISTORY, pages))


def test_lists_of_which_a_page_is_left_out_are_cut() -> None:
    """Pages of a window go on where the one before ends, the first of them at its end."""
    history = msgspec.structs.replace(HISTORY, kinds=("trades",), markets=("BTC-USD",))
    frames = asyncio.run(fetched(Past(3, busy=900), history))
    long = [frame for frame in frames if frame.id == stamp(SINCE + HOUR_NS)]

    for left_out in range(len(long)):
        rest = [frame for frame in frames if frame != long[left_out]]
        assert "cut" in whats(verdict_of(rest, history))


@pytest.mark.replays
@settings(max_examples=50)
@given(st.data(), st.integers(1, 3), st.sampled_from(HARMS))
def test_whatever_is_lost_duplicated_moved_changed_or_shuffled_is_found(
    data: st.DataObject, seed: int, harm: str
) -> None:
    """One row is enough, of any kind, anywhere in the span; so is one page."""
    pages = [*read(seed)]
    at = data.draw(st.integers(0, len(pages) - 1))
    page = pages[at]
    rows: list[Any] = [*page.rows]
    within = [n for n, row in enumerate(rows) if 0 <= row.at_ns - page.window_ns < HOUR_NS]
    place = data.draw(st.sampled_from(within))
    row = rows[place]
    if harm == "lost":
        del rows[place]
    elif harm == "twice":
        rows.insert(data.draw(st.integers(0, len(rows))), row)
    elif harm == "moved":
        by = data.draw(st.sampled_from(BY)) * STEP[page.kind]
        rows[place] = msgspec.structs.replace(row, at_ns=row.at_ns + by)
    elif harm == "changed":
        if page.kind == "funding":
            del rows[place]
            pages[at] = page = msgspec.structs.replace(page, odd=1)
        else:
            name = FIGURE[page.kind]
            figure = getattr(row, name) + Decimal("0.01")
            rows[place] = msgspec.structs.replace(row, **{name: figure})
    elif harm == "swapped":
        others = [n for n, each in enumerate(rows) if each.at_ns != row.at_ns]
        other = data.draw(st.sampled_from(others))
        rows[place], rows[other] = rows[other], row
    pages[at] = msgspec.structs.replace(page, rows=tuple(rows))
    if harm == "page":
        del pages[at]

    assert named(verify(HISTORY, pages)) - unharmed(seed)


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        ("window", {"missing", "cut", "unpaid"}),
        ("order", {"shuffled", "missing", "cut", "unpaid"}),
        ("stranger", {"outside"}),
        ("refused", {"unreadable", "cut", "missing", "differs"}),
    ],
)
def test_windows_that_are_lost_out_of_order_or_of_others_are_found(
    harm: str, found: set[str]
) -> None:
    """Each has a name of its own."""
    frames = [*pages_of(1)]
    middle = [n for n, frame in enumerate(frames) if frame.id == stamp(SINCE + HOUR_NS)]
    if harm == "window":
        frames = [frame for n, frame in enumerate(frames) if n not in middle]
    elif harm == "order":
        frames = [*(frames[n] for n in middle), *frames[: middle[0]], *frames[middle[-1] + 1 :]]
    elif harm == "stranger":
        other = frames[middle[0]].channel.replace("BTC-USD", "DOGE-USD")
        text = frames[middle[0]].text.replace("BTC-USD", "DOGE-USD")
        frames.insert(middle[-1], msgspec.structs.replace(
            frames[middle[0]], channel=other, text=text))  # fmt: skip
    else:
        frames[middle[0]] = msgspec.structs.replace(frames[middle[0]], type="500", text="{}")

    verdict = verdict_of(frames)

    assert whats(verdict) - {"still", "unrated", "younger", "unkept"} <= found
    assert whats(verdict) & found
    assert as_rows(verdict.findings)[0]["words"]


def test_a_candle_without_trades_that_moves_is_found() -> None:
    """The indexer makes it from the close before: anything else is of another hand."""
    history = msgspec.structs.replace(HISTORY, kinds=("candles",))
    frames = []
    for frame in pages_of(1):
        if "/candles/" in frame.channel:
            candles = json.loads(frame.text)["candles"]
            next(row for row in candles if not row["trades"])["high"] = "99999"
            text = json.dumps({"candles": candles})
            frames.append(msgspec.structs.replace(frame, text=text))

    assert whats(verdict_of(frames, history)) == {"uneven", "still"}


# === What is typed ===


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ({"since": "2026-11-20", "until": "2026-11-19"}, "--from before --to"),
        ({"since": "2027-01-01"}, "--from in the past"),
        ({"until": "2027-01-01"}, "--to in the past"),
        ({"since": "0s"}, "a minute at least"),
        ({"since": "soon"}, "--from: expected a date"),
        ({"kinds": "trade"}, "the nearest is trades"),
        ({"kinds": ","}, "some of trades, candles, funding"),
        ({"window": "90m"}, "a window of 1h to 16h"),
        ({"window": "24h"}, "a window of 1h to 16h"),
    ],
)
def test_what_cannot_be_fetched_is_refused_before_anything_is_requested(
    typed: dict[str, str], expected: str
) -> None:
    """With what can be typed in its place."""
    words = {"since": "1d", "until": None, "kinds": "trades", "window": "6h", **typed}

    with pytest.raises(ConnError, match=expected):
        wanted(["BTC-USD"], now_ns=UNTIL, **words)  # type: ignore[arg-type]


def test_the_same_words_make_the_same_name_on_any_day() -> None:
    """So that a fetch that was stopped goes on where the same is typed again."""
    of = partial(wanted, kinds="trades,candles,funding", window="6h", now_ns=UNTIL)
    short = of(["btc-usd", "ETH-USD", "BTC-USD"], "30d", None)
    many = of([f"M{n}-USD" for n in range(9)], "2026-11-01", "2026-11-02", kinds="candles")

    assert short.name("mainnet") == "btc-eth-30d"
    assert many.name("testnet") == "m0-and-8-more-2026-11-01-2026-11-02-candles-testnet"
    assert short.markets == ("BTC-USD", "ETH-USD")


def test_an_unknown_market_is_refused_with_the_nearest() -> None:
    """Of those that the venue has."""
    with pytest.raises(ConnError, match="got 'BTC-UDS'; the nearest is BTC-USD"):
        wanted(["BTC-UDS"], "1d", None, "trades", "6h", UNTIL).history(TICKERS, UNTIL)


def test_a_span_ends_with_the_last_whole_minute_of_the_newest_block() -> None:
    """Also where a day as the end is not over yet."""
    today = wanted(["BTC-USD"], "1h", "today", "trades", "6h", UNTIL + 61 * SECOND)

    assert today.span(UNTIL + 61 * SECOND) == (UNTIL - HOUR_NS + MINUTE_NS, UNTIL + MINUTE_NS)


# === The command ===


@contextmanager
def listening(past: Past, cut: Sequence[int] = (0,)) -> Iterator[str]:
    """Serve a past on the loopback; from a request on every connection is cut."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body = past.answer(self.path)
            if cut[0] and len(past.requests) >= cut[0]:
                self.close_connection = True
                return
            text = msgspec.json.encode(body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait between two tries."""
    monkeypatch.setattr("bot.archive.fetch.Rest", partial(Rest, sleep=_at_once))
    monkeypatch.setattr("bot.archive.fetch.Walk", lambda rest: Walk(rest, _at_once))


def typed(url: str, *more: str) -> list[str]:
    """Return the words of a fetch of the whole span in windows of an hour."""
    words = ["fetch", "BTC-USD", "ETH-USD", "--network", "local", "--rest", url, "--window", "1h"]
    return [*words, "--from", stamp(SINCE), "--to", stamp(UNTIL), *more]


def test_a_fetch_writes_a_recording_that_is_found_by_its_name_and_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line at the end; its frames are those of a link, each at its own time."""
    (tmp_path / "recordings").mkdir()
    monkeypatch.chdir(tmp_path)
    with listening(Past(1)) as url:
        code = main(typed(url))

    out, err = capsys.readouterr()
    path = find_recording("btc-eth-2026-11-20t06-00-2026-11-20t09-00-local")
    frames = [*Recording(path)]
    assert (code, out.count("\n")) == (0, 2)
    assert out.startswith("recordings/btc-eth-2026-11-20t06-00-2026-11-20t09-00-local.jsonl.zst: ")
    assert "by 21 requests" in out
    assert "; whole" in out
    assert "(UTC) into" in err
    assert path.parent == tmp_path / "recordings"
    assert {frame.link for frame in frames} == {"history"}
    assert not part_of(path).exists()

    assert main(["recordings", "--json", "--verify", path.name.removesuffix(".jsonl.zst")]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert (row["whole"], row["state"], row["markets"]) == (True, "ended", [*TICKERS])
    assert row["verified"]["absences"][0]["what"] == "still"


def test_a_fetch_without_a_folder_here_goes_to_the_users_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There it is found from anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bot.archive.fetch.recording_folders", lambda: [
        *(folder / "recordings" for folder in (tmp_path, *tmp_path.parents)), tmp_path / "data",
    ])  # fmt: skip
    with listening(Past(1)) as url:
        code = main([*typed(url, "--kinds", "funding")])

    assert code == 0
    assert len([*(tmp_path / "data").glob("*-funding-local.jsonl.zst")]) == 1
    assert "6 funding rates" in capsys.readouterr().out


@pytest.mark.replays
def test_a_fetch_that_broke_off_goes_on_to_the_same_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was whole is not requested again; in between it is a recording like others."""
    out, past = tmp_path / "r.jsonl.zst", Past(1)
    cut = [17]  # within the last window of three
    with listening(past, cut) as url:
        words = typed(url, "--out", str(out))
        assert main(words) == 1
        assert "r.part.jsonl.zst, and the same command goes on" in capsys.readouterr().err
        part = part_of(out)
        assert {frame.link for frame in Recording(part)} == {"history"}
        assert main(["recordings", str(part)]) == 0
        assert "under way" in capsys.readouterr().out

        assert main(["recordings", "--verify", str(part)]) == 1
        assert "it was cut off" in capsys.readouterr().out

        cut[0] = 0
        assert main([*words, "--kinds", "trades"]) == 2
        assert "with the kinds trades, got trades, candles, funding" in capsys.readouterr().err
        later = [word.replace(stamp(SINCE), stamp(SINCE + HOUR_NS)) for word in words]
        assert main(later) == 2
        assert "with the beginning 2026-11-20 07:00:00" in capsys.readouterr().err

        past.requests.clear()
        assert main(words) == 0
    assert re.search("goes on behind window [12]: ", capsys.readouterr().err)
    assert len(past.requests) in (3 + 6, 3 + 2 * 6)
    assert verdict_of(Recording(out).pages()).is_whole


def test_a_part_that_another_fetch_writes_is_left_alone(tmp_path: Path) -> None:
    """Two writers would make one file of nobody."""
    header = Header(network="local", rest="", ws="", client="", source="", history=HISTORY)
    part = Part.begin(tmp_path / "r.jsonl.zst", header, [frame(n) for n in range(3)])

    with pytest.raises(WantedError, match="for this fetch alone"):
        Part.resume(tmp_path / "r.jsonl.zst", header)

    part.leave()
    again = Part.resume(tmp_path / "r.jsonl.zst", header)
    assert again is not None
    again.leave()


def frame(number: int) -> Frame:
    """Make one of the answers that come before the first window."""
    return Frame(0, number, number, "rest", "http", "{}", type="200", channel="/v4/time")


def test_a_finished_recording_is_extended_on_request_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its whole windows are taken over; only what is new is requested."""
    out = tmp_path / "r.jsonl.zst"
    past = Past(1)
    with listening(past) as url:
        short = [*typed(url, "--out", str(out))]
        short[short.index(stamp(UNTIL))] = stamp(UNTIL - HOUR_NS - 30 * MINUTE_NS)
        assert main(short) == 0
        assert main(typed(url, "--out", str(out))) == 2
        assert "--extend goes on from its end" in capsys.readouterr().err
        past.requests.clear()
        assert main(typed(url, "--out", str(out), "--extend")) == 0
        assert len(past.requests) == 3 + 2 * 6
        assert main(typed(url, "--out", str(out), "--extend")) == 2
        assert "which it reaches" in capsys.readouterr().err.replace(f"{out} ", "it ")

    assert verdict_of(Recording(out).pages()).is_whole
    assert Recording(out).header.history == HISTORY


def test_a_full_disk_is_reported_and_what_is_whole_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command goes on when there is room again."""
    out = tmp_path / "r.jsonl.zst"
    write, calls = Part.write, iter(range(9))

    def full(part: Part, window: int, frames: list[Frame]) -> None:
        if next(calls) == 2:
            raise OSError(28, "No space left on device")
        write(part, window, frames)

    monkeypatch.setattr(Part, "write", full)
    with listening(Past(1)) as url:
        assert main(typed(url, "--out", str(out))) == 1
        assert "got No space left on device; what there is up to" in capsys.readouterr().err
        monkeypatch.setattr(Part, "write", write)
        assert main(typed(url, "--out", str(out))) == 0
    assert verdict_of(Recording(out).pages()).is_whole


# === What is here ===


def test_what_is_here_is_listed_from_headers_and_both_ends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundled ones too; what is none says so in its place."""
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings/broken.jsonl.zst").write_text("no recording")
    monkeypatch.chdir(tmp_path)

    assert main(["recordings"]) == 0

    out = capsys.readouterr().out
    assert re.search(r"^sixty       60 markets: books, trades$", out, re.MULTILINE)
    assert re.search(r"^quickstart  BTC-USD, ETH-USD, SOL-USD: books, trades$", out, re.MULTILINE)
    assert " 15m 59s, local, 1.6 MB, ended, " in out
    assert re.search(r"^broken \s+expected /", out, re.MULTILINE)

    assert main(["recordings", "recordings/broken.jsonl.zst", "--verify", "--json"]) == 1
    assert "compressed with zstd" in json.loads(capsys.readouterr().out)["rows"][0]["fault"]
    assert main(["recordings", "recordings/broken.jsonl.zst"]) == 2


def test_a_live_recording_is_verified_frame_by_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damage, what was lost, and an end that is missing make it one that is not whole."""
    path = tmp_path / "live.jsonl.zst"
    writer = RecordingWriter(path, Header(network="local", rest="", ws="", client="", source=""))
    gap = Frame(1, 5, 5, "c1", "gap", "the disk was full", message_id=3)
    for _ in range(2):
        writer.write_frame(gap)
    writer.leave()

    assert main(["recordings", "--verify", str(path)]) == 1
    out = capsys.readouterr().out
    assert "no market" in out
    assert "not whole, as listed below, 2 frames" in out.replace("\n           ", "")
    assert "  2 gaps: the disk was full\n" in out
    assert "it was cut off" in out

    writer = RecordingWriter.resume(path, 0)
    writer.close()
    assert main(["recordings", "--verify", str(path)]) == 0
    assert "whole, 0 frames" in capsys.readouterr().out


def test_a_fetched_recording_with_a_flipped_bit_is_damaged_and_the_rest_is_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which bytes, and what is missing with them; a damaged end alone loses nothing else."""
    path = tmp_path / "r.jsonl.zst"
    header = Header(network="local", rest="", ws="", client="", source="", history=HISTORY)
    part = Part.begin(path, header, [frame(n) for n in range(3)])
    for start in range(SINCE, UNTIL, HOUR_NS):
        part.write(start, [each for each in pages_of(1) if each.id == stamp(start)])
    part.finish()
    whole = path.read_bytes()

    path.write_bytes(whole[:-9])
    assert main(["recordings", "--verify", str(path)]) == 1
    assert "damaged, as listed below" in capsys.readouterr().out.replace("\n           ", "")

    path.write_bytes(whole[:-9_000] + bytes([whole[-9_000] ^ 4]) + whole[-8_999:])
    assert main(["recordings", "--verify", str(path)]) == 1
    assert re.search(r"bytes \d+ to \d+ are damaged", capsys.readouterr().out)


def test_where_nothing_is_it_says_what_makes_some(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not an empty screen."""
    monkeypatch.setattr("bot.archive.recordings.recording_folders", list)

    assert main(["recordings"]) == 0
    assert "bot fetch" in capsys.readouterr().out


def test_what_a_fetch_would_write_over_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A live recording cannot be extended either; and a name has its suffix."""
    path = tmp_path / "live.jsonl.zst"
    RecordingWriter(path, Header(network="local", rest="", ws="", client="", source="")).close()
    with listening(Past(1)) as url:
        assert main(typed(url, "--out", str(path))) == 2
        assert "a recording of a live link" in capsys.readouterr().err
        assert main(typed(url, "--out", str(path), "--extend")) == 2
        assert "to go on with, got one of a live link" in capsys.readouterr().err
        assert main(typed(url, "--out", str(tmp_path / "r.txt"))) == 2
        assert "expected a file that ends in .jsonl.zst" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("channel", "text", "odd"),
    [
        ("/v4/trades/perpetualMarket/BTC-USD?limit=9", "[1]", 1),
        ("/v4/trades/perpetualMarket/BTC-USD?limit=9", '{"trades":[{"id":1},7]}', 2),
        ("/v4/candles/perpetualMarkets/BTC-USD?limit=9", '{"candles":[{"startedAt":"x"}]}', 1),
    ],
)
def test_an_answer_that_is_none_is_a_page_of_odd_rows(channel: str, text: str, odd: int) -> None:
    """Each row by itself; what is not even a list is one."""
    page = page_of(Frame(1, 5, 5, "rest", "http", text, type="200", channel=channel, id=stamp(0)))

    assert page is not None
    assert (page.odd, page.rows, page.limit) == (odd, (), 9)


def test_a_candle_of_another_resolution_is_of_another_market() -> None:
    """A page has minutes, and nothing else counts as one."""
    frame = next(frame for frame in pages_of(1) if "/candles/" in frame.channel)
    five = msgspec.structs.replace(frame, text=frame.text.replace("1MIN", "5MINS"))
    page = page_of(five)

    assert page is not None
    assert (page.strange, page.rows) == (60, ())

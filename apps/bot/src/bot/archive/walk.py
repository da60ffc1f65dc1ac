"""How the venue's lists are walked: window by window, each page as the text that came.

    Walk.windows: since, since + 6 h, … ──► (start, frames of its pages), in order

Candles of a window come first: they count its trades, so that no more of these are requested than
there are. Trades are walked back from the end of a window; the bound is inclusive, and of a block
that a page ends in all trades come again with the next. A block with more trades than a page is
walked by numbered pages, which the venue orders by id.

Source: v4-chain, indexer/services/comlink/src/controllers/api/v4.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

import msgspec
from dydx_conn import (
    ENDPOINTS,
    BadAnswer,
    ConnError,
    Endpoint,
    Frame,
    History,
    Rest,
    ServerError,
    Unreachable,
    Untrusted,
)

from bot.archive.rows import HOUR_NS, MOST_ROWS, Candle, Page, Trade, page_of, stamp, up_to_ms

# Lists that are walked at once, in so many windows as that takes: what is requested beside the
# first of these is lost with it.
AT_ONCE: Final = 4
PATIENCE_S: Final = 600.0  # in the queue of a rate limit
_TRIES: Final = 6  # each after a pause twice as long: half a minute in all
_PASSING: Final = (BadAnswer, ServerError, Unreachable)  # a rate limit was waited for already

Sleep = Callable[[float], Awaitable[object]]

# What came for the request of the task at hand.
_came: ContextVar[list[Frame]] = ContextVar("_came")


def came(_method: str, target: str, status: int, text: str, _headers: Mapping[str, str]) -> None:
    """Take an answer as a frame, with the time at which it came: `on_answer` of a `Rest`."""
    if (frames := _came.get(None)) is not None:
        frames.append(
            Frame(0, time.time_ns(), time.monotonic_ns(), "rest", "http", text,
                  type=str(status), channel=target)
        )  # fmt: skip


class Walk:
    """The requests of a fetch; `trouble` is what went wrong last, "" if that is over.

    `rest` has `came` as its `on_answer`. `ConnError` where the venue does not answer any more, or
    answers about another market.
    """

    def __init__(self, rest: Rest, sleep: Sleep = asyncio.sleep) -> None:
        self._rest, self._sleep = rest, sleep
        self._counted: dict[str, int] = {}  # trades of a window, where no candles count them
        self._cause: ConnError | None = None  # what went wrong last where an answer was due
        self.trouble = ""
        self.requests = 0

    async def once(self) -> list[Frame]:
        """Return the parameters of the markets, how far the indexer is, and its clock."""
        names = ("perpetual_markets", "height", "time")
        return [(await self._page("", ENDPOINTS[name]))[0] for name in names]

    async def windows(
        self, history: History, since_ns: int
    ) -> AsyncIterator[tuple[int, list[Frame]]]:
        """Yield each window from `since_ns` on, with the frames of its pages."""
        step = history.window_s * 1_000_000_000
        ahead = max(AT_ONCE // len(history.markets), 2)
        flying: deque[tuple[int, asyncio.Task[list[Frame]]]] = deque()
        starts = iter(range(since_ns, history.until_ns, step))
        try:
            while True:
                for start in starts:
                    work = self.window(history, start, min(start + step, history.until_ns))
                    flying.append((start, asyncio.ensure_future(work)))
                    if len(flying) >= ahead:
                        break
                if not flying:
                    return
                start, task = flying[0]
                frames = await task
                flying.popleft()
                yield start, frames
        finally:
            for _, task in flying:
                task.cancel()
            await asyncio.gather(*(task for _, task in flying), return_exceptions=True)

    async def window(self, history: History, since: int, until: int) -> list[Frame]:
        """Return the pages of one window, of a market all together."""
        markets = (self._market(history, ticker, since, until) for ticker in history.markets)
        return [frame for frames in await asyncio.gather(*markets) for frame in frames]

    async def _market(self, history: History, ticker: str, since: int, until: int) -> list[Frame]:
        frames: list[Frame] = []
        count: int | None = None
        if "candles" in history.kinds:
            frame, page = await self._page(
                stamp(since), ENDPOINTS["candles"], ticker=ticker, resolution="1MIN",
                fromISO=stamp(since), toISO=stamp(until), limit=MOST_ROWS,
            )  # fmt: skip
            frames.append(frame)
            count = sum(row.trades for row in page.rows if isinstance(row, Candle))  # integers
        if "trades" in history.kinds:
            frames += await self._trades(ticker, since, until, count)
        if "funding" in history.kinds:
            frame, _ = await self._page(
                stamp(since), ENDPOINTS["historical_funding"], ticker=ticker,
                effectiveBeforeOrAt=stamp(until), limit=-(-(until - since) // HOUR_NS) + 2,
            )  # fmt: skip
            frames.append(frame)
        return frames

    async def _trades(self, ticker: str, since: int, until: int, count: int | None) -> list[Frame]:
        frames: list[Frame] = []
        seen: set[str] = set()
        bound, tied = until, 0
        wanted = self._counted.get(ticker, MOST_ROWS) if count is None else count
        while True:
            # One more than there are: the one before the window shows that it is walked.
            left = wanted - len(seen)
            limit = min(MOST_ROWS, left + tied + 1) if left > 0 or not frames else MOST_ROWS
            frame, page = await self._page(
                stamp(since), ENDPOINTS["trades"], ticker=ticker,
                createdBeforeOrAt=stamp(bound), limit=limit,
            )  # fmt: skip
            frames.append(frame)
            seen |= _ids(page, since)
            oldest = page.oldest_ns
            if oldest is None or oldest < since or _count(page) < limit:
                break
            # A page within one block: of that a longer one is needed, or several.
            within = up_to_ms(oldest) == bound
            if within and limit == MOST_ROWS:
                numbered, oldest = await self._numbered(ticker, since, bound)
                frames += numbered
                if oldest is None or oldest < since:
                    break
            tied = MOST_ROWS if within else sum(row.at_ns == oldest for row in page.rows)
            bound = up_to_ms(oldest)
        self._counted[ticker] = len(seen) + len(seen) // 2 + 100
        return frames

    async def _numbered(
        self, ticker: str, since: int, bound: int
    ) -> tuple[list[Frame], int | None]:
        """Walk past an instant with more trades than a page; return where to go on."""
        sought: dict[str, Any] = {"ticker": ticker, "createdBeforeOrAt": stamp(bound)}
        sought |= {"limit": MOST_ROWS}
        first, page = await self._page(stamp(since), ENDPOINTS["trades"], page=1, **sought)
        last = -(-msgspec.json.decode(first.text, type=_Counted).total_results // MOST_ROWS)
        # The venue has the oldest first; what stands in for it may not.
        newest_first = bool(page.rows) and up_to_ms(page.rows[0].at_ns) == bound
        frames: list[Frame] = []
        for number in range(1, last + 1) if newest_first else range(last, 0, -1):
            frame, page = await self._page(stamp(since), ENDPOINTS["trades"], page=number, **sought)
            frames.append(frame)
            if before := [row.at_ns for row in page.rows if up_to_ms(row.at_ns) < bound]:
                return frames, min(before)
        return frames, None

    # -- One request

    async def _page(self, window: str, endpoint: Endpoint, **parameters: Any) -> tuple[Frame, Page]:
        """Request a page until it comes, and all of it can be read or that does not change."""
        for attempt in range(_TRIES):
            frames: list[Frame] = []
            _came.set(frames)
            self.requests += 1
            wait_s = 2.0**attempt
            try:
                answer = await self._rest.request(endpoint, **parameters)
                if answer.stale:
                    raise Unreachable("expected an answer, got one from memory", wait_s=wait_s)
            except _PASSING as error:
                if not (isinstance(error, Unreachable) and error.wait_s):
                    self._cause = error  # else no more is requested for a while, because of it
                if isinstance(error, Untrusted) or attempt == _TRIES - 1:
                    raise self._cause or error from None
                self.trouble = f"waits: {error}"
                wait_s = max(wait_s, error.wait_s)
            else:
                self.trouble = ""
                frame = msgspec.structs.replace(frames[-1], id=window)
                page = page_of(frame) or _NO_PAGE
                if not (page.odd or page.strange):
                    return frame, page
                if attempt >= _AGAIN and not page.strange:
                    return frame, page  # it is so: verifying reports it
                if attempt >= _AGAIN:
                    what = f"expected {page.kind} of {page.ticker}, got those of another market"
                    raise ConnError(f"{what}: {frame.channel}")
            await self._sleep(min(wait_s, _MOST_S))
        raise AssertionError  # the last try returns or raises


_AGAIN: Final = 2
_MOST_S: Final = 30.0
_NO_PAGE: Final = Page(kind="", ticker="", window_ns=0)


class _Counted(msgspec.Struct, rename="camel"):
    total_results: int = 0


def _ids(page: Page, since: int) -> set[str]:
    return {row.id for row in page.rows if isinstance(row, Trade) and row.at_ns >= since}


def _count(page: Page) -> int:
    return len(page.rows) + page.odd + page.strange

"""`bot fetch` against the stand-in's past: all of it comes, and what is wrong with it is found."""

import asyncio
import sys
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent.parent / "venue"))

from bot.archive.rows import HOUR_NS, page_of, stamp
from bot.archive.verify import Verdict, verify
from bot.archive.walk import Walk, came
from dydx_conn import Frame, Network, Rest
from dydx_conn import History as Fetched
from exchange import Exchange, Silence, VenueSettings
from indexer import SocketHub, application
from past import Faults, History
from tape import from_iso

START_NS = from_iso("2026-03-11T15:24:31.500Z")
UNTIL_NS = from_iso("2026-03-11T15:24:00.000Z")
TICKERS = ("BTC-USD", "ETH-USD", "SOL-USD")


def fetched(hours: int, faults: Faults | None = None) -> tuple[Verdict, int]:
    """Fetch the last hours of a venue in its own process; return what was found, and requests."""
    terms = History(hours=hours + 3, trades_per_day=1_200, faults=faults)
    settings = VenueSettings(markets=3, seed=5, start_ns=START_NS, history=terms)
    history = Fetched(
        markets=TICKERS, kinds=("trades", "candles", "funding"), window_s=6 * 3_600,
        since_ns=UNTIL_NS - hours * HOUR_NS, until_ns=UNTIL_NS,
    )  # fmt: skip
    frames, requests = asyncio.run(_walked(Exchange(settings, Silence()), history))
    pages = [page for page in map(page_of, frames) if page is not None]
    return verify(history, pages), requests


async def _walked(exchange: Exchange, history: Fetched) -> tuple[list[Frame], int]:
    transport = httpx.ASGITransport(app=application(exchange, SocketHub(5)))
    net = Network("local", "http://venue", "", "", "")
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://venue") as client,
        Rest(net, on_answer=came) as rest,
    ):

        async def fetch(target: str, _: str) -> tuple[int, httpx.Headers, bytes]:
            answer = await client.get(target)
            return answer.status_code, httpx.Headers(), answer.content

        rest._fetch = fetch  # type: ignore[method-assign, assignment]
        walk = Walk(rest)
        frames = [
            frame async for _, pages in walk.windows(history, history.since_ns) for frame in pages
        ]
        return frames, walk.requests


def test_the_past_of_the_stand_in_is_fetched_whole() -> None:
    """Each minute's trades make its candle to the last digit, in a page a list and window."""
    verdict, requests = fetched(12)

    assert [*verdict.findings, *verdict.absences] == []
    assert verdict.rows["candles"] == 3 * 12 * 60
    assert verdict.rows["funding"] == 3 * 12
    assert verdict.rows["trades"] > 3 * 300
    assert requests == 2 * 3 * 3


def test_what_is_wrong_with_the_past_of_the_stand_in_is_found() -> None:
    """A lost hour, candles without trades, a young market, and trades that come twice."""
    verdict, _ = fetched(30, Faults(lost=10, untraded=20, listed_days=1, retained_days=5))

    found = {each.what for each in verdict.findings}
    lost = [each for each in verdict.findings if each.what in ("unpaid", "missing")]
    assert found == {"unpaid", "missing", "differs", "twice"}
    assert [(each.ticker, each.what, each.count) for each in lost] == [
        ("BTC-USD", "unpaid", 1), ("BTC-USD", "missing", 60),
    ]  # fmt: skip
    assert {each.ticker for each in verdict.absences if each.what == "younger"} == {"SOL-USD"}
    assert stamp(lost[0].since_ns) == "2026-03-11T05:00:00.000Z"

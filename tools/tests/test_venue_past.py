"""The past of the stand-in: the same whoever looks, consistent in itself, joined to the live market."""

import asyncio
import runpy
import statistics
import sys
from collections.abc import Callable
from decimal import Decimal
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "venue"))

from exchange import Exchange, Silence, VenueSettings
from indexer import SocketHub, application
from past import Faults, History, TapeCandle, joined
from tape import RESOLUTIONS, START_HEIGHT, MarketTape, from_iso, iso

START = "2026-03-11T15:24:31.500Z"
START_NS = from_iso(START)
EVER = 2**62


def venue(**history: Any) -> Exchange:
    """Make a venue with a day behind it, of few trades unless otherwise chosen."""
    terms = History(**{"hours": 30, "trades_per_day": 3000} | history)
    settings = VenueSettings(markets=3, seed=5, start_ns=START_NS, history=terms)
    return Exchange(settings, Silence())


@pytest.fixture(scope="module")
def quiet() -> Exchange:
    """A venue that nobody changes."""
    return venue()


def trades_of(tape: MarketTape) -> list[dict[str, Any]]:
    """Return all trades in the order of their events."""
    return sorted(tape.newest_trades(EVER, EVER), key=lambda row: row["id"])


def test_trades_make_the_candles_of_every_resolution(quiet: Exchange) -> None:
    """Open, high, low, close, volumes and counts are those of the trades, to the last digit."""
    tape = quiet.tapes["ETH-USD"]
    trades = trades_of(tape)

    for resolution, seconds in RESOLUTIONS.items():
        by_start: dict[int, list[dict[str, Any]]] = {}
        for trade in trades:
            second = from_iso(trade["createdAt"]) // 10**9
            by_start.setdefault(second - second % seconds, []).append(trade)
        candles = tape.newest_candles(resolution, 0, EVER, 10_000)
        for candle in candles:
            inside = by_start.pop(from_iso(candle["startedAt"]) // 10**9, [])
            assert candle["trades"] == len(inside)
            if inside:
                prices = [Decimal(trade["price"]) for trade in inside]
                sizes = [Decimal(trade["size"]) for trade in inside]
                assert (candle["open"], candle["close"]) == (
                    inside[0]["price"],
                    inside[-1]["price"],
                )
                assert Decimal(candle["high"]) == max(prices)
                assert Decimal(candle["low"]) == min(prices)
                assert Decimal(candle["baseTokenVolume"]) == sum(sizes, Decimal(0))
                usd = (price * size for price, size in zip(prices, sizes, strict=True))
                assert Decimal(candle["usdVolume"]) == sum(usd, Decimal(0))
        # What is left began before the past did, and has no whole candle.
        assert all(start < quiet_first(tape) for start in by_start)


def quiet_first(tape: MarketTape) -> int:
    """Return the second that the past begins at."""
    assert tape.past is not None
    return tape.past.first * 3600


def test_every_minute_has_a_candle_and_an_empty_one_repeats_the_close(quiet: Exchange) -> None:
    """From the first trade on no minute is missing; one without trades stands at the last close."""
    candles = quiet.tapes["SOL-USD"].newest_candles("1MIN", 0, EVER, 10_000)
    starts = [from_iso(candle["startedAt"]) for candle in candles]

    assert {newer - older for newer, older in pairwise(starts)} == {60 * 10**9}
    empty = [(new, old) for new, old in pairwise(candles) if not new["trades"]]
    assert empty
    assert all(
        {new[n] for n in ("open", "high", "low", "close")} == {old["close"]} for new, old in empty
    )


def test_blocks_rise_with_time_and_lead_to_the_start(quiet: Exchange) -> None:
    """Heights of trades and funding hours rise with their times, about a block a second."""
    rows = trades_of(quiet.tapes["BTC-USD"])
    funding = quiet.tapes["BTC-USD"].funding.newest(EVER, EVER, 1000)
    marks = [(int(row["createdAtHeight"]), row["createdAt"]) for row in rows]
    marks += [(int(row["effectiveAtHeight"]), row["effectiveAt"]) for row in funding]

    marks.sort()
    assert [at for _, at in marks] == sorted(at for _, at in marks)
    (first, since), (last, until) = marks[0], marks[-1]
    assert 0.8 < (from_iso(until) - from_iso(since)) / 1e9 / (last - first) < 1.1
    assert last < START_HEIGHT
    assert until < START


def test_funding_is_of_every_hour_with_the_price_of_then(quiet: Exchange) -> None:
    """Each hour has one rate; its price lies within the candle that begins there, or close by."""
    tape = quiet.tapes["ETH-USD"]
    funding = tape.funding.newest(EVER, EVER, 1000)
    hours = [from_iso(row["effectiveAt"]) // (3600 * 10**9) for row in funding]
    candles = {
        candle["startedAt"][:13]: candle for candle in tape.newest_candles("1HOUR", 0, EVER, 1000)
    }

    assert hours == list(range(hours[0], hours[0] - 31, -1))
    for row in funding:
        opened = float(candles[row["effectiveAt"][:13]]["open"])
        assert abs(float(row["price"]) / opened - 1) < 0.01


def test_the_same_settings_give_the_same_past_in_any_order() -> None:
    """Who reads from the end, from the middle or from the beginning reads the same."""
    whole = trades_of(venue().tapes["BTC-USD"])
    other = venue().tapes["BTC-USD"]
    middle = from_iso(whole[len(whole) // 2]["createdAt"])

    early = list(islice(other.newest_trades(middle, EVER), 50))
    other.newest_candles("1DAY", 0, EVER, 1)
    assert {row["id"] for row in early} <= {row["id"] for row in whole}
    assert trades_of(other) == whole


def test_walking_back_page_by_page_finds_each_trade_once(quiet: Exchange) -> None:
    """Pages overlap in the time they are cut at, and leave nothing out."""
    tape = quiet.tapes["BTC-USD"]
    whole = {row["id"]: row for row in trades_of(tape)}
    before, found = EVER, dict[str, Any]()

    while True:
        page = list(islice(tape.newest_trades(before, EVER), 300))
        found |= {row["id"]: row for row in page}
        oldest = from_iso(page[-1]["createdAt"])
        if oldest == before or len(page) < 300:
            break
        before = oldest
    assert found == whole


def test_pages_by_number_begin_with_the_oldest(quiet: Exchange) -> None:
    """With `page` the order is that of events, and the total is of all."""
    tape = quiet.tapes["BTC-USD"]
    whole = trades_of(tape)
    middle = from_iso(whole[2500]["createdAt"])

    for before, all_ in (
        (EVER, whole),
        (middle, [t for t in whole if from_iso(t["createdAt"]) <= middle]),
    ):
        pages = [tape.trades_page(before, EVER, offset, 1000) for offset in range(0, 6000, 1000)]
        assert [row for rows, _ in pages for row in rows] == all_
        assert {total for _, total in pages} == {len(all_)}


def test_the_past_leads_to_the_live_market() -> None:
    """The last price is near the first live one, and a candle that spans the start has both."""
    exchange = venue()
    tape = exchange.tapes["BTC-USD"]
    before = tape.newest_candles("1DAY", 0, EVER, 1)[0]
    for _ in range(600):
        exchange.step()
    after, rows = tape.newest_candles("1DAY", 0, EVER, 1)[0], trades_of(tape)
    live = [row for row in rows if int(row["createdAtHeight"]) > START_HEIGHT]

    assert abs(float(before["close"]) / tape.book.listing.price - 1) < 0.002
    assert after["open"] == before["open"]
    assert after["startedAt"] == before["startedAt"]
    assert live
    assert after["trades"] == before["trades"] + len(live)
    minutes = tape.newest_candles("1MIN", 0, EVER, 10)
    assert [m["startedAt"][11:16] for m in minutes[:3]] == ["15:25", "15:24", "15:23"]


def test_returns_have_fat_tails_and_the_week_has_its_fall() -> None:
    """Minute returns have an excess kurtosis; a crash takes a quarter of the price and more."""
    terms = History(hours=168, trades_per_day=1500)
    settings = VenueSettings(scenario="crash", markets=1, seed=3, start_ns=START_NS, history=terms)
    tape = Exchange(settings, Silence()).tapes["BTC-USD"]
    assert tape.past is not None
    falls = {
        hour: tape.past.past.mood(hour).fall for hour in range(tape.past.first, tape.past.past.end)
    }
    crash = min(falls, key=lambda hour: falls[hour])
    around = list(tape.past.candles(60, (crash - 1) * 3600, (crash + 1) * 3600))
    # Hours without a fall.
    calm = list(tape.past.candles(60, (crash - 9) * 3600, (crash - 1) * 3600))
    moves = [new.mid_close / old.mid_close - 1 for new, old in pairwise(calm)]  # type: ignore[operator]
    spread = statistics.pstdev(moves)

    assert min(c.low for c in around) < 0.78 * around[-1].open
    assert statistics.fmean((move / spread) ** 4 for move in moves) > 3.5


# === Over REST ===


def rest(exchange: Exchange) -> Callable[[str], Any]:
    """Return what asks a venue for a path, without sockets."""
    transport = httpx.ASGITransport(application(exchange, SocketHub(5)))

    async def get(path: str) -> Any:
        async with httpx.AsyncClient(transport=transport, base_url="http://venue") as client:
            return (await client.get(f"/v4/{path}")).json()

    return lambda path: asyncio.run(get(path))


def test_rest_answers_for_the_past_with_the_indexers_limits_and_errors() -> None:
    """Times, heights, limits and tickers are checked as the indexer does."""
    get = rest(venue())

    trades = get("trades/perpetualMarket/BTC-USD?limit=5&createdBeforeOrAt=2026-03-10T12:00:00Z")
    height = int(trades["trades"][0]["createdAtHeight"])
    by_height = get(f"trades/perpetualMarket/BTC-USD?limit=5&createdBeforeOrAtHeight={height}")
    assert by_height == trades
    assert trades["trades"][0]["createdAt"] <= "2026-03-10T12"
    candles = get(
        "candles/perpetualMarkets/BTC-USD?resolution=5MINS"
        "&fromISO=2026-03-10T12:00:00.000Z&toISO=2026-03-10T13:00:00.000Z"
    )["candles"]
    assert [c["startedAt"][11:16] for c in candles[::11]] == ["12:55", "12:00"]
    funding = get("historicalFunding/BTC-USD?limit=2&effectiveBeforeOrAt=2026-03-10T12:30:00Z")
    assert [r["effectiveAt"][11:13] for r in funding["historicalFunding"]] == ["12", "11"]
    paged = get("trades/perpetualMarket/BTC-USD?limit=7&page=2")
    assert (len(paged["trades"]), paged["pageSize"], paged["offset"]) == (7, 7, 7)
    assert get("trades/perpetualMarket/BTC-USD?limit=1001")["errors"][0]["param"] == "limit"
    assert get("candles/perpetualMarkets/XYZ-USD?resolution=1MIN")["errors"][0]["param"] == "ticker"


# === Faults ===


def test_faults_are_what_they_say() -> None:
    """An hour is lost, one has no trades, a market is young, the oldest days are gone."""
    exchange = venue(hours=168, trades_per_day=240, faults=Faults())
    end = START_NS // (3600 * 10**9)
    btc, sol = exchange.tapes["BTC-USD"], exchange.tapes["SOL-USD"]

    def hours(rows: list[dict[str, Any]], name: str) -> set[int]:
        return {end - from_iso(row[name]) // (3600 * 10**9) for row in rows}

    all_ = set(range(121))
    assert all_ - hours(trades_of(btc), "createdAt") == {40, 60}
    assert all_ - hours(btc.newest_candles("1MIN", 0, EVER, 10_000), "startedAt") == {40}
    assert all_ - hours(btc.funding.newest(EVER, EVER, 1000), "effectiveAt") == {40}
    assert max(hours(trades_of(sol), "createdAt")) == 72
    assert 40 in hours(sol.newest_candles("1MIN", 0, EVER, 10_000), "startedAt")
    assert max(hours(sol.newest_candles("1DAY", 0, EVER, 10), "startedAt")) > 72
    page = rest(exchange)("trades/perpetualMarket/BTC-USD?limit=100")["trades"]
    assert len(page) == 100
    assert page[-1] == page[-2]


# === Pieces ===

history_hours = runpy.run_path(str(Path(__file__).parent.parent / "venue/__main__.py"))[
    "history_hours"
]


def test_a_candle_joined_of_an_empty_and_a_traded_one_opens_at_the_trade() -> None:
    """What had no trade counts for nothing but the first moment."""
    empty = TapeCandle(60, 9, 9, 9, 9, 0, 0, 0, 5, 8, 8)
    traded = TapeCandle(120, 7, 8, 6, 7, 10, 70, 2, 6, 7, 7)

    assert joined(0, []) is None
    assert joined(0, [empty, traded]) == TapeCandle(0, 7, 8, 6, 7, 10, 70, 2, 5, 8, 7)
    assert joined(0, [traded, empty]) == TapeCandle(0, 7, 8, 6, 7, 10, 70, 2, 6, 7, 8)


@pytest.mark.parametrize(("text", "hours"), [("7d", 168), ("36h", 36)])
def test_a_span_is_read_in_days_or_hours(text: str, hours: int) -> None:
    """Both units are read."""
    assert history_hours(text) == hours


@pytest.mark.parametrize("text", ["7", "0d", "-1d", "400d", "d", ""])
def test_a_span_that_is_none_is_refused(text: str) -> None:
    """No unit, nothing, or more than a year is no span."""
    with pytest.raises(Exception, match="expected days or hours"):
        history_hours(text)


def test_a_start_at_a_whole_hour_has_its_funding_hour() -> None:
    """The hour that begins with the start is paid there, since the live market will not."""
    at = from_iso("2026-03-11T15:00:00Z")
    terms = History(hours=3, trades_per_day=500)
    exchange = Exchange(VenueSettings(markets=1, start_ns=at, history=terms), Silence())

    rows = exchange.tapes["BTC-USD"].funding.newest(EVER, EVER, 10)
    assert rows[0]["effectiveAt"] == iso(at)
    assert len(rows) == 4

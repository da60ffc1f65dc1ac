"""History: pages of the past, played as the frames that they stand for."""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from dydx_conn import (
    CandlesContents,
    Frame,
    Header,
    HeightContents,
    History,
    MarketsContents,
    Recording,
    RecordingError,
    RecordingWriter,
    TradesContents,
    contents,
    instant,
    market_fields,
    unfold,
)
from hypothesis import given, settings
from hypothesis import strategies as st

SECOND = 1_000_000_000
SINCE = instant("2026-11-20T06:00:00Z")
FETCHED = instant("2026-11-29T12:00:00Z")
TIP = 100 + 2 * (FETCHED - SINCE) // SECOND  # two blocks a second, as fast as can be
BTC, ETH = "BTC-USD", "ETH-USD"


def iso(ns: int) -> str:
    """Write an instant as the indexer does."""
    return f"{datetime.fromtimestamp(ns / 1e9, UTC):%Y-%m-%dT%H:%M:%S}.{ns // 10**6 % 1000:03d}Z"


def trade(at_s: float, height: int, event: int = 1, **other: Any) -> dict[str, Any]:
    """Write a trade of so long after the start."""
    fields = {
        "id": f"{height:08x}{2:08x}{event:08x}", "side": "BUY", "size": "0.1", "price": "50000",
        "type": "LIMIT", "createdAt": iso(SINCE + round(at_s * SECOND)),
        "createdAtHeight": str(height),
    }  # fmt: skip
    return fields | other


def candle(at_s: int, resolution: str = "1MIN", ticker: str = BTC) -> dict[str, Any]:
    """Write a candle that starts so long after the start."""
    return {
        "startedAt": iso(SINCE + at_s * SECOND), "ticker": ticker, "resolution": resolution,
        "low": "1", "high": "4", "open": "2", "close": "3", "baseTokenVolume": "5",
        "usdVolume": "15", "trades": 2, "startingOpenInterest": "7",
    }  # fmt: skip


def rate(at_s: float, height: int, rate: str = "0.00001", ticker: str = BTC) -> dict[str, Any]:
    """Write the funding of an hour that ended so long after the start."""
    at = iso(SINCE + round(at_s * SECOND))
    return {
        "ticker": ticker, "rate": rate, "price": "50100.5", "effectiveAt": at,
        "effectiveAtHeight": str(height),
    }  # fmt: skip


def page(start_s: int | None, path: str, body: Any, status: str = "200") -> Frame:
    """Write a page of the window that starts so long after the start; None is of no window."""
    id_ = "" if start_s is None else iso(SINCE + start_s * SECOND)
    text = body if isinstance(body, str) else json.dumps(body)
    return Frame(1, FETCHED, 1, "rest", "http", text, status, path, id_)


def trades_page(start_s: int, *rows: dict[str, Any], ticker: str = BTC) -> Frame:
    """Write a page of trades, newest first."""
    path = f"/v4/trades/perpetualMarket/{ticker}?limit=1000"
    return page(start_s, path, {"trades": [*rows][::-1]})


def candles_page(start_s: int, *rows: dict[str, Any], resolution: str = "1MIN") -> Frame:
    """Write a page of candles, newest first."""
    path = f"/v4/candles/perpetualMarkets/{BTC}?resolution={resolution}"
    return page(start_s, path, {"candles": [*rows][::-1]})


def funding_page(start_s: int, *rows: dict[str, Any], ticker: str = BTC) -> Frame:
    """Write a page of hourly rates."""
    return page(start_s, f"/v4/historicalFunding/{ticker}", {"historicalFunding": [*rows]})


def described(*tickers: str) -> list[Frame]:
    """Write what is fetched once."""
    markets = {x: market_fields(x, price=99) for x in tickers}
    return [
        page(None, "/v4/perpetualMarkets", {"markets": markets}),
        page(None, "/v4/height", {"height": str(TIP), "time": iso(FETCHED)}),
    ]


def history(*, window_s: int = 3600, hours: int = 2, kinds: Sequence[str] = ("trades",)) -> History:
    """Describe two markets' history of some hours."""
    until = SINCE + hours * 3600 * SECOND
    return History(
        markets=(BTC, ETH), kinds=(*kinds,), since_ns=SINCE, until_ns=until, window_s=window_s,
    )  # fmt: skip


def played(*pages: Frame, **of: Any) -> list[Frame]:
    """Unfold pages, after what describes both markets."""
    return [*unfold(history(**of), [*described(BTC, ETH), *pages])]


def of_channel(frames: Iterable[Frame], channel: str) -> list[Frame]:
    """Return the frames of a channel."""
    return [frame for frame in frames if frame.channel == channel]


def ids(frames: Iterable[Frame]) -> list[str]:
    """Return the ids of all trades, in the order played."""
    each = [contents(frame)[0] for frame in of_channel(frames, "v4_trades")]
    return [x.id for one in each if isinstance(one, TradesContents) for x in one.trades]


def test_rows_come_in_the_order_of_blocks_whatever_that_of_pages() -> None:
    """A page has its newest first, and each market has its own: blocks interleave them."""
    first, second, third = trade(1, 10), trade(2, 11), trade(3, 12)

    frames = played(trades_page(0, first, third), trades_page(0, second, ticker=ETH))

    assert ids(frames) == [first["id"], second["id"], third["id"]]


def test_a_block_comes_before_its_trades_at_their_time() -> None:
    """Height and time advance first: what follows is of that block."""
    frames = played(trades_page(0, trade(5.25, 77)))

    place = next(n for n, frame in enumerate(frames) if frame.channel == "v4_trades")
    block = contents(frames[place - 1])[0]
    assert isinstance(block, HeightContents)
    assert block.block == (77, SINCE + 5_250_000_000)
    assert frames[place].at == frames[place].mono == SINCE + 5_250_000_000


def test_the_text_of_a_row_stands_in_its_message_unchanged() -> None:
    """Whatever the venue writes into a row, also what nobody reads, is there verbatim."""
    row = '{"id" : "0a","side":"SELL","size":"1.0","price":"2.50","more":[1, 2],'
    row += f'"createdAt":"{iso(SINCE + SECOND)}","createdAtHeight":"5"}}'
    path = f"/v4/trades/perpetualMarket/{BTC}"

    frames = played(page(0, path, f'{{"trades":[{row}]}}'))

    assert row in of_channel(frames, "v4_trades")[0].text


def test_a_candle_comes_at_its_end_before_the_trades_of_the_next() -> None:
    """Decided at its close, it may not see what follows; nor may anybody see it earlier."""
    frames = played(candles_page(0, candle(0)), trades_page(0, trade(60, 9)))

    kinds = [(x.channel, x.at) for x in frames if x.channel in ("v4_candles", "v4_trades")]
    end = SINCE + 60 * SECOND
    assert kinds == [("v4_candles", end), ("v4_trades", end)]


def test_a_candle_that_outlasts_its_window_waits_for_its_end() -> None:
    """One of an hour that starts in a window of half an hour is over in the next one."""
    frames = played(
        candles_page(0, candle(0, "1HOUR"), resolution="1HOUR"),
        trades_page(1800, trade(3000, 9)), window_s=1800,
    )  # fmt: skip

    order = [x.channel for x in frames if x.channel in ("v4_candles", "v4_trades")]
    assert order == ["v4_trades", "v4_candles"]


def test_an_item_outside_its_window_or_twice_in_it_counts_once() -> None:
    """Pages overlap: the neighbour's window has what is outside."""
    early, late = trade(10, 10), trade(3700, 3000)

    frames = played(
        trades_page(0, early, late), trades_page(0, early), trades_page(3600, early, late)
    )

    assert ids(frames) == [early["id"], late["id"]]


def test_parameters_are_described_without_what_was_not_known_then() -> None:
    """A price of the day of the fetch would be a look into the future."""
    frame = of_channel(played(kinds=("trades", "funding")), "v4_markets")[0]

    given = contents(frame)[0].markets[BTC]
    assert (given.status, given.clob_pair_id, given.initial_margin_fraction) == (
        "ACTIVE", "0", "0.05",
    )  # fmt: skip
    unknown = (given.oracle_price, given.next_funding_rate, given.open_interest, given.volume_24h)
    assert unknown == (None,) * 4


def test_without_funding_the_usual_rate_of_the_market_is_charged() -> None:
    """Unknown, it would be charged at its worst: whoever imports candles has none."""
    frame = of_channel(played(kinds=("trades",)), "v4_markets")[0]

    assert contents(frame)[0].markets[BTC].next_funding_rate == "0"


def test_an_hour_of_funding_comes_with_its_price_for_all_markets_at_once() -> None:
    """One message: whoever charges the hour has all of its rates."""
    frames = played(
        funding_page(3600, rate(3600.4, 50)),
        funding_page(3600, rate(3600.4, 50, "-0.00002", ETH), ticker=ETH),
        trades_page(3600, trade(3600.4, 50)), kinds=("trades", "funding"),
    )  # fmt: skip

    update = contents(of_channel(frames, "v4_markets")[1])[0]
    assert isinstance(update, MarketsContents)
    rates = {ticker: fields.next_funding_rate for ticker, fields in update.trading.items()}
    assert rates == {BTC: "0.00001", ETH: "-0.00002"}
    assert {x.oracle_price for x in update.oracle_prices.values()} == {"50100.5"}
    order = [x.channel for x in frames if x.at == SINCE + 3_600_400_000_000]
    assert order == ["v4_markets", "v4_block_height", "v4_trades"]


def test_no_block_is_made_between_the_hour_and_its_funding() -> None:
    """The first block of an hour charges it: one of our own would charge the rate before."""
    frames = played(
        trades_page(0, trade(3599.5, 40)), funding_page(3600, rate(3600.9, 50)),
        kinds=("trades", "funding"),
    )  # fmt: skip

    hour = SINCE + 3600 * SECOND
    first = next(x for x in of_channel(frames, "v4_block_height") if x.at >= hour)
    assert first.at == hour + 900_000_000


def test_blocks_go_on_where_nothing_happens() -> None:
    """One a second after rows, in which orders arrive, then every 10 s, at the pace of before."""
    frames = played(trades_page(0, trade(0, 100), trade(300, 103)))

    blocks = [contents(x)[0].block for x in of_channel(frames, "v4_block_height")]
    known = [(h, (at - SINCE) // SECOND) for h, at in blocks if at <= SINCE + 300 * SECOND]
    assert known[:5] == [(99, 0), (100, 0), (101, 1), (109, 9), (119, 19)]
    assert known[-2:] == [(389, 289), (399, 299)]
    assert len(ids(frames)) == 2  # one of a height that is reckoned already joins the block at hand


def test_an_order_that_waits_for_a_block_is_not_over_before_it() -> None:
    """After a silence the height has gone on with the rows' own pace: it does not jump."""
    rows = [trade(2 * n, 100 + 3 * n, n) for n in range(40)]  # three blocks in two seconds
    frames = played(trades_page(0, *rows, trade(378, 667)))

    heights = [contents(x)[0].block[0] for x in of_channel(frames, "v4_block_height")]
    assert max(b - a for a, b in pairwise(heights)) <= 15


def test_a_candle_takes_no_block_from_the_order_before_it() -> None:
    """A second after a trade its block comes, also where a candle ends in between."""
    frames = played(trades_page(0, trade(59.5, 100)), candles_page(0, candle(0)))

    times = [contents(x)[0].block[1] - SINCE for x in of_channel(frames, "v4_block_height")]
    assert min(at for at in times if at > 60 * SECOND) == 61 * SECOND


def test_without_heights_they_are_reckoned_from_the_day_of_the_fetch() -> None:
    """Candles alone name no block: orders are dated by some height all the same."""
    pages = candles_page(0, candle(0), candle(60)), candles_page(3600)
    frames = played(*pages, kinds=("candles",))

    heights = [contents(x)[0].block[0] for x in of_channel(frames, "v4_block_height")]
    assert heights[0] == 100
    assert all(a <= b for a, b in pairwise(heights))
    assert len({*heights}) == 4


def test_where_candles_are_all_a_block_follows_those_of_an_end() -> None:
    """At once and of the same height: then all are known, and what waits has waited no longer."""
    frames = played(
        candles_page(0, candle(0)), candles_page(0, candle(0, "5MINS")), kinds=("candles",)
    )

    after = [y for x, y in pairwise(frames) if x.channel == "v4_candles"]
    before = [x for x, y in pairwise(frames) if y.channel == "v4_candles"]
    (_, first), (_, last) = (contents(x)[0].block for x in (before[0], after[0]))
    assert [x.channel for x in after] == ["v4_block_height"] * 2
    assert [(x.at - SINCE) // SECOND for x in after] == [60, 300]
    assert (last - first) // SECOND == 10
    assert contents(before[0])[0].block[0] == contents(after[0])[0].block[0]


LOST: list[tuple[str, Callable[[], Frame], str]] = [
    ("a refusal", lambda: page(0, "/v4/trades/perpetualMarket/BTC-USD", "no", "429"), "got 429"),
    ("no JSON", lambda: page(0, "/v4/trades/perpetualMarket/BTC-USD", "<p>"), "expected the answ"),
    ("no rows", lambda: page(0, "/v4/trades/perpetualMarket/BTC-USD", "{}"), "expected the answ"),
    ("an odd path", lambda: page(0, "/v4/else", "{}"), "expected the answer of /v4/else"),
    ("an odd row", lambda: trades_page(0, trade(1, 1, createdAt="now")), "1 of 1 rows"),
    ("an odd height", lambda: trades_page(0, trade(1, 1, createdAtHeight="x")), "1 of 1 rows"),
    ("an odd candle", lambda: candles_page(0, candle(0, "3MIN")), "1 of 1 rows"),
    ("an odd rate", lambda: funding_page(0, rate(1, 1, "much")), "1 of 1 rows"),
    ("a broken file", lambda: Frame(1, 1, 1, "", "gap", "bytes 1 to 2 are lost"), "bytes 1 to 2"),
    ("odd markets", lambda: page(None, "/v4/perpetualMarkets", "[]"), "cannot be read"),
    ("an odd tip", lambda: page(None, "/v4/height", "{}"), "cannot be read"),
]


@pytest.mark.parametrize("lost", [row[1:] for row in LOST], ids=[row[0] for row in LOST])
def test_what_cannot_be_read_is_a_gap_and_the_rest_is_played(
    lost: tuple[Callable[[], Frame], str],
) -> None:
    """Bad input never loses what is around it."""
    make, why = lost

    frames = played(make(), trades_page(0, trade(2, 2)))

    assert ids(frames) == [trade(2, 2)["id"]]
    assert any(why in frame.text for frame in frames if frame.kind == "gap")


def test_a_window_out_of_order_is_a_gap_and_not_played() -> None:
    """Its rows are of the past of what was played, and missing where they should have been."""
    odd = page(0, "/v4/trades/perpetualMarket/BTC-USD", "{}")
    odd = Frame(1, 1, 1, "rest", "http", "{}", "200", odd.channel, "yesterday")

    frames = played(trades_page(3600, trade(3601, 9)), trades_page(0, trade(1, 1)), odd)

    assert ids(frames) == [trade(3601, 9)["id"]]
    assert sum(frame.kind == "gap" for frame in frames) == 3


def test_time_ends_where_pages_end_whatever_the_header_says() -> None:
    """A file that was cut off is no market in which nothing happens."""
    frames = played(trades_page(0, trade(1, 1)), hours=24 * 365 * 100)

    assert frames[-1].kind == "gap"
    assert frames[-1].text.endswith("got the end")
    assert frames[-1].at < SINCE + 3600 * SECOND


@pytest.mark.parametrize("start_s", [-3600, 7200])
def test_a_window_outside_of_the_span_is_a_gap_and_not_played(start_s: int) -> None:
    """A page whose time is wrong takes no time with it."""
    good = trades_page(0, trade(1, 1)), trades_page(3600)

    frames = played(*good, trades_page(start_s, trade(start_s + 1, 2)))

    assert [frame.text[:35] for frame in frames if frame.kind == "gap"] == [
        "expected a window of the span of th"
    ]
    assert ids(frames) == [trade(1, 1)["id"]]


def test_a_window_that_is_missing_is_a_gap_where_it_would_begin() -> None:
    """Nobody knows what was traded in it: what was known before it is known no more."""
    frames = played(trades_page(0, trade(1, 1)), trades_page(7200, trade(7201, 9)), hours=3)

    (gap,) = [frame for frame in frames if frame.kind == "gap"]
    assert "expected the window of" in gap.text
    assert SINCE < gap.at <= SINCE + 7200 * SECOND
    assert len(ids(frames)) == 2


def test_markets_that_nobody_described_are_a_gap() -> None:
    """Without their grid nothing can be traded: reported, not guessed."""
    frames = [*unfold(history(), [trades_page(0, trade(1, 1))])]

    assert "no market is described" in next(x.text for x in frames if x.kind == "gap")
    assert ids(frames) == [trade(1, 1)["id"]]


def written(folder: Path, *pages: Frame) -> Path:
    """Write pages, behind what describes a market, to a file."""
    header = Header(network="t", rest="http://x", ws="", client="", source="s", history=history())
    path = folder / "past.jsonl.zst"
    writer = RecordingWriter(path, header)
    for each in (*described(BTC), *pages):
        writer.write_frame(each)
    writer.close()
    return path


def test_a_recording_of_history_is_iterated_as_what_its_pages_stand_for(tmp_path: Path) -> None:
    """Whoever plays a recording need not know; whoever verifies it reads its pages."""
    recording = Recording(written(tmp_path, trades_page(0, trade(1, 1))))

    frames, pages = [*recording], [*recording.pages()]

    assert (ids(frames), frames[0].kind, frames[0].text) == (
        [trade(1, 1)["id"]],
        "open",
        "http://x",
    )
    assert [x.kind for x in pages] == ["http"] * 3
    assert recording.complete
    assert [*recording] == frames


def test_of_a_history_some_kinds_alone_may_be_played(tmp_path: Path) -> None:
    """Played by its candles it is what a history of candles would be; the header says so."""
    path = tmp_path / "past.jsonl.zst"
    past = history(kinds=("trades", "candles", "funding"))
    header = Header(network="n", rest="r", ws="", client="c", source="s", history=past)
    writer, pages = RecordingWriter(path, header), [*described(BTC), candles_page(0, candle(60))]
    for frame in [*pages, trades_page(0, trade(1, 9)), page(0, "/v4/trades/x", "{}", "404")]:
        writer.write_frame(frame)
    writer.close()

    coarse = Recording(path, ("candles", "funding"))

    assert [*coarse] == [*unfold(history(kinds=("candles", "funding")), pages, "r")]
    assert coarse.header.history == history(kinds=("candles", "funding"))


@pytest.mark.parametrize("past", [None, history(kinds=("trades", "funding"))])
def test_what_a_recording_lacks_cannot_be_played(tmp_path: Path, past: History | None) -> None:
    """Refused at once, with what there is."""
    path = tmp_path / "past.jsonl.zst"
    header = Header(network="n", rest="r", ws="", client="c", source="s", history=past)
    RecordingWriter(path, header).close()

    with pytest.raises(RecordingError, match="expected a history of candles"):
        Recording(path, ("candles", "funding"))


ROWS = st.lists(st.tuples(st.integers(0, 7199), st.integers(0, 3)), max_size=40)


@pytest.mark.parametrize(("at_s", "left"), [(-9, 3), (3_599, 3), (3_600, 2), (7_300, 1), (9**9, 1)])
def test_windows_before_a_moment_are_passed_over(at_s: int, left: int, tmp_path: Path) -> None:
    """What is left is played as ever, from the start of the moment's window on."""
    path = tmp_path / "past.jsonl.zst"
    header = Header(network="t", rest="", ws="", client="", source="s", history=history(hours=3))
    writer = RecordingWriter(path, header)
    rows = [trade(at, 200 + at) for at in (10, 3_610, 7_210)]
    pages = [trades_page(3_600 * n, row) for n, row in enumerate(rows)]
    for frame in [*described(BTC), *pages]:
        writer.write_frame(frame)
    writer.close()
    frames = [*Recording(path).since(SINCE + at_s * SECOND)]

    assert ids(frames) == [row["id"] for row in rows[-left:]]
    assert frames[0].at == SINCE + 3_600 * (3 - left) * SECOND
    assert not [frame for frame in frames if frame.kind == "gap"]


@given(ROWS, ROWS, st.lists(st.integers(0, 119), max_size=10), st.sampled_from([600, 1800, 3600]))
def test_nothing_is_seen_before_its_time_and_nothing_is_lost(
    btc: list[tuple[int, int]], eth: list[tuple[int, int]], minutes: list[int], window_s: int
) -> None:
    """Each row is in a frame at its own time; time, blocks and numbers only ever go forward."""
    per_market = {
        ticker: {f"{s}-{n}": trade(s, 100 + 2 * s, n) for s, n in rows}
        for ticker, rows in ((BTC, btc), (ETH, eth))
    }
    pages = [
        each
        for start in range(0, 7200, window_s)
        for each in (
            trades_page(start, *per_market[BTC].values()),
            trades_page(start, *per_market[ETH].values(), ticker=ETH),
            candles_page(start, *(candle(60 * minute) for minute in minutes)),
        )
    ]

    frames = played(*pages, window_s=window_s)

    expected = sum(map(len, per_market.values()))
    assert len(ids(frames)) == expected
    assert len(of_channel(frames, "v4_candles")) == len({*minutes})
    assert [frame.seq for frame in frames] == [*range(1, len(frames) + 1)]
    numbers = [frame.message_id for frame in frames if frame.kind == "ws"]
    assert numbers == [*range(len(numbers))]
    assert all(a.at <= b.at for a, b in pairwise(frames))
    heights = [contents(x)[0].block for x in of_channel(frames, "v4_block_height")]
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(heights))
    for frame in of_channel(frames, "v4_trades"):
        assert {instant(x.created_at) for x in contents(frame)[0].trades} == {frame.at}
    for frame in of_channel(frames, "v4_candles"):
        one = contents(frame)[0]
        assert isinstance(one, CandlesContents)
        assert instant(one.candles[0].started_at) + 60 * SECOND == frame.at


def test_a_market_that_has_ended_since_was_active() -> None:
    """Its status is of the day of the fetch: who played it then would know how it ends."""
    markets = {BTC: market_fields(BTC, price=99, status="FINAL_SETTLEMENT")}
    first = page(None, "/v4/perpetualMarkets", {"markets": markets})

    frames = [*unfold(history(), [first, trades_page(0, trade(1, 1))])]

    (described,) = of_channel(frames, "v4_markets")
    assert [x.status for x in contents(described)[0].markets.values()] == ["ACTIVE"]


# Blocks may be as fast as half a second, and as slow as a height of its own after minutes.
BLOCKS = st.lists(
    st.tuples(st.sampled_from([500, 600, 1000, 1400, 2500, 9000, 60_000, 900_000]),
              st.integers(1, 3), st.integers(1, 3)),
    min_size=1, max_size=25,
)  # fmt: skip
CUT_KINDS = st.sampled_from([("trades",), ("candles", "funding"), ("trades", "candles", "funding")])


@settings(max_examples=50)
@given(BLOCKS, st.sets(st.integers(0, 119)), CUT_KINDS, st.data())
def test_what_is_played_up_to_an_instant_does_not_depend_on_what_comes_after_it(
    blocks: list[tuple[int, int, int]], minutes: set[int], kinds: tuple[str, ...], data: Any
) -> None:
    """A history that ends at any instant plays the same frames up to it, byte for byte."""
    rows: list[tuple[float, dict[str, Any]]] = []
    ms, height = 0, 100
    for passed, heights, count in blocks:
        ms, height = ms + passed, height + heights
        rows += [(ms / 1000, trade(ms / 1000, height, n)) for n in range(count)]
    near = st.sampled_from([at for at, _ in rows]).map(lambda at: at + 1.1)
    first = rows[0][0]  # the height of the first row is that of the chain when all begins
    cut_s = max(data.draw(st.floats(0, 7200) | st.integers(0, 119).map(float) | near), first)

    def before(until_s: float) -> list[Frame]:
        """Play what is known by then."""
        pages = []
        for start in (0, 3600):
            inside = [row for at, row in rows if at <= until_s and start <= at < start + 3600]
            over = [m for m in minutes if m * 60 + 60 <= until_s and start <= m * 60 < start + 3600]
            hours = [rate(start + 0.4, height)] if 0 < start <= until_s - 0.4 else []
            pages += [trades_page(start, *inside)] * ("trades" in kinds)
            pages += [candles_page(start, *(candle(60 * m) for m in over))] * ("candles" in kinds)
            pages += [funding_page(start, *hours)] * ("funding" in kinds)
        until_ns = SINCE + round(cut_s * SECOND)
        return [frame for frame in played(*pages, kinds=kinds) if frame.at <= until_ns]

    assert before(cut_s) == before(7200)


def test_what_pages_lack_is_damage_of_the_recording(tmp_path: Path) -> None:
    """Whoever shows what a recording came to shows that as well."""
    path = written(tmp_path, trades_page(0, trade(1, 1, createdAt="now")))

    recording = Recording(path)
    kinds = [frame.kind for frame in recording]

    assert kinds.count("gap") == len(recording.damage) == 2
    assert "1 of 1 rows" in recording.damage[0]


def test_pages_without_their_header_are_refused(tmp_path: Path) -> None:
    """They were no frames of a live link: played as such nothing would happen."""
    path = written(tmp_path, trades_page(0, trade(1, 1)))
    whole = bytearray(path.read_bytes())
    whole[20] ^= 255
    path.write_bytes(whole)

    with pytest.raises(RecordingError, match=r"expected the header of .*, got damage"):
        Recording(path)

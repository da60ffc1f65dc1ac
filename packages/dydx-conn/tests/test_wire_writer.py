"""The wire writer: what it writes is what an indexer sends, letter for letter."""

import doctest
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import dydx_conn
import pytest
from dydx_conn import (
    Accounts,
    BookContents,
    Continuity,
    Frame,
    Header,
    Recording,
    RecordingWriter,
    Subaccount,
    WireWriter,
    contents,
    event_id,
    find_recording,
    market_fields,
    perpetual_market,
)

US = Subaccount("dydx1us", 3)
CANDLE = {
    "startedAt": "2026-01-01T00:00:00.000Z", "low": "1", "high": "2", "open": "1", "close": "2",
    "baseTokenVolume": "5", "usdVolume": "9", "trades": 7,
}  # fmt: skip


@pytest.fixture
def wire() -> WireWriter:
    """A connection at the beginning of 2026."""
    return WireWriter()


@pytest.fixture(scope="module")
def recorded() -> list[Frame]:
    """The messages of a bundled recording that has an account."""
    frames = Recording(find_recording("account"))
    return [frame for frame in frames if frame.kind == "ws"]


def body(frame: Frame) -> Any:
    """Return the contents of a message as they were written."""
    return json.loads(frame.text)["contents"]


def names(value: Any) -> Iterator[str]:
    """Yield the names of all fields in a JSON value; a ticker is none."""
    if isinstance(value, dict):
        yield from (name for name in value if "-" not in name)
    for inner in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from names(inner)


# === As the indexer ===


def test_each_message_of_a_recording_is_written_letter_for_letter(recorded: list[Frame]) -> None:
    """The envelope, its names, their order and the version, whatever the channel and type."""
    wire = WireWriter()
    its_id = json.loads(recorded[0].text)["connection_id"]

    for frame in recorded:
        wire.ids["c1"] = frame.message_id - 1
        what = json.loads(frame.text).get("contents")
        written = wire.message(frame.type, frame.channel, what, frame.id)
        assert written.text == frame.text.replace(its_id, event_id("link", "c1"))


@pytest.mark.replays
def test_books_and_blocks_of_a_recording_are_written_letter_for_letter(
    recorded: list[Frame],
) -> None:
    """From prices, sizes, heights and times alone."""
    wire = WireWriter()

    for frame in recorded:
        first = frame.type == "subscribed"
        if frame.channel == "v4_orderbook":
            write = wire.book if first else wire.levels
            made = [write(frame.id, part.bids, part.asks) for part in contents(frame)]
            bodies = [body(one) if first else body(one)[0] for one in made]
            assert bodies == ([body(frame)] if first else body(frame))
        elif frame.channel == "v4_block_height":
            [block] = contents(frame)
            height = int(block.height or block.block_height)
            assert body(wire.block(height, block.time, snapshot=first)) == body(frame)


def test_no_field_is_written_that_the_indexer_does_not_send(
    wire: WireWriter, recorded: list[Frame]
) -> None:
    """What is filled in bears the venue's names."""
    known: defaultdict[str, set[str]] = defaultdict(set)
    for frame in recorded:
        known[frame.channel] |= {*names(body(frame))} if frame.channel else set()

    written = [
        wire.markets(market_fields("ETH-USD", price=3000)), wire.oracle("ETH-USD", 1),
        wire.trade("ETH-USD", "BUY", 1, 2), wire.block(), wire.book("ETH-USD", [(1, 2)]),
        wire.account(US, 1000, [{"market": "ETH-USD", "size": "1"}]),
        wire.account_update(US, usdc=1, fills=[{"size": "1"}], perpetualPositions=[{"size": "1"}]),
    ]  # fmt: skip

    for frame in written:
        assert {*names(body(frame))} <= known[frame.channel]


# === Channel by channel ===


def test_a_market_is_described_on_its_own_grid() -> None:
    """BTC and ETH as they are; what is given replaces the defaults."""
    fields = {
        ticker: market_fields(ticker, price="1") for ticker in ("BTC-USD", "ETH-USD", "DOGE-USD")
    }
    coarse = market_fields(
        "X-USD", price=1e-5, atomicResolution=-4, clobPairId="9", status="PAUSED"
    )

    assert {t: (f["clobPairId"], f["tickSize"], f["stepSize"]) for t, f in fields.items()} == {
        "BTC-USD": ("0", "1", "0.0001"),
        "ETH-USD": ("1", "0.1", "0.001"),
        "DOGE-USD": ("2", "0.1", "0.001"),
    }
    assert (coarse["oraclePrice"], coarse["stepSize"]) == ("0.00001", "100")
    assert (coarse["clobPairId"], coarse["status"]) == ("9", "PAUSED")
    assert market_fields("X-USD", price=None)["oraclePrice"] is None


def test_markets_are_begun_with_and_change(wire: WireWriter) -> None:
    """A snapshot is read as parameters; updates come in a batch of one."""
    [begun] = contents(wire.markets(market_fields("ETH-USD", price=3000)))
    [oracle] = contents(wire.oracle("ETH-USD", 3000.5))
    [trading] = contents(wire.trading("ETH-USD", status="PAUSED"))

    eth = perpetual_market(begun.markets["ETH-USD"])
    assert (eth.clob_pair_id, eth.imf_ppm, eth.subticks("3000.1")) == (1, 50_000, 3_000_100_000)
    assert oracle.oracle_prices["ETH-USD"].oracle_price == "3000.5"
    assert trading.trading["ETH-USD"].status == "PAUSED"


def test_an_oracle_price_names_its_market_block_and_time(wire: WireWriter) -> None:
    """As known from what was written before."""
    wire.markets(market_fields("ETH-USD", price=3000))
    wire.block(41)
    wire.wait(1.25)

    [update] = body(wire.oracle("ETH-USD", "3001"))

    assert update["oraclePrices"]["ETH-USD"] == {
        "oraclePrice": "3001", "effectiveAt": "2026-01-01T00:00:01.250Z",
        "effectiveAtHeight": "41", "marketId": 1,
    }  # fmt: skip


@pytest.mark.parametrize("pair", [None, "", "x"])
def test_a_market_may_be_described_badly(wire: WireWriter, pair: str | None) -> None:
    """A test of what is wrong writes just that."""
    begun = wire.markets(market_fields("ETH-USD", price="much", clobPairId=pair))
    wire.oracle("ETH-USD", 3000)

    assert body(begun)["markets"]["ETH-USD"]["clobPairId"] == pair


def test_a_book_is_begun_with_and_changes(wire: WireWriter) -> None:
    """Numbers are written without exponents, texts as they are; a side unchanged is left out."""
    book = wire.book("ETH-USD", [("2999.90", "5")], [(1e16, 1e-7)])
    levels = wire.levels("ETH-USD", bids=[(2999.9, 0)])

    assert contents(book) == [
        BookContents(bids=[("2999.90", "5")], asks=[("10000000000000000", "0.0000001")])
    ]
    assert body(levels) == [{"bids": [["2999.9", "0"]]}]


def test_trades_are_numbered_and_dated_unless_they_are_already(wire: WireWriter) -> None:
    """An id is an event's, as the venue's: its block first."""
    wire.block(255)
    [one] = contents(wire.trade("ETH-USD", "SELL", 0.5, Decimal("3000.10")))
    [two] = contents(wire.trades("ETH-USD", {"side": "BUY", "size": "1", "price": "2", "id": "a"}))
    first = wire.trades("ETH-USD", snapshot=True)

    [trade] = one.trades
    assert (trade.id, trade.side, trade.size, trade.price) == (
        "000000ff0000000200000001", "SELL", "0.5", "3000.1",
    )  # fmt: skip
    assert trade.created_at == "2026-01-01T00:00:00.000Z"
    assert two.trades[0].id == "a"
    assert (first.type, contents(first)[0].trades) == ("subscribed", [])


def test_candles_are_begun_with_and_change(wire: WireWriter) -> None:
    """Their id names the resolution, and each repeats it."""
    begun = wire.candles("ETH-USD", "1MIN", CANDLE, CANDLE, snapshot=True)
    changed = wire.candles("ETH-USD", "1MIN", CANDLE, {**CANDLE, "close": "1.5"})

    assert begun.id == changed.id == "ETH-USD/1MIN"
    assert len(contents(begun)[0].candles) == 2
    assert [part.candles[0].close for part in contents(changed)] == ["2", "1.5"]
    assert contents(changed)[0].candles[0].resolution == "1MIN"


def test_blocks_count_on_from_the_last(wire: WireWriter) -> None:
    """At the time that it is, or at another."""
    first, second, third = (
        wire.block(7, snapshot=True), wire.block(), wire.block(9, "2036-01-01T00:00:00Z"),
    )  # fmt: skip

    assert body(first) == {"height": "7", "time": "2026-01-01T00:00:00.000Z"}
    assert body(second) == {"blockHeight": "8", "time": "2026-01-01T00:00:00.000Z"}
    assert body(third) == {"blockHeight": "9", "time": "2036-01-01T00:00:00Z"}
    assert first.id == "v4_block_height"


def test_an_account_is_begun_with_and_changes_by_the_block(wire: WireWriter) -> None:
    """The one reader of accounts has no doubt about it."""
    accounts = Accounts()
    fill = {"ticker": "ETH-USD", "side": "SELL", "size": "1.5", "price": "3000", "fee": "0.5"}
    short = {"market": "ETH-USD", "size": "-0.5", "entryPrice": "3000"}
    wire.block(10)
    frames = [wire.account(US, 1000, [{"market": "ETH-USD", "size": "1", "entryPrice": "3000"}])]
    wire.block()
    frames.append(wire.account_update(US, usdc=5499.5, fills=[fill], perpetualPositions=[short]))
    frames.append(wire.account_update(US, usdc=-1))
    frames.append(wire.account_update(US, orders=[{"id": "o1", "status": "OPEN"}]))

    first, second, third, fourth = (accounts.step(frame)[-1] for frame in frames)

    assert (first.height, first.collateral, first.positions[0].size) == (
        10,
        1_000_000_000,
        Decimal(1),
    )
    assert (second.height, second.collateral) == (11, 5_499_500_000)
    assert [made.size for made in second.fills] == [Decimal("1.5")]
    assert second.positions[0].size == Decimal("-0.5")
    assert (third.collateral, third.doubt) == (-1_000_000, "")
    assert [(order.id, order.status) for order in fourth.orders] == [("o1", "OPEN")]


def test_an_answer_is_json_unless_it_is_a_text(wire: WireWriter) -> None:
    """With its path and its status, which is 200 by default."""
    good, bad = (
        wire.answer("/v4/height", {"height": "7", "time": "t"}),
        wire.answer("/v4/x", "", 404),
    )

    assert (good.kind, good.link, good.channel, good.type) == ("http", "rest", "/v4/height", "200")
    assert contents(good)[0].height == "7"
    assert (bad.text, bad.type) == ("", "404")


# === Numbers and time ===


def test_frames_are_numbered_and_messages_by_their_link(wire: WireWriter) -> None:
    """As the venue counts: from 0 with each connection; an error takes no number."""
    frames = [wire.event("open"), wire.message("connected"), wire.block()]
    wire.link = "c2"
    frames += [wire.block(), wire.block(), wire.message("error", message="no")]
    wire.link = "c1"
    frames += [wire.block(), wire.message("connected"), wire.block(), wire.raw("{}")]

    assert [frame.seq for frame in frames] == list(range(1, 11))
    assert [frame.message_id for frame in frames] == [0, 0, 1, 1, 2, 2, 2, 0, 1, 0]
    assert [frame.link for frame in frames] == ["c1"] * 3 + ["c2"] * 3 + ["c1"] * 4
    assert frames[-1].fault


def test_an_id_that_is_spent_is_a_message_lost(wire: WireWriter) -> None:
    """And without that nothing is."""
    ids = Continuity()
    whole = [ids.take(wire.message("connected")), ids.take(wire.block()), ids.take(wire.block())]

    wire.ids["c1"] += 2

    assert whole == ["", "", ""]
    assert (ids.take(wire.block()), ids.lost) == ("gap", 2)


def test_time_passes_on_both_clocks(wire: WireWriter) -> None:
    """Or on one, if a test moves that."""
    before = wire.event("tick", link="clock")
    wire.wait(0.25)
    after = wire.event("tick")
    wire.at -= 10**9
    jumped = wire.event("tick")

    assert (before.link, after.link) == ("clock", "c1")
    assert (after.at - before.at, after.mono - before.mono) == (250_000_000, 250_000_000)
    assert (jumped.at - after.at, jumped.mono) == (-(10**9), after.mono)


def test_what_is_written_can_be_recorded(wire: WireWriter, tmp_path: Path) -> None:
    """And is read back as it was."""
    frames = [
        wire.event("open"),
        wire.block(),
        wire.trade("ETH-USD", "BUY", 1, 2),
        wire.answer("/v4/time", {}),
    ]
    header = Header(network="local", rest="", ws="", client="", source="a test")
    writer = RecordingWriter(tmp_path / "r.jsonl.zst", header)

    for frame in frames:
        writer.write_frame(frame)
    writer.close()

    assert list(Recording(writer.path)) == frames


def test_the_examples_in_the_docstrings_are_true() -> None:
    """What a reader tries first works."""
    assert doctest.testmod(dydx_conn).failed == 0


def test_the_readmes_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    """And print what their comments promise."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")

    for example in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        exec(example, {})

    assert "13 subscribed ETH-USD ('3120.1', '4.776')\n" in capsys.readouterr().out

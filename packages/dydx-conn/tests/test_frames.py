"""Frames and what they carry: every channel, and every way a text can be wrong."""

import contextlib
import json
from pathlib import Path
from typing import Any

import dydx_conn
import msgspec
import pytest
from dydx_conn import (
    BookContents,
    CandlesContents,
    ComplianceFields,
    ErrorFields,
    ErrorsContents,
    Frame,
    Header,
    HeightContents,
    MarketsContents,
    PartyFields,
    Recording,
    RecordingWriter,
    ScreenFields,
    SubaccountContents,
    TimeFields,
    TradesContents,
    WireError,
    WireWriter,
    contents,
    key_of,
    market_fields,
    odd_rows,
    rest_contents,
    ws_frame,
)
from hypothesis import given
from hypothesis import strategies as st

TRADE = {
    "id": "0127c1bb-0000-5000-8000-000000000001",
    "side": "BUY",
    "size": "0.0115",
    "price": "63132",
    "type": "LIMIT",
    "createdAt": "2026-01-01T00:00:00.123Z",
    "createdAtHeight": "1009",
}
CANDLE = {
    "startedAt": "2026-01-01T00:00:00.000Z",
    "ticker": "BTC-USD",
    "resolution": "1MIN",
    "low": "63000",
    "high": "63200",
    "open": "63100",
    "close": "63132",
    "baseTokenVolume": "1.25",
    "usdVolume": "78915",
    "trades": 7,
    "startingOpenInterest": "812.5",
    "orderbookMidPriceOpen": None,
}
MARKET = market_fields(
    "BTC-USD", price="63132.81", priceChange24H="-120.5", volume24H="1203945.25", trades24H=4711,
    initialMarginFraction="0.02", maintenanceMarginFraction="0.012", openInterest="812.5",
)  # fmt: skip
POSITION = {
    "address": "dydx1owner",
    "subaccountNumber": 0,
    "positionId": "p",
    "market": "BTC-USD",
    "side": "SHORT",
    "status": "OPEN",
    "size": "-0.5",
    "maxSize": "-0.5",
    "netFunding": "1.25",
    "entryPrice": "63000",
    "exitPrice": None,
    "sumOpen": "0.5",
    "sumClose": "0",
}
BALANCE = {"symbol": "USDC", "side": "LONG", "size": "1000", "assetId": "0"}
FILL = {
    "id": "f",
    "fee": "-0.01",
    "side": "SELL",
    "size": "0.5",
    "type": "LIMIT",
    "price": "63000",
    "liquidity": "MAKER",
    "clobPairId": "0",
    "orderId": "o",
    "createdAt": "2026-01-01T00:00:00.123Z",
    "createdAtHeight": "1009",
    "ticker": "BTC-USD",
}
TRANSFER = {
    "sender": {"address": "dydx1other"},
    "recipient": {"address": "dydx1owner", "subaccountNumber": 0},
    "size": "1000",
    "symbol": "USDC",
    "type": "DEPOSIT",
    "createdAt": "2026-01-01T00:00:00.123Z",
    "createdAtHeight": "9",
    "transactionHash": "AB",
}
SUBACCOUNT = {
    "address": "dydx1owner",
    "subaccountNumber": 0,
    "equity": "1000",
    "freeCollateral": "999.5",
    "openPerpetualPositions": {"BTC-USD": POSITION},
    "assetPositions": {"USDC": BALANCE},
    "marginEnabled": True,
}


def message(type_: str, channel: str, what: Any, **more: Any) -> str:
    """Write a message as the indexer's socket does."""
    body = msgspec.Raw(b"null") if what is None else what
    return WireWriter().message(type_, channel, body, **more).text


def decoded(text: str) -> list[Any]:
    """Read what one message carries."""
    return contents(ws_frame(1, 2, 3, "c1", text))


# === What is there ===


def test_a_message_keeps_its_words_and_shows_its_head() -> None:
    """The text is verbatim; type, channel, id and number are read from it."""
    text = message("channel_data", "v4_trades", {"trades": [TRADE]}, id="BTC-USD")

    frame = ws_frame(7, 8, 9, "c1", text)

    assert (frame.seq, frame.at, frame.mono, frame.link) == (7, 8, 9, "c1")
    assert (frame.kind, frame.type, frame.channel) == ("ws", "channel_data", "v4_trades")
    assert (frame.id, frame.message_id, frame.fault) == ("BTC-USD", 1, "")
    assert frame.text == text


@pytest.mark.parametrize(
    ("frame", "parts"),
    [
        (Frame(1, 2, 3, "c1", "ws", type="subscribed"), {"is_snapshot": True}),
        (Frame(1, 2, 3, "c1", "ws", type="error"), {"is_refusal": True}),
        (Frame(1, 2, 3, "c1", "ws", fault="no JSON"), {"reason": "no JSON"}),
        (
            Frame(1, 2, 3, "rest", "http", "{}", "200", "/v4/trades/perpetualMarket/A?limit=1"),
            {"ok": True, "status": 200, "path": "/v4/trades/perpetualMarket/A"},
        ),
        (
            Frame(1, 2, 3, "rest", "http", "", "404", "/v4/time"),
            {"status": 404, "path": "/v4/time"},
        ),
        (
            Frame(1, 2, 3, "node", "http", "", "-1", "broadcast"),
            {"status": -1, "path": "broadcast"},
        ),
        (Frame(1, 2, 3, "rest", "http", "", "odd", "/v4/time"), {"path": "/v4/time"}),
        (Frame(1, 2, 3, "c1", "close", "bye", "1012"), {"status": 1012, "reason": "bye"}),
        (Frame(1, 2, 3, "c1", "gap", "2 lost", message_id=2), {"lost": 2, "reason": "2 lost"}),
        (Frame(1, 2, 3, "c1", "open", "wss://v"), {}),
    ],
)
def test_a_frame_names_what_its_parts_hold(frame: Frame, parts: dict[str, Any]) -> None:
    """By its kind; what a frame of its kind does not have is empty."""
    nothing = {"is_snapshot": False, "is_refusal": False, "ok": False, "status": 0, "path": ""}

    expected = {**nothing, "reason": "", "lost": 0, **parts}

    assert {name: getattr(frame, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/v4/perpetualMarkets", ("v4_markets", "")),
        ("/v4/height", ("v4_block_height", "")),
        ("/v4/orderbooks/perpetualMarket/BTC-USD", ("v4_orderbook", "BTC-USD")),
        ("/v4/trades/perpetualMarket/A%2FB-USD?limit=1", ("v4_trades", "A/B-USD")),
        ("/v4/candles/perpetualMarkets/X?limit=1&resolution=1MIN", ("v4_candles", "X/1MIN")),
        ("/v4/candles/perpetualMarkets/X", ("", "")),
        ("/v4/addresses/a/subaccountNumber/3", ("v4_subaccounts", "a/3")),
        ("/v4/fills?address=a&subaccountNumber=3", ("v4_subaccounts", "a/3")),
        (
            "/v4/orders/parentSubaccountNumber?address=a&parentSubaccountNumber=3",
            ("v4_parent_subaccounts", "a/3"),
        ),
        ("/v4/orders/9", ("", "")),
        ("/v4/time", ("", "")),
        ("/v5", ("", "")),
        ("broadcast", ("", "")),
    ],
)
def test_an_answer_stands_in_for_a_channel(path: str, key: tuple[str, str]) -> None:
    """For the one whose snapshot is made from it, under the id that the channel has."""
    assert key_of(Frame(1, 2, 3, "rest", "http", "{}", "200", path)) == key


def test_a_book_snapshot_and_its_updates_look_alike() -> None:
    """Objects in the one, pairs in the other, (price, size) in both."""
    level = {"price": "63132", "size": "0.5"}

    snapshot = decoded(message("subscribed", "v4_orderbook", {"bids": [level], "asks": []}))
    update = decoded(message("channel_data", "v4_orderbook", {"bids": [["63132", "0"]]}))
    batch = decoded(
        message("channel_batch_data", "v4_orderbook", [{"asks": [["1", "2"]]}, {"bids": []}])
    )

    assert snapshot == [BookContents(bids=[("63132", "0.5")])]
    assert update == [BookContents(bids=[("63132", "0")])]
    assert batch == [BookContents(asks=[("1", "2")]), BookContents()]


@pytest.mark.parametrize("type_", ["subscribed", "channel_data"])
def test_trades_are_read(type_: str) -> None:
    """A tape, in a snapshot and in an update."""
    (trades,) = decoded(message(type_, "v4_trades", {"trades": [TRADE]}))

    assert isinstance(trades, TradesContents)
    assert trades.trades[0].created_at == "2026-01-01T00:00:00.123Z"
    assert (trades.trades[0].side, trades.trades[0].size) == ("BUY", "0.0115")


def test_candles_are_lists_whether_one_came_or_many() -> None:
    """A snapshot lists them, an update is one, a batch is one after the other."""
    listed = decoded(message("subscribed", "v4_candles", {"candles": [CANDLE, CANDLE]}))
    single = decoded(message("channel_data", "v4_candles", CANDLE))
    batch = decoded(message("channel_batch_data", "v4_candles", [CANDLE, CANDLE]))

    assert [type(c) for c in listed + single + batch] == [CandlesContents] * 4
    assert [len(c.candles) for c in listed + single + batch] == [2, 1, 1, 1]
    assert (single[0].candles[0].started_at, single[0].candles[0].trades) == (
        "2026-01-01T00:00:00.000Z",
        7,
    )


def test_markets_are_described_and_updated() -> None:
    """A description is whole, an update holds what changed."""
    oracle = {"oraclePrice": "1.5", "effectiveAt": "t", "effectiveAtHeight": "9", "marketId": 0}

    (snapshot,) = decoded(message("subscribed", "v4_markets", {"markets": {"BTC-USD": MARKET}}))
    (update,) = decoded(
        message(
            "channel_data",
            "v4_markets",
            {
                "trading": {"BTC-USD": {"id": "0", "status": "PAUSED"}},
                "oraclePrices": {"X": oracle},
            },
        )
    )

    market = snapshot.markets["BTC-USD"]
    assert isinstance(snapshot, MarketsContents)
    assert (market.oracle_price, market.next_funding_rate) == ("63132.81", "0.0000125")
    assert update.trading["BTC-USD"].status == "PAUSED"
    assert update.trading["BTC-USD"].oracle_price is None
    assert update.oracle_prices["X"].oracle_price == "1.5"


@pytest.mark.parametrize("channel", ["v4_subaccounts", "v4_parent_subaccounts"])
def test_a_subaccount_is_summed_up_and_updated(channel: str) -> None:
    """A snapshot, an update with everything, and an order with few fields."""
    snapshot, update, little = (
        decoded(message(type_, channel, what))[0]
        for type_, what in [
            ("subscribed", {"subaccount": SUBACCOUNT, "orders": [], "blockHeight": "9"}),
            (
                "channel_data",
                {
                    "perpetualPositions": [POSITION],
                    "assetPositions": [BALANCE],
                    "fills": [FILL],
                    "transfers": TRANSFER,
                    "tradingReward": {"tradingReward": "1"},
                },
            ),
            ("channel_data", {"orders": [{"id": "o", "status": "CANCELED"}]}),
        ]
    )

    assert isinstance(snapshot, SubaccountContents)
    assert snapshot.subaccount is not None
    assert snapshot.subaccount.open_perpetual_positions["BTC-USD"].size == "-0.5"
    assert snapshot.subaccount.asset_positions["USDC"].size == "1000"
    assert update.perpetual_positions[0].net_funding == "1.25"
    assert update.asset_positions[0].side == "LONG"
    assert (update.fills[0].fee, update.fills[0].liquidity) == ("-0.01", "MAKER")
    assert update.subaccount is None
    assert (little.orders[0].status, little.orders[0].size) == ("CANCELED", None)


ORDER = {
    "id": "o",
    "subaccountId": "s",
    "subaccountNumber": 128,
    "clientId": "7",
    "clobPairId": "0",
    "ticker": "BTC-USD",
    "side": "BUY",
    "size": "0.5",
    "price": "63000",
    "type": "TWAP",
    "status": "OPEN",
    "timeInForce": "GTT",
    "postOnly": True,
    "reduceOnly": False,
    "orderFlags": "128",
    "goodTilBlock": None,
    "goodTilBlockTime": "2026-01-02T00:00:00.000Z",
    "triggerPrice": "62000",
    "clientMetadata": "1",
    "totalFilled": "0.1",
    "createdAt": "2026-01-01T00:00:00.000Z",
    "createdAtHeight": "8",
    "updatedAt": "2026-01-01T00:00:01.000Z",
    "updatedAtHeight": "9",
    "duration": "300",
    "interval": "30",
    "priceTolerance": "10000",
    "builderAddress": "dydx1builder",
    "feePpm": "100",
}


def test_an_order_holds_all_that_a_trader_must_know() -> None:
    """Its kind, its end, its trigger and its terms; what is missing is None."""
    (update,) = decoded(message("channel_data", "v4_subaccounts", {"orders": [ORDER]}))

    fields = msgspec.to_builtins(update.orders[0])
    assert fields | ORDER == fields
    assert fields.keys() - ORDER.keys() == {"totalOptimisticFilled", "removalReason"}


def test_money_that_moved_is_reported_with_both_its_ends() -> None:
    """One object, though its name is plural; a wallet has no number."""
    reward = {"tradingReward": "0.5", "createdAt": "t", "createdAtHeight": "9"}
    what = {"transfers": TRANSFER, "tradingReward": reward, "blockHeight": "9"}

    (update,) = decoded(message("channel_data", "v4_subaccounts", what))

    assert update.transfers.sender == PartyFields(address="dydx1other")
    assert update.transfers.recipient.subaccount_number == 0
    assert (update.transfers.size, update.transfers.type) == ("1000", "DEPOSIT")
    assert update.trading_reward.trading_reward == "0.5"
    assert update.block_height == "9"


def test_positions_and_fills_name_where_they_come_from() -> None:
    """Sums, peaks and profit of a position; a fill's cost, and what the position was before."""
    position = {**POSITION, "unrealizedPnl": "-3", "realizedPnl": "1", "closedAt": None}
    fill = {
        **FILL,
        **{"quoteAmount": "31500", "clientMetadata": "1", "transactionHash": "AB"},
        **{"positionSizeBefore": "1", "positionSideBefore": "LONG", "entryPriceBefore": "62000"},
        **{"builderFee": "0.1", "affiliateRevShare": "0", "subaccountNumber": 0},
    }
    what = {"perpetualPositions": [position], "fills": [fill]}

    (update,) = decoded(message("channel_data", "v4_subaccounts", what))

    (held,), (filled,) = update.perpetual_positions, update.fills
    assert (held.side, held.entry_price, held.sum_open) == ("SHORT", "63000", "0.5")
    assert (held.max_size, held.unrealized_pnl, held.exit_price) == ("-0.5", "-3", None)
    fields = msgspec.to_builtins(filled)
    assert fields | fill == fields


def test_markets_report_how_they_did() -> None:
    """The day's volume, trades and change, under the venue's own odd capitals."""
    (snapshot,) = decoded(message("subscribed", "v4_markets", {"markets": {"BTC-USD": MARKET}}))

    market = snapshot.markets["BTC-USD"]
    assert (market.volume_24h, market.trades_24h) == ("1203945.25", 4711)
    assert (market.price_change_24h, market.default_funding_rate_1h) == ("-120.5", "0")


# === What is answered ===

PAYMENT = {
    "createdAt": "2026-01-01T01:00:00.000Z",
    "createdAtHeight": "9",
    "perpetualId": "0",
    "ticker": "BTC-USD",
    "oraclePrice": "63000",
    "size": "0.5",
    "side": "LONG",
    "rate": "0.0000125",
    "payment": "-0.39",
    "subaccountNumber": "0",
    "fundingIndex": "1",
}
PNL = {"equity": "1", "totalPnl": "2", "netTransfers": "3", "createdAt": "t"}
TRADED = {
    **dict.fromkeys(["executionPrice", "entryPrice", "prevSize", "additionalSize"], "1"),
    **dict.fromkeys(["value", "netFee", "netRealizedPnl", "time", "id"], "1"),
    **dict.fromkeys(["netRealizedPnlPercent", "positionSide", "orderType", "orderId"]),
    **{"side": "BUY", "action": "OPEN", "marketId": "BTC-USD", "marginMode": "CROSS"},
    "subaccountNumber": 0,
}
REST_FILL = {**FILL, "market": "BTC-USD"}
WALLET = {"address": "dydx1other", "subaccountNumber": None}
REST_TRANSFER = {**TRANSFER, "id": "t", "sender": WALLET}
TWINS = {
    "/v4/fills": ("fills", "/parentSubaccountNumber", REST_FILL),
    "/v4/tradeHistory": ("tradeHistory", "/parentSubaccountNumber", TRADED),
    "/v4/transfers": ("transfers", "/parentSubaccountNumber", REST_TRANSFER),
    "/v4/fundingPayments": ("fundingPayments", "/parentSubaccount", PAYMENT),
    "/v4/historical-pnl": ("historicalPnl", "/parentSubaccountNumber", {**PNL, "blockHeight": "9"}),
    "/v4/pnl": ("pnl", "/parentSubaccountNumber", {**PNL, "createdAtHeight": "9"}),
}


@pytest.mark.parametrize("path", TWINS)
def test_lists_come_whole_or_by_pages_of_one_or_of_a_parent(path: str) -> None:
    """Each row is read field by field; a page has its place, a whole list does not."""
    name, twin, row = TWINS[path]
    page = {"pageSize": 1, "totalResults": 3, "offset": 2}

    whole = rest_contents(f"{path}{twin}?address=a", json.dumps({name: [row]}))
    paged = rest_contents(f"{path}?page=3", json.dumps({name: [row], **page}))

    fields = msgspec.to_builtins(whole)[name][0]
    assert fields | row == fields
    assert (whole.page_size, whole.total_results, whole.offset) == (None, None, None)
    assert (paged.page_size, paged.total_results, paged.offset) == (1, 3, 2)


def test_transfers_between_two_are_summed_up() -> None:
    """A list of its own name, and what is left when both ways are counted."""
    body = {"transfersSubset": [REST_TRANSFER], "totalNetTransfers": "1000"}

    between = rest_contents("/v4/transfers/between?sourceAddress=a", json.dumps(body))

    assert between.total_net_transfers == "1000"
    assert between.transfers_subset[0].sender.address == "dydx1other"


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (
            "/v4/compliance/screen/dydx1owner",
            {"status": "CLOSE_ONLY", "reason": "US_GEO", "updatedAt": "t"},
            ComplianceFields(status="CLOSE_ONLY", reason="US_GEO", updated_at="t"),
        ),
        ("/v4/screen?address=a", {"restricted": True}, ScreenFields(restricted=True)),
        ("/v4/time", {"iso": "t", "epoch": 1.5}, TimeFields(iso="t", epoch=1.5)),
        ("/v4/sparklines?timePeriod=ONE_DAY", {"BTC-USD": ["1", "2"]}, {"BTC-USD": ["1", "2"]}),
        (
            "/v4/height",
            {"errors": [{"msg": "no", "param": "limit", "location": "query", "value": 0}]},
            ErrorsContents(
                errors=[ErrorFields(msg="no", param="limit", location="query", value=0)]
            ),
        ),
    ],
)
def test_other_answers_are_read_by_their_paths(path: str, body: Any, expected: Any) -> None:
    """And a refusal is one under any."""
    assert rest_contents(path, json.dumps(body)) == expected


def test_a_parent_has_children_in_place_of_positions() -> None:
    """Each child is a subaccount with its own positions."""
    parent = {
        "address": "dydx1owner",
        "parentSubaccountNumber": 0,
        "equity": "1500",
        "freeCollateral": "999.5",
        "childSubaccounts": [SUBACCOUNT, {**SUBACCOUNT, "subaccountNumber": 128}],
    }

    (snapshot,) = decoded(message("subscribed", "v4_parent_subaccounts", {"subaccount": parent}))

    assert snapshot.subaccount.parent_subaccount_number == 0
    assert snapshot.subaccount.subaccount_number is None
    assert [child.subaccount_number for child in snapshot.subaccount.child_subaccounts] == [0, 128]
    assert snapshot.subaccount.child_subaccounts[1].asset_positions["USDC"].size == "1000"


def test_a_subaccount_that_was_never_funded_is_empty() -> None:
    """The indexer confirms the subscription, and knows nothing of it."""
    assert decoded(message("subscribed", "v4_subaccounts", {})) == [SubaccountContents()]


def test_heights_are_reported_in_two_ways() -> None:
    """The snapshot's word and the updates'."""
    snapshot = decoded(message("subscribed", "v4_block_height", {"height": "9", "time": "t"}))
    update = decoded(message("channel_data", "v4_block_height", {"blockHeight": "10", "time": "t"}))

    assert snapshot == [HeightContents(height="9", time="t")]
    assert update == [HeightContents(block_height="10", time="t")]


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"connected","connection_id":"a","message_id":0}',
        '{"type":"unsubscribed","connection_id":"a","message_id":2,"channel":"v4_trades","id":"X"}',
        '{"type":"error","message":"Invalid message: could not parse","message_id":1}',
        '{"type":"pong","id":null}',
    ],
)
def test_control_messages_carry_nothing(text: str) -> None:
    """They are frames without a fault, and report nothing of markets."""
    frame = ws_frame(1, 2, 3, "c1", text)

    assert frame.fault == ""
    assert contents(frame) == []


@pytest.mark.parametrize("kind", ["sent", "open", "close", "gap", "tick"])
def test_what_no_server_sent_carries_nothing(kind: str) -> None:
    """Only ws and http frames have contents."""
    frame = Frame(seq=1, at=2, mono=3, link="c1", kind=kind, text="whatever", type="1000")

    assert contents(frame) == []


def test_what_was_requested_of_a_node_is_recorded_with_its_name(tmp_path: Path) -> None:
    """The order that was sent and the answer to it come back under the names that they had."""
    request = Frame(1, 10, 1, "node", "sent", '{"size":"1"}', channel="place", id="o7")
    answered = Frame(2, 20, 2, "node", "http", "{}", "11", "broadcast", "o7")
    subscribed = Frame(3, 30, 3, "c1", "sent", '{"type":"subscribe"}')
    header = Header(network="local", rest="", ws="", client="", source="a test")
    writer = RecordingWriter(tmp_path / "r.jsonl.zst", header)

    for frame in (request, answered, subscribed):
        writer.write_frame(frame)
    writer.close()

    assert list(Recording(writer.path)) == [request, answered, subscribed]


# === What is wrong ===


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "hello",
        '{"type":"channel_data"',
        '{"no":"type"}',
        '{"type":null}',
        '{"type":"connected","message_id":"three"}',
        '{"type":"connected","message_id":1.5}',
        '{"type":"connected","channel":"\x00"}',
        '{"type":"connected","channel":"\\ud800"}',
        "\ud800",
        "\x00" * 9,
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
)
def test_a_text_that_is_no_message_gets_a_fault(text: str) -> None:
    """It is a frame all the same: its text is stored, and decoding it reports what is wrong."""
    frame = ws_frame(1, 2, 3, "c1", text)

    assert frame.text == text
    assert frame.fault.startswith("expected a JSON message of the indexer, got ")
    assert len(frame.fault) < 400
    with pytest.raises(WireError, match="expected a JSON message"):
        contents(frame)


def test_a_text_with_a_byte_that_was_no_character_has_no_contents() -> None:
    """JSON may still parse around it, short of a level or of the book it is for: believe none."""
    whole = message("channel_data", "v4_orderbook", {"bids": [["1", "2"]]}, id="BTC-USD")
    bad = whole.replace("bids", "b\ufffdds")

    frame = ws_frame(1, 2, 3, "c1", bad)

    assert ws_frame(1, 2, 3, "c1", whole).fault == ""
    assert (frame.text, frame.message_id, frame.channel) == (bad, 0, "")
    assert frame.fault.startswith("expected a JSON message of the indexer, got ")
    with pytest.raises(WireError, match="expected a JSON message"):
        contents(frame)


def test_an_oversized_text_is_not_even_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is in characters, and the limit itself still passes."""
    text = '{"type":"connected"}'
    monkeypatch.setattr(dydx_conn, "MAX_TEXT", len(text))

    assert ws_frame(1, 2, 3, "c1", text).fault == ""
    assert "at most 20 characters, got 21" in ws_frame(1, 2, 3, "c1", text + " ").fault


@pytest.mark.parametrize(
    ("type_", "channel"),
    [("channel_data", "v4_orders"), ("channel_data", ""), ("whisper", "v4_trades")],
)
def test_an_unknown_message_is_refused_by_name(type_: str, channel: str) -> None:
    """The message names both the type and the channel."""
    with pytest.raises(WireError, match=f"got '{type_}' on '{channel}'"):
        decoded(message(type_, channel, {}))


@pytest.mark.parametrize(
    ("type_", "channel", "what"),
    [
        ("channel_data", "v4_orderbook", None),
        ("channel_data", "v4_orderbook", []),
        ("channel_data", "v4_orderbook", {"bids": [["1"]]}),
        ("channel_data", "v4_orderbook", {"bids": [["1", None]]}),
        ("channel_data", "v4_orderbook", {"bids": [[1, 2]]}),
        ("channel_data", "v4_orderbook", {"bids": None}),
        ("subscribed", "v4_orderbook", {"bids": [["1", "2"]]}),
        ("channel_batch_data", "v4_orderbook", {"bids": []}),
        ("channel_data", "v4_trades", {}),
        ("channel_data", "v4_trades", {"trades": [{**TRADE, "side": "HOLD"}]}),
        ("channel_data", "v4_trades", {"trades": [{**TRADE, "price": None}]}),
        ("channel_data", "v4_candles", {"startedAt": None}),
        ("channel_data", "v4_markets", {"oraclePrices": {"X": "1"}}),
        ("channel_data", "v4_subaccounts", {"orders": [{}]}),
        ("channel_data", "v4_block_height", {"blockHeight": 9, "time": "t"}),
    ],
)
def test_contents_of_another_shape_are_refused(type_: str, channel: str, what: Any) -> None:
    """The message names which contents were expected, a sample, and what is wrong with it."""
    with pytest.raises(WireError, match=f"expected {type_} contents of {channel}, got '"):
        decoded(message(type_, channel, what))


def test_contents_may_be_missing_altogether() -> None:
    """A data message without contents is refused like any other wrong one."""
    with pytest.raises(WireError, match="expected channel_data contents of v4_trades"):
        decoded('{"type":"channel_data","channel":"v4_trades"}')


def test_contents_that_nest_without_end_are_refused() -> None:
    """They must not take the stream down with them."""
    nested = "[" * 100_000 + "]" * 100_000
    text = f'{{"type":"channel_data","channel":"v4_orderbook","contents":{nested}}}'
    inside = f'{{"type":"channel_data","channel":"v4_orderbook","contents":{{"x":{nested}}}}}'

    for frame in (ws_frame(1, 2, 3, "c1", text), ws_frame(1, 2, 3, "c1", inside)):
        with pytest.raises(WireError, match="expected"):
            contents(frame)


def test_a_snapshot_full_of_nulls_is_read_where_nulls_may_stand() -> None:
    """An absent oracle price is None, never 0."""
    nulls = {**dict.fromkeys(MARKET), "ticker": "NEW-USD"}

    (snapshot,) = decoded(message("subscribed", "v4_markets", {"markets": {"NEW-USD": nulls}}))

    assert snapshot.markets["NEW-USD"].oracle_price is None
    assert snapshot.markets["NEW-USD"].ticker == "NEW-USD"


def test_a_block_without_a_height_is_refused() -> None:
    """By socket and REST, whatever else stands there."""
    for frame in (
        ws_frame(1, 2, 3, "c1", message("subscribed", "v4_block_height", {"time": "t"})),
        Frame(1, 2, 3, "rest", "http", '{"time":"t"}', "200", "/v4/height"),
    ):
        with pytest.raises(WireError, match="Expected the height of a block, got none"):
            contents(frame)


@pytest.mark.parametrize(
    ("type_", "channel", "good", "odd", "part"),
    [
        ("subscribed", "v4_trades", TRADE, {**TRADE, "id": "7", "price": 5}, "trades 7"),
        ("channel_data", "v4_trades", TRADE, 3, "trades 1"),
        ("subscribed", "v4_candles", CANDLE, {**CANDLE, "close": None}, "candles 1"),
        ("channel_batch_data", "v4_candles", CANDLE, {"id": "x"}, "x"),
    ],
)
def test_an_odd_row_is_left_out_with_its_reason(
    type_: str, channel: str, good: Any, odd: Any, part: str
) -> None:
    """All others are read; a second look decodes no more."""
    name = channel.removeprefix("v4_")
    rows = [good, odd, good]
    what = rows if type_ == "channel_batch_data" else {name: rows}
    frame = ws_frame(1, 2, 3, "c1", message(type_, channel, what))

    (left_out,) = odd_rows(frame)

    assert sum(len(getattr(each, name)) for each in contents(frame)) == 2
    assert str(left_out).startswith(f"{part}: ")
    assert left_out.reason
    assert odd_rows(ws_frame(1, 2, 3, "c1", message("pong", "", None))) == ()


def test_a_book_without_one_of_its_levels_is_another_book() -> None:
    """Nothing is left out of it."""
    levels = [{"price": "1", "size": "2"}, {"price": "1", "size": 2}]
    text = message("subscribed", "v4_orderbook", {"bids": levels, "asks": []})

    with pytest.raises(WireError, match="expected subscribed contents of v4_orderbook"):
        contents(ws_frame(1, 2, 3, "c1", text))


@given(st.text())
def test_no_text_at_all_raises_anything_else(text: str) -> None:
    """Whatever comes, it is a frame; reading it gives contents or a WireError."""
    frame = ws_frame(1, 2, 3, "c1", text)

    assert frame.text == text
    if frame.fault:
        with pytest.raises(WireError):
            contents(frame)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=9,
)


@given(
    st.sampled_from(["subscribed", "channel_data", "channel_batch_data"]),
    st.sampled_from([*dydx_conn.CHANNELS, "v5"]),
    json_values,
)
def test_no_contents_at_all_raise_anything_else(type_: str, channel: str, what: Any) -> None:
    """Well-formed JSON of any shape gives contents or a WireError."""
    frame = ws_frame(1, 2, 3, "c1", message(type_, channel, what))

    with contextlib.suppress(WireError):
        contents(frame)

"""REST: every endpoint's answer, as recorded from the local venue, and what is none.

The cassette holds answers of `tools/venue --count 2 --seed 7 --speed 20`; it is no market data
of dYdX. Rewritten by `python tests/test_rest.py ADDRESS`, through `Rest` as it is read: OWNER
is a resident of the seed, OTHER an address never funded.
"""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import dydx_conn
import httpx
import msgspec
import pytest
import vcr
from dydx_conn import (
    ENDPOINTS,
    Answer,
    BadRequest,
    BookContents,
    CandlesContents,
    Frame,
    HeightContents,
    MarketsContents,
    Network,
    NotFound,
    OrderFields,
    Rest,
    RestError,
    Subaccount,
    SubaccountContents,
    TradesContents,
    WireError,
    contents,
    node_contents,
    perpetual_market,
    rest_contents,
    subaccount_id,
)

CASSETTE = Path(__file__).parent / "cassettes" / "venue.yaml"
VENUE = "http://127.0.0.1:3002"
OWNER = "dydx13kpry96a4n6sxs96cs69efjnkxeq7t4a2l4r8h"
OTHER = "dydx1v88c3xv9xyv3eetdx0tvcmq7ung3dywp5upwc6"
ACCOUNT = f"address={OWNER}&subaccountNumber=0"

PATHS = [
    "/v4/perpetualMarkets",
    "/v4/orderbooks/perpetualMarket/BTC-USD",
    "/v4/trades/perpetualMarket/BTC-USD?limit=5",
    "/v4/candles/perpetualMarkets/BTC-USD?resolution=1MIN&limit=5",
    "/v4/historicalFunding/BTC-USD?limit=5",
    "/v4/sparklines?timePeriod=ONE_DAY",
    "/v4/time",
    "/v4/height",
    f"/v4/addresses/{OWNER}",
    f"/v4/addresses/{OWNER}/subaccountNumber/0",
    f"/v4/perpetualPositions?{ACCOUNT}&limit=5",
    f"/v4/assetPositions?{ACCOUNT}",
    f"/v4/orders?{ACCOUNT}&limit=5",
    f"/v4/fills?{ACCOUNT}&limit=5",
    f"/v4/transfers?{ACCOUNT}&limit=5",
    f"/v4/historical-pnl?{ACCOUNT}&limit=5",
    f"/v4/addresses/{OTHER}/subaccountNumber/0",
    "/v4/orderbooks/perpetualMarket/NONE-USD",
]
ALICE = Subaccount(OWNER, 0)
PAID = Subaccount("dydx18y6v62cltpkud6kqr26yxa6swnjv8f4z5p6c78", 0)  # who held on at the hour
FEW: Any = {"limit": 5}
PARENT: Any = {"parent": True}

# A request to each endpoint, and what shows that its answer was decoded.
REQUESTS: dict[str, tuple[Callable[[Rest], Awaitable[Answer[Any]]], Callable[[Any], bool]]] = {
    "markets": (lambda r: r.perpetual_markets(), lambda m: m["BTC-USD"].clob_pair_id == "0"),
    "market": (lambda r: r.perpetual_markets("ETH-USD"), lambda m: list(m) == ["ETH-USD"]),
    "book": (lambda r: r.order_book("BTC-USD"), lambda b: b.bids[0][0] < b.asks[0][0]),
    "trades": (lambda r: r.trades("BTC-USD", limit=5), lambda t: len(t) == 5),
    "page": (lambda r: r.trades("BTC-USD", limit=5, page=2), lambda t: len(t) == 5),
    "candles": (
        lambda r: r.candles("BTC-USD", "1MIN", limit=5),
        lambda c: c[0].started_at > c[1].started_at,
    ),
    "funding": (
        lambda r: r.historical_funding("BTC-USD", limit=5),
        lambda f: {one.ticker for one in f} == {"BTC-USD"},
    ),
    "sparklines": (lambda r: r.sparklines(), lambda s: set(s) == {"BTC-USD", "ETH-USD"}),
    "height": (lambda r: r.height(), lambda h: int(h.height) > 0),
    "time": (lambda r: r.time(), lambda t: t.iso.startswith("2026-01-05T") and t.epoch > 0),
    "screen": (lambda r: r.screen(OWNER), lambda s: s.restricted is False),
    "compliance": (lambda r: r.compliance(OWNER), lambda c: c.status == "COMPLIANT"),
    "subaccounts": (lambda r: r.subaccounts(OWNER), lambda s: s[0].subaccount_number == 0),
    "subaccount": (lambda r: r.subaccount(ALICE), lambda s: Decimal(s.equity) > 0),
    "parent": (
        lambda r: r.subaccount(ALICE, parent=True),
        lambda s: [child.subaccount_number for child in s.child_subaccounts] == [0],
    ),
    "positions": (
        lambda r: r.positions(ALICE, status=["OPEN", "CLOSED"], limit=5),
        lambda p: {one.status for one in p} <= {"OPEN", "CLOSED"} and len(p) > 0,
    ),
    "positions of a parent": (lambda r: r.positions(ALICE, **PARENT, limit=5), bool),
    "assets": (lambda r: r.asset_positions(ALICE), lambda a: a[0].symbol == "USDC"),
    "assets of a parent": (lambda r: r.asset_positions(ALICE, **PARENT), bool),
    "orders": (
        lambda r: r.orders(ALICE, status=["FILLED", "CANCELED"], limit=5),
        lambda o: {one.status for one in o} <= {"FILLED", "CANCELED"} and len(o) == 5,
    ),
    "orders of a parent": (lambda r: r.orders(ALICE, **PARENT, **FEW), lambda o: len(o) == 5),
    "fills": (
        lambda r: r.fills(ALICE, ticker="BTC-USD", limit=5),
        lambda f: {one.market for one in f} == {"BTC-USD"},
    ),
    "fills of a parent": (lambda r: r.fills(ALICE, **PARENT, **FEW), lambda f: len(f) == 5),
    "transfers": (lambda r: r.transfers(ALICE), lambda t: t[0].recipient.address == OWNER),
    "transfers of a parent": (lambda r: r.transfers(ALICE, **PARENT), bool),
    "transfers between": (
        lambda r: r.transfers_between(ALICE, Subaccount(OTHER, 0)),
        lambda t: t == [],
    ),
    "payments": (
        lambda r: r.funding_payments(PAID, **FEW),
        lambda p: p[0].ticker.endswith("-USD"),
    ),
    "payments to a parent": (lambda r: r.funding_payments(PAID, **PARENT, **FEW), bool),
    "historical pnl": (lambda r: r.historical_pnl(ALICE, **FEW), lambda p: p[0].equity != ""),
    "historical pnl of a parent": (lambda r: r.historical_pnl(ALICE, **PARENT, **FEW), bool),
    "pnl": (lambda r: r.pnl(ALICE, **FEW), lambda p: p[0].total_pnl != ""),
    "pnl of a parent": (lambda r: r.pnl(ALICE, **PARENT, **FEW), bool),
}
REFUSED: dict[str, tuple[Callable[[Rest], Awaitable[Answer[Any]]], type[RestError], str]] = {
    "no such ticker": (
        lambda r: r.order_book("NONE-USD"),
        NotFound,
        "got 404: Could not find market for ticker NONE-USD",
    ),
    "no such order": (
        lambda r: r.order("00000000-0000-0000-0000-000000000000"),
        NotFound,
        "got 404: Unable to find order id 00000000",
    ),
    "never funded": (
        lambda r: r.subaccount(Subaccount(OTHER, 0)),
        NotFound,
        f"got 404: No subaccount found with address {OTHER} and subaccountNumber 0",
    ),
    "no such resolution": (
        lambda r: r.candles("BTC-USD", "2MIN"),
        BadRequest,
        "got 400: resolution must be one of 1MIN,5MINS",
    ),
    "too many rows": (
        lambda r: r.trades("BTC-USD", limit=1001),
        BadRequest,
        "got 400: limit must be a positive integer that is not greater than 1000 (limit)",
    ),
}


def tape(mode: str = "none") -> Any:
    """Open the cassette: to be played, or to be written."""
    recorder = vcr.VCR(
        match_on=("method", "path", "query"),
        decode_compressed_response=True,
        record_mode=mode,
        filter_headers=["user-agent"],
    )
    return recorder.use_cassette(str(CASSETTE), allow_playback_repeats=True)


def query(request: Callable[[Rest], Awaitable[Any]]) -> Any:
    """Send a request through `Rest`."""

    async def session() -> Any:
        async with Rest(Network("local", VENUE, "", "", "")) as rest:
            return await request(rest)

    return asyncio.run(session())


async def newest_order(rest: Rest) -> Answer[OrderFields]:
    """Request the newest order, by its id."""
    newest = await rest.orders(ALICE, limit=1)
    return await rest.order(newest.value[0].id)


async def all_rows(rest: Rest) -> list[list[Any]]:
    """Walk what is short enough to be walked here."""
    walks = (
        rest.walk(ENDPOINTS["transfers"], ALICE),
        rest.walk(ENDPOINTS["historical_funding"], ticker="BTC-USD"),
        rest.walk(ENDPOINTS["funding_payments"], PAID, ticker="BTC-USD"),
    )
    return [[row async for row in walk] for walk in walks]


def answer(path: str) -> str:
    """Return what the venue answered."""
    return httpx.get(f"{VENUE}{path}").text


@pytest.fixture(autouse=True, scope="module")
def cassette() -> Iterator[None]:
    """Play what was recorded; a request that was not is an error."""
    with tape():
        yield


# === Answers ===


@pytest.mark.parametrize("path", PATHS)
def test_every_endpoints_answer_is_read(path: str) -> None:
    """Under its own path, and as the contents of a frame."""
    body = answer(path)
    frame = Frame(
        seq=1, at=2, mono=3, link="rest", kind="http", text=body, type="200", channel=path
    )

    decoded = rest_contents(path, body)

    assert contents(frame) == [decoded]
    assert decoded or json.loads(body) in ([], {})


def test_markets_can_be_calculated_with() -> None:
    """What the venue lists is a grid and its margins."""
    markets = rest_contents("/v4/perpetualMarkets", answer("/v4/perpetualMarkets"))

    assert isinstance(markets, MarketsContents)
    assert len(markets.markets) == 2
    for ticker, fields in markets.markets.items():
        market = perpetual_market(fields)
        assert market.ticker == ticker
        assert 0 < market.imf_ppm <= 1_000_000
        assert 0 < market.maintenance_fraction_ppm < 1_000_000


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        (PATHS[1], BookContents),
        (PATHS[2], TradesContents),
        (PATHS[3], CandlesContents),
        (PATHS[7], HeightContents),
        (PATHS[9], SubaccountContents),
        (PATHS[16], dydx_conn.ErrorsContents),
        (PATHS[17], dydx_conn.ErrorsContents),
    ],
)
def test_the_path_decides_the_type(path: str, shape: type) -> None:
    """A book is a book, whether the socket brings it or REST."""
    decoded = rest_contents(path, answer(path))

    assert isinstance(decoded, shape)


def test_a_book_has_levels_as_the_sockets_have() -> None:
    """Pairs of price and size, best first as the venue sorts them."""
    book = rest_contents(PATHS[1], answer(PATHS[1]))

    assert len(book.bids[0]) == 2
    assert float(book.bids[0][0]) < float(book.asks[0][0])


def test_one_order_is_read_alone() -> None:
    """By its id, it comes without a list around it."""
    order = rest_contents("/v4/orders/00000000-0000", '{"id":"o","status":"OPEN","size":"1"}')

    assert isinstance(order, OrderFields)
    assert (order.id, order.size) == ("o", "1")


@pytest.mark.parametrize("name", REQUESTS)
def test_every_endpoint_can_be_queried(name: str) -> None:
    """Through the official client, and its answer has a type."""
    request, understood = REQUESTS[name]

    answered = query(request)

    assert understood(answered.value)
    assert not answered.stale


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_an_error_in_the_venues_words(name: str) -> None:
    """Of the class for what to do."""
    request, kind, words = REFUSED[name]

    with pytest.raises(RestError, match=re.escape(words)) as caught:
        query(request)

    assert type(caught.value) is kind


def test_an_order_can_be_requested_by_its_id() -> None:
    """As it stands in the list."""
    assert query(newest_order).value.subaccount_id == subaccount_id(ALICE)


def test_lists_can_be_walked() -> None:
    """To their ends, each row once."""
    for walked in query(all_rows):
        assert len({str(row) for row in walked}) == len(walked) > 0


def test_the_official_client_plays_from_the_same_tape() -> None:
    """So tests of what is built on it need no venue."""
    from dydx_v4_client.indexer.rest.indexer_client import IndexerClient

    trades = asyncio.run(
        IndexerClient(VENUE).markets.get_perpetual_market_trades("BTC-USD", limit=5)
    )

    typed = rest_contents(PATHS[2], json.dumps(trades))
    assert [trade.price for trade in typed.trades] == [t["price"] for t in trades["trades"]]


def test_the_children_of_a_parent_are_listed_as_one_subaccount_would_be() -> None:
    """Under the same name with an end of its own."""
    body = '{"fills":[]}'

    assert rest_contents("/v4/fills/parentSubaccountNumber?x=1", body).fills == []
    assert rest_contents("/v4/orders/parentSubaccountNumber", "[]") == []
    parent = '{"subaccount":{"equity":"0","childSubaccounts":[]}}'
    answered = rest_contents("/v4/addresses/a/parentSubaccountNumber/0", parent)
    assert answered.subaccount.child_subaccounts == []


FEE_TIER = (
    '{"name":"1","absoluteVolumeRequirement":"0","makerFeePpm":-110,"takerFeePpm":500,"more":1}'
)


@pytest.mark.parametrize(
    ("kind", "text", "see"),
    [
        (
            "equity_tiers",
            '{"equityTierLimitConfig":{"shortTermOrderEquityTiers":[],'
            '"statefulOrderEquityTiers":[{"usdTncRequired":"20000000","limit":1}]}}',
            lambda a: a.equity_tier_limit_config.stateful_order_equity_tiers[0].limit == 1,
        ),
        (
            "fee_tiers",
            f'{{"params":{{"tiers":[{FEE_TIER}]}}}}',
            lambda a: a.params.tiers[0].maker_fee_ppm == -110,
        ),
        (
            "user_fee_tier",
            f'{{"index":0,"tier":{FEE_TIER}}}',
            lambda a: a.tier.taker_fee_ppm == 500,
        ),
        (
            "withdrawal_capacity",
            '{"limiterCapacityList":[{"limiter":{},"capacity":"7"}]}',
            lambda a: a.limiter_capacity_list[0].capacity == "7",
        ),
        (
            "broadcast",
            '{"jsonrpc":"2.0","result":{"code":0,"log":"[]","codespace":"","hash":"B6"}}',
            lambda a: a.result.code == 0,
        ),
        (
            "latest_block",
            '{"result":{"block_id":{},"block":{"header":{"height":"9","time":"t"}}}}',
            lambda a: a.result.block.header.height == "9",
        ),
        (
            "genesis",
            '{"genesis_time":"t","chain_id":"dydx-testnet-4","app_state":{"clob":null}}',
            lambda a: a.chain_id == "dydx-testnet-4",
        ),
    ],
)
def test_the_nodes_answers_are_read(kind: str, text: str, see: Callable[[Any], bool]) -> None:
    """By the name of the request; a text of another shape is refused."""
    assert see(node_contents(kind, text))
    with pytest.raises(WireError, match=f"expected the answer of {kind}, got '"):
        node_contents(kind, "{}")


# === What is none ===


@pytest.mark.parametrize(
    "path", ["", "/", "/v5/time", "/v4/orderbooks/perpetualMarket/", "/v4/time/x", "/v4/timex"]
)
def test_an_unknown_path_is_refused(path: str) -> None:
    """The message names it."""
    with pytest.raises(WireError, match="expected the path of an indexer endpoint, got "):
        rest_contents(path, "{}")


@pytest.mark.parametrize(
    "body",
    [
        *("", "<html>502</html>", "null", "[]", '{"iso":null,"epoch":1}', '{"iso":"t"}', "\x00"),
        *("[" * 100_000, '{"a":' * 100_000, "\ud800"),
    ],
)
def test_a_body_that_is_no_answer_is_refused(body: str) -> None:
    """Whatever a proxy in between has put there."""
    with pytest.raises(WireError, match="expected the answer of /v4/time, got "):
        rest_contents("/v4/time?x=1", body)


def test_a_refusal_is_an_answer() -> None:
    """Its words are for the caller."""
    refusal = rest_contents("/v4/time", '{"errors":[{"msg":"Too many requests","code":"x"}]}')

    assert msgspec.to_builtins(refusal) == {"errors": [{"msg": "Too many requests", "code": "x"}]}


if __name__ == "__main__":
    [VENUE] = sys.argv[1:]
    CASSETTE.unlink(missing_ok=True)
    with tape("new_episodes"):
        for each in PATHS:
            print(each, httpx.get(f"{VENUE}{each}").status_code)  # noqa: T201 - a script, here
        for put in (*(q for q, _ in REQUESTS.values()), newest_order, all_rows):
            query(put)
        for put, expected, _ in REFUSED.values():
            with pytest.raises(expected):
                query(put)

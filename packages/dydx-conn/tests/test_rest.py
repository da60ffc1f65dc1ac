"""REST: every endpoint's answer, as recorded from the local venue, and what is none.

The cassette holds answers of `tools/venue --markets 2 --seed 7 --speed 20`; it is no market data
of dYdX. Written anew by `python tests/test_rest.py ADDRESS OWNER OTHER`, where OWNER is a
resident with positions and OTHER an address nobody ever funded.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dydx_conn
import httpx
import msgspec
import pytest
import vcr
from dydx_conn import (
    BookContents,
    CandlesContents,
    Frame,
    HeightContents,
    MarketsContents,
    OrderFields,
    SubaccountContents,
    TradesContents,
    WireError,
    contents,
    node_contents,
    perpetual_market,
    rest_contents,
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
    f"/v4/perpetualPositions?{ACCOUNT}",
    f"/v4/assetPositions?{ACCOUNT}",
    f"/v4/orders?{ACCOUNT}&limit=5",
    f"/v4/fills?{ACCOUNT}&limit=5",
    f"/v4/transfers?{ACCOUNT}&limit=5",
    f"/v4/historical-pnl?{ACCOUNT}&limit=5",
    f"/v4/addresses/{OTHER}/subaccountNumber/0",
    "/v4/orderbooks/perpetualMarket/NONE-USD",
]


def tape(mode: str = "none") -> Any:
    """Open the cassette: to be played, or to be written."""
    recorder = vcr.VCR(
        match_on=("method", "path", "query"),
        decode_compressed_response=True,
        record_mode=mode,
        filter_headers=["user-agent"],
    )
    return recorder.use_cassette(str(CASSETTE), allow_playback_repeats=True)


def answer(path: str) -> str:
    """Return what the venue answered."""
    return httpx.get(f"{VENUE}{path}").text


@pytest.fixture(autouse=True)
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

    assert type(decoded) is shape


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


def test_the_live_source_keeps_the_answers_words() -> None:
    """The official client parses and forgets them; the frame does not."""
    put: list[Any] = []

    dydx_conn._fetch_markets(
        dydx_conn.NETWORKS["local"], lambda *what, link: put.append((link, *what))
    )

    path = "/v4/perpetualMarkets"
    assert put == [("rest", "http", answer(path), "200", path)]


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
    assert rest_contents("/v4/addresses/a/parentSubaccountNumber/0", "{}") == SubaccountContents()


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
    """By the name of what it was asked; a text of another shape is refused."""
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
    """Its words are for the person who asked."""
    refusal = rest_contents("/v4/time", '{"errors":[{"msg":"Too many requests","code":"x"}]}')

    assert msgspec.to_builtins(refusal) == {"errors": [{"msg": "Too many requests", "code": "x"}]}


if __name__ == "__main__":
    VENUE, OWNER, OTHER = sys.argv[1:]
    CASSETTE.unlink(missing_ok=True)
    with tape("new_episodes"):
        for each in PATHS:
            print(each, httpx.get(f"{VENUE}{each}").status_code)  # noqa: T201

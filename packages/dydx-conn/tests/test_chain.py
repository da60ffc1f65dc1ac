"""The chain as anybody may query it: accounts and their markets, all at one height."""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from dydx_conn import (
    NETWORKS,
    ChainAccount,
    ChainMarket,
    ChainPosition,
    ChainState,
    Network,
    NetworkError,
    PerpetualMarket,
    Subaccount,
    address_objection,
    chain_state,
)
from v4_proto.cosmos.base.tendermint.v1beta1 import query_pb2 as comet
from v4_proto.cosmos.base.tendermint.v1beta1 import query_pb2_grpc as comet_grpc
from v4_proto.dydxprotocol.clob import clob_pair_pb2 as pairs
from v4_proto.dydxprotocol.clob import query_pb2 as clob
from v4_proto.dydxprotocol.clob import query_pb2_grpc as clob_grpc
from v4_proto.dydxprotocol.perpetuals import perpetual_pb2 as perpetual
from v4_proto.dydxprotocol.perpetuals import query_pb2 as perpetuals
from v4_proto.dydxprotocol.perpetuals import query_pb2_grpc as perpetuals_grpc
from v4_proto.dydxprotocol.prices import market_price_pb2 as price
from v4_proto.dydxprotocol.prices import query_pb2 as prices
from v4_proto.dydxprotocol.prices import query_pb2_grpc as prices_grpc
from v4_proto.dydxprotocol.subaccounts import asset_position_pb2 as asset
from v4_proto.dydxprotocol.subaccounts import perpetual_position_pb2 as position
from v4_proto.dydxprotocol.subaccounts import query_pb2 as subaccounts
from v4_proto.dydxprotocol.subaccounts import query_pb2_grpc as subaccounts_grpc
from v4_proto.dydxprotocol.subaccounts import subaccount_pb2 as subaccount

US = Subaccount("dydx1us", 0)
TIME_NS = 1_767_225_600 * 10**9
SOL = PerpetualMarket(
    ticker="SOL-USD", clob_pair_id=7, perpetual_id=5, atomic_resolution=-7,
    quantum_conversion_exponent=-9, step_base_quantums=1_000, subticks_per_tick=10, imf_ppm=50_000,
    maintenance_fraction_ppm=600_000, open_interest_lower_cap=1, open_interest_upper_cap=2,
    market_type="ISOLATED",
)  # fmt: skip
HEIGHT = "x-cosmos-block-height"


class Chain:
    """A chain on which one subaccount is short of a market, and whose blocks may come.

    `names_heights`: its answers report their height, as a node's do; `refuses` whoever chooses one,
    as a node that prunes at once.
    """

    def __init__(self) -> None:
        self.height, self.comes, self.price = 9, 0, 24_000
        self.names_heights = self.refuses = False
        self.leverage: bytes | None = None
        self.pairs: tuple[int, ...] = (1, 5, 7)
        self.chosen: list[str] = []

    def answer(self, context: Any, found: Any) -> Any:
        """Return an answer, of the height that was chosen if this node can."""
        chosen = str(dict(context.invocation_metadata()).get(HEIGHT, ""))
        self.chosen.append(chosen)
        if chosen and self.refuses:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "height is not available")
        if chosen and self.names_heights:
            context.send_initial_metadata([(HEIGHT, chosen)])
        return found


class Comet(comet_grpc.ServiceServicer):  # type: ignore[misc]  # generated, untyped
    """Its blocks."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def GetLatestBlock(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Return the newest."""
        response = comet.GetLatestBlockResponse()
        response.block.header.chain_id = "dydx-testnet-4"
        response.block.header.height = self.chain.height
        response.block.header.time.FromNanoseconds(TIME_NS)
        return response


class Accounts(subaccounts_grpc.QueryServicer):  # type: ignore[misc]  # generated, untyped
    """Its subaccounts: number 0 holds something."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def Subaccount(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return what one holds; meanwhile blocks may come."""
        self.chain.height += self.chain.comes
        if request.number:
            return self.chain.answer(context, subaccounts.QuerySubaccountResponse())
        short = position.PerpetualPosition(
            perpetual_id=5, quantums=bytes([3, 15, 66, 64]), funding_index=bytes([3, 42])
        )
        usdc = asset.AssetPosition(asset_id=0, quantums=bytes([2, 1, 0, 0]))
        held = subaccount.Subaccount(perpetual_positions=[short], asset_positions=[usdc])
        return self.chain.answer(context, subaccounts.QuerySubaccountResponse(subaccount=held))


class Perpetuals(perpetuals_grpc.QueryServicer):  # type: ignore[misc]  # generated, untyped
    """Its perpetuals and their tiers."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def Perpetual(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return one, which is isolated."""
        params = perpetual.PerpetualParams(
            id=request.id, ticker="SOL-USD", market_id=55, atomic_resolution=-7, liquidity_tier=2,
            market_type=2,
        )  # fmt: skip
        found = perpetual.Perpetual(
            params=params, funding_index=bytes([2, 7]), open_interest=bytes([2, 1, 0])
        )
        return self.chain.answer(context, perpetuals.QueryPerpetualResponse(perpetual=found))

    def AllLiquidityTiers(self, _request: Any, context: Any) -> Any:  # noqa: N802
        """Return two."""
        tiers = [
            perpetual.LiquidityTier(id=1, initial_margin_ppm=1),
            perpetual.LiquidityTier(
                id=2, initial_margin_ppm=50_000, maintenance_fraction_ppm=600_000,
                open_interest_lower_cap=1, open_interest_upper_cap=2,
            ),
        ]  # fmt: skip
        found = perpetuals.QueryAllLiquidityTiersResponse(liquidity_tiers=tiers)
        return self.chain.answer(context, found)


class Prices(prices_grpc.QueryServicer):  # type: ignore[misc]  # generated, untyped
    """Its oracle prices."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def MarketPrice(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return one, of the number that the perpetual names."""
        found = price.MarketPrice(id=request.id, exponent=-2, price=self.chain.price)
        return self.chain.answer(context, prices.QueryMarketPriceResponse(market_price=found))


class Clob(clob_grpc.QueryServicer):  # type: ignore[misc]  # generated, untyped
    """Its pairs, numbered otherwise than the perpetuals."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def ClobPair(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return one, if there is one of that number."""
        if request.id not in self.chain.pairs:
            context.abort(grpc.StatusCode.NOT_FOUND, "not found")
        found = clob.QueryClobPairResponse(clob_pair=_pair(request.id))
        return self.chain.answer(context, found)

    def Leverage(self, request: bytes, context: Any) -> bytes:  # noqa: N802
        """Return what was chosen, where this software knows of it."""
        if self.chain.leverage is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method")
        assert request == b"\x0a\x07dydx1us\x10\x00"
        return bytes(self.chain.answer(context, self.chain.leverage))

    def ClobPairAll(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return as many as a page is to have, a hundred if that is not named."""
        page = self.chain.pairs[: request.pagination.limit or 100]
        found = clob.QueryClobPairAllResponse(clob_pair=map(_pair, page))
        return self.chain.answer(context, found)


def _pair(number: int) -> Any:
    return pairs.ClobPair(
        id=number,
        perpetual_clob_metadata=pairs.PerpetualClobMetadata(perpetual_id=5 if number == 7 else 99),
        step_base_quantums=1_000, subticks_per_tick=10, quantum_conversion_exponent=-9,
    )  # fmt: skip


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Chain, Network]]:
    """Run a node on the loopback."""
    chain, threads = Chain(), ThreadPoolExecutor(1)
    server = grpc.server(threads)
    comet_grpc.add_ServiceServicer_to_server(Comet(chain), server)
    subaccounts_grpc.add_QueryServicer_to_server(Accounts(chain), server)
    perpetuals_grpc.add_QueryServicer_to_server(Perpetuals(chain), server)
    prices_grpc.add_QueryServicer_to_server(Prices(chain), server)
    pairs_of = Clob(chain)
    clob_grpc.add_QueryServicer_to_server(pairs_of, server)
    method = grpc.unary_unary_rpc_method_handler(pairs_of.Leverage)
    handler = grpc.method_handlers_generic_handler("dydxprotocol.clob.Query", {"Leverage": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield chain, dataclasses.replace(NETWORKS["local"], node=f"127.0.0.1:{port}")
    server.stop(None).wait()
    threads.shutdown()


@pytest.fixture
def node(running: tuple[Chain, Network]) -> tuple[Chain, Network]:
    """Return the node as it was in the beginning."""
    running[0].__init__()  # type: ignore[misc]
    return running


SHORT = ChainPosition("SOL-USD", -1_000_000, -7, -42, 7)


def test_accounts_and_their_markets_are_read_at_one_height(node: tuple[Chain, Network]) -> None:
    """Each query names the height: prices, indices, tiers and holdings are of one block."""
    node[0].names_heights, node[0].comes = True, 3

    found = chain_state(node[1], [US, Subaccount("dydx1us", 1), US])

    assert found == ChainState(
        "dydx-testnet-4", 9, TIME_NS,
        {US: ChainAccount(9, 65_536, (SHORT,)), Subaccount("dydx1us", 1): ChainAccount(9, 0)},
        {"SOL-USD": ChainMarket(SOL, 24_000, -2, 256, 7)},
    )  # fmt: skip
    assert set(node[0].chosen) == {"9"}


def test_a_node_that_names_no_height_is_read_between_two_blocks(
    node: tuple[Chain, Network],
) -> None:
    """Once is enough where none came meanwhile."""
    found = chain_state(node[1], [US])

    assert (found.height, found.whole) == (9, True)


@pytest.mark.parametrize("refuses", [False, True])
def test_a_node_whose_blocks_come_too_fast_is_not_called_exact(
    node: tuple[Chain, Network], refuses: bool
) -> None:
    """Nor one that has no state of the height that was just its newest."""
    node[0].comes, node[0].refuses = 1, refuses

    found = chain_state(node[1], [US])

    assert not found.whole
    assert found.height >= 9 + 2


def test_a_leverage_that_the_owner_chose_is_read_with_the_position(
    node: tuple[Chain, Network],
) -> None:
    """By pair, as an initial margin: 300,000 ppm of pair 7; other pairs are not held."""
    node[0].names_heights = True
    node[0].leverage = bytes([10, 6, 8, 7, 16, 224, 167, 18, 10, 4, 8, 1, 16, 5])

    [held] = chain_state(node[1], [US]).accounts[US].positions

    assert held == dataclasses.replace(SHORT, chosen_imf_ppm=300_000)


@pytest.mark.parametrize("others", [(1,), range(100, 250)])
def test_a_pair_is_found_by_its_perpetual_among_all(
    node: tuple[Chain, Network], others: Sequence[int]
) -> None:
    """Both are numbered alike by habit: there may be none of that number, and many pages."""
    node[0].pairs = (*others, 7)

    assert chain_state(node[1], [US]).markets["SOL-USD"].market == SOL


def test_a_perpetual_without_a_pair_is_not_given_the_grid_of_another(
    node: tuple[Chain, Network],
) -> None:
    """Its steps and prices would be another market's."""
    node[0].pairs = (1, 5)

    with pytest.raises(NetworkError, match=r"expected a pair of perpetual 5 .*, got none"):
        chain_state(node[1], [US])


def test_a_price_of_0_is_none(node: tuple[Chain, Network]) -> None:
    """At it a position would be worth nothing, and need no margin."""
    node[0].price = 0

    assert chain_state(node[1], [US]).markets["SOL-USD"].price is None


def test_a_node_that_is_away_is_named() -> None:
    """With whose account it was, and how many more."""
    away = dataclasses.replace(NETWORKS["local"], node="127.0.0.1:9")
    three = [Subaccount("dydx1us", number) for number in range(3)]

    with pytest.raises(NetworkError, match=r"expected dydx1us/0, dydx1us/1 … of the node 127"):
        chain_state(away, three)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dydx1lwzy434rmz8ufxkeak36xgpuzk9k9csx0sn6km", ""),
        ("dydx1lwzy434rmz8ufxkeak36xgpuzk9k9csx0sn6kq", "its checksum is wrong"),
        ("osmo1qypqxpq9qcrsszg2pvxq6rs0zqg3yyc5helwsw", "begins with osmo1"),
        ("", "got ''"),
        ("a" * 100, f"got '{'a' * 61}…'"),
    ],
)
def test_what_is_wrong_with_an_address_is_named(text: str, words: str) -> None:
    """Its prefix, a character of it, or all of it."""
    objection = address_objection(text)

    assert words in objection
    assert bool(words) is bool(objection)

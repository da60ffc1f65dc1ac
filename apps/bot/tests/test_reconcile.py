"""What the last run left, the indexer and the chain: each difference in plain words."""

import asyncio
import dataclasses
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import msgspec
import pytest
from bot.reconcile import (
    Finding,
    Held,
    Kind,
    Left,
    Move,
    Reported,
    Standing,
    compare,
    held_by,
    reason,
    reported,
)
from dydx_conn import (
    NETWORKS,
    ChainAccount,
    ChainPosition,
    Network,
    Rest,
    Subaccount,
    subaccount_id,
)
from hypothesis import given
from hypothesis import strategies as st
from sessions import REAL, Session

ORDER = Standing(order_id="o1", client_id="77", words="SELL 0.2 ETH-USD at 3000")
SOLD = Move(kind="fill", at=5, paid_in=600_000_000, id="f9", ticker="ETH-USD", size=Decimal("-0.2"))


def held(height: int, eth: str = "1.2", usdc: int | None = 1_000_000_000) -> Held:
    """Return an account that holds ETH alone."""
    sizes = {"ETH-USD": Decimal(eth)} if Decimal(eth) else {}
    return Held(height=height, sizes=sizes, collateral=usdc)


def left(eth: str = "1.2", usdc: int | None = 1_000_000_000, *orders: Standing) -> Left:
    """Return what a run left."""
    return Left(run="run 12", began=1, held=held(800, eth, usdc), orders=orders)


AT_812 = "the indexer has +1.0 at block 812, the chain +1.0 at block 830"


@pytest.mark.parametrize(
    ("was", "indexer", "chain", "kind", "words"),
    [
        # Sold while no bot ran.
        (
            left(usdc=None), Reported(held=held(812, "1.0"), moves=(SOLD,)), held(830, "1.0"),
            "explained",
            f"ETH-USD: the last run left +1.2, {AT_812}: 0.2 was sold while no bot ran: fill f9",
        ),
        # The same, by an order that the run had sent.
        (
            left("1.2", None, ORDER),
            Reported(held=held(812, "1.0"),
                     moves=(msgspec.structs.replace(SOLD, order_id="o1"),), orders=(ORDER,)),
            held(830, "1.0"), "explained",
            f"ETH-USD: the last run left +1.2, {AT_812}: 0.2 was sold by an order of the last run "
            "while no bot ran: fill f9",
        ),
        # By force.
        (
            left(usdc=None),
            Reported(held=held(812, "1.0"), moves=(msgspec.structs.replace(SOLD, words="LIQUIDATED"),)),
            held(830, "1.0"), "explained",
            f"ETH-USD: the last run left +1.2, {AT_812}: 0.2 was sold while no bot ran (liquidated)"
            ": fill f9",
        ),
        # Nothing explains it.
        (
            left(usdc=None), Reported(held=held(812, "1.0")), held(830, "1.0"), "unexplained",
            f"ETH-USD: the last run left +1.2, {AT_812}: no fills are reported that explain -0.2",
        ),
        # Fills of something else do not.
        (
            left(usdc=None),
            Reported(held=held(812, "1.0"),
                     moves=(msgspec.structs.replace(SOLD, ticker="BTC-USD"),)),
            held(830, "1.0"), "unexplained",
            f"ETH-USD: the last run left +1.2, {AT_812}: no fills are reported that explain -0.2",
        ),
        # The indexer lags, with a database and without.
        (
            left(), Reported(held=held(826)), held(830, "1.0"), "behind",
            "ETH-USD: the last run left +1.2, the indexer has +1.2 at block 826, the chain +1.0 at "
            "block 830: the indexer is 4 blocks behind the chain",
        ),
        (
            None, Reported(held=held(829)), held(830, "0"), "behind",
            "ETH-USD: the indexer has +1.2 at block 829, the chain +0 at block 830: the indexer is "
            "1 block behind the chain",
        ),
        # It does not lag, and is wrong.
        (
            None, Reported(held=held(830)), held(830, "1.0"), "unexplained",
            "ETH-USD: the indexer has +1.2 at block 830, the chain +1.0 at block 830: expected the "
            "indexer to have what the chain has",
        ),
        # It lags, and nothing differs.
        (
            left(), Reported(held=held(790)), held(830), "noted",
            "the indexer is 40 blocks behind the chain",
        ),
        # Money.
        (
            left(), Reported(held=held(830, usdc=987_660_000)), held(830, usdc=987_660_000),
            "unexplained",
            "collateral: the last run left 1,000.000000 USDC, the indexer has 987.660000 USDC at "
            "block 830, the chain 987.660000 USDC at block 830: no fill, transfer or funding is "
            "reported that explains -12.340000 USDC",
        ),
        (
            left(),
            Reported(held=held(830, usdc=987_660_000), moves=(
                Move(kind="transfer", at=9, paid_in=-12_000_000, id="t1"),
                Move(kind="funding", at=8, paid_in=-340_000, ticker="ETH-USD"),
            )),
            held(830, usdc=987_660_000), "explained",
            "collateral: the last run left 1,000.000000 USDC, the indexer has 987.660000 USDC at "
            "block 830, the chain 987.660000 USDC at block 830: 1 transfer -12.000000 USDC, "
            "funding -0.340000 USDC",
        ),
        # Orders.
        (
            left("1.2", None, ORDER), Reported(held=held(830), orders=(ORDER,)), held(830), "noted",
            "an order of the last run (client id 77) still stands: SELL 0.2 ETH-USD at 3000",
        ),
        (
            left("1.2", None, ORDER), Reported(held=held(830)), held(830), "explained",
            "an order of the last run (client id 77) is over: SELL 0.2 ETH-USD at 3000",
        ),
        (
            left(), Reported(held=held(830), orders=(ORDER,)), held(830), "noted",
            "an order that the last run did not leave (client id 77) stands: SELL 0.2 ETH-USD at "
            "3000",
        ),
    ],
)  # fmt: skip
def test_each_difference_is_one_finding(
    was: Left | None, indexer: Reported, chain: Held, kind: Kind, words: str
) -> None:
    """With what each of the three has, at which block, and what explains it."""
    assert Finding(kind, words) in compare(was, indexer, chain)


def test_three_that_agree_are_no_finding() -> None:
    """Nor is funding that one of them rounds down, and another up."""
    assert compare(left(), Reported(held=held(829, usdc=999_999_999)), held(830)) == []


def test_an_account_without_a_database_is_the_indexers_and_the_chains() -> None:
    """Orders of nobody knows whom are no finding there."""
    assert compare(None, Reported(held=held(830), orders=(ORDER,)), held(830)) == []


def test_what_nothing_explains_is_the_reason_of_a_halt() -> None:
    """The first of it; what is explained, and what is only noted, is none."""
    found = [Finding("noted", "a"), Finding("unexplained", "b"), Finding("behind", "c")]

    assert reason(found) == "b (and 1 more)"
    assert reason(found[:2]) == "b"
    assert reason([Finding("noted", "a"), Finding("explained", "d")]) == ""


SIZES = st.integers(-50, 50).map(lambda n: Decimal(n).scaleb(-1))
FILLS = st.lists(st.tuples(SIZES.filter(bool), st.integers(-(10**9), 10**9)), max_size=8)


@given(SIZES, FILLS, FILLS, st.integers(0, 10**12), st.lists(st.integers(-(10**6), 10**6)))
def test_whatever_fills_did_is_explained_by_them(
    was: Decimal, before: list[tuple[Decimal, int]], since: list[tuple[Decimal, int]],
    usdc: int, funding: list[int],
) -> None:  # fmt: skip
    """With those before, which the last run knew of, beside them; and funding of any hours."""
    moves = [
        Move(kind="fill", at=at, id=f"f{at}", ticker="ETH-USD", size=size, paid_in=paid)
        for at, (size, paid) in enumerate([*before, *since])
    ] + [Move(kind="funding", at=0, paid_in=paid) for paid in funding]
    size = was + sum((size for size, _ in since), Decimal(0))
    now = held(9, str(size), usdc + sum(paid for _, paid in since) + sum(funding))

    found = compare(left(str(was), usdc), Reported(held=now, moves=tuple(moves)), now)

    assert {each.kind for each in found} <= {"explained"}
    assert bool([each for each in found if each.words.startswith("ETH")]) is (size != was)


@given(SIZES, SIZES, SIZES, st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_whatever_is_not_explained_is_found(
    was: Decimal, now: Decimal, true: Decimal, before: int, after: int
) -> None:
    """Without fills, transfers and funding any difference halts."""
    found = compare(
        left(str(was), before), Reported(held=held(9, str(now), after)), held(9, str(true), after)
    )

    assert bool(reason(found)) is (not was == now == true or abs(before - after) > 1 + bool(true))


# === The indexer and the chain ===


class Venue:
    """An indexer that answers by path, and counts what it was queried for."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.paths: list[str] = []

    def get(self, target: str) -> tuple[int, bytes]:
        """Answer a request; 404 for what there is not."""
        path = target.partition("?")[0]
        self.paths.append(path)
        found = self.answers.get(path)
        return (404, b'{"errors":[]}') if found is None else (200, msgspec.json.encode(found))


@pytest.fixture(scope="module")
def indexer() -> Iterator[tuple[Venue, Network]]:
    """Run an indexer on the loopback."""
    venue = Venue()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = venue.get(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            yield venue, dataclasses.replace(NETWORKS["local"], rest=address)
        finally:
            server.shutdown()


def asked(net: Network, subaccount: Subaccount, since: int | None) -> Reported:
    """Query the indexer."""

    async def query() -> Reported:
        async with Rest(net, patience_s=1.0) as rest:
            return await reported(rest, subaccount, since)

    return asyncio.run(query())


ACCOUNTS = [(session, name) for session in REAL for name in session.truth["state"]]


@pytest.mark.parametrize(("session", "name"), ACCOUNTS, ids=lambda part: str(part)[-24:])
def test_the_real_chain_and_its_indexer_agree_and_all_that_moved_is_explained(
    indexer: tuple[Venue, Network], session: Session, name: str
) -> None:
    """To the quantum, from the answers of the real software: since the account was opened."""
    venue, net = indexer
    owner, _, number = name.partition("/")
    venue.answers = answers_of(session.truth["state"][name], owner, number)

    now = asked(net, Subaccount(owner, int(number)), 0)
    chain = held_by(chain_of(session.truth, name))
    nothing = Left(run="run 1", began=0, held=Held(collateral=0))

    assert compare(None, now, chain) == []
    assert {found.kind for found in compare(nothing, now, chain)} <= {"explained", "noted"}


def answers_of(state: Any, owner: str, number: str) -> dict[str, Any]:
    """Return what the indexer answers of an account, by path."""
    fills = [
        {**fill, "market": fill["ticker"], "marketType": "PERPETUAL",
         "createdAt": fill["createdAt"].replace(" ", "T"), "createdAtHeight": str(fill["block"])}
        for fill in state["fills"]
    ]  # fmt: skip
    own = subaccount_id(Subaccount(owner, int(number)))
    ends = {"sender": {"address": "dydx1"}, "recipient": {"address": "dydx2"}, "symbol": "USDC"}
    transfers = [
        {"id": row["id"], "size": row["size"], "createdAt": "2026-11-29T00:00:00Z", **ends,
         "type": "TRANSFER_IN" if row["t"] == own else "TRANSFER_OUT"}
        for row in state["transfers"]
    ]  # fmt: skip
    return {
        f"/v4/addresses/{owner}/subaccountNumber/{number}": state["comlink"]["subaccount"],
        "/v4/orders": [o for o in state["comlink"]["orders"] if o["status"] == "OPEN"],
        "/v4/fills": {"fills": fills},
        "/v4/transfers": {"transfers": transfers},
        "/v4/fundingPayments": {"fundingPayments": []},
    }


def chain_of(truth: Any, name: str) -> ChainAccount:
    """Return what the node held of an account."""
    state = truth["state"][name]
    held = tuple(
        ChainPosition(
            row["ticker"], row["quantums"], truth["markets"][row["ticker"]]["atomic_resolution"],
            row["funding_index"], truth["markets"][row["ticker"]]["funding_index"],
        )
        for row in state["positions"]
    )  # fmt: skip
    collateral = state["usdc_quantums"] + state["quote_balances"]
    return ChainAccount(truth["true_at_block"], collateral, held)

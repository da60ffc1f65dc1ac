"""What the last run left, the indexer and the chain: each difference in plain words."""

import asyncio
import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest
from bot.database.rows import Database, run_row
from bot.database.spill import Spill
from bot.database.tables import TABLES, engine_of, upgrade
from bot.live.reconcile import (
    Finding,
    HeldAt,
    Kind,
    LastRun,
    Movement,
    OpenOrder,
    Reported,
    compare,
    held_by,
    last_run,
    look,
    reason,
    reconcile,
    reported,
)
from bot.run.composition import Bot, Options
from bot.run.wire import WireVenue
from dydx_conn import (
    NETWORKS,
    AccountUpdate,
    ChainAccount,
    ChainPosition,
    ConnError,
    Inbox,
    Network,
    NetworkError,
    PositionState,
    Rest,
    Subaccount,
    WireError,
    subaccount_id,
)
from hypothesis import given
from hypothesis import strategies as st
from servers import http_server
from sessions import REAL, Session

ORDER = OpenOrder(order_id="o1", client_id="77", words="SELL 0.2 ETH-USD at 3000")
SOLD = Movement(
    kind="fill", at=5, paid_in=600_000_000, id="f9", ticker="ETH-USD", size=Decimal("-0.2")
)


def held(height: int, eth: str = "1.2", usdc: int | None = 1_000_000_000) -> HeldAt:
    """Return an account that holds ETH alone."""
    sizes = {"ETH-USD": Decimal(eth)} if Decimal(eth) else {}
    return HeldAt(height=height, sizes=sizes, collateral=usdc)


def left(eth: str = "1.2", usdc: int | None = 1_000_000_000, *orders: OpenOrder) -> LastRun:
    """Return what a run left."""
    return LastRun(run="run 12", began=1, held=held(800, eth, usdc), orders=orders)


HOUR = 3_600_000_000_000
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
                Movement(kind="transfer", at=9, paid_in=-12_000_000, id="t1"),
                Movement(kind="funding", at=8, paid_in=-340_000, ticker="ETH-USD"),
            )),
            held(830, usdc=987_660_000), "explained",
            "collateral: the last run left 1,000.000000 USDC, the indexer has 987.660000 USDC at "
            "block 830, the chain 987.660000 USDC at block 830: 1 transfer -12.000000 USDC, "
            "1 funding payment -0.340000 USDC",
        ),
        # What is less than the funding of a day, and is none of it, is no funding.
        (
            left(),
            Reported(held=held(830, usdc=999_990_000), at=HOUR + 9, moves=(
                Movement(kind="funding", at=HOUR + 8, paid_in=-340_000, ticker="ETH-USD"),
                Movement(kind="funding", at=8, paid_in=-340_000, ticker="ETH-USD"),
            )),
            held(830, usdc=999_990_000), "unexplained",
            "collateral: the last run left 1,000.000000 USDC, the indexer has 999.990000 USDC at "
            "block 830, the chain 999.990000 USDC at block 830: no fill, transfer or funding is "
            "reported that explains -0.010000 USDC",
        ),
        # The last hour's is not reported yet.
        (
            left(),
            Reported(held=held(830, usdc=999_990_000), at=2 * HOUR + 9, moves=(
                Movement(kind="funding", at=HOUR + 8, paid_in=-340_000, ticker="ETH-USD"),
            )),
            held(830, usdc=999_990_000), "explained",
            "collateral: the last run left 1,000.000000 USDC, the indexer has 999.990000 USDC at "
            "block 830, the chain 999.990000 USDC at block 830: funding -0.010000 USDC, as far as "
            "its payments are reported",
        ),
        # More was done than is looked at.
        (
            left(usdc=None), Reported(held=held(812, "1.0"), cut=("fills", "funding_payments")),
            held(830, "1.0"), "unexplained",
            f"ETH-USD: the last run left +1.2, {AT_812}: no fills are reported that explain -0.2 "
            "(the newest 10,000 fills are looked at)",
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
    was: LastRun | None, indexer: Reported, chain: HeldAt, kind: Kind, words: str
) -> None:
    """With what each of the three has, at which block, and what explains it."""
    assert (kind, words) in [(each.kind, each.words) for each in compare(was, indexer, chain)]


def test_what_was_paid_in_while_no_bot_ran_is_known() -> None:
    """It is no gain of the next run; a fill is."""
    moves = (
        Movement(kind="transfer", at=9, paid_in=5_000_000, id="t1"),
        Movement(kind="transfer", at=8, paid_in=-1_000_000, id="t2"),
        Movement(kind="fill", at=7, paid_in=300_000, id="f1", ticker="BTC-USD"),
        Movement(kind="transfer", at=6, paid_in=99_000_000, id="known to the last run"),
    )
    now = held(830, usdc=1_004_300_000)

    [found] = compare(left(), Reported(held=now, moves=moves), now)

    assert (found.kind, found.paid_in) == ("explained", 4_000_000)


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
        Movement(kind="fill", at=at, id=f"f{at}", ticker="ETH-USD", size=size, paid_in=paid)
        for at, (size, paid) in enumerate([*before, *since])
    ] + [Movement(kind="funding", at=20, paid_in=paid) for paid in funding]
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
        self.pages: dict[str, tuple[str, list[Any]]] = {}
        self.paths: list[str] = []

    def get(self, target: str) -> tuple[int, bytes]:
        """Answer a request; 404 for what there is not."""
        path, _, typed = target.partition("?")
        self.paths.append(path)
        if path in self.pages:
            (name, rows), query = self.pages[path], parse_qs(typed)
            limit, page = int(query["limit"][0]), int(query["page"][0])
            some = rows[(page - 1) * limit : page * limit]
            return 200, msgspec.json.encode({name: some})
        found = self.answers.get(path)
        return (404, b'{"errors":[]}') if found is None else (200, msgspec.json.encode(found))


@pytest.fixture(scope="module")
def indexer() -> Iterator[tuple[Venue, Network]]:
    """Run an indexer on the loopback."""
    venue = Venue()

    with http_server(venue.get) as at:
        yield venue, dataclasses.replace(NETWORKS["local"], rest=f"http://{at}")


def queried(net: Network, subaccount: Subaccount, since: int | None) -> Reported:
    """Query the indexer."""

    async def query() -> Reported:
        async with Rest(net, patience_s=1.0) as rest:
            return await reported(rest, subaccount, since)

    return asyncio.run(query())


ACCOUNTS = [(session, name) for session in REAL for name in session.truth["state"]]


@pytest.mark.replays
@pytest.mark.parametrize(("session", "name"), ACCOUNTS, ids=lambda part: str(part)[-24:])
def test_the_real_chain_and_its_indexer_agree_and_all_that_moved_is_explained(
    indexer: tuple[Venue, Network], session: Session, name: str
) -> None:
    """To the quantum, from the answers of the real software: since the account was opened."""
    venue, net = indexer
    owner, _, number = name.partition("/")
    venue.answers = answers_of(session.truth["state"][name], owner, number)

    now = queried(net, Subaccount(owner, int(number)), 0)
    chain = held_by(chain_of(session.truth, name))
    nothing = LastRun(run="run 1", began=0, held=HeldAt(collateral=0))

    assert compare(None, now, chain) == []
    assert {found.kind for found in compare(nothing, now, chain)} <= {"explained", "noted"}


SHAPE = {"address": "dydx1", "subaccountNumber": 0, "equity": "1", "assetPositions": {}}
WHERE = "/v4/addresses/dydx1/subaccountNumber/0"


def test_rows_that_cannot_be_read_explain_nothing(indexer: tuple[Venue, Network]) -> None:
    """Nor do lists that are not answered; an account that cannot be read is an error."""
    venue, net = indexer
    owed = {"USDC": {"symbol": "USDC", "side": "SHORT", "size": "2.5"}}
    account = {**SHAPE, "openPerpetualPositions": {}, "assetPositions": owed}
    fill = {"id": "f", "side": "BUY", "size": "1", "price": "2", "type": "LIMIT", "createdAt": "?"}
    venue.answers = {
        WHERE: {"subaccount": {**account, "updatedAtHeight": "7"}}, "/v4/orders": [],
        "/v4/fills": {"fills": [{**fill, "liquidity": "TAKER", "market": "ETH-USD"}]},
    }  # fmt: skip

    found = msgspec.structs.replace(queried(net, Subaccount("dydx1", 0), 0), at=0)
    venue.answers[WHERE] = {"subaccount": {**account, "latestProcessedBlockHeight": "high"}}

    assert found == Reported(held=HeldAt(height=7, collateral=-2_500_000))
    with pytest.raises(WireError, match="expected what dydx1/0 holds, got invalid literal"):
        queried(net, Subaccount("dydx1", 0), 0)


def test_lists_are_read_page_by_page_and_no_further_than_they_matter(
    indexer: tuple[Venue, Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a thousand rows a page, back to when the last run began, or to a bound that is named."""
    venue, net = indexer
    account = {**SHAPE, "openPerpetualPositions": {}, "updatedAtHeight": "7"}
    fill = {"side": "BUY", "size": "1", "price": "2", "type": "LIMIT", "liquidity": "TAKER"}
    fills = [
        {**fill, "id": f"f{n}", "market": "ETH-USD", "createdAt": at_second(9_000 - n)}
        for n in range(2_500)
    ]
    venue.answers = {WHERE: {"subaccount": account}, "/v4/orders": []}
    venue.pages = {"/v4/fills": ("fills", fills)}

    whole = queried(net, Subaccount("dydx1", 0), BEGAN + 7_000 * 10**9)
    monkeypatch.setattr("bot.live.reconcile._MOST_ROWS", 1_200)
    cut = queried(net, Subaccount("dydx1", 0), 0)
    venue.pages = {}

    assert (len(whole.moves), whole.cut) == (2_000 + 60 + 1, ())
    assert (len(cut.moves), cut.cut) == (1_200, ("fills",))


def at_second(second: int) -> str:
    """Return a time as the indexer writes it."""
    return datetime.fromtimestamp(BEGAN // 10**9 + second, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


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


# === The database ===


RUN = {"mode": "trade", "chain_id": "localdydxprotocol", "account": "dydx1/0", "process": "1"}
US = Subaccount("dydx1", 0)
BEGAN = 1_767_225_600_000_000_000


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return a database in which a run was killed that held ETH and had an order on the books."""
    url = str(tmp_path / "bot.db")
    engine = engine_of(url)
    upgrade(engine)
    ours = {"chain_id": "localdydxprotocol", "account": "dydx1/0", "ledger": 0, "run_id": 2}
    position = {**ours, "opened": BEGAN, "updated": BEGAN}
    order = {**ours, "created": BEGAN, "updated": BEGAN, "side": "SELL", "price": "3000"}
    order |= {"ticker": "ETH-USD", "size": "0.2", "type": "LIMIT"}
    state = {"seq": 1, "at": BEGAN, "what": "collateral"}
    rows = {
        "runs": [
            {**RUN, "id": 1, "began": BEGAN - 1, "state": "ended"},
            {**RUN, "id": 2, "began": BEGAN, "state": "running"},
            {**RUN, "id": 3, "began": BEGAN + 1, "state": "ended", "account": "dydx1/1"},
            {**RUN, "id": 4, "began": BEGAN + 2, "state": "ended", "mode": "paper"},
            {**RUN, "id": 5, "began": BEGAN + 3, "state": "killed"},
        ],
        "positions": [
            {**position, "position_id": "p1", "ticker": "ETH-USD", "size": "1.2",
             "side": "SHORT", "status": "OPEN"},
            {**position, "position_id": "p2", "ticker": "BTC-USD", "size": "9",
             "side": "LONG", "status": "CLOSED"},
        ],
        "orders": [
            {**order, "order_id": "o1", "client_id": "77", "status": "OPEN"},
            {**order, "order_id": "o2", "client_id": "78", "status": "FILLED"},
            {**order, "order_id": "o3", "client_id": "79", "status": "OPEN", "updated": BEGAN - 1},
        ],
        "states": [
            {**state, "run_id": 1, "n": 9, "state": "1"},
            {**state, "run_id": 2, "n": 1, "state": "2"},
            {**state, "run_id": 2, "n": 2, "state": "1000000000"},
            {**state, "run_id": 3, "n": 1, "state": "4"},
            {**state, "run_id": 4, "n": 1, "state": "5"},
            {**state, "run_id": 5, "n": 1, "state": "ACTIVE", "what": "gate"},
        ],
    }  # fmt: skip
    with engine.begin() as connection:
        for table, each in rows.items():
            for row in each:
                connection.execute(TABLES[table].insert().values(**row))
    engine.dispose()
    return url


def test_the_last_run_of_an_account_left_what_the_database_has_of_it(url: str) -> None:
    """Not what other accounts or paper runs left, nor one that was killed before it knew any."""
    assert last_run(NETWORKS["local"], US, url) == LastRun(
        run="run 2 of 2026-01-01 00:00, which was killed", began=BEGAN,
        held=HeldAt(sizes={"ETH-USD": Decimal("-1.2")}, collateral=1_000_000_000),
        orders=(
            OpenOrder(order_id="o1", client_id="77", words="SELL 0.2 ETH-USD at 3000, LIMIT"),
        ),
    )  # fmt: skip


def test_a_database_with_a_size_that_is_none_is_an_error(url: str) -> None:
    """In words, and the run goes on without it."""
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.execute(TABLES["positions"].update().values(size="many"))
    engine.dispose()

    with pytest.raises(ConnError, match="expected sizes and a balance in"):
        last_run(NETWORKS["local"], US, url)


def test_an_account_that_no_run_traded_has_no_last_run(url: str, tmp_path: Path) -> None:
    """On another chain, of another owner, without a database, which none is made for."""
    assert last_run(NETWORKS["testnet"], US, url) is None
    assert last_run(NETWORKS["local"], Subaccount("dydx2"), url) is None
    assert last_run(NETWORKS["local"], US, str(tmp_path / "none.db")) is None
    assert not (tmp_path / "none.db").exists()


def test_what_a_run_wrote_down_is_what_the_next_one_finds(tmp_path: Path) -> None:
    """Positions and the newest balance, from the updates of its account, though it was killed."""
    url = str(tmp_path / "bot.db")
    bot = Bot(Options(strategy="none"), WireVenue(US))
    about = {"network": "local", "chain_id": "localdydxprotocol", "name": "", "recording": ""}
    written = Database(bot, url, run_row(bot, mode="trade", config={}, **about))
    held = PositionState(ticker="ETH-USD", size=Decimal("-1.2"), entry_price=Decimal(3000))
    update = AccountUpdate(seq=1, at=BEGAN, subaccount=US, height=800, positions=(held,))

    written.begin(Inbox())
    for usdc in (5, 7, 7):
        bot.journal.accounted(msgspec.structs.replace(update, collateral=usdc))
    assert written.writer.flush()
    found = last_run(NETWORKS["local"], US, url)
    written.end()

    assert found is not None
    assert found.held == HeldAt(sizes={"ETH-USD": Decimal("-1.2")}, collateral=7)
    assert found.run.endswith("which was killed")


def test_rows_that_could_not_be_written_are_found_all_the_same(url: str) -> None:
    """They are brought into the database first; without a database there is nothing to find."""
    row = {**RUN, "began": BEGAN + 9, "process": "9", "ledger": 0}
    waiting = Spill(url, row)
    waiting.add([("states", {"seq": 1, "at": 1, "what": "collateral", "state": "9", "n": 1})])
    waiting.close()

    found = last_run(NETWORKS["local"], US, url)

    assert found is not None
    assert found.held.collateral == 9
    assert last_run(NETWORKS["local"], US, "none") is None


# === Before a run ===


class Clock:
    """Time that passes by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let an indexer and a chain answer what is put in here, one after the other, the last again.

    What is an error is raised.
    """
    given: dict[str, Any] = {"indexer": [], "chain": [], "since": []}

    def take(name: str) -> Any:
        found = given[name].pop(0) if len(given[name]) > 1 else given[name][0]
        if isinstance(found, Exception):
            raise found
        return found

    async def indexer(_: Network, __: Subaccount, since: int | None = None) -> Reported:
        given["since"].append(since)
        found: Reported = take("indexer")
        return found

    def chain(_: Network, __: Subaccount) -> ChainAccount:
        found: ChainAccount = take("chain")
        return found

    monkeypatch.setattr("bot.live.reconcile._indexer", indexer)
    monkeypatch.setattr("bot.live.reconcile.chain_account", chain)
    return given


def on_chain(height: int, eth: str, usdc: int = 1_000_000_000) -> ChainAccount:
    """Return what the chain holds: ETH."""
    quantums = int(Decimal(eth).scaleb(9))
    return ChainAccount(height, usdc, (ChainPosition("ETH-USD", quantums, -9, 0, 0),))


def test_an_indexer_that_is_behind_is_waited_for(views: dict[str, Any]) -> None:
    """Until it has come to the chain's block: then nothing differs."""
    views["indexer"] = [
        Reported(held=held(h, "1.2" if h < 830 else "1.0")) for h in (790, 810, 830)
    ]
    views["chain"], clock = [on_chain(830, "1.0")], Clock()

    found, where = look(NETWORKS["local"], US, None, clock=clock, sleep=clock.sleep)

    assert (found, clock.now) == ([], 2.0)
    assert where == "the indexer at block 830, the chain at 830"


def test_an_indexer_that_stays_behind_halts_after_half_a_minute(views: dict[str, Any]) -> None:
    """With how far it is behind."""
    views["indexer"], views["chain"] = [Reported(held=held(800))], [on_chain(830, "1.0")]
    clock = Clock()

    found, _ = look(NETWORKS["local"], US, None, clock=clock, sleep=clock.sleep)

    assert clock.now == 30.0
    assert reason(found).endswith("the indexer is 30 blocks behind the chain")


def test_what_moved_is_queried_only_where_something_did(views: dict[str, Any]) -> None:
    """From the time at which the last run began."""
    views["indexer"], views["chain"] = [Reported(held=held(830))], [on_chain(830, "1.2")]
    clock = Clock()

    assert look(NETWORKS["local"], US, left(), clock=clock, sleep=clock.sleep)[0] == []
    look(NETWORKS["local"], US, left("1.1"), clock=clock, sleep=clock.sleep)

    assert views["since"][:3] == [None, None, 1]


def test_who_does_not_answer_is_queried_again_for_a_moment(views: dict[str, Any]) -> None:
    """A node that comes back is as good as one that was there."""
    views["indexer"], clock = [Reported(held=held(830))], Clock()
    views["chain"] = [NetworkError("gone"), on_chain(830, "1.2")]

    assert look(NETWORKS["local"], US, None, clock=clock, sleep=clock.sleep)[0] == []

    views["chain"] = [NetworkError("gone")]
    with pytest.raises(NetworkError, match="gone"):
        look(NETWORKS["local"], US, None, clock=clock, sleep=clock.sleep)


def acts_of(inbox: Inbox) -> list[tuple[str, str, str]]:
    """Return the acts that wait: who, what, why."""
    frames = iter(lambda: inbox.take(1, 0.0), None)
    return [(frame.link, frame.type, frame.text) for frame in frames]


@pytest.mark.parametrize(
    ("answers", "printed", "acts"),
    [
        (
            [Reported(held=held(830, "-1.2"))],
            "bot: dydx1/0 is as run 2 of 2026-01-01 00:00, which was killed, left it: the indexer "
            "at block 830, the chain at 830",
            [],
        ),
        (
            [Reported(held=held(830, "-1.2", 0))],
            "collateral: the last run left 1,000.000000 USDC",
            ["note", "halt"],
        ),
    ],
)
def test_each_difference_is_printed_and_an_act_and_halts_if_nothing_explains_it(
    url: str, views: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], answers: list[Reported], printed: str, acts: list[str],
) -> None:  # fmt: skip
    """Where nothing differs, it is printed which blocks were compared."""
    inbox = Inbox()
    monkeypatch.setattr("bot.live.reconcile._MOMENT_S", 0.0)
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.execute(TABLES["orders"].delete())
    engine.dispose()
    usdc = answers[0].held.collateral or 0
    views["indexer"], views["chain"] = answers, [on_chain(830, "-1.2", usdc)]

    reconcile(NETWORKS["local"], US, inbox, url)

    assert printed in capsys.readouterr().err
    assert [what for _, what, _ in acts_of(inbox)] == acts


def test_a_database_that_cannot_be_read_is_reported_and_the_others_are_compared(
    views: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no reason to halt."""
    views["indexer"], views["chain"] = [Reported(held=held(830))], [on_chain(830, "1.2")]
    (tmp_path / "bot.db").write_text("no database at all, but some text " * 99)

    reconcile(NETWORKS["local"], US, inbox := Inbox(), str(tmp_path / "bot.db"))

    reported = capsys.readouterr().err
    assert "what the last run left is not known: expected a database in" in reported
    assert "dydx1/0 is known from no earlier run: the indexer at block 830" in reported
    assert acts_of(inbox) == []


def test_an_account_that_cannot_be_compared_begins_halted(
    views: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held is guarded from the first frame all the same."""
    monkeypatch.setattr("bot.live.reconcile._MOMENT_S", 0.0)
    views["indexer"], views["chain"] = [Reported(held=held(830))], [NetworkError("gone")]

    reconcile(NETWORKS["local"], US, inbox := Inbox(), str(tmp_path / "bot.db"))

    halt = ("reconcile", "halt", "the account is not compared: gone")
    assert acts_of(inbox)[-1] == halt

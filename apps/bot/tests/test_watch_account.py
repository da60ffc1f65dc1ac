"""`bot account`: what is read of anybody's account, without a key, and why views differ."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bot.__main__ import main
from bot.progress import Progress
from bot.watch.account import as_json, lines_of
from bot.watch.address import AddressError, Target, parent_of, target
from bot.watch.differences import differences
from bot.watch.past import Past
from bot.watch.reading import Order, Reading, Seen, read, seen_by_indexer, seen_on_chain
from dydx_conn import (
    NETWORKS,
    ChainAccount,
    ChainMarket,
    ChainPosition,
    ChainState,
    MarketFields,
    Network,
    NetworkError,
    Subaccount,
    SubaccountFields,
    WireError,
    market_fields,
    market_parameters,
)
from dydx_risk import account_view
from servers import http_server
from sessions import REAL, Session, subaccount_named

QUOTER = "dydx1lwzy434rmz8ufxkeak36xgpuzk9k9csx0sn6km"
STRANGER = "dydx18y6v62cltpkud6kqr26yxa6swnjv8f4z5p6c78"
US = Subaccount(QUOTER, 0)
MICRO = 10**6
CHAIN_ID = "localdydxprotocol"

# === Whose account ===


def test_an_address_means_all_its_subaccounts_and_a_number_one_and_its_children() -> None:
    """A child is numbered by its parent, and by 128 more for each."""
    everyone, zero, child = target(QUOTER), target(f"{QUOTER}/0"), target(f"{QUOTER}/128")

    assert (everyone, zero, child) == (Target(QUOTER), Target(QUOTER, 0), Target(QUOTER, 128))
    numbers = (0, 1, 128, 129)
    assert [n for n in numbers if everyone.means(Subaccount(QUOTER, n))] == [0, 1, 128, 129]
    assert [n for n in numbers if zero.means(Subaccount(QUOTER, n))] == [0, 128]
    assert [n for n in numbers if child.means(Subaccount(QUOTER, n))] == [128]
    assert not everyone.means(Subaccount(STRANGER, 0))
    assert parent_of(128 * 7 + 5) == 5


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", "expected an address of dYdX"),
        ("hello", "got 'hello'"),
        (QUOTER[:-1] + "q", "its checksum is wrong"),
        ("osmo1qypqxpq9qcrsszg2pvxq6rs0zqg3yyc5helwsw", "got one that begins with osmo1"),
        (f"{QUOTER}/", "expected a subaccount between 0 and 128000"),
        (f"{QUOTER}/-1", "got '-1'"),
        (f"{QUOTER}/128001", "got '128001'"),
        (f"{QUOTER}/0/1", "got '0/1'"),
        (f"{QUOTER}/²", "got '²'"),
    ],
)
def test_what_is_no_account_says_what_was_expected(typed: str, words: str) -> None:
    """A character that is wrong is found by the checksum, another chain by its prefix."""
    with pytest.raises(AddressError, match=words.replace("(", r"\(")):
        target(typed)


# === What the chain holds ===

BTC = market_parameters("BTC-USD", open_interest_upper_cap=0)
ETH = market_parameters("ETH-USD")


def chain(
    collateral: int = 1_000 * MICRO,
    *positions: ChainPosition,
    height: int = 100,
    whole: bool = True,
) -> ChainState:
    """Make a chain on which an account holds something: BTC at 50,000, ETH at 2,500."""
    markets = {
        "BTC-USD": ChainMarket(BTC, 5_000_000_000, -5, 10**15, 0),
        "ETH-USD": ChainMarket(ETH, 2_500_000_000, -6, 10**15, 0),
    }
    held = ChainAccount(height, collateral, positions)
    return ChainState(CHAIN_ID, height, 1_767_225_600 * 10**9, {US: held}, markets, whole)


def btc(quantums: int, index: int = 0, now: int = 0) -> ChainPosition:
    """Hold so many quantums of BTC-USD (1e10 are one)."""
    return ChainPosition("BTC-USD", quantums, -10, index, now)


def test_the_chain_settles_funding_at_the_height_that_is_named() -> None:
    """Of each position by its index and its market's, rounded down once, as the chain does it."""
    seen = seen_on_chain(chain(1_000 * MICRO, btc(10**10, -7, 193)), US)

    assert (seen.height, seen.unsettled, seen.collateral) == (100, -2_000_000, 998 * MICRO)
    assert seen.owed == {"BTC-USD": -2_000_000}
    assert seen.margin is not None
    assert seen.margin.net_collateral == 50_998 * MICRO


def test_a_leverage_that_the_owner_chose_raises_the_initial_margin_alone() -> None:
    """To a third of the notional here; liquidation knows nothing of it."""
    chosen = dataclasses.replace(btc(10**10), chosen_imf_ppm=333_333)
    plain, seen = (
        seen_on_chain(chain(1_000 * MICRO, held), US).margin for held in (btc(10**10), chosen)
    )

    assert plain is not None
    assert seen is not None
    assert (plain.initial_margin, seen.initial_margin) == (2_500 * MICRO, 16_666_650_000)
    assert plain.maintenance_margin == seen.maintenance_margin


@pytest.mark.parametrize("session", REAL, ids=str)
def test_what_the_real_chain_holds_comes_to_its_own_figures(session: Session) -> None:
    """Net collateral and both margins to the quantum, in every recorded session."""
    for name, truth in session.truth["state"].items():
        seen = seen_on_chain(session.chain, subaccount_named(name))

        assert seen.unsettled == truth["unsettled_funding"]
        margin = seen.margin
        assert margin is not None
        got = (margin.net_collateral, margin.initial_margin, margin.maintenance_margin)
        figures = ("net_collateral", "initial_margin", "maintenance_margin")
        assert got == tuple(truth[figure] for figure in figures)


# === What the indexer holds ===


def fields(usdc: str = "1000", equity: str = "51000", free: str = "48500", **sizes: str) -> Any:
    """Describe an account as the indexer does, long of what is named: BTC="1"."""
    positions = {
        f"{name}-USD": {
            "market": f"{name}-USD", "status": "OPEN", "side": "LONG", "size": size,
            "entryPrice": "49000",
        }
        for name, size in sizes.items()
    }  # fmt: skip
    side = "SHORT" if usdc.startswith("-") else "LONG"
    row = {"symbol": "USDC", "side": side, "size": usdc.lstrip("-")}
    return {
        "address": QUOTER, "subaccountNumber": 0, "equity": equity, "freeCollateral": free,
        "openPerpetualPositions": positions, "assetPositions": {"USDC": row},
        "latestProcessedBlockHeight": "98",
    }  # fmt: skip


MARKETS = {
    "BTC-USD": market_fields("BTC-USD", price="50000"),
    "ETH-USD": market_fields("ETH-USD", price="2500"),
}


def indexed(**about: Any) -> Seen:
    """Read such an account."""
    row = msgspec.convert(fields(**about), SubaccountFields)
    return seen_by_indexer(row, msgspec.convert(MARKETS, dict[str, MarketFields]), "local")


def test_the_indexer_is_read_in_the_chains_units() -> None:
    """Money owed is negative, and a price keeps all its digits."""
    seen = indexed(usdc="-12.5", BTC="1.5")

    assert (seen.height, seen.collateral, seen.unsettled) == (98, -12_500_000, None)
    [held] = seen.holdings
    assert (held.quantums, held.entry_price) == (15 * 10**9, Decimal(49_000))
    assert seen.margin is not None
    assert seen.margin.net_collateral == 75_000 * MICRO - 12_500_000


@pytest.mark.parametrize("session", REAL, ids=str)
def test_what_the_real_indexer_answers_comes_to_its_own_figures(session: Session) -> None:
    """Equity and free collateral to the last digit, and nothing of them is left unexplained."""
    rows = {ticker: real_fields(ticker, row) for ticker, row in session.truth["markets"].items()}
    markets = msgspec.convert(rows, dict[str, MarketFields])
    for name, truth in session.truth["state"].items():
        whose, answer = subaccount_named(name), truth["comlink"]["subaccount"]["subaccount"]

        indexer = seen_by_indexer(msgspec.convert(answer, SubaccountFields), markets, "local")

        view = account_view("indexer", indexer.collateral, indexer.holdings)
        reported = Decimal(answer["equity"]), Decimal(answer["freeCollateral"])
        assert (view.equity, view.free_collateral) == tuple(map(Fraction, reported))
        chain = seen_on_chain(session.chain, whose)
        both = Reading(whose=whose, chain=chain, indexer=indexer, reported=reported)
        found = differences(both)
        assert [cause for cause in found if cause.equity is not None or not cause.known] == []


def real_fields(ticker: str, row: dict[str, Any]) -> dict[str, Any]:
    """Describe a market of a real session as the indexer does."""
    lot, imf = row["atomic_resolution"], Decimal(row["initial_margin_ppm"]).scaleb(-6)
    return market_fields(
        ticker,
        price=Decimal(row["oracle_price"]).scaleb(row["oracle_exponent"]),
        atomicResolution=lot,
        initialMarginFraction=str(imf),
        maintenanceMarginFraction=str(imf * row["maintenance_fraction_ppm"] / MICRO),
        openInterest=str(Decimal(row["open_interest_quantums"]).scaleb(lot)),
        openInterestLowerCap=str(Decimal(row["oi_lower_cap"]).scaleb(-6)),
        openInterestUpperCap=str(Decimal(row["oi_upper_cap"]).scaleb(-6)),
    )


def test_a_position_in_a_market_that_is_not_known_makes_the_margin_unknown() -> None:
    """Never nothing: it is named, with its size."""
    seen = indexed(BTC="1", GONE="3")

    assert seen.margin is None
    assert seen.unknown == (
        "GONE-USD +3: not among the 2 markets of local, so what it is worth is unknown",
    )


def test_a_size_that_is_none_is_refused() -> None:
    """What it is worth would be nothing."""
    with pytest.raises(WireError, match="expected the size of BTC-USD in digits, got 'many'"):
        indexed(BTC="many")


# === Why they differ ===


def reading(
    state: ChainState | None, equity: str = "51000", orders: tuple[Order, ...] = (), **about: Any
) -> Reading:
    """Read an account of both, or of the indexer alone."""
    indexer = indexed(**about)
    entries = {held.ticker: held.entry_price for held in indexer.holdings}
    return Reading(
        whose=US,
        chain=None if state is None else seen_on_chain(state, US, entries),
        indexer=indexer,
        reported=(Decimal(equity), Decimal(48_500)),
        orders=orders,
        no_chain="" if state else "got UNAVAILABLE",
    )


def words(found: Reading) -> list[tuple[str, int | None]]:
    """Return each difference with what it moves."""
    return [(cause.words, cause.equity) for cause in differences(found)]


def test_views_that_agree_have_no_differences_but_their_blocks() -> None:
    """A block that one of them has not seen yet is named all the same."""
    same = chain(1_000 * MICRO, btc(10**10), height=98)

    assert words(reading(same, BTC="1")) == []
    assert words(reading(chain(1_000 * MICRO, btc(10**10)), BTC="1")) == [
        ("the indexer is 2 blocks behind: it is as of block 98", None)
    ]


def test_funding_that_the_chain_has_not_settled_is_named_with_its_amount() -> None:
    """Where the indexer's balance is without it."""
    state = chain(1_000 * MICRO, btc(10**10, 0, 200), height=98)

    assert words(reading(state, BTC="1")) == [
        (
            "funding that the chain has not settled yet is not in the indexer's balance: "
            "-2.000000 USDC",
            2_000_000,
        )
    ]


def test_an_oracle_price_of_another_block_moves_equity_by_the_size() -> None:
    """Here by half a dollar a bitcoin, of two."""
    state = chain(1_000 * MICRO, btc(2 * 10**10), height=98)
    market = dataclasses.replace(state.markets["BTC-USD"], price=4_999_950_000)
    state = dataclasses.replace(state, markets={**state.markets, "BTC-USD": market})

    assert words(reading(state, equity="101000", BTC="2")) == [
        ("BTC-USD: the oracle price is 50000 in the indexer, 49999.5 on the chain", 1_000_000)
    ]


def test_a_trade_in_between_moves_position_and_balance() -> None:
    """Their parts come to the whole: what a fill costs moves nothing but its fee."""
    state = chain(-24_100 * MICRO, btc(15 * 10**9))

    found = words(reading(state, equity="51000", BTC="1"))

    assert found[1:] == [
        (
            "BTC-USD: the indexer holds +1, the chain +1.5: it traded in between",
            -25_000 * MICRO,
        ),
        (
            "the balance is 1,000.000000 USDC in the indexer, -24,100.000000 on the chain with its "
            "funding: fills, transfers or funding between their blocks",
            25_100 * MICRO,
        ),
    ]
    assert sum(moved or 0 for _, moved in found) == 51_000 * MICRO - 50_900 * MICRO


def test_what_nothing_explains_is_marked() -> None:
    """A balance that differs at the same block, and an equity that follows from no part."""
    state = chain(990 * MICRO, btc(10**10), height=98)

    found = differences(reading(state, equity="51003", BTC="1"))

    assert [cause.known for cause in found] == [False, False]
    assert "at the same block" in found[0].words
    assert "+3.000000 USDC of the indexer's equity follow from nothing" in found[1].words


def test_open_orders_open_interest_and_rules_are_causes_too() -> None:
    """None of them moves equity; a chain that was read over several blocks says so."""
    tier = msgspec.structs.replace(
        BTC, open_interest_lower_cap=10**12, open_interest_upper_cap=10**14
    )
    state = chain(1_000 * MICRO, btc(10**10), height=98, whole=False)
    market = ChainMarket(tier, 5_000_000_000, -5, 2 * 10**13, 0)
    state = dataclasses.replace(state, markets={**state.markets, "BTC-USD": market})
    order = Order(ticker="BTC-USD", side="BUY", size="1", price="1", type="LIMIT", status="OPEN")

    found = words(reading(state, orders=(order, order), BTC="1"))

    assert {moved for _, moved in found} == {None}
    texts = " | ".join(text for text, _ in found)
    assert "blocks came while the chain was read: it is as of 98 or a little later" in texts
    assert "BTC-USD: open interest is reported up to a minute late" in texts
    assert "2 orders are open: neither locks margin for it" in texts
    assert "the indexer: by its open interest BTC-USD requires" in texts


def test_without_one_of_the_two_there_is_nothing_to_compare() -> None:
    """What is missing has its reason beside it."""
    assert differences(reading(None, BTC="1")) == []


# === What is printed ===

NET = NETWORKS["local"]
EARLIER = Past(
    hours=((0, Decimal(100), Decimal(0)), (90_000 * 10**9, Decimal(110), Decimal(10))),
    whole=True, funding_24h=Decimal(-1),
    fills=((0, "BUY 1 BTC-USD at 1, taker fee 0"),), transfers=None,
)  # fmt: skip


def printed(found: Reading, earlier: Past = EARLIER) -> str:
    """Return all that is printed."""
    return "\n".join(lines_of(NET, [found], {US: earlier}))


def test_an_account_is_printed_in_three_views() -> None:
    """With the block of each, the distance, its positions and its past."""
    text = printed(reading(chain(1_000 * MICRO, btc(10**10)), BTC="1"))

    assert "public data alone: no key is needed, and none is read" in text
    assert "chain    block 100 of 2026-01-01 00:00:00Z\n  indexer  block 98" in text
    assert (
        "equity                     51,000.000000       51,000.000000       51,000.000000" in text
    )
    assert "to liquidation                     102 %" in text
    row = next(line.split() for line in text.splitlines() if line.startswith("  BTC-USD"))
    assert row[1:5] == ["+1", "49,000", "50,000", "50,000.00"]
    assert "24 h +10.00" in text
    assert "transfer unknown, the indexer did not answer" in text


def test_without_a_node_the_chain_is_unknown_and_never_nothing() -> None:
    """It says what is left out by it."""
    text = printed(reading(None, BTC="1"))

    assert "indexer only, unsettled funding not included: got UNAVAILABLE" in text
    assert "equity                           unknown       51,000.000000" in text
    assert "unsettled funding                unknown" in text


def test_a_liquidatable_account_is_named_one_and_unknown_ones_have_reasons() -> None:
    """Negative equity with a position can be liquidated; a market that is gone cannot be valued."""
    assert "LIQUIDATABLE" in printed(reading(chain(-49_000 * MICRO, btc(10**10)), BTC="1"))
    text = printed(reading(None, GONE="3"))
    assert "to liquidation                   unknown" in text
    assert "unknown: GONE-USD +3: not among the 2 markets" in text


def test_an_account_without_a_position_is_in_no_danger() -> None:
    """It is no `unknown`, and no green box either."""
    text = printed(reading(chain(), equity="1000"), Past())

    assert "to liquidation               no position" in text
    assert "profit   24 h unknown" in text


def test_a_program_gets_exact_amounts() -> None:
    """As text, with null for what is not known."""
    found = as_json(reading(chain(1_000 * MICRO, btc(10**10, 0, 200)), BTC="1"), EARLIER)

    assert found["chain"]["net_collateral"] == "50998.000000"
    assert found["chain"]["unsettled_funding"] == "-2.000000"
    assert found["chain"]["positions"][0]["size"] == "1"
    assert found["indexer"]["equity"] == "51000"
    assert found["past"]["profit"] == {"24h": "10", "7d": "10", "30d": "10"}
    assert as_json(reading(None, BTC="1"), None)["chain"] is None
    assert json.dumps(found)


# === The command ===


class Indexer:
    """An indexer that answers by path, and 404 for what there is not."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}

    def get(self, path: str) -> tuple[int, bytes]:
        """Answer a request."""
        answer = self.answers.get(path.partition("?")[0])
        none = 404, b'{"errors":[{"msg":"none"}]}'
        return none if answer is None else (200, json.dumps(answer).encode())

    def funded(self, *rows: dict[str, Any]) -> None:
        """Answer as for an account with these subaccounts."""
        self.answers = {
            f"/v4/addresses/{QUOTER}": {"subaccounts": rows},
            "/v4/perpetualMarkets": {"markets": MARKETS},
            "/v4/orders": [],
            "/v4/historical-pnl/parentSubaccountNumber": {"historicalPnl": [PNL]},
            "/v4/fills/parentSubaccountNumber": {"fills": [FILL]},
            "/v4/transfers/parentSubaccountNumber": {"transfers": [TRANSFER]},
            "/v4/fundingPayments/parentSubaccount": {"fundingPayments": [PAYMENT, LONG_AGO]},
        }


AT = "2026-01-01T00:00:00.000Z"
PNL = {"equity": "51000", "totalPnl": "5", "netTransfers": "0", "createdAt": AT}
FILL = {
    "id": "f", "side": "BUY", "size": "1", "price": "50000", "type": "LIQUIDATED", "fee": "1",
    "liquidity": "TAKER", "market": "BTC-USD", "createdAt": AT,
}  # fmt: skip
TRANSFER = {
    "id": "t", "sender": {"address": "dydx1"}, "recipient": {"address": QUOTER}, "size": "50995",
    "symbol": "USDC", "type": "DEPOSIT", "createdAt": AT,
}  # fmt: skip
PAYMENT = {
    "createdAt": AT, "ticker": "BTC-USD", "oraclePrice": "1", "size": "1", "side": "LONG",
    "rate": "0", "payment": "-0.5",
}  # fmt: skip
LONG_AGO = PAYMENT | {"createdAt": "2025-12-30T00:00:00.000Z"}


@pytest.fixture
def indexer(tmp_path: Path) -> Iterator[tuple[Indexer, str]]:
    """Run an indexer on the loopback; return it and the file of its network."""
    found = Indexer()

    with http_server(found.get) as at:
        file = tmp_path / "net.toml"
        file.write_text(
            f'name = "mine"\nrest = "http://{at}"\nws = "ws://{at}/v4/ws"\nnode = "127.0.0.1:9"\n'
            'chain_id = "dydx-mainnet-1"\n'
        )
        yield found, str(file)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Callable[[ChainState | str], None]:
    """Return what lets the node answer this, or fail with these words."""

    def answers(state: ChainState | str) -> None:
        def queried(_: Network, wanted: list[Subaccount], **__: Any) -> ChainState:
            if isinstance(state, str):
                raise NetworkError(state)
            held = {each: state.accounts.get(each, ChainAccount(100, 0)) for each in wanted}
            return dataclasses.replace(state, chain_id="dydx-mainnet-1", accounts=held)

        monkeypatch.setattr("bot.watch.reading.chain_state", queried)

    return answers


Node = Callable[[ChainState | str], None]


def test_an_account_of_mainnet_is_printed_without_a_confirmation(
    indexer: tuple[Indexer, str], node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing can be sent: no flag, no word, no key."""
    indexer[0].funded(fields(BTC="1"), fields(equity="5", usdc="5") | {"subaccountNumber": 128})
    node(chain(1_000 * MICRO, btc(10**10)))

    code = main(["account", QUOTER, "--network", indexer[1]])

    out = capsys.readouterr()
    assert (code, out.err) == (0, "")
    assert "subaccount 0 (cross)" in out.out
    assert "subaccount 128 (isolated child of 0)" in out.out
    assert "liquidated: BUY 1 BTC-USD at 50000" in out.out
    assert "deposit 50995 USDC" in out.out
    # Nothing was paid in within its newest hour, and one payment is older than a day.
    assert "funding  24 h -0.50   paid in +50,995.00" in out.out


def test_an_account_that_is_meant_twice_is_read_once(
    indexer: tuple[Indexer, str], node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its address, by its number, and the same once more."""
    indexer[0].funded(fields(BTC="1"), fields(equity="5", usdc="5") | {"subaccountNumber": 128})
    node(chain(1_000 * MICRO, btc(10**10)))
    typed = [f"{QUOTER}/128", QUOTER, f"{QUOTER}/0", QUOTER]

    code = main(["account", *typed, "--network", indexer[1], "--json"])

    rows = json.loads(capsys.readouterr().out)["accounts"]
    assert (code, [row["subaccount"] for row in rows]) == (0, [128, 0])


def test_the_first_reading_shows_how_far_it_is(
    indexer: tuple[Indexer, str], node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step for each address that is answered, and one for what they hold."""
    of, steps = list[float](), list[str]()

    class Counted(Progress):
        def begin(self, what: str, of_: float) -> None:
            of.append(of_)

        def step(self, words: str = "") -> None:
            steps.append(words)

    monkeypatch.setattr("bot.watch.reading.Progress", Counted)
    indexer[0].funded(fields(BTC="1"))
    node(chain(1_000 * MICRO, btc(10**10)))

    main(["account", QUOTER, f"{QUOTER}/5", QUOTER, "--network", indexer[1]])

    assert of == [len(steps)] == [3]


def test_profit_over_a_time_of_which_no_hour_is_reported_is_unknown(
    indexer: tuple[Indexer, str], node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a parent with children the indexer's newest thousand rows are few hours together."""
    indexer[0].funded(fields())
    path = "/v4/historical-pnl/parentSubaccountNumber"
    first = PNL | {"createdAt": "2025-12-22T00:00:00.000Z", "totalPnl": "1"}
    node(chain())
    lines = []
    for paid_in in ("0", "50999"):  # in its oldest hour, which is its first if that is all
        indexer[0].answers[path] = {"historicalPnl": [PNL, first | {"netTransfers": paid_in}]}
        main(["account", QUOTER, "--network", indexer[1]])
        lines += [line for line in capsys.readouterr().out.splitlines() if "profit" in line]

    assert "24 h +4.00  7 d +4.00  30 d unknown  since it began +5.00" in lines[0]
    assert "24 h +4.00  7 d +4.00  30 d +5.00  since it began +5.00" in lines[1]


def test_who_holds_nothing_for_days_received_no_funding_in_one(
    indexer: tuple[Indexer, str], node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest payment is not of the last day only because none came after it."""
    indexer[0].funded(fields())
    path = "/v4/fundingPayments/parentSubaccount"
    indexer[0].answers[path] = {"fundingPayments": [LONG_AGO]}
    node(chain())

    main(["account", QUOTER, "--network", indexer[1]])

    assert "funding  24 h +0.00" in capsys.readouterr().out


def test_a_program_reads_the_same_and_a_view_that_is_missing_is_a_1(
    indexer: tuple[Indexer, str], node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a node the chain is null, with the reason beside it."""
    indexer[0].funded(fields(BTC="1"))
    node("got UNAVAILABLE")

    code = main(["account", f"{QUOTER}/0", "--network", indexer[1], "--json"])

    [row] = json.loads(capsys.readouterr().out)["accounts"]
    assert (code, row["chain"], row["chain_unknown_because"]) == (1, None, "got UNAVAILABLE")
    assert row["indexer"]["net_collateral"] == "51000.000000"


@pytest.mark.parametrize(
    ("typed", "funded", "chain_answers", "expected"),
    [
        ("hello", True, True, "expected an address of dYdX"),
        (QUOTER, False, True, "the indexer: it knows of no deposit, and the chain holds nothing"),
        (f"{QUOTER}/5", True, True, "expected an account that was funded on mine"),
        (STRANGER, True, False, "got no answer"),
    ],
)
def test_what_is_no_account_is_a_line_and_a_2(
    indexer: tuple[Indexer, str], node: Node, capsys: pytest.CaptureFixture[str],
    typed: str, funded: bool, chain_answers: bool, expected: str,
) -> None:  # fmt: skip
    """Malformed, never funded, a number that was never used, or nobody to query."""
    if funded:
        indexer[0].funded(fields(BTC="1"))
    empty = dataclasses.replace(chain(), accounts={})
    node(empty if chain_answers else "got UNAVAILABLE")

    code = main(["account", typed, "--network", indexer[1]])

    out = capsys.readouterr()
    assert (code, out.out) == (2, "")
    assert expected in out.err
    assert out.err.count("\n") == 1


def test_an_indexer_that_is_away_leaves_the_chain(
    indexer: tuple[Indexer, str], node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it would have reported is unknown: markets, orders and the past."""
    indexer[0].answers = {f"/v4/addresses/{QUOTER}": ["no"]}
    node(chain(1_000 * MICRO, btc(10**10)))

    code = main(["account", QUOTER, "--network", indexer[1]])

    out = capsys.readouterr().out
    assert code == 1
    assert "equity                     51,000.000000             unknown" in out
    assert "indexer  nothing: expected" in out


def test_a_node_of_another_chain_is_not_believed(
    indexer: tuple[Indexer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is an indexer whose figures cannot be read; both say what was expected."""
    indexer[0].funded(fields(BTC="many", equity="much"))
    monkeypatch.setattr("bot.watch.reading.chain_state", lambda *_: chain())
    net = dataclasses.replace(NET, chain_id="dydx-mainnet-1", rest=rest_of(indexer[1]))

    [found] = read(net, [target(QUOTER)])

    assert found.no_chain == f"expected {net.node} to be of dydx-mainnet-1, got {CHAIN_ID}"
    assert found.no_indexer == "expected the size of BTC-USD in digits, got 'many'"
    assert (found.indexer, found.reported) == (None, None)


@pytest.mark.parametrize("typed", [(), ("--json",)])
def test_the_account_that_was_read_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: tuple[str, ...]
) -> None:
    """Its open orders, too; without a parent there is no past to query."""
    order = Order(
        ticker="BTC-USD", side="SELL", size="1", price="9", type="LIMIT", status="OPEN",
        reduce_only=True,
    )  # fmt: skip
    one = reading(chain(1_000 * MICRO, btc(10**10)), orders=(order,), BTC="1")
    none = reading(None, BTC="1")
    readings = [
        msgspec.structs.replace(one, whose=Subaccount(QUOTER, 128)),
        msgspec.structs.replace(none, whose=Subaccount(QUOTER, 256), orders=None),
    ]
    monkeypatch.setattr("bot.watch.account.read", lambda *_: readings)

    code = main(["account", QUOTER, "--network", "mainnet", *typed])

    out = capsys.readouterr().out
    assert code == 1
    assert "reduce" in out
    if not typed:
        assert "open order: SELL 1 BTC-USD at 9, LIMIT reduce-only OPEN" in out
        assert "open orders: unknown, the indexer did not answer" in out
    else:
        assert json.loads(out)["accounts"][1]["orders"] is None


def rest_of(file: str) -> str:
    """Return the address of the indexer in a file of a network."""
    return Path(file).read_text().split('rest = "')[1].split('"')[0]

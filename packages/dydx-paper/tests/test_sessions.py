"""Sessions of the real software: what it matched, charged and reported, this layer does too."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from copy import deepcopy
from decimal import Decimal
from fractions import Fraction
from functools import cache, partial
from typing import Any, NamedTuple

import msgspec
import pytest
from dydx_conn import Fees, PerpetualMarket, Subaccount, instant
from dydx_data import DataState, step
from dydx_paper import (
    DELEVERAGED,
    Booking,
    Filled,
    Ledger,
    Order,
    OrderBook,
    OrderRecord,
    Stamp,
    bankruptcy,
    charge,
    fill_fields,
    order_fields,
    order_update_fields,
    position_update_fields,
    settled_order_fields,
    subaccount_fields,
    update_result,
)
from dydx_risk import LiquidationTerms, insurance_fund_delta
from habits import messages
from sessions import REAL, Session

sessions = pytest.mark.parametrize("session", REAL, ids=str)


@cache
def markets(session: Session) -> Mapping[str, PerpetualMarket]:
    """Return the markets of a session, by ticker."""
    state = DataState()
    for frame in session.frames:
        step(state, frame)
    return {ticker: view.market for ticker, view in state.views.items() if view.market}


class Oracles:
    """The oracle prices of a session, by the block that set them, and its open interest."""

    def __init__(self, session: Session) -> None:
        self._markets = session.truth["markets"]
        self._at: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        for message in messages(session.frames, ("v4_markets",)):
            for ticker, row in message.contents.get("markets", {}).items():
                self._at[ticker].append((0, row["oraclePrice"]))
            for ticker, row in message.contents.get("oraclePrices", {}).items():
                self._at[ticker].append((int(row["effectiveAtHeight"]), row["oraclePrice"]))

    def value(self, ledger: Ledger, height: int) -> None:
        """Value a ledger at the prices of a block."""
        for ticker, prices in self._at.items():
            latest = bisect_right(prices, height, key=lambda price: price[0])
            price = Decimal(prices[max(0, latest - 1)][1]).as_tuple()
            digits = int("".join(map(str, price.digits)))
            interest = self._markets.get(ticker, {}).get("open_interest_quantums")
            ledger.value(ticker, digits, int(price.exponent), interest)


oracles_of = cache(Oracles)


class Real(NamedTuple):
    """A fill of a session as a ledger books it, the ledger just before it."""

    ledger: Ledger
    fill: Filled


def account_of(whose: str) -> Subaccount:
    """Read the name of an account."""
    owner, _, number = whose.partition("/")
    return Subaccount(owner, int(number))


def fills(session: Session, whose: str, ledger: Ledger | None = None) -> Iterator[Real]:
    """Yield an account's fills in the chain's order; they are booked by who takes them."""
    ledger, oracles = ledger or Ledger(account_of(whose)), oracles_of(session)
    by_pair = {str(market.clob_pair_id): market for market in markets(session).values()}
    account, us = session.truth["state"][whose], session.truth["subaccount_ids"][whose]
    for row in sorted(account["fills"] + account["transfers"], key=lambda row: row["ev"]):
        height = int(row["ev"][:8], 16)
        if "clobPairId" in row:
            oracles.value(ledger, height)
            yield Real(ledger, fill_of(row, by_pair[row["clobPairId"]], height))
        else:
            amount = round(Decimal(row["size"]).scaleb(6))
            ledger.deposit(amount if row["t"] == us else -amount, Stamp(height=height))


def fill_of(row: dict[str, Any], market: PerpetualMarket, height: int) -> Filled:
    """Read a fill of a session."""
    quantums = market.quantums(row["size"]) * (1 if row["side"] == "BUY" else -1)
    fee, is_taken = round(Decimal(row["fee"]).scaleb(6)), row["type"] in DELEVERAGED
    insured = row["type"] == "LIQUIDATED"
    return Filled(
        market=market, quantums=quantums, when=Stamp(height=height), id=row["id"],
        event=row["ev"], order_id=row["orderId"] or "", type=row["type"],
        liquidity=row["liquidity"], fee=0 if insured else fee, insurance=fee if insured else 0,
        quote=round(Decimal(row["quoteAmount"]).scaleb(6)) if is_taken else None,
        subticks=1 if is_taken else market.subticks(row["price"]),
    )  # fmt: skip


# === The indexer's sums ===

_OURS = ("positionId", "netFunding")  # an id is made up, and no funding is booked here


def same(made: dict[str, Any], real: dict[str, Any]) -> dict[str, Any]:
    """Return what of a row is not as the real one."""
    return {k: (made[k], real[k]) for k in real if k not in _OURS and made[k] != real[k]}


@sessions
def test_each_position_is_reported_as_the_real_indexer_did(session: Session) -> None:
    """Every state and every fill, to the last digit: sizes, sums, averages, profit."""
    seen = 0
    for whose in session.truth["state"]:
        bookings: list[tuple[Ledger, Booking]] = []
        states: defaultdict[tuple[int, str], list[Any]] = defaultdict(list)
        filled: dict[str, Any] = {}
        for ledger, fill in fills(session, whose):
            booking = ledger.book(fill)
            bookings.append((ledger, booking))
            rows = [position_update_fields(ledger, fill.market, row) for row in booking.states]
            states[fill.when.height, fill.market.ticker].append(rows)
            filled[fill.id] = position_update_fields(ledger, fill.market, booking.position)
        for message in messages(session.frames, ("v4_subaccounts",)):
            positions = message.contents.get("perpetualPositions", [])
            if message.whose != whose or not positions:
                continue
            if fills_ := message.contents.get("fills"):
                made = [filled[fills_[-1]["id"]]]
            else:
                made = states[message.height, positions[0]["market"]].pop(0)
            assert [{}] * len(positions) == list(map(same, made, positions))
            seen += 1

    assert seen


@sessions
def test_each_fill_is_reported_as_the_real_indexer_did(session: Session) -> None:
    """With the position as it was before, unless a deleveraging made it."""
    hidden = ("id", "createdAt", "transactionHash", "clientMetadata")
    reported = {
        row["id"]: {name: what for name, what in row.items() if name not in hidden}
        for message in messages(session.frames, ("v4_subaccounts",))
        for row in message.contents.get("fills", ())
    }
    for whose in session.truth["state"]:
        for ledger, fill in fills(session, whose):
            record = ledger.book(fill).fill
            if real := reported.pop(record.id, None):
                row = fill_fields(ledger.subaccount, fill.market, record)
                assert real == {name: row[name] for name in real}

    assert not reported


def at_the_end(session: Session, whose: str) -> Ledger:
    """Return an account with all its fills, at the prices of the block that the truth is of."""
    ledger = Ledger(account_of(whose))
    for _, fill in fills(session, whose, ledger):
        ledger.book(fill)
    oracles_of(session).value(ledger, session.truth["true_at_block"])
    return ledger


@sessions
def test_every_position_is_in_the_real_database_as_here(session: Session) -> None:
    """Those that ended too, with what REST takes for earned: wrong as that often is."""
    for whose, account in session.truth["state"].items():
        by_id = {market.perpetual_id: market for market in markets(session).values()}
        rows = reversed(at_the_end(session, whose).positions(limit=1_000).rows)
        own = sorted(rows, key=lambda record: (record.ticker, record.created.height))
        real = sorted(
            account["positions_postgres"],
            key=lambda row: (by_id[int(row["perpetualId"])].ticker, row["openEvent"]),
        )

        for record, row in zip(own, real, strict=True):
            size, sums = by_id[int(row["perpetualId"])].size, record.indexed
            assert (record.status, size(record.quantums), size(sums.peak)) == (
                row["status"], Decimal(row["size"]), Decimal(row["maxSize"]),
            )  # fmt: skip
            assert (size(sums.opened), size(sums.closed)) == (
                Decimal(row["sumOpen"]), Decimal(row["sumClose"]),
            )  # fmt: skip
            assert (sums.entry, sums.exit or 0, sums.earned) == (
                Decimal(row["entryPrice"]), Decimal(row["exitPrice"] or 0),
                Decimal(row["totalRealizedPnl"]),
            )  # fmt: skip


@sessions
def test_profit_is_what_the_fills_come_to(session: Session) -> None:
    """Of each position and of all of them, with fees apart; not what the indexer takes for it."""
    for whose, account in session.truth["state"].items():
        ledger = at_the_end(session, whose)
        records = ledger.positions(limit=1_000).rows
        real = sorted(
            (row["ticker"], row["status"] == "OPEN", quanta(row["realised"]))
            for row in account["profit_by_position"]
        )

        truth = account["profit"]
        assert real == sorted((row.ticker, row.status == "OPEN", row.realized) for row in records)
        assert ledger.realized_pnl == quanta(truth["realised"])
        assert ledger.paid.fees + ledger.paid.insurance == quanta(truth["fees"])
        assert (ledger.tally.won, ledger.tally.lost) == (
            truth["wins_net_of_fees"], truth["losses_net_of_fees"],
        )  # fmt: skip
        held = {row["ticker"]: row["quantums"] for row in account["positions"]}
        assert {of: one.quantums for of, one in ledger.holdings.items()} == held


def quanta(usdc: str) -> int:
    """Read exact USDC, a fraction where no decimal says it, to the nearest quote quantum."""
    return round(Fraction(usdc) * 1_000_000)


@sessions
def test_an_account_is_listed_as_by_the_real_rest(session: Session) -> None:
    """Equity and free collateral without rounding, each position with its fees in its profit."""
    for whose, account in session.truth["state"].items():
        ledger, real = (
            at_the_end(session, whose),
            deepcopy(account["comlink"]["subaccount"]["subaccount"]),
        )
        row = subaccount_fields(ledger, int(real["latestProcessedBlockHeight"]))
        if Decimal(account["balance_check"]["funding_received"]):
            continue  # none is booked here
        for rows in (row["openPerpetualPositions"], real["openPerpetualPositions"]):
            for held in rows.values():
                # A sum of Postgres may end in zeros.
                held |= {"createdAt": None, "realizedPnl": Decimal(held["realizedPnl"])}
        row["updatedAtHeight"] = real["updatedAtHeight"]
        assert row == real


# === Orders in their authors' rows ===


def record_of(row: dict[str, Any], market: PerpetualMarket) -> OrderRecord:
    """Read an order's row back."""

    def stamp(name: str) -> Stamp:
        time_ns = instant(row[name]) if row.get(name) else 0
        return Stamp(time_ns=time_ns, height=int(row.get(f"{name}Height") or 0))

    until, condition = row.get("goodTilBlockTime"), {"STOP_LIMIT": "STOP_LOSS"}
    filled = row.get("totalFilled") or row.get("totalOptimisticFilled") or "0"
    twap = row.get("duration") and tuple(
        int(row[name]) for name in ("duration", "interval", "priceTolerance")
    )
    kind = row.get("type", "")
    return OrderRecord(
        id=row["id"], ticker=row["ticker"], side=row.get("side", ""),
        quantums=market.quantums(row["size"]) if "size" in row else 0,
        subticks=int(Decimal(row.get("price", "0")) / market.price(1)),
        filled=int(Decimal(filled) / market.size(1)), status=row["status"],
        reason=row.get("removalReason", ""),
        time_in_force="POST_ONLY" if row.get("postOnly") else row.get("timeInForce", "GTT"),
        order_flags=int(row["orderFlags"]), client_id=int(row["clientId"]),
        reduce_only=row.get("reduceOnly", False),
        good_til_block=int(row.get("goodTilBlock") or 0),
        good_til_block_time=instant(until) // 10**9 if until else 0,
        client_metadata=int(row.get("clientMetadata") or 0),
        condition_type=condition.get(kind, kind if kind == "TAKE_PROFIT" else ""),  # type: ignore[arg-type]
        trigger_subticks=market.subticks(row["triggerPrice"]) if row.get("triggerPrice") else 0,
        created=stamp("createdAt"), updated=stamp("updatedAt"), twap=twap or None,
    )  # fmt: skip


@sessions
def test_each_order_is_reported_as_the_real_indexer_did(session: Session) -> None:
    """What nodes saw, what blocks settled, what a snapshot lists: read back and written again."""
    by_ticker = markets(session)
    for message in messages(session.frames, ("v4_subaccounts",)):
        for real in message.contents.get("orders", ()):
            missing = "postOnly" not in real  # no node knew it any more
            write: Any = partial(order_update_fields, missing=missing)
            market = by_ticker[real["ticker"]]
            if message.type == "subscribed":
                write = order_fields
            elif "fills" in message.contents:
                write = settled_order_fields
            record = record_of(real, market)
            if record.is_settled and not record.created.height:
                # Nodes report an order's end before the fills that they have matched are settled.
                record = msgspec.structs.replace(record, filled=0)
            row = write(account_of(message.whose), market, record)
            if "totalOptimisticFilled" in real:
                row["totalOptimisticFilled"] = real["totalOptimisticFilled"]
            assert real == row
    for whose, account in session.truth["state"].items():
        for real in account["comlink"]["orders"]:
            market = by_ticker[real["ticker"]]
            assert real == order_fields(account_of(whose), market, record_of(real, market))


# === Matching ===

# Orders of different senders that race within a block are matched as its proposer had them.
_ALONE = [session for session in REAL if str(session) != "27-busy"]


@pytest.mark.parametrize("session", _ALONE, ids=str)
def test_a_book_matches_as_the_real_one(session: Session) -> None:
    """Each order that was sent fills as it did: how much, at which prices, in which order."""
    by_ticker, books, keys = markets(session), dict[str, OrderBook](), dict[str, Any]()
    matched: defaultdict[str, list[Any]] = defaultdict(list)
    for sent in session.truth["sent"]:
        if sent["code"] or sent.get("flags", 0) in (32, 128):  # what waits comes from triggers
            continue
        if sent["what"] == "cancel" and sent["id"] in keys:
            ticker, key = keys[sent["id"]]
            books[ticker].cancel(key)
        elif sent["what"] == "place":
            market = by_ticker[sent["ticker"]]
            book = books.setdefault(market.ticker, OrderBook(market))
            book.expire(sent["at"])
            order = Order(
                subaccount=Subaccount(sent["who"], sent["sub"]), client_id=sent["client_id"],
                clob_pair_id=market.clob_pair_id, side=sent["side"], quantums=sent["quantums"],
                subticks=sent["subticks"], time_in_force=sent["tif"], id=sent["id"],
                reduce_only=sent["reduce_only"], order_flags=sent["flags"],
                good_til_block=sent["good_til_block"],
                good_til_block_time=sent["good_til_block_time"],
            )  # fmt: skip
            keys[order.id] = market.ticker, order.key
            for match in book.place(order).fills:
                for party in (match.maker, match.taker):
                    matched[party.id].append(
                        (market.size(match.quantums), market.price(match.subticks))
                    )

    ours = {row["id"] for row in session.truth["sent"] if row.get("flags") in (0, 64)}
    for account in session.truth["state"].values():
        real: dict[str, list[Any]] = {}
        for row in sorted(account["fills"], key=lambda row: row["ev"]):
            if row.get("before_recording"):  # as were the makers that it met
                continue
            real.setdefault(row["orderId"], []).append(
                (Decimal(row["size"]), Decimal(row["price"]))
            )
        real = {id: rows for id, rows in real.items() if id in ours}
        assert {id: matched[id] for id in real} == real


# === Money ===


_DAVE = "dydx1wau5mja7j7zdavtfq9lu7ejef05hm6ffenlcsn"


@sessions
def test_each_fill_costs_what_the_chain_charged(session: Session) -> None:
    """The local net's takers pay 500 ppm, one of them 350, and its makers get 110."""
    for whose in session.truth["state"]:
        local = Fees(taker_ppm=350 if whose.startswith(_DAVE) else 500, maker_ppm=-110)
        for _, fill in fills(session, whose):
            if fill.type == "LIMIT":
                quote = fill.market.quote_quantums(abs(fill.quantums), fill.subticks)
                assert charge(quote, fill.liquidity, local).total == fill.fee


@sessions
def test_the_chain_would_allow_every_fill_that_it_allowed(session: Session) -> None:
    """With the balance that the account had, and the oracle price of the block."""
    for whose in session.truth["state"]:
        for ledger, fill in fills(session, whose):
            if fill.type == "LIMIT":
                terms = ledger, fill.market, fill.quantums, fill.subticks, fill.fee
                assert update_result(*terms) == "Success"
            ledger.book(fill)


@sessions
def test_a_balance_is_the_chains_after_each_block(session: Session) -> None:
    """To the quantum, but for the funding that was settled in between."""
    for whose, account in session.truth["state"].items():
        funding = round(Decimal(account["balance_check"]["funding_received"]).scaleb(6))
        balances: dict[int, int] = {}
        for ledger, fill in fills(session, whose):
            ledger.book(fill)
            balances[fill.when.height] = ledger.collateral
        off = {
            at: accounts[whose]["usdc_quantums"] - balances[int(at)]
            for at, accounts in session.truth["after_block"].items()
            if whose in accounts and int(at) in balances
        }

        assert set(off.values()) <= {0, funding}


@sessions
def test_a_liquidation_costs_what_the_chain_took_for_its_fund(session: Session) -> None:
    """Bounded by the fee, and by what the bankruptcy price leaves."""
    most, begun = LiquidationTerms().max_liquidation_fee_ppm, set()
    for whose in session.truth["state"]:
        for ledger, fill in fills(session, whose):
            if fill.type == "LIQUIDATED":
                sign = 1 if fill.quantums > 0 else -1
                received = -sign * fill.market.quote_quantums(abs(fill.quantums), fill.subticks)
                broke_at = bankruptcy(ledger, fill.market, fill.quantums)
                assert ledger.breached or fill.when.height in begun
                begun.add(fill.when.height)
                assert insurance_fund_delta(broke_at, received, most) == fill.insurance
            ledger.book(fill)

"""Who trades here under a name: wallets, subaccounts, and their orders.

    place | cancel | deposit ──► Accounts ──► dydx_paper: objection, OrderBook, Ledger
    commit (each block) ──► expiry, triggers, liquidation ──► v4_subaccounts

`Wallet` is what the chain knows of an address; a `Ledger` (dydx_paper's) is a subaccount's money;
`Desk` shows one market's book the accounts that trade on it. `Accounts` keeps the orders in the
indexer's words: best-effort states at once, what the chain settled with its block.

Everything answers `(code, codespace, log)` as CheckTx does; code 0 is taken. Money is quote
quantums.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import bech32
import msgspec
from dydx_conn import (
    CONDITIONAL,
    SHORT_TERM,
    TWAP,
    CancelRequest,
    Fees,
    OrderRequest,
    Side,
    Subaccount,
    code_of,
    event_id,
    objection,
    order_id,
    subaccount_id,
)
from dydx_paper import (
    MAKER,
    TAKER,
    FundingRecord,
    Holding,
    Ledger,
    Match,
    Order,
    Result,
    Stamp,
    affords,
)
from dydx_risk import (
    PPM,
    LiquidationTerms,
    bankruptcy_price,
    fillable_price,
    fillable_subticks,
    insurance_fund_delta,
    liquidation_size,
    mixes_isolated,
)
from tape import KEPT, SECOND_NS, Json, Tape, decimal_text, iso, quotient_text

if TYPE_CHECKING:
    from exchange import Exchange

Answer = tuple[int, str, str]
TAKEN: Final[Answer] = (0, "", "")

# === Wallets ===

TIMESTAMP_NONCE: Final = 1 << 40


@dataclass(slots=True)
class Wallet:
    """An address as the chain's auth and bank modules know it."""

    number: int
    sequence: int = 0
    usdc: int = 0
    native: int = 0
    nonces: list[int] = field(default_factory=list)
    authenticators: dict[int, tuple[str, bytes]] = field(default_factory=dict)

    def objection(self, sequence: int, now_ms: int) -> str:
        """Say what is wrong with a transaction's sequence, "" if nothing is."""
        if sequence < TIMESTAMP_NONCE:
            if sequence == self.sequence:
                return ""
            return f"account sequence mismatch, expected {self.sequence}, got {sequence}"
        if abs(sequence - now_ms) > 30_000:
            return f"timestamp nonce {sequence} not within 30 s of block time {now_ms}"
        full = len(self.nonces) >= 20 and sequence <= min(self.nonces)
        return f"timestamp nonce {sequence} is used" if full or sequence in self.nonces else ""

    def use(self, sequence: int) -> None:
        """Spend a sequence, or remember a nonce."""
        if sequence < TIMESTAMP_NONCE:
            self.sequence += 1
        else:
            self.nonces = sorted([*self.nonces, sequence])[-20:]


def is_address(text: str) -> bool:
    """Tell whether a text is a well-formed dydx address."""
    prefix, data = bech32.bech32_decode(text)
    return prefix == "dydx" and data is not None


# === Orders ===


@dataclass(slots=True)
class Record:
    """One order and what became of it."""

    id: str
    tape: Tape
    request: OrderRequest
    order: Order
    status: str
    reason: str = ""
    height: int = 0
    updated_ns: int = 0
    updated_height: int = 0


@dataclass(slots=True)
class Twap:
    """A TWAP order and what is left to do of it: its next part's time, and how many parts."""

    record: Record
    due_s: int
    parts: int


OPEN_STATES: Final = ("OPEN", "UNTRIGGERED", "BEST_EFFORT_OPENED")


def order_row(record: Record) -> Json:
    """Return an order in the indexer's words."""
    order, request, tape = record.order, record.request, record.tape
    stateful = request.order_flags != SHORT_TERM
    expiry = iso(request.good_til_block_time * SECOND_NS) if stateful else None
    kind = {"STOP_LOSS": "STOP_LIMIT", "TAKE_PROFIT": "TAKE_PROFIT"}.get(request.condition_type)
    row: Json = {
        "id": record.id,
        "subaccountId": subaccount_id(order.subaccount),
        "clientId": str(request.client_id),
        "clobPairId": str(request.clob_pair_id),
        "side": request.side,
        "size": tape.size_text(request.quantums),
        "totalFilled": tape.size_text(order.filled),
        "price": tape.price_text(request.subticks),
        "type": kind or ("TWAP" if request.order_flags == TWAP else "LIMIT"),
        "status": record.status,
        "timeInForce": "IOC" if request.time_in_force == "IOC" else "GTT",
        "postOnly": request.time_in_force == "POST_ONLY",
        "reduceOnly": request.reduce_only,
        "orderFlags": str(request.order_flags),
        "goodTilBlock": None if stateful else str(request.good_til_block),
        "goodTilBlockTime": expiry,
        "triggerPrice": tape.price_text(request.trigger_subticks)
        if request.condition_type
        else None,
        "clientMetadata": str(request.client_metadata),
        "ticker": tape.ticker,
        "subaccountNumber": order.subaccount.number,
    }
    if request.order_flags == TWAP:
        row["duration"], row["interval"] = (
            str(request.twap_duration_s),
            str(request.twap_interval_s),
        )
        row["priceTolerance"] = str(request.twap_tolerance_ppm)
    if record.height:
        row["createdAtHeight"] = str(record.height)
    if record.updated_height:
        row["updatedAt"] = iso(record.updated_ns)
        row["updatedAtHeight"] = str(record.updated_height)
    return row


def told_row(record: Record) -> Json:
    """Return an order as a channel update tells it: with the reason if it was removed."""
    row = order_row(record)
    if record.status in ("BEST_EFFORT_OPENED", "BEST_EFFORT_CANCELED"):
        # Off-chain words say what one node has matched, not what a block holds.
        row["totalOptimisticFilled"] = row.pop("totalFilled")
    if record.reason:
        row["removalReason"] = f"ORDER_REMOVAL_REASON_{record.reason}"
    return row


# === Positions ===


def position_row(ledger: Ledger, holding: Holding, tape: Tape) -> Json:
    """Return a position in the indexer's words."""
    value = tape.value(holding.quantums)
    return {
        "market": tape.ticker,
        "status": holding.status,
        "side": "LONG" if holding.is_long else "SHORT",
        "size": tape.size_text(holding.quantums),
        "maxSize": tape.size_text(holding.peak),
        "entryPrice": _average(tape, holding.open_cost, holding.opened),
        "exitPrice": _average(tape, holding.close_cost, holding.closed) if holding.closed else None,
        "realizedPnl": decimal_text(holding.realized, -6),
        "unrealizedPnl": decimal_text(holding.unrealized(value), -6) if holding.quantums else "0",
        "createdAt": iso(holding.created.time_ns),
        "createdAtHeight": str(holding.created.height),
        "closedAt": iso(holding.ended.time_ns) if holding.ended else None,
        "sumOpen": tape.size_text(holding.opened),
        "sumClose": tape.size_text(holding.closed),
        "netFunding": decimal_text(holding.net_funding + ledger.owed_ppm(holding) // PPM, -6),
        "subaccountNumber": ledger.subaccount.number,
    }


def _average(tape: Tape, cost: int, quantums: int) -> str:
    market = tape.market
    shift = market.atomic_resolution - market.quantum_conversion_exponent + 6
    return quotient_text(cost, quantums * 10**shift) if quantums else "0"


def asset_row(ledger: Ledger) -> Json:
    """Return the USDC balance in the indexer's words: funding counts before it is settled."""
    balance = ledger.collateral + ledger.unsettled
    return {
        "size": decimal_text(abs(balance), -6),
        "symbol": "USDC",
        "side": "SHORT" if balance < 0 else "LONG",
        "assetId": "0",
        "subaccountNumber": ledger.subaccount.number,
    }


@dataclass(slots=True)
class Changes:
    """What a block did to one subaccount."""

    fills: list[Json] = field(default_factory=list)
    orders: dict[str, Record] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)
    transfers: list[Json] = field(default_factory=list)


@dataclass(slots=True)
class History:
    """What the indexer keeps of one subaccount, oldest first."""

    orders: dict[str, Record] = field(default_factory=dict)
    fills: deque[Json] = field(default_factory=lambda: deque(maxlen=KEPT))
    positions: deque[Holding] = field(default_factory=lambda: deque(maxlen=KEPT))
    transfers: deque[Json] = field(default_factory=lambda: deque(maxlen=KEPT))
    payments: deque[Json] = field(default_factory=lambda: deque(maxlen=KEPT))
    pnl: deque[Json] = field(default_factory=lambda: deque(maxlen=KEPT))


# === Desks ===


class Desk:
    """One market's book sees through this who can pay, and lets it pay."""

    def __init__(self, accounts: "Accounts", tape: Tape) -> None:
        self._accounts = accounts
        self._tape = tape

    def position(self, subaccount: Subaccount) -> int:
        """Return the signed position; the crowd has none."""
        ledger = self._accounts.ledgers.get(subaccount)
        return ledger.position(self._tape.ticker) if ledger else 0

    def check(self, match: Match) -> int:
        """Judge the collateral of those who have a ledger."""
        failed = 0
        market = self._tape.market
        for order, who in ((match.maker, MAKER), (match.taker, TAKER)):
            ledger = self._accounts.ledgers.get(order.subaccount)
            if ledger is None or order.liquidation:
                continue
            quote = market.quote_quantums(match.quantums, match.subticks)
            fee = self._accounts.fees.of(quote, "TAKER" if who == TAKER else "MAKER")
            signed = match.quantums if order.side == "BUY" else -match.quantums
            if not affords(ledger, market, signed, match.subticks, fee):
                failed |= who
        return failed

    def settle(self, match: Match) -> None:
        """Book the match with those who have a ledger."""
        if match.maker.subaccount in self._accounts.ledgers:
            self._accounts.fill(self._tape, match.maker, match, "MAKER")
        if match.taker.subaccount in self._accounts.ledgers:
            self._accounts.fill(self._tape, match.taker, match, "TAKER")


# === Accounts ===

EQUITY_TIERS: Final = ((0, 0), (20, 1), (100, 5), (1_000, 10), (10_000, 100), (100_000, 200))
_MODULE: Final = "dydx1v88c3xv9xyv3eetdx0tvcmq7ung3dywp5upwc6"


class Accounts:
    """All wallets and subaccounts of the venue."""

    def __init__(self, exchange: "Exchange") -> None:
        self._exchange = exchange
        self.fees = Fees()
        self.wallets: dict[str, Wallet] = {}
        self.ledgers: dict[Subaccount, Ledger] = {}
        self.histories: dict[Subaccount, History] = {}
        self.records: dict[str, Record] = {}
        self._changes: dict[Subaccount, Changes] = {}
        self._placing: Record | None = None
        self._entering: list[Record] = []
        self._untriggered: list[Record] = []
        self._twaps: list[Twap] = []
        self._events = 0
        for tape in exchange.tapes.values():
            tape.book.book.accounts = Desk(self, tape)

    # --- money

    def open(self, address: str) -> Wallet:
        """Return an address's wallet, a new one if there is none."""
        if address not in self.wallets:
            self.wallets[address] = Wallet(number=len(self.wallets) + 1)
        return self.wallets[address]

    def faucet(self, subaccount: Subaccount, quote_quantums: int) -> None:
        """Give money out of nowhere: to the subaccount, and some for gas."""
        wallet = self.open(subaccount.owner)
        wallet.usdc += 1_000_000_000
        wallet.native += 10**20
        self._credit(subaccount, quote_quantums)
        self._moved(None, subaccount, quote_quantums, "DEPOSIT", _MODULE)

    def deposit(self, sender: str, to: Subaccount, quote_quantums: int) -> Answer:
        """Move USDC from a wallet into a subaccount."""
        wallet = self.open(sender)
        if wallet.usdc < quote_quantums:
            return 5, "sdk", f"{wallet.usdc} is smaller than {quote_quantums}: insufficient funds"
        wallet.usdc -= quote_quantums
        self.open(to.owner)
        self._credit(to, quote_quantums)
        self._moved(None, to, quote_quantums, "DEPOSIT", sender)
        return TAKEN

    def withdraw(self, sender: Subaccount, to: str, quote_quantums: int) -> Answer:
        """Move USDC from a subaccount into a wallet."""
        if not self._can_spare(sender, quote_quantums):
            return 102, "subaccounts", "NewlyUndercollateralized: failed to update subaccounts"
        self._credit(sender, -quote_quantums)
        self.open(to).usdc += quote_quantums
        self._moved(sender, None, quote_quantums, "WITHDRAWAL", to)
        return TAKEN

    def transfer(self, sender: Subaccount, to: Subaccount, quote_quantums: int) -> Answer:
        """Move USDC between subaccounts."""
        if not self._can_spare(sender, quote_quantums):
            return 102, "subaccounts", "NewlyUndercollateralized: failed to update subaccounts"
        self._credit(sender, -quote_quantums)
        self.open(to.owner)
        self._credit(to, quote_quantums)
        self._moved(sender, to, quote_quantums, "TRANSFER", "")
        return TAKEN

    def send(self, sender: str, to: str, quote_quantums: int) -> Answer:
        """Move USDC between wallets."""
        wallet = self.open(sender)
        if wallet.usdc < quote_quantums:
            return 5, "sdk", "insufficient funds"
        wallet.usdc -= quote_quantums
        self.open(to).usdc += quote_quantums
        return TAKEN

    def _credit(self, subaccount: Subaccount, quote_quantums: int) -> None:
        ledger = self._ledger(subaccount)
        if owing := {holding.id: holding for holding in ledger.owing}:
            self._changed(subaccount).holdings.update(owing)
        ledger.deposit(quote_quantums)  # and what touches an account settles its funding

    def _can_spare(self, subaccount: Subaccount, quote_quantums: int) -> bool:
        ledger = self.ledgers.get(subaccount)
        return ledger is not None and ledger.margin.free_collateral >= quote_quantums

    def _ledger(self, subaccount: Subaccount) -> Ledger:
        ledger = self.ledgers.get(subaccount)
        if ledger is None:
            ledger = self.ledgers[subaccount] = Ledger(subaccount)
            self.histories[subaccount] = History()
            tapes = self._exchange.tapes
            ledger.accrue({ticker: tape.funding_index for ticker, tape in tapes.items()})
            for tape in tapes.values():
                ledger.value(tape.ticker, tape.oracle, tape.exponent, tape.open_interest)
        return ledger

    def _moved(
        self, sender: Subaccount | None, to: Subaccount | None, amount: int, kind: str, other: str
    ) -> None:
        row: Json = {
            "sender": _party(sender, other),
            "recipient": _party(to, other),
            "size": decimal_text(amount, -6),
            "createdAt": iso(self._exchange.now_ns),
            "createdAtHeight": str(self._exchange.height + 1),
            "symbol": "USDC",
            "transactionHash": self._hash("transfer"),
        }
        for subaccount, word in ((sender, "TRANSFER_OUT"), (to, "TRANSFER_IN")):
            if subaccount is not None:
                told = {**row, "type": word if kind == "TRANSFER" else kind}
                kept = {"id": self._event("transfer", subaccount), **told}
                self.histories[subaccount].transfers.append(kept)
                self._changed(subaccount).transfers.append(told)

    # --- orders

    def place(self, subaccount: Subaccount, request: OrderRequest) -> Answer:
        """Take an order in, or say why not."""
        tape = self._exchange.pairs[request.clob_pair_id]
        ledger = self._ledger(subaccount)
        error = objection(
            request,
            tape.market,
            status=tape.status,
            height=self._exchange.height,
            time=self._exchange.block_ns // SECOND_NS,
        )
        held = {ticker: holding.market for ticker, holding in ledger.holdings.items()}
        if not error and mixes_isolated((held | {tape.ticker: tape.market}).values()):
            error = "ErrWouldViolateIsolatedSubaccountConstraints"
        if error:
            return _clob(error)
        if request.order_flags != SHORT_TERM:
            return self._place_stateful(tape, ledger, request)
        record = self._record(tape, subaccount, request, "BEST_EFFORT_OPENED")
        return self._enter(record)

    def cancel(self, subaccount: Subaccount, request: CancelRequest) -> Answer:
        """Take an order off the book."""
        tape = self._exchange.pairs.get(request.clob_pair_id)
        if tape is None:
            return _clob("ErrInvalidClob")
        record = self.records.get(order_id(subaccount, request))
        if request.order_flags == SHORT_TERM:
            error = self._cancel_objection(request.good_til_block)
            if error:
                return _clob(error)
            order = tape.book.book.cancel(
                (subaccount, request.client_id, SHORT_TERM), request.good_til_block
            )
            if order is not None and record is not None:
                self._end(record, "USER_CANCELED", final=False, now=True)
            return TAKEN
        if record is None or record.status not in OPEN_STATES:
            return _clob("ErrStatefulOrderDoesNotExist")
        tape.book.book.cancel((subaccount, request.client_id, request.order_flags))
        for waiting in (self._entering, self._untriggered):
            if record in waiting:
                waiting.remove(record)
        self._end(record, "USER_CANCELED", final=True)
        return TAKEN

    def removed(self, tape: Tape, orders: Iterable[tuple[Order, str]]) -> None:
        """Hear of resting orders that the crowd's placements drove off the book."""
        for order, reason in orders:
            record = self._record_of(tape, order)
            if record is not None:
                self._end(record, reason, final=order.order_flags != SHORT_TERM)

    def _cancel_objection(self, good_til_block: int) -> str:
        next_height = self._exchange.height + 1
        if good_til_block < next_height:
            return "ErrHeightExceedsGoodTilBlock"
        if good_til_block > next_height + 40:
            return "ErrGoodTilBlockExceedsShortBlockWindow"
        return ""

    def _place_stateful(self, tape: Tape, ledger: Ledger, request: OrderRequest) -> Answer:
        subaccount = ledger.subaccount
        known = self.records.get(order_id(subaccount, request))
        if known is not None:
            return _clob("ErrStatefulOrderAlreadyExists")
        stateful = [
            record
            for record in self.histories[subaccount].orders.values()
            if record.request.order_flags != SHORT_TERM and record.status in OPEN_STATES
        ]
        worth = ledger.margin.net_collateral // 1_000_000
        most = max((limit for usd, limit in EQUITY_TIERS if worth >= usd), default=0)
        if len(stateful) >= most:
            return 10001, "clob", f"opening more than {most} stateful orders: equity tier limit"
        if request.order_flags == CONDITIONAL:
            record = self._record(tape, subaccount, request, "UNTRIGGERED")
            self._untriggered.append(record)
        else:
            signed = request.signed_quantums
            subticks = request.subticks or _near_oracle(tape, 0, request.side)
            fee = self.fees.of(tape.market.quote_quantums(request.quantums, subticks), "MAKER")
            if not affords(ledger, tape.market, signed, subticks, fee):
                return 3007, "clob", "long-term order would be undercollateralized"
            record = self._record(tape, subaccount, request, "OPEN")
            if request.order_flags == TWAP:
                parts = request.twap_duration_s // request.twap_interval_s
                now_s = self._exchange.block_ns // SECOND_NS
                self._twaps.append(Twap(record, now_s, parts))
            else:
                # It enters the book after its block.
                self._entering.append(record)
        self._touch(record)
        return TAKEN

    def _record(
        self, tape: Tape, subaccount: Subaccount, request: OrderRequest, status: str
    ) -> Record:
        id = order_id(subaccount, request)
        return Record(id, tape, request, Order.of(subaccount, request), status)

    def _keep(self, record: Record) -> None:
        orders = self.histories[record.order.subaccount].orders
        orders.pop(record.id, None)
        orders[record.id] = self.records[record.id] = record
        if len(orders) > KEPT:
            ended = (id for id, kept in orders.items() if kept.status not in OPEN_STATES)
            oldest = next(ended, record.id)
            del orders[oldest], self.records[oldest]

    def _enter(self, record: Record) -> Answer:
        """Let an order meet the book."""
        before = self.records.get(record.id)
        self._placing = record
        result = record.tape.book.execute(record.order)
        self._placing = None
        if result.error and not result.fills and result.error != _POST_ONLY:
            return _clob(result.error)
        if before is not None and before.status in OPEN_STATES and before is not record:
            before.status, before.reason = "BEST_EFFORT_CANCELED", "REPLACED"
            self._tell(before)
        self._keep(record)
        if record.request.order_flags == SHORT_TERM and not result.error:
            self._tell(record)
        self._report(record, result)
        return _clob(result.error) if result.error else TAKEN

    def _report(self, record: Record, result: Result) -> None:
        for match in result.fills:
            maker = self._record_of(record.tape, match.maker)
            if maker is not None:
                self._touch(maker)
        # What left the book because of this placement; `drain` tells of it too, only once.
        if result.fills:
            self._touch(record)
        own = [reason for order, reason in result.removed if order is record.order]
        if result.error == _POST_ONLY:
            self._end(record, "POST_ONLY_WOULD_CROSS_MAKER_ORDER", final=False, now=True)
        elif own:
            filled = record.order.filled > 0
            self._end(record, own[0], final=filled, now=not filled)

    def fill(self, tape: Tape, order: Order, match: Match, liquidity: str) -> None:
        """Book a match with one account; the book calls this before it counts `filled` up."""
        market, exchange = tape.market, self._exchange
        ledger = self.ledgers[order.subaccount]
        signed = match.quantums if order.side == "BUY" else -match.quantums
        quote = market.quote_quantums(match.quantums, match.subticks)
        insurance = self._insurance(tape, ledger, signed, quote) if order.liquidation else 0
        fee = 0 if order.liquidation else self.fees.of(quote, liquidity)
        touched = ledger.fill(
            market,
            signed,
            match.subticks,
            fee,
            insurance,
            Stamp(at=exchange.now_ns, time_ns=exchange.now_ns, height=exchange.height + 1),
        )
        if order.liquidation and not touched[0].quantums:
            touched[0].status = "LIQUIDATED"
        changes = self._changed(order.subaccount)
        for holding in touched:
            changes.holdings[holding.id] = holding
            if not holding.quantums:
                self.histories[order.subaccount].positions.append(holding)
        kind = "LIQUIDATED" if order.liquidation else "LIMIT"
        if match.taker.liquidation and liquidity == "MAKER":
            kind = "LIQUIDATION"
        row = self._fill_row(tape, order, match, liquidity, kind, fee + insurance, quote)
        changes.fills.append(row)
        record = self._record_of(tape, order)
        if record is not None:
            changes.orders[record.id] = record

    def _fill_row(
        self,
        tape: Tape,
        order: Order,
        match: Match,
        liquidity: str,
        kind: str,
        fee: int,
        quote: int,
    ) -> Json:
        height = self._exchange.height + 1
        self._events += 1
        record = self._record_of(tape, order)
        return {
            "id": event_id("fill", order.subaccount, height, self._events),
            "fee": decimal_text(fee, -6),
            "side": order.side,
            "size": tape.size_text(match.quantums),
            "type": kind,
            "price": tape.price_text(match.subticks),
            "eventId": f"{height:08x}00000002{self._events & 0xFFFFFFFF:08x}",
            "orderId": None if order.liquidation else _id_of(order),
            "createdAt": "",
            "liquidity": liquidity,
            "clobPairId": str(tape.market.clob_pair_id),
            "quoteAmount": decimal_text(quote, -6),
            "subaccountId": subaccount_id(order.subaccount),
            "clientMetadata": str(record.request.client_metadata if record else 0),
            "createdAtHeight": str(height),
            "transactionHash": self._hash("match", height),
            "affiliateRevShare": "0",
            "ticker": tape.ticker,
        }

    def _record_of(self, tape: Tape, order: Order) -> Record | None:
        if order.subaccount not in self.ledgers or order.liquidation:
            return None
        placing = self._placing
        if placing is not None and placing.order is order:
            return placing
        return self.records.get(_id_of(order))

    def _end(self, record: Record, reason: str, *, final: bool, now: bool = False) -> None:
        if record.status not in OPEN_STATES:
            return
        record.status = "CANCELED" if final else "BEST_EFFORT_CANCELED"
        record.reason = reason
        if now:
            self._tell(record)
        else:
            self._touch(record)

    # --- telling

    def _changed(self, subaccount: Subaccount) -> Changes:
        return self._changes.setdefault(subaccount, Changes())

    def _touch(self, record: Record) -> None:
        self._keep(record)
        self._changed(record.order.subaccount).orders[record.id] = record

    def _tell(self, record: Record) -> None:
        """Say at once what a full node would."""
        contents = {"orders": [told_row(record)], "blockHeight": str(self._exchange.height)}
        self._publish(record.order.subaccount, contents)

    def _publish(self, subaccount: Subaccount, contents: Json) -> None:
        sink = self._exchange.sink
        sink.publish("v4_subaccounts", str(subaccount), contents)
        parent = f"{subaccount.owner}/{subaccount.number % 128}"
        sink.publish("v4_parent_subaccounts", parent, contents, subaccount.number)

    def _event(self, *parts: object) -> str:
        self._events += 1
        return event_id(self._exchange.settings.seed, *parts, self._events)

    def _hash(self, *parts: object) -> str:
        return hashlib.sha256(self._event(*parts).encode()).hexdigest().upper()

    # --- a block

    def commit(self) -> None:
        """Do what the chain does at the end of a block, and tell what it did."""
        exchange = self._exchange
        for ledger in self.ledgers.values():
            for tape in exchange.tapes.values():
                ledger.value(tape.ticker, tape.oracle, tape.exponent, tape.open_interest)
        self._expire()
        self._trigger()
        self._work_off()
        entering, self._entering = self._entering, []
        for record in entering:
            code, _, _ = self._enter(record)
            if code:
                self._end(record, "POST_ONLY_WOULD_CROSS_MAKER_ORDER", final=True)
        for subaccount, ledger in list(self.ledgers.items()):
            if ledger.breached:
                self._liquidate(subaccount, ledger)
        self._flush()
        if exchange.height % 60 == 0:
            self._mark()

    def fund(self, rates: dict[str, int]) -> None:
        """Let funding accrue to every account; `rates` in ppm per eight hours, by ticker.

        Each position's payment is listed at once, and moves money when its account is touched.
        """
        tapes = self._exchange.tapes
        indices = {ticker: tape.funding_index for ticker, tape in tapes.items()}
        for subaccount, ledger in self.ledgers.items():
            for payment in ledger.accrue(indices):
                tape = tapes[payment.ticker]
                row = self._payment(subaccount, payment, tape, rates[tape.ticker])
                self.histories[subaccount].payments.append(row)

    def _payment(
        self, subaccount: Subaccount, payment: FundingRecord, tape: Tape, rate_ppm: int
    ) -> Json:
        return {
            "createdAt": iso(self._exchange.block_ns),
            "createdAtHeight": str(self._exchange.height),
            "perpetualId": str(tape.market.perpetual_id),
            "ticker": tape.ticker,
            "oraclePrice": tape.oracle_text,
            "size": tape.size_text(abs(payment.quantums)),
            "side": "LONG" if payment.quantums > 0 else "SHORT",
            "rate": quotient_text(rate_ppm, 8_000_000),
            "payment": decimal_text(-payment.credited, -6),
            "subaccountNumber": str(subaccount.number),
            "fundingIndex": str(tape.funding_index),
        }

    def _expire(self) -> None:
        exchange = self._exchange
        for tape in exchange.tapes.values():
            for order in tape.book.book.expire(exchange.height, exchange.block_ns // SECOND_NS):
                record = self._record_of(tape, order)
                if record is not None:
                    self._end(record, "EXPIRED", final=True)
        for record in list(self._untriggered):
            if record.request.good_til_block_time <= exchange.block_ns // SECOND_NS:
                self._untriggered.remove(record)
                self._end(record, "EXPIRED", final=True)

    def _trigger(self) -> None:
        # Against the oracle alone: the chain looks at the block's clamped trade prices too.
        for record in list(self._untriggered):
            request, tape = record.request, record.tape
            shift = tape.market.atomic_resolution - tape.market.quantum_conversion_exponent + 6
            at = tape.oracle * 10.0 ** (tape.exponent + shift)
            rising = (request.condition_type == "STOP_LOSS") == (request.side == "BUY")
            if at >= request.trigger_subticks if rising else at <= request.trigger_subticks:
                self._untriggered.remove(record)
                record.status = "OPEN"
                self._touch(record)
                self._entering.append(record)

    def _work_off(self) -> None:
        """Place the part of each TWAP order that is due: an IOC near the oracle's price."""
        now_s = self._exchange.block_ns // SECOND_NS
        self._twaps = [twap for twap in self._twaps if twap.record.status in OPEN_STATES]
        for twap in self._twaps:
            record, request = twap.record, twap.record.request
            if now_s >= request.good_til_block_time:
                self._end(record, "EXPIRED", final=True)
            elif now_s >= twap.due_s:
                self._place_part(twap)
                twap.due_s, twap.parts = twap.due_s + request.twap_interval_s, twap.parts - 1
                if not twap.parts and record.order.remaining:
                    self._end(record, "EXPIRED", final=True)

    def _place_part(self, twap: Twap) -> None:
        record, request, tape = twap.record, twap.record.request, twap.record.tape
        step = tape.market.step_base_quantums
        worst = _near_oracle(tape, request.twap_tolerance_ppm, request.side)
        if request.subticks:
            worst = (min if request.side == "BUY" else max)(worst, request.subticks)
        part = Order.of(record.order.subaccount, request)
        part.quantums = record.order.remaining // twap.parts // step * step
        part.subticks, part.time_in_force, part.order_flags = worst, "IOC", _PART_OF_TWAP
        tape.book.execute(part)
        if part.filled:
            record.order.filled += part.filled
            self._touch(record)

    def _flush(self) -> None:
        changes, self._changes = self._changes, {}
        for subaccount, changed in changes.items():
            contents = self._contents(subaccount, changed)
            if contents:
                contents["blockHeight"] = str(self._exchange.height)
                self._publish(subaccount, contents)
            for transfer in changed.transfers:
                moved = {"transfers": transfer, "blockHeight": str(self._exchange.height)}
                self._publish(subaccount, moved)

    def _contents(self, subaccount: Subaccount, changed: Changes) -> Json:
        exchange, ledger = self._exchange, self.ledgers[subaccount]
        contents: Json = {}
        if changed.fills:
            for row in changed.fills:
                row["createdAt"] = iso(exchange.block_ns)
            self.histories[subaccount].fills.extend(changed.fills)
            contents["fills"] = changed.fills
        identity = {"address": subaccount.owner, "subaccountNumber": subaccount.number}
        if changed.holdings:
            contents["perpetualPositions"] = [
                {**identity, "positionId": holding.id}
                | position_row(ledger, holding, exchange.tapes[holding.market.ticker])
                for holding in changed.holdings.values()
            ]
        if changed.holdings or changed.fills or changed.transfers:
            position = event_id("asset", subaccount)
            contents["assetPositions"] = [{**identity, "positionId": position} | asset_row(ledger)]
        if changed.orders:
            contents["orders"] = [
                told_row(self._settled(record)) for record in changed.orders.values()
            ]
        return contents

    def _settled(self, record: Record) -> Record:
        """Bring an order's status to what the block made of it."""
        exchange, order = self._exchange, record.order
        if not order.remaining:
            record.status, record.reason = "FILLED", ""
        elif record.status == "BEST_EFFORT_OPENED" and order.filled:
            record.status = "OPEN"
        elif record.status == "BEST_EFFORT_CANCELED" and order.filled:
            record.status = "CANCELED"
        record.height = record.height or exchange.height
        record.updated_ns, record.updated_height = exchange.block_ns, exchange.height
        return record

    def _mark(self) -> None:
        """Write each account's worth down, as the indexer does from time to time."""
        exchange = self._exchange
        for subaccount, ledger in self.ledgers.items():
            equity = ledger.margin.net_collateral
            self.histories[subaccount].pnl.append(
                {
                    "id": self._event("pnl", subaccount),
                    "subaccountId": subaccount_id(subaccount),
                    "equity": decimal_text(equity, -6),
                    "totalPnl": decimal_text(equity - ledger.deposits, -6),
                    "netTransfers": decimal_text(ledger.deposits, -6),
                    "createdAt": iso(exchange.block_ns),
                    "blockHeight": str(exchange.height),
                    "blockTime": iso(exchange.block_ns),
                }
            )

    # --- liquidation

    def _liquidate(self, subaccount: Subaccount, ledger: Ledger) -> None:
        """Close part of one position after another, each once, until the account is safe."""
        left = _TERMS.max_subaccount_notional
        for holding in sorted(ledger.holdings.values(), key=lambda held: held.market.clob_pair_id):
            if not ledger.breached or left <= 0:
                return
            tape = self._exchange.tapes[holding.market.ticker]
            terms = msgspec.structs.replace(_TERMS, max_subaccount_notional=left)
            size = liquidation_size(
                tape.market, holding.quantums, tape.oracle, tape.exponent, terms
            )
            worst = fillable_subticks(
                fillable_price(
                    ledger.margin, ledger.worth.parts[tape.ticker], holding.quantums, terms
                ),
                is_long=holding.is_long,
                quantum_conversion_exponent=tape.market.quantum_conversion_exponent,
                subticks_per_tick=tape.market.subticks_per_tick,
            )
            order = Order(
                subaccount=subaccount,
                client_id=0,
                clob_pair_id=tape.market.clob_pair_id,
                side="BUY" if size > 0 else "SELL",
                quantums=abs(size),
                subticks=worst,
                time_in_force="IOC",
                order_flags=_LIQUIDATION,
                liquidation=True,
            )
            tape.book.execute(order)
            left -= abs(tape.value(order.filled))

    def _insurance(self, tape: Tape, ledger: Ledger, signed: int, quote: int) -> int:
        held = ledger.position(tape.ticker)
        after = ledger.worth.margin_of(tape.market, held + signed)
        bankruptcy = bankruptcy_price(ledger.margin, ledger.worth.parts[tape.ticker], after)
        received = -quote if signed > 0 else quote
        most = _TERMS.max_liquidation_fee_ppm
        return insurance_fund_delta(bankruptcy, received, most)

    # --- asking

    def holdings(self, subaccount: Subaccount) -> tuple[int, list[tuple[Tape, int, int]]]:
        """Return collateral, and each position's tape, signed quantums and funding index."""
        ledger = self.ledgers.get(subaccount)
        if ledger is None:
            return 0, []
        tapes = self._exchange.tapes
        return ledger.collateral, [
            (tapes[ticker], holding.quantums, holding.funding_index)
            for ticker, holding in ledger.holdings.items()
        ]

    def known(self, subaccount: Subaccount) -> Ledger | None:
        """Return a subaccount's ledger if money ever came to it."""
        history = self.histories.get(subaccount)
        return self.ledgers[subaccount] if history and history.transfers else None

    def subaccount_row(self, ledger: Ledger) -> Json:
        """Return a subaccount in the indexer's words: tier margins, no open interest."""
        tapes, margin = self._exchange.tapes, ledger.margin
        # The indexer knows the tier's fraction alone.
        required = sum(
            -(-abs(tapes[ticker].value(holding.quantums)) * holding.market.imf_ppm // 1_000_000)
            for ticker, holding in ledger.holdings.items()
        )
        return {
            "address": ledger.subaccount.owner,
            "subaccountNumber": ledger.subaccount.number,
            "equity": decimal_text(margin.net_collateral, -6),
            "freeCollateral": decimal_text(margin.net_collateral - required, -6),
            "openPerpetualPositions": {
                ticker: position_row(ledger, holding, tapes[ticker])
                for ticker, holding in ledger.holdings.items()
            },
            "assetPositions": {"USDC": asset_row(ledger)},
            "marginEnabled": True,
            "updatedAtHeight": str(self._exchange.height),
            "latestProcessedBlockHeight": str(self._exchange.height),
        }

    def parent_row(self, owner: str, number: int) -> Json | None:
        """Return a parent subaccount with its children, None if it has none."""
        children = [
            ledger
            for subaccount, ledger in sorted(self.ledgers.items())
            if subaccount.owner == owner and subaccount.number % 128 == number
        ]
        rows = [self.subaccount_row(ledger) for ledger in children if self.known(ledger.subaccount)]
        if not rows:
            return None
        equity = sum(ledger.margin.net_collateral for ledger in children)
        return {
            "address": owner,
            "parentSubaccountNumber": number,
            "equity": decimal_text(equity, -6),
            "freeCollateral": rows[0]["freeCollateral"],
            "childSubaccounts": rows,
        }

    def positions(self, subaccount: Subaccount) -> Iterator[Json]:
        """Yield a subaccount's positions, the open ones first, then newest first."""
        ledger, tapes = self.ledgers[subaccount], self._exchange.tapes
        ended = reversed(self.histories[subaccount].positions)
        for holding in [*ledger.holdings.values(), *ended]:
            yield position_row(ledger, holding, tapes[holding.market.ticker])


_POST_ONLY: Final = "ErrPostOnlyWouldCrossMakerOrder"
_LIQUIDATION: Final = -1
_PART_OF_TWAP: Final = 256
_TERMS: Final = LiquidationTerms()


def _near_oracle(tape: Tape, tolerance_ppm: int, side: Side) -> int:
    away = tolerance_ppm / 1e6 * (1 if side == "BUY" else -1)
    return tape.book.to_subticks(tape.oracle * 10.0**tape.exponent * (1 + away), side)


def _clob(error: str) -> Answer:
    return code_of(error), "clob", error


def _party(subaccount: Subaccount | None, address: str) -> Json:
    if subaccount is None:
        return {"address": address}
    return {"address": subaccount.owner, "subaccountNumber": subaccount.number}


def _id_of(order: Order) -> str:
    named = CancelRequest(
        ticker="",
        clob_pair_id=order.clob_pair_id,
        client_id=order.client_id,
        order_flags=order.order_flags,
    )
    return order_id(order.subaccount, named)

"""Who trades here under a name: wallets, subaccounts, and their orders.

    place | cancel | deposit ──► VenueAccounts ──► dydx_paper: Desk, Clearing, Ledger, Backstop
    commit (each block) ──► what waits, expires or is liquidated ──► v4_subaccounts

The rules are dydx_paper's: what an order may be, how it is matched and charged, what a block lets
in, triggers and liquidates, and how the indexer words all of it. What stands here is the address
around them: `Bank`, what the chain knows of an address; `VenueAccounts`, a ledger for each
subaccount; `Reports`, best-effort states at once and what the chain settled with its block;
`Twaps`, which no other venue of the house works off.

Everything answers `(code, codespace, log)` as CheckTx does; code 0 is taken. Money is quote
quantums.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

import bech32
import msgspec
from dydx_conn import (
    CONDITIONAL,
    LONG_TERM,
    SHORT_TERM,
    TWAP,
    CancelRequest,
    Fees,
    OrderRequest,
    PerpetualMarket,
    Side,
    Subaccount,
    cancel_objection,
    code_of,
    objection,
    stateful_order_limit,
)
from dydx_paper import (
    FAILED,
    Backstop,
    Caps,
    Changes,
    Clearing,
    Desk,
    Filled,
    FillRecord,
    InsuranceFunds,
    Ledger,
    Message,
    Order,
    OrderRecord,
    Refused,
    Stamp,
    deleveraging,
    filled_record,
    liquidation_order,
    missing_record,
    order_record,
    parent_of,
    status_of,
    submit,
    transfer,
    update,
    update_result,
)
from dydx_risk import LiquidationTerms
from market import TapeTrade
from tape import RETAINED, SECOND_NS, Json, MarketTape

Answer = tuple[int, str, str]
TAKEN: Final[Answer] = (0, "", "")

# A ledger here remembers of everything as much as a market's tape does.
CAPS: Final = Caps(
    orders=RETAINED, fills=RETAINED, positions=RETAINED, payments=RETAINED, transfers=RETAINED,
    points=RETAINED,
)  # fmt: skip


class BlockClock(Protocol):
    """What must be known of the chain: the last block, and the moment that the next one gathers."""

    @property
    def height(self) -> int:
        """Return the last block."""

    @property
    def block_ns(self) -> int:
        """Return the last block's time."""

    @property
    def now_ns(self) -> int:
        """Return the time."""


class Sink(Protocol):
    """Where the venue publishes what happens."""

    def wanted(self, channel: str, id: str) -> bool:
        """Return whether anybody listens."""

    def publish(self, channel: str, id: str, contents: Json, subaccount: int | None = None) -> None:
        """Publish contents to whoever listens."""


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
        """Return what is wrong with a transaction's sequence, "" if nothing is."""
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
    """Return whether a text is a well-formed dydx address."""
    prefix, data = bech32.bech32_decode(text)
    return prefix == "dydx" and data is not None


class Bank:
    """All wallets of the venue."""

    def __init__(self) -> None:
        self.wallets: dict[str, Wallet] = {}

    def open(self, address: str) -> Wallet:
        """Return an address's wallet, a new one if there is none."""
        if address not in self.wallets:
            self.wallets[address] = Wallet(number=len(self.wallets) + 1)
        return self.wallets[address]

    def send(self, sender: str, to: str, quote_quantums: int) -> Answer:
        """Move USDC between wallets."""
        answer = self.spend(sender, quote_quantums)
        if answer == TAKEN:
            self.open(to).usdc += quote_quantums
        return answer

    def spend(self, sender: str, quote_quantums: int) -> Answer:
        """Take USDC out of a wallet."""
        wallet = self.open(sender)
        if wallet.usdc < quote_quantums:
            return 5, "sdk", f"{wallet.usdc} is smaller than {quote_quantums}: insufficient funds"
        wallet.usdc -= quote_quantums
        return TAKEN


# === TWAP orders ===

# dydx_paper works none off: their parts are the chain's own, one each interval.

_PART_OF_TWAP: Final = 256


@dataclass(slots=True)
class Twap:
    """A TWAP order and what is left to do of it: its next part's time, and how many parts."""

    order: Order
    request: OrderRequest
    tape: MarketTape
    due_s: int
    parts: int

    def part(self) -> Order:
        """Return the part that is due: an IOC near the oracle's price."""
        request, tape, whole = self.request, self.tape, self.order
        worst = near_oracle(tape, request.twap_tolerance_ppm, request.side)
        if request.subticks:
            worst = (min if request.side == "BUY" else max)(worst, request.subticks)
        step = tape.market.step_base_quantums
        part = Order.of(whole.subaccount, request)
        part.quantums = whole.remaining // self.parts // step * step
        part.subticks, part.time_in_force, part.order_flags = worst, "IOC", _PART_OF_TWAP
        part.id = whole.id  # by which the indexer names it
        return part


def near_oracle(tape: MarketTape, tolerance_ppm: int, side: Side) -> int:
    """Return a price so far to the worse side of the oracle's, in subticks on the grid."""
    away = tolerance_ppm / 1e6 * (1 if side == "BUY" else -1)
    return tape.book.to_subticks(tape.oracle.price * 10.0**tape.oracle.exponent * (1 + away), side)


# === Reports ===


class Reports:
    """What is to be reported of subaccounts: at once what a node saw, by block what it settled."""

    def __init__(self, chain: BlockClock, sink: Sink) -> None:
        self._chain, self._sink = chain, sink
        self._chance = Random("heights of best-effort messages")
        self._changes: dict[Subaccount, Changes] = {}

    @property
    def block(self) -> Stamp:
        """Return the last block's moment."""
        return Stamp(at=self._chain.now_ns, time_ns=self._chain.block_ns, height=self._chain.height)

    @property
    def next_block(self) -> Stamp:
        """Return the moment of what the next block will settle."""
        now, height = self._chain.now_ns, self._chain.height + 1
        return Stamp(at=now, time_ns=now, height=height)

    def of(self, subaccount: Subaccount) -> Changes:
        """Return what is to be reported of a subaccount with the next block."""
        return self._changes.setdefault(subaccount, Changes())

    def settle(
        self, ledger: Ledger, tape: MarketTape, order: Order, reason: str = "", *,
        waits: bool = False,
    ) -> None:  # fmt: skip
        """Report with the block how an order stands, or why it ended; queries see it before."""
        status = status_of(order, reason, waits=waits)
        record = order_record(order, tape.ticker, status, self.next_block, removal=reason)
        self.of(order.subaccount).order(tape.market, ledger.note(record))

    def open(self, ledger: Ledger, tape: MarketTape, opened: OrderRecord) -> None:
        """Report at once that nodes took an order in; what it filled is remembered already."""
        known = ledger.history.order(opened.id)
        if known is None or known.filled == opened.filled:
            ledger.note(opened)
        self._at_once(ledger, tape, opened)

    def remove(
        self, ledger: Ledger, tape: MarketTape, order: Order, reason: str, filled: int
    ) -> None:
        """Report at once why nodes removed an order of which they had matched so much."""
        status = status_of(order, reason)
        record = order_record(order, tape.ticker, status, self.block, removal=reason)
        if reason != "REPLACED":
            ledger.note(record.remembered)
        self._at_once(ledger, tape, msgspec.structs.replace(record, filled=filled))

    def miss(self, ledger: Ledger, tape: MarketTape, cancel: CancelRequest) -> None:
        """Report at once the cancel of an order that no node knows."""
        if record := missing_record(ledger, tape.market, cancel):
            self._at_once(ledger, tape, record, missing=True)

    def _at_once(
        self, ledger: Ledger, tape: MarketTape, record: OrderRecord, *, missing: bool = False
    ) -> None:
        changes = self.of(ledger.subaccount)
        changes.order(tape.market, record, missing=missing)
        # What words these messages looks up the last block now and then: it may be a newer one.
        height = self._chain.height - self._chance.choice((0, 1, 1, 2))
        self._publish_all(ledger, changes.markets, changes.take_seen(), height)

    def flush(self, ledgers: Mapping[Subaccount, Ledger]) -> None:
        """Report what the block settled."""
        block = self.block
        all_changes, self._changes = self._changes, {}
        for subaccount, changes in all_changes.items():
            ledger, messages = ledgers[subaccount], changes.take()
            for message in messages:
                # What nodes matched is of the time of its block, which nobody knew then.
                message.fills = [_of_block(fill, block) for fill in message.fills]
                for fill in message.fills:
                    ledger.history.keep_fill(fill)
                if message.order is not None:
                    message.order = msgspec.structs.replace(message.order, updated=block)
            self._publish_all(ledger, changes.markets, messages, block.height)

    def _publish_all(
        self, ledger: Ledger, markets: Mapping[str, PerpetualMarket], messages: Iterable[Message],
        height: int,
    ) -> None:  # fmt: skip
        for message in messages:
            self._publish(ledger, update(ledger, markets, message, height))

    def _publish(self, ledger: Ledger, contents: Json) -> None:
        subaccount = ledger.subaccount
        self._sink.publish("v4_subaccounts", str(subaccount), contents)
        parent = parent_of(subaccount)
        if _within(parent, contents.get("transfers")):
            # To a parent, what its children send each other is nothing, and that it is sent.
            contents = {"blockHeight": contents["blockHeight"]}
        self._sink.publish("v4_parent_subaccounts", str(parent), contents, subaccount.number)


def _within(parent: Subaccount, moved: Json | None) -> bool:
    """Return whether a transfer stays among the children of a parent."""
    ends = [(moved or {}).get(end, {}) for end in ("sender", "recipient")]
    return all(
        "subaccountNumber" in end
        and parent_of(Subaccount(end["address"], end["subaccountNumber"])) == parent
        for end in ends
    )


def _of_block(fill: FillRecord, block: Stamp) -> FillRecord:
    event = f"{block.height:08x}{fill.event[8:]}"
    return msgspec.structs.replace(fill, created=block, event=event)


# === Accounts ===

_INSURANCE_FUND: Final = 100_000_000 * 1_000_000
_MODULE: Final = "dydx1v88c3xv9xyv3eetdx0tvcmq7ung3dywp5upwc6"
OPEN_STATES: Final = ("OPEN", "UNTRIGGERED", "BEST_EFFORT_OPENED")
# What ends a stateful order that the book does not take any more.
_ENDS: Final = {
    "ErrReduceOnlyWouldIncreasePositionSize": "REDUCE_ONLY_RESIZE",
}


def copied(ledger: Ledger) -> Ledger:
    """Copy a ledger: what changes in place is copied, records are shared."""
    copied = copy.copy(ledger)
    for name in ("holdings", "indices", "paid", "tally", "worth"):
        setattr(copied, name, copy.deepcopy(getattr(ledger, name)))
    copied.history = copy.copy(ledger.history)
    for name, records in vars(ledger.history).items():
        setattr(copied.history, name, copy.copy(records))
    return copied


class VenueAccounts:
    """All subaccounts of the venue; `whole` is how the last block left those changed since."""

    def __init__(self, chain: BlockClock, tapes: Mapping[str, MarketTape], sink: Sink) -> None:
        self._chain, self._tapes = chain, tapes
        self.pairs = {tape.market.clob_pair_id: tape for tape in tapes.values()}
        self.bank = Bank()
        self.ledgers: dict[Subaccount, Ledger] = {}
        self.whole: dict[Subaccount, Ledger] = {}
        self.backstop = Backstop(LiquidationTerms(), InsuranceFunds(_INSURANCE_FUND))
        self.desks = {ticker: Desk(tape.book.book) for ticker, tape in tapes.items()}
        self.twaps: dict[str, Twap] = {}
        self._reports = Reports(chain, sink)
        for tape in tapes.values():
            tape.book.book.accounts = Clearing(self, tape.market)

    # --- as the clearing sees them

    def fees_of(self, ledger: Ledger) -> Fees:
        """Return what an account's fills cost: the tier of its own 30 days."""
        return ledger.volumes.tier(self._chain.block_ns)

    def book(self, order: Order, fill: Filled) -> None:
        """Book one side of a match."""
        ledger, when, record = self.ledgers[order.subaccount], self._reports.next_block, None
        self._change(ledger)
        booking = ledger.book(msgspec.structs.replace(fill, when=when))
        if order.id:
            record = filled_record(order, fill.market.ticker, abs(fill.quantums), when)
            twap = self.twaps.get(order.id)
            record = ledger.note(record) if twap is None else _leg(ledger, twap, record)
        self._reports.of(order.subaccount).fill(ledger, fill.market, booking, record)

    # --- money

    def faucet(self, to: Subaccount, quote_quantums: int) -> None:
        """Give money out of nowhere: to the subaccount, and some for gas."""
        wallet = self.bank.open(to.owner)
        wallet.usdc += 1_000_000_000
        wallet.native += 10**20
        self._deposit(to, quote_quantums, _MODULE)

    def deposit(self, sender: str, to: Subaccount, quote_quantums: int) -> Answer:
        """Move USDC from a wallet into a subaccount."""
        answer = self.bank.spend(sender, quote_quantums)
        if answer == TAKEN:
            self.bank.open(to.owner)
            self._deposit(to, quote_quantums, sender)
        return answer

    def withdraw(self, sender: Subaccount, to: str, quote_quantums: int) -> Answer:
        """Move USDC from a subaccount into a wallet."""
        ledger = self._ledger(sender)
        self._change(ledger)
        owing, blocked = ledger.owing, self.backstop.blocks(ledger, self._chain.height)
        moved = ledger.withdraw(
            quote_quantums, self._reports.next_block, blocked=blocked, wallet=to
        )
        if isinstance(moved, Refused):
            return _unmoved(moved)
        self.bank.open(to).usdc += quote_quantums
        self._reports.of(sender).transfer(ledger, moved, owing)
        return TAKEN

    def transfer(self, sender: Subaccount, to: Subaccount, quote_quantums: int) -> Answer:
        """Move USDC between subaccounts."""
        ledgers = self._ledger(sender), self._ledger(to)
        for ledger in ledgers:
            self._change(ledger)
        owing, height = [ledger.owing for ledger in ledgers], self._chain.height
        blocked = any(self.backstop.blocks(ledger, height) for ledger in ledgers)
        moved = transfer(*ledgers, quote_quantums, self._reports.next_block, blocked=blocked)
        if isinstance(moved, Refused):
            return _unmoved(moved)
        self.bank.open(to.owner)
        for ledger, owed in zip(ledgers, owing, strict=True):
            (sent,) = ledger.history.transfers(limit=1).rows
            self._reports.of(ledger.subaccount).transfer(ledger, sent, owed)
        return TAKEN

    def _deposit(self, to: Subaccount, quote_quantums: int, wallet: str) -> None:
        ledger = self._ledger(to)
        self._change(ledger)
        owing = ledger.owing
        moved = ledger.deposit(quote_quantums, self._reports.next_block, wallet=wallet)
        self._reports.of(to).transfer(ledger, moved, owing)

    def _ledger(self, subaccount: Subaccount) -> Ledger:
        ledger = self.ledgers.get(subaccount)
        if ledger is None:
            ledger = self.ledgers[subaccount] = Ledger(subaccount, caps=CAPS)
            ledger.accrue({ticker: tape.funding.index for ticker, tape in self._tapes.items()})
            self._value(ledger)
        return ledger

    def _change(self, ledger: Ledger) -> None:
        """Retain how the last block left a ledger that is about to change."""
        if ledger.subaccount not in self.whole:
            self.whole[ledger.subaccount] = copied(ledger)

    def _value(self, ledger: Ledger) -> None:
        for tape in self._tapes.values():
            ledger.value(tape.ticker, tape.oracle.price, tape.oracle.exponent, tape.open_interest)

    # --- orders

    def place(self, subaccount: Subaccount, request: OrderRequest) -> Answer:
        """Take an order in, or return why not."""
        tape, ledger = self.pairs[request.clob_pair_id], self._ledger(subaccount)
        chain = self._chain
        error = objection(
            request, tape.market, status=tape.status, height=chain.height,
            time=chain.block_ns // SECOND_NS,
        )  # fmt: skip
        if error:
            return _clob(error)
        order = Order.of(subaccount, request)
        if request.order_flags == SHORT_TERM:
            return _clob(self._enter(tape, order))
        error = self._submit(tape, ledger, order, request)
        if not error:
            self._reports.settle(ledger, tape, order, waits=bool(order.condition_type))
        return _clob(error)

    def cancel(self, subaccount: Subaccount, request: CancelRequest) -> Answer:
        """Take an order off the book, or out of what waits."""
        tape = self.pairs.get(request.clob_pair_id)
        if tape is None:
            return _clob("ErrInvalidClob")
        seconds = self._chain.block_ns // SECOND_NS
        if error := cancel_objection(request, height=self._chain.height, time=seconds):
            return _clob(error)
        if request.order_flags == TWAP:
            order, error = self._withdraw_twap(subaccount, request)
        else:
            order, error = self.desks[tape.ticker].withdraw(subaccount, request)
        if order is not None:
            self._end(tape, order, "USER_CANCELED", order.filled)
        elif not error and request.order_flags == SHORT_TERM:
            self._reports.miss(self._ledger(subaccount), tape, request)
        return _clob(error)

    def removed(self, tape: MarketTape, orders: Iterable[tuple[Order, str]]) -> None:
        """Take in the resting orders that other placements drove off the book."""
        for order, reason in orders:
            known = self.ledgers[order.subaccount].history.order(order.id)
            # What ended by its own placement has been reported; a TWAP outlives its parts.
            stood = known is not None and known.status in OPEN_STATES
            if stood and order.order_flags != _PART_OF_TWAP:
                self._end(tape, order, reason, order.filled)

    def traded(self, tape: MarketTape, trades: Iterable[TapeTrade]) -> None:
        """Take in what the block at hand traded: it may trigger what waits."""
        for trade in trades:
            self.desks[tape.ticker].see(trade.subticks)

    def _submit(self, tape: MarketTape, ledger: Ledger, order: Order, request: OrderRequest) -> str:
        """Take a stateful order into the block at hand; name the chain's refusal, or nothing."""
        open_ = ledger.history.orders(status=OPEN_STATES, limit=RETAINED).rows
        stateful = sum(record.order_flags in (LONG_TERM, CONDITIONAL) for record in open_)
        stateful += len(self._open_twaps(ledger.subaccount))
        if stateful >= stateful_order_limit(ledger.margin.net_collateral):
            return "ErrOrderWouldExceedMaxOpenOrdersEquityTierLimit"
        fees = self.fees_of(ledger)
        if request.order_flags != TWAP:
            return submit(self.desks[tape.ticker], ledger, tape.market, order, fees)
        if order.id in {twap.order.id for twap in self._open_twaps(ledger.subaccount)}:
            return "ErrStatefulOrderAlreadyExists"
        subticks = request.subticks or near_oracle(tape, 0, request.side)
        fee = fees.of(tape.market.quote_quantums(request.quantums, subticks), "MAKER")
        result = update_result(ledger, tape.market, request.signed_quantums, subticks, fee)
        if result != "Success":
            return "ErrStatefulOrderCollateralizationCheckFailed"
        parts = request.twap_duration_s // request.twap_interval_s
        now_s = self._chain.block_ns // SECOND_NS
        self.twaps[order.id] = Twap(order, request, tape, now_s, parts)
        return ""

    def _enter(self, tape: MarketTape, order: Order) -> str:
        """Let an order meet the book; name the chain's refusal, or nothing."""
        ledger, before = self.ledgers[order.subaccount], tape.book.book.orders.get(order.key)
        reports, short = self._reports, order.order_flags == SHORT_TERM
        opened = order_record(order, tape.ticker, status_of(order), reports.block)
        result = tape.book.execute(order)
        if result.error and result.error not in FAILED:
            return result.error
        if before is not None:
            reports.remove(ledger, tape, before, "REPLACED", before.filled)
        if short:
            reports.open(ledger, tape, opened)
        reason = next((reason for gone, reason in result.removed if gone is order), "")
        if reason := FAILED.get(result.error, reason):
            self._end(tape, order, reason, order.filled - result.filled)
        return result.error if short else ""

    def _end(self, tape: MarketTape, order: Order, reason: str, filled: int) -> None:
        """Report that an order ended: at once if nodes decide that, else with the block."""
        ledger = self.ledgers[order.subaccount]
        if order.order_flags == SHORT_TERM:
            self._reports.remove(ledger, tape, order, reason, filled)
        else:
            self._reports.settle(ledger, tape, order, reason)

    # --- a block

    def commit(self) -> None:
        """Do what the chain does at the end of a block, and report what it did."""
        self.backstop.begin_block()
        for ledger in self.ledgers.values():
            self._value(ledger)
        seconds = self._chain.block_ns // SECOND_NS
        for ticker, desk in self.desks.items():
            self._end_block(self._tapes[ticker], desk, seconds)
        for twap in [twap for twap in self.twaps.values() if twap.parts]:
            self._work_off(twap, seconds)
        for ledger in list(self.ledgers.values()):
            if ledger.breached:
                self._liquidate(ledger)
        self._reports.flush(self.ledgers)
        self.whole.clear()
        if self._chain.height % 60 == 0:
            for ledger in self.ledgers.values():
                ledger.mark(self._reports.block)

    def fund(self) -> None:
        """Let funding accrue to every account, from how far the indices have moved.

        Each position's payment is listed at once, and moves money when its account is touched.
        """
        indices = {ticker: tape.funding.index for ticker, tape in self._tapes.items()}
        for ledger in self.ledgers.values():
            ledger.accrue(indices, self._reports.block)

    def _end_block(self, tape: MarketTape, desk: Desk, seconds: int) -> None:
        entry = desk.end_block(tape.oracle.subticks, seconds, tape.oracle.min_change_ppm)
        for order in entry.entering:
            if order.condition_type:
                self._reports.settle(self.ledgers[order.subaccount], tape, order)
            if error := self._enter(tape, order):
                self._end(tape, order, _ENDS.get(error, "INTERNAL_ERROR"), order.filled)
        for order in (*entry.expired, *desk.book.expire(self._chain.height, seconds)):
            if order.id and order.subaccount in self.ledgers:
                self._end(tape, order, "EXPIRED", order.filled)

    def _liquidate(self, ledger: Ledger) -> None:
        """Close part of one position after another, each once, until the account is safe."""
        whose, backstop = ledger.subaccount, self.backstop
        backstop.notice(ledger, self._chain.height)
        for holding in sorted(ledger.holdings.values(), key=lambda held: held.market.clob_pair_id):
            ticker = holding.market.ticker
            left, tape = backstop.left(whose, ticker), self._tapes[ticker]
            if not ledger.breached or left <= 0:
                return
            terms = msgspec.structs.replace(backstop.terms, max_subaccount_notional=left)
            order = liquidation_order(ledger, holding, terms)
            worthless = ledger.margin.net_collateral < 0
            tape.book.execute(order)
            if order.filled:
                ledger.liquidated()
            elif worthless:
                # Nobody buys, or at prices that the fund cannot make up for.
                self._deleverage(ledger, tape)
            taken = ledger.worth.margin_of(tape.market, order.filled)
            backstop.took(whose, ticker, abs(taken.net_notional))

    def _deleverage(self, ledger: Ledger, tape: MarketTape) -> None:
        """Hand a whole position to a counterparty, the crowd."""
        order, quote = deleveraging(ledger, ledger.holdings[tape.ticker])
        signed = order.sign * order.quantums
        self.book(order, Filled(
            market=tape.market, quantums=signed, subticks=order.subticks, quote=quote,
            type="DELEVERAGED",
        ))  # fmt: skip

    # --- TWAP orders

    def _open_twaps(self, whose: Subaccount) -> list[Twap]:
        twaps = (twap for twap in self.twaps.values() if twap.parts)
        return [twap for twap in twaps if twap.order.subaccount == whose]

    def _withdraw_twap(self, whose: Subaccount, cancel: CancelRequest) -> tuple[Order | None, str]:
        named = [t for t in self._open_twaps(whose) if t.order.client_id == cancel.client_id]
        if not named:
            return None, "ErrStatefulOrderDoesNotExist"
        named[0].parts = 0
        return named[0].order, ""

    def _work_off(self, twap: Twap, now_s: int) -> None:
        """Place the part of a TWAP order that is due."""
        order, request, tape = twap.order, twap.request, twap.tape
        if now_s >= twap.due_s and now_s < request.good_til_block_time:
            part = twap.part()
            tape.book.execute(part)
            order.filled += part.filled
            twap.due_s, twap.parts = twap.due_s + request.twap_interval_s, twap.parts - 1
        if now_s >= request.good_til_block_time or not order.remaining:
            twap.parts = 0
        if not twap.parts and order.remaining:
            self._end(tape, order, "EXPIRED", order.filled)


def _leg(ledger: Ledger, twap: Twap, part: OrderRecord) -> OrderRecord:
    """Return the row that a fill of a part brings: the whole's identity, the part's size.

    So the whole counts as filled once a part is, and is remembered so, though it goes on.
    """
    order, request = twap.order, twap.request
    terms = request.twap_duration_s, request.twap_interval_s, request.twap_tolerance_ppm
    filled = order.filled + part.filled
    status = "FILLED" if filled >= part.quantums else "OPEN"
    whole = order_record(order, part.ticker, status, part.updated)
    known = ledger.note(msgspec.structs.replace(whole, filled=filled))
    return msgspec.structs.replace(
        part, filled=filled, status=status, twap=terms, created=known.created
    )


def _clob(error: str) -> Answer:
    return (code_of(error), "clob", error) if error else TAKEN


def _unmoved(refused: Refused) -> Answer:
    code = 500 if refused.reason == "OVERFLOW" else 102
    return code, "subaccounts", f"{refused}: failed to update subaccounts"

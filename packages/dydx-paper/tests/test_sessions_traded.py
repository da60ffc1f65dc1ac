"""Orders of every kind, sent at moments of the real sessions: what fills, at which prices."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import ceil, floor
from typing import Any

import pytest
from dydx_conn import CONDITIONAL, LONG_TERM, Accounts, Frame, OrderRequest, Subaccount
from dydx_data import DataState, MarketView, oracle_subticks, step, stopping
from dydx_paper import Event, FillRecord, Latency, OrderRecord, PaperVenue, charge, rebuild
from dydx_risk import MarginFigures, Risk
from habits import broken
from sessions import REAL, Session
from traded import KNOWN, forms

OWNER = Subaccount("dydx1paper", 0)
USDC = 1_000_000
SECOND = 1_000_000_000
each_session = pytest.mark.parametrize("session", REAL, ids=str)


# === Orders of a book ===


@dataclass(frozen=True)
class Moment:
    """A market as it was when the order of this number was sent; `held` is signed quantums."""

    view: MarketView
    number: int
    held: int

    @property
    def buys(self) -> bool:
        """Orders buy and sell by turns."""
        return self.number % 2 == 0

    def order(self, **fields: Any) -> OrderRequest:
        """Take the two best levels of the other side, the second by half, if fields do not differ."""
        market, book, height = self.view.market, self.view.book, self.view.chain.height
        assert market is not None
        theirs = book.asks(2) if self.buys else book.bids(2)
        sizes = [market.quantums(level.size_text) for level in theirs]
        step_size = market.step_base_quantums
        most = sizes[0] + (sizes[-1] // 2 // step_size * step_size if sizes[1:] else 0)
        chosen: dict[str, Any] = {
            "ticker": self.view.ticker, "clob_pair_id": market.clob_pair_id,
            "side": "BUY" if self.buys else "SELL", "quantums": most,
            "subticks": market.subticks(theirs[-1].price_text), "time_in_force": "IOC",
            "client_id": self.number, "good_til_block": height + 20,
        }  # fmt: skip
        return OrderRequest(**chosen | fields)

    def lasting(self, flags: int, seconds: int, **fields: Any) -> OrderRequest:
        """Write an order that a block takes in, good for some seconds of the chain's time."""
        until = self.view.chain.time_ns // SECOND + seconds
        timed = {"order_flags": flags, "good_til_block": 0, "good_til_block_time": until}
        return self.order(time_in_force="GTT", **timed, **fields)

    def near(self) -> int:
        """Return the best price of its own side, in subticks."""
        market, book = self.view.market, self.view.book
        own = book.best_bid if self.buys else book.best_ask
        assert market is not None
        assert own is not None
        return market.subticks(own.price_text)

    def conditional(self, condition: str) -> OrderRequest:
        """Trigger at the oracle price, or every other time 10 % beyond it, where it never comes."""
        market, oracle, falls = self.view.market, self.view.oracle, self.buys != _IS_STOP[condition]
        assert market is not None
        assert oracle is not None
        percent = 100 if self.number % 4 < 2 else 90 if falls else 110
        at = oracle_subticks(market, oracle.digits, oracle.exponent) * percent / 100
        ticks = at / market.subticks_per_tick
        trigger = (ceil(ticks) if falls else floor(ticks)) * market.subticks_per_tick
        terms = {"condition_type": condition, "trigger_subticks": trigger}
        return self.lasting(CONDITIONAL, 600, **terms)


_IS_STOP = {"STOP_LOSS": True, "TAKE_PROFIT": False}


def reduce(moment: Moment) -> OrderRequest:
    """Open, and close with twice what is held and no more than what is held."""
    if not moment.held:
        return moment.order()
    side = "SELL" if moment.held > 0 else "BUY"
    number = 2 * moment.number + (side == "SELL")
    other = Moment(moment.view, number, moment.held)
    return other.order(reduce_only=True, quantums=2 * abs(moment.held), client_id=moment.number)


KINDS: dict[str, Callable[[Moment], OrderRequest]] = {
    "IOC": lambda moment: moment.order(),
    "POST_ONLY": lambda moment: moment.order(time_in_force="POST_ONLY", subticks=moment.near()),
    "POST_ONLY that crosses": lambda moment: moment.order(time_in_force="POST_ONLY"),
    "short-term": lambda moment: moment.order(
        time_in_force="GTT", subticks=moment.near(), good_til_block=moment.view.chain.height + 3
    ),
    "long-term": lambda moment: moment.lasting(LONG_TERM, 5, subticks=moment.near()),
    "reduce-only": reduce,
    "STOP_LOSS": lambda moment: moment.conditional("STOP_LOSS"),
    "TAKE_PROFIT": lambda moment: moment.conditional("TAKE_PROFIT"),
    "unaffordable": lambda moment: moment.order(),
}
DEPOSITS = {"unaffordable": 5 * USDC}


# === A session, traded ===


@dataclass(frozen=True)
class Sent:
    """An order, and when it was sent: the event time, and the height then."""

    order: OrderRequest
    at: int
    height: int


class Traded:
    """An account that trades a session: what it sent, and each fill by the book that it met.

    An order goes out at every so many views of a book, the kinds by turns.
    """

    def __init__(self, kinds: tuple[str, ...], every: int = 10, latency: int = 0) -> None:
        self.kinds, self.every, self.books = kinds, every, 0
        self.events: list[Event] = []
        self.venue = PaperVenue(
            OWNER, DEPOSITS.get(kinds[0], 100_000 * USDC),
            latency=Latency.constant(latency), journal=self.events.append,
        )  # fmt: skip
        self.sent: dict[int, Sent] = {}
        self.frames: list[Frame] = []
        # Each fill with the levels that a taker of its side met, and the margin right after it.
        self.fills: list[tuple[FillRecord, dict[int, int], MarginFigures]] = []

    def take(self, view: MarketView, views: Mapping[str, MarketView]) -> list[Frame]:
        """Let the venue see a view, and send an order if it is time; return what it reported."""
        venue, made = self.venue, [*self.venue.step(view)]
        is_book = view.changed == "book"
        self.books += is_book
        if is_book and not self.books % self.every and not stopping(view, "entry"):
            number = self.books // self.every
            kind = self.kinds[number % len(self.kinds)]
            order = KINDS[kind](Moment(view, number, venue.ledger.position(view.ticker)))
            self.sent[number] = Sent(order, view.at, view.chain.height)
            made += venue.step(order)
        if new := venue.ledger.tally.fills - len(self.fills):
            for fill in venue.ledger.history.fills(limit=new).rows[::-1]:
                levels = levels_of(views[fill.ticker], fill.quantums > 0)
                self.fills.append((fill, levels, venue.ledger.margin))
        self.frames += made
        return made

    def orders(self) -> Iterator[tuple[Sent, OrderRecord]]:
        """Yield what was sent, and how it stands at the end."""
        for record in self.venue.ledger.history.orders(limit=1_000).rows:
            if record.client_id in self.sent:
                yield self.sent[record.client_id], record

    def fills_of(self, record: OrderRecord) -> list[FillRecord]:
        """Return the fills of an order, the oldest first."""
        return [fill for fill, _, _ in self.fills if fill.order_id == record.id]


def play(frames: tuple[Frame, ...], *accounts: Traded) -> None:
    """Let accounts trade frames beside each other: nobody sees the others."""
    state = DataState()
    for frame in frames:
        for view in step(state, frame):
            for account in accounts:
                account.take(view, state.views)


def levels_of(view: MarketView, buys: bool) -> dict[int, int]:
    """Return what the other side of a book offers, quantums by subticks."""
    market = view.market
    assert market is not None
    return {
        market.subticks(level.price_text): market.quantums(level.size_text)
        for level in (view.book.asks() if buys else view.book.bids())
    }


@cache
def traded(session: Session) -> dict[str, Traded]:
    """Trade a session in each kind alone, once for all tests here; nobody may change the result."""
    accounts = {kind: Traded((kind,)) for kind in KINDS}
    play(session.frames, *accounts.values())
    return accounts


PAID = tuple(kind for kind in KINDS if kind not in DEPOSITS)


@cache
def mixed(session: Session) -> tuple[Traded, Risk, list[int]]:
    """Trade a session in all kinds; return what risk saw of it, and the frames they differ at."""
    state, accounts, risk = DataState(), Accounts(), Risk(subaccount=OWNER, guard=False)
    account, off = Traded(PAID, 6), list[int]()
    for frame in session.frames:
        for view in step(state, frame):
            risk.step(view)
            for made in account.take(view, state.views):
                for update in accounts.step(made):
                    risk.step(update)
                    assert not update.doubt
            if risk.account.seq and account.venue.ledger.margin != risk.margin:
                off.append(frame.seq)
    return account, risk, off


# === Each kind of order ===


def is_worse(order: OrderRequest, fill: FillRecord) -> bool:
    """Return whether a fill is worse than an order's limit."""
    return (fill.subticks - order.subticks) * (1 if order.side == "BUY" else -1) > 0


@each_session
@pytest.mark.parametrize("kind", KINDS)
def test_an_order_fills_at_what_the_book_offered_and_as_its_kind_may(
    session: Session, kind: str
) -> None:
    """Never beyond its limit or its size, and a taker at levels that were there."""
    result = traded(session)[kind]
    taken: Counter[tuple[str, int, int]] = Counter()
    for fill, levels, _ in result.fills:
        if fill.liquidity == "TAKER":
            taken[fill.ticker, fill.created.seq, fill.subticks] += abs(fill.quantums)
            assert taken[fill.ticker, fill.created.seq, fill.subticks] <= levels[fill.subticks]
    for sent, record in result.orders():
        order = sent.order
        fills = result.fills_of(record)
        filled = sum(abs(fill.quantums) for fill in fills)
        assert record.filled == filled <= order.quantums
        assert not any(is_worse(order, fill) for fill in fills)
        assert all(fill.subticks == order.subticks for fill in fills if fill.liquidity == "MAKER")
        RULES[kind](result, sent, record, fills)


def takes_at_once(_: Traded, sent: Sent, record: OrderRecord, fills: list[FillRecord]) -> None:
    """All of an IOC order's fills are of one moment, and nothing of it rests."""
    ended = "FILLED" if record.filled == sent.order.quantums else "CANCELED"
    assert {fill.liquidity for fill in fills} <= {"TAKER"}
    assert len({fill.created.seq for fill in fills}) <= 1
    assert not fills or record.status == ended


def only_makes(_: Traded, sent: Sent, record: OrderRecord, fills: list[FillRecord]) -> None:
    """Whoever is to be a maker is nothing else, however the book moved before it arrived."""
    assert {fill.liquidity for fill in fills} <= {"MAKER"}


def ends_with_its_block(
    _: Traded, sent: Sent, record: OrderRecord, fills: list[FillRecord]
) -> None:
    """No fill after the block that it is good until."""
    assert all(fill.created.height <= sent.order.good_til_block for fill in fills)


def ends_with_its_time(_: Traded, sent: Sent, record: OrderRecord, fills: list[FillRecord]) -> None:
    """A block takes it in before it fills, and none fills it after its time."""
    until = sent.order.good_til_block_time * SECOND
    assert all(sent.height < fill.created.height for fill in fills)
    assert all(fill.created.time_ns < until + SECOND for fill in fills)


def shrinks(result: Traded, sent: Sent, record: OrderRecord, fills: list[FillRecord]) -> None:
    """What only reduces leaves less, and never turns the side."""
    held = 0
    for fill, _, _ in result.fills:
        if fill.ticker == sent.order.ticker:
            before, held = held, held + fill.quantums
            if sent.order.reduce_only and fill.order_id == record.id:
                assert before * held >= 0
                assert abs(held) < abs(before)


def waits_for_its_price(
    _: Traded, sent: Sent, record: OrderRecord, fills: list[FillRecord]
) -> None:
    """Far from every price it waits to the end; at the price it enters with a later block."""
    if sent.order.client_id % 4 >= 2:
        assert record.status not in ("OPEN", "FILLED")
        assert fills == []
    assert all(fill.created.height > sent.height for fill in fills)


def is_paid_for(result: Traded, sent: Sent, record: OrderRecord, fills: list[FillRecord]) -> None:
    """It fills as far as the account can pay: after each fill the initial margin is there."""
    ours = {fill.id for fill in fills}
    for fill, _, margin in result.fills:
        if fill.id in ours:
            assert margin.net_collateral >= margin.initial_margin


RULES: dict[str, Callable[[Traded, Sent, OrderRecord, list[FillRecord]], None]] = {
    "IOC": takes_at_once,
    "POST_ONLY": only_makes,
    "POST_ONLY that crosses": only_makes,
    "short-term": ends_with_its_block,
    "long-term": ends_with_its_time,
    "reduce-only": shrinks,
    "STOP_LOSS": waits_for_its_price,
    "TAKE_PROFIT": waits_for_its_price,
    "unaffordable": is_paid_for,
}


def test_most_kinds_fill_in_many_sessions() -> None:
    """So nothing above passes because nothing was matched."""
    filled = {kind: sum(bool(traded(session)[kind].fills) for session in REAL) for kind in KINDS}
    assert all(filled.values())
    assert sum(count > 15 for count in filled.values()) > 6


# === The account ===


@each_session
def test_no_quantum_is_made_or_lost(session: Session) -> None:
    """What was paid in is the balance and what fills, fees and funding took."""
    account, _, _ = mixed(session)
    ledger = account.venue.ledger
    paid = ledger.paid
    spent = sum(fill.quote for fill, _, _ in account.fills)
    fees = sum(fill.fee for fill, _, _ in account.fills)

    assert (paid.for_fills, paid.fees) == (spent, fees)
    assert ledger.deposits == ledger.collateral + spent + fees + paid.funding + paid.insurance


@each_session
def test_the_margin_of_risk_is_the_venues_at_every_frame(session: Session) -> None:
    """Folded from the account's own frames, with no doubt at any of them."""
    assert mixed(session)[2] == []


@each_session
def test_what_is_reported_comes_to_the_ledger(session: Session) -> None:
    """Balance and positions of the account's frames are the ledger's."""
    traded_, risk, _ = mixed(session)
    account, ledger = risk.account, traded_.venue.ledger

    held = {ticker: position.quantums for ticker, position in account.positions.items()}
    assert (account.trouble, account.collateral) == ("", ledger.collateral)
    assert held == {ticker: ledger.position(ticker) for ticker in ledger.holdings}


@each_session
def test_it_is_reported_as_by_the_real_indexer(session: Session) -> None:
    """In its order, and in shapes that its own sessions have."""
    frames = [
        frame for frame in mixed(session)[0].frames if '"removalReason":"clob ' not in frame.text
    ]

    assert broken(frames) == []
    assert forms(frames) - KNOWN == set()


@each_session
def test_each_fill_is_charged_its_tiers_fee(session: Session) -> None:
    """On what it traded, by what it was: rounded as the chain rounds."""
    result, _, _ = mixed(session)
    for fill, _, _ in result.fills:
        of = charge(abs(fill.quote), fill.liquidity, result.venue.fees)
        assert of.total == fill.fee


@each_session
def test_a_journal_makes_the_same_ledger_again(session: Session) -> None:
    """To the quantum in all it holds and remembers."""
    result, _, _ = mixed(session)

    assert rebuild(result.events) == result.venue.ledger


@each_session
def test_the_same_frames_make_the_same_bytes_and_half_of_them_the_first_half(
    session: Session,
) -> None:
    """Nothing of the rest of a session is known before it comes."""
    half = Traded(PAID, 6)
    play(session.frames[: len(session.frames) // 2], half)

    whole = [frame.text for frame in mixed(session)[0].frames]
    assert [frame.text for frame in half.frames] == whole[: len(half.frames)]


@each_session
def test_a_later_order_meets_a_later_book(session: Session) -> None:
    """With a second of latency nothing matches in the second after it was sent."""
    late = Traded(("IOC",), latency=SECOND)
    play(session.frames, late)
    for sent, record in late.orders():
        for fill in late.fills_of(record):
            assert fill.created.at >= sent.at + SECOND

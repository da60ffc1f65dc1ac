"""What a run leaves for the next: all of it, as JSON, and what goes on is what never stopped."""

import contextlib
import copy
import json
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Any

import msgspec
import pytest
from dydx_conn import (
    CONDITIONAL,
    LONG_TERM,
    Accounts,
    Frame,
    OrderRequest,
    Subaccount,
    SubaccountContents,
    collect,
    contents,
    load_recorded_stream,
    market_parameters,
)
from dydx_data import DataState, MarketView, step
from dydx_paper import (
    Caps,
    Digest,
    Entry,
    Ledger,
    LedgerError,
    LedgerState,
    PaperVenue,
    Stamp,
    VenueState,
    from_json,
    ledger_state,
    resumed,
    to_json,
)
from exchange import HOUR, START, Exchange
from hypothesis import given, settings
from hypothesis import strategies as st
from traded import OWNER, order

BTC = market_parameters("BTC-USD")
USDC = 1_000_000
DEPOSIT = 100_000 * USDC


@cache
def frames() -> tuple[Frame, ...]:
    """Return the first quarter of the recording: an hour ends in it, and prices move."""
    return tuple(collect(load_recorded_stream("quickstart")))[:9_000]


class Trader:
    """Trades by turns at every 60th book, with orders that stand; the venue may be another's."""

    def __init__(self) -> None:
        self.data = DataState()
        self.venue = PaperVenue(OWNER, DEPOSIT, queue="optimistic")
        self.made: list[Frame] = []
        self.books = 0

    def take(self, frame: Frame) -> None:
        """Fold a frame, and trade on it."""
        for view in step(self.data, frame):
            self.made += self.venue.step(view)
            self.books += view.changed == "book"
            if view.changed == "book" and self.books % 60 == 0:
                self.made += order(self.venue, view, self.books // 60)
                self.made += stands(self.venue, view, 10_000 + self.books // 60)

    def stop(self) -> None:
        """Go on with a venue that begins with what is left of this one, read from JSON."""
        saved = from_json(to_json(self.venue.state), VenueState)
        self.venue = PaperVenue(OWNER, 1, queue="optimistic")
        self.venue.resume(saved)
        for view in self.data.views.values():
            self.made += self.venue.step(view)

    @property
    def is_quiet(self) -> bool:
        """Return whether nothing is on its way, and no order is short-term."""
        venue = self.venue
        on_way = any(
            market.inbox or market.desk.waiting.placed for market in venue.markets.values()
        )
        return not on_way and all(o.order_flags for o in venue.ledger.history.live)


def stands(venue: PaperVenue, view: MarketView, number: int) -> list[Frame]:
    """Send by turns a bid far below, which rests, and a stop below, which waits."""
    market, best = view.market, view.book.best_bid
    if market is None or best is None or number % 4:
        return []
    price, rests = market.subticks(best.price_text), number % 8 == 0
    tick = market.subticks_per_tick
    near = price * (1_000 - number % 7 * 90) // 1_000 // tick * tick
    return venue.step(OrderRequest(
        ticker=view.ticker, clob_pair_id=market.clob_pair_id, client_id=number,
        quantums=market.step_base_quantums, side="BUY" if rests else "SELL",
        subticks=near if rests else near // 2 // tick * tick,
        order_flags=LONG_TERM if rests else CONDITIONAL,
        good_til_block_time=view.chain.time_ns // 10**9 + 86_400,
        condition_type="" if rests else "STOP_LOSS", trigger_subticks=0 if rests else near,
        time_in_force="GTT" if rests else "IOC", reduce_only=not rests,
    ))  # fmt: skip


@cache
def unstopped() -> Trader:
    """Return a run that never stopped."""
    trader = Trader()
    for frame in frames():
        trader.take(frame)
    return trader


@pytest.mark.replays
def test_what_never_stopped_has_traded_all_kinds() -> None:
    """Or it would prove little."""
    ledger = unstopped().venue.ledger

    assert ledger.tally.fills > 20
    assert {"OPEN", "UNTRIGGERED"} <= {order.status for order in ledger.history.live}


@settings(max_examples=6)
@given(st.integers(500, 8_500))
def test_a_venue_that_stopped_between_orders_ends_as_one_that_did_not(cut: int) -> None:
    """Equal in all that the ledger holds, paid and remembers, if nothing was on its way.

    By the optimistic model: by the others what rests has lost its place, and fills later.
    """
    trader = Trader()
    stopped = False
    for n, frame in enumerate(frames()):
        if n >= cut and not stopped and trader.is_quiet:
            trader.stop()
            stopped = True
        trader.take(frame)

    assert stopped
    assert ledger_state(unstopped().venue.ledger) == ledger_state(trader.venue.ledger)


class Journaled:
    """A venue whose journal is stored frame by frame, as a run stores it."""

    def __init__(self) -> None:
        self.trader = Trader()
        self.venue = self.trader.venue
        self.digest = Digest(self.venue.ledger)
        self.venue.ledger.journal = self.digest.take
        self.began = to_json(self.venue.state)
        self.stored: list[str] = []

    def take(self, frame: Frame) -> None:
        """Fold a frame, and store what it did."""
        self.trader.take(frame)
        if self.digest.events:
            self.stored.append(to_json(Entry.of(self.digest.drain(), self.venue.carried)))

    def read(self) -> VenueState:
        """Return what a next run makes of what is stored."""
        entries = (from_json(text, Entry) for text in self.stored)
        return resumed(from_json(self.began, VenueState), entries)


def test_what_is_stored_frame_by_frame_is_the_venue_to_the_quantum() -> None:
    """Whenever it is read; and it is a small part of what happened to prices."""
    run, looked = Journaled(), 0
    for n, frame in enumerate(frames()[:4_000]):
        before = len(run.stored)
        run.take(frame)
        if len(run.stored) > before and n % 8 == 0:
            looked += 1
            assert run.venue.state == run.read()

    assert looked > 5
    assert run.venue.ledger.tally.fills > 20


def when(hour: int) -> Stamp:
    """Return the beginning of an hour of 2026."""
    ns = (hour + 490_000) * 3_600 * 10**9
    return Stamp(seq=hour, at=ns, time_ns=ns, height=hour)


def happen(ledger: Ledger) -> None:
    """Let fractions, a debt, a position that turned, payments and transfers happen."""
    ledger.value("BTC-USD", 50_000, 0)
    for n, size in enumerate((3, -1, -7, 2)):
        ledger.fill(BTC, size * 10**9, (50_000 + n) * 100_000, 7, when=when(n))
    ledger.accrue({"BTC-USD": 12_345}, when(5))
    ledger.withdraw(USDC, when(6))
    ledger.mark(when(6))


def test_a_ledger_of_everything_comes_back_from_json() -> None:
    """Fractions too."""
    ledger = Ledger(OWNER, DEPOSIT, caps=Caps(fills=2))
    happen(ledger)

    state = ledger_state(ledger)
    assert state == from_json(to_json(state), LedgerState)
    third = Fraction(-1, 3)
    assert third == from_json(to_json(third), Fraction)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("{", VenueState), ("[]", VenueState), ('{"events":1}', Entry),
        ('{"gained":"1/0"}', Any), ("null", LedgerState),
        ('{"events":[["Filled",' + "[" * 10_000 + "]" * 10_000 + "]]}", Entry),
    ],
)  # fmt: skip
def test_what_is_no_state_is_refused_in_words(text: str, kind: Any) -> None:
    """Whatever it is."""
    wanted = type(Ledger(OWNER).tally) if kind is Any else kind
    with pytest.raises(LedgerError, match=r"expected a .* as it was saved, got"):
        from_json(text, wanted)


@cache
def saved() -> Any:
    """Return what a run left, as plain data: a state, and an entry of all that happened since."""
    ledger = PaperVenue(OWNER, DEPOSIT).ledger
    happen(ledger)
    state, digest = VenueState(ledger=ledger_state(ledger)), Digest(ledger)
    text = to_json(state)
    ledger.journal = digest.take
    happen(ledger)
    return json.loads(text), json.loads(to_json(Entry.of(digest.drain(), state.carried)))


def places(whole: Any, *begun: Any) -> Iterator[tuple[Any, ...]]:
    """Yield where anything is in plain data."""
    for place in whole if isinstance(whole, dict) else range(len(whole)):
        yield (*begun, place)
        if isinstance(whole[place], dict | list):
            yield from places(whole[place], *begun, place)


WRONG: list[Any] = [None, -1, 10**30, -(10**30), 2**63, "", "x", "1/0", [], {}, True, 1.5]


@settings(max_examples=200)
@given(st.sampled_from([*places(saved())]), st.sampled_from(WRONG))
def test_what_is_damaged_goes_on_or_is_refused_in_words(place: tuple[Any, ...], wrong: Any) -> None:
    """Wherever it is, and whatever is there: no other error comes of it."""
    damaged = copy.deepcopy([*saved()])
    part: Any = damaged
    for each in place[:-1]:
        part = part[each]
    part[place[-1]] = wrong

    with contextlib.suppress(LedgerError):
        state, entry = (json.dumps(each) for each in damaged)
        ended = resumed(from_json(state, VenueState), [from_json(entry, Entry)])
        PaperVenue(OWNER, 1).resume(ended)


def test_an_entry_of_what_no_ledger_does_is_refused() -> None:
    """A name that is none is not passed over."""
    entry = Entry([("Nothing", msgspec.Raw(b"{}"))])
    with pytest.raises(LedgerError, match="expected one of Opened, Filled"):
        list(entry.read())


def test_a_state_of_another_subaccount_is_refused() -> None:
    """It would be somebody else's money."""
    with pytest.raises(LedgerError, match="expected a ledger of dydx1paper/0, got other/0"):
        PaperVenue(OWNER, 1).resume(PaperVenue(Subaccount("other"), 1).state)


def test_a_ledger_prices_what_it_buys_and_no_more() -> None:
    """A journal has the price of a market once it is held, and the newest before an event."""
    ledger = Ledger(OWNER, DEPOSIT)
    digest = Digest(ledger)
    ledger.journal = digest.take
    for price in (1, 2, 3):
        ledger.value("BTC-USD", price, 0)
        ledger.value("ETH-USD", price, 0)
    assert not digest.events
    ledger.fill(BTC, 10**9, 100_000)
    ledger.value("BTC-USD", 4, 0)

    names = [type(event).__name__ for event in digest.drain()]
    assert ["Valued", "Filled", "Valued"] == names
    assert [] == digest.drain()


# --- coming back


def test_a_venue_that_comes_back_greets_with_what_stands_and_ends_what_was_short() -> None:
    """Accounts learn the positions as of any venue, and which orders are over."""
    trader = Trader()
    for frame in frames()[:3_000]:
        trader.take(frame)
    view = trader.data.views["BTC-USD"]
    trader.made += order(trader.venue, view, 99_999)
    trader.made.clear()
    standing = {o.id for o in trader.venue.ledger.history.live if o.order_flags}
    trader.stop()

    accounts = Accounts([OWNER])
    updates = [update for frame in trader.made for update in accounts.step(frame)]
    states = {state.id: state.status for update in updates for state in update.orders}
    assert "subscribed" == trader.made[0].type
    assert standing == {id_ for id_, status in states.items() if status == "OPEN"}
    assert 1 == sum(status == "CANCELLED" for status in states.values())
    assert not any(update.fills for update in updates)
    held = {p.ticker: p.size for update in updates for p in update.positions}
    ledger = trader.venue.ledger
    assert {t: h.market.size(h.quantums) for t, h in ledger.holdings.items()} == held


def held_overnight(*rates: float, away: bool = True) -> Exchange:
    """Let a venue hold 1 BTC over three hours, of which the first had these rates.

    It is away meanwhile, or sees no block of them.
    """
    exchange = Exchange().open()
    exchange.block(second=10)
    exchange.order("BUY", "1", "50001")
    exchange.change(bids=[(49_999, 1.5)])
    if away:
        come_back(exchange)
    view = exchange.state.views["BTC-USD"]
    hour = view.chain.time_ns // (HOUR * 10**9) + 1
    view.premium.rates = {(hour + n) * HOUR * 10**9: rate for n, rate in enumerate(rates)}
    exchange.block(second=3 * HOUR + 1)
    return exchange


def come_back(exchange: Exchange) -> None:
    """Let another venue go on with what this one leaves."""
    state = from_json(to_json(exchange.venue.state), VenueState)
    exchange.venue = PaperVenue(OWNER, 1)
    exchange.venue.resume(state)
    exchange.frames.clear()


def test_hours_that_nobody_saw_cost_what_they_cost() -> None:
    """By the rate that the venue answers for an hour, else by that of now: 1 + 0.5 + 0.5 USDC."""
    exchange = held_overnight(0.00002)
    before = exchange.venue.ledger.collateral
    exchange.oracle(50_000)

    assert "subscribed" == exchange.frames[0].type
    assert -2 * USDC == exchange.venue.ledger.unsettled
    assert (before, 1) == (
        exchange.venue.ledger.collateral, len(exchange.venue.ledger.history.points)
    )  # fmt: skip


def test_rates_are_waited_for_no_longer_than_ten_seconds() -> None:
    """Without any, all hours are at the rate of now; until then the account is not known."""
    exchange = held_overnight()
    exchange.oracle(50_000)
    assert ([], 0) == (exchange.frames, exchange.venue.ledger.unsettled)

    exchange.block(second=3 * HOUR + 12)
    exchange.oracle(50_000)
    assert "subscribed" == exchange.frames[0].type
    assert -1_500_000 == exchange.venue.ledger.unsettled


def test_what_nothing_is_known_of_is_owed() -> None:
    """Until a rate is: as in a run that saw the hour."""
    exchange = held_overnight(0.00002)
    view = exchange.state.views["BTC-USD"]
    view.funding = type(view.funding)()
    exchange.oracle(50_000)

    assert {"BTC-USD": 2} == exchange.venue.funding_owed
    exchange.update("BTC-USD", nextFundingRate="0.00001")
    assert ({}, -2 * USDC) == (exchange.venue.funding_owed, exchange.venue.ledger.unsettled)


def test_a_chain_that_began_again_is_reported_by_its_own_blocks() -> None:
    """Or its updates would be older than the snapshot."""
    exchange = held_overnight(0.00002)
    exchange.venue.ledger.touched = 10**6
    exchange.oracle(50_000)

    (snapshot,) = contents(exchange.frames[0])
    assert isinstance(snapshot, SubaccountContents)
    assert snapshot.subaccount is not None
    assert int(snapshot.subaccount.updated_at_height or 0) < 10**4


def test_hours_of_which_no_block_came_cost_what_those_cost_that_nobody_saw() -> None:
    """By the rates that the venue answers, too."""
    exchange = held_overnight(0.00002, away=False)
    exchange.oracle(50_000)

    assert -2 * USDC == exchange.venue.ledger.unsettled


@pytest.mark.parametrize(("until", "filled"), [(HOUR, 0), (4 * HOUR, 1)])
def test_what_ended_while_nobody_looked_is_never_filled(until: int, filled: int) -> None:
    """Though the book would fill it now: the chain took it off before."""
    exchange = Exchange().open()
    exchange.block(second=10)
    exchange.order(
        "BUY", "1", "49000", tif="GTT", order_flags=LONG_TERM, good_til_block=0,
        good_til_block_time=START + until,
    )  # fmt: skip
    exchange.block()
    exchange.oracle(50_000)
    assert ["OPEN"] == [order.status for order in exchange.venue.ledger.history.live]

    come_back(exchange)
    exchange.block(second=3 * HOUR)
    exchange.book([(47_000, 1)], [(48_000, 2)])
    exchange.block()
    exchange.book([(47_000, 1)], [(48_000, 2)])
    assert filled == exchange.venue.ledger.tally.fills
    assert [] == exchange.venue.ledger.history.live

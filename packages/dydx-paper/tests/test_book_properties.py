"""Whatever is sent to a book, in whatever order, its own rules hold."""

import random
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from dydx_conn import (
    CONDITIONAL,
    LONG_TERM,
    SHORT_TERM,
    CancelRequest,
    Subaccount,
    code_of,
    market_parameters,
)
from dydx_paper import CLEAN, Desk, Key, Match, Order, OrderBook, Placement, Positions, UpdateResult
from hypothesis import given
from hypothesis import strategies as st

WHO = [Subaccount("alice"), Subaccount("alice", 1), Subaccount("bob")]

BTC = market_parameters("BTC-USD", step_base_quantums=1, subticks_per_tick=1)

# Few ids, prices and sizes: so that orders meet, replace and fill one another all the time.
KEYS = st.tuples(st.sampled_from(WHO), st.integers(0, 3))
SHORT_TERMS = st.fixed_dictionaries(
    {
        "side": st.sampled_from(["BUY", "SELL"]),
        "quantums": st.integers(1, 12),
        "subticks": st.integers(5, 12),
        "time_in_force": st.sampled_from(["GTT", "GTT", "IOC", "POST_ONLY"]),
        "reduce_only": st.sampled_from([False, False, True]),
        "good_til_block": st.integers(1, 6),  # from the block at hand
    }
)
STATEFULS = st.fixed_dictionaries(
    {
        "side": st.sampled_from(["BUY", "SELL"]),
        "quantums": st.integers(1, 12),
        "subticks": st.integers(5, 12),
        "time_in_force": st.sampled_from(["GTT", "IOC", "POST_ONLY"]),
        "reduce_only": st.booleans(),
        "good_til_block_time": st.integers(1, 12),
        "condition_type": st.sampled_from(["", "STOP_LOSS", "TAKE_PROFIT"]),
        "trigger_subticks": st.integers(5, 12),
    }
)
DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("place"), KEYS, SHORT_TERMS),
        st.tuples(st.just("place"), KEYS, SHORT_TERMS),
        st.tuples(st.just("submit"), KEYS, STATEFULS),
        st.tuples(st.just("cancel"), KEYS, st.integers(1, 8)),
        st.tuples(st.just("cancel_stateful"), KEYS, st.sampled_from([CONDITIONAL, LONG_TERM])),
        st.tuples(st.just("end_block"), st.none(), st.integers(5, 12)),
    ),
    min_size=12,
    max_size=40,
)


FAILURES: list[tuple[UpdateResult, UpdateResult]] = [
    CLEAN,
    ("NewlyUndercollateralized", "Success"),
    ("Success", "StillUndercollateralized"),
    ("UpdateCausedError", "UpdateCausedError"),
]


class Choosy(Positions):
    """Accounts that fail collateral checks by turns: for the maker, the taker or both."""

    def __init__(self, failures: list[int], positions: dict[Subaccount, int]):
        super().__init__(positions)
        self.failures = failures
        self.checks = 0

    def check(self, match: Match) -> tuple[UpdateResult, UpdateResult]:
        self.checks += 1
        return FAILURES[self.failures[self.checks % len(self.failures)]]


@dataclass
class Exchange:
    """One market: a book, what waits for it, and everything that was ever sent or matched."""

    accounts: Positions
    height: int = 100
    sent: list[Order] = field(default_factory=list)
    bought: Counter[Subaccount] = field(default_factory=Counter)
    volume: Counter[str] = field(default_factory=Counter)
    filled: Counter[Key] = field(default_factory=Counter)
    until: dict[Key, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.book = OrderBook(BTC, self.accounts)
        self.desk = Desk(self.book)

    def do(self, deed: tuple[str, Any, Any]) -> None:
        """Let one thing happen."""
        name, key, terms = deed
        getattr(self, name)(key, terms)

    def place(self, key: Any, terms: Any) -> None:
        """Send a short-term order."""
        until = self.height + terms["good_til_block"]
        self._place(self._order(key, terms | {"good_til_block": until}, SHORT_TERM))

    def submit(self, key: Any, terms: Any) -> None:
        """Send an order that enters when the block ends."""
        flags = CONDITIONAL if terms["condition_type"] else LONG_TERM
        until = self.height + terms["good_til_block_time"]
        order = self._order(key, terms | {"good_til_block_time": until}, flags)
        self.desk.waiting, _ = self.desk.waiting.submit(order, self.book.orders)

    def cancel(self, key: Any, until: int) -> None:
        """Cancel a short-term order; its id is closed to what would not outlive the cancel."""
        long_key: Key = (*key, SHORT_TERM)
        self.book.cancel(long_key, self.height + until)
        standing = self.book.orders.get(long_key)
        assert standing is None or standing.good_til_block > self.height + until
        again = self._order(key, {"good_til_block": self.height + until}, SHORT_TERM)
        assert "ErrOrderIsCanceled" == self.book.place(again).error

    def cancel_stateful(self, key: Any, flags: int) -> None:
        """Cancel a stateful order, wherever it is."""
        cancel = CancelRequest(
            ticker="", clob_pair_id=0, client_id=key[1], order_flags=flags,
            good_til_block_time=self.height + 99,
        )  # fmt: skip
        gone, error = self.desk.withdraw(key[0], cancel)
        assert ("" if gone else "ErrStatefulOrderDoesNotExist") == error

    def end_block(self, _: None, oracle: int) -> None:
        """End the block: what waited enters, what has ended goes."""
        self.height += 1
        gone = self.book.expire(self.height, self.height)
        assert all(order.key not in self.book.orders for order in gone)
        for key in [key for key, until in self.until.items() if until <= self.height]:
            del self.until[key], self.filled[key]
        for order in self.desk.end_block(Fraction(oracle), self.height, 50_000).entering:
            self._place(order)

    def _order(self, key: Any, terms: Any, flags: int) -> Order:
        fields = {"side": "BUY", "quantums": 5, "subticks": 8} | terms
        order = Order(
            subaccount=key[0], client_id=key[1], clob_pair_id=0, order_flags=flags, **fields
        )
        self.sent.append(order)
        return order

    def _place(self, order: Order) -> None:
        before = dict(self.accounts.positions)
        if order.order_flags != SHORT_TERM:  # only short-term ids come back with their fills
            self.filled[order.key] = 0
        result = self.book.place(order)
        self._check_result(order, result)
        self._check_reduce_only(result, before)

    def _check_result(self, order: Order, result: Placement) -> None:
        assert code_of(result.error) >= 0
        assert not (result.error and result.fills)
        for match in result.fills:
            maker, taker = match.maker, match.taker
            assert match.quantums > 0
            assert match.subticks == maker.subticks
            assert maker.subaccount != taker.subaccount == order.subaccount
            assert (match.subticks - taker.subticks) * taker.sign <= 0
            self.desk.see(match.subticks)
            self.filled[maker.key] += match.quantums
            self.filled[taker.key] += match.quantums
            self.bought[maker.subaccount] += maker.sign * match.quantums
            self.bought[taker.subaccount] += taker.sign * match.quantums
            self.volume[maker.side] += match.quantums
            self.volume[taker.side] += match.quantums
        taken = result.error in ("", "ErrPostOnlyWouldCrossMakerOrder")
        if taken and order.order_flags == SHORT_TERM:
            self.until[order.key] = order.good_til_block
        assert not taken or order.filled == self.filled[order.key]
        standing = self.book.orders.get(order.key)
        assert order.time_in_force != "IOC" or standing is not order
        assert order.time_in_force != "POST_ONLY" or not result.fills

    def _check_reduce_only(self, result: Placement, before: dict[Subaccount, int]) -> None:
        """A reduce-only order never opens, adds to or turns a position, as maker or as taker."""
        positions = Counter(before)
        for match in result.fills:
            for order in (match.maker, match.taker):
                old = positions[order.subaccount]
                new = positions[order.subaccount] = old + order.sign * match.quantums
                assert not order.reduce_only or (abs(new) < abs(old) and old * new >= 0)
        for order in self.book.orders.values():
            if order.reduce_only:
                assert order.sign * self.accounts.position(order.subaccount) < 0

    def check(self) -> None:
        """Hold the book to what must always be true of it."""
        bid, ask = self.book.best_bid, self.book.best_ask
        assert bid is None or ask is None or bid < ask
        assert all(0 <= order.filled <= order.quantums for order in self.sent)
        resting = self.book.orders
        assert all(order.remaining > 0 for order in resting.values())
        assert all(order.filled == self.filled[key] for key, order in resting.items())
        assert all(key == order.key for key, order in resting.items())
        ends = [(o.good_til_block or self.height + 1) for o in resting.values()]
        assert all(end > self.height for end in ends)
        for side in ("BUY", "SELL"):
            levels = self.book.levels(side)
            of_side = [order for order in resting.values() if order.side == side]
            prices = [at for at, _ in levels]
            assert prices == sorted(set(prices), reverse=side == "BUY")
            assert sum(order.remaining for order in of_side) == sum(size for _, size in levels)
        keys = [order.key for order in self.desk.waiting.placed + self.desk.waiting.untriggered]
        assert len(keys) == len(set(keys))
        assert not set(keys) & resting.keys()


@given(
    deeds=DEEDS,
    failures=st.lists(st.sampled_from([0, 0, 0, 0, 1, 2, 3]), min_size=1, max_size=6),
    positions=st.fixed_dictionaries({who: st.integers(-15, 15) for who in WHO}),
)
def test_random_order_flow_never_breaks_the_book(
    deeds: list[tuple[str, Any, Any]], failures: list[int], positions: dict[Subaccount, int]
) -> None:
    """No crossed book, no negative size, no fill above a size, no reduce-only order that adds.

    Placed, cancelled, replaced, expired, reduced, post-only, immediate and self-trading, with
    collateral failing in between; what one side buys the other sells, to the quantum.
    """
    exchange = Exchange(Choosy(failures, dict(positions)))

    for deed in deeds:
        exchange.do(deed)
        exchange.check()

    assert exchange.volume["BUY"] == exchange.volume["SELL"]
    for who in WHO:
        assert positions[who] + exchange.bought[who] == exchange.accounts.position(who)
    assert sum(positions.values()) == sum(exchange.accounts.positions.values())


@pytest.mark.parametrize("seed", range(12))
def test_a_long_random_flow_never_breaks_the_book(seed: int) -> None:
    """The same, for as long as a market lives: 600 deeds, of which hundreds fill."""
    rng = random.Random(seed)
    start = {who: rng.randint(-15, 15) for who in WHO}
    exchange = Exchange(Choosy(rng.choices([0, 1, 2, 3], [20, 1, 1, 1], k=50), dict(start)))

    for _ in range(600):
        exchange.do(drawn(rng))
        exchange.check()

    assert exchange.volume["BUY"] == exchange.volume["SELL"] > 200
    assert sum(start.values()) == sum(exchange.accounts.positions.values())


def drawn(rng: random.Random) -> tuple[str, Any, Any]:
    """Draw one deed, placements above all."""
    key = (rng.choice(WHO), rng.randint(0, 8))
    terms = {
        "side": rng.choice(["BUY", "SELL"]),
        "quantums": rng.randint(1, 12),
        "subticks": rng.randint(5, 12),
        "time_in_force": rng.choice(["GTT", "GTT", "IOC", "POST_ONLY"]),
        "reduce_only": rng.random() < 0.2,
    }
    condition = {
        "condition_type": rng.choice(["", "STOP_LOSS", "TAKE_PROFIT"]),
        "trigger_subticks": rng.randint(5, 12),
    }
    deeds: list[tuple[str, Any, Any]] = [
        ("place", key, terms | {"good_til_block": rng.randint(1, 6)}),
        ("submit", key, terms | condition | {"good_til_block_time": rng.randint(1, 12)}),
        ("cancel", key, rng.randint(1, 3)),
        ("cancel_stateful", key, rng.choice([CONDITIONAL, LONG_TERM])),
        ("end_block", None, rng.randint(5, 12)),
    ]
    return rng.choices(deeds, [10, 3, 1, 1, 2])[0]


@given(deeds=DEEDS)
def test_the_same_flow_gives_the_same_book(deeds: list[tuple[str, Any, Any]]) -> None:
    """Nothing here depends on anything but what was sent."""
    exchanges = [Exchange(Positions()), Exchange(Positions())]

    for exchange in exchanges:
        for deed in deeds:
            exchange.do(deed)

    first, second = exchanges
    assert first.sent == second.sent
    assert list(first.book.orders) == list(second.book.orders)
    assert first.desk.waiting == second.desk.waiting


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_changed_levels_are_what_the_levels_became(side: str) -> None:
    """Following the changes alone gives the same book as looking at it."""
    book, followed = OrderBook(BTC, track_changes=True), dict[tuple[str, int], int]()
    for n in range(20):
        book.place(
            Order(subaccount=WHO[n % 3], client_id=n, clob_pair_id=0, quantums=3 + n % 5,
                  side=side if n % 4 else "BUY", subticks=8 + n * 7 % 5)  # type: ignore[arg-type]
        )  # fmt: skip
        followed |= {(which, at): size for which, at, size in book.take_changes()}

    assert {(which, at): size for which in ("BUY", "SELL") for at, size in book.levels(which)} == {
        level: size for level, size in followed.items() if size
    }

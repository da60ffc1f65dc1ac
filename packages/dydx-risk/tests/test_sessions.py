"""Sessions of the real software, replayed through all layers below: what it did is right."""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any

import msgspec
import pytest
from dydx_conn import (
    Accounts,
    Frame,
    OrderRequest,
    Subaccount,
    objection,
)
from dydx_data import DataState, MarketView, objections, step
from dydx_risk import (
    Approved,
    Denied,
    Judgement,
    MarginFigures,
    Policy,
    Reduce,
    Risk,
    Standing,
    plan,
    position_margin,
    total_margin,
)
from sessions import REAL

SESSIONS = {str(session): session for session in REAL}


class Played:
    """A session and an account of it, as risk sees them frame by frame."""

    def __init__(self, name: str, account: str = "", policy: Policy | None = None) -> None:
        self.truth, self.frames = SESSIONS[name].truth, [*SESSIONS[name].frames]
        self.account = account or min(self.truth["state"])
        owner, number = self.account.split("/")
        subaccount = Subaccount(owner, int(number))
        self.state, self.accounts = DataState(), Accounts([subaccount])
        self.risk = Risk(policy, subaccount)
        self.judged: list[Judgement] = []

    def play(self) -> Iterator[Frame]:
        """Take frames in one by one; each is yielded when risk has seen all of it."""
        for frame in self.frames:
            for view in step(self.state, frame):
                self.judged += self.risk.step(view)
            for update in self.accounts.step(frame):
                self.judged += self.risk.step(update)
            yield frame

    def after_blocks(self) -> list[dict[str, Any]]:
        """Return the chain's account after each block in which it changed."""
        blocks = self.truth["after_block"].values()
        return [block[self.account] for block in blocks if self.account in block]

    def until(self, ticker: str, best_bid: str) -> Frame:
        """Play until a market has this best bid, and return the frame that brought it."""
        for frame in self.play():
            bid = self.state.views[ticker].book.best_bid if ticker in self.state.views else None
            if bid is not None and bid.price_text == best_bid and not self.risk.account.trouble:
                return frame
        raise AssertionError(f"expected a best bid of {best_bid} in {ticker}, got none")


class Seen:
    """A session played once with the default policy: all that it was, at any of its frames."""

    def __init__(self, name: str, account: str) -> None:
        self.session = session = Played(name, account)
        self.margins: set[tuple[int, ...]] = set()
        self.held: set[tuple[int, tuple[tuple[str, int], ...]]] = set()
        self.positions: set[tuple[str, int | None, int | None, int | None]] = set()
        self.alarms: set[str] = set()
        self.objections: set[str] = set()  # until a link is lost
        lost, risk = False, session.risk
        for frame in session.play():
            margin, valued = risk.margin, risk.valued
            known = margin.net_collateral, margin.initial_margin, margin.maintenance_margin
            self.margins.add(known)
            held = {ticker: exposure.quantums for ticker, exposure in valued.held.items()}
            self.held.add((risk.account.collateral, tuple(sorted(held.items()))))
            self.alarms.add(risk.alarm)
            for row in risk.positions():
                of_it = row.net_notional, row.initial_margin, row.maintenance_margin
                self.positions.add((row.ticker, *of_it))
            lost = lost or frame.kind in ("close", "gap") or frame.is_refusal
            for view in () if lost else session.state.views.values():
                self.objections |= {one.kind for one in objections(view, session.state.at)}


seen_in = cache(Seen)


# === Margin ===

ACCOUNTS = sorted((str(session), account) for session in REAL for account in session.truth["state"])
each_account = pytest.mark.parametrize(("name", "account"), ACCOUNTS)


@each_account
def test_the_margin_is_the_chains_after_each_block_that_changed_the_account(
    name: str, account: str
) -> None:
    """Net collateral, initial and maintenance margin, to the quantum."""
    seen = seen_in(name, account)

    names = "net_collateral", "initial_margin", "maintenance_margin"
    right = {tuple(after[name] for name in names) for after in seen.session.after_blocks()}
    assert right
    assert right <= seen.margins


@each_account
def test_no_frame_of_a_session_is_stale_while_its_links_live(name: str, account: str) -> None:
    """Oracle prices stand for minutes, books for longer: the gate denies nothing for that."""
    assert "STALE" not in seen_in(name, account).objections


LIMITED = Policy(max_daily_loss_usdc=80, max_orders_per_minute=1)


@cache
def standings(name: str, account: str) -> tuple[list[tuple[MarginFigures, Standing]], int]:
    """Return margin and gate after each frame of a session as it was, and the time at its end."""
    session = Played(name, account, LIMITED)
    found = [(session.risk.margin, session.risk.standing) for _ in session.play()]
    return found, session.risk._elapsed.now


@pytest.mark.parametrize("jump_s", [3_600, -3_600])
@each_account
def test_a_clock_that_is_set_changes_no_margin_and_no_gate(
    name: str, account: str, jump_s: int
) -> None:
    """An hour ahead or back for a third of the session: nothing waits for it to catch up."""
    right, now = standings(name, account)
    other = Played(name, account, LIMITED)
    begin, end = len(other.frames) // 3, 2 * len(other.frames) // 3
    other.frames[begin:end] = [
        msgspec.structs.replace(frame, at=frame.at + jump_s * 10**9)
        for frame in other.frames[begin:end]
    ]

    for _, expected in zip(other.play(), right, strict=True):
        assert (other.risk.margin, other.risk.standing) == expected
    assert abs(other.risk._elapsed.now - now) < 10**7


# === Stops ===


@each_account
def test_no_transfer_and_no_fill_trips_a_stop(name: str, account: str) -> None:
    """A balance is reported before its cause: only what prices and fees took may count.

    None of these accounts lost as much as it moved, but for those that were liquidated.
    """
    policy = Policy(max_drawdown=0.08, max_daily_loss_usdc=80)
    session = Played(name, account, policy)
    tripped = set()
    for _ in session.play():
        tripped |= {reason for reason, _ in session.risk.standing.reasons}

    lost = -Fraction(session.truth["state"][account]["profit"]["realised"])
    assert bool(tripped & {"DRAWDOWN", "DAILY_LOSS"}) == (lost > 80), (tripped, lost)


WITHDRAWN = "12-withdraw-while-short"


def test_what_nobody_explains_counts_in_the_end() -> None:
    """A withdrawal that is never reported is a loss once its block is over: the reason says so."""
    session = Played(WITHDRAWN, policy=Policy(max_daily_loss_usdc=100))
    session.frames = [f for f in session.frames if '"WITHDRAWAL"' not in f.text]
    seen: list[tuple[int, Any]] = []
    for _ in session.play():
        reasons = session.risk.standing.reasons
        if not session.risk.account.trouble and (not seen or seen[-1][1] != reasons):
            seen.append((session.state.chain.height, reasons))

    (_, calm), (height, reasons) = seen[:2]
    assert calm == ()
    # It is of block 10171, and a report of 10173 shows that all of it has come.
    assert height == 10_172
    assert [reason for reason, _ in reasons] == ["DAILY_LOSS"]
    assert "; most of it is funding, or left without a reported cause: " in reasons[0][1]


@each_account
def test_what_is_held_is_what_the_chain_holds_after_each_block(name: str, account: str) -> None:
    """USDC and every position, together as they were after one block."""
    seen = seen_in(name, account)

    right = {
        (after["usdc_quantums"], tuple(sorted(after["positions"].items())))
        for after in seen.session.after_blocks()
    }
    assert right <= seen.held


@each_account
def test_each_position_is_worth_and_requires_what_the_chain_says(name: str, account: str) -> None:
    """Value, initial and maintenance margin of every position at the block that is compared."""
    seen = seen_in(name, account)

    right = {
        (position["ticker"], position["value"], position["imr"], position["mmr"])
        for position in seen.session.truth["state"][account]["positions"]
    }
    assert right <= seen.positions


@each_account
def test_the_margin_of_a_session_is_that_of_what_is_held_valued_from_nothing(
    name: str, account: str
) -> None:
    """Updated a price and a fill at a time, it never drifts; the plan is that of a new plan, too."""
    session, compared = Played(name, account), 0
    session.risk.guard = False  # what it sends would wait for answers
    for frame in session.play():
        risk, views = session.risk, session.state.views
        if frame.seq % 5 or not risk.margin.known or not risk.account.positions:
            continue
        compared += 1
        held = {ticker: exposure.quantums for ticker, exposure in risk.valued.held.items()}
        terms = []
        for ticker, quantums in held.items():
            view = views[ticker]
            assert view.market is not None
            assert view.oracle is not None
            price = view.oracle.digits, view.oracle.exponent
            terms.append(position_margin(view.market, quantums, *price, view.open_interest))
        margin = total_margin(risk.account.settled, terms)
        assert risk.margin == margin
        drawn = risk.flight_plan
        fresh = plan(margin, held, views, risk.policy.flight, step=drawn.step)
        if drawn.distance_next == fresh.distance_next:  # but for a fall that is counted on
            assert (drawn.rungs, drawn.left) == (fresh.rungs, fresh.left)

    assert compared or not session.after_blocks()[-1]["positions"]


# === Orders ===


@each_account
def test_whatever_is_approved_in_a_session_the_chain_would_take(
    make_decision: Any, name: str, account: str
) -> None:
    """In every market, either side and out of it: valid, bounded, and no more than was decided."""
    session, judged = Played(name, account, Policy(max_leverage=50)), 0
    for frame in session.play():
        risk = session.risk
        if frame.seq % 20:
            continue
        for ticker, view in session.state.views.items():
            for usdc in (-400, 0, 400):
                held = risk.valued.size(ticker)
                [verdict] = risk.step(make_decision(ticker, usdc, frame.seq, frame.at))
                risk.account.orders.reserved.clear()
                judged += 1
                if not isinstance(verdict, Approved):
                    assert verdict.why
                    continue
                order = verdict.order
                assert refusal(order, view) == ""
                assert order.reduce_only == (order.signed_quantums * held < 0)
                assert is_bound(order, view)
                if order.reduce_only:
                    assert abs(held + order.signed_quantums) < abs(held)

    assert judged


def refusal(order: OrderRequest, view: MarketView) -> str:
    """Return what the chain would refuse an order for."""
    assert view.market is not None
    return objection(order, view.market, status=view.status, height=view.chain.height)


def is_bound(order: OrderRequest, view: MarketView) -> bool:
    """Return whether an order trades at most 2 % worse than the oracle price."""
    assert view.market is not None
    assert view.oracle is not None
    price, oracle = view.market.price(order.subticks), Decimal(view.oracle.text)
    if order.side == "BUY":
        return price <= oracle * Decimal("1.02")
    return price >= oracle * Decimal("0.98")


@each_account
def test_a_guard_that_acts_early_reduces_what_is_held_and_no_more(name: str, account: str) -> None:
    """At half the way to liquidation, in every session: valid, reduce-only, of what is held."""
    policy = Policy(act_below=0.95, restore_to=0.97, keep_above=0.98)
    session, reduced = Played(name, account, policy), 0
    for _ in session.play():
        for verdict in session.judged:
            if not isinstance(verdict, Reduce):
                continue
            order, reduced = verdict.order, reduced + 1
            held = session.risk.valued.size(order.ticker)
            assert refusal(order, session.state.views[order.ticker]) == ""
            assert order.reduce_only
            assert order.signed_quantums * held < 0
            assert order.quantums <= abs(held)
            assert 0 <= verdict.offered <= order.quantums
            assert verdict.worst_loss >= 0
        session.judged.clear()

    near = any(
        after["positions"] and 20 * after["maintenance_margin"] > after["net_collateral"]
        for after in session.after_blocks()
    )
    assert reduced or not near


@each_account
def test_what_the_chain_liquidates_was_liquidatable_and_nothing_else(
    name: str, account: str
) -> None:
    """The alarm goes off before the chain takes a position, and in no other account."""
    seen = seen_in(name, account)

    taken = {"LIQUIDATED", "DELEVERAGED"}
    fills = seen.session.truth["state"][account]["fills"]
    assert ("liquidatable" in seen.alarms) == any(fill["type"] in taken for fill in fills)


# === Prices ===

HOLLOW = "19-makers-gone"  # the best bid 7.8 % below the oracle, the best ask 9.2 % above it


@pytest.mark.parametrize(
    ("usdc", "why"),
    [
        (
            500,
            "the best bid 2.292 is 7.8 % below the oracle price 2.486246266, limit 2 %; a target "
            "of 0 at urgency 1 is not bound",
        ),
        (
            2_000,
            "the best ask 2.716 is 9.2 % above the oracle price 2.486246266, limit 2 %",
        ),
    ],
)
def test_with_the_makers_gone_nothing_is_opened_and_nothing_sold_off(
    make_decision: Any, usdc: int, why: str
) -> None:
    """The touch is all that is left of the book: what it asks for is no price."""
    session = Played(HOLLOW)
    frame = session.until("LINK-USD", "2.292")

    [verdict] = session.risk.step(make_decision("LINK-USD", usdc, frame.seq, frame.at))

    assert isinstance(verdict, Denied)
    assert (verdict.reason, verdict.why) == ("OFF_ORACLE", why)


def test_with_the_makers_gone_a_new_short_is_denied(make_decision: Any) -> None:
    """It would have lost 121.80 USDC of 1,500 at once."""
    session = Played(HOLLOW, policy=Policy(max_leverage=50))
    frame = session.until("LINK-USD", "2.292")
    session.risk.account.positions.clear()
    session.risk.valued.load()

    [verdict] = session.risk.step(make_decision("LINK-USD", -1_500, frame.seq, frame.at))

    assert isinstance(verdict, Denied)
    assert verdict.reason == "OFF_ORACLE"
    assert dict(verdict.figures) == {
        "bid": "2.292", "oracle": "2.486246266", "limit_bps": "200",
    }  # fmt: skip


def test_an_urgent_exit_follows_the_touch(make_decision: Any) -> None:
    """Who must be out at any price says so; of less than all it is no question."""
    session = Played(HOLLOW)
    frame = session.until("LINK-USD", "2.292")
    part, whole = (
        make_decision("LINK-USD", usdc, frame.seq, frame.at, urgency=1.0) for usdc in (500, 0)
    )

    [denied], [verdict] = session.risk.step(part), session.risk.step(whole)

    assert isinstance(denied, Denied)
    assert isinstance(verdict, Approved)
    assert verdict.order.reduce_only
    market = session.state.views["LINK-USD"].market
    assert market is not None
    # One per cent below the touch, as any exit.
    assert float(market.price(verdict.order.subticks)) == 2.27


def test_while_the_makers_are_there_the_bound_is_the_oracles(make_decision: Any) -> None:
    """The worst price is a little beyond the touch, or the bound: whichever is better."""
    worst = {}
    for bps in (200, 45):
        session = Played(HOLLOW, policy=Policy(max_oracle_bps=bps))
        frame = session.until("LINK-USD", "2.489")
        [verdict] = session.risk.step(make_decision("LINK-USD", 2_000, frame.seq, frame.at))
        assert isinstance(verdict, Approved)
        market = session.state.views["LINK-USD"].market
        assert market is not None
        worst[bps] = float(market.price(verdict.order.subticks))

    # 30 bps beyond the ask of 2.495, or 45 beyond the oracle price of 2.486246266.
    assert worst == {200: 2.502, 45: 2.497}


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (
            0.085,
            "sell 286 LINK-USD (of 400) at >= 2.189: distance 8.4 % < 9.0 %; restores 22.2 %, "
            "costs 60.96 USDC (spread 60.63, impact 0.00, fee 0.33), at that bound 85.34; ",
        ),
        (
            0.02,
            "guard: distance 1.9 % < 6.0 %, but no reduction would relieve it (LINK-USD stays: "
            "leaving costs 84.95 USDC and relieves 49.72 of maintenance margin)",
        ),
    ],
)
def test_with_the_makers_gone_the_guard_takes_what_relieves_and_no_worse(
    distance: float, words: str
) -> None:
    """At 5.5 % a bid 7.8 % below the oracle is worth it; at 2 % it brings liquidation nearer."""
    session = Played(HOLLOW)
    session.until("LINK-USD", "2.292")
    risk, before = session.risk, session.risk.margin
    owed = before.cushion - int(distance * before.sensitivity)
    risk.account.collateral -= owed
    risk.valued.load()

    judged = risk.step(session.state.views["LINK-USD"])

    [verdict] = [one for one in judged if isinstance(one, Reduce | Denied)]
    assert verdict.why.startswith(words)

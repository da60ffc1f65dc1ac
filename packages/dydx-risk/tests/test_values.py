"""The gate and the guard as functions of values: no stream, no state, no frame."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from dydx_conn import BookContents, MarketFields, Subaccount, market_parameters
from dydx_data import Chain, MarketView, Oracle
from dydx_risk import (
    Account,
    Approved,
    Course,
    Danger,
    Denied,
    FlightPolicy,
    MarginFigures,
    Policy,
    Position,
    Reduce,
    Returns,
    Situation,
    Valuation,
    defend,
    plan,
    position_margin,
    review,
    sign_text,
    standing,
    total_margin,
    worsened,
)

ETH = market_parameters("ETH-USD")
ONE = 10**9


def seen(height: int = 100) -> MarketView:
    """See ETH at 3,000 with a book of 20 a side."""
    view = MarketView("ETH-USD", Chain(), {}, MarketFields(), market=ETH, status="ACTIVE")
    view.chain.height, view.oracle = height, Oracle(3000.0, 3_000, 0, 0, 0, "3000")
    view.book.known = True
    view.book.update([BookContents(bids=[("2999.9", "20")], asks=[("3000.1", "20")])])
    return view


def valued(usdc: int, size: str = "0", view: MarketView | None = None) -> Valuation:
    """Value an account of whole USDC that holds so much ETH."""
    account = Account(Subaccount("dydx1abc", 0))
    account.collateral, account.trouble = usdc * 10**6, ""
    if Decimal(size):
        position = Position(ticker="ETH-USD", size=Decimal(size), entry_price=Decimal(3_000))
        account.positions["ETH-USD"] = position
    valuation = Valuation(account)
    valuation.views["ETH-USD"] = view or seen()
    valuation.load()
    return valuation


def situation(valuation: Valuation, **fields: Any) -> Situation:
    """Stand at a moment with nothing against the gate."""
    now = Situation(
        policy=Policy(), valued=valuation, course=Course(), returns=Returns(), now=0,
        number=7, client_id=42,
    )  # fmt: skip
    return msgspec.structs.replace(now, **fields)


# === Gate ===


def test_a_review_numbers_its_verdict_and_its_order_as_it_was_given(make_decision: Any) -> None:
    """It counts nothing itself, and sends nothing: the same question has the same answer."""
    now = situation(valued(10_000))
    first, again = (review(make_decision("ETH-USD", 3_000), now) for _ in range(2))

    assert isinstance(first, Approved)
    assert (first.id, first.order.client_id, first.order.good_til_block) == ("V7", 42, 105)
    assert first == again
    assert now.valued.account.orders.reserved == {}


def test_a_review_of_what_shrinks_meets_no_limit(make_decision: Any) -> None:
    """Not even of a course that has lost all it may."""
    course = Course()
    course.lost = 10**9
    policy = Policy(max_daily_loss_usdc=1)
    now = situation(valued(10_000, "2"), course=course, policy=policy)
    less, more = (review(make_decision("ETH-USD", usdc), now) for usdc in (3_000, 9_000))

    assert isinstance(less, Approved)
    assert (less.order.side, less.order.quantums, less.order.reduce_only) == ("SELL", ONE, True)
    assert isinstance(more, Denied)
    assert more.reason == "DAILY_LOSS"


@pytest.mark.parametrize(
    ("limits", "opened", "share"),
    [
        ({}, 10**10, None),
        ({"max_daily_loss": 0.05}, 10**10, 0.05),
        ({"max_daily_loss_usdc": 200}, 10**10, 0.02),
        ({"max_daily_loss": 0.05, "max_daily_loss_usdc": 200}, 10**10, 0.02),
        ({"max_daily_loss": 0.05, "max_daily_loss_usdc": 200}, 10**9, 0.05),
        ({"max_daily_loss": 0.05, "max_daily_loss_usdc": 200}, 0, 0.05),
    ],
)
def test_what_a_day_may_lose_is_a_share_of_what_it_opened_with(
    limits: dict[str, Any], opened: int, share: float | None
) -> None:
    """The tighter of two limits; none without either."""
    assert Policy(**limits).day_share(opened) == share


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": "PAUSED"}, "STATUS"),
        ({"oracle": None}, "UNKNOWN_ORACLE"),
        ({"height": 0}, "UNKNOWN_HEIGHT"),
        ({"live_at": -31 * 10**9}, "STALE"),
    ],
)
def test_one_objection_to_a_market_denies_new_risk(
    make_decision: Any, fields: dict[str, Any], reason: str
) -> None:
    """Each alone is enough."""
    view = seen(fields.pop("height", 100))
    for name, value in fields.items():
        setattr(view, name, value)
    verdict = review(make_decision("ETH-USD", 3_000), situation(valued(10_000, view=view)))

    assert isinstance(verdict, Denied)
    assert verdict.reason == reason


@pytest.mark.parametrize(
    ("moves", "fall"),
    [
        ([(100, 0), (100, 0)], (0, 0.0)),
        ([(100, 0), (120, 0), (90, 0), (110, 0), (100, 0)], (30, 0.25)),
        # What is paid in or out is no profit and no loss.
        ([(100, 0), (300, 200), (270, 200)], (30, 0.1)),
        ([(100, 0), (50, -50), (25, -50)], (25, 0.5)),
        # More is lost than was there.
        ([(100, 0), (-20, 0)], (120, 1.2)),
    ],
)
def test_the_deepest_fall_is_from_a_peak_to_what_came_after_it(
    moves: list[tuple[int, int]], fall: tuple[int, float]
) -> None:
    """As money, and as a share of the equity that there was at the peak."""
    course = Course()
    for equity, paid_in in moves:
        course.move(equity, paid_in, 0, Policy())

    assert (course.falls.deepest, course.falls.share) == fall


def test_a_fall_goes_on_where_a_course_begins_again() -> None:
    """A person resumes: the limits are measured from there on, the run's figures are not."""
    first = Course()
    for equity in (100, 80):
        first.move(equity, 0, 0, Policy())
    second = Course(first.falls)
    for equity in (80, 70, 95):
        second.move(equity, 0, 0, Policy())

    assert (second.falls.deepest, second.falls.depth, second.peak) == (30, 5, 95)


def test_the_falls_by_another_equity_are_a_copy() -> None:
    """For whoever looks while a balance waits for its cause: nothing is taken in."""
    course, account = Course(), valued(60).account
    for equity in (100, 90):
        course.move(equity * 10**6, 0, 0, Policy())
    account.unexplained = -30 * 10**6
    seen = course.falls_by(valued(60).margin, account)

    assert (seen.depth, seen.today, seen.deepest) == (40 * 10**6, -40 * 10**6, 40 * 10**6)
    assert (course.falls.depth, course.falls.deepest) == (10 * 10**6, 10 * 10**6)
    account.unexplained = 0
    assert course.falls_by(valued(60).margin, account) is course.falls


@pytest.mark.parametrize(
    ("moves", "today"),
    [
        ([(100, 0, 0)], (0, 0.0)),
        ([(100, 0, 0), (80, 0, 0)], (-20, -0.2)),
        # A day opens with what the last one closed with.
        ([(100, 0, 0), (125, 0, 0), (150, 0, 1)], (25, 0.2)),
        # What is paid in or out is no profit and no loss.
        ([(100, 0, 0), (330, 200, 0)], (30, 0.1)),
    ],
)
def test_what_was_won_today_is_counted_from_the_beginning_of_the_day(
    moves: list[tuple[int, int, int]], today: tuple[int, float]
) -> None:
    """As money, and as a share of the equity that there was when the day began."""
    course = Course()
    for equity, paid_in, day in moves:
        course.move(equity, paid_in, day, Policy())

    assert (course.falls.today, course.falls.today_of(moves[-1][0])) == today


def test_what_was_won_today_goes_on_where_a_course_begins_again() -> None:
    """After a resume, and after a restart on the same day."""
    first, again = Course(), Course()
    for equity in (100, 80):
        first.move(equity, 0, 3, Policy())
    resumed = Course(first.falls)
    for equity in (80, 90):
        resumed.move(equity, 0, 3, Policy())
    memory = first.memory(0, Policy())
    again.recall(memory, Policy())
    again.move(70, 0, 3, Policy())

    assert (resumed.falls.today, again.falls.today) == (-10, -30)


def test_how_deep_the_profit_is_goes_on_from_the_peak_of_an_earlier_run() -> None:
    """As the limit on it does, which is shown beside it."""
    first, again = Course(), Course()
    for equity in (100, 120, 110):
        first.move(equity, 0, 3, Policy())
    again.recall(first.memory(0, Policy()), Policy())
    again.move(105, 0, 3, Policy())

    assert (again.falls.depth, again.falls.deepest, again.falls.share) == (15, 15, 0.125)


def test_a_deposit_that_is_reported_late_is_no_peak() -> None:
    """Once it is explained the profit has not fallen."""
    course = Course()
    course.move(100, 0, 0, Policy())
    course.move(150, 0, 0, Policy())
    course.explain(50)
    course.move(150, 50, 0, Policy())

    assert (course.falls.deepest, course.falls.depth) == (0, 0)


def test_a_reason_is_shown_with_the_signs_that_people_read() -> None:
    """It is hashed as it was given."""
    why = "gate ACTIVE -> HALTED; sell 1 at >= 2; buy 1 at <= 3; a>=b"

    assert sign_text(why) == "gate ACTIVE → HALTED; sell 1 at ≥ 2; buy 1 at ≤ 3; a>=b"


def test_a_standing_names_the_gravest_first() -> None:
    """A person's word, then what is not known."""
    now = situation(valued(10_000))
    now.stops.halt("lunch")
    now.valued.account.trouble = "no account snapshot yet"

    assert standing(now).state == "HALTED"
    assert [reason for reason, _ in standing(now).reasons] == ["HALTED", "UNKNOWN_ACCOUNT"]


# === Guard ===


def endangered(usdc: float, size: int, view: MarketView, **fields: Any) -> Danger:
    """Hold so many quantums of ETH at 3,000 with so little, and the plan that follows."""
    terms = position_margin(ETH, size, 3_000, 0)
    margin, views = total_margin(round(usdc * 10**6), [terms]), {"ETH-USD": view}
    flight = plan(margin, {"ETH-USD": size}, views, FlightPolicy())
    danger = Danger(
        view=view, policy=Policy(), margin=margin, views=views, plan=flight, number=5, client_id=9
    )
    return msgspec.structs.replace(danger, **fields)


def test_what_is_due_is_fired_as_one_reduce_only_ioc_a_market() -> None:
    """Without IOC the chain refuses reduce-only; size and bound are the rungs'."""
    (reduce,) = defend(endangered(-28_000, 10 * ONE, seen(), rung=3))

    assert isinstance(reduce, Reduce)
    order = reduce.order
    assert (order.time_in_force, order.reduce_only, order.side) == ("IOC", True, "SELL")
    assert (order.client_id, order.good_til_block) == (9, 105)
    assert 0 < order.quantums <= 10 * ONE
    assert (reduce.id, reduce.rung) == ("V5", 3)
    assert reduce.after.distance is not None
    assert reduce.after.distance >= 0.10


def test_a_guard_that_cannot_fire_has_a_reason() -> None:
    """No height, nothing that relieves; and nothing at all while a reduction is waited for."""
    blind = endangered(-28_000, 10 * ONE, seen(height=0))
    dust = endangered(-1.49, ONE // 2_000, seen())
    waits = msgspec.structs.replace(dust, is_waiting=True)

    assert [answer.reason for answer in defend(blind) if isinstance(answer, Denied)] == [
        "UNKNOWN_HEIGHT"
    ]
    assert [answer.reason for answer in defend(dust) if isinstance(answer, Denied)] == [
        "BELOW_STEP"
    ]
    assert defend(waits) == []


def test_blindness_is_reported_beside_what_is_fired() -> None:
    """It takes the first number, the order the next."""
    danger = endangered(-28_000, 10 * ONE, seen(), reports_blindness=True)
    margin = msgspec.structs.replace(danger.margin, unknown=("XYZ-USD",))
    blind, reduce = defend(msgspec.structs.replace(danger, margin=margin))

    assert isinstance(blind, Denied)
    assert blind.why == "guard: blind, no oracle of XYZ-USD"
    assert (blind.id, reduce.id) == ("V5", "V6")
    assert isinstance(reduce, Reduce)
    assert reduce.after.unknown == ("XYZ-USD",)


def test_only_what_gets_worse_is_reserved() -> None:
    """Figure by figure: what a fill would make better may not come."""
    before, after = MarginFigures(100, 50, 30, 500, 400), MarginFigures(90, 40, 35, 400, 300)

    assert worsened(before, after) == MarginFigures(-10, 0, 5, 0, 0)

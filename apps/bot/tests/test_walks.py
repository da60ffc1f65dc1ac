"""What the screen is given of decisions, orders, trades and margins: the run's own, and no other."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from bot.report.why import chain
from bot.run.composition import Bot, Options
from bot.run.executed import ORDERS, Executed
from bot.run.journal import Journal
from bot.run.wire import WireVenue
from bot.screen.allocation import _held
from bot.screen.snapshot import snapshot_of
from dydx_conn import (
    AccountFill,
    AccountUpdate,
    CancelRequest,
    OrderFields,
    OrderState,
    Subaccount,
    replay,
)
from dydx_data import DataState
from dydx_panels import Snapshot
from dydx_risk import Approved, Denied, PositionFigures, Withdraw

ME = Subaccount("dydx1me", 0)


@pytest.fixture(scope="module")
def ran(crashed: Callable[..., Any]) -> Bot:
    """Return a run that went too far: it traded, and the guard closed all of it."""
    bot: Bot = crashed("reckless").bot
    return bot


@pytest.fixture(scope="module")
def holds() -> Bot:
    """Return a run that is still in its markets."""
    bot = Bot(Options.of("reckless"))
    bot.run(replay("quickstart", pace=lambda frame: frame.seq < 5_000))
    return bot


def shown(bot: Bot, panel: str) -> Snapshot:
    """Copy a run for one panel."""
    return snapshot_of(bot, mode="REPLAY", name="quickstart", speed=None, panel=panel)


def test_each_decision_has_its_composite_its_look_and_what_came_of_it(ran: Bot) -> None:
    """The scores come to the very score that was decided by, and the orders are its own."""
    rows = shown(ran, "walk").walk.rows
    walked = {row.id: row for row in rows}

    assert all(row.composite is not None and row.look is not None for row in rows)
    assert all(row.composite.value == row.decision.score for row in rows if row.composite)
    assert all(row.ranked is not None for row in rows)
    first = walked["D1"]
    assert isinstance(first.verdict, Approved)
    assert [check.passed for check in first.checks] == [True] * len(first.checks)
    assert [order.id for order in first.orders] == ["O1"]
    assert [fill.id for fill in first.orders[0].fills] == ["F3", "F4", "F5"]


def test_what_a_decision_got_is_what_its_look_says(ran: Bot) -> None:
    """A target is what the ranking left of what the score earns."""
    rows = [row for row in shown(ran, "walk").walk.rows if row.decision.action == "target"]

    assert [row.decision.target_usdc for row in rows] == [
        row.ranked.gets_usdc for row in rows if row.ranked is not None
    ]


def test_walks_are_copied_where_they_are_shown_alone(ran: Bot) -> None:
    """Nobody pays for what nobody looks at."""
    dashboard = shown(ran, "")

    assert not dashboard.walk.rows
    assert not dashboard.margins
    assert dashboard.performance.trades is None


def test_every_order_is_there_as_it_ended(ran: Bot) -> None:
    """What was partly filled names the reason, and the guard's are the guard's."""
    orders = {order.id: order for order in shown(ran, "").orders}

    assert len(orders) == len(ran.executed.orders)
    cut = orders["O12"]
    assert (cut.status, cut.by) == ("CANCELLED", "guard")
    assert cut.why == "immediate or cancel would rest on book"
    assert cut.size is not None
    assert 0 < cut.filled < cut.size
    assert shown(ran, "").orders[0] is shown(ran, "").orders[0]


def test_fills_meet_the_mid_of_their_moment(ran: Bot) -> None:
    """Whoever takes pays at least to the other side of mid, and a little later."""
    taken = [fill for fill in ran.executed.fills if fill.spread_bps is not None]

    assert len(taken) == len(ran.executed.fills) == ran.venue.figures().fills
    assert all(fill.waited_ns is not None and fill.waited_ns >= 0 for fill in taken)
    bought = next(fill for fill in taken if fill.id == "F1")
    assert bought.slippage_bps is not None
    assert bought.slippage_bps > 0


def test_what_trading_came_to_adds_up(ran: Bot) -> None:
    """Trades, costs and counts are of the same account."""
    part = shown(ran, "performance").performance
    did = ran.venue.figures()

    assert part.trades is not None
    assert part.performance is not None
    assert len(part.trades.trips) == part.performance.trades == part.won + part.lost
    net = (did.realized_pnl - did.fees_paid) / 1e6
    assert sum(trip.pnl for trip in part.trades.trips) == pytest.approx(net, abs=1e-4)
    assert sum(cost.fee for cost in part.costs) == pytest.approx(did.fees_paid / 1e6)
    assert part.trades is shown(ran, "performance").performance.trades


def test_margins_add_up_to_the_accounts(holds: Bot) -> None:
    """Each position with its inputs, in the order of the positions."""
    snapshot = shown(holds, "margin")
    margin = snapshot.safety.margin

    assert margin is not None
    assert [row.ticker for row in snapshot.margins] == [row.ticker for row in snapshot.positions]
    parts = [row.inputs.sensitivity or 0 for row in snapshot.margins if row.inputs is not None]
    assert sum(parts) == margin.sensitivity
    assert {row.ticker for row in snapshot.held} == {row.ticker for row in snapshot.positions}
    assert all((row.fees or 0) < 0 for row in snapshot.held)


def test_on_the_wire_only_what_is_counted_is_known() -> None:
    """No ledger there has each trade, and no position its own costs: unknown, and not 0."""
    real = Bot(Options(), WireVenue(ME))
    part = shown(real, "performance").performance

    assert (part.performance, part.trades, part.queue, part.complete) == (None, None, "", True)
    assert (part.won, part.lost, part.fills, part.fees) == (0, 0, 0, 0)
    assert shown(real, "margin").held == ()


def test_nobody_decides_in_a_run_without_an_opinion() -> None:
    """Its walk is empty, and its orders are whoever's."""
    bot = Bot(Options(strategy="none"))

    assert shown(bot, "walk").walk.rows == ()


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Bot:
    """Return a run of two strategies on one account."""
    file = tmp_path_factory.mktemp("several") / "mix.toml"
    file.write_text('[[strategies]]\nuse = "rank"\n[[strategies]]\nuse = "pairs"\n')
    bot = Bot(Options(strategy=str(file)))
    bot.run(replay("quickstart", pace=lambda frame: frame.seq < 2_000))
    return bot


def test_several_strategies_are_walked_through_by_their_own_limits(several: Bot) -> None:
    """What each of them ranked is found by its frame; what is netted of both has no weights."""
    rows = shown(several, "walk").walk.rows

    assert {row.strategy for row in rows} <= {"rank", "pairs", "allocator"}
    assert all((row.look is None) == (row.strategy != "rank") for row in rows)
    assert all(row.limits for row in rows if row.look is None)


def test_each_of_several_strategies_has_its_part_of_what_the_account_holds(several: Bot) -> None:
    """Their parts add up to the positions, whatever each of them was cut to."""
    part = shown(several, "strategies").strategies
    held = sum((row.net_notional or 0) / 1e6 for row in several.risk.positions())

    assert [(row.title, row.share, row.state) for row in part.rows] == [
        ("rank", 0.5, "trades"), ("pairs", 0.5, "trades"),
    ]  # fmt: skip
    assert sum(row.held or 0 for row in part.targets) == pytest.approx(held)
    assert abs(held) > 100


@pytest.mark.parametrize(("net", "held"), [(None, None), (-250_000_000, -250.0)])
def test_what_is_held_at_an_unknown_price_is_unknown(
    holds: Bot, monkeypatch: pytest.MonkeyPatch, net: int | None, held: float | None
) -> None:
    """It is not nothing; what is not held is."""
    ticker, *others = {row.ticker for row in shown(holds, "strategies").strategies.targets}
    rows = [PositionFigures(ticker=ticker, size=Decimal(-2), net_notional=net)]
    monkeypatch.setattr(holds.risk.watcher, "positions", lambda _: rows)

    targets = shown(holds, "strategies").strategies.targets

    assert {row.ticker: row.held for row in targets} == {ticker: held} | dict.fromkeys(others, 0.0)


def test_before_the_account_is_known_what_is_held_is_unknown() -> None:
    """As on the wire, until it is read."""
    bot = Bot(Options(), WireVenue(ME))

    assert bot.risk.account.trouble
    assert _held(bot, "ETH-USD") is None


def test_what_several_strategies_want_is_shown_beside_what_they_get(several: Bot) -> None:
    """Less where something cuts it, which is named; a score stands where scores are weighed."""
    rows = shown(several, "strategies").strategies.targets
    cut = next(row for row in rows if row.cuts)

    assert cut.allowed is not None
    assert cut.wants is not None
    assert 0 < abs(cut.allowed) < abs(cut.wants)
    assert {row.strategy: row.composite is not None for row in rows} == {
        "rank": True, "pairs": False,
    }  # fmt: skip


# === Why ===


def test_a_verdict_names_the_positions_and_prices_it_was_judged_by(ran: Bot) -> None:
    """With their margins, and the frames that the prices came from."""
    entry = ran.journal.find("V5")
    assert entry is not None
    lines = chain(entry, ran.journal, None, width=400)

    _, held = " ".join(line.strip() for line in lines).split("held ETH-USD ")
    assert held.startswith("long 4.381 at oracle price 3120.03524 (frame #16): ")
    assert "maintenance margin 164.03 USDC; liquidated at 855.658, 72.5 % away" in held
    assert next(line for line in lines if line.startswith("wire")).startswith(
        "wire: frames #1, #16,"
    )


def test_what_was_held_at_an_unknown_price_is_unknown() -> None:
    """Its figures are None, and no 0 stands for them."""
    row = PositionFigures(ticker="A-USD", size=Decimal(-2), unknown=("A-USD: no oracle price",))
    journal = Journal()
    journal.judged(
        Denied(id="V1", ticker="A-USD", decision=None, seq=1, at=1, reason="STALE", why="old"),
        held=[row],
    )
    entry = journal.find("V1")
    assert entry is not None

    assert "       held A-USD short 2: A-USD: no oracle price" in chain(entry, journal, None)


# === Orders of a journal ===


def update(*orders: OrderState, fills: tuple[AccountFill, ...] = ()) -> AccountUpdate:
    """Return what became of orders."""
    return AccountUpdate(seq=2, at=2, subaccount=ME, height=1, orders=orders, fills=fills)


def state(number: int, status: str = "OPEN", **fields: object) -> OrderState:
    """Return an order as it stands."""
    named = CancelRequest(ticker="A-USD", clob_pair_id=0, client_id=number, good_til_block=9)
    return OrderState(id=f"o{number}", status=status, seq=1, named=named, **fields)  # type: ignore[arg-type]


def fill(order: str = "o1", **fields: object) -> AccountFill:
    """Return a fill of an order."""
    known = {
        "id": "f", "order_id": order, "ticker": "A-USD", "side": "BUY", "size": Decimal(2),
        "price": Decimal(10), "quote": 20_000_000, "fee": 10_000, "liquidity": "TAKER",
        "type": "LIMIT", "height": 1, "created_at": "",
    }  # fmt: skip
    return AccountFill(**{**known, **fields})  # type: ignore[arg-type]


def test_an_order_has_the_average_of_its_fills() -> None:
    """Two at 10 and six at 14 are eight at 13, for both fees."""
    journal = Journal()
    executed = Executed(journal, DataState())
    journal.accounted(update(state(1), fills=(fill(), fill(size=Decimal(6), price=Decimal(14)))))

    order = executed.orders["O1"]
    assert (order.average, order.filled, order.fee) == (Decimal(13), Decimal(8), 20_000)


def test_a_fill_of_nobodys_order_meets_an_unknown_mid() -> None:
    """A liquidation has no order of ours, and a market that is not seen has no mid."""
    journal = Journal()
    executed = Executed(journal, DataState())
    journal.accounted(update(fills=(fill(order=""),)))

    [one] = executed.fills
    assert (one.order, one.mid_price, one.mid_sent, one.waited_ns) == ("", None, None, None)


def test_so_many_orders_are_remembered_those_that_are_open_the_longest() -> None:
    """What has ended makes room first."""
    journal = Journal()
    executed = Executed(journal, DataState())
    journal.accounted(update(state(0)))
    for number in range(1, ORDERS + 10):
        journal.accounted(update(state(number, "FILLED")))

    assert len(executed.orders) == ORDERS
    assert "O1" in executed.orders


def test_what_we_took_back_says_so_in_our_words() -> None:
    """The venue's reason is that it was cancelled; ours is why."""
    bot = Bot(Options())
    one = state(7, "CANCELLED", reason="ORDER_REMOVAL_REASON_USER_CANCELED")
    assert one.named is not None
    bot.journal.judged(
        Withdraw(id="V1", ticker="A-USD", cancel=one.named, seq=1, at=1, why="its patience is over")
    )
    bot.journal.accounted(update(one, state(8, "CANCELLED", reason="USER_CANCELED")))

    assert [order.why for order in shown(bot, "").orders] == [
        "user canceled", "its patience is over",
    ]  # fmt: skip


def test_an_order_of_somebody_else_is_shown_as_the_indexer_has_it() -> None:
    """Nothing of it was sent by us: no verdict, and no word for why."""
    bot = Bot(Options())
    row = OrderFields(
        id="o9", side="SELL", size="2.5", price="101.5", trigger_price="99", time_in_force="GTT",
        reduce_only=True, post_only=True, type="STOP_LIMIT",
    )  # fmt: skip
    bot.journal.accounted(update(state(9, row=row, size=Decimal("2.5"), filled=Decimal("0.5"))))

    [order] = shown(bot, "").orders
    assert (order.side, order.size, order.price, order.trigger) == ("SELL", 2.5, 101.5, 99.0)
    assert (order.kind, order.by, order.filled) == (
        "stop limit, post-only, reduce-only",
        "another",
        0.5,
    )
    assert order.age_s is not None


def test_an_order_of_which_nothing_is_known_has_no_kind() -> None:
    """A leaving one may still fill, and says so."""
    bot = Bot(Options())
    bot.journal.accounted(update(state(9, leaving=True)))

    [order] = shown(bot, "").orders
    assert (order.kind, order.side, order.size, order.price) == ("", "", None, None)
    assert order.why == "leaves the book, and may still fill"

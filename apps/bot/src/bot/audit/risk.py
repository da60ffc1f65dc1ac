"""The audit's scenarios of risk: what may enter, what always may leave, and what is never lost.

Stage ──► decisions, falls, halts ──► ENTRIES, LIQUIDATION ──► bot.audit.command
"""

from collections.abc import Iterator
from typing import Any, Final

from dydx_conn import market_parameters
from dydx_risk import (
    Holding,
    Policy,
    check_update,
    is_liquidatable,
    position_margin,
    stress_table,
    total_margin,
)

from bot.audit.scenarios import Evidence, Group, That, above, has
from bot.audit.stage import BTC, ETH, USDC, Stage, usdc

ENTRIES: Final = Group("Entry and exit")
LIQUIDATION: Final = Group("Margin and liquidation prevention")


def _reason(entry: Any) -> str:
    """Return how the gate judged: approved, or the name of its refusal."""
    return "approved" if entry.kind == "approved" else str(entry.value.reason)


# So that no other rule stands before the one that is looked at.
_LOOSE: Final[dict[str, Any]] = {"act_below": 0.005, "restore_to": 0.008}

# === Entry and exit ===


@ENTRIES.shows(
    "sized and approved",
    "a target becomes an order toward less, with margin before and after, and what it may cost",
    "risk/risk::a_target_becomes_an_order_toward_less",
    "risk/risk::an_approved_order_never_ends_below_initial_margin",
    "paper/gate_and_venue::what_the_gate_approves_never_breaks_the_initial_margin",
)
def _approved() -> Iterator[Evidence]:
    stage = Stage()
    entry = stage.want(ETH, 5_000.0)
    yield Evidence("5,000 USDC of ETH-USD at 2,000", "approved", entry.kind)
    stage.touch(ETH)
    yield Evidence("held", "2.5", stage.size(ETH))
    verdict = entry.value
    after, before = verdict.after, verdict.before
    freed = before.free_collateral - after.free_collateral
    yield Evidence("free collateral that it takes, in quantums of USDC", above(0), freed)
    yield Evidence("in words", has("free collateral"), entry.words)


@ENTRIES.shows(
    "limits",
    "an order is cut to what may be, and denied with figures where nothing is left of it",
    "risk/gate::limits_name_what_would_be_and_what_may",
    "risk/risk::limits_deny_with_figures",
    "risk/gate::an_order_is_cut_to_the_tightest_limit_of_notional",
)
def _limits() -> Iterator[Evidence]:
    stage = Stage(policy=Policy(max_order_usdc=3_000.0, max_positions=1))
    stage.want(ETH, 5_000.0)
    stage.touch(ETH)
    yield Evidence("5,000 wanted, 3,000 an order: held", "1.5", stage.size(ETH))
    second = stage.want(BTC, 5_000.0)
    yield Evidence("a second market where one is allowed", "denied", second.kind)
    yield Evidence("why", "positions would be 2.00, limit 1.00", second.words)
    lever = Stage(policy=Policy(max_leverage=0.01)).want(ETH, 50_000.0)
    yield Evidence("beyond the leverage", has("leverage would be"), f"{lever.kind}: {lever.words}")


@ENTRIES.shows(
    "unknown is danger",
    "on a lost book, a stale price or an unknown account nothing enters",
    "risk/risk::new_risk_needs_both_sides_of_a_known_book",
    "risk/risk::stale_figures_are_not_traded_on",
    "risk/risk::before_a_snapshot_nothing_is_known",
    "paper/venue::an_unknown_book_fills_nothing",
)
def _unknown() -> Iterator[Evidence]:
    cut = Stage()
    first = cut.bot.journal.of_kind("gate")[0]
    yield Evidence("as the account becomes known", "gate REDUCING → ACTIVE", first.words)
    cut.lose()
    cut.script.wanted[ETH] = (5_000.0, {})
    cut.oracle("2000", ETH)
    denied = cut.bot.journal.of_kind("denied")
    yield Evidence("the connection was lost", ["the book is unknown"], [e.words for e in denied])
    stale = Stage()
    stale.second += 120
    stale.script.wanted[ETH] = (5_000.0, {})
    stale.touch(ETH)
    (entry,) = stale.bot.journal.of_kind("denied")
    yield Evidence("an oracle price of two minutes ago", "STALE", _reason(entry))


@ENTRIES.shows(
    "halted",
    "after a halt nothing enters and everything may leave; it ends when somebody resumes",
    "risk/gate::a_halt_stops_entries_and_nothing_else",
    "risk/gate::a_halt_is_taken_back",
    "risk/gate::no_limit_blocks_what_shrinks",
)
def _halted() -> Iterator[Evidence]:
    stage = Stage()
    stage.want(ETH, 5_000.0)
    stage.touch(ETH)
    stage.act("halt")
    yield Evidence("gate", "HALTED", stage.bot.risk.standing.state)
    yield Evidence("5,000 more", "denied", stage.want(ETH, 10_000.0).kind)
    yield Evidence("half of it", "approved", stage.want(ETH, 2_500.0).kind)
    stage.touch(ETH)
    yield Evidence("held", "1.25", stage.size(ETH))
    stage.act("resume")
    yield Evidence("resumed: 5,000 again", "approved", stage.want(ETH, 5_000.0).kind)


@ENTRIES.shows(
    "flatten",
    "one act closes all that is held, and halts",
    "bot/trade::what_is_held_leaves_before_the_books_are_left",
    "bot/acts::flatten_halts_and_closes_each_position",
)
def _flatten() -> Iterator[Evidence]:
    stage = Stage()
    for ticker in (BTC, ETH):
        stage.want(ticker, 5_000.0)
        stage.touch(ticker)
    stage.act("flatten")
    for ticker in (BTC, ETH):
        stage.touch(ticker)
    yield Evidence("held of both markets", ("0", "0"), (stage.size(BTC), stage.size(ETH)))
    yield Evidence("gate", "HALTED", stage.bot.risk.standing.state)


@ENTRIES.shows(
    "a loss ends the day",
    "beyond the day's limit nothing enters any more until the next day",
    "risk/gate::a_days_loss_ends_the_days_risk",
    "risk/gate::a_drawdown_waits_for_a_person",
    "risk/protect::a_days_loss_closes_by_its_share_of_what_the_day_opened_with",
)
def _day() -> Iterator[Evidence]:
    stage = Stage(policy=Policy(max_daily_loss=0.02))
    stage.trade("BUY", "1", "50100")
    stage.market_at(47_000)
    yield Evidence(
        "1 BTC, 50,001 to 47,000: 3 % of 100,000 lost, 2 % allowed", False, _active(stage)
    )
    yield Evidence("an entry", "denied", stage.want(ETH, 5_000.0).kind)
    yield Evidence("an exit", "approved", stage.want(BTC, 0.0).kind)
    stage.block(86_400)
    yield Evidence("the next day: an entry", "approved", stage.want(ETH, 5_000.0).kind)


@ENTRIES.shows(
    "one order on its way",
    "no market has two orders in flight, and of two markets none counts on the other's collateral",
    "strategy/pace::while_an_order_is_in_flight_nothing_is_added",
    "risk/risk::one_order_in_flight_per_market",
    "risk/risk::two_orders_do_not_share_collateral",
    "risk/gate::whatever_of_the_orders_in_flight_fills_the_account_is_collateralised",
)
def _in_flight() -> Iterator[Evidence]:
    stage = Stage()
    for usdc_ in (5_000.0, 9_000.0):
        stage.script.wanted[BTC] = (usdc_, {})
        stage.touch()
    first, second = (entry.value for entry in stage.bot.journal.of_kind("decision"))
    yield Evidence("5,000 wanted", "target", first.action)
    yield Evidence("9,000 a moment later", "hold", second.action)
    yield Evidence("why", "an order for +5,000 USDC is in flight", second.reasons[0])
    yield Evidence("orders sent", 1, stage.bot.journal.counts["approved"])
    both = Stage(deposit=1_000, policy=Policy(max_leverage=5.0, keep_above=0.01, **_LOOSE))
    for ticker in (BTC, ETH):
        both.script.wanted[ticker] = (4_500.0, {})
        both.touch(ticker)
    kinds = [e.kind for e in both.bot.journal.entries if e.kind in ("approved", "denied")]
    yield Evidence("1,000 USDC, 5x: 4,500 of each of two markets", ["approved", "denied"], kinds)


# === Liquidation ===


@LIQUIDATION.shows(
    "margin as the chain computes it",
    "initial and maintenance margin of all positions together, to the quantum",
    "risk/margin::a_long_is_worth_its_notional_and_needs_its_fractions_of_it",
    "risk/independent_margin::worth_and_requirements_are_those_of_the_rules",
    "risk/sessions::the_margin_is_the_chains_after_each_block_that_changed_the_account",
)
def _margin() -> Iterator[Evidence]:
    stage = Stage()
    stage.trade("BUY", "1", "50100")
    stage.trade("SELL", "10", "1900", ETH)
    margin = stage.bot.risk.margin
    # 5 % and 3 % of 50,000 and of 20,000.
    yield Evidence(
        "1 BTC at 50,000, -10 ETH at 2,000: initial", "3500 USDC", usdc(margin.initial_margin)
    )
    yield Evidence("maintenance", "2100 USDC", usdc(margin.maintenance_margin))
    # 50,001 less 50,000, 2,000 less 1,999 for each of ten, and 5 bp of both.
    cost = 1 * USDC + 10 * USDC + 25_000_500 + 9_995_000
    yield Evidence("equity", usdc(100_000 * USDC - cost), usdc(margin.net_collateral))
    yield Evidence(
        "as the venue has it", usdc(margin.net_collateral), usdc(stage.money.equity or 0)
    )


@LIQUIDATION.shows(
    "liquidation price",
    "at the distance that is shown the account is in breach, and a dollar before it is not",
    "risk/independent_margin::at_its_liquidation_price_a_position_puts_the_account_in_breach",
    "risk/margin::the_liquidation_price_is_where_the_chain_begins",
    "risk/margin::liquidatable_is_less_than_maintenance_and_something_held",
)
def _price() -> Iterator[Evidence]:
    stage = Stage(deposit=5_000, guard=False)
    stage.trade("BUY", "1", "50100")
    (row,) = stage.bot.risk.positions()
    price = row.liquidation_price or 0.0
    # Equity 4,973.9995 at 50,000; p x 0.97 = 50,000 - 4,973.9995 there.
    yield Evidence("1 BTC with 5,000 USDC", "46418.557", f"{price:.3f}")
    for what, at, expected in (("a dollar above", price + 1, False), ("below", price - 1, True)):
        collateral = stage.bot.risk.account.settled
        terms = position_margin(stage.market(), 10**10, round(at * 1_000), -3)
        total = total_margin(collateral, [terms])
        breached = is_liquidatable(total.net_collateral, total.maintenance_margin)
        yield Evidence(f"{what}: liquidatable", expected, breached)


@LIQUIDATION.shows(
    "the guard in a fall",
    "the same fall liquidates an account without it, and the guarded one goes out first",
    "risk/risk::a_guarded_account_survives_the_crash_that_liquidates_an_unguarded_one",
    "risk/risk::the_guard_reduces_enough_with_its_reason",
    "risk/flight::who_follows_the_plan_is_not_liquidated",
)
def _guard() -> Iterator[Evidence]:
    guarded, alone = _fallen(guard=True), _fallen(guard=False)
    yield Evidence("10x long, a fall of 12 % in steps: liquidations", 0, guarded.money.liquidations)
    yield Evidence("without the guard", above(0), alone.money.liquidations)
    yield Evidence("orders of the guard", above(0), guarded.bot.journal.counts["reduce"])
    saved, lost = guarded.money.equity or 0, alone.money.equity or 0
    more = That("more with it", lambda _: saved > lost)
    yield Evidence("left without it, and with it", more, [usdc(lost), usdc(saved)])


@LIQUIDATION.shows(
    "what the chain takes",
    "an account in breach is closed in parts, once a block, and pays the insurance fund",
    "paper/venue::a_breach_of_maintenance_liquidates_a_part",
    "paper/venue::a_position_is_liquidated_once_a_block",
    "paper/sessions::a_liquidation_costs_what_the_chain_took_for_its_fund",
)
def _taken() -> Iterator[Evidence]:
    stage = Stage(deposit=3_000, guard=False)
    stage.trade("BUY", "1", "50100")
    stage.book([(48_400, 5)], [(48_600, 1)])
    stage.oracle(48_400)
    stage.touch()
    yield Evidence(
        "1 BTC with 3,000 USDC, oracle 48,400: fills", above(0), stage.money.liquidations
    )
    liquidated = [fill for fill in stage.fills() if "LIQUIDATED" in fill.words]
    yield Evidence("each is marked", stage.money.liquidations, len(liquidated))
    yield Evidence("quantums of USDC paid to the fund", above(0), stage.money.insurance_paid)
    yield Evidence("no taker fee of it", "25.0005 USDC", usdc(stage.money.fees_paid))


@LIQUIDATION.shows(
    "isolated markets",
    "a subaccount holds an isolated market alone or not at all",
    "risk/margin::an_isolated_market_stands_alone",
    "risk/independent_margin::an_isolated_market_is_alone_in_its_subaccount",
    "paper/venue::an_order_that_the_isolated_rule_forbids_is_removed_for_that",
)
def _isolated() -> Iterator[Evidence]:
    cross, alone = market_parameters(BTC), market_parameters("XYZ-USD", market_type="ISOLATED")
    rich = total_margin(10**12, [])
    refused = check_update(rich, rich, [cross, alone])
    yield Evidence("beside a cross market", "ViolatesIsolatedSubaccountConstraints", refused)
    yield Evidence("by itself", "Success", check_update(rich, rich, [alone]))


@LIQUIDATION.shows(
    "stress",
    "the table of shocks shows at which of them the account would be liquidated",
    "risk/stress::a_shock_shows_who_would_be_liquidated",
    "risk/stress::every_cell_is_the_margin_at_the_shocked_prices",
)
def _stress() -> Iterator[Evidence]:
    stage = Stage(deposit=10_000, guard=False)
    stage.trade("BUY", "1", "50100")
    risk, held = stage.bot.risk, Holding(
        market=stage.market(), quantums=10**10, price=50_000, exponent=0
    )  # fmt: skip
    cells = {
        cell.move_percent: cell for cell in stress_table(risk.account.settled, [held]).together()
    }
    yield Evidence("5x long: at -10 %", False, cells[-10].liquidatable)
    yield Evidence("at -20 %", True, cells[-20].liquidatable)
    yield Evidence("at +20 %", False, cells[20].liquidatable)


# === Underneath ===


def _active(stage: Stage) -> bool:
    return stage.bot.risk.standing.state == "ACTIVE"


def _fallen(*, guard: bool) -> Stage:
    """Return an account that was ten times long after a fall of 12 %, half a per cent a block."""
    stage = Stage(deposit=5_000, guard=guard)
    stage.book([(49_999, 50)], [(50_000, 50)])
    stage.trade("BUY", "1", "50100")
    for n in range(1, 25):
        stage.market_at(round(50_000 * (1 - 0.005 * n)), size=50)
    return stage

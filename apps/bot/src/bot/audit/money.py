"""The audit's scenarios of money: realized and unrealized profit over partial fills, and funding.

    Stage ──► fills, oracle prices, hours ──► PROFITS, FUNDING ──► bot.audit.command

The sums that are expected are worked out by hand beside each scenario, not by the ledger.
"""

from collections.abc import Iterator
from typing import Final

from dydx_risk import funding_index_delta, funding_payment, funding_settlement_ppm

from bot.audit.scenarios import Evidence, Group, above
from bot.audit.stage import BTC, USDC, Stage, usdc

PROFITS: Final = Group("Profit and loss")
FUNDING: Final = Group("Funding")


def _round_trip(*trades: tuple[str, str, int]) -> Stage:
    """Return a stage on which each size was traded at its price, at a book made for it."""
    stage = Stage()
    for side, size, price in trades:
        stage.book([(price, 50)], [(price, 50)] if side == "BUY" else [(price + 1, 50)])
        if side == "BUY":
            stage.book([(price - 1, 50)], [(price, 50)])
        stage.trade(side, size, f"{price + 1_000 if side == 'BUY' else price - 1_000}")
    return stage


@PROFITS.shows(
    "several entries",
    "the entry price is the average by size",
    "paper/ledger::a_reduction_leaves_the_entry_and_an_addition_averages_it",
    "paper/sessions::profit_is_what_the_fills_come_to",
)
def _average() -> Iterator[Evidence]:
    stage = _round_trip(("BUY", "1", 50_000), ("BUY", "3", 50_400))
    held = stage.venue.ledger.holdings[BTC]
    yield Evidence("1 at 50,000 and 3 at 50,400: held", "4", stage.size())
    yield Evidence("cost, 4 at 50,300", "201200 USDC", usdc(int(held.cost)))
    yield Evidence("realized", "0 USDC", usdc(stage.money.realized_pnl))


@PROFITS.shows(
    "partial exits",
    "each part realizes its own difference to the entry, and leaves the entry as it is",
    "paper/ledger::a_reduction_leaves_the_entry_and_an_addition_averages_it",
    "paper/venue::closing_realises_and_closes_the_position",
    "paper/history::fills_are_stored_by_order_with_what_they_earned",
)
def _partial() -> Iterator[Evidence]:
    stage = _round_trip(("BUY", "2", 50_000), ("SELL", "0.5", 50_200))
    yield Evidence(
        "2 at 50,000, 0.5 sold at 50,200: realized", "100 USDC", usdc(stage.money.realized_pnl)
    )
    cost = int(stage.venue.ledger.holdings[BTC].cost)
    yield Evidence("1.5 still cost 50,000 each", "75000 USDC", usdc(cost))
    stage.book([(49_900, 50)], [(49_901, 50)])
    stage.trade("SELL", "1.5", "49000")
    yield Evidence(
        "1.5 sold at 49,900: realized in all", "-50 USDC", usdc(stage.money.realized_pnl)
    )
    yield Evidence("held", "0", stage.size())
    yield Evidence("wins and losses: one position, lost after fees", (0, 1), _won(stage))


@PROFITS.shows(
    "one order, many fills",
    "what several levels gave is summed to the quantum",
    "paper/venue::a_taker_walks_the_recorded_levels",
    "paper/sessions::profit_is_what_the_fills_come_to",
)
def _levels() -> Iterator[Evidence]:
    stage = Stage()
    stage.trade("BUY", "2", "50100")
    yield Evidence("fills of 2: 1 at 50,001, 1 at 50,010", 2, len(stage.fills()))
    yield Evidence("cost", "100011 USDC", usdc(int(stage.venue.ledger.holdings[BTC].cost)))
    stage.book([("50100", "0.7"), ("50050", "5")], [("50200", 5)])
    stage.trade("SELL", "2", "49000")
    # 0.7 at 50,100 and 1.3 at 50,050 are 100,135.
    yield Evidence(
        "sold at 50,100 and 50,050: realized", "124 USDC", usdc(stage.money.realized_pnl)
    )


@PROFITS.shows(
    "short",
    "a fall is a gain, a rise a loss",
    "paper/venue::a_short_position_shows_a_negative_size",
    "paper/conservation::usdc_is_conserved_to_the_quantum_over_everybody",
)
def _short() -> Iterator[Evidence]:
    stage = _round_trip(("SELL", "1", 50_000), ("BUY", "0.4", 49_500))
    yield Evidence("-1 at 50,000, 0.4 bought back at 49,500: held", "-0.6", stage.size())
    yield Evidence("realized", "200 USDC", usdc(stage.money.realized_pnl))
    stage.oracle(50_100)
    yield Evidence("oracle 50,100: unrealized on 0.6", "-60 USDC", usdc(stage.money.unrealized_pnl))


@PROFITS.shows(
    "turned round",
    "what crosses zero closes one position and begins another at the price of the fill",
    "paper/venue::a_flip_ends_one_position_and_begins_another",
)
def _flip() -> Iterator[Evidence]:
    stage = _round_trip(("BUY", "1", 50_000), ("SELL", "3", 50_300))
    yield Evidence("1 at 50,000, 3 sold at 50,300: held", "-2", stage.size())
    yield Evidence("realized on the 1 alone", "300 USDC", usdc(stage.money.realized_pnl))
    cost = int(stage.venue.ledger.holdings[BTC].cost)
    yield Evidence("the new one entered at 50,300", "-100600 USDC", usdc(cost))


@PROFITS.shows(
    "unrealized",
    "by the oracle price, never by the last trade, and it turns with the price",
    "paper/history::positions_show_both_profits",
    "paper/performance::trades_account_for_all_that_was_earned",
)
def _unrealized() -> Iterator[Evidence]:
    stage = _round_trip(("BUY", "2", 50_000))
    for price, expected in ((50_500, "1000 USDC"), (49_000, "-2000 USDC"), (50_000, "0 USDC")):
        stage.oracle(price)
        yield Evidence(f"2 at 50,000, oracle {price:,}", expected, usdc(stage.money.unrealized_pnl))
    stage.book([(60_000, 1)], [(60_001, 1)])
    yield Evidence("the book alone moves to 60,000", "0 USDC", usdc(stage.money.unrealized_pnl))


@PROFITS.shows(
    "nothing is made or lost",
    "equity is the deposit, what was realized and is unrealized, less fees, with funding",
    "paper/conservation::usdc_is_conserved_to_the_quantum_over_everybody",
    "paper/ledger::profit_is_what_the_cash_shows",
    "paper/sessions_traded::no_quantum_is_made_or_lost",
)
def _conserved() -> Iterator[Evidence]:
    stage = _round_trip(("BUY", "2", 50_000), ("SELL", "0.5", 50_200), ("SELL", "3", 49_800))
    stage.block(3_700)
    stage.oracle(49_000)
    money = stage.money
    sums = 100_000 * USDC + money.realized_pnl + money.unrealized_pnl
    sums += -money.fees_paid - money.funding_paid + money.unsettled
    yield Evidence("equity", usdc(sums), usdc(money.equity or 0))
    margin = stage.bot.risk.margin.net_collateral
    yield Evidence("as risk has it by the account's frames", usdc(sums), usdc(margin))
    fees = sum(fill.value.fee for fill in stage.fills())
    yield Evidence("fees of the fills reported", usdc(money.fees_paid), usdc(fees))


# === Funding ===


@FUNDING.shows(
    "paid every hour",
    "an eighth of an eight-hour rate on the value at the oracle price; a long pays a positive one",
    "paper/venue::funding_is_owed_on_the_hour_and_paid_when_the_account_is_touched",
    "risk/margin::the_funding_index_moves_by_an_eighth_of_the_rate_an_hour",
    "risk/funding::a_long_pays_a_rising_index",
)
def _hourly() -> Iterator[Evidence]:
    # 80 ppm in eight hours at 50,000: 10 ppm of 50,000 are 0.5 USDC an hour for 1 BTC (10^10).
    delta = funding_index_delta(80, 3_600, 50_000, 0, -10)
    yield Evidence("index, 80 ppm per 8 h, an hour", above(0), delta)
    one = funding_payment(funding_settlement_ppm(10**10, delta, 0))
    yield Evidence("long 1 BTC pays", "0.5 USDC", usdc(one))
    short = funding_payment(funding_settlement_ppm(-(10**10), delta, 0))
    yield Evidence("short 1 BTC", "-0.5 USDC", usdc(short))
    stage = _round_trip(("BUY", "1", 50_000))
    stage.block(3_580)
    yield Evidence("10 s before the hour: owed", "0 USDC", usdc(stage.money.unsettled))
    stage.block(20)
    stage.oracle(50_000)
    yield Evidence("on the hour", "-0.5 USDC", usdc(stage.money.unsettled))
    stage.book([(50_000, 5)], [(50_001, 5)])
    stage.trade("SELL", "0.5", "49000")
    yield Evidence("paid once the account is touched", "0.5 USDC", usdc(stage.money.funding_paid))


@FUNDING.shows(
    "bounded, and never guessed",
    "a rate beyond the chain's bound is cut to it; without an announced rate nothing is paid",
    "paper/venue::a_rate_beyond_the_bound_is_clamped_and_an_unknown_one_not_paid",
    "paper/venue::silence_about_funding_costs_nothing",
    "risk/gate::an_unknown_rate_costs_the_most_that_there_is",
)
def _bounded() -> Iterator[Evidence]:
    stage = _round_trip(("BUY", "1", 50_000))
    stage.change(nextFundingRate="0.5")
    stage.block(3_600)
    stage.oracle(50_000)
    # Six times what 5 % of initial exceed 3 % of maintenance margin by, over eight hours.
    yield Evidence("a rate of 50 % an hour", "-750 USDC", usdc(stage.money.unsettled))
    silent = Stage()
    silent.data.views[BTC].funding = type(silent.data.views[BTC].funding)()
    silent.trade("BUY", "1", "50100")
    silent.block(3_600)
    silent.oracle(50_000)
    yield Evidence("no rate was announced", "0 USDC", usdc(silent.money.unsettled))


def _won(stage: Stage) -> tuple[int, int]:
    return stage.money.wins, stage.money.losses

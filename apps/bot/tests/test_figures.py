"""What a run came to agrees with its ledger, market by market, and what is unknown is None."""

from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from bot.backtest.figures import figures_of
from bot.run.composition import Bot, Options
from bot.run.dealt import Dealt
from bot.run.executed import Executed
from bot.run.journal import Journal, JournalEntry
from dydx_conn import AccountFill
from dydx_data import DataState
from dydx_paper import performance

SECOND = 1_000_000_000


# === Runs ===


@pytest.mark.replays
@pytest.mark.parametrize("profile", ["steady", "reckless"])
def test_markets_add_up_to_the_account(crashed: Callable[..., Any], profile: str) -> None:
    """Profit, trades, fills, costs and reasons of all markets are those of the total."""
    found = figures_of(crashed(profile).bot)
    total, markets = found.total, [*found.markets.values()]

    assert total.trades == sum(one.trades for one in markets) > 0
    assert total.fills == sum(one.fills for one in markets)
    assert total.profit == pytest.approx(sum(one.profit or 0 for one in markets), abs=1e-5)
    assert total.fees_paid == pytest.approx(sum(one.fees_paid for one in markets))
    assert total.funding_paid == pytest.approx(sum(one.funding_paid or 0 for one in markets))
    assert sum(total.exits.values()) == total.trades
    assert total.reductions == crashed(profile).bot.journal.counts["reduce"]


def test_figures_agree_with_the_ledger_that_was_traded_on(crashed: Callable[..., Any]) -> None:
    """What the dashboard and the report say of a run, a backtest says too."""
    bot = crashed("reckless").bot
    total, did = figures_of(bot).total, performance(bot.venue.ledger)
    figures = bot.venue.figures()

    assert (total.trades, total.win_rate, total.profit_factor) == (
        did.trades, did.win_rate, did.profit_factor,
    )  # fmt: skip
    assert total.profit == figures.profit / 1e6
    assert total.volume == did.volume / 1e6
    assert total.max_drawdown == bot.risk.falls.deepest / 1e6
    assert total.closest == bot.risk.closest


def test_each_trade_names_what_began_and_ended_it(crashed: Callable[..., Any]) -> None:
    """By ids that `bot why` finds: a decision of its market, a verdict, and all of its fills."""
    bot = crashed("reckless").bot
    ended = [*bot.venue.ledger.history.ended]

    assert [trade.record for trade in bot.dealt.trades] == ended
    for trade in bot.dealt.trades:
        entries = [bot.journal.find(id_) for id_ in (trade.decision, trade.verdict, *trade.fills)]
        assert {entry and entry.ticker for entry in entries} == {trade.record.ticker}
    assert {trade.reason for trade in bot.dealt.trades} == {"strategy", "guard", "drawdown"}


def test_a_run_that_has_not_begun_knows_nothing() -> None:
    """Without a trade there is no rate and no ratio: None, and no 0 that looks like a result."""
    found = figures_of(Bot(Options()))
    total = found.total

    unknown = (total.win_rate, total.profit_factor, total.expectancy, total.sharpe, total.calmar)
    assert unknown == (None,) * 5
    assert (total.exposure, total.closest, found.optimism) == (None, None, None)
    assert found.markets == {}


def test_figures_travel_as_json(crashed: Callable[..., Any]) -> None:
    """A sweep sends them between processes, and writes them down."""
    found = figures_of(crashed("steady").bot)

    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found


# === Dealings ===


class _Run:
    """A journal with what follows it, and no venue."""

    def __init__(self) -> None:
        self.journal, data = Journal(), DataState()
        self.dealt = Dealt(self.journal, Executed(self.journal, data), None)
        self._fills = 0

    def write(self, id_: str, kind: str, value: Any, parent: str = "", at: int = 0) -> None:
        entry = JournalEntry(
            id=id_, kind=kind, seq=1, at=at * SECOND, ticker="BTC-USD", words="", value=value,
            parent=parent,
        )  # fmt: skip
        for follow in self.journal.within:
            follow(entry)

    def fill(self, side: Any, size: str, at: int, order: str = "", type_: str = "LIMIT") -> None:
        self._fills += 1
        fill = AccountFill(
            id=str(self._fills), order_id="o", ticker="BTC-USD", side=side, size=Decimal(size),
            price=Decimal(100), quote=int(Decimal(size) * 10**8), fee=1, liquidity="TAKER",
            type=type_, height=1, created_at="",
        )  # fmt: skip
        self.write(f"F{self._fills}", "fill", fill, order, at)


def verdict(run: _Run, id_: str, kind: str, value: Any) -> None:
    """Let an order of a verdict go: O1 for V1."""
    run.write(id_, kind, value, "D1")
    state = SimpleNamespace(final=False)
    run.write(id_.replace("V", "O"), "order", state, id_)


@pytest.mark.parametrize(
    ("kind", "value", "type_", "reason"),
    [
        ("approved", {"decision": SimpleNamespace(id="D2")}, "LIMIT", "strategy"),
        ("approved", {"decision": SimpleNamespace(id="A1")}, "LIMIT", "flatten"),
        ("reduce", {"cause": "DISTANCE"}, "LIMIT", "guard"),
        ("reduce", {"cause": "DAILY_LOSS"}, "LIMIT", "daily_loss"),
        ("bracket", {"kind": "STOP_LOSS"}, "LIMIT", "stop_loss"),
        ("approved", {"decision": SimpleNamespace(id="D2")}, "LIQUIDATED", "liquidated"),
    ],
)
def test_a_trade_ends_for_one_reason(kind: str, value: Any, type_: str, reason: str) -> None:
    """That of the order which ended it; a liquidation is nobody's order."""
    run = _Run()
    verdict(run, "V1", kind, SimpleNamespace(**value))

    run.fill("BUY", "2", 1)
    run.fill("SELL", "2", 5, "O1", type_)

    assert run.dealt.markets["BTC-USD"].exits == {reason: 1}


def test_a_fill_that_turns_ends_one_trade_and_begins_another() -> None:
    """It was reversed by the strategy; what is held goes on being held."""
    run = _Run()
    verdict(run, "V1", "approved", SimpleNamespace(decision=SimpleNamespace(id="D1")))
    run.fill("BUY", "2", 1, "O1")
    run.fill("SELL", "3", 5, "O1")
    dealings = run.dealt.markets["BTC-USD"]

    assert (dealings.exits, dealings.held, dealings.made) == ({"reversed": 1}, Decimal(-1), ["F2"])
    assert (dealings.decision, dealings.opened) == ("D1", 5 * SECOND)
    assert dealings.held_until(7 * SECOND) == 6 * SECOND == run.dealt.exposed_until(7 * SECOND)
    assert dealings.notional_until(7 * SECOND) == (200.0 * 4 + 100.0 * 2) * SECOND


def test_what_nobody_of_ours_ordered_has_no_reason_of_ours() -> None:
    """A fill without an order that is known is another's, and still ends what was held."""
    run = _Run()
    run.fill("BUY", "2", 1)
    run.fill("SELL", "2", 3)

    assert run.dealt.markets["BTC-USD"].exits == {"other": 1}
    assert run.dealt.exposed_until(9 * SECOND) == 2 * SECOND

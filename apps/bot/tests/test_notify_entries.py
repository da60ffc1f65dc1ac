"""What of the journal people are notified of, in a trader's words."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from bot.notify.entries import noticed
from bot.notify.notice import short
from bot.run.journal import JournalEntry
from dydx_conn import AccountFill, Frame, OrderState
from dydx_risk import GateChange

AT = 1_796_040_000 * 10**9


def entry(kind: str, value: Any, *, id_: str = "X7", ticker: str = "ETH-USD") -> JournalEntry:
    """Return an entry of a journal."""
    return JournalEntry(
        id=id_, kind=kind, seq=1, at=AT, ticker=ticker, words="in words", value=value
    )


def gate(state: Any, *reasons: Any) -> GateChange:
    """Return a change of the gate."""
    why = tuple((reason, "why") for reason in reasons)
    return GateChange(id="G2", seq=1, at=AT, was="ACTIVE", state=state, reasons=why)


def act(link: str, what: str) -> Frame:
    """Return an act."""
    return Frame(1, AT, AT, link, "act", "why", what)


def order(status: Any) -> OrderState:
    """Return an order."""
    return OrderState(id="o1", status=status, seq=1)


def fill(type_: str) -> AccountFill:
    """Return a fill of ours, or what the venue took."""
    return AccountFill(
        id="f1", order_id="", ticker="ETH-USD", side="SELL", size=Decimal(1), price=Decimal(2_000),
        quote=2_000 * 10**6, fee=0, liquidity="TAKER", type=type_, height=1, created_at="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value", "title"),
    [
        ("gate", gate("HALTED"), "critical gate: halted"),
        ("gate", gate("HALTED", "PAUSED"), "critical gate: halted"),
        ("gate", gate("REDUCING", "DRAWDOWN"), "warning gate: reducing: exits only"),
        ("gate", gate("REDUCING", "PAUSED"), "warning gate: entries paused"),
        ("gate", gate("ACTIVE"), "info gate: active: entries may trade again"),
        ("fill", fill("LIQUIDATED"), "critical liquidation: LIQUIDATED ETH-USD"),
        ("fill", fill("DELEVERAGED"), "critical liquidation: DELEVERAGED ETH-USD"),
        ("order", order("REJECTED"), "warning order: order rejected ETH-USD"),
        ("order", order("UNRESOLVED"), "warning order: order unresolved ETH-USD"),
        ("act", act("strategy", "halt"), "critical strategy: strategy failed: entries are stopped"),
        ("act", act("signals", "halt"), "critical strategy: signals failed: entries are stopped"),
        ("act", act("file", "reload"), "info reload: settings changed"),
        ("act", act("file", "refuse"), "warning reload: settings not changed"),
    ],
)
def test_what_matters_is_noticed(kind: str, value: Any, title: str) -> None:
    """With how grave it is, its kind, and the words of the journal."""
    notice = noticed(entry(kind, value))

    assert notice is not None
    assert f"{notice.level} {notice.kind}: {notice.title}" == title
    assert notice.words == "in words"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("decision", None),
        ("link", None),
        ("fill", fill("LIMIT")),
        ("order", order("FILLED")),
        ("act", act("key", "halt")),  # the gate reports it
        ("act", act("account", "note")),
    ],
)
def test_what_goes_on_as_usual_is_not(kind: str, value: Any) -> None:
    """Nobody reads a notice of each fill."""
    assert noticed(entry(kind, value)) is None


def test_a_run_that_begins_to_trade_is_no_notice_of_its_own() -> None:
    """Its first change of the gate is as with every run."""
    assert noticed(entry("gate", gate("ACTIVE"), id_="G1")) is None


@pytest.mark.replays
def test_the_guard_and_liquidations_are_noticed_as_they_come_in_a_run(
    crashed: Callable[..., Any],
) -> None:
    """Of the bundled crash: what the guard sold, and what the venue took without it."""
    runs = [crashed("reckless").bot, crashed("reckless", guard=False).bot]
    notices = [noticed(one) for run in runs for one in run.journal.entries]
    found = {f"{one.level}: {one.title}" for one in notices if one is not None}

    assert {"critical: guard sold SOL-USD", "critical: LIQUIDATED ETH-USD"} <= found


def test_an_account_is_short_and_differs_from_others() -> None:
    """Its ends and its number."""
    assert short("dydx18y6v62cltpkud6kqr26yxa6swnjv8f4z5p6c78/0") == "dydx18y6…p6c78/0"
    assert short("dydx1paper/0") == "dydx1paper/0"

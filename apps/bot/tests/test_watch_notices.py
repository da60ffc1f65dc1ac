"""Notices of watched accounts: how far each is from liquidation, and what takes it."""

import argparse
from collections.abc import Callable
from typing import Any

import bot.notify.beside
import bot.notify.sink
import pytest
from bot.__main__ import main
from bot.config.loaded import load
from bot.config.notify import NotifySettings
from bot.notify.looks import Noticed, step
from bot.notify.notice import Message, Notice
from bot.notify.sink import Sink
from bot.run.composition import Options
from bot.run.journal import JournalEntry
from bot.watch.address import Target
from bot.watch.group import Group
from bot.watch.notices import Watched, notices_of
from dydx_conn import OrderState, Subaccount
from dydx_risk import GateChange

OWNER = "dydx18y6v62cltpkud6kqr26yxa6swnjv8f4z5p6c78"
US, CHILD = Subaccount(OWNER, 0), Subaccount(OWNER, 128)
AT = 1_796_040_000 * 10**9
HOOK = '[{name: hook, url: "json://127.0.0.1:1/"}]'


def group(*known: Subaccount) -> Group:
    """Return what watches accounts."""
    return Group([Target(OWNER, None)], Options(strategy="none"), known)


@pytest.mark.replays
def test_people_are_notified_of_a_watched_account(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it was in a recording of its frames, if that is to be seen."""
    got = list[Message]()

    def take(_: str, message: Message) -> str:
        got.append(message)
        return ""

    class Taking(Sink):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, deliver=take, **named)

    monkeypatch.setattr(bot.notify.beside, "Sink", Taking)
    # To load apprise may take longer than the end of a run waits for a sink.
    monkeypatch.setattr(bot.notify.sink, "service_of", lambda _: None)
    monkeypatch.setenv("DYDX__NOTIFY__SINKS", HOOK)
    monkeypatch.setenv("DYDX__NOTIFY__DISTANCE_BELOW", "[0.6]")
    typed = ["watch", OWNER, "--recording", "account", "--quiet"]

    assert main([*typed, "--notify"]) == 0
    first = [one.title for one in got]
    assert main([*typed, "--seconds", "1"]) == 0

    assert first[0] == "WATCH local: watch began"
    assert first[1].startswith("WATCH local: 5")
    assert first[1].endswith("% from liquidation, below 60.0 %")
    assert first[-1] == "WATCH local: watch ended"
    assert "dydx18y6…p6c78/0, WATCH local, 2026-" in got[1].body
    assert len(got) == len(first)


def test_where_nobody_is_to_be_notified_nothing_is_there() -> None:
    """Without sinks, and with notices switched off."""
    for given in ({}, {"DYDX__NOTIFY__SINKS": HOOK, "DYDX__NOTIFY__ENABLED": "false"}):
        arguments = argparse.Namespace(loaded=load(environment=given))
        assert notices_of(arguments, group(US), "testnet") == []


def test_of_several_accounts_each_notice_names_its_own() -> None:
    """And a message all of them."""
    arguments = argparse.Namespace(loaded=load(environment={"DYDX__NOTIFY__SINKS": HOOK}))

    (notices,) = notices_of(arguments, group(US, CHILD), "testnet")

    assert notices._heading.account == "2 accounts"
    one = Notice(kind="distance", subject="", at=AT, level="info", title="far")
    assert notices._named("dydx18y6…p6c78/128", one).title == "dydx18y6…p6c78/128: far"


def entry(kind: str, value: Any) -> JournalEntry:
    """Return an entry of a journal."""
    return JournalEntry(id="X1", kind=kind, seq=1, at=AT, ticker="ETH-USD", words="", value=value)


def test_what_takes_an_account_is_noticed_and_advice_is_not() -> None:
    """Also of an account that appears later."""
    found, watching = list[Notice](), group(US)
    watched = Watched(watching)
    watched.put = found.append
    watched.looks(AT)
    watching.bot_of(CHILD)
    watched.looks(AT)
    watched.looks(AT)
    rejected = OrderState(id="o", status="REJECTED", seq=1)
    halted = GateChange(id="G2", seq=1, at=AT, was="ACTIVE", state="HALTED")
    listen: Callable[[Any], None]
    for listen in watching.bots[CHILD].journal.listeners:
        listen(entry("order", rejected))
        listen(entry("gate", halted))
        listen(entry("decision", None))

    assert [one.title for one in found] == ["dydx18y6…p6c78/128: order rejected ETH-USD"]


def test_what_concerns_all_is_noticed_once() -> None:
    """Connections and a node that does not answer are of the first account."""
    watching = group(US, CHILD)
    watched = Watched(watching)
    for one in watching.bots.values():
        one.shown.troubles["node"] = "no answer"

    looks = watched.looks(AT)
    notices = [one for look in looks for one in step(Noticed(), look, NotifySettings())[1]]

    assert [one.account for one in looks] == ["dydx18y6…p6c78/0", "dydx18y6…p6c78/128"]
    assert [one.title for one in notices] == ["trouble with node"]
    assert [look.figures and look.figures.equity for look in looks] == [None, None]

"""What nobody at the screen may miss: for some seconds of their own time, at any speed."""

from types import SimpleNamespace
from typing import Any

import pytest
from bot.run.composition import Bot, Options
from bot.run.journal import JournalEntry
from bot.screen.alarms import BANNER_NS, FLASH_NS, Alarms
from dydx_conn import Frame
from dydx_panels import View
from dydx_risk import GateChange


def entry(kind: str, value: Any, words: str = "", ticker: str = "ETH-USD") -> JournalEntry:
    """Make an entry of a journal."""
    return JournalEntry(id="X1", kind=kind, seq=1, at=1, ticker=ticker, words=words, value=value)


def reduced(side: str = "SELL", words: str = "sell 2 ETH-USD") -> JournalEntry:
    """Return what the guard did."""
    return entry("reduce", SimpleNamespace(order=SimpleNamespace(side=side)), words)


def filled(type_: str) -> JournalEntry:
    """Return a fill."""
    return entry("fill", SimpleNamespace(type=type_), "SELL 2 at 2,900")


def gated(state: Any) -> JournalEntry:
    """Return a change of the gate."""
    reasons = (("HALTED", "halted: a headline (by ann)"),)
    return entry("gate", GateChange(id="G1", seq=1, at=1, was="ACTIVE", state=state,
                                    reasons=reasons))  # type: ignore[arg-type]  # fmt: skip


def acted(who: str, what: str = "halt") -> JournalEntry:
    """Return an act."""
    return entry("act", Frame(1, 1, 1, who, "act", "ValueError: no idea", what))


@pytest.mark.parametrize(
    ("happened", "banner"),
    [
        (reduced(), "GUARD SOLD: sell 2 ETH-USD"),
        (reduced("BUY", "buy 2 ETH-USD"), "GUARD BOUGHT: buy 2 ETH-USD"),
        (filled("LIQUIDATED"), "LIQUIDATED: ETH-USD SELL 2 at 2,900"),
        (filled("LIMIT"), ""),
        (gated("HALTED"), "HALTED: a headline (by ann)"),
        (gated("ACTIVE"), ""),
        (acted("strategy"), "STRATEGY STOPPED: ValueError: no idea"),
        (acted("signals"), "STRATEGY STOPPED: ValueError: no idea"),
        (acted("ann"), ""),
        (acted("strategy", "note"), ""),
        (entry("decision", None), ""),
    ],
)
def test_what_is_grave_has_a_banner(clock: Any, happened: JournalEntry, banner: str) -> None:
    """The guard, a liquidation, a halt, a strategy that is stopped: each in its words."""
    bot = Bot(Options())
    alarms = Alarms(bot, muted=lambda: False)
    bot.journal.listeners[-1](happened)

    view = alarms.over(View(), clock.now)

    assert view.banner == banner
    assert view.flash == alarms.rings() == bool(banner)


def test_a_banner_stands_for_some_seconds_and_flashes_for_a_moment(clock: Any) -> None:
    """In the time of whoever watches; the bell rings once."""
    alarms = Alarms(Bot(Options()), muted=lambda: False)
    alarms.note(reduced())
    rung = [alarms.rings(), alarms.rings()]

    later = [alarms.over(View(), clock.now + ns) for ns in (FLASH_NS, BANNER_NS - 1, BANNER_NS)]

    assert rung == [True, False]
    assert [bool(view.banner) for view in later] == [True, True, False]
    assert not any(view.flash for view in later)


def test_a_halt_that_is_over_is_no_banner(clock: Any) -> None:
    """Whoever has resumed reads that it trades; what the guard did stays."""
    alarms = Alarms(Bot(Options()), muted=lambda: False)
    banners = list[str]()

    for happened in (gated("HALTED"), gated("ACTIVE"), reduced(), gated("ACTIVE")):
        alarms.note(happened)
        banners.append(alarms.over(View(), clock.now).banner)

    assert banners[:2] == ["HALTED: a headline (by ann)", ""]
    assert banners[2] == banners[3] == "GUARD SOLD: sell 2 ETH-USD"


def test_of_what_comes_together_the_gravest_is_shown(clock: Any) -> None:
    """With how much more there was; the bell rings for all of it once."""
    alarms = Alarms(Bot(Options()), muted=lambda: False)
    for happened in (reduced(), filled("LIQUIDATED"), gated("HALTED")):
        alarms.note(happened)

    assert alarms.over(View(), clock.now).banner == (
        "LIQUIDATED (and 2 more): ETH-USD SELL 2 at 2,900"
    )
    assert [alarms.rings(), alarms.rings()] == [True, False]
    clock.now += FLASH_NS
    alarms.note(filled("LIQUIDATED"))
    assert alarms.rings()


def test_there_is_no_bell_for_whoever_wants_none(clock: Any) -> None:
    """The banner stands all the same."""
    alarms = Alarms(Bot(Options()), bell=False, muted=lambda: False)
    alarms.note(reduced())

    assert not alarms.rings()
    assert alarms.over(View(), clock.now).banner


def test_what_is_only_gone_through_again_alarms_nobody(clock: Any) -> None:
    """On the way to another place of a recording; another run begins without a banner."""
    bot, ways = Bot(Options()), [True, False]
    alarms = Alarms(bot, muted=lambda: ways.pop(0))
    alarms.note(reduced())
    assert alarms.over(View(), clock.now) == View()

    alarms.note(reduced())
    alarms.show_of(bot)

    assert alarms.over(View(), clock.now) == View()

"""Notices beside a run: that it decides the same, loses none, and waits for nobody."""

import argparse
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import bot.notify.notices
import pytest
from bot.__main__ import main
from bot.config.loaded import load
from bot.config.notify import NotifySettings, SinkSettings
from bot.live.runs import notices_of as of_arguments
from bot.notify.beside import Run, lost_of, notices_of, sinks_of
from bot.notify.looks import Look, Noticed
from bot.notify.notice import Heading, Message, Notice
from bot.notify.notices import Notices
from bot.notify.sink import Sink
from bot.notify.spool import Spool
from bot.run.beside import Counting
from bot.run.composition import Bot, Options
from bot.run.links import Links
from dydx_conn import Frame, Inbox, find_recording, replay
from reactivex import operators

AT = 1_796_040_000 * 10**9
PATIENCE_S = 10.0
HEADING = Heading(mode="PAPER", network="testnet", account="dydx1paper/0")
HERE = "json://127.0.0.1:1/"


class Taker:
    """What delivers: it takes messages, or hangs until it is let go."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.got: list[Message] = []
        self.goes = threading.Event()
        if not hangs:
            self.goes.set()

    def __call__(self, _: str, message: Message) -> str:
        self.goes.wait(PATIENCE_S)
        self.got.append(message)
        return ""


def settings(*names: str, **given: Any) -> NotifySettings:
    """Return settings with sinks of these names."""
    return NotifySettings(sinks=tuple(SinkSettings(name=name, url=HERE) for name in names), **given)


def sinks(**takers: Taker) -> dict[str, Sink]:
    """Return sinks that deliver to these."""
    return {
        name: Sink(name, lambda: HERE, timeout_s=PATIENCE_S, deliver=taker)
        for name, taker in takers.items()
    }


def frame(second: int) -> Frame:
    """Return a tick."""
    return Frame(second, AT + second * 10**9, second * 10**9 + 1, "clock", "tick")


def notice(subject: str, **given: Any) -> Notice:
    """Return a notice."""
    fields: dict[str, Any] = {"kind": "order", "level": "warning", "title": subject} | given
    return Notice(subject=subject, at=AT, **fields)


@pytest.mark.replays
def test_a_run_with_a_sink_that_hangs_decides_the_same_and_loses_nothing(
    crashed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one gets what the other has on the disk; every event is in one message or waits."""
    monkeypatch.setattr(bot.notify.notices, "END_S", 0.3)
    takes, hangs = Taker(), Taker(hangs=True)
    run = Bot(Options.of("reckless"))
    of_run = Run(run, "PAPER", "dydx1paper/0")
    run.follow_links()
    chosen = settings("takes", "hangs", messages=5)
    notices = Notices(chosen, HEADING, sinks(takes=takes, hangs=hangs), of_run)
    run.journal.listeners.append(notices.listen)
    notices.begin(Inbox())
    run.run(replay(find_recording("quickstart")).pipe(operators.do_action(notices.note)))
    notices.end()

    assert run.journal.hash == crashed("reckless").bot.journal.hash
    assert [one.title for one in takes.got][:2] == [
        "PAPER testnet: run began", "PAPER testnet: 23.1 % from liquidation, below 25.0 %",
    ]  # fmt: skip
    left = Spool("hangs")
    stored = [one for path in left.waiting() if (one := left._read(path)) is not None]
    assert [one.title for one in stored] == [one.title for one in takes.got]
    counts = [sum(one.count for one in some) for some in (stored, takes.got)]
    assert counts[0] + left.held_back() == counts[1] + Spool("takes").held_back()
    assert any("guard sold" in one.title for one in takes.got)
    figures = notices.figures()
    assert isinstance(notices, Counting)
    assert (figures["takes sent"], figures["hangs sent"]) == (len(takes.got), 0)
    assert figures["hangs waiting"] == len(stored)
    hangs.goes.set()


class Nothing:
    """What is watched, of which nothing is to be noticed."""

    def looks(self, at: int) -> Sequence[Look]:
        """Return nothing."""
        return ()

    def begins(self, at: int) -> Sequence[Notice]:
        """Return nothing."""
        return ()

    def ends(self, at: int, seen: Mapping[str, Noticed]) -> Sequence[Notice]:
        """Return nothing."""
        return ()


def test_a_storm_gives_few_messages_and_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though more comes than the queue takes: that is counted by kind."""
    monkeypatch.setattr(bot.notify.notices, "MOST", 50)
    taker = Taker()
    notices = Notices(settings("phone", messages=4), HEADING, sinks(phone=taker), Nothing())
    for n in range(5_000):  # before its thread takes any
        notices.put(notice(f"M{n % 7}", kind="order" if n % 2 else "guard"))
    notices.begin(Inbox())
    notices.end()

    assert len(taker.got) <= 4
    assert sum(one.count for one in taker.got) + Spool("phone").held_back() == 5_000


def test_a_sink_gets_its_kinds_and_what_is_grave_enough() -> None:
    """And a summary, whatever its level."""
    chosen = NotifySettings(
        sinks=(
            SinkSettings(name="guard", url=HERE, kinds=("guard",)),
            SinkSettings(name="grave", url=HERE, level="critical"),
        )
    )
    guard, grave = Taker(), Taker()
    notices = Notices(chosen, HEADING, sinks(guard=guard, grave=grave), Nothing())
    notices.begin(Inbox())
    for one in (
        notice("a", kind="guard"), notice("b", level="critical"),
        notice("c", kind="summary", level="info"), notice("d", level="info"),
    ):  # fmt: skip
        notices.put(one)
    notices.end()

    assert [one.title[-1] for one in guard.got] == ["a"]
    assert [one.title[-1] for one in grave.got] == ["b", "c"]


def test_what_one_run_holds_back_the_next_one_sends() -> None:
    """With the limits of both together; a replay sends all of its own in the end."""
    chosen = settings("phone", messages=1)
    first, second, played = Taker(), Taker(), Taker()
    for taker, words in ((first, ("a", "b")), (second, ("c",))):
        notices = Notices(chosen, HEADING, sinks(phone=taker), Nothing())
        notices.begin(Inbox())
        for subject in words:
            notices.put(notice(subject))
        notices.end()
    replayed = Notices(chosen, HEADING, sinks(phone=played), Nothing(), goes_on=False)
    replayed.begin(Inbox())
    replayed.put(notice("d"))
    replayed.put(notice("e"))
    replayed.end()

    assert [one.title[-1] for one in first.got] == ["a"]
    assert second.got == []
    assert Spool("phone").held_back() == 2
    assert [one.title[-1] for one in played.got] == ["d", "e"]


def test_it_looks_once_a_second_and_never_stops_a_run() -> None:
    """Whatever it raises is trouble, and no more."""

    class Failing(Nothing):
        def looks(self, at: int) -> Sequence[Look]:
            looks.append(at)
            if len(looks) == 3:
                raise ValueError("no figures")
            return (Look(at=at, account=HEADING.account, distance=0.05),)

        def ends(self, at: int, seen: Mapping[str, Noticed]) -> Sequence[Notice]:
            raise ZeroDivisionError

    looks, taker = list[int](), Taker()
    notices = Notices(settings("phone"), HEADING, sinks(phone=taker), Failing())
    notices.begin(Inbox())
    for n in range(3):
        notices.note(frame(n))
        notices.note(frame(n))
    assert "expected notices to go on, got ValueError: no figures" in notices._broken
    notices.end()

    assert looks == [AT + n * 10**9 for n in range(3)]
    assert [one.title for one in taker.got] == [
        "PAPER testnet: 5.0 % from liquidation, below 10.0 %"
    ]
    assert notices.trouble == "expected notices to go on, got ZeroDivisionError: "


def test_what_is_held_back_and_cannot_be_stored_is_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is sent all the same."""

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Spool, "leave", no_space)
    taker = Taker()
    notices = Notices(settings("phone"), HEADING, sinks(phone=taker), Nothing())
    notices.begin(Inbox())
    notices.put(notice("a"))
    notices.end()

    assert len(taker.got) == 1
    assert "expected to store what is held back in" in notices.trouble


def test_one_that_never_began_ends_too() -> None:
    """As where a run is refused."""
    notices = Notices(settings("phone"), HEADING, sinks(phone=Taker()), Nothing())
    notices.end()

    assert notices.trouble == ""


def test_a_run_that_stands_still_is_noticed_and_so_is_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever holds it up, the thread of notices does not wait for it."""
    monkeypatch.setattr(bot.notify.notices, "STILL_S", 0.0)
    monkeypatch.setattr(bot.notify.notices, "EVERY_S", 0.005)
    taker, tick = Taker(), threading.Event()
    notices = Notices(settings("phone"), HEADING, sinks(phone=taker), Nothing())
    notices.begin(Inbox())
    notices.note(frame(0))
    for _ in range(2_000):
        if taker.got:
            break
        tick.wait(0.005)
    notices.note(frame(1))
    for _ in range(2_000):
        if len(taker.got) > 1:
            break
        tick.wait(0.005)
    notices.end()

    assert [one.title for one in taker.got][:2] == [
        "PAPER testnet: the run stands still for 0 s", "PAPER testnet: the run goes on again",
    ]  # fmt: skip
    assert taker.got[0].body.startswith("no frame is taken: nothing enters, and nobody guards")


def test_to_notify_without_sinks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever types --notify expects that somebody is."""
    assert main(["replay", "--notify"]) == 2
    assert main(["watch", "dydx1x", "--recording", "account", "--notify"]) == 2


def test_nobody_is_notified_where_nobody_is_to_be() -> None:
    """Without sinks, or with notices switched off, nothing is there beside a run."""
    run = Bot(Options())
    off = settings("phone", enabled=False)
    arguments = argparse.Namespace(loaded=load(environment={}))

    assert sinks_of(off) == {}
    assert notices_of(run, off, mode="PAPER", network="testnet") == []
    assert of_arguments(arguments, run, mode="PAPER", network="testnet") == []


@pytest.mark.parametrize(("enabled", "count"), [("true", 1), ("false", 0)])
def test_a_run_is_noticed_as_it_is_configured(enabled: str, count: int) -> None:
    """With its mode, its network and its account; it follows the connections from then on."""
    run = Bot(Options())
    given = {
        "DYDX__NOTIFY__SINKS": "[{name: phone}]", "DYDX__NOTIFY__URLS": f"phone={HERE}",
        "DYDX__NOTIFY__ENABLED": enabled,
    }  # fmt: skip
    arguments = argparse.Namespace(loaded=load(environment=given))

    found = of_arguments(arguments, run, mode="PAPER", network="testnet")

    assert len(found) == count
    assert (run.shown.links is not None, len(run.journal.listeners)) == (bool(count), count)


def test_a_run_ends_with_what_it_came_to_and_what_it_holds(
    crashed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grave where real positions stay, and where a layer raised."""
    run = crashed("steady").bot
    row = {"ticker": "BTC-USD", "size": "+0.1", "distance": 0.2}
    (flat,) = Run(run, "TRADE", "x").ends(AT, {})
    monkeypatch.setattr(bot.notify.beside, "positions_of", lambda _: [row])
    (held,) = Run(run, "TRADE", "x").ends(AT, {})
    (on_paper,) = Run(run, "PAPER", "x").ends(AT, {})
    monkeypatch.setattr(run, "_failure", ValueError("a bug"))
    (failed,) = Run(run, "PAPER", "x").ends(AT, {})

    assert (flat.level, flat.title) == ("info", "run ended")
    assert flat.words.startswith("equity ")
    assert (held.level, on_paper.level) == ("critical", "info")
    assert held.words.startswith(
        "held, and nobody guards it: BTC-USD +0.1 (20.0 % from liquidation); equity "
    )
    assert (failed.level, failed.title) == ("critical", "run FAILED")
    assert failed.words.startswith("ValueError: a bug; held")


def test_a_connection_that_never_came_is_lost_since_the_run_began() -> None:
    """And one of which nothing is known is not."""
    links = Links(lambda *_: None)
    unknown = lost_of(links, AT, AT)
    links.state, links.reason = "connecting", "[Errno 111] Connection refused"

    assert unknown is lost_of(None, AT, AT) is None
    assert lost_of(links, AT + 40 * 10**9, AT) == (40.0, "connecting: Connection refused")
    links.state, links.lost_at = "backing_off", AT + 10 * 10**9
    assert lost_of(links, AT + 40 * 10**9, AT) == (
        30.0, "reconnecting 30 s: Connection refused",
    )  # fmt: skip
    links.state = "live"
    assert lost_of(links, AT + 40 * 10**9, AT) is None

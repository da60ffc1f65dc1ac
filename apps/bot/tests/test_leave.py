"""Leaving with positions open: who gets a question, what an answer does, and what is to be typed."""

import os
import pty
import sys
from collections.abc import Callable, Iterator
from typing import Any

import bot.screen.leave
import pytest
from bot.commands import parser
from bot.live.commands import closed_first, leaving_paper
from bot.live.runs import asks
from bot.run.composition import Bot, Options
from bot.screen.leave import PATIENCE_NS, Leave, command_words, typed
from dydx_conn import Frame, Inbox, replay

HELD = "1 position stays open, unguarded: "


def tick(seconds: float = 0) -> Frame:
    """Make the clock's frame."""
    return Frame(1, 0, int(seconds * 1e9), "clock", "tick")


@pytest.fixture(scope="module")
def holding() -> Bot:
    """Return a bot that holds a position."""
    held = Bot(Options())
    held.run(replay("account", pace=lambda _: not held.risk.positions()))
    assert held.risk.positions()
    return held


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Stand in for whoever types at the terminal: a line each time, None for nothing yet."""
    lines: list[str | None] = []
    monkeypatch.setattr(bot.screen.leave, "typed", lambda: lines.pop(0) if lines else None)
    return lines


def closing(log: list[Frame]) -> Callable[[Frame], bool]:
    """Make what closes positions: it takes two frames."""

    def leaving(frame: Frame) -> bool:
        log.append(frame)
        return len(log) < 2

    return leaving


@pytest.mark.parametrize(
    ("line", "closes"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_whoever_says_yes_has_it_closed(
    line: str,
    closes: bool,
    holding: Bot,
    answers: list[str | None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Frames pass until there is an answer; any other leaves all as it is."""
    log: list[Frame] = []
    leave = Leave(holding, closing(log), flatten=False, asks=True)
    answers += [None, None, line]

    held = [leave.holds(tick(n)) for n in range(5)]

    printed = capsys.readouterr().err
    assert held == [True, True, closes, closes, False]
    assert len(log) == 2 * closes
    assert printed.startswith(f"bot: {HELD}")
    assert printed.count("close them now? [y/N]") == 1
    assert printed.endswith("they are closed\n" if closes else "they stay open\n")


def test_whoever_walks_away_leaves_it_open(holding: Bot, answers: list[str | None]) -> None:
    """After twenty seconds."""
    assert answers == []
    leave = Leave(holding, closing([]), flatten=False, asks=True)

    assert [leave.holds(tick(n)) for n in (0, PATIENCE_NS / 1e9 - 1, PATIENCE_NS / 1e9, 21)] == [
        True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(("flatten", "asks"), [(False, False), (True, False), (True, True)])
def test_there_is_no_question_in_a_pipe_or_with_flatten(
    flatten: bool, asks: bool, holding: Bot, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one leaves it, the other closes it."""
    leave = Leave(holding, closing([]), flatten=flatten, asks=asks)

    assert leave.holds(tick()) is flatten
    assert capsys.readouterr().err == ""


def test_without_positions_there_is_nothing_to_ask(capsys: pytest.CaptureFixture[str]) -> None:
    """The run ends."""
    leave = Leave(Bot(Options()), closing([]), flatten=False, asks=True)

    assert not leave.holds(tick())
    assert capsys.readouterr().err == ""


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Put a terminal in the place of the standard input; yields the end of who types."""
    person, program = pty.openpty()
    with open(program) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield person
    os.close(person)


def test_a_line_is_read_when_it_is_there_and_ours(
    terminal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is typed to another program in front of us is its own."""
    assert typed() is None
    os.write(terminal, b"y\n")
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: -1)
    assert typed() is None
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp())
    assert typed() == "y\n"


def test_a_terminal_that_is_closed_answers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """All stays as it is, at once."""
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        os.close(ours)

        assert typed() == ""


def test_who_gets_the_question_is_at_a_terminal_without_a_dashboard(
    terminal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both to read the question and to answer it."""
    plain = parser().parse_args(["trade", "--plain"])
    assert not asks(plain)
    monkeypatch.setattr(sys, "stderr", sys.stdin)

    assert asks(plain)
    assert not asks(parser().parse_args(["trade", "--json"]))


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("--network local", "bot flatten --network local"),
        ("--network my\\ net.toml --subaccount 3 --keys keyring:x --authenticators 1,2 --address d",
         "bot flatten --network 'my net.toml' --keys keyring:x --address d --subaccount 3 "
         "--authenticators 1,2"),
        ("--environment production --yes-orders --yes-mainnet --seconds 5",
         "bot flatten --environment production --yes-orders --yes-mainnet"),
    ],
)  # fmt: skip
def test_what_closes_the_rest_can_be_typed_as_it_is(words: str, command: str) -> None:
    """With the same account, network and confirmations."""
    import shlex

    typed_words: Any = shlex.split(words)
    typed = command_words(parser().parse_args(["trade", *typed_words]))

    assert typed == command
    parser().parse_args(shlex.split(typed)[1:])


def test_what_is_held_on_paper_waits_for_the_next_run(holding: Bot) -> None:
    """It is no danger: whoever leaves it finds it again."""
    leave = Leave(holding, closing([]), flatten=False, stays="for the next run")

    assert leave.open == "1 position stays for the next run"


def test_paper_is_closed_before_the_run_ends_if_somebody_wants_that(holding: Bot) -> None:
    """An act a second, for ten seconds at most; the source goes on meanwhile."""
    inbox = Inbox()
    leave = Leave(holding, leaving_paper(holding, inbox), flatten=False)
    goes_on = closed_first(leave, lambda frame: frame.mono < 1e9)

    leave.closes = True
    passed = [goes_on(tick(seconds)) for seconds in (0, 1, 1.5, 2, 10.9, 11)]

    acts = iter(lambda: inbox.take(1, 0.0), None)
    assert passed == [True, True, True, True, True, False]
    assert [(act.link, act.type) for act in acts] == [("end", "flatten")] * 3


def test_paper_that_stays_ends_at_once(holding: Bot) -> None:
    """So does paper that holds nothing."""
    inbox = Inbox()
    leave = Leave(holding, leaving_paper(holding, inbox), flatten=False)
    empty = leaving_paper(Bot(Options()), inbox)

    assert not closed_first(leave, lambda _: False)(tick())
    assert not empty(tick())
    assert not inbox.waiting

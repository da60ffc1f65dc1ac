"""Leaving with positions open: what becomes of them, and the offer to close them.

    Ctrl-C, q, --seconds ──► Leave ──► a question, if a person is there ──► closed, or left
                                                                            └─► what to type

The run goes on while nobody has answered: frames come, and the guard is there. A dashboard asks by
itself (bot.screen.screen); at a plain terminal a line is typed; in a pipe there is no question.
"""

import argparse
import os
import select
import shlex
import sys
import threading
from collections.abc import Callable
from typing import Final

from dydx_conn import Frame

from bot.config.configured import typed_again
from bot.report.report import held_words, positions_of
from bot.run.composition import Bot

# For whoever presses Ctrl-C and walks away: then all stays as it is.
PATIENCE_NS: Final = 20_000_000_000


class Leave:
    """How a run that holds something ends: `requested` by a signal, and what `closes`, if anything.

    `stays` words what becomes of positions that stay, `asks` is whether somebody at a plain
    terminal still has to answer, `on_screen` whether the dashboard puts the question. Call `holds`
    with each frame once the run is to end: True as long as there is something to wait for.
    """

    def __init__(
        self, bot: Bot, flattening: Callable[[Frame], bool], *, flatten: bool, asks: bool = False,
        stays: str = "open, unguarded",
    ) -> None:  # fmt: skip
        self.requested = threading.Event()
        self.closes, self.asks, self.on_screen = flatten, asks and not flatten, False
        self._bot, self._flattening, self._stays = bot, flattening, stays
        self._until: int | None = None

    @property
    def open(self) -> str:
        """Return how many positions stay, and how; "" for none."""
        count, brackets = len(positions_of(self._bot)), self._bot.risk.account.orders.brackets
        plural = "s" * (len(brackets) > 1)
        but = f" but for {len(brackets)} bracket{plural} on the venue" if brackets else ""
        return f"{held_count(count)} {self._stays}{but}" if count else ""

    @property
    def question(self) -> str:
        """Return what stays open, for the question; "" for nothing."""
        held = held_words(positions_of(self._bot))
        return f"{self.open}: {'; '.join(held)}" if held else ""

    def holds(self, frame: Frame) -> bool:
        """Ask, then close if that is the answer; False once nothing is left to do."""
        if self.closes:
            return self._flattening(frame)
        if not self.asks:
            return False
        if self._until is None:
            if not self.question:
                return self._answered("")
            self._until = frame.mono + PATIENCE_NS
            print(f"bot: {self.question}\nclose them now? [y/N] ", end="", file=sys.stderr)
            sys.stderr.flush()
        line = typed()
        if line is None:
            return frame.mono < self._until or self._answered("")
        return self._answered(line)

    def _answered(self, line: str) -> bool:
        self.asks, self.closes = False, line.strip().lower() in ("y", "yes")
        if self._until is not None:
            what = "they are closed" if self.closes else "they stay open"
            print(f"bot: {what}", file=sys.stderr)
        return self.closes


def held_count(count: int) -> str:
    """Word how many positions stay."""
    return f"{count} position{'s stay' if count > 1 else ' stays'}"


def typed() -> str | None:
    """Return the line that was typed, None while there is none; "" where none can come."""
    file = sys.stdin.fileno()
    try:
        ready, _, _ = select.select([file], [], [], 0)
        # What is typed to a shell in front of us is not ours: to read it would stop the run.
        if not ready or os.tcgetpgrp(file) != os.getpgrp():
            return None
        return os.read(file, 4_096).decode("utf-8", "replace")
    except OSError:
        return ""  # the terminal is closed


def command_words(arguments: argparse.Namespace) -> str:
    """Return the command that closes what a run leaves open, as it is to be typed."""
    names = ("environment", "network", "rest", "ws", "node", "keys", "address", "subaccount")
    words = ["bot", "flatten", *typed_again(arguments, *names, "authenticators")]
    words += [
        f"--yes-{what}" for what in ("orders", "mainnet") if getattr(arguments, f"yes_{what}")
    ]
    return shlex.join(words)

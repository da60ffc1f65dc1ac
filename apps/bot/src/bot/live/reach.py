"""How a run is reached over HTTP: its address is taken before it begins, and answers to its end.

    listened: --api ──► the address is ours, or words and a 2
    reached: a thread that answers ──► … ──► the run ends ──► joined

A run without --api loads nothing of it.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, cast

from dydx_conn import ConnError, Frame, Inbox, Network

from bot.config.changes import Reply
from bot.config.configured import loaded_of
from bot.database.rows import database_of
from bot.live.handle import Handle
from bot.run.composition import Bot, monitor
from bot.run.desk import Desk
from bot.run.kinds import kinds_of
from bot.system import absent

_LOOK_S: Final = 0.002  # how often whoever holds frames looks at what waits


@contextlib.contextmanager
def listened(arguments: argparse.Namespace) -> Iterator[None]:
    """Take the address at which a run is to be reached, if it is; before anything of it begins."""
    settings = loaded_of(arguments).settings.api
    if not settings.address:
        if getattr(arguments, "stay", False):
            raise ConnError("expected --api HOST:PORT beside --stay, got none: nobody could look")
        yield
        return
    if words := absent("api", "--api"):
        raise ConnError(words)
    from bot.serve.server import listening

    with listening(settings) as server:
        arguments.listener = server
        yield


class Answers:
    """What is answered between two frames of a run: its handle, and its desk."""

    def __init__(self, handle: Handle, desk: Desk) -> None:
        self.desk, self._handle = desk, handle

    def answer(self) -> None:
        """Answer what waits."""
        self._handle.answer()
        self.desk.answer()

    def attend(self) -> float:
        """Answer while no frame comes; return in how many seconds to do so again (`Inbox`)."""
        self._handle.answer()
        return self.desk.attend()


def is_reached(arguments: argparse.Namespace) -> bool:
    """Return whether somebody may look at this run over HTTP."""
    return getattr(arguments, "listener", None) is not None


@contextlib.contextmanager
def reached(
    arguments: argparse.Namespace,
    bot: Bot,
    inbox: Inbox,
    desk: Desk,
    *,
    mode: str,
    name: str,
    net: Network | None,
    recording: Path | None,
    prints: bool,
) -> Iterator[None]:
    """Answer over HTTP while a run goes, if somebody chose so."""
    if not is_reached(arguments):
        yield
        return
    from bot.serve.served import Mode, Served
    from bot.serve.server import serving, trouble
    from bot.serve.tokens import Tokens

    monitor(bot)
    loaded = loaded_of(arguments)
    lives = mode in ("PAPER", "TRADE") or getattr(arguments, "journal", False)
    served = Served(
        desk=desk, inbox=inbox, mode=cast(Mode, mode), name=name, settings=loaded.settings.api,
        tokens=Tokens(loaded.settings.api, lambda words: trouble(served, words)), net=net,
        config=loaded, recording=recording, kinds=kinds_of(getattr(arguments, "fidelity", None)),
        database=database_of(arguments) if lives else "",
        reload=partial(_reload, bot),
    )  # fmt: skip
    with serving(served, arguments.listener) as url:
        bot.shown.url = url
        if prints:
            print(f"bot: answers at {url}", file=sys.stderr)
        yield


def _reload(bot: Bot, who: str) -> Reply:
    # Looked up when it is called: whoever reads settings may begin later.
    return bot.reload(who)


def held_until_due(speed: float, pace: Callable[[Frame], bool]) -> Callable[[Frame], bool]:
    """Hold each frame of a recording until it is due, and call `pace` meanwhile: it may end it."""
    began: list[tuple[int, float]] = []

    def held(frame: Frame) -> bool:
        if not began:
            began.append((frame.mono, time.monotonic()))
        due = began[0][1] + (frame.mono - began[0][0]) / 1e9 / speed
        while pace(frame):
            if (wait_s := due - time.monotonic()) <= 0:
                return True
            time.sleep(min(wait_s, _LOOK_S))
        return False

    return held


def stay(arguments: argparse.Namespace, attend: Callable[[], object]) -> None:
    """Answer on, at the end of a recording, until Ctrl-C, if somebody chose so."""
    if not (is_reached(arguments) and getattr(arguments, "stay", False)):
        return
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            attend()
            time.sleep(_LOOK_S)

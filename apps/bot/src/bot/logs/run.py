"""The log beside a run: what it takes from it, and where the file is.

    journal ─► hear ─────────┐
    frame ─► note ─► errors ─┼──► LogWriter.put ──► a line each (bot.logs.events lists them)
    connections, stderr ─────┘

`bot paper` and `bot trade` have one file an account in the state directory; a replay has none
unless one is typed. Nothing here decides: the run's hash is the same with it and without.
"""

import argparse
import logging
import os
import platform
import re
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from dydx_conn import AccountUpdate, ConnectionState, ConnError, Frame, Inbox, Network, Subaccount

from bot import __version__
from bot.config.configured import loaded_of
from bot.config.log import LEVELS, LogSettings
from bot.config.place import NONE
from bot.logs.aside import followed
from bot.logs.errors import Repeated
from bot.logs.events import DEBUG, ERROR, Line, connection_line
from bot.logs.file import LogFile
from bot.logs.writer import LogWriter
from bot.outlet import behind
from bot.run.acts import private, state_directory
from bot.run.beside import Beside
from bot.run.composition import Bot
from bot.run.journal import JournalEntry
from bot.version import commit_of

_SECOND_NS: Final = 1_000_000_000
_NUMBERS: Final = logging.getLevelNamesMapping()
_LEVELS: Final[Mapping[str, int]] = {name: _NUMBERS[name.upper()] for name in LEVELS}

# === Where ===


def logged(
    arguments: argparse.Namespace, bot: Bot, net: Network, *, mode: str, human: bool
) -> list[Beside]:
    """Return what logs a run on a network: one, or none; `human` says that stderr is free for it.

    `ConnError` for a file that was chosen and cannot be written. Where none was chosen a run goes
    on without, and that is its trouble.
    """
    settings = loaded_of(arguments).settings
    log, account, file, trouble = settings.log, bot.venue.subaccount, None, ""
    path = Path(log.file) if log.file else default_log(mode, net, account)
    if log.file != NONE:
        try:
            file = _opened(log, path, ours=not log.file)
        except ConnError as error:
            if log.file:
                raise
            trouble = str(error)
    run = {"mode": mode, "network": net.name, "chain": net.chain_id}
    known = run | {"account": str(account), "tickers": [*settings.markets]}
    return _made(bot, log, file, known, trouble=trouble, human=human and log.human)


def replay_logged(
    arguments: argparse.Namespace, bot: Bot, network: str, *, human: bool
) -> list[Beside]:
    """Return what logs a replay, where that is typed: one, or none."""
    log = loaded_of(arguments).settings.log
    file = None if arguments.log in (None, NONE) else _opened(log, Path(arguments.log))
    known = {"mode": "replay", "network": network, "source": arguments.recording}
    return _made(bot, log, file, known, human=human and bool(arguments.log_human), waits=True)


def _opened(log: LogSettings, path: Path, *, ours: bool = False) -> LogFile:
    try:
        if ours:
            private(path.parent)
    except OSError as error:
        what = f"expected to write logs to {path.parent}, got {error.strerror or error}"
        raise ConnError(what) from None
    return LogFile(path, log.max_bytes, log.backups)


def _made(
    bot: Bot,
    log: LogSettings,
    file: LogFile | None,
    known: Mapping[str, Any],
    *,
    human: bool,
    trouble: str = "",
    waits: bool = False,
) -> list[Beside]:
    if file is None and not human and not trouble:
        return []
    began = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    stream = behind(sys.stderr) if human else None
    run, level = f"{began}-{os.getpid()}", _LEVELS[log.level]
    writer = LogWriter(file, run, level=level, human=stream, waits=waits)
    writer.trouble = trouble
    bot.shown.log = "" if file is None else str(file.path.absolute())
    return [Logs(bot, writer, known)]


def logs_directory() -> Path:
    """Return where the logs of accounts are whose file nobody chose."""
    return state_directory() / "logs"


def default_log(mode: str, net: Network, account: Subaccount) -> Path:
    """Return the log of an account on a network, in which one run comes after the other."""
    # By dots: eighty letters without one would be taken for a secret, and the path is printed.
    name = f"{mode}.{net.name}.{account.owner}.{account.number}"
    return logs_directory() / f"{re.sub(r'[^a-zA-Z0-9_.-]', '_', name)}.jsonl"


# === Beside a run ===


class Logs:
    """Logs a run; what is wrong with that is in `trouble`, and the run goes on."""

    name = "log"

    def __init__(self, bot: Bot, writer: LogWriter, known: Mapping[str, Any]) -> None:
        self.writer = writer
        self._bot, self._run = bot, known
        self._errors, self._troubles = Repeated(), dict[str, str]()
        self._due = 0
        self._ends = ExitStack()

    @property
    def trouble(self) -> str:
        """Return why lines cannot be written, "" while they can."""
        return self.writer.trouble

    def figures(self) -> dict[str, int]:
        """Return how many lines are written, wait and were dropped."""
        return self.writer.figures()

    def begin(self, inbox: Inbox) -> None:
        """Begin with a line about the run, below what was printed before it."""
        bot = self._bot
        self.writer.start()
        self._ends.callback(self.writer.close)
        self._ends.enter_context(followed(self.writer.put, self._is_known))
        self._put("run_began", time.time_ns(), **self._beginning())
        bot.follow_links()
        if bot.shown.links is not None:
            bot.shown.links.followers.append(self._turned)
        bot.journal.listeners.append(self.hear)
        self._ends.callback(bot.journal.listeners.remove, self.hear)

    def hear(self, event: JournalEntry | AccountUpdate) -> None:
        """Take an entry of the journal."""
        if isinstance(event, AccountUpdate):
            return
        if event.kind == "decision" and self.writer.level > DEBUG:
            return  # as nearly always: it is not even stored
        self.writer.put_run((event, time.time_ns()))

    def note(self, frame: Frame) -> None:
        """Take what is wrong with a frame, and look at the run once a second."""
        if frame.kind != "ws" or frame.fault or frame.type == "error":
            for line in self._errors.note(frame):
                self.writer.put_run(line)
        if frame.mono >= self._due:
            self._due = frame.mono + _SECOND_NS
            self._second(frame.at)

    def end(self) -> None:
        """Write what waits still, and that the run is over."""
        bot = self._bot
        last = bot.shown.last_frames[-1].at if bot.shown.last_frames else time.time_ns()
        for line in self._errors.rest(last):
            self.writer.put(line)
        self._look(last)
        counts, error = bot.journal.counts, bot.failure or bot.stopped
        fields: dict[str, Any] = {
            "frames": bot.data.frames, "fills": counts["fill"], "acts": counts["act"],
            "run_hash": bot.journal.hash,
        }  # fmt: skip
        if error is not None:
            fields["error"] = f"{type(error).__name__}: {error}"
        self._put("run_ended", last, level=0 if error is None else ERROR, **fields)
        self._ends.close()

    def _beginning(self) -> dict[str, Any]:
        options = self._bot.options
        known: dict[str, Any] = {"version": __version__, "python": platform.python_version()}
        known |= {"commit": commit} if (commit := commit_of()) else {}
        known |= {**self._run, "pid": os.getpid()}
        if options.config is not None:
            known |= {"config": options.config.file, "config_hash": options.config.hash}
        return known

    def _second(self, at: int) -> None:
        for line in self._errors.over(at):
            self.writer.put_run(line)
        self._look(at)
        if (config := self._bot.options.config) is not None:
            self.writer.level = _LEVELS[config.settings.log.level]

    def _look(self, at: int) -> None:
        """Take the troubles that are new."""
        found = dict(self._bot.shown.troubles)
        found |= {one.name: one.trouble for one in self._bot.shown.beside if one.trouble}
        for who, words in found.items():
            if self._troubles.get(who) != words:
                self._troubles[who] = words
                self._put("trouble", at, who=who, words=words)

    def _is_known(self, words: str) -> bool:
        """Return whether a line of stderr is one of the troubles, which have lines of their own."""
        return words in self._bot.shown.troubles.values()

    def _turned(self, turn: ConnectionState) -> None:
        self.writer.put_run(connection_line(turn, time.time_ns()))

    def _put(self, event: str, at: int, *, level: int = 0, **fields: Any) -> None:
        line = Line(event=event, at=at, wall=time.time_ns(), level=level, fields=fields)
        self.writer.put(line)

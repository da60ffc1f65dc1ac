"""Hot reload: from an edit of the configuration to one act, which changes all of it or nothing.

    file ─────────► watch ──┐
    SIGHUP ─────────────────┼──► Reloader.reload ──► act "reload", or "refuse" with what is wrong
    bot reload ──► handle ──┘

The file is loaded whole, as at the start: what was typed and variables stay above it. What is
then another value becomes an act (bot.config.changes); what is wrong, or needs a restart, changes
nothing and is noted once. The run's own thread sees the act alone.
"""

import contextlib
import queue
import signal
import stat
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from dydx_conn import AccountUpdate, ConnError, Inbox
from dydx_strategy import StrategyError
from pydantic_core import to_json, to_jsonable_python

from bot.config.changes import (
    REFUSE,
    RELOAD,
    Reply,
    RestartError,
    is_of_settings,
    refusal,
    text_of,
)
from bot.config.document import content_of, read_file
from bot.config.layers import Layer, of_document
from bot.config.loaded import Loaded
from bot.config.place import FILE
from bot.config.settings import PATHS, SECRETS, value_of
from bot.hangup import has_terminal
from bot.live.troubles import Handler, handled
from bot.run.acts import act
from bot.run.composition import Bot
from bot.run.journal import JournalEntry
from bot.system import by_number

# === Differences ===
# Between two loads of one configuration.


def differences(was: Loaded, now: Loaded) -> dict[str, Any]:
    """Return the settings that are others now, by path, as JSON has them; of a secret no more."""
    values = ((path, value_of(was.settings, path), value_of(now.settings, path)) for path in PATHS)
    found = {
        path: to_jsonable_python(value)
        for path, before, value in values
        # Equal weights in another order are others: they are added so.
        if path not in SECRETS and to_json(before) != to_json(value)
    }
    # Here one is opened in the one and sealed in the other.
    secrets = (path for path in SECRETS if was.secret(path) != now.secret(path))
    return found | dict.fromkeys(secrets, "another one")


class _Edition(msgspec.Struct, frozen=True):
    """One load: what came of it, and what the file itself gives, by path, with the place."""

    loaded: Loaded
    given: Mapping[str, tuple[Any, str]]

    @classmethod
    def of(cls, loaded: Loaded) -> "_Edition":
        given: Layer = {}
        with contextlib.suppress(ConnError):  # gone again: nobody can say what was in it
            given = {} if loaded.path is None else of_document(read_file(loaded.path), [])
        return cls(loaded, {path: (one.value, one.where) for path, one in given.items()})

    def above(self, before: "_Edition") -> list[str]:
        """Return what the file gives otherwise than before, and something else goes over."""
        origins = self.loaded.origins
        return [
            f"{where}: {path} {value} changes nothing: {origins[path]} goes over it"
            for path, (value, where) in self.given.items()
            if origins[path] != where and before.given.get(path, (None, ""))[0] != value
        ]


# === Reloader ===
# Takes requests from wherever they come, one after the other, and puts acts in.

_TICK_MS: Final = 500  # between two looks where nothing is reported, as on a network's disk
_STEP_MS: Final = 100  # of silence, in which an editor is done
_MOST_MS: Final = 1_000
_LOOKS: Final = 20  # at a file that does not stand still
_CUT: Final = 10  # of these at one whose last line does not end: it may be half of a number


class Reloader:
    """Reads the settings of a run again, on a thread of its own; its acts go into the `inbox`.

    `place` is where a file may come for a run that began without one. `prints` says that what they
    change, or what is wrong, is printed as they take effect.
    """

    def __init__(
        self,
        bot: Bot,
        loaded: Loaded,
        inbox: Inbox,
        *,
        place: Path | None = None,
        prints: bool = False,
    ) -> None:
        self._bot, self._inbox, self._prints = bot, inbox, prints
        self._seen = FileState(began=loaded.path is not None)
        loaded = msgspec.structs.replace(loaded, path=loaded.path or place)
        # What the run goes by once every act of it has entered.
        self._options, self._edition = bot.options, _Edition.of(loaded)
        self._wrong: list[str] = []  # what was put in last
        self._lock = threading.Lock()
        self._requests: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopping = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the run goes; a hangup is a request where there is no terminal to lose."""
        self._bot.reload = self.reload
        self._bot.journal.listeners.append(self._print)
        thread = threading.Thread(target=self._serve, name="settings", daemon=True)
        signals: dict[str, Handler] = {}
        if not has_terminal():
            signals = {"SIGHUP": lambda *_: self._requests.put("signal")}
        with handled(by_number(signals), left=(signal.SIG_IGN,)):
            thread.start()
            try:
                yield
            finally:
                self._stopping.set()
                thread.join()

    def _print(self, entry: JournalEntry | AccountUpdate) -> None:
        if not self._prints or isinstance(entry, AccountUpdate) or entry.kind != "act":
            return
        if is_of_settings(entry.value):
            print(f"bot: {entry.words}", file=sys.stderr)

    def reload(self, who: str, *, doubtful: bool = False) -> Reply:
        """Load the configuration again and put an act in; return what changes, or why nothing does.

        Of what is `doubtful`, as half written, nothing that is wrong is noted.
        """
        with self._lock:
            try:
                reply = self._changed(who)
            except (ConnError, StrategyError) as error:
                needs = isinstance(error, RestartError | StrategyError)
                reply = Reply(refused=str(error), restart=needs)
            except Exception as error:  # noqa: BLE001 - no edit may end who reads the next one
                words = f"expected settings, got {type(error).__name__}: {error}"
                reply = Reply(refused=words)
            if not (reply.refused and doubtful):
                self._note(who, reply)
            return reply

    def _note(self, who: str, reply: Reply) -> None:
        """Put in what is wrong; what the file's watch finds is known if somebody read it before."""
        wrong = [refusal(reply.refused)] if reply.refused else reply.above
        if wrong != self._wrong or who != "file":
            for words in wrong:
                act(self._inbox, who, REFUSE, words)
        self._wrong = wrong

    def _changed(self, who: str) -> Reply:
        before, edition = self._edition, self._still()
        was, now = before.loaded, edition.loaded
        changes = differences(was, now)
        self._options = self._options.changed(changes, self._bot.scorer.names, who)
        self._edition = edition
        if changes or self._wrong:  # which is over: whoever mended it sees that
            self._inbox.put("act", text_of(changes), RELOAD, link=who)
        return Reply(was=differences(now, was), now=changes, above=edition.above(before))

    def _still(self) -> _Edition:
        """Load the file once it stands still: what is written just now may be half of it."""
        before = self._edition.loaded
        if (path := before.path) is None:
            raise RestartError("expected a run that goes by a file of settings, got none: restart")
        looks = 0
        while looks < _LOOKS:
            content = _content(path)
            steps = 1 if content is None or content.endswith(b"\n") else _CUT
            self._stopping.wait(steps * _STEP_MS / 1e3)
            looks += steps
            try:
                if content is not None and not content.strip():
                    raise ConnError(f"{path}: expected settings, got an empty file")
                found = _Edition.of(before.again())
            except ConnError:
                if _content(path) == content:
                    raise
            else:
                if _content(path) == content:
                    return found
        raise ConnError(f"{path}: expected a file that stands still, got one that does not")

    # --- the thread ---

    def _serve(self) -> None:
        """Take requests, and look at the file whenever it may be another, until the end."""
        path, known = self._edition.loaded.path, self._seen
        for named in self._moments(path):
            while not self._requests.empty():
                self.reload(self._requests.get())
            if path is not None and (news := known.look(path, named=named)):
                is_new = news == "new"
                known.doubted = bool(self.reload("file", doubtful=is_new).refused) and is_new

    def _moments(self, path: Path | None) -> Iterator[bool]:
        """Yield at least every half second, and True as soon as something happened to the file."""
        while not self._stopping.is_set():
            # No directory, or no more that may be watched: the clock alone tells, then.
            with contextlib.suppress(OSError, RuntimeError):
                if path is not None:
                    yield from self._events(path)
            self._stopping.wait(_TICK_MS / 1e3)
            yield False

    def _events(self, path: Path) -> Iterator[bool]:
        from watchfiles import watch

        directory = path.absolute().parent
        watched = identity(directory)
        for events in watch(
            directory, watch_filter=None, debounce=_MOST_MS, step=_STEP_MS, rust_timeout=_TICK_MS,
            yield_on_timeout=True, stop_event=self._stopping, recursive=False,
            raise_interrupt=False,
        ):  # fmt: skip
            yield any(Path(name).name == path.name for _, name in events)
            if identity(directory) != watched:
                return  # it went away, and another may have come


class FileState:
    """What was seen of a file, so as to tell that it is another; `began` if there was one."""

    def __init__(self, *, began: bool) -> None:
        self.doubted = False  # what was seen last was wrong, and may have been half written
        self._stamp: tuple[int, ...] | None = () if began else None
        self._content: bytes | None = b"\0" if began else None  # what no file of settings has

    def look(self, path: Path, *, named: bool) -> Literal["", "new", "still"]:
        """Return whether the file is "new", or "still" what was doubted a moment ago."""
        stamp = identity(path)
        if not (named or self.doubted) and stamp == self._stamp:
            return ""
        before, self._stamp, self._content = self._content, stamp, _content(path)
        if self._content != before:
            return "new"
        return "still" if self.doubted else ""


def identity(path: Path) -> tuple[int, ...] | None:
    """Return what tells a file from another, and from itself before; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    is_file = stat.S_ISREG(found.st_mode)
    return (found.st_dev, found.st_ino, *((found.st_mtime_ns, found.st_size) if is_file else ()))


def _content(path: Path) -> bytes | None:
    """Return what is in a file; None if it cannot be read."""
    try:
        return content_of(path)
    except OSError:
        return None


def place_of(loaded: Loaded, named: str | None) -> Path | None:
    """Return where a file is looked for, unless another one or none was `named`, or a recording's.

    Who has none yet may begin one while the run goes.
    """
    return None if named is not None or loaded.is_recorded else Path(FILE)

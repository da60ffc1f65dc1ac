"""The handle of a running bot: how `bot halt`, `resume` and `status` reach it, and the commands.

    bot halt ──► Unix socket ──► Inbox ──► an act among the frames
    bot status ──► Unix socket ──► a request ──► answered on the run's thread, between two frames

A socket and not a file: it answers, so that whoever halts sees what came of it; it is gone with its
process, so that nobody halts a run that is over; and its directory, which only its owner may
enter, is all the permission there is. It is `PID.sock` in `dydx-bot` under XDG_RUNTIME_DIR (or
/run/user/UID where a login gives one), else, as on macOS, in the state directory. Both are looked
at, because who halts may have logged in another way than who started the bot.

A request is one line of JSON, and so is its reply; no thread but the run's own touches its state.
"""

import argparse
import contextlib
import json
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from dydx_conn import ConnError, Inbox

from bot.config.changes import UNWATCHED, Reply, change_words
from bot.outlet import as_lines
from bot.report.status import STARTING, settings_lines, status_lines
from bot.run.acts import act, private
from bot.run.handles import called, directories, running
from bot.system import IS_UNIX, reason

# Ticks come every second: a run that has not answered for so long does not take frames.
_ANSWER_S: Final = 3.0
_TALK_S: Final = 2.0
_REFUSED_S: Final = 0.2
_LONGEST: Final = 4_096


class Request(msgspec.Struct, frozen=True):
    """What a caller requests of a run."""

    what: Literal["status", "halt", "pause", "resume", "flatten", "reload"]
    why: str = ""


# === The run's end ===
# The socket of a run: it takes requests, puts acts in, and answers a status between frames.


class Handle:
    """Listens for whoever may halt this run; call `answer` on the run's thread, between frames.

    Until `begin` it starts, and its status is what it is `starting` with: an act waits till then.
    """

    def __init__(self, inbox: Inbox, starting: dict[str, Any]) -> None:
        self.inbox, self._starting = inbox, starting
        self._status: Callable[[], dict[str, Any]] | None = None
        self._reload: Callable[[], Reply] = lambda: UNWATCHED
        self._callers: queue.SimpleQueue[queue.SimpleQueue[dict[str, Any]]] = queue.SimpleQueue()
        self._stopping = threading.Event()

    def begin(
        self, status: Callable[[], dict[str, Any]], reload: Callable[[], Reply] | None = None
    ) -> None:
        """Answer with a status of the run from now on, and with what a reload changes."""
        self._reload = reload or self._reload
        self._status = status

    def answer(self) -> None:
        """Report how the run stands to those who wait for it."""
        while self._status is not None and not self._callers.empty():
            reply: dict[str, Any]
            try:
                reply = {"status": self._status()}
            except Exception as error:  # noqa: BLE001 - who looks may not stop what runs
                reply = {"error": f"expected a status, got {type(error).__name__}: {error}"}
            self._callers.get().put(reply)

    def serve(self, server: socket.socket) -> None:
        """Talk to one caller after the other, until `stop`."""
        server.settimeout(0.2)
        while not self._stopping.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue  # nobody called
            except OSError:
                # No descriptor is left for whoever calls, and he would be refused at once again.
                self._stopping.wait(_REFUSED_S)
                continue
            with contextlib.suppress(OSError), connection:  # whoever called left in the middle
                connection.settimeout(_TALK_S)
                connection.sendall(msgspec.json.encode(self._reply(_line(connection))) + b"\n")

    def stop(self) -> None:
        """Listen no longer."""
        self._stopping.set()

    def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(line, type=Request)
        except msgspec.MsgspecError as error:
            known = "status, halt, pause, resume, flatten or reload"
            return {"error": f"expected {known}, got {line[:80]!r}: {error}"}
        if request.what == "reload":
            return {"reload": self._reload()}
        if request.what != "status":
            act(self.inbox, "command", request.what, request.why)
            return {"taken": request.what}
        if self._status is None:
            return {"status": self._starting}
        replies: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._callers.put(replies)
        try:
            return replies.get(timeout=_ANSWER_S)
        except queue.Empty:
            return {"error": f"expected an answer within {_ANSWER_S:g} s, got none: no frames come"}


@contextlib.contextmanager
def within_reach(inbox: Inbox, starting: dict[str, Any]) -> Iterator[Handle]:
    """Give a run its handle, from its start on and while it goes.

    A run that cannot have one is warned about, and goes on.
    """
    handle = Handle(inbox, starting)
    with contextlib.ExitStack() as stack:
        try:
            server = _listen(stack)
        except ConnError as error:
            print(f"bot: warning: bot halt cannot reach this run: {error}", file=sys.stderr)
        else:
            thread = threading.Thread(
                target=handle.serve, args=[server], name="handle", daemon=True
            )
            thread.start()
            stack.callback(thread.join)
            stack.callback(handle.stop)
        yield handle


def _listen(stack: contextlib.ExitStack) -> socket.socket:
    troubles: list[str] = []
    for directory in directories() if IS_UNIX else []:
        try:
            path = private(directory) / f"{os.getpid()}.sock"
            path.unlink(missing_ok=True)  # of a process that had our number before
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(str(path))
            stack.callback(path.unlink, missing_ok=True)
            path.chmod(0o600)
            server.listen()
        except (OSError, ConnError) as error:
            troubles.append(reason(error))
        else:
            return server
    raise ConnError("; ".join(troubles))


# === The caller's end ===
# Which bots run on this machine, and one request to one of them.


def request(path: Path, what: str, why: str = "") -> dict[str, Any]:
    """Send a run one request; return its reply, `ConnError` if there is none or it refuses."""
    try:
        with called(path) as connection:
            connection.sendall(json.dumps({"what": what, "why": why}).encode() + b"\n")
            reply: dict[str, Any] = msgspec.json.decode(_line(connection), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        raise ConnError(f"expected {path.stem} to answer, got {error!r}") from None
    if "error" in reply:
        raise ConnError(f"{path.stem}: {reply['error']}")
    return reply


def status_from(path: Path) -> dict[str, Any]:
    """Return how a run stands, as `status_of` reports it."""
    found: dict[str, Any] = request(path, "status")["status"]
    return found


def _line(connection: socket.socket) -> bytes:
    text = b""
    while not text.endswith(b"\n") and (more := connection.recv(_LONGEST)):
        text += more
        if len(text) > 100 * _LONGEST:
            break
    return text


def chosen(number: int | None) -> Path:
    """Return the handle of the run with this number, or of the only one there is."""
    found = running()
    wanted = [number] if number is not None else [*found]
    if len(wanted) == 1 and wanted[0] in found:
        return found[wanted[0]]
    got = "none" if number is None else str(number)
    if not found:
        raise ConnError(f"expected a running bot, got {got}")
    known = ", ".join(f"{pid} ({_named(path)})" for pid, path in found.items())
    raise ConnError(f"expected the number of a running bot, one of {known}, got {got}")


def _named(path: Path) -> str:
    try:
        found = status_from(path)
    except ConnError:
        return "no answer"
    # Two on one network differ by nothing else.
    return f"{found['mode']} {found['source']} {found['account']}"


# === Commands ===
# `bot halt`, `bot resume`, `bot reload` and `bot status`, and the words of a status.

_EFFECT_S: Final = 5.0
_LEAVE_S: Final = 60.0
_AGAIN_S: Final = 5.0


def halt(arguments: argparse.Namespace) -> int:
    """Halt a running bot, or pause its entries alone; 1 if it has no effect in time."""
    return _acted(arguments, "pause" if arguments.pause else "halt")


def resume(arguments: argparse.Namespace) -> int:
    """Let a halted bot enter again; 1 if it is still halted after that time."""
    return _acted(arguments, "resume")


def _acted(arguments: argparse.Namespace, what: str) -> int:
    path = chosen(arguments.run)
    before = status_from(path)["acts"]
    request(path, what, arguments.why)
    found = _after(path, before, what)
    if found is None:
        return 1
    state = found["gate"]["state"]
    starts = [f"{what}: takes effect as the run begins"] * (state == STARTING)
    print(as_lines([*status_lines(found), *starts]))
    halted, paused = state == "HALTED", "PAUSED" in found["gate"]["reasons"]
    wanted = {"halt": halted, "pause": paused, "resume": not (halted or paused)}
    return 0 if state == STARTING or wanted[what] else 1


def _after(path: Path, acts: int, what: str) -> dict[str, Any] | None:
    """Wait until there are more acts; return the status then, None if none has come in time."""
    ends = time.monotonic() + _EFFECT_S
    while (found := status_from(path))["acts"] <= acts and found["gate"]["state"] != STARTING:
        if time.monotonic() > ends:
            print(f"bot: expected {what} within {_EFFECT_S:g} s, got no effect", file=sys.stderr)
            return None
        time.sleep(0.05)
    return found


def reload(arguments: argparse.Namespace) -> int:
    """Let a running bot read its settings again, and print what changes.

    1 if that needs a restart or has no effect in time, 2 if something in it is wrong.
    """
    path = chosen(arguments.run)
    acts = status_from(path)["acts"]
    reply = msgspec.convert(request(path, "reload")["reload"], Reply)
    if reply.refused:
        after = "\n" if "\n" in reply.refused else ": "  # of many faults each has its line
        print(f"bot: {reply.refused}{after}nothing changes", file=sys.stderr)
        return 1 if reply.restart else 2
    if reply.now and _after(path, acts, "reload") is None:
        return 1
    rows = [change_words({name: value}, reply.was) for name, value in reply.now.items()]
    # A run that watches its file may have been faster: what it did then stands below.
    same = [] if rows else ["nothing changes", *settings_lines(status_from(path)["settings"])]
    print(as_lines([*rows, *same, *reply.above]))
    return 0


def flatten_run(number: int | None, why: str) -> int:
    """Let a running bot close what it holds, and halt it; 1 if something is still held after 60 s.

    What did not fill is tried again: each order that closes ends within five blocks.
    """
    path = chosen(number)
    ends, again = time.monotonic() + _LEAVE_S, 0.0
    while True:
        if (now := time.monotonic()) >= again:
            request(path, "flatten", why)
            again = now + _AGAIN_S
        found = status_from(path)
        flat = found["gate"]["state"] == "HALTED" and not found["positions"]
        if now > ends or (flat and "UNKNOWN_ACCOUNT" not in found["gate"]["reasons"]):
            break
        time.sleep(0.1)
    print(as_lines(status_lines(found)))
    for row in found["positions"]:
        what = f"{row['ticker']} {row['size']} to be closed within {_LEAVE_S:g} s"
        print(f"bot: expected {what}, got it open", file=sys.stderr)
    return 0 if flat else 1


def status(arguments: argparse.Namespace) -> int:
    """Print how a running bot stands; 1 if its gate is not ACTIVE."""
    found = status_from(chosen(arguments.run))
    print(json.dumps(found, indent=2) if arguments.json else as_lines(status_lines(found)))
    return 0 if found["gate"]["state"] == "ACTIVE" else 1

"""One sink: its messages leave in order, on a thread of its own, for as long as it takes.

    put ──► a file in the spool ──► thread: attempt ──► taken: the file goes
                                       └── not taken, or not in time: back-off, and again

`put` waits for the disk and for nothing else. A sink that hangs holds up its own messages alone;
what it has not taken when the run ends is sent by the next one.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dydx_conn import ConnError

from bot.notify.notice import Message
from bot.notify.sending import Attempt, Deliver, SinkError, deliver, service_of
from bot.notify.spool import MOST, Spool
from bot.system import reason

RETRY_S: Final = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0)
_LOOK_S: Final = 1.0  # how often it looks for what other runs have left
_TRIES: Final = 8  # of the oldest, before the one behind it is tried as well
_TROUBLE_S: Final = 60.0  # a sink that works again by then was no trouble


class _Outage:
    """A time in which nothing is taken: since when, how often it was tried, why, and when next.

    `stuck` is the oldest message once it alone may be what is not taken.
    """

    def __init__(self) -> None:
        self.since, self.tries, self.why, self.due = 0.0, 0, "", 0.0
        self.stuck: Path | None = None

    def go_on(self, why: str) -> None:
        """Note that it was tried once more."""
        now = time.monotonic()
        self.since = self.since or now
        self.due = now + RETRY_S[min(self.tries, len(RETRY_S) - 1)]
        self.tries, self.why = self.tries + 1, why

    @property
    def lasted_s(self) -> float:
        """Return for how long nothing was taken."""
        return time.monotonic() - self.since


class Sink:
    """Sends the messages of one sink; `trouble` is what is wrong with it, "" if nothing is.

    `address` returns where to, or raises `SinkError`.
    """

    def __init__(
        self, name: str, address: Callable[[], str], *, timeout_s: float, deliver: Deliver = deliver
    ) -> None:
        self.name, self.spool = name, Spool(name)
        # How many messages were sent, how many attempts failed, how many messages wait, as counted
        # last, and how many events are lost.
        self.sent = self.failed = self.waits = self.lost = 0
        self.trouble = ""
        self._work = address, deliver, timeout_s
        self._memory: deque[Message] = deque()  # what the disk does not take
        self._attempt: tuple[Attempt, Path | None] | None = None
        self._outage, self._ends = _Outage(), float("inf")
        self._wrongs: dict[str, str] = {}  # what is wrong for longer than an attempt, by what it is
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"sink {name}", daemon=True)

    def start(self) -> None:
        """Begin to send; what earlier runs left is sent first."""
        self._thread.start()

    def put(self, message: Message) -> None:
        """Let a message be sent soon, behind all others; it never raises."""
        try:
            self.spool.add(message)
            self._wrongs.pop("disk", None)
            self.waits += 1
        except (OSError, ConnError) as error:
            what = f"expected to store notices in {self.spool.path}, got {reason(error)}"
            self._wrongs["disk"] = what
            if len(self._memory) < MOST:
                self._memory.append(message)
            else:
                self.lost += message.count
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Return how many messages wait."""
        return len(self.spool.waiting()) + len(self._memory)

    def end_within(self, seconds: float) -> None:
        """Send what waits for so long at most, and leave the rest."""
        self._ends = time.monotonic() + seconds
        self._wake.set()

    def close(self) -> None:
        """Wait for so long; what waits then is sent by another run."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, self._ends - time.monotonic()))
        self._judge()
        if self._memory:
            count = sum(message.count for message in self._memory)
            self.trouble = f"{self._wrongs.get('disk', '')}: {count} are lost"

    # --- the thread

    def _live(self) -> None:
        # Apprise takes a second to load: at the start nothing is urgent yet.
        try:
            service_of(self._work[0]())
        except SinkError as error:
            self._wrongs["address"] = f"{error}: notices wait in {self.spool.path}"
        except Exception as error:  # noqa: BLE001 - of whatever service; who sends learns of it
            self._outage.go_on(type(error).__name__)
        try:
            while True:
                self._wake.wait(self._pause())
                self._wake.clear()
                with self.spool.held() as ours:
                    while ours and self._goes_on():
                        pass
                self._judge()
                # At the end there is one more try; what fails now is left to the next run.
                done = not ours or self.failing or not self.waiting or self._is_late()
                if self._ends < float("inf") and done:
                    return
        finally:
            self.spool.close()

    def _goes_on(self) -> bool:
        """Send one message, whatever the disk does meanwhile; False if none is to be sent now."""
        try:
            return self._step()
        except Exception as error:  # noqa: BLE001 - a thread has nobody above it
            self._fail(f"{type(error).__name__}: {error}")
            return False

    def _pause(self) -> float:
        now, due = time.monotonic(), self._outage.due
        pause = min(_LOOK_S, due - now) if due > now else _LOOK_S
        return max(0.0, min(pause, self._ends - now))

    def _is_late(self) -> bool:
        return time.monotonic() >= self._ends

    def _step(self) -> bool:
        """Send one message; False if there is none, or if it is to wait."""
        address, deliver, timeout_s = self._work
        if self._is_late():
            return False
        if self._attempt is None:
            if time.monotonic() < self._outage.due and self._ends == float("inf"):
                return False
            found = self._next()
            if found is None and not self._memory:
                return False
            path, message = (None, self._memory[0]) if found is None else found
            self._attempt = Attempt(deliver, address, message), path
        attempt, path = self._attempt
        # At the end of a run nobody waits for long; what hangs is looked at again now and then.
        left = min(attempt.began + timeout_s, self._ends) - time.monotonic()
        why = attempt.wait(left)
        if why is None:
            if self._is_late():
                return False
            self._fail(f"no answer within {timeout_s:g} s", hangs=True)
            return False
        self._attempt = None
        if why:
            self._fail(why)
            return False
        self._take(path)
        return True

    def _next(self) -> tuple[Path, Message] | None:
        """Return the oldest; where it alone may be what is not taken, the one behind it as well."""
        found, outage = self.spool.oldest(), self._outage
        if found is None or outage.tries < _TRIES:
            return found
        outage.stuck = found[0]
        behind = self.spool.oldest(but=outage.stuck) if outage.tries % 2 else None
        return behind or found

    def _take(self, path: Path | None) -> None:
        stuck = self._outage.stuck
        if stuck is not None and path != stuck:
            self.spool.refuse(stuck)
        if path is None:
            self._memory.popleft()
        else:
            self.spool.remove(path)
        self.sent += 1
        self._outage = _Outage()
        self._wrongs.pop("address", None)

    def _fail(self, why: str, *, hangs: bool = False) -> None:
        if not (hangs and self.failing == why):  # the same attempt still
            self.failed += 1
        self._outage.go_on(why)

    def _judge(self) -> None:
        """Put in words what is wrong by now, and count what waits."""
        self.waits = self.waiting
        found, outage = [*self._wrongs.values()], self._outage
        if aside := self.spool.aside:
            what = f"{len(aside)} damaged or refused, set aside as {aside[0].name}"
            found.append(f"expected notices to be sent in {self.spool.path}, got {what}")
        if self.lost:
            found.append(f"{self.lost} notices are lost")
        late = outage.why and outage.lasted_s >= _TROUBLE_S
        if late and "address" not in self._wrongs:
            what = f"expected {self.name} to take notices, got for {outage.lasted_s:.0f} s: "
            found.append(f"{what}{outage.why}: {self.waiting} wait in {self.spool.path}")
        self.trouble = "; ".join(found)

    @property
    def failing(self) -> str:
        """Return why the newest attempt failed, "" if it did not."""
        return self._outage.why

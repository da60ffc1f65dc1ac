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

RETRY_S: Final = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0)
_LOOK_S: Final = 1.0  # how often it looks for what other runs have left
_TROUBLE_S: Final = 60.0  # a sink that works again by then was no trouble


class Sink:
    """Sends the messages of one sink; `trouble` is what is wrong with it, "" if nothing is.

    `address` returns where to, or raises `SinkError`; `sent` and `failed` count attempts.
    """

    def __init__(
        self, name: str, address: Callable[[], str], *, timeout_s: float, deliver: Deliver = deliver
    ) -> None:
        self.name, self.spool = name, Spool(name)
        self.sent = self.failed = self.lost = 0
        self.trouble = ""
        self._work = address, deliver, timeout_s
        self._memory: deque[Message] = deque()  # what the disk does not take
        self._attempt: tuple[Attempt, Path | None] | None = None
        self._failing: tuple[float, int, str] | None = None  # since when, how often, and why
        self._due, self._ends = 0.0, float("inf")
        self._disk = self._wrong = ""
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"sink {name}", daemon=True)

    def start(self) -> None:
        """Begin to send; what earlier runs left is sent first."""
        self._thread.start()

    def put(self, message: Message) -> None:
        """Let a message be sent soon, behind all others; it never raises."""
        try:
            self.spool.add(message)
            self._disk = ""
        except (OSError, ConnError) as error:
            self._disk = f"expected to store notices in {self.spool.path}, got {error}"
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
            self.trouble = f"{self._disk}: {count} are lost"

    # --- the thread

    def _live(self) -> None:
        # Apprise takes a second to load: at the start nothing is urgent yet.
        try:
            service_of(self._work[0]())
        except SinkError as error:
            self._wrong = f"{error}: notices wait in {self.spool.path}"
        try:
            while True:
                self._wake.wait(self._pause())
                self._wake.clear()
                with self.spool.held() as ours:
                    while ours and self._step():
                        pass
                self._judge()
                # At the end there is one more try; what fails now is left to the next run.
                done = not ours or self._failing or not self.waiting or self._is_late()
                if self._ends < float("inf") and done:
                    return
        finally:
            self.spool.close()

    def _pause(self) -> float:
        now = time.monotonic()
        pause = min(_LOOK_S, self._due - now) if self._due > now else _LOOK_S
        return max(0.0, min(pause, self._ends - now))

    def _is_late(self) -> bool:
        return time.monotonic() >= self._ends

    def _step(self) -> bool:
        """Send one message; False if there is none, or if it is to wait."""
        address, deliver, timeout_s = self._work
        if self._is_late():
            return False
        if self._attempt is None:
            if time.monotonic() < self._due and self._ends == float("inf"):
                return False
            found = self.spool.oldest()
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

    def _take(self, path: Path | None) -> None:
        if path is None:
            self._memory.popleft()
        else:
            self.spool.remove(path)
        self.sent += 1
        self._failing, self._due, self._wrong = None, 0.0, ""

    def _fail(self, why: str, *, hangs: bool = False) -> None:
        now = time.monotonic()
        since, tries, was = self._failing or (now, 0, "")
        if not (hangs and was == why):  # the same attempt still
            self.failed += 1
        self._failing = since, tries + 1, why
        self._due = now + RETRY_S[min(tries, len(RETRY_S) - 1)]

    def _judge(self) -> None:
        """Put in words what is wrong by now."""
        found = [*filter(None, [self._disk, self._wrong])]
        if self.spool.damaged:
            aside = f"{len(self.spool.damaged)} damaged, set aside as {self.spool.damaged[0]}"
            found.append(f"expected notices in {self.spool.path}, got {aside}")
        if self.lost:
            found.append(f"{self.lost} notices are lost")
        if self._failing is not None and not self._wrong:
            since, _, why = self._failing
            seconds = time.monotonic() - since
            if seconds >= _TROUBLE_S:
                what = f"expected {self.name} to take notices, got for {seconds:.0f} s: {why}"
                found.append(f"{what}: {self.waiting} wait in {self.spool.path}")
        self.trouble = "; ".join(found)

    @property
    def failing(self) -> str:
        """Return why the newest attempt failed, "" if it did not."""
        return "" if self._failing is None else self._failing[2]

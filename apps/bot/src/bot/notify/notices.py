"""Notices beside a run, or beside accounts that are watched.

    journal entry ──► noticed ─┐
    frame, once a second ──► Look ─┴─► queue ──► thread: looks, throttle of each sink ──► Sink.put
                                                                   └─► what is held back: a file

The run's thread puts frozen values into a queue and does nothing else; a queue that is too long
counts by kind. Thresholds and limits go by event time, so that a recording gives what its run gave.
"""

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from dydx_conn import AccountUpdate, ConnError, Frame, Inbox
from msgspec.structs import replace

from bot.config.notify import Kind, NotifySettings, SinkSettings
from bot.notify import looks, throttle
from bot.notify.entries import noticed
from bot.notify.looks import Look, Noticed
from bot.notify.notice import LEAST, LEVELS, Heading, Level, Notice
from bot.notify.sink import Sink
from bot.notify.throttle import Flow, Limits, Tick
from bot.run.journal import JournalEntry
from bot.system import reason

EVERY_S: Final = 0.2  # how long a notice waits for its turn at most
END_S: Final = 3.0  # how long the end of a run waits for sinks
STILL_S: Final = 60.0  # without a frame, though one comes every second
MOST: Final = 10_000  # notices in the queue, above which they are counted by kind
_SECOND_NS: Final = 1_000_000_000


class Watched(Protocol):
    """What is watched; each is called on the run's thread, with an event time (ns, UTC)."""

    def looks(self, at: int) -> Sequence[Look]:
        """Return how its accounts stand."""

    def begins(self, at: int) -> Sequence[Notice]:
        """Return what is noticed as it begins."""

    def ends(self, at: int, seen: Mapping[str, Noticed]) -> Sequence[Notice]:
        """Return what is noticed as it ends, of what was `seen` of each account."""


class Notices:
    """Notices `of` one run, as `Beside`.

    It `goes_on` with what earlier runs held back, and leaves its own to the next one; a replay
    does not, and sends all of it in the end.
    """

    name = "notices"

    def __init__(
        self,
        settings: NotifySettings,
        heading: Heading,
        sinks: Mapping[str, Sink],
        of: Watched,
        *,
        goes_on: bool = True,
    ) -> None:
        self.trouble = ""
        self._settings, self._heading = settings, heading
        self._of = of
        self._queue: deque[Notice | Look] = deque()
        self._over, self._goes_on = Overflow(), goes_on
        self._due = self._at = 0
        self._stopping = threading.Event()
        self._gates = [
            Gate(sink, sinks[sink.name], settings, heading)
            for sink in settings.sinks if sink.name in sinks
        ]  # fmt: skip
        self._seen: dict[str, Noticed] = {}
        self._broken = ""
        self._thread = threading.Thread(target=self._live, name="notices", daemon=True)

    def figures(self) -> dict[str, int]:
        """Return how many messages were sent, wait, failed, and how many events are held back."""
        counts = {"queued": len(self._queue)}
        for gate in self._gates:
            sink = gate.sink
            counts |= {
                f"{sink.name} sent": sink.sent, f"{sink.name} waiting": sink.waits,
                f"{sink.name} held back": gate.flow.waiting, f"{sink.name} failed": sink.failed,
            }  # fmt: skip
        return counts

    # --- the run's thread

    def listen(self, entry: JournalEntry | AccountUpdate) -> None:
        """Take what happened; a listener of a journal."""
        if isinstance(entry, JournalEntry) and (notice := noticed(entry)) is not None:
            self.put(notice)

    def put(self, notice: Notice) -> None:
        """Let people be notified; it never waits and never raises."""
        if len(self._queue) < MOST:
            self._queue.append(notice)
        else:
            self._over.add(notice)

    def begin(self, inbox: Inbox) -> None:
        """Begin to send."""
        for gate in self._gates:
            gate.sink.start()
        self._thread.start()

    def note(self, frame: Frame) -> None:
        """Look how it stands, once a second of the run's own time."""
        if frame.mono < self._due:
            return
        begins = not self._due
        self._due, self._at = frame.mono + _SECOND_NS, frame.at
        with self._guarded():
            if begins:
                self._queue.extend(self._of.begins(frame.at))
            self._queue.extend(self._of.looks(frame.at))

    def end(self) -> None:
        """Send what waits, for some seconds at most; the rest is for the next run."""
        if self._thread.ident is None:
            return
        by = time.monotonic() + END_S
        if self._at:
            with self._guarded():
                self._queue.extend(self._of.ends(self._at, dict(self._seen)))
        self._stopping.set()
        self._thread.join(END_S)
        for gate in self._gates:
            gate.sink.end_within(max(0.0, by - time.monotonic()))
        for gate in self._gates:
            gate.sink.close()
        self._judge()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Let nothing that is done here for people stop what runs."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, it is in `trouble`
            self._broken = f"expected notices to go on, got {type(error).__name__}: {error}"

    # --- the thread

    def _live(self) -> None:
        for gate in self._gates if self._goes_on else ():
            gate.go_on()
        still = Standstill()
        while True:
            stops = self._stopping.wait(EVERY_S)
            with self._guarded():
                if self._goes_on and not stops:
                    self._queue.extend(still.noticed(self._at))
                self._turn()
            self._judge()
            if stops and not self._queue:
                break
        for gate in self._gates if not self._goes_on else ():
            gate.flush()

    def _turn(self) -> None:
        changed = False
        for _ in range(len(self._queue)):
            changed = True
            event = self._queue.popleft()
            if isinstance(event, Look):
                before = self._seen.get(event.account, Noticed())
                self._seen[event.account], found = looks.step(before, event, self._settings)
                self._spread(event.at, [self._named(event.account, one) for one in found])
            else:
                self._spread(event.at, (event,))
        for notice in self._over.take():
            self._spread(notice.at, (notice,))
        for gate in self._gates if changed and self._goes_on else ():
            gate.store()

    def _named(self, account: str, notice: Notice) -> Notice:
        """Name the account where a message is of several."""
        if account == self._heading.account:
            return notice
        return replace(notice, title=f"{account}: {notice.title}")

    def _spread(self, at: int, found: Sequence[Notice]) -> None:
        events: tuple[Tick | Notice, ...] = (Tick(at), *found)
        for gate in self._gates:
            for event in events:
                gate.take(event)

    def _judge(self) -> None:
        found = [self._broken, *(gate.trouble or gate.sink.trouble for gate in self._gates)]
        self.trouble = "; ".join(filter(None, found))


class Standstill:
    """Notices that a run on live frames takes none any more: it has a tick every second."""

    def __init__(self) -> None:
        self._at, self._since, self._noticed = 0, time.monotonic(), False

    def noticed(self, at: int) -> list[Notice]:
        """Return what is to be noticed while the newest look was at this event time (ns, UTC)."""
        now = time.monotonic()
        if at != self._at:
            back, self._at, self._since, self._noticed = self._noticed, at, now, False
            return [_standing(at, "info", "the run goes on again")] if back else []
        if self._noticed or not at or now - self._since < STILL_S:
            return []
        self._noticed = True
        title = f"the run stands still for {now - self._since:.0f} s"
        return [_standing(time.time_ns(), "critical", title)]


def _standing(at: int, level: Level, title: str) -> Notice:
    words = "no frame is taken: nothing enters, and nobody guards what is held"
    return Notice(
        kind="trouble", subject=f"standstill {level}", at=at, level=level, title=title,
        words=words if level == "critical" else "",
    )  # fmt: skip


class Overflow:
    """What comes while the queue is too long: of each kind how many, and the newest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: dict[str, Notice] = {}
        self._counts: Counter[str] = Counter()

    def add(self, notice: Notice) -> None:
        """Count one."""
        with self._lock:
            self._newest[notice.kind] = notice
            self._counts[notice.kind] += notice.count

    def take(self) -> list[Notice]:
        """Return one of each kind, with how many there were."""
        if not self._counts:
            return []
        with self._lock:
            newest, self._newest = self._newest, {}
            counts, self._counts = self._counts, Counter()
        return [replace(notice, count=counts[kind]) for kind, notice in newest.items()]


class Gate:
    """What one sink gets of all that happens: its kinds, its level, and no more than its limits."""

    def __init__(
        self, settings: SinkSettings, sink: Sink, of: NotifySettings, heading: Heading
    ) -> None:
        self.sink, self.flow, self.trouble = sink, Flow(), ""
        self._kinds: frozenset[Kind] = frozenset(settings.kinds)
        self._least = LEAST[settings.level]
        self._limits, self._heading = Limits.of(of), heading
        self._stored = self.flow

    def go_on(self) -> None:
        """Go on with what earlier runs held back."""
        with contextlib.suppress(OSError, ConnError):
            self.flow = self._stored = self.sink.spool.take()

    def take(self, event: Notice | Tick) -> None:
        """Take what happened, or that time has passed."""
        if isinstance(event, Notice) and not self._wants(event):
            return
        self.flow, messages = throttle.step(self.flow, event, self._limits, self._heading)
        for message in messages:
            self.sink.put(message)

    def _wants(self, notice: Notice) -> bool:
        # What a person tests or has configured by its time of day has no level.
        grave = LEVELS.index(notice.level) >= self._least or notice.kind == "summary"
        return notice.kind in self._kinds and grave

    def flush(self) -> None:
        """Send what is held back, whatever the limits."""
        self.flow, messages = throttle.flushed(self.flow, self._heading)
        for message in messages:
            self.sink.put(message)

    def store(self) -> None:
        """Store what is held back, where that has changed."""
        now, was = self.flow, self._stored
        if now.held is was.held and now.sent == was.sent:
            return
        try:
            self.sink.spool.leave(now)
            self.trouble, self._stored = "", now
        except (OSError, ConnError) as error:
            path = self.sink.spool.path
            self.trouble = f"expected to store what is held back in {path}, got {reason(error)}"

"""Back and forth in the recording that is being played.

    recording ──► Travel.frames ──► Bot, and a moment of it now and then
    keys ──► a goal ──► the moment before it ──► Bot.go_to, and the frames from there, undrawn

What a run knows at a frame is what it knew there the first time, to the same hash: it goes back to
a moment that was packed (bot.run.moments) and takes the frames after it again. Between two moments
are a thousand frames; where there are too many, every second one is dropped and the next come half
as often. What a person did in between are frames of the run: they enter again at their place, and
what was seen and done behind a new one is of another course, and forgotten. A strategy that cannot
be packed, or that decides otherwise when it comes again, is begun again from the first frame.
"""

import bisect
import sys
import time
from collections.abc import Callable, Generator, Iterator
from itertools import chain
from typing import Final, NamedTuple

from dydx_conn import AccountUpdate, Frame, Inbox, Recording, from_generator
from dydx_panels import TimelinePart
from msgspec.structs import replace
from reactivex import Observable

from bot.ending import begin_frame, end_frame
from bot.run.acts import waiting
from bot.run.composition import Bot
from bot.run.journal import JournalEntry
from bot.run.moments import Moment, MomentError
from bot.run.wire import WireVenue

EVERY: Final = 1_000  # frames between two moments: fifty milliseconds of folding
ROOM: Final = 32  # moments: a few megabytes
_LOOK_NS: Final = 300_000_000
_SKIPPED: Final = 4_096  # frames that are read and not taken, between two looks
_FOREVER: Final = sys.maxsize

# === Timeline ===
# What was seen of a recording so far, and where: for the row that shows it.

PLACES: Final = 400  # more than a terminal is wide


class Timeline:
    """Where in a recording things happened, as far as it was seen.

    `first` and `last` are its frames, where they are known.
    """

    def __init__(self, first: Frame | None, last: Frame | None) -> None:
        self._first, self._last = first, last
        self.seen = 0 if first is None else first.mono  # of the furthest frame that was taken
        self._marks: dict[tuple[int, str], int] = {}  # by place and kind: the first position
        self._part: TimelinePart | None = None
        if first is not None and last is not None and last.mono > first.mono:
            self._part = TimelinePart(began=first.at, ends=last.at)

    def share(self, mono: int) -> float:
        """Return how far a frame is on the way from the first to the last."""
        first, last = self._first, self._last
        if first is None or last is None or last.mono <= first.mono:
            return 0.0
        return min(max((mono - first.mono) / (last.mono - first.mono), 0.0), 1.0)

    def mark(self, kind: str, position: int, mono: int) -> None:
        """Note that something of a kind happened."""
        key = min(int(self.share(mono) * PLACES), PLACES - 1), kind
        if key not in self._marks:
            self._marks[key] = position
            self._order()

    def forget(self, position: int, seen: int) -> None:
        """Forget what was seen behind a position."""
        self.seen = seen
        self._marks = {key: at for key, at in self._marks.items() if at <= position}
        self._order()

    def part(self, now: int) -> TimelinePart | None:
        """Return it as it is drawn while a frame is the last that was taken."""
        if self._part is None:
            return None
        return replace(self._part, now=self.share(now), seen=self.share(self.seen))

    def _order(self) -> None:
        if self._part is not None:
            marks = tuple((place / PLACES, kind) for place, kind in sorted(self._marks))
            self._part = replace(self._part, marks=marks)


def kind_of(entry: JournalEntry) -> str:
    """Return what an entry is marked as; "" if it is not."""
    if entry.kind == "decision":
        return "decision" if entry.value.action == "target" else ""
    if entry.kind == "fill":
        return "liquidated" if entry.value.type == "LIQUIDATED" else "fill"
    if entry.kind == "gate":
        return "" if entry.value.state == "ACTIVE" else "gate"
    return _KINDS.get(entry.kind, "")


_KINDS: Final = {"denied": "denied", "reduce": "reduce", "act": "act"}

# === Travel ===
# The frames of a recording in the order in which somebody wants to see them.


def remade(bot: Bot) -> Callable[[], Bot]:
    """Return what makes a bot as one was made, before its first frame and any change of settings.

    A strategy's file is run again; `StrategyError` if it has become another one that cannot be.
    """
    options, account, is_wire = bot.options, bot.venue.subaccount, isinstance(bot.venue, WireVenue)

    def make() -> Bot:
        again = Bot(options, WireVenue(account) if is_wire else None)
        again.follow()
        return again

    return make


class Goal(NamedTuple):
    """Where to go: so many frames from the start, and not past a time of the recording's clock."""

    position: int = _FOREVER
    mono: int = _FOREVER


class _Stop(NamedTuple):
    """A place to begin again from: what was taken by then, the last of it, and the hash so far."""

    position: int
    frame: Frame | None
    hash: str
    moment: Moment | None

    @property
    def mono(self) -> int:
        return -1 if self.frame is None else self.frame.mono


class Travel:
    """The frames of a recording for one bot, and the way to any of them.

    `make` makes a bot like it that has seen nothing yet (`remade`). Whoever shows the run sets the
    rest: `at_end` is called at the end of the recording, `meanwhile` three times a second on a
    long way, with the share of it that is done, both to return whether it goes on; `say` takes
    what a person is to know.
    """

    def __init__(
        self, bot: Bot, recording: Recording, inbox: Inbox, make: Callable[[], Bot],
        *, every: int = EVERY,
    ) -> None:  # fmt: skip
        self.goal: Goal | None = None
        self.position = self.furthest = 0  # frames that were taken, now and at most
        self.at_end: Callable[[], bool] = lambda: False
        self.meanwhile: Callable[[float], bool] = lambda _: True
        self.say: Callable[[str], object] = lambda _: None
        self._bot, self._recording, self._inbox, self._make = bot, recording, inbox, make
        first, self._last = next(iter(recording), None), recording.newest()
        self._timeline = Timeline(first, self._last)
        self._began = -1 if first is None else first.mono
        self._frame: Frame | None = None  # the last that was taken
        self._acts: dict[int, list[Frame]] = {}  # what a person did, by the frames before it
        self._decisions: list[int] = []  # positions right behind those that changed a target
        self._every, self._packs, self._stops = every, True, list[_Stop]()
        self._way: Goal | None = None  # the goal that is being gone to
        self._strayed = False  # whether what stands now is not what it was at this place
        bot.journal.listeners.append(self._note)

    @property
    def timeline(self) -> TimelinePart | None:
        """Return what is known of the whole recording; None where its end is not known."""
        return self._timeline.part(self._mono)

    @property
    def is_under_way(self) -> bool:
        """Return whether frames are only gone through, to get elsewhere."""
        return self.goal is not None or self._way is not None

    @property
    def _mono(self) -> int:
        return self._began if self._frame is None else self._frame.mono

    # --- goals ---

    def back_to_decision(self) -> None:
        """Go to the decision before this place, or to the start."""
        here = self.position if self.goal is None else self.goal.position
        place = bisect.bisect_left(self._decisions, here)
        self.goal = Goal(self._decisions[place - 1] if place else 0)

    def on(self, seconds: float) -> None:
        """Go so many seconds of the recording's clock on, or back where they are negative."""
        ahead = _FOREVER if self.goal is None else self.goal.mono
        mono = (self._mono if ahead == _FOREVER else ahead) + int(seconds * 1e9)
        self.goal = Goal(mono=max(mono, self._began))

    def to_share(self, share: float) -> None:
        """Go to a place on the timeline, where 0 is its start and 1 its end."""
        whole = 0 if self._last is None else self._last.mono - self._began
        self.goal = Goal(mono=self._began + int(share * whole))

    def to_start(self) -> None:
        """Go to where nothing has been taken."""
        self.goal = Goal(0)

    def to_end(self) -> None:
        """Go to the last message: behind it the connections close, and every book is unknown."""
        self.goal = Goal() if self._last is None else Goal(mono=self._last.mono)

    # --- frames ---

    def frames(self, pace: Callable[[Frame], bool]) -> Observable[Frame]:
        """Emit the frames in the order in which they are wanted, and acts between them.

        `pace` sees each frame that is played, and waits until it is due or there is a `goal`;
        False ends it. Cold, on the subscriber's thread; errors with a `RecordingError`.
        """
        return from_generator(lambda: self._play(pace))

    def _play(self, pace: Callable[[Frame], bool]) -> Generator[Frame]:
        self._remember()
        source = iter(self._recording)
        while True:
            frame = next(source, None)
            if not (self.at_end() if frame is None else pace(frame)):
                return
            if self.goal is not None:
                here = source if frame is None else chain([frame], source)
                source = yield from self._go(self.goal, here)
            elif frame is not None:
                self._let_in(frame)
                yield from self._take(frame)

    def _take(self, frame: Frame) -> Generator[Frame]:
        yield from self._acts.get(self.position, ())
        yield frame
        self.position, self._frame = self.position + 1, frame
        if self.position > self.furthest:
            self.furthest = self.position
            self._timeline.seen = frame.mono
            if frame.kind in ("close", "gap"):
                self._timeline.mark("loss", self.position, frame.mono)
        if not self.position % self._every:
            self._remember()

    def _let_in(self, frame: Frame) -> None:
        """Let a person's acts in before a frame, with the number and times of the one before."""
        new = list(waiting(self._inbox, self._frame or frame)) if self._inbox.waiting else []
        if new:
            # What was seen and done behind this place is of another course of things.
            self._acts = {at: acts for at, acts in self._acts.items() if at <= self.position}
            self._acts.setdefault(self.position, []).extend(new)
            self._stops = [stop for stop in self._stops if stop.position <= self.position]
            del self._decisions[bisect.bisect_right(self._decisions, self.position) :]
            self._timeline.forget(self.position, self._mono)
            self.furthest = self.position

    def _note(self, entry: JournalEntry | AccountUpdate) -> None:
        if isinstance(entry, AccountUpdate) or self.position < self.furthest:
            return
        if kind := kind_of(entry):
            self._timeline.mark(kind, self.position + 1, self._bot.shown.last_frames[-1].mono)
        if kind == "decision" and self._decisions[-1:] != [self.position + 1]:
            self._decisions.append(self.position + 1)

    # --- the way ---

    def _go(self, goal: Goal, here: Iterator[Frame]) -> Generator[Frame, None, Iterator[Frame]]:
        """Take frames, undrawn, up to a goal; return those behind it."""
        self.goal, self._way = None, goal
        source = self._source(goal, here)
        first, due = (self.position, self._mono), time.monotonic_ns() + _LOOK_NS
        for frame in source:
            if self.position >= goal.position or frame.mono > goal.mono:
                source = chain([frame], source)
                break
            yield from self._take(frame)
            if self._way is not goal:  # it begins again from elsewhere
                break
            if time.monotonic_ns() > due:
                due = time.monotonic_ns() + _LOOK_NS
                if not self.meanwhile(self._done(goal, *first)):
                    break
        self._way = None
        return source

    def _done(self, goal: Goal, position: int, mono: int) -> float:
        if goal.position < _FOREVER:
            return (self.position - position) / max(goal.position - position, 1)
        end = self._timeline.share(goal.mono) - self._timeline.share(mono)
        return (self._timeline.share(self._mono) - self._timeline.share(mono)) / (end or 1.0)

    def _source(self, goal: Goal, here: Iterator[Frame]) -> Iterator[Frame]:
        """Return the frames to take, from here or from the stop that is nearest before the goal."""

        def before(place: "_Stop | Travel") -> bool:
            mono = place.mono if isinstance(place, _Stop) else place._mono
            return place.position <= goal.position and mono <= goal.mono

        stop = next(s for s in reversed(self._stops) if not s.position or (s.moment and before(s)))
        if not self._strayed and before(self) and self.position >= stop.position:
            return here
        source = iter(self._recording)
        for position in range(stop.position):
            next(source)
            if not position % _SKIPPED and not self.meanwhile(0.0):
                return here
        begin_frame()  # half way there is no place to end at
        self._bot.go_to(self._make() if stop.moment is None else stop.moment)
        end_frame()
        self.position, self._frame, self._strayed = stop.position, stop.frame, False
        return source

    def _remember(self) -> None:
        """Pack this moment, or look whether it is what it was when it was packed."""
        known = next((stop for stop in self._stops if stop.position == self.position), None)
        hash_ = self._bot.journal.hash
        if known is None:
            self._stops.append(_Stop(self.position, self._frame, hash_, self._packed()))
            if len(self._stops) > ROOM:
                self._every *= 2
                self._stops = [s for s in self._stops if not s.position % self._every]
        elif known.hash != hash_:
            self._begin_again()

    def _packed(self) -> Moment | None:
        try:
            return self._bot.moment() if self._packs else None
        except MomentError as error:
            self._packs = False
            self.say(f"the way back begins at the first frame each time: {error}")
            return None

    def _begin_again(self) -> None:
        """Go to the same place from the first frame: what was packed was not all."""
        if self._packs:
            self._packs, self._strayed = False, True
            self._stops = [stop._replace(moment=None) for stop in self._stops]
            self.goal, self._way = self._way or Goal(self.position), None
        else:
            self.say("the strategy decides otherwise when frames come again: this is a new course")

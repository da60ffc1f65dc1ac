"""Back and forth in a recording: what is seen at a frame is what was seen there first."""

import io
import os
import pty
import select
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from bot.run.acts import act
from bot.run.composition import Bot, Options
from bot.run.wire import WireVenue
from bot.screen.alarms import Alarm
from bot.screen.screen import Screen
from bot.screen.travel import Goal, Timeline, Travel, remade
from dydx_conn import Frame, Inbox, Recording, Subaccount, find_recording
from dydx_panels import View
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

STEPS = 600  # frames that are played before the first jump


class Trip:
    """A person who plays some frames, goes somewhere, and plays on to the same place."""

    def __init__(self, path: Path, options: Options, every: int = 100) -> None:
        self.inbox = Inbox()
        self.bot = Bot(options)
        self.bot.follow()
        self.made = 0
        self.travel = Travel(
            self.bot, Recording(path), self.inbox, lambda: self.make(options), every=every
        )
        self.notices: list[str] = []
        self.travel.say = self.notices.append

    def make(self, options: Options) -> Bot:
        self.made += 1
        bot = Bot(options)
        bot.follow()
        return bot

    def through(self, *plan: int | Callable[["Trip"], object]) -> list[tuple[int, str]]:
        """Play to a position, or do something there; return where it was and the hash, each time."""
        steps, seen = list(plan), list[tuple[int, str]]()

        def pace(frame: Frame) -> bool:
            while steps and self.travel.goal is None:
                step = steps[0]
                if isinstance(step, int) and self.travel.position < step:
                    return True
                steps.pop(0)
                seen.append((self.travel.position, self.bot.journal.hash))
                if not isinstance(step, int):
                    step(self)
                    if self.inbox.waiting:
                        return True
            return bool(steps) or self.travel.goal is not None

        self.bot.run(self.travel.frames(pace))
        return seen


def goes(goal: Goal) -> Callable[[Trip], object]:
    """Return what goes somewhere."""
    return lambda trip: setattr(trip.travel, "goal", goal)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bundled recording."""
    return find_recording("quickstart")


@pytest.fixture(scope="module")
def straight(path: Path) -> dict[int, str]:
    """Return the hash after each of the first frames, played once without a jump."""
    bot, hashes = Bot(Options()), dict[int, str]()
    for position, frame in enumerate(Recording(path)):
        hashes[position] = bot.journal.hash
        if position == STEPS:
            break
        bot._take(frame)
    return hashes


@settings(max_examples=5)
@given(places=st.lists(st.integers(0, STEPS), min_size=1, max_size=4))
def test_wherever_it_goes_the_hash_is_that_of_a_straight_run(
    path: Path, straight: dict[int, str], places: list[int]
) -> None:
    """Back, forth, and back again."""
    plan: list[int | Callable[[Trip], object]] = [STEPS]
    for place in places:
        plan += [goes(Goal(place)), place]

    seen = Trip(path, Options()).through(*plan)

    assert all(hash_ == straight[position] for position, hash_ in seen)
    assert [position for position, _ in seen[2::2]] == places


def test_a_minute_back_is_a_minute_of_the_recordings_clock(path: Path) -> None:
    """And two presses before the first is done are two minutes."""
    trip, clock = Trip(path, Options()), list[int]()

    def note(trip: Trip) -> None:
        clock.append(trip.bot.shown.last_frames[-1].mono)

    def back(trip: Trip) -> None:
        trip.travel.on(-10.0)
        trip.travel.on(-5.0)

    trip.through(STEPS, note, back, note)

    assert 15.0 <= (clock[0] - clock[1]) / 1e9 < 15.2


def test_a_place_on_the_timeline_is_a_share_of_the_recordings_time(short: Path) -> None:
    """Three quarters of a minute, and a quarter of one, from there back."""
    trip, shares = Trip(short, Options(strategy="none")), list[float]()

    def note(trip: Trip) -> None:
        part = trip.travel.timeline
        assert part is not None
        shares.append(part.now)

    def to(share: float) -> Callable[[Trip], object]:
        return lambda trip: trip.travel.to_share(share)

    trip.through(20, to(0.75), note, to(0.25), note)

    assert shares == pytest.approx([0.75, 0.25], abs=0.01)


def test_the_decision_before_is_where_its_target_had_just_changed(path: Path) -> None:
    """Position by position back to the first one, and then to the start."""
    trip, targets = Trip(path, Options()), list[int]()

    def back(trip: Trip) -> None:
        trip.travel.back_to_decision()

    def note(trip: Trip) -> None:
        targets.append(trip.bot.journal.counts["target"])

    trip.through(1_200, note, back, note, back, note, back, back, note)

    assert targets == [4, 4, 3, 0]  # two of them with one frame


def test_what_a_person_did_is_done_again_at_its_place(path: Path) -> None:
    """A halt is a frame of the run: gone before it, there behind it."""
    trip = Trip(path, Options())

    def halt(trip: Trip) -> None:
        act(trip.inbox, "key", "halt", "lunch")

    seen = trip.through(300, halt, 400, goes(Goal(250)), 250, goes(Goal(400)), 400)

    assert seen[2] == seen[-1]
    assert trip.bot.risk.standing.state == "HALTED"
    assert trip.bot.journal.counts["act"] == 1


def test_an_act_in_the_past_begins_another_course(path: Path) -> None:
    """What was packed behind it is of the old one, and is not gone back to."""
    trip = Trip(path, Options())

    def halt(trip: Trip) -> None:
        act(trip.inbox, "key", "halt", "lunch")

    seen = trip.through(500, goes(Goal(150)), 150, halt, 500, goes(Goal(420)), 420, 500)

    assert seen[0][1] != seen[4][1] == seen[-1][1]
    assert trip.travel.furthest == 500


def test_what_was_done_behind_a_new_act_is_not_done_again(path: Path) -> None:
    """Whoever goes back to decide otherwise decides alone."""
    trip = Trip(path, Options())

    def acts(what: str) -> Callable[[Trip], None]:
        return lambda trip: act(trip.inbox, "key", what, "lunch")

    trip.through(300, acts("halt"), 400, goes(Goal(150)), 150, acts("pause"), 500)

    assert trip.bot.journal.counts["act"] == 1
    assert dict(trip.bot.risk.standing.reasons).keys() == {"PAUSED"}


def test_moments_are_thinned_when_there_are_many(path: Path) -> None:
    """Twice as far apart, and never more than there is room for."""
    trip = Trip(path, Options(), every=10)

    trip.through(STEPS)

    assert len(trip.travel._stops) <= 32
    assert trip.travel._every == 20


@pytest.mark.replays
def test_at_the_end_a_person_may_still_go_back(short: Path) -> None:
    """The source ends only when nobody wants anything any more."""
    trip, ends = Trip(short, Options()), list[int]()

    def at_end() -> bool:
        ends.append(trip.travel.position)
        if len(ends) == 1:
            trip.travel.to_start()
        elif len(ends) == 2:
            return False
        return True

    trip.travel.at_end = at_end
    trip.bot.run(trip.travel.frames(lambda _: True))

    assert ends[0] == ends[1] == trip.travel.furthest


def test_the_end_is_the_last_message(short: Path) -> None:
    """Behind it there is nothing to see."""
    trip, last = Trip(short, Options()), [*Recording(short)][-1]

    trip.through(10, lambda trip: trip.travel.to_end(), lambda trip: None)

    assert trip.bot.shown.last_frames[-1].mono == last.mono


def test_a_long_way_can_be_ended(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks may end it on the way, and where it ends it goes on."""
    trip, shares = Trip(path, Options()), list[float]()
    monkeypatch.setattr("bot.screen.travel._LOOK_NS", 0)

    def meanwhile(share: float) -> bool:
        shares.append(share)
        return share < 0.5

    trip.travel.meanwhile = meanwhile
    seen = trip.through(100, goes(Goal(300)), lambda trip: None)

    assert seen[-1][0] == 200
    assert shares == sorted(shares)


MINE = """
    from dydx_strategy import Decision

    {before}

    class Mine:
        name = "mine"
        def __init__(self):
            self.count = {count}
        def step(self, scored, holdings):
            nth = self.count()
            if nth % 30:
                return []
            return [Decision.of(scored, 10.0 * nth, "every thirtieth")]

    def strategy():
        return Mine()
"""


def mine(folder: Path, before: str, count: str) -> Options:
    """Write a strategy and return the options of a run with it."""
    path = folder / "mine.py"
    path.write_text(textwrap.dedent(MINE).replace("{before}", before).replace("{count}", count))
    return Options(strategy=str(path))


def test_a_strategy_that_cannot_be_packed_begins_again(path: Path, tmp_path: Path) -> None:
    """A notice says so once, and the hash is the same all the same."""
    count = "(lambda seen: lambda: seen.append(1) or len(seen))([])"
    trip = Trip(path, mine(tmp_path, "", count))

    seen = trip.through(STEPS, goes(Goal(450)), 450, STEPS)

    assert seen[0][1] == seen[-1][1]
    assert (trip.made, len(trip.notices)) == (1, 1)
    assert "begins at the first frame" in trip.notices[0]


def test_a_strategy_that_remembers_outside_itself_is_found_out(path: Path, tmp_path: Path) -> None:
    """What was packed was not all of it: it goes to the same place from the first frame."""
    before = "SEEN = []\ndef count():\n    SEEN.append(1)\n    return len(SEEN)\n"
    trip = Trip(path, mine(tmp_path, before, "count"))

    seen = trip.through(STEPS, goes(Goal(450)), 450, STEPS)

    assert trip.made == 1
    assert seen[0][1] == seen[-1][1]


def test_a_strategy_of_chance_is_called_one(path: Path, tmp_path: Path) -> None:
    """Nothing brings back what was decided by no rule."""
    # Its file is run at each beginning, and counts from another number.
    before = "import itertools, sys; sys.offset = getattr(sys, 'offset', 0) + 7"
    count = "(lambda c: lambda: next(c))(itertools.count(sys.offset))"
    trip = Trip(path, mine(tmp_path, before, count))

    trip.through(STEPS, goes(Goal(0)), STEPS)

    assert any("decides otherwise" in notice for notice in trip.notices)


class Person:
    """Somebody at a screen of a replay: keys in order, each pressed at a position."""

    def __init__(
        self, path: Path, keys: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.trip = Trip(path, Options(), every=1_000)
        console = Console(file=io.StringIO(), width=120, height=40, force_terminal=True)
        self.screen = Screen(
            self.trip.bot, mode="REPLAY", name="quickstart", speed=1_000.0, console=console,
            inbox=self.trip.inbox, travel=self.trip.travel,
        )  # fmt: skip
        self.keys, self.seen = keys, list[tuple[int, str]]()
        monkeypatch.setattr(self.screen.player, "wait_ns", self._wait)

    def _wait(self, frame: Frame, now: int, *, at_once: bool = False) -> int:
        """Press what is due, and wait for nothing."""
        travel = self.trip.travel
        self.seen.append((travel.position, self.trip.bot.journal.hash))
        if self.keys and self.keys[0][0] == travel.position:
            self.screen._answer(self.keys.pop(0)[1])
        return 1_000 if travel.goal is not None else 0

    def runs(self) -> None:
        """Play until it ends or somebody ends it."""
        try:
            self.trip.bot.run(self.trip.travel.frames(self.screen.pace))
        finally:
            self.screen.terminal.dashboard.shutdown()


def test_keys_go_to_the_decision_before_and_a_minute_back(
    path: Path, straight: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comma pauses there; brackets leave it playing."""
    person = Person(path, [(500, ","), (197, "["), (1, "q")], monkeypatch)

    person.runs()

    places = [position for position, _ in person.seen]
    assert places[501:503] == [197, 1]
    assert all(straight[position] == hash_ for position, hash_ in person.seen)


def test_home_and_end_are_where_the_recording_begins_and_ends(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end pauses; from it a minute on is the end still."""
    last = sum(1 for _ in Recording(short))
    person = Person(short, [(100, "home"), (50, "end"), (last, "q")], monkeypatch)
    person.trip.travel.at_end = lambda: False

    person.runs()

    assert [position for position, _ in person.seen][101] == 0
    assert person.trip.travel.position == last
    assert person.screen.player.paused


@pytest.mark.replays
def test_at_the_end_the_dashboard_stays_until_somebody_goes_back(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is not the end of the run then."""
    person = Person(short, [], monkeypatch)
    keys, finished = iter(["", ",", "", "q"]), list[bool]()

    def next_key(seconds: float) -> str:
        finished.append(person.screen.finished)
        return next(keys)

    monkeypatch.setattr(person.screen, "_next_key", next_key)
    person.screen.alarms._raise(Alarm(1, "HALTED", "lunch"), 2**62)
    person.runs()

    assert person.screen.alarms.over(View(), 2**62).banner == ""
    assert finished == [True] * 4
    assert [position for position, _ in person.seen].count(922) == 2
    assert person.screen.finished


def test_on_a_long_way_it_is_shown_how_far_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Esc ends it where it is, and any other key does what it does."""
    monkeypatch.setattr("bot.screen.travel._LOOK_NS", 0)
    person = Person(path, [(300, "home"), (0, "]")], monkeypatch)
    screen = person.screen
    screen.terminal.keys.put("1")

    def look(share: float) -> bool:
        goes_on = on_the_way(share)
        if goes_on and share > 0.02 and screen.terminal.keys.empty():
            screen.terminal.keys.put("\x1b")
        if not goes_on:
            person.keys.append((person.trip.travel.position, "q"))
        return goes_on

    on_the_way, person.trip.travel.meanwhile = person.trip.travel.meanwhile, look
    person.runs()

    assert screen.choices.view.panel == "safety"
    assert 0 < person.seen[-1][0] < 900
    assert "on the way: 2 %" in screen.terminal.console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.replays
def test_on_the_way_no_alarm_is_raised(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the guard did there is no news; a banner of before goes with its place."""
    person = Person(path, [(8_890, "."), (8_950, "["), (8_960, "q")], monkeypatch)
    person.trip.travel.goal = Goal(8_890)
    alarms, banners = person.screen.alarms, list[tuple[int, str]]()
    wait = person.screen.player.wait_ns

    def look(frame: Frame, now: int, *, at_once: bool = False) -> int:
        waits = wait(frame, now, at_once=at_once)
        banners.append((person.trip.travel.position, alarms.over(View(), now).banner))
        if banners[-1][0] == 8_950 and person.trip.travel.goal is not None:
            person.trip.travel.goal = Goal(8_955)  # over the guard's steps, from before them
            person.trip.travel._strayed = True
        return waits

    monkeypatch.setattr(person.screen.player, "wait_ns", look)
    person.runs()

    shown = dict(banners)
    assert "sell" in shown[8_949]
    assert shown[8_955] == shown[8_959] == ""


def test_a_bot_is_made_again_as_it_was_made_first() -> None:
    """On paper or behind the wire, by the options of its beginning."""
    paper, wire = Bot(Options()), Bot(Options(), WireVenue(Subaccount("dydx1abc", 7)))
    make_paper, make_wire = remade(paper), remade(wire)
    paper.options = Options(guard=False)

    assert make_paper().options == Options()
    assert make_wire().venue.subaccount == wire.venue.subaccount
    assert type(make_wire().venue) is WireVenue


def test_on_a_real_terminal_a_recording_that_has_ended_goes_back(short: Path) -> None:
    """A comma at its end shows the last decision, paused; q leaves."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "bot", "replay", str(short), "--speed", "1000"]
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)

    for words, key in ((b"the end", b","), (b"PAUSED", b"q"), (b"ended early", b"")):
        seen = b""
        while words not in seen:
            assert select.select([ours], [], [], 30)[0], seen[-2_000:]
            seen += os.read(ours, 65_536)
        os.write(ours, key)

    assert process.wait(timeout=30) == 0


def test_a_live_run_has_no_way_back(path: Path) -> None:
    """The key says so."""
    bot = Bot(Options())
    console = Console(file=io.StringIO(), width=120, height=40, force_terminal=True)
    screen = Screen(bot, mode="PAPER", name="testnet", console=console)
    try:
        screen._answer(",")
    finally:
        screen.terminal.dashboard.shutdown()

    assert "only a recording goes back" in screen.line.words()


def test_a_timeline_has_one_mark_of_a_kind_in_a_place() -> None:
    """In order of place, and none behind where the course changed."""
    first, last = (Frame(n, n * 10**9, n * 10**9, "", "ws", "") for n in (0, 100))
    timeline = Timeline(first, last)
    for position, kind in ((10, "fill"), (10, "fill"), (50, "decision"), (90, "gate")):
        timeline.mark(kind, position, position * 10**9)
    timeline.forget(60, 60 * 10**9)

    part = timeline.part(25 * 10**9)

    assert part is not None
    assert (part.now, part.seen) == (0.25, 0.6)
    assert part.marks == ((0.1, "fill"), (0.5, "decision"))


def test_without_an_end_there_is_no_timeline() -> None:
    """Half a scale is none."""
    assert Timeline(None, None).part(0) is None


def test_what_happened_is_marked(path: Path) -> None:
    """Decisions and fills, each where it was."""
    trip = Trip(path, Options())

    trip.through(STEPS)

    part = trip.travel.timeline
    assert part is not None
    assert {kind for _, kind in part.marks} == {"decision", "fill"}
    assert 0.0 < part.now == part.seen < 0.1

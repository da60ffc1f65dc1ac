"""Replay and fold: in order, in the recording's time, and no further than requested."""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import dydx_conn
import pytest
import reactivex
from dydx_conn import (
    MARBLE_CASES,
    ConnError,
    Frame,
    Header,
    RecordingError,
    RecordingWriter,
    collect,
    fold,
    from_generator,
    play,
    replay,
)
from reactivex import Observable
from reactivex import operators as ops
from reactivex.observable.marbles import parse
from reactivex.scheduler import HistoricalScheduler, VirtualTimeScheduler
from reactivex.subject import Subject
from reactivex.testing import ReactiveTest, TestScheduler
from reactivex.testing.marbles import messages_to_records

on_next, on_error = ReactiveTest.on_next, ReactiveTest.on_error
SECOND = 1_000_000_000


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """No stream of this file may leave a thread behind."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def recorded(path: Path, stamps: Iterable[int]) -> Path:
    """Write a recording of one message at each of `stamps`."""
    header = Header(network="local", rest="", ws="", client="", source="")
    writer = RecordingWriter(path, header)
    for number, mono in enumerate(stamps, 1):
        text = f'{{"type":"connected","message_id":{number}}}'
        writer.write("ws", ns=mono, mono=mono, c="c1", d="<", x=text)
    writer.close()
    return path


def number(frame: Frame) -> int:
    """Return what a frame is named by."""
    return frame.seq


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    """Ten messages, a second apart."""
    return recorded(tmp_path / "ten.jsonl.zst", [i * SECOND for i in range(5, 15)])


# === Replay ===


def test_a_replay_emits_every_frame_and_completes(ten: Path) -> None:
    """Cold: each subscriber has it from the start."""
    frames = replay(ten)
    done: list[str] = []

    frames.subscribe(on_completed=lambda: done.append("done"))

    assert [frame.message_id for frame in collect(frames)] == list(range(1, 11))
    assert collect(frames) == collect(frames)
    assert done == ["done"]


def test_a_recording_that_cannot_be_read_is_an_error_of_the_stream(tmp_path: Path) -> None:
    """Not of the call that made it: someone may write the file until it is subscribed."""
    frames = replay(tmp_path / "none.jsonl.zst")
    received: list[object] = []

    frames.subscribe(received.append, received.append, lambda: received.append("completed"))

    assert [type(error) for error in received] == [RecordingError]
    with pytest.raises(RecordingError):
        collect(frames)
    with pytest.raises(RecordingError, match="got 'nameless'"):
        collect(replay("nameless"))


def test_whoever_takes_one_frame_reads_no_further(
    ten: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recording is not read to its end for a subscriber who has gone."""
    read: list[int] = []
    iterate = dydx_conn.Recording.__iter__

    def counted(recording: dydx_conn.Recording) -> Iterator[Frame]:
        for frame in iterate(recording):
            read.append(frame.seq)
            yield frame

    monkeypatch.setattr(dydx_conn.Recording, "__iter__", counted)

    taken = collect(replay(ten).pipe(ops.take(1)))

    assert [frame.seq for frame in taken] == [1]
    assert len(read) <= 2


def test_a_disposed_replay_stops(ten: Path) -> None:
    """Ending from within, as an app does that received a quit while a frame is handled."""
    seen: list[int] = []
    quitting: Subject[None] = Subject()

    def on_frame(frame: Frame) -> None:
        seen.append(frame.seq)
        if frame.seq == 3:
            quitting.on_next(None)

    replay(ten).pipe(ops.take_until(quitting)).subscribe(on_frame)

    assert seen == [1, 2, 3]


def test_a_pacer_sees_each_frame_first_and_ends_the_replay(ten: Path) -> None:
    """Ending is completing: what follows must wind up, not fail."""
    seen: list[int] = []
    done: list[str] = []

    def pace(frame: Frame) -> bool:
        return frame.seq <= 4

    replay(ten, pace=pace, scheduler=VirtualTimeScheduler()).subscribe(
        lambda frame: seen.append(frame.seq), on_completed=lambda: done.append("done")
    )

    assert seen == [1, 2, 3, 4]
    assert done == ["done"]


def test_a_bug_below_is_raised_and_closes_the_recording(
    ten: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the subscriber throws, the file does not stay open."""
    closed: list[bool] = []
    iterate = dydx_conn.Recording.__iter__

    def watched(recording: dydx_conn.Recording) -> Iterator[Frame]:
        try:
            yield from iterate(recording)
        finally:
            closed.append(True)

    monkeypatch.setattr(dydx_conn.Recording, "__iter__", watched)

    def on_frame(frame: Frame) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        replay(ten).subscribe(on_frame)

    assert closed == [True]


# === As drawn ===


def drawn(described: Callable[..., Any], case: str, at: float = 0) -> list[Any]:
    """Return the one line of marbles of a source, as `reactivex.testing` records."""
    [line] = dydx_conn._marbles(described, case)
    error = RecordingError("no such file")
    return messages_to_records(parse(line, time_shift=at, lookup={"f": "f"}, error=error))


def recorded_by(scheduler: TestScheduler, source: Observable[Frame]) -> list[Any]:
    """Return what a source of frames emits, and when."""
    observer = scheduler.create_observer()
    source.pipe(ops.map(lambda _: "f")).subscribe(observer)
    return observer.messages


def test_a_replay_is_as_drawn(tmp_path: Path) -> None:
    """Its first frame at once, its end with the last."""
    scheduler = TestScheduler()
    [*frames, end] = expected = drawn(replay, "completes")
    path = recorded(tmp_path / "r.jsonl.zst", [(at.time + 1) * SECOND for at in frames])

    assert recorded_by(scheduler, replay(path, scheduler=scheduler)) == expected
    assert end.time == frames[-1].time


def test_a_replay_of_nothing_is_empty_and_one_of_no_file_an_error(tmp_path: Path) -> None:
    """At once, whatever the time."""
    scheduler = TestScheduler()
    empty = recorded(tmp_path / "r.jsonl.zst", [])

    ended = recorded_by(scheduler, replay(empty, scheduler=scheduler))
    failed = recorded_by(scheduler, replay(tmp_path / "none.jsonl.zst", scheduler=scheduler))

    assert [(at.time, at.value.kind) for at in ended + failed] == [(0, "C"), (0, "E")]


@pytest.mark.parametrize("case", ["completes", "empty", "error"])
def test_what_a_generator_yields_is_as_drawn(case: str) -> None:
    """It ends with it, or with what it raises, at that very time."""
    scheduler, expected = TestScheduler(), drawn(from_generator, case)

    def frames() -> Generator[Frame]:
        for record in expected:
            scheduler.advance_to(record.time)
            if record.value.kind == "E":
                raise record.value.exception
            if record.value.kind == "N":
                yield Frame(1, 2, 3, "c1", "tick")

    assert recorded_by(scheduler, from_generator(frames)) == expected


def test_a_generator_is_left_where_its_subscriber_leaves() -> None:
    """It yields nothing more, and is closed, however much it had."""
    scheduler, closed = TestScheduler(), []

    def frames() -> Generator[Frame]:
        try:
            while True:
                yield Frame(1, 2, 3, "c1", "tick")
        finally:
            closed.append(scheduler.clock)

    taken = recorded_by(scheduler, from_generator(frames).pipe(ops.take(2)))

    assert [at.value.kind for at in taken] == ["N", "N", "C"]
    assert closed == [0]


def test_each_case_of_a_diagram_is_played_to_its_end() -> None:
    """What an operator emits with the end of its source is not drawn where that fails."""

    def operator() -> None:
        """Raise the error.

        source    --a-b---|
        operator  --x-(y,z)-(c,|)
        """

    cases = {case: dydx_conn._marbles(operator, case) for case in MARBLE_CASES}

    assert cases == {
        "completes": ["--a-b---|", "--x-(y,z)-(c,|)"],
        "never": ["--------", "----------"],
        "empty": ["--------|", "----------|"],
        "error": ["--a-b---#", "--x-(y,z)-#"],
        "late": ["--a-b---|--a", "--x-(y,z)-(c,|)"],
    }


# === The recording's time ===


@pytest.mark.parametrize("make", [TestScheduler, VirtualTimeScheduler, HistoricalScheduler])
def test_frames_of_one_instant_come_in_order_and_at_once(tmp_path: Path, make: Any) -> None:
    """500 equal stamps neither deadlock nor drift, whichever virtual clock is used."""
    stamps = [SECOND] * 250 + [3 * SECOND] * 500 + [4 * SECOND]
    path = recorded(tmp_path / "r.jsonl.zst", stamps)
    scheduler = make()
    start = scheduler.now
    seen: list[tuple[int, float]] = []

    replay(path, scheduler=scheduler).subscribe(
        lambda frame: seen.append((frame.seq, (scheduler.now - start).total_seconds()))
    )

    assert [seq for seq, _ in seen] == list(range(1, 752))
    assert [at for _, at in seen] == [0.0] * 250 + [2.0] * 500 + [3.0]


def test_timed_operators_wait_in_the_recordings_time(ten: Path) -> None:
    """Ten seconds of frames, one of each three, in no time at all."""
    scheduler = VirtualTimeScheduler()
    numbers = replay(ten, scheduler=scheduler).pipe(ops.map(number))

    throttled: list[int] = collect(numbers.pipe(ops.throttle_first(3.0, scheduler=scheduler)))

    assert throttled == [1, 4, 7, 10]


def test_debounce_emits_at_the_pause_not_at_the_end(tmp_path: Path) -> None:
    """The last of each burst, as soon as the recording's clock has passed the pause."""
    path = recorded(tmp_path / "r.jsonl.zst", [int(s * SECOND) for s in (1, 1.1, 1.2, 5, 5.1, 9)])
    scheduler = VirtualTimeScheduler()
    seen: list[str] = []

    def note(frame: Frame) -> None:
        seen.append(f"{frame.seq}")

    noted: Callable[[Observable[Frame]], Observable[Frame]] = ops.do_action(note)
    frames = replay(path, scheduler=scheduler).pipe(noted)
    frames.pipe(ops.debounce(0.5, scheduler=scheduler)).subscribe(
        lambda frame: seen.append(f"paused after {frame.seq}")
    )

    assert seen == [
        *("1", "2", "3", "paused after 3", "4", "5", "paused after 5", "6", "paused after 6")
    ]


def test_a_clock_that_ran_backwards_does_not_stop_the_replay(tmp_path: Path) -> None:
    """Recordings may be joined; virtual time waits until it is passed again."""
    path = recorded(tmp_path / "r.jsonl.zst", [5 * SECOND, 9 * SECOND, 2 * SECOND, 10 * SECOND])

    frames = collect(replay(path, scheduler=VirtualTimeScheduler()))

    assert [frame.seq for frame in frames] == [1, 2, 3, 4]


class Clock:
    """Stand for the module `time`: sleeping only moves the hands."""

    def __init__(self) -> None:
        self.now = 1_000 * SECOND
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Return the time shown."""
        return self.now / SECOND

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept += [round(seconds, 6)] if round(seconds, 6) else []
        self.now += round(seconds * SECOND)


@pytest.mark.parametrize(("speed", "pause"), [(1.0, 1.0), (4.0, 0.25), (0.5, 2.0)])
def test_a_speed_waits_as_long_as_the_recording_did(
    ten: Path, monkeypatch: pytest.MonkeyPatch, speed: float, pause: float
) -> None:
    """Divided by the speed."""
    clock = Clock()
    monkeypatch.setattr(dydx_conn, "time", clock)

    frames = replay(ten, speed=speed)

    assert len(collect(frames)) == 10
    assert clock.slept == [pause] * 9
    collect(frames)
    assert clock.slept == [pause] * 18


def test_a_replay_that_fell_behind_does_not_wait(
    ten: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It catches up: due times count from the first frame, not from the last."""
    clock = Clock()
    monkeypatch.setattr(dydx_conn, "time", clock)

    def on_frame(frame: Frame) -> None:
        clock.now += 3 * SECOND if frame.seq == 1 else 0

    replay(ten, speed=1).subscribe(on_frame)

    assert clock.slept == [1.0] * 6


@pytest.mark.parametrize("speed", [0, -1, float("nan")])
def test_a_speed_must_be_above_nothing(speed: float) -> None:
    """Standing still is what pausing is for."""
    with pytest.raises(ConnError, match="expected a speed above 0"):
        replay("quickstart", speed=speed)


# === Fold ===


def total(state: list[int], event: int) -> Iterable[int]:
    """Add up, and emit the sum twice if it is even."""
    state[0] += event
    return [state[0]] * (2 if state[0] % 2 == 0 else 1)


@pytest.mark.parametrize("case", MARBLE_CASES)
def test_fold_is_as_drawn(case: str) -> None:
    """Each output of a step at once and in order; it ends, fails and is silent with its source."""

    def step(_: None, event: str) -> list[str]:
        return {"a": ["x", "y"], "b": ["z"]}[event]

    came, drawn = play(fold, fold(lambda: None, step), {}, case=case)

    assert came == drawn


def test_fold_hears_nothing_after_it_was_left() -> None:
    """The source is let go, and late data changes no state."""
    scheduler = TestScheduler()
    source = scheduler.create_hot_observable(on_next(210, 1), on_next(400, 1))
    seen: list[int] = []

    def step(state: list[int], event: int) -> Iterable[int]:
        seen.append(event)
        return total(state, event)

    results = scheduler.start(lambda: source.pipe(fold(lambda: [0], step)), disposed=300)

    assert results.messages == [on_next(210, 1)]
    assert seen == [1]
    assert [(s.subscribe, s.unsubscribe) for s in source.subscriptions] == [(200, 300)]


def test_a_bug_in_a_step_ends_the_stream_with_it() -> None:
    """As Rx demands; what the step returned before it broke is emitted."""
    bug = ZeroDivisionError("bug")

    def step(state: list[int], event: int) -> Iterable[int]:
        yield event
        raise bug

    scheduler = TestScheduler()
    source = scheduler.create_hot_observable(on_next(210, 1), on_next(220, 2))

    results = scheduler.start(lambda: source.pipe(fold(lambda: [0], step)))

    assert results.messages == [on_next(210, 1), on_error(210, bug)]


def test_two_subscribers_of_a_fold_share_no_state() -> None:
    """The state is made where it is subscribed."""
    made: list[list[int]] = []

    def start() -> list[int]:
        made.append([0])
        return made[-1]

    folded = reactivex.of(1, 2, 3).pipe(fold(start, total))

    assert collect(folded) == collect(folded) == [1, 3, 6, 6]
    assert made == [[6], [6]]


def test_collect_raises_what_the_stream_errs_with() -> None:
    """And gives what it emitted otherwise."""
    with pytest.raises(ValueError, match="lost"):
        collect(reactivex.throw(ValueError("lost")))
    assert collect(reactivex.of(1, 2)) == [1, 2]

"""Acts: what a person, a restart or a strategy's end does to a run, and what outlives it."""

import dataclasses
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from bot.report.why import chain
from bot.run.acts import Halted, Standstill, act, among, private
from bot.run.composition import Bot, Options, open_orders, raised
from dydx_conn import (
    NETWORKS,
    ConnError,
    Frame,
    Header,
    Inbox,
    Recording,
    RecordingWriter,
    Subaccount,
    collect,
    replay,
)
from dydx_strategy import StrategyError
from msgspec.structs import replace as with_fields
from reactivex import from_iterable
from reactivex.testing import ReactiveTest, TestScheduler

US = Subaccount("dydx1us", 0)
NET = NETWORKS["local"]
CRASH_S = 555.0  # into the bundled recording: positions are open, the crash has not begun

# The standard strategy, until its time is up.
FAILING = """
from dydx_strategy import RankAndTarget, RankSettings


class Failing:
    name = "failing"

    def __init__(self):
        self.rank = RankAndTarget(RankSettings(gross_share=4.5, market_share=1.6))
        self.begun = 0

    def step(self, scored, held):
        self.begun = self.begun or scored.at
        if scored.at - self.begun > {seconds} * 10**9:
            raise ValueError(f"no idea of {{object()}}")
        return self.rank.step(scored, held)


strategy = Failing
"""


@pytest.fixture
def failing(tmp_path: Path) -> Options:
    """Return options with a strategy that fails while leveraged positions are open."""
    path = tmp_path / "failing.py"
    path.write_text(FAILING.format(seconds=CRASH_S))
    return Options.of("reckless", strategy=str(path))


def deed(after: Frame, what: str, who: str = "key", why: str = "a headline") -> Frame:
    """Make an act with the number and the times of the frame before it."""
    return Frame(after.seq, after.at, after.mono, who, "act", why, what)


def with_acts(frames: list[Frame], **acts_s: float) -> list[Frame]:
    """Put acts in between frames, each so many seconds after the first."""
    out: list[Frame] = []
    due = {what: frames[0].mono + seconds * 1e9 for what, seconds in acts_s.items()}
    for frame in frames:
        for what in [what for what, mono in due.items() if frame.mono >= mono]:
            del due[what]
            out.append(deed(out[-1], what))
        out.append(frame)
    return out


def played(frames: Iterable[Frame], options: Options | None = None) -> Bot:
    """Run a bot through frames."""
    bot = Bot(options or Options())
    bot.run(from_iterable(frames))
    return bot


def at_s(bot: Bot, frames: list[Frame], kind: str) -> list[float]:
    """Return when the entries of a kind were written, in seconds after the first frame."""
    return [(entry.at - frames[0].at) / 1e9 for entry in bot.journal.of_kind(kind)]


# === Halt and resume ===


@pytest.mark.replays
def test_nothing_enters_after_a_halt_and_the_guard_goes_on(frames: list[Frame]) -> None:
    """What is held is still looked after; each refusal names who halted, and why."""
    halted = played(with_acts(frames, halt=CRASH_S), Options.of("reckless"))

    entered = [e for e in halted.journal.of_kind("approved") if not e.value.order.reduce_only]
    assert halted.risk.standing.state == "HALTED"
    assert all((entry.at - frames[0].at) / 1e9 < CRASH_S for entry in entered)
    assert halted.journal.counts["reduce"] > 0
    assert halted.venue.figures().liquidations == 0
    refused = [e for e in halted.journal.of_kind("denied") if e.value.reason == "HALTED"]
    assert all("a headline (by key)" in entry.words for entry in refused)


@pytest.mark.replays
def test_after_resume_it_enters_again(frames: list[Frame]) -> None:
    """The gate is what it was before."""
    resumed = played(with_acts(frames, halt=1.0, resume=60.0))
    halted = played(with_acts(frames, halt=1.0))

    assert at_s(resumed, frames, "approved")
    assert min(at_s(resumed, frames, "approved")) > 60.0
    assert resumed.risk.standing.state != "HALTED"
    assert at_s(halted, frames, "fill") == []


@pytest.mark.replays
def test_a_pause_of_entries_is_an_act_and_so_is_its_end(frames: list[Frame]) -> None:
    """It is hashed, changes the gate at once, and halts nothing."""
    paused = with_acts(frames[:1_500], pause=2.0, unpause=4.0)
    bots = [played(x) for x in (paused, paused, frames[:1_500])]

    changes = [entry.words for entry in bots[0].journal.of_kind("gate")]
    assert "gate ACTIVE → REDUCING: entries are paused: a headline (by key)" in changes
    assert bots[0].risk.standing.state == "ACTIVE"
    assert bots[0].journal.hash == bots[1].journal.hash != bots[2].journal.hash


def test_a_halt_changes_the_gate_with_the_act_itself(frames: list[Frame]) -> None:
    """Not with whatever comes next: what the gate became carries the number of the deed."""
    played_ = with_acts(frames[:1_500], halt=2.0, resume=4.0)
    bot = played(played_)

    acts = [entry.seq for entry in bot.journal.of_kind("act")]
    changes = [(e.seq, e.value.was, e.value.state) for e in bot.journal.of_kind("gate")[1:]]
    assert changes == [(acts[0], "ACTIVE", "HALTED"), (acts[1], "HALTED", "ACTIVE")]
    words = bot.journal.of_kind("gate")[1].words
    assert words == "gate ACTIVE → HALTED: halted: a headline (by key)"


def test_a_halt_without_a_reason_leaves_the_one_that_stands(frames: list[Frame]) -> None:
    """As a flatten after a halt: who comes next reads why."""
    beginning = frames[:300]
    bare = deed(beginning[-1], "flatten", who="command", why="")
    bot = played([*beginning, deed(beginning[-1], "halt"), bare])
    alone = played([*beginning, bare])

    assert bot.risk.stops.halted == "a headline (by key)"
    assert alone.risk.stops.halted == "no reason was given (by command)"


def test_an_act_has_an_id_and_is_in_the_hash(frames: list[Frame]) -> None:
    """Two runs with other acts are two runs; with the same, one."""
    beginning = frames[:500]
    plain = played(beginning)
    unknown = with_acts(beginning, dance=1.0)

    once, again = played(unknown), played(unknown)

    entry = once.journal.find("a1")
    assert entry is not None
    assert (entry.kind, entry.seq) == ("act", unknown[unknown.index(entry.value) - 1].seq)
    assert entry.words == "dance by key: a headline"
    assert once.journal.hash == again.journal.hash != plain.journal.hash
    assert once.data.counts() == plain.data.counts()
    assert chain(entry, once.journal, None)[0].startswith("A1   act · 20")


@pytest.mark.replays
def test_flatten_halts_and_closes_each_position(frames: list[Frame]) -> None:
    """Through the gate, reduce-only, at once; nothing enters after it."""
    flat = played(with_acts(frames, flatten=CRASH_S))

    leaving = [e for e in flat.journal.of_kind("approved") if e.parent == "A1"]
    assert leaving
    assert all(entry.value.order.reduce_only for entry in leaving)
    assert flat.risk.standing.state == "HALTED"
    entered = [e for e in flat.journal.of_kind("approved") if not e.value.order.reduce_only]
    assert all((entry.at - frames[0].at) / 1e9 < CRASH_S for entry in entered)
    assert {row.ticker for row in flat.risk.positions()} == set()
    assert [line for line in chain(leaving[0], flat.journal, None) if line.startswith("A1")]


# === All orders off the books ===

# An order that nobody fills: far behind the best price.
RESTING = """
from dydx_strategy import Decision


class Resting:
    name = "resting"

    def __init__(self):
        self.due = 0

    def step(self, scored, held):
        self.due = self.due or scored.at + 12 * 10**9
        if scored.at < self.due or scored.ticker != "SOL-USD":
            return []
        self.due = 2**63
        how = {"entry": "make", "entry_offset_bps": 150.0, "patience_s": 600.0}
        return [Decision.of(scored, 500.0, "a test", **how)]


strategy = Resting
"""


@pytest.mark.replays
def test_all_open_orders_leave_by_an_act(frames: list[Frame], tmp_path: Path) -> None:
    """What was recorded of it replays to the same bytes, and nothing is halted."""
    path = tmp_path / "resting.py"
    path.write_text(RESTING)
    options = Options(strategy=str(path))
    plain = played(frames[:1_500], options)
    recorded = with_acts(frames[:1_500], cancel=20.0)
    once, again = played(recorded, options), played(recorded, options)

    assert [state.status for state in open_orders(plain)] == ["OPEN"]
    assert open_orders(once) == []
    assert [e.value.status for e in once.journal.of_kind("order")][-1] == "CANCELLED"
    assert once.risk.standing.state == "ACTIVE"
    assert once.journal.hash == again.journal.hash != plain.journal.hash


# === A strategy that raises ===


@pytest.mark.replays
def test_a_strategy_that_raises_stops_entries_and_not_the_guard(
    frames: list[Frame], failing: Options
) -> None:
    """The run goes on to its end, where what was raised is raised."""
    bot = Bot(failing)

    with pytest.raises(StrategyError, match="ValueError: no idea"):
        bot.run(from_iterable(frames))

    [entry] = bot.journal.of_kind("act")
    assert entry.words.startswith("halt by strategy: expected failing to decide with Decisions")
    assert "<object object at 0x…> at failing.py:15" in entry.words
    assert bot.data.seq == frames[-1].seq
    assert bot.risk.standing.state == "HALTED"
    assert bot.journal.counts["reduce"] > 0
    assert bot.venue.figures().liquidations == 0
    assert max(at_s(bot, frames, "decision")) < CRASH_S + 10


@pytest.mark.replays
def test_a_strict_run_ends_where_the_strategy_raises(frames: list[Frame], failing: Options) -> None:
    """As a test wants it."""
    strict = with_fields(failing, strict=True)
    bot = Bot(strict)

    with pytest.raises(StrategyError, match="ValueError: no idea"):
        bot.run(from_iterable(frames))

    assert bot.data.seq < frames[-1].seq
    assert bot.journal.counts["act"] == 0


def recorded(bot: Bot, frames: Iterable[Frame], path: Path) -> Path:
    """Run a bot and record its frames, as the commands do; a failing strategy is no matter."""
    writer = RecordingWriter(path, Header(network="l", rest="", ws="", client="", source="test"))
    bot.made.record = writer.write_frame  # type: ignore[assignment]  # its number is of no interest

    def source() -> Iterable[Frame]:
        for frame in frames:
            writer.write_frame(frame)
            yield frame

    try:
        bot.run(from_iterable(source()))
    except StrategyError:
        pass
    writer.close()
    return path


@pytest.mark.replays
def test_a_recorded_stop_replays_to_the_same_bytes(
    frames: list[Frame], failing: Options, tmp_path: Path
) -> None:
    """The strategy raises again at the same place, and the recorded act is not taken twice."""
    lived = Bot(failing)
    path = recorded(lived, frames, tmp_path / "run.jsonl.zst")

    again = Bot(failing)
    with pytest.raises(StrategyError):
        again.run(replay(path))

    assert again.journal.hash == lived.journal.hash
    assert again.journal.counts["act"] == lived.journal.counts["act"] == 1
    assert [frame.seq for frame in Recording(path) if frame.kind != "act"] == [
        frame.seq for frame in frames
    ]
    assert [frame.link for frame in Recording(path) if frame.kind == "act"] == ["strategy"]


@pytest.mark.replays
def test_the_recorded_stop_of_a_strategy_that_does_not_raise_again_halts_too(
    frames: list[Frame], failing: Options, tmp_path: Path
) -> None:
    """Whatever was wrong that day: the run stands still where it stood still."""
    path = recorded(Bot(failing), frames, tmp_path / "run.jsonl.zst")

    mended = Bot(Options())
    mended.run(replay(path))

    assert mended.stopped is None
    assert mended.risk.standing.state == "HALTED"
    assert [e.value.link for e in mended.journal.of_kind("act")] == ["strategy"]


def test_signals_that_raise_stop_entries_as_well(
    frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opinions are not the account's keepers."""

    def broken(*_: object) -> list[object]:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("dydx_signals.Scorer.step", broken)
    bot = Bot(Options())

    with pytest.raises(ZeroDivisionError, match="a bug"):
        bot.run(from_iterable(frames[:2000]))

    [entry] = bot.journal.of_kind("act")
    assert entry.words.startswith("halt by signals: ZeroDivisionError: a bug at test_acts.py:")
    assert bot.data.frames == 2000


def test_what_was_raised_is_one_line_without_an_address() -> None:
    """Two runs must give the same text."""

    def fail() -> None:
        raise KeyError(f"first\n  second {object()}" + "x" * 500)

    with pytest.raises(KeyError) as caught:
        fail()

    text = raised(caught.value)
    assert text.startswith("KeyError: 'first\\n second <object object at 0x…>")
    assert len(text) == 300


# === Among the frames of a recording ===


def test_acts_come_in_between_the_frames_of_a_recording() -> None:
    """Before the next frame, numbered and stamped as the one before, in the order of putting."""
    inbox = Inbox()
    ticks = [Frame(n, 10 * n, n, "clock", "tick") for n in range(1, 4)]
    source = list(ticks)

    def pace(frame: Frame) -> bool:
        if frame.seq == 2:
            act(inbox, "key", "halt", "a headline")
            act(inbox, "key", "resume", "")
        return True

    made = collect(from_iterable(filter(pace, source)).pipe(among(inbox)))

    halt = Frame(1, 10, 1, "key", "act", "a headline", "halt")
    resume = Frame(1, 10, 1, "key", "act", "", "resume")
    assert made == [ticks[0], halt, resume, *ticks[1:]]


def test_among_is_as_in_its_diagram() -> None:
    """Hot as the source is; completes with it."""
    inbox, scheduler = Inbox(), TestScheduler()
    one, two, three = (Frame(n, 0, n, "clock", "tick") for n in (1, 2, 3))
    on_next, on_completed = ReactiveTest.on_next, ReactiveTest.on_completed
    source = scheduler.create_hot_observable(
        on_next(220, one), on_next(280, two), on_next(340, three), on_completed(360)
    )
    scheduler.schedule_absolute(250, lambda *_: act(inbox, "key", "halt", ""))

    results = scheduler.start(lambda: source.pipe(among(inbox)))

    halt = Frame(1, 0, 1, "key", "act", "", "halt")
    assert results.messages == [
        on_next(220, one),
        on_next(280, halt),
        on_next(280, two),
        on_next(340, three),
        on_completed(360),
    ]


@pytest.mark.parametrize("ends", ["never", "empty", "error"])
def test_among_ends_as_its_source_does(ends: str) -> None:
    """It adds no end of its own."""
    scheduler, error = TestScheduler(), ConnError("broken")
    last = {
        "never": [],
        "empty": [ReactiveTest.on_completed(300)],
        "error": [ReactiveTest.on_error(300, error)],
    }[ends]
    source = scheduler.create_hot_observable(*last)

    results = scheduler.start(lambda: source.pipe(among(Inbox())))

    assert results.messages == last


def test_an_act_before_the_first_frame_is_numbered_as_that() -> None:
    """There is none before it."""
    inbox = Inbox()
    act(inbox, "key", "halt", "")
    tick = Frame(7, 70, 7, "clock", "tick")

    made = collect(from_iterable([tick]).pipe(among(inbox)))

    assert made == [Frame(7, 70, 7, "key", "act", "", "halt"), tick]


def test_why_is_one_printable_line() -> None:
    """Whoever types it: it ends on a terminal."""
    inbox = Inbox()
    act(inbox, "command", "halt", "a\n  b\x1b[2J" + "c" * 400)

    taken = inbox.take(1, 0.0)

    assert taken is not None
    assert taken.text.startswith("a b[2Jccc")
    assert len(taken.text) == 300


# === What outlives a run ===


@pytest.fixture
def standstill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Standstill]:
    """Return what makes the file's keeper, as each run makes its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return lambda: Standstill(NET, US)


def test_a_halt_outlives_its_run_until_somebody_resumes(
    standstill: Callable[[], Standstill],
) -> None:
    """The next run's first frame is the halt; only its owner may read the file."""
    first, tick = standstill(), Frame(1, 0, 0, "clock", "tick")
    first.note(tick)
    assert first.read() is None
    first.note(deed(tick, "halt"))
    inbox = Inbox()
    standstill().begin(inbox)
    frame = inbox.take(1, 0.0)
    mode = first.path.stat().st_mode, first.path.parent.stat().st_mode

    assert frame is not None
    assert (frame.link, frame.type) == ("restart", "halt")
    assert frame.text == "a headline (by key, and nobody resumed)"
    assert [stat.S_IMODE(each) for each in mode] == [0o600, 0o700]
    assert [path.name for path in first.path.parent.iterdir()] == [first.path.name]
    standstill().note(frame)  # what a restart repeats is not written again
    first.note(deed(tick, "flatten", why=""))
    standstill().note(deed(tick, "cancel"))
    assert first.read() == Halted("key", "a headline")
    standstill().note(deed(tick, "resume"))
    assert standstill().read() is None
    standstill().begin(inbox)
    assert not inbox.waiting


def test_each_subaccount_of_each_chain_stands_still_by_itself(
    standstill: Callable[[], Standstill],
) -> None:
    """By what the network is, whatever it is called."""
    halted = standstill()
    other = Standstill(NETWORKS["testnet"], US), Standstill(NET, Subaccount("dydx1us", 1))
    renamed = dataclasses.replace(NET, name="fork")
    halted.note(deed(Frame(1, 0, 0, "", "tick"), "halt"))

    assert Standstill(renamed, US).read() is not None
    assert [each.read() for each in other] == [None, None]


def test_a_halt_that_cannot_be_read_is_a_halt(standstill: Callable[[], Standstill]) -> None:
    """Nobody has resumed, as far as anybody knows."""
    keeper = standstill()
    keeper.note(deed(Frame(1, 0, 0, "", "tick"), "halt"))
    keeper.path.write_text("{")

    halted = keeper.read()

    assert halted is not None
    assert halted.why.startswith(f"expected who halted and why in {keeper.path}, got ")


def test_a_halt_that_cannot_be_stored_halts_all_the_same(
    standstill: Callable[[], Standstill],
) -> None:
    """The trouble is reported at the end; nothing is raised into the run."""
    keeper = standstill()
    keeper.path.parent.parent.mkdir()
    keeper.path.parent.write_text("no directory")

    keeper.note(deed(Frame(1, 0, 0, "", "tick"), "halt"))

    assert keeper.trouble.startswith(f"expected to store the halt in {keeper.path}")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_not_ours(tmp_path: Path) -> None:
    """Whatever its mode."""
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", 12345, -1)

    with pytest.raises(ConnError, match=r"expected .*theirs to be a directory of ours alone, got"):
        private(tmp_path / "theirs")


def test_a_directory_of_ours_is_shut_unless_others_could_write_to_it(tmp_path: Path) -> None:
    """What they could only read is shut; what they may have prepared is refused."""
    for name, mode in (("new", None), ("readable", 0o755), ("writable", 0o777)):
        if mode is not None:
            (tmp_path / name).mkdir()
            (tmp_path / name).chmod(mode)

    made = [private(tmp_path / name) for name in ("new", "readable")]

    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o700, 0o700]
    with pytest.raises(ConnError, match="got mode 777"):
        private(tmp_path / "writable")


def test_a_link_to_a_directory_is_none(tmp_path: Path) -> None:
    """Somebody else may choose where it leads."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")

    with pytest.raises(ConnError, match="of ours alone"):
        private(tmp_path / "link")

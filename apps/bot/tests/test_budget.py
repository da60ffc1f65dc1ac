"""How long a strategy may take: what loops or sleeps is interrupted, and the guard goes on."""

import signal
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pytest
from bot.run.budget import LIVE, Budget, Foreseen, Supervisor
from bot.run.composition import Bot, Options, trace
from dydx_conn import Frame, Header, RecordingWriter, replay
from dydx_strategy import StrategyError
from reactivex import Observable, from_iterable, operators

SHORT = Budget(call_s=0.1, first_s=0.1, load_s=0.1)
# It would have to be called to loop.
ENDLESS = Budget(call_s=1e6, first_s=1e6)

STRATEGY = """
import time
from dydx_strategy import Decision, RankAndTarget, RankSettings


class Slow:
    name = "slow"

    def __init__(self):
        self.rank = RankAndTarget(RankSettings(gross_share=4.5, market_share=1.6))
        self.begun = self.seq = self.nth = 0

    def step(self, scored, held):
        self.begun = self.begun or scored.at
        self.nth = self.nth + 1 if scored.seq == self.seq else 1
        self.seq = scored.seq
        if scored.at - self.begun > {seconds} * 10**9 and self.nth >= {nth}:
            {what}
        return self.rank.step(scored, held)


strategy = Slow
"""
LOOPS = {
    "a loop": "while True: pass",
    "a sleep": "time.sleep(1e9)",
    "a loop that catches": """while True:
                try: sum(range(10))
                except Exception: pass""",
    "a loop that swallows": """while True:
                try: time.sleep(0.05)
                except: pass""",
    "what it swallows once": """try: time.sleep(1e9)
            except: return ()""",
    "a generator": "return (number for number in iter(int, 1) if number)",
    "decisions": "return iter(lambda: Decision.of(scored, 1_000.0, 'again'), None)",
}

PARTIAL = """
from functools import partial


def endless(scored, held):
    while True:
        pass


class Partial:
    name = "partial"
    step = staticmethod(partial(endless))


strategy = Partial
"""


@pytest.fixture
def slow(tmp_path: Path) -> Callable[..., str]:
    """Write a strategy that does something after so many seconds, at the nth score of a frame."""

    def write(what: str, seconds: int = 30, nth: int = 1) -> str:
        path = tmp_path / "slow.py"
        path.write_text(STRATEGY.format(what=what, seconds=seconds, nth=nth))
        return str(path)

    return write


def stopped(bot: Bot, frames: Iterable[Frame]) -> str:
    """Run a bot whose strategy is stopped; return what the act says."""
    with pytest.raises(StrategyError):
        bot.run(from_iterable(frames))
    [entry] = bot.journal.of_kind("act")
    return entry.words


@pytest.mark.parametrize("what", LOOPS.values(), ids=LOOPS)
def test_a_step_that_does_not_return_is_interrupted(
    frames: list[Frame], slow: Callable[..., str], what: str
) -> None:
    """The stop is an act, nothing enters after it, and every frame is still taken."""
    bot = Bot(Options(strategy=slow(what), budget=SHORT))

    words = stopped(bot, frames[:1_500])

    why = "expected step at slow.py:13 to return within 0.1 s, got no return"
    assert words == f"halt by strategy: {why}"
    assert bot.risk.standing.state == "HALTED"
    assert bot.data.frames == 1_500


@pytest.mark.replays
def test_the_guard_goes_on_where_the_strategy_loops(
    frames: list[Frame], slow: Callable[..., str]
) -> None:
    """What was held when it stopped is reduced in the crash, and not liquidated."""
    bot = Bot(Options(strategy=slow("while True: pass", seconds=570), budget=SHORT))

    stopped(bot, frames)

    assert bot.journal.counts["reduce"] > 0
    assert bot.venue.figures().liquidations == 0


@pytest.mark.replays
@pytest.mark.parametrize(
    ("what", "got"),
    [
        ("import asyncio; raise asyncio.CancelledError", "CancelledError: "),
        ("raise type('Own', (BaseException,), {})('why')", "Own: why"),
    ],
)
def test_whatever_a_strategy_raises_the_run_goes_on(
    frames: list[Frame], slow: Callable[..., str], what: str, got: str
) -> None:
    """What is no Exception, too: it ended the run, and the guard with it."""
    bot = Bot(Options(strategy=slow(what)))

    words = stopped(bot, frames[:1_500])

    assert words == f"halt by strategy: expected step at slow.py:13 to return, got {got}".strip()
    assert bot.data.frames == 1_500


@pytest.mark.replays
def test_what_was_decided_before_the_interruption_is_discarded(
    frames: list[Frame], slow: Callable[..., str]
) -> None:
    """A call's decisions come all or not at all."""
    what = "yield Decision.of(scored, 1_000.0, 'first')\n            while True: pass"
    whole = STRATEGY.replace("return self.rank.step(scored, held)", "pass")
    path = Path(slow(what))
    path.write_text(whole.format(what=what, seconds=30, nth=1))
    bot = Bot(Options(strategy=str(path), budget=SHORT))

    stopped(bot, frames[:1_500])

    assert not bot.journal.of_kind("decision")


def test_learning_is_bounded_as_well(frames: list[Frame], tmp_path: Path) -> None:
    """An outcome that a strategy never has enough of."""
    path = tmp_path / "learner.py"
    extra = "    def learn(self, outcome):\n        while True: pass\n\n\nstrategy"
    text = STRATEGY.format(what="pass", seconds=0, nth=1).replace("\nstrategy", f"\n{extra}", 1)
    path.write_text(text)
    bot = Bot(Options(strategy=str(path), budget=SHORT))

    words = stopped(bot, frames[:2_500])

    assert "expected learn at learner.py:" in words


def test_a_strategy_that_takes_most_of_the_time_is_stopped(
    frames: list[Frame], slow: Callable[..., str]
) -> None:
    """Each call is short enough, and the guard still has less than a third of the time."""
    budget = Budget(call_s=2.0, first_s=0.1, busy_s=0.5)
    bot = Bot(Options(strategy=slow("time.sleep(0.3)"), budget=budget))

    words = stopped(bot, frames[:1_500])

    assert "soon enough to leave a third of all time to the guard, got less for 0.5 s" in words


@pytest.mark.replays
def test_a_strategy_that_is_quick_enough_is_never_stopped(frames: list[Frame]) -> None:
    """At full speed the timer falls into it now and then, and that is all."""
    bots = [Bot(Options()), Bot(Options(budget=LIVE))]

    for bot in bots:
        bot.run(from_iterable(frames))

    assert bots[0].journal.hash == bots[1].journal.hash


def called(bot: Bot, calls: list[tuple[int, int]], frame: Frame) -> None:
    """Note before a frame how many calls there were of the one before it."""
    calls.append((frame.seq, bot.supervisor.call))


def test_calls_that_nothing_would_come_of_are_left_out_and_counted(frames: list[Frame]) -> None:
    """A stop is recorded by the number of its call, whether anybody looks or not."""
    calls: list[list[tuple[int, int]]] = [[], []]
    bots = [Bot(Options()), Bot(Options())]
    trace(bots[1])  # whoever looks is shown every layer, so that nothing is left out

    for bot, counted in zip(bots, calls, strict=True):
        played: Observable[Frame] = from_iterable(frames[:2_000])
        before = partial(called, bot, counted)
        bot.run(played.pipe(operators.do_action(before)))

    assert (calls[0], bots[0].journal.hash) == (calls[1], bots[1].journal.hash)


# === Recorded stops ===


def recorded(bot: Bot, frames: Iterable[Frame], path: Path) -> Foreseen:
    """Run a bot whose strategy is stopped, and record it as the commands do."""
    writer = RecordingWriter(path, Header(network="l", rest="", ws="", client="", source="test"))
    bot.made.record = writer.write_frame  # type: ignore[assignment]  # its number is of no interest

    def source() -> Iterable[Frame]:
        for frame in frames:
            writer.write_frame(frame)
            yield frame

    stopped(bot, source())
    writer.close()
    return Foreseen(path)


@pytest.mark.replays
@pytest.mark.parametrize("nth", [1, 2])
def test_a_replay_obeys_the_recorded_stop_and_not_the_clock(
    frames: list[Frame], slow: Callable[..., str], tmp_path: Path, nth: int
) -> None:
    """The strategy is not called where it was stopped, to the very call; the hash is the same."""
    strategy = slow("while True: pass", seconds=60, nth=nth)
    lived = Bot(Options(strategy=strategy, budget=SHORT))
    recording = recorded(lived, frames[:10_000], tmp_path / "run.jsonl.zst")
    again = Bot(Options(strategy=strategy, budget=ENDLESS))
    again.supervisor.stops = recording.stops

    with pytest.raises(StrategyError, match=r"within 0\.1 s"):
        again.run(replay(recording))

    [stop] = recording.stops.values()
    assert stop.message_id >= nth  # news come before scores
    assert again.journal.hash == lived.journal.hash
    assert again.journal.counts == lived.journal.counts


def test_a_frame_comes_with_the_acts_it_led_to(tmp_path: Path) -> None:
    """Whichever comes first; an act with a number of its own is somebody's else."""
    path = tmp_path / "acts.jsonl.zst"
    writer = RecordingWriter(path, Header(network="l", rest="", ws="", client="", source="test"))
    ticks = [Frame(n, n, n, "clock", "tick") for n in (1, 2, 3)]
    other = Frame(2, 2, 2, "audit", "act", "full", "halt")
    stop = Frame(2, 2, 2, "strategy", "act", "slow", "halt", message_id=3)
    for frame in (*ticks[:2], other, stop, ticks[2]):
        writer.write_frame(frame)
    writer.close()
    recording, known = Foreseen(path), []

    for _ in recording:
        known.append(dict(recording.stops))

    assert known == [{}, *[{2: stop}] * 4]


# === Loading ===


@pytest.mark.parametrize(
    "text", ["while True: pass", STRATEGY.replace("self.rank =", "time.sleep(1e9) #")]
)
def test_a_file_that_does_not_end_is_refused(tmp_path: Path, text: str) -> None:
    """As it is run, and as the strategy is made."""
    path = tmp_path / "endless.py"
    path.write_text(text.format(what="pass", seconds=0, nth=1))

    with pytest.raises(StrategyError, match=r"endless\.py to load within 0\.1 s, got no return"):
        Bot(Options(strategy=str(path), budget=SHORT))


# === The timer ===


def test_the_timer_is_given_back() -> None:
    """Whoever had one before the run has it after it."""
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 1_000.0)
    try:
        with Supervisor(SHORT).watching():
            pass

        assert signal.getitimer(signal.ITIMER_REAL)[0] > 900
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_elsewhere_than_on_the_main_thread_nothing_is_watched() -> None:
    """Only there a signal can be taken."""
    seen: list[object] = []

    def watch() -> None:
        with Supervisor(SHORT).watching():
            seen.append(signal.getitimer(signal.ITIMER_REAL))

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()

    assert seen == [(0.0, 0.0)]


def test_a_method_that_is_no_function_has_no_place(frames: list[Frame], tmp_path: Path) -> None:
    """It begins at no line."""
    path = tmp_path / "partial.py"
    path.write_text(PARTIAL)
    bot = Bot(Options(strategy=str(path), budget=SHORT))

    words = stopped(bot, frames[:1_000])

    assert words == "halt by strategy: expected step to return within 0.1 s, got no return"

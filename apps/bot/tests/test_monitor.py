"""What is counted of a run for monitors: times of the layers, and what went wrong."""

import pytest
from bot.run.composition import Bot, Options, monitor, trace, untrace
from bot.run.faults import OTHERS, Faults
from bot.run.meters import LatencyHistogram
from bot.run.stages import EVERY
from dydx_conn import Frame, replay

UNTIL = 6_000  # some of what is measured has to meet a strategy that looks
MINUTE = 60_000_000_000


def played(*, monitored: bool, traced: bool = False, until: int = UNTIL) -> Bot:
    """Play the first frames, with a monitor or without."""
    bot = Bot(Options())
    if monitored:
        monitor(bot).is_read = True
    if traced:
        trace(bot)
    bot.run(replay("quickstart", pace=lambda frame: frame.seq < until))
    return bot


def stages(bot: Bot) -> dict[str, int]:
    """Return by stage how many frames were measured."""
    assert bot.shown.monitor is not None
    return {name: of.count for name, of in bot.shown.monitor.stages.latencies.items()}


@pytest.fixture(scope="module")
def looked() -> Bot:
    """Return a run that is monitored from its first frame on."""
    return played(monitored=True)


@pytest.mark.replays
def test_monitoring_changes_nothing(looked: Bot) -> None:
    """The run does the same for the same reasons."""
    assert looked.journal.hash == played(monitored=False).journal.hash


def test_one_frame_in_53_is_measured(looked: Bot) -> None:
    """Each of them reaches the data, and fewer come to a decision."""
    counts = stages(looked)

    assert counts["data"] == (UNTIL - 1) // EVERY - ((UNTIL - 1) % EVERY == 0)
    assert 0 < counts["strategy"] <= counts["data"]


def test_nothing_is_measured_before_somebody_reads_it() -> None:
    """A stopwatch around every layer would be a load that nobody has anything of."""
    bot = Bot(Options())
    monitor(bot)

    bot.run(replay("quickstart", pace=lambda frame: frame.seq < 200))

    assert set(stages(bot).values()) == {0}


def test_who_follows_all_frames_is_not_measured_with_them() -> None:
    """Two stopwatches around one another would measure themselves."""
    bot = played(monitored=True, traced=True, until=200)

    assert set(stages(bot).values()) == {0}
    assert bot.shown.way is not None
    assert bot.shown.way.latencies["data"].count == 199


def test_a_monitor_goes_on_when_nobody_follows_any_more() -> None:
    """It gives its stopwatches back to whoever follows, and takes them again."""
    bot, seen = Bot(Options()), []
    monitor(bot).is_read = True

    def pace(frame: Frame) -> bool:
        if frame.seq == 3 * EVERY + 1:
            seen.append(stages(bot)["data"])
            trace(bot)
        elif frame.seq == 6 * EVERY:
            untrace(bot)
        return frame.seq < 10 * EVERY

    bot.run(replay("quickstart", pace=pace))

    assert seen[0] >= 2
    assert stages(bot)["data"] > seen[0]


def test_a_run_that_goes_back_is_monitored_still(looked: Bot) -> None:
    """What was counted stays, and it is no part of the moment that is packed."""
    bot = Bot(Options())
    counted = monitor(bot)
    counted.faults.take(answer(503))
    then = bot.moment()

    bot.go_to(then)

    assert monitor(bot) is counted
    assert len(counted.faults) == 1


@pytest.mark.parametrize(
    ("bound", "expected"), [(0, 0), (9, 0), (10, 1), (999, 1), (1_050, 2), (10**9, 3)]
)
def test_durations_up_to_a_bound_are_counted(bound: int, expected: int) -> None:
    """Those that are certainly no longer: a duration is known to 3 %."""
    histogram = LatencyHistogram()
    for duration in (10, 1_000, 5_000_000):
        histogram.add(duration)

    assert histogram.durations().up_to([bound]) == [expected]


# === Faults ===


def answer(status: int, *, at: int = 5 * MINUTE, path: str = "/v4/height") -> Frame:
    """Return an answer of REST."""
    return Frame(1, at, at, "rest", "http", "busy", str(status), path)


def test_errors_of_a_minute_are_one_row() -> None:
    """With how many, when the last one came, and its text."""
    faults = Faults()
    for second in (1, 2, 61):
        faults.take(answer(503, at=5 * MINUTE + second * 10**9))

    newest, oldest = faults.page(0, 10)

    assert (newest.minute, newest.count) == (6 * MINUTE, 1)
    assert (oldest.count, oldest.last) == (2, 5 * MINUTE + 2 * 10**9)
    assert faults.counts == {("ServerError", oldest.endpoint): 3}


def test_pages_follow_one_another_newest_first() -> None:
    """No row is on two of them."""
    faults = Faults()
    for minute in range(5):
        faults.take(answer(429, at=minute * MINUTE))

    minutes = [[row.minute // MINUTE for row in faults.page(first, 2)] for first in (0, 2, 4, 6)]

    assert minutes == [[4, 3], [2, 1], [0], []]


def test_paths_without_end_are_counted_together() -> None:
    """A venue that answers wrong at ever other paths does not fill the memory."""
    faults = Faults()
    for number in range(3_000):
        faults.take(
            answer(500, at=number * MINUTE, path=f"/v4/odd{chr(97 + number % 26)}{number}x")
        )

    assert len(faults.counts) <= 201
    assert len(faults) == 2_000
    assert faults.left_out == 1_000
    assert ("ServerError", OTHERS) in faults.counts


def test_what_is_well_is_no_error() -> None:
    """Nothing is counted of it."""
    faults = Faults()
    faults.take(answer(200))
    assert not faults.counts

"""A moment of a run: what is packed is all that a run knows, and it goes on from there."""

import textwrap
from pathlib import Path
from typing import Any

import pytest
from bot.run.composition import Bot, Options, trace, untrace
from bot.run.moments import Moment, MomentError
from bot.screen.snapshot import snapshot_of
from dydx_conn import Frame
from dydx_panels import PANELS, HealthPart, Snapshot, SpeedPart
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

EVERY = 500
LAST = 9_500  # behind the guard's first steps


def play(bot: Bot, frames: list[Frame]) -> None:
    """Take frames as a source would bring them."""
    for frame in frames:
        bot._take(frame)


def seen(bot: Bot, panel: str = "") -> Snapshot:
    """Return what a screen would show, without the figures of the machine."""
    bot.shown._watch = None  # at most a second old: as old as the last look at it
    made = snapshot_of(bot, mode="REPLAY", name="", speed=20.0, panel=panel)
    header = replace(made.header, lag_p99_ms=None, frames_per_s=None,
                     memory_mb=None, cpu_percent=None)  # fmt: skip
    return replace(made, header=header, speed=SpeedPart(), health=HealthPart())


@pytest.fixture(scope="module")
def run() -> tuple[Bot, list[Moment], list[tuple[str, Snapshot]]]:
    """Return a run of the busy profile, a moment and what was seen every 500 frames."""
    return Bot(Options.of("reckless", detectors=True)), [], []


@pytest.fixture(scope="module")
def played(
    run: tuple[Bot, list[Moment], list[tuple[str, Snapshot]]], frames: list[Frame]
) -> tuple[Bot, list[Moment], list[tuple[str, Snapshot]]]:
    """Play it straight once."""
    bot, moments, straight = run
    bot.follow()
    for first in range(0, LAST, EVERY):
        moments.append(bot.moment())
        straight.append((bot.journal.hash, seen(bot)))
        play(bot, frames[first : first + EVERY])
    return run


@settings(max_examples=6)
@given(jumps=st.lists(st.tuples(st.integers(0, 18), st.integers(0, 2)), min_size=1, max_size=3))
def test_after_any_jumps_all_is_what_it_was_at_that_frame(
    played: tuple[Bot, list[Moment], list[tuple[str, Snapshot]]],
    frames: list[Frame],
    jumps: list[tuple[int, int]],
) -> None:
    """From a moment, folded on to another place: the hash and every figure of a straight run."""
    bot, moments, straight = played

    for start, on in jumps:
        end = min(start + on, len(moments) - 1)
        bot.go_to(moments[start])
        play(bot, frames[start * EVERY : end * EVERY])

        assert (bot.journal.hash, seen(bot)) == straight[end]


@pytest.mark.replays
def test_each_panel_shows_what_it_showed(
    played: tuple[Bot, list[Moment], list[tuple[str, Snapshot]]], frames: list[Frame]
) -> None:
    """Also what is copied for a panel alone, at a step of the guard and behind it."""
    bot, moments, _ = played
    bot.go_to(moments[17])
    play(bot, frames[17 * EVERY : 18 * EVERY])
    straight = {name: seen(bot, name) for name in PANELS}

    bot.go_to(moments[18])

    assert [name for name in PANELS if seen(bot, name) != straight[name]] == []


def test_a_moment_is_not_used_up(
    played: tuple[Bot, list[Moment], list[tuple[str, Snapshot]]], frames: list[Frame]
) -> None:
    """What is played from it leaves it as it is."""
    bot, moments, straight = played
    for _ in range(2):
        bot.go_to(moments[1])
        play(bot, frames[EVERY : 2 * EVERY])

        assert bot.journal.hash == straight[2][0]


def test_what_a_person_chose_and_who_listens_stay(
    played: tuple[Bot, list[Moment], list[tuple[str, Snapshot]]],
) -> None:
    """Only the run goes back, not the screen around it."""
    bot, moments, _ = played
    bot.shown.ticker = "ETH-USD"
    entries: list[Any] = []
    bot.journal.listeners.append(entries.append)

    bot.go_to(moments[2])

    assert (bot.shown.ticker, bot.journal.listeners) == ("ETH-USD", [entries.append])
    bot.journal.listeners.clear()


def test_who_follows_a_frame_through_the_layers_can_go_back(
    played: tuple[Bot, list[Moment], list[tuple[str, Snapshot]]], frames: list[Frame]
) -> None:
    """A moment can be packed meanwhile, and then it is followed from there."""
    bot, moments, straight = played
    bot.go_to(moments[1])
    trace(bot)
    play(bot, frames[EVERY : 2 * EVERY])

    bot.go_to(bot.moment())

    assert bot.shown.way is None
    assert trace(bot).newest is None
    assert bot.journal.hash == straight[2][0]
    untrace(bot)


MIX = """
[[strategies]]
use = "rank"
weight = 0.6
[[strategies]]
use = "reversion"
weight = 0.4
"""


@pytest.mark.replays
def test_a_decision_that_was_packed_is_written_as_it_was(
    tmp_path: Path, frames: list[Frame]
) -> None:
    """What several strategies have decided is decided on again later, to the same bytes."""
    path = tmp_path / "mix.toml"
    path.write_text(MIX)
    bot = Bot(Options(strategy=str(path)))
    play(bot, frames[:1_000])
    moment = bot.moment()
    play(bot, frames[1_000:2_000])
    straight = bot.journal.hash

    bot.go_to(moment)
    play(bot, frames[1_000:2_000])

    assert bot.journal.counts["target"] > 1
    assert bot.journal.hash == straight


def test_a_strategy_that_cannot_be_packed_is_named(tmp_path: Path) -> None:
    """A lambda in it is of no other time; the run can only begin again."""
    bot = Bot(Options(strategy=str(unpackable(tmp_path))))

    with pytest.raises(MomentError, match="expected a run whose parts can be packed"):
        bot.moment()


def unpackable(folder: Path) -> Path:
    """Write a strategy that holds a lambda, and decides at its thirtieth step."""
    path = folder / "mine.py"
    path.write_text(
        textwrap.dedent("""
        from dydx_strategy import Decision

        class Mine:
            name = "mine"
            def __init__(self):
                self.seen = []
                self.add = lambda: self.seen.append(1)
            def step(self, scored, holdings):
                self.add()
                if len(self.seen) == 30:
                    return [Decision.of(scored, 2_000.0, "it is the thirtieth")]
                return []

        def strategy():
            return Mine()
    """)
    )
    return path


@pytest.mark.replays
def test_from_another_bot_it_begins_again(tmp_path: Path, frames: list[Frame]) -> None:
    """Without a moment the first frame is always there: of a bot that has seen nothing yet."""
    options = Options(strategy=str(unpackable(tmp_path)))
    bot = Bot(options)
    play(bot, frames[:1_500])
    first = bot.journal.hash

    bot.go_to(Bot(options))
    play(bot, frames[:1_500])

    assert bot.journal.hash == first
    assert bot.journal.counts["target"] == 1

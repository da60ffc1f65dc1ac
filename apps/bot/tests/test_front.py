"""One pass for many variants: each decides what it decides alone, and ends alone."""

import textwrap
from itertools import islice
from pathlib import Path

import pytest
from bot.run.composition import Bot, Options
from bot.run.front import play
from dydx_conn import Frame, Recording, RecordingError
from dydx_risk import Policy
from dydx_strategy import Allocation, AllocatorSettings, RankSettings, StrategyError
from reactivex import concat, from_iterable, throw
from variants import differences, found

MIX = AllocatorSettings(strategies=(Allocation(use="rank"), Allocation(use="reversion")))
EAGER = RankSettings(enter=53.0, exit=51.0, look_s=1.0)
VARIANTS = (
    Options(),
    Options.of("reckless"),
    Options(guard=False, settings=EAGER, policy=Policy(), deposit=500),
    Options(strategy="reversion"),
    Options(strategy="sniper", signals="trend"),
    Options(strategy="mix", settings=MIX, policy=Policy(), tuned={"momentum": {"fast": 5.0}}),
)
# How many of its frames; the whole of them is a check of its own (tools/variants.py).
RECORDED = {"quickstart": 2_200, "sixty": 1_500, "localnet/05-open-add-reduce-close": 10_000}


def first(recording: str, count: int) -> list[Frame]:
    """Return the first frames of a recording."""
    return [*islice(Recording(found(recording)), count)]


def strategy_file(folder: Path, body: str) -> str:
    """Write a strategy of a user's own: what its `step` does with the scores it has counted."""
    file = folder / f"mine{len([*folder.iterdir()])}.py"
    lines = f"""
        class Mine:
            name = "mine"
            count = 0

            def step(self, scored, held):
                self.count += 1
                {body}
                return ()

        strategy = Mine
    """
    file.write_text(textwrap.dedent(lines))
    return str(file)


@pytest.mark.replays
@pytest.mark.parametrize("recording", RECORDED)
def test_each_variant_decides_what_it_decides_alone(recording: str) -> None:
    """Hash, report, journal, account and state of risk are the same, down to the byte."""
    frames = first(recording, RECORDED[recording])
    together = play(from_iterable(frames), VARIANTS)

    for options, behind in zip(VARIANTS, together, strict=True):
        alone = Bot(options)
        alone.run(from_iterable(frames))
        assert [*differences(alone, behind)] == []


def test_a_strategy_that_raises_stops_that_variant_alone(tmp_path: Path) -> None:
    """Its entries stop with the act that they stop with alone; the others never know."""
    raising = strategy_file(tmp_path, "assert self.count < 40, 'forty'")
    frames = first("sixty", 300)
    options = [Options(strategy=raising), Options(), Options(strategy=raising, strict=True)]
    stopped, other, failed = play(from_iterable(frames), options)

    alone = Bot(options[0])
    with pytest.raises(StrategyError, match="forty"):
        alone.run(from_iterable(frames))
    assert stopped.journal.hash == alone.journal.hash
    assert [act.words for act in stopped.journal.of_kind("act")] == [
        act.words for act in alone.journal.of_kind("act")
    ]
    assert isinstance(stopped.stopped, StrategyError)
    assert isinstance(failed.failure, StrategyError)
    assert (other.stopped, other.failure) == (None, None)
    assert failed.journal.counts["act"] == 0


def test_an_engine_that_raises_stops_whoever_reads_it(tmp_path: Path) -> None:
    """Variants of other signals go on, and read what they read alone."""
    file = tmp_path / "odd.py"
    lines = """
        from dydx_signals import Momentum

        class Odd(Momentum):
            name = "odd"
            count = 0

            def update(self, view):
                self.count += 1
                assert self.count < 30, "thirty"

        def signals():
            return [Odd]
    """
    file.write_text(textwrap.dedent(lines))
    frames = first("sixty", 300)
    options = [Options(signals=str(file)), Options()]
    odd, other = play(from_iterable(frames), options)

    alone = Bot(options[0])
    with pytest.raises(AssertionError, match="thirty"):
        alone.run(from_iterable(frames))
    assert odd.journal.hash == alone.journal.hash
    assert isinstance(odd.stopped, AssertionError)
    assert other.stopped is None


def test_engines_alike_are_made_once() -> None:
    """Whoever tunes one signal has that one to itself, and shares all others."""
    frames = first("sixty", 50)
    tuned = {"momentum": {"fast": 5.0}}
    usual, same, other = play(from_iterable(frames), [Options(), Options(), Options(tuned=tuned)])

    assert usual.scorer is same.scorer
    engines = (usual.scorer._engines, other.scorer._engines)
    assert {name for name in engines[0] if engines[0][name] is engines[1][name]} == {
        "volume", "volatility", "imbalance", "liquidity", "funding",
    }  # fmt: skip


def test_what_the_source_raises_is_raised_when_all_have_let_go() -> None:
    """A recording that ends in the middle of a line is no result of any variant."""
    broken = concat(from_iterable(first("sixty", 20)), throw(RecordingError("cut off")))
    seen: list[Frame] = []

    with pytest.raises(RecordingError, match="cut off"):
        play(broken, [Options()], seen.append)
    assert len(seen) == 20


def test_a_pass_ends_where_no_variant_is_left(tmp_path: Path) -> None:
    """What nobody decides on is not read."""
    raising = strategy_file(tmp_path, "raise ValueError('at once')")
    frames = first("sixty", 300)
    seen: list[Frame] = []
    (bot,) = play(from_iterable(frames), [Options(strategy=raising, strict=True)], seen.append)

    assert isinstance(bot.failure, StrategyError)
    assert len(seen) < 150


def test_a_report_has_the_frames_of_the_source() -> None:
    """They are counted once for all, and each variant has the same."""
    frames = first("sixty", 100)
    bots = play(from_iterable(frames), [Options(), Options.of("reckless")])
    alone = Bot(Options())
    alone.run(from_iterable(frames))

    for bot in bots:
        assert bot.shown.kinds == alone.shown.kinds
        assert bot.shown.bytes == alone.shown.bytes
        assert [*bot.shown.last_frames] == [*alone.shown.last_frames]


@pytest.mark.replays
def test_a_variant_goes_on_alone_from_where_a_pass_ended() -> None:
    """Its moment is a moment of its run, as any other."""
    frames = first("sixty", 1_200)
    options = [Options(settings=EAGER, policy=Policy()), Options.of("reckless")]
    behind, _ = play(from_iterable(frames[:600]), options)
    later, alone = Bot(options[0]), Bot(options[0])
    later.go_to(behind.moment())

    later.run(from_iterable(frames[600:]))
    alone.run(from_iterable(frames))
    assert [*differences(alone, later)] == []


# === Spans ===


@pytest.mark.replays
def test_a_span_begins_warm_and_holds_nothing() -> None:
    """Before it books, candles and scores are folded, and nobody decides on a target."""
    frames = first("quickstart", 2_400)
    opens_ns = frames[1_500].at
    eager = Options(settings=EAGER, policy=Policy())
    whole, span = (
        play(from_iterable(frames), [eager], opens_ns=since)[0] for since in (None, opens_ns)
    )

    targets = [entry.at for entry in span.journal.of_kind("approved", "denied", "fill")]
    assert targets
    assert min(targets) >= opens_ns
    assert min(entry.at for entry in whole.journal.of_kind("approved")) < opens_ns
    assert [span.scorer.scores(t) for t in span.data.views] == [
        whole.scorer.scores(t) for t in whole.data.views
    ]


@pytest.mark.replays
def test_nothing_comes_of_what_is_decided_before_a_span(tmp_path: Path) -> None:
    """A strategy of a user's own may want something without knowing what it has."""
    file = tmp_path / "greedy.py"
    lines = """
        from dydx_strategy import Decision

        class Greedy:
            name = "greedy"

            def step(self, scored, held):
                yield Decision.of(scored, 500.0, "always")

        strategy = Greedy
    """
    file.write_text(textwrap.dedent(lines))
    frames = first("quickstart", 1_400)
    options = Options(strategy=str(file), policy=Policy())
    (bot,) = play(from_iterable(frames), [options], opens_ns=frames[300].at)

    assert bot.journal.counts["target"]
    assert min(entry.at for entry in bot.journal.of_kind("decision")) >= frames[300].at


def test_a_span_that_never_opens_lets_nothing_in() -> None:
    """Its account is what was paid in."""
    frames = first("quickstart", 2_000)
    (bot,) = play(from_iterable(frames), [Options(settings=EAGER, policy=Policy())], opens_ns=2**62)

    assert bot.venue.figures().profit == 0
    assert bot.journal.counts["target"] == 0


def test_a_span_ends_before_the_frame_at_which_it_closes() -> None:
    """What comes later is of another span."""
    frames = first("sixty", 300)
    seen: list[Frame] = []
    play(from_iterable(frames), [Options()], seen.append, closes_ns=frames[200].at)

    assert seen == [frame for frame in frames if frame.at < frames[200].at]

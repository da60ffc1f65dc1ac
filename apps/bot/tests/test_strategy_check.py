"""The conformance kit of strategies: what does not behave is found by the rule that is for it."""

from itertools import islice
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from bot.__main__ import main
from bot.commands import parser
from bot.config.loaded import load
from bot.findings import exit_code
from bot.live.commands import options_as_recorded
from bot.run.composition import Options
from bot.writing.strategy import checked, others, see
from bot.writing.witness import loaded
from dydx_conn import Frame, Recording, RecordingWriter, find_recording
from msgspec.structs import replace

SECOND = 1_000_000_000

# Buys a little of one market when it may, holds it, and leaves when there is trouble.
GOOD = """\
import random, time
from dydx_data import stopping
from dydx_strategy import Decision

class Mine:
    name = "mine"
    turns = 0

    def step(self, scored, held):
        if scored.ticker != "BTC-USD":
            return ()
        momentum, usdc = scored.value("momentum"), held.usdc(scored.ticker)
        entry, leave = stopping(scored.view, "entry"), stopping(scored.view, "exit")
        if usdc and entry and not leave:
            return [Decision.of(scored, 0.0, "trouble")]
        if usdc or entry:
            return ()
        return [Decision.of(scored, 1_000.0, "nothing against it")]

strategy = Mine
"""

WRONG = {
    "nothing": ("", "", "", ""),
    "chance": (
        "1_000.0,", "1_000.0 + random.random(),", "repeats", "two runs in one process differ at"
    ),
    "a misspelt signal": (
        'value("momentum")', 'value("momentun")', "names",
        "it asks for 'momentun', which nothing scores: did you mean 'momentum'?",
    ),
    "a foreign signal": (
        'value("momentum")', 'value("xyz")', "names", "asks for 'xyz', which nothing scores (momen"
    ),
    "an unnamed signal": (
        'value("momentum")', 'value("trend")', "names",
        "it asks for 'trend', which nothing scores: name it in its attribute signals",
    ),
    "too much": ("1_000.0,", "60_000.0,", "limits", "60,000 USDC of BTC-USD at frame"),
    "blind": ("if usdc or entry:", "if usdc:", "silence", "+1,000 USDC of BTC-USD at frame"),
    "stays": ('[Decision.of(scored, 0.0, "trouble")]', "()", "exits", "it still holds +"),
    "flaps": (
        "        if usdc or entry:\n            return ()\n",
        "        self.turns += 1\n        if entry:\n            return ()\n"
        "        if self.turns % 2:\n            return [Decision.of(scored, -1_000.0, 'turn')]\n",
        "no flapping", "it turns BTC-USD 3 times in",
    ),
    "slow": (
        "        entry, leave",
        "        if scored.seq % 20 == 0: time.sleep(0.0015)\n        entry, leave",
        "time", "more than 1,000 µs: frames wait meanwhile",
    ),
}  # fmt: skip


TROUBLED = ("", "exits")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expect a way out of trouble within 20 s: a shorter recording is enough."""
    monkeypatch.setattr("bot.writing.strategy._PATIENCE_NS", 20 * SECOND)


@pytest.fixture(scope="module")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 95 seconds of the bundled recording as one of its own."""
    source = Recording(find_recording("quickstart"))
    path = tmp_path_factory.mktemp("check") / "minutes.jsonl.zst"
    writer = RecordingWriter(path, source.header)
    began = None
    for frame in source:
        began = began or frame.mono
        if frame.mono - began > 95 * SECOND:
            break
        writer.write_frame(frame)
    writer.close()
    return path


@pytest.fixture(scope="module")
def frames(minutes: Path) -> list[Frame]:
    """Return its frames."""
    return list(Recording(minutes))


@pytest.mark.replays
@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_behave_is_found_by_its_rule(
    kind: str, frames: list[Frame], tmp_path: Path
) -> None:
    """One change to a strategy that behaves breaks one rule, and no other."""
    right, wrong, rule, words = WRONG[kind]
    path = tmp_path / "mine.py"
    path.write_text(GOOD.replace(right, wrong))
    options = Options.of("reckless", strategy=str(path))

    # Trouble is put in where there is time for it: one rule alone needs that.
    played = frames if rule in TROUBLED else frames[: len(frames) // 5]

    found = checked(see(played, options, loaded(options, [])))

    broken = {one.name: one.words for one in found if one.verdict == "broken"}
    # Of a busy machine each strategy may be slow.
    assert broken.keys() - {"time"} | broken.keys() & {rule} == {rule} - {""}
    assert words in broken.get(rule, "")
    unseen = {one.name for one in found if one.verdict == "unseen"}
    assert unseen == (set() if rule in TROUBLED else {"silence", "exits"} - {rule})


@pytest.mark.replays
def test_the_strategy_of_the_house_behaves(frames: list[Frame]) -> None:
    """It is held to what others are."""
    options = Options.of("reckless", strategy="rank")

    found = checked(see(frames, options, loaded(options, [])))

    assert {one.name for one in found if one.verdict == "broken"} <= {"time"}


def test_another_order_of_a_set_shows_in_other_processes(
    minutes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one process always repeats differs between two; and the exit code is a 1."""
    path, short = tmp_path / "mine.py", tmp_path / "short.jsonl.zst"
    path.write_text(GOOD.replace("1_000.0,", "1_000.0 + ord(min({*'abcdefgh'}, key=hash)),"))
    recording = Recording(minutes)
    writer = RecordingWriter(short, recording.header)
    for frame in islice(recording, 400):
        writer.write_frame(frame)
    writer.close()
    typed = ["strategy", "check", str(path), str(short), "--profile", "reckless"]

    assert main([*typed, "--deposit", "5000", "--no-guard"]) == 1
    assert "broken  repeats     two processes differ" in capsys.readouterr().out


def test_whatever_was_not_seen_is_not_proved(frames: list[Frame], tmp_path: Path) -> None:
    """Who decides nothing gets no clean bill: the rules that need a target say so."""
    path = tmp_path / "mine.py"
    path.write_text(GOOD.replace('[Decision.of(scored, 1_000.0, "nothing against it")]', "()"))
    options = Options(strategy=str(path))

    found = checked(see(frames[:400], options, loaded(options, [])))

    assert [one.name for one in found if one.verdict == "unseen"] == [
        "repeats", "limits", "silence", "exits", "no flapping"
    ]  # fmt: skip
    assert exit_code(found) == 1


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["nowhere.py"], "got no file nowhere.py"),
        (["rnak"], "did you mean 'rank'?"),
        (["rank", "nowhere"], "expected the path of a recording"),
        (["rank", "--seconds", "0.01"], "expected a recording of 100 frames or more, got"),
    ],
)
def test_what_cannot_be_checked_is_one_line(
    typed: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A strategy or a recording that is none is a line and a 2."""
    assert main(["strategy", "check", *typed]) == 2
    assert words in capsys.readouterr().err


@pytest.fixture(scope="module")
def recorded(minutes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording that holds the settings of its run."""
    path, source = tmp_path_factory.mktemp("recorded") / "run.jsonl.zst", Recording(minutes)
    then = load({"policy.warm_up_s": ("--x", 2.0)}, environment={})
    writer = RecordingWriter(path, replace(source.header, settings=then.text()))
    for frame in islice(source, 400):
        writer.write_frame(frame)
    writer.close()
    return path


@pytest.mark.replays
@pytest.mark.parametrize(
    "command", [["prove", "rank", "%", "--cuts", "1"], ["chaos", "%", "--seeds", "1"]]
)
def test_a_recording_is_tried_with_the_settings_that_it_holds(
    recorded: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is replayed; whoever names a file of settings, or none, goes over them."""
    for typed, is_recorded in ([], True), (["--config", "none"], False):
        main([str(recorded) if word == "%" else word for word in (*command, *typed)])
        assert ("configuration: as recorded" in capsys.readouterr().err) == is_recorded


def test_other_processes_go_by_what_is_recorded_too(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file of settings is named to them, which would go in its place."""
    popen = MagicMock()
    monkeypatch.setattr("bot.writing.strategy.subprocess.Popen", popen)
    for typed, expected in ([], []), (["--config", "none"], ["--config", "none"]):
        arguments = parser().parse_args(["strategy", "check", "rank", str(recorded), *typed])
        options_as_recorded(arguments, Recording(recorded).header)
        with others(arguments):
            words = popen.call_args.args[0]

        assert words[words.index("--json") + 1 :][-2:] == ["--strategy", "rank", *expected][-2:]

"""The look-ahead proof: a cheat of each kind is planted and found, and who does not cheat passes."""

import json
import sys
from pathlib import Path
from random import Random

import pytest
from bot.__main__ import main
from bot.config.profiles import PROFILES
from bot.run.composition import Bot, Options
from bot.writing.prove import Proof, scrambled
from bot.writing.witness import Lease, lent, loaded, observed
from dydx_conn import Frame, Recording, find_recording
from dydx_signals import SignalError
from dydx_strategy import RankAndTarget
from reactivex import from_iterable

SECOND = 1_000_000_000

# Each decides twice a minute; what it decides by is what it should not know.
HEAD = """\
import gc, os, sys
from dydx_conn import Frame, Recording, find_recording
from dydx_strategy import Decision

class Cheat:
    name = "cheat"

    def __init__(self):
        self.due, self.views = {}, {}

    def step(self, scored, held):
        mid = scored.view.book.mid_price
        if mid is None or scored.at < self.due.get(scored.ticker, 0):
            return ()
        self.due[scored.ticker] = scored.at + 5 * 10**9
        up = self.up(scored, mid)
        return [Decision.of(scored, 1_000.0 if up else -1_000.0, f"up {up}")]

strategy = Cheat
"""

CHEATS = {
    "honest": "    def up(self, scored, mid): return int(mid) % 2",
    "stored view": """
    def up(self, scored, mid):
        self.views[scored.ticker] = scored.view
        return sum(view.book.mid_price or 0 for view in self.views.values()) % 2 < 1
""",
    "stored book": """
    def up(self, scored, mid):
        self.views[scored.ticker] = scored.view.book
        return sum(book.mid_price or 0 for book in self.views.values()) % 2 < 1
""",
    "stored scored": """
    def up(self, scored, mid):
        self.views[scored.ticker] = scored
        return sum(one.value("momentum") or 0 for one in self.views.values()) % 2 < 1
""",
    "file": """
    def up(self, scored, mid):
        with open(find_recording("quickstart"), "rb") as file:
            return file.read(int(mid) % 100 + 1)[-1] % 2
""",
    "database": """
    def up(self, scored, mid):
        import sqlite3
        with sqlite3.connect(":memory:") as answers:
            return answers.execute("select 1").fetchone()[0]
""",
    "process": """
    def up(self, scored, mid): return os.system("true")
""",
    "file at load": """
    FUTURE = Recording(find_recording("quickstart")).header
    def up(self, scored, mid): return self.FUTURE.ns % 2
""",
    "module state": """
    SEEN = {}
    def up(self, scored, mid):
        then = self.SEEN.get((scored.ticker, scored.at // 10**9 + 5), mid)
        self.SEEN[scored.ticker, scored.at // 10**9] = mid
        return then > mid
""",
    "memory": """
    def up(self, scored, mid):
        if not self.views:
            self.views["all"] = gc.get_objects(0)
        return int(mid) % 2
""",
    "future": """
    def up(self, scored, mid):
        frame = sys._getframe()
        while type(frame.f_locals.get("frames")) is not list:
            frame = frame.f_back
        return len(frame.f_locals["frames"]) == WHOLE
""",
}

FOUND = {
    "honest": {},
    "stored view": {"own frame": "scored.view.book of frame"},
    "stored book": {"own frame": "scored.view.book.mid_price of frame"},
    "stored scored": {"own frame": "scored.value of frame"},
    "file": {"frames only": "quickstart.jsonl.zst"},
    "database": {"frames only": "opened the database :memory:"},
    "process": {"frames only": "started"},
    "file at load": {"frames only": "quickstart.jsonl.zst"},
    "module state": {"no memory": "USDC of"},
    "memory": {"frames only": "searched the memory"},
    "future": {"past alone": "it knows the future: it decided"},
}


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Return the first half a minute of the bundled recording."""
    frames: list[Frame] = []
    for frame in Recording(find_recording("quickstart")):
        frames.append(frame)
        if frame.mono - frames[0].mono > 26 * SECOND:
            break
    return frames


@pytest.mark.replays
@pytest.mark.parametrize("kind", CHEATS)
def test_a_cheat_of_each_kind_is_found(kind: str, frames: list[Frame], tmp_path: Path) -> None:
    """It is found by what it does, and for no other reason; whoever does not cheat passes."""
    path = tmp_path / "cheat.py"
    cheat = CHEATS[kind].replace("WHOLE", str(len(frames)))
    path.write_text(HEAD.replace("strategy = Cheat", f"{cheat}\nstrategy = Cheat"))

    proof = Proof(frames, Options(strategy=str(path)))
    proof.cut(len(frames) * 3 // 4, Random(1))

    found = {one.name: one.words for one in proof.findings() if one.verdict == "broken"}
    assert found.keys() == FOUND[kind].keys()
    assert all(words in found[name] for name, words in FOUND[kind].items())


def test_byte_code_that_python_writes_is_nothing_that_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written under a passing name beside the file, where a shell does not forbid it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    path, reached = tmp_path / "cheat.py", list[str]()
    path.write_text(HEAD)

    loaded(Options(strategy=str(path)), reached)

    assert ([*tmp_path.rglob("*.pyc")] != [], reached) == (True, [])


def test_scrambled_frames_are_the_same_messages_in_another_order(frames: list[Frame]) -> None:
    """Each subscription keeps its messages and its places; numbers and times stay as they were."""
    found = scrambled(frames, Random(1))

    assert [(one.seq, one.at, one.channel, one.id) for one in found] == [
        (one.seq, one.at, one.channel, one.id) for one in frames
    ]
    assert sorted(one.text for one in found) == sorted(one.text for one in frames)
    assert found != frames


def test_who_is_observed_decides_as_without(frames: list[Frame]) -> None:
    """What a strategy is lent is what it would have had: the decisions are a plain run's."""
    whole = list(Recording(find_recording("quickstart")))[:3_500]
    options = Options.of("reckless")
    bot = Bot(options)
    bot.run(from_iterable(whole))

    run = observed(whole, options, lambda: RankAndTarget(PROFILES["reckless"].strategy))

    assert run.stopped is None
    assert len(run.decided) == bot.journal.counts["target"]
    assert run.decided


def test_what_is_lent_is_good_for_its_frame() -> None:
    """Of a thing that changes all is lent in turn; what does not change stays what it is."""
    lease = Lease([])
    thing = lent({"a": [1, 2], "b": "x"}, "thing", lease)

    assert isinstance(thing, dict)
    assert (len(thing), "a" in thing, bool(thing), thing["b"]) == (2, True, True, "x")
    assert [*thing["a"]] == [1, 2]
    assert thing == {"a": [1, 2], "b": "x"}
    lease.seq = 1
    with pytest.raises(SignalError, match="thing of frame 0 was read at frame 1"):
        thing["a"]
    assert lease.late == ["thing of frame 0 was read at frame 1"]


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("    def up(self, scored, mid): return int(mid) % 2", 0, "holds   past alone"),
        (
            "    def up(self, scored, mid): return 1 / 0",
            1,
            "it was stopped: expected cheat to decide",
        ),
        (
            "    def step(self, scored, held): return ()",
            1,
            "unseen  past alone  it decided 0 times",
        ),
    ],
)
def test_the_exit_code_says_whether_it_is_proved(
    body: str, code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What decides nothing proves nothing; what raises is stopped; a line each, and JSON."""
    path = tmp_path / "mine.py"
    path.write_text(HEAD.replace("strategy = Cheat", f"{body}\nstrategy = Cheat"))
    typed = ["prove", str(path), "quickstart", "--seconds", "12", "--cuts", "1"]

    assert main(typed) == code
    assert words in capsys.readouterr().out
    assert main([*typed, "--json"]) == code
    assert {row["verdict"] for row in json.loads(capsys.readouterr().out)} >= {"holds"}


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["nowhere.py"], "got no file nowhere.py"),
        (["none"], "expected a strategy, got none"),
        (["rank", "nowhere"], "expected the path of a recording"),
        (["rank", "--seconds", "0.01"], "expected a recording of 100 frames or more, got"),
    ],
)
def test_what_cannot_be_proved_is_one_line(
    typed: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A strategy or a recording that is none is a line and a 2."""
    assert main(["prove", *typed]) == 2
    assert words in capsys.readouterr().err

"""Which signals a run scores, what each has to hold, and the days that outlive a run."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
from bot.__main__ import main
from bot.run.composition import Bot, Options
from bot.run.signals import Days, begin_with, engines_of, from_file, read_state, write_state
from bot.writing.signals import conform
from dydx_conn import Frame, Inbox, load_recorded_stream
from dydx_data import MarketView
from dydx_signals import ALL, STANDARD, Imbalance, Score, SignalError
from reactivex import from_iterable, operators

# === What every signal holds ===


@pytest.fixture(scope="module")
def faults() -> dict[str, list[str]]:
    """Try all engines at once."""
    return conform(ALL)


@pytest.mark.replays
@pytest.mark.parametrize("name", [make().name for make in ALL])
def test_an_engine_holds_what_it_has_to(faults: dict[str, list[str]], name: str) -> None:
    """On the scale, recomputable, of its own market alone, and what it declares."""
    assert faults[name] == []


class Planted(Imbalance):
    """An engine with a fault, which a test plants."""

    name = "planted"
    fault = ""
    others: set[str]

    def __init__(self) -> None:
        super().__init__()
        self.others, self.reads = set(), 0

    def update(self, view: MarketView) -> None:
        """Remember which other markets there are, or raise."""
        self.others.add(view.ticker)
        if self.fault == "raises":
            raise ZeroDivisionError("a bug")
        super().update(view)

    def read(self, ticker: str) -> Score | None:
        """Change a score as the fault has it."""
        self.reads += 1
        score = super().read(ticker)
        if score is None or self.fault == "silent":
            return None
        change = _CHANGES.get(self.fault)
        return score if change is None else msgspec.structs.replace(score, **change(self, score))


_CHANGES = {
    "beyond": lambda self, score: {"value": score.value + 60},
    "nan": lambda self, score: {"inputs": (*score.inputs, ("odd", float("nan")))},
    "hidden": lambda self, score: {"value": (score.value + 50) / 2},
    "others": lambda self, score: {"value": score.value - 1e-3 * len(self.others)},
    "sizes": lambda self, score: {"value": min(dict(score.inputs)["bid_size"] / 10, 100)},
    "leans": lambda self, score: {"value": score.value**2 / 100},
    "counts": lambda self, score: {"inputs": (*score.inputs, ("reads", float(self.reads)))},
}


FOUND = {
    "beyond": "expected 0 to 100, got 1",
    "nan": "expected finite inputs, got odd nan",
    "hidden": "again of its inputs, got",
    "others": "without the other market, got",
    "sizes": "at eight times the size, got",
    "leans": "mirrored, got",
    "counts": "expected the same score when it is read twice, got another",
    "raises": "expected no error, got ZeroDivisionError: a bug",
    "silent": "expected a score within 240 s of an ordinary market, got none",
}


@pytest.fixture(scope="module")
def planted() -> dict[str, list[str]]:
    """Try all planted faults at once."""
    return conform([type("Made", (Planted,), {"name": name, "fault": name}) for name in FOUND])


@pytest.mark.parametrize("fault", FOUND)
def test_the_kit_finds_a_planted_fault(planted: dict[str, list[str]], fault: str) -> None:
    """Each kind, in words that name it."""
    assert any(FOUND[fault] in words for words in planted[fault])


class Leaning(Imbalance):
    """An engine whose score leans to one way, and declares so."""

    name = "leaning"
    points = False

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the square of what it would be, which the mirror image does not turn."""
        return super().value(inputs) ** 2 / 100


def test_what_an_engine_does_not_declare_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A score that leans is well where nothing else is declared, and a fault where it is."""
    monkeypatch.setattr("bot.writing.signals.SECONDS", 40)
    declared = type("Declared", (Leaning,), {"name": "declared", "points": True})
    faults = conform([Leaning, declared])

    assert faults["leaning"] == []
    assert ["mirrored, got" in words for words in faults["declared"]] == [True]


MINE = """
from dydx_signals import Imbalance

class Mine(Imbalance):
    name = "mine"

def signals():
    return [Mine]
"""


@pytest.mark.replays
def test_signals_of_a_file_are_checked_by_a_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line each, and a 1 if one does not hold."""
    path = tmp_path / "mine.py"
    path.write_text(MINE)

    assert main(["signals", "check", str(path)]) == 0
    assert capsys.readouterr().out.split() == ["mine", "holds"]


# === Which are scored ===


def names(words: str, strategy: Callable[[], object] | None = None) -> list[str]:
    """Return the names of what is made."""
    return [make().name for make in engines_of(words, strategy)]


def test_what_nobody_names_is_not_scored(tmp_path: Path) -> None:
    """The standard six, what the strategy names, and what was typed: once each."""
    standard, path = [make().name for make in STANDARD], tmp_path / "mine.py"
    path.write_text(MINE)
    wants = type("Wants", (), {"signals": ("basis", "momentum")})

    assert names("") == standard
    assert names("", wants) == [*standard, "basis"]
    assert names("trend, basis", wants) == [*standard, "basis", "trend"]
    assert names(str(path)) == [*standard, "mine"]
    assert len(names("all")) == len(ALL) >= 16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trnd", "expected a signal such as trend, got 'trnd'"),
        ("none.py", "expected a Python file with signals(), got no file none.py"),
    ],
)
def test_a_wrong_word_is_refused_with_the_nearest(words: str, message: str) -> None:
    """Before the first frame."""
    with pytest.raises(SignalError) as raised:
        Bot(Options(signals=words))

    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("1 / 0", "got ZeroDivisionError: division by zero"),
        ("def signals(): raise SystemExit(3)", "to return engines, got SystemExit: 3"),
        ("def signals(): return []", "to return engines, got none"),
        ("def signals(): return [dict]", "got a dict without name, changes, read, value"),
        ("", "got AttributeError"),
    ],
)
def test_a_file_without_engines_is_refused(tmp_path: Path, text: str, got: str) -> None:
    """With what was got instead."""
    path = tmp_path / "wrong.py"
    path.write_text(text)

    with pytest.raises(SignalError, match=r"expected .*wrong\.py to ") as raised:
        from_file(path)

    assert got in str(raised.value)


# === Days ===


@pytest.fixture(scope="module")
def part() -> list[Frame]:
    """Some minutes of the recording."""
    taken = load_recorded_stream("quickstart").pipe(operators.take(2_500), operators.to_list())
    return list(taken.run())


@pytest.fixture(scope="module")
def left(part: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run of it leaves."""
    path = tmp_path_factory.mktemp("state") / "days.json"
    bot = Bot(Options())
    bot.run(from_iterable(part))
    write_state(bot.scorer, bot.journal.hash, path)
    return path


@pytest.mark.replays
def test_a_run_goes_on_with_the_days_that_another_left(part: list[Frame], left: Path) -> None:
    """They are in the run hash, and in what each level is measured against."""
    plain, primed = Bot(Options()), Bot(Options())
    state = read_state(left)
    assert state is not None
    plain.run(from_iterable(part))
    primed.run(
        from_iterable([msgspec.structs.replace(state, seq=part[0].seq, at=part[0].at), *part])
    )

    hours = {
        bot: dict(bot.scorer.read("BTC-USD", "liquidity").inputs)["day_h"]  # type: ignore[union-attr]
        for bot in (plain, primed)
    }
    assert hours[primed] == pytest.approx(2 * hours[plain])
    assert primed.journal.hash != plain.journal.hash
    assert primed.scorer.read("BTC-USD", "liquidity").first == part[0].seq  # type: ignore[union-attr]


def test_what_is_left_names_the_run_it_is_of(left: Path, part: list[Frame]) -> None:
    """By its hash, in the file and in the frame."""
    bot = Bot(Options())
    bot.run(from_iterable(part))
    state = read_state(left)

    assert json.loads(left.read_text())["source"] == bot.journal.hash
    assert state is not None
    assert state.id.startswith(bot.journal.hash[:16])


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"source": "x", "levels": {"volume": {"BTC-USD": [[1, 2]]}}}', "\xff"],
)
def test_what_no_run_left_is_refused_and_a_live_run_begins_again(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Typed it is an error; found, a warning."""
    path, inbox = tmp_path / "days.json", Inbox()
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(SignalError, match=r"expected .*, got "):
        read_state(path)
    begin_with(path, inbox)

    assert not inbox.waiting
    assert "the day of each market begins again" in capsys.readouterr().err


def test_days_that_are_found_are_the_first_frame(left: Path) -> None:
    """With the hash of the run that they are of."""
    inbox = Inbox()
    begin_with(left, inbox)
    frame = inbox.take(1, 0)

    assert frame is not None
    assert (frame.kind, frame.text) == ("state", left.read_text())


@pytest.mark.replays
def test_a_killed_run_leaves_its_days_of_a_minute_ago(part: list[Frame], tmp_path: Path) -> None:
    """A day a frame, and a thread writes them; what the run does is the same with it."""
    path, plain, bot = tmp_path / "days.json", Bot(Options()), Bot(Options())
    (tmp_path / ".days.json.4194305").write_text("of a run that was killed as it wrote")
    days = Days(bot.scorer, lambda: bot.journal.hash, path)
    stored: set[str] = set()

    def passing() -> Iterator[Frame]:
        for frame in part:
            days.note(frame)
            if days._writing.ident is not None:
                days._writing.join()
            stored.add(path.read_text() if path.exists() else "")
            yield frame

    plain.run(from_iterable(part))
    days.begin(Inbox())
    bot.run(from_iterable(passing()))  # and nobody ends what is beside it

    minutes = (part[-1].mono - part[0].mono) // 60_000_000_000
    assert len(stored - {""}) == minutes > 0
    state = read_state(path)
    assert state is not None
    assert (
        json.loads(state.text)["levels"].keys() == json.loads(bot.scorer.state(""))["levels"].keys()
    )
    assert bot.journal.hash == plain.journal.hash
    assert [*tmp_path.iterdir()] == [path]


def test_what_cannot_be_stored_meanwhile_is_tried_again_at_the_end(
    part: list[Frame], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And reported there: a run goes on."""
    bot = Bot(Options())
    bot.run(from_iterable(part))
    path = tmp_path / "none" / "days.json"
    days = Days(bot.scorer, lambda: bot.journal.hash, path)
    for frame in part:
        days.note(frame)
    days.end()

    assert "expected to store the day of each market in " in capsys.readouterr().err
    path.parent.mkdir()
    days.end()
    assert read_state(path) is not None

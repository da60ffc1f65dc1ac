"""Walk-forward on a recording: what is typed, what is chosen, and what all tests came to."""

import io
import json
from pathlib import Path

import pytest
from bot.__main__ import main
from bot.backtest import playing
from bot.backtest.figures import Figures, RunFigures
from bot.backtest.judged import Part, judged
from bot.backtest.playing import Outcome, Span
from bot.backtest.statistics import Path as Held
from bot.backtest.walk_shown import print_walk
from bot.backtest.walking import Always, Step, Walk, Walking, efficiency, plan_of
from bot.backtest.walks import Fold, Ran, Walked
from bot.backtest.words import variants_of
from bot.commands import parser
from bot.progress import Progress
from dydx_conn import Recording


def figures(profit: float | None) -> RunFigures:
    """Make figures of which only the profit matters."""
    return RunFigures(
        run_hash="ab", fidelity="book", optimism=None, since_ns=0, until_ns=1,
        total=Figures(profit=profit), markets={}, equity=(),
    )  # fmt: skip


def test_a_walk_chooses_by_trainings_and_joins_the_tests(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each test begins where its training ended; its trades are written as ever."""
    table = tmp_path / "t.csv"
    code = main(
        ["backtest", "none", "reckless", str(short), "--train", "25s", "--test", "15s",
         "--objective", "volume", "--trades", str(table), "--json"]
    )  # fmt: skip
    walk = json.loads(capsys.readouterr().out)
    folds = walk["folds"]

    assert (code, walk["complete"], walk["schema"]) == (0, True, "bot.walk/1")
    assert [fold["chosen"] for fold in folds] == ["none", "none"]
    assert folds[0]["until"] == folds[1]["tested_from"]
    assert [one["chosen"] for one in walk["variants"]] == [2, 0]
    assert walk["variants"][1]["profit"] < walk["total"]["profit"] == 0
    assert walk["judged"]["is_luck"]
    assert table.read_text().count("\n") == 1  # nothing was dealt by what was chosen


def test_a_grid_is_walked_over_all_its_variants(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On one pass, each named by what is other in it; no folder of results is begun."""
    grid = tmp_path / "grid.yaml"
    grid.write_text("strategies.rank.enter: [55, 60]\n")
    words = ["sweep", str(grid), str(short), "--train", "30s", "--test", "20s", "--json"]
    code = main(words)
    walk = json.loads(capsys.readouterr().out)

    assert code == 0
    assert [one["name"] for one in walk["variants"]] == ["enter 55", "enter 60"]
    assert len(walk["folds"]) == 1
    assert [*tmp_path.glob("sweep-*")] == []
    assert main([*words, "--seconds", "5"]) == 2
    assert main(["sweep", str(grid), "--train", "30s", "--test", "20s"]) == 2


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["--train", "30d"], "expected --train and --test, got --train without --test"),
        (["--test", "7d"], "expected --train and --test, got --test without --train"),
        (["--train", "30d", "--test", "7d"], "expected at least 888 hours, to train and to test"),
        (["--objective", "calmar"], "expected --train and --test beside --objective, got neither"),
        (["--train", "1m", "--test", "1m", "--objective", "luck"], "expected an objective (profit"),
        (["--train", "1m", "--test", "1m", "--journal"], "expected --train alone, or --journal"),
    ],
)
def test_what_cannot_be_walked_is_refused_in_a_line(
    words: list[str], refused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is played."""
    assert main(["backtest", "rank", "quickstart", *words]) == 2

    error = capsys.readouterr().err
    assert refused in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("text", ["30", "d", "0d", "-1d", "1y", ""])
def test_how_long_is_typed_with_its_unit(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Anything else is refused as it is typed."""
    with pytest.raises(SystemExit):
        main(["backtest", "quickstart", f"--train={text}", "--test", "1d"])

    assert "expected how long, such as 45s" in capsys.readouterr().err


def test_ctrl_c_reports_the_folds_that_are_whole(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a span is compared with nothing."""
    judge, plays = playing.Source.frames, list[int]()

    def interrupted(source: playing.Source, *of: object) -> object:
        plays.append(1)
        if len(plays) == 4:
            raise KeyboardInterrupt
        return judge(source, *of)  # type: ignore[arg-type]

    monkeypatch.setattr(playing.Source, "frames", interrupted)
    typed = parser().parse_args(["backtest", "--train", "20s", "--test", "10s"])
    variants = variants_of(["none"], typed)
    with Progress("", 0) as progress:
        walking = Walking(
            plan_of(typed, Span()),
            lambda recording: [playing.job_of(one, recording) for one in variants], progress,
        )  # fmt: skip
        walk = walking.walk([Recording(short)])

    assert not walk.complete
    assert len(walk.folds) == 1
    assert [type(one) for one in walking.outcomes] == [Outcome]


def walked(train: float | None, test: float | None) -> Walked:
    """Make a fold of one variant that trained for two hours and was tested for one."""
    return Walked(
        fold=Fold(0, 2, 3), chosen=0, train=train, test=test, best=test,
        trained=(Ran(figures(train)),), tested=(Ran(figures(test)),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("folds", "expected"),
    [
        ([(4.0, 1.0)], 0.5),
        ([(4.0, 1.0), (2.0, -1.0)], 0.0),
        ([(-1.0, 1.0)], None),
        ([(None, 1.0)], None),
        ([(1.0, None)], None),
        ([], None),
    ],
)
def test_efficiency_is_the_pace_of_tests_over_that_of_trainings(
    folds: list[tuple[float | None, float | None]], expected: float | None
) -> None:
    """Where the trainings made nothing there is nothing to hold it against."""
    assert efficiency([walked(*each) for each in folds]) == expected


@pytest.mark.parametrize("objective", ["profit", "win_rate"])
def test_a_walk_fits_into_a_narrow_terminal(objective: str) -> None:
    """What raised is named, what is unknown is a dash, and luck is named."""
    step = Step(
        recording="x", since="2026-11-01T00:00:00Z", tested_from="2026-11-29T10:00:00Z",
        until="2026-11-30T10:00:00Z", chosen="mine.py", train=0.5, test=-1_234.5, best=None,
        profit=-1_234.5, trades=12, run_hash="ab", failure="ValueError",
    )  # fmt: skip
    part = Part(figures(1.0), (), Held({}, {}), ())
    walk = Walk(
        objective=objective, folds=(step,),
        variants=(Always(name="mine.py", chosen=1, profit=None),), total=Figures(),
        efficiency=None, judged=judged([part]), complete=False,
    )  # fmt: skip
    out = io.StringIO()
    print_walk(walk, out, 80)
    text = out.getvalue()

    assert "ended early" in text
    assert "2026-11-29 10:00 mine.py STOPPED" in text
    assert f"the best {objective.replace('_', ' ')} of each training" in text
    assert "chance       not shown to be more than chance" in text
    assert max(map(len, text.splitlines())) <= 100

"""Calibration: what is measured of made-up scores, of a minute of a recording, and what is typed."""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from bot.__main__ import main
from bot.calibrate.calibration import (
    Observation,
    isotonic,
    measured,
    rank_correlation,
    reliability,
    signed_ranks,
)
from bot.calibrate.command import read_maps, sampled
from dydx_conn import (
    Recording,
    RecordingWriter,
    WireWriter,
    find_recording,
    market_fields,
)
from hypothesis import given
from hypothesis import strategies as st

SECOND = 1_000_000_000


def observations(
    scores: Sequence[float], moves: Sequence[float], *, step_s: float = 10.0, half: float = 0.0
) -> list[Observation]:
    """Return scores and the moves after them, `step_s` apart."""
    return [
        Observation(round(index * step_s * SECOND), score, move, half, "calm")
        for index, (score, move) in enumerate(zip(scores, moves, strict=True))
    ]


def planted(seed: int, count: int, lift: float) -> list[Observation]:
    """Return scores whose moves go up as often as the score says, times `lift`."""
    chance = Random(seed)
    scores = [chance.uniform(0, 100) for _ in range(count)]
    ups = [chance.random() < 0.5 + lift * (score - 50) / 100 for score in scores]
    return observations(scores, [chance.expovariate(1) * (1 if up else -1) for up in ups])


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_signed_ranks_keep_order_and_mirror(values: list[int]) -> None:
    """What is larger has the larger rank, what is alike the same, and the mirror's are mirrored."""
    found = signed_ranks(values)

    assert signed_ranks([-value for value in values]) == [-rank for rank in found]
    assert [
        (a > b) - (a < b) for a in found for b in found
    ] == [(a > b) - (a < b) for a in values for b in values]  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from([-1, 0, 1])), min_size=1, max_size=80)
)
def test_an_isotonic_map_never_falls_and_keeps_the_mean(rows: list[tuple[int, int]]) -> None:
    """Its shares rise with the score, and over what it was fitted on it is right on average."""
    seen = observations([score * 5.0 for score, _ in rows], [float(move) for _, move in rows])
    moved = [one for one in seen if one.move_bps]

    found = isotonic("x", 10, seen)

    if found is None:
        assert len(moved) < 20
        return
    assert list(found.shares) == sorted(found.shares)
    assert math.isclose(
        sum(found.share_up(one.score) for one in moved), sum(one.move_bps > 0 for one in moved)
    )


def test_a_map_is_the_best_that_never_falls() -> None:
    """Where a share falls it is pooled with the one before: 10 → 1/2, 20 → 0 is 1/4 for both."""
    rows = observations([10, 10, 20, 20, 30] * 4, [1, -1, -1, -1, 1] * 4)

    found = isotonic("x", 10, rows)

    assert found is not None
    assert (found.scores, found.shares) == ((20, 30), (0.25, 1.0))


@pytest.mark.replays
@pytest.mark.parametrize("lift", [0.0, 0.3, 1.0])
def test_a_planted_drift_is_found_within_three_points(lift: float) -> None:
    """Curve and map give the share of ups that was planted, by a score of every tenth."""
    rows = planted(7, 20_000, lift)

    curve = reliability(rows)
    map_ = isotonic("x", 10, rows)

    assert map_ is not None
    for bucket in curve:
        truth = 0.5 + lift * (bucket.score - 50) / 100
        assert bucket.share_up == pytest.approx(truth, abs=0.03)
        assert map_.share_up(bucket.score) == pytest.approx(truth, abs=0.05)


def test_a_score_of_past_moves_is_worth_nothing_on_a_random_walk() -> None:
    """Though it shares moves with its outcomes' sample, 0 lies in most intervals."""
    inside = 0
    for seed in range(40):
        chance, path = Random(seed), [0.0]
        for _ in range(960):
            path.append(path[-1] + chance.gauss(0, 1))
        times = range(60, 950, 5)
        scores = [50 + min(max(path[t] - path[t - 60], -50), 50) for t in times]
        moves = [path[t + 10] - path[t] for t in times]
        found = rank_correlation(observations(scores, moves, step_s=5), 10)
        assert found is not None
        inside += not found.shown

    assert inside >= 36


def test_what_points_the_right_way_is_shown() -> None:
    """A correlation that was planted has an interval that leaves 0 out."""
    found = rank_correlation(planted(1, 1_000, 0.8), 10)

    assert found is not None
    assert found.shown
    assert found.value > 0.3


def test_too_few_blocks_make_no_interval_and_no_move_no_correlation() -> None:
    """What cannot be known is None: a short recording shows nothing, a still market is no 0."""
    short = rank_correlation(planted(1, 20, 0.8), 10)
    still = rank_correlation(observations([60] * 100, [0] * 100), 10)
    rare = rank_correlation(observations([60] * 1_000, [1, *[0] * 999]), 10)

    assert short is not None
    assert (short.low, short.high, short.shown) == (None, None, False)
    assert still is None
    assert rare is not None
    assert rare.low is None


def test_a_map_is_judged_on_nothing_that_it_was_fitted_on() -> None:
    """What was learned before t is wrong after it, where the market turns round; t's are in none."""
    before, after = planted(1, 400, 1.0), planted(2, 400, -1.0)
    turn = 400 * 10 * SECOND
    rows = before + [one._replace(at=one.at + turn) for one in after]

    found = measured("x", 10, rows, turn)

    assert found.brier is not None
    assert found.map is not None
    assert (found.map.rows, found.brier.count) == (400, 400)
    assert found.brier.mapped is not None
    assert found.brier.mapped > 0.4
    assert measured("x", 100, rows, turn).map.rows == 391  # type: ignore[union-attr]


def test_half_the_spread_is_paid_and_the_way_is_the_scores() -> None:
    """A low score that is followed by a fall is right; what does not move costs the spread."""
    rows = observations([20, 20, 80], [-3, 0, 5], half=1)

    low, high = reliability(rows)

    assert (low.share_up, low.net_bps) == (0.0, 0.5)
    assert (high.share_up, high.net_bps) == (1.0, 4.0)


def test_an_outcome_is_the_mid_of_its_time_and_no_later_one() -> None:
    """The mid as of the horizon counts, up to the last frame; what was unknown then is left out."""
    wire = WireWriter()
    frames = [wire.message("connected"), wire.markets(market_fields("BTC-USD", price="100"))]
    for second in range(60):
        price = 100 + second
        frames.append(
            wire.book("BTC-USD", [(price - 0.5, 1)], [(price + 0.5, 1)] if second != 30 else [])
        )
        wire.wait(1)

    (market,) = sampled(frames, 5)
    found = {round(s.mid): move for s, move in market.outcomes(10)}

    assert found[105] == pytest.approx(1e4 * 10 / 105)
    assert 120 not in found  # the book had one side 10 s later
    assert max(found) == 145


@pytest.fixture(scope="module")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a minute of the bundled recording as one of its own."""
    source = Recording(find_recording("quickstart"))
    path = tmp_path_factory.mktemp("calibrate") / "minutes.jsonl.zst"
    writer = RecordingWriter(path, source.header)
    began = None
    for frame in source:
        began = began or frame.mono
        if frame.mono - began > 60 * SECOND:
            break
        writer.write_frame(frame)
    writer.close()
    return path


def test_maps_leave_with_the_hash_of_their_source_and_are_judged_later(
    minutes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--save` writes what `--map` reads; on the same recording it is worth what it was."""
    saved = tmp_path / "maps.json"
    typed = ["calibrate", str(minutes), "--horizon", "5,20", "--json"]

    assert main([*typed, "--save", str(saved)]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main([*typed, "--map", str(saved)]) == 0
    second = json.loads(capsys.readouterr().out)

    maps = read_maps(saved)
    assert maps.fitted_on[0].sha256 == hashlib.sha256(minutes.read_bytes()).hexdigest()
    assert {(one["signal"], one["horizon_s"]) for one in first["signals"]} >= {
        ("momentum", 5.0), ("imbalance", 20.0)
    }  # fmt: skip
    assert first["fitted_on"] == second["fitted_on"]
    assert [one["brier"] for one in first["signals"]] == [one["brier"] for one in second["signals"]]


def test_a_report_is_drawn_within_eighty_columns(
    minutes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables, plots and their legend, also of a horizon that is too long for the recording."""
    assert main(["calibrate", str(minutes), "--horizon", "5,600", "--seconds", "30"]) == 0

    out = capsys.readouterr().out
    assert max(map(len, out.splitlines()[3:])) <= 80
    for words in (
        "5 s later",
        "600 s: no recording is as long",
        "momentum: % up by score",
        "rank:",
    ):
        assert words in out


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["nowhere"], "expected the path of a recording"),
        (
            ["quickstart", "quickstart"],
            "expected each recording once, got quickstart.jsonl.zst twice",
        ),
        (["--horizon", "10000"], "expected recordings longer than the horizon of 10000 s, got"),
        (["--map", "nowhere.json"], "No such file"),
        (["--map", "odd.json"], "expected maps of bot calibrate --save in odd.json, got"),
        (
            ["--map", "uneven.json"],
            "expected a share for each score of x, got 2 scores and 1 shares",
        ),
        (["--map", "later.json"], "expected recordings from after what the map was fitted on"),
        (["empty.jsonl.zst"], "expected recordings with a book that has two sides, got none"),
    ],
)
def test_what_is_wrong_is_one_line(
    typed: list[str],
    words: str,
    minutes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A recording that is none, one that is too short, and maps that are none: a line and a 2."""
    monkeypatch.chdir(tmp_path)
    Path("odd.json").write_text("{}")
    map_ = {"signal": "x", "horizon_s": 10, "rows": 1, "base": 0.5, "scores": [1], "shares": [1]}
    maps = {"fitted_on": [], "until": 0, "every_s": 5, "maps": [map_ | {"scores": [1, 2]}]}
    Path("uneven.json").write_text(json.dumps(maps))
    Path("later.json").write_text(json.dumps(maps | {"until": 2**62, "maps": [map_]}))
    RecordingWriter(Path("empty.jsonl.zst"), Recording(minutes).header).close()
    named = [str(minutes), *typed] if typed[0].startswith("--") else typed

    assert main(["calibrate", *named]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("typed", [["--horizon", "0,1"], ["--horizon", "x"], ["--fit", "1"]])
def test_a_figure_out_of_bounds_is_refused(
    typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Horizons are above 0, the share that is fitted on is below 1."""
    with pytest.raises(SystemExit, match="2"):
        main(["calibrate", *typed])

    assert "expected" in capsys.readouterr().err


def test_a_page_holds_a_curve_for_each_signal(
    minutes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--html` writes one page that needs nothing else, beside what is printed."""
    page = tmp_path / "x.html"

    assert main(["calibrate", str(minutes), "--horizon", "5", "--html", str(page)]) == 0
    text = page.read_text("utf-8")
    assert all(f'data-chart="moves {name}"' in text for name in ("momentum", "funding"))
    assert text.count('"name":"5 s"') >= 2
    assert "5 s later" in capsys.readouterr().out


def test_plots_need_plotly(
    minutes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without it the command says what to install, before it does anything."""
    monkeypatch.setattr("bot.system.find_spec", lambda _: None)

    assert main(["calibrate", str(minutes), "--html", str(tmp_path / "x.html")]) == 2
    assert "expected bot[web] to be installed for --html" in capsys.readouterr().err

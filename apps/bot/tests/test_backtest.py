"""Strategies over recordings: what is typed, what each came to, and what goes wrong on the way."""

import csv
import io
import json
import signal
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bot.__main__ import main
from bot.backtest import playing
from bot.backtest.command import Backtest
from bot.backtest.figures import Figures, RunFigures, hourly_returns, ratios_of
from bot.backtest.files import write_trades
from bot.backtest.joined import joined, joined_curve, joined_markets
from bot.backtest.playing import Outcome, Span, Watch
from bot.backtest.shown import lasted, print_backtest
from bot.backtest.words import WordError, classified
from bot.run.composition import Bot, Options
from bot.run.dealt import Dealt
from dydx_conn import Frame, Recording, RecordingWriter, replay
from msgspec.structs import replace

HOUR = 3_600_000_000_000

RAISES = """\
from dydx_strategy import Decision

class Mine:
    name = "mine"

    def step(self, scored, held):
        raise ValueError("on purpose")

strategy = Mine
"""


def printed_by(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    """Run a backtest; return its exit code and what it printed as JSON."""
    code = main(["backtest", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def copied(path: Path, keep: Callable[[Frame], Frame | None], to: Path) -> Path:
    """Write a recording again, frame by frame."""
    source = Recording(path)
    writer = RecordingWriter(to, source.header)
    for frame in source:
        if (left := keep(frame)) is not None:
            writer.write_frame(left)
    writer.close()
    return to


# === Words ===


def test_words_are_classified_by_what_they_name(tmp_path: Path) -> None:
    """Names, code, settings and profiles are variants; names and paths of recordings are data."""
    found = classified(["rank", "mine.py", "a.yaml", "reckless", "sixty", "x/y.jsonl.zst"])

    assert found.variants == ["rank", "mine.py", "a.yaml", "reckless"]
    assert found.recordings == ["sixty", "x/y.jsonl.zst"]


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["rnk"], "got 'rnk' (the nearest is rank)"),
        (["rank", "rank"], "expected each strategy once, got rank twice"),
        (["sixty", "sixty"], "expected each recording once, got sixty twice"),
        (["rank", "lost.jsonl.zst"], "expected a recording at lost.jsonl.zst, got no such file"),
        (["lost.py", "sixty"], "expected a Python file with strategy(), got no file lost.py"),
        (["sixty", "--from", "2026-12-01"], "expected a span within sixty"),
        (["sixty", "--to", "2026-01-01"], "expected a span within sixty"),
        (["--from", "2026-12-01", "--to", "2026-11-01"], "expected --from before --to"),
    ],
)
def test_what_cannot_be_played_is_refused_in_a_line(
    words: list[str], refused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is played before that, and the exit code is a 2."""
    assert main(["backtest", *words]) == 2

    error = capsys.readouterr().err
    assert refused in error
    assert error.count("\n") == 1


def test_a_word_that_names_two_things_is_refused(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording that is called like a strategy is typed by its path."""
    (tmp_path / "recordings").mkdir()
    short.rename(tmp_path / "recordings" / "rank.jsonl.zst")
    (tmp_path / "carry").mkdir()  # a folder is no recording
    monkeypatch.chdir(tmp_path)

    with pytest.raises(WordError, match="expected rank to name one thing"):
        classified(["rank"])
    assert classified(["carry"]).variants == ["carry"]


# === Runs ===


@pytest.mark.replays
def test_a_backtest_is_the_run_that_a_replay_is(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the same hash, and a trade for each that the ledger has."""
    bot = Bot(Options.of("reckless"))
    bot.run(replay(short))
    code, found = printed_by(["reckless", str(short)], capsys)
    run = found["runs"][0]
    ended = [row for row in run["trades"] if row["closed"] is not None]

    assert code == 0
    assert run["figures"]["run_hash"] == bot.journal.hash
    assert [row["ticker"] for row in ended] == [t.record.ticker for t in bot.dealt.trades]
    for row in run["trades"]:
        assert Decimal(row["mae"]) <= Decimal(row["profit"]) <= Decimal(row["mfe"])


@pytest.mark.replays
def test_a_backtest_ends_with_what_shows_more_of_its_best_run(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Typed as it was chosen; of a part the ids are others, and nothing is named."""
    words = ["backtest", "none", "reckless", str(short), "--no-guard"]
    trades = str(tmp_path / "t.csv")

    assert main([*words, "--trades", trades]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        f"trades       {trades}",
        f"next         bot why F1 {short} --profile reckless --no-guard",
        f"             bot report {short} --profile reckless --no-guard",
    ]
    assert main([*words, "--to", "2026-11-29T21:52:10"]) == 0
    assert "next  " not in capsys.readouterr().out


def test_each_strategy_plays_each_recording(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The earlier recording first; totals add up what each run won."""
    other = copied(short, lambda frame: frame, tmp_path / "other.jsonl.zst")
    code, found = printed_by(["rank", "none", str(other), str(short)], capsys)
    runs, strategies = found["runs"], found["strategies"]

    assert code == 0
    assert len(runs) == 4
    assert [one["strategy"] for one in strategies] == ["rank", "none"]
    won = [one["figures"]["total"]["profit"] for one in runs if one["strategy"] == "rank"]
    assert strategies[0]["total"]["profit"] == pytest.approx(sum(won))
    assert strategies[1]["total"]["trades"] == 0


def test_a_strategy_that_raises_ends_alone(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own line says so, the others go on, and the exit code is a 1."""
    (tmp_path / "raises.py").write_text(RAISES)
    code = main(["backtest", str(tmp_path / "raises.py"), "rank", str(short)])
    printed = capsys.readouterr().out

    assert code == 1
    assert "raises.py on short: expected mine to decide with Decisions, got ValueError" in printed
    assert "raises… STOPPED short" in " ".join(printed.split())
    assert "\nrank: profit" in printed


def test_trades_that_cannot_be_written_cost_nothing_else(tmp_path: Path) -> None:
    """A full disk after an hour's run: its figures are printed, and no half file is left."""
    path = tmp_path / "gone" / "trades.csv"

    assert write_trades(str(path), []) == (
        f"expected to write 0 trades to {path}, got no such file or directory"
    )


def test_what_a_strategy_prints_is_no_part_of_the_report(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever reads JSON gets JSON; what is printed goes to stderr, as it is loaded, too."""
    (tmp_path / "prints.py").write_text(f'print("aloud")\n{RAISES}')
    monkeypatch.chdir(tmp_path)

    code = main(["backtest", "prints.py", str(short), "--json"])
    printed = capsys.readouterr()

    assert json.loads(printed.out)["strategies"][0]["strategy"] == "prints.py"
    assert (code, "aloud" in printed.err) == (1, True)


def test_a_damaged_recording_is_played_and_the_damage_is_named(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is around it counts, and the figures come with a caution."""
    whole = bytearray(short.read_bytes())
    whole[len(whole) // 2] ^= 1
    short.write_bytes(whole)

    assert main(["backtest", str(short)]) == 0
    assert "damage       bytes" in capsys.readouterr().out


def test_a_recording_without_messages_is_refused(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing that could be played."""
    empty = copied(short, lambda _: None, tmp_path / "empty.jsonl.zst")

    assert main(["backtest", str(empty)]) == 2
    assert "expected a recording with messages" in capsys.readouterr().err


def test_nothing_enters_before_the_span_and_nothing_is_played_after_it(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What comes before it warms up books and scores; the figures are those of the span."""
    code, found = printed_by(
        [str(short), "--from", "2026-11-29T21:51:50", "--to", "2026-11-29T21:52:10"], capsys
    )
    figures, trades = found["runs"][0]["figures"], found["runs"][0]["trades"]
    began = 1_795_989_110 * 10**9

    assert code == 0
    assert figures["since_ns"] == began
    assert figures["until_ns"] < began + 20 * 10**9
    assert trades
    assert all(row["opened"] >= began for row in trades)


def test_what_the_recorded_run_did_is_no_part_of_the_data(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A halt of then stops nobody now: it is left out, and counted."""
    seen: list[Frame] = []

    def halted(frame: Frame) -> Frame:
        seen.append(frame)
        return frame

    path, source = tmp_path / "halted.jsonl.zst", Recording(short)
    writer = RecordingWriter(path, source.header)
    for number, frame in enumerate(source):
        if number == 3:
            writer.write_frame(Frame(frame.seq, frame.at, frame.mono, "key", "act", "", "halt"))
        writer.write_frame(halted(frame))
    writer.close()
    _, found = printed_by([str(path)], capsys)

    assert found["runs"][0]["acts"] == 1
    assert found["runs"][0]["figures"]["total"]["fills"] > 0


def test_ctrl_c_between_a_fill_and_what_is_counted_of_it_is_no_error(
    short: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The frame that it came in is taken whole: what the account holds is counted."""
    count = Dealt._fill

    def interrupted(*of: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        monkeypatch.undo()
        count(*of)

    monkeypatch.setattr(Dealt, "_fill", interrupted)
    code, found = printed_by(["rank", str(short)], capsys)

    (run,) = found["runs"]
    assert (code, run["complete"], run["figures"]["total"]["fills"]) == (130, False, 1)
    assert [trade["reason"] for trade in run["trades"]] == ["open"]


@pytest.mark.parametrize("strategies", [["rank"], ["rank", "carry"]])
def test_ctrl_c_reports_what_was_played_until_then(
    strategies: list[str], short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """What is at hand is not all, what comes after it is not begun, and the exit code is 130."""
    other = copied(short, lambda frame: frame, tmp_path / "other.jsonl.zst")
    note, counted = Watch.note, list[int]()

    def interrupted(watch: Watch, frame: Frame) -> None:
        counted.append(1)
        if len(counted) == 500:
            signal.raise_signal(signal.SIGINT)
        note(watch, frame)

    monkeypatch.setattr(playing.Watch, "note", interrupted)
    code, found = printed_by([*strategies, str(short), str(other)], capsys)

    assert code == 130
    assert [run["strategy"] for run in found["runs"]] == strategies
    assert {run["recording"] for run in found["runs"]} == {"short"}
    assert not any(run["complete"] for run in found["runs"])


def test_a_run_that_was_ended_early_is_reported_to_be() -> None:
    """Above its figures, which are those of a part."""
    out = io.StringIO()
    print_backtest([replace(outcome(), complete=False)], Span(), out, 80)

    assert "ended early  not all frames were played" in out.getvalue()


# === Files ===


def test_trades_are_written_as_csv(short: Path, tmp_path: Path) -> None:
    """A row each, exact, with the ids that `bot why` takes; what is open is there too."""
    path = tmp_path / "trades.csv"

    assert main(["backtest", str(short), "--trades", str(path)]) == 0
    rows = [*csv.DictReader(path.read_text().splitlines())]
    assert rows
    assert {row["reason"] for row in rows} >= {"strategy", "open"}
    assert all(row["decision"].startswith("D") and row["fills"].startswith("F") for row in rows)
    assert all(Decimal(row["profit"]) for row in rows)
    assert all((row["closed"] == "") == (row["reason"] == "open") for row in rows)


@pytest.mark.replays
def test_rows_of_trades_add_up_to_the_total(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also while a position is open across an hour whose funding it has not settled."""
    path = tmp_path / "trades.csv"
    until = "2026-11-29T22:00:10"
    words = ["reckless", "quickstart", "--to", until, "--trades", str(path), "--json"]

    assert main(["backtest", *words]) == 0
    rows = [*csv.DictReader(path.read_text().splitlines())]
    total = json.loads(capsys.readouterr().out)["runs"][0]["figures"]["total"]
    assert [row["funding"] for row in rows if row["ticker"] == "BTC-USD"][-1] == "0.001717"
    assert float(sum(Decimal(row["profit"]) for row in rows)) == total["profit"]


def test_trades_are_written_as_parquet(short: Path, tmp_path: Path) -> None:
    """The same columns as numbers and times."""
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "trades.parquet"

    assert main(["backtest", str(short), "--trades", str(path)]) == 0
    table = parquet.read_table(path)
    assert table.schema.field("opened").type.tz == "UTC"
    assert str(table.schema.field("profit").type) == "double"
    assert table.num_rows > 0


def test_parquet_without_what_writes_it_is_refused_before_the_run(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In one line that names the extra."""
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)

    assert main(["backtest", str(short), "--trades", str(tmp_path / "t.parquet")]) == 2
    assert "install bot[parquet]" in capsys.readouterr().err


def test_a_table_is_csv_or_parquet(capsys: pytest.CaptureFixture[str]) -> None:
    """What has another suffix is refused as it is typed."""
    with pytest.raises(SystemExit):
        main(["backtest", "--trades", "trades.xlsx"])

    assert "expected a file that ends in .csv or .parquet" in capsys.readouterr().err


def test_the_schema_describes_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Every run, every strategy, every figure."""
    assert main(["backtest", "--schema"]) == 0

    schema = json.loads(capsys.readouterr().out)
    assert {"Backtest", "Outcome", "Figures", "RunFigures", "Row"} <= {*schema["$defs"]}
    assert Backtest(runs=(), strategies=()).schema == "bot.backtest/1"


@pytest.mark.replays
def test_each_run_has_a_page_of_its_own(short: Path, tmp_path: Path) -> None:
    """Of several runs it is called by what it is of; it is the page of a report, hash and all."""
    pytest.importorskip("plotly")
    words = ["backtest", "none", "carry", str(short)]

    assert main([*words, "--report-html", str(tmp_path / "page.html")]) == 0
    pages = sorted(tmp_path.glob("page*.html"))
    assert [path.name for path in pages] == ["page-carry-short.html", "page-none-short.html"]
    assert all('<span class="badge backtest">' in page.read_text() for page in pages)


# === Totals ===


def run_of(equity: list[float], since: int = 0, **figures: Any) -> RunFigures:
    """Return a run whose account was worth so much, hour by hour."""
    total = Figures(**figures)
    return RunFigures(
        run_hash="", fidelity="book", optimism=None, since_ns=since * HOUR,
        until_ns=(since + len(equity) - 1) * HOUR, total=total, markets={"BTC-USD": total},
        equity=tuple(((since + n) * HOUR, worth) for n, worth in enumerate(equity)),
    )  # fmt: skip


def test_runs_join_to_an_account_that_goes_on() -> None:
    """Each adds what it won to what was left: a fall may begin in one and end in the other."""
    runs = [run_of([100.0, 120.0, 110.0]), run_of([100.0, 80.0], since=10)]

    assert [worth for _, worth in joined_curve(runs)] == [100.0, 120.0, 110.0, 110.0, 90.0]
    assert (joined(runs).max_drawdown, joined(runs).max_drawdown_share) == (30.0, 0.25)


def test_what_is_counted_adds_up_and_rates_are_of_the_sums() -> None:
    """A run without a trade has a part in the time alone; what one does not know nobody knows."""
    one: dict[str, Any] = {
        "trades": 4,
        "won": 3,
        "gross_profit": 9.0,
        "gross_loss": 3.0,
        "profit": 6.0,
    }
    other: dict[str, Any] = {"trades": 1, "gross_loss": 1.0, "profit": -1.0, "exposure": 0.5}
    total = joined([run_of([1, 1], exposure=1.0, fills=2, **one), run_of([1, 1, 1, 1], **other)])

    assert (total.trades, total.win_rate, total.profit_factor) == (5, 0.6, 2.25)
    assert (total.profit, total.expectancy) == (5.0, 1.0)
    assert total.exposure == pytest.approx((1.0 + 3 * 0.5) / 4)
    assert total.funding_paid is None


def test_a_market_that_one_run_did_not_trade_has_the_sums_of_the_others() -> None:
    """Nothing was won there, which is known."""
    one, other = run_of([1, 1], profit=2.0, fills=1, funding_paid=0.5), run_of([1, 1])
    found = joined_markets([one, RunFigures(**{**_fields(other), "markets": {}})])

    assert (found["BTC-USD"].profit, found["BTC-USD"].funding_paid) == (2.0, 0.5)


def _fields(run: RunFigures) -> dict[str, Any]:
    return {name: getattr(run, name) for name in run.__struct_fields__}


def test_returns_are_those_of_whole_hours() -> None:
    """An hour that nothing is known of has none, and what is worth nothing returns nothing."""
    curve = ((0, 100.0), (HOUR // 2, 50.0), (HOUR, 100.0), (3 * HOUR, 10.0), (4 * HOUR, 0.0))

    assert hourly_returns(curve) == [1.0, -1.0]
    assert hourly_returns((*curve, (5 * HOUR, 5.0))) == [1.0, -1.0]


def test_few_returns_make_no_ratio() -> None:
    """A day of hours is the least; a steady gain has no deviation and no ratio either."""
    assert {*ratios_of([0.01] * 23).values()} == {None}
    assert ratios_of([0.01, -0.005] * 12)["sharpe"] == pytest.approx(30.4, abs=0.5)


# === Tables ===


def outcome(**figures: Any) -> Outcome:
    """Return an outcome with such figures."""
    return Outcome(
        strategy="rank", recording="week", made_by="", figures=run_of([1.0, 1.0], **figures),
        complete=True, failure="", damage=(), acts=2, early=3, trades=(),
    )  # fmt: skip


@pytest.mark.parametrize("width", [80, 200])
def test_tables_fit_the_width_they_are_drawn_on(width: int) -> None:
    """Three in 80 columns, one where there is room; no line is longer."""
    out = io.StringIO()
    figures = {
        "profit": -123_456.78, "trades": 12_345, "fees_paid": 12_345.67, "fills": 99_999,
        "max_drawdown": 123_456.7, "max_drawdown_share": 0.5, "volume": 123_456_789.0,
        "expectancy": -1_234.5, "funding_paid": -1_234.5, "slippage": 12_345.6,
        "slippage_bps": 1_234.5, "exposure": 0.99, "leverage": 4.5, "turnover": 1_234.5,
        "closest": 0.123, "sharpe": -12.34, "sortino": -12.34, "calmar": -12.34,
        "drawdown_s": 86_400.0 * 90, "reductions": 1_234, "win_rate": 0.123, "profit_factor": 1.23,
    }  # fmt: skip
    print_backtest([outcome(**figures)], Span(), out, width)

    tables = [line for line in out.getvalue().splitlines() if line.startswith(("market", "BTC"))]
    assert len(tables) == (6 if width == 80 else 2)
    assert max(map(len, tables)) <= width
    assert "…" not in "".join(tables)


def test_what_is_wrong_stands_above_the_figures() -> None:
    """Acts that are left out, updates of unknown books, and where the span begins."""
    out = io.StringIO()
    print_backtest([outcome()], Span(since=HOUR), out, 80)

    assert "acts         2 of the recorded run are left out" in out.getvalue()
    assert "caution      3 updates came for books" in out.getvalue()
    assert "span         entries from 1970-01-01 01:00:00 UTC on" in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0.0, "0 s"), (119.0, "119 s"), (150.0, "2.5 min"), (9_000.0, "2.5 h"),
     (216_000.0, "2.5 d")],
)  # fmt: skip
def test_durations_are_worded_in_the_unit_that_fits(seconds: float | None, words: str) -> None:
    """Two of a unit are the least."""
    assert lasted(seconds) == words

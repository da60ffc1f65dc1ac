"""How far a result can be believed: what was held, intervals, holding, and luck in words."""

import io
from pathlib import Path as File

import pytest
from bot.backtest import held
from bot.backtest.command import as_values
from bot.backtest.figures import Figures, RunFigures
from bot.backtest.judged import Part, holding_words, judged, luck_words, named_words
from bot.backtest.playing import Source, Span, job_of, played
from bot.backtest.shown import Canvas, print_backtest
from bot.backtest.statistics import Luck, Path
from bot.backtest.words import variants_of
from bot.commands import parser
from bot.progress import Progress
from dydx_conn import Recording

HOUR = 3_600_000_000_000


def part_of(
    gains: list[float], path: Path | None = None, profits: tuple[float, ...] = (), hold: float = 0.0
) -> Part:
    """Make a run whose equity of 1,000 USDC moved so, hour by hour; holding gained evenly."""
    worth = [1_000.0]
    for gain in gains:
        worth.append(worth[-1] + gain)
    figures = RunFigures(
        run_hash="", fidelity="book", optimism=None, since_ns=0, until_ns=len(gains) * HOUR,
        total=Figures(profit=worth[-1] - 1_000.0), markets={},
        equity=tuple((n * HOUR, each) for n, each in enumerate(worth)),
    )  # fmt: skip
    holding = tuple((n * HOUR, 1_000.0 + hold * n) for n in range(len(worth)))
    return Part(figures, profits, path or Path({}, {}), holding)


def test_a_day_of_hours_has_intervals_and_less_has_none() -> None:
    """And trades have theirs from as many as eight blocks on."""
    long, short = (judged([part_of([1.0, -0.5] * (hours // 2))]) for hours in (24, 22))
    trades = judged([part_of([1.0], profits=(3.0, -1.0) * 12)])

    assert {*long.intervals} == {"return", "sharpe", "sortino", "max_drawdown", "calmar"}
    assert {*short.intervals} == set()
    assert {*trades.intervals} == {"win_rate", "profit_factor", "expectancy"}
    assert trades.intervals["expectancy"].value == 1.0


def test_several_runs_are_judged_as_one_result() -> None:
    """Their hours and trades are put together, and what holding came to adds up."""
    parts = [part_of([1.0, -0.5] * 6, profits=(1.0, -1.0) * 6, hold=2.0)] * 2
    found = judged(parts)

    assert found.luck.profit == pytest.approx(6.0)
    assert "return" in found.intervals
    assert found.holding is not None
    assert found.holding.profit == pytest.approx(48.0)
    assert holding_words(found).startswith("+48.00 USDC; ")
    assert "behind it" in holding_words(found)


def test_without_a_day_of_hours_holding_has_no_interval() -> None:
    """What it came to is known all the same; where nothing was traded it is not."""
    assert holding_words(judged([part_of([1.0], hold=2.0)])) == "+2.00 USDC"
    assert holding_words(judged([part_of([1.0])._replace(holding=())])) == ""


@pytest.mark.parametrize(
    ("profit", "words"),
    [
        (5.0, "luck, no better than chance: 25 of 100"),
        (-5.0, "no better than chance: 25 of 100"),
        (15.0, "better than chance: 25 of 100"),
        (-15.0, "worse than chance: 25 of 100"),
        (None, "not shown to be more than chance"),
    ],
)
def test_luck_is_named_in_plain_words(profit: float | None, words: str) -> None:
    """Within the interval, beyond either end of it, and where nothing can be known."""
    luck = Luck(profit=profit, low=-10.0, high=10.0, better=0.25)

    assert luck_words(luck).startswith(words)


# === What was held ===


def test_what_is_held_explains_the_profit(short: File) -> None:
    """What was held times the moves of the prices is the profit before costs, nearly."""
    variant = variants_of(["reckless"], parser().parse_args(["backtest"]))
    with Progress("", 0) as progress:
        (found,) = played(Recording(short), variant, Span(), progress)
    path, total = found.part.path, found.outcome.figures.total
    gained = sum(
        h * m
        for ticker, row in path.held.items()
        for h, m in zip(row, path.moves[ticker], strict=True)
    )

    assert {*path.held} == {*found.outcome.figures.markets}
    assert len({len(row) for row in (*path.held.values(), *path.moves.values())}) == 1
    assert total.profit is not None
    beside = total.profit - gained + total.fees_paid
    assert abs(beside) < 5 * total.volume / 1e4  # a fill is not at the oracle's price
    assert [at for at, _ in found.part.holding] == [at for at, _ in found.outcome.figures.equity]


def test_a_long_span_has_longer_periods(short: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than MOST, whatever stands still in between."""
    monkeypatch.setattr(held, "MOST", 20)
    variants = variants_of(["rank", "carry"], parser().parse_args(["backtest"]))
    with Progress("", 0) as progress:
        runs = [*played(Recording(short), variants, Span(), progress)]

    assert all(0 < len(row) <= 20 for run in runs for row in run.part.path.held.values())
    assert [one.strategy for one in as_values(runs).strategies] == ["rank", "carry"]


def test_a_span_is_the_same_alone_and_beside_another(short: File) -> None:
    """It is warmed up by what is before it, and by nothing that it decided then."""
    source = Source(Recording(short), Span())
    span = Span(since=source.began + 20 * 10**9)
    typed = parser().parse_args(["backtest", "--profile", "reckless"])
    with Progress("", 0) as progress:
        alone, both = (
            [*played(Recording(short), variants_of(names, typed), span, progress)]
            for names in (["rank"], ["rank", "carry"])
        )

    assert alone[0].outcome.figures.run_hash == both[0].outcome.figures.run_hash
    assert alone[0].outcome.figures.total.fills
    assert all(row.opened >= (span.since or 0) for row in alone[0].outcome.trades)
    assert job_of(variants_of(["rank"], typed)[0], source.recording).label == "rank"


# === Shown ===


def test_intervals_holding_and_chance_are_shown() -> None:
    """Each where it is known, with the conventions that it follows."""
    part = part_of([1.0, -0.5] * 20, profits=(1.0, -1.0) * 20, hold=2.0)
    found, out = judged([part]), io.StringIO()
    rows = dict(named_words(found))
    print_backtest([], Span(), out, 80, {"x": found})

    assert {"verdict", "buy and hold", "Sharpe", "won"} <= {*rows}
    assert "Buy and hold: equal shares of the deposit" in out.getvalue()


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    """The command ends as every other does, and not with a 1 of Rich's."""

    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Canvas(Closed(), 80).print("a line")

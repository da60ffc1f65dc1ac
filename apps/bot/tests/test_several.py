"""Several strategies on one account: what the report says of each."""

from pathlib import Path

from bot.report.report import report_lines, report_of
from bot.run.composition import Bot, Options


def test_the_report_says_what_each_strategy_has_come_to(tmp_path: Path) -> None:
    """A line for each, in the order of the list; none where one alone decides."""
    file = tmp_path / "mix.toml"
    file.write_text('[[strategies]]\nuse = "rank"\n[[strategies]]\nuse = "pairs"\n')
    several, alone = (Bot(Options(strategy=name)) for name in (str(file), "rank"))
    report = report_of(several, name="nothing")

    assert [row["title"] for row in report["strategies"]] == ["rank", "pairs"]
    lines = [line for line in report_lines(report) if line.startswith("strategy ")]
    assert lines == [
        "strategy     rank: +0.00 USDC, 0.00 of fees, 0 markets held, trades",
        "strategy     pairs: +0.00 USDC, 0.00 of fees, 0 markets held, trades",
    ]
    assert report_of(alone, name="nothing")["strategies"] == []

"""What is printed after a run: six lines, and a line more for each thing that went wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from bot.__main__ import main
from bot.config.loaded import load
from bot.report.brief import brief_lines, wrong_lines
from bot.report.report import made_words, report_lines, report_of
from bot.run.composition import Bot, Options

TITLES = ["equity", "profit", "drawdown", "positions", "costs", "run hash"]


@pytest.fixture
def report() -> dict[str, Any]:
    """Return the report of a run in which nothing happened."""
    return report_of(Bot(Options()), name="nothing")


def test_a_run_in_which_all_went_well_leaves_six_lines(report: dict[str, Any]) -> None:
    """Each within 80 columns, but for nothing."""
    lines = brief_lines(report)

    assert [line[:12].strip() for line in lines] == TITLES
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("text", "typed", "words"),
    [
        ("policy: {max_leverage: 1.5}\ndeposit: 5", {}, "bot.yaml, 2 differ from steady"),
        ("{}", {}, "bot.yaml, all as steady"),
        ("", {"deposit": ("--deposit", 5)}, "no file, 1 differs from steady"),
        ("", {"profile": ("--profile", "reckless")}, ""),
        ("", {"network": ("--network", "local")}, ""),
        ("network: local\ndeposit: 5", {}, "bot.yaml, 1 differs from steady"),
    ],
)
def test_settings_have_a_line_where_anybody_chose_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, typed: Any, words: str
) -> None:
    """With the file, how many are others, and the hash."""
    monkeypatch.chdir(tmp_path)
    Path("bot.yaml").write_text(text)
    loaded = load(typed, path=Path("bot.yaml") if text else None, environment={})

    lines = brief_lines(report_of(Bot(Options(config=loaded)), name="nothing"))

    found = [line for line in lines if line.startswith("settings")]
    assert found == ([f"settings     {words}, hash {loaded.hash[:8]}"] if words else [])


def test_the_long_report_has_each_setting_that_somebody_chose(tmp_path: Path) -> None:
    """Its value, and where it is from; where a run trades is no choice of how."""
    path = tmp_path / "bot.yaml"
    path.write_text("network: local\npolicy:\n  max_leverage: 1.5\n")
    typed = {"deposit": ("--deposit", 5)}

    bot = Bot(Options(config=load(typed, path=path, environment={})))
    lines = report_lines(report_of(bot, name="nothing"))

    first = next(n for n, line in enumerate(lines) if line.startswith("settings"))
    assert sorted(line.strip() for line in lines[first + 1 : first + 3]) == [
        "deposit 5 (--deposit)", f"policy.max_leverage 1.5 ({path}:3)",
    ]  # fmt: skip
    assert lines[first + 3].startswith("guard")


def test_the_figures_are_those_of_the_account(report: dict[str, Any]) -> None:
    """Profit is what was won less all that it cost; a drawdown is money and a share."""
    money = {
        "deposit": 10_000, "equity": 9_181.29, "realized_pnl": -785.65, "unrealized_pnl": 1.0,
        "profit": -818.71, "fees_paid": 33.06, "funding_paid": -2.0, "funding_unsettled": 0.5, "insurance_paid": 1.0,
    }  # fmt: skip
    fall = {"usdc": 850.231919, "share": 0.084777}
    held = [{"ticker": f"{name}-USD", "size": "+1"} for name in "ABCD"]

    lines = brief_lines(
        report | {"money_usdc": money, "drawdown": fall, "positions": held, "run_hash": "8d91"}
    )

    assert lines == [
        "equity       9,181.29 USDC of 10,000 deposited",
        "profit       -818.71 USDC: -785.65 realized, +1.00 unrealized, less costs",
        "drawdown     850.23 USDC, 8.48 % below the peak",
        "positions    4 left: A-USD +1, B-USD +1, C-USD +1 and 1 more",
        "costs        32.56 USDC: 33.06 fees, -1.50 funding, 1.00 insurance",
        "run hash     8d91",
    ]


def test_a_run_without_recorded_books_has_a_line_on_what_its_orders_filled_on(
    report: dict[str, Any],
) -> None:
    """Its profit is worth what the model of its books is worth."""
    lines = brief_lines(report | {"fidelity": "candles", "optimism": 0.25})

    assert lines[-2] == (
        "fidelity     candles, books modelled from candles; the tape bears out 75 % of fills"
    )


def test_the_drawdown_of_an_account_that_goes_on_is_named_as_that_of_the_run(
    report: dict[str, Any],
) -> None:
    """All other figures are since its deposit."""
    lines = brief_lines(report | {"carried": "goes on from run 1"})

    assert "drawdown     none in this run" in lines


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"complete": False}, "ended early  not all frames of its source were played"),
        ({"damage": ["line 7"]}, "damage       line 7"),
        ({"stopped": "no idea"}, "STOPPED      no idea: nothing entered after that"),
        ({"liquidations": 1}, "LIQUIDATED   once"),
        ({"liquidations": 34}, "LIQUIDATED   34 times"),
        ({"troubles": {"recorder": "no space"}}, "TROUBLE      recorder: no space"),
        ({"by_hand": ["X-USD"]}, "by hand      X-USD: somebody else traded there"),
        (
            {"gate": {"state": "HALTED", "reasons": {"HALTED": "halted: a headline"}}},
            "HALTED       halted: a headline",
        ),
    ],
)
def test_what_went_wrong_has_a_line(
    wrong: dict[str, Any], line: str, report: dict[str, Any]
) -> None:
    """And what did not has none."""
    assert wrong_lines(report | wrong) == [line]
    assert wrong_lines(report) == []


def test_what_a_run_with_real_orders_leaves_open_has_a_line_each(report: dict[str, Any]) -> None:
    """Nobody guards it from there on."""
    row = {"ticker": "X-USD", "size": "+1", "usdc": None, "leverage": None, "words": "5 % away"}

    assert wrong_lines(report | {"open": [row], "gate": {"reasons": {}}}) == [
        "open         X-USD +1, 5 % away: nobody guards it now"
    ]


@pytest.mark.replays
def test_the_long_report_is_printed_on_request(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With counts, samples, limits and speed; the same drawdown stands in the JSON."""
    assert main(["replay", str(short), "--report", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert main(["replay", str(short), "--json"]) == 0
    drawdown = json.loads(capsys.readouterr().out)["drawdown"]

    assert f"\ndrawdown     {drawdown['usdc']:,.6f} USDC, " in printed
    assert drawdown["share"] > 0
    for word in ("frames", "decisions", "verdicts", "fills", "funding", "closest", "throughput"):
        assert f"\n{word}" in printed


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("dYdX mainnet", "dYdX mainnet"),
        ("dYdX testnet, by way of http://x", "dYdX testnet, by way of http://x"),
        ("local stand-in venue", "local stand-in venue; not market data of dYdX"),
    ],
)
def test_made_up_prices_are_named_as_such(source: str, words: str) -> None:
    """Those of the venue itself need no caution."""
    assert made_words(source) == words

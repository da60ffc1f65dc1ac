"""How much a run risks: the table of the profiles, and what each makes of the bundled crash."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from bot.__main__ import main
from bot.commands import COMMANDS
from bot.config.profiles import POLICY, PROFILES, STEADY, STRATEGY, read_profile
from bot.report.report import report_lines, report_of
from bot.run.composition import Bot, Options
from dydx_conn import ConnError
from dydx_risk import Policy
from dydx_strategy import RankSettings

CRASH_S = 559.0  # when it begins in the bundled recording

# === The table ===


@pytest.mark.parametrize(("table", "model"), [(POLICY, Policy), (STRATEGY, RankSettings)])
def test_every_setting_stands_in_the_table(table: dict[str, Any], model: Any) -> None:
    """No field of a run has a value that stands anywhere else."""
    assert sorted(table) == sorted(model.model_fields)


def test_each_value_of_the_table_is_what_a_run_goes_by() -> None:
    """What is written is what the gate, the guard and the strategy get."""
    for n, name in enumerate(PROFILES):
        options = Options.of(name)
        policy, settings = options.policy.model_dump(), options.settings.model_dump()
        assert policy == {field: values[n] for field, values in POLICY.items()}
        assert settings == {field: values[n] for field, values in STRATEGY.items()}
        assert Bot(options).risk.policy is options.policy


def test_what_nobody_chose_is_steady() -> None:
    """With real orders, too."""
    for command in ("replay", "paper", "trade", "why", "panel", "chaos"):
        options = {names[0]: how for names, how in COMMANDS[command].options}
        assert all(name in options["--profile"]["help"] for name in PROFILES)
    assert Options() == Options.of(STEADY)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"policy": {"max_leverage": 99}}, "expected policy.max_leverage to be less than or equal "
         "to 50, got 99"),
        ({"policy": {"act_bellow": 0.1}}, "expected no field policy.act_bellow, got 0.1"),
        ({"policy": {"max_market_share": 3, "max_account_share": 2}},
         "policy: expected max_market_share <= max_account_share, got 3 and 2"),
        ({"policy": {"act_below": 0.2}},
         "policy: expected act_below < restore_to <= keep_above, got (0.2, 0.1, 0.12)"),
        ({"strategy": {"enter": 40}}, "expected strategy.enter to be greater than 50, got 40"),
        ({"strategy": {"exit": 70}}, "strategy: expected exit below enter, got 70 and 60"),
        ({"strategy": {"gross_share": 6.0}},
         "expected strategy.gross_share <= policy.max_leverage, got 6 and 5"),
        ({"policy": {"max_market_share": 1}},
         "expected strategy.market_share <= policy.max_market_share, got 1.2 and 1"),
        ({"policy": {"max_leverage": 99}, "strategy": {"enter": 40}}, "got 99; expected strategy"),
    ],
)  # fmt: skip
def test_a_profile_that_contradicts_itself_is_refused_with_its_fields(
    fields: dict[str, Any], words: str
) -> None:
    """One line: the profile, each field, what was expected of it and what it is."""
    with pytest.raises(ConnError, match=re.escape(words)) as refused:
        read_profile("mine", {"policy": {}, "strategy": {}} | fields)

    assert str(refused.value).startswith("profile mine: ")
    assert "\n" not in str(refused.value)


def test_a_profile_has_both_its_parts() -> None:
    """One that lacks a part is not filled up with what nobody chose."""
    with pytest.raises(ConnError, match="expected a field strategy, got none"):
        read_profile("mine", {"policy": {}})


# === What was typed ===


def test_an_unknown_profile_is_a_two_with_the_known_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line on standard error."""
    assert main(["replay", "quickstart", "--profile", "nope"]) == 2

    assert (
        capsys.readouterr().err
        == "bot: --profile: expected a profile (steady, reckless), got 'nope'\n"
    )


def test_the_profile_is_in_the_report() -> None:
    """Its name and how much it lets a run risk, in words and as data."""
    steady, reckless = Bot(Options()), Bot(Options.of("reckless"))
    words = [report_lines(report_of(bot, name="x")) for bot in (steady, reckless)]
    data = report_of(steady, name="x")["profile"]

    assert [line for line in words[0] if line.startswith("profile")] == [
        "profile      steady: gross at most 2 times the equity, entered up to 1, a market up to "
        "0.5, after 300 s of data, sized to 2.0 % in a usual hour, to survive a move of 35.0 %, "
        "closed at a loss of 5.0 % in a day, closed 10.0 % below the peak, "
        "out of it for 900 s after a reduction"
    ]
    assert [line for line in words[1] if line.startswith("profile")] == [
        "profile      reckless: gross at most 5 times the equity, closed 15.0 % below the peak, "
        "out of it for 300 s after a reduction"
    ]
    assert (data["name"], data["policy"]["max_leverage"]) == ("steady", 2.0)
    assert data["strategy"]["gross_share"] == 1.0


# === The bundled crash ===


Crashes = Callable[..., Any]  # conftest has what it returns


@pytest.fixture(scope="module")
def steady(crashed: Crashes) -> Any:
    """Return the default run."""
    return crashed("steady")


@pytest.mark.replays
def test_the_default_trades_before_the_crash(steady: Any) -> None:
    """It is in the market when it comes, with no more than the equity, and no market has half."""
    assert len(steady.held) >= 2
    assert steady.fills >= 10
    assert sum(map(abs, steady.held.values())) < 10_200
    assert max(map(abs, steady.held.values())) < 5_100


def test_the_default_comes_through_the_crash(steady: Any) -> None:
    """A third off, a gap first: more than 85 % of the deposit is left, and nothing is liquidated."""
    figures = steady.bot.venue.figures()

    assert figures.equity is not None
    assert figures.equity / 1e6 > 8_500
    assert figures.liquidations == 0


def test_after_the_crash_the_default_stays_flat(steady: Any) -> None:
    """Protections close all within seconds, and nothing enters while the cool-down lasts."""
    journal = steady.bot.journal
    closed = max(entry.at for entry in journal.of_kind("reduce"))
    entered = [e for e in journal.of_kind("approved") if not e.value.order.reduce_only]

    assert (closed - steady.began) / 1e9 < CRASH_S + 5
    assert max(entry.at for entry in entered) < steady.began + CRASH_S * 1e9
    assert steady.bot.risk.positions() == []
    assert steady.bot.data.at - closed < steady.bot.options.policy.cool_down_ns


@pytest.mark.replays
def test_reckless_shows_what_the_guard_is_for(crashed: Crashes) -> None:
    """More than four times the equity in the same crash: six tenths are left, or nothing."""
    guarded, unguarded = (crashed("reckless", guard=guard) for guard in (True, False))
    left = guarded.bot.venue.figures().equity or 0

    assert sum(guarded.held.values()) > 4 * 10_000
    assert guarded.held == unguarded.held
    assert left / 1e6 > 6_000
    assert guarded.bot.venue.figures().liquidations == 0
    assert unguarded.bot.venue.figures().liquidations > 0


def test_the_default_waits_for_nothing_that_it_was_sent(steady: Any) -> None:
    """The candles of the start are data: it enters as soon as it has an opinion."""
    first = steady.bot.journal.of_kind("approved")[0]

    assert (first.at - steady.began) / 1e9 < 15
    assert [e for e in steady.bot.journal.of_kind("denied") if e.value.reason == "WARM_UP"] == []

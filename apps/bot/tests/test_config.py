"""The configuration: which value counts, where it comes from, and what is refused in which words."""

import os
from pathlib import Path
from typing import Any

import pytest
from bot.__main__ import parser
from bot.config import PATHS, SECTIONS, Loaded, load, value_of
from bot.config_file import ConfigError
from bot.configured import environment_of, loaded_of, typed_again
from bot.profiles import PROFILES


def written(tmp_path: Path, text: str) -> Path:
    """Write a file of settings."""
    path = tmp_path / "bot.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def from_file(tmp_path: Path, text: str, **variables: str) -> Loaded:
    """Load a file, with some variables set."""
    return load(path=written(tmp_path, text), environment=variables)


def refused(tmp_path: Path, text: str, **variables: str) -> list[str]:
    """Return all that is wrong with a file, without the directory that it is in."""
    with pytest.raises(ConfigError) as caught:
        from_file(tmp_path, text, **variables)
    return [
        f"{fault.where}: {fault.words}".replace(f"{tmp_path}/", "") for fault in caught.value.faults
    ]


# === Which value counts ===


def test_without_anything_it_is_the_default_profile() -> None:
    """And every setting says so."""
    loaded = load(environment={})

    assert loaded.settings.policy == PROFILES["steady"].policy
    assert loaded.settings.strategies.rank == PROFILES["steady"].strategy
    assert {*loaded.origins.values()} == {"default", "profile steady"}


def test_a_file_goes_over_the_profile_field_by_field(tmp_path: Path) -> None:
    """What it does not name stays the profile's, of whichever profile it names."""
    loaded = from_file(tmp_path, "profile: reckless\npolicy:\n  max_leverage: 4.6\n")

    expected = PROFILES["reckless"].policy.model_copy(update={"max_leverage": 4.6})
    assert loaded.settings.policy == expected


def test_options_go_over_variables_and_these_over_the_file(tmp_path: Path) -> None:
    """Of each value the place is known."""
    path = written(tmp_path, "deposit: 1\nstrict: true\nguard: false\n")
    variables = {"DYDX__DEPOSIT": "2", "DYDX__STRICT": "false"}

    loaded = load({"deposit": ("--deposit", 3)}, path=path, environment=variables)

    settings, origins = loaded.settings, loaded.origins
    assert (settings.deposit, settings.strict, settings.guard) == (3, False, False)
    assert [origins[name] for name in ("deposit", "strict", "guard")] == [
        "--deposit", "DYDX__STRICT", f"{path}:3",
    ]  # fmt: skip


def test_a_mapping_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """No weight of the profile stays among those of the file."""
    loaded = from_file(tmp_path, "strategies: {rank: {weights: {momentum: 1}}}")

    assert loaded.settings.strategies.rank.weights == {"momentum": 1.0}


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("DYDX__POLICY__MAX_LEVERAGE", "3", "policy.max_leverage", 3.0),
        ("DYDX__POLICY", '{"max_leverage": 3}', "policy.max_leverage", 3.0),
        ("dydx__policy__max_leverage", "3", "policy.max_leverage", 3.0),
        ("DYDX__POLICY__MARKET_USDC", '{"BTC-USD": 5}', "policy.market_usdc", {"BTC-USD": 5.0}),
        ("DYDX__MARKETS", '["eth-usd"]', "markets", ("ETH-USD",)),
        ("DYDX__MARKETS", "ETH-USD,SOL-USD", "markets", ("ETH-USD", "SOL-USD")),
        ("DYDX__GUARD", "off", "guard", False),
        ("DYDX__POLICY__MAX_DAILY_LOSS", "null", "policy.max_daily_loss", None),
        ("DYDX__NETWORK", "local", "network", "local"),
        ("DYDX_ENVIRONMENT", "staging", "environment", "staging"),
    ],
)
def test_a_variable_names_a_setting_or_a_section(
    name: str, text: str, path: str, value: Any
) -> None:
    """A list or a mapping is JSON."""
    loaded = load(environment={name: text})

    assert value_of(loaded.settings, path) == value
    assert loaded.origins[path] == name


def test_an_empty_variable_gives_nothing() -> None:
    """As a shell or a container sets what it does not know."""
    assert load(environment={"DYDX__DEPOSIT": ""}).settings.deposit is None


def test_the_environment_may_come_from_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is typed comes first; a wrong word is refused with a list of the right ones."""
    monkeypatch.setenv("DYDX_ENVIRONMENT", "production")

    assert environment_of(parser().parse_args(["doctor"])).environment == "production"
    typed = parser().parse_args(["doctor", "--environment", "staging"])
    assert environment_of(typed).environment == "staging"
    monkeypatch.setenv("DYDX_ENVIRONMENT", "prod")
    with pytest.raises(ConfigError, match=r"DYDX_ENVIRONMENT: .*'production', got 'prod'"):
        environment_of(parser().parse_args(["doctor"]))


def test_a_file_is_found_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the working directory before that of the user, and --config names another, or none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DYDX_CONFIG")
    home = Path(os.environ["XDG_CONFIG_HOME"]) / "dydx-bot"
    home.mkdir(parents=True)
    written(home, "deposit: 1")
    other = written(home.parent, "deposit: 3")

    def deposit(*typed: str) -> int | None:
        return loaded_of(parser().parse_args(["replay", *typed])).settings.deposit

    assert deposit() == 1
    assert f"bot: configuration: {home}/bot.yaml (--config none: " in capsys.readouterr().err
    written(tmp_path, "deposit: 2")
    assert [deposit(), deposit("--config", str(other)), deposit("--config", "none")] == [2, 3, None]
    assert capsys.readouterr().err.splitlines() == [
        "bot: configuration: bot.yaml (--config none: without it)"
    ]
    monkeypatch.setenv("DYDX_CONFIG", str(other))
    assert [deposit(), deposit("--config", "none")] == [3, None]
    with pytest.raises(ConfigError, match="expected a file of settings, or none, got no file"):
        deposit("--config", "nowhere.yaml")


def test_only_what_is_typed_goes_over_the_file(tmp_path: Path) -> None:
    """A default of the command line is no choice of anybody's."""
    path = written(tmp_path, "guard: false\nstrict: true\npolicy: {hand_beside: true}\n")

    words = ["paper", "--config", str(path), "--guard", "--no-hand-beside", "--tickers", "eth-usd"]
    loaded = loaded_of(parser().parse_args(words))

    settings, origins = loaded.settings, loaded.origins
    assert (settings.guard, settings.strict, settings.policy.hand_beside) == (True, True, False)
    assert settings.markets == ("ETH-USD",)
    assert [origins[name] for name in ("guard", "policy.hand_beside", "markets")] == [
        "--guard", "--no-hand-beside", "--tickers",
    ]  # fmt: skip
    assert typed_again(parser().parse_args(words)) == [
        "--tickers", "eth-usd", "--guard", "--no-hand-beside", "--config", str(path),
    ]  # fmt: skip


# === What is recorded ===


def test_a_recorded_run_is_replayed_with_what_was_recorded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither a variable nor a file of today changes it; what is typed does."""
    then = load({"profile": ("--profile", "reckless"), "deposit": ("--deposit", 7)}, environment={})

    again = loaded_of(parser().parse_args(["replay"]), then.text())
    typed = loaded_of(parser().parse_args(["replay", "--profile", "steady"]), then.text())

    assert again.hash == then.hash
    assert again.settings.policy == PROFILES["reckless"].policy
    assert again.origins["policy.max_leverage"] == "recording"
    assert (again.file, again.changed) == ("as recorded", ["deposit"])
    assert (typed.settings.policy, typed.settings.deposit) == (PROFILES["steady"].policy, 7)
    assert "bot: configuration: as recorded" in capsys.readouterr().err


def test_what_stands_beside_a_run_is_no_part_of_its_identity() -> None:
    """Where it is recorded, where the database is, whose account it is."""
    beside = {
        "DYDX__RECORD": "x.jsonl.zst", "DYDX__DATABASE__URL": "sqlite:///x",
        "DYDX__ACCOUNT__SUBACCOUNT": "3", "DYDX__NETWORK": "local",
    }  # fmt: skip

    hashes = {load(environment=given).hash for given in ({}, beside, {"DYDX__DEPOSIT": "5"})}

    assert load(environment=beside).hash == load(environment={}).hash
    assert len(hashes) == 2


# === What is refused ===


def test_all_that_is_wrong_is_reported_at_once(tmp_path: Path) -> None:
    """Each with file, line and column, the name, what was expected and the nearest name."""
    text = """\
policy:
  max_levrage: 3
  act_below: 2
  guard_cuts: true
max_leverage: 4
notify: {telegram: 5}
profile: stedy
"""
    assert refused(tmp_path, text, DYDX__POLICY__MAX_LEVRAGE="3") == [
        "bot.yaml:2:3: expected no name 'policy.max_levrage': did you mean max_leverage?",
        "bot.yaml:3:14: expected policy.act_below to be less than 1, got 2",
        "bot.yaml:4:15: expected policy.guard_cuts to be no true or false, got one",
        "bot.yaml:5:1: expected no name 'max_leverage': did you mean policy.max_leverage?",
        "bot.yaml:6:10: expected nothing in notify, which has no settings in this version, got "
        "telegram",
        "bot.yaml:7:10: expected a profile (steady, reckless), got 'stedy'",
        "DYDX__POLICY__MAX_LEVRAGE: expected the name of a setting: did you mean "
        "DYDX__POLICY__MAX_LEVERAGE?",
    ]


def test_contradictions_name_both_places(tmp_path: Path) -> None:
    """Of which one may be the profile's."""
    assert refused(tmp_path, "policy:\n  max_daily_loss: 0.2\n") == [
        "bot.yaml:2:19: policy: expected max_daily_loss <= max_drawdown, got 0.2 and 0.1 "
        "(max_daily_loss: bot.yaml:2:19, max_drawdown: profile steady)"
    ]


def test_what_is_wrong_is_refused_though_something_goes_over_it(tmp_path: Path) -> None:
    """Or it would be found on the day on which the variable is not set."""
    assert refused(tmp_path, "deposit: -5", DYDX__DEPOSIT="5") == [
        "bot.yaml:1:10: expected deposit to be greater than 0, got -5"
    ]


# === Every setting ===


def test_every_setting_has_a_path_of_its_own() -> None:
    """No setting is a section."""
    assert not {*PATHS} & {*SECTIONS}


def test_every_setting_says_what_it_is() -> None:
    """In the layer that has it: the schema, and the file that begins, say it again."""
    assert [path for path, field in PATHS.items() if not field.description] == []
    assert [path for path, model in SECTIONS.items() if not model.__doc__] == []

"""The configuration: which value counts, where it comes from, and what is refused in which words."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import msgspec
import pytest
from bot.commands import parser
from bot.config.configured import environment_of, loaded_of, typed_again
from bot.config.document import ConfigError
from bot.config.loaded import Loaded, load
from bot.config.paper import FeeSettings, PaperSettings
from bot.config.profiles import PROFILES
from bot.config.settings import PATHS, SECRETS, SECTIONS, value_of
from bot.live.commands import options_as_recorded
from bot.live.runs import options_of, record_of
from bot.run.composition import Bot, Options
from bot.run.paper import Paper
from dydx_conn import NETWORKS, Fees, Header


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
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: expected a configuration .* No such"):
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


def test_a_replay_has_the_hash_of_its_run_and_its_deposit() -> None:
    """Though nobody chose one, or the account went on with another than was chosen."""
    chosen = load({"deposit": ("--deposit", 5)}, environment={})
    for then in (load(environment={}), chosen):
        header = Header.of(NETWORKS["local"], run="paper dydx1paper/0 7", settings=then.text())
        again = options_as_recorded(parser().parse_args(["replay"]), header)
        typed = options_as_recorded(parser().parse_args(["replay", "--deposit", "3"]), header)

        assert again.config is not None
        assert (again.config.hash, again.deposit, typed.deposit) == (then.hash, 7, 3)


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
        "bot.yaml:2:3: expected the name of a setting, got 'policy.max_levrage': did you mean max_leverage?",
        "bot.yaml:3:14: expected policy.act_below to be less than 1, got 2",
        "bot.yaml:4:15: expected policy.guard_cuts to be no true or false, got one",
        "bot.yaml:5:1: expected the name of a setting, got 'max_leverage': did you mean policy.max_leverage?",
        "bot.yaml:6:10: expected the name of a setting, got 'notify.telegram': known are enabled, "
        "sinks, urls, distance_below, disconnected_s, lag_s, wait_s, repeat_s, messages, minutes, "
        "quiet, timezone, …",
        "bot.yaml:7:10: expected a profile (steady, reckless), got 'stedy'",
        "DYDX__POLICY__MAX_LEVRAGE: expected the name of a setting: did you mean "
        "DYDX__POLICY__MAX_LEVERAGE?",
    ]


def test_a_name_that_is_not_known_is_reported_beside_all_else(tmp_path: Path) -> None:
    """Though nothing comes of the settings."""
    assert refused(tmp_path, "strategy: rnak\ndeposit: -5\nsignals: {use: trned}") == [
        "bot.yaml:1:11: expected one of rank, sniper, reversion, carry, pairs, mix, none, or a file, "
        "got 'rnak': did you mean rank?",
        "bot.yaml:2:10: expected deposit to be greater than 0, got -5",
        ANY,
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


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("strategy: mix", "1:11: expected strategies.mix beside strategy mix, got nothing"),
        (
            "policy:\n  max_market_share: 0.3\n  max_leverage: 1\n",
            "2:21: expected strategies.rank.market_share <= policy.max_market_share, got 0.4 and "
            "0.3 (market_share: profile steady, max_market_share: bot.yaml:2:21)",
        ),
        (
            "strategies:\n  mix:\n    strategies:\n      - use: rank\n        settings:\n"
            "          entr: 5\n",
            "6:11: strategies.mix.strategies.0.settings: expected no setting entr, got 5: did you mean 'enter'?",
        ),
        (
            "strategies: {mix: {strategies: [{use: sniper, settings: {arm: 0}}]}}",
            "1:63: expected strategies.mix.strategies.0.settings.arm to be greater than 0, got 0",
        ),
        (
            "strategies: {mix: {strategies: [{use: mine.py, settings: {x: 1}}]}}",
            "1:58: expected settings of rank, sniper, reversion, carry, pairs alone, got some of "
            "mine.py",
        ),
        ("strategies: {mix: {gross_share: 1}}", "1:33: expected strategies.mix.strategies, got "
         "nothing"),
        ("signals: {momentum: {fast: 50}}", "1:28: signals.momentum: expected half-lives of which"),
        ("policy: 5", "1:9: expected names and values in policy, got 5"),
        ("- 1", "1:1: expected names and values in the file, got a list"),
        ("markets: []", "1:10: markets: expected tickers such as BTC-USD and ETH-USD, got none"),
        ("strategies: {rank: {weights: {momentum: true}}}", "expected strategies.rank.weights to "
         "be no true or false, got one"),
        ("sealed: 5", "1:9: expected names and sealed texts in sealed, got 5"),
        ("sealed: {databas.url: x}", "1:10: expected a secret (" + ", ".join(SECRETS) + "), got 'databas.url': "
         "did you mean database.url?"),
        ("sealed: {database.url: x}", "1:10: expected what `bot config seal` has made, got other"),
        ("strategies: {rank: {zzzz: 1}}", "1:21: expected the name of a setting, got 'strategies.rank.zzzz': known "
         "are throttle_s, debounce_s,"),
        ("paper: {latency: {samples_ms: [1, -2]}}", "1:35: expected paper.latency.samples_ms.1 to "
         "be greater than or equal to 0, got -2"),
        ("policy: {max_leverage: .nan}", "1:24: expected policy.max_leverage to be a finite"),
        ("strategy: snipper", "1:11: expected one of rank, sniper, reversion, carry, pairs, mix, "
         "none, or a file, got 'snipper': did you mean sniper?"),
        ("signals: {use: 'trend, bases'}", "or a file, got 'bases': did you mean basis?"),
        ("notify: 5", "1:9: expected names and values in notify, got 5"),
        ("policy.max_leverage: 2", "1:1: expected max_leverage in a line below policy, got "
         "'policy.max_leverage' as one name"),
        ("strategies.rank: {enter: 61}", "1:1: expected rank in a line below strategies, got "),
        ("markets: [BTC-USD, btc-usd]", "1:10: expected markets once each, got 'BTC-USD' twice"),
        ("environment: prod", "got 'prod': did you mean production?"),
        ("paper: {queue: optimstic}", "got 'optimstic': did you mean optimistic?"),
        ("network: tesnet", "1:10: expected one of mainnet, testnet, local, or a file, got "
         "'tesnet': did you mean testnet?"),
        ("deposit: 1e20", "1:10: expected deposit to be a smaller number, got 1e+20"),
        ("deposit: 1e12", "1:10: expected deposit to be less than or equal to 100000000000, got"),
    ],
)  # fmt: skip
def test_each_fault_is_in_words_of_its_own(tmp_path: Path, text: str, fault: str) -> None:
    """With the place of the value, or of the name where that is wrong."""
    (found,) = refused(tmp_path, text)

    assert fault in found


def test_what_is_in_the_clear_is_not_sealed_as_well(tmp_path: Path) -> None:
    """One of both is old."""
    sealed = "{database.url: '\"dydx-sealed\"'}"

    (found,) = refused(tmp_path, f"sealed: {sealed}\ndatabase: {{url: x}}")

    assert found == "bot.yaml:1: expected database.url once, got it in the clear as well"


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("DYDX__POLICY__MARKET_USDC", "{", "DYDX__POLICY__MARKET_USDC: expected YAML, got "),
        ("DYDX__POLICY", "5", "DYDX__POLICY: expected names and values in policy, got 5"),
        (
            "DYDX__POLICY",
            '{"x": 5}',
            "DYDX__POLICY: expected the name of a setting, got 'policy.x'",
        ),
        ("DYDX__", "5", "DYDX__: expected the name of a setting"),
        ("DYDX__GUARD", "maybe", "DYDX__GUARD: expected guard to be true or false, got 'maybe'"),
        ("DYDX__MARKETS", "A B", "DYDX__MARKETS: expected markets such as BTC-USD, got 'A B'"),
        ("DYDX__SEALED", "5", "DYDX__SEALED: expected the name of a setting"),
        ("DYDX__DEPOSIT", "many", "DYDX__DEPOSIT: expected deposit to be a whole number, got "),
    ],
)
def test_a_wrong_variable_is_named(name: str, text: str, fault: str) -> None:
    """With what was expected of it."""
    with pytest.raises(ConfigError) as caught:
        load(environment={name: text})

    assert str(caught.value).startswith(fault)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("database: {url: 'postgresql://me:pw@h/db'}", ["1:17: expected no secret in the clear"]),
        (
            "paper: {latency: {samples_ms: [a, -1]}}",
            ["1:32: expected paper.latency.samples_ms.0 to be a number, got 'a'", "1:35: "],
        ),
        ("policy:\n  max_leverage:1", ["2:3: expected names and values in policy, got 'max_l"]),
        ("a: b: c", ["1:5: expected a line for each name, quotes around a value with a colon"]),
        ("policy:\n  stop: 1\n other: 2", ["3:2: expected the names of a section below each"]),
        ("deposit: 5\n---\ndeposit: 6", ["2:1: expected one document, got another below ---"]),
        (
            "a: 'x",
            ["1:6: expected YAML, got what cannot be read (while scanning a quoted scalar: "],
        ),
    ],
)
def test_each_thing_that_is_wrong_is_reported_once(
    tmp_path: Path, text: str, faults: list[str]
) -> None:
    """And not what follows from it."""
    with pytest.raises(ConfigError) as caught:
        load(path=written(tmp_path, text), environment={})

    found = [
        f"{fault.where}: {fault.words}".rpartition("bot.yaml:")[2] for fault in caught.value.faults
    ]
    assert len(found) == len(faults)
    assert all(map(str.startswith, found, faults))


def test_a_strategy_may_be_a_module(tmp_path: Path) -> None:
    """One that can be imported, or is in a package; what else has no dot is a typing error."""
    for name in ("json", "mine.contrarian"):
        path = written(tmp_path, f"strategy: {name}")
        assert load(path=path, environment={}).settings.strategy == name
    for name in ("no name", "nothing_of_this_name"):
        with pytest.raises(ConfigError, match="expected one of rank, sniper, "):
            load(path=written(tmp_path, f"strategy: {name}"), environment={})


def test_settings_of_a_file_in_a_mix_are_in_that_file(tmp_path: Path) -> None:
    """They are no part of the configuration."""
    text = "strategies: {mix: {strategies: [{use: mine.py, settings: {a: 1}}, {use: rank}]}}"
    with pytest.raises(ConfigError, match=r":1:58: expected settings of rank, .* alone, got some"):
        load(path=written(tmp_path, text), environment={})


def test_a_pipe_in_place_of_the_file_is_no_end_of_a_reload(tmp_path: Path) -> None:
    """Nobody waits for who writes into it."""
    path = written(tmp_path, "deposit: 5")
    loaded = load(path=path, environment={})
    path.unlink()
    os.mkfifo(path)

    with pytest.raises(ConfigError, match="got a pipe or a device, and no file"):
        loaded.again()


def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is only found: a pipe, a device without an end, a directory, a dangling link."""
    monkeypatch.delenv("DYDX_CONFIG")
    monkeypatch.chdir(tmp_path)
    path = Path("bot.yaml")
    makes: list[tuple[Callable[[], None], str]] = [
        (lambda: os.mkfifo(path), "a pipe or a device"),
        (lambda: path.symlink_to("/dev/zero"), "a pipe or a device"),
        (lambda: path.symlink_to("nowhere"), "got No such file"),
        (lambda: path.symlink_to(path), "got Too many levels of symbolic links"),
    ]
    for make, words in makes:
        make()
        with pytest.raises(ConfigError, match=words):
            loaded_of(parser().parse_args(["replay"]))
        path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        loaded_of(parser().parse_args(["replay"]))
    assert load(path=Path(os.devnull), environment={}).changed == []


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    """With the reason of the system."""
    with pytest.raises(ConfigError, match="expected a configuration that can be read, got Is a di"):
        load(path=tmp_path, environment={})


def test_a_path_of_a_recording_has_the_time_at_which_it_begins() -> None:
    """Or it could be used once."""
    typed = parser().parse_args(["paper", "--record", "mine-{time}.jsonl.zst"])

    path = record_of(options_of(typed))

    assert path is not None
    assert re.fullmatch(r"mine-\d{8}-\d{6}\.jsonl\.zst", path.name)
    assert record_of(options_of(typed)) == path


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell stands between a file and the bot."""
    monkeypatch.setenv("HOME", "/elsewhere/somebody")

    settings = from_file(tmp_path, "account: {keys: ~/my.key}\nrecord: ~/x.zst\n").settings

    assert (settings.account.keys, settings.record) == (
        "/elsewhere/somebody/my.key", "/elsewhere/somebody/x.zst",
    )  # fmt: skip


def test_the_paper_venue_is_as_it_is_configured() -> None:
    """Its fees, its queue and its insurance fund."""
    options = options_of(parser().parse_args(["replay"]))
    settings = PaperSettings(
        queue="optimistic", fees=FeeSettings(taker_ppm=400), insurance_fund_usdc=None
    )

    venue = Bot(msgspec.structs.replace(options, paper=settings)).venue

    assert isinstance(venue, Paper)
    assert (venue.queue, venue.fees) == ("optimistic", Fees(taker_ppm=400))


def test_a_signal_is_made_as_it_is_configured() -> None:
    """The others as their layer has them."""
    loaded = load(environment={"DYDX__SIGNALS__MOMENTUM__SLOW": "90"})

    tuned = loaded.settings.signals.tuned()

    assert tuned == {"momentum": {"fast": 10.0, "slow": 90.0, "variance": 120.0}}
    usual, slower = (Bot(Options(tuned=one)).scorer for one in ({}, tuned))
    assert usual.names == slower.names


@pytest.mark.parametrize("name", ["rank", "sniper", "reversion", "carry", "pairs"])
def test_each_strategy_trades_by_its_own_settings(name: str) -> None:
    """As the file has them, and not as the layer does."""
    given = {"DYDX__STRATEGY": name, f"DYDX__STRATEGIES__{name.upper()}__REPORT_S": "7"}
    settings = load(environment=given).settings

    bot = Bot(Options(strategy=name, settings=settings.of_strategy()))

    assert bot.shown.strategy.settings.report_s == 7  # type: ignore[union-attr]  # each has some


# === Every setting ===


def test_every_setting_has_a_path_of_its_own() -> None:
    """No setting is a section."""
    assert not {*PATHS} & {*SECTIONS}


def test_every_setting_says_what_it_is() -> None:
    """In the layer that has it: the schema, and the file that begins, say it again."""
    assert [path for path, field in PATHS.items() if not field.description] == []
    assert [path for path, model in SECTIONS.items() if not model.__doc__] == []

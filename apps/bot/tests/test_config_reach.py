"""The configuration reaches every setting of every layer, and survives every file."""

import inspect
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import dydx_signals
import dydx_strategy
import msgspec
import pytest
from bot.commands import parser
from bot.config.configured import environment_of
from bot.config.document import ConfigError, read
from bot.config.environment import EnvironmentSettings, objection
from bot.config.loaded import load
from bot.config.settings import PATHS, SECTIONS, Settings, value_of
from dydx_conn import Fees, printable
from dydx_paper import Latency, PaperVenue
from dydx_risk import FlightPolicy, LiquidationTerms, Policy
from dydx_strategy import Pace, WatchSettings
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

# === Every setting of every layer ===


def test_every_model_of_settings_is_a_section() -> None:
    """A layer that gets new settings gets them here, too."""
    found = {
        kind
        for kind in vars(dydx_strategy).values()
        if inspect.isclass(kind) and issubclass(kind, Pace) and not kind.__name__.startswith("_")
    }

    assert found - {Pace, WatchSettings} <= {*SECTIONS.values()}
    assert Policy in SECTIONS.values()


def test_every_choice_of_the_guard_is_a_setting() -> None:
    """But how the chain liquidates, which is the venue's to say."""
    policy = Policy.model_validate(
        {f"guard_{name}" if f"guard_{name}" in Policy.model_fields else name: value
         for name, value in GUARD.items()}
    )  # fmt: skip

    assert {*GUARD, "terms"} == {field.name for field in msgspec.structs.fields(FlightPolicy)}
    assert {name: getattr(policy.flight, name) for name in GUARD} == GUARD


# Other than its layer has them.
GUARD: dict[str, Any] = {
    "act_below": 0.07, "restore_to": 0.11, "cuts": 3, "levels": 24, "slippage_bps": 99,
    "reach_bps": 299, "haircut_bps": 298, "chase": 0.7, "taker_fee_ppm": 499,
}  # fmt: skip


def test_every_choice_of_the_paper_venue_is_a_setting() -> None:
    """Of its arguments, and of what they are made of; the account's are the run's own."""
    arguments = inspect.signature(PaperVenue).parameters.keys()
    names = {path.removeprefix("paper.") for path in PATHS if path.startswith("paper.")}

    assert {*arguments} - {"subaccount", "deposit", "journal"} <= {
        {"insurance_fund_usdc": "insurance_fund", "liquidation": "terms"}.get(head, head)
        for head in (name.partition(".")[0] for name in names)
    }
    for section, struct in (("fees", Fees), ("liquidation", LiquidationTerms)):
        for field in msgspec.structs.fields(struct):
            assert f"{section}.{field.name}" in names
    assert {field.name for field in msgspec.structs.fields(Latency)} == {"samples", "seed"}
    assert {"latency.samples_ms", "latency.seed"} <= names


def test_every_argument_of_a_signal_is_a_setting() -> None:
    """Half-lives and scales."""
    for make in dydx_signals.ALL:
        for name in inspect.signature(make).parameters:
            assert f"signals.{make().name}.{name}" in PATHS


def test_every_choice_of_where_to_run_is_a_setting_but_what_confirms_it() -> None:
    """A confirmation is typed, or it is none."""
    names = {path.rpartition(".")[2] for path in PATHS}

    assert {*EnvironmentSettings.model_fields} - names == {"yes_mainnet", "yes_orders"}


# Beside what some settings are valid.
BESIDE = {"strategies.mix": {"strategies": [{"use": "rank"}]}}
OTHERS: dict[str, Any] = {
    "network": "local",
    "profile": "reckless",
    "strategy": "sniper",
    "signals.use": "trend",
    "markets": ["XRP-USD"],
    "policy.market_usdc": {"BTC-USD": 5.0},
    "strategies.rank.weights": {"trend": 1.0},
    "strategies.pairs.pairs": [["SOL-USD", "XRP-USD"]],
    "strategies.mix.strategies": [{"use": "carry"}],
    "account.authenticators": [1, 2],
    "paper.latency.samples_ms": [1.0, 2.5],
    "api.address": "127.0.0.1:8710",
    "api.hosts": ["bot.example.org"],
    "notify.sinks": [{"name": "hook", "url": "json://127.0.0.1:8080/"}],
    "notify.urls": "hook=json://127.0.0.1:8080/",
    "notify.distance_below": [0.3, 0.2],
    "notify.quiet": "22:00-07:00",
    "notify.timezone": "Europe/Berlin",
    "notify.summary_at": "18:30",
}


@lru_cache
def usual_settings() -> Settings:
    """Return the settings that nobody changed."""
    return load(environment={}).settings


def usual(path: str) -> Any:
    """Return a value that nobody changed."""
    return value_of(usual_settings(), path)


def candidates(path: str) -> list[Any]:
    """Return values that a setting may have, and has not by default."""
    kind, default = PATHS[path].annotation, usual(path)
    if path in OTHERS:
        return [OTHERS[path]]
    if get_origin(kind) is Literal:
        return [other for other in get_args(kind) if other != default]
    if isinstance(default, bool):
        return [not default]
    if kind in (str, str | None, SecretStr):
        return ["other"]
    near = PATHS[path].default if default is None else default
    near = near if isinstance(near, int | float) else 1
    numbers: list[float] = [near * 1.01, near * 0.99, near + 1, near - 1, near / 2, near * 2, 0.5]
    return [int(number) if "int" in str(kind) else number for number in numbers]


def nested(path: str, value: Any) -> dict[str, Any]:
    """Return a setting as a file has it, with what it needs beside it."""
    *sections, name = path.split(".")
    whole: dict[str, Any] = {name: value}
    for n in range(len(sections), 0, -1):
        beside = BESIDE.get(".".join(sections[:n]), {})
        whole = {sections[n - 1]: beside | whole}
    return whole


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_reached_by_the_file_and_by_a_variable(
    section: str, tmp_path: Path
) -> None:
    """With another value than it had, and its own origin."""
    file = tmp_path / "bot.yaml"
    for path in PATHS:
        if path.rpartition(".")[0] != section:
            continue
        before = usual(path)
        for value in candidates(path):
            file.write_text(json.dumps(nested(path, value)))
            name = f"DYDX__{path.upper().replace('.', '__')}"
            text = value if isinstance(value, str) else json.dumps(value)
            beside = {
                f"DYDX__{part.upper().replace('.', '__')}": json.dumps(needed)
                for part, needed in BESIDE.items()
                if path.startswith(part)
            }
            try:
                by_file = load(path=file, environment={})
                by_name = load(environment=beside | {name: text})
            except ConfigError:
                continue
            if value_of(by_file.settings, path) != before:
                break
        assert value_of(by_file.settings, path) == value_of(by_name.settings, path) != before
        assert by_file.origins[path] == f"{file}:1"
        assert by_name.origins[path] == name


# === Files that are bundled ===

EXAMPLES = sorted((Path(__file__).parents[1] / "config").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_may_run_where_it_is_for(path: Path) -> None:
    """On the network that its environment does not refuse, and with nothing unknown in it."""
    arguments = parser().parse_args(["doctor", "--config", str(path)])
    settings = environment_of(arguments)

    assert settings.environment == {"testing": "test"}.get(path.stem, path.stem)
    assert objection(settings, settings.chosen()) == ""
    assert arguments.loaded.changed


def test_there_is_an_example_for_each_environment() -> None:
    """Four of them."""
    assert [path.stem for path in EXAMPLES] == ["development", "production", "staging", "testing"]


# === Any file at all ===

VALID = """\
environment: staging  # a comment
markets: [BTC-USD, 'ETH-USD', "SOL-USD"]
deposit: 1_000
guard: on
policy: &limits
  max_leverage: 2.5e0
  market_usdc:
    BTC-USD: 100
  max_daily_loss: null
strategies:
  rank: {weights: {momentum: 1, imbalance: .5}}
  mix:
    strategies:
      - use: carry
        settings: {edge: 3}
paper: {latency: {samples_ms: [1, 2]}, queue: optimistic}
database:
  url: |
    sqlite:///x
"""


def faults_of(content: bytes, tmp_path: Path) -> list[str]:
    """Load a file; return where it is wrong, and what of."""
    path = tmp_path / "bot.yaml"
    path.write_bytes(content)
    try:
        load(path=path, environment={})
    except ConfigError as error:
        return [f"{fault.where} {fault.words}" for fault in error.faults]
    return []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory for all examples of a property."""
    return tmp_path_factory.mktemp("fuzz")


def lines_or_none(faults: list[str]) -> bool:
    """Return whether each fault has file and line, and is one printable line."""
    return all(re.match(r"\S*bot\.yaml:\d+", one) and printable(one) == one for one in faults)


@settings(max_examples=40)
@given(st.binary(max_size=200))
@example(b"\xff\xfe")
@example(b"\xef\xbb\xbfdeposit: 5")
@example(b"a: &a [*a]")
@example(b"policy: *nothing")
@example(b"[" * 5_000)
@example(b"deposit: " + b"9" * 5_000)
@example(b"%YAML 3.0\n---\n")
@example(b"--- 1\n--- 2\n")
@example(b"deposit: 2026-11-30")
@example(b"? [a]\n: b")
@example(b"{a: 1, <<: {b: 2}}")
@example(b"sealed: {database.url: 5, x: y}")
@example(b"\x00")
def test_any_bytes_are_settings_or_faults_with_a_line(folder: Path, content: bytes) -> None:
    """Never a traceback."""
    assert lines_or_none(faults_of(content, folder))


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(VALID)),
            st.integers(0, 12),
            st.one_of(
                st.text(max_size=8),
                st.sampled_from(
                    ["\t", "\n", "\n  ", "*limits", "&a ", "!!int ", "- ", ": ", ".nan"]
                ),
            ),
        ),
        max_size=4,
    )
)
@example([(236, 11, "\xad")])
@example([(158, 12, "\U00018cd6")])  # of a Unicode that this Python does not know
def test_a_valid_file_with_changes_is_settings_or_faults_with_a_line(
    folder: Path, changes: list[tuple[int, int, str]]
) -> None:
    """As a person's slip makes it."""
    text = VALID
    for place, length, put in changes:
        text = text[:place] + put + text[place + length :]

    assert lines_or_none(faults_of(text.encode("utf-8", "surrogatepass"), folder))


def test_the_file_that_is_changed_is_valid(tmp_path: Path) -> None:
    """Or the property would try little."""
    assert faults_of(VALID.encode(), tmp_path) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "a: 1\nb: 2\na: 3",
            "x.yaml:3:1: expected 'a' once, got it again: it stands at x.yaml:1:1",
        ),
        ("policy:\n\tmax_leverage: 3", "x.yaml:2:1: expected spaces, got a tab"),
        ("policy:\n  max_leverage:\t3", "x.yaml:2:16: expected spaces, got a tab"),
        ("a: !!python/object:os.system x", "x.yaml:1:4: expected a value without a tag, got "),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b, *c]", "x.yaml:3:13: expected YAML, got "),
        ("a: &a\n  b: *a", "x.yaml:1:4: expected at most 24 levels, got more"),
        ("a: [1, 2", "x.yaml:1:9: expected YAML, got "),
        ("a: \x07", "x.yaml:1:4: expected text, got the control character 0x07"),
        ("? {a: 1}\n: 2", "x.yaml:1:3: expected a name, got a mapping"),
    ],
)
def test_what_is_no_plain_yaml_is_refused(text: str, words: str) -> None:
    """With its place; nothing in a file makes anything but text, numbers and lists."""
    try:
        faults = read(text.encode(), "x.yaml").faults
    except ConfigError as error:
        faults = error.faults

    assert f"{faults[0].where}: {faults[0].words}".startswith(words)


def test_a_bomb_of_aliases_is_refused() -> None:
    """Ten lines that would be ten thousand million words."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    with pytest.raises(ConfigError, match="expected at most 10000 values, got more"):
        read("\n".join(lines).encode(), "x.yaml")


def test_a_huge_file_is_refused() -> None:
    """Before it is read."""
    with pytest.raises(ConfigError, match=r"x\.yaml:1: expected at most 256 KiB, got more"):
        read(b"#" * 300 * 1024, "x.yaml")


# === Secrets in the clear ===

MNEMONIC = " ".join(["abandon"] * 11 + ["about"])
WORD = "hunter2Hunter2hunter2Hunter2hunter2Hunter2h"  # 32 bytes in base64


@pytest.mark.parametrize(
    "text",
    [
        f"account: {{keys: {MNEMONIC}}}",
        f"account:\n  keys: >-\n    {MNEMONIC.replace(' abandon about', chr(10) + '    abandon about')}",
        f"# {MNEMONIC}\ndeposit: 5",
        "account: {keys: " + "4b" * 32 + "}",
        "account: {keys: '0x" + "4b" * 32 + "'}",
        "# the key: " + "4b" * 32,
        "database:\n  url: postgresql+psycopg://bot:hunter2@db/bot",
        "database:\n  url: postgresql:///bot?host=db&password=hunter2",
        "account: {keys: [" + ", ".join(MNEMONIC.split()) + "]}",
        f"{'4b' * 32}: 5",
        "account: {keys: '" + " ".join(["4b8e1f0a"] * 8) + "'}",
        "account: {keys: '" + ":".join(["4b"] * 32) + "'}",
        f"account:\n  keys: |\n    {'4b' * 16}\n    {'4b' * 16}",
        f"account: {{keys: {WORD}=}}",
        f"api: {{read_token: {WORD}}}",
        f"notify: {{sinks: [{{name: x, url_env: {WORD}=}}]}}",
        "account:\n  keys: |\n    -----BEGIN PRIVATE KEY-----\n    hunter2\n",
        "endpoints: {rest: 'https://hunter2@indexer.example.org'}",
        "endpoints: {ws: 'wss://indexer.example.org/v4/ws?api_key=hunter2'}",
        "endpoints: {rest: 'https://indexer.example.org/hunter2hunter2hunter2/v4'}",
        "notify: {urls: 'phone=tgram://123456:hunter2/42'}",
        "notify:\n  urls: |\n    a=json://127.0.0.1:80/\n    b=discord://12345/hunter2\n",
        "# phone=tgram://123456789:" + "hunter2" * 5 + "/42\ndeposit: 5",
        "account: {keys: xprv" + "4b4b9s21ZrQH143K3QTD" * 6 + "}",
        "api: {trading_token: eyJhbGciOiJI.eyJzdWIiOiIx.hunter2}",
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(text: str, tmp_path: Path) -> None:
    """As a value, a name, or in a comment."""
    faults = " ".join(faults_of(text.encode(), tmp_path))

    assert "what looks like" in faults
    assert not re.search(r"abandon|4b4b|hunter2", faults)


@pytest.mark.parametrize(
    "text",
    [
        "strategy: /srv/strategies/2026/Contrarian-of-mine/version_12/contrarian.py",
        "record: recordings/Mainnet-BTC-USD-2026-11-30-{time}.jsonl.zst",
        "endpoints: {rest: 'https://indexer.example.org/v4', ws: 'wss://indexer.dydx.trade/v4/ws'}",
        "# see https://docs.example.org/2026/11/how-to-configure-this-for-12-markets.html",
        "database: {url: postgresql+psycopg://bot@db:5432/bot}",
        "notify: {urls: hook=json://127.0.0.1:8080/}",
        "account: {address: dydx14zzueazeh0hj67cghhf9jypslcf9sh2n5k6art}",
        "# 2026-11-30 10:20:30 and 12 34 56 78\ndeposit: 5",
    ],
)
def test_what_is_no_secret_is_taken(text: str, tmp_path: Path) -> None:
    """Paths, addresses of the chain and of the web, and what a person notes beside them."""
    assert faults_of(text.encode(), tmp_path) == []


def test_a_variable_may_hold_a_password_and_nothing_shows_it() -> None:
    """The environment is where a container has it."""
    url = "postgresql+psycopg://bot:hunt@er2@db/bot?sslpassword=hunt@er2&x=1"

    loaded = load(environment={"DYDX__DATABASE__URL": url})

    assert loaded.settings.database.url.get_secret_value() == url
    assert "er2" not in repr(loaded) + repr(loaded.settings) + loaded.settings.model_dump_json()
    assert loaded.settings.model_dump(mode="json")["database"] == {
        "url": "postgresql+psycopg://bot:***@db/bot?sslpassword=***&x=1"
    }


def test_what_is_wrong_with_a_secret_is_not_repeated(tmp_path: Path) -> None:
    """Of a variable, too."""
    for given_ in ("DYDX__DEPOSIT", "DYDX__POLICY__MAX_LEVERAGE", "DYDX__PROFILE"):
        with pytest.raises(ConfigError) as caught:
            load(environment={given_: "4b" * 32})
        assert "4b4b" not in str(caught.value)


def test_a_model_is_no_setting() -> None:
    """What is a section in the tree is one in the file."""
    assert not [
        path
        for path, field in PATHS.items()
        if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel)
    ]

"""`bot config`: what is printed of the settings, and files that it makes itself."""

import json
import re
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from bot.__main__ import main
from bot.config.command import schema_of, template, written
from bot.config.document import read
from bot.config.loaded import load, opened
from bot.config.settings import PATHS, SECRETS
from pydantic import SecretStr

EXAMPLES = sorted((Path(__file__).parents[1] / "config").glob("*.yaml"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DYDX_CONFIG")
    monkeypatch.setattr("dydx_conn._COST", 2**14)
    return tmp_path


def test_a_file_that_begins_changes_nothing_and_is_complete(here: Path) -> None:
    """As it is, and with every line uncommented: it is made of the tree, and cannot be stale."""
    (here / "as-is.yaml").write_text(template())
    head, _, settings = template().partition("\n\n")
    plain = re.sub(r"(?m)^( *)# ", r"\1", settings)
    (here / "all.yaml").write_text(plain)

    as_it_is = load(path=here / "as-is.yaml", environment={})
    everything = load(path=here / "all.yaml", environment={})

    assert head.startswith("# yaml-language-server: $schema=bot.schema.json\n")
    assert as_it_is.changed == []
    assert as_it_is.hash == load(environment={}).hash
    assert "default" not in everything.origins.values()
    # Without one of them there is no such section.
    assert {path.rpartition(".")[0] for path in everything.changed} == {
        "strategies.mix", "paper.fees", "notify",
    }  # fmt: skip
    assert everything.settings.policy == as_it_is.settings.policy
    assert everything.settings.strategies.rank == as_it_is.settings.strategies.rank


def test_no_file_is_replaced_by_one_that_begins(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may hold a day's work."""
    assert main(["config", "init"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "  bot config check bot.yaml"
    (here / "bot.yaml").write_text("deposit: 5")

    assert main(["config", "init"]) == 2
    assert (here / "bot.yaml").read_text() == "deposit: 5"
    assert "expected a path where nothing is yet" in capsys.readouterr().err


def test_a_file_is_checked_by_its_exit_code(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what is wrong on stderr."""
    (here / "good.yaml").write_text("deposit: 5")
    (here / "bad.yaml").write_text("depositt: 5\nenvironment: production\n")
    (here / "refused.yaml").write_text("environment: production\nnetwork: local")

    codes = [main(["config", "check", f"{name}.yaml"]) for name in ("good", "bad", "refused")]

    out, err = capsys.readouterr()
    assert codes == [0, 1, 1]
    assert out.startswith("good.yaml: 1 setting changed, config hash ")
    assert err.splitlines() == [
        "bot: bad.yaml:1:1: expected the name of a setting, got 'depositt': did you mean deposit?",
        "bot: refused.yaml:2: expected mainnet in production, got local (local, chain "
        "localdydxprotocol): choose another network, or another environment (network: "
        "refused.yaml:2, environment: refused.yaml:1)",
    ]


def test_a_setting_is_shown_with_its_value_and_where_it_is_from(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a table, or as JSON."""
    (here / "bot.yaml").write_text("paper:\n  queue: optimistic\n")
    monkeypatch.setenv("DYDX__PAPER__FEES__TAKER_PPM", "400")

    assert main(["config", "show", "paper"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert main(["config", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["settings"]

    assert ["queue", "optimistic", "bot.yaml:2"] in rows
    fees = rows.index(["paper.fees"])
    assert rows[fees + 1 : fees + 3] == [
        ["taker_ppm", "400", "DYDX__PAPER__FEES__TAKER_PPM"], ["maker_ppm", "100", "default"],
    ]  # fmt: skip
    assert shown["policy.max_leverage"] == {"value": 2.0, "from": "profile steady"}
    assert [*shown] == [*PATHS]


def test_what_is_as_the_profile_has_it_is_counted_and_listed_on_request(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In 80 columns: a long value loses its end, a long path its beginning."""
    monkeypatch.setenv("COLUMNS", "80")
    path = here / ("long" * 10) / "bot.yaml"
    path.parent.mkdir()
    url = "sqlite:////" + "long/" * 10
    path.write_text(f"deposit: 5\npolicy:\n  max_leverage: 1.5\ndatabase:\n  url: {url}\n")

    assert main(["config", "show", "--config", str(path)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert main(["config", "show", "--all", "--config", str(path)]) == 0
    every = capsys.readouterr().out.splitlines()

    assert [row.split()[:2] for row in rows[:5]] == [
        ["deposit", "5"], ["policy"], ["max_leverage", "1.5"], ["database"],
        ["url", f'"{url[:40]}…'],
    ]  # fmt: skip
    assert rows[2].endswith("longlong/bot.yaml:3")
    assert re.fullmatch(r"settings     ….*/bot.yaml, 3 differ from steady, hash .{8}", rows[6])
    assert rows[7].startswith(f"{len(PATHS) - 3} more are as the profile and the defaults have")
    assert max(map(len, [*rows, *every])) <= 80
    assert len(every) > len(PATHS)


def test_one_setting_is_shown_whole(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However long it is."""
    monkeypatch.setenv("COLUMNS", "40")

    assert main(["config", "show", "strategies.rank.weights"]) == 0

    first, where, *_ = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"strategies\.rank\.weights: \{.{40,}\}", first)
    assert where == "from profile steady"


@pytest.mark.parametrize(
    "address",
    [
        "https://user:pa55word@venue.example/v4",
        "https://venue.example/v4?token=abcdef",
        "https://venue.example/1234567890abcdef1234567890abcdef/",
    ],
)
def test_a_token_in_an_address_is_not_shown(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A variable may hold what a file would be refused for."""
    monkeypatch.setenv("DYDX__ENDPOINTS__REST", address)

    for options in ([], ["--json"]):
        assert main(["config", "show", "endpoints.rest", *options]) == 0
        shown = capsys.readouterr().out
        assert "**********" in shown
        assert "venue.example" not in shown


def test_a_wrong_name_to_show_is_a_two(capsys: pytest.CaptureFixture[str]) -> None:
    """With the nearest right one."""
    assert main(["config", "show", "polcy"]) == 2
    assert "got 'polcy': did you mean policy?" in capsys.readouterr().err


def test_a_network_file_that_is_not_there_is_a_fault_of_its_line(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though the text may be one."""
    (here / "bot.yaml").write_text("deposit: 5\nnetwork: nowhere.toml\n")

    assert main(["config", "check", "bot.yaml"]) == 1

    assert capsys.readouterr().err.startswith("bot: bot.yaml:2: expected ")


def test_the_schema_describes_every_setting(here: Path) -> None:
    """With the words and limits of the layers."""
    assert main(["config", "schema", "bot.schema.json"]) == 0
    found = json.loads((here / "bot.schema.json").read_text())

    assert found == schema_of()
    leverage = found["$defs"]["Policy"]["properties"]["max_leverage"]
    assert leverage["description"] == "gross notional of the account, in equities"
    assert (leverage["exclusiveMinimum"], leverage["maximum"]) == (0, 50)


def test_the_schema_takes_what_a_file_may_hold_and_refuses_what_it_may_not() -> None:
    """In an editor, and here by a validator of its own."""
    schema = schema_of()
    valid = jsonschema_rs.validator_for(schema)
    plain = re.sub(r"(?m)^( *)# ", r"\1", template().partition("\n\n")[2])
    examples = [path.read_bytes() for path in EXAMPLES]
    taken = [read(text, "x").value for text in (template().encode(), plain.encode(), *examples)]
    wrong = ["polcy: 5", "profile: stedy", "policy: {max_leverage: 99}", "deposit: many", "guard: 5",
             "paper: {queue: best}", "strategies: {rank: {zzzz: 1}}", "sealed: {deposit: x}"]  # fmt: skip

    assert jsonschema_rs.meta.is_valid(schema)
    assert [[*valid.iter_errors(value)] for value in taken] == [[]] * 6
    assert not [text for text in wrong if valid.is_valid(read(text.encode(), "x").value)]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "no",
        "1e3",
        "env",
        "a: b",
        "# x",
        "~",
        " x",
        "BTC-USD",
        "ü",
        "x\n",
        "\x7f\x84\u2028\ufeff",
        "\U0001f600",
        1.5,
        None,
        ["a"],
        {"a": 1},
    ],
)
def test_what_is_written_is_read_as_it_was(here: Path, value: object) -> None:
    """Whatever YAML might take it for."""
    assert read(f"x: {written(value)}".encode(), "x").value == {"x": value}
    assert yaml.safe_load(f"x: {written(value)}") == {"x": value}


# === Secrets ===

URL = "postgresql+psycopg://bot:hunter2@db/bot"


def test_a_sealed_secret_is_opened_with_its_passphrase(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is written into the file, among all that is there; nothing shows what it holds."""
    monkeypatch.setenv("DYDX__DATABASE__URL", URL)
    monkeypatch.setenv("DYDX_CONFIG_PASSPHRASE", "correct horse battery")
    (here / "bot.yaml").write_text("# mine\ndeposit: 5\n")
    assert main(["config", "seal", "database.url"]) == 0
    monkeypatch.setenv("DYDX_CONFIG_PASSPHRASE", "correct horse battery")
    assert main(["config", "seal", "database.url"]) == 0  # and once more, in its place
    text = (here / "bot.yaml").read_text()

    closed = load(path=Path("bot.yaml"), environment={})
    found = opened(closed, lambda: SecretStr("correct horse battery"))

    assert "hunter2" not in text + "".join(capsys.readouterr())
    assert text.startswith("# mine\ndeposit: 5\n\nsealed:\n  database.url: |\n    {\n")
    assert (text.count("sealed:"), text.count("token")) == (1, 1)
    assert closed.settings.database.url.get_secret_value() == ""
    assert closed.origins["database.url"] == "bot.yaml:5, sealed"
    assert found.settings.database.url.get_secret_value() == URL
    assert found.again().settings == found.settings
    assert "hunter2" not in repr(found) + found.text() + json.dumps(
        found.settings.model_dump(mode="json")
    )
    assert main(["config", "check"]) == 0
    monkeypatch.delenv("DYDX__DATABASE__URL")
    capsys.readouterr()
    assert main(["config", "show", "database"]) == 0
    assert "(encrypted)" in capsys.readouterr().out


def test_a_section_that_is_written_otherwise_is_left_alone(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody's file is broken by a command."""
    monkeypatch.setenv("DYDX__DATABASE__URL", URL)
    monkeypatch.setenv("DYDX_CONFIG_PASSPHRASE", "correct horse battery")
    (here / "bot.yaml").write_text("sealed: {}\n")

    assert main(["config", "seal", "database.url"]) == 2
    assert (here / "bot.yaml").read_text() == "sealed: {}\n"
    assert "bot.yaml" in capsys.readouterr().err


def test_only_secrets_are_sealed(capsys: pytest.CaptureFixture[str]) -> None:
    """What else is in the file is to be read there."""
    assert main(["config", "seal", "deposit"]) == 2
    assert f"expected a secret ({', '.join(SECRETS)}), got 'deposit'" in capsys.readouterr().err

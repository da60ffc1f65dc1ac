"""The table of commands: its groups, its help, and that its examples can be typed."""

import argparse
import re
import shlex
from importlib.metadata import version
from pathlib import Path

import pytest
from bot.__main__ import main
from bot.commands import COMMANDS, EPILOG, GROUPS, parser
from bot.parsing import Parser
from dydx_conn import network

WIDTH = 80


@pytest.fixture(scope="module")
def top() -> Parser:
    """Return the parser of all commands."""
    return parser()


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every help be printed as on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))


def test_help_lists_every_command_in_its_group_on_one_line(top: Parser) -> None:
    """Groups in their order, each with a heading; nothing is broken into two lines."""
    printed = top.format_help()

    headings = [line.rstrip(":") for line in printed.splitlines() if line.rstrip(":") in GROUPS]
    rows = {line.split()[0]: line for line in printed.splitlines() if line.startswith("  ")}
    assert headings == list(GROUPS)
    assert {name: rows[name].split(maxsplit=1)[1] for name in COMMANDS} == {
        name: row.help for name, row in COMMANDS.items()
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_description_and_an_example_of_its_own(name: str) -> None:
    """Whoever types its --help learns what it is for, and one way to use it."""
    row = COMMANDS[name]

    own = [typed for typed, _ in row.examples if f"bot {name} " in f"{typed} "]
    assert row.description.endswith(".")
    assert own != []


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_help_fits_eighty_columns(name: str, top: Parser) -> None:
    """No line of it is broken by the terminal."""
    shown = top.commands.choices[name] if name else top

    assert [line for line in shown.format_help().splitlines() if len(line) > WIDTH] == []


@pytest.mark.parametrize("name", ["account", "watch"])
def test_who_only_looks_at_an_account_is_offered_no_confirmation(name: str, top: Parser) -> None:
    """None is needed, on mainnet neither: one to type would say that something may be sent."""
    assert "--yes-" not in top.commands.choices[name].format_help()


EXAMPLES = [(name, typed) for name, row in COMMANDS.items() for typed, _ in row.examples] + [
    ("", line.strip().split("  ")[0]) for line in EPILOG.splitlines() if line.startswith("  bot")
]


@pytest.mark.parametrize(("name", "typed"), EXAMPLES, ids=lambda value: value)
def test_every_example_is_one_that_the_parser_takes(name: str, typed: str, top: Parser) -> None:
    """What a help shows can be typed as it stands."""
    words = shlex.split(re.split("[|>]", typed)[0])

    assert words[0] == "bot"
    if len(words) > 1 and words[1] in COMMANDS and "--help" not in words:
        assert isinstance(top.parse_args(words[1:]), argparse.Namespace)
    else:  # options alone are those of replay
        assert name == ""


# What needs no network, no key and no run of seconds.
CHEAP = [
    typed
    for _, typed in EXAMPLES
    if typed.startswith(("bot completion bash", "bot doctor --offline", "bot history"))
]


@pytest.mark.parametrize("typed", CHEAP)
def test_a_cheap_example_does_what_it_shows(
    typed: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is typed for real; nothing is wrong with its words."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    code = main(shlex.split(typed)[1:])

    assert code in (0, 1)
    assert "expected" not in capsys.readouterr().err


def test_the_help_of_trade_leads_from_nothing_to_a_run(top: Parser) -> None:
    """A key, paper money from the faucet of the venue that is `local`, and commands that exist."""
    more = COMMANDS["trade"].more

    typed = [re.sub(" +#.*", "", line).strip() for line in more.splitlines()]
    commands = [shlex.split(line)[1:] for line in typed if line.startswith("bot ")]
    assert [top.parse_args(words).command for words in commands] == ["trade", "keys", "trade"]
    assert f"{network('local').rest.removeprefix('http://')}/faucet/tokens" in more


def test_its_version_is_looked_up_when_somebody_wants_it() -> None:
    """And there is nothing else to find in the package itself."""
    import bot

    assert bot.__version__ == version("bot")
    with pytest.raises(AttributeError, match="expected __version__ of bot, got nothing"):
        _ = bot.nothing

"""What a shell completes: the script is sourced in bash and in fish, and words are typed."""

import argparse
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from bot.__main__ import main
from bot.commands import COMMANDS, parser
from bot.completion import script
from bot.config.profiles import PROFILES

# Each line of what is typed is completed at its end; the answers are printed, a line each.
TYPE = """
source completion.bash
while IFS= read -r typed; do
  read -ra COMP_WORDS <<< "$typed"
  [[ $typed == *" " ]] && COMP_WORDS+=("")
  COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
  _shtab_bot 2>/dev/null
  echo "${COMPREPLY[*]}"
done
"""

TYPE_FISH = """
source completion.fish
while read -l typed
  string join -- ' ' (complete -C "$typed" | string replace -r '\\t.*' '') ''
end
"""

CASES = {
    "bot pa": "panel paper",
    "bot keys r": "rotate",
    "bot replay --prof": "--profile",
    "bot replay --profile ": " ".join(PROFILES),
    "bot --profile r": "reckless",
    "bot paper --strategy r": "rank reversion",
    "bot paper --strategy m": "mine.py",
    "bot paper --signals trend,ba": "trend,basis",
    "bot panel sa": "safety",
    "bot panel safety s": "sixty",
    "bot panel safety te": "testnet",
    "bot paper --network ": "mainnet testnet local fork.toml folder",
    "bot paper --environment pro": "production",
    "bot replay q": "quickstart",
    "bot replay my": "my.jsonl.zst",
    "bot calibrate sixty q": "quickstart",
    "bot trade --tickers BTC-USD,E": "BTC-USD,ETH-USD",
    "bot trade --keys f": "fork.toml folder",
    "bot paper --record fo": "fork.toml folder",
    "bot completion z": "zsh",
    "bot history --status filled,can": "filled,cancelled",
    "bot positions --status l": "liquidated left",
    "bot positions --sort rea": "realized",
    "bot pnl --by ": "day run market strategy",
    "bot errors --by h": "hour",
}


@pytest.fixture(scope="module", params=["bash", "fish"])
def answers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Type every case in one shell, in a folder with a few files."""
    shell, found = request.param, shutil.which(request.param)
    if found is None:
        pytest.skip(f"expected {shell} to complete in, got none")
    folder = tmp_path_factory.mktemp("here")
    (folder / f"completion.{shell}").write_text(script(shell))
    (folder / "folder").mkdir()
    for name in ("mine.py", "fork.toml", "my.jsonl.zst"):
        (folder / name).touch()
    lines = {"bash": ["--norc", "-c", TYPE], "fish": ["--no-config", "-c", TYPE_FISH]}
    typed = "".join(f"{line}\n" for line in CASES)
    printed = subprocess.check_output(
        [found, *lines[shell]], input=typed, text=True, cwd=folder,
        env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    return dict(zip(CASES, printed.splitlines(), strict=True))


@pytest.mark.parametrize("typed", CASES)
def test_a_shell_completes_what_is_typed(typed: str, answers: dict[str, str]) -> None:
    """Commands, options, names and files, wherever the cursor is."""
    assert sorted(answers[typed].replace("/", "").split()) == sorted(CASES[typed].split())


def test_what_is_printed_is_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    """Its long names look like a key, and one of them went out as [redacted]."""
    assert main(["completion", "bash"]) == 0

    assert capsys.readouterr().out == f"{script('bash')}\n"


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh"])
def test_the_script_of_another_shell_is_one_that_it_reads(shell: str, tmp_path: Path) -> None:
    """Its own parser takes it, where it is installed."""
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"expected {shell} to read the script, got none")
    path = tmp_path / "script"
    path.write_text(script(shell))

    read = subprocess.run([found, "-f", "-n", path], capture_output=True, text=True, check=False)

    assert (read.returncode, read.stderr) == (0, "")


def test_the_command_prints_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command is in it."""
    assert main(["completion", "tcsh"]) == 0

    printed = capsys.readouterr().out
    assert [name for name in COMMANDS if name not in printed] == []


# What is neither one of some words nor a file, by its metavar, or by its name where it has none.
FREE = {
    *("N", "N,N", "S", "S,S,…", "X", "SHARE", "USDC", "IDS", "COLSxROWS"),
    *("URL", "HOST:PORT", "TEXT", "TIME", "SINK", "OWNER/N", "ADDRESS[/N]", "NAME", "COLUMN"),
    *("address", "id", "order", "position", "name", "run", "A=COLUMN,…", "ZONE"),
}


def test_every_option_that_takes_a_value_offers_some_or_is_known_to_have_none() -> None:
    """A new option is thought of: it has a row, a metavar with FILE or PATH, or one from above."""
    from bot.completion import _offered, _offers

    offers = _offers()
    missing = {
        action.metavar or action.dest
        for of, command in parser().commands.choices.items()
        for action in command._actions
        if action.nargs != 0
        and not action.choices
        and action.help != argparse.SUPPRESS
        and _offered(of, action, offers) is None
    }
    assert missing - FREE == set()

"""`bot completion`: a script by which a shell completes commands, options and what they take.

    COMMANDS ──► parser ──► what each word can be (`_offers`) ──► shtab ──► bash, zsh, fish, tcsh

The script is made once and sourced by the shell: completing a word does not start the bot. What is
offered by name is what the bot had when it was made; files are looked up as they are typed.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import shtab
from dydx_conn import NETWORKS, recording_folders
from dydx_panels import PANELS
from dydx_strategy import STRATEGIES

from bot.archive.rows import KINDS
from bot.backtest.walks import OBJECTIVES
from bot.commands import COMMANDS, parser
from bot.config.profiles import PROFILES
from bot.config.settings import PATHS as SETTINGS
from bot.config.settings import SECTIONS
from bot.history import failures, holdings, orders, profits
from bot.outlet import behind
from bot.run.signals import known


def completion(arguments: argparse.Namespace) -> int:
    """Print the script for a shell; its long names look like secrets, and none is in it."""
    print(script(arguments.shell), file=behind(sys.stdout))
    return 0


def script(shell: str) -> str:
    """Return the script for bash, zsh, fish or tcsh."""
    top, offers = parser(), _offers()
    for of, command in top.commands.choices.items():
        command.description = COMMANDS[of].help  # a line each, where the shell lists them
        for action in command._actions:  # argparse has no other list of them
            if (name := _offered(of, action, offers)) in offers:
                action.complete = _completer(name, offers[name])  # type: ignore[attr-defined]
    for action in top.commands.choices["replay"]._get_optional_actions():
        if action.dest != "help":  # options alone are those of replay
            top._add_action(action)
    return shtab.complete(top, shell)


class Offer(NamedTuple):
    """What a word can be: one of some words (or several with commas between), or a file."""

    words: Iterable[str] = ()
    files: Sequence[str] = ()
    several: bool = False


_SUFFIX: Final = ".jsonl.zst"


def _offers() -> dict[str, Offer]:
    """Return by its `dest`, or command and `dest`, what can be typed for an option or argument."""
    paths = (path for folder in recording_folders() for path in folder.glob(f"*{_SUFFIX}"))
    names = sorted({path.name.removesuffix(_SUFFIX) for path in paths})
    recording = Offer(names, [f"*{_SUFFIX}"])
    played = Offer(
        [*STRATEGIES, "none", *PROFILES, *names], [f"*{_SUFFIX}", "*.py", "*.toml", "*.yaml"]
    )
    return {
        "recording": recording,
        "recordings": recording,
        "recording|network": Offer([*names, *NETWORKS], [f"*{_SUFFIX}", "*.toml"]),
        "network": Offer(NETWORKS, ["*.toml"]),
        "profile": Offer(PROFILES),
        "strategy": Offer([*STRATEGIES, "none"], ["*.py", "*.toml", "*.json"]),
        "backtest words": played,
        "backtest compare": played,
        "signals": Offer(["all", *known("")], ["*.py"], several=True),
        "tickers": Offer(["BTC-USD", "ETH-USD", "SOL-USD"], several=True),
        "ticker": Offer(["BTC-USD", "ETH-USD", "SOL-USD"], several=True),
        "history status": Offer(map(str.lower, orders.STATUSES), several=True),
        "positions status": Offer(map(str.lower, holdings.STATUSES), several=True),
        "positions sort": Offer(holdings.SORTS),
        "side": Offer(["long", "short"]),
        "pnl by": Offer(profits.GROUPS),
        "errors by": Offer(failures.GROUPS),
        "database": Offer(["none"], ["*"]),
        "market": Offer(["BTC-USD", "ETH-USD", "SOL-USD"]),
        "fetch kinds": Offer(KINDS, several=True),
        "fetch window": Offer(["1h", "6h", "12h"]),
        "panel": Offer(["all", *PANELS]),
        "keys": Offer(["env", "keyring:"], ["*"]),
        "name": Offer([*filter(None, SECTIONS), *SETTINGS], ["*.yaml", "*.json"]),
        "sweep grid": Offer(["certs", "scheduler", "worker"], ["*.yaml"]),
        "sweep data": recording,
        "sweep objective": Offer(OBJECTIVES, several=True),
        "sweep out": Offer(files=["*"]),
        "engine": Offer(["local", "here", "dask://127.0.0.1:8786"]),
        "certs": Offer(files=["*"]),
        "": Offer(files=["*"]),
    }


def _offered(of: str, action: argparse.Action, offers: Mapping[str, Offer]) -> str | None:
    """Return which offer is an action's of a command; None where argparse knows, or nobody does."""
    if action.nargs == 0 or action.choices or action.help == argparse.SUPPRESS:
        return None
    if (own := f"{of} {action.dest}") in offers:  # one name is another thing in each command
        return own
    names = (str(action.metavar), action.dest)
    if any(part in name.upper() for name in names for part in ("FILE", "PATH")):
        return next((name for name in names if name in offers), "")
    return next((name for name in names if name in offers), None)


# === Shells ===
# A function of the shell for each offer. shtab marks what is a file by the function's name.


def _completer(name: str, offer: Offer) -> dict[str, Any]:
    words = " ".join(offer.words)
    function = f"_bot_{'file' if offer.files else 'word'}_{re.sub(r'[^a-z]', '_', name)}"
    return {
        "bash": function,
        "zsh": function,
        "fish": f"({function})",
        # It has no functions: files where there is nothing to be named.
        "tcsh": f"({words})" if words else "f",
        "preamble": {
            "bash": _function(function, _bash(words, offer)),
            "zsh": _function(function, _zsh(words, offer)),
            "fish": _function(function, _fish(words, offer), "function {}", "end"),
        },
    }


def _function(name: str, lines: Iterable[str], begin: str = "{}() {{", end: str = "}") -> str:
    return "\n".join([begin.format(name), *(f"  {line}" for line in lines), end])


def _bash(words: str, offer: Offer) -> Iterator[str]:
    if offer.several:
        yield f'compgen -P "${{1%"${{1##*,}}"}}" -W "{words}" -- "${{1##*,}}"'
    elif words:
        yield f'compgen -W "{words}" -- "$1"'
    for files in offer.files:
        yield f"compgen -f -X '!{files}' -- \"$1\""
    if offer.files and offer.files != ["*"]:
        yield 'compgen -d -- "$1"'


def _zsh(words: str, offer: Offer) -> Iterator[str]:
    if words:
        yield f"_values -s , word {words}" if offer.several else f"compadd -- {words}"
    if offer.files:
        yield f"_files -g '{' '.join(offer.files)}'"


def _fish(words: str, offer: Offer) -> Iterator[str]:
    if offer.several:
        yield f"__fish_complete_list , 'printf %s\\\\n {words}'"
    elif words:
        yield f"printf '%s\\n' {words}"
    if offer.files:
        ends = "|".join(["/", *(re.escape(files.lstrip("*")) for files in offer.files)])
        found = "__fish_complete_path (commandline -ct)"  # what each is stands behind it
        yield f"{found} | string match -r '.*(?:{ends})(?:\\t.*)?$'"

"""The command line: what a person types, checked, and handed to the part that does it.

`COMMANDS` is all of it, a command a row. Only this file is imported for `bot --help`; everything
else is loaded when it is used, so that help and a typing error answer at once.
"""

import argparse
import importlib
import io
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

EPILOG = """\
examples:
  bot                                 watch the bundled recording on a dashboard
  bot | less                          the same as a plain report, as fast as it can
  bot replay account --json           the report as JSON
  bot replay quickstart --no-guard    what happens without the guard
  bot paper --network testnet         live frames, paper orders, no keys
  bot trade --network local           live frames, real orders, with a key
  bot halt --why "a headline"         nothing enters any more, in the bot that runs here
  bot why F3                          from a fill back to the wire text that caused it
  bot chaos quickstart --seeds 100    a hundred bad days, and what survived them

exit codes: 0 done, 1 a check failed, 2 something you gave was not what was expected
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. A wrong word is said plainly and is a 2."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    # `bot` alone, or with options alone, plays the bundled recording.
    if not typed or (typed[0].startswith("-") and typed[0] not in ("-h", "--help", "--version")):
        typed.insert(0, "replay")
    options = parser().parse_args(typed)
    from dydx_conn import ConnError
    from dydx_panels import PanelError
    from dydx_strategy import StrategyError

    # A terminal that cannot show an arrow gets a question mark, not a traceback.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    # Whoever ends a run politely gets what Ctrl-C gets: its report, its recording closed.
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        module, _, function = COMMANDS[options.command].does.partition(":")
        code: int = getattr(importlib.import_module(module), function)(options)
        return code
    except (ConnError, PanelError, StrategyError) as error:
        print(f"bot: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader has seen enough; the interpreter would complain again while closing it.
        sys.stdout = None
        return 0
    except OSError as error:
        print(f"bot: expected to read and write what was named, but {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


# === Values ===


def positive(text: str) -> float:
    """Read a number above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def whole(text: str) -> int:
    """Read a number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or more, got {text!r}")
    return int(text)


def count(text: str) -> int:
    """Read how many: 1 or more."""
    number = whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected 1 or more, got 0")
    return number


def numbers(text: str) -> tuple[int, ...]:
    """Read numbers that commas part."""
    return tuple(int(part) for part in text.split(","))


class Version(argparse.Action):
    """Print the version; looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and exit."""
        from bot import __version__

        print(f"bot {__version__}")
        parser.exit()


# === Options ===

Option = tuple[tuple[str, ...], dict[str, Any]]


def option(*names: str, **how: Any) -> Option:
    """Describe an option, or an argument, as argparse takes it."""
    return names, how


RECORDING: Final = option("recording", nargs="?", default="quickstart", help="a name or a path")
SECONDS: Final = option("--seconds", type=positive, help="stop after this long")
JSON: Final = option("--json", action="store_true", help="the report as JSON")
TICKERS: Final = (
    option(
        "--tickers",
        default="BTC-USD,ETH-USD,SOL-USD",
        metavar="A,B,…",
        help="which markets, by commas (default: BTC-USD,ETH-USD,SOL-USD)",
    ),
    # What it was called before.
    option("--markets", dest="tickers", default=argparse.SUPPRESS, help=argparse.SUPPRESS),
)
RECORD: Final = option("--record", metavar="PATH", help="keep the frames as a recording")

# Where to run: bot.environment says what each environment allows.
NETWORK: Final = (
    option(
        "--environment",
        choices=("development", "test", "staging", "production"),
        help="or DYDX_ENVIRONMENT (default: development)",
    ),
    option(
        "--network",
        metavar="NAME|FILE.toml",
        help="testnet, mainnet, local or a file (default: what the environment picks)",
    ),
    option("--rest", help="another REST address than the network's own"),
    option("--ws", help="another socket address than the network's own"),
    option("--node", help="another node, as host:port, than the network's own"),
    option("--yes-mainnet", action="store_true", help="confirm mainnet where it is not the rule"),
)

# Who signs, for which account, and where it is written down.
KEYS: Final = option(
    "--keys",
    default="env",
    metavar="WHERE",
    help="env (default: DYDX_MNEMONIC or DYDX_PRIVATE_KEY), keyring:NAME, or an encrypted file",
)
SIGNING: Final = (
    KEYS,
    option("--address", help="whose account it must be (or DYDX_ADDRESS)"),
    option("--subaccount", type=int, default=0, metavar="N", help="0 (default) …"),
    option(
        "--authenticators",
        type=numbers,
        default=(),
        metavar="IDS",
        help="by commas, for a key that --address has permitted",
    ),
    option("--yes-orders", action="store_true", help="confirm that orders are sent"),
    option("--audit", default="audit.jsonl", metavar="PATH", help="the audit log (audit.jsonl)"),
)

# Which running bot, and what to tell it.
RUNNING: Final = option(
    "run", nargs="?", type=whole, help="its number, where more than one runs (bot status says it)"
)
WHY: Final = option("--why", default="", metavar="TEXT", help="the reason, for who reads it later")

# What changes how the bot acts, and so changes the run hash.
CHOICES: Final = (
    option("--no-guard", action="store_true", help="let liquidation come"),
    option(
        "--strategy",
        default="rank",
        help="rank (default), sniper, none, or a Python file of your own",
    ),
    option("--deposit", type=int, help="USDC that it is sized to (10000; a real account's worth)"),
    option("--strict", action="store_true", help="end the run where the strategy raises"),
)
RUN: Final = (
    option("--plain", action="store_true", help="no dashboard, also on a terminal"),
    option("--json", action="store_true", help="the report as JSON, no dashboard"),
    *CHOICES,
)

# === Commands ===


class Command(NamedTuple):
    """A command: its line in the help, `module:function` that does it, and what can be typed."""

    help: str
    does: str
    options: tuple[Option, ...]
    description: str | None = None


COMMANDS: Final[dict[str, Command]] = {
    "replay": Command(
        "play a recording (this is the default)",
        "bot.commands:replay",
        (
            RECORDING,
            option("--speed", type=positive, help="times real time (on a terminal: 20)"),
            *RUN,
        ),
    ),
    "paper": Command(
        "live frames, paper orders, no keys",
        "bot.commands:paper",
        (*NETWORK, *TICKERS, SECONDS, RECORD, *RUN),
    ),
    "trade": Command(
        "live frames, real orders: read --help first",
        "bot.trade:trade",
        (
            *NETWORK,
            *SIGNING,
            *TICKERS,
            SECONDS,
            RECORD,
            option("--flatten", action="store_true", help="close what is held when the run ends"),
            *RUN,
        ),
        "Sign and send orders. Every network but local wants --yes-orders, mainnet --yes-mainnet "
        "as well; at a terminal the words can be typed instead. Ctrl-C takes what is open off "
        "the books, with --flatten after closing what is held, and reports what nobody guards any "
        "more; a second one leaves at once.",
    ),
    "halt": Command(
        "halt a running bot: nothing enters any more; guard and exits go on",
        "bot.handle:halt",
        (RUNNING, WHY),
        "The halt outlives the run: the next one on the same account starts with it, until "
        "somebody resumes.",
    ),
    "resume": Command("take a halt back", "bot.handle:resume", (RUNNING, WHY)),
    "status": Command(
        "how a running bot stands; exit code 1 if it may not enter",
        "bot.handle:status",
        (RUNNING, option("--json", action="store_true", help="the status as JSON")),
    ),
    "cancel-all": Command(
        "take all orders of a subaccount off", "bot.trade:withdraw_all", (*NETWORK, *SIGNING)
    ),
    "keys": Command(
        "whose key it is; an encrypted file for it",
        "bot.keys:keep_keys",
        (
            option(
                "act",
                choices=("address", "save", "rotate"),
                help="print whose key it is; encrypt it into a new file; give the file of --keys "
                "a new passphrase",
            ),
            option("file", nargs="?", help="the file to save to; nothing may be there yet"),
            KEYS,
            option("--address", help="whose key it must be"),
        ),
    ),
    "why": Command(
        "walk from an id (D7, V3, G1, O3, F2, A1) back to the wire",
        "bot.commands:why",
        (
            option("id", help="the id of a decision, verdict, order, fill or act"),
            RECORDING,
            *CHOICES,
        ),
    ),
    "panel": Command(
        "print one panel as it stands at a recording's end",
        "bot.commands:panel",
        (
            option("panel", help="its name; a wrong one lists them"),
            RECORDING,
            option("--svg", metavar="PATH", help="write the whole dashboard as an SVG instead"),
            option("--size", default="120x40", help="columns and rows of the SVG (120x40)"),
            option("--at", type=positive, help="stop after this many seconds of the recording"),
            *CHOICES,
        ),
    ),
    "chaos": Command(
        "put faults into a recording, see what survives",
        "bot.chaos:chaos",
        (
            RECORDING,
            option("--seeds", type=count, default=20, help="run seeds 0 (no fault) to N (20)"),
            option("--seed", type=whole, help="run this one alone"),
            option("--only", metavar="N,N", help="of that seed's faults these alone"),
            option("--seconds", type=positive, help="use so much of the recording"),
            JSON,
            *CHOICES,
        ),
    ),
    "doctor": Command(
        "look at the machine and at a network", "bot.doctor:doctor", (*NETWORK, JSON)
    ),
}


def parser() -> argparse.ArgumentParser:
    """Describe all commands and their options."""
    top = argparse.ArgumentParser(
        prog="bot",
        description="A dYdX v4 perpetuals bot that says why, and is not liquidated in a crash.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, row in COMMANDS.items():
        command = commands.add_parser(name, help=row.help, description=row.description)
        for names, how in row.options:
            command.add_argument(*names, **how)
    return top


if __name__ == "__main__":
    raise SystemExit(main())

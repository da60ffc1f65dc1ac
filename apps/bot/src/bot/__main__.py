"""The command line: what a person types, checked, and handed to the part that does it.

`COMMANDS` is all of it, a command a row. Only this file is imported for `bot --help`; everything
else is loaded when it is used, so that help and a typing error answer at once.
"""

import argparse
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, NoReturn

EPILOG = """\
examples:
  bot                                 watch the bundled recording on a dashboard
  bot | less                          the same as a plain report, as fast as it can
  bot replay account --json           the report as JSON
  bot --profile reckless --no-guard   the same crash with four times as much, and no guard
  bot paper --network testnet         live frames, paper orders, no keys
  bot trade --network local           live frames, real orders, with a key
  bot halt --why "a headline"         stop the entries of the bot that runs here
  bot flatten                         close what the bot that runs here holds
  bot why F3                          from a fill back to the wire text that caused it
  bot chaos quickstart --seeds 100    a hundred bad days, and what survived them

bot COMMAND --help lists the options of a command.
exit codes: 0 done, 1 a check failed or something went wrong on the way, 2 something you typed was
not what was expected
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. A wrong word is one line of error and a 2."""
    # Python has no stream where there is no file (2>&-), and all else here counts on one.
    for name, how in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, how, encoding="utf-8"))  # noqa: SIM115 - to the end
    typed = list(sys.argv[1:] if arguments is None else arguments)
    if shows_secret(typed):
        print(f"bot: {_SHOWN}", file=sys.stderr)
        return 2
    # `bot` alone, or with options alone, plays the bundled recording.
    if not typed or (typed[0].startswith("-") and typed[0] not in ("-h", "--help", "--version")):
        typed.insert(0, "replay")
    options = parser().parse_args(typed)
    from bot.outlet import guarded, uncaught

    # A terminal that cannot show an arrow gets a question mark, not a traceback.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    sys.excepthook = uncaught
    # Whoever ends a run politely gets what Ctrl-C gets: its report, its recording closed.
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        with guarded():
            code = run(options)
        return flushed(code)
    except BrokenPipeError:
        # The reader has seen enough; the interpreter would complain again while closing it.
        sys.stdout = None
        return 0
    except KeyboardInterrupt:
        return 130


def flushed(code: int) -> int:
    """Return the exit code, a 1 at least where what was printed has nowhere to go."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except BrokenPipeError:
            raise
        except OSError:
            setattr(sys, name, None)  # the interpreter would try again, and fail
            code = code or 1
    return code


def run(options: argparse.Namespace) -> int:
    """Load what does a command and run it; what is expected to go wrong is one line and a 2."""
    from dydx_conn import ConnError
    from dydx_panels import PanelError
    from dydx_signals import SignalError
    from dydx_strategy import StrategyError

    try:
        module, _, function = COMMANDS[options.command].does.partition(":")
        code: int = getattr(importlib.import_module(module), function)(options)
        return code
    except (ConnError, PanelError, SignalError, StrategyError) as error:
        print(f"bot: {error}", file=sys.stderr)
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"bot: expected files that can be read and written, got {error}", file=sys.stderr)
    return 2


# === Secrets ===
# A key typed in the wrong place is in the shell's history already; it is not repeated here as well.

_SHOWN: Final = (
    "expected no key among the arguments, got what looks like a mnemonic or a private key: by now "
    "the shell's history has it, and every process could read it. Move what it holds to another "
    "key; where a key belongs: bot trade --help"
)


def shows_secret(typed: Sequence[str]) -> bool:
    """Return whether a key is among the arguments, in one of them or a word in each."""
    whole = [part for text in typed for part in (text, text.partition("=")[2])]
    # No layer is loaded for arguments that are too short to be one.
    if len(" ".join(typed).split()) < 12 and not any(len(text) >= 64 for text in whole):
        return False
    from dydx_conn import is_secret

    return any(map(is_secret, whole)) or is_secret(" ".join(typed))


class Parser(argparse.ArgumentParser):
    """A parser whose errors repeat no more of what was typed than they must."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; of those left over only options are named."""
        options, left = self.parse_known_args(args, namespace)
        if left:
            named = [text.partition("=")[0] for text in left if text.startswith("-")]
            words = len(left) - len(named)
            got = [*named, *([f"{words} more word{'s' * (words > 1)}"] if words else [])]
            self.error(f"expected no more arguments, got {' and '.join(got)}")
        return options

    def error(self, message: str) -> NoReturn:
        """Print how it is used and what is wrong, and exit with a 2."""
        if not message.isprintable():
            from bot.outlet import clean

            message = clean(message)
        super().error(message)


class Verbatim(argparse.HelpFormatter):
    """A formatter that leaves examples as they are, and fills what else it is given."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return text
        return super()._fill_text(text, width, indent)


# === Values ===
# How the text of an option becomes a value, and what is refused.


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


def horizons(text: str) -> tuple[float, ...]:
    """Read seconds that commas part, the shortest first."""
    try:
        found = sorted({positive(part) for part in text.split(",")})
    except (ValueError, argparse.ArgumentTypeError):
        what = f"expected seconds above 0 such as 10,60,300, got {text!r}"
        raise argparse.ArgumentTypeError(what) from None
    return tuple(found)


def share(text: str) -> float:
    """Read a share of a whole, above 0 and below 1."""
    number = positive(text)
    if number >= 1:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and below 1, got {text}")
    return number


class Version(argparse.Action):
    """Print the version; looked up only when it is wanted."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and exit."""
        from bot import __version__

        print(f"bot {__version__}")
        parser.exit()


# === Options ===
# Every option once, with its help; commands share them.

Option = tuple[tuple[str, ...], dict[str, Any]]


def option(*names: str, **how: Any) -> Option:
    """Describe an option, or an argument, as argparse takes it."""
    return names, how


RECORDING: Final = option(
    "recording",
    nargs="?",
    default="quickstart",
    help="quickstart (default), sixty, account, or the path of a recording",
)
SECONDS: Final = option(
    "--seconds", type=positive, metavar="S", help="end the run after this many seconds"
)
JSON: Final = option("--json", action="store_true", help="print the report as JSON")
SPEED: Final = option(
    "--speed",
    type=positive,
    metavar="X",
    help="times real time (default: 20 on a dashboard, else as fast as it can)",
)
TICKERS: Final = (
    option(
        "--tickers",
        default="BTC-USD,ETH-USD,SOL-USD",
        metavar="A,B,…",
        help="tickers to trade (default: BTC-USD,ETH-USD,SOL-USD)",
    ),
    # What it was called before.
    option("--markets", dest="tickers", default=argparse.SUPPRESS, help=argparse.SUPPRESS),
)
RECORD: Final = option("--record", metavar="PATH", help="write the frames to a new recording")

# Where to run: bot.environment has what each environment allows.
NETWORK: Final = (
    option(
        "--environment",
        choices=("development", "test", "staging", "production"),
        help="what the run is for: decides which networks are allowed (or DYDX_ENVIRONMENT; "
        "default: development)",
    ),
    option(
        "--network",
        metavar="NAME|FILE.toml",
        help="testnet, mainnet, local or a TOML file (default: what --environment picks)",
    ),
    option("--rest", metavar="URL", help="REST address in place of the network's own"),
    option("--ws", metavar="URL", help="WebSocket address in place of the network's own"),
    option("--node", metavar="HOST:PORT", help="node in place of the network's own"),
    option("--yes-mainnet", action="store_true", help="confirm that this may run on mainnet"),
)

# Who signs, for which account, and where it is written down.
KEYS: Final = option(
    "--keys",
    default="env",
    metavar="WHERE",
    help="where the key is: env (default; DYDX_MNEMONIC or DYDX_PRIVATE_KEY), keyring:NAME, or "
    "an encrypted file, which is safest: a variable is taken out of the environment once read, "
    "but the system's record of the process (/proc/PID/environ) keeps it",
)
SIGNING: Final = (
    KEYS,
    option("--address", help="refuse a key of any other address (or DYDX_ADDRESS)"),
    option("--subaccount", type=int, default=0, metavar="N", help="its number (default: 0)"),
    option(
        "--authenticators",
        type=numbers,
        default=(),
        metavar="IDS",
        help="authenticator ids (1,2,…) by which the owner --address has permitted the key",
    ),
    option("--yes-orders", action="store_true", help="confirm that real orders may be sent"),
    option(
        "--audit", default="audit.jsonl", metavar="PATH", help="audit log (default: audit.jsonl)"
    ),
)

# Which running bot, and the reason.
RUNNING: Final = option(
    "run",
    nargs="?",
    type=whole,
    help="process number of the bot, needed where several run (the error lists them)",
)
WHY: Final = option("--why", default="", metavar="TEXT", help="the reason, which is recorded")

# What changes how the bot acts, and so changes the run hash.
ACCOUNT: Final = (
    option(
        "--profile",
        default="steady",
        metavar="NAME",
        help="how much may be risked: steady (default; at most once the equity is entered) or "
        "reckless (up to 4.5 times, which shows what the guard is for)",
    ),
    option(
        "--no-guard",
        action="store_true",
        help="switch the guard off, and what closes at a loss: liquidation may come",
    ),
    option(
        "--signals",
        default="",
        metavar="NAMES|FILE",
        help="signals beside the standard six and those that the strategy names: all, some as "
        "trend,basis or a Python file of your own (bot signals check FILE)",
    ),
    option(
        "--state",
        metavar="FILE",
        help="begin with the day of each market that another run left (default: live runs go on "
        "where the last one on that network ended, and leave theirs there; a replay has none)",
    ),
    option(
        "--deposit",
        type=int,
        metavar="USDC",
        help="size positions to this much (default: 10000; real orders: the account's equity)",
    ),
    option(
        "--strict",
        action="store_true",
        help="end the run where the strategy raises (default: no entries from there on)",
    ),
    option(
        "--hand-beside",
        action="store_true",
        help="somebody may trade the account beside the bot: their markets are left to them and "
        "guarded (default: what somebody else does there halts the bot)",
    ),
)
CHOICES: Final = (
    option(
        "--strategy",
        default="rank",
        help="rank (default), sniper, reversion, carry, pairs, none (nothing enters; the limits of "
        "the profile close what you trade by hand, too), a .toml or .json file that lists several "
        "for one account, or a Python file of your own: it runs with all rights of this program, "
        "the key among them, so read what you did not write",
    ),
    *ACCOUNT,
)
RUN: Final = (
    option("--plain", action="store_true", help="no dashboard, even on a terminal"),
    option("--json", action="store_true", help="print the report as JSON, no dashboard"),
    option(
        "--detectors",
        action="store_true",
        help="look for market makers, arbitrage and which price leads; nothing is decided by it",
    ),
    *CHOICES,
)

# === Commands ===
# The table of all commands. A new command is one row.


class Command(NamedTuple):
    """A command: its line in the help, `module:function` that does it, and what can be typed."""

    help: str
    does: str
    options: tuple[Option, ...]
    description: str | None = None
    examples: str | None = None


COMMANDS: Final[dict[str, Command]] = {
    "replay": Command(
        "play a recording (the default command)",
        "bot.commands:replay",
        (
            RECORDING,
            SPEED,
            option(
                "--save-state",
                metavar="FILE",
                help="write the day of each market at the end, for the --state of another run",
            ),
            *RUN,
        ),
    ),
    "paper": Command(
        "live frames, paper orders, no keys",
        "bot.commands:paper",
        (*NETWORK, *TICKERS, SECONDS, RECORD, *RUN),
    ),
    "trade": Command(
        "live frames, real orders: read bot trade --help first",
        "bot.trade:trade",
        (
            *NETWORK,
            *SIGNING,
            *TICKERS,
            SECONDS,
            RECORD,
            option("--flatten", action="store_true", help="close all positions when the run ends"),
            *RUN,
        ),
        "Sign and send real orders. Every network but local needs --yes-orders, mainnet "
        "--yes-mainnet as well; at a terminal the words can be typed instead. Ctrl-C cancels the "
        "open orders and reports which positions stay open, unguarded: at a terminal it offers to "
        "close them, --flatten does without a question. A second Ctrl-C ends at once. One bot "
        "trades a subaccount; what somebody else does there halts it, unless --hand-beside. Loss, "
        "drawdown and cool-down are counted from the start of a run: whoever starts again in a "
        "crash lets it lose as much again.",
    ),
    "halt": Command(
        "stop the entries of a running bot; guard and exits go on",
        "bot.handle:halt",
        (RUNNING, WHY),
        "The halt outlives the run: the next run of the same account starts halted, until bot "
        "resume.",
    ),
    "resume": Command("let a halted bot enter again", "bot.handle:resume", (RUNNING, WHY)),
    "status": Command(
        "show a running bot; exit code 1 if it may not enter",
        "bot.handle:status",
        (RUNNING, option("--json", action="store_true", help="print the status as JSON")),
    ),
    "flatten": Command(
        "close all positions of a subaccount, and cancel its orders",
        "bot.trade:flatten",
        (RUNNING, WHY, *NETWORK, *SIGNING),
        "Where a bot trades the subaccount it closes them and is halted until bot resume; without "
        "one they are closed from here. Where no network is typed, or there is no key, it is the "
        "one bot that runs on this machine. What could not be closed is named, and the exit code "
        "is 1.",
    ),
    "cancel-all": Command(
        "cancel all open orders of a subaccount", "bot.trade:withdraw_all", (*NETWORK, *SIGNING)
    ),
    "keys": Command(
        "show whose key it is, or store it in an encrypted file",
        "bot.keys:keep_keys",
        (
            option(
                "act",
                choices=("address", "save", "rotate"),
                help="address: print whose key it is; save: encrypt it into a new file; rotate: "
                "give the file of --keys a new passphrase",
            ),
            option("file", nargs="?", help="with save: the new file"),
            KEYS,
            option("--address", help="refuse a key of any other address"),
        ),
    ),
    "why": Command(
        "trace an id of the report (D7, V3, F2 …) back to the wire",
        "bot.commands:why",
        (
            option(
                "id",
                help="a decision (D7), verdict (V3), change of the gate (G1), order (O3), "
                "fill (F2) or act (A1)",
            ),
            RECORDING,
            *CHOICES,
        ),
    ),
    "panel": Command(
        "show one panel of a recording or a network, live; in a pipe print it once",
        "bot.show:panel",
        (
            option("panel", help="safety, flight, candles, detectors …; a wrong name lists all"),
            option(
                "recording",
                nargs="?",
                default="quickstart",
                metavar="recording|network",
                help="quickstart (default) or another recording; testnet, mainnet, local or a "
                "TOML file: live, on paper",
            ),
            option(
                "--market", default="", metavar="TICKER", help="the market to show, where one is"
            ),
            SPEED,
            SECONDS,
            *NETWORK,
            *TICKERS,
            option("--svg", metavar="PATH", help="write the dashboard to an SVG instead"),
            option(
                "--size",
                default="120x40",
                metavar="COLSxROWS",
                help="size of the SVG (default: 120x40)",
            ),
            option(
                "--at",
                type=positive,
                metavar="S",
                help="print it as it stands S seconds into the recording",
            ),
            *RUN,
        ),
    ),
    "chaos": Command(
        "replay a recording with faults, see what survives",
        "bot.chaos:chaos",
        (
            RECORDING,
            option(
                "--seeds",
                type=count,
                default=20,
                metavar="N",
                help="run the seeds 0 (no fault) to N (default: 20)",
            ),
            option("--seed", type=whole, metavar="N", help="run this seed alone"),
            option("--only", metavar="N,N", help="of the faults of --seed run these alone"),
            option("--seconds", type=positive, metavar="S", help="use the first S seconds alone"),
            JSON,
            *CHOICES,
        ),
    ),
    "signals": Command(
        "check signals of your own, or the bot's, by what they declare",
        "bot.conformance:signals",
        (
            option("act", choices=("check",), help="check: try all that a signal has to hold"),
            option("file", nargs="?", help="a Python file with signals() (default: the bot's own)"),
        ),
    ),
    "calibrate": Command(
        "measure what each score was worth on recordings",
        "bot.calibrate:calibrate",
        (
            option(
                "recordings",
                nargs="*",
                default=["quickstart"],
                metavar="RECORDING",
                help="names or paths of recordings (default: quickstart)",
            ),
            option(
                "--horizon",
                type=horizons,
                default=(10.0, 60.0, 300.0),
                metavar="S,S,…",
                help="how long after a score the mid is looked at (default: 10,60,300)",
            ),
            option(
                "--every",
                type=positive,
                metavar="S",
                help="time between two samples of a market (default: half the shortest horizon)",
            ),
            option(
                "--fit",
                type=share,
                default=0.5,
                metavar="SHARE",
                help="share of the samples that maps are fitted on; the rest judges them "
                "(default: 0.5)",
            ),
            option("--seconds", type=positive, metavar="S", help="use the first S seconds alone"),
            option("--save", metavar="FILE", help="write the isotonic maps as JSON"),
            option("--map", metavar="FILE", help="judge maps that --save wrote, fit none"),
            option("--html", metavar="FILE", help="write plots to a page (needs bot[plots])"),
            JSON,
        ),
        "For each signal and horizon: how often the mid went up after a score and how far net of "
        "half the spread, the rank correlation with a 95 % interval, all of it and by the state of "
        "the market, and what an isotonic map that was fitted before a time is worth after it.",
        """\
examples:
  bot calibrate                                    the bundled recording
  bot calibrate mon.jsonl.zst tue.jsonl.zst --horizon 10,60
  bot calibrate mon.jsonl.zst --save maps.json     then, on another day:
  bot calibrate tue.jsonl.zst --map maps.json --html tue.html
""",
    ),
    "prove": Command(
        "prove that a strategy does not see the future",
        "bot.prove:prove",
        (
            option("strategy", help="a strategy by name, or a Python file: it is run"),
            RECORDING,
            option(
                "--cuts", type=count, default=4, metavar="N", help="cut it so often (default: 4)"
            ),
            option("--seed", type=whole, default=0, metavar="N", help="where (default: 0)"),
            option("--seconds", type=positive, metavar="S", help="use the first S seconds alone"),
            JSON,
            *ACCOUNT,
        ),
        "The recording is played whole, and again up to random cuts, where nothing or another day "
        "follows: up to the cut the strategy must decide the same. Reported are also views that it "
        "reads after their frame, files that it opens and what it remembers beside itself.",
        """\
examples:
  bot prove rank                      the bundled recording
  bot prove mine.py sixty --cuts 10   your own, on another one
exit codes: 0 proved, 1 it sees the future, or decided nothing that proves it, 2 it cannot be run
""",
    ),
    "strategy": Command(
        "check how a strategy of your own behaves",
        "bot.strategy:strategy",
        (
            option("act", choices=("check",), help="check: run it, and say what does not hold"),
            option("strategy", metavar="FILE", help="a Python file: it is run; or rank, sniper"),
            RECORDING,
            option("--seconds", type=positive, metavar="S", help="use the first S seconds alone"),
            JSON,
            *ACCOUNT,
        ),
        "It is run on a recording, twice, in two other processes, and with trouble put in where it "
        "holds something. It should decide the same again, read what is scored, stay within the "
        "limits of the profile, enter nothing that is stale or unknown, leave what is in trouble, "
        "not turn round all the time and be quick.",
        """\
examples:
  bot strategy check mine.py                       the bundled recording
  bot strategy check mine.py sixty --profile reckless
  bot prove mine.py                                does it see the future?
exit codes: 0 all of it holds, 1 something does not, or was not seen, 2 it cannot be run
""",
    ),
    "doctor": Command(
        "check this machine and a network before a run", "bot.doctor:doctor", (*NETWORK, JSON)
    ),
}


def parser() -> argparse.ArgumentParser:
    """Describe all commands and their options."""
    top = Parser(
        prog="bot",
        description="A dYdX v4 perpetuals bot: it gives reasons and guards against liquidation.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, row in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=row.help,
            description=row.description,
            epilog=row.examples,
            formatter_class=Verbatim if row.examples else argparse.HelpFormatter,
        )
        for names, how in row.options:
            command.add_argument(*names, **how)
    return top


if __name__ == "__main__":
    raise SystemExit(main())

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
from typing import Final, NamedTuple

from bot.options import (
    ACCOUNT,
    API,
    CHOICES,
    CONFIG,
    DATABASE,
    FROM_DATABASE,
    JSON,
    KEYS,
    LOG,
    NETWORK,
    NO_MOUSE,
    NOTIFY,
    OF_RUNS,
    PAGES,
    PAPER,
    PROFILE,
    RECORD,
    RECORDING,
    REPORT_HTML,
    RUN,
    RUNNING,
    SECONDS,
    SHOWN_TICKERS,
    SIGNING,
    SPEED,
    STORED,
    TICKERS,
    WHERE,
    WHOSE,
    WHY,
    Option,
    option,
)
from bot.parsing import (
    Parser,
    Shape,
    Version,
    count,
    examples_of,
    horizons,
    json_file,
    new_file,
    positive,
    rank,
    share,
    whole,
    words_of,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. A wrong word is one line of error and a 2."""
    begin_streams()
    typed = list(sys.argv[1:] if arguments is None else arguments)
    if shows_secret(typed):
        print(f"bot: {_SHOWN}", file=sys.stderr)
        return 2
    # `bot` alone, or with options alone, plays the bundled recording.
    if not typed or (typed[0].startswith("-") and typed[0] not in ("-h", "--help", "--version")):
        typed.insert(0, "replay")
    options = parser().parse_args(typed)
    from bot.outlet import guarded, uncaught

    sys.excepthook, former = uncaught, sys.unraisablehook
    sys.unraisablehook = end_again
    # Whoever ends a run politely gets what Ctrl-C gets: its report, its recording closed.
    for number in _ENDS[1:]:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    code = 0
    try:
        with guarded():
            code = run(options)
        return flushed(code)
    except BrokenPipeError:
        # The reader has seen enough; the interpreter would complain again while closing it.
        sys.stdout = None
        return code
    except KeyboardInterrupt:
        return 130
    finally:
        sys.unraisablehook = former


def end_again(lost: "sys.UnraisableHookArgs") -> None:
    """Raise what was to end the program a moment later, where Python could not; else as ever.

    It comes between any two steps: while Python closes a generator that nobody needs any more, say,
    and from there nothing is raised. Then a run that was to end would go on.
    """
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)
        return
    import threading

    # Below nohup one is ignored: what ends this program then is another.
    ends = (one for one in _ENDS if signal.getsignal(one) is signal.default_int_handler)
    again = threading.Timer(_MOMENT_S, interrupt, [next(ends, signal.SIGINT)])
    again.daemon = True
    again.start()


def interrupt(number: signal.Signals) -> None:
    """Let the main thread get a signal, also where it waits."""
    if hasattr(signal, "pthread_kill"):
        import threading

        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        import _thread

        _thread.interrupt_main(number)


_MOMENT_S: Final = 0.05
_ENDS: Final = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))


def begin_streams() -> None:
    """See to it that there are streams, and that they take any text."""
    # Python has no stream where there is no file (2>&-), and all else here counts on one.
    for name, how in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, how, encoding="utf-8"))  # noqa: SIM115 - to the end
    # A terminal that cannot show an arrow gets a question mark, not a traceback.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


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
    try:
        module, _, function = COMMANDS[options.command].does.partition(":")
        code: int = getattr(importlib.import_module(module), function)(options)
        return code
    except raised() as error:
        print(f"bot: {error}", file=sys.stderr)
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"bot: expected files that can be read and written, got {error}", file=sys.stderr)
    return 2


def raised() -> tuple[type[Exception], ...]:
    """Return what the layers raise for what was not expected; one not loaded raised nothing.

    To load all of them for their names alone would take half of what a look into the database does.
    """
    names = {
        "dydx_conn": "ConnError", "dydx_panels": "PanelError", "dydx_signals": "SignalError",
        "dydx_strategy": "StrategyError",
    }  # fmt: skip
    return tuple(getattr(sys.modules[of], name) for of, name in names.items() if of in sys.modules)


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


# === Commands ===
# The table of all commands. A new command is one row, in one of these groups.

WATCH: Final = "Watch and replay"
TRADE: Final = "Trade"
BESIDE: Final = "While it runs"
BACK: Final = "Look back"
OWN: Final = "Write your own"
MACHINE: Final = "This machine"
GROUPS: Final = (WATCH, TRADE, BESIDE, BACK, OWN, MACHINE)


class Command(NamedTuple):
    """A command: where and how it stands in the help, what does it, and what can be typed.

    `help` is its one line; `does` is `module:function`; `examples` pairs what is typed with what it
    does; `more` stands at the end of its own help.
    """

    group: str
    help: str
    does: str
    options: tuple[Option, ...]
    description: str
    examples: tuple[tuple[str, str], ...]
    more: str = ""


COMMANDS: Final[dict[str, Command]] = {
    "replay": Command(
        WATCH,
        "play a recording (the default command)",
        "bot.live.commands:replay",
        (
            RECORDING,
            SPEED,
            option(
                "--save-state",
                type=new_file,
                metavar="FILE",
                help="write the day of each market at the end, for the --state of another run",
            ),
            option("--journal", action="store_true", help="write the run down in the database"),
            option(
                "--stay",
                action="store_true",
                help="with --api: go on answering at the end, until Ctrl-C",
            ),
            DATABASE,
            REPORT_HTML,
            *LOG,
            *RUN,
        ),
        "A recording stands in for the network: the same frames always give the same decisions "
        "and the same run hash. On a terminal it is played on the dashboard, in a pipe as fast as"
        " it can be read.",
        (
            ("bot replay", "the bundled recording"),
            ("bot replay account --speed 60", "a minute a second"),
            ("bot replay --profile reckless --no-guard", "the same crash, unguarded"),
            ("bot replay sixty --json", "the report as JSON"),
        ),
    ),
    "panel": Command(
        WATCH,
        "show one panel of a recording or a network",
        "bot.live.show:panel",
        (
            option(
                "panel", nargs="?", default="", help="safety, flight, candles …; none lists all"
            ),
            option(
                "recording",
                nargs="?",
                metavar="recording|network",
                help="quickstart (default) or another recording; testnet, mainnet, local or a "
                "TOML file, here or as --network: live, on paper",
            ),
            option(
                "--market", default="", metavar="TICKER", help="the market to show, where one is"
            ),
            SPEED,
            SECONDS,
            *NETWORK,
            *TICKERS,
            option(
                "--svg", type=new_file, metavar="PATH", help="write the dashboard to an SVG instead"
            ),
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
        "One panel of the dashboard by itself: on a terminal it is drawn again while the "
        "recording plays or the network sends, in a pipe it is printed as it stands at the end.",
        (
            ("bot panel", "which there are, a line each"),
            ("bot panel safety", "how far from liquidation"),
            ("bot panel candles --market ETH-USD --at 300", "after five minutes"),
            ("bot panel flow testnet", "live, on paper"),
            ("bot panel all --svg dashboard.svg", "a picture of all of them"),
        ),
    ),
    "tour": Command(
        WATCH,
        "be shown around the dashboard, in 90 seconds",
        "bot.live.tour:tour",
        (
            RECORDING,
            option("--plain", action="store_true", help="as text, even on a terminal"),
            *CHOICES,
        ),
        "A recording is played and stops where something happens for the first time: a decision, a "
        "fill, a crash, a step of the guard. Each stop shows a panel and what is to be seen, and "
        "goes on by itself or with any key; q leaves. In a pipe it is printed as text.",
        (
            ("bot tour", "the bundled recording, with the reckless profile"),
            ("bot tour --profile steady | less", "as text"),
        ),
    ),
    "account": Command(
        WATCH,
        "print anybody's account, without a key",
        "bot.watch.account:account",
        (WHOSE, *WHERE, CONFIG, JSON),
        "An account as the chain sees it, at a named block and with the funding that is not settled"
        " yet, beside what the web front end and the indexer show, and why they differ. Public data"
        " alone: no key is read, nothing is signed or sent, and mainnet needs no confirmation. "
        "Without a number behind it all subaccounts of the address are printed, isolated ones, too;"
        " without a node what the indexer reports.",
        (
            ("bot account dydx1… --network mainnet", "all subaccounts of an address"),
            ("bot account dydx1…/0 --network testnet --json", "one and its children"),
        ),
        "exit codes: 0 printed, 1 printed without the chain or the indexer, 2 no such account",
    ),
    "watch": Command(
        WATCH,
        "watch anybody's account live, without a key",
        "bot.watch.command:watch",
        (
            WHOSE,
            *WHERE,
            SHOWN_TICKERS,
            SECONDS,
            RECORD,
            option(
                "--recording",
                metavar="FILE",
                help="watch the accounts in a recording of their frames, in place of a network",
            ),
            SPEED,
            CONFIG,
            PROFILE,
            NO_MOUSE,
            NOTIFY,
            *API,
            option("--plain", action="store_true", help="no dashboard, even on a terminal"),
            option("--quiet", action="store_true", help="no line for each change"),
            JSON,
        ),
        "The whole dashboard for real accounts, read-only: how far each is from liquidation, at a "
        "named block, the margin of each position, stress, funding, and the way out as advice. "
        "Public data alone: no key is read, nothing is signed or sent, and mainnet needs no "
        "confirmation. A parent subaccount brings its isolated children. In a pipe a line is "
        "printed when something changes, and a report at the end.",
        (
            ("bot watch dydx1… --network mainnet", "all subaccounts of an address"),
            ("bot watch dydx1…/0 dydx1…/1 --network testnet", "several"),
            ("bot watch dydx1… --network mainnet --seconds 60 --json", "for a program"),
            ("bot watch dydx1… --recording account", "as it was in a recording"),
        ),
        "exit codes: 0 watched, 1 without the chain's own word, 2 no such account",
    ),
    "chaos": Command(
        WATCH,
        "replay a recording with faults, see what survives",
        "bot.checks.chaos:chaos",
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
        "Every seed puts other faults into the same frames: gaps, stalls, wild prices, an account"
        " that answers late. Reported is what was lost, and what did not hold.",
        (
            ("bot chaos quickstart --seeds 100", "a hundred bad days"),
            ("bot chaos --seed 7", "one of them, with its faults"),
            ("bot chaos --seed 7 --only 0,2", "two of its faults alone"),
        ),
    ),
    "paper": Command(
        TRADE,
        "live frames, paper orders, no keys",
        "bot.live.commands:paper",
        (*NETWORK, *TICKERS, SECONDS, RECORD, *PAPER, DATABASE, REPORT_HTML, *LOG, *RUN),
        "Frames come from the network and orders go to a paper account: nothing is signed, and no"
        " key is needed. It runs until Ctrl-C, or for --seconds; the next run goes on with the "
        "account as it was, also after a crash, and pays the funding of the hours between.",
        (
            ("bot paper --network testnet", "until Ctrl-C"),
            ("bot paper --network testnet --tickers BTC-USD --seconds 600", "ten minutes"),
            ("bot paper --network testnet --record mine.jsonl.zst", "bot replay plays it"),
        ),
    ),
    "trade": Command(
        TRADE,
        "live frames, real orders: read bot trade --help first",
        "bot.live.trade:trade",
        (
            *NETWORK,
            *SIGNING,
            *TICKERS,
            SECONDS,
            RECORD,
            option("--flatten", action="store_true", help="close all positions when the run ends"),
            DATABASE,
            REPORT_HTML,
            *LOG,
            *RUN,
        ),
        "Sign and send real orders. Every network but local needs --yes-orders, mainnet "
        "--yes-mainnet as well; at a terminal the words can be typed instead. Ctrl-C cancels the "
        "open orders and reports which positions stay open, unguarded: at a terminal it offers to "
        "close them, --flatten does without a question. A second Ctrl-C ends at once. One bot "
        "trades a subaccount; what somebody else does there halts it, unless --hand-beside. Loss, "
        "drawdown and cool-down count on from one run to the next: what a day may lose is lost "
        "once, however often it is started.",
        (
            ("bot trade --network local", "orders on the venue of this machine"),
            ("bot trade --network testnet --keys my.key --yes-orders", "on the testnet"),
        ),
        """\
from nothing, on a venue of this machine (made-up markets, made-up money):
  uv run --all-packages --group dev tools/venue      # in another terminal
  export DYDX_PRIVATE_KEY=$(openssl rand -hex 32)    # a key that is yours alone
  curl 127.0.0.1:3002/faucet/tokens --json '
    {"address": "'$(bot keys address)'", "amount": 10000}'
  bot trade --network local

on the testnet, with paper money of its faucet, and the key in a file:
  export DYDX_PRIVATE_KEY=$(openssl rand -hex 32)
  bot keys save my.key                               # you choose a passphrase
  curl https://faucet.v4testnet.dydx.exchange/faucet/tokens --json '
    {"address": "'$(bot keys address)'", "subaccountNumber": 0, "amount": 1000}'
  unset DYDX_PRIVATE_KEY
  bot trade --network testnet --keys my.key --yes-orders""",
    ),
    "flatten": Command(
        TRADE,
        "close all positions of a subaccount, and cancel its orders",
        "bot.live.trade:flatten",
        (RUNNING, WHY, CONFIG, *NETWORK, *SIGNING),
        "Where a bot trades the subaccount it closes them and is halted until bot resume; without "
        "one they are closed from here. Where no network is typed, or there is no key, it is the "
        "one bot that runs on this machine. What could not be closed is named, and the exit code "
        "is 1.",
        (
            ("bot flatten", "what the bot that runs here holds"),
            ("bot flatten --network local", "without a bot, with the key"),
        ),
    ),
    "cancel-all": Command(
        TRADE,
        "cancel all open orders of a subaccount",
        "bot.live.trade:withdraw_all",
        (CONFIG, *NETWORK, *SIGNING),
        "Takes all open orders of the subaccount off the books, whoever placed them. Positions "
        "stay: bot flatten closes them.",
        (
            ("bot cancel-all --network local", "with the key of the environment"),
            ("bot cancel-all --network testnet --keys my.key --yes-orders", ""),
        ),
    ),
    "keys": Command(
        TRADE,
        "show whose key it is, or store it in an encrypted file",
        "bot.live.keys:keep_keys",
        (
            option(
                "act",
                choices=("address", "save", "rotate"),
                help="address: print whose key it is; save: encrypt it into a new file; rotate: "
                "give the file of --keys a new passphrase",
            ),
            option("file", nargs="?", help="with save: the new file"),
            CONFIG,
            KEYS,
            option("--address", help="refuse a key of any other address"),
        ),
        "A key is read from where --keys points, never from the command line. In an encrypted "
        "file it is safest; its passphrase is typed, or comes from DYDX_PASSPHRASE, a new one from "
        "DYDX_NEW_PASSPHRASE.",
        (
            ("bot keys address", "whose key the environment holds"),
            ("bot keys save my.key", "encrypt it into a new file"),
            ("bot keys rotate --keys my.key", "another passphrase for that file"),
        ),
    ),
    "halt": Command(
        BESIDE,
        "stop the entries of a running bot; guard and exits go on",
        "bot.live.handle:halt",
        (
            RUNNING,
            WHY,
            option(
                "--pause",
                action="store_true",
                help="pause entries alone, as the key P: it ends with the run, or by bot resume",
            ),
        ),
        "The halt outlives the run: the next run of the same account starts halted, until bot "
        "resume.",
        (
            ("bot halt", "the one bot that runs here"),
            ("bot halt --pause", "until bot resume, but not beyond this run"),
            ('bot halt 4711 --why "a headline"', "one of several, and the reason"),
        ),
    ),
    "resume": Command(
        BESIDE,
        "let a halted bot enter again",
        "bot.live.handle:resume",
        (RUNNING, WHY),
        "Takes back a halt, whoever began it: a person, a strategy that raised, an order of "
        "somebody else. The exit code is 1 if the bot is halted still.",
        (
            ("bot resume", "the one bot that runs here"),
            ('bot resume --why "it was nothing"', "with the reason, which is recorded"),
        ),
    ),
    "reload": Command(
        BESIDE,
        "let a running bot read its settings again",
        "bot.live.handle:reload",
        (RUNNING,),
        "The file is read whole and what is another value takes effect between two frames: limits "
        "(policy) and the settings of strategies. A run watches its file by itself; a hangup "
        "(SIGHUP) does the same where the bot has no terminal. The exit code is 1 if something in "
        "it needs a restart, 2 if something is wrong: then nothing changes.",
        (
            ("bot reload", "the one bot that runs here"),
            ("bot reload 4711", "the one with this process number"),
        ),
    ),
    "token": Command(
        BESIDE,
        "make a token for --api, and print where it is",
        "bot.serve.tokens:token",
        (
            option(
                "kind",
                choices=("read", "trading"),
                help="read: it may look; trading: it may halt, flatten, cancel, too",
            ),
            option(
                "--new",
                action="store_true",
                help="make another one: what had the one before is refused at once",
            ),
            CONFIG,
        ),
        "A run with --api answers whoever shows a token, in the header Authorization: Bearer. Each "
        "is in a file (0600) of its own; a run makes those that are missing as it starts.",
        (
            ("bot token read", "where the token is that may look"),
            ("bot token trading --new", "another one from now on, also for runs that go on"),
        ),
        """\
to look at a run that was started with --api 127.0.0.1:8710, and to halt it:
  token="Authorization: Bearer $(cat $(bot token trading))"
  curl -H "$token" 127.0.0.1:8710/status
  curl -H "$token" -X POST 127.0.0.1:8710/halt""",
    ),
    "status": Command(
        BESIDE,
        "show a running bot; exit code 1 if it may not enter",
        "bot.live.handle:status",
        (RUNNING, option("--json", action="store_true", help="print the status as JSON")),
        "Shows whether it may enter and why not, the equity, the positions with their distance to "
        "liquidation, and what is wrong around the run.",
        (
            ("bot status", "the one bot that runs here"),
            ("bot status --json", "for a program"),
        ),
    ),
    "why": Command(
        BACK,
        "trace an id of the report (D7, V3, F2 …) back to the wire",
        "bot.live.commands:why",
        (
            option(
                "id",
                help="a decision (D7), verdict (V3), change of the gate (G1), order (O3), "
                "fill (F2) or act (A1)",
            ),
            RECORDING,
            *CHOICES,
        ),
        "Plays the recording again, with the same choices as the run, and prints the way from an "
        "id back to the text of the wire that caused it.",
        (
            ("bot why F3", "the third fill of the bundled recording"),
            ("bot why d7 account --profile reckless", "of another run: choose as it did"),
        ),
    ),
    "report": Command(
        BACK,
        "write a page about a run: curves, trades, and why",
        "bot.checks.reported:report",
        (
            RECORDING,
            option(
                "--run",
                type=whole,
                metavar="N",
                help="of a run that the database has, in place of a recording",
            ),
            DATABASE,
            option(
                "--html",
                type=new_file,
                metavar="FILE",
                help="where the page is written (default: report-NAME.html here, a new file)",
            ),
            option(
                "--json",
                nargs="?",
                const="-",
                type=json_file,
                metavar="FILE",
                help="print the same as JSON, or write it to a file, and no page but by --html",
            ),
            option("--schema", action="store_true", help="print the JSON Schema of that"),
            *CHOICES,
        ),
        "One file that opens without a network: equity, drawdown, exposure and distance to "
        "liquidation, candles with fills, a table of trades that sorts, each order and fill with "
        "why, back to the text of the wire, verdicts by reason, costs, latency by stage, quality "
        "of the data, settings with their origins, versions. A recording is played again, with "
        "the same choices as the run; of a run in the database there is what it stores, and what "
        "is missing is named. A page needs bot[web].",
        (
            ("bot report", "the bundled recording"),
            ("bot report sixty --html sixty.html", "another one"),
            ("bot report --run 3", "the third run of the database"),
            ("bot report quickstart --json | jq .trades", "for a program"),
        ),
    ),
    "bundle": Command(
        BACK,
        "put all about one id into a file that replays elsewhere",
        "bot.checks.bundle:bundle",
        (
            option(
                "id",
                help="a decision (D7), verdict (V3), change of the gate (G1), order (O3), fill "
                "(F2) or act (A1); or check: replay a bundle",
            ),
            option(
                "recording",
                nargs="?",
                metavar="recording|file",
                help="quickstart (default) or another recording; with check: the bundle",
            ),
            option("--run", type=whole, metavar="N", help="the recording of a run of the database"),
            option(
                "--database",
                metavar="URL|FILE",
                help="of which database (default: as configured, else the user's own file)",
            ),
            option(
                "--out",
                type=new_file,
                metavar="FILE",
                help="the file to write (default: bundle-ID.tar.zst here)",
            ),
            option("--force", action="store_true", help="replace the file if it is there"),
            option(
                "--after",
                type=positive,
                default=5.0,
                metavar="S",
                help="seconds of frames behind the id (default: 5)",
            ),
            option(
                "--run-code",
                action="store_true",
                help="with check: let the strategy or signals file in it run, which you have read",
            ),
            JSON,
            *CHOICES,
        ),
        "The file has the frames from the first to a little behind the id, the journal, the way "
        "back to the wire, the settings by which the run decided, files of your own that took part,"
        " and all versions. No key is in it: what looks like one ends the making. Choose as the "
        "run did; what was recorded of its settings counts by itself. `tar --zstd -xf` unpacks it.",
        (
            ("bot bundle F3", "the third fill of the bundled recording"),
            ("bot bundle D41 mine.jsonl.zst --out why.tar.zst", "of a run that was recorded"),
            ("bot bundle O3 --run 12", "of run 12 of the database"),
            ("bot bundle check why.tar.zst", "does it come out the same here?"),
        ),
        "exit codes: 0 made, or the same here, 1 it comes out otherwise, 2 no bundle or no such id",
    ),
    "signals": Command(
        OWN,
        "check signals of your own, or the bot's, by what they declare",
        "bot.checks.conformance:signals",
        (
            option("act", choices=("check",), help="check: try all that a signal has to hold"),
            option("file", nargs="?", help="a Python file with signals() (default: the bot's own)"),
        ),
        "Each signal is fed what it declares to read, and more: it has to stay between 0 and 100,"
        " to be the same on the same frames, and to know when it knows nothing.",
        (
            ("bot signals check", "the bot's own"),
            ("bot signals check mine.py", "those of a file: it is run"),
        ),
    ),
    "calibrate": Command(
        OWN,
        "measure what each score was worth on recordings",
        "bot.checks.calibrate:calibrate",
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
            option("--save", type=new_file, metavar="FILE", help="write the isotonic maps as JSON"),
            option("--map", metavar="FILE", help="judge maps that --save wrote, fit none"),
            option(
                "--html",
                type=new_file,
                metavar="FILE",
                help="write plots to a page (needs bot[web])",
            ),
            JSON,
        ),
        "For each signal and horizon: how often the mid went up after a score and how far net of "
        "half the spread, the rank correlation with a 95 % interval, all of it and by the state of "
        "the market, and what an isotonic map that was fitted before a time is worth after it.",
        (
            ("bot calibrate", "the bundled recording"),
            ("bot calibrate mon.jsonl.zst tue.jsonl.zst --horizon 10,60", ""),
            ("bot calibrate mon.jsonl.zst --save maps.json", "then, on another day:"),
            ("bot calibrate tue.jsonl.zst --map maps.json --html tue.html", ""),
        ),
    ),
    "prove": Command(
        OWN,
        "prove that a strategy does not see the future",
        "bot.checks.prove:prove",
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
        (
            ("bot prove rank", "the bundled recording"),
            ("bot prove mine.py sixty --cuts 10", "your own, on another one"),
        ),
        "exit codes: 0 proved, 1 it sees the future, or decided nothing that proves it, 2 it "
        "cannot be run",
    ),
    "strategy": Command(
        OWN,
        "check how a strategy of your own behaves",
        "bot.checks.strategy:strategy",
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
        (
            ("bot strategy check mine.py", "the bundled recording"),
            ("bot strategy check mine.py sixty --profile reckless", ""),
            ("bot prove mine.py", "does it see the future?"),
        ),
        "exit codes: 0 all of it holds, 1 something does not, or was not seen, 2 it cannot be run",
    ),
    "history": Command(
        BACK,
        "list the orders of all runs, or show all about one",
        "bot.history.orders:history",
        (
            option(
                "order",
                nargs="?",
                help="O3, or the beginning of the venue's id: its changes, fills and reasons",
            ),
            *OF_RUNS,
            option("--status", metavar="A,B", help="orders of these statuses alone"),
            *PAGES,
            *FROM_DATABASE,
        ),
        "Orders stand newest first, 50 a page. Times are typed and shown in UTC; a day as --until "
        "is a day in whole. The database is opened read-only, also while a bot writes to it.",
        (
            ("bot history", "the last 50 orders"),
            ("bot history --ticker BTC-USD --status filled --since 2h", "what was filled lately"),
            ("bot history --page 3 --json", "the third page, for a program"),
            ("bot history O3", "all about one order of the newest run that has it"),
        ),
    ),
    "positions": Command(
        BACK,
        "sum up and list positions, or show all about one",
        "bot.history.holdings:show_positions",
        (
            option(
                "position",
                nargs="?",
                help="a ticker (its newest position), or the beginning of an id: fills and funding",
            ),
            *OF_RUNS,
            option("--status", metavar="A,B", help="open, closed, liquidated, left"),
            option("--side", metavar="SIDE", help="long or short"),
            option(
                "--sort",
                default="opened",
                metavar="COLUMN",
                help="opened (default), net, realized, fees …: any column, the largest first",
            ),
            option("--ascending", action="store_true", help="the smallest first"),
            *PAGES,
            *FROM_DATABASE,
        ),
        "First come the sums of all that the filters leave: won and lost, realized, unrealized, "
        "funding, fees. A position belongs to a time if it was open in it. What a run of real "
        "orders left open is a row of its own, left, beside that of the run that goes on with it.",
        (
            ("bot positions", "the newest 50, and the sums of all"),
            ("bot positions --status closed --sort net --ascending", "the worst first"),
            ("bot positions BTC-USD", "the newest of a market: its fills and funding"),
        ),
    ),
    "pnl": Command(
        BACK,
        "sum up what runs have earned, by day, run, market or strategy",
        "bot.history.profits:pnl",
        (
            option(
                "--by",
                default="day",
                metavar="GROUP",
                help="day (default), run, market or strategy",
            ),
            *OF_RUNS,
            *FROM_DATABASE,
        ),
        "Realized and unrealized are before funding and fees, net is after them. What is not "
        "stored by a group is shown as -, and is null for a program.",
        (
            ("bot pnl", "a line a day"),
            ("bot pnl --by market --since 7d", "which markets paid lately"),
            ("bot pnl --by run --csv", "for a spreadsheet"),
        ),
    ),
    "errors": Command(
        BACK,
        "show what went wrong on the wire, and how often",
        "bot.history.failures:show_errors",
        (
            option(
                "--by",
                default="class",
                metavar="GROUP",
                help="class (default), endpoint, run, minute, hour or day",
            ),
            option("--class", metavar="NAME", help="of this class alone"),
            option("--endpoint", metavar="PATH", help="of this endpoint alone"),
            *(each for each in OF_RUNS if each[0] != ("--ticker",)),
            option("--limit", type=rank, default=50, metavar="N", help="lines (default: 50)"),
            *FROM_DATABASE,
        ),
        "Errors are counted by minute, class and endpoint while a run goes on; of each the newest "
        "text is stored.",
        (
            ("bot errors", "the most frequent first"),
            ("bot errors --by hour --since yesterday", "when it was"),
        ),
    ),
    "backup": Command(
        MACHINE,
        "write what outlives a run into one encrypted file",
        "bot.history.backup:backup",
        (
            option("file", metavar="FILE", help="the file to write"),
            option("--force", action="store_true", help="replace the file if it is there"),
            option(
                "--trim",
                metavar="TIME",
                help="then take out of the database the figures of decisions and verdicts before "
                "TIME, such as 30d or 2026-11-30: most of its size; no bot may run",
            ),
            *STORED,
        ),
        "The database, the halts, days and claims of the state directory, and the configuration. A "
        "bot may run meanwhile: the database is copied as it stands at one moment. The passphrase "
        "is typed at a terminal, or is in DYDX_PASSPHRASE; without it the file cannot be read.",
        (
            ("bot backup night.bak", "the user's own database and state"),
            ("bot backup night.bak --database postgresql://me@host/bot", "of a server"),
            ("bot backup november.bak --trim 30d", "a database that has grown large"),
        ),
    ),
    "restore": Command(
        MACHINE,
        "put back what a backup has, all or nothing",
        "bot.history.backup:restore",
        (
            option("file", metavar="FILE", help="a file that bot backup wrote"),
            option("--check", action="store_true", help="check the file, and write nothing"),
            *STORED,
        ),
        "The file is checked whole before anything is written. No bot may run. What stood there "
        "before stays beside it, as NAME.before-TIME. Into a database of PostgreSQL, which is to "
        "be empty, the rows are copied.",
        (
            ("bot restore night.bak", "all of it"),
            ("bot restore night.bak --check", "is it whole, and what is in it?"),
        ),
    ),
    "audit": Command(
        MACHINE,
        "run the trading logic scenario by scenario, with evidence",
        "bot.checks.audit:audit",
        (
            option(
                "--out",
                type=new_file,
                metavar="FILE",
                help="write it to a file as well: .md or .html, with all evidence",
            ),
            option("--verbose", action="store_true", help="print what was seen, and the tests"),
            JSON,
        ),
        "Orders, time in force, stops, fees, profit over partial fills, funding, margin, the guard "
        "in a fall, networks, bad answers: each is run now, by the layers that trade, on small "
        "inputs whose results are known. Nothing leaves this machine; no key is read. Each row "
        "names the tests that prove the same at length.",
        (
            ("bot audit", "a line each"),
            ("bot audit --verbose", "with inputs, results and tests"),
            ("bot audit --out audit.html", "for people, to keep"),
        ),
        "exit codes: 0 all as expected, 1 something is not",
    ),
    "doctor": Command(
        MACHINE,
        "check this machine and a network before a run",
        "bot.checks.doctor:doctor",
        (
            CONFIG,
            *NETWORK,
            KEYS,
            DATABASE,
            *LOG[:2],
            *API,
            option("--offline", action="store_true", help="look at this machine alone"),
            JSON,
        ),
        "The network is received as a run receives it: what works here works in a run. Each check"
        " has its outcome, what was seen, and what to do about it; the exit code is 1 if one "
        "failed. With --keys FILE it is looked at who may read that file; the log, the API and its "
        "tokens, and where notices go are those of the settings, or as typed.",
        (
            ("bot doctor", "what --environment picks: the testnet"),
            ("bot doctor --offline", "this machine alone: disk, clock, database, permissions"),
            ("bot doctor --network local --json", "for a program"),
        ),
    ),
    "config": Command(
        MACHINE,
        "show, check or begin the file of settings",
        "bot.config.command:config",
        (
            option(
                "act",
                choices=("show", "check", "schema", "init", "seal"),
                help="show: what counts, and where it comes from; check: all that is wrong; "
                "schema: JSON Schema for an editor; init: a new file, every setting a comment; "
                "seal: encrypt a secret into the file",
            ),
            option(
                "name",
                nargs="?",
                help="with show: a setting or a section; with check, init and schema: a file; with "
                "seal: the secret",
            ),
            option("--all", action="store_true", help="with show: every setting"),
            CONFIG,
            JSON,
        ),
        "Settings come from what is typed, over variables such as DYDX__POLICY__MAX_LEVERAGE, over "
        "bot.yaml in this directory or the user's configuration directory, over the profile. What "
        "is wrong is reported with file, line and the nearest name, all of it at once.",
        (
            ("bot config init", "writes bot.yaml"),
            ("bot config check", "its exit code is 1 if anything is wrong"),
            ("bot config show policy", "what counts, and where it comes from"),
            ("bot config schema bot.schema.json", "for an editor"),
        ),
    ),
    "notify": Command(
        MACHINE,
        "where notices go, what waits, and a test",
        "bot.notify.command:notify",
        (
            option(
                "act",
                nargs="?",
                default="show",
                choices=("show", "test", "flush"),
                help="show (default): each sink, what it gets, how much waits; test: send one and "
                "report what came of it; flush: send what waits, with what was held back",
            ),
            option("sink", nargs="?", metavar="SINK", help="this one alone"),
            CONFIG,
            JSON,
        ),
        "A live run, and whoever watches accounts, notifies people of what matters: the guard, "
        "a distance to liquidation, the gate, connections, orders, the strategy, a day's summary. "
        "Sinks are addresses of apprise (Telegram, Discord, e-mail, webhooks and a hundred more) "
        "in notify of bot.yaml; one with a token is in a variable (url_env), in a file that only "
        "you may read (url_file), or encrypted: bot config seal notify.urls, a line each as "
        "phone=tgram://TOKEN/CHAT. What no sink takes waits on the disk, over any number of runs.",
        (
            ("bot notify", "where notices go, and what waits"),
            ("bot notify test phone", "its exit code is 1 if it was not taken"),
            ("bot replay --notify", "what the crash of the bundled recording would have sent"),
        ),
    ),
    "licences": Command(
        MACHINE,
        "list what the bot is made of, and under which licences",
        "bot.checks.licences:licences",
        (
            option("name", nargs="?", help="a part: what its licence says in full"),
            JSON,
        ),
        "Python, every distribution that the bot requires and, in an executable, the libraries of "
        "the system that are within.",
        (
            ("bot licences", "a line a part"),
            ("bot licences rich", "the text of one"),
        ),
    ),
    "completion": Command(
        MACHINE,
        "print a script by which your shell completes what you type",
        "bot.completion:completion",
        (option("shell", choices=("bash", "zsh", "tcsh"), help="which shell it is for"),),
        "Completes commands, options, names (of profiles, strategies, signals, panels, networks) "
        "and files. Make it again when the bot is newer.",
        (
            ("bot completion bash", "see below where it goes"),
            ("bot completion zsh > ~/.zfunc/_bot", ""),
        ),
        """\
to install it, add a line to the file that your shell reads as it starts:
  ~/.bashrc   source <(bot completion bash)
  ~/.zshrc    fpath=(~/.zfunc $fpath); autoload -U compinit; compinit
  ~/.tcshrc   bot completion tcsh > ~/.bot.tcsh && source ~/.bot.tcsh
where bot is started by uv:  alias bot='uv run bot'  in the line above it""",
    ),
}


EPILOG: Final = (
    examples_of(
        (
            ("bot", "watch the bundled recording on a dashboard"),
            ("bot | less", "the same, each decision and fill a line"),
            ("bot --profile reckless --no-guard", "the same crash, unguarded"),
            ("bot why F3", "from a fill back to the text of the wire"),
            ("bot paper --network testnet", "live frames, paper orders, no keys"),
            ("bot trade --help", "how to get a key and paper money"),
        )
    )
    + """

bot alone, or with options alone, is bot replay. bot COMMAND --help lists what can be typed, with \
examples.

exit codes: 0 done, 1 a check failed or something went wrong on the way, 2 something you typed was \
not what was expected"""
)


def parser() -> Parser:
    """Describe all commands and their options."""
    top = Parser(
        prog="bot",
        usage="bot [COMMAND] [options]",
        description="A dYdX v4 perpetuals bot: it gives reasons and guards against liquidation.",
        epilog=EPILOG,
        formatter_class=Shape,
    )
    top.add_argument(
        "--version", action=Version, nargs=0, help="print version and commit, and exit"
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, prog="bot")
    for name, row in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=row.help,
            usage=" ".join(["bot", name, "[options]", *words_of(row.options)]),
            description=row.description,
            epilog="\n\n".join(filter(None, [examples_of(row.examples), row.more])),
            formatter_class=Shape,
        )
        for names, how in row.options:
            command.add_argument(*names, **how)
    top.commands = commands
    top.groups = {
        group: [name for name, row in COMMANDS.items() if row.group == group] for group in GROUPS
    }
    return top


if __name__ == "__main__":
    raise SystemExit(main())

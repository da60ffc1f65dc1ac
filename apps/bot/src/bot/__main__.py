"""The command line: what a person types, checked, and handed to the part that does it.

Only this file is imported for `bot --help`; everything else is loaded when it is used, so
that help and a typing error answer at once.
"""

import argparse
import io
import signal
import sys
from collections.abc import Callable, Sequence

EPILOG = """\
examples:
  bot                                 watch the bundled recording on a dashboard
  bot | less                          the same as a plain report, as fast as it can
  bot replay account --json           the report as JSON
  bot replay quickstart --no-guard    what happens without the guard
  bot paper --network testnet         live frames, paper orders, no keys
  bot trade --network local           live frames, real orders, with a key
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
        return COMMANDS[options.command](options)
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

    replay = commands.add_parser("replay", help="play a recording (this is the default)")
    replay.add_argument("recording", nargs="?", default="quickstart", help="a name or a path")
    replay.add_argument("--speed", type=positive, help="times real time (on a terminal: 20)")
    add_run_options(replay)

    paper = commands.add_parser("paper", help="live frames, paper orders, no keys")
    add_network_options(paper)
    paper.add_argument(
        "--markets",
        default="BTC-USD,ETH-USD,SOL-USD",
        help="tickers, by commas (default: BTC-USD,ETH-USD,SOL-USD)",
    )
    paper.add_argument("--seconds", type=positive, help="stop after this long")
    paper.add_argument("--record", metavar="PATH", help="keep the frames as a recording")
    add_run_options(paper)

    trade = commands.add_parser("trade", help="live frames, real orders: read --help first")
    trade.description = (
        "Sign and send orders. Every network but local wants --yes-orders, mainnet --yes-mainnet "
        "as well; at a terminal the words can be typed instead. Ctrl-C takes what is open off "
        "the books and reports; a second one leaves at once."
    )
    add_network_options(trade)
    add_key_options(trade)
    trade.add_argument(
        "--markets",
        default="BTC-USD,ETH-USD,SOL-USD",
        help="tickers, by commas (default: BTC-USD,ETH-USD,SOL-USD)",
    )
    trade.add_argument("--seconds", type=positive, help="stop after this long")
    trade.add_argument("--record", metavar="PATH", help="keep the frames as a recording")
    add_run_options(trade)

    withdraw = commands.add_parser("cancel-all", help="take all orders of a subaccount off")
    add_network_options(withdraw)
    add_key_options(withdraw)

    keys = commands.add_parser("keys", help="whose key it is; an encrypted file for it")
    acts = keys.add_subparsers(dest="act", metavar="ACT", required=True)
    for act, told in KEY_ACTS.items():
        one = acts.add_parser(act, help=told)
        one.add_argument("--keys", default="env", metavar="WHERE", help=WHERE)
        one.add_argument("--address", help="whose key it must be")
        if act == "save":
            one.add_argument("file", help="the file to write; nothing may be there yet")

    why = commands.add_parser("why", help="walk from an id (D7, V3, O3, F2) back to the wire")
    why.add_argument("id", help="the id of a decision, verdict, order or fill")
    why.add_argument("recording", nargs="?", default="quickstart", help="a name or a path")
    add_choices(why)

    panel = commands.add_parser("panel", help="print one panel as it stands at a recording's end")
    panel.add_argument("panel", help="its name; a wrong one lists them")
    panel.add_argument("recording", nargs="?", default="quickstart", help="a name or a path")
    panel.add_argument("--svg", metavar="PATH", help="write the whole dashboard as an SVG instead")
    panel.add_argument("--size", default="120x40", help="columns and rows of the SVG (120x40)")
    panel.add_argument("--at", type=positive, help="stop after this many seconds of the recording")
    add_choices(panel)

    chaos = commands.add_parser("chaos", help="put faults into a recording, see what survives")
    chaos.add_argument("recording", nargs="?", default="quickstart", help="a name or a path")
    chaos.add_argument("--seeds", type=count, default=20, help="run seeds 0 (no fault) to N (20)")
    chaos.add_argument("--seed", type=whole, help="run this one alone")
    chaos.add_argument("--only", metavar="N,N", help="of that seed's faults these alone")
    chaos.add_argument("--seconds", type=positive, help="use so much of the recording")
    chaos.add_argument("--json", action="store_true", help="the report as JSON")
    add_choices(chaos)

    doctor = commands.add_parser("doctor", help="look at the machine and at a network")
    add_network_options(doctor)
    doctor.add_argument("--json", action="store_true", help="the result as JSON")
    return top


def add_network_options(command: argparse.ArgumentParser) -> None:
    """Add where to run: bot.environment says what each environment allows."""
    environments = ("development", "test", "staging", "production")
    command.add_argument(
        "--environment", choices=environments, help="or DYDX_ENVIRONMENT (default: development)"
    )
    command.add_argument(
        "--network",
        metavar="NAME|FILE.toml",
        help="testnet, mainnet, local or a file (default: what the environment picks)",
    )
    command.add_argument("--rest", help="another REST address than the network's own")
    command.add_argument("--ws", help="another socket address than the network's own")
    command.add_argument("--node", help="another node, as host:port, than the network's own")
    command.add_argument(
        "--yes-mainnet", action="store_true", help="confirm mainnet where it is not the rule"
    )


WHERE = "env (default: DYDX_MNEMONIC or DYDX_PRIVATE_KEY), keyring:NAME, or an encrypted file"
KEY_ACTS = {
    "address": "print whose key it is",
    "save": "encrypt it into a new file",
    "rotate": "give the file of --keys a new passphrase",
}


def add_key_options(command: argparse.ArgumentParser) -> None:
    """Add who signs, for which account, and where it is written down."""
    command.add_argument("--keys", default="env", metavar="WHERE", help=WHERE)
    command.add_argument("--address", help="whose account it must be (or DYDX_ADDRESS)")
    command.add_argument("--subaccount", type=int, default=0, metavar="N", help="0 (default) …")
    command.add_argument(
        "--authenticators",
        type=numbers,
        default=(),
        metavar="IDS",
        help="by commas, for a key that --address has permitted",
    )
    command.add_argument("--yes-orders", action="store_true", help="confirm that orders are sent")
    command.add_argument(
        "--audit", default="audit.jsonl", metavar="PATH", help="the audit log (audit.jsonl)"
    )


def numbers(text: str) -> tuple[int, ...]:
    """Read numbers that commas part."""
    return tuple(int(part) for part in text.split(","))


def add_run_options(command: argparse.ArgumentParser) -> None:
    """Add what replay and paper have in common."""
    command.add_argument("--plain", action="store_true", help="no dashboard, also on a terminal")
    command.add_argument("--json", action="store_true", help="the report as JSON, no dashboard")
    add_choices(command)


def add_choices(command: argparse.ArgumentParser) -> None:
    """Add what changes how the bot acts, and so changes the run hash."""
    command.add_argument("--no-guard", action="store_true", help="let liquidation come")
    command.add_argument(
        "--strategy", default="rank", help="rank (default), sniper, or a Python file of your own"
    )
    command.add_argument(
        "--deposit", type=int, help="USDC that paper begins with (10000; a real account: its worth)"
    )


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


class Version(argparse.Action):
    """Print the version; looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and exit."""
        from bot import __version__

        print(f"bot {__version__}")
        parser.exit()


def _replay(options: argparse.Namespace) -> int:
    from bot.commands import replay

    return replay(options)


def _paper(options: argparse.Namespace) -> int:
    from bot.commands import paper

    return paper(options)


def _trade(options: argparse.Namespace) -> int:
    from bot.trade import trade

    return trade(options)


def _withdraw(options: argparse.Namespace) -> int:
    from bot.trade import withdraw_all

    return withdraw_all(options)


def _keys(options: argparse.Namespace) -> int:
    from bot.keys import keep_keys

    return keep_keys(options)


def _why(options: argparse.Namespace) -> int:
    from bot.commands import why

    return why(options)


def _panel(options: argparse.Namespace) -> int:
    from bot.commands import panel

    return panel(options)


def _chaos(options: argparse.Namespace) -> int:
    from bot.chaos import chaos

    return chaos(options)


def _doctor(options: argparse.Namespace) -> int:
    from bot.doctor import doctor

    return doctor(options)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "replay": _replay,
    "paper": _paper,
    "trade": _trade,
    "cancel-all": _withdraw,
    "keys": _keys,
    "why": _why,
    "panel": _panel,
    "chaos": _chaos,
    "doctor": _doctor,
}

if __name__ == "__main__":
    raise SystemExit(main())

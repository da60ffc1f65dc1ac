"""All commands, a row each, and the parser that reads them.

    a group, a module each: COMMANDS ──► GROUPS ──► parser ──► bot --help, what is typed, completion

A new command is one row in one of the groups. Nothing that does anything is imported here: a row
names it, so that help and a typing error answer at once.
"""

from typing import Final

from bot.commands import beside, looking_back, machine, past, trading, watching, writing
from bot.commands.command import Command
from bot.options import EITHER
from bot.parsing import Parser, Shape, Version, examples_of, words_of

GROUPS: Final[dict[str, dict[str, Command]]] = {
    "Watch and replay": watching.COMMANDS,
    "Trade": trading.COMMANDS,
    "While it runs": beside.COMMANDS,
    "Try on the past": past.COMMANDS,
    "Look back": looking_back.COMMANDS,
    "Write your own": writing.COMMANDS,
    "This machine": machine.COMMANDS,
}
COMMANDS: Final[dict[str, Command]] = {
    name: row for rows in GROUPS.values() for name, row in rows.items()
}

EPILOG: Final = (
    examples_of(
        (
            ("bot", "watch the bundled recording on a dashboard"),
            ("bot | less", "the same, each decision and fill a line"),
            ("bot --profile reckless --no-guard", "the same crash, unguarded"),
            ("bot backtest rank reversion", "what two strategies would have done"),
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
        either = command.add_mutually_exclusive_group()
        for names, how in row.options:
            (either if names[0] in EITHER else command).add_argument(*names, **how)
    top.commands = commands
    top.groups = {title: [*rows] for title, rows in GROUPS.items()}
    return top

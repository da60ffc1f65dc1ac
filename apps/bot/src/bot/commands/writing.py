"""Commands that judge a strategy or signals of one's own."""

from typing import Final

from bot.commands.command import Command
from bot.options import (
    ACCOUNT,
    ENGINES,
    FIDELITY,
    JSON,
    RECORDING,
    option,
)
from bot.parsing import (
    count,
    positive,
    whole,
)

COMMANDS: Final[dict[str, Command]] = {
    "signals": Command(
        "check signals of your own, or the bot's, by what they declare",
        "bot.writing.signals:signals",
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
    "prove": Command(
        "prove that a strategy does not see the future",
        "bot.writing.prove:prove",
        (
            option("strategy", help="a strategy by name, or a Python file: it is run"),
            RECORDING,
            option(
                "--cuts", type=count, default=4, metavar="N", help="cut it so often (default: 4)"
            ),
            option("--seed", type=whole, default=0, metavar="N", help="where (default: 0)"),
            option("--seconds", type=positive, metavar="S", help="use the first S seconds alone"),
            FIDELITY,
            *ENGINES,
            JSON,
            *ACCOUNT,
        ),
        "The recording is played whole, and again up to random cuts, where nothing or another day "
        "follows: up to the cut the strategy must decide the same. Reported are also views that it "
        "reads after their frame, files that it opens and what it remembers beside itself.",
        (
            ("bot prove rank", "the bundled recording"),
            ("bot prove mine.py sixty --cuts 10", "your own, on another one"),
            ("bot prove mine.py week.jsonl.zst --fidelity candles", "in memory as a whole"),
        ),
        "exit codes: 0 proved, 1 it sees the future, or decided nothing that proves it, 2 it "
        "cannot be run",
    ),
    "strategy": Command(
        "check how a strategy of your own behaves",
        "bot.writing.strategy:strategy",
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
}

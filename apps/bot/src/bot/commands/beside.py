"""Commands that reach a run from another terminal while it goes on."""

from typing import Final

from bot.commands.command import Command
from bot.options import (
    CONFIG,
    RUNNING,
    WHY,
    option,
)

COMMANDS: Final[dict[str, Command]] = {
    "halt": Command(
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
        "let a running bot read its settings again",
        "bot.live.handle:reload",
        (RUNNING,),
        "The file is read whole and what is another value takes effect between two frames: the "
        "profile, limits (policy), the settings of strategies and log.level. All else, and the "
        "source of a strategy, is read as a run begins. A run watches its file by itself; a hangup "
        "(SIGHUP) does the same where the bot has no terminal. The exit code is 1 if something in "
        "it needs a restart, 2 if something is wrong: then nothing changes, and bot status shows "
        "why.",
        (
            ("bot reload", "the one bot that runs here"),
            ("bot reload 4711", "the one with this process number"),
        ),
    ),
    "token": Command(
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
}

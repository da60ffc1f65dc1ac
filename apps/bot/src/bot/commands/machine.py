"""Commands that look after this machine: what is stored, settings, checks."""

from typing import Final

from bot.commands.command import Command
from bot.options import (
    API,
    CONFIG,
    DATABASE,
    JSON,
    KEYS,
    LOG,
    NETWORK,
    STORED,
    option,
)
from bot.parsing import (
    new_file,
)

COMMANDS: Final[dict[str, Command]] = {
    "backup": Command(
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
        "The database, all of the state directory (halts, days, claims, rows and notices that "
        "wait, logs, tokens of --api) and the configuration; no key file and no recording: copy "
        "those yourself. A bot may run meanwhile: the database is copied as it stands at one "
        "moment. The passphrase is typed at a terminal, or is in DYDX_PASSPHRASE; without it the "
        "file cannot be read.",
        (
            ("bot backup night.bak", "the user's own database and state"),
            ("bot backup night.bak --database postgresql://me@host/bot", "of a server"),
            ("bot backup november.bak --trim 30d", "a database that has grown large"),
        ),
    ),
    "restore": Command(
        "put back what a backup has, all or nothing",
        "bot.history.backup:restore",
        (
            option("file", metavar="FILE", help="a file that bot backup wrote"),
            option("--check", action="store_true", help="check the file, and write nothing"),
            *STORED,
        ),
        "The file is checked whole before anything is written. No bot may run. What stood there "
        "before stays beside it, as NAME.before-TIME; a halt that stands here, the claims and the "
        "tokens of --api stay as they are. Into a database of PostgreSQL, which is to be empty, "
        "the rows are copied.",
        (
            ("bot restore night.bak", "all of it"),
            ("bot restore night.bak --check", "is it whole, and what is in it?"),
        ),
    ),
    "audit": Command(
        "run the trading logic scenario by scenario, with evidence",
        "bot.audit.command:audit",
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
        "check this machine and a network before a run",
        "bot.doctor.command:doctor",
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
        "list what the bot is made of, and under which licences",
        "bot.licences:licences",
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
        "print a script by which your shell completes what you type",
        "bot.completion:completion",
        (option("shell", choices=("bash", "zsh", "fish", "tcsh"), help="which shell it is for"),),
        "Completes commands, options, names (of profiles, strategies, signals, panels, networks) "
        "and files. Make it again when the bot is newer.",
        (("bot completion bash", "the script; see below where it goes"),),
        """\
to install it, make the script once, and add a line to the file that your shell
reads as it starts, but for fish:
  bash  bot completion bash > ~/.bot.bash
        ~/.bashrc: source ~/.bot.bash
  zsh   mkdir -p ~/.zfunc; bot completion zsh > ~/.zfunc/_bot
        ~/.zshrc: fpath=(~/.zfunc $fpath); autoload -U compinit; compinit
  fish  bot completion fish > ~/.config/fish/completions/bot.fish
  tcsh  bot completion tcsh > ~/.bot.tcsh
        ~/.tcshrc: source ~/.bot.tcsh
where bot is started by uv:  alias bot='uv run bot'  in the line before""",
    ),
}

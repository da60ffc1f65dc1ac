"""Every option once, with its help; commands share them (bot.commands).

Only argparse is imported here, and bot.parsing: this is read for every word that is typed.
"""

import argparse
from typing import Any, Final

from bot.parsing import (
    Tickers,
    count,
    listening_address,
    new_file,
    node_address,
    numbers,
    positive,
    rank,
    rest_address,
    socket_address,
    whole,
)

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
        action=Tickers,
        metavar="A,B,…",
        help="tickers to trade (default: BTC-USD,ETH-USD,SOL-USD)",
    ),
    # What it was called before.
    option(
        "--markets",
        dest="tickers",
        action=Tickers,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    ),
)
# Of what is watched, not traded.
SHOWN_TICKERS: Final = option(
    "--tickers",
    action=Tickers,
    metavar="A,B,…",
    help="markets to show beside those of the accounts (default: none, or "
    "BTC-USD,ETH-USD,SOL-USD where nothing is held)",
)
RECORD: Final = option(
    "--record", type=new_file, metavar="PATH", help="write the frames to a new recording"
)

# Where to look: bot.config.environment has what each environment allows.
WHERE: Final = (
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
    option(
        "--rest",
        type=rest_address,
        metavar="URL",
        help="REST address in place of the network's own",
    ),
    option(
        "--ws",
        type=socket_address,
        metavar="URL",
        help="WebSocket address in place of the network's own",
    ),
    option(
        "--node", type=node_address, metavar="HOST:PORT", help="node in place of the network's own"
    ),
)
# Where to run.
NETWORK: Final = (
    *WHERE,
    option("--yes-mainnet", action="store_true", help="confirm that this may run on mainnet"),
)

# Whose account is looked at; nobody signs.
WHOSE: Final = option(
    "whose",
    nargs="+",
    metavar="ADDRESS[/N]",
    help="an address of the chain (dydx1…), and maybe the number of a subaccount of it",
)

# Who signs, for which account, and where it is written down.
KEYS: Final = option(
    "--keys",
    metavar="WHERE",
    help="where the key is: env (default; DYDX_MNEMONIC or DYDX_PRIVATE_KEY), keyring:NAME, or "
    "an encrypted file, which is safest: a variable is taken out of the environment once read, "
    "but the system's record of the process (/proc/PID/environ) keeps it",
)
SIGNING: Final = (
    KEYS,
    option("--address", help="refuse a key of any other address (or DYDX_ADDRESS)"),
    option("--subaccount", type=whole, metavar="N", help="its number (default: 0)"),
    option(
        "--authenticators",
        type=numbers,
        metavar="IDS",
        help="authenticator ids (1,2,…) by which the owner --address has permitted the key",
    ),
    option("--yes-orders", action="store_true", help="confirm that real orders may be sent"),
    option("--audit", metavar="PATH", help="audit log (default: audit.jsonl)"),
)

# Which running bot, and the reason.
RUNNING: Final = option(
    "run",
    nargs="?",
    type=whole,
    help="process number of the bot, needed where several run (the error lists them)",
)
WHY: Final = option("--why", default="", metavar="TEXT", help="the reason, which is recorded")

CONFIG: Final = option(
    "--config",
    metavar="FILE|none",
    help="file of settings (or DYDX_CONFIG; default: bot.yaml here or in the user's configuration "
    "directory; none: no file); what is typed goes over it",
)

PROFILE: Final = option(
    "--profile",
    metavar="NAME",
    help="how much may be risked: steady (default; at most once the equity is entered) or "
    "reckless (up to 4.5 times, which shows what the guard is for)",
)

# What changes how the bot acts, and so changes the run hash.
ACCOUNT: Final = (
    CONFIG,
    PROFILE,
    option(
        "--guard",
        action=argparse.BooleanOptionalAction,
        help="--no-guard switches the guard off, and what closes at a loss: liquidation may come",
    ),
    option(
        "--signals",
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
        type=whole,
        metavar="USDC",
        help="size positions to this much (default: 10000; real orders: the account's equity)",
    ),
    option(
        "--strict",
        action=argparse.BooleanOptionalAction,
        help="end the run where the strategy raises (default: no entries from there on)",
    ),
    option(
        "--hand-beside",
        action=argparse.BooleanOptionalAction,
        help="somebody may trade the account beside the bot: their markets are left to them and "
        "guarded (default: what somebody else does there halts the bot)",
    ),
)
CHOICES: Final = (
    option(
        "--strategy",
        help="rank (default), sniper, reversion, carry, pairs, none (nothing enters; the limits of "
        "the profile close what you trade by hand, too), a .toml or .json file that lists several "
        "for one account, or a Python file of your own: it runs with all rights of this program, "
        "the key among them, so read what you did not write",
    ),
    *ACCOUNT,
)
PAPER: Final = (
    option(
        "--account",
        default="paper",
        metavar="NAME",
        help="which paper account, as several bots on one network need (default: paper)",
    ),
    option(
        "--fresh",
        action="store_true",
        help="begin the account with a deposit (default: it goes on where its last run stopped)",
    ),
)
DATABASE: Final = option(
    "--database",
    metavar="URL|none",
    help="where the run is written down: a file or postgresql+psycopg://USER@HOST/NAME; none for "
    "nowhere (default: dydx-bot/bot.db in your data directory)",
)
REPORT_HTML: Final = option(
    "--report-html",
    type=new_file,
    metavar="FILE",
    help="write a page about the run when it ends (needs bot[web]); bot report has more",
)
LOG: Final = (
    option(
        "--log",
        metavar="FILE|none",
        help="log of what happens, a line of JSON each (default: of paper and trade a file in the "
        "state directory, which bot status names; of a replay none)",
    ),
    option(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="what is logged: debug has decisions too (default: info)",
    ),
    option(
        "--log-human",
        action=argparse.BooleanOptionalAction,
        help="print the log on stderr too, for people, where there is no dashboard",
    ),
)
# Where a run is reached over HTTP.
API: Final = (
    option(
        "--api",
        type=listening_address,
        metavar="HOST:PORT",
        help="answer over HTTP while it runs, as 127.0.0.1:8710 (needs bot[api]; beyond loopback "
        "TLS; who calls shows a token: bot token --help)",
    ),
    option("--api-certificate", metavar="FILE", help="certificate (PEM) for TLS"),
    option("--api-key", metavar="FILE", help="private key (PEM) of that certificate"),
)
NO_MOUSE: Final = option(
    "--no-mouse",
    action="store_true",
    help="leave the mouse to the terminal: it selects text, as everywhere else",
)
NOTIFY: Final = option(
    "--notify",
    action=argparse.BooleanOptionalAction,
    help="send notices to the sinks of bot.yaml (default: a live run does, a replay does not)",
)
RUN: Final = (
    option("--plain", action="store_true", help="no dashboard, even on a terminal"),
    NO_MOUSE,
    option(
        "--no-bell",
        action="store_true",
        help="no bell when the guard acts, trading is halted or a position is liquidated",
    ),
    option(
        "--quiet",
        action="store_true",
        help="no line for each decision, verdict and fill (they are printed where no dashboard is)",
    ),
    option(
        "--report",
        action="store_true",
        help="print the long report at the end: counts, samples with their ids, limits, speed",
    ),
    option("--json", action="store_true", help="print the report as JSON, nothing else"),
    NOTIFY,
    option(
        "--detectors",
        action=argparse.BooleanOptionalAction,
        help="look for market makers, arbitrage and which price leads; nothing is decided by it",
    ),
    *API,
    *CHOICES,
)

# Where many runs are worked on (bot.engines).
FIDELITY: Final = option(
    "--fidelity",
    choices=("trades", "candles"),
    help="of a history play candles alone, a fraction of the frames, or insist on trades (default: "
    "the best that it has)",
)
ENGINE: Final = option(
    "--engine",
    default="local",
    metavar="NAME",
    help="local (default: processes of this machine), local:4, here (no other process), or "
    "dask://HOST:PORT (bot sweep scheduler)",
)
WORKERS: Final = option(
    "--workers", type=count, metavar="N", help="processes (default: one for each processor)"
)
CERTS: Final = option(
    "--certs",
    metavar="DIR",
    help="certificates of bot sweep certs: mutual TLS, which a scheduler beyond loopback needs",
)
# Of what is as well done in one process.
ENGINES: Final = (
    option(
        "--engine",
        default="here",
        metavar="NAME",
        help="here (default: this process), local (one for each processor), local:4, or "
        "dask://HOST:PORT (bot sweep --help)",
    ),
    WORKERS,
    CERTS,
)

# What is read from the database, and how it is printed.
STORED: Final = (
    option(
        "--database",
        metavar="URL|FILE",
        help="the database (default: as configured, else the user's own file)",
    ),
    CONFIG,
)
FROM_DATABASE: Final = (
    *STORED,
    option("--csv", action="store_true", help="print the rows as CSV"),
    option("--json", action="store_true", help="print the rows as JSON"),
)
EITHER: Final = ("--csv", "--json")  # one of them
OF_RUNS: Final = (
    option("--ticker", metavar="A,B", help="of these tickers alone"),
    option("--since", metavar="TIME", help="from 2026-11-30, 2026-11-30T07:15, 2h ago, yesterday"),
    option("--until", metavar="TIME", help="before that time"),
    option("--run", type=whole, metavar="N", help="of this run alone"),
    option("--account", metavar="OWNER/N", help="of this account alone; its beginning will do"),
    option("--network", metavar="NAME", help="of this network alone"),
)
PAGES: Final = (
    option("--page", type=rank, default=1, metavar="N", help="which page (default: 1, the newest)"),
    option("--limit", type=rank, default=50, metavar="N", help="rows a page (default: 50)"),
)

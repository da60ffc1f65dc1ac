"""Commands that watch and replay: a recording, a panel, an account that is anybody's."""

from typing import Final

from bot.commands.command import Command
from bot.options import (
    API,
    CHOICES,
    CONFIG,
    DATABASE,
    ENGINES,
    FIDELITY,
    JSON,
    LOG,
    NETWORK,
    NO_MOUSE,
    NOTIFY,
    PROFILE,
    RECORD,
    RECORDING,
    REPORT_HTML,
    RUN,
    SECONDS,
    SHOWN_TICKERS,
    SPEED,
    TICKERS,
    WHERE,
    WHOSE,
    option,
)
from bot.parsing import (
    count,
    new_file,
    positive,
    whole,
)

COMMANDS: Final[dict[str, Command]] = {
    "replay": Command(
        "play a recording (the default command)",
        "bot.live.commands:replay",
        (
            RECORDING,
            FIDELITY,
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
        "replay a recording with faults, see what survives",
        "bot.chaos.command:chaos",
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
            *ENGINES,
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
}

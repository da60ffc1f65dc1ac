"""Commands that look back on what runs did: reports, and what the database has."""

from typing import Final

from bot.commands.command import Command
from bot.options import (
    CHOICES,
    DATABASE,
    FIDELITY,
    FROM_DATABASE,
    JSON,
    OF_RUNS,
    PAGES,
    RECORDING,
    option,
)
from bot.parsing import (
    json_file,
    new_file,
    positive,
    rank,
    whole,
)

COMMANDS: Final[dict[str, Command]] = {
    "why": Command(
        "trace an id of the report (D7, V3, F2 …) back to the wire",
        "bot.live.commands:why",
        (
            option(
                "id",
                help="a decision (D7), verdict (V3), change of the gate (G1), order (O3), "
                "fill (F2) or act (A1)",
            ),
            RECORDING,
            FIDELITY,
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
        "write a page about a run: curves, trades, and why",
        "bot.live.report:report",
        (
            RECORDING,
            FIDELITY,
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
        "put all about one id into a file that replays elsewhere",
        "bot.bundle.command:bundle",
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
    "history": Command(
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
}

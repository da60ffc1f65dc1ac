"""Commands that look back on what runs did: reports, and what the database has."""

from typing import Final

from bot.commands.command import Command
from bot.options import (
    CHOICES,
    CONFIG,
    DATABASE,
    FROM_DATABASE,
    JSON,
    OF_RUNS,
    PAGES,
    RECORDING,
    WHERE,
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
    "fetch": Command(
        "fetch the past of markets from the venue, as a recording",
        "bot.archive.fetch:fetch",
        (
            option("market", nargs="+", metavar="MARKET", help="a market such as BTC-USD"),
            option(
                "--from",
                dest="since",
                default="7d",
                metavar="TIME",
                help="since when: 30d, 12h, or a date or time such as 2026-11-20 or "
                "2026-11-20T06:00+01:00, of UTC where it names no zone (default: 7d)",
            ),
            option(
                "--to",
                dest="until",
                metavar="TIME",
                help="until when; a day as the end is a day in whole (default: the last whole "
                "minute of the newest block)",
            ),
            option(
                "--kinds",
                default="trades,candles,funding",
                metavar="A,B,…",
                help="what is fetched: trades, candles, funding (default: all three)",
            ),
            option(
                "--window",
                default="6h",
                metavar="HOURS",
                help="how much is requested, and can be lost, at a time (default: 6h)",
            ),
            option(
                "--out",
                type=new_file,
                metavar="FILE",
                help="the recording to write (default: by its markets and times, in recordings/ "
                "here or above, else in your data directory; either way found by its name)",
            ),
            option(
                "--extend",
                action="store_true",
                help="go on from the end of a recording that was finished",
            ),
            CONFIG,
            *(each for each in WHERE if each[0] not in (("--ws",), ("--node",))),
        ),
        "Walks the indexer's lists of trades, candles of a minute and funding rates within its "
        "rate limits, and writes each page as it came: an ordinary recording, which replay, "
        "backtest and all else plays, each row at its own time. It may be stopped, or killed: the "
        "same command goes on. At the end all is verified: no minute missing, no trade twice, the "
        "trades of each minute make its candle, a funding rate for each hour; what the venue no "
        "longer has is listed.",
        (
            ("bot fetch BTC-USD ETH-USD --from 30d", "a month of two markets"),
            ("bot fetch SOL-USD --from 2026-11-01 --to 2026-11-20", "whole days, of UTC"),
            ("bot fetch BTC-USD --from 1w --kinds candles,funding", "much smaller"),
        ),
    ),
    "import": Command(
        "turn trades, candles or books that you have into a recording",
        "bot.archive.imported:import_",
        (
            option(
                "file",
                nargs="+",
                metavar="FILE",
                help="CSV, JSON lines or Parquet (needs bot[parquet]), also .gz or .zst: trades, "
                "candles, or captures of tardis.dev or cryptofeed",
            ),
            option(
                "--market",
                metavar="MARKET[=SYMBOL]",
                help="whose rows these are, such as BTC-USD; with =SYMBOL: what the file calls it "
                "(default: as the file says)",
            ),
            option(
                "--map",
                metavar="A=COLUMN,…",
                help="which column is which, such as time=ts,price=px,size=qty,side=s; of candles "
                "time,open,high,low,close,volume (default: by common names; columns without "
                "names are 1, 2, …)",
            ),
            option(
                "--time-unit",
                choices=("s", "ms", "us", "ns"),
                help="of times that are numbers (default: by their size)",
            ),
            option(
                "--timezone",
                metavar="ZONE",
                help="of times that name none, such as UTC or Europe/Berlin",
            ),
            option(
                "--markets",
                metavar="FILE|RECORDING",
                help="parameters of the markets: an answer of /v4/perpetualMarkets (.json), or a "
                "recording (default: the bundled sixty)",
            ),
            option(
                "--out",
                type=new_file,
                metavar="FILE",
                help="the recording to write (default: by the first file's name, in recordings/ "
                "here or above, else in your data directory; either way found by its name)",
            ),
            option("--force", action="store_true", help="replace the recording if it is there"),
        ),
        "Trades and candles become a history, which replays and backtests like one that was "
        "fetched, each row at its own time; a candle's time is that of its beginning. Captures of "
        "order books become frames as the venue sends them. What is refused, sorted, guessed or "
        "missing is counted and named: rows twice, of the future, of other markets, with prices "
        "far from those beside them, files that were cut off. A file is sorted in memory: give it "
        "a month at a time. The recording says that it is not the venue's own.",
        (
            ("bot import btc.csv --market BTC-USD", "columns by common names"),
            (
                "bot import t.parquet --market ETH-USD --map time=ts,price=px,size=qty,side=s",
                "columns of your own",
            ),
            ("bot import candles.csv --market SOL-USD --timezone UTC", "times without a zone"),
            ("bot import book.csv.gz trades.csv.gz --out day.jsonl.zst", "a capture of tardis.dev"),
        ),
        "exit codes: 0 all of it is in the recording, 1 something was refused or is missing, 2 "
        "nothing was written",
    ),
    "recordings": Command(
        "list the recordings that are here, and verify them",
        "bot.archive.recordings:recordings",
        (
            option("recording", nargs="*", help="names or paths (default: all that are here)"),
            option(
                "--verify",
                action="store_true",
                help="read all of them: 1 where anything is missing, damaged or wrong",
            ),
            JSON,
        ),
        "Recordings in recordings/, here and above, in this program and in your data directory: "
        "what each has of which markets, from when to when, how large it is, and the first digits "
        "of the sum over its lines.",
        (
            ("bot recordings", "a line for each"),
            ("bot recordings --verify btc-7d", "minute by minute"),
            ("bot recordings --json | jq .rows", "for a program"),
        ),
    ),
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

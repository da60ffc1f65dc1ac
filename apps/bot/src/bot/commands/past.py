"""Commands about the past: fetch it, list it, and try strategies and settings on it."""

from typing import Final

from bot.commands.command import Command
from bot.options import (
    CERTS,
    CHOICES,
    CONFIG,
    DATABASE,
    ENGINE,
    ENGINES,
    FIDELITY,
    JSON,
    RECORDING,
    WHERE,
    WORKERS,
    option,
)
from bot.parsing import (
    count,
    duration,
    horizons,
    new_file,
    positive,
    share,
    table_file,
    whole,
)

WALK: Final = (
    option(
        "--train",
        type=duration,
        metavar="TIME",
        help="walk forward: choose the best of so much time (30d), again and again",
    ),
    option(
        "--test",
        type=duration,
        metavar="TIME",
        help="judge each choice by so much time behind it (7d)",
    ),
    option(
        "--warmup",
        type=duration,
        default="2d",
        metavar="TIME",
        help="how much before a span is played of a history, to warm up (default: 2d)",
    ),
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
    "backtest": Command(
        "see what strategies would have done on recordings",
        "bot.backtest.command:backtest",
        (
            option(
                "words",
                nargs="*",
                metavar="STRATEGY|RECORDING",
                help="strategies (rank, mine.py, a .toml of several), profiles and files of "
                "settings (.yaml), each a run of its own, on recordings (default: quickstart)",
            ),
            option(
                "--from",
                dest="since",
                metavar="TIME",
                help="enter from 2026-11-20 or 2026-11-20T06:00 on; what is before it warms up",
            ),
            option("--to", dest="until", metavar="TIME", help="end before that time"),
            FIDELITY,
            *WALK,
            option(
                "--objective",
                metavar="NAME",
                help="by what --train chooses: profit (default), sharpe, sortino, calmar, "
                "max_drawdown …",
            ),
            option(
                "--compare",
                nargs=2,
                metavar="STRATEGY|RECORDING|HASH",
                help="two strategies on one recording, two recordings, or two runs of the "
                "database: the first decision that differs, and why; 1 if any does",
            ),
            option("--journal", action="store_true", help="write each run down in the database"),
            DATABASE,
            option(
                "--trades",
                type=table_file,
                metavar="FILE",
                help="write each trade to a table, .csv or .parquet (which needs bot[parquet])",
            ),
            option(
                "--report-html",
                type=new_file,
                metavar="FILE",
                help="write a page about each run, with its months (needs bot[web]); of several "
                "FILE-STRATEGY-RECORDING",
            ),
            option("--json", action="store_true", help="print all of it as JSON"),
            option("--schema", action="store_true", help="print the JSON Schema of that"),
            *CHOICES,
        ),
        "Each strategy plays each recording as fast as it can be read, with a fresh paper account. "
        "Reported are trades, profit and costs, drawdown, Sharpe, Sortino, Calmar, exposure, "
        "turnover, slippage, the guard and why trades ended, by market and in total, with the "
        "conventions they follow, and how far fills can be believed. Each figure has an interval "
        "where the span is long enough, and the result is held against buying and holding, and "
        "against random strategies of the same turnover: what chance explains is called luck. "
        "What does not exist is a dash. A file of code is run, with all rights of this program.",
        (
            ("bot backtest", "the bundled recording, as configured"),
            ("bot backtest rank reversion quickstart sixty", "two strategies on two recordings"),
            ("bot backtest mine.py week.jsonl.zst --from 2026-11-20 --trades t.csv", ""),
            ("bot backtest rank chosen.yaml steady reckless sixty", "settings and profiles, too"),
            ("bot backtest rank week.jsonl.zst --fidelity candles", "fast and coarse"),
            ("bot backtest rank reversion year.jsonl.zst --train 30d --test 7d", "walk forward"),
            ("bot backtest --compare steady reckless sixty", "where do they part, and why?"),
        ),
        "exit codes: 0 done, 1 a strategy raised, 2 it cannot be run, 130 ended by Ctrl-C: what "
        "was played until then is reported",
    ),
    "sweep": Command(
        "try many settings on recordings, on one machine or many",
        "bot.sweep.command:sweep",
        (
            option(
                "grid",
                metavar="GRID.yaml|certs|scheduler|worker",
                help="what to try of which setting; or certs DIR, scheduler [HOST:PORT], worker "
                "[HOST:PORT]: they prepare other machines",
            ),
            option(
                "data",
                nargs="*",
                metavar="RECORDING",
                help="names or paths of recordings; each variant is played on all of them",
            ),
            ENGINE,
            WORKERS,
            CERTS,
            option(
                "--sampler",
                choices=("grid", "random", "tpe", "cmaes", "nsga2"),
                default="grid",
                help="all combinations (default), or --trials of them: drawn, or by what was "
                "learnt from those before (Optuna)",
            ),
            option(
                "--trials", type=count, metavar="N", help="how many a sampler tries (default: 100)"
            ),
            option(
                "--seed", type=whole, default=0, metavar="N", help="of the sampler (default: 0)"
            ),
            option(
                "--objective",
                default="profit",
                metavar="A,B,…",
                help="what is best: profit (default), sharpe, sortino, calmar, max_drawdown …; "
                "of several the front is shown",
            ),
            option(
                "--out",
                metavar="DIR",
                help="folder of the results (default: sweep-GRID here); one that has some goes on",
            ),
            option("--seconds", type=positive, metavar="S", help="use the first S seconds alone"),
            *WALK,
            FIDELITY,
            option(
                "--span",
                metavar="TIME",
                help="cut recordings into spans of 1d, 12h, 30m …, each with an account of its "
                "own; what comes before one only warms up",
            ),
            DATABASE,
            JSON,
            *CHOICES,
        ),
        "GRID.yaml has settings of strategies, signals, policy and paper by their paths, each with "
        "values ([1, 1.5, 2]) or a span ({low: 0.5, high: 3, step: 0.5}, log: true); the other "
        "settings are those of bot.yaml and of what is typed. A recording is played once for many "
        "variants. Each result is written down as it comes, by the hashes of recording, settings "
        "and code: a sweep that was ended goes on, and 1 and N workers find the same. Left in the "
        "folder: results.jsonl, results.parquet, front.html, and best.yaml with the best settings.",
        (
            ("bot sweep grid.yaml quickstart", "all combinations, on all processors"),
            ("bot sweep grid.yaml week.jsonl.zst --fidelity candles", "first all of them coarsely"),
            ("bot sweep grid.yaml year.jsonl.zst --train 30d --test 7d", "walk forward, all here"),
            ("bot sweep grid.yaml week.jsonl.zst --sampler tpe --trials 200", "by what is learnt"),
            ("bot paper --config sweep-grid/best.yaml", "trade the chosen settings on paper"),
            ("bot sweep certs certs", "several machines: once, and copy the folder to each"),
            ("bot sweep scheduler 10.0.0.1:8786 --certs certs", "on one of them"),
            ("bot sweep worker 10.0.0.1:8786 --certs certs", "on each, with the recordings"),
            ("bot sweep grid.yaml week.jsonl.zst --engine dask://10.0.0.1:8786 --certs certs", ""),
        ),
        "Whoever reaches a scheduler runs code on its workers, as whoever started them: it listens "
        "on loopback alone, beyond it with certificates (certs). A worker of another version of "
        "the bot is refused. Workers look for a recording at its path, then by its name where they "
        "were started.\n\nexit codes: 0 done, 1 results are missing, 2 it cannot be run",
    ),
    "calibrate": Command(
        "measure what each score was worth on recordings",
        "bot.calibrate.command:calibrate",
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
            option(
                "--book",
                action="store_true",
                help="fit instead how to model a book where a history has none, with its error",
            ),
            option("--out", type=new_file, metavar="FILE", help="write what --book fits as JSON"),
            *ENGINES,
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
            ("bot calibrate --book mon.jsonl.zst --out book.json", "for paper.book_model"),
        ),
    ),
    "fidelity": Command(
        "compare a run on books with one on trades or candles alone",
        "bot.backtest.fidelity:fidelity",
        (
            RECORDING,
            option("--seconds", type=positive, metavar="S", help="use the first S seconds alone"),
            JSON,
            *CHOICES,
        ),
        "One strategy on one span, three times: on the books that were recorded, on the trades "
        "alone, and on candles of a minute made of them. What differs in fills and profit is what "
        "a backtest on a history without books is worth.",
        (
            ("bot fidelity", "the bundled recording"),
            ("bot fidelity mine.jsonl.zst --strategy mine.py", "your own"),
        ),
    ),
}

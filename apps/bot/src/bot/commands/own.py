"""Commands that write a strategy or signals of one's own, and judge them."""

from typing import Final

from bot.commands.command import Command
from bot.options import (
    ACCOUNT,
    CERTS,
    CHOICES,
    DATABASE,
    ENGINE,
    ENGINES,
    FIDELITY,
    JSON,
    RECORDING,
    WORKERS,
    option,
)
from bot.parsing import (
    count,
    horizons,
    new_file,
    positive,
    share,
    table_file,
    whole,
)

COMMANDS: Final[dict[str, Command]] = {
    "signals": Command(
        "check signals of your own, or the bot's, by what they declare",
        "bot.checks.conformance:signals",
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
        "conventions they follow, and how far fills can be believed. What does not exist is a "
        "dash. A file of code is run, with all rights of this program.",
        (
            ("bot backtest", "the bundled recording, as configured"),
            ("bot backtest rank reversion quickstart sixty", "two strategies on two recordings"),
            ("bot backtest mine.py week.jsonl.zst --from 2026-11-20 --trades t.csv", ""),
            ("bot backtest rank chosen.yaml steady reckless sixty", "settings and profiles, too"),
            ("bot backtest rank week.jsonl.zst --fidelity candles", "fast and coarse"),
            ("bot backtest --compare steady reckless sixty", "where do they part, and why?"),
        ),
        "exit codes: 0 done, 1 a strategy raised, 2 it cannot be run, 130 ended by Ctrl-C: what "
        "was played until then is reported",
    ),
    "calibrate": Command(
        "measure what each score was worth on recordings",
        "bot.checks.calibrate:calibrate",
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
        "bot.checks.fidelity:fidelity",
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
            FIDELITY,
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
            ("bot sweep grid.yaml week.jsonl.zst --sampler tpe --trials 200", "by what is learnt"),
            ("bot sweep grid.yaml week.jsonl.zst --fidelity candles", "first all of them coarsely"),
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
    "prove": Command(
        "prove that a strategy does not see the future",
        "bot.checks.prove:prove",
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
        "bot.checks.strategy:strategy",
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

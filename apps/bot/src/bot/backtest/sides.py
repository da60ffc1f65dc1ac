"""Which two runs `bot backtest --compare A B` means, played again or as the database has them.

    two strategies, or sets of settings, on a recording ──┐
    two recordings, by one strategy ──────────────────────┼─► Side, Side (bot.backtest.compare)
    two runs of the database, by hash or number ──────────┘

What is played is played again as often as it is looked at: no run is held in memory.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from dydx_conn import AccountUpdate, Recording, find_recording
from dydx_strategy import Decision

from bot.backtest.compare import KINDS, Side
from bot.backtest.playing import Source, Span, job_of
from bot.backtest.words import Variant, WordError, classified, variants_of
from bot.progress import Progress
from bot.run.composition import Bot
from bot.run.journal import JournalEntry
from bot.run.kinds import kinds_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

_STORED: Final = re.compile(r"[0-9a-f]{6,64}|\d{1,5}")
_Take = Callable[[JournalEntry], bool]


def sides_of(arguments: argparse.Namespace, span: Span) -> tuple[Side, Side]:
    """Return the two runs that are meant; `WordError` where two kinds of run are."""
    names = arguments.compare
    if names[0] == names[1]:
        raise WordError(f"expected two runs to compare, got {names[0]} twice")
    if all(_STORED.fullmatch(name) and not Path(name).exists() for name in names):
        return _stored_sides(arguments)
    one, other = (classified([name]) for name in names)
    rest = classified(arguments.words)
    if one.recordings and other.recordings:
        variants = variants_of(rest.variants, arguments)
        if rest.recordings or len(variants) > 1:
            raise WordError("expected two recordings and at most one strategy, got more")
        pairs = [(variants[0], path) for path in (*one.recordings, *other.recordings)]
    elif one.variants and other.variants:
        if rest.variants or len(rest.recordings) > 1:
            raise WordError("expected two strategies and at most one recording, got more")
        path = (rest.recordings or ["quickstart"])[0]
        pairs = [(variant, path) for variant in variants_of(names, arguments)]
    else:
        what = "expected two strategies, two recordings, or two runs by their hashes"
        raise WordError(f"{what}, got {names[0]} and {names[1]}")
    kinds = kinds_of(arguments.fidelity)
    first, second = (_played(variant, path, span, kinds) for variant, path in pairs)
    return first, second


# === Played ===


def _played(variant: Variant, name: str, span: Span, kinds: Sequence[str] | None) -> Side:
    recording = Recording(find_recording(name), kinds)
    source = Source(recording, span)
    job = job_of(variant, recording)
    label, options = f"{job.label} on {source.name}", job.options

    def walk(take: _Take) -> str:
        bot, goes_on = Bot(options), [True]

        def follow(entry: JournalEntry | AccountUpdate) -> None:
            if isinstance(entry, JournalEntry) and entry.kind in KINDS and goes_on[0]:
                goes_on[0] = take(entry)

        bot.journal.listeners.append(follow)
        with Progress(label, source.seconds) as progress:
            ended = source.play(bot, [source.counting(progress)], lambda: goes_on[0])
        if not ended and goes_on[0]:
            raise KeyboardInterrupt  # half a run is compared with nothing
        return bot.journal.hash

    settings = {} if options.config is None else options.config.plain()
    return Side(label, recording.path, settings, walk, kinds)


# === Stored ===
# Of a run that was written down its decisions, verdicts and fills, frame by frame.


def _stored_sides(arguments: argparse.Namespace) -> tuple[Side, Side]:
    from bot.history.reading import chosen_url, reading

    url = chosen_url(arguments)
    with reading(url) as connection:
        first, second = (_stored(connection, name, url) for name in arguments.compare)
    return first, second


def _stored(connection: "Connection", name: str, url: str) -> Side:
    from bot.history.reading import reading, run_words

    run = _run_of(connection, name)

    def walk(take: _Take) -> str:
        with reading(url) as again:
            for entry in _entries(again, run["id"]):
                if not take(entry):
                    break
        return str(run["run_hash"] or "")

    recording = Path(run["recording"]) if run["recording"] else None
    return Side(run_words(run), recording, _flat(run["config"] or {}), walk)


def _run_of(connection: "Connection", name: str) -> "RowMapping":
    from bot.database.tables import runs
    from bot.history.reading import require_run

    if len(name) < 6:
        return require_run(connection, int(name))
    from sqlalchemy import select

    wanted = select(runs).where(runs.c.run_hash.startswith(name)).order_by(runs.c.id)
    found = connection.execute(wanted).mappings().all()
    if not found:
        what = f"expected the hash of a run of the database, got {name}"
        raise WordError(f"{what}, which none has: bot backtest --journal writes runs down")
    if len({run["run_hash"] for run in found}) > 1:
        raise WordError(f"expected the hash of one run, got {name}, which {len(found)} begin with")
    return found[-1]  # the same run again is the same


def _entries(connection: "Connection", run: int) -> Iterator[JournalEntry]:
    """Yield what a run wrote down, in the order of frames: decisions, then what became of them."""
    from bot.database.tables import decisions, fills, verdicts

    rows: list[tuple[int, int, int, JournalEntry]] = []
    for rank, (table, kind) in enumerate(
        ((fills, "fill"), (decisions, "decision"), (verdicts, ""))
    ):
        found = connection.execute(table.select().where(table.c.run_id == run)).mappings()
        for row in found:
            entry = _entry(row, kind or row["kind"])
            rows.append((entry.seq, rank, int(entry.id[1:] or 0), entry))
    yield from (entry for *_, entry in sorted(rows, key=lambda row: row[:3]))


def _entry(row: "RowMapping", kind: str) -> JournalEntry:
    value: Any = None
    if kind == "decision" and row["data"] is not None:  # old ones may have been taken out
        value = msgspec.convert(row["data"], Decision)
    return JournalEntry(
        id=row["id"], kind=kind, seq=row["seq"], at=row["at"], ticker=row["ticker"],
        words=row["words"], value=value,
    )  # fmt: skip


def _flat(values: Any, path: str = "") -> dict[str, Any]:
    """Return settings by their paths."""
    if not isinstance(values, dict):
        return {path: values}
    return {
        name: value
        for key, below in values.items()
        for name, value in _flat(below, f"{path}.{key}" if path else key).items()
    }

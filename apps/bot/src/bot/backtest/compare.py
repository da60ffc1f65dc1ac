"""`bot backtest --compare A B`: the first decision in which two runs differ, and why.

    two Sides (bot.backtest.sides) ─► Trail of each ─► Compared ─► words, JSON

Decisions are compared by all that they want and why, not by the figures they rest on: these are
shown. What differs before any decision, as a verdict or a fill, is named, too.
"""

import hashlib
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from dydx_strategy import Decision

from bot.config.loaded import deciding
from bot.outlet import one_line
from bot.report.why import WIRE, details, frames_of, wire_head
from bot.run.journal import VERDICTS, JournalEntry
from bot.run.kinds import Kinds
from bot.times import clock

SCHEMA: Final = "bot.compare/1"
KINDS: Final = ("decision", *VERDICTS, "gate", "fill", "act")
_DIGEST: Final = 12  # bytes of an entry's sum
_WIDTH: Final = 100
_MOST: Final = 8  # settings that are named
_encode = msgspec.json.Encoder(order="deterministic").encode


# === Values ===


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of a run's journal, with the figures it rests on in words, and its frame."""

    id: str
    kind: str
    seq: int
    at: int
    ticker: str
    words: str
    details: tuple[str, ...] = ()


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Where two runs part: what each wrote there, None of one that wrote nothing more."""

    first: Entry | None
    second: Entry | None

    @property
    def seq(self) -> int:
        """Return the frame of the earlier one."""
        return min(entry.seq for entry in (self.first, self.second) if entry is not None)


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two runs; its hash is "" while it has not ended."""

    name: str
    run_hash: str


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs beside each other; `settings` has by path what is not the same, as JSON.

    `entry` is the first difference of any kind, `decision` that of decisions alone; None is none.
    """

    schema: str = SCHEMA
    runs: tuple[Ran, Ran]
    equal: bool
    settings: dict[str, tuple[Any, Any]]
    entry: Difference | None
    decision: Difference | None
    why: tuple[str, ...] = ()
    frame: tuple[str, ...] = ()


class Trail(msgspec.Struct):
    """A sum of each entry of a run, in order: of all, and of decisions alone."""

    label: str
    run_hash: str = ""
    all: list[bytes] = msgspec.field(default_factory=list)
    decisions: list[bytes] = msgspec.field(default_factory=list)


class Side(NamedTuple):
    """One of two runs: `walk` goes through its entries again, as long as they are wanted."""

    label: str
    recording: Path | None
    settings: dict[str, Any]
    walk: Callable[[Callable[[JournalEntry], bool]], str]
    kinds: Kinds = None


# === Comparison ===


def compared(first: Side, second: Side) -> Compared:
    """Return where two runs differ."""
    one, other = _trail(first), _trail(second)
    entry = _parting(first, second, one.all, other.all, lambda _: True)
    decision = _parting(
        first, second, one.decisions, other.decisions, lambda entry: entry.kind == "decision"
    )
    found = decision or entry
    return Compared(
        runs=(
            Ran(name=first.label, run_hash=one.run_hash),
            Ran(name=second.label, run_hash=other.run_hash),
        ),
        equal=one.run_hash == other.run_hash, settings=_settings(first, second),
        entry=entry, decision=decision,
        why=() if found is None else tuple(_why(first, second, found)),
        frame=() if found is None else tuple(_frames(first, second, found)),
    )  # fmt: skip


def _trail(side: Side) -> Trail:
    trail = Trail(side.label)

    def take(entry: JournalEntry) -> bool:
        digest = _sum_of(entry)
        trail.all.append(digest)
        if entry.kind == "decision":
            trail.decisions.append(digest)
        return True

    trail.run_hash = side.walk(take)
    return trail


def _sum_of(entry: JournalEntry) -> bytes:
    """Return a sum over what an entry says: of a decision not over the figures it rests on."""
    value: Any = entry.words
    if isinstance(entry.value, Decision):
        value = msgspec.structs.replace(entry.value, scores=(), id="")
    text = _encode([entry.kind, entry.seq, entry.at, entry.ticker, value])
    return hashlib.sha256(text).digest()[:_DIGEST]


def _parting(
    first: Side, second: Side, one: Sequence[bytes], other: Sequence[bytes],
    counts: Callable[[JournalEntry], bool],
) -> Difference | None:  # fmt: skip
    """Return the first entries of two runs that are not the same; None if all are."""
    pairs = zip(one, other, strict=False)
    number = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
    if number == len(one) == len(other):
        return None
    found = (
        _entry(side, number, counts) if number < len(sums) else None
        for side, sums in ((first, one), (second, other))
    )
    return Difference(first=next(found), second=next(found))


def _entry(side: Side, number: int, counts: Callable[[JournalEntry], bool]) -> Entry:
    found: list[JournalEntry] = []
    seen = [0]

    def take(entry: JournalEntry) -> bool:
        if counts(entry):
            if seen[0] == number:
                found.append(entry)
            seen[0] += 1
        return not found

    side.walk(take)
    entry = found[0]
    return Entry(
        id=entry.id, kind=entry.kind, seq=entry.seq, at=entry.at, ticker=entry.ticker,
        words=one_line(entry.words), details=tuple(map(one_line, details(entry.value))),
    )  # fmt: skip


def _settings(first: Side, second: Side) -> dict[str, tuple[Any, Any]]:
    """Return by its path each setting by which a run decides that is not the same."""
    one, other = first.settings, second.settings
    paths = deciding([*dict.fromkeys((*one, *other))])
    return {
        path: (one.get(path), other.get(path)) for path in paths if one.get(path) != other.get(path)
    }


def _why(first: Side, second: Side, found: Difference) -> Iterator[str]:
    """Yield why two runs part there, as far as their entries and settings show it."""
    one, other = found.first, found.second
    if first.recording != second.recording:
        yield "they were played on two recordings: frame by frame these are not the same"
        return
    for mine, theirs, side in ((one, other, second), (other, one, first)):
        if mine is not None and (theirs is None or theirs.seq > mine.seq):
            what = "decided nothing" if mine.kind == "decision" else "did nothing of the kind"
            yield f"{side.label} {what} at frame #{mine.seq}"
    if one is None or other is None or one.seq != other.seq or one.ticker != other.ticker:
        return
    for entry, besides, side in ((one, other, first), (other, one, second)):
        for line in entry.details:
            if line.startswith("score") and line not in besides.details:
                yield f"only {side.label} rests on {line}"
    if one.details == other.details and one.kind == "decision":
        yield "both rest on the same scores: what differs are settings, or what is held"


def _frames(first: Side, second: Side, found: Difference) -> Iterator[str]:
    """Yield the text of the frame at which two runs part: of each its own, on two recordings."""
    pairs = [(first, found.seq)]
    if first.recording != second.recording:
        pairs = [
            (side, entry.seq)
            for side, entry in ((first, found.first), (second, found.second))
            if entry is not None
        ]
    for side, seq in pairs:
        if (path := side.recording) is None or not path.exists():
            continue
        for frame in frames_of(path, [seq], side.kinds):
            text = frame.text if len(frame.text) <= WIRE else f"{frame.text[:WIRE]}…"
            yield from (one_line(wire_head(frame)), one_line(text))


# === Words ===


def compared_lines(found: Compared) -> list[str]:
    """Put in words where two runs differ, and why."""
    lines = [
        f"{title:<13}{words}"
        for run in found.runs
        for title, words in (
            ("run", run.name),
            ("run hash", run.run_hash or "not known: it has not ended"),
        )
    ]
    lines += _setting_lines(found.settings)
    if found.equal:
        return [*lines, "same         both runs decided and did the same, for the same reasons"]
    if found.entry is None:
        what = "decisions, verdicts and fills are the same: figures that they rest on are not"
        return [*lines, f"same         {what}"]
    if found.decision is None:
        lines.append("decisions    all are the same; what became of them is not")
    elif found.entry.seq < found.decision.seq:
        lines += ["", "before the first decision that differs:", *_blocks(found, found.entry)]
    lines += ["", f"first {_what(found)} that differs:"]
    lines += _blocks(found, found.decision or found.entry)
    lines += [f"why          {line}" for line in found.why]
    return [*lines, *([""] if found.frame else []), *_broken(found.frame)]


def _what(found: Compared) -> str:
    return "entry" if found.decision is None else "decision"


def _blocks(found: Compared, parting: Difference) -> Iterator[str]:
    for run, entry in zip(found.runs, (parting.first, parting.second), strict=True):
        if entry is None:
            yield f"{run.name}: nothing more"
            continue
        about = " · ".join(filter(None, (entry.kind, entry.ticker, clock(entry.at))))
        yield f"{run.name}: {entry.id} {about}, frame #{entry.seq}"
        for line in (entry.words, *(f"  {line}" for line in entry.details)):
            yield from textwrap.wrap(
                line, _WIDTH, initial_indent="     ", subsequent_indent="       "
            )


def _setting_lines(settings: dict[str, tuple[Any, Any]]) -> list[str]:
    words = [f"{path} {_short(one)} → {_short(other)}" for path, (one, other) in settings.items()]
    more = [f"and {len(words) - _MOST} more"] if len(words) > _MOST else []
    return [f"settings     {line}" for line in (*words[:_MOST], *more)]


def _short(value: Any) -> str:
    text = _encode(value).decode()
    return text if len(text) <= 40 else f"{text[:40]}…"


def _broken(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(line, _WIDTH, subsequent_indent="  ")

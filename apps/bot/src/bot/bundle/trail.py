"""What a run wrote in its journal, entry by entry, each with a sum over all of its figures.

    journal ──► Trail ──► rows ──► first_difference of two runs, in words

The run hash shows that two runs differ; the sums show at which entry they began to.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from dydx_conn import AccountUpdate, Frame

from bot.run.journal import Journal, JournalEntry
from bot.times import clock

_DIGITS: Final = 16  # of a sum: these are compared one by one, and made by nobody's ill will
_WORDS: Final = 160
encode = msgspec.json.Encoder(order="deterministic").encode


class Row(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One entry of a journal; `sum` is over all of it, `value` and `held` are there if shown."""

    id: str
    kind: str
    seq: int
    at: int
    sum: str
    ticker: str = ""
    words: str = ""
    parent: str = ""
    value: Any = None
    held: Any = None


class Trail:
    """Takes down each entry of a run's journal, from its making on."""

    def __init__(self, journal: Journal) -> None:
        self.entries: list[JournalEntry] = []
        self.sums: list[str] = []
        journal.listeners.append(self._note)

    def _note(self, entry: JournalEntry | AccountUpdate) -> None:
        if isinstance(entry, JournalEntry):
            if isinstance(act := entry.value, Frame):  # of which the rest is how it was carried
                deed = {"who": act.link, "what": act.type, "why": act.text}
                entry = msgspec.structs.replace(entry, value=deed)
            self.entries.append(entry)
            self.sums.append(hashlib.sha256(encode(entry)).hexdigest()[:_DIGITS])

    def rows(self, shown: Callable[[JournalEntry], bool] = lambda _: False) -> list[Row]:
        """Return a row for each entry, with all its figures where it is to be shown whole."""
        return [
            Row(
                id=entry.id, kind=entry.kind, seq=entry.seq, at=entry.at, sum=digest,
                ticker=entry.ticker, words=entry.words, parent=entry.parent,
                value=entry.value if (whole := shown(entry)) else None,
                held=entry.held if whole and entry.held else None,
            )
            for entry, digest in zip(self.entries, self.sums, strict=True)
        ]  # fmt: skip


def row_words(row: Row) -> str:
    """Put in words which entry it is."""
    words = row.words if len(row.words) <= _WORDS else f"{row.words[:_WORDS]}…"
    about = " ".join(filter(None, (row.id, row.kind, row.ticker)))
    return f"{about} at frame #{row.seq}, {clock(row.at)[11:]}: {words}"


def first_difference(expected: Sequence[Row], got: Sequence[Row]) -> str:
    """Put in words where two runs differ first; "" if they do not."""
    for was, now in zip(expected, got, strict=False):
        if was.sum != now.sum:
            if row_words(was) != row_words(now):
                return f"expected {row_words(was)}; got {row_words(now)}"
            return (
                f"{row_words(was)}: the words are the same, the figures are not{_which(was, now)}"
            )
    if len(expected) > len(got):
        return f"expected {row_words(expected[len(got)])}; got nothing more"
    if len(got) > len(expected):
        return f"expected nothing more; got {row_words(got[len(expected)])}"
    return ""


def _which(was: Row, now: Row) -> str:
    """Name the first figures that differ, where they were written down."""
    if was.value is None:
        return ""
    then, today = (msgspec.json.decode(encode(row.value)) for row in (was, now))
    paths = sorted(_differing(then, today))
    return f": {', '.join(paths[:3])}" if paths else ""


def _differing(was: Any, now: Any, path: str = "") -> list[str]:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        names = [*dict.fromkeys((*was, *now))]
        pairs = [(name, was.get(name), now.get(name)) for name in names]
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = [(str(n), *both) for n, both in enumerate(zip(was, now, strict=True))]
    else:
        return [] if was == now else [f"{path or 'it'} {_short(was)}, got {_short(now)}"]
    return [
        words
        for name, one, other in pairs
        for words in _differing(one, other, f"{path}.{name}" if path else str(name))
    ]


def _short(value: Any) -> str:
    text = encode(value).decode()
    return text if len(text) <= 40 else f"{text[:40]}…"

"""What was found of a recording of history, in words and for a program.

Verdict ──► summary, lines_of ──► a person
└─► as_rows ──► a program
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from dydx_conn import Recording, RecordingError

from bot.archive.rows import HOUR_NS, MINUTE_NS, Page, page_of
from bot.archive.verify import ABSENCES, FINDINGS, Finding, Verdict, verify
from bot.progress import Progress
from bot.times import iso, utc

_SPANS: Final = 3  # of one kind that a line names
_ROWS: Final = {"trades": "trades", "candles": "candles", "funding": "funding rates"}


def verified(recording: Recording) -> Verdict:
    """Verify a recording of history, with a bar: all of it is read."""
    history = recording.header.history
    if history is None:
        raise RecordingError(
            f"expected a recording of history, got {recording.path}, of a live link"
        )
    newest = None if recording.stated_sum() else recording.newest("http")
    page = None if newest is None else page_of(newest)
    if page is not None:  # of what was not finished, what there is so far
        reached = page.window_ns + history.window_s * 1_000_000_000
        history = msgspec.structs.replace(history, until_ns=min(reached, history.until_ns))
    span = history.until_ns - history.since_ns
    with Progress("verified, hours", span // HOUR_NS) as progress:

        def shown(page: Page) -> Page:
            progress.at((page.window_ns - history.since_ns) // HOUR_NS)
            return page

        verdict = verify(history, map(shown, filter(None, map(page_of, recording.pages()))))
    return msgspec.structs.replace(verdict, damage=tuple(recording.damage))


def summary(path: Path, verdict: Verdict, requests: int | None = None) -> str:
    """Return one line: what is in a file, and whether it is whole."""
    rows = ", ".join(f"{count:,} {_ROWS[kind]}" for kind, count in verdict.rows.items())
    sent = "" if requests is None else f" by {requests:,} requests"
    return f"{path}: {rows}{sent}, {size(path)}; {quality(verdict)}"


def quality(verdict: Verdict) -> str:
    """Return in a few words whether it is whole."""
    if verdict.is_whole:
        return "whole"
    if not verdict.findings:
        return "damaged, as listed below"
    found = sum(each.count for each in verdict.findings)  # integers
    return f"not whole: {found:,} found wrong or missing, listed below"


def lines_of(verdict: Verdict) -> Iterator[str]:
    """Yield a line for each damage, and for each kind of thing that was found of a market."""
    yield from (f"  {words}" for words in verdict.damage)
    for what, words in {**FINDINGS, **ABSENCES}.items():
        by_ticker: dict[str, list[Finding]] = defaultdict(list)
        for each in (*verdict.findings, *verdict.absences):
            if each.what == what:
                by_ticker[each.ticker].append(each)
        for ticker, found in by_ticker.items():
            count = sum(each.count for each in found)  # integers
            first = next((f" ({each.first})" for each in found if each.first), "")
            name = f"{ticker}: " if ticker else ""
            yield f"  {name}{words}: {count:,}{first}, {_spans(found)}"


def _spans(found: Sequence[Finding]) -> str:
    shown = "; ".join(_span(each) for each in found[:_SPANS])
    return shown + (f"; and {len(found) - _SPANS} more times" if len(found) > _SPANS else "")


def _span(each: Finding) -> str:
    if each.until_ns - each.since_ns <= MINUTE_NS:
        return utc(each.since_ns)
    return f"{utc(each.since_ns)} to {utc(each.until_ns)}"


def as_rows(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return findings for a program, each with its words."""
    words = {**FINDINGS, **ABSENCES}
    return [
        {
            "what": each.what, "words": words[each.what], "ticker": each.ticker or None,
            "since": iso(each.since_ns), "until": iso(each.until_ns), "count": each.count,
            "first": each.first or None,
        }
        for each in found
    ]  # fmt: skip


def size(path: Path) -> str:
    """Return the size of a file in words."""
    count = path.stat().st_size
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"

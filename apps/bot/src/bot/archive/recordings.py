"""`bot recordings`: what is here to be played, and whether it is whole.

    folders ──► Here: header, first seconds, end of the file ──► lines, JSON
                  └─► --verify: all of it

To list it reads a little of each file, however large that is.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from dydx_conn import ConnError, Frame, Recording, find_recording, recording_folders

from bot.archive.rows import page_of
from bot.archive.spans import SUFFIX
from bot.archive.verdict import as_rows, lines_of, quality, size, verified
from bot.archive.verify import Verdict
from bot.history.listing import as_json, labelled
from bot.outlet import as_lines
from bot.progress import Progress
from bot.times import iso, utc

SCHEMA: Final = "recordings/1"
_BEGINNING_NS: Final = 10_000_000_000  # in which a live recording has subscribed
_MOST: Final = 5_000  # frames of it
_NAMED: Final = 4
# Of a sum: all 64 digits look like a key, and would not be printed.
_SHORT: Final = 8
_DIGITS: Final = 32
# What a recording of a live link has, by the channels that it subscribed to.
_HAS: Final = {
    "v4_orderbook": "books", "v4_trades": "trades", "v4_candles": "candles",
    "v4_subaccounts": "account", "v4_parent_subaccounts": "account",
}  # fmt: skip
_OF_MARKETS: Final = ("v4_orderbook", "v4_trades", "v4_candles")


class Here(msgspec.Struct, frozen=True, kw_only=True):
    """A recording: what its header, its beginning and its end show; `fault` if it is none."""

    name: str
    path: Path
    markets: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    since_ns: int | None = None
    until_ns: int | None = None
    network: str = ""
    source: str = ""
    state: str = ""
    sum: str = ""
    history: bool = False
    fault: str = ""


def recordings(arguments: argparse.Namespace) -> int:
    """Print what is here; 1 where one is not whole if verified, 2 if what was named is none."""
    chosen = [find_recording(name) for name in arguments.recording]
    found = [here(path) for path in chosen or _all()]
    verdicts: dict[Path, tuple[bool, list[str], dict[str, Any]]] = {}
    if arguments.verify:
        verdicts = {each.path: _verified(each) for each in found if not each.fault}
    if arguments.json:
        rows = [_as_row(each, verdicts.get(each.path)) for each in found]
        print(as_json(SCHEMA, {"rows": rows}))
    else:
        print(as_lines(_lines(found, verdicts)))
    faults = any(each.fault for each in found)
    if faults and chosen and not arguments.verify:
        return 2
    return int(any(not whole for whole, _, _ in verdicts.values()) or (arguments.verify and faults))


def _all() -> list[Path]:
    """Return each recording by its name, the nearest of those that have the same."""
    paths = [path for folder in recording_folders() for path in sorted(folder.glob(f"*{SUFFIX}"))]
    return [*{path.name: path for path in reversed(paths)}.values()][::-1]


def here(path: Path) -> Here:
    """Look at a recording without reading all of it."""
    name = path.name.removesuffix(SUFFIX)
    try:
        recording = Recording(path)
    except (ConnError, OSError) as error:
        return Here(name=name, path=path, fault=str(error))
    header, stated = recording.header, recording.stated_sum()
    looked = _of_history(recording) if header.history else _of_link(recording)
    is_part = name.endswith(".part")
    state = "ended" if stated else "under way" if is_part else "cut off"
    return msgspec.structs.replace(
        looked, network=header.network, source=header.source, state=state, sum=stated
    )


def _of_history(recording: Recording) -> Here:
    history = recording.header.history
    assert history is not None  # noqa: S101 - of the caller
    newest = recording.newest("http")
    page = None if newest is None else page_of(newest)
    reached = history.since_ns if page is None else page.window_ns + history.window_s * 10**9
    return Here(
        name=recording.path.name.removesuffix(SUFFIX), path=recording.path,
        markets=history.markets, kinds=history.kinds, since_ns=history.since_ns,
        until_ns=min(reached, history.until_ns), history=True,
    )  # fmt: skip


def _of_link(recording: Recording) -> Here:
    frames = [*_beginning(recording)]
    newest = recording.newest()
    pairs = [(frame.channel, frame.id) for frame in frames if frame.kind == "ws"]
    markets = dict.fromkeys(id_.partition("/")[0] for name, id_ in pairs if name in _OF_MARKETS)
    kinds = {_HAS[name] for name, _ in pairs if name in _HAS}
    return Here(
        name=recording.path.name.removesuffix(SUFFIX), path=recording.path,
        markets=tuple(sorted(filter(None, markets))),
        kinds=tuple(kind for kind in dict.fromkeys(_HAS.values()) if kind in kinds),
        since_ns=frames[0].at if frames else None,
        until_ns=newest.at if newest else None,
    )  # fmt: skip


def _beginning(recording: Recording) -> Iterator[Frame]:
    first: int | None = None
    for frame in islice(recording.pages(), _MOST):
        first = frame.at if first is None else first
        if frame.at - first > _BEGINNING_NS:
            return
        yield frame


# === Verifying ===


def _verified(each: Here) -> tuple[bool, list[str], dict[str, Any]]:
    """Return whether a recording is whole, what is wrong in lines, and the same for a program."""
    recording = Recording(each.path)
    if each.history:
        verdict = verified(recording)
        return verdict.is_whole, [quality(verdict), *lines_of(verdict)], _verdict_row(verdict)
    lost = Counter[str]()
    count = 0
    with Progress(f"{each.name}, MB", each.path.stat().st_size / 1e6):
        for frame in recording.pages():
            count += 1
            if frame.kind == "gap" and frame.text not in recording.damage:
                lost[frame.text] += 1
    lines = [f"  {words}" for words in recording.damage]
    lines += [f"  {number:,} gaps: {why}" for why, number in lost.most_common()]
    state = "whole" if not lines else "not whole, as listed below"
    row = {"frames": count, "damage": recording.damage, "gaps": dict(lost)}
    return not lines, [f"{state}, {count:,} frames", *lines], row


def _verdict_row(verdict: Verdict) -> dict[str, Any]:
    return {
        "rows": verdict.rows, "pages": verdict.pages, "damage": list(verdict.damage),
        "findings": as_rows(verdict.findings), "absences": as_rows(verdict.absences),
    }  # fmt: skip


# === Printed ===


def _lines(found: Sequence[Here], verdicts: dict[Path, Any]) -> Iterator[str]:
    if not found:
        yield "no recordings here so far: bot fetch and bot paper --record make some"
    for each in found:
        if each.fault:
            yield from labelled(each.name, f" {each.fault}")
            continue
        _, (state, *more), _ = verdicts.get(each.path, (True, [each.state], {}))
        yield from labelled(f"{each.name} ", f"{_markets(each)}: {', '.join(each.kinds)}")
        sum_ = each.sum[:_SHORT] or "no sum"
        words = f"{_span(each)}, {each.network}, {size(each.path)}, {state}, {sum_}"
        yield from labelled("", words)
        yield from more


def _markets(each: Here) -> str:
    if len(each.markets) <= _NAMED:
        return ", ".join(each.markets) or "no market"
    return f"{len(each.markets)} markets"


def _span(each: Here) -> str:
    if each.since_ns is None or each.until_ns is None:
        return "no time"
    return f"{utc(each.since_ns)[:16]}, {_length(each.until_ns - each.since_ns)}"


def _length(ns: int) -> str:
    """Return how long something is, by its two largest units.

    >>> _length(90_000_000_000), _length(604_800_000_000_000)
    ('1m 30s', '7d')
    """
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    left = ns // 1_000_000_000
    parts = []
    for name, seconds in units:
        count, left = divmod(left, seconds)
        parts.append(f"{count}{name}" if count else "")
    first = next((place for place, part in enumerate(parts) if part), 3)
    return " ".join(filter(None, parts[first : first + 2])) or "0s"


def _as_row(each: Here, verdict: tuple[bool, list[str], dict[str, Any]] | None) -> dict[str, Any]:
    if each.fault:
        return {"name": each.name, "path": str(each.path), "fault": each.fault}
    row = {
        "name": each.name, "path": str(each.path), "network": each.network, "source": each.source,
        "history": each.history, "markets": list(each.markets), "kinds": list(each.kinds),
        "since": iso(each.since_ns), "until": iso(each.until_ns),
        "bytes": each.path.stat().st_size, "state": each.state, "sum": each.sum[:_DIGITS] or None,
    }  # fmt: skip
    return row if verdict is None else {**row, "whole": verdict[0], "verified": verdict[2]}

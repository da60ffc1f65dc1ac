"""From anything the bot did, back to the wire text that caused it.

    fill ◄── order ◄── verdict ◄── decision ◄── scores ◄── frames

The run is deterministic, so nothing needs to be stored: it is replayed, and the frames that the
chain names are read from the recording.
"""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from dydx_conn import Frame, Recording
from dydx_panels import worded, wording
from dydx_risk import PositionFigures, percent_text

from bot.run.journal import JournalEntry
from bot.run.kinds import Kinds
from bot.times import clock

_WIDTH = 100
WIRE: Final = 600  # letters that are shown of a frame
_IN = " " * 5


class Journaled(Protocol):
    """What has entries by their ids: a journal, or what was copied of one."""

    def find(self, id_: str, /) -> JournalEntry | None:
        """Return an entry by its id, in any case."""


def chain(
    entry: JournalEntry,
    journal: Journaled,
    recording: Path | None,
    width: int = _WIDTH,
    kinds: Kinds = None,
) -> list[str]:
    """Return lines from an entry to its causes, the wire's own text last.

    Texts are broken at `width`, for whoever does not break them. Without a recording (a live run)
    the frames are named by number alone. Of history the run played `kinds`.
    """
    links = links_of(entry, journal)
    lines: list[str] = []
    for link in links:
        about = " · ".join(
            part for part in (wording(link.kind), link.ticker, clock(link.at)) if part
        )
        lines += [f"{link.id:<4} {about}"]
        lines += textwrap.wrap(link.words, width, initial_indent=_IN, subsequent_indent=_IN)
        for line in (*details(link.value), *map(held_words, link.held)):
            lines += textwrap.wrap(
                line, width, initial_indent=f"{_IN}  ", subsequent_indent=f"{_IN}    "
            )
        lines.append("")
    seqs = frames_behind(links)
    lines.append(f"wire: frames {', '.join(f'#{seq}' for seq in seqs)}")
    if recording is not None:
        for frame in frames_of(recording, seqs, kinds):
            lines += _wire_lines(frame, width)
    return lines


def links_of(entry: JournalEntry, journal: Journaled) -> list[JournalEntry]:
    """Return the way from an entry to its first cause, itself first."""
    links, link = list[JournalEntry](), entry
    while True:
        links.append(link)
        parent = journal.find(link.parent) if link.parent else None
        if parent is None:
            return links
        link = parent


def details(value: Any) -> list[str]:
    """Show the figures a value was computed from, one a line."""
    lines = [
        f"score {score.signal} {score.value:.1f} from "
        + ", ".join(worded(*pair) for pair in score.inputs)
        + f" (frames #{score.first} to #{score.seq})"
        for score in getattr(value, "scores", ())
    ]
    for name in ("before", "after"):
        margin = getattr(value, name, None)
        if margin is not None:
            lines.append(f"margin {name}: {_margin_words(margin)}")
    lines += [f"{wording(name)} {text}" for name, text in getattr(value, "figures", ())]
    return lines


def held_words(row: PositionFigures) -> str:
    """Put in one line a position that a verdict was judged by, and at which price."""
    side = "long" if row.size > 0 else "short"
    what = f"held {row.ticker} {side} {abs(row.size).normalize():f}"
    if row.oracle_price is None or row.net_notional is None:
        return f"{what}: {'; '.join(row.unknown) or 'unknown'}"
    money = {
        "notional": abs(row.net_notional),
        "initial_margin": row.initial_margin,
        "maintenance_margin": row.maintenance_margin,
    }
    words = [f"{wording(term)} {(quote or 0) / 1e6:,.2f}" for term, quote in money.items()]
    price = row.liquidation_price
    end = "no price of it liquidates" if price is None else f"liquidated at {price:,.6g}"
    return (
        f"{what} at oracle price {row.oracle_price:f} (frame #{row.seq}): "
        f"{', '.join(words)} USDC; {end}, {percent_text(row.distance)} away"
    )


def _margin_words(margin: Any) -> str:
    terms = ("net_collateral", "initial_margin", "free_collateral", "maintenance_margin")
    return ", ".join(f"{wording(term)} {getattr(margin, term) / 1e6:,.6f} USDC" for term in terms)


def frames_behind(links: Sequence[JournalEntry]) -> list[int]:
    """Return the numbers of the frames that entries were made of, in order."""
    seqs = {link.seq for link in links}
    for link in links:
        scores = getattr(link.value, "scores", ())
        seqs |= {score.seq for score in scores} | {score.first for score in scores}
        seqs |= {row.seq for row in link.held if row.seq}
    return sorted(seqs)


def frames_of(recording: Path, seqs: Iterable[int], kinds: Kinds = None) -> Iterable[Frame]:
    """Yield the frames of some numbers, read in one pass that ends at the last of them.

    Of history the numbers are those of a run that played `kinds`: others count other frames.
    """
    wanted = set(seqs)
    for frame in Recording(recording, kinds):
        if frame.seq in wanted:
            wanted.discard(frame.seq)
            yield frame
            if not wanted:
                return


def _wire_lines(frame: Frame, width: int) -> list[str]:
    text = frame.text if len(frame.text) <= WIRE else f"{frame.text[:WIRE]}… ({len(frame.text)})"
    lines = textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="  ")
    return [wire_head(frame), *lines]


def wire_head(frame: Frame) -> str:
    """Name a frame in one line."""
    named = (frame.link, frame.type) if frame.kind == "act" else (frame.channel, frame.id)
    return f"#{frame.seq} {frame.kind} {' '.join(named)} at {clock(frame.at)}"


def frame_lines(
    seq: int, shown: Iterable[Frame], recording: Path | None, kinds: Kinds = None
) -> list[str]:
    """Return the whole text of a frame, of those shown or of the recording; nothing without."""
    frame = next((frame for frame in shown if frame.seq == seq), None)
    if frame is None and recording is not None:
        frame = next(iter(frames_of(recording, [seq], kinds)), None)
    if frame is None:
        return []
    named = " ".join(filter(None, (frame.link, frame.kind, frame.channel, frame.id)))
    head = f"#{frame.seq} {named} at {clock(frame.at)}, {len(frame.text):,} letters:"
    return [head, frame.text or "it has no text"]

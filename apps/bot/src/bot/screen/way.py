"""The way of one frame, as a panel shows it: what was noted of it, beside what each layer takes.

    run.way.Way ─► way_of ─► dydx_panels.WayPart

It is the newest frame that led to a decision, until the next one does; before the first, the newest
of all. Looking begins it (`composition.trace`), and nothing is noted once nobody looks.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dydx_panels import LayerRow, WayChange, WayPart, WayStage

from bot.run.composition import Bot, trace
from bot.run.journal import VERDICTS, JournalEntry
from bot.run.way import STAGES, Journey, Way

_TEXT: Final = 2_000  # letters of the wire, and of what was decoded of it
# What an entry of the journal was made by.
_MADE_BY: Final[Mapping[str, str]] = {
    "decision": "strategy", **dict.fromkeys((*VERDICTS, "gate", "act"), "verdict"),
    "order": "order", "fill": "account",
}  # fmt: skip


def way_of(bot: Bot, *, whole: bool = True) -> WayPart:
    """Return the way of a frame, and what the layers take; the first look begins to note both.

    What the layers take alone, not `whole`, costs the run less to note.
    """
    way = trace(bot)
    way.looks = whole or way.elsewhere
    journey = way.decided or way.newest
    layers = tuple(_layers(bot, way))
    if not whole or journey is None or journey.after is None:
        return WayPart(layers=layers)
    frame, view = journey.frame, bot.data.views.get(journey.frame.id)
    led = next((entry.id for entry in journey.entries), "")
    return WayPart(
        seq=frame.seq,
        at=frame.at,
        ticker=frame.id,
        channel=frame.channel or frame.kind,
        market=view.market if view else None,
        size=len(frame.text),
        took_us=journey.took_ns / 1e3,
        why=f"led to {led}" if way.decided else "the newest frame",
        stages=tuple(_stages(journey)),
        layers=layers,
    )


def _stages(journey: Journey) -> Iterator[WayStage]:
    """Yield what the frame was to each layer that it reached, the wire first."""
    yield WayStage(stage="wire", texts=(("", _wire(journey.frame.text)),))
    took, texts = journey.took(), _texts(journey)
    for stage in STAGES:
        changes = tuple(_changes(journey, stage))
        if stage not in took and not texts.get(stage):
            continue
        at_ns, took_ns, calls = took.get(stage, (None, None, 0))
        yield WayStage(
            stage=stage,
            at_us=None if at_ns is None or stage == "the rest" else at_ns / 1e3,
            took_us=None if took_ns is None else took_ns / 1e3,
            calls=calls,
            changes=changes,
            texts=tuple(texts.get(stage, ())),
        )


def _changes(journey: Journey, stage: str) -> Iterator[WayChange]:
    before = journey.before.of.get(stage, {})
    after = journey.after.of.get(stage, {}) if journey.after is not None else {}
    for term in {**before, **after}:
        yield WayChange(term, before.get(term), after.get(term))


def _texts(journey: Journey) -> dict[str, list[tuple[str, str]]]:
    """Return what each stage made, in words; what came of it in later frames says when."""
    texts: dict[str, list[tuple[str, str]]] = {"the rest": [("", "journal, hops between layers")]}
    texts["decoding"] = [("", _decoded(journey.decoded))]
    for entry in journey.entries:
        _add(texts, entry, "")
    for entry in journey.later:
        after_s = (entry.at - journey.frame.at) / 1e9
        _add(texts, entry, f"after {after_s:,.3f} s, frame #{entry.seq}: ")
    return texts


def _add(texts: dict[str, list[tuple[str, str]]], entry: JournalEntry, when: str) -> None:
    stage = _MADE_BY.get(entry.kind)
    if stage is not None:
        texts.setdefault(stage, []).append((entry.id, f"{when}{entry.ticker} {entry.words}"))


def _wire(text: str) -> str:
    """Return a text from its contents on: all begin alike."""
    start = max(text.find('"contents"', 0, 400), 0)
    return ("…" if start else "") + text[start : start + _TEXT]


def _decoded(parts: Any) -> str:
    if not parts:
        return "nothing to decode"
    first = repr(parts[0])[:_TEXT]
    return f"{len(parts)} of them, first {first}" if len(parts) > 1 else first


def _layers(bot: Bot, way: Way) -> Iterator[LayerRow]:
    """Yield what each layer takes of a frame that reaches it, and what went wrong there."""
    known = {stage: one for stage, one in way.latencies.items() if one.count}
    total_ns = sum(one.total_ns for one in known.values()) or 1  # integers
    errors, seconds = _errors(bot), max(way.elapsed_s, 1e-3)
    for stage, one in known.items():
        yield LayerRow(
            stage=stage,
            frames=one.count,
            per_s=one.count / seconds,
            took_us=tuple((name, ns / 1e3) for name, ns in one.percentiles().items()),
            share=one.total_ns / total_ns,
            errors=errors.get(stage),
        )


_UNREADABLE: Final = ("malformed", "unknown")


def _errors(bot: Bot) -> dict[str, int]:
    """Return what went wrong so far, by the layer where it did."""
    troubles = bot.data.counts()
    unread = sum(troubles.get(kind, 0) for kind in _UNREADABLE)  # integers
    return {
        "decoding": unread,
        "data": sum(troubles.values()) - unread,
        "strategy": int(bot.stopped is not None),
        "order": bot.venue.refusals.total(),
    }

"""Why the bot did something: from its id back to the wire, as `bot why` prints it.

D7, V3, O3, F2, A1 ──► the newest entries ──► chain ──► links, and the frames they name
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from bot.report.why import chain, details
from bot.run.journal import JournalEntry
from bot.serve.problems import NOT_FOUND, ProblemError, words
from bot.serve.remembered import entries_of
from bot.serve.served import Served, aside, newest
from bot.times import iso

_LONGEST: Final = 200  # links of a chain: none is as long, and none goes round


class Link(BaseModel):
    """One thing that happened, and the figures that it was computed from."""

    id: str
    kind: str
    at: str
    ticker: str
    words: str
    figures: list[str]
    seq: int = Field(description="the frame of the wire that caused it")


class Because(BaseModel):
    """The way from an id to its causes, itself first, and the same as text."""

    links: list[Link]
    text: list[str] = Field(description="as `bot why` prints it, the frames' own text last")


class _Journal(NamedTuple):
    """What is remembered, as `chain` reads a journal."""

    by_id: dict[str, JournalEntry]

    def find(self, id_: str) -> JournalEntry | None:
        """Return an entry by its id."""
        return self.by_id.get(id_.upper())


def routes(served: Served) -> APIRouter:
    """Return the route of why."""
    router = APIRouter(tags=["run"])

    @router.get("/decisions/{id}/why", responses=NOT_FOUND)
    async def why(
        id: Annotated[
            str,
            InPath(pattern=r"^[DVGOFALdvgofal][0-9]{1,12}$", description="D7, V3, O3, F2, A1 …"),
        ],
        wire: Annotated[bool, Query(description="with the frames' own text")] = True,
    ) -> Because:
        """Return the way from a decision, or from what followed from it, back to the wire.

        The frames are read from the recording, from its beginning: without them it is quick.
        """
        known = await newest(served, entries_of)
        journal = _Journal({entry.id: entry for entry in known.entries})
        entry = journal.find(id)
        if entry is None:
            newest_ = ", ".join({each.kind: each.id for each in known.entries}.values())
            got = f"{id}; the newest are {newest_ or 'none'}"
            raise ProblemError(404, "an id of this run's newest", got)
        recording = served.recording if wire else None
        text = await aside(served, _text, entry, journal, recording)
        return Because(links=[_link(each) for each in _links(entry, journal.find)], text=text)

    return router


def _text(entry: JournalEntry, journal: Any, recording: Path | None) -> list[str]:
    there = recording if recording is not None and recording.exists() else None
    return [words(line, 10_000) for line in chain(entry, journal, there)]


def _links(entry: JournalEntry, find: Callable[[str], JournalEntry | None]) -> list[JournalEntry]:
    found, link = list[JournalEntry](), entry
    while len(found) < _LONGEST:
        found.append(link)
        parent = find(link.parent) if link.parent else None
        if parent is None:
            break
        link = parent
    return found


def _link(entry: JournalEntry) -> Link:
    figures = [words(line) for line in details(entry.value)]
    return Link(
        id=entry.id, kind=entry.kind, at=iso(entry.at), ticker=entry.ticker,
        words=words(entry.words, 2_000), figures=figures, seq=entry.seq,
    )  # fmt: skip

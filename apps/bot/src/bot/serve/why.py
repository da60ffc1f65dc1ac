"""Why the bot did something: from its id back to the wire, as `bot why` prints it.

D7, V3, O3, F2, A1 ──► the newest entries ──► chain ──► links, and the frames they name
"""

from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from bot.outlet import one_line
from bot.report.why import Journaled, chain, details, links_of
from bot.run.journal import JournalEntry
from bot.run.kinds import Kinds
from bot.serve.problems import NOT_FOUND, ProblemError
from bot.serve.remembered import entries_of
from bot.serve.served import Served, aside, newest
from bot.times import iso

_MOST: Final = 10_000  # letters of a line


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
        entry = known.find(id)
        if entry is None:
            newest_ = ", ".join({each.kind: each.id for each in known.entries}.values())
            got = f"{id}; the newest are {newest_ or 'none'}"
            raise ProblemError(404, "an id of this run's newest", got)
        recording = served.recording if wire else None
        text = await aside(served, _text, entry, known, recording, served.kinds)
        return Because(links=[_link(each) for each in links_of(entry, known)], text=text)

    return router


def _text(
    entry: JournalEntry, journal: Journaled, recording: Path | None, kinds: Kinds
) -> list[str]:
    there = recording if recording is not None and recording.exists() else None
    lines = chain(entry, journal, there, kinds=kinds)
    return [one_line(line, _MOST) for line in lines]


def _link(entry: JournalEntry) -> Link:
    figures = [one_line(line, _MOST) for line in details(entry.value)]
    return Link(
        id=entry.id, kind=entry.kind, at=iso(entry.at), ticker=entry.ticker,
        words=one_line(entry.words, _MOST), figures=figures, seq=entry.seq,
    )  # fmt: skip

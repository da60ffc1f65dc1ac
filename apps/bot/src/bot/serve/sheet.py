"""A sheet of a view: each row of each panel as HTML, with the version in which it changed last.

    placed panels ──► Sheet.drawn ──► the next Sheet ──► changes(since) ──► a message, JSON

Whoever has version n is sent the rows that are newer, however long ago that was; version 0 has
nothing, and is sent all. So one answer serves a WebSocket, a poll, and a reader that is too slow:
what it missed is in the next message once, as it stands then. A sheet is frozen: the thread that
draws makes another, and the one that sends reads the last.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from dydx_panels import Placed, html_row

# What a page has no use for: the keys of a terminal.
_LEFT_OUT: Final = frozenset(["footer"])


class Block(msgspec.Struct, frozen=True):
    """One panel: what it was drawn from, and each row with the version of its newest change."""

    placed: Placed
    rows: tuple[tuple[str, int], ...]


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """A view as it was drawn last; `laid` is the version in which its panels took their places.

    `name` is that of the view, `seq` and `mono` are of the newest frame in it; `charts` is a
    version and a JSON object of figures by name, and `markets` those that can be chosen. `trouble`
    is why nothing newer comes; of a recording that has `ended` nothing newer is there.
    """

    name: str = ""
    version: int = 0
    laid: int = 0
    bands: tuple[tuple[int, ...], ...] = ()
    blocks: tuple[Block, ...] = ()
    seq: int = 0
    mono: int = 0
    age_s: float | None = None
    markets: tuple[str, ...] = ()
    charts: tuple[int, msgspec.Raw] = (0, msgspec.Raw(b"{}"))
    trouble: str = ""
    ended: bool = False

    def drawn(
        self, version: int, bands: Sequence[Sequence[Placed]], markets: tuple[str, ...], **more: Any
    ) -> "Sheet":
        """Return the sheet with newer panels; what of them is as it was stays as old as it is."""
        panels = [[one for one in band if one.name not in _LEFT_OUT] for band in bands]
        flat = [one for band in panels for one in band]
        same = [_place(one) for one in flat] == [_place(one.placed) for one in self.blocks]
        before = self.blocks if same else (None,) * len(flat)
        counts = iter(range(len(flat)))
        return msgspec.structs.replace(
            self,
            version=version,
            laid=self.laid if same and markets == self.markets else version,
            bands=tuple(tuple(next(counts) for _ in band) for band in panels if band),
            blocks=tuple(_block(*two, version) for two in zip(flat, before, strict=True)),
            markets=markets,
            trouble="",
            **more,
        )

    def changes(self, since: int) -> str:
        """Return what is newer than a version, as a message."""
        since = since if 0 < since <= self.version else 0  # of another process than this one
        message: dict[str, Any] = {
            "view": self.name, "version": self.version, "seq": self.seq, "mono": self.mono,
            "age_s": self.age_s, "trouble": self.trouble, "ended": self.ended,
        }  # fmt: skip
        if self.laid > since:
            message["bands"] = [[self._laid(number) for number in band] for band in self.bands]
            message["markets"] = self.markets
        rows = {
            number: {at: html for at, (html, version) in enumerate(one.rows) if version > since}
            for number, one in enumerate(self.blocks)
        }
        message["rows"] = {number: changed for number, changed in rows.items() if changed}
        if self.charts[0] > since:
            message["charts"] = self.charts[1]
        return msgspec.json.encode(message).decode()

    def _laid(self, number: int) -> dict[str, Any]:
        one = self.blocks[number].placed
        return {"block": number, "panel": one.name, "columns": one.width, "rows": one.height}


def _place(one: Placed) -> tuple[str, int, int]:
    return one.name, one.width, one.height


def _block(one: Placed, before: Block | None, version: int) -> Block:
    if before is None:
        return Block(one, tuple((html_row(strip), version) for strip in one.strips))
    if one.strips is before.placed.strips:
        return before
    pairs = zip(one.strips, before.placed.strips, before.rows, strict=True)
    rows = (old if new == was else (html_row(new), version) for new, was, old in pairs)
    return Block(one, tuple(rows))

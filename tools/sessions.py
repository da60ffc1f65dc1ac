"""Recorded sessions, as the tests of each layer replay them.

    recordings/localnet/NAME/{frames.jsonl.zst, truth.json} ──► Session: its frames, its truth

`REAL` are the sessions of the real dYdX software, in order of their names. Frames and truth are
read once, when first used; nobody may change them.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from dydx_conn import Frame, Recording

RECORDINGS: Final = Path(__file__).resolve().parent.parent / "recordings"


@dataclass(frozen=True)
class Session:
    """One recorded session; `str` gives its short name."""

    folder: Path

    def __str__(self) -> str:
        return self.folder.name

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """All frames, in order."""
        return tuple(Recording(self.folder / "frames.jsonl.zst"))

    @cached_property
    def truth(self) -> dict[str, Any]:
        """What the node and the indexer's database held at block `true_at_block`."""
        truth: dict[str, Any] = json.loads((self.folder / "truth.json").read_text())
        return truth


REAL: Final = tuple(
    Session(file.parent) for file in sorted((RECORDINGS / "localnet").glob("*/truth.json"))
)

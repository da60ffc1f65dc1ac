"""What a check of somebody's code found, in words and as an exit code.

Finding ─► as_words ─► lines; exit_code ─► 0 all hold, 1 one does not, or nothing was shown
"""

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, Self

import msgspec

from bot.outlet import as_lines

_WIDTH: Final = 60


class Finding(msgspec.Struct, frozen=True):
    """One check: its name, whether it holds, and what was seen.

    "unseen": the recording never came to what it is about, which proves nothing.
    """

    name: str
    verdict: Literal["holds", "broken", "unseen"]
    words: str

    @classmethod
    def of(cls, name: str, broken: str, holds: str, unseen: str = "") -> Self:
        """Return what is broken if anything is, else why it was not seen, else what holds."""
        if broken:
            return cls(name, "broken", broken)
        return cls(name, "unseen", unseen) if unseen else cls(name, "holds", holds)


def as_words(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield the lines of findings, none wider than eighty columns."""
    for one in findings:
        head = f"{one.verdict:<7} {one.name:<11}"
        for line in textwrap.wrap(one.words, _WIDTH):
            yield f"{head} {line}"
            head = " " * len(head)


def print_findings(head: Iterable[str], findings: Sequence[Finding], *, as_json: bool) -> int:
    """Print findings below a head, or as JSON alone; return the exit code."""
    if as_json:
        print(json.dumps(msgspec.to_builtins(findings), indent=2))
    else:
        print(as_lines([*head, "", *as_words(findings)]))
    return exit_code(findings)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 if all hold and 1 if any does not; what was never seen holds nothing."""
    return int(any(one.verdict != "holds" for one in findings))

"""What a check of somebody's code found, in words and as an exit code.

Finding ─► as_words ─► lines; exit_code ─► 0 all hold, 1 one does not, or nothing was shown
"""

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

_WIDTH: Final = 60


class Finding(msgspec.Struct, frozen=True):
    """One check: its name, whether it holds, and what was seen.

    "unseen": the recording never came to what it is about, which proves nothing.
    """

    name: str
    verdict: Literal["holds", "broken", "unseen"]
    words: str


def as_words(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield the lines of findings, none wider than eighty columns."""
    for one in findings:
        head = f"{one.verdict:<7} {one.name:<11}"
        for line in textwrap.wrap(one.words, _WIDTH):
            yield f"{head} {line}"
            head = " " * len(head)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 if all hold and 1 if any does not; what was never seen holds nothing."""
    return int(any(one.verdict != "holds" for one in findings))

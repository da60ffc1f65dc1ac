"""The runbook of the bot, as its drills read it.

    apps/bot/RUNBOOK.md ──► page(title) ──► words that show it, commands to type, what ends it

Tests take words and commands from the page itself, so that it cannot go stale.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RUNBOOK: Final = Path(__file__).resolve().parent.parent / "apps/bot/RUNBOOK.md"
_PART: Final = re.compile(r"^\*\*(Shows|By itself|Do|Over)\.\*\*", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """One page: code spans of what shows it and of what ends it, and the commands between."""

    title: str
    shows: tuple[str, ...]
    commands: tuple[str, ...]
    over: tuple[str, ...]


def pages() -> dict[str, Page]:
    """Return all pages by title; the table of what is tried again is none."""
    found = dict(_sections())
    return {title: _page(title, text) for title, text in found.items() if _PART.search(text)}


def table() -> list[list[str]]:
    """Return the rows of the table of what is tried again."""
    (text,) = (text for title, text in _sections() if not _PART.search(text))
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def is_in(words: str, text: str) -> bool:
    """Return whether a text holds these words, `…` standing for anything of one line."""
    return re.search(".*".join(map(re.escape, words.split("…"))), text) is not None


def typed(command: str, **given: str) -> list[str]:
    """Return a command as arguments, what stands in capitals replaced by what is given."""
    return [given.get(word, word) for word in shlex.split(command)]


def _sections() -> Iterator[tuple[str, str]]:
    for section in RUNBOOK.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        yield title, text


def _page(title: str, text: str) -> Page:
    marks = list(_PART.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    parts = {mark[1]: text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)}
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    return Page(title, _spans(parts["Shows"]), tuple(commands), _spans(parts["Over"]))


def _spans(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", text))

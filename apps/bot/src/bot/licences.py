"""What the bot is made of, and under which licences: a list, and the texts themselves.

    metadata of bot ─► what it requires, and that in turn ─► parts: name, version, licence, texts
    licences/ of an executable: Python, and the libraries of the system that are within ─┘

What is installed beside that (tools, tests) is no part of it. An extra that is not installed is
none either.
"""

import argparse
import json
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from dydx_conn import ConnError

from bot.version import PACKAGE

# Beside the package in an executable: a text for all that is within and no distribution.
WITHIN: Final = "licences"

_REQUIRED: Final = re.compile(r"\s*([\w.-]+)\s*(?:\[([^]]*)\])?[^;]*(?:;(.*))?", re.DOTALL)
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_TEXT: Final = re.compile(
    r"(^|/)(licen[cs]e|copying|copyright|notice|authors)[^/]*$", re.IGNORECASE
)
_CLASS: Final = "License :: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A component of the bot; `licence` is as its authors name it, and the files say it in full."""

    name: str
    version: str
    licence: str
    files: tuple[Path, ...]

    @property
    def texts(self) -> list[str]:
        """Return what its authors say in full, read when somebody wants to know it."""
        return [file.read_text(encoding="utf-8", errors="replace") for file in self.files]


def licences(arguments: argparse.Namespace) -> int:
    """List all parts, or print what one of them says in full."""
    found = list(parts())
    if arguments.name:
        found = [part for part in found if _same(part.name) == _same(arguments.name)]
        if not found:
            expected = "expected the name of a part (bot licences lists them)"
            raise ConnError(f"{expected}, got {arguments.name!r}")
    if arguments.json:
        print(json.dumps([_row(part, whole=bool(arguments.name)) for part in found], indent=2))
        return 0
    width = max(len(part.name) for part in found)
    edition = max(len(part.version) for part in found)
    for part in found:
        print(f"{part.name:<{width}}  {part.version:<{edition}}  {part.licence}")
        if arguments.name:
            print("", *(part.texts or ("its distribution has no text",)), sep="\n")
    return 0


def _row(part: Component, *, whole: bool) -> dict[str, object]:
    row: dict[str, object] = {
        "name": part.name, "version": part.version, "licence": part.licence,
    }  # fmt: skip
    return row | ({"texts": part.texts} if whole else {})


def parts() -> Iterator[Component]:
    """Yield Python, each distribution by name, and what an executable has within besides."""
    yield Component(
        name="Python", version=platform.python_version(), licence="PSF-2.0", files=_within("Python")
    )
    for name, found in distributions().items():
        files = tuple(_files(found))
        words = "see its text" if files else "not declared"
        yield Component(
            name=name, version=found.version, licence=_licence(found) or words, files=files
        )
    for file in sorted((PACKAGE / WITHIN).glob("*.txt")):
        if file.stem != "Python":
            name, _, version = file.stem.partition("_")
            yield Component(
                name=name, version=version, licence="see its text", files=_within(file.stem)
            )


def distributions() -> dict[str, Distribution]:
    """Return what the bot requires with all its extras, itself too, by name."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    extras = distribution("bot").metadata.get_all("Provides-Extra") or []
    ahead = [("bot", extra) for extra in ("", *extras)]
    while ahead:
        one, extra = ahead.pop()
        if (_same(one), extra) in seen:
            continue
        seen.add((_same(one), extra))
        try:
            found[_same(one)] = distribution(one)
        except PackageNotFoundError:  # of another system, or of an extra that is not installed
            continue
        ahead += _required(found[_same(one)], extra)
    return dict(sorted(found.items()))


def _required(found: Distribution, extra: str) -> Iterator[tuple[str, str]]:
    """Yield name and extra of what an extra requires, or a distribution without any."""
    for text in found.requires or ():
        if (parsed := _REQUIRED.match(text)) is None:
            continue
        name, extras, marker = parsed.groups(default="")
        of_extra = _EXTRA.search(marker)
        if (of_extra.group(1) if of_extra else "") == extra:
            yield name, ""
            yield from ((name, one.strip()) for one in extras.split(",") if one.strip())


def _same(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _licence(found: Distribution) -> str:
    """Return the licence that is declared: an expression, a class of PyPI's, a line, or nothing."""
    table = found.metadata
    if expression := table.get_all("License-Expression"):
        return str(expression[0])
    classes = [
        text.removeprefix(_CLASS).removeprefix("OSI Approved :: ")
        for text in table.get_all("Classifier") or ()
        if text.startswith(_CLASS) and text != f"{_CLASS}OSI Approved"
    ]
    line = "".join(table.get_all("License") or ()).strip().partition("\n")[0]
    return ", ".join(classes) or line


def _files(found: Distribution) -> Iterator[Path]:
    for file in found.files or ():
        if ".dist-info" in str(file) and _TEXT.search(str(file)):
            path = Path(str(found.locate_file(file)))
            if path.is_file():
                yield path


def _within(name: str) -> tuple[Path, ...]:
    file = PACKAGE / WITHIN / f"{name}.txt"
    return (file,) if file.is_file() else ()

"""Rows as a person or a program reads them: a table of 80 columns, CSV, or JSON.

    rows: a mapping of names to text, numbers and None ──► printed ──► stdout

JSON is an object with its `schema`, what was chosen, and `rows`; in CSV the names stand in the
first line. Names and their order are stable; money is in USDC and exact, as text.
"""

import argparse
import csv
import io
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bot.outlet import as_lines

WIDTH: Final = 80
_GAP: Final = "  "

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its title, whether numbers stand below it, whether it may be cut."""

    title: str
    right: bool = False
    cut: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of a table, none wider than 80 columns; what is too long is cut."""
    widths = [
        max(len(column.title), *(len(row[index]) for row in rows), 0) if rows else len(column.title)
        for index, column in enumerate(columns)
    ]
    over = sum(widths) + len(_GAP) * (len(columns) - 1) - WIDTH  # integers
    for index in reversed(range(len(columns))):
        if over > 0 and columns[index].cut:
            less = min(over, max(0, widths[index] - max(6, len(columns[index].title))))
            widths[index] -= less
            over -= less
    cells = [[column.title for column in columns], *rows]
    return [
        _GAP.join(map(_cell, columns, row, widths)).rstrip()[: WIDTH if over <= 0 else None]
        for row in cells
    ]


def _cell(column: Column, text: str, width: int) -> str:
    if len(text) > width:
        text = text[: width - 1] + "…"
    return text.rjust(width) if column.right else text.ljust(width)


def how_many(number: int, name: str) -> str:
    """Return how many there are of something, in words: 1 position, 2 positions."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def labelled(name: str, words: str) -> list[str]:
    """Return what stands beside a name, wrapped to 80 columns."""
    indent = " " * 12
    return textwrap.wrap(
        f"{name:<12}{words}", WIDTH, subsequent_indent=indent, break_on_hyphens=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a command found: rows for a program, and lines for a person."""

    schema: str
    fields: tuple[str, ...]
    rows: Sequence[Row]
    lines: Sequence[str]
    about: Row


def printed(arguments: argparse.Namespace, listing: Listing) -> int:
    """Print a listing as it was chosen; return the exit code."""
    if arguments.json:
        print(as_json(listing.schema, {**listing.about, "rows": list(listing.rows)}))
    elif arguments.csv:
        sys.stdout.write(as_csv(listing.fields, listing.rows))
    else:
        print(as_lines(listing.lines))
    return 0


def as_json(schema: str, body: Row) -> str:
    """Return an object with its schema as JSON."""
    return json.dumps({"schema": schema, **body}, indent=2)


def as_csv(fields: Sequence[str], rows: Sequence[Row]) -> str:
    """Return rows as CSV, the names of the fields first; what is not known is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fields, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()

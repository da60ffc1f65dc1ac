"""A page of HTML that needs nothing else: its style, its script and plotly are within it.

    title, parts of HTML, figures, values ──► page ──► one text, for a file or a mail

It opens without a network, and can reach none: its own policy forbids every host, and every script
but the two whose hashes it names. All text goes through `escaped`, all data into islands of JSON in
which no tag can end: what a venue wrote is shown letter by letter.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from bot.pages.style import plain, plotly_js

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

escaped: Final = plain


@cache
def _own(name: str) -> str:
    return files("bot.pages").joinpath(name).read_text(encoding="utf-8")


def page(
    title: str,
    body: Iterable[str],
    figures: Mapping[str, "Figure"],
    islands: Mapping[str, Any] = {},
) -> str:
    """Return a whole page: `body` is HTML, `figures` are drawn where `chart` names them.

    `islands` are values by name for the page's own script.
    """
    scripts = (plotly_js(), _own("page.js")) if figures else ("", _own("page.js"))
    drawn = {name: figure.to_plotly_json() for name, figure in figures.items()}
    return "\n".join([
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy(scripts)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{escaped(title)}</title>",
        f"<style>{_own('page.css')}</style></head><body>",
        *body,
        *(island(name, value) for name, value in {"charts": drawn, **islands}.items()),
        *(f"<script>{script}</script>" for script in scripts if script),
        "</body></html>\n",
    ])  # fmt: skip


def policy(scripts: Iterable[str]) -> str:
    """Return what a page may load, as a Content-Security-Policy: these scripts, and no host."""
    hashes = " ".join(f"'sha256-{_digest(one)}'" for one in scripts if one)
    # plotly sets styles, and makes a picture of a chart where somebody saves one.
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


@cache
def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def island(name: str, value: Any) -> str:
    """Return a value as JSON within a page: no tag can begin or end in it."""
    text = msgspec.json.encode(value).decode()
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json" id="{escaped(name)}">{text}</script>'


# === Parts ===


class Column(NamedTuple):
    """A column of a table: its title, what is shown of a row, its kind, and what sorts it.

    `kind` is n for numbers, t for what is not broken, w for sentences. `html` is what is shown
    where that is HTML already.
    """

    title: str
    show: Callable[[Any], str]
    kind: str = ""
    by: Callable[[Any], object] | None = None
    html: Callable[[Any], str] | None = None
    style: Callable[[Any], str] | None = None


def table(columns: Sequence[Column], rows: Sequence[Any], nothing: str) -> str:
    """Return a table that sorts by its titles, or in words why it has no row."""
    if not rows:
        return f'<p class="note">{escaped(nothing)}</p>'
    heads = "".join(
        f'<th class="{column.kind}" scope="col"><button>{escaped(column.title)}</button></th>'
        for column in columns
    )
    body = "\n".join(
        f"<tr>{''.join(_cell(column, row) for column in columns)}</tr>" for row in rows
    )
    return (
        f'<div class="card scroll"><table><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(column: Column, row: Any) -> str:
    shown = escaped(column.show(row)) if column.html is None else column.html(row)
    style = f" {column.style(row)}" if column.style is not None else ""
    by = "" if column.by is None else f' data-v="{escaped(_sorted_by(column.by(row)))}"'
    return f'<td class="{column.kind}{style}"{by}>{shown}</td>'


def _sorted_by(value: object) -> str:
    return "" if value is None else str(value)


def whys(ids: Iterable[str]) -> str:
    """Return a button for each id that shows, in the row below, why it happened."""
    closed = 'class="why" aria-expanded="false"'
    names = map(escaped, ids)
    return "".join(f'<button {closed} data-id="{name}">{name}</button>' for name in names)


def section(name: str, title: str, *parts: str, small: str = "") -> str:
    """Return a part of a page with its heading, which `name` links to."""
    note = f"<small>{escaped(small)}</small>" if small else ""
    return (
        f'<section id="{escaped(name)}"><h2>{escaped(title)}{note}</h2>{"".join(parts)}</section>'
    )


def chart(name: str, title: str, small: str = "") -> str:
    """Return the place of a figure, with its heading."""
    note = f"<small>{escaped(small)}</small>" if small else ""
    return (
        f"<figure><figcaption>{escaped(title)}{note}</figcaption>"
        f'<div class="chart" role="img" aria-label="{escaped(title)}" data-chart="{escaped(name)}">'
        "</div></figure>"
    )


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Return names and what stands for each."""
    found = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(words)}</dd>" for name, words in rows)
    return f'<div class="card"><dl>{found}</dl></div>' if found else ""


def tiles(rows: Iterable[tuple[str, str, str]]) -> str:
    """Return large figures: a name, a value and its style, "" for none."""
    inner = (
        f'<span>{escaped(name)}</span><b class="{style}">{escaped(value)}</b>'
        for name, value, style in rows
    )
    found = "".join(f'<div class="tile">{one}</div>' for one in inner)
    return f'<div class="tiles">{found}</div>'


def side_by_side(*parts: str) -> str:
    """Return parts beside each other where there is room, below each other where there is not."""
    return f'<div class="pair">{"".join(parts)}</div>'


def folded(title: str, *parts: str, is_open: bool = False) -> str:
    """Return parts that are shown on a click."""
    shown = " open" if is_open else ""
    return f"<details{shown}><summary>{escaped(title)}</summary>{''.join(parts)}</details>"

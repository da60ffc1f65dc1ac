"""How figures and lists become rows of text, whatever they are about.

    numbers ──► figure, percent, gauge, spark ──┐
    a list  ──► Table of Columns ──► listed ────┴──► Row ──► fitted(width, theme) ──► Strip

A panel writes a `Row`: (text, style name) in order. `fitted` alone knows colours, ASCII and
widths, and lets nothing through that could move the cursor. A `Table` says which rows a list has
and which columns they need; `listed` draws it around the selected row.

Units: as in dydx_snapshot. None and what is no number read "unknown", never 0. Red means danger
alone; every colour stands beside a word or a sign.
Pure: nothing here knows which panels there are, or writes to a terminal.
"""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import zip_longest
from textwrap import wrap
from typing import Any, Final, NamedTuple

import msgspec
from dydx_conn import PerpetualMarket
from dydx_snapshot import Snapshot, View
from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console
from rich.segment import Segment
from rich.style import Style

__all__ = [
    "TIMES", "UNKNOWN", "Cell", "Column", "Row", "Strip", "Table", "Theme", "banner", "beside",
    "chosen_row", "chunks", "clock", "crop", "distance_text", "drawable", "figure", "fitted",
    "folded", "gauge", "grid", "listed", "pairs", "percent", "rows_of", "signed", "spark", "trend",
    "usdc",
]  # fmt: skip

# === Theme ===


class Theme(msgspec.Struct, frozen=True, kw_only=True):
    """What the terminal can show: Unicode, and Rich's name of its colours, "" for none."""

    unicode: bool = True
    colours: str = "truecolor"

    @classmethod
    def of(cls, console: Console) -> "Theme":
        """Honour NO_COLOR and an encoding that cannot carry the blocks."""
        colours = "" if console.no_color else console.color_system or ""
        return cls(unicode=console.encoding.lower().startswith("utf"), colours=colours)


# === Rows ===
# A panel writes rows of (text, style name); `fitted` alone knows colours, ASCII and widths.

Row = list[tuple[str, str]]
Strip = tuple[Segment, ...]

# Okabe and Ito's palette, lightened for dark terminals; direction is blue and pink, not green
# and red, because red is for danger alone. (colour, without colour)
_STYLES: Final[dict[str, tuple[str, str]]] = {
    "": ("", ""), "bold": ("bold", "bold"), "select": ("reverse", "reverse"),
    "dim": ("#8c8c8c", "dim"), "faint": ("#4e5a65", "dim"), "title": ("bold #d0d0d0", "bold"),
    "key": ("bold #e8e8e8", "bold"), "accent": ("#7fb8d8", ""),
    "up": ("#56b4e9", ""), "down": ("#e08fc0", ""), "good": ("#2fbf8f", ""),
    "watch": ("bold #f0b000", "bold"), "danger": ("bold #ff5548", "bold reverse"),
    "replay": ("bold #0b1a26 on #56b4e9", "bold reverse"),
    "paper": ("bold #08221a on #2fbf8f", "bold reverse"),
    "live": ("bold #241a00 on #f0b000", "bold reverse"),
    "paused": ("bold #241a00 on #f0e442", "bold reverse"),
}  # fmt: skip
TIMES: Final = "\N{MULTIPLICATION SIGN}"
_ASCII: Final = str.maketrans(
    "╭╮╰╯─│┃┼▁▂▃▄▅▆▇█▉▊▋▌▍▎▏░▲▼●○·…→≈≥≤—µ" + TIMES,
    "++++-||+_.-=+*%#####   .^v*o-~>~><-ux",
)


@lru_cache(maxsize=8)
def _styles(theme: Theme) -> dict[str, Style]:
    # A style remembers the escapes of the first console it met: each theme has its own.
    return {name: Style.parse(pair[not theme.colours]).copy() for name, pair in _STYLES.items()}


_MARK: Final = ("", "select")  # first in a row that is selected


def fitted(row: Row, width: int, theme: Theme) -> Strip:
    """Make a row exactly `width` cells wide, in the theme's colours and letters."""
    styles, left, strip = _styles(theme), width, []
    base = "select" if row[:1] == [_MARK] else ""
    for text, name in row:
        if not text.isascii() or not text.isprintable():
            text = drawable(text, theme.unicode)
        size = len(text) if text.isascii() else cell_len(text)
        if size > left:
            text, size = crop(text, left, theme.unicode), left
        if size:
            strip.append(Segment(text, styles[base or name]))
            left -= size
        if not left:
            break
    if left:
        strip.append(Segment(" " * left, styles[base]))
    return tuple(strip)


def crop(text: str, width: int, unicode: bool = True) -> str:
    """Cut a text to exactly `width` cells, the last of them an ellipsis."""
    return set_cell_size(text, width - 1) + ("…" if unicode else "~") if width else ""


@lru_cache(maxsize=8192)
def drawable(text: str, unicode: bool) -> str:
    """Make a text safe to print, one mark for each that is not."""
    # Foreign text may carry escapes, tabs and zero-width marks: none may reach the terminal.
    text = "".join(c if c.isprintable() and cell_len(c) else "?" for c in text)
    if unicode:
        return text
    return "".join(c if c.isascii() else "?" * cell_len(c) for c in text.translate(_ASCII))


# === Figures ===
# How a number becomes text: fixed decimals, thousands, sign and unit; None is "unknown".

UNKNOWN: Final = "unknown"
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_SPARKS: Final = "▁▂▃▄▅▆▇█"


def figure(
    value: float | Decimal | None, digits: int = 2, sign: bool = False, unit: str = ""
) -> str:
    """Write a number with fixed decimals and thousands; None and what is no number are unknown."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if abs(float(value)) >= 1e13:
        return f"{value:{'+' if sign else ''}.3e}{unit}"
    return f"{value:{'+' if sign else ''},.{min(max(digits, 0), 12)}f}{unit}"


def signed(value: float | Decimal | None, digits: int = 2) -> tuple[str, str]:
    """Return a figure with its sign, and the style of its direction."""
    return figure(value, digits, sign=True), trend(value)[1]


def usdc(quote_quantums: int | None, sign: int = 1) -> float | None:
    """Turn quote quantums into USDC, with the sign turned if `sign` is -1."""
    return None if quote_quantums is None else sign * quote_quantums / 1e6


def percent(fraction: float | None, digits: int = 1, sign: bool = False) -> str:
    """Write a fraction as per cent."""
    return figure(None if fraction is None else fraction * 100, digits, sign, " %")


def distance_text(fraction: float | None) -> str:
    """Write a distance to liquidation: never more than there is, 0 once it is passed."""
    if fraction is None or math.isnan(fraction):
        return UNKNOWN
    # Rounded down, so that what is below the guard's limit also reads as below it.
    tenths = int(min(max(fraction, 0.0), 10.0) * 1_000 + 1e-9)
    if tenths >= 10_000:
        return ">999 %"
    return f"{tenths / 10:.1f} %" if tenths < 1_000 else f"{tenths // 10} %"


def clock(at: int | None, pattern: str = "%H:%M:%S") -> str:
    """Write a moment in UTC."""
    if at is None or not 0 <= at < 2**62:  # the calendar's end is far beyond
        return UNKNOWN
    return datetime.fromtimestamp(at // 10**9, UTC).strftime(pattern)


@lru_cache(maxsize=1024)
def grid(market: PerpetualMarket | None) -> tuple[int, int]:
    """Return the decimals of a market's prices and sizes."""
    if market is None:
        return 2, 3
    tick, step = market.price(market.subticks_per_tick), market.size(market.step_base_quantums)
    exponents = (int(unit.normalize().as_tuple().exponent) for unit in (tick, step))
    return max(-next(exponents), 0), max(-next(exponents), 0)


def gauge(fraction: float | None, width: int) -> str:
    """Draw a bar with eighths of a cell, on a dotted ground that shows where it would end."""
    if fraction is None or math.isnan(fraction):
        return "?" * width
    full, part = divmod(int(min(max(fraction, 0.0), 1.0) * width * 8), 8)
    return ("█" * full + (_EIGHTHS[part] if part else ""))[:width].ljust(width, "░")


def spark(values: Sequence[float], width: int) -> str:
    """Draw a history as a line of blocks between its least and its greatest value."""
    shown = [value for value in values[-width:] if math.isfinite(value)] if width > 0 else []
    if not shown:
        return " " * width
    low, high = min(shown), max(shown)
    scale = 7.999 / (high - low) if math.isfinite(high - low) and high > low else 0.0
    blocks = (_SPARKS[int((value - low) * scale) if scale else 3] for value in shown)
    return "".join(blocks).rjust(width)


def trend(value: float | Decimal | None) -> tuple[str, str]:
    """Return an arrow and a style for a direction."""
    return (" ", "") if not value else ("▲", "up") if value > 0 else ("▼", "down")


# Five dots high: enough for a percentage and two words.
_LETTERS: Final = "0123456789.%> FLATUOKNW"
_DOTS: Final = (
    "### .#. ### ### #.# ### ### ### ### ### . #.# #.. . ### #.. ### ### #.# ### #.# #..# #...#",
    "#.# ##. ..# ..# #.# #.. #.. ..# #.# #.# . ..# .#. . #.. #.. #.# .#. #.# #.# #.# ##.# #...#",
    "#.# .#. ### ### ### ### ### ..# ### ### . .#. ..# . ##. #.. ### .#. #.# #.# ##. #.## #.#.#",
    "#.# .#. #.. ..# ..# ..# #.# ..# #.# ..# . #.. .#. . #.. #.. #.# .#. #.# #.# #.# #..# ##.##",
    "### ### ### ### ..# ### ### ..# ### ### # #.# #.. . #.. ### #.# .#. ### ### #.# #..# #...#",
)
_GLYPHS: Final = dict(zip(_LETTERS, zip(*map(str.split, _DOTS), strict=True), strict=True))


@lru_cache(maxsize=64)
def banner(text: str, high: int, wide: int) -> tuple[str, ...]:
    """Draw `text` in blocks, a dot being `high` rows by `wide` cells."""
    gap, dots = " " * max(wide // 2, 1), str.maketrans({"#": "█" * wide, ".": " " * wide})
    rows = (gap.join(_GLYPHS[letter][line] for letter in text).translate(dots) for line in range(5))
    return tuple(row for row in rows for _ in range(high))


# === Tables ===

Cell = tuple[str, str]


class Column(NamedTuple):
    """A cell's title, width (0 takes what is left) and text; the highest `rank` goes first."""

    title: str
    width: int
    cell: Callable[[Any], Cell]
    rank: int = 0
    left: bool = False


class Table(NamedTuple):
    """A list on a panel: its rows, and the columns that they need.

    `id` names the attribute that `why` can be asked by. `above` are rows over the list, `below` is
    a second line of each row; when the panel is alone it is told whole, of all if there is room or
    else of the selected one. A `faded` row is grey. Columns stand `gap` cells apart.
    """

    name: str
    rows: Callable[[Snapshot], Sequence[Any]]
    columns: Callable[[Snapshot], Sequence[Column]]
    empty: str = ""
    id: str = "id"
    above: Callable[[Snapshot, int], list[Row]] = lambda snapshot, width: []
    below: Callable[[Any], str] = lambda row: ""
    faded: Callable[[Any], bool] = lambda row: False
    gap: int = 2


def listed(table: Table, snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    """Draw a list under its titles, around the selected row, whose text is told whole if alone."""
    rows, chosen = rows_of(table, snapshot, view), chosen_row(view, table.name)
    drawn = table.above(snapshot, width)
    if not rows:
        return [*drawn, [("nothing matches the filter" if view.filter else table.empty, "dim")]]
    columns, room = _kept(table.columns(snapshot), width, table.gap)
    detail: list[str] = []
    if view.panel and 0 <= chosen < len(rows) and not columns[-1].width:
        text = columns[-1].cell(rows[chosen])[0]
        detail = ["", *folded(text, width)][: height // 3] if cell_len(text) > room else []
    titles = [(column.title, "dim") for column in columns]
    drawn += [_laid(titles, columns, room, table.gap)] if any(title for title, _ in titles) else []
    high = height - len(detail)
    body = max(high - len(drawn), 0)
    below = _told(table, rows, chosen, width, body if view.panel else 0)
    first = _first(len(rows), chosen, body, below)
    for number, row in enumerate(rows[first : first + body], first):
        cells = [column.cell(row) for column in columns]
        line = _laid([(text, "dim") for text, _ in cells] if table.faded(row) else cells,
                     columns, room, table.gap)  # fmt: skip
        drawn.append([_MARK, *line] if number == chosen else line)
        drawn += below(number)
        if len(drawn) >= high:
            break
    return [*drawn[:high], *([(text, "")] for text in detail)]


def _told(
    table: Table, rows: Sequence[Any], chosen: int, width: int, room: int
) -> Callable[[int], list[Row]]:
    """Return what tells the lines below a row: whole if all fit, or if it is the chosen one."""

    def lines(number: int, whole: bool) -> list[Row]:
        text = table.below(rows[number])
        told = folded(f"    {text}", width) if whole else [f"    {text}"]
        return [[(line, "dim")] for line in told] if text else []

    needed = (1 + len(lines(number, True)) for number in range(len(rows)))
    whole = len(rows) <= room and sum(needed) <= room
    return lambda number: lines(number, whole or (room > 0 and number == chosen))


def _first(count: int, chosen: int, high: int, below: Callable[[int], list[Row]]) -> int:
    """Return the row to begin with, so that the chosen one is whole in sight, others about it."""
    shown = high // (1 + min(len(below(0)), 1))
    first = max(0, min(chosen - shown // 2, count - shown))
    heights = [1 + len(below(number)) for number in range(first, min(chosen + 1, count))]
    while len(heights) > 1 and sum(heights) > high:
        del heights[0]
        first += 1
    return first


def rows_of(table: Table, snapshot: Snapshot, view: View) -> Sequence[Any]:
    """Return the rows of a list in which the filter's text is found."""
    rows, columns, wanted = table.rows(snapshot), table.columns(snapshot), view.filter.casefold()
    if not wanted:
        return rows

    def told(row: Any) -> list[str]:
        return [*(column.cell(row)[0] for column in columns), table.below(row)]

    return [row for row in rows if any(wanted in text.casefold() for text in told(row))]


def chosen_row(view: View, name: str) -> int:
    """Return which row of a panel is selected, -1 for none."""
    return view.selected if (view.panel or "tape") == name else -1


def _laid(cells: Sequence[Cell], columns: Sequence[Column], room: int, gap: int) -> Row:
    """Bring cells to their widths, `gap` spaces apart."""
    row: Row = []
    for (text, style), column in zip(cells, columns, strict=True):
        width = column.width or room
        text = text if cell_len(text) <= width else crop(drawable(text, True), width)
        spaces = " " * (width - cell_len(text))
        row.append(((f"{text}{spaces}" if column.left else f"{spaces}{text}") + " " * gap, style))
    row[-1] = (row[-1][0][:-gap], row[-1][1])
    return row


def _kept(columns: Sequence[Column], width: int, gap: int) -> tuple[list[Column], int]:
    """Drop the columns of the highest rank until the rest fits; say what a growing one gets."""
    kept = list(columns)
    while True:
        fixed = sum(column.width + gap for column in kept) - gap
        # A growing column without room for its words is worth less than any figure.
        needed = fixed + (28 if any(not column.width for column in kept) else 0)
        worst = max(range(len(kept)), key=lambda i: kept[i].rank)
        if needed <= width or not kept[worst].rank:
            return kept, max(width - fixed, 0)
        del kept[worst]


def chunks(parts: Sequence[tuple[int, Row]], width: int, gap: str = "  ") -> Row:
    """Join what fits, dropping the highest rank first."""
    sizes = [sum(cell_len(text) for text, _ in row) + len(gap) for _, row in parts]
    kept = list(range(len(parts)))
    while len(kept) > 1 and sum(sizes[i] for i in kept) > width + len(gap):
        kept.remove(max(kept, key=lambda i: (parts[i][0], i)))
    return [cell for i in kept for cell in (*parts[i][1], (gap, ""))][:-1]


def pairs(width: int, *figures: tuple[str, str | int]) -> Row:
    """Join named figures on one row; the last ones go when there is no room."""
    told = ((name, value if isinstance(value, str) else f"{value:,}") for name, value in figures)
    parts: list[Row] = [[(f"{name} ", "dim"), (text, "")] for name, text in told]
    return chunks(list(enumerate(parts)), width)


def beside(left: Sequence[Row], width: int, right: Sequence[Row]) -> list[Row]:
    """Put rows to the right of others, `width` cells from their beginning."""
    rows: list[Row] = []
    for row, after in zip_longest(left, right, fillvalue=()):
        used = sum(cell_len(text) for text, _ in row)
        rows.append([*row, (" " * (width - used), ""), *after])
    return rows


def folded(text: str, width: int) -> list[str]:
    """Break a long text into lines, between words where all letters are one cell wide."""
    text, room = drawable(text, True), max(width - 4, 2)
    # A ticker is not two words.
    lines = (
        wrap(text, room, break_on_hyphens=False)
        if cell_len(text) == len(text)
        else chop_cells(text, room)
    )
    first, *rest = lines or [""]
    return [first, *("    " + line for line in rest)]

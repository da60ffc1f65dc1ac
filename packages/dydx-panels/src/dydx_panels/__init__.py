"""The screen: what the bot sees, is doing and why, drawn from one immutable snapshot.

    live state ── the bot copies ──► Snapshot ──► panel(name) ──► Screen ──► Dashboard.draw
    keys ──────────────────────────► View ───────────┘

Panels are pure functions of a `Snapshot`, of the `View` that the person chose, and of a size:
(snapshot, view, width, height) of the inside -> rows, or a `Table`. All of them show figures
beside real samples, each with the frame that it came from.

- Errors: `PanelError`.
- Values: `Snapshot`, a part for each panel, and `View`.
- Theme, Rows, Figures, Tables: how figures and lists become rows of text, whatever they are about.
- Markets and signals; Decisions, orders and tape; Paper venue; Book, quality, speed and wire:
  what it is doing.
- Safety and positions, Way out, Stress: whether the account is safe.
- Header and footer, Screen: `PANELS`, `panel`, `dashboard`, `export_svg`.
- Edges: `Dashboard` writes the rows that changed, `run_panel` prints one panel.

A panel writes a `Row`: (text, style name) in order. `fitted` alone knows colours, ASCII and
widths, and lets nothing through that could move the cursor.

Units: money is USDC (quote quantums in the layers' values), sizes base units, fractions 0..1,
scores 0..100, times nanoseconds UTC. What is not known is None and is drawn as "unknown", never as
0. Red means danger alone; every colour stands beside a word or a sign, so that none is needed.
Nothing here computes a figure of risk, subscribes, reads a clock or touches live state; the edge
alone writes.
"""

# One name a line would be a page.
# fmt: off
__all__ = [
    # Errors
    "PanelError",
    # Values
    "Book", "Header", "MarketRow", "Quality", "Safety", "Snapshot", "Speed", "TapeRow", "Venue",
    "View", "Wire", "Witnessed",
    # Theme
    "Theme",
    # Rows
    "TIMES", "Row", "Strip", "crop", "drawable", "fitted",
    # Figures
    "UNKNOWN", "banner", "clock", "distance_text", "figure", "gauge", "grid", "percent", "signed",
    "spark", "trend", "usdc",
    # Tables
    "Cell", "Column", "Table", "beside", "chosen_row", "chunks", "folded", "listed", "pairs",
    "rows_of",
    # Markets and signals
    "MARKETS", "SIGNALS",
    # Decisions, orders and tape
    "DECISIONS", "ORDERS", "TAPE",
    # Paper venue
    "VENUE",
    # Book, quality, speed and wire
    "QUALITY", "WIRE", "book_rows", "speed_rows",
    # Safety and positions
    "POSITIONS", "safety_rows", "state_of",
    # Way out
    "FLIGHT",
    # Stress
    "STRESS",
    # Header and footer
    "KEYS",
    # Screen
    "PANELS", "Panel", "Screen", "dashboard", "panel", "selectable",
    # Edges
    "Dashboard", "export_svg", "run_panel",
]
# fmt: on

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache, partial
from itertools import zip_longest
from textwrap import wrap
from typing import Any, Final, NamedTuple

import msgspec
from dydx_conn import Frame, PerpetualMarket
from dydx_data import Level, Sample, Trade
from dydx_paper import Performance
from dydx_risk import (
    MOVES_PERCENT,
    Denied,
    Exit,
    FlightPlan,
    Holding,
    LeverageAdvice,
    MarginFigures,
    PositionFigures,
    Reduce,
    RiskFigures,
    Rung,
    StressCell,
    StressTable,
    Verdict,
    Watch,
    due,
)
from dydx_signals import Score
from dydx_strategy import Decision
from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.segment import Segment, Segments
from rich.style import Style

# === Errors ===


class PanelError(Exception):
    """A panel that does not exist: choose one of `PANELS`."""


# === Values ===

# Frozen all the way down, so that equality is cheap and says whether to redraw.


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What is always on the first row; `speed` is the replay's, None when not a replay."""

    mode: str = ""
    source: str = ""
    speed: float | None = None
    clock_ns: int | None = None
    connection: str = ""
    lag_p99_ms: float | None = None
    data_age_s: float | None = None
    frames_per_s: float | None = None
    memory_mb: float | None = None
    cpu_percent: float | None = None
    run_hash: str = ""


class Safety(msgspec.Struct, frozen=True, kw_only=True):
    """The account's margin, which holds the distance to liquidation, and the guard around it.

    Without `margin` the distance is not known, a danger while there are `positions`. `change` is
    that of the distance over a minute; without `act_below` there is no guard.
    """

    margin: MarginFigures | None = None
    positions: int | None = None
    change: float | None = None
    closest: float | None = None
    act_below: float | None = None
    restore_to: float | None = None
    last: Reduce | None = None
    history: tuple[float, ...] = ()

    @property
    def distance(self) -> float | None:
        """Return the distance as a fraction of adverse move; None if flat or unknown."""
        return None if self.margin is None else self.margin.distance


class MarketRow(msgspec.Struct, frozen=True, kw_only=True):
    """One market; `history` are closes, oldest first; `stale_s` is None while it is fresh."""

    ticker: str
    market: PerpetualMarket | None = None
    price: float | None = None
    history: tuple[float, ...] = ()
    spread_bps: float | None = None
    volume_60s: float | None = None
    oracle: float | None = None
    funding_1h: float | None = None
    status: str = ""
    stale_s: float | None = None
    scores: tuple[Score, ...] = ()


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """One market's book, best level first, with its newest trades."""

    ticker: str = ""
    market: PerpetualMarket | None = None
    known: bool = False
    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()
    mid_price: float | None = None
    spread_bps: float | None = None
    crossed: int = 0
    seq: int = 0
    trades: tuple[Trade, ...] = ()


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """Troubles counted by kind, real samples of them, newest first, and the stale markets."""

    counts: tuple[tuple[str, int], ...] = ()
    samples: tuple[Sample, ...] = ()
    stale: tuple[str, ...] = ()


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What a frame costs, at percentiles in microseconds, and how many came in each second."""

    latency_us: tuple[tuple[str, float], ...] = ()
    throughput: tuple[float, ...] = ()
    draw_ms: float | None = None


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """The newest block, what was counted, frames by kind or channel, and the last as they came."""

    height: int | None = None
    block_time_ns: int | None = None
    counts: tuple[tuple[str, int], ...] = ()
    kinds: tuple[tuple[str, int], ...] = ()
    samples: tuple[Frame, ...] = ()


class Witnessed(msgspec.Struct, frozen=True):
    """A market's fills on paper: quote quantums assumed to trade, and what the tape bears out."""

    ticker: str
    assumed: int
    traded: int
    error: float | None = None


class Venue(msgspec.Struct, frozen=True, kw_only=True):
    """How a paper venue filled, what it refused, and how the account did on it.

    `error` is the share of all fills that the tape does not bear out, `pending` the fills that are
    not judged yet, `owed` hours of funding by ticker whose price or rate is not known, `unsettled`
    (quote quantums) what the next fill or transfer credits of it. What a venue does not keep is
    None: an insurance `fund` in quote quantums, the `tier` of its fees.
    """

    performance: Performance | None = None
    liquidations: int | None = None
    maker_ppm: int | None = None
    taker_ppm: int | None = None
    queue: str = ""
    error: float | None = None
    pending: int | None = None
    fills: tuple[Witnessed, ...] = ()
    refusals: tuple[tuple[str, int], ...] = ()
    owed: tuple[tuple[str, int], ...] = ()
    unsettled: int | None = None
    fund: int | None = None
    tier: str | None = None


class TapeRow(msgspec.Struct, frozen=True):
    """One thing that happened, in plain words; `id` is what `why` can be asked about."""

    at: int
    kind: str
    text: str
    ticker: str = ""
    id: str = ""
    seq: int = 0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the screen can show, at one moment. Rows are newest or most important first.

    `money` are results in quote quantums, `counts` what was sent and what came of it, both by name.
    `watch` is the newest look of risk at the account; without a `venue` there is no paper one.
    """

    header: Header = Header()
    safety: Safety = Safety()
    positions: tuple[PositionFigures, ...] = ()
    markets: tuple[MarketRow, ...] = ()
    decisions: tuple[Decision, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    fills: tuple[TapeRow, ...] = ()
    money: tuple[tuple[str, int], ...] = ()
    counts: tuple[tuple[str, int], ...] = ()
    watch: Watch | None = None
    venue: Venue | None = None
    book: Book = Book()
    quality: Quality = Quality()
    speed: Speed = Speed()
    wire: Wire = Wire()
    tape: tuple[TapeRow, ...] = ()


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What the person at the screen chose.

    `panel` is shown alone if it names one. `selected` counts its rows from 0, or else the tape's;
    -1 for none. `why` are the lines of an overlay, `scroll` its first.
    """

    panel: str = ""
    selected: int = -1
    filter: str = ""
    filtering: bool = False
    paused: bool = False
    help: bool = False
    why: tuple[str, ...] = ()
    why_title: str = ""
    scroll: int = 0
    message: str = ""


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
    below = _counted(table, rows, chosen, width, body if view.panel else 0)
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


def _counted(
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


# === Markets and signals ===


def _moved(row: MarketRow) -> Cell:
    before = row.history[-2] if len(row.history) > 1 else None
    return trend(None if before is None or row.price is None else row.price - before)


def _status(row: MarketRow) -> Cell:
    if row.stale_s is not None:
        return f"stale {figure(row.stale_s, 0)} s", "watch"
    return row.status or UNKNOWN, "dim" if row.status == "ACTIVE" else "watch"


def _market_columns(snapshot: Snapshot) -> list[Column]:
    names = dict.fromkeys(score.signal for row in snapshot.markets for score in row.scores)
    # Six scores, a history and a spread must find room side by side at 120 columns.
    bar = 4 if len(names) < 5 else 2

    def column(name: str) -> Column:
        title = name.upper()[:10] if bar == 4 or len(name) < 7 else name.upper()[:5] + "."

        def cell(row: MarketRow) -> Cell:
            value = next((score.value for score in row.scores if score.signal == name), None)
            text = "  —" if value is None else f"{gauge(value / 100, bar)} {figure(value, 0):>3}"
            return text, "accent"

        return Column(title, max(bar + 4, len(title)), cell, 1, True)

    return [*_MARKET_COLUMNS, *map(column, names)]


_MARKET_COLUMNS: Final = (
    Column("TICKER", 10, lambda row: (row.ticker, "bold"), 0, True),
    Column("PRICE", 10, lambda row: (figure(row.price, grid(row.market)[0]), "")),
    Column("", 1, _moved),
    Column("HISTORY", 16, lambda row: (spark(row.history, 16), "accent"), 3, True),
    Column("SPREAD", 8, lambda row: (figure(row.spread_bps, 2, unit=" bp"), ""), 2),
    Column("VOL 60s", 10, lambda row: (figure(row.volume_60s, 0), ""), 4),
    Column("ORACLE", 11, lambda row: (figure(row.oracle, grid(row.market)[0]), ""), 8),
    Column("FUNDING/h", 10, lambda row: (percent(row.funding_1h, 4, sign=True), ""), 9),
    Column("STATUS", 11, _status, 1, True),
)
MARKETS: Final = Table("markets", lambda snapshot: snapshot.markets, _market_columns,
                         "no market yet", "ticker",
                         faded=lambda row: row.stale_s is not None)  # fmt: skip


SIGNALS: Final = Table(
    "signals", lambda snapshot: [score for row in snapshot.markets for score in row.scores],
    lambda snapshot: (
        Column("TICKER", 10, lambda score: (score.ticker, "bold"), 0, True),
        Column("SIGNAL", 11, lambda score: (score.signal, ""), 0, True),
        Column("SCORE", 7, lambda score: (figure(score.value, 1), "bold")),
        Column("", 10, lambda score: (gauge(score.value / 100, 10), "accent"), 2),
        Column("FRAME", 8, lambda score: (f"#{score.seq}", "dim"), 3, True),
        Column("COMPUTED FROM", 0, lambda score: (
            " · ".join(f"{name} {value:,.6g}" for name, value in score.inputs), ""), 1, True),
    ), "no score yet: the engines warm up", "ticker")  # fmt: skip

# === Decisions, orders and tape ===


def _target(row: Decision) -> Cell:
    target = f"{figure(row.target_usdc, 0, sign=True)} USDC"
    if row.action == "hold":
        return target, "dim"
    return f"{figure(row.previous_usdc, 0, sign=True)} → {target}", trend(row.target_usdc)[1]


DECISIONS: Final = Table("decisions", lambda snapshot: snapshot.decisions, lambda snapshot: (
    Column("", 8, lambda row: (clock(row.at), "dim"), 0, True),
    Column("", 5, lambda row: (row.id, "key"), 0, True),
    Column("", 10, lambda row: (row.ticker, "bold"), 0, True),
    Column("", 6, lambda row: (row.action, "dim" if row.action == "hold" else "accent"),
            0, True),
    Column("", 23, _target, 0, True),
    Column("", 10, lambda row: (f"score {figure(row.score, 1)}", ""), 1, True),
    Column("", 12, lambda row: (f"urgency {figure(row.urgency, 2)}", "dim"), 2, True),
    Column("", 9, lambda row: (f"#{row.seq}", "dim"), 3, True),
), "no decision yet", below=lambda row: " · ".join(row.reasons))  # fmt: skip

_KINDS: Final = {
    "approved": "good", "decision": "accent", "denied": "watch", "fill": "up", "hold": "dim",
    "liquidated": "danger", "reduce": "danger",
}  # fmt: skip


def _history(snapshot: Snapshot) -> list[TapeRow]:
    """Tell verdicts and fills as one history, newest first."""
    rows = [*map(_verdict_row, snapshot.verdicts), *snapshot.fills]
    return sorted(rows, key=lambda row: (row.at, row.seq), reverse=True)


def _verdict_row(verdict: Verdict) -> TapeRow:
    """Say what a verdict was in a word and why in a line, where size and worst price are."""
    if isinstance(verdict, Denied):
        # What the margin would be can be asked for with `w`.
        known = MarginFigures.__struct_fields__
        figures = "".join(f", {name} {n}" for name, n in verdict.figures if name not in known)
        ticker, text = verdict.ticker, f"{verdict.reason}: {verdict.why}{figures}"
    else:
        order, ticker = verdict.order, verdict.order.ticker
        only = " reduce-only" if order.reduce_only else ""
        text = f"{verdict.why} · {order.time_in_force}{only} until block {order.good_til_block}"
    kind = type(verdict).__name__.lower()
    return TapeRow(verdict.at, kind, text, ticker, verdict.id, verdict.seq)


def _results(snapshot: Snapshot, width: int) -> list[Row]:
    money = [(name, signed(usdc(quote))[0]) for name, quote in snapshot.money]
    return [pairs(width, *money), pairs(width, *snapshot.counts)]


# Orders and tape are told alike.
_TOLD_COLUMNS: Final = (
    Column("", 8, lambda row: (clock(row.at), "dim"), 0, True),
    Column("", 10, lambda row: (row.kind, _KINDS.get(row.kind, "")), 0, True),
    Column("", 4, lambda row: (row.id, "key"), 0, True),
    Column("", 8, lambda row: (row.ticker, "bold"), 0, True),
    Column("", 0, lambda row: (row.text, ""), 0, True),
)
ORDERS: Final = Table("orders", _history, lambda _: _TOLD_COLUMNS, "no order yet", above=_results)
TAPE: Final = Table("tape", lambda snapshot: snapshot.tape, lambda _: _TOLD_COLUMNS,
                      "nothing has happened yet")  # fmt: skip

# === Paper venue ===


def _venue_rows(snapshot: Snapshot, width: int) -> list[Row]:
    venue = snapshot.venue
    if venue is None:
        return [[("no paper venue: what is sent goes over the wire, to a real one", "watch")]]
    refused = ", ".join(f"{count:,} {why}" for why, count in venue.refusals) or "nothing"
    owed = ", ".join(f"{ticker} {hours} h" for ticker, hours in venue.owed) or "none"
    told = [_performance_rows(venue.performance, width)] if venue.performance else []
    fees = (f"{name} {figure(None if ppm is None else ppm / 1e4, 3)} %" for name, ppm in (
        ("maker", venue.maker_ppm), ("taker", venue.taker_ppm)))  # fmt: skip
    kept = [] if venue.fund is None else [("insurance fund", f"{figure(usdc(venue.fund))} USDC")]
    kept += [] if venue.tier is None else [("fee tier", venue.tier)]
    return [
        *(row for rows in told for row in rows),
        pairs(width, ("fees", ", ".join(fees)), ("queue", venue.queue or UNKNOWN)),
        *([pairs(width, *kept)] if kept else []),
        [("refused ", "dim"), (refused, "watch" if venue.refusals else "")],
        pairs(width, ("funding not settled", figure(usdc(venue.unsettled), unit=" USDC")),
              ("of an unknown rate", owed)),
        pairs(width, ("not borne out by the tape", percent(venue.error)),
              ("still to be judged", UNKNOWN if venue.pending is None else venue.pending),
              ("liquidations", UNKNOWN if venue.liquidations is None else venue.liquidations)),
    ]  # fmt: skip


def _performance_rows(did: Performance, width: int) -> list[Row]:
    """Tell how the account did; what does not exist yet is unknown, each with its reason."""
    # Nothing marked yet is no drawdown of 0.
    marked = did.max_drawdown_ratio is not None or did.max_drawdown > 0
    fall = usdc(did.max_drawdown) if marked else None
    hours = figure(did.drawdown_ns / 3.6e12 if marked else None, 1, unit=" h")
    return [
        pairs(width, ("trades", did.trades), ("won", percent(did.win_rate)),
              ("profit factor", figure(did.profit_factor)),
              ("average win", figure(_each(did.average_win))),
              ("loss", figure(_each(did.average_loss)))),
        pairs(width, ("drawdown", figure(fall, unit=" USDC")),
              ("of equity", percent(did.max_drawdown_ratio)), ("lasted", hours)),
        pairs(width, ("Sharpe", figure(did.sharpe)), ("Sortino", figure(did.sortino)),
              ("annual", "from 24 hourly returns on")),
        pairs(width, ("in the market", percent(did.exposure)),
              ("turnover", figure(did.turnover, 1)), ("volume", figure(usdc(did.volume), 0))),
        pairs(width, ("paid: fees", figure(usdc(did.fees))), ("funding", figure(usdc(did.funding))),
              ("insurance", f"{figure(usdc(did.insurance))} USDC")),
    ]  # fmt: skip


def _each(quote_quantums: float | None) -> float | None:
    return None if quote_quantums is None else quote_quantums / 1e6


VENUE: Final = Table(
    "venue", lambda snapshot: snapshot.venue.fills if snapshot.venue else (),
    lambda snapshot: (
        Column("MARKET", 10, lambda row: (row.ticker, "bold"), 0, True),
        Column("ASSUMED", 14, lambda row: (figure(usdc(row.assumed)), "")),
        Column("TRADED", 14, lambda row: (figure(usdc(row.traded)), "")),
        Column("ERROR", 8, lambda row: (percent(row.error), "bold")),
        Column("", 10, lambda row: (gauge(row.error, 10), "accent"), 1),
    ), "no fill of ours is judged yet", "ticker", _venue_rows)  # fmt: skip

# === Book, quality, speed and wire ===


def book_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    """Draw one market's book as a ladder, its newest trades beside it where there is room."""
    book = snapshot.book
    if not book.known:
        return [[(f"book unknown for {book.ticker}" if book.ticker else "book unknown", "watch")]]
    ladder = 34 if width >= 72 else min(width, 44)
    rows, (digits, size_digits) = _ladder(book, ladder, height), grid(book.market)
    if width - ladder < 40:
        return rows
    trades: list[Row] = [[("last trades", "dim")]]
    for trade in book.trades:
        size, price = figure(trade.size, size_digits), figure(trade.price, digits)
        side = (f"{trade.side:<4} ", "up" if trade.side == "BUY" else "down")
        trades.append([(f"{clock(trade.at_ns)} ", "dim"), side, (f"{size:>7} @ {price:>8}", ""),
                       (f" #{trade.seq}", "dim")])  # fmt: skip
    return beside(rows, ladder + 3, trades[:height])


def _ladder(book: Book, width: int, height: int) -> list[Row]:
    digits, size_digits = grid(book.market)
    asks, bids = (side[: max(1, (height - 1) // 2)] for side in (book.asks, book.bids))
    largest = max((level.size for level in asks + bids), default=0.0) or 1.0

    def row(level: Level, style: str) -> Row:
        bar = gauge(level.size / largest, max(width - 26, 4)).replace("░", " ")
        size = f"{figure(level.size, size_digits):>11} "
        return [(f"{figure(level.price, digits):>12} ", style), (size, ""), (bar, style)]

    crossed = f" · {book.crossed} crossed" if book.crossed else ""
    middle: Row = [
        (f"{figure(book.mid_price, digits):>12} mid", "bold"),
        (f" · {figure(book.spread_bps, 2)} bp{crossed} · #{book.seq}", "dim"),
    ]
    return [*(row(level, "down") for level in asks[::-1]), middle,
            *(row(level, "up") for level in bids)]  # fmt: skip


def _troubles(snapshot: Snapshot, width: int) -> list[Row]:
    quality = snapshot.quality
    stale = ", ".join(quality.stale) or "none"
    return [
        pairs(width, *quality.counts) if quality.counts else [("no trouble so far", "good")],
        [("stale markets ", "dim"), (stale, "watch" if quality.stale else "")],
    ]


_SAMPLE_COLUMNS: Final = (
    Column("", 8, lambda row: (f"#{row.seq}", "dim"), 0, True),
    Column("", 14, lambda row: (row.kind, "accent"), 0, True),
    Column("", 0, lambda row: (row.text, ""), 0, True),
)
QUALITY: Final = Table("quality", lambda snapshot: snapshot.quality.samples,
                         lambda _: _SAMPLE_COLUMNS, id="seq", above=_troubles)  # fmt: skip


def speed_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    """Draw what a frame costs, at its percentiles, and how many come."""
    speed = snapshot.speed
    now = f"{figure(speed.throughput[-1] if speed.throughput else None, 0)} f/s "
    largest = max((us for _, us in speed.latency_us), default=0.0) or 1.0
    rows: list[Row] = [
        [(now, "bold"), (spark(speed.throughput, width - 14), "accent")],
        pairs(width, ("a drawing takes", figure(speed.draw_ms, 2, unit=" ms"))),
        [("a frame takes, from its arrival to its last order", "dim")],
    ]
    for name, us in speed.latency_us:
        bar = gauge(us / largest, max(width - 20, 4))
        text = f"{us:,.1f} µs" if us < 1_000 else f"{us / 1_000:,.2f} ms"
        rows.append([(f"{name:>6} ", "dim"), (f"{text:>10}  ", "bold"), (bar, "accent")])
    return rows


def _traffic(snapshot: Snapshot, width: int) -> list[Row]:
    wire = snapshot.wire
    block = ("block", figure(wire.height, 0))
    made_at = ("at", clock(wire.block_time_ns, "%Y-%m-%d %H:%M:%SZ"))
    return [pairs(width, *told) for told in ((block, made_at), wire.counts, wire.kinds)]


def _sample(frame: Frame) -> Sample:
    # All texts begin alike: the contents say more.
    start = max(frame.text.find('"contents"', 0, 400), 0)
    text = ("…" if start else "") + frame.text[start : start + 2_000]
    return Sample(frame.seq, frame.channel or frame.kind, text)


WIRE: Final = Table("wire", lambda snapshot: list(map(_sample, snapshot.wire.samples)),
                      lambda _: _SAMPLE_COLUMNS, "no frame yet", "seq", _traffic)  # fmt: skip

# === Safety and positions ===

_ACT: Final = 0.05


def _alarm(distance: float | None, act_below: float | None) -> tuple[str, str]:
    """Say how safe a distance is, in a word and a colour."""
    act = _ACT if act_below is None else act_below
    if distance is None or math.isnan(distance):
        return "UNKNOWN", "danger"
    if distance < act:
        return "DANGER", "danger"
    return ("WATCH", "watch") if distance < act * 1.5 else ("SAFE", "good")


def state_of(safety: Safety) -> tuple[str, str]:
    """Say how safe the account is: what is not known is a danger to open positions alone."""
    if safety.margin is None and not safety.positions:
        return "UNKNOWN", "watch"
    if safety.margin is not None and safety.distance is None:
        return "FLAT", "good"
    return _alarm(safety.distance, safety.act_below)


def safety_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    """Draw the distance to liquidation as large as there is room, and what the guard does."""
    safety = snapshot.safety
    word, style = state_of(safety)
    figures, last = _safety_figures(safety, word, style), safety.last
    rungs: list[Row] = [[("next rung ", "dim"), _next_rung(safety, snapshot.watch)]]
    if last is not None:
        # A rung is red for half a minute of event time.
        alarm = "danger" if (snapshot.header.clock_ns or 0) - last.at < 30 * 10**9 else "watch"
        rungs.insert(0, [(f"last rung {clock(last.at)} ", "dim"), (last.why, alarm)])
    distance = "" if safety.distance is None else distance_text(safety.distance)
    sizes = ((4, 8), (3, 6), (2, 4), (2, 3), (1, 2), (1, 1))
    drawn = (banner(distance or word, high, wide) for high, wide in sizes)
    big = next(
        (big for big in drawn if len(big) < height - len(rungs) and len(big[0]) <= width - 34), ()
    )
    if not big:
        head = (f"{word} {distance}".rstrip() + " ", style)
        return [[head, *figures[0][1:]], _distance_bar(safety, style, width), *rungs, *figures[1:]]
    room = max(len(big), min(height - 1 - len(rungs), len(figures)))
    rows = beside([[("  " + line, style)] for line in big], len(big[0]) + 4, figures[:room])
    line = spark(safety.history, width - 16)
    return [*rows, _distance_bar(safety, style, width), *rungs,
            [("last minutes    ", "dim"), (line, "accent")]]  # fmt: skip


def _safety_figures(safety: Safety, word: str, style: str) -> list[Row]:
    margin, change = safety.margin, safety.change or 0.0
    usage, leverage = (margin.usage, margin.leverage) if margin else (None, None)
    arrow, direction = trend(change)
    # What rounds to nothing has not moved.
    moved = f" {arrow}{abs(change) * 100:.1f}/min" if abs(change) >= 0.0005 else ""
    alarm = "" if usage is None or usage < 0.7 else "watch" if usage < 1 else "danger"
    times = "" if leverage is None else f"  {figure(leverage, 1)}{TIMES}"
    to = "" if safety.distance is None else "to liquidation"

    def money(name: str, quote_quantums: int | None, weight: str = "") -> Row:
        text = figure(usdc(quote_quantums))
        return [(f"{name:<10}", "dim"), (f"{text:>13}", weight), (" USDC", "dim")]

    return [
        [(f"{word} ", style), (to, "dim"), (moved, direction)],
        money("equity", margin.net_collateral if margin else None, "bold"),
        money("free", margin.free_collateral if margin else None),
        money("maint.", margin.maintenance_margin if margin else None),
        [("usage     ", "dim"), (f"{percent(usage):>13}", alarm), (times, "dim")],
        [("closest   ", "dim"), (f"{distance_text(safety.closest):>13}", "")],
        money("initial", margin.initial_margin if margin else None),
    ]


def _distance_bar(safety: Safety, style: str, width: int) -> Row:
    """Draw the distance against four times the guard's threshold, which is marked."""
    act = safety.act_below or _ACT
    label = f" guard acts at {percent(act)}" if safety.act_below else " no guard"
    room = max(width - len(label) - 1, 4)
    distance = math.nan if safety.margin is None else safety.distance or 0.0
    bar, mark = gauge(distance / (act * 4), room), room // 4
    sign = ("┃", "key") if safety.act_below else (bar[mark], style)
    return [(bar[:mark], style), sign, (bar[mark + 1 :], style), (label, "dim")]


def _next_rung(safety: Safety, watch: Watch | None) -> Cell:
    """Say in the ladder's own words what the guard does next, and at which distance."""
    if safety.margin is not None and safety.distance is None:
        return "none: no position is held", ""
    if watch is None:
        return UNKNOWN, "dim"
    if safety.act_below is None:
        return "none: the guard is off, nothing prevents liquidation", "watch"
    plan = watch.plan
    if not plan.rungs:
        return f"none: {plan.why}", "watch"
    rung = plan.rungs[0]
    what = f"{rung.words}, {rung.ends}"
    if rung in due(plan, plan.distance_next):
        return f"due now: {what}", "danger"
    return f"below {distance_text(rung.fires_below)}: {what}", ""


def _position_columns(snapshot: Snapshot) -> list[Column]:
    grids = {row.ticker: grid(row.market) for row in snapshot.markets}
    act, sides = snapshot.safety.act_below, (("LONG", "up"), ("SHORT", "down"))
    margin = snapshot.safety.margin
    sound = margin is not None and not margin.unknown and margin.cushion >= 0

    def away(row: PositionFigures) -> float | None:
        # Where all else is known, a position without such a price is one that none liquidates.
        never = sound and row.oracle_price is not None and row.liquidation_price is None
        return math.inf if never else row.distance

    def price(row: PositionFigures, value: Decimal | None) -> Cell:
        return figure(value, grids.get(row.ticker, (2, 3))[0]), ""

    def liquidation(row: PositionFigures) -> Cell:
        # A price cannot fall below 0: the rest of the account carries such a position.
        value = row.liquidation_price
        none = away(row) == math.inf if value is None else value <= 0
        return ("none", "") if none else price(row, value)

    def size(row: PositionFigures) -> Cell:
        return figure(abs(row.size), grids.get(row.ticker, (2, 3))[1]), ""

    def bar(row: PositionFigures) -> Cell:
        distance = away(row)
        scale = None if distance is None else distance / ((act or _ACT) * 4)
        return gauge(scale, 10), _alarm(distance, act)[1]

    return [
        Column("TICKER", 10, lambda row: (row.ticker, "bold"), 0, True),
        Column("SIDE", 5, lambda row: sides[row.size < 0], 0, True),
        Column("SIZE", 10, size),
        Column("ENTRY", 10, lambda row: price(row, row.entry_price), 3),
        Column("ORACLE", 10, lambda row: price(row, row.oracle_price), 2),
        Column("UPNL", 10, lambda row: signed(row.unrealized_pnl)),
        Column("LIQ PRICE", 10, liquidation, 1),
        Column("DISTANCE", 8, lambda row: (distance_text(away(row)), bar(row)[1])),
        Column("", 10, bar, 5),
        # Risk tells what the next hour costs; here it is what it brings.
        Column("FUNDING/h", 10, lambda row: signed(usdc(row.funding_1h, -1), 4), 4),
        Column("CAUSE", 9, lambda row: (f"#{row.seq}", "dim"), 6),
    ]  # fmt: skip


POSITIONS: Final = Table("positions", lambda snapshot: snapshot.positions, _position_columns,
                           "no open position is known", "ticker")  # fmt: skip

# === Way out ===


class _Step(NamedTuple):
    """A rung, its place in the ladder, whether it is due, and its market's exit as costed."""

    place: int
    rung: Rung
    is_due: bool
    exit: Exit | None

    @property
    def ticker(self) -> str:
        return self.rung.ticker


def _steps(snapshot: Snapshot) -> list[_Step]:
    if snapshot.watch is None:
        return []
    plan = snapshot.watch.plan
    exits = {exit_.ticker: exit_ for exit_ in plan.exits if isinstance(exit_, Exit)}
    firing = len(due(plan, plan.distance_next))
    return [
        _Step(place, rung, place <= firing, exits.get(rung.ticker))
        for place, rung in enumerate(plan.rungs, 1)
    ]


def _plan_rows(snapshot: Snapshot, width: int) -> list[Row]:
    watch, safety = snapshot.watch, snapshot.safety
    if watch is None:
        return _UNSEEN
    plan = watch.plan
    word, style = _alarm(plan.distance_now, safety.act_below) if plan.exits else ("FLAT", "good")
    now = distance_text(plan.distance_now) if plan.exits else "nothing is held"
    guard = "is off" if safety.act_below is None else f"below {percent(safety.act_below)}"
    after = ("after another block like these", distance_text(plan.distance_next))
    return [
        [(f"{word} ", style), (f"{now} ", style), ("now  ", "dim"), *pairs(
            width - len(word) - len(now) - 7, after if plan.exits else _seen(watch),
            ("guard", guard))],
        *([_ladder_row(plan, watch, width)] if plan.rungs else []),
        *([(f"{ticker} stays: {why}", "watch")] for ticker, why in plan.left),
        *_unknown_rows(width, watch.trouble, *(f"{t}: no figure at all" for t in plan.unknown)),
    ]  # fmt: skip


def _ladder_row(plan: FlightPlan, watch: Watch, width: int) -> Row:
    count, enough = len(plan.rungs), "" if plan.is_enough else ", not enough"
    end = f"from {distance_text(plan.drawn_at)} to {_reached(plan.distance_after)}{enough}"
    return pairs(
        width,
        (f"{count} rung{'s' * (count > 1)}", end),
        ("cost", f"{figure(usdc(plan.cost))} USDC"),
        _seen(watch),
    )


_UNSEEN: Final[list[Row]] = [[("unknown: nobody has looked at the account yet", "watch")]]


def _seen(watch: Watch) -> tuple[str, str]:
    return "at", f"{clock(watch.at)} #{watch.seq}"


def _reached(distance: float | None) -> str:
    return "nothing held" if distance == math.inf else distance_text(distance)


def _unknown_rows(width: int, *reasons: str) -> list[Row]:
    """Tell what is not known and why, at most on three rows."""
    told = "; ".join(filter(None, reasons))
    lines = folded(f"{UNKNOWN}: {told}", width)[:3] if told else []
    return [[(line, "watch")] for line in lines]


def _held(quantums: int) -> Cell:
    return ("LONG", "up") if quantums > 0 else ("SHORT", "down")


def _size(rung: Rung, quantums: int) -> str:
    return figure(rung.market.size(abs(quantums)), grid(rung.market)[1])


def _fires(step: _Step) -> Cell:
    text = distance_text(step.rung.fires_below)
    return (f"DUE {text}", "danger") if step.is_due else (f"below {text}", "")


_FLIGHT_COLUMNS: Final = (
    Column("", 2, lambda step: (f"{step.place}", "key")),
    Column("MARKET", 9, lambda step: (step.ticker, "bold"), 0, True),
    Column("SIDE", 4, lambda step: (step.rung.side, _held(step.rung.delta)[1]), 1, True),
    Column("SIZE", 8, lambda step: (_size(step.rung, step.rung.quantums), "")),
    Column("HELD", 9, lambda step: (
        f"{'+' if step.rung.held > 0 else '-'}{_size(step.rung, step.rung.held)}",
        _held(step.rung.held)[1])),
    Column("WORST", 9, lambda step: (
        figure(step.rung.market.price(step.rung.subticks), grid(step.rung.market)[0]), "")),
    Column("COST", 7, lambda step: (figure(usdc(step.rung.cost)), "bold")),
    Column("RESTORES", 8, lambda step: (_restored(step.rung), "")),
    Column("FIRES", 12, _fires, 0, True),
    Column("SPREAD", 8, lambda step: (figure(usdc(step.rung.spread)), "dim"), 5),
    Column("IMPACT", 8, lambda step: (figure(usdc(step.rung.impact)), "dim"), 6),
    Column("FEE", 8, lambda step: (figure(usdc(step.rung.fee)), "dim"), 7),
)  # fmt: skip


def _restored(rung: Rung) -> str:
    return "flat" if rung.restores == math.inf else distance_text(rung.restores)


def _costs(step: _Step) -> str:
    """Tell what a rung's cost is made of, what doing nothing would cost, and on which prices."""
    rung, exit_ = step.rung, step.exit
    spread, impact, fee = (figure(usdc(part)) for part in (rung.spread, rung.impact, rung.fee))
    blind = f"BLIND, {rung.blind}: the oracle less a haircut"
    depth = blind if rung.blind else f"{percent(rung.depth_share, 0)} of the depth"
    parts = _size(rung, rung.liquidation_quantums)
    liquidated = f"liquidated {figure(usdc(rung.liquidation_cost))} at most, {parts} a block"
    told = [f"spread {spread} impact {impact} fee {fee}", depth, liquidated]
    if exit_ is not None:
        digits = grid(exit_.market)[0]
        told.append(f"oracle {figure(_oracle(exit_.price, exit_.exponent), digits)}")
        if exit_.best:
            told.append(f"best {figure(exit_.market.price(exit_.best), digits)}")
    return " · ".join(told)


def _oracle(price: int | None, exponent: int) -> Decimal | None:
    return None if price is None else Decimal(price).scaleb(exponent)


FLIGHT: Final = Table("flight", _steps, lambda _: _FLIGHT_COLUMNS, "no rung is drawn", "ticker",
                      _plan_rows, _costs, gap=1)  # fmt: skip

# === Stress ===


class _Shock(NamedTuple):
    """One row of the table: what each move leaves, 0 being no move, and the figures under it."""

    ticker: str
    cells: dict[int, StressCell]
    act_below: float | None
    told: str = ""


def _shocks(snapshot: Snapshot) -> list[_Shock]:
    watch, act = snapshot.watch, snapshot.safety.act_below
    if watch is None or not watch.stress.rows:
        return []
    table, figures = watch.stress, watch.figures
    now, capped, clamped = table.now(), table.capped(), table.clamped()
    free = None if capped.equity is None else capped.equity - (capped.initial_margin or 0)
    hours = f"{table.funding_hours} h of the highest funding, all paying"
    initial = figure(usdc(capped.initial_margin))
    return [
        _Shock("now", {0: now}, act, _equity_words(figures)),
        _Shock("together", _by_move(table.together()), act, _together_words(table)),
        _Shock("OI capped", {0: capped}, act,
               f"every open interest at its cap: initial {initial}, free {figure(usdc(free))}"),
        _Shock("funding", {0: clamped}, act,
               f"{hours}: equity {figure(usdc(clamped.equity))}"),
        *(_Shock(ticker, _by_move(table.market(ticker)), act, told)
          for ticker, told in _market_words(watch)),
    ]  # fmt: skip


def _by_move(cells: list[StressCell]) -> dict[int, StressCell]:
    return {cell.move_percent: cell for cell in cells}


def _equity_words(figures: RiskFigures) -> str:
    margin = figures.margin
    if margin is None:
        return UNKNOWN
    named = (
        ("equity", margin.net_collateral),
        ("initial", margin.initial_margin),
        ("maint.", margin.maintenance_margin),
        ("free", margin.free_collateral),
    )
    return " · ".join(f"{name} {figure(usdc(quote))}" for name, quote in named)


def _together_words(table: StressTable) -> str:
    ends = [cell for cell in table.together() if abs(cell.move_percent) == 10]
    equity = ", ".join(f"{figure(usdc(c.equity))} at {c.move_percent:+} %" for c in ends)
    known = ((t, row.holding.beta) for t, row in table.rows.items() if t not in table.assumed)
    betas = [f"{ticker} {figure(beta)}" for ticker, beta in known]
    betas += [f"{ticker} unknown (1)" for ticker in table.assumed]
    return f"equity {equity} · betas {', '.join(betas)}"


def _market_words(watch: Watch) -> Iterator[tuple[str, str]]:
    """Tell of each market that is held, the nearest to liquidation first."""
    advice = {advised.ticker: advised for advised in watch.leverage}
    rows = watch.stress.rows
    held = [position for position in watch.figures.positions if position.ticker in rows]
    held.sort(key=lambda p: math.inf if p.distance is None else p.distance)
    told = {p.ticker: _position_words(p, rows[p.ticker].holding, advice.get(p.ticker))
            for p in held}  # fmt: skip
    yield from ((ticker, told.get(ticker, UNKNOWN)) for ticker in dict.fromkeys((*told, *rows)))


def _position_words(
    position: PositionFigures, holding: Holding, advice: LeverageAdvice | None
) -> str:
    price_digits, size_digits = grid(holding.market)
    size = figure(abs(position.size), size_digits)
    oracle = figure(position.oracle_price, price_digits)
    liquidated = f"liquidated at {figure(position.liquidation_price, price_digits)}"
    never = position.liquidation_price is None and position.distance == math.inf
    told = [
        f"{_held(holding.quantums)[0]} {size} at {oracle}",
        f"{distance_text(position.distance)}, {figure(position.sigmas, 1)} sigmas",
        *([] if advice is None else _advised(advice)),
        "no price of it liquidates" if never else liquidated,
        f"{percent(position.share)} of gross",
        f"funding {figure(usdc(position.funding_1h), 4, sign=True)} USDC/h",
        *([] if advice is None else advice.reasons[:-1]),
        *position.unknown,
    ]
    return " · ".join(told)


def _advised(advice: LeverageAdvice) -> list[str]:
    most = f"at most {figure(advice.most, 1)}{TIMES}"
    why = advice.reasons[-1] if advice.reasons else "no reason is given"
    if advice.leverage is None:
        return [f"leverage unknown: {why}", most]
    return [f"lever {figure(advice.leverage, 1)}{TIMES}: {why}", most]


def _left(shock: _Shock, move: int) -> Cell:
    """Write the distance that a shock leaves in four letters, rounded down."""
    cell = shock.cells.get(move)
    if cell is None:
        return "", ""
    if cell.liquidatable is None:
        return "?", "watch"
    if cell.liquidatable:
        return "LIQ", "danger"
    distance = cell.distance
    if distance is None or math.isnan(distance):
        return "none", ""
    near = shock.act_below is not None and distance < shock.act_below
    tenths = int(min(max(distance, 0.0), 10.0) * 1_000 + 1e-9)
    whole = tenths >= 1_000 or (near and tenths >= 100)
    text = ">999" if tenths > 9_990 else f"{tenths // 10}" if whole else f"{tenths / 10:.1f}"
    return (f"{text}!", "watch") if near else (text, "bold" if not move else "")


def _move_column(move: int) -> Column:
    title = f"{move:+}" if move else "0"
    rank = {1: 4, 2: 3, 5: 2, 20: 1}.get(abs(move), 0)
    return Column(title, 4, lambda shock: _left(shock, move), rank)


_AROUND: Final = sorted((*MOVES_PERCENT, 0))
_STRESS_COLUMNS: Final = (
    Column("MOVE IN %", 10, lambda shock: (shock.ticker, "bold"), 0, True),
    *(_move_column(move) for move in _AROUND),
)


def _risk_rows(snapshot: Snapshot, width: int) -> list[Row]:
    watch = snapshot.watch
    if watch is None:
        return _UNSEEN
    figures, table = watch.figures, watch.stress
    if not table.rows and not table.unknown:
        return [[("nothing is held: no price can hurt", "good")], pairs(width, _seen(watch))]
    margin = figures.margin
    distance = margin.distance if margin is not None else None
    word, style = _alarm(distance, snapshot.safety.act_below)
    hours = figures.hours_to_breach
    alone = "never" if hours == math.inf else figure(hours, 0, unit=" h")
    share = percent(figures.largest_share, 0)
    # Each reason once: positions and table tell of the same ones.
    lacking = dict.fromkeys((*table.unknown, *figures.unknown))
    return [
        [(f"{word} {distance_text(distance)}  ", style), *pairs(
            width - len(word) - 12, ("sigmas of an hour", figure(figures.sigmas, 1)),
            ("usage", percent(margin.usage if margin else None)), _seen(watch))],
        pairs(width, ("funding", figure(usdc(figures.funding_1h), 4, sign=True)),
              ("a day", f"{figure(usdc(figures.funding_1d), 2, sign=True)} USDC"),
              ("takes off the distance", percent(figures.funding_distance_1d, 3)),
              ("breaches alone", alone)),
        pairs(width, ("largest", f"{figures.largest or UNKNOWN} {share}"),
              ("herfindahl", figure(figures.herfindahl)),
              ("long", figure(usdc(figures.long_notional), 0)),
              ("short", figure(usdc(figures.short_notional), 0)),
              ("net", figure(usdc(figures.net_notional), 0, sign=True))),
        *_unknown_rows(width, watch.trouble, *lacking),
        [("distance left in %  ", "dim"), ("LIQ", "danger"), (" liquidatable  ", "dim"),
         ("!", "watch"), (" below where the guard acts", "dim")],
    ]  # fmt: skip


STRESS: Final = Table("stress", _shocks, lambda _: _STRESS_COLUMNS, "no shock is reckoned",
                      "ticker", _risk_rows, lambda shock: shock.told, gap=1)  # fmt: skip

# === Header and footer ===

# The keys, and what stands above and below the panels.

# Which panel each key shows full screen.
KEYS: Final = {
    "1": "safety", "2": "positions", "3": "markets", "4": "signals", "5": "decisions",
    "6": "orders", "7": "quality", "8": "speed", "9": "book", "0": "wire", "t": "tape",
    "f": "flight", "x": "stress", "v": "venue",
}  # fmt: skip
_KEY_OF: Final = {name: key for key, name in KEYS.items()}
_KEYS: Final = (
    ("space", "pause"), ("+/-", "speed"), ("w", "why"), ("/", "filter"), ("?", "help"),
    ("q", "quit"), (".", "pause after the next decision"), ("s", "save the screen as SVG"),
    ("up/down", "select a row of the tape, or of the panel shown alone"),
)  # fmt: skip


def _header(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    head = snapshot.header
    word = head.mode.upper() or "MODE UNKNOWN"
    style = next((name for name in ("replay", "paper", "live") if name.upper() in word), "bold")
    speed = "" if head.speed is None else f" {TIMES}{head.speed:g}"
    speed, style = (f"{speed} PAUSED", "paused") if view.paused else (speed, style)
    live = head.connection.startswith("live")
    link = f"{'●' if live else '○'} {head.connection or 'link unknown'}"
    parts: list[tuple[int, Row]] = [
        (0, [(f" {word}{speed} ", style)]),
        (5, [(head.source or "source unknown", "bold")]),
        (6, [(clock(head.clock_ns, "%Y-%m-%d"), "")]),
        (1, [(clock(head.clock_ns, "%H:%M:%SZ"), "")]),
        (2, [(link, "good" if live else "watch")]),
        (3, [("lag p99 ", "dim"), (figure(head.lag_p99_ms, 1, unit=" ms"), "")]),
        (4, [("age ", "dim"), (figure(head.data_age_s, 1, unit=" s"), "")]),
        (7, [("rate ", "dim"), (figure(head.frames_per_s, 0, unit=" f/s"), "")]),
        (9, [("memory ", "dim"), (figure(head.memory_mb, 0, unit=" MB"), "")]),
        (10, [("CPU ", "dim"), (figure(head.cpu_percent, 0, unit=" %"), "")]),
        (8, [("run ", "dim"), (head.run_hash[:8] or UNKNOWN, "")]),
    ]
    return [chunks(parts, width, "  " if width >= 132 else " ")]


def _footer(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    if view.filtering:
        hint = "▏  enter keeps, esc clears"
        return [[(" /", "key"), (view.filter, "bold"), (hint, "dim")]]
    said: list[Row] = [[(view.message, "watch")]] if view.message else []
    if view.filter:
        said.append([("/", "key"), (view.filter, "watch")])
    # Six commonest keys stay first, the panels' numbers where there is room.
    numbers: list[Row] = [
        [(f"{key} ", "key"), (name, "bold" if view.panel == name else "dim")]
        for key, name in KEYS.items()
    ]
    common: list[Row] = [[(f"{key} ", "key"), (what, "dim")] for key, what in _keys(snapshot, 6)]
    ranked = [(0, said), (20, numbers), (1, common)]
    parts = [(rank + i, row) for rank, rows in ranked for i, row in enumerate(rows)]
    return [[(" ", ""), *chunks(parts, width - 1)]]


def _keys(snapshot: Snapshot, most: int) -> list[tuple[str, str]]:
    # Only a replay has a speed to change.
    replayed = snapshot.header.speed is not None
    return [pair for pair in _KEYS[:most] if replayed or pair[0] != "+/-"]


def _help(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    """List the panels' keys two a row, then the others that work now."""
    keys = [(key, f"{name} alone") for key, name in KEYS.items()]
    half = (len(keys) + 1) // 2
    return [
        *([cell for key, what in pair if key for cell in _key_cells(key, f"{what:<26}")]
          for pair in zip_longest(keys[:half], keys[half:], fillvalue=("", ""))),
        [("  the same key  ", "key"), ("again to go back", "")],
        [],
        *(_key_cells(key, what) for key, what in _keys(snapshot, len(_KEYS))),
    ]  # fmt: skip


def _key_cells(key: str, what: str) -> Row:
    return [(f"  {key:<10}", "key"), (what, "")]


def _why(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    # Wire text is long and matters to its last letter.
    lines = [part for line in view.why for part in folded(line, width)]
    first = max(0, min(view.scroll, len(lines) - height))
    return [[(line, "")] for line in lines[first : first + height]]


# === Screen ===

# Which panels there are, where they stand, and how they become rows.

_VIEW: Final = View()
_FULL: Final = Theme()


class Panel(NamedTuple):
    """A panel: its title, the parts of a snapshot it reads, and what draws it."""

    title: str
    reads: tuple[str, ...]
    draws: Table | Callable[[Snapshot, View, int, int], list[Row]]


PANELS: Final[dict[str, Panel]] = {
    "safety": Panel("Safety · distance to liquidation", ("safety", "watch", "header"), safety_rows),
    "positions": Panel("Positions", ("positions", "safety", "markets"), POSITIONS),
    "markets": Panel("Markets", ("markets",), MARKETS),
    "signals": Panel("Signals", ("markets",), SIGNALS),
    "decisions": Panel("Decisions", ("decisions",), DECISIONS),
    "orders": Panel("Orders and fills", ("verdicts", "fills", "money", "counts"), ORDERS),
    "quality": Panel("Quality", ("quality",), QUALITY),
    "speed": Panel("Speed", ("speed",), speed_rows),
    "book": Panel("Book", ("book",), book_rows),
    "wire": Panel("Wire", ("wire",), WIRE),
    "tape": Panel("Tape", ("tape",), TAPE),
    "flight": Panel("Way out", ("watch", "safety"), FLIGHT),
    "stress": Panel("Stress", ("watch", "safety"), STRESS),
    "venue": Panel("Paper venue", ("venue",), VENUE),
    "header": Panel("", ("header",), _header),
    "footer": Panel("", ("header",), _footer),
    "help": Panel("Keys", ("header",), _help),
    "why": Panel("Why", (), _why),
}


def selectable(snapshot: Snapshot, view: View) -> tuple[str, ...]:
    """Return the ids of the rows `view.selected` counts, in the order they are drawn."""
    table = _panel(view.panel or "tape").draws
    if not isinstance(table, Table):
        return ()
    return tuple(str(getattr(row, table.id)) for row in rows_of(table, snapshot, view))


def _panel(name: str) -> Panel:
    if name not in PANELS:
        raise PanelError(f"expected a panel among {', '.join(PANELS)}, got {name!r}")
    return PANELS[name]


class Screen(NamedTuple):
    """Rows of styled text of one exact width: print it, read it as `text`, or compare it."""

    rows: tuple[tuple[Strip, ...], ...]
    width: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Yield the rows, each with its end of line."""
        for row in self.rows:
            for strip in row:
                yield from strip
            yield Segment.line()

    @property
    def text(self) -> str:
        """Return the rows as plain text."""
        return "\n".join("".join(part.text for strip in row for part in strip) for row in self.rows)


def panel(
    name: str, snapshot: Snapshot, width: int, height: int, view: View = _VIEW, theme: Theme = _FULL
) -> Screen:
    """Draw one panel in a frame; `PanelError` for a name that is none."""
    strips = _drawn(name, snapshot, view, width, height, theme)
    return Screen(tuple((strip,) for strip in strips), width)


def dashboard(
    snapshot: Snapshot, view: View = _VIEW, width: int = 80, height: int = 24,
    theme: Theme = _FULL, memo: dict[Any, Any] | None = None,
) -> Screen:  # fmt: skip
    """Draw the whole screen; a `memo` kept between calls redraws only what changed."""
    memo = {} if memo is None else memo

    def cached(name: str, wide: int, high: int) -> Any:
        key = (*(getattr(snapshot, part) for part in _panel(name).reads), view, theme)
        known = memo.get((name, wide, high))
        if known is None or known[0] != key:
            known = memo[name, wide, high] = key, _drawn(name, snapshot, view, wide, high, theme)
        return known[1]

    rows: list[tuple[Strip, ...]] = [(cached("header", width, 1)[0],)]
    for high, names in _bands(view, width, max(height - 2, 0)):
        rows += zip(*(cached(name, wide, high) for name, wide in names), strict=True)
    rows.append((cached("footer", width, 1)[0],))
    return Screen(tuple(rows[: max(height, 1)]), width)


def _drawn(
    name: str, snapshot: Snapshot, view: View, width: int, height: int, theme: Theme
) -> list[Strip]:
    """Draw one panel to exactly `width` by `height`, framed when there is room for a frame."""
    shown = _panel(name)
    framed = bool(shown.title) and height >= 4 and width >= 16
    inside, high = (width - 4, height - 2) if framed else (width, height)
    draw = partial(listed, shown.draws) if isinstance(shown.draws, Table) else shown.draws
    rows = draw(snapshot, view, max(inside, 1), max(high, 1))[: max(high, 0)]
    strips = [fitted(row, max(inside, 0), theme) for row in rows]
    strips += [fitted([], max(inside, 0), theme)] * (high - len(strips))
    return _framed(name, strips, snapshot, view, width, theme) if framed else strips


def _framed(
    name: str, strips: list[Strip], snapshot: Snapshot, view: View, width: int, theme: Theme
) -> list[Strip]:
    shown, held = PANELS[name], chosen_row(view, name) >= 0 or view.panel == name
    line = state_of(snapshot.safety)[1] if name == "safety" else "accent" if held else "faint"
    # The title says what the panel is about just now.
    counts = {"markets": len(snapshot.markets), "positions": len(snapshot.positions)}
    notes = {"book": snapshot.book.ticker, "why": view.why_title}
    title = f" {shown.title} {notes.get(name) or counts.get(name) or ''}".rstrip() + " "
    key: Row = [(f" {_KEY_OF[name]}", "key")] if name in _KEY_OF else []
    rest = max(width - 4 - cell_len(title) - sum(len(text) for text, _ in key), 0)
    top: Row = [("╭─", line), *key, (title, "title"), ("─" * rest, line)]
    left, right = fitted([("│ ", line)], 2, theme), fitted([(" │", line)], 2, theme)
    return [
        (*fitted(top, width - 2, theme), *fitted([("─╮", line)], 2, theme)),
        *((*left, *strip, *right) for strip in strips),
        fitted([("╰" + "─" * (width - 2) + "╯", line)], width, theme),
    ]


class _Band(NamedTuple):
    """Panels side by side: the least and the wanted height, and a share of what is over."""

    least: int
    wanted: int
    share: int
    names: tuple[tuple[str, float], ...]


_STACK: Final = (
    _Band(4, 6, 1, (("positions", 1.0),)),
    _Band(4, 9, 2, (("markets", 1.0),)),
    _Band(4, 6, 1, (("decisions", 1.0),)),
    _Band(4, 7, 1, (("tape", 1.0),)),
)
# From the widest screen to the narrowest: (least width, least height, bands).
_LAYOUTS: Final[tuple[tuple[int, int, tuple[_Band, ...]], ...]] = (
    (170, 50, (
        _Band(9, 15, 0, (("safety", 0.48), ("flight", 0.52))),
        _Band(5, 7, 1, (("positions", 0.52), ("orders", 0.48))),
        _Band(11, 16, 2, (("markets", 0.5), ("stress", 0.5))),
        _Band(7, 11, 2, (
            ("book", 0.2), ("signals", 0.18), ("wire", 0.22), ("quality", 0.2), ("speed", 0.2))),
        _Band(5, 9, 1, (("decisions", 0.48), ("tape", 0.52))),
    )),
    (140, 42, (
        _Band(9, 11, 0, (("safety", 0.5), ("flight", 0.5))),
        _STACK[0],
        _Band(6, 10, 2, (("markets", 0.62), ("book", 0.38))),
        *_STACK[2:],
    )),
    (110, 32, (_Band(9, 10, 0, (("safety", 0.6), ("book", 0.4))), *_STACK)),
    (60, 38, (_Band(7, 10, 0, (("safety", 1.0),)), *_STACK)),
    (0, 0, (_Band(1, 10, 0, (("safety", 1.0),)), _STACK[0], _Band(3, 6, 2, (("tape", 1.0),)))),
)  # fmt: skip


def _bands(view: View, width: int, height: int) -> Iterator[tuple[int, list[tuple[str, int]]]]:
    """Yield (height, panels with widths) from top to bottom, filling the space exactly."""
    alone = "help" if view.help else "why" if view.why else view.panel
    bands = [_Band(0, height, 1, ((alone, 1.0),))]
    if alone not in PANELS:
        bands = list(next(b for wide, high, b in _LAYOUTS if width >= wide and height + 2 >= high))
    while len(bands) > 1 and sum(band.least for band in bands) > height:
        bands.pop()
    heights = [min(band.least, height) for band in bands]
    for i, band in enumerate(bands):
        heights[i] += min(band.wanted - band.least, height - sum(heights))
    spare, shares = height - sum(heights), max(sum(band.share for band in bands), 1)
    for i, band in enumerate(bands):
        heights[i] += spare * band.share // shares
    heights[-1] += height - sum(heights)
    for high, band in zip(heights, bands, strict=True):
        wide = [(name, int(width * share)) for name, share in band.names[:-1]]
        yield high, [*wide, (band.names[-1][0], width - sum(part for _, part in wide))]


# === Edges ===

# The terminal: alternate screen, only changed rows written, and always given back.

_WORDS: Final = re.compile(r" +|[^ ]+(?: [^ ]+)*")


class Dashboard:
    """The dashboard on a terminal; use it with `try: draw(...) finally: shutdown()`.

    The first `draw` takes the alternate screen; each further one writes the rows that differ
    from those before it, in one write; a change of the terminal's size redraws all.
    """

    def __init__(self, console: Console, theme: Theme | None = None) -> None:
        """Draw on `console`; without a theme the console is asked what it can show."""
        self._console = console
        self._theme = theme or Theme.of(console)
        self._memo: dict[Any, Any] = {}
        self._rows: tuple[tuple[Strip, ...], ...] = ()
        self._size: tuple[int, int] | None = None

    def draw(self, snapshot: Snapshot, view: View = _VIEW) -> int:
        """Bring the terminal up to date and return how many rows were written."""
        size = self._console.size
        if self._size is None:
            self._console.set_alt_screen(True)
            self._console.show_cursor(False)
        if self._size != size:
            self._size, self._rows, self._memo = size, (), {}
        rows = dashboard(snapshot, view, *size, self._theme, self._memo).rows
        before = self._rows
        changed = [i for i, row in enumerate(rows) if i >= len(before) or row != before[i]]
        if changed:
            # Synchronised output: terminals that know it show the frame whole, others ignore it.
            parts = [Segment("\x1b[?2026h" + ("" if before else "\x1b[2J"))]
            for i in changed:
                parts.append(Segment(f"\x1b[{i + 1};1H"))
                parts += (segment for strip in rows[i] for segment in strip)
            parts.append(Segment("\x1b[?2026l"))
            self._console.print(Segments(parts), end="", crop=False)
        self._rows = rows
        return len(changed)

    def shutdown(self) -> None:
        """Give the terminal back as it was; doing it again does nothing."""
        if self._size is not None:
            self._size, self._rows = None, ()
            self._console.show_cursor(True)
            self._console.set_alt_screen(False)


def run_panel(name: str, snapshot: Snapshot, console: Console, view: View = _VIEW) -> None:
    """Print one panel once, as large as the console; 24 rows in a pipe."""
    high = console.height - 1 if console.is_terminal else 24
    console.print(panel(name, snapshot, console.width, high, view, Theme.of(console)), end="")


def export_svg(snapshot: Snapshot, view: View = _VIEW, width: int = 120, height: int = 40) -> str:
    """Return the dashboard as an SVG picture, the same for the same arguments."""
    console = Console(
        record=True, width=width, height=height, file=io.StringIO(), color_system="truecolor",
        force_terminal=True, legacy_windows=False, no_color=False,
    )  # fmt: skip
    # Viewers differ in runs of spaces and in fonts: each word is placed by itself.
    drawn = dashboard(snapshot, view, width, height).__rich_console__(console, console.options)
    words = (Segment(text, part.style) for part in drawn for text in _WORDS.findall(part.text))
    console.print(Segments(words), end="")
    return console.export_svg(title="bot")

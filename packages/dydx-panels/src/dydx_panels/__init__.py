"""The screen: what the bot sees, is doing and why, drawn from one immutable snapshot.

    live state ── the bot copies ──► Snapshot ──► panel(name) ──► Screen ──► Dashboard.draw

`Snapshot` holds the layers' own frozen values (decisions, verdicts, scores, margin) and copies of
what goes on changing; `View` is what the person chose. Panels are pure functions of the two and of
a size; `dashboard` lays them out, `Dashboard` writes the rows that changed, `run_panel` prints one
panel, `export_svg` makes a picture.

Units: money is USDC (quote quantums in the layers' values), sizes base units, fractions 0..1,
scores 0..100, times nanoseconds UTC. What is not known is None and is drawn as "unknown", never as
0. Red means danger alone; every colour stands beside a word or a sign, so that none is needed.
Nothing here subscribes, reads a clock or touches live state; the edge alone writes.
"""

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
from dydx_risk import Denied, MarginFigures, PositionFigures, Reduce, Verdict
from dydx_signals import Score
from dydx_strategy import Decision
from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.segment import Segment, Segments
from rich.style import Style

__all__ = [
    "KEYS", "PANELS", "Book", "Dashboard", "Header", "MarketRow", "Panel", "PanelError", "Quality",
    "Safety", "Screen", "Snapshot", "Speed", "TapeRow", "Theme", "View", "Wire", "dashboard",
    "export_svg", "panel", "run_panel", "selectable",
]  # fmt: skip

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


class Theme(msgspec.Struct, frozen=True, kw_only=True):
    """What the terminal can show: Unicode, and Rich's name of its colours, "" for none."""

    unicode: bool = True
    colours: str = "truecolor"

    @classmethod
    def of(cls, console: Console) -> "Theme":
        """Honour NO_COLOR and an encoding that cannot carry the blocks."""
        colours = "" if console.no_color else console.color_system or ""
        return cls(unicode=console.encoding.lower().startswith("utf"), colours=colours)


_VIEW: Final = View()
_FULL: Final = Theme()

# === Rows ===
# A panel writes rows of (text, style name); `_strip` alone knows colours, ASCII and widths.

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
_TIMES: Final = "\N{MULTIPLICATION SIGN}"
_ASCII: Final = str.maketrans(
    "╭╮╰╯─│┃┼▁▂▃▄▅▆▇█▉▊▋▌▍▎▏░▲▼●○·…→≈≥≤—µ" + _TIMES,
    "++++-||+_.-=+*%#####   .^v*o-~>~><-ux",
)


@lru_cache(maxsize=8)
def _styles(theme: Theme) -> dict[str, Style]:
    # A style remembers the escapes of the first console it met: each theme has its own.
    return {name: Style.parse(pair[not theme.colours]).copy() for name, pair in _STYLES.items()}


_MARK: Final = ("", "select")  # first in a row that is selected


def _strip(row: Row, width: int, theme: Theme) -> Strip:
    """Make a row exactly `width` cells wide, in the theme's colours and letters."""
    styles, left, strip = _styles(theme), width, []
    base = "select" if row[:1] == [_MARK] else ""
    for text, name in row:
        if not text.isascii() or not text.isprintable():
            text = _drawable(text, theme.unicode)
        size = len(text) if text.isascii() else cell_len(text)
        if size > left:
            text, size = _crop(text, left, theme.unicode), left
        if size:
            strip.append(Segment(text, styles[base or name]))
            left -= size
        if not left:
            break
    if left:
        strip.append(Segment(" " * left, styles[base]))
    return tuple(strip)


def _crop(text: str, width: int, unicode: bool = True) -> str:
    """Cut a text to exactly `width` cells, the last of them an ellipsis."""
    return set_cell_size(text, width - 1) + ("…" if unicode else "~") if width else ""


@lru_cache(maxsize=8192)
def _drawable(text: str, unicode: bool) -> str:
    # Foreign text may carry escapes, tabs and zero-width marks: none may reach the terminal.
    text = "".join(c if c.isprintable() and cell_len(c) else "?" for c in text)
    if unicode:
        return text
    return "".join(c if c.isascii() else "?" * cell_len(c) for c in text.translate(_ASCII))


# === Figures ===
# How a number becomes text: fixed decimals, thousands, sign and unit; None is "unknown".

_UNKNOWN: Final = "unknown"
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_SPARKS: Final = "▁▂▃▄▅▆▇█"


def _figure(
    value: float | Decimal | None, digits: int = 2, sign: bool = False, unit: str = ""
) -> str:
    if value is None or not math.isfinite(value):
        return _UNKNOWN
    if abs(float(value)) >= 1e13:
        return f"{value:{'+' if sign else ''}.3e}{unit}"
    return f"{value:{'+' if sign else ''},.{min(max(digits, 0), 12)}f}{unit}"


def _signed(value: float | Decimal | None, digits: int = 2) -> tuple[str, str]:
    """Return a figure with its sign, and the style of its direction."""
    return _figure(value, digits, sign=True), _sign(value)[1]


def _money(quote_quantums: int | None, sign: int = 1) -> float | None:
    return None if quote_quantums is None else sign * quote_quantums / 1e6


def _percent(fraction: float | None, digits: int = 1, sign: bool = False) -> str:
    return _figure(None if fraction is None else fraction * 100, digits, sign, " %")


def _distance(fraction: float | None) -> str:
    if fraction is None or math.isnan(fraction):
        return _UNKNOWN
    # Rounded down, so that what is below the guard's limit also reads as below it.
    tenths = int(min(max(fraction, 0.0), 10.0) * 1_000 + 1e-9)
    if tenths >= 10_000:
        return ">999 %"
    return f"{tenths / 10:.1f} %" if tenths < 1_000 else f"{tenths // 10} %"


def _clock(at: int | None, pattern: str = "%H:%M:%S") -> str:
    if at is None or not 0 <= at < 2**62:  # the calendar's end is far beyond
        return _UNKNOWN
    return datetime.fromtimestamp(at // 10**9, UTC).strftime(pattern)


@lru_cache(maxsize=1024)
def _grid(market: PerpetualMarket | None) -> tuple[int, int]:
    """Return the decimals of a market's prices and sizes."""
    if market is None:
        return 2, 3
    tick, step = market.price(market.subticks_per_tick), market.size(market.step_base_quantums)
    exponents = (int(unit.normalize().as_tuple().exponent) for unit in (tick, step))
    return max(-next(exponents), 0), max(-next(exponents), 0)


def _bar(fraction: float | None, width: int) -> str:
    """Draw a bar with eighths of a cell, on a dotted ground that shows where it would end."""
    if fraction is None or math.isnan(fraction):
        return "?" * width
    full, part = divmod(int(min(max(fraction, 0.0), 1.0) * width * 8), 8)
    return ("█" * full + (_EIGHTHS[part] if part else ""))[:width].ljust(width, "░")


def _spark(values: Sequence[float], width: int) -> str:
    shown = [value for value in values[-width:] if math.isfinite(value)] if width > 0 else []
    if not shown:
        return " " * width
    low, high = min(shown), max(shown)
    scale = 7.999 / (high - low) if math.isfinite(high - low) and high > low else 0.0
    blocks = (_SPARKS[int((value - low) * scale) if scale else 3] for value in shown)
    return "".join(blocks).rjust(width)


def _sign(value: float | Decimal | None) -> tuple[str, str]:
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
def _big(text: str, high: int, wide: int) -> tuple[str, ...]:
    """Draw `text` in blocks, a dot being `high` rows by `wide` cells."""
    gap, dots = " " * max(wide // 2, 1), str.maketrans({"#": "█" * wide, ".": " " * wide})
    rows = (gap.join(_GLYPHS[letter][line] for letter in text).translate(dots) for line in range(5))
    return tuple(row for row in rows for _ in range(high))


# === Tables ===

Cell = tuple[str, str]


class _Column(NamedTuple):
    """A cell's title, width (0 takes what is left) and text; the highest `rank` goes first."""

    title: str
    width: int
    cell: Callable[[Any], Cell]
    rank: int = 0
    left: bool = False


class _Table(NamedTuple):
    """A list on a panel: its rows, and the columns that they need.

    `id` names the attribute that `why` can be asked by. `above` are rows over the list, `below` is
    a second line of each row, told whole when the panel is alone. A `faded` row is grey.
    """

    name: str
    rows: Callable[[Snapshot], Sequence[Any]]
    columns: Callable[[Snapshot], Sequence[_Column]]
    empty: str = ""
    id: str = "id"
    above: Callable[[Snapshot, int], list[Row]] = lambda snapshot, width: []
    below: Callable[[Any], str] = lambda row: ""
    faded: Callable[[Any], bool] = lambda row: False


def _list(table: _Table, snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    """Draw a list under its titles, around the selected row, whose text is told whole if alone."""
    rows, chosen = _rows(table, snapshot, view), _chosen(view, table.name)
    drawn = table.above(snapshot, width)
    if not rows:
        return [*drawn, [("nothing matches the filter" if view.filter else table.empty, "dim")]]
    columns, room = _kept(table.columns(snapshot), width)
    detail: list[str] = []
    if view.panel and 0 <= chosen < len(rows) and not columns[-1].width:
        text = columns[-1].cell(rows[chosen])[0]
        detail = ["", *_folded(text, width)][: height // 3] if cell_len(text) > room else []
    titles = [(column.title, "dim") for column in columns]
    drawn += [_laid(titles, columns, room)] if any(title for title, _ in titles) else []
    high = height - len(detail)
    body = max(high - len(drawn), 0) // (2 if table.below(rows[0]) else 1)
    first = max(0, min(chosen - body // 2, len(rows) - body))
    for number, row in enumerate(rows[first : first + body], first):
        cells = [column.cell(row) for column in columns]
        line = _laid([(text, "dim") for text, _ in cells] if table.faded(row) else cells,
                     columns, room)  # fmt: skip
        drawn.append([_MARK, *line] if number == chosen else line)
        if below := table.below(row):
            told = _folded(f"    {below}", width) if view.panel else [f"    {below}"]
            drawn += [[(text, "dim")] for text in told]
    return [*drawn[:high], *([(text, "")] for text in detail)]


def _rows(table: _Table, snapshot: Snapshot, view: View) -> Sequence[Any]:
    """Return the rows of a list in which the filter's text is found."""
    rows, columns, wanted = table.rows(snapshot), table.columns(snapshot), view.filter.casefold()
    if not wanted:
        return rows

    def told(row: Any) -> list[str]:
        return [*(column.cell(row)[0] for column in columns), table.below(row)]

    return [row for row in rows if any(wanted in text.casefold() for text in told(row))]


def _chosen(view: View, name: str) -> int:
    return view.selected if (view.panel or "tape") == name else -1


def _laid(cells: Sequence[Cell], columns: Sequence[_Column], room: int) -> Row:
    """Bring cells to their widths, two spaces apart."""
    row: Row = []
    for (text, style), column in zip(cells, columns, strict=True):
        width = column.width or room
        text = text if cell_len(text) <= width else _crop(_drawable(text, True), width)
        spaces = " " * (width - cell_len(text))
        row.append((f"{text}{spaces}  " if column.left else f"{spaces}{text}  ", style))
    row[-1] = (row[-1][0][:-2], row[-1][1])
    return row


def _kept(columns: Sequence[_Column], width: int) -> tuple[list[_Column], int]:
    """Drop the columns of the highest rank until the rest fits; say what a growing one gets."""
    kept = list(columns)
    while True:
        fixed = sum(column.width + 2 for column in kept) - 2
        # A growing column without room for its words is worth less than any figure.
        needed = fixed + (28 if any(not column.width for column in kept) else 0)
        worst = max(range(len(kept)), key=lambda i: kept[i].rank)
        if needed <= width or not kept[worst].rank:
            return kept, max(width - fixed, 0)
        del kept[worst]


def _chunks(parts: Sequence[tuple[int, Row]], width: int, gap: str = "  ") -> Row:
    """Join what fits, dropping the highest rank first."""
    sizes = [sum(cell_len(text) for text, _ in row) + len(gap) for _, row in parts]
    kept = list(range(len(parts)))
    while len(kept) > 1 and sum(sizes[i] for i in kept) > width + len(gap):
        kept.remove(max(kept, key=lambda i: (parts[i][0], i)))
    return [cell for i in kept for cell in (*parts[i][1], (gap, ""))][:-1]


def _pairs(width: int, *figures: tuple[str, str | int]) -> Row:
    """Join named figures on one row; the last ones go when there is no room."""
    told = ((name, value if isinstance(value, str) else f"{value:,}") for name, value in figures)
    parts: list[Row] = [[(f"{name} ", "dim"), (text, "")] for name, text in told]
    return _chunks(list(enumerate(parts)), width)


def _beside(left: Sequence[Row], width: int, right: Sequence[Row]) -> list[Row]:
    rows: list[Row] = []
    for row, after in zip_longest(left, right, fillvalue=()):
        used = sum(cell_len(text) for text, _ in row)
        rows.append([*row, (" " * (width - used), ""), *after])
    return rows


def _folded(text: str, width: int) -> list[str]:
    """Break a long text into lines, between words where all letters are one cell wide."""
    text, room = _drawable(text, True), max(width - 4, 2)
    lines = wrap(text, room) if cell_len(text) == len(text) else chop_cells(text, room)
    first, *rest = lines or [""]
    return [first, *("    " + line for line in rest)]


# === Header and footer ===
# From here on, one pure function a panel: (snapshot, view, width, height) of the inside -> rows.

_KEYS: Final = (
    ("space", "pause"), ("+/-", "speed"), ("w", "why"), ("/", "filter"), ("?", "help"),
    ("q", "quit"), (".", "pause after the next decision"), ("s", "save the screen as SVG"),
    ("up/down", "select a row of the tape, or of the panel shown alone"),
)  # fmt: skip


def _header(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    head = snapshot.header
    word = head.mode.upper() or "MODE UNKNOWN"
    style = next((name for name in ("replay", "paper", "live") if name.upper() in word), "bold")
    speed = "" if head.speed is None else f" {_TIMES}{head.speed:g}"
    speed, style = (f"{speed} PAUSED", "paused") if view.paused else (speed, style)
    live = head.connection.startswith("live")
    link = f"{'●' if live else '○'} {head.connection or 'link unknown'}"
    parts: list[tuple[int, Row]] = [
        (0, [(f" {word}{speed} ", style)]),
        (5, [(head.source or "source unknown", "bold")]),
        (6, [(_clock(head.clock_ns, "%Y-%m-%d"), "")]),
        (1, [(_clock(head.clock_ns, "%H:%M:%SZ"), "")]),
        (2, [(link, "good" if live else "watch")]),
        (3, [("lag p99 ", "dim"), (_figure(head.lag_p99_ms, 1, unit=" ms"), "")]),
        (4, [("age ", "dim"), (_figure(head.data_age_s, 1, unit=" s"), "")]),
        (7, [("rate ", "dim"), (_figure(head.frames_per_s, 0, unit=" f/s"), "")]),
        (9, [("memory ", "dim"), (_figure(head.memory_mb, 0, unit=" MB"), "")]),
        (10, [("CPU ", "dim"), (_figure(head.cpu_percent, 0, unit=" %"), "")]),
        (8, [("run ", "dim"), (head.run_hash[:8] or _UNKNOWN, "")]),
    ]
    return [_chunks(parts, width, "  " if width >= 132 else " ")]


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
    return [[(" ", ""), *_chunks(parts, width - 1)]]


def _keys(snapshot: Snapshot, most: int) -> list[tuple[str, str]]:
    # Only a replay has a speed to change.
    replayed = snapshot.header.speed is not None
    return [pair for pair in _KEYS[:most] if replayed or pair[0] != "+/-"]


def _help(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    panels = ((key, f"{name} alone, again to go back") for key, name in KEYS.items())
    keys = (*panels, *_keys(snapshot, len(_KEYS)))
    return [[(f"  {key:<10}", "key"), (what, "")] for key, what in keys]


def _why(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    # Wire text is long and matters to its last letter.
    folded = [part for line in view.why for part in _folded(line, width)]
    first = max(0, min(view.scroll, len(folded) - height))
    return [[(line, "")] for line in folded[first : first + height]]


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


def _state(safety: Safety) -> tuple[str, str]:
    """Say how safe the account is: what is not known is a danger to open positions alone."""
    if safety.margin is None and not safety.positions:
        return "UNKNOWN", "watch"
    if safety.margin is not None and safety.distance is None:
        return "FLAT", "good"
    return _alarm(safety.distance, safety.act_below)


def _safety(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    safety = snapshot.safety
    word, style = _state(safety)
    figures, last = _safety_figures(safety, word, style), safety.last
    rungs: list[Row] = [[("next rung ", "dim"), _next_rung(safety)]]
    if last is not None:
        # A rung is red for half a minute of event time.
        alarm = "danger" if (snapshot.header.clock_ns or 0) - last.at < 30 * 10**9 else "watch"
        rungs.insert(0, [(f"last rung {_clock(last.at)} ", "dim"), (last.why, alarm)])
    distance = "" if safety.distance is None else _distance(safety.distance)
    sizes = ((4, 8), (3, 6), (2, 4), (2, 3), (1, 2), (1, 1))
    drawn = (_big(distance or word, high, wide) for high, wide in sizes)
    big = next((big for big in drawn if len(big) <= height - 2 and len(big[0]) <= width - 34), ())
    if not big:
        head = (f"{word} {distance}".rstrip() + " ", style)
        return [[head, *figures[0][1:]], _distance_bar(safety, style, width), *rungs, *figures[1:]]
    room = max(len(big), min(height - 1 - len(rungs), len(figures)))
    rows = _beside([[("  " + line, style)] for line in big], len(big[0]) + 4, figures[:room])
    line = _spark(safety.history, width - 16)
    return [*rows, _distance_bar(safety, style, width), *rungs,
            [("last minutes    ", "dim"), (line, "accent")]]  # fmt: skip


def _safety_figures(safety: Safety, word: str, style: str) -> list[Row]:
    margin, change = safety.margin, safety.change or 0.0
    usage, leverage = (margin.usage, margin.leverage) if margin else (None, None)
    arrow, direction = _sign(change)
    # What rounds to nothing has not moved.
    moved = f" {arrow}{abs(change) * 100:.1f}/min" if abs(change) >= 0.0005 else ""
    alarm = "" if usage is None or usage < 0.7 else "watch" if usage < 1 else "danger"
    times = "" if leverage is None else f"  {_figure(leverage, 1)}{_TIMES}"
    to = "" if safety.distance is None else "to liquidation"

    def money(name: str, quote_quantums: int | None, weight: str = "") -> Row:
        text = _figure(_money(quote_quantums))
        return [(f"{name:<10}", "dim"), (f"{text:>13}", weight), (" USDC", "dim")]

    return [
        [(f"{word} ", style), (to, "dim"), (moved, direction)],
        money("equity", margin.net_collateral if margin else None, "bold"),
        money("free", margin.free_collateral if margin else None),
        money("maint.", margin.maintenance_margin if margin else None),
        [("usage     ", "dim"), (f"{_percent(usage):>13}", alarm), (times, "dim")],
        [("closest   ", "dim"), (f"{_distance(safety.closest):>13}", "")],
        money("initial", margin.initial_margin if margin else None),
    ]


def _distance_bar(safety: Safety, style: str, width: int) -> Row:
    """Draw the distance against four times the guard's threshold, which is marked."""
    act = safety.act_below or _ACT
    label = f" guard acts at {_percent(act)}" if safety.act_below else " no guard"
    room = max(width - len(label) - 1, 4)
    distance = math.nan if safety.margin is None else safety.distance or 0.0
    bar, mark = _bar(distance / (act * 4), room), room // 4
    sign = ("┃", "key") if safety.act_below else (bar[mark], style)
    return [(bar[:mark], style), sign, (bar[mark + 1 :], style), (label, "dim")]


def _next_rung(safety: Safety) -> Cell:
    distance, act = safety.distance, safety.act_below
    if safety.margin is None:
        return _UNKNOWN, "dim"
    if act is None:
        return "none: the guard is off, nothing prevents liquidation", "watch"
    if distance is None:
        return "none: no position is held", ""
    until = f"reduces until {_percent(safety.restore_to)}"
    if distance < act:
        return f"due now: {until}", "danger"
    return f"{_distance(distance - act)} further against us: {until}", ""


def _position_columns(snapshot: Snapshot) -> list[_Column]:
    grids = {row.ticker: _grid(row.market) for row in snapshot.markets}
    act, sides = snapshot.safety.act_below, (("LONG", "up"), ("SHORT", "down"))

    def price(row: PositionFigures, value: Decimal | None) -> Cell:
        return _figure(value, grids.get(row.ticker, (2, 3))[0]), ""

    def liquidation(row: PositionFigures) -> Cell:
        # A price cannot fall below 0: the rest of the account carries such a position.
        value = row.liquidation_price
        return ("none", "") if value is not None and value <= 0 else price(row, value)

    def size(row: PositionFigures) -> Cell:
        return _figure(abs(row.size), grids.get(row.ticker, (2, 3))[1]), ""

    def bar(row: PositionFigures) -> Cell:
        scale = None if row.distance is None else row.distance / ((act or _ACT) * 4)
        return _bar(scale, 10), _alarm(row.distance, act)[1]

    return [
        _Column("TICKER", 10, lambda row: (row.ticker, "bold"), 0, True),
        _Column("SIDE", 5, lambda row: sides[row.size < 0], 0, True),
        _Column("SIZE", 10, size),
        _Column("ENTRY", 10, lambda row: price(row, row.entry_price), 3),
        _Column("ORACLE", 10, lambda row: price(row, row.oracle_price), 2),
        _Column("UPNL", 10, lambda row: _signed(row.unrealized_pnl)),
        _Column("LIQ PRICE", 10, liquidation, 1),
        _Column("DISTANCE", 8, lambda row: (_distance(row.distance), bar(row)[1])),
        _Column("", 10, bar, 5),
        # Risk tells what the next hour costs; here it is what it brings.
        _Column("FUNDING/h", 10, lambda row: _signed(_money(row.funding_1h, -1), 4), 4),
        _Column("CAUSE", 9, lambda row: (f"#{row.seq}", "dim"), 6),
    ]  # fmt: skip


_POSITIONS: Final = _Table("positions", lambda snapshot: snapshot.positions, _position_columns,
                           "no open position is known", "ticker")  # fmt: skip

# === Markets and signals ===


def _moved(row: MarketRow) -> Cell:
    before = row.history[-2] if len(row.history) > 1 else None
    return _sign(None if before is None or row.price is None else row.price - before)


def _status(row: MarketRow) -> Cell:
    if row.stale_s is not None:
        return f"stale {_figure(row.stale_s, 0)} s", "watch"
    return row.status or _UNKNOWN, "dim" if row.status == "ACTIVE" else "watch"


def _market_columns(snapshot: Snapshot) -> list[_Column]:
    names = dict.fromkeys(score.signal for row in snapshot.markets for score in row.scores)
    # Six scores, a history and a spread must find room side by side at 120 columns.
    bar = 4 if len(names) < 5 else 2

    def column(name: str) -> _Column:
        title = name.upper()[:10] if bar == 4 or len(name) < 7 else name.upper()[:5] + "."

        def cell(row: MarketRow) -> Cell:
            value = next((score.value for score in row.scores if score.signal == name), None)
            text = "  —" if value is None else f"{_bar(value / 100, bar)} {_figure(value, 0):>3}"
            return text, "accent"

        return _Column(title, max(bar + 4, len(title)), cell, 1, True)

    return [*_MARKET_COLUMNS, *map(column, names)]


_MARKET_COLUMNS: Final = (
    _Column("TICKER", 10, lambda row: (row.ticker, "bold"), 0, True),
    _Column("PRICE", 10, lambda row: (_figure(row.price, _grid(row.market)[0]), "")),
    _Column("", 1, _moved),
    _Column("HISTORY", 16, lambda row: (_spark(row.history, 16), "accent"), 3, True),
    _Column("SPREAD", 8, lambda row: (_figure(row.spread_bps, 2, unit=" bp"), ""), 2),
    _Column("VOL 60s", 10, lambda row: (_figure(row.volume_60s, 0), ""), 4),
    _Column("ORACLE", 11, lambda row: (_figure(row.oracle, _grid(row.market)[0]), ""), 8),
    _Column("FUNDING/h", 10, lambda row: (_percent(row.funding_1h, 4, sign=True), ""), 9),
    _Column("STATUS", 11, _status, 1, True),
)
_MARKETS: Final = _Table("markets", lambda snapshot: snapshot.markets, _market_columns,
                         "no market yet", "ticker",
                         faded=lambda row: row.stale_s is not None)  # fmt: skip


_SIGNALS: Final = _Table(
    "signals", lambda snapshot: [score for row in snapshot.markets for score in row.scores],
    lambda snapshot: (
        _Column("TICKER", 10, lambda score: (score.ticker, "bold"), 0, True),
        _Column("SIGNAL", 11, lambda score: (score.signal, ""), 0, True),
        _Column("SCORE", 7, lambda score: (_figure(score.value, 1), "bold")),
        _Column("", 10, lambda score: (_bar(score.value / 100, 10), "accent"), 2),
        _Column("FRAME", 8, lambda score: (f"#{score.seq}", "dim"), 3, True),
        _Column("COMPUTED FROM", 0, lambda score: (
            " · ".join(f"{name} {value:,.6g}" for name, value in score.inputs), ""), 0, True),
    ), "no score yet: the engines warm up", "ticker")  # fmt: skip

# === Decisions, orders and tape ===


def _target(row: Decision) -> Cell:
    target = f"{_figure(row.target_usdc, 0, sign=True)} USDC"
    if row.action == "hold":
        return target, "dim"
    return f"{_figure(row.previous_usdc, 0, sign=True)} → {target}", _sign(row.target_usdc)[1]


_DECISIONS: Final = _Table("decisions", lambda snapshot: snapshot.decisions, lambda snapshot: (
    _Column("", 8, lambda row: (_clock(row.at), "dim"), 0, True),
    _Column("", 5, lambda row: (row.id, "key"), 0, True),
    _Column("", 10, lambda row: (row.ticker, "bold"), 0, True),
    _Column("", 6, lambda row: (row.action, "dim" if row.action == "hold" else "accent"),
            0, True),
    _Column("", 23, _target, 0, True),
    _Column("", 10, lambda row: (f"score {_figure(row.score, 1)}", ""), 1, True),
    _Column("", 12, lambda row: (f"urgency {_figure(row.urgency, 2)}", "dim"), 2, True),
    _Column("", 9, lambda row: (f"#{row.seq}", "dim"), 3, True),
), "no decision yet", below=lambda row: " · ".join(row.reasons))  # fmt: skip

_KINDS: Final = {
    "approved": "good", "decision": "accent", "denied": "watch", "fill": "up", "hold": "dim",
    "liquidated": "danger", "reduce": "danger",
}  # fmt: skip


def _history(snapshot: Snapshot) -> list[TapeRow]:
    """Tell verdicts and fills as one history, newest first."""
    rows = [*map(_told, snapshot.verdicts), *snapshot.fills]
    return sorted(rows, key=lambda row: (row.at, row.seq), reverse=True)


def _told(verdict: Verdict) -> TapeRow:
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
    money = [(name, _signed(_money(quote))[0]) for name, quote in snapshot.money]
    return [_pairs(width, *money), _pairs(width, *snapshot.counts)]


# Orders and tape are told alike.
_TOLD_COLUMNS: Final = (
    _Column("", 8, lambda row: (_clock(row.at), "dim"), 0, True),
    _Column("", 10, lambda row: (row.kind, _KINDS.get(row.kind, "")), 0, True),
    _Column("", 4, lambda row: (row.id, "key"), 0, True),
    _Column("", 8, lambda row: (row.ticker, "bold"), 0, True),
    _Column("", 0, lambda row: (row.text, ""), 0, True),
)
_ORDERS: Final = _Table("orders", _history, lambda _: _TOLD_COLUMNS, "no order yet", above=_results)
_TAPE: Final = _Table("tape", lambda snapshot: snapshot.tape, lambda _: _TOLD_COLUMNS,
                      "nothing has happened yet")  # fmt: skip

# === Book, quality, speed and wire ===


def _book(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    book = snapshot.book
    if not book.known:
        return [[(f"book unknown for {book.ticker}" if book.ticker else "book unknown", "watch")]]
    ladder = 34 if width >= 72 else min(width, 44)
    rows, (digits, size_digits) = _ladder(book, ladder, height), _grid(book.market)
    if width - ladder < 40:
        return rows
    trades: list[Row] = [[("last trades", "dim")]]
    for trade in book.trades:
        size, price = _figure(trade.size, size_digits), _figure(trade.price, digits)
        side = (f"{trade.side:<4} ", "up" if trade.side == "BUY" else "down")
        trades.append([(f"{_clock(trade.at_ns)} ", "dim"), side, (f"{size:>7} @ {price:>8}", ""),
                       (f" #{trade.seq}", "dim")])  # fmt: skip
    return _beside(rows, ladder + 3, trades[:height])


def _ladder(book: Book, width: int, height: int) -> list[Row]:
    digits, size_digits = _grid(book.market)
    asks, bids = (side[: max(1, (height - 1) // 2)] for side in (book.asks, book.bids))
    largest = max((level.size for level in asks + bids), default=0.0) or 1.0

    def row(level: Level, style: str) -> Row:
        bar = _bar(level.size / largest, max(width - 26, 4)).replace("░", " ")
        size = f"{_figure(level.size, size_digits):>11} "
        return [(f"{_figure(level.price, digits):>12} ", style), (size, ""), (bar, style)]

    crossed = f" · {book.crossed} crossed" if book.crossed else ""
    middle: Row = [
        (f"{_figure(book.mid_price, digits):>12} mid", "bold"),
        (f" · {_figure(book.spread_bps, 2)} bp{crossed} · #{book.seq}", "dim"),
    ]
    return [*(row(level, "down") for level in asks[::-1]), middle,
            *(row(level, "up") for level in bids)]  # fmt: skip


def _troubles(snapshot: Snapshot, width: int) -> list[Row]:
    quality = snapshot.quality
    stale = ", ".join(quality.stale) or "none"
    return [
        _pairs(width, *quality.counts) if quality.counts else [("no trouble so far", "good")],
        [("stale markets ", "dim"), (stale, "watch" if quality.stale else "")],
    ]


_SAMPLE_COLUMNS: Final = (
    _Column("", 8, lambda row: (f"#{row.seq}", "dim"), 0, True),
    _Column("", 14, lambda row: (row.kind, "accent"), 0, True),
    _Column("", 0, lambda row: (row.text, ""), 0, True),
)
_QUALITY: Final = _Table("quality", lambda snapshot: snapshot.quality.samples,
                         lambda _: _SAMPLE_COLUMNS, id="seq", above=_troubles)  # fmt: skip


def _speed(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    speed = snapshot.speed
    now = f"{_figure(speed.throughput[-1] if speed.throughput else None, 0)} f/s "
    largest = max((us for _, us in speed.latency_us), default=0.0) or 1.0
    rows: list[Row] = [
        [(now, "bold"), (_spark(speed.throughput, width - 14), "accent")],
        _pairs(width, ("a drawing takes", _figure(speed.draw_ms, 2, unit=" ms"))),
        [("a frame takes, from its arrival to its last order", "dim")],
    ]
    for name, us in speed.latency_us:
        bar = _bar(us / largest, max(width - 20, 4))
        text = f"{us:,.1f} µs" if us < 1_000 else f"{us / 1_000:,.2f} ms"
        rows.append([(f"{name:>6} ", "dim"), (f"{text:>10}  ", "bold"), (bar, "accent")])
    return rows


def _traffic(snapshot: Snapshot, width: int) -> list[Row]:
    wire = snapshot.wire
    block = ("block", _figure(wire.height, 0))
    made_at = ("at", _clock(wire.block_time_ns, "%Y-%m-%d %H:%M:%SZ"))
    return [_pairs(width, *pairs) for pairs in ((block, made_at), wire.counts, wire.kinds)]


def _sample(frame: Frame) -> Sample:
    # All texts begin alike: the contents say more.
    start = max(frame.text.find('"contents"', 0, 400), 0)
    text = ("…" if start else "") + frame.text[start : start + 2_000]
    return Sample(frame.seq, frame.channel or frame.kind, text)


_WIRE: Final = _Table("wire", lambda snapshot: list(map(_sample, snapshot.wire.samples)),
                      lambda _: _SAMPLE_COLUMNS, "no frame yet", "seq", _traffic)  # fmt: skip

# === Screen ===
# Which panels there are, where they stand, and how they become rows.


class Panel(NamedTuple):
    """A panel: its key, title, the parts of a snapshot it reads, and what draws it."""

    key: str
    title: str
    reads: tuple[str, ...]
    draws: _Table | Callable[[Snapshot, View, int, int], list[Row]]


PANELS: Final[dict[str, Panel]] = {
    "safety": Panel("1", "Safety · distance to liquidation", ("safety", "header"), _safety),
    "positions": Panel("2", "Positions", ("positions", "safety", "markets"), _POSITIONS),
    "markets": Panel("3", "Markets", ("markets",), _MARKETS),
    "signals": Panel("4", "Signals", ("markets",), _SIGNALS),
    "decisions": Panel("5", "Decisions", ("decisions",), _DECISIONS),
    "orders": Panel("6", "Orders and fills", ("verdicts", "fills", "money", "counts"), _ORDERS),
    "quality": Panel("7", "Quality", ("quality",), _QUALITY),
    "speed": Panel("8", "Speed", ("speed",), _speed),
    "book": Panel("9", "Book", ("book",), _book),
    "wire": Panel("0", "Wire", ("wire",), _WIRE),
    "tape": Panel("t", "Tape", ("tape",), _TAPE),
    "header": Panel("", "", ("header",), _header),
    "footer": Panel("", "", ("header",), _footer),
    "help": Panel("", "Keys", ("header",), _help),
    "why": Panel("", "Why", (), _why),
}
KEYS: Final[dict[str, str]] = {panel.key: name for name, panel in PANELS.items() if panel.key}


def selectable(snapshot: Snapshot, view: View) -> tuple[str, ...]:
    """Return the ids of the rows `view.selected` counts, in the order they are drawn."""
    table = _panel(view.panel or "tape").draws
    if not isinstance(table, _Table):
        return ()
    return tuple(str(getattr(row, table.id)) for row in _rows(table, snapshot, view))


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
    draw = partial(_list, shown.draws) if isinstance(shown.draws, _Table) else shown.draws
    rows = draw(snapshot, view, max(inside, 1), max(high, 1))[: max(high, 0)]
    strips = [_strip(row, max(inside, 0), theme) for row in rows]
    strips += [_strip([], max(inside, 0), theme)] * (high - len(strips))
    return _framed(name, strips, snapshot, view, width, theme) if framed else strips


def _framed(
    name: str, strips: list[Strip], snapshot: Snapshot, view: View, width: int, theme: Theme
) -> list[Strip]:
    shown, held = PANELS[name], _chosen(view, name) >= 0 or view.panel == name
    line = _state(snapshot.safety)[1] if name == "safety" else "accent" if held else "faint"
    # The title says what the panel is about just now.
    counts = {"markets": len(snapshot.markets), "positions": len(snapshot.positions)}
    notes = {"book": snapshot.book.ticker, "why": view.why_title}
    title = f" {shown.title} {notes.get(name) or counts.get(name) or ''}".rstrip() + " "
    key: Row = [(f" {shown.key}", "key")] if shown.key else []
    rest = max(width - 4 - cell_len(title) - sum(len(text) for text, _ in key), 0)
    top: Row = [("╭─", line), *key, (title, "title"), ("─" * rest, line)]
    left, right = _strip([("│ ", line)], 2, theme), _strip([(" │", line)], 2, theme)
    return [
        (*_strip(top, width - 2, theme), *_strip([("─╮", line)], 2, theme)),
        *((*left, *strip, *right) for strip in strips),
        _strip([("╰" + "─" * (width - 2) + "╯", line)], width, theme),
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
        _Band(9, 15, 0, (("safety", 0.52), ("decisions", 0.48))),
        _Band(6, 8, 1, (("positions", 0.52), ("orders", 0.48))),
        _Band(8, 13, 3, (("markets", 0.6), ("signals", 0.4))),
        _Band(8, 14, 2, (("book", 0.22), ("wire", 0.26), ("quality", 0.26), ("speed", 0.26))),
        _Band(5, 8, 1, (("tape", 1.0),)),
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

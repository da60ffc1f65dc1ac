"""The screen: what the bot sees, is doing and why, drawn from one immutable snapshot.

    live state ── snapshot() ──► Snapshot ──► panel(name) ──► Screen ──► Dashboard.draw

`Snapshot` is plain frozen data; `View` is what the person chose (full screen, filter, selected
row, overlays). Panels are pure functions of the two and of a size; `dashboard` lays them out,
`Dashboard` writes the rows that changed. `run_panel` prints one panel, `export_svg` a picture.

Units: money is USDC, sizes base units, fractions 0..1, scores 0..100, times nanoseconds UTC.
A figure that is not known is None and is drawn as "unknown", never as 0. Red means danger and
nothing else; every colour stands beside a word or a sign, so that none is needed.

Sections: values, rows, figures and tables, then the panels by layer, then the screen, its
layout, and the edge to the terminal. This file may not subscribe, read a clock or touch live
state while drawing. Only `Dashboard` and `run_panel` write, to the console they were given.
"""

import datetime
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
from rich.cells import cell_len, chop_cells
from rich.console import COLOR_SYSTEMS, Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style

__all__ = [
    "KEYS",
    "PANELS",
    "Account",
    "Book",
    "Dashboard",
    "DecisionRow",
    "FillRow",
    "Header",
    "LayerRow",
    "MarketRow",
    "PanelError",
    "PositionRow",
    "Quality",
    "Safety",
    "Screen",
    "Snapshot",
    "Speed",
    "TapeRow",
    "Theme",
    "VerdictRow",
    "View",
    "Wire",
    "dashboard",
    "export_svg",
    "panel",
    "run_panel",
    "selectable",
]

# === Errors ===


class PanelError(Exception):
    """A panel that does not exist: choose one of `PANELS`."""


# === Values ===
# Tuples of scalars all the way down, so that equality is cheap and says whether to redraw.


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What is always on the first row; `speed` is the replay's, None when not a replay."""

    mode: str = ""
    source: str = ""
    speed: float | None = None
    clock_ns: int | None = None
    connection: str = ""
    lag_p99_ms: float | None = None
    data_age_ms: float | None = None
    frames_per_s: float | None = None
    memory_mb: float | None = None
    cpu_percent: float | None = None
    run_hash: str = ""


class Safety(msgspec.Struct, frozen=True, kw_only=True):
    """Distance to liquidation, as a fraction of adverse move, and what surrounds it.

    `distance` None means flat when `positions` is 0, and *unknown* (a danger) otherwise.
    """

    positions: int | None = None
    distance: float | None = None
    change: float | None = None
    closest: float | None = None
    act_below: float | None = None
    restore_to: float | None = None
    equity: float | None = None
    free_collateral: float | None = None
    initial_margin: float | None = None
    maintenance_margin: float | None = None
    usage: float | None = None
    leverage: float | None = None
    rungs: int | None = None
    last_rung: str = ""
    last_rung_at: int | None = None
    next_rung: str = ""
    history: tuple[float, ...] = ()


class PositionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One open position; `size` is signed, `digits` and `size_digits` are the market's grid."""

    ticker: str
    size: float | None = None
    entry: float | None = None
    oracle: float | None = None
    pnl: float | None = None
    liquidation_price: float | None = None
    distance: float | None = None
    funding_1h: float | None = None
    cause: str = ""
    digits: int = 2
    size_digits: int = 3


class ScoreRow(msgspec.Struct, frozen=True, kw_only=True):
    """One score with the inputs it was computed from and the frame that moved it."""

    ticker: str
    signal: str
    value: float | None
    inputs: tuple[tuple[str, float], ...] = ()
    seq: int = 0


class MarketRow(msgspec.Struct, frozen=True, kw_only=True):
    """One market; `history` are closing prices, oldest first; `move` is the sign of the change."""

    ticker: str
    price: float | None = None
    move: int = 0
    history: tuple[float, ...] = ()
    spread_bps: float | None = None
    volume_60s: float | None = None
    oracle: float | None = None
    funding_1h: float | None = None
    status: str = ""
    stale: bool = False
    age_s: float | None = None
    scores: tuple[tuple[str, float], ...] = ()
    digits: int = 2


class DecisionRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the strategy wanted, from what to what, and its reasons."""

    id: str
    at: int
    ticker: str
    action: str
    target: float | None = None
    previous: float | None = None
    score: float | None = None
    urgency: float | None = None
    reasons: tuple[str, ...] = ()
    seq: int = 0


class VerdictRow(msgspec.Struct, frozen=True, kw_only=True):
    """What risk answered: approved, denied (with the objection) or reduce."""

    id: str
    at: int
    ticker: str
    verdict: str
    order: str = ""
    reason: str = ""
    figures: tuple[tuple[str, str], ...] = ()
    why: str = ""
    seq: int = 0


class FillRow(msgspec.Struct, frozen=True, kw_only=True):
    """One execution; price and size are the venue's exact text."""

    id: str
    at: int
    ticker: str
    side: str
    size: str
    price: str
    fee: float | None = None
    liquidity: str = ""
    type: str = ""
    pnl: float | None = None
    seq: int = 0


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The paper or live account: what trading has come to so far."""

    collateral: float | None = None
    realized: float | None = None
    unrealized: float | None = None
    fees: float | None = None
    funding: float | None = None
    open_orders: int | None = None
    fills: int | None = None
    denied: int | None = None
    approved: int | None = None
    reduced: int | None = None
    wins: int | None = None
    losses: int | None = None
    best: float | None = None
    worst: float | None = None
    mean_notional: float | None = None


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """One market's book, best level first, with its last trades and candles.

    A level is (price, size); a trade (at_ns, side, price, size, seq); a candle (started_at_ns,
    open, high, low, close, volume).
    """

    ticker: str = ""
    known: bool = False
    bids: tuple[tuple[float, float], ...] = ()
    asks: tuple[tuple[float, float], ...] = ()
    mid_price: float | None = None
    spread_bps: float | None = None
    crossed: int = 0
    seq: int = 0
    trades: tuple[tuple[int, str, float, float, int], ...] = ()
    candles: tuple[tuple[int, float, float, float, float, float], ...] = ()
    digits: int = 2
    size_digits: int = 3


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """Troubles counted by kind, with real samples (seq, kind, text), newest first."""

    counts: tuple[tuple[str, int], ...] = ()
    samples: tuple[tuple[int, str, str], ...] = ()
    stale: tuple[str, ...] = ()


class LayerRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one layer costs a frame, in microseconds."""

    layer: str
    p50_us: float | None = None
    p99_us: float | None = None
    max_us: float | None = None
    count: int | None = None


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """The run's own figures: what each layer costs and how much went through."""

    layers: tuple[LayerRow, ...] = ()
    throughput: tuple[float, ...] = ()
    frames: int | None = None
    decisions: int | None = None
    dropped: int | None = None
    draw_ms: float | None = None
    samples: tuple[str, ...] = ()


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """The connection: state, frames by kind or channel, and the last texts as they came.

    A sample is (seq, kind, channel, text).
    """

    state: str = ""
    network: str = ""
    height: int | None = None
    block_time_ns: int | None = None
    frames: int | None = None
    faults: int | None = None
    reconnects: int | None = None
    gaps: int | None = None
    bytes: int | None = None
    kinds: tuple[tuple[str, int], ...] = ()
    samples: tuple[tuple[int, str, str, str], ...] = ()


class TapeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened, in plain words; `id` is what `why` can be asked about."""

    at: int
    kind: str
    text: str
    id: str = ""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the screen can show, at one moment. Rows are newest or most important first."""

    header: Header = Header()
    safety: Safety = Safety()
    positions: tuple[PositionRow, ...] = ()
    markets: tuple[MarketRow, ...] = ()
    scores: tuple[ScoreRow, ...] = ()
    decisions: tuple[DecisionRow, ...] = ()
    verdicts: tuple[VerdictRow, ...] = ()
    fills: tuple[FillRow, ...] = ()
    account: Account = Account()
    book: Book = Book()
    quality: Quality = Quality()
    speed: Speed = Speed()
    wire: Wire = Wire()
    tape: tuple[TapeRow, ...] = ()


_KEYS: Final = (
    ("space", "pause"),
    ("+/-", "speed"),
    ("w", "why"),
    ("/", "filter"),
    ("?", "help"),
    ("q", "quit"),
    (".", "pause after the next decision"),
    ("up/down", "select a row of the tape, or of the panel shown alone"),
    ("s", "save the screen as SVG"),
)


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What the person at the screen chose.

    `panel` is shown alone when it names one. `selected` counts rows of `focus` from 0, -1 for
    none. `sort` is a column of the markets, "-" before it for descending. `keys` are those that
    work now: the first six go to the footer, all of them to help. `why` are the overlay's lines.
    """

    panel: str = ""
    focus: str = "tape"
    selected: int = -1
    filter: str = ""
    filtering: bool = False
    sort: str = ""
    paused: bool = False
    help: bool = False
    why: tuple[str, ...] = ()
    why_title: str = ""
    scroll: int = 0
    message: str = ""
    keys: tuple[tuple[str, str], ...] = _KEYS


class Theme(msgspec.Struct, frozen=True, kw_only=True):
    """What the terminal can show; `Theme.of(console)` asks it."""

    unicode: bool = True
    colour: bool = True

    @classmethod
    def of(cls, console: Console) -> "Theme":
        """Honour NO_COLOR and an encoding that cannot carry the blocks."""
        coloured = console.color_system is not None and not console.no_color
        return cls(unicode=console.encoding.lower().startswith("utf"), colour=coloured)


_VIEW: Final = View()
_THEME: Final = Theme()

# === Rows ===
# A panel writes rows of (text, style name); `_strip` alone knows colours, ASCII and widths.

Row = list[tuple[str, str]]
Strip = tuple[Segment, ...]

# Okabe and Ito's palette, lightened for dark terminals; direction is blue and pink, not green
# and red, because red is for danger alone. (colour, without colour)
_STYLES: Final[dict[str, tuple[str, str]]] = {
    "": ("", ""),
    "dim": ("#8c8c8c", "dim"),
    "faint": ("#4e5a65", "dim"),
    "bold": ("bold", "bold"),
    "title": ("bold #d0d0d0", "bold"),
    "good": ("#2fbf8f", ""),
    "watch": ("bold #f0b000", "bold"),
    "danger": ("bold #ff5548", "bold reverse"),
    "up": ("#56b4e9", ""),
    "down": ("#e08fc0", ""),
    "accent": ("#7fb8d8", ""),
    "key": ("bold #e8e8e8", "bold"),
    "select": ("reverse", "reverse"),
    "replay": ("bold #0b1a26 on #56b4e9", "bold reverse"),
    "paper": ("bold #08221a on #2fbf8f", "bold reverse"),
    "live": ("bold #241a00 on #f0b000", "bold reverse"),
    "paused": ("bold #241a00 on #f0e442", "bold reverse"),
}
_TIMES: Final = "\N{MULTIPLICATION SIGN}"
_ASCII: Final = str.maketrans(
    "╭╮╰╯─│┃┼▁▂▃▄▅▆▇█▉▊▋▌▍▎▏░▲▼●○·…→≈≥≤—µ" + _TIMES,
    "++++-||+_.-=+*%#####   .^v*o-~>~><-ux",
)


@lru_cache(maxsize=4)
def _styles(theme: Theme) -> dict[str, Style]:
    return {name: Style.parse(pair[not theme.colour]) for name, pair in _STYLES.items()}


def _strip(row: Row, width: int, theme: Theme, base: str = "") -> Strip:
    """Make a row exactly `width` cells wide, in the theme's colours and letters."""
    styles, left, strip = _styles(theme), width, []
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


def _crop(text: str, width: int, unicode: bool) -> str:
    """Cut a text that is too long to exactly `width` cells, the last of them an ellipsis."""
    if text.isascii():
        kept = text[: width - 1] if width else ""
    else:
        kept, used = "", 0
        for letter in text:
            used += cell_len(letter)
            if used >= width:
                break
            kept += letter
    mark = "…" if unicode else "~"
    return (kept + mark).ljust(len(kept) + width - cell_len(kept)) if width else ""


@lru_cache(maxsize=8192)
def _drawable(text: str, unicode: bool) -> str:
    # Foreign text may carry escapes, tabs and zero-width marks: none may reach the terminal.
    text = "".join(c if c.isprintable() and cell_len(c) else "?" for c in text)
    if unicode:
        return text
    ascii_text = (c if c.isascii() else "?" * cell_len(c) for c in text.translate(_ASCII))
    return "".join(ascii_text)


# === Figures ===
# How a number becomes text: fixed decimals, thousands, sign and unit; None is "unknown".

_UNKNOWN: Final = "unknown"
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_SPARKS: Final = "▁▂▃▄▅▆▇█"
_DAY_S: Final = 86_400
_FAR: Final = 9.995


def _figure(value: float | None, digits: int = 2, sign: bool = False, unit: str = "") -> str:
    if value is None or not math.isfinite(value):
        return _UNKNOWN
    if abs(value) >= 1e13:
        return f"{value:{'+' if sign else ''}.3e}{unit}"
    return f"{value:{'+' if sign else ''},.{min(max(digits, 0), 12)}f}{unit}"


def _percent(fraction: float | None, digits: int = 1, sign: bool = False) -> str:
    if fraction is not None and fraction >= _FAR:
        return ">999 %"
    return _figure(None if fraction is None else fraction * 100, digits, sign, " %")


def _clock(at: int | None) -> str:
    if at is None:
        return _UNKNOWN
    minutes, seconds = divmod(at // 1_000_000_000 % _DAY_S, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


def _date(at: int | None) -> str:
    days = 0 if at is None else at // 1_000_000_000 // _DAY_S
    if at is None or not 0 <= days < 2_900_000:
        return _UNKNOWN
    return f"{datetime.date.fromordinal(719_163 + days)} {_clock(at)}Z"


def _micros(value: float | None) -> str:
    if value is None or not math.isfinite(value) or value < 1_000:
        return _figure(value, 1, unit=" µs" if value is not None else "")
    return _figure(value / 1_000, 2, unit=" ms")


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
    line = "".join(_SPARKS[int((value - low) * scale) if scale else 3] for value in shown)
    return line.rjust(width)


def _signed(value: float | None) -> str:
    return "" if not value else "up" if value > 0 else "down"


# Three by five dots a letter: enough for a percentage and three words.
_GLYPHS: Final = {
    letter: tuple(rows.split())
    for letter, rows in {
        "0": "### #.# #.# #.# ###",
        "1": ".#. ##. .#. .#. ###",
        "2": "### ..# ### #.. ###",
        "3": "### ..# ### ..# ###",
        "4": "#.# #.# ### ..# ..#",
        "5": "### #.. ### ..# ###",
        "6": "### #.. ### #.# ###",
        "7": "### ..# ..# ..# ..#",
        "8": "### #.# ### #.# ###",
        "9": "### #.# ### ..# ###",
        ".": ". . . . #",
        " ": ". . . . .",
        "%": "#.# ..# .#. #.. #.#",
        ">": "#.. .#. ..# .#. #..",
        "A": "### #.# ### #.# #.#",
        "F": "### #.. ##. #.. #..",
        "K": "#.# #.# ##. #.# #.#",
        "L": "#.. #.. #.. #.. ###",
        "N": "#..# ##.# #.## #..# #..#",
        "O": "### #.# #.# #.# ###",
        "T": "### .#. .#. .#. .#.",
        "U": "#.# #.# #.# #.# ###",
        "W": "#...# #...# #.#.# ##.## #...#",
    }.items()
}


@lru_cache(maxsize=64)
def _big(text: str, high: int, wide: int) -> tuple[str, ...]:
    """Draw `text` in blocks, a dot being `high` rows by `wide` cells."""
    rows = []
    for line in range(5):
        dots = (" " * max(wide // 2, 1)).join(
            "".join(("█" if dot == "#" else " ") * wide for dot in _GLYPHS[letter][line])
            for letter in text
        )
        rows += [dots] * high
    return tuple(rows)


# === Tables ===


class _Column(NamedTuple):
    """`rank` says which column goes first when there is no room (highest); 0 always stays."""

    title: str
    width: int
    rank: int = 0
    left: bool = False


_MARK: Final = ("", "select")


def _table(
    columns: Sequence[_Column],
    lines: Sequence[Row],
    width: int,
    height: int,
    selected: int = -1,
) -> list[Row]:
    """Lay cells under titles; a last column of width 0 takes what is left."""
    kept, room = _kept(columns, width)
    body = max(height - 1, 0)
    first = max(0, min(selected - body // 2, len(lines) - body))
    gaps = ["  "] * (len(kept) - 1) + [""]
    rows: list[Row] = [
        [
            (_cell(columns[i].title, columns[i], room) + gap, "dim")
            for i, gap in zip(kept, gaps, strict=True)
        ]
    ]
    for number, cells in enumerate(lines[first : first + body], first):
        row = [
            (_cell(cells[i][0], columns[i], room) + gap, cells[i][1])
            for i, gap in zip(kept, gaps, strict=True)
        ]
        rows.append([_MARK, *row] if number == selected else row)
    return rows


def _kept(columns: Sequence[_Column], width: int) -> tuple[list[int], int]:
    """Drop the columns of the highest rank until the rest fits; say what a growing one gets."""
    kept = list(range(len(columns)))
    while True:
        fixed = sum(columns[i].width + 2 for i in kept) - 2
        # A growing column without room for its words is worth less than any figure.
        needed = fixed + (28 if any(not columns[i].width for i in kept) else 0)
        worst = max(kept, key=lambda i: columns[i].rank)
        if needed <= width or not columns[worst].rank:
            return kept, max(width - fixed, 0)
        kept.remove(worst)


def _cell(text: str, column: _Column, room: int) -> str:
    width = column.width or room
    size = cell_len(text)
    if size > width:
        return _crop(_drawable(text, True), width, True)
    return text + " " * (width - size) if column.left else " " * (width - size) + text


def _chunks(parts: Sequence[tuple[int, Row]], width: int, gap: str = "  ") -> Row:
    """Join what fits, dropping the highest rank first."""
    sizes = [sum(cell_len(text) for text, _ in row) + len(gap) for _, row in parts]
    kept = list(range(len(parts)))
    while len(kept) > 1 and sum(sizes[i] for i in kept) > width + len(gap):
        kept.remove(max(kept, key=lambda i: (parts[i][0], i)))
    joined: Row = []
    for i in kept:
        joined += [*parts[i][1], (gap, "")]
    return joined[:-1]


def _beside(left: Sequence[Row], width: int, right: Sequence[Row]) -> list[Row]:
    rows: list[Row] = []
    for i in range(max(len(left), len(right))):
        row = list(left[i]) if i < len(left) else []
        used = sum(cell_len(text) for text, _ in row)
        rows.append([*row, (" " * (width - used), ""), *(right[i] if i < len(right) else [])])
    return rows


def _folded(text: str, width: int) -> list[str]:
    """Break a long text into lines, so that nothing of it is cut."""
    first, *rest = chop_cells(_drawable(text, True), max(width - 4, 2)) or [""]
    return [first, *("    " + line for line in rest)]


def _matches(view: View, *texts: str) -> bool:
    wanted = view.filter.casefold()
    return not wanted or any(wanted in text.casefold() for text in texts)


def _chosen(view: View, name: str) -> int:
    return view.selected if (view.panel or view.focus) == name else -1


# === Header and footer ===
# From here on, one pure function a panel: (snapshot, view, width, height) of the inside -> rows.


_LIVE: Final = frozenset({"live", "open", "connected", "replay"})


def _header(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    head, wide = snapshot.header, width >= 112
    word = head.mode.upper() or "MODE UNKNOWN"
    style = next((name for name in ("replay", "paper", "live") if name.upper() in word), "bold")
    speed = f" {_TIMES}{head.speed:g}" if head.speed is not None else ""
    connected = head.connection.split(" ")[0] in _LIVE
    link = f"{'●' if connected else '○'} {head.connection or 'link unknown'}"
    clock = _date(head.clock_ns)
    clock = clock if wide or head.clock_ns is None else clock[-9:]
    age = None if head.data_age_ms is None else head.data_age_ms / 1_000
    run = (head.run_hash or _UNKNOWN)[: 8 if wide else 7 if not head.run_hash else 4]
    space = " " if wide else ""
    if view.paused:
        speed, style = f"{speed if wide else ''} PAUSED", "paused"
    parts: list[tuple[int, Row]] = [
        (0, [(f" {word}{speed} ", style)]),
        (4, [(_crop_to(head.source, width // 6 - 3) or "source unknown", "bold")]),
        (1, [(clock, "")]),
        (2, [(link, "good" if connected else "watch")]),
        (3, [("lag p99 " if wide else "lag ", "dim"), _unit(head.lag_p99_ms, 1, space + "ms")]),
        (5, [("age ", "dim"), _unit(age, 1, space + "s")]),
        (6, [_unit(head.frames_per_s, 0, space + "f/s", "rate ")]),
        (8, [_unit(head.memory_mb, 0, space + "MB", "memory ")]),
        (9, [_unit(head.cpu_percent, 0, " % CPU" if wide else "%", "CPU ")]),
        (7, [("run " if wide else "", "dim"), (run, "")]),
    ]
    return [_chunks(parts, width, "  " if width >= 132 else " ")]


def _crop_to(text: str, width: int) -> str:
    text = _drawable(text, True)
    return text if cell_len(text) <= width else _crop(text, width, True)


def _unit(value: float | None, digits: int, unit: str, name: str = "") -> tuple[str, str]:
    text = _figure(value, digits).replace(",", "")
    return name + text if text == _UNKNOWN else text + unit, ""


def _footer(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    if view.filtering:
        hint = "▏  enter keeps, esc clears"
        return [[(" /", "key"), (view.filter, "bold"), (hint, "dim")]]
    parts: list[tuple[int, Row]] = []
    if view.message:
        parts.append((0, [(view.message, "watch")]))
    if view.filter:
        parts.append((0, [("/", "key"), (view.filter, "watch")]))
    # Six commonest first to stay, the panels' numbers where there is room.
    common = [
        (1 + i, [(f"{key} ", "key"), (what, "dim")]) for i, (key, what) in enumerate(view.keys[:6])
    ]
    numbers = [
        (20 + i, [(f"{key} ", "key"), (name, "bold" if view.panel == name else "dim")])
        for i, (key, name) in enumerate(KEYS.items())
    ]
    return [[(" ", ""), *_chunks([*parts, *numbers, *common], width - 1)]]


def _help(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    entries = [(key, f"{name} alone, again to go back") for key, name in KEYS.items()]
    rows: list[Row] = [
        [(f"  {key:<10}", "key"), (what, "")] for key, what in (*entries, *view.keys)
    ]
    return rows[view.scroll if view.scroll < len(rows) else 0 :][:height]


def _why(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    # Wire text is long and matters to its last letter.
    folded = [part for line in view.why for part in _folded(line, width)]
    first = max(0, min(view.scroll, len(folded) - height))
    return [[(line, "")] for line in folded[first : first + height]]


# === Safety and positions ===


def _danger(safety: Safety) -> tuple[str, str]:
    """Say how safe it is, in a word and a colour."""
    distance, act = safety.distance, safety.act_below
    if distance is None or math.isnan(distance):
        words = {0: ("FLAT", "good"), None: ("UNKNOWN", "watch")}
        return words.get(safety.positions, ("UNKNOWN", "danger"))
    act = 0.05 if act is None else act
    if distance < act:
        return ("DANGER", "danger")
    return ("WATCH", "watch") if distance < act * 1.5 else ("SAFE", "good")


def _safety(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    safety = snapshot.safety
    word, style = _danger(safety)
    figures = _safety_figures(safety, word, style)
    big = _headline(safety, word, width - 34, height - 2)
    if not big:
        return _safety_small(safety, width, height)
    rungs = _rungs(safety)
    room = max(len(big), min(height - 1 - len(rungs), len(figures)))
    rows = _beside([[("  " + line, style)] for line in big], len(big[0]) + 5, figures[:room])
    rows.append(_distance_bar(safety, style, width))
    rows += rungs[: height - len(rows)]
    if len(rows) < height and safety.history:
        line = _spark(safety.history, width - 16)
        rows.append([("distance so far ", "dim"), (line, "accent")])
    return rows


def _headline(safety: Safety, word: str, width: int, height: int) -> tuple[str, ...]:
    """Return the distance, or the word for it, in the largest blocks that fit; () for none."""
    text, distance = word, safety.distance
    if distance is not None and not math.isnan(distance):
        text = ">999 %" if distance >= _FAR else f"{abs(max(distance, 0.0)) * 100:.1f} %"
    for high, wide in ((4, 8), (3, 6), (2, 4), (2, 3), (1, 2), (1, 1)):
        big = _big(text, high, wide)
        if len(big) <= height and len(big[0]) <= width:
            return big
    return ()


def _safety_figures(safety: Safety, word: str, style: str) -> list[Row]:
    change = safety.change
    moved = ""
    if change:
        moved = f"  {'▲' if change > 0 else '▼'} {abs(change) * 100:.1f}"
    usage = safety.usage
    usage_style = "" if usage is None or usage < 0.7 else "watch" if usage < 1 else "danger"
    maintenance = _figure(safety.maintenance_margin)
    return [
        [(f"{word:<8}", style), ("to liquidation", "dim"), (moved, _signed(change))],
        [("equity    ", "dim"), (f"{_figure(safety.equity):>13}", "bold"), (" USDC", "dim")],
        [("free      ", "dim"), (f"{_figure(safety.free_collateral):>13}", ""), (" USDC", "dim")],
        [("maint.    ", "dim"), (f"{maintenance:>13}", ""), (" USDC", "dim")],
        [
            ("usage     ", "dim"),
            (f"{_percent(usage):>13}", usage_style),
            (
                f"  {_figure(safety.leverage, 1)}{_TIMES}" if safety.leverage is not None else "",
                "dim",
            ),
        ],
        [("closest   ", "dim"), (f"{_percent(safety.closest):>13}", "")],
        [("initial   ", "dim"), (f"{_figure(safety.initial_margin):>13}", ""), (" USDC", "dim")],
    ]


def _safety_small(safety: Safety, width: int, height: int) -> list[Row]:
    word, style = _danger(safety)
    text = _percent(safety.distance) if safety.distance is not None else ""
    rows: list[Row] = [
        [(f"{word} ", style), (f"{text} ", style), ("to liquidation", "dim")],
        _distance_bar(safety, style, width),
        [("equity ", "dim"), (_figure(safety.equity), "bold"), ("  free ", "dim"),
         (_figure(safety.free_collateral), "")],
        [("usage ", "dim"), (_percent(safety.usage), "")],
    ]  # fmt: skip
    return [*rows, *_rungs(safety)][:height]


def _distance_bar(safety: Safety, style: str, width: int) -> Row:
    """Draw the distance against four times the guard's threshold, which is marked."""
    act = safety.act_below
    label = f" guard acts at {_percent(act)}" if act else " guard unknown"
    if act and safety.restore_to is not None and width >= 90:
        label += f", restores {_percent(safety.restore_to)}"
    room = max(width - len(label) - 1, 4)
    if safety.distance is None:
        bar = ("░" if safety.positions == 0 else "?") * room
    else:
        bar = _bar(safety.distance / (act * 4 if act else 0.2), room)
    if not act:
        return [(bar, style), (label, "dim")]
    mark = room // 4
    return [(bar[:mark], style), ("┃", "key"), (bar[mark + 1 :], style), (label, "dim")]


def _rungs(safety: Safety) -> list[Row]:
    last, upcoming = safety.last_rung, safety.next_rung
    count = "" if safety.rungs is None else f"{safety.rungs} so far · "
    rows: list[Row] = []
    if last:
        when = f"{_clock(safety.last_rung_at)} " if safety.last_rung_at is not None else ""
        rows.append([("last rung ", "dim"), (when, ""), (count + last, "watch")])
    if not upcoming and safety.act_below is not None:
        upcoming = f"reduces when the distance is under {_percent(safety.act_below)}"
        if safety.restore_to is not None:
            upcoming += f", until it is {_percent(safety.restore_to)}"
    rows.append([("next rung ", "dim"), (upcoming or _UNKNOWN, "" if upcoming else "dim")])
    return rows


_POSITION_COLUMNS: Final = (
    _Column("TICKER", 10, left=True),
    _Column("SIDE", 5, left=True),
    _Column("SIZE", 10),
    _Column("ENTRY", 10, 3),
    _Column("ORACLE", 10, 2),
    _Column("UPNL", 10),
    _Column("LIQ PRICE", 10, 1),
    _Column("DISTANCE", 8),
    _Column("", 10, 4, left=True),
    _Column("FUNDING/h", 10, 5),
    _Column("CAUSE", 9, 6),
)


def _open_positions(snapshot: Snapshot, view: View) -> list[PositionRow]:
    return [row for row in snapshot.positions if _matches(view, row.ticker)]


def _positions(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    lines: list[Row] = []
    for row in _open_positions(snapshot, view):
        alone = Safety(positions=1, distance=row.distance, act_below=snapshot.safety.act_below)
        _, style = _danger(alone)
        side = _UNKNOWN if row.size is None else "LONG" if row.size > 0 else "SHORT"
        act = snapshot.safety.act_below or 0.05
        bar = _bar(None if row.distance is None else row.distance / (act * 4), 10)
        lines.append([
            (row.ticker, "bold"),
            (side, {"LONG": "up", "SHORT": "down"}.get(side, "watch")),
            (_figure(None if row.size is None else abs(row.size), row.size_digits), ""),
            (_figure(row.entry, row.digits), ""),
            (_figure(row.oracle, row.digits), ""),
            (_figure(row.pnl, 2, sign=True), _signed(row.pnl)),
            (_figure(row.liquidation_price, row.digits), ""),
            (_percent(row.distance), style),
            (bar, style),
            (_figure(row.funding_1h, 4, sign=True), _signed(row.funding_1h)),
            (row.cause, "dim"),
        ])  # fmt: skip
    if not lines:
        known = snapshot.safety.positions is not None
        return [[("no open position" if known else "positions unknown", "dim")]]
    return _table(_POSITION_COLUMNS, lines, width, height, _chosen(view, "positions"))


# === Markets and signals ===

_MARKET_COLUMNS: Final = (
    _Column("TICKER", 10, left=True),
    _Column("PRICE", 10),
    _Column("", 1),
    _Column("HISTORY", 16, 3, left=True),
    _Column("SPREAD", 8, 2),
    _Column("VOL 60s", 10, 4),
    _Column("ORACLE", 11, 8),
    _Column("FUNDING/h", 10, 9),
    _Column("STATUS", 11, 1, left=True),
)
_SORTS: Final[dict[str, Callable[[MarketRow], Any]]] = {
    "ticker": lambda row: row.ticker,
    "price": lambda row: row.price,
    "spread": lambda row: row.spread_bps,
    "volume": lambda row: row.volume_60s,
    "funding": lambda row: row.funding_1h,
    "score": lambda row: max((value for _, value in row.scores), default=None),
}


def _listed(snapshot: Snapshot, view: View) -> list[MarketRow]:
    """Return the markets that pass the filter, in the order asked for; unknowns go last."""
    rows = [row for row in snapshot.markets if _matches(view, row.ticker, row.status)]
    key = _SORTS.get(view.sort.lstrip("-"))
    if key is None:
        return rows
    # Not-a-number differs from itself: it is as unknown as None.
    known = [row for row in rows if key(row) is not None and key(row) == key(row)]
    unknown = [row for row in rows if key(row) is None or key(row) != key(row)]
    return sorted(known, key=key, reverse=view.sort.startswith("-")) + unknown


def _markets(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    listed = _listed(snapshot, view)
    signals = list(dict.fromkeys(name for row in listed for name, _ in row.scores))
    # Six scores, a history and a spread side by side need their titles cut below 140 columns.
    bar = 4 if width >= 140 or len(signals) < 5 else 2
    titles = [name.upper()[: 10 if bar == 4 else 6] for name in signals]
    scores = [_Column(title, max(bar + 4, len(title)), 1, left=True) for title in titles]
    columns = [*_MARKET_COLUMNS, *scores]
    lines: list[Row] = []
    for row in listed:
        values = dict(row.scores)
        age = f"stale {_figure(row.age_s, 0)} s" if row.age_s is not None else "stale"
        status = age if row.stale else row.status or _UNKNOWN
        cells = [
            (row.ticker, "bold"),
            (_figure(row.price, row.digits), ""),
            ("▲" if row.move > 0 else "▼" if row.move < 0 else " ", _signed(row.move)),
            (_spark(row.history, 16), "accent"),
            (_figure(row.spread_bps, 2, unit=" bp"), ""),
            (_figure(row.volume_60s, 0), ""),
            (_figure(row.oracle, row.digits), ""),
            (_percent(row.funding_1h, 4, sign=True), _signed(row.funding_1h)),
            (status, "watch" if row.stale or row.status != "ACTIVE" else "dim"),
            *((_score(values.get(name), bar), "accent") for name in signals),
        ]
        lines.append([(text, "dim") for text, _ in cells] if row.stale else cells)
    if not lines:
        return [[("no market yet" if not view.filter else "no market matches", "dim")]]
    return _table(columns, lines, width, height, _chosen(view, "markets"))


def _score(value: float | None, width: int) -> str:
    return "  —" if value is None else f"{_bar(value / 100, width)} {_figure(value, 0):>3}"


_SIGNAL_COLUMNS: Final = (
    _Column("TICKER", 10, left=True),
    _Column("SIGNAL", 11, left=True),
    _Column("SCORE", 7),
    _Column("", 10, 2, left=True),
    _Column("COMPUTED FROM", 0, left=True),
    _Column("FRAME", 9, 3),
)


def _scored(snapshot: Snapshot, view: View) -> list[ScoreRow]:
    return [row for row in snapshot.scores if _matches(view, row.ticker, row.signal)]


def _signals(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    lines: list[Row] = []
    for row in _scored(snapshot, view):
        inputs = " · ".join(f"{name} {value:,.6g}" for name, value in row.inputs)
        level = None if row.value is None else row.value / 100
        lines.append([
            (row.ticker, "bold"),
            (row.signal, ""),
            (_figure(row.value, 1), "bold"),
            (_bar(level, 10), "accent"),
            (inputs, ""),
            (f"#{row.seq}", "dim"),
        ])  # fmt: skip
    if not lines:
        return [[("no score yet: the engines warm up", "dim")]]
    return _table(_SIGNAL_COLUMNS, lines, width, height, _chosen(view, "signals"))


# === Decisions, orders and tape ===


def _decided(snapshot: Snapshot, view: View) -> list[DecisionRow]:
    return [
        row
        for row in snapshot.decisions
        if _matches(view, row.id, row.ticker, row.action, *row.reasons)
    ]


def _decisions(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    decided, chosen = _decided(snapshot, view), _chosen(view, "decisions")
    if not decided:
        return [[("no decision yet", "dim")]]
    rows: list[Row] = []
    first = max(0, chosen - height // 3)
    for number, row in enumerate(decided[first:], first):
        if len(rows) >= height:
            break
        change = f"{_figure(row.previous, 0, sign=True)} → {_figure(row.target, 0, sign=True)} USDC"
        line: Row = [
            (f"{_clock(row.at)} ", "dim"),
            (f"{row.id:<5} ", "key"),
            (f"{row.ticker:<10} ", "bold"),
            (f"{row.action:<7}", "dim" if row.action == "hold" else "accent"),
            (change, _signed(row.target)),
            (f"  score {_figure(row.score, 1)}", ""),
            (f"  urgency {_figure(row.urgency, 2)}  #{row.seq}", "dim"),
        ]
        rows.append([_MARK, *line] if number == chosen else line)
        if view.panel == "decisions":
            rows += [[("    " + reason, "dim")] for reason in row.reasons]
        else:
            rows.append([("    " + " · ".join(row.reasons), "dim")])
    return rows


_ORDER_COLUMNS: Final = (
    _Column("TIME", 8, 1, left=True),
    _Column("ID", 6, left=True),
    _Column("WHAT", 10, left=True),
    _Column("TICKER", 10, left=True),
    _Column("WHY", 0, left=True),
)
_KINDS: Final = {
    "denied": "watch",
    "approved": "good",
    "reduce": "danger",
    "fill": "up",
    "hold": "dim",
    "decision": "accent",
    "gap": "watch",
    "rung": "danger",
    "liquidation": "danger",
    "liquidated": "danger",
    "rejected": "watch",
    "fault": "watch",
}


def _ordered(snapshot: Snapshot, view: View) -> list[VerdictRow | FillRow]:
    """Return verdicts and fills as one history, newest first."""
    both: list[VerdictRow | FillRow] = [*snapshot.verdicts, *snapshot.fills]
    rows = [row for row in both if _matches(view, row.id, row.ticker, *_told(row))]
    return sorted(rows, key=lambda row: (row.at, row.seq), reverse=True)


def _told(row: VerdictRow | FillRow) -> tuple[str, str]:
    """Say what it was in a word and why in a line."""
    if isinstance(row, VerdictRow):
        figures = ", ".join(f"{name} {value}" for name, value in row.figures)
        reason = " ".join(part for part in (row.reason, figures) if part)
        return row.verdict, ": ".join(part for part in (reason, row.order, row.why) if part)
    pnl = "" if row.pnl is None else f" · pnl {_figure(row.pnl, 2, sign=True)}"
    kind = "liquidated" if row.type == "LIQUIDATED" else "fill"
    fee = f" · {row.liquidity.lower()} fee {_figure(row.fee, 4)}"
    return kind, f"{row.side} {row.size} @ {row.price}{fee}{pnl}"


def _orders(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    account = snapshot.account
    rows: list[Row] = [
        _pairs(width, realized=_figure(account.realized, 2, sign=True),
               unrealized=_figure(account.unrealized, 2, sign=True),
               fees=_figure(account.fees, 4), funding=_figure(account.funding, 4, sign=True),
               collateral=_figure(account.collateral), open=_figure(account.open_orders, 0)),
        _pairs(width, fills=_figure(account.fills, 0), approved=_figure(account.approved, 0),
               denied=_figure(account.denied, 0), reduced=_figure(account.reduced, 0),
               won=_won(account), best=_figure(account.best, 2, sign=True),
               worst=_figure(account.worst, 2, sign=True),
               mean_size=_figure(account.mean_notional, 0)),
    ]  # fmt: skip
    lines: list[Row] = []
    for row in _ordered(snapshot, view):
        kind, text = _told(row)
        lines.append([
            (_clock(row.at), "dim"),
            (row.id, "key"),
            (kind, _KINDS.get(kind, "")),
            (row.ticker, "bold"),
            (text, ""),
        ])  # fmt: skip
    if not lines:
        return [*rows, [("no order yet", "dim")]]
    chosen = _chosen(view, "orders")
    detail: list[str] = []
    if view.panel == "orders" and 0 <= chosen < len(lines):
        detail = ["", *_folded(lines[chosen][-1][0], width)][: height // 3]
    table = _table(_ORDER_COLUMNS, lines, width, height - 2 - len(detail), chosen)
    return [*rows, *table, *([(line, "")] for line in detail)]


def _won(account: Account) -> str:
    if account.wins is None or account.losses is None:
        return _UNKNOWN
    closed = account.wins + account.losses
    return f"{account.wins} of {closed}" if closed else "0 of 0"


def _pairs(width: int, /, **figures: str) -> Row:
    """Join named figures on one row; the last ones go when there is no room."""
    parts = [
        (rank, [(name.replace("_", " ") + " ", "dim"), (text, "")])
        for rank, (name, text) in enumerate(figures.items())
    ]
    return _chunks(parts, width)


def _told_tape(snapshot: Snapshot, view: View) -> list[TapeRow]:
    return [row for row in snapshot.tape if _matches(view, row.id, row.kind, row.text)]


def _tape(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    told, chosen = _told_tape(snapshot, view), _chosen(view, "tape")
    first = max(0, min(chosen - height // 2, len(told) - height))
    rows: list[Row] = []
    for number, row in enumerate(told[first : first + height], first):
        line: Row = [
            (f"{_clock(row.at)} ", "dim"),
            (f"{row.kind:<9.9} ", _KINDS.get(row.kind, "")),
            (f"{row.id:<5} ", "key"),
            (row.text, ""),
        ]
        rows.append([_MARK, *line] if number == chosen else line)
    return rows or [[("nothing has happened yet", "dim")]]


# === Book, quality, speed and wire ===


def _book(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    book = snapshot.book
    if not book.known:
        return [[("book unknown" + (f" for {book.ticker}" if book.ticker else ""), "watch")]]
    ladder_width = min(width, 44)
    rows = _ladder(book, ladder_width, height)
    beside = width - ladder_width - 3
    if beside < 34:
        return rows
    trades: list[Row] = [
        [
            (f"{_clock(at)} ", "dim"),
            (f"{side:<4} ", "up" if side == "BUY" else "down"),
            (f"{_figure(size, book.size_digits):>10} @ {_figure(price, book.digits):>11}", ""),
            (f"  #{seq}", "dim"),
        ]
        for at, side, price, size, seq in book.trades
    ]
    candles: list[Row] = [
        [
            (f"{_clock(at)[:5]} ", "dim"),
            ("▲ " if close > start else "▼ " if close < start else "  ", _signed(close - start)),
            (" ".join(f"{_figure(x, book.digits):>10}" for x in (start, high, low, close)), ""),
            (f"{_figure(volume, 2):>11}", "dim"),
        ]
        for at, start, high, low, close, volume in book.candles
    ]
    half = max(2, height // 2)
    right: list[Row] = [[("last trades", "dim")], *trades[: half - 1]]
    if beside >= 56 and candles:
        right += [[("candles 1MIN       open       high        low      close     volume", "dim")]]
        right += candles[: height - len(right)]
    return _beside(rows, ladder_width + 3, right[:height])


def _ladder(book: Book, width: int, height: int) -> list[Row]:
    depth = max(1, (height - 1) // 2)
    asks, bids = book.asks[:depth], book.bids[:depth]
    largest = max((size for _, size in (*asks, *bids)), default=0.0) or 1.0
    bar = max(width - 26, 4)

    def level(price: float, size: float, style: str) -> Row:
        return [
            (f"{_figure(price, book.digits):>12} ", style),
            (f"{_figure(size, book.size_digits):>11} ", ""),
            (_bar(size / largest, bar).replace("░", " "), style),
        ]

    middle = [
        (0, [(f"{_figure(book.mid_price, book.digits):>12} mid", "bold")]),
        (1, [(f"{_figure(book.spread_bps, 2)} bp", "dim")]),
        (2, [(f"{book.crossed} crossed", "dim")]),
        (3, [(f"#{book.seq}", "dim")]),
    ]
    return [
        *(level(price, size, "down") for price, size in reversed(asks)),
        _chunks([part for part in middle if book.crossed or part[0] != 2], width, " · "),
        *(level(price, size, "up") for price, size in bids),
    ][:height]


def _quality(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    quality = snapshot.quality
    counts = {name: f"{count:,}" for name, count in quality.counts}
    stale = ", ".join(quality.stale) or "none"
    rows: list[Row] = [
        _pairs(width, **counts) if counts else [("no trouble so far", "good")],
        [("stale markets ", "dim"), (stale, "watch" if quality.stale else "")],
    ]
    samples = [row for row in quality.samples if _matches(view, row[1], row[2])]
    chosen = _chosen(view, "quality")
    for number, (seq, kind, text) in enumerate(samples[: max(height - 2, 0)]):
        line: Row = [(f"#{seq:<8} ", "dim"), (f"{kind:<12} ", "watch"), (text, "")]
        rows.append([_MARK, *line] if number == chosen else line)
    return rows


_SPEED_COLUMNS: Final = (
    _Column("LAYER", 14, left=True),
    _Column("P50", 10),
    _Column("P99", 10),
    _Column("MAX", 10, 1),
    _Column("COUNT", 11, 2),
)


def _speed(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    speed = snapshot.speed
    lines: list[Row] = [
        [
            (row.layer, "bold"),
            (_micros(row.p50_us), ""),
            (_micros(row.p99_us), ""),
            (_micros(row.max_us), ""),
            (_figure(row.count, 0), "dim"),
        ]
        for row in speed.layers
    ]
    now = speed.throughput[-1] if speed.throughput else None
    rows: list[Row] = [
        _pairs(width, frames=_figure(speed.frames, 0), decisions=_figure(speed.decisions, 0),
               late_frames_dropped=_figure(speed.dropped, 0),
               draw=_figure(speed.draw_ms, 2, unit=" ms")),
        [(f"{_figure(now, 0)} f/s ", "bold"), (_spark(speed.throughput, width - 14), "accent")],
        *_table(_SPEED_COLUMNS, lines, width, max(len(lines) + 1, 1)),
        *([(text, "dim")] for text in speed.samples),
    ]  # fmt: skip
    return rows[:height]


def _wire(snapshot: Snapshot, view: View, width: int, height: int) -> list[Row]:
    wire = snapshot.wire
    live = wire.state in _LIVE
    link = f"{'●' if live else '○'} {wire.state or 'link unknown'} "
    megabytes = None if wire.bytes is None else wire.bytes / 1e6
    rows: list[Row] = [
        [
            (link, "good" if live else "watch"),
            (wire.network or "network unknown", "bold"),
            ("  block ", "dim"),
            (_figure(wire.height, 0), ""),
            (f" at {_clock(wire.block_time_ns)}", "dim"),
        ],
        _pairs(width, frames=_figure(wire.frames, 0), faults=_figure(wire.faults, 0),
               gaps=_figure(wire.gaps, 0), reconnects=_figure(wire.reconnects, 0),
               received=_figure(megabytes, 1, unit=" MB")),
        _pairs(width, **{name: f"{count:,}" for name, count in wire.kinds}),
    ]  # fmt: skip
    samples = [row for row in wire.samples if _matches(view, row[2], row[3])]
    for seq, kind, channel, text in samples[: max(height - 3, 0)]:
        where = f"{kind}/{channel}" if channel else kind
        # All texts begin alike: where room is short, the contents say more.
        contents = text.find('"contents"') if width < 120 else 0
        text = f"…{text[contents:]}" if contents > 0 else text
        rows.append([(f"#{seq:<8} ", "dim"), (f"{where:<16.16} ", "accent"), (text, "")])
    return rows


# === Screen ===


class Panel(NamedTuple):
    """A panel: its number key, title, the snapshot parts it reads, and how it is drawn."""

    key: str
    title: str
    reads: tuple[str, ...]
    draw: Callable[[Snapshot, View, int, int], list[Row]]
    ids: Callable[[Snapshot, View], list[str]] = lambda snapshot, view: []


PANELS: Final[dict[str, Panel]] = {
    "safety": Panel("1", "Safety · distance to liquidation", ("safety",), _safety),
    "positions": Panel("2", "Positions", ("positions", "safety"), _positions,
                       lambda s, v: [row.ticker for row in _open_positions(s, v)]),
    "markets": Panel("3", "Markets", ("markets",), _markets,
                     lambda s, v: [row.ticker for row in _listed(s, v)]),
    "signals": Panel("4", "Signals", ("scores",), _signals,
                     lambda s, v: [row.ticker for row in _scored(s, v)]),
    "decisions": Panel("5", "Decisions", ("decisions",), _decisions,
                       lambda s, v: [row.id for row in _decided(s, v)]),
    "orders": Panel("6", "Orders and fills", ("verdicts", "fills", "account"), _orders,
                    lambda s, v: [row.id for row in _ordered(s, v)]),
    "quality": Panel("7", "Quality", ("quality",), _quality),
    "speed": Panel("8", "Speed", ("speed",), _speed),
    "book": Panel("9", "Book", ("book",), _book),
    "wire": Panel("0", "Wire", ("wire",), _wire),
    "tape": Panel("t", "Tape", ("tape",), _tape,
                  lambda s, v: [row.id for row in _told_tape(s, v)]),
    "header": Panel("", "", ("header",), _header),
    "footer": Panel("", "", (), _footer),
    "help": Panel("", "Keys", (), _help),
    "why": Panel("", "Why", (), _why),
}  # fmt: skip
KEYS: Final[dict[str, str]] = {panel.key: name for name, panel in PANELS.items() if panel.key}


def selectable(snapshot: Snapshot, view: View) -> tuple[str, ...]:
    """Return the ids of the rows `view.selected` counts, in the order they are drawn."""
    return tuple(_panel(view.panel or view.focus).ids(snapshot, view))


def _panel(name: str) -> Panel:
    if name not in PANELS:
        raise PanelError(f"expected a panel among {', '.join(PANELS)}, got {name!r}")
    return PANELS[name]


# === Layout ===

_Memo = dict[tuple[str, int, int], tuple[tuple[Any, ...], list[Strip]]]


class Screen:
    """Rows of styled text of one exact size: print it, read it as `text`, or compare it."""

    __slots__ = ("height", "rows", "width")

    def __init__(self, rows: Sequence[tuple[Strip, ...]], width: int) -> None:
        """Take rows of strips whose widths add up to `width`."""
        self.rows, self.width, self.height = tuple(rows), width, len(rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Yield the rows, each with its end of line."""
        for row in self.rows:
            for strip in row:
                yield from strip
            yield Segment.line()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Ask for the width it was drawn for."""
        return Measurement(self.width, self.width)

    @property
    def text(self) -> str:
        """Return the rows as plain text."""
        return "\n".join(
            "".join(segment.text for strip in row for segment in strip) for row in self.rows
        )


def panel(
    name: str,
    snapshot: Snapshot,
    width: int,
    height: int,
    view: View = _VIEW,
    theme: Theme = _THEME,
) -> Screen:
    """Draw one panel in a frame; `PanelError` for a name that is none."""
    return Screen([(strip,) for strip in _drawn(name, snapshot, view, width, height, theme)], width)


def dashboard(
    snapshot: Snapshot,
    view: View = _VIEW,
    width: int = 80,
    height: int = 24,
    theme: Theme = _THEME,
    memo: _Memo | None = None,
) -> Screen:
    """Draw the whole screen; a `memo` kept between calls redraws only what changed."""
    memo = {} if memo is None else memo

    def cached(name: str, wide: int, high: int) -> list[Strip]:
        key = (*(getattr(snapshot, part) for part in _panel(name).reads), view, theme)
        known = memo.get((name, wide, high))
        if known is not None and known[0] == key:
            return known[1]
        strips = _drawn(name, snapshot, view, wide, high, theme)
        memo[name, wide, high] = (key, strips)
        return strips

    rows: list[tuple[Strip, ...]] = [(cached("header", width, 1)[0],)]
    for high, names in _bands(view, width, max(height - 2, 0)):
        columns = [cached(name, wide, high) for name, wide in names]
        rows += zip(*columns, strict=True)
    rows.append((cached("footer", width, 1)[0],))
    return Screen(rows[: max(height, 1)], width)


def _drawn(
    name: str, snapshot: Snapshot, view: View, width: int, height: int, theme: Theme
) -> list[Strip]:
    """Draw one panel to exactly `width` by `height`, framed when there is room for a frame."""
    shown = _panel(name)
    framed = bool(shown.title) and height >= 4 and width >= 16
    inside, high = (width - 4, height - 2) if framed else (width, height)
    rows = shown.draw(snapshot, view, max(inside, 1), max(high, 1))[: max(high, 0)]
    strips = []
    for row in rows:
        base = "select" if row and row[0] == _MARK else ""
        strips.append(_strip(row, max(inside, 0), theme, base))
    strips += [_strip([], max(inside, 0), theme)] * (high - len(strips))
    return _framed(name, strips, snapshot, view, width, theme) if framed else strips


def _framed(
    name: str, strips: list[Strip], snapshot: Snapshot, view: View, width: int, theme: Theme
) -> list[Strip]:
    shown = PANELS[name]
    line = _danger(snapshot.safety)[1] if name == "safety" else "faint"
    if _chosen(view, name) >= 0 or view.panel == name:
        line = "accent"
    title = f" {shown.title}{_note(name, snapshot, view)} "
    key: Row = [(f" {shown.key}", "key")] if shown.key else []
    rest = max(width - 4 - cell_len(title) - sum(len(text) for text, _ in key), 0)
    top: Row = [("╭─", line), *key, (title, "title"), ("─" * rest, line)]
    left = _strip([("│ ", line)], 2, theme)
    right = _strip([(" │", line)], 2, theme)
    return [
        (*_strip(top, width - 2, theme), *_strip([("─╮", line)], 2, theme)),
        *((*left, *strip, *right) for strip in strips),
        _strip([("╰" + "─" * (width - 2) + "╯", line)], width, theme),
    ]


def _note(name: str, snapshot: Snapshot, view: View) -> str:
    """Say in the title what the panel is about just now."""
    if name == "book" and snapshot.book.ticker:
        return f" {snapshot.book.ticker}"
    if name == "why" and view.why_title:
        return f" {view.why_title}"
    if name == "markets" and view.sort:
        arrow = "▼" if view.sort.startswith("-") else "▲"
        return f" {len(snapshot.markets)} · {view.sort.lstrip('-')} {arrow}"
    count = {"markets": len(snapshot.markets), "positions": len(snapshot.positions)}.get(name)
    return f" {count}" if count else ""


class _Band(NamedTuple):
    """Panels side by side: the least and the wanted height, and a share of what is over."""

    least: int
    wanted: int
    share: int
    names: tuple[tuple[str, float], ...]


# From the widest screen to the narrowest: (least width, least height, bands).
_LAYOUTS: Final[tuple[tuple[int, int, tuple[_Band, ...]], ...]] = (
    (170, 50, (
        _Band(9, 15, 0, (("safety", 0.52), ("decisions", 0.48))),
        _Band(6, 8, 1, (("positions", 0.6), ("orders", 0.4))),
        _Band(8, 13, 3, (("markets", 0.6), ("signals", 0.4))),
        _Band(8, 14, 2, (("book", 0.22), ("wire", 0.26), ("quality", 0.26), ("speed", 0.26))),
        _Band(5, 8, 1, (("tape", 1.0),)),
    )),
    (110, 32, (
        _Band(9, 10, 0, (("safety", 0.6), ("book", 0.4))),
        _Band(4, 6, 1, (("positions", 1.0),)),
        _Band(5, 9, 2, (("markets", 1.0),)),
        _Band(4, 6, 1, (("decisions", 1.0),)),
        _Band(5, 7, 1, (("tape", 1.0),)),
    )),
    (110, 20, (
        _Band(7, 9, 0, (("safety", 0.55), ("decisions", 0.45))),
        _Band(4, 6, 1, (("positions", 1.0),)),
        _Band(4, 7, 1, (("tape", 1.0),)),
    )),
    (60, 38, (
        _Band(7, 9, 0, (("safety", 1.0),)),
        _Band(4, 6, 1, (("positions", 1.0),)),
        _Band(4, 8, 2, (("markets", 1.0),)),
        _Band(4, 8, 1, (("decisions", 1.0),)),
        _Band(4, 7, 2, (("tape", 1.0),)),
    )),
    (0, 0, (
        _Band(1, 10, 0, (("safety", 1.0),)),
        _Band(4, 6, 1, (("positions", 1.0),)),
        _Band(3, 6, 2, (("tape", 1.0),)),
    )),
)  # fmt: skip


def _bands(view: View, width: int, height: int) -> Iterator[tuple[int, list[tuple[str, int]]]]:
    """Yield (height, panels with widths) from top to bottom, filling the space exactly."""
    alone = "help" if view.help else "why" if view.why else view.panel
    bands: list[_Band]
    if alone in PANELS:
        bands = [_Band(0, height, 1, ((alone, 1.0),))]
    else:
        bands = list(next(b for wide, high, b in _LAYOUTS if width >= wide and height + 2 >= high))
    while len(bands) > 1 and sum(band.least for band in bands) > height:
        bands.pop()
    heights = [min(band.least, height) for band in bands]
    spare = height - sum(heights)
    for i, band in enumerate(bands):
        more = min(band.wanted - band.least, spare)
        heights[i] += more
        spare -= more
    shares = [band.share for band in bands]
    shares[-1] += not any(shares)
    for i, share in enumerate(shares):
        heights[i] += spare * share // sum(shares)
    heights[-1] += height - sum(heights)
    for band, high in zip(bands, heights, strict=True):
        yield high, _columns(band.names, width)


def _columns(names: tuple[tuple[str, float], ...], width: int) -> list[tuple[str, int]]:
    wide = [(name, int(width * share)) for name, share in names[:-1]]
    return [*wide, (names[-1][0], width - sum(w for _, w in wide))]


_PLAIN: Final = Style()
_WORDS: Final = re.compile(r" +|[^ ]+(?: [^ ]+)*")

# === Edges ===
# The terminal: alternate screen, only changed rows written, and always given back.


class _Raw:
    """Text that already holds its escapes, so that Rich passes it on as it is."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment(self.text)


class Dashboard:
    """The dashboard on a terminal; use it with `try: draw(...) finally: shutdown()`.

    The first `draw` takes the alternate screen; each further one writes the rows that differ
    from those before it, in one write; a change of the terminal's size redraws all.
    """

    def __init__(self, console: Console, theme: Theme | None = None) -> None:
        """Draw on `console`; without a theme the console is asked what it can show."""
        self._console = console
        self._theme = theme or Theme.of(console)
        self._memo: _Memo = {}
        self._system = COLOR_SYSTEMS.get(console.color_system or "")
        self._codes: dict[Style, tuple[str, str]] = {}
        self._rows: list[tuple[Strip, ...]] = []
        self._size = (0, 0)
        self._open = False

    def draw(self, snapshot: Snapshot, view: View = _VIEW) -> int:
        """Bring the terminal up to date and return how many rows were written."""
        size = self._console.size
        if not self._open:
            self._open = True
            self._console.set_alt_screen(True)
            self._console.show_cursor(False)
        if self._size != size:
            self._size, self._rows, self._memo = size, [], {}
        rows = dashboard(snapshot, view, *size, self._theme, self._memo).rows
        before = self._rows
        changed = [i for i, row in enumerate(rows) if i >= len(before) or row != before[i]]
        if changed:
            clear = "" if before else "\x1b[2J"
            text = "".join(f"\x1b[{i + 1};1H{self._ansi(rows[i])}" for i in changed)
            # Synchronised output: terminals that know it show the frame whole, others ignore it.
            whole = _Raw(f"\x1b[?2026h{clear}{text}\x1b[?2026l")
            self._console.print(whole, end="", crop=False)
        self._rows = list(rows)
        return len(changed)

    def shutdown(self) -> None:
        """Give the terminal back as it was; doing it again does nothing."""
        if self._open:
            self._open, self._rows, self._size = False, [], (0, 0)
            self._console.show_cursor(True)
            self._console.set_alt_screen(False)

    def _ansi(self, row: Iterable[Strip]) -> str:
        """Return a row with its escapes; each style is asked for them once."""
        parts = []
        for segment in (segment for strip in row for segment in strip):
            style = segment.style or _PLAIN
            if style not in self._codes:
                # A style remembers the escapes of the first console it met: ask a fresh one.
                fresh = Style(
                    color=style.color, bgcolor=style.bgcolor,
                    bold=style.bold, dim=style.dim, reverse=style.reverse,
                )  # fmt: skip
                code = fresh.render("|", color_system=self._system)
                self._codes[style] = (code[: code.index("|")], code[code.index("|") + 1 :])
            before, after = self._codes[style]
            parts += [before, segment.text, after]
        return "".join(parts)


def run_panel(
    name: str, snapshot: Snapshot, console: Console, view: View = _VIEW, height: int = 0
) -> None:
    """Print one panel once, as wide as the console; `height` 0 is the console's (24 in a pipe)."""
    high = height or (console.height - 1 if console.is_terminal else 24)
    console.print(panel(name, snapshot, console.width, high, view, Theme.of(console)), end="")


def export_svg(
    snapshot: Snapshot, view: View = _VIEW, width: int = 120, height: int = 40, title: str = "bot"
) -> str:
    """Return the dashboard as an SVG picture, the same for the same arguments."""
    console = Console(
        record=True, width=width, height=height, file=io.StringIO(), color_system="truecolor",
        force_terminal=True, legacy_windows=False, no_color=False,
    )  # fmt: skip
    console.print(_Spaced(dashboard(snapshot, view, width, height)), end="")
    return console.export_svg(title=title)


class _Spaced:
    """A screen with its words apart, so that a picture places each by its own position.

    Viewers differ in what they do with runs of spaces and with fonts of another width.
    """

    def __init__(self, screen: Screen) -> None:
        self.screen = screen

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in self.screen.__rich_console__(console, options):
            for text in _WORDS.findall(segment.text):
                yield Segment(text, segment.style)

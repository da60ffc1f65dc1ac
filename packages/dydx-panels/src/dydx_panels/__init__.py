"""The screen: what the bot sees, is doing and why, drawn from one immutable snapshot.

    live state ── the bot copies ──► Snapshot ──► panel(name) ──► Screen ──► Dashboard.draw

Panels are pure functions of a `Snapshot`, of the `View` that the person chose, and of a size;
`dashboard` lays them out, `Dashboard` writes the rows that changed, `run_panel` prints one panel,
`export_svg` makes a picture. Beneath lie dydx_safety and dydx_activity, the panels themselves;
dydx_draw, how text becomes rows; dydx_snapshot, the values: their public names stand here too.

Units: money is USDC (quote quantums in the layers' values), sizes base units, fractions 0..1,
scores 0..100, times nanoseconds UTC. What is not known is None and is drawn as "unknown", never as
0. Red means danger alone; every colour stands beside a word or a sign, so that none is needed.
Nothing here subscribes, reads a clock or touches live state; the edge alone writes.
"""

import io
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from dydx_activity import (
    DECISIONS,
    MARKETS,
    ORDERS,
    QUALITY,
    SIGNALS,
    TAPE,
    VENUE,
    WIRE,
    book_rows,
    speed_rows,
)
from dydx_draw import (
    TIMES,
    UNKNOWN,
    Row,
    Strip,
    Table,
    Theme,
    chosen_row,
    chunks,
    clock,
    figure,
    fitted,
    folded,
    listed,
    rows_of,
)
from dydx_safety import FLIGHT, POSITIONS, STRESS, safety_rows, state_of
from dydx_snapshot import (
    Book,
    Header,
    MarketRow,
    Quality,
    Safety,
    Snapshot,
    Speed,
    TapeRow,
    Venue,
    View,
    Wire,
    Witnessed,
)
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.segment import Segment, Segments

__all__ = [
    "KEYS", "PANELS", "Book", "Dashboard", "Header", "MarketRow", "Panel", "PanelError", "Quality",
    "Safety", "Screen", "Snapshot", "Speed", "TapeRow", "Theme", "Venue", "View", "Wire",
    "Witnessed", "dashboard", "export_svg", "panel", "run_panel", "selectable",
]  # fmt: skip

# === Errors ===


class PanelError(Exception):
    """A panel that does not exist: choose one of `PANELS`."""


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
    """A panel: its key, title, the parts of a snapshot it reads, and what draws it."""

    key: str
    title: str
    reads: tuple[str, ...]
    draws: Table | Callable[[Snapshot, View, int, int], list[Row]]


PANELS: Final[dict[str, Panel]] = {
    "safety": Panel(
        "1", "Safety · distance to liquidation", ("safety", "watch", "header"), safety_rows
    ),
    "positions": Panel("2", "Positions", ("positions", "safety", "markets"), POSITIONS),
    "markets": Panel("3", "Markets", ("markets",), MARKETS),
    "signals": Panel("4", "Signals", ("markets",), SIGNALS),
    "decisions": Panel("5", "Decisions", ("decisions",), DECISIONS),
    "orders": Panel("6", "Orders and fills", ("verdicts", "fills", "money", "counts"), ORDERS),
    "quality": Panel("7", "Quality", ("quality",), QUALITY),
    "speed": Panel("8", "Speed", ("speed",), speed_rows),
    "book": Panel("9", "Book", ("book",), book_rows),
    "wire": Panel("0", "Wire", ("wire",), WIRE),
    "tape": Panel("t", "Tape", ("tape",), TAPE),
    "flight": Panel("f", "Way out", ("watch", "safety"), FLIGHT),
    "stress": Panel("x", "Stress", ("watch", "safety"), STRESS),
    "venue": Panel("v", "Paper venue", ("venue",), VENUE),
    "header": Panel("", "", ("header",), _header),
    "footer": Panel("", "", ("header",), _footer),
    "help": Panel("", "Keys", ("header",), _help),
    "why": Panel("", "Why", (), _why),
}
KEYS: Final[dict[str, str]] = {panel.key: name for name, panel in PANELS.items() if panel.key}


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
    key: Row = [(f" {shown.key}", "key")] if shown.key else []
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

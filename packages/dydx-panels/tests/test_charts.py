"""Charts are exact: they never leave their room, never lose an extreme, and never invent one."""

import re
from decimal import Decimal

import pytest
from dydx_panels import (
    CandleRow,
    CandlesPart,
    EquityPart,
    FillMark,
    Snapshot,
    Theme,
    View,
    _Line,
    _line_chart,
    _Mark,
    _moments,
    _Row,
    _ticks,
    panel,
)
from dydx_risk import PositionFigures
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console

pytestmark = pytest.mark.traced

SECOND = 1_000_000_000
NOW = 1_784_021_467 * SECOND
ANY_FLOAT = st.floats() | st.floats(-1e4, 1e4) | st.none()


def texts(rows: list[_Row]) -> list[str]:
    """Return rows as text."""
    return ["".join(text for text, _ in row) for row in rows]


def lit(rows: list[_Row]) -> list[tuple[int, int]]:
    """Return where dots are, in cells: (row, column)."""
    return [
        (place, column)
        for place, row in enumerate(texts(rows))
        for column, letter in enumerate(row)
        if "\u2800" < letter <= "\u28ff"
    ]


@given(
    st.lists(ANY_FLOAT, max_size=40),
    st.integers(1, 90),
    st.integers(1, 30),
    st.lists(st.floats(), max_size=3),
    st.sampled_from(["", "floor", "ceiling"]),
    st.integers(-(2**63), 2**63),
)
def test_any_values_stay_in_their_room(
    values: list[float | None], width: int, height: int, marks: list[float], fill: str, since: int
) -> None:
    """Whatever is drawn, at any size: no more rows than there are, and none too wide."""
    line = _Line(values, "up", fill=fill)
    at = [since + n * SECOND for n in range(len(values))]
    rows = _line_chart(at, [line], width, height, [_Mark(x, "here", "key") for x in marks])

    assert len(rows) <= height
    assert all(cell_len(row) <= max(width, 12) for row in texts(rows))


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60), st.integers(20, 60))
def test_what_rises_is_drawn_as_rising(values: list[float], width: int) -> None:
    """From left to right no column is lower than the one before it."""
    at = [NOW + n * SECOND for n in range(len(values))]
    rows = lit(_line_chart(at, [_Line(sorted(values), "up")], width, 12))
    lowest = [max(r for r, c in rows if c == column) for column in sorted({c for _, c in rows})]

    assert lowest == sorted(lowest, reverse=True)


@given(st.lists(st.integers(1, 500), min_size=3, max_size=200), st.integers(24, 80))
def test_the_extremes_reach_the_ends_of_the_scale(values: list[int], width: int) -> None:
    """However many points share a column, the first row and the last one are reached."""
    at = [NOW + n * SECOND for n in range(len(values))]
    line = _Line([float(x) for x in values], "up")
    rows = {row for row, _ in lit(_line_chart(at, [line], width, 10))}

    assert min(values) == max(values) or {0, 8} <= rows


def test_between_two_points_a_line_stays_where_it_was() -> None:
    """What nobody measured is not drawn as a slope."""
    line = _Line([1.0, 2.0], "up")
    rows = lit(_line_chart([NOW, NOW + 100 * SECOND], [line], 60, 8))
    columns = sorted({column for row, column in rows if row == 6})

    assert columns == list(range(columns[-1] + 1))
    assert {0} == {row for row, column in rows if column < columns[-1]} ^ {0, 6}


def test_what_is_not_known_is_a_gap() -> None:
    """A flat account has no distance: nothing is drawn for it, not even a 0."""
    line = _Line([1.0, None, None, 1.0], "up", fill="floor")
    rows = lit(_line_chart([NOW + n * SECOND for n in range(4)], [line], 42, 6))
    columns = {column for _, column in rows}

    assert columns != set(range(max(columns) + 1))


def test_a_mark_off_the_scale_is_an_arrow_with_its_figure() -> None:
    """A liquidation price far below is at the lower edge, one far above at the upper."""
    marks = [_Mark(10.0, "liq", "danger"), _Mark(900.0, "target", "key")]
    rows = texts(_line_chart([NOW, NOW + SECOND], [_Line([100.0, 101.0], "up")], 60, 10, marks))

    assert "▲ target 900.00" in rows[0]
    assert "▼ liq 10.000" in rows[8]


def test_a_mark_on_the_scale_is_a_line_with_its_figure_on_the_axis() -> None:
    """Its name stands on it where nothing else is."""
    marks = [_Mark(102.0, "entry", "accent")]
    line = _Line([100.0, 104.0, 101.0], "up")
    rows = texts(_line_chart([NOW + n * SECOND for n in range(3)], [line], 60, 12, marks))
    struck = next(row for row in rows if "entry" in row)

    assert "┈┈┈" in struck
    assert struck.endswith("├ 102.00")


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(1, 12))
def test_ticks_are_round_and_on_the_scale(low: float, span: float, most: int) -> None:
    """1, 2 or 5 of a power of ten apart, and no more than there is room for."""
    high = low + span
    values, digits = _ticks(low, high, most)
    slack = 1e-9 * max(abs(low), abs(high), 1)

    assert len(values) <= most + 1
    assert all(low - slack <= value <= high + slack for value in values)
    assert 0 <= digits <= 12


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(20, "╵09:31:05"), (600, "╵09:30"), (86_400, "╵07-14 00:00"), (90 * 86_400, "╵2026-06-06")],
)
def test_moments_are_round_in_event_time(seconds: int, words: str) -> None:
    """Seconds of a short run, days of a long one."""
    text = "".join(part for part, _ in _moments(NOW - seconds * SECOND, NOW, 80))

    assert words in text
    assert len(text) <= 80


# === Equity ===


def test_what_never_fell_is_a_line_at_the_top_and_what_is_flat_has_no_distance(
    full: Snapshot,
) -> None:
    """No area over half of the chart, and no scale of nothing."""
    count = len(full.equity.at)
    equity = replace(full.equity, fall=(0.0,) * count, distance=(None,) * count)

    text = panel("equity", replace(full, equity=equity), 160, 40, View(panel="equity")).text

    below = text.partition("below its peak\n")[2] or text.partition("below its peak ")[2]
    assert "⣿" not in below
    assert "00000" not in text
    assert "no point yet" in text


def test_an_account_is_drawn_with_what_was_deposited(full: Snapshot) -> None:
    """Worth, profit of the deposit, the deepest fall, and the samples with their frames."""
    text = panel("equity", full, 160, 40, View(panel="equity")).text

    for words in ("of 10,000 deposited", "deepest fall 412.50 (4.1 %)", "below its peak",
                  "distance to liquidation", "guard acts", "#48211", "BELOW PEAK"):  # fmt: skip
        assert words in text


def test_one_row_is_enough_for_the_whole_run(full: Snapshot) -> None:
    """Where there is no room for a chart the least and the greatest are its scale."""
    text = panel("equity", full, 80, 1).text

    assert re.search(r"equity 10,[\d,.]+ \+[\d.]+ .*[▁█].* to 10,", text)


def test_a_run_without_a_point_has_no_curve() -> None:
    """Unknown, and not a line at 0."""
    text = panel("equity", Snapshot(), 100, 16).text

    assert "unknown USDC" in text
    assert not lit([[(text, "")]])


def style_of_deepest(equity: EquityPart) -> str:
    """Return the style in which the deepest fall is written."""
    rows = panel("equity", Snapshot(equity=equity), 160, 20).rows
    styled = {part.text.strip(): str(part.style) for row in rows for x in row for part in x}
    return styled["412.50"]


def test_an_account_that_lost_much_is_a_danger(full: Snapshot) -> None:
    """A word beside the colour is the figure itself."""
    sunk = replace(full.equity, deepest_share=0.37, depth_share=0.03)

    assert "ff5548" in style_of_deepest(sunk)


@pytest.mark.parametrize(
    ("share", "most", "colour"),
    [(0.04, 0.1, ""), (0.05, 0.1, "f0b000"), (0.1, 0.1, "ff5548"),
     (0.04, None, ""), (0.06, None, "f0b000"), (0.2, None, "ff5548")],
)  # fmt: skip
def test_a_fall_is_as_grave_as_the_safety_panel_has_it(
    full: Snapshot, share: float, most: float | None, colour: str
) -> None:
    """By the limit of the policy, and without one by the same shares."""
    style = style_of_deepest(replace(full.equity, deepest_share=share, most_fall=most))

    assert colour in style
    assert bool(colour) == ("#" in style)


def test_ascii_charts_are_ascii(full: Snapshot) -> None:
    """Dots become letters by how high they stand in their cell."""
    text = panel("equity", full, 120, 30, View(panel="equity"), Theme(unicode=False)).text

    assert text.isascii()
    assert {"#", ".", "'"} <= set(text)


def test_a_terminal_without_dots_gets_half_blocks(full: Snapshot) -> None:
    """The console of Linux has blocks, and no dots."""
    text = panel("equity", full, 120, 30, View(panel="equity"), Theme(dots=False)).text

    assert not lit([[(text, "")]])
    assert {"▀", "▄", "█"} <= set(text)


@pytest.mark.parametrize(("term", "dots"), [("linux", False), ("xterm-256color", True)])
def test_the_kind_of_terminal_decides_about_dots(
    monkeypatch: pytest.MonkeyPatch, term: str, dots: bool
) -> None:
    """Its name is all that is known of its font."""
    monkeypatch.setenv("TERM", term)

    assert dots == Theme.of(Console()).dots


# === Candles ===


def candles(count: int, price: float = 100.0, **fields: object) -> CandlesPart:
    """Return candles that rise and fall around a price."""
    rows = tuple(
        CandleRow(NOW - NOW % (60 * SECOND) + n * 60 * SECOND, price + n % 5, price + n % 5 + 2,
                  price + n % 5 - 1, price + n % 5 + 1, 3.0 + n % 4, 900.0, 4, "closed")
        for n in range(count)
    )  # fmt: skip
    return CandlesPart(ticker="ETH-USD", resolution="1MIN", rows=rows, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 9, 30, 240])
def test_candles_fill_their_room(count: int) -> None:
    """Few are drawn wide, many narrow, and the newest always."""
    text = panel("candles", Snapshot(candles=candles(count)), 80, 20).text

    assert "◀" in text
    assert "volume" in text


@given(
    st.integers(1, 260), st.integers(1, 200), st.integers(1, 50), st.floats(0, 1e16),
    st.lists(st.tuples(st.integers(-(2**62), 2**62), st.floats(), st.booleans()), max_size=4),
)  # fmt: skip
def test_any_candles_fit_any_size(
    count: int, width: int, height: int, price: float, fills: list[tuple[int, float, bool]]
) -> None:
    """Prices of any size, fills at any time and price."""
    marks = tuple(FillMark(at, "BUY", at_price, 1.0, is_exit) for at, at_price, is_exit in fills)
    snapshot = Snapshot(candles=candles(count, price, fills=marks))
    for view in (View(), View(panel="candles")):
        rows = panel("candles", snapshot, width, height, view).text.split("\n")

        assert [width] * height == [cell_len(row) for row in rows]


def test_fills_of_ours_are_marked_where_they_were(full: Snapshot) -> None:
    """Bought upwards, sold downwards, hollow where it left a position."""
    text = panel("candles", full, 200, 40, View(panel="candles")).text
    chart = [row[:100] for row in text.split("\n")[2:]]

    assert any("▲" in row for row in chart)
    assert any("▽" in row for row in chart)
    assert "▽ SELL       0.600 @ 3,014.9 out #48102" in text


def test_entry_and_liquidation_of_what_is_held_are_marked(full: Snapshot) -> None:
    """On the scale as lines, off it as arrows with the figure."""
    held = PositionFigures(
        ticker="ETH-USD", size=Decimal(1), entry_price=Decimal("3011.5"),
        liquidation_price=Decimal(2655),
    )  # fmt: skip
    text = panel("candles", replace(full, positions=(held,)), 120, 24).text

    assert re.search(r"entry ┈.*├ *3,011\.5", text)
    assert "▼ liq 2,655.0" in text


def test_what_is_held_is_named_beside_its_candles(full: Snapshot) -> None:
    """Where the panel is alone, with the frame of its price."""
    text = panel("candles", full, 160, 40, View(panel="candles")).text

    assert "LONG 2.100  entry 3,020.1" in text
    assert "#48211" in text


def test_prices_of_a_small_market_keep_the_digits_that_move(full: Snapshot) -> None:
    """Both the axis and the list have the decimals of its tick."""
    market = full.candles.market
    assert market is not None
    tiny = replace(market, quantum_conversion_exponent=-12, subticks_per_tick=10)
    rows = tuple(
        CandleRow(n * 60 * SECOND, 1.2345e-05, 1.3e-05, 1.2e-05, 1.2346e-05, 1.0, 1.0, 1, "closed")
        for n in range(9)
    )
    part = CandlesPart(ticker="X-USD", market=tiny, resolution="1MIN", rows=rows)
    text = panel("candles", Snapshot(candles=part), 160, 30, View(panel="candles")).text

    assert "◀0.00001235" in text
    assert text.count("0.00001235") > 9

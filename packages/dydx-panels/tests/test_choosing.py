"""What a person can choose of a screen: rows, the order they stand in, and what is on a cell."""

from typing import Any

import pytest
from dydx_panels import (
    KEYS,
    Dashboard,
    FundingRow,
    MarketRow,
    Snapshot,
    Spot,
    Theme,
    TimelinePart,
    View,
    dashboard,
    detail,
    panel,
    selectable,
    sortable,
    spot,
)
from msgspec.structs import replace
from rich.console import Console


def markets(**fields: tuple[Any, ...]) -> Snapshot:
    """Return markets named A, B, C …, each with its value of each field."""
    rows = zip(*fields.values(), strict=True)
    return Snapshot(
        markets=tuple(
            MarketRow(ticker=chr(ord("A") + n), **dict(zip(fields, row, strict=True)))
            for n, row in enumerate(rows)
        )
    )


def order(snapshot: Snapshot, sort: str, *, reverse: bool = False) -> str:
    """Return the markets in the order in which they are listed."""
    view = View(panel="markets", sort=f"markets.{sort}", reverse=reverse)
    return "".join(selectable(snapshot, view))


def found(
    snapshot: Snapshot, view: View, text: str, width: int = 120, height: int = 40, right: int = 0
) -> Spot:
    """Return what is on the cell at which a text of the screen begins."""
    lines = dashboard(snapshot, view, width, height).text.split("\n")
    y = next(y for y, line in enumerate(lines) if text in line)
    return spot(snapshot, view, width, height, lines[y].index(text) + right, y)


# === Sort ===


def test_rows_are_sorted_by_what_they_are_and_not_by_their_text() -> None:
    """Figures that read alike are not alike, and what is unknown stands last both ways."""
    seen = markets(spread_bps=(9.001, 10.0, None, 9.002))

    assert order(seen, "spread_bps") == "BDAC"
    assert order(seen, "spread_bps", reverse=True) == "ADBC"


def test_a_column_of_words_begins_with_the_first_one() -> None:
    """As in a dictionary."""
    seen = markets(status=("PAUSED", "ACTIVE", "POST_ONLY"))

    assert order(seen, "ticker") == "ABC"
    assert order(seen, "ticker", reverse=True) == "CBA"
    assert order(seen, "status") == "BAC"


def test_a_history_is_sorted_by_how_far_it_rose() -> None:
    """Its blocks are no figure."""
    seen = markets(history=((100.0, 101.0), (1.0, 2.0), (), (5.0, 4.0)))

    assert order(seen, "history") == "BADC"


def test_a_figure_behind_a_bar_is_a_figure(full: Snapshot) -> None:
    """The funding panel draws how much of an hour is known."""
    rows = tuple(FundingRow(ticker=t, share=x) for t, x in zip("ABC", (0.2, 1.0, 0.3), strict=True))
    view = View(panel="funding", sort="funding.known")

    assert selectable(replace(full, funding=rows), view) == ("B", "C", "A")


def test_a_column_that_is_not_there_sorts_nothing(full: Snapshot) -> None:
    """The order is the list's own."""
    assert selectable(full, View(panel="markets", sort="markets.nothing")) == selectable(
        full, View(panel="markets")
    )


def test_the_title_of_the_column_that_sorts_has_an_arrow(full: Snapshot) -> None:
    """Which of the two directions it is."""
    view = View(panel="markets", sort="markets.price")

    assert "PRICE▼" in panel("markets", full, 120, 20, view).text
    assert "PRICE▲" in panel("markets", full, 120, 20, replace(view, reverse=True)).text
    plain = Theme(unicode=False, colours="")
    assert "PRICEv" in panel("markets", full, 120, 20, view, plain).text


@pytest.mark.parametrize("name", sorted(KEYS.values()))
def test_every_list_can_be_sorted_by_every_column_that_it_shows(full: Snapshot, name: str) -> None:
    """No row is lost by it, and the panel can be drawn."""
    columns = sortable(full, View(panel=name), 200)
    rows = sorted(selectable(full, View(panel=name)))

    for column in columns:
        for reverse in (False, True):
            view = View(panel=name, sort=column, reverse=reverse)
            assert sorted(selectable(full, view)) == rows
            panel(name, full, 200, 40, view)


def test_columns_without_a_title_and_those_without_room_do_not_sort(full: Snapshot) -> None:
    """Whoever sorts by a column sees it."""
    assert sortable(full, View(), 120) == ()
    assert sortable(full, View(panel="safety"), 120) == ()
    narrow, wide = (sortable(full, View(panel="markets"), width) for width in (60, 200))
    assert set(narrow) < set(wide)


# === Detail ===


def test_a_row_is_shown_whole_with_its_titles(full: Snapshot) -> None:
    """Each column by its words, however narrow the screen was."""
    view = View(panel="positions", selected=0)
    lines = detail(full, view)

    assert lines[0].split() == ["ticker", selectable(full, view)[0]]
    assert any(line.startswith("liq price ") for line in lines)
    assert any(line.startswith("funding") for line in lines)


def test_a_list_without_titles_is_one_line_and_its_reasons(full: Snapshot) -> None:
    """As it stands, uncut."""
    lines = detail(full, View(panel="decisions", selected=0))

    assert len(lines) == 2
    assert "D42" in lines[0]


@pytest.mark.parametrize("view", [View(), View(panel="safety", selected=0), View(selected=999)])
def test_without_a_selected_row_there_is_no_detail(full: Snapshot, view: View) -> None:
    """Nothing is guessed."""
    assert detail(full, view) == ()


# === What is on a cell ===


def test_a_title_is_found_and_so_are_rows_columns_and_keys(full: Snapshot) -> None:
    """Wherever the panel stands on the screen."""
    view = View()

    assert found(full, view, "Markets") == Spot("markets", "title")
    assert found(full, view, "SPREAD") == Spot("markets", "column", term="markets.spread_bps")
    assert found(full, view, "filter") == Spot("footer", "key", term="/")
    assert found(full, view, "space") == Spot("footer", "key", term=" ")
    assert found(full, view, "positions").term == "2"
    assert spot(full, view, 120, 40, 0, 0) == Spot("header")


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
def test_every_row_of_the_tape_is_found_where_it_is_drawn(
    full: Snapshot, size: tuple[int, int]
) -> None:
    """The number is the one that the selection counts."""
    width, height = size
    ids = selectable(full, View())
    lines = dashboard(full, View(), width, height).text.split("\n")
    spots = [spot(full, View(), width, height, width - 3, y) for y in range(height)]
    rows = [
        (place.row, lines[y])
        for y, place in enumerate(spots)
        if place.panel == "tape" and place.row >= 0
    ]

    firsts = dict(reversed(rows))  # a long row goes on below
    assert firsts
    assert all(ids[number] in line for number, line in firsts.items())


def test_a_place_on_the_timeline_is_a_share_of_it(full: Snapshot) -> None:
    """From its first cell to its last; what stands beside it is none."""
    timed = replace(full, timeline=TimelinePart(began=0, ends=10**12, now=0.5, seen=1.0))
    places = [spot(timed, View(), 120, 40, x, 38) for x in range(120)]
    shares = [place.share for place in places if place.what == "time"]

    assert {place.panel for place in places} == {"timeline"}
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] > 0.98
    assert places[0].what == ""
    assert places[-1].what == ""


def test_a_panel_alone_fills_the_screen_and_so_does_an_overlay(full: Snapshot) -> None:
    """What is behind it cannot be met."""
    alone = View(panel="markets", sort="markets.price", filter="usd")

    assert spot(full, alone, 120, 40, 5, 1) == Spot("markets", "title")
    assert found(full, alone, selectable(full, alone)[1]) == Spot("markets", "row", 1)
    assert spot(full, View(help=True), 120, 40, 5, 1) == Spot("help", "title")
    assert spot(full, View(why=("a", "b")), 120, 40, 5, 5) == Spot("why")


@pytest.mark.parametrize("size", [(1, 1), (10, 3), (20, 8), (300, 100)])
def test_any_cell_of_any_size_is_something(full: Snapshot, size: tuple[int, int]) -> None:
    """Or nothing, but never an error."""
    width, height = size
    for view in (View(), View(panel="positions"), View(panel="book"), View(help=True)):
        places = {
            spot(full, view, width, height, x, y)
            for x in range(0, width, 7)
            for y in range(0, height, 3)
        }
        assert {type(place) for place in places} == {Spot}


def test_a_click_selects_in_the_panel_that_has_the_focus(full: Snapshot) -> None:
    """On the dashboard the tape gives it up."""
    view = View(focus="markets", selected=1)

    assert selectable(full, view) == selectable(full, View(panel="markets"))
    assert detail(full, view)[0].endswith(selectable(full, view)[1])


# === Mouse ===


@pytest.mark.parametrize("mouse", [True, False])
def test_the_mouse_is_reported_while_the_dashboard_is_drawn(full: Snapshot, mouse: bool) -> None:
    """And given back with the terminal."""
    console = Console(force_terminal=True, width=80, height=24)
    screen = Dashboard(console, mouse=mouse)

    with console.capture() as drawn:
        screen.draw(full)
    with console.capture() as left:
        screen.shutdown()

    assert ("\x1b[?1000h\x1b[?1006h" in drawn.get()) is mouse
    assert ("\x1b[?1000l\x1b[?1006l" in left.get()) is mouse

"""Rows as HTML: the same letters as on a terminal, in classes, and nothing that could run."""

import re
from html import unescape

import pytest
from dydx_panels import Placed, Snapshot, TapeRow, View, dashboard, html_row, placed, stylesheet

SIZES = [(48, 90), (80, 24), (176, 50)]


def text_of(rows: list[str]) -> list[str]:
    """Return what a browser shows of rows."""
    return [unescape(re.sub(r"<[^>]*>", "", row)) for row in rows]


def rows_of(band: list[Placed]) -> list[str]:
    """Return the rows of panels side by side, as HTML."""
    return ["".join(map(html_row, row)) for row in zip(*(one.strips for one in band), strict=True)]


@pytest.mark.parametrize("size", SIZES)
def test_a_page_shows_the_letters_of_the_terminal(full: Snapshot, size: tuple[int, int]) -> None:
    """The panels in their places, joined, are the dashboard's own text."""
    bands = placed(full, View(), *size)

    rows = [row for band in bands for row in rows_of(band)]

    assert text_of(rows) == dashboard(full, View(), *size).text.split("\n")


def test_every_class_of_a_row_has_a_rule(full: Snapshot) -> None:
    """No style of a panel is lost on the way to a page."""
    rows = [row for band in placed(full, View(), 176, 50) for row in rows_of(band)]

    used = {name for row in rows for names in re.findall(r'class="([^"]*)"', row)
            for name in names.split()}  # fmt: skip

    assert {name for name in used if f".{name} {{" not in stylesheet()} == set()


def test_what_the_venue_sends_cannot_become_a_tag() -> None:
    """A reason with markup in it is shown as it is."""
    words = '<script>alert("1")</script> & more'
    hostile = Snapshot(tape=(TapeRow(1, "act", words, "<b>", "A1", 1),))

    rows = [row for band in placed(hostile, View(panel="tape"), 120, 10) for row in rows_of(band)]

    assert not [row for row in rows if "<script" in row or "<b>" in row]


def test_what_did_not_change_is_the_same_drawing(full: Snapshot) -> None:
    """With a memo an unchanged panel is the very list that it was."""
    memo: dict[object, object] = {}

    first, again = (placed(full, View(), 120, 40, memo=memo) for _ in range(2))

    assert all(
        one.strips is other.strips
        for band, others in zip(first, again, strict=True)
        for one, other in zip(band, others, strict=True)
    )


def test_a_page_in_a_hand_has_the_candles_too(full: Snapshot) -> None:
    """A narrow and long screen stacks the panels, each as wide as it is."""
    bands = placed(full, View(), 50, 96)

    assert [one.name for band in bands for one in band] == [
        "header", "safety", "equity", "positions", "markets", "candles", "decisions", "tape",
        "footer",
    ]  # fmt: skip

"""The row of a recording: from end to end, where it is, and what happened on the way."""

import pytest
from dydx_panels import Snapshot, Theme, TimelinePart, View, dashboard, panel
from msgspec.structs import replace
from rich.cells import cell_len

AT = 1_796_000_000 * 10**9
PART = TimelinePart(
    began=AT, ends=AT + 960 * 10**9, now=0.5, seen=0.75,
    marks=((0.1, "decision"), (0.1, "fill"), (0.2, "fill"), (0.3, "denied"), (0.6, "reduce"),
           (0.7, "loss"), (0.999, "act")),
)  # fmt: skip


def row(part: TimelinePart | None, width: int = 100, theme: Theme | None = None) -> str:
    """Draw the row to text."""
    return panel("timeline", Snapshot(timeline=part), width, 1, View(), theme or Theme()).text


def test_a_timeline_shows_its_ends_and_what_was_seen() -> None:
    """Of two marks in a cell the weightier is drawn; what was not seen yet is blank."""
    drawn = row(PART, 84)

    way = "◆────●────\N{MULTIPLICATION SIGN}────────█────▲───○───          ■"
    assert drawn == f" 00:53:20 ├────{way}┤ 01:09:20  8:00 of 16:00 "


def test_each_kind_has_a_sign_of_its_own_in_ascii() -> None:
    """No mark needs more than plain letters."""
    drawn = row(PART, theme=Theme(unicode=False, colours=""))

    assert drawn.isascii()
    assert all(sign in drawn for sign in "d*x^oy")


def test_a_wide_timeline_explains_its_signs() -> None:
    """Where there is room."""
    assert "▲ guard" in row(PART, 200)
    assert "guard" not in row(PART, 120)


@pytest.mark.parametrize("width", [1, 20, 40, 80, 300])
def test_a_timeline_is_as_wide_as_its_screen(width: int) -> None:
    """Whatever its size."""
    assert cell_len(row(PART, width)) == width


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_both_ends_are_on_the_row(share: float) -> None:
    """At the first frame and at the last."""
    part = TimelinePart(began=AT, ends=AT + 7_200 * 10**9, now=share, seen=1.0)

    assert "█" in row(part)
    assert "of 2:00:00" in row(part)


def test_only_a_replay_has_a_timeline() -> None:
    """Elsewhere the panel says so, and no row is taken from a dashboard."""
    assert "only a recording" in row(None)
    assert "├" not in dashboard(Snapshot(), View(), 120, 40).text.split("\n")[-2]


def test_a_dashboard_has_it_above_its_keys_where_there_is_room() -> None:
    """On 40 rows, not on 24."""
    snapshot = Snapshot(timeline=PART)

    assert "8:00 of 16:00" in dashboard(snapshot, View(), 120, 40).text.split("\n")[-2]
    assert "8:00 of 16:00" not in dashboard(snapshot, View(), 80, 24).text
    assert len(dashboard(snapshot, View(), 120, 40).rows) == 40


def test_where_it_is_hides_no_mark() -> None:
    """A mark in the same cell is drawn on the colour of the place."""
    part = replace(PART, now=0.6)

    assert "▲" in row(part)
    assert "█" not in row(part)

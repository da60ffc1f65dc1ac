"""The screen is drawn from plain values alone."""

from dydx_panels import Snapshot, dashboard


def test_an_empty_snapshot_fills_the_screen_exactly() -> None:
    """Nothing known yet is a full screen of the word unknown."""
    rows = dashboard(Snapshot(), width=80, height=24).text.split("\n")

    assert [80] * 24 == [len(row) for row in rows]

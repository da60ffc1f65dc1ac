"""An account that goes on is shown with what its earlier runs did: grey, and by their number."""

import pytest
from dydx_panels import Snapshot, View, panel, selectable
from msgspec.structs import replace


def styles(again: Snapshot, name: str, word: str) -> set[str]:
    """Return in which styles the row with a word is drawn."""
    drawn = panel(name, again, 160, 40, View(panel=name)).rows
    rows = [[part for x in row for part in x] for row in drawn]
    row = next(row for row in rows if word in "".join(part.text for part in row))
    return {str(part.style) for part in row if part.text.strip(" │")}


@pytest.mark.parametrize(("name", "earlier", "ours"), [
    ("orders", "12/O104", "O4 "), ("tape", "12/F88", "F9 "),
])  # fmt: skip
def test_what_an_earlier_run_did_is_grey(
    again: Snapshot, name: str, earlier: str, ours: str
) -> None:
    """What this one did is not."""
    assert len(styles(again, name, earlier)) < len(styles(again, name, ours))


def test_an_earlier_order_has_its_own_name_and_comes_last(again: Snapshot) -> None:
    """An O104 of this run is another one; its foot says which run it is of."""
    ids = selectable(again, View(panel="orders"))
    text = panel("orders", again, 160, 30, View(panel="orders", selected=len(ids) - 1)).text

    assert ids[-1] == "12/O104"
    assert "12/O104 of run 12, which is over" in text


def test_the_first_point_of_a_run_is_listed_though_nothing_changed(full: Snapshot) -> None:
    """There the run begins."""
    part = replace(
        full.equity, at=(1, 2, 3), seqs=(0, 0, 7), equity=(5.0,) * 3, low=(5.0,) * 3,
        high=(5.0,) * 3, profit=(0.0,) * 3, fall=(0.0,) * 3, distance=(None,) * 3,
        leverage=(None,) * 3,
    )  # fmt: skip
    text = panel("equity", replace(full, equity=part), 120, 30, View(panel="equity")).text

    assert "#7" in text
    assert text.count("earlier") == 1


def test_the_deepest_fall_says_of_what_it_is(again: Snapshot, full: Snapshot) -> None:
    """Of all runs that the curve shows, or of the one."""
    for shown, words in ((again, "of all runs"), (full, "of the run")):
        young = replace(shown, performance=replace(
            shown.performance, performance=replace(
                shown.performance.performance, max_drawdown_ratio=None  # type: ignore[type-var]
            ),
        ))  # fmt: skip
        assert words in panel("performance", young, 200, 40, View(panel="performance")).text

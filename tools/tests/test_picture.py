"""The README's picture: the same wherever it is drawn, and compared."""

from pathlib import Path

import picture
import pytest
from dydx_panels import HeaderPart


@pytest.fixture(scope="module")
def drawn() -> str:
    """Return the picture as it is drawn now."""
    return picture.picture()


def test_a_picture_has_the_crash_and_nothing_of_the_machine(drawn: str) -> None:
    """What the guard did is on it; memory and latency are not."""
    assert drawn.startswith("<svg")
    for word in ("guard", "sold", "drawdown", "quickstart"):
        assert word in drawn
    assert "&#160;ms" not in drawn


def test_a_picture_that_is_what_is_drawn_is_let_be(
    drawn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawing it makes it so; any other is an error that names what to do."""
    monkeypatch.setattr(picture, "picture", lambda: drawn)
    path = tmp_path / "dashboard.svg"

    assert picture.main([], path) == 1
    assert picture.main(["--draw"], path) == 0
    assert picture.main([], path) == 0
    path.write_text(drawn.replace("guard", "gourd"))
    assert picture.main([], path) == 1


def test_what_a_machine_measures_is_taken_away() -> None:
    """Two machines have two latencies, and one picture."""
    shown = picture.without_machine(picture.Snapshot(header=picture_header()))

    assert shown == picture.Snapshot()


def picture_header() -> HeaderPart:
    """Return a header with figures of a machine."""
    return HeaderPart(lag_p99_ms=1.0, frames_per_s=2.0, memory_mb=3.0, cpu_percent=4.0)

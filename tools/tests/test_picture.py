"""The README's picture: the same wherever it is drawn, and compared."""

from pathlib import Path

import picture
import pytest
from dydx_panels import HeaderPart, Snapshot


@pytest.fixture(scope="module")
def drawn() -> str:
    """Return the picture as it is drawn now."""
    return picture.picture()


def test_a_picture_has_the_crash_and_nothing_of_this_machine(drawn: str) -> None:
    """What the guard did is on it; the load is that of another day."""
    assert drawn.startswith("<svg")
    for word in ("guard", "sold", "drawdown", "quickstart"):
        assert word in drawn
    assert "10&#160;%" in drawn


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


def test_what_a_machine_measures_is_put_in_place_of() -> None:
    """Two machines have two latencies, and one picture."""
    one, other = (Snapshot(header=HeaderPart(lag_p99_ms=ms, cpu_percent=ms)) for ms in (1.0, 2.0))

    assert picture.on_one_machine(one) == picture.on_one_machine(other)

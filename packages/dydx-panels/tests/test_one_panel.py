"""One panel by itself: made directly, drawn, and closed whatever happens."""

import io

import pytest
from dydx_panels import ABOUT, KEYS, Panel, PanelError, Snapshot, run_dashboard
from rich.cells import cell_len
from rich.console import Console


@pytest.mark.parametrize("name", KEYS.values())
def test_each_panel_says_what_it_is_for(name: str) -> None:
    """In a line that a list of them has room for."""
    assert 20 < len(ABOUT[name]) < 76


@pytest.mark.parametrize("name", KEYS.values())
def test_each_panel_is_printed_by_itself(full: Snapshot, name: str) -> None:
    """Once, when it is closed, as it was drawn last."""
    console = Console(width=100, height=30)
    with console.capture() as capture:
        panel = Panel(name, console)
        try:
            panel.draw(Snapshot())
            panel.draw(full)
        finally:
            panel.shutdown()
            panel.shutdown()

    rows = capture.get().splitlines()
    assert [100] * 24 == [cell_len(row) for row in rows]


@pytest.fixture
def terminal() -> Console:
    """Return a made-up terminal."""
    return Console(file=io.StringIO(), width=100, height=30, force_terminal=True)


def test_on_a_terminal_a_panel_is_redrawn_in_its_place(full: Snapshot, terminal: Console) -> None:
    """The terminal is given back as it was, and nothing is printed then."""
    panel = Panel("positions", terminal)
    try:
        panel.draw(Snapshot())
        panel.draw(full)
    finally:
        panel.shutdown()

    drawn = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert drawn.startswith("\x1b[?1049h")
    assert "Positions" in drawn
    assert drawn.endswith("\x1b[?1049l")


def test_a_panel_that_is_not_live_is_printed_on_a_terminal_too(
    full: Snapshot, terminal: Console
) -> None:
    """As it stands: it does not vanish with the run."""
    panel = Panel("positions", terminal, live=False)
    try:
        panel.draw(full)
    finally:
        panel.shutdown()

    drawn = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert "1049" not in drawn
    assert "Positions" in drawn


def test_a_panel_that_does_not_exist_is_refused(terminal: Console) -> None:
    """Before anything is drawn."""
    with pytest.raises(PanelError, match="expected a panel among"):
        Panel("sums", terminal)


def test_the_whole_dashboard_is_printed_once(full: Snapshot, terminal: Console) -> None:
    """Forty rows in a pipe; on a terminal a row is left for the prompt."""
    pipe = Console(width=100, height=30)
    with pipe.capture() as capture:
        run_dashboard(full, pipe)
    run_dashboard(full, terminal)

    assert len(capture.get().splitlines()) == 40
    assert len(terminal.file.getvalue().splitlines()) == 29  # type: ignore[attr-defined]

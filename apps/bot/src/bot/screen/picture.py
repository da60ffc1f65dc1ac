"""A run as it stands, as a picture: printed, or written to a file.

Bot ──► snapshot_of ──► dydx_panels ──► stdout, FILE.svg
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from dydx_panels import (
    Panel,
    Snapshot,
    Theme,
    View,
    dashboard,
    export_html,
    export_svg,
    run_dashboard,
)
from dydx_panels import panel as draw_panel
from rich.console import Console

from bot.outlet import behind
from bot.run.composition import Bot
from bot.screen.snapshot import snapshot_of


def print_panel(bot: Bot, name: str, panel: str) -> None:
    """Print one panel of a run as it stands."""
    shown = snapshot_of(bot, mode="REPLAY", name=name, speed=None, panel=panel)
    alone = Panel(panel, Console(file=behind(sys.stdout)), live=False)
    try:
        alone.draw(shown)
    finally:
        alone.shutdown()


def print_trimmed(bot: Bot, name: str, panel: str) -> None:
    """Print one panel of a run as it stands, without its blank rows."""
    console = Console(file=behind(sys.stdout))
    shown = snapshot_of(bot, mode="REPLAY", name=name, speed=None, panel=panel)
    view, theme = View(panel=panel), Theme.of(console)
    picture = draw_panel(panel, shown, console.width, 24, view, theme)
    texts = picture.text.split("\n")
    rows = [row for row, text in zip(picture.rows, texts, strict=True) if text.strip(" │|")]
    console.print(picture._replace(rows=tuple(rows)), end="")


def print_dashboard(bot: Bot, name: str, speed: float) -> None:
    """Print the whole dashboard of a run as it stands."""
    console = Console(file=behind(sys.stdout))
    shown = snapshot_of(bot, mode="REPLAY", name=name, speed=speed)
    run_dashboard(shown, console)


def write_svg(bot: Bot, name: str, path: Path, width: int, height: int) -> None:
    """Write the whole dashboard of a run as it stands."""
    shown = snapshot_of(bot, mode="REPLAY", name=name, speed=20.0)
    path.write_text(export_svg(shown, View(), width, height), encoding="utf-8")


class Form(NamedTuple):
    """A form of a picture: its name, the suffix of its file, and what draws it."""

    name: str
    suffix: str
    draw: Callable[[Snapshot, View, int, int], str]


FORMATS: Final = {
    "s": Form("SVG", "svg", export_svg),
    "h": Form("HTML", "html", export_html),
    "t": Form("text", "txt", lambda *what: dashboard(*what).text + "\n"),
}


def save(shown: Snapshot, view: View, size: tuple[int, int], stem: str, form: str) -> str:
    """Write what is on a screen to a new file of the working directory; say what came of it."""
    made, path = FORMATS[form], Path()
    text = made.draw(shown, view, *size)
    for number in range(1, _MOST):
        path = Path(f"{stem}{f'-{number}' if number > 1 else ''}.{made.suffix}")
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            continue
        except OSError as error:
            return f"expected to save {path}, got {error.strerror or error}"
        return f"saved {path} in {Path.cwd()}"
    return f"expected to save {path}, got {_MOST - 1} of them already"


_MOST: Final = 100

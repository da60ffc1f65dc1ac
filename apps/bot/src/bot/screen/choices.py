"""What a person chose to see: the view, and what each key makes of it.

    key ──► Choices ──► View ──► dydx_panels

Nothing here touches the run: what a key does to it is in bot.screen.screen.
"""

from collections.abc import Callable

from dydx_panels import Snapshot, View, selectable
from msgspec.structs import replace


class Choices:
    """The view that a person chose, changed key by key; `snapshot` returns what stands now."""

    def __init__(self, panel: str, snapshot: Callable[[], Snapshot]) -> None:
        self.view = View(panel=panel)
        self._snapshot = snapshot

    @property
    def overlaid(self) -> bool:
        """Return whether the help or an explanation hides the panels."""
        return bool(self.view.why or self.view.help)

    def close(self) -> None:
        """Close the overlay that is open."""
        self.view = replace(self.view, why=(), help=False)

    def back(self) -> None:
        """Close the overlay that is open, or else the panel shown alone."""
        if self.overlaid:
            self.close()
        else:
            self.view = replace(self.view, panel="")

    def show(self, panel: str) -> None:
        """Show a panel alone; all of them again if it is shown so already."""
        self.view = replace(self.view, panel="" if self.view.panel == panel else panel)

    def help(self) -> None:
        """Show or hide what the keys do."""
        self.view = replace(self.view, help=not self.view.help)

    def search(self) -> None:
        """Begin to type a filter."""
        self.view = replace(self.view, filtering=True, filter="")

    def type(self, key: str) -> None:
        """Take a key that was typed into the filter."""
        view = self.view
        if key in ("\r", "\n", "\x1b"):
            view = replace(view, filtering=False, filter="" if key == "\x1b" else view.filter)
        elif key in ("\x7f", "\b"):
            view = replace(view, filter=view.filter[:-1])
        elif key.isprintable() and len(key) == 1:
            view = replace(view, filter=view.filter + key)
        self.view = view

    def move(self, rows: int) -> None:
        """Move the selection, or scroll the overlay that is open."""
        if self.view.why:
            self.view = replace(self.view, scroll=max(self.view.scroll + rows, 0))
        else:
            last = len(selectable(self._snapshot(), self.view)) - 1
            row = min(max(self.view.selected + rows, 0), last)
            self.view = replace(self.view, selected=row)

    def explain(self, title: str, lines: tuple[str, ...]) -> None:
        """Open the overlay with an explanation."""
        self.view = replace(self.view, why=lines, why_title=title, scroll=0)

"""What a person chose to see: the view, and what each key makes of it.

    key, click ──► Choices ──► View ──► dydx_panels

Nothing here touches the run: what a key does to it is in bot.screen.actions. What returns a text
returns why nothing came of the key.
"""

from collections.abc import Callable

from dydx_panels import Snapshot, View, selectable, sortable
from msgspec.structs import replace


class Choices:
    """The view that a person chose, changed key by key; `snapshot` returns what stands now."""

    def __init__(self, panel: str, snapshot: Callable[[], Snapshot]) -> None:
        self.view = View(panel=panel)
        self._snapshot = snapshot
        self._before: list[str] = []  # the panels that Esc goes back to

    # --- panels and overlays ---

    @property
    def overlaid(self) -> bool:
        """Return whether the help or an explanation hides the panels."""
        return bool(self.view.why or self.view.help)

    def close(self) -> None:
        """Close the overlay that is open."""
        self.view = replace(self.view, why=(), help=False)

    def back(self) -> str:
        """Close the overlay that is open, or else go back from the panel shown alone."""
        if self.overlaid:
            self.close()
        elif self.view.panel:
            self._alone(self._before.pop() if self._before else "")
        elif self.view.filter or self.view.focus or self.view.selected >= 0:
            self.view = replace(self.view, filter="", focus="", selected=-1)
        else:
            return "nothing is open: q quits"
        return ""

    def show(self, panel: str) -> None:
        """Show a panel alone; all of them again if it is shown so already."""
        self.close()
        self._before.clear()
        self._alone("" if self.view.panel == panel else panel)

    def open(self, panel: str) -> None:
        """Show a panel alone from where Esc goes back to what is shown now."""
        self._before.append(self.view.panel)
        self._alone(panel)

    def _alone(self, panel: str) -> None:
        # The number of a row means nothing in another list.
        self.view = replace(self.view, panel=panel, focus="", selected=-1)

    def help(self) -> None:
        """Show or hide what the keys do."""
        self.view = replace(self.view, help=not self.view.help, why=())

    def explain(self, title: str, lines: tuple[str, ...]) -> None:
        """Open the overlay with an explanation."""
        self.view = replace(self.view, why=lines, why_title=title, scroll=0)

    # --- rows ---

    def search(self) -> None:
        """Begin to type a filter."""
        self.view = replace(self.view, filtering=True, filter="", selected=-1)

    def type(self, key: str) -> None:
        """Take a key that was typed into the filter."""
        view = self.view
        if key in ("\r", "\x1b"):
            view = replace(view, filtering=False, filter="" if key == "\x1b" else view.filter)
        elif key in ("\x7f", "\b"):
            view = replace(view, filter=view.filter[:-1])
        elif key.isprintable() and len(key) == 1:
            view = replace(view, filter=view.filter + key)
        self.view = view

    @property
    def rows(self) -> tuple[str, ...]:
        """Return the ids of the rows that can be selected."""
        return selectable(self._snapshot(), self.view)

    def move(self, rows: int) -> str:
        """Move the selection, or scroll the overlay that is open."""
        if self.view.why:
            self.view = replace(self.view, scroll=max(self.view.scroll + rows, 0))
        elif (last := len(self.rows) - 1) < 0:
            return "no row can be selected here"
        else:
            self.select(self.view.listed, min(max(self.view.selected + rows, 0), last))
        return ""

    def select(self, panel: str, row: int) -> None:
        """Select a row of a panel, wherever that stands."""
        focus = "" if self.view.panel else panel
        self.view = replace(self.view, focus=focus, selected=row)

    @property
    def selected(self) -> str:
        """Return the id of the selected row, or else of the first one; "" without rows."""
        rows = self.rows
        return rows[min(max(self.view.selected, 0), len(rows) - 1)] if rows else ""

    # --- order ---

    def sort(self, step: int, width: int) -> str:
        """Sort by the next column, or with -1 by the one before; beyond the last by none."""
        columns = ("", *sortable(self._snapshot(), self.view, width))
        if len(columns) == 1:
            return "this list has an order of its own"
        at = columns.index(self.view.sort) if self.view.sort in columns else 0
        self.sort_by(columns[(at + step) % len(columns)])
        return "" if self.view.sort else "in the order of its own"

    def sort_by(self, column: str) -> None:
        """Sort by a column; by the same one again: the other way round."""
        again = column == self.view.sort and bool(column)
        self.view = replace(self.view, sort=column, reverse=again and not self.view.reverse)

    def reverse(self) -> str:
        """Sort the other way round."""
        if not self.view.sort:
            return "no column sorts: left and right choose one"
        self.sort_by(self.view.sort)
        return ""

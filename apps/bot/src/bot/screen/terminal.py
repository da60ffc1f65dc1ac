"""The terminal of a screen: what is drawn on it, what is pressed on it, and who has it.

    Terminal.draw ──► Dashboard ──► rows that changed
    keyboard thread, signals ──► keys ──► Terminal.next_key

It is taken when a screen begins and given back however that ends; Ctrl-Z does both in between.
"""

import contextlib
import queue
import sys

from dydx_panels import Dashboard, Snapshot, View
from rich.console import Console

from bot.outlet import behind
from bot.screen.keyboard import SUSPEND, Key, Keyboard, stopping, suspend


class Terminal:
    """A terminal; `dead` are the keys that it does not have, `closed` is True once it is gone."""

    def __init__(self, console: Console | None = None, *, mouse: bool = False) -> None:
        self.console = console or Console(file=behind(sys.stdout))
        self.dashboard = Dashboard(self.console, mouse=mouse)
        self.keys: queue.SimpleQueue[Key] = queue.SimpleQueue()
        self.dead: frozenset[str] = frozenset() if mouse else frozenset({"mouse"})
        self.closed = False
        self._keyboard = Keyboard(self.keys)
        self._stops = contextlib.ExitStack()

    def open(self) -> str:
        """Take the terminal; return why it has no keys, "" if it has."""
        if not self._stops.enter_context(stopping(self.keys)):
            self.dead |= {SUSPEND}
        return self._keyboard.start()

    def close(self) -> None:
        """Give the terminal back, whatever happened."""
        self._give_back()
        self._stops.close()

    def stop_and_go_on(self, *, suspends: bool) -> str:
        """Give the terminal back and take it again; whoever `suspends` stops in between."""
        self._give_back()
        if suspends:
            suspend()
        return self._keyboard.start()

    def _give_back(self) -> None:
        with contextlib.suppress(OSError):
            self.dashboard.shutdown()
        self._keyboard.stop()

    def draw(self, snapshot: Snapshot, view: View, *, bell: bool = False) -> str:
        """Draw a picture, and ring before it; return why the terminal is gone, "" if it is not."""
        try:
            if bell:
                self.dashboard.bell()
            self.dashboard.draw(snapshot, view)
        except OSError as error:
            self.closed = True
            return error.strerror or str(error)
        return ""

    def next_key(self, seconds: float) -> Key:
        """Return what is pressed first; "" if nothing is in so many seconds."""
        try:
            return self.keys.get(timeout=max(seconds, 0.001))
        except queue.Empty:
            return ""

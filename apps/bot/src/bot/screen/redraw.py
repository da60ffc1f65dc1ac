"""When a screen is drawn: at a fixed rate, and at once what became of the account.

    an urgent entry ──► Redraw.soon ──┐
    a key ──► Redraw.at_once ─────────┼──► due_ns
    a drawing ──► Redraw.drawn ───────┘

Never a frame for itself: what comes meanwhile is in the next drawing.
"""

from collections import deque
from typing import Final

DRAW_NS: Final = 250_000_000
# What became of the account is drawn at once: not sooner than this after the drawing before, and
# not more often than this in a second.
SOON_NS: Final = 40_000_000
MOST: Final = 10


class Redraw:
    """When the next drawing is due, by a monotonic clock in nanoseconds; 0 is at once."""

    def __init__(self) -> None:
        self.due_ns = 0
        self.urgent_ns = 0  # since when something waits to be drawn at once; 0 for nothing
        self._draws: deque[int] = deque(maxlen=MOST)  # when it was drawn

    def at_once(self) -> None:
        """Draw next of all."""
        self.due_ns = 0

    def soon(self, since_ns: int, now: int) -> None:
        """Draw what waits since then, as soon as that is not too often."""
        self.urgent_ns = since_ns
        soon = self._draws[-1] + SOON_NS if self._draws else now
        self.due_ns = min(self.due_ns, max(soon, self._soonest_ns, now))

    def later(self, now: int) -> None:
        """Draw at the fixed rate from here on."""
        self.due_ns = max(now + DRAW_NS, self._soonest_ns)

    def drawn(self, started_ns: int) -> int:
        """Note a drawing; return since when something urgent had waited for it, 0 for nothing."""
        waited, self.urgent_ns = self.urgent_ns, 0
        self._draws.append(started_ns)
        return waited

    @property
    def _soonest_ns(self) -> int:
        """Return when one more drawing is not too many for a second."""
        return self._draws[0] + 1_000_000_000 if len(self._draws) == MOST else 0

"""What a report needs of a run beside what the run has at its end, gathered as it goes on.

    journal: entries, account updates ──┐
    frames: errors, once a second ──────┼──► Gathered ──► bot.pages.of_run
    positions as the database has them ─┘

It is bounded, however long the run: the newest entries stay, a line is thinned as the curve is, and
what was let go is counted. Nothing is decided by it, and a frame costs two comparisons.
"""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from dydx_conn import AccountUpdate, Frame
from dydx_panels import QualityRow

from bot.database.position_rows import holdings_of
from bot.pages.sums import Grouping
from bot.run.composition import Bot
from bot.run.faults import OTHERS, error_of, sample_of
from bot.run.journal import JournalEntry
from bot.screen.quality import worst_first

MOST: Final = 10_000  # entries
POINTS: Final = 600  # of a line
_SECOND_NS: Final = 1_000_000_000

Prices = tuple[tuple[int, float | None], ...]


class Line:
    """Prices of one market over event time (ns), at most so many: then every other is let go."""

    def __init__(self, most: int = POINTS) -> None:
        self._points: list[tuple[int, float | None]] = []
        self._most, self._every_ns = most, _SECOND_NS

    def add(self, at: int, price: float | None) -> None:
        """Add a price; one that is as it was says nothing new, and of each moment the first stays.

        None is where there is none; where it begins and ends is exact.
        """
        points = self._points
        if points and points[-1][1] == price:
            return
        turns = not points or (points[-1][1] is None) != (price is None)
        if not turns and at - points[-1][0] < self._every_ns:
            return
        points.append((at, price))
        if len(points) > self._most:
            self._every_ns *= 2
            self._points = _thinned(points)

    @property
    def points(self) -> Prices:
        """Return all points, oldest first."""
        return tuple(self._points)


def _thinned(points: Sequence[tuple[int, float | None]]) -> list[tuple[int, float | None]]:
    """Leave every other point out, but none between a price and none."""
    stays = [*points[:1]]
    for n, point in enumerate(points[1:], 1):
        if n % 2 == 0 or point[1] is None or points[n - 1][1] is None:
            stays.append(point)
    return stays


class Gathered:
    """What one run did, in entries, positions, payments and errors; it follows from `begin` on."""

    def __init__(self, bot: Bot, most: int = MOST) -> None:
        self.entries: dict[str, JournalEntry] = {}
        self.dropped = 0
        self.positions: dict[str, dict[str, Any]] = {}
        self.payments: list[dict[str, Any]] = []
        self.errors: Counter[tuple[str, str]] = Counter()
        self.samples: dict[tuple[str, str], str] = {}
        self.lines: dict[str, Line] = {}
        self.grouping = Grouping()
        self.began_at = 0
        self.quality: tuple[QualityRow, ...] = ()  # the worst market first
        self._bot, self._most, self._due = bot, most, 0
        account = str(bot.venue.subaccount)
        self._holdings = holdings_of(bot.venue, account, bot.risk.positions)

    def follow(self) -> None:
        """Gather from here on: the run has not begun."""
        self._bot.follow_links()
        self._bot.journal.listeners.append(self.take)

    def take(self, event: JournalEntry | AccountUpdate) -> None:
        """Take an entry of the journal, or what became of the account."""
        if isinstance(event, AccountUpdate):
            for table, row in self._holdings.take(event):
                self._row(table, row)
            return
        if event.kind == "fill":
            fill = event.value
            self.grouping.take(event.id, event.ticker, fill.held or Decimal(0), fill.signed)
        self.entries.pop(event.id, None)  # of an order the newest state, in its place
        self.entries[event.id] = event
        if len(self.entries) > self._most:
            del self.entries[next(iter(self.entries))]
            self.dropped += 1

    def note(self, frame: Frame) -> None:
        """Count what is wrong with a frame, and look at what is held once a second of its time."""
        self.began_at = self.began_at or frame.at
        if frame.kind == "close" and self._bot.data.connection == "live":
            self.quality = worst_first(self._bot)  # a moment later nothing of it is known
        if frame.kind != "ws" or frame.fault or frame.type == "error":
            self._fault(frame)
        if frame.at >= self._due:
            self._due = frame.at + _SECOND_NS
            self._look()

    def end(self) -> None:
        """Look for the last time."""
        self._look()
        if self._bot.data.connection == "live" or not self.quality:
            self.quality = worst_first(self._bot)
        for table, row in self._holdings.look(self._bot.data.at):
            self._row(table, row)

    def _row(self, table: str, row: dict[str, Any]) -> None:
        if table == "positions":
            self.positions[row["position_id"]] = row
        elif table == "funding_payments" and len(self.payments) < self._most:
            self.payments.append(row)

    def _fault(self, frame: Frame) -> None:
        found = error_of(frame)
        if found is None:
            return
        kind, endpoint, sample = found
        if len(self.errors) >= self._most:
            endpoint = OTHERS
        self.errors[kind, endpoint] += 1
        self.samples[kind, endpoint] = sample_of(sample)

    def _look(self) -> None:
        risk, at = self._bot.risk, self._bot.data.at
        if not risk.account.positions and not self.lines:
            return
        rows = {row.ticker: row.liquidation_price for row in risk.positions()}
        for ticker in {*rows, *self.lines}:
            price = rows.get(ticker)
            known = None if price is None or price <= 0 else float(price)
            self.lines.setdefault(ticker, Line()).add(at, known)

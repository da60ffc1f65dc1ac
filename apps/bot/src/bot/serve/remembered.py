"""What a run remembers of its orders and fills, as rows of the database would have it.

    Journal ──► entries_of: one copy between two frames ──► order rows, fill rows, on another thread

A journal has the newest 5,000 entries; what was before them is in the database, where there is one.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from dydx_conn import PerpetualMarket

from bot.database.rows import change_row, fill_row, order_row
from bot.run.composition import Bot
from bot.run.journal import VERDICTS, JournalEntry

Row = dict[str, Any]


class Remembered(NamedTuple):
    """The newest entries of a journal, oldest first, and what it takes to put them in rows."""

    entries: tuple[JournalEntry, ...]
    markets: dict[str, PerpetualMarket]
    account: str

    def find(self, id_: str) -> JournalEntry | None:
        """Return the newest entry of an id, in any case."""
        wanted = id_.upper()
        return next((entry for entry in reversed(self.entries) if entry.id == wanted), None)

    def orders(self) -> list[Row]:
        """Return the orders, the newest first."""
        found: dict[str, Row] = {}
        for entry in self.entries:
            if entry.kind == "order":
                row = self._order(entry)
                created = found[entry.id]["created"] if entry.id in found else entry.at
                found[entry.id] = row | {"created": created}
        return sorted(found.values(), key=lambda row: -row["created"])

    def order(self, id_: str) -> Row | None:
        """Return an order by its id here or at the venue, or by the beginning of that."""
        whole, begun = list[Row](), list[Row]()
        for row in self.orders():
            if id_ == row["order_id"] or id_.upper() == row["id"]:
                whole.append(row)
            elif row["order_id"].startswith(id_):
                begun.append(row)
        if whole:
            return whole[0]
        return begun[0] if len(begun) == 1 else None

    def changes(self, id_: str) -> list[Row]:
        """Return what became of an order, by its id here."""
        return [change_row(e) for e in self.entries if e.kind == "order" and e.id == id_]

    def fills(self, order: str = "") -> list[Row]:
        """Return the fills, the newest first; with an id those of that order, oldest first."""
        wanted = (e for e in self.entries if e.kind == "fill" and order in ("", e.parent))
        rows = [self._of_run(fill_row(entry)) for entry in wanted]
        if order:
            return rows
        return sorted(rows, key=lambda row: (row["at"], row["fill_id"]), reverse=True)

    def cause(self, id_: str, *kinds: str) -> Row | None:
        """Return a verdict or a decision that led to something."""
        entry = self.find(id_) if id_ else None
        if entry is None or entry.kind not in kinds:
            return None
        return {
            "id": entry.id, "ticker": entry.ticker, "words": entry.words, "parent": entry.parent
        }  # fmt: skip

    def _order(self, entry: JournalEntry) -> Row:
        return self._of_run(order_row(entry, self.markets.get(entry.ticker)))

    def _of_run(self, row: Row) -> Row:
        return row | {"run_id": None, "chain_id": "", "account": self.account}


DECISION: Final = ("decision",)
VERDICT: Final = VERDICTS


def entries_of(bot: Bot) -> Remembered:
    """Copy what the journal has; an entry is frozen, and so is a market."""
    return Remembered(tuple(bot.journal.entries), dict(_markets(bot)), str(bot.venue.subaccount))


def _markets(bot: Bot) -> Iterator[tuple[str, PerpetualMarket]]:
    for ticker, view in bot.data.views.items():
        if view.market is not None:
            yield ticker, view.market

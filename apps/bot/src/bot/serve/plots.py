"""The charts of a page: figures of plotly as JSON, drawn again seldom and beside everything else.

    Snapshots ──► Plots.take ──► thread: bot.pages.charts ──► Plots.of(market) ──► a Sheet

A figure takes some ten milliseconds, and shows minutes and hours: it is drawn at most every ten
seconds, sooner while there is hardly anything in it, and only if what it shows changed, on a thread
that ends with it. Without plotly (`bot[web]`) there are none, and the page has its panels.
"""

import threading
import time
from importlib.util import find_spec
from typing import Final

import msgspec
from dydx_panels import CandlesPart, EquityPart, Snapshot

from bot.serve.looks import Snapshots

AGE_S: Final = 10.0
_FEW, _FEW_S = 30, 5.0  # points of a curve that has just begun, and how soon it is drawn again
_Parts = tuple[EquityPart, CandlesPart]


class Plots:
    """The newest figures by market, as a JSON object of figures by name."""

    def __init__(self) -> None:
        self._made: dict[str, msgspec.Raw] = {}
        self._drawn: dict[str, _Parts] = {}
        self._due_s = 0.0
        self._thread: threading.Thread | None = None
        self._can = find_spec("plotly") is not None

    def of(self, market: str) -> msgspec.Raw:
        """Return the figures of a market as they were drawn last; none before that."""
        return self._made.get(market, _NONE)

    def take(self, seen: Snapshots) -> None:
        """Draw what is due, on a thread of its own."""
        now, shown = time.monotonic(), {market: one for (_, market), one in seen.snapshots.items()}
        is_new = any(market not in self._made for market in shown)
        busy = self._thread is not None and self._thread.is_alive()
        if not self._can or busy or (now < self._due_s and not is_new):
            return
        begins = any(len(one.equity.at) < _FEW for one in shown.values())
        self._due_s = now + (_FEW_S if begins else AGE_S)
        changed = {
            market: one for market, one in shown.items() if self._drawn.get(market) != _parts(one)
        }
        if changed:
            self._thread = threading.Thread(
                target=self._draw, args=(changed,), name="plots", daemon=True
            )
            self._thread.start()

    def _draw(self, shown: dict[str, Snapshot]) -> None:
        for market, snapshot in shown.items():
            self._made[market] = figures(snapshot)
            self._drawn[market] = _parts(snapshot)


def load() -> None:
    """Load what draws, before a run begins: that takes a second, and each frame would feel it."""
    if find_spec("plotly") is not None:
        from bot.pages import charts

        charts.equity(EquityPart()).to_json()


_NONE: Final = msgspec.Raw(b"{}")


def _parts(snapshot: Snapshot) -> _Parts:
    return snapshot.equity, snapshot.candles


def figures(snapshot: Snapshot) -> msgspec.Raw:
    """Return the figures of a snapshot by name, as JSON; the order is that of the page."""
    from bot.pages import charts

    equity, candles = snapshot.equity, snapshot.candles
    held = {one.ticker: one for one in snapshot.positions}.get(candles.ticker)
    made = {
        "equity": charts.equity(equity),
        "drawdown": charts.drawdown(equity),
        "distance": charts.distance(equity),
        "candles": charts.candles(candles, held),
    }
    texts = (f'"{name}":{figure.to_json()}' for name, figure in made.items())
    return msgspec.Raw(f"{{{','.join(texts)}}}".encode())

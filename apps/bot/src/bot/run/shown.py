"""What a screen and a report show of a run, beside the layers' own states.

    frame ─► take ─► counts, newest frames; where somebody looks, distances, the account's curve
    account update ─► learn ─► newest fills of each market
    a screen, before it draws ─► watch, performance

Nothing here is read by a layer: a run without it decides the same.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dydx_conn import AccountUpdate, Frame
from dydx_data import DataState, Detection, MarketView
from dydx_paper import Ledger, Performance, TradeFigures, performance, trade_figures
from dydx_risk import MarginFigures, Risk, Watch
from dydx_signals import Scored
from dydx_strategy import Strategy

from bot.run.beside import Beside
from bot.run.curve import Curve
from bot.run.feeds import Feeds
from bot.run.journal import JournalEntry
from bot.run.links import Links
from bot.run.marks import Marks
from bot.run.monitor import Monitor
from bot.run.way import Way

_SECOND_NS = 1_000_000_000
_FILLS = 120


class Filled(NamedTuple):
    """A fill as a chart marks it: event time, USDC, base units; whether less was held after it."""

    at: int
    side: str
    price: float
    size: float
    is_exit: bool
    seq: int


class Shown:
    """The figures of one run; `ledger` is the paper account's, and None on the wire."""

    def __init__(self, data: DataState, risk: Risk, ledger: Ledger | None) -> None:
        # The values of each market's signals so far, where somebody looks (`Bot.follow`).
        self.curves: dict[str, dict[str, Marks]] = {}
        self.kinds: Counter[str] = Counter()
        self.last_frames: deque[Frame] = deque(maxlen=12)
        self.bytes = 0
        self.ticker = ""  # the market that somebody wants to see, where one is shown
        # The newest finding of each detector in each market; None without detectors.
        self.detected: dict[tuple[str, str], Detection] | None = None
        self.last_loss: Frame | None = None
        self.feeds = Feeds()  # counted where somebody looks
        # What goes beside the run: recorder, database, logs.
        self.beside: Sequence[Beside] = ()
        self.log = ""  # the path of the log, "" without one
        self.url = ""  # where it answers over HTTP, "" for nowhere
        # How the connections stand, where somebody looks (`Bot.follow_links`).
        self.links: Links | None = None
        # The way of the frames through the layers, while somebody looks at it.
        self.way: Way | None = None
        # What monitors alone look at, where one may.
        self.monitor: Monitor | None = None
        # What is wrong around the run, by where it is, and what whoever watches is to know.
        self.troubles: dict[str, str] = {}
        self.notice = ""
        # The newest act that changed settings, or was refused.
        self.edited: JournalEntry | None = None
        # Of a recording: how fast it is played and where it is, as a dashboard has it.
        self.speed: float | None = None
        self.timeline: Any = None
        self.ended = False  # a recording was played to its end, and the run goes on answering
        # What a snapshot of this run has beside it: the accounts that are watched, earlier runs.
        self.dressed: Callable[[Any], Any] | None = None
        self.carried = ""  # with what of an earlier run this one goes on, in words
        # Who decides, in a run that has an opinion.
        self.strategy: Strategy | None = None
        # Event time and distance to liquidation, about once a second of event time.
        self.distances: deque[tuple[int, float | None]] = deque(maxlen=120)
        self.curve = Curve()
        # The newest fills of each market, with their event time, for its chart.
        self.fills: dict[str, deque[Filled]] = {}
        self._data, self._risk, self._ledger = data, risk, ledger
        self._distance_due = 0
        self._margin: MarginFigures | None = None
        self._watch: Watch | None = None
        self._performance: tuple[object, Performance] | None = None
        self._trades: tuple[object, TradeFigures] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what can be packed; who looks, and how long ago, is of no moment of the run."""
        elsewhere = ("_watch", "way", "timeline", "dressed", "monitor")
        return vars(self) | dict.fromkeys(elsewhere)

    def take(self, frame: Frame) -> None:
        """Count a frame that the layers are done with."""
        self.kinds[frame.channel or frame.kind] += 1
        self.bytes += len(frame.text)
        if frame.kind in ("close", "gap"):
            self.last_loss = frame
        if self.way is not None:
            self.way.settle()
        if self.monitor is not None:
            self.monitor.take(frame, followed=self.way is not None)
        if self.links is None:
            return  # nobody looks: what follows is for a screen alone
        self.feeds.take(frame)
        self.links.take(frame)
        margin = self._risk.margin
        if margin is self._margin and self._data.at < self._distance_due:
            return  # as with nearly every frame
        self._margin = margin
        if self._data.at >= self._distance_due:
            self._distance_due = self._data.at + _SECOND_NS
            self.distances.append((self._data.at, margin.distance))
        account = self._risk.account
        if not account.trouble:
            self.curve.take(
                self._data.at, self._data.seq, margin, account.transferred, self._risk.falls_now
            )

    def learn(self, update: AccountUpdate) -> None:
        """Remember what was filled."""
        for fill in update.fills:
            fills, held = self.fills.get(fill.ticker), fill.held or 0
            if fills is None:
                fills = self.fills[fill.ticker] = deque(maxlen=_FILLS)
            is_exit = held != 0 and (held > 0) != (fill.side == "BUY")
            fills.append(
                Filled(
                    update.at, fill.side, float(fill.price), float(fill.size), is_exit, update.seq
                )
            )

    def detect(self, found: Detection) -> None:
        """Take a finding."""
        if self.detected is not None:
            self.detected[found.ticker, found.detector] = found

    def draw(self, scored: Scored) -> None:
        """Add a point to the curve of each signal of a market."""
        curves = self.curves.setdefault(scored.ticker, {})
        for score in scored.scores:
            if (marks := curves.get(score.signal)) is None:
                marks = curves[score.signal] = Marks()
            marks.add(score.value)

    @property
    def watched(self) -> list[MarketView]:
        """Return the markets whose book or trades have come, in the order they came in."""
        return [view for view in self._data.views.values() if view.live_at]

    def watch(self) -> Watch | None:
        """Look at the account between two frames, at most once a second of event time.

        For a screen alone, which calls it before it draws. As a stream beside the others it took a
        fifth of the throughput of a replay at full speed, and a millisecond of every frame that
        it fell on.
        """
        known, views = self._watch, self._data.views.values()
        if known is not None and self._data.at - known.at < _SECOND_NS:
            return known
        newest = max(views, key=lambda view: view.seq, default=None)
        self._watch = None if newest is None else self._risk.watch(newest)
        return self._watch

    def performance(self) -> Performance | None:
        """Return how the paper account did, computed again when it traded or an hour was marked."""
        if (ledger := self._ledger) is None:
            return None
        tally, points = ledger.tally, ledger.history.points
        known = tally.fills, tally.liquidations, ledger.paid.funding, len(points)
        if self._performance is None or self._performance[0] != known:
            self._performance = known, performance(ledger)
        return self._performance[1]

    def trades(self) -> TradeFigures | None:
        """Return what the paper account's trades came to, computed again when one has ended."""
        if (ledger := self._ledger) is None:
            return None
        tally = ledger.tally
        known = tally.won, tally.lost, tally.even, ledger.deposits
        if self._trades is None or self._trades[0] != known:
            views = self._data.views.values()
            markets = {view.ticker: view.market for view in views if view.market is not None}
            self._trades = known, trade_figures(ledger.history, ledger.deposits, markets)
        return self._trades[1]

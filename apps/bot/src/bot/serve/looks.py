"""What browsers look at, as a run's own thread answers it: one frozen Snapshot for each view.

    Wanted, from an address ──► Looks, a question at the Desk ──► Snapshots, at the newest frame

Most of a question is answered with nothing, cheaply: no frame came since the one before, and what
goes on by time alone, as an age, is copied once a second. A run that a browser looks at is followed
from then on as one on a dashboard is; nothing that it decides depends on it.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from dydx_panels import KEYS, Snapshot

from bot.run.composition import Bot, untrace
from bot.screen.snapshot import MarketRows, snapshot_of
from bot.serve.problems import ProblemError

COLUMNS: Final = (40, 240)
ROWS: Final = (20, 120)
_LONGEST: Final = 40  # letters of a ticker
_TRACED: Final = frozenset(["way", "speed"])
_FIRST, _ALL = 12, 120  # markets that fit on the whole screen, and on that of their panel
_IDLE_NS: Final = 1_000_000_000
_TURN_NS: Final = 8_000_000  # that frames wait at most for all views of a moment
_Key = tuple[str, str]  # a panel, and a market


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One view: a panel alone or "" for the whole screen, a market or "", and a size in cells."""

    panel: str = ""
    market: str = ""
    columns: int = 120
    rows: int = 40

    @property
    def key(self) -> tuple[str, str]:
        """Return of what a snapshot is needed: views of one key share it, whatever their sizes."""
        return self.panel, self.market

    @property
    def name(self) -> str:
        """Return how a page names it: what was drawn for another view is not put into this one."""
        return f"{self.panel} {self.market} {self.columns} {self.rows}"

    @classmethod
    def of(cls, typed: Mapping[str, Any]) -> "Wanted":
        """Read a view from the words of an address; `ProblemError` for what is none."""
        panel, market = str(typed.get("panel", "")), str(typed.get("market", "")).upper()
        if panel and panel not in KEYS.values():
            raise ProblemError(422, f"a panel among {', '.join(KEYS.values())}", panel[:_LONGEST])
        if len(market) > _LONGEST or not market.isprintable():
            raise ProblemError(422, "a market such as BTC-USD", market[:_LONGEST])
        return cls(
            panel=panel,
            market=market,
            columns=_within("columns", typed.get("columns", 120), COLUMNS),
            rows=_within("rows", typed.get("rows", 40), ROWS),
        )


def _within(name: str, typed: Any, bounds: tuple[int, int]) -> int:
    try:
        number = int(typed)
    except (TypeError, ValueError, OverflowError):
        raise ProblemError(422, f"a number of {name}", str(typed)[:_LONGEST]) from None
    return min(max(number, bounds[0]), bounds[1])


class Snapshots(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshots of some views, by (panel, market), at one frame.

    `seq` is the newest frame and `mono` when it was received, by the clock of monotonic_ns of
    whoever received it: in a replay that of the recording. `ended` is a recording that was played
    to its end. `took_ns` is what the run paid for it.
    """

    snapshots: Mapping[_Key, Snapshot]
    seq: int
    mono: int
    markets: tuple[str, ...]
    ended: bool
    took_ns: int


class Looks:
    """A question to a run, put again and again: `seen` returns None while there is nothing new."""

    def __init__(self, mode: str, name: str) -> None:
        self._mode, self._name = mode, name
        self._rows = MarketRows()
        self._newest, self._views, self._at = -1, frozenset[_Key](), 0
        self._drawn: dict[_Key, int] = {}  # when each was drawn last

    def seen(self, bot: Bot, views: frozenset[_Key], *, at_once: bool = False) -> Snapshots | None:
        """Return what stands, on the run's thread between two frames; None if it is as it was.

        What went on by time alone is new after a second, or `at_once`.
        """
        began = time.perf_counter_ns()
        if not bot.follows:
            bot.follow()
        bot.meters.sample()  # rates and CPU, where no terminal takes them
        is_same = bot.data.frames == self._newest and views <= self._views
        if is_same and not at_once and began - self._at < _IDLE_NS:
            return None
        self._newest, self._at = bot.data.frames, began
        newest = bot.shown.last_frames[-1] if bot.shown.last_frames else None
        snapshots = self._snapshots(bot, views)
        self._views = frozenset(snapshots)  # what found no time is drawn as soon as may be
        return Snapshots(
            snapshots=snapshots,
            seq=0 if newest is None else newest.seq,
            mono=0 if newest is None else newest.mono,
            markets=tuple(view.ticker for view in bot.shown.watched),
            ended=bot.shown.ended,
            took_ns=time.perf_counter_ns() - began,
        )

    def leave(self, bot: Bot) -> None:
        """Note the way of the frames no longer, unless a terminal shows it: nobody looks here."""
        self._snapshots(bot, frozenset())

    def _snapshots(self, bot: Bot, views: frozenset[_Key]) -> dict[_Key, Snapshot]:
        typed, was_ours = bot.shown.ticker, False
        if (way := bot.shown.way) is not None:
            was_ours, way.elsewhere = way.elsewhere, True  # no other view ends it
        try:
            return self._in_turn(bot, views, typed)
        finally:
            bot.shown.ticker = typed
            if (way := bot.shown.way) is not None:
                way.elsewhere = any(panel in _TRACED for panel, _ in views)
                if was_ours and not way.elsewhere:
                    untrace(bot)

    def _in_turn(self, bot: Bot, views: frozenset[_Key], typed: str) -> dict[_Key, Snapshot]:
        """Return as many as there is time for; the others come first the next time."""
        made, began = dict[_Key, Snapshot](), time.perf_counter_ns()
        self._drawn = {view: self._drawn.get(view, 0) for view in views}
        for view in sorted(views, key=lambda view: (self._drawn[view], view[0] in _TRACED)):
            if made and time.perf_counter_ns() - began >= _TURN_NS:
                break
            made[view], self._drawn[view] = self._snapshot(bot, *view, typed), time.monotonic_ns()
            if (way := bot.shown.way) is not None:
                way.elsewhere = True  # once a view began it no other one ends it
        return made

    def _snapshot(self, bot: Bot, panel: str, market: str, typed: str) -> Snapshot:
        bot.shown.ticker = market or typed
        self._rows.fresh = _ALL if panel == "markets" else _FIRST
        return snapshot_of(
            bot, mode=self._mode, name=self._name, speed=bot.shown.speed, panel=panel,
            timeline=bot.shown.timeline, rows=self._rows,
        )  # fmt: skip

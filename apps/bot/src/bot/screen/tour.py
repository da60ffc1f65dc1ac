"""A newcomer is shown around: a run stops where something happens for the first time.

    bot between two frames ──► Tour.look ──► the Stop that it is time for ──► TourScreen, or text

`STOPS` is the whole tour: when to stop, which panel to show, and what is to be seen. A stop goes on
by itself, or with any key. What does not happen in a recording is passed over.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from dydx_conn import Frame
from dydx_panels import KEYS, View, wording
from msgspec.structs import replace

from bot.run.composition import Bot
from bot.screen.keyboard import Key
from bot.screen.player import IDLE_NS
from bot.screen.screen import OF_THE_SHELL, Screen

STAY_S: Final = 7.0
SPEED: Final = 200.0  # times real time, between two stops


class Stop(NamedTuple):
    """Where a tour stops: when, what it shows ("" for the whole dashboard), and what to see.

    It is time for it once `when` has held for `after_s` seconds of event time.
    """

    title: str
    when: Callable[[Bot], bool]
    panel: str
    text: str
    after_s: float = 0.0

    @property
    def key(self) -> str:
        """Return the key that shows the panel; "" of the whole dashboard."""
        return next((key for key, name in KEYS.items() if name == self.panel), "")


def _counted(what: str, least: int = 1) -> Callable[[Bot], bool]:
    return lambda bot: bot.journal.counts[what] >= least


def _begun(bot: Bot) -> bool:
    return len(bot.shown.distances) > _BEGUN_S and bool(bot.shown.watched)


_BEGUN_S: Final = 5  # seconds of event time: by then there is something to see


def _has_result(bot: Bot) -> bool:
    figures = bot.venue.figures()
    return bool(figures.wins + figures.losses)


def _guarded(bot: Bot) -> bool:
    if not bot.journal.counts["reduce"]:
        return False
    newest = next(e for e in reversed(bot.journal.entries) if e.kind in ("fill", "reduce"))
    return newest.kind == "fill"


def _stopped(bot: Bot) -> bool:
    return bot.risk.standing.state != "ACTIVE" and bot.journal.counts["reduce"] > 0


def _never(_: Bot) -> bool:
    return False


# Three lines of 76 letters each, at most.
STOPS: Final = (
    Stop("the dashboard", _begun, "",
         "A recording stands in for the venue, and a paper account is traded on it. The large "
         "figure is how far the account is from liquidation: the first thing to look at, always."),
    Stop("the first decision", _counted("target"), "decisions",
         "Each market has scores from 0 to 100 with every tick. A strategy weighs them and decides "
         "what to hold, with its reasons; nothing is bought yet."),
    Stop("from a score to an order", _counted("approved"), "walk",
         "The whole calculation of one decision: scores, weights, thresholds, size, the verdict of "
         "risk, and the order. Nothing is traded without it."),
    Stop("the first fill", _counted("fill"), "positions",
         "The order is filled at the prices that stood in the book. Each position has its gain, "
         "the price that would liquidate it, and how far that is away."),
    Stop("the distance", lambda bot: bot.risk.margin.distance is not None, "safety",
         "If all prices moved against the account by this share, the venue would liquidate it. The "
         "mark on the bar is where the guard acts, long before.", 1.0),
    Stop("a decision to hold", _counted("hold"), "strategies",
         "Doing nothing has reasons, too. What each strategy wants, what it may have and what it "
         "has stand side by side."),
    Stop("the first refusal", _counted("denied"), "orders",
         "Risk has refused an order: it would have cost more margin or distance than the limits "
         "allow. The reason stands beside it, with its figures."),
    Stop("the first result", _has_result, "performance",
         "A position was closed: what it brought after fees, how often it wins, and how far paper "
         "fills can be believed."),
    Stop("the way out, before it is needed", _counted("hold", 4), "flight",
         "The guard has a plan at any time: which order it would send first if prices fell, at "
         "which distance, what that restores and what it costs."),
    Stop("the crash, and the guard", _guarded, "orders",
         "Prices fell hard within one block, and the guard has sold before the venue could "
         "liquidate. Each of its orders has its reason, its price and its fills."),
    Stop("nothing enters any more", _stopped, "tape",
         "After such a loss nothing is bought until it is safe again. Every line here has an id: "
         "select one and press w, and it is explained down to the text of the wire.", 2.0),
    Stop("what the crash did", _counted("reduce"), "candles",
         "The candles of the market, with the volume below. Where a position is held, its entry "
         "and its liquidation price are on the chart, and each buy and sale.", 60.0),
    Stop("the end", _never, "equity",
         "What the account was worth. The same recording and choices give the same run to the "
         "last bit: its hash is at the top. In bot replay , and [ go back to look closer."),
)  # fmt: skip


class Tour:
    """The stops that are left, and the one that is shown."""

    def __init__(self, bot: Bot, stops: Sequence[Stop] = STOPS) -> None:
        self._bot, self._stops, self._left = bot, stops, list(stops)
        self._since: dict[str, int] = {}  # event times from which on it was time for each
        self._count = 0

    def look(self) -> Stop | None:
        """Return the stop that it is time for; those before it that never came are over."""
        for place, stop in enumerate(self._left):
            if stop.when(self._bot) and self._held_ns(stop) >= stop.after_s * 1e9:
                del self._left[: place + 1]
                self._count += 1
                return stop
        return None

    def _held_ns(self, stop: Stop) -> int:
        return self._bot.data.at - self._since.setdefault(stop.title, self._bot.data.at)

    def end(self) -> Stop:
        """Return the last stop: the recording is over."""
        self._left, self._count = [], self._count + 1
        return self._stops[-1]

    def title(self, stop: Stop) -> str:
        """Return the number of the stop that was returned last, and its title."""
        return f"{self._count} · {stop.title}"


class TourScreen(Screen):
    """A dashboard that stops and explains; any key goes on, q leaves."""

    def __init__(self, bot: Bot, **how: Any) -> None:
        super().__init__(bot, **how)
        self._tour = Tour(bot)
        self._stop: Stop | None = None
        self._until_ns = 0

    @property
    def view(self) -> View:
        """Return what is drawn: at a stop its panel, and what is to be seen."""
        view, stop = super().view, self._stop
        if stop is None:
            return view
        left_s = max(self._until_ns - time.monotonic_ns(), 0) / 1e9
        keys = f"any key goes on (in {left_s:.0f} s) · q leaves"
        if stop.key:
            keys = f"{stop.key} shows {wording(stop.panel)} at any time · {keys}"
        guide = f"{stop.text}\n{keys}"
        return replace(view, panel=stop.panel, guide=guide, guide_title=self._tour.title(stop))

    def _wait_ns(self, frame: Frame, now: int) -> int:
        if self._stop is None and (stop := self._tour.look()) is not None:
            self._halt_at(stop, now)
        if self._stop is not None:
            if now < self._until_ns:
                return IDLE_NS
            self._go_on()
        return super()._wait_ns(frame, now)

    def _halt_at(self, stop: Stop, now: int) -> None:
        self._stop, self._until_ns = stop, now + int(STAY_S * 1e9)
        self.redraw.at_once()
        self.choices.show(stop.panel)

    def _go_on(self) -> None:
        self._stop = None
        self.redraw.at_once()
        self.choices.show("")
        self.player.restart()

    def _answer(self, key: Key) -> None:
        if self._stop is None or key in ("q", "\x03", *OF_THE_SHELL):
            super()._answer(key)
        elif key:
            self._until_ns = 0

    def stay(self) -> bool:
        """Show the last stop, and end."""
        self._halt_at(self._tour.end(), time.monotonic_ns())
        self.line.ended = "the end of the tour: bot replay is the same without it"
        while not self.questions.quits and time.monotonic_ns() < self._until_ns:
            self._idle()
            self._draw_if_due(time.monotonic_ns())
            self._answer(self._next_key(IDLE_NS / 1e9))
        self.questions.over = self.questions.quits = True
        return False

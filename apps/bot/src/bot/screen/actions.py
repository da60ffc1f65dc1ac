"""What each key does: to the view, to the clock, to the run, or to a file.

    key, click ──► Actions.press ──► Choices · Player · Questions · picture
                                └──► Line: what came of it, where that is not seen otherwise

`ACTIONS` is the table; the panels' own keys are dydx_panels' `KEYS`. An action that can do nothing
now says why, and is in no help. What a key does to the run itself, as halting it, it does by an act
(run.acts), so that it is recorded.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from dydx_panels import KEYS, Snapshot, Spot, View, detail, selectable, sortable, spot

from bot.report.why import chain, frame_lines
from bot.run.composition import Bot
from bot.run.kinds import Kinds
from bot.screen.choices import Choices
from bot.screen.keyboard import Click
from bot.screen.line import Line
from bot.screen.picture import FORMATS, save
from bot.screen.player import Player
from bot.screen.question import Question, Questions
from bot.screen.travel import Travel

_WHEEL: Final = {"up": -3, "down": 3}  # rows
# Lists of markets: to open a row is to look at its market.
_UNBROKEN: Final = 10_000  # letters: the panel breaks lines itself
_OF_MARKETS: Final = ("markets", "prices")


class Actions:
    """What a person does at a screen; `snapshot` returns what stands now, `size` its cells.

    `frozen` is the picture of a live run that is paused: it stands still on the screen alone.
    """

    def __init__(
        self,
        bot: Bot,
        choices: Choices,
        player: Player,
        questions: Questions,
        line: Line,
        *,
        snapshot: Callable[[], Snapshot],
        size: Callable[[], tuple[int, int]],
        recording: Path | None = None,
        kinds: Kinds = None,
        travel: Travel | None = None,
    ) -> None:
        self.bot = bot
        self.choices, self.player, self.questions, self.line = choices, player, questions, line
        self.frozen: Snapshot | None = None
        self.snapshot, self.size = snapshot, size
        self._recording, self._kinds, self.travel = recording, kinds, travel
        # What it means to open a row, by panel; of all others it shows the row and its cause.
        self.opens: dict[str, Callable[[str], str]] = dict.fromkeys(_OF_MARKETS, self._open_market)

    # --- keys and clicks ---

    def press(self, key: str) -> None:
        """Do what a key stands for, in a question, in a filter, or by the table."""
        if self.questions.text:
            self._say(self.questions.answer(key))
        elif self.choices.view.filtering:
            self.choices.type(key)
        elif action := ACTIONS.get(key):
            self._say(action.not_now(self) or action.does(self))
        elif key in KEYS:
            self.choices.show(KEYS[key])
        elif key.isprintable():
            self._say(f"{key} does nothing here: ? lists the keys")
        if self.frozen is not None and self.questions.acted:
            self.pause()  # whoever acts wants to see what comes of it
        self.questions.acted = False

    def _say(self, words: str | None) -> None:
        if words:
            self.line.answer(words)

    @property
    def off(self) -> frozenset[str]:
        """Return the keys that do nothing now."""
        return frozenset(key for key, action in ACTIONS.items() if action.not_now(self))

    def click(self, click: Click, view: View) -> None:
        """Do what a click on the `view` as it is drawn stands for, or a turn of the wheel."""
        if self.questions.text or self.choices.view.filtering:
            return
        place = spot(self.snapshot(), view, *self.size(), click.x, click.y)
        if click.what in _WHEEL:
            if not self.choices.overlaid and place.panel in KEYS.values():
                self._focus(place.panel)
            self._say(self.choices.move(_WHEEL[click.what]))
        elif place.what in _CLICKS:
            _CLICKS[place.what](self, place)

    def _focus(self, panel: str) -> None:
        if panel != self.choices.view.listed:
            self.choices.select(panel, -1)

    def _click_title(self, place: Spot) -> None:
        if self.choices.overlaid or self.choices.view.panel:
            self.choices.back()
        else:
            self.choices.show(place.panel)

    def _click_row(self, place: Spot) -> None:
        view = self.choices.view
        if (view.listed, view.selected) == (place.panel, place.row):
            self._say(self.open())
        else:
            self.choices.select(place.panel, place.row)

    # --- the run ---

    def quit(self) -> None:
        """End the run, or close the overlay that is open; what is held needs an answer."""
        if self.choices.overlaid:
            self.choices.close()
        else:
            self.questions.quit()

    def pause(self) -> str:
        """Stop the recording, or let it go on; a live run only stands still on the screen."""
        self.player.pause()
        if not self.player.is_live:
            return ""
        self.frozen = self.snapshot() if self.player.paused else None
        return "the picture stands still; the run goes on" if self.player.paused else ""

    def hurry(self, sign: int) -> str:
        """Play faster, or with -1 slower."""
        was = self.player.speed
        self.player.hurry(sign)
        ends = f"there is no {'higher' if sign > 0 else 'lower'} speed"
        return ends if was == self.player.speed else ""

    def go(self, way: Callable[[Travel], None], *, pauses: bool = False) -> None:
        """Go elsewhere in the recording."""
        if self.travel is None:
            return
        way(self.travel)
        self.questions.restart()
        self.line.show("")
        self.player.restart()
        if pauses and not self.player.paused:
            self.player.pause()

    def market(self, step: int) -> str:
        """Show the next market in book, candles and flow, or with -1 the one before."""
        shown = self.snapshot()
        tickers = [row.ticker for row in shown.markets]
        if not tickers:
            return "no market yet"
        now = shown.book.ticker
        at = tickers.index(now) + step if now in tickers else 0
        return self._show_market(tickers[at % len(tickers)])

    def _show_market(self, ticker: str) -> str:
        self.bot.shown.ticker = ticker
        still = ", once the picture goes on (space)" if self.frozen is not None else ""
        return f"{ticker} in book, candles and flow{still}"

    # --- rows ---

    def open(self) -> str:
        """Open the selected row: its market's candles, or all of it and its cause."""
        view, row = self.choices.view, self.choices.selected
        if view.why:
            self.choices.close()
        elif not row:
            return "no row can be opened here"
        elif opens := self.opens.get(view.listed):
            return opens(row)
        else:
            if view.selected < 0:
                self.choices.select(view.listed, 0)
            shown, view = self.snapshot(), self.choices.view
            title, cause = self._cause(row)
            # A list without titles is of what happened: its cause begins with the row itself.
            titled = not cause or sortable(shown, view, self.size()[0])
            lines = (*detail(shown, view), "") if titled else ()
            self._explain(title or row, (*lines, *cause))
        return ""

    def _open_market(self, ticker: str) -> str:
        self.choices.open("candles")
        return self._show_market(ticker)

    def why(self) -> str:
        """Explain the selected row; where a panel has no such rows, the newest of its market."""
        if self.choices.view.why:
            self.choices.close()
            return ""
        title, cause = self._cause(self.choices.selected)
        if not cause:
            return "nothing has happened yet that could be explained"
        self._explain(title, cause)
        return ""

    def _cause(self, row: str) -> tuple[str, tuple[str, ...]]:
        """Return what explains a row, and from where on: its own entry, its market's, any.

        A row that is a frame is explained by its whole text.
        """
        run, slash, name = row.partition("/")
        if slash and run.isdecimal():
            return row, _of_earlier(run, name)
        shown, journal = self.snapshot(), self.bot.journal
        frames, recording, kinds = shown.wire.samples, self._recording, self._kinds
        if row.isdecimal() and (text := frame_lines(int(row), frames, recording, kinds)):
            return f"#{row}", tuple(text)
        tried = (row, *selectable(shown, View(filter=row)), *selectable(shown, View()))
        entry = next(filter(None, map(journal.find, tried)), None)
        if entry is None:
            return "", ()
        lines = chain(entry, journal, recording, _UNBROKEN, kinds)
        if recording is None:
            lines.append("their texts are stored only with --record")
        return entry.id, tuple(lines)

    def _explain(self, title: str, lines: tuple[str, ...]) -> None:
        self.choices.explain(title, lines)
        if not (self.player.paused or self.player.is_live):
            self.player.pause()

    # --- files ---

    def save(self) -> None:
        """Offer to write what is on the screen beside the working directory's files."""
        shown, view, size = self.snapshot(), self.choices.view, self.size()
        stem = f"bot-{self.bot.journal.hash[:8]}-{self.bot.data.seq}"

        def written(form: str) -> Callable[[], str]:
            return lambda: save(shown, view, size, stem, form)

        names = ", ".join(f"{key} {form.name}" for key, form in FORMATS.items())
        answers = {key: written(key) for key in FORMATS}
        self.questions.ask(Question(f"save as: {names}", answers, lambda: "nothing is saved"))


def _of_earlier(run: str, name: str) -> tuple[str, ...]:
    """Return in words where all about an order or a fill of an earlier run is found."""
    found = f"bot history {name if name.startswith('O') else ''} --run {run}".replace("  ", " ")
    return (f"{name} is of run {run}, which is over: {found}",)


class Action(NamedTuple):
    """What a key does, which may return what to say, and why it can do nothing now, if so."""

    does: Callable[[Actions], str | None]
    not_now: Callable[[Actions], str] = lambda actions: ""


def _in_a_replay(actions: Actions) -> str:
    return "a live run has no speed and no steps" if actions.player.is_live else ""


def _on_a_way(actions: Actions) -> str:
    no = "only a recording goes back, and only without --journal"
    return no if actions.travel is None else ""


def _to(word: str) -> Callable[[Actions], str]:
    return lambda actions: actions.questions.refusal(word)


_UP, _DOWN = Action(lambda x: x.choices.move(-1)), Action(lambda x: x.choices.move(1))
_FASTER: Final = Action(lambda actions: actions.hurry(1), _in_a_replay)
ACTIONS: Final = {
    "q": Action(Actions.quit),
    "\x1b": Action(lambda actions: actions.choices.back()),
    "\x03": Action(Actions.quit),
    " ": Action(Actions.pause),
    ".": Action(lambda actions: actions.player.step(), _in_a_replay),
    ",": Action(lambda actions: actions.go(Travel.back_to_decision, pauses=True), _on_a_way),
    "]": Action(lambda actions: actions.go(lambda travel: travel.on(60.0)), _on_a_way),
    "[": Action(lambda actions: actions.go(lambda travel: travel.on(-60.0)), _on_a_way),
    "home": Action(lambda actions: actions.go(Travel.to_start), _on_a_way),
    "end": Action(lambda actions: actions.go(Travel.to_end, pauses=True), _on_a_way),
    "+": _FASTER,
    "=": _FASTER,
    "-": Action(lambda actions: actions.hurry(-1), _in_a_replay),
    "?": Action(lambda actions: actions.choices.help()),
    "h": Action(lambda actions: actions.choices.help()),
    "/": Action(lambda actions: actions.choices.search()),
    "w": Action(Actions.why),
    "\r": Action(Actions.open),
    "s": Action(Actions.save),
    "K": Action(lambda actions: actions.questions.halt(), _to("halt")),
    "P": Action(lambda actions: actions.questions.pause_entries(), _to("pause")),
    "F": Action(lambda actions: actions.questions.flatten(), _to("close")),
    "tab": Action(lambda actions: actions.market(1)),
    "back-tab": Action(lambda actions: actions.market(-1)),
    "left": Action(lambda actions: actions.choices.sort(-1, actions.size()[0])),
    "right": Action(lambda actions: actions.choices.sort(1, actions.size()[0])),
    "R": Action(lambda actions: actions.choices.reverse()),
    "up": _UP,
    "k": _UP,
    "down": _DOWN,
    "j": _DOWN,
    "pageup": Action(lambda actions: actions.choices.move(-10)),
    "pagedown": Action(lambda actions: actions.choices.move(10)),
}
_CLICKS: Final[dict[str, Callable[[Actions, Spot], None]]] = {
    "title": Actions._click_title,
    "row": Actions._click_row,
    "time": lambda actions, place: actions.go(lambda travel: travel.to_share(place.share)),
    "column": lambda actions, place: actions.choices.sort_by(place.term),
    "key": lambda actions, place: actions.press(place.term) if place.term else None,
}

"""What each key and click does: something that is seen, or a word about why not."""

import io
from collections.abc import Iterator

import pytest
from bot.run.composition import Bot, Options
from bot.screen.actions import ACTIONS, Actions
from bot.screen.keyboard import Click
from bot.screen.screen import Screen
from dydx_conn import Frame, Inbox, collect, load_recorded_stream
from dydx_panels import KEYS, TimelinePart, View, dashboard
from msgspec.structs import replace
from reactivex import from_iterable
from rich.console import Console


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Return the recording's first frames."""
    return collect(load_recorded_stream("quickstart"))[:1500]


@pytest.fixture(scope="module")
def ran(frames: list[Frame]) -> Bot:
    """Return a bot that has traded."""
    bot = Bot(Options())
    bot.run(from_iterable(frames))
    return bot


def shown(bot: Bot, mode: str = "REPLAY", inbox: Inbox | None = None) -> Screen:
    """Show a run on a made-up terminal."""
    console = Console(file=io.StringIO(), width=120, height=40, force_terminal=True)
    speed = 20.0 if mode == "REPLAY" else None
    bot.shown.ticker = ""
    return Screen(
        bot, mode=mode, name="quickstart", speed=speed, console=console, inbox=inbox, mouse=True
    )


@pytest.fixture
def screen(ran: Bot) -> Iterator[Screen]:
    """Show the bot that has traded; what one test chooses is not the next one's."""
    screen = shown(ran)
    yield screen
    ran.journal.listeners.remove(screen._note)


@pytest.fixture
def actions(screen: Screen) -> Actions:
    """Return what its keys do."""
    return screen.actions


def press(actions: Actions, *keys: str) -> str:
    """Press keys one after the other; return what the last line says then."""
    for key in keys:
        actions.press(key)
    return actions.line.words()


def click(screen: Screen, text: str, what: str = "click", right: int = 0) -> None:
    """Click where a text begins on the screen, or so many cells to the right of it."""
    lines = dashboard(screen.snapshot(), screen.view, 120, 40).text.split("\n")
    y = next(y for y, line in enumerate(lines) if text in line)
    screen._answer(Click(what, lines[y].index(text) + right, y))


# === Every key has an answer ===


def test_a_key_that_does_nothing_says_so(actions: Actions) -> None:
    """And where to look."""
    assert press(actions, "Z") == "Z does nothing here: ? lists the keys"
    assert press(actions, "\x1b") == "nothing is open: q quits"
    assert press(actions, "R") == "no column sorts: left and right choose one"


@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        (("1", "down"), "no row can be selected here"),
        (("1", "\r"), "no row can be opened here"),
        (("t", "right"), "this list has an order of its own"),
        (("3", "left", "right"), "in the order of its own"),
        (("+",) * 9, "there is no higher speed"),
        (("-",) * 9, "there is no lower speed"),
        ((",",), "only a recording goes back, and only without --journal"),
    ],
)
def test_what_cannot_be_done_is_worded(
    actions: Actions, keys: tuple[str, ...], answer: str
) -> None:
    """Each in the words of its own reason."""
    assert press(actions, *keys) == answer


def test_a_run_that_has_seen_nothing_has_no_market_and_no_cause() -> None:
    """No key raises before the first frame."""
    actions = shown(Bot(Options())).actions

    assert press(actions, "tab") == "no market yet"
    assert press(actions, "w") == "nothing has happened yet that could be explained"
    for key in (*ACTIONS, *KEYS, "\x1b"):
        actions.press(key)


@pytest.mark.parametrize(
    ("mode", "off"),
    [
        ("REPLAY", {",", "[", "]", "home", "end"}),
        ("PAPER", {",", "[", "]", "home", "end", ".", "+", "-", "="}),
        ("WATCH", {",", "[", "]", "home", "end", ".", "+", "-", "=", "K", "P", "F"}),
    ],
)
def test_only_keys_that_work_now_are_listed(mode: str, off: set[str]) -> None:
    """A live run has no speed, and where nothing trades nothing is halted."""
    actions = shown(Bot(Options()), mode).actions

    assert actions.off == off
    assert all(press(actions, key) for key in off)


def test_after_the_end_nothing_is_left_to_halt(screen: Screen) -> None:
    """The help no longer lists it."""
    screen.questions.over = True

    assert {"K", "P", "F"} <= screen.view.off
    assert press(screen.actions, "P") == "the run is over: nothing is left to pause"


def test_what_is_no_letter_is_no_key(actions: Actions) -> None:
    """A control character that nothing is bound to is passed over."""
    assert press(actions, "\x01") == ""


def test_in_a_recording_of_which_the_way_is_known_keys_go_there(ran: Bot) -> None:
    """A step back pauses; a minute on goes on."""

    class Way:
        def __init__(self) -> None:
            self.went: list[object] = []

        def back_to_decision(self) -> None:
            self.went.append("back")

        def on(self, seconds: float) -> None:
            self.went.append(seconds)

        def to_share(self, share: float) -> None:
            self.went.append(share)

    actions = shown(ran).actions
    timed = replace(actions.snapshot(), timeline=TimelinePart(began=0, ends=10**12))
    actions.snapshot = lambda: timed
    actions.travel = way = Way()  # type: ignore[assignment]
    actions.go(lambda travel: travel.back_to_decision(), pauses=True)
    assert actions.player.paused
    press(actions, " ", "]", "[")

    actions.click(Click("click", 40, 38), View())
    assert way.went[:-1] == ["back", 60.0, -60.0]
    assert way.went[-1] == pytest.approx(0.36, abs=0.02)
    assert not actions.player.paused
    assert "," not in actions.off


# === Entries ===


def test_p_pauses_entries_at_once_and_lets_them_go_on(frames: list[Frame]) -> None:
    """It is an act, and needs no yes."""
    inbox, bot = Inbox(), Bot(Options())
    actions = shown(bot, "PAPER", inbox).actions

    answer = press(actions, "P")
    bot.risk.stops.pause("by key")
    again = press(actions, "P")

    acts = iter(lambda: inbox.take(1, 0.0), None)
    assert [(act.link, act.type) for act in acts] == [("key", "pause"), ("key", "unpause")]
    assert answer == "entries are paused: exits and guard go on (P lets them enter again)"
    assert again == "entries go on, as far as the gate lets them"


# === Markets ===


def test_tab_walks_the_markets(actions: Actions, ran: Bot) -> None:
    """Book, candles and flow follow; after the last comes the first."""
    tickers = [view.ticker for view in ran.shown.watched]
    first = actions.snapshot().book.ticker
    seen = []
    for _ in tickers:
        press(actions, "tab")
        seen.append(actions.snapshot().book.ticker)

    assert sorted(seen) == sorted(tickers)
    assert seen[-1] == first
    press(actions, "tab", "back-tab")
    assert actions.snapshot().book.ticker == first


def test_enter_on_a_market_shows_its_candles_and_esc_goes_back(actions: Actions) -> None:
    """To the list it was chosen from, and then to all panels."""
    answer = press(actions, "3", "down", "down", "\r")
    ticker = actions.snapshot().book.ticker

    assert actions.choices.view.panel == "candles"
    assert answer == f"{ticker} in book, candles and flow"
    press(actions, "\x1b")
    assert actions.choices.view.panel == "markets"
    press(actions, "\x1b")
    assert actions.choices.view.panel == ""


def test_a_picture_that_stands_still_shows_a_market_later() -> None:
    """The last line says so."""
    bot = Bot(Options())
    bot.run(from_iterable(collect(load_recorded_stream("quickstart"))[:400]))
    actions = shown(bot, "PAPER").actions

    assert press(actions, " ") == "the picture stands still; the run goes on"
    assert press(actions, "tab").endswith("once the picture goes on (space)")


# === Rows ===


def test_a_column_sorts_and_turns_round(actions: Actions) -> None:
    """Left and right choose it, R turns it round, and beyond the last is none."""
    press(actions, "3", "right", "right")
    prices = [row.price or 0.0 for row in actions.snapshot().markets]
    by_price = {row.ticker: row.price or 0.0 for row in actions.snapshot().markets}

    assert actions.choices.view.sort == "markets.price"
    assert [by_price[t] for t in actions.choices.rows] == sorted(prices, reverse=True)
    press(actions, "R")
    assert [by_price[t] for t in actions.choices.rows] == sorted(prices)
    press(actions, "left", "left")
    assert actions.choices.view.sort == ""


def test_enter_opens_a_row_with_its_cause(actions: Actions) -> None:
    """A row with titles first whole, one of the tape as its cause."""
    press(actions, "2", "down", "\r")
    held = actions.choices.view.why
    press(actions, "\r", "t", "\r")
    taped = actions.choices.view.why

    assert held[0].startswith("ticker ")
    assert any(line.startswith("wire: frames ") for line in held)
    assert taped[0].split()[0] == actions.choices.selected


def test_a_filter_of_letters_that_are_keys_presses_none(actions: Actions) -> None:
    """Arrows and the mouse are no letters."""
    press(actions, "/", "q", "up", "K", "\r")

    assert actions.choices.view.filter == "qK"
    assert not actions.questions.quits
    press(actions, "\x1b")
    assert actions.choices.view.filter == ""


# === Mouse ===


def test_a_click_on_a_title_shows_the_panel_alone_and_goes_back(screen: Screen) -> None:
    """Wherever it stands."""
    click(screen, "Markets")
    assert screen.view.panel == "markets"
    click(screen, "Markets")
    assert screen.view.panel == ""


def test_a_click_selects_a_row_and_another_one_opens_it(screen: Screen) -> None:
    """Also in a panel beside others."""
    id_ = [row.id for row in screen.snapshot().tape][1]
    click(screen, f" {id_} ", right=1)
    assert (screen.view.focus, screen.view.selected) == ("tape", 1)
    click(screen, f" {id_} ", right=1)
    assert screen.view.why_title == id_
    click(screen, "Why")
    assert not screen.view.why


def test_a_click_on_a_column_sorts_and_another_one_turns_it_round(screen: Screen) -> None:
    """On the dashboard, too."""
    click(screen, "SPREAD")
    assert (screen.view.sort, screen.view.reverse) == ("markets.spread_bps", False)
    click(screen, "SPREAD")
    assert screen.view.reverse


def test_a_click_on_a_key_presses_it(screen: Screen) -> None:
    """What the last row names can be pressed there."""
    click(screen, "pause")
    assert screen.player.paused
    click(screen, "help")
    assert screen.view.help


def test_the_wheel_scrolls_what_is_under_it(screen: Screen) -> None:
    """The list, or the text that lies over all."""
    click(screen, "Tape", "down", right=5)
    assert (screen.view.focus, screen.view.selected) == ("tape", 2)
    click(screen, "Tape", "up", right=5)
    assert screen.view.selected == 0
    screen.actions.press("w")
    click(screen, "Why", "down")
    assert screen.view.scroll == 3


def test_a_click_answers_no_question(screen: Screen) -> None:
    """Nor does it end a filter."""
    press(screen.actions, "K")
    click(screen, "halt trading?")
    assert screen.view.confirm
    press(screen.actions, "n", "/")
    click(screen, "Markets")
    assert (screen.view.panel, screen.view.filtering) == ("", True)


def test_without_a_mouse_the_help_lists_none(ran: Bot) -> None:
    """It is the terminal's own then."""
    console = Console(file=io.StringIO(), width=120, height=40, force_terminal=True)
    screen = Screen(ran, mode="REPLAY", name="x", speed=1.0, console=console)

    assert "mouse" in screen.view.off
    assert "mouse" not in shown(ran).view.off
    assert View().off == frozenset()

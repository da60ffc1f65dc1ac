"""The view in a browser: the page and its files, what comes over a WebSocket, what a poll gets."""

import json
import re
import threading
import warnings
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any, Final

import pytest
from bot.config.api import ApiSettings
from bot.run.composition import Bot, Options
from bot.run.desk import Desk, DeskError
from bot.screen.closeup import closeup
from bot.screen.snapshot import MarketRows, snapshot_of
from bot.serve import files, looks, painter, plots, viewer
from bot.serve.app import app_of
from bot.serve.looks import Looks, Wanted
from bot.serve.painter import Painter
from bot.serve.plots import Plots, figures
from bot.serve.problems import ProblemError
from bot.serve.served import Served
from bot.serve.sheet import Sheet
from bot.serve.tokens import Tokens
from dydx_conn import Frame, Inbox, replay
from dydx_panels import KEYS, TapeRow, View, dashboard, placed
from dydx_panels import Snapshot as Shown
from starlette.websockets import WebSocketDisconnect

with warnings.catch_warnings():
    # It would have another client than the one that all other tests have.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

HOST: Final = "http://127.0.0.1:8710"
LIVE: Final = "ws://127.0.0.1:8710/view/live"
WHOLE: Final = ("", "")
BEGUN: Final = 1_200


@pytest.fixture(scope="module")
def bot() -> Bot:
    """Return a run that traded, and that somebody looks at."""
    made = Bot(Options())
    made.follow()
    made.run(replay("quickstart", pace=lambda frame: frame.seq < BEGUN))
    return made


@pytest.fixture
def client(bot: Bot, tmp_path: Path) -> Iterator[TestClient]:
    """Return a browser that has the token that may look."""
    with browser(bot, tmp_path) as client:
        client.headers["Authorization"] = f"Bearer {(tmp_path / 'read.token').read_text().strip()}"
        yield client


def browser(bot: Bot, place: Path) -> TestClient:
    """Return a browser in front of a run that answers at once."""
    desk = Desk()
    desk.begin(bot)
    desk.wake = desk.answer
    settings = ApiSettings(
        read_token=str(place / "read.token"), trading_token=str(place / "trading.token")
    )
    served = Served(
        desk=desk, inbox=Inbox(), mode="REPLAY", name="quickstart", settings=settings,
        tokens=Tokens(settings),
    )  # fmt: skip
    served.tokens.require()
    return TestClient(app_of(served), base_url=HOST, raise_server_exceptions=True)


def texts(message: dict[str, Any]) -> list[str]:
    """Return the rows of a message as a page shows them: panels side by side in one row."""
    shown = []
    for band in message["bands"]:
        blocks = [message["rows"][str(one["block"])] for one in band]
        for row in range(band[0]["rows"]):
            html = "".join(block[str(row)] for block in blocks)
            shown.append(unescape(re.sub(r"<[^>]*>", "", html)))
    return shown


# --- the page and its files ---


def test_the_page_has_a_button_for_each_panel_and_no_script_of_its_own(client: TestClient) -> None:
    """Everything that runs comes from a file of this process."""
    page = client.get("/")

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert re.findall(r'data-panel="(\w+)"', page.text) == [*KEYS.values()]
    assert not re.findall(r"<script(?![^>]* src=\"/page/)|<style|\son\w+=|style=", page.text)
    assert not re.findall(r"https?:", page.text)


def test_the_policy_lets_nothing_in_from_another_host(client: TestClient) -> None:
    """No script but files, no frame around it, and forms that come from somewhere."""
    headers = client.get("/").headers

    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["view.css", "view.js", "cells.css", "icon.svg"])
def test_a_file_is_sent_once_and_then_known_again(client: TestClient, name: str) -> None:
    """It comes compressed, and with its hash not at all."""
    first = client.get(f"/page/{name}")
    again = client.get(f"/page/{name}", headers={"If-None-Match": first.headers["etag"]})
    plain = client.get(f"/page/{name}", headers={"Accept-Encoding": "identity"})

    assert first.headers["content-encoding"] == "gzip"
    assert (again.status_code, again.content) == (304, b"")
    assert plain.text == first.text
    assert "http" not in first.text.replace("http://www.w3.org/2000/svg", "").replace("https:", "")


def test_plotly_is_that_of_the_installed_package(client: TestClient) -> None:
    """Nothing of it is loaded from anywhere else."""
    from plotly.offline import get_plotlyjs

    found = client.get("/page/plotly.js")

    assert found.text == get_plotlyjs()


def test_no_other_file_can_be_had(client: TestClient) -> None:
    """What is not a file of the page is not looked for on a disk."""
    assert client.get("/page/view.html").status_code == 404
    assert client.get("/page/..%2fview.py").status_code == 404


# --- what is shown ---


@pytest.mark.parametrize("size", [(176, 54), (50, 96)])
def test_the_rows_are_those_of_the_terminal(
    client: TestClient, bot: Bot, size: tuple[int, int]
) -> None:
    """The same words, letter by letter, but for the keys of a terminal."""
    columns, rows = size
    message = client.get("/view", params={"columns": columns, "rows": rows}).json()
    shown = snapshot_of(bot, mode="REPLAY", name="quickstart", speed=None)

    expected = dashboard(shown, View(), columns, rows).text.split("\n")[:-1]
    assert texts(message)[1:] == expected[1:]
    assert message["trouble"] == ""


def test_a_recording_that_was_played_to_its_end_says_so(client: TestClient, bot: Bot) -> None:
    """What is shown then is neither live nor old: it is how it stood at the end."""
    before = client.get("/view").json()["ended"]
    bot.shown.ended = True
    after = client.get("/view", params={"panel": "positions"}).json()["ended"]

    assert (before, after) == (False, True)


def test_a_page_has_words_for_every_state_of_its_indicator() -> None:
    """And each has its look."""
    script, style = (files.asset(name) for name in ("view.js", "view.css"))
    assert script is not None
    assert style is not None
    for state in ("live", "polling", "stale", "lost", "ended"):
        assert f"  {state}: " in script.plain.decode()
        assert f'#status[data-state="{state}"]' in style.plain.decode()


def test_a_panel_alone_of_a_chosen_market(client: TestClient, bot: Bot) -> None:
    """What one browser chooses is its own: the terminal's market stays."""
    message = client.get("/view", params={"panel": "book", "market": "BTC-USD"}).json()

    assert [one["panel"] for band in message["bands"] for one in band] == ["header", "book"]
    assert "Book BTC-USD" in texts(message)[1]
    assert bot.shown.ticker == ""
    assert message["markets"] == [view.ticker for view in bot.shown.watched]


@pytest.mark.parametrize(
    "typed", ["panel=nothing", "columns=9999", "rows=x", "market=%3Cb%3E", "since=x"]
)
def test_a_view_that_is_none_is_refused_in_words(client: TestClient, typed: str) -> None:
    """The words say what was expected and what it was."""
    found = client.get(f"/view?{typed}")

    assert found.status_code == 422
    assert {*found.json()} == {"expected", "got"}


def test_a_socket_is_sent_all_and_then_what_changed(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only rows that are other ones come again; charts come once they are drawn."""
    monkeypatch.setattr(looks, "_IDLE_NS", 0)
    with client.websocket_connect(LIVE, headers={"Origin": HOST}) as socket:
        socket.send_json({"panel": "", "columns": 120, "rows": 40})
        first, second = socket.receive_json(), socket.receive_json()
        coming = (socket.receive_json().get("charts") for _ in range(200))
        charts = second.get("charts") or next(filter(None, coming))

    assert texts(first)[1].startswith("╭─ 1 Safety")
    assert second["version"] > first["version"]
    assert "bands" not in second
    assert count(second) < count(first)
    assert [*charts] == ["equity", "drawdown", "distance", "candles"]


def count(message: dict[str, Any]) -> int:
    """Return how many rows a message has."""
    return sum(map(len, message["rows"].values()))


def test_a_socket_may_want_another_view(client: TestClient) -> None:
    """The next message is of that view, and whole; what is no view is refused, and it goes on."""
    with client.websocket_connect(LIVE, headers={"Origin": HOST}) as socket:
        refused = []
        for wanted in ("[", '{"panel": "x"}', '{"rows": "x"}', "{" + " " * 2_000):
            socket.send_text(wanted)
            refused.append(socket.receive_json()["refused"])
        socket.send_json({"panel": "tape", "columns": 80, "rows": 30})
        message = socket.receive_json()

    assert message["view"] == "tape  80 30"
    assert [one["panel"] for band in message["bands"] for one in band] == ["header", "tape"]
    assert all("xpected" in words or "JSON" in words or "truncated" in words for words in refused)


def test_bytes_where_a_view_is_text_end_the_socket(client: TestClient) -> None:
    """And nothing else."""
    with client.websocket_connect(LIVE, headers={"Origin": HOST}) as socket:
        socket.send_bytes(b"\xff")
        with pytest.raises(WebSocketDisconnect) as end:
            socket.receive_json()

    assert end.value.code == 1003


def test_a_socket_ends_with_its_session(bot: Bot, tmp_path: Path) -> None:
    """At /logout, or when the token's file has another one: with the next thing to be shown."""
    with browser(bot, tmp_path) as client:
        token = (tmp_path / "read.token").read_text().strip()
        client.post("/login", data={"token": token}, headers={"Origin": HOST})
        with client.websocket_connect(LIVE, headers={"Origin": HOST}) as socket:
            client.post("/logout", headers={"Origin": HOST}, follow_redirects=False)
            socket.send_json({})
            with pytest.raises(WebSocketDisconnect) as end:
                socket.receive_json()

    assert end.value.code == 1008


def test_a_page_that_comes_back_is_sent_what_it_missed(client: TestClient) -> None:
    """With its version it is not sent all, and with one of another process it is."""
    first = client.get("/view").json()

    missed = client.get("/view", params={"since": first["version"]}).json()
    foreign = client.get("/view", params={"since": first["version"] + 10**9}).json()

    assert count(missed) < count(first)
    assert "bands" not in missed
    assert count(foreign) == count(first)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999"])
def test_a_page_of_somebody_else_gets_no_socket(client: TestClient, origin: str) -> None:
    """A browser sends cookies with it, and the token is not to be had so."""
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(LIVE, headers={"Origin": origin}),
    ):
        pass


def test_nothing_is_shown_without_a_token(bot: Bot, tmp_path: Path) -> None:
    """Not the page, not its files, not what it shows; a person is sent to the form."""
    with browser(bot, tmp_path) as client:
        answers = [client.get(path).status_code for path in ("/", "/page/view.js", "/view")]
        page = client.get("/", headers={"Accept": "text/html"}, follow_redirects=False)
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(LIVE):
            pass

    assert answers == [401, 401, 401]
    assert (page.status_code, page.headers["location"]) == (303, "/login")


def test_a_browser_that_logged_in_sees_it(bot: Bot, tmp_path: Path) -> None:
    """The cookie opens the page and the socket, the latter from its own page alone."""
    with browser(bot, tmp_path) as client:
        token = (tmp_path / "read.token").read_text().strip()
        client.post("/login", data={"token": token}, headers={"Origin": HOST})
        page = client.get("/")
        with client.websocket_connect(LIVE, headers={"Origin": HOST}) as socket:
            socket.send_json({})
            message = socket.receive_json()

    assert page.status_code == 200
    assert message["bands"]


# --- the run's thread ---


@pytest.mark.replays
def test_looking_changes_nothing() -> None:
    """A run that a browser looks at from its middle on decides the same, to the same hash."""
    looking, views = Looks("REPLAY", "quickstart"), frozenset([WHOLE, ("way", ""), ("speed", "")])
    seen, alone = Bot(Options()), Bot(Options())

    def pace(frame: Frame) -> bool:
        if frame.seq > 500 and not frame.seq % 50:
            looking.seen(seen, views if frame.seq % 100 else frozenset([WHOLE]))
        return frame.seq < BEGUN

    seen.run(replay("quickstart", pace=pace))
    alone.run(replay("quickstart", pace=lambda frame: frame.seq < BEGUN))

    assert seen.journal.hash == alone.journal.hash


def test_a_run_is_copied_once_for_what_is_the_same(bot: Bot) -> None:
    """Until a frame comes there is nothing new, but for a view that nobody had looked at."""
    looking, views = Looks("REPLAY", "here"), frozenset([WHOLE])

    first, again = looking.seen(bot, views), looking.seen(bot, views)
    at_once = looking.seen(bot, views, at_once=True)
    other = looking.seen(bot, frozenset([("book", "")]))

    assert first is not None
    assert first.seq == bot.data.seq
    assert first.took_ns > 0
    assert again is None
    assert at_once is not None
    assert other is not None


def test_the_way_is_noted_while_a_browser_shows_it() -> None:
    """No panel of a terminal ends it, and it ends once nobody shows it in a browser."""
    bot, looking = Bot(Options()), Looks("REPLAY", "here")

    looking.seen(bot, frozenset([("way", ""), WHOLE]))
    closeup(bot, "", "")
    during = bot.shown.way
    looking.seen(bot, frozenset([WHOLE]), at_once=True)

    assert during is not None
    assert bot.shown.way is None


def test_a_way_that_a_terminal_shows_stays_its_own() -> None:
    """A browser that shows something else, or goes, does not end it."""
    bot, looking = Bot(Options()), Looks("REPLAY", "here")
    closeup(bot, "way", "")

    looking.seen(bot, frozenset([WHOLE]))
    looking.leave(bot)
    during = bot.shown.way
    closeup(bot, "", "")

    assert during is not None
    assert bot.shown.way is None


def test_only_markets_on_a_screen_are_copied_at_every_look(bot: Bot) -> None:
    """What does not fit is a second old at most."""
    rows = MarketRows(fresh=1)
    views = bot.shown.watched
    before = [rows.of(bot, view) for view in views]
    for view in views:
        view.seq += 1
    again = [rows.of(bot, view) for view in views]
    for view in views:
        view.seq -= 1

    assert [one is other for one, other in zip(before, again, strict=True)] == [False, True, True]


def test_sizes_are_within_bounds() -> None:
    """A window is as it is: what is beyond is drawn as large as can be."""
    assert Wanted.of({"columns": 10**9, "rows": "1"}) == Wanted(columns=240, rows=20)
    with pytest.raises(ProblemError, match="expected a market such as BTC-USD, got"):
        Wanted.of({"market": "\x1b[2J"})


# --- sheets and the painter ---


def sheet_of(*words: str) -> list[list[Any]]:
    """Return placed panels of a tape with these words."""
    tape = tuple(TapeRow(n, "act", text, "", f"A{n}", n) for n, text in enumerate(words))
    return placed(Shown(tape=tape), View(panel="tape"), 60, 12)


def test_a_row_is_sent_only_if_it_is_another() -> None:
    """One of three words changed: one row is newer than the version before."""
    first = Sheet(name="x").drawn(1, sheet_of("one", "two", "three"), ())

    second = first.drawn(2, sheet_of("one", "2", "three"), ())

    assert [*json.loads(second.changes(1))["rows"].values()] == [{"2": second.blocks[1].rows[2][0]}]
    assert json.loads(second.changes(2))["rows"] == {}
    assert second.laid == 1


def test_what_the_venue_sends_is_no_markup_of_a_page() -> None:
    """A reason that is a script is a text."""
    sheet = Sheet().drawn(1, sheet_of("<script>alert(1)</script>"), ())

    assert "<script" not in sheet.changes(0)
    assert "&lt;script&gt;" in sheet.changes(0)


def test_panels_that_take_other_places_are_laid_again() -> None:
    """The page is given the places once more, and every row."""
    first = Sheet().drawn(1, sheet_of("one"), ())

    second = first.drawn(2, placed(Shown(), View(panel="book"), 60, 12), ())

    message = json.loads(second.changes(1))
    assert [one["panel"] for band in message["bands"] for one in band] == ["header", "book"]
    assert count(message) == 11


class Paused(Desk):
    """A run that gives no answer."""

    def ask(self, question: Any, wait_s: float = 0.0) -> Any:
        """Refuse."""
        raise DeskError("expected an answer within 3 s, got none: no frames come")


def waited(wanted: Wanted, of: Painter) -> Sheet:
    """Return a view once it was drawn."""
    drawn = threading.Event()
    of.wakes.append(drawn.set)
    view = of.look(wanted)
    assert view.sheet.version or drawn.wait(5)
    of.close()
    return view.sheet


def test_a_run_that_stands_still_says_so() -> None:
    """What was drawn stays, and above it why nothing newer comes."""
    sheet = waited(Wanted(), Painter(Paused(), "PAPER", "here"))

    assert sheet.trouble == "expected an answer within 3 s, got none: no frames come"


def test_a_panel_that_cannot_be_drawn_says_so(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    """The painter goes on: the next drawing may succeed."""
    desk = Desk()
    desk.begin(bot)
    desk.wake = desk.answer
    monkeypatch.setattr(painter, "placed", lambda *_, **__: 1 / 0)

    sheet = waited(Wanted(), Painter(desk, "PAPER", "here"))

    assert sheet.trouble == "expected a drawing, got ZeroDivisionError"


def test_what_became_of_the_account_is_drawn_at_once(bot: Bot) -> None:
    """The painter listens while somebody looks, and no longer."""
    desk = Desk()
    desk.begin(bot)
    desk.wake = desk.answer
    listeners = [*bot.journal.listeners]
    drawing = Painter(desk, "PAPER", "here")

    waited(Wanted(), drawing)
    during = [one for one in bot.journal.listeners if one not in listeners]
    drawing._let_go(bot)
    drawing._woken.clear()
    act = next(entry for entry in bot.journal.entries if entry.kind == "gate")
    other = next(entry for entry in bot.journal.entries if entry.kind == "decision")
    drawing.note(other)
    before = drawing._woken.is_set()
    drawing.note(act)

    assert during == [drawing.note]
    assert bot.journal.listeners == listeners
    assert (before, drawing._woken.is_set()) == (False, True)


def test_only_so_many_views_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was looked at longest ago makes room, one on a socket last of all."""
    monkeypatch.setattr(painter, "_MOST", 2)
    drawing = Painter(Paused(), "PAPER", "here")
    first = drawing.look(Wanted(panel="book"))
    first.viewers += 1

    for panel in ("tape", "orders"):
        drawing.look(Wanted(panel=panel))
    drawing.close()

    assert [wanted.panel for wanted in drawing._views] == ["book", "orders"]


def test_many_views_hold_up_no_frame_for_long(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    """What finds no time between two frames comes first between the next two."""
    monkeypatch.setattr(looks, "_TURN_NS", 0)
    seen, views = Looks("PAPER", "here"), frozenset([("", ""), ("book", ""), ("way", "")])

    answers = [seen.seen(bot, views) for _ in range(4)]
    seen.leave(bot)

    drawn = [[*one.snapshots] for one in answers if one is not None]
    assert [len(each) for each in drawn] == [1] * 4
    assert {*drawn[0], *drawn[1], *drawn[2]} == views
    assert drawn[3] == drawn[0]


def test_a_poll_with_a_number_of_its_own_is_not_remembered_for_ever() -> None:
    """Though nothing newer is drawn meanwhile."""
    view = painter.Watched(Wanted())
    for since in range(100):
        view.changes(since)

    assert len(view._sent[1]) <= painter._MEMO


def test_nobody_looks_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view that nobody polled is forgotten, one on a socket is not."""
    monkeypatch.setattr(painter, "INTEREST_S", -1.0)
    drawing = Painter(Paused(), "PAPER", "here")
    view = drawing.look(Wanted())
    drawing.close()

    view.viewers = 1
    assert drawing._watched() == [view]
    view.viewers = 0
    assert drawing._watched() == []
    drawing._rest()  # which returns, for it is closed, whatever the run answers


def test_a_run_that_costs_more_is_drawn_less_often(bot: Bot) -> None:
    """The interval follows what a drawing takes, on the run's thread and on its own."""
    desk = Desk()
    desk.begin(bot)
    desk.wake = desk.answer
    drawing = Painter(desk, "PAPER", "here")
    drawing.close()
    drawing._spent_s = 0.4

    drawing._draw([drawing.look(Wanted())])

    assert painter.PACE_S < drawing._interval_s <= painter.LONGEST_S


def test_a_poll_of_a_run_that_never_drew_has_no_panels(
    bot: Bot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits a moment for the first drawing, and answers all the same."""
    monkeypatch.setattr(viewer, "FIRST_S", 0.01)
    monkeypatch.setattr(Painter, "_paint", lambda _: None)
    with browser(bot, tmp_path) as client:
        client.headers["Authorization"] = f"Bearer {(tmp_path / 'read.token').read_text().strip()}"
        message = client.get("/view").json()

    assert (message["version"], message["rows"]) == (0, {})


# --- charts ---


def test_the_charts_are_those_of_the_account_and_of_the_market(bot: Bot) -> None:
    """Equity, drawdown, distance, and the candles of the market that is shown."""
    found = json.loads(bytes(figures(snapshot_of(bot, mode="PAPER", name="x", speed=None))))

    assert [*found] == ["equity", "drawdown", "distance", "candles"]
    assert "equity" in {one.get("name") for one in found["equity"]["data"]}
    assert "candles" in {one.get("name") for one in found["candles"]["data"]}


def test_charts_are_drawn_beside_and_seldom(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look within ten seconds draws nothing, nor does one without plotly."""
    looking, drawn = Looks("PAPER", "here"), Plots()
    seen = looking.seen(bot, frozenset([WHOLE]))
    assert seen is not None

    drawn.take(seen)
    first = drawn._thread
    assert first is not None
    first.join(10)
    drawn.take(seen)
    monkeypatch.setattr(plots, "find_spec", lambda _: None)
    without = Plots()
    without.take(seen)

    assert json.loads(bytes(drawn.of("")))["equity"]["data"]
    assert drawn._thread is first
    assert bytes(without.of("")) == b"{}"


def test_the_page_is_made_once() -> None:
    """Its text is the same for everybody."""
    assert files.page() is files.page()

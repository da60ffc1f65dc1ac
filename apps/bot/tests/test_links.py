"""How the connections stand, for whoever looks; nothing is decided by it."""

import json
from collections.abc import Iterable

import pytest
from bot.run.composition import Bot, Options
from bot.run.links import Links, reason_words
from dydx_conn import ConnectionState, Frame, WireWriter
from reactivex import from_iterable

RESTART = '{"message":"Service restarting"}'


class Wire(WireWriter):
    """One connection: it opens, is lost and comes back."""

    def opened(self) -> list[Frame]:
        """Attempt, open, request and be answered."""
        request = {"type": "subscribe", "channel": "v4_trades", "id": "A-USD"}
        frames = [self.event("tick"), self.event("open"), self.event("sent", json.dumps(request))]
        return [*frames, self.receive("connected"), self.receive("subscribed")]

    def receive(self, type_: str) -> Frame:
        """Make a message."""
        return self.message(type_, "v4_trades", id="A-USD")

    def lost(self, why: str = RESTART) -> Frame:
        """Lose the connection."""
        return self.event("close", why, type="1012")

    def later(self, seconds: float) -> list[Frame]:
        """Let time pass."""
        self.wait(seconds)
        return [self.event("tick", link="clock")]


def followed(frames: Iterable[Frame]) -> tuple[Links, list[str]]:
    """Fold frames; return what was noted, too."""
    noted: list[str] = []

    def note(turn: ConnectionState, words: str) -> None:
        noted.append(words)

    links = Links(note)
    for one in frames:
        links.take(one)
    return links, noted


def test_a_connection_that_was_lost_is_noted_with_its_reason_and_how_long_it_was_away() -> None:
    """Two lines: one when it is lost, one when it is back."""
    wire = Wire()
    frames = [*wire.opened(), wire.lost(), *wire.later(3.0), *wire.opened()]

    links, noted = followed(frames)

    assert noted == ["link lost: c1: 1012 Service restarting", "link back after 3.0 s"]
    assert (links.state, links.lost_at, links.attempts) == ("live", None, 0)


def test_while_it_is_lost_its_attempts_are_counted() -> None:
    """Since when, why, and how often it was tried."""
    wire = Wire()
    frames = [*wire.opened(), wire.lost(), *wire.later(1.0)]
    for _ in range(2):
        frames += [wire.event("tick"), wire.lost(), *wire.later(2.0)]

    links, _ = followed(frames)

    assert links.lost_at == frames[5].at
    assert (links.state, links.attempts) == ("backing_off", 2)
    assert {turn.state for turn in links.history} >= {"live", "connecting", "backing_off"}


def test_a_run_that_ends_has_lost_nothing() -> None:
    """Its own connections are closed last: no line is written of that."""
    wire = Wire()

    _, noted = followed([*wire.opened(), wire.lost("closed")])

    assert noted == []


def test_connecting_for_the_first_time_is_no_loss() -> None:
    """Nothing was there that could have been lost."""
    links, noted = followed(Wire().opened())

    assert (links.state, links.lost_at, noted) == ("live", None, [])


def test_what_is_polled_for_is_noted_once_it_is() -> None:
    """After five attempts in vain."""
    wire = Wire()
    frames = [*wire.opened(), wire.lost()]
    for _ in range(5):
        frames += [*wire.later(1.0), wire.event("tick"), wire.lost("gone")]
    frames += wire.later(1.0)

    links, noted = followed(frames)

    assert links.state == "polling"
    assert noted[-1] == "link polling over REST: c1: 5 attempts failed, at last: 1012 gone"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ('1012 {"message":"Service restarting"}', "1012 Service restarting"),
        ("chain: no new block for 11 s", "no new block for 11 s"),
        ("c2: 1006 closed", "c2: 1006 closed"),
        ("c1: ConnectionRefusedError: [Errno 111] Connection refused", "c1: Connection refused"),
        ("WebSocketConnectionClosedException: Connection was lost.", "Connection was lost."),
    ],
)
def test_a_reason_is_shown_without_braces(reason: str, words: str) -> None:
    """As a venue may put them around it; nor with what only the program's author reads."""
    assert reason_words(reason) == words


def test_the_hash_knows_nothing_of_connections() -> None:
    """Whoever looks decides the same, and reads two lines more."""
    wire = Wire()
    frames = [*wire.opened(), wire.lost(), *wire.later(3.0), *wire.opened()]
    blind, looking = Bot(Options()), Bot(Options())
    looking.follow_links()
    looking.follow_links()
    for bot in (blind, looking):
        bot.run(from_iterable(frames))

    assert looking.journal.hash == blind.journal.hash
    assert [entry.id for entry in looking.journal.of_kind("link")] == ["L1", "L2"]
    assert blind.journal.of_kind("link") == []

"""Message ids: whatever is lost is found, and a clean connection is never blamed."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dydx_conn import Continuity, Frame, WireWriter, collect, replay
from hypothesis import assume, given, settings
from hypothesis import strategies as st

SECOND = 1_000_000_000


def sent(type_: str, channel: str = "v4_trades", id_: str = "A-USD", mono: int = 0) -> Frame:
    """Make a request as it goes out."""
    text = json.dumps({"type": type_, "channel": channel, "id": id_})
    return Frame(1, 0, mono, "c1", "sent", text)


def came(
    number: int, type_: str = "channel_data", id_: str = "A-USD", channel: str = "v4_trades",
    **more: object,
) -> Frame:  # fmt: skip
    """Make a message as it comes in."""
    wire = WireWriter()
    wire.ids["c1"] = number - (type_ not in ("error", "pong"))
    return wire.message(type_, channel, id=id_, **more)


def verdicts(ids: Continuity, *frames: Frame) -> list[str]:
    """Take message after message."""
    return [ids.take(frame) for frame in frames]


def connected() -> Continuity:
    """Begin a connection whose requests are seen."""
    ids = Continuity(sees_requests=True)
    ids.take(came(0, "connected"))
    return ids


# === By hand ===


def test_a_hole_is_a_loss_of_as_many() -> None:
    """The message that shows it is counted from."""
    ids = connected()

    assert verdicts(ids, came(1), came(4), came(5)) == ["", "gap", ""]
    assert verdicts(ids, came(7)) == ["gap"]
    assert ids.lost == 1


def test_a_loss_beyond_reach_is_counted_whole() -> None:
    """However far the jump."""
    ids = connected()

    assert verdicts(ids, came(1), came(5_001)) == ["", "gap"]
    assert ids.lost == 4_999


def test_a_late_snapshot_explains_its_own_hole_and_no_other() -> None:
    """While it is owed, one hole is its; when it has come, what is left is a loss."""
    ids = connected()
    ids.request(sent("subscribe"))

    assert verdicts(ids, came(1), came(4)) == ["", "gap"]
    ids = connected()
    ids.request(sent("subscribe"))
    assert verdicts(ids, came(1), came(3), came(2, "subscribed"), came(4)) == [""] * 4
    ids = connected()
    ids.request(sent("subscribe"))
    assert verdicts(ids, came(1), came(3), came(4, "subscribed")) == ["", "", "gap"]


def test_a_late_snapshot_after_a_gap_is_no_sign_that_the_jump_was_wrong() -> None:
    """It goes on from before the jump because it was requested before it."""
    ids = connected()
    ids.request(sent("subscribe"))

    assert verdicts(ids, came(1), came(4), came(2, "subscribed"), came(5)) == ["", "gap", "", ""]


def test_an_answer_that_never_comes_is_overdue_once() -> None:
    """Its id explained a hole for ten seconds, and explains no other after that."""
    ids = connected()
    ids.request(sent("subscribe", mono=5 * SECOND))
    ids.request(sent("unsubscribe", mono=5 * SECOND))

    assert verdicts(ids, came(1), came(3)) == ["", ""]
    assert ids.overdue(15 * SECOND) == []
    assert ids.overdue(15 * SECOND + 1) == [("v4_trades", "A-USD")]
    assert ids.overdue(99 * SECOND) == []
    assert verdicts(ids, came(4), came(6)) == ["", "gap"]


def test_a_late_answer_explains_no_loss_and_answers_nothing_requested_since() -> None:
    """It comes in a burst after a stall, when it was overdue and is requested again."""
    ids = connected()
    ids.request(sent("subscribe", mono=5 * SECOND))
    assert verdicts(ids, came(1), came(3)) == ["", ""]
    assert ids.overdue(16 * SECOND)
    ids.request(sent("subscribe", mono=16 * SECOND))

    assert verdicts(ids, came(5), came(2, "subscribed")) == ["", ""]
    assert ids.owed == {("v4_trades", "A-USD"): [16 * SECOND]}
    assert verdicts(ids, came(6, "subscribed")) == ["gap"]  # 4 is lost
    assert ids.lost == 1


def test_what_was_overtaken_and_comes_is_no_loss() -> None:
    """Whichever of the two had the wrong number, both have come."""
    ids = connected()

    assert verdicts(ids, came(1), came(3), came(2), came(4)) == ["", "gap", "", ""]
    assert verdicts(ids, came(3)) == ["out_of_order"]  # as it may have been the wrong one
    assert verdicts(ids, came(5), came(7), came(6), came(9)) == ["", "gap", "", "gap"]


def test_a_reported_loss_does_not_make_what_came_come_again() -> None:
    """What came before the report is a duplicate; what was lost may yet come."""
    ids = connected()
    assert verdicts(ids, came(1), came(2)) == ["", ""]

    ids.forget()

    assert verdicts(ids, came(5), came(2), came(4), came(4)) == [
        "", "duplicate", "out_of_order", "duplicate",
    ]  # fmt: skip


def test_asking_twice_is_answered_twice() -> None:
    """Both requests take an id."""
    ids = connected()
    ids.request(sent("subscribe"))
    ids.request(sent("subscribe"))

    assert verdicts(ids, came(3), came(1, "subscribed"), came(2, "subscribed")) == [""] * 3
    assert ids.owed == {}


def test_a_late_error_settles_what_it_names() -> None:
    """With the id of the request, as the venue has it."""
    ids = connected()
    ids.request(sent("subscribe"))

    assert verdicts(ids, came(2), came(1, "error"), came(3)) == [""] * 3
    assert ids.owed == {}
    assert verdicts(ids, came(5)) == ["gap"]


@pytest.mark.parametrize(
    "words",
    ["Invalid subscription id for channel: (v4_trades-B-USD)", "Per-connection subscription limit"],
)
def test_an_error_that_names_nothing_is_known_by_its_words(words: str) -> None:
    """Of the open requests it settles the one in its text, or the oldest."""
    ids = connected()
    ids.request(sent("subscribe"))
    ids.request(sent("subscribe", id_="B-USD"))
    refusal = came(2, "error", id_="", channel="", message=words)

    assert verdicts(ids, refusal, came(3), came(1, "subscribed"), came(4)) == [""] * 4
    assert set(ids.owed) <= {("v4_trades", "B-USD")}
    assert len(ids.owed) == words.startswith("Per")


def test_an_error_with_the_id_at_hand_excuses_the_id_it_spent() -> None:
    """Some stand-ins answer so; an id that was not spent excuses nothing."""
    ids = connected()
    ids.request(sent("subscribe"))
    assert verdicts(ids, came(2), came(2, "error"), came(3)) == [""] * 3

    ids.request(sent("subscribe"))
    assert verdicts(ids, came(3, "error"), came(5)) == ["", "gap"]


def test_an_error_about_nothing_repeats_an_id_and_proves_nothing() -> None:
    """Nor does a pong; anything else that repeats one is a duplicate."""
    ids = connected()
    ids.request(sent("subscribe"))
    noise = came(2, "error", id_="", channel="", message="Invalid message: could not parse")

    assert verdicts(ids, came(1), noise, came(2, "subscribed"), noise) == [""] * 4
    assert verdicts(ids, came(2, "pong"), came(2)) == ["", "duplicate"]


def test_a_jump_that_was_wrong_does_not_silence_the_link() -> None:
    """One flipped digit: what goes on from before it restarts the count."""
    ids = connected()

    assert verdicts(ids, came(1), came(900), came(3), came(4)) == ["", "gap", "", ""]
    assert verdicts(ids, came(6)) == ["gap"]


def test_after_a_gap_what_was_lost_may_come_late() -> None:
    """Once; then it is a duplicate."""
    ids = connected()

    seen = verdicts(ids, *map(came, (1, 4, 5, 6, 3, 3, 7)))

    assert seen == ["", "gap", "", "", "out_of_order", "duplicate", ""]


def test_what_was_reported_is_not_reported_again() -> None:
    """After a gap frame the message that jumps is where the count begins."""
    ids = connected()
    verdicts(ids, came(1))

    ids.forget()

    assert verdicts(ids, came(9), came(10), came(12)) == ["", "", "gap"]


def test_messages_without_a_number_are_not_judged() -> None:
    """An id of 0 counts nothing; the first number is where the count begins."""
    ids = Continuity()

    assert verdicts(ids, *map(came, (0, 0, 7, 0, 8))) == [""] * 5
    assert verdicts(ids, came(5, "subscribed"), came(5)) == ["", "duplicate"]


def test_answers_out_of_order_on_a_link_whose_requests_are_unseen() -> None:
    """A recording may hold the server's side alone: a hole before a snapshot is no proof."""
    ids = Continuity()

    answers = verdicts(ids, *(came(number, "subscribed") for number in (1, 4, 3, 2)))

    assert answers == [""] * 4
    assert verdicts(ids, came(5)) == [""]


def test_a_new_connection_restarts_the_count_and_still_owes() -> None:
    """What is requested before the greeting is read is answered after it."""
    ids = connected()
    verdicts(ids, came(1), came(2))
    ids.request(sent("subscribe"))

    assert verdicts(ids, came(0, "connected"), came(2), came(1, "subscribed")) == [""] * 3


@pytest.mark.parametrize("text", ["", "null", "[1]", '{"type":"subscribe"', '{"type":"ping"}'])
def test_what_requests_nothing_owes_nothing(text: str) -> None:
    """Whatever was sent."""
    ids = Continuity()

    ids.request(Frame(1, 0, 0, "c1", "sent", text))

    assert (ids.sees_requests, ids.owed) == (False, {})


# === By chance ===


@dataclass
class Server:
    """The venue's counting, as its source has it: a request takes an id when it is read.

    Its answer, a snapshot or a refusal, comes whenever it comes, with that id.
    """

    own: bool = True  # a late refusal carries the request's id; else, as with some, that at hand
    number: int = 0
    unread: list[str] = field(default_factory=list)
    fetching: list[tuple[int, str]] = field(default_factory=list)
    frames: list[tuple[Frame, bool]] = field(default_factory=list)  # and may it be lost?

    def act(self, what: str, pick: int) -> None:
        """Do one thing; `pick` chooses among what there is to do it to."""
        if what == "request":
            self.unread.append(f"M{pick}-USD")
            self.frames.append((sent("subscribe", id_=self.unread[-1]), False))
        elif what in ("read", "reject") and self.unread:
            self.number += 1
            id_ = self.unread.pop(0)
            if what == "read":
                self.fetching.append((self.number, id_))
            else:
                words = f"Invalid subscription id for channel: (v4_trades-{id_})"
                self.send("error", id_="", channel="", message=words)
        elif what == "snapshot" and self.fetching:
            number, id_ = self.fetching.pop(pick % len(self.fetching))
            self.frames.append((came(number, "subscribed", id_=id_), True))
        elif what == "refuse" and self.fetching:
            number, id_ = self.fetching.pop(pick % len(self.fetching))
            number = number if self.own else self.number
            self.frames.append((came(number, "error", id_=id_, message="could not fetch"), True))
        elif what == "noise":
            noise = {"message": "Invalid message: type is required", "channel": ""}
            self.frames.append((came(self.number, "error", id_="", **noise), False))
        elif what in ("channel_data", "unsubscribed"):
            self.number += 1
            self.send(what)

    def send(self, type_: str, **more: object) -> None:
        """Send a message with the newest id."""
        self.frames.append((came(self.number, type_, **more), True))  # type: ignore[arg-type]  # id_

    def rest(self) -> None:
        """Read and answer all that is left, and send one message more."""
        while self.unread:
            self.act("read", 0)
        while self.fetching:
            self.act("snapshot", 0)
        self.act("channel_data", 0)


ACTS = st.sampled_from(
    ["request", "request", "request", "read", "read", "reject", "snapshot", "refuse", "channel_data",
     "channel_data", "noise", "unsubscribed"]
)  # fmt: skip
SCRIPTS = st.lists(st.tuples(ACTS, st.integers(0, 5)), max_size=60)


def played(script: list[tuple[str, int]], *, own: bool = True) -> Server:
    """Let a server live through a script, to its end."""
    server = Server(own=own)
    server.frames.append((came(0, "connected"), False))
    for what, pick in script:
        server.act(what, pick)
    server.rest()
    return server


def take_all(ids: Continuity, frames: list[Frame]) -> list[str]:
    """Let a client see requests and messages in their order."""
    found: list[str] = []
    for frame in frames:
        if frame.kind == "sent":
            ids.request(frame)
        else:
            found.append(ids.take(frame))
    return found


@settings(max_examples=200)
@given(SCRIPTS, st.booleans())
def test_a_clean_connection_is_never_blamed(script: list[tuple[str, int]], own: bool) -> None:
    """However late the snapshots, whoever is refused, and whatever the errors repeat."""
    server = played(script, own=own)
    ids = Continuity()

    found = take_all(ids, [frame for frame, _ in server.frames])

    assert set(found) <= {""}
    assert ids.overdue(99 * SECOND) == []


@settings(max_examples=200)
@given(SCRIPTS, st.data())
def test_whatever_is_lost_is_found(script: list[tuple[str, int]], data: st.DataObject) -> None:
    """Any messages but the last, even answers; at once, or when the answer is overdue."""
    server = played(script)
    able = [n for n, (_, may) in enumerate(server.frames[:-1]) if may]
    assume(able)
    lost = data.draw(st.sets(st.sampled_from(able), min_size=1, max_size=3), label="lost")
    ids = Continuity()

    found = take_all(ids, [f for n, (f, _) in enumerate(server.frames) if n not in lost])

    assert "gap" in found or ids.overdue(99 * SECOND)
    assert set(found) <= {"", "gap"}


@settings(max_examples=100)
@given(SCRIPTS, st.data())
def test_whatever_is_repeated_is_a_duplicate(
    script: list[tuple[str, int]], data: st.DataObject
) -> None:
    """A message that comes twice is counted once, and nothing else is."""
    frames = [frame for frame, _ in played(script).frames]
    able = [n for n, frame in enumerate(frames) if frame.type in ("channel_data", "unsubscribed")]
    twice = data.draw(st.sampled_from(able), label="twice")
    ids = Continuity()

    found = take_all(ids, [*frames[: twice + 1], frames[twice], *frames[twice + 1 :]])

    assert sorted({*found}) == ["", "duplicate"]
    assert found.count("duplicate") == 1


# === The real software ===

SESSIONS = next(
    found for p in Path(__file__).parents if (found := p / "recordings/localnet").is_dir()
)


@pytest.mark.parametrize("session", sorted(p.parent.name for p in SESSIONS.glob("*/truth.json")))
def test_the_real_socket_server_loses_nothing_and_is_not_accused_of_it(session: str) -> None:
    """Restarts, late snapshots and unbatched messages of one block among it."""
    ids: dict[str, Continuity] = {}
    troubles: list[tuple[int, str]] = []
    for frame in collect(replay(SESSIONS / session / "frames.jsonl.zst")):
        if frame.kind == "open":
            ids[frame.link] = Continuity()
        elif frame.kind == "sent":
            ids[frame.link].request(frame)
        elif frame.kind == "ws" and (trouble := ids[frame.link].take(frame)):
            troubles.append((frame.seq, trouble))

    assert ids
    assert troubles == []
    assert all(not count.owed for count in ids.values())

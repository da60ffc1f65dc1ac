"""How links stand: a pure fold over frames, live or replayed."""

import json
from pathlib import Path
from typing import Any

import dydx_conn
import pytest
from dydx_conn import (
    MARBLE_CASES,
    STATES,
    Connections,
    ConnectionState,
    Frame,
    WireWriter,
    collect,
    connection_states,
    play,
    replay,
    ws_frame,
)
from hypothesis import example, given
from hypothesis import strategies as st
from reactivex import from_iterable
from reactivex.subject import Subject

SECOND = 1_000_000_000


class Wire(WireWriter):
    """One link: its requests and its messages."""

    def request(self, channel: str = "v4_trades", id_: str = "A-USD") -> Frame:
        """Make a request."""
        text = json.dumps({"type": "subscribe", "channel": channel, "id": id_})
        return self.event("sent", text)

    def receive(
        self, type_: str, channel: str = "v4_trades", id_: str = "A-USD", **more: Any
    ) -> Frame:
        """Make a message."""
        return self.message(type_, channel, id=id_, **more)

    def tick(self, after_s: float = 1.0) -> Frame:
        """Let time pass."""
        self.wait(after_s)
        return self.event("tick", link="clock")


def transitions(*frames: Frame, end: bool = False) -> list[tuple[str, str, str, str]]:
    """Fold frames; return link, from, to, and reason."""
    made = collect(from_iterable(frames).pipe(connection_states()))
    shown = made if end else [x for x in made if x.state != "closed"]
    return [(x.link, x.was, x.state, x.reason) for x in shown]


def opened(wire: Wire) -> list[Frame]:
    """Attempt, open, request and be answered."""
    frames = [wire.event("tick"), wire.event("open"), wire.request()]
    return [*frames, wire.receive("connected"), wire.receive("subscribed")]


# === Links ===


def test_a_link_connects_subscribes_and_lives() -> None:
    """Each transition is emitted with its reason, and once more for all together."""
    made = transitions(*opened(Wire()))

    assert made == [
        ("c1", "connecting", "subscribing", "connected"),
        ("", "connecting", "subscribing", "c1: connected"),
        ("c1", "subscribing", "live", "all requests are answered"),
        ("", "subscribing", "live", "all links are"),
    ]


def test_what_is_refused_is_answered_too() -> None:
    """By name, or, as the venue refuses some, in words alone."""
    wire = Wire()
    requests = [
        wire.event("open"),
        wire.request(id_="A-USD"),
        wire.request(id_="B-USD"),
        wire.request(id_="C"),
    ]
    limit = wire.receive("error", "", "", message="Per-connection subscription limit reached")
    answers = [wire.receive("error", id_="B-USD"), wire.receive("subscribed", id_="A-USD")]

    assert transitions(*requests, *answers)[-1][2] == "subscribing"
    assert transitions(*requests, *answers, limit)[-1][2] == "live"


def test_an_act_changes_no_link() -> None:
    """Whoever acted, even one who bears a link's name, is no link."""
    wire = Wire()
    acts = [wire.event("act", type="halt"), wire.event("act", link="key", type="resume")]

    assert transitions(*opened(wire), *acts) == transitions(*opened(Wire()))


def test_a_loss_is_reported_with_its_code_and_reason() -> None:
    """Then the link backs off, tries again, and lives again."""
    wire = Wire()
    lost = wire.event("close", type="1012", text="restart")

    made = [x for x in transitions(*opened(wire), lost, *opened(wire)) if x[0]]

    assert [x[2] for x in made] == [
        "subscribing", "live", "backing_off", "connecting", "subscribing", "live",
    ]  # fmt: skip
    assert made[2][3] == "1012 restart"


def test_five_attempts_in_vain_are_polling_until_it_lives() -> None:
    """A venue that greets and drops us is as gone as one that does not answer."""
    wire = Wire()
    frames = []
    for attempt in range(6):
        frames += opened(wire) if attempt % 2 else [wire.event("tick")]
        frames += [wire.event("close", type="0", text="refused")]

    made = [x for x in transitions(*frames, *opened(wire)) if not x[0]]

    turns = [(x[2], x[3]) for x in made if x[2] in ("polling", "live")]
    assert [state for state, _ in turns] == ["live", "live", "polling", "live", "polling", "live"]
    assert turns[2][1] == "c1: 5 attempts failed, at last: refused"
    assert turns[4][1] == "c1: 6 attempts failed, at last: refused"


def test_a_connection_that_lasted_was_no_failed_attempt() -> None:
    """After five seconds the count restarts."""
    wire = Wire()
    frames = []
    for _ in range(9):
        frames += opened(wire)
        wire.wait(6)
        frames += [wire.event("close")]

    assert "polling" not in [x[2] for x in transitions(*frames)]


def test_a_silent_link_is_stale_and_a_word_revives_it() -> None:
    """Half a minute without a message, by the clock's ticks."""
    wire = Wire()

    made = transitions(*opened(wire), wire.tick(30.0), wire.tick(0.5), wire.receive("channel_data"))

    assert made[-4:] == [
        ("c1", "live", "stale", "no message for 30 s"),
        ("", "live", "stale", "c1: no message for 30 s"),
        ("c1", "stale", "live", "a message arrived"),
        ("", "stale", "live", "all links are"),
    ]


def test_an_attempt_that_hangs_is_stale() -> None:
    """It neither opens nor fails."""
    wire = Wire()

    assert transitions(wire.event("tick"), wire.tick(31.0))[0][2] == "stale"


def test_a_gap_is_mended_by_a_new_subscription() -> None:
    """Until then the link subscribes."""
    wire = Wire()
    frames = [
        *opened(wire),
        wire.event("gap", text="2 messages lost"),
        wire.receive("channel_data"),
    ]

    made = transitions(
        *frames, wire.request(), wire.receive("unsubscribed"), wire.receive("subscribed")
    )

    assert [x[1:] for x in made if x[0]][2:] == [
        ("live", "subscribing", "2 messages lost"),
        ("subscribing", "live", "all requests are answered"),
    ]


def test_all_together_are_what_the_worst_is() -> None:
    """One link's trouble is everyone's; its mending too."""
    one, two = Wire("c1"), Wire("c2")
    frames = [*opened(one), *opened(two), two.event("close", text="gone"), one.event("close")]

    together = [(x[2], x[3]) for x in transitions(*frames) if not x[0]]

    assert together == [
        ("subscribing", "c1: connected"),
        ("live", "all links are"),
        ("subscribing", "c2: connected"),
        ("live", "all links are"),
        ("backing_off", "c2: gone"),
    ]


def test_what_is_refused_for_now_is_not_live() -> None:
    """REST behind the socket is away: it is requested again, and may be answered then."""
    wire = Wire()
    frames = [wire.event("tick"), wire.event("open"), wire.request(), wire.receive("connected")]
    refused = wire.receive("error", message="Internal error, could not fetch data")
    never = wire.receive("error", message="Invalid subscription id for channel")

    away = transitions(*frames, refused, wire.request(), refused)
    back = transitions(*frames, refused, wire.request(), wire.receive("subscribed"))
    settled = transitions(*frames, never)

    assert [found[-1][2] for found in (away, back, settled)] == ["subscribing", "live", "live"]


def test_a_connection_that_another_carries_on_is_over() -> None:
    """A recorder names each connection again: all together are live when the new one is."""
    one, two, other = Wire("c1"), Wire("c2"), Wire("c3")
    opening = [two.event("tick"), two.event("open"), two.request(), two.receive("subscribed")]
    beside = [other.event("open"), other.request(id_="B-USD")]
    beside.append(other.receive("subscribed", id_="B-USD"))

    made = transitions(
        *opened(one), *beside, one.event("close", text="restart"), *opening, end=True
    )

    assert ("c1", "backing_off", "closed", "c2 carries on") in made
    assert [x[2] for x in made if not x[0]] == [
        "subscribing", "live", "subscribing", "live", "backing_off", "subscribing", "live",
        "closed",
    ]  # fmt: skip


def test_the_end_of_the_frames_closes_every_link() -> None:
    """And the stream."""
    made = transitions(*opened(Wire()), end=True)

    assert made[-2:] == [
        ("c1", "live", "closed", "the frames ended"),
        ("", "live", "closed", "c1: the frames ended"),
    ]


# === Blocks ===


def test_blocks_that_stop_are_a_state() -> None:
    """Ten seconds without a new one; the same again is none."""
    wire = Wire()
    frames = [wire.block(7, snapshot=True), wire.tick(9.0), wire.block(7), wire.tick(2.0)]

    made = transitions(*frames, wire.block(8))

    assert [x for x in made if x[0] == "chain"] == [
        ("chain", "connecting", "live", "block 7"),
        ("chain", "live", "stale", "no new block for 11 s"),
        ("chain", "stale", "live", "block 8"),
    ]


def test_blocks_behind_the_clock_are_a_state() -> None:
    """The indexer lags; or lives in another year, as a stand-in may."""
    wire = Wire()
    blocks = [wire.block(7), wire.block(8, "2025-12-31T23:59:29.000Z"), wire.block(9)]

    made = [x for x in transitions(*blocks) if x[0]]

    assert [x[2:] for x in made if x[0] == "chain"] == [
        ("live", "block 7"),
        ("stale", "block 8 is 31 s behind the clock"),
        ("live", "block 9"),
    ]
    wire.wait(3 * 86_400)
    assert transitions(wire.block(1, "2026-01-01T00:00:00Z"))[-1][2:] == ("live", "all links are")


def test_blocks_are_reported_by_answers_too() -> None:
    """While REST is polled; what is no block is none."""
    wire = Wire()
    good = wire.answer("/v4/height", {"height": "5", "time": "2026-01-01T00:00:01.000Z"})
    bad = wire.answer("/v4/height", "<html>")
    other = wire.answer("/v4/orders", [])
    odd = wire.receive(
        "channel_data", "v4_block_height", contents={"blockHeight": "x", "time": "y"}
    )

    assert transitions(bad, other) == []
    assert [x[0] for x in transitions(good, odd)] == ["chain", "", "c1"]


# === The machine ===


def test_the_table_leads_to_known_states_alone() -> None:
    """From closed there is no way, from all others there is one."""
    table = dydx_conn._TABLE

    assert set(table) == set(STATES)
    assert {state for ways in table.values() for state in ways.values()} <= set(STATES)
    assert [state for state, ways in table.items() if not ways] == ["closed"]


KINDS = ("ws", "sent", "open", "close", "gap", "tick", "http", "smoke")
FRAMES = st.lists(
    st.builds(
        lambda kind, link, mono, text: (
            ws_frame(1, mono, mono, link, text)
            if kind == "ws"
            else Frame(1, mono, mono, link, kind, text, channel="/v4/height")
        ),
        st.sampled_from(KINDS),
        st.sampled_from(["", "clock", "c1", "c2", "rest"]),
        st.integers(0, 200 * SECOND),
        st.one_of(
            st.text(max_size=20),
            st.sampled_from(["subscribed", "error", "channel_data", "connected"]).map(
                lambda type_: json.dumps({"type": type_, "channel": "v4_block_height", "id": "x",
                                          "contents": {"blockHeight": "7", "time": "2026-01-01"}})
            ),
            st.just('{"type":"subscribe","channel":"v4_trades","id":"x"}'),
        ),
    ),
    max_size=40,
)  # fmt: skip


@given(FRAMES)
@example([
    ws_frame(1, 22, 22, "c2", '{"type":"subscribe","channel":"v4_trades","id":"x"}'),
    ws_frame(1, 20, 20, "clock", ""),
    Frame(1, 1, 1, "clock", "open", ""),
    Frame(1, 175, 175, "", "gap", ""),
])  # fmt: skip
def test_whatever_comes_each_transition_begins_where_the_last_ended(frames: list[Frame]) -> None:
    """No frame raises, no state is skipped, and the same frames make the same transitions."""
    made = transitions(*frames, end=True)

    at: dict[str, str] = {}
    for link, was, state, reason in made:
        assert was == at.get(link, "connecting") != state
        assert reason
        at[link] = state
    assert set(at.values()) <= {"closed"}
    assert made == transitions(*frames, end=True)


def test_whoever_holds_how_links_stand_goes_on_from_there() -> None:
    """What was live before is not live again: no transition is made twice."""
    wire, standing = Wire(), Connections()
    first, message = opened(wire), wire.receive("channel_data", contents={})
    states: list[ConnectionState] = []
    following = Subject[Frame]()
    before = following.pipe(connection_states(standing)).subscribe(states.append)
    for frame in first:
        following.on_next(frame)
    before.dispose()
    made = len(states)

    following.pipe(connection_states(standing)).subscribe(states.append)
    following.on_next(message)

    assert made > 0
    assert [state for state in states[made:] if state.state == "subscribing"] == []


@pytest.mark.replays
def test_a_recording_shows_how_its_links_stood() -> None:
    """Without the ticks of attempts, which a proxy does not see."""
    made = collect(replay("quickstart").pipe(connection_states()))

    assert [(x.link, x.state) for x in made] == [
        ("c1", "subscribing"), ("", "subscribing"), ("chain", "live"), ("c1", "live"), ("", "live"),
        ("c1", "backing_off"), ("", "backing_off"),
        ("c1", "closed"), ("chain", "closed"), ("", "closed"),
    ]  # fmt: skip


# === Streams ===


@pytest.mark.parametrize("case", MARBLE_CASES)
def test_states_are_as_drawn(case: str) -> None:
    """Of the link, and of all in capitals; an error closes nothing, it is not theirs to judge."""
    wire = Wire()
    frames = {
        "o": wire.event("open"), "m": wire.receive("subscribed"), "t": wire.tick(31.0),
        "c": wire.event("close"),
    }  # fmt: skip

    def letter(turn: ConnectionState) -> str:
        first = "t" if turn.state == "stale" else turn.state[0]
        return first if turn.link else first.upper()

    came, drawn = play(connection_states, connection_states(), frames, letter, case)

    assert came == drawn


def test_two_subscribers_of_states_share_none() -> None:
    """Each folds its own, from the first frame on."""
    states = from_iterable(opened(Wire())).pipe(connection_states())

    assert collect(states) == collect(states)


# === The real software ===

LOCALNET = "recordings/localnet"


def states_of(session: str) -> list[tuple[float, str, str]]:
    """Replay a session of the real software; return when each link turned, in seconds, and what."""
    folder = next(p / LOCALNET for p in Path(__file__).parents if (p / LOCALNET).is_dir())
    path = folder / session / "frames.jsonl.zst"
    begun = collect(replay(path))[0].at
    made = collect(replay(path).pipe(connection_states()))
    return [(round((x.at - begun) / SECOND, 1), x.link, x.state) for x in made]


def test_a_restart_of_the_real_socket_server_is_seen_and_over() -> None:
    """Close 1012, three seconds of nobody, and another connection carries on."""
    together = [
        (at, state) for at, link, state in states_of("16-socks-restarted-at-rest") if not link
    ]

    assert together[:5] == [
        (0.0, "subscribing"), (0.3, "live"), (5.1, "backing_off"), (8.3, "subscribing"),
        (8.5, "live"),
    ]  # fmt: skip


def test_a_real_indexer_that_was_away_whole_is_seen_and_over() -> None:
    """Neither REST nor socket answered for sixteen seconds."""
    together = [(at, state) for at, link, state in states_of("18-indexer-away-whole") if not link]

    assert together[1:5] == [
        (0.7, "live"), (6.3, "backing_off"), (22.2, "subscribing"), (22.5, "live"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("session", "silent", "again"),
    [("17-ender-stopped", 15.9, 25.6), ("21-node-halted", 15.9, 17.6)],
)
def test_real_blocks_that_stop_are_stale_on_a_connection_that_lives(
    session: str, silent: float, again: float
) -> None:
    """The indexer falls behind, or the chain itself halts; the link is live all the while."""
    made = states_of(session)

    assert [x[::2] for x in made if x[1] == "chain"][:3] == [
        (0.1, "live"), (silent, "stale"), (again, "live"),
    ]  # fmt: skip
    assert [state for _, link, state in made if link == "c1"][:2] == ["subscribing", "live"]

"""What is done to a run over HTTP: acts among its frames, each with what came of it."""

from pathlib import Path
from typing import Any

import pytest
from bot.config.changes import Reply, is_of_settings
from bot.run.composition import Bot, Options
from bot.serve import acts
from dydx_conn import NETWORKS, Header, Recording, RecordingWriter, replay
from reached import Reached, first_minute, reached_run


@pytest.fixture
def reached(tmp_path: Path) -> Reached:
    """Return a run in its first minute that is served."""
    return reached_run(tmp_path)


def test_a_halt_is_an_act_and_answers_what_came_of_it(reached: Reached) -> None:
    """Who did it, by which token and from where, is in the journal; a resume takes it back."""
    client = reached.client()
    halted = client.post("/halt", json={"why": "a headline"}).json()
    resumed = client.post("/resume").json()

    assert (halted["id"], halted["gate"]["state"]) == ("A1", "HALTED")
    assert halted["words"] == "halt by api: a headline (trading token, 127.0.0.1)"
    assert (resumed["id"], resumed["gate"]["state"]) == ("A2", "ACTIVE")
    assert resumed["words"] == "resume by api: no reason was given (trading token, 127.0.0.1)"
    entry = reached.bot.journal.find("A1")
    assert entry is not None
    assert (entry.value.kind, entry.value.link, entry.value.type) == ("act", "api", "halt")


def test_what_is_held_leaves_by_a_flatten(reached: Reached) -> None:
    """Through the gate, and the run is halted; what leaves takes its time."""
    before = reached.bot.journal.counts["approved"]
    found = reached.client().post("/flatten").json()

    assert found["gate"]["state"] == "HALTED"
    assert [row["ticker"] for row in found["positions"]]
    assert reached.bot.journal.counts["approved"] == before + len(found["positions"])


def test_a_cancel_of_all_orders_halts_nothing(reached: Reached) -> None:
    """It answers how many are left."""
    found = reached.client().post("/cancel-all", json={"why": "a test"}).json()

    assert (found["gate"]["state"], found["open_orders"]) == ("ACTIVE", 0)
    assert found["words"] == "cancel by api: a test (trading token, 127.0.0.1)"


@pytest.mark.replays
def test_what_was_done_replays_to_the_same_bytes(reached: Reached, tmp_path: Path) -> None:
    """The recording of it has the act, with its number, and the hash is the same."""
    taken = [*first_minute()]
    client = reached.client()
    for act in ("/halt", "/resume", "/cancel-all", "/flatten"):
        client.post(act, json={"why": "a test"})
    acts_ = [entry.value for entry in reached.bot.journal.of_kind("act")]
    recording = tmp_path / "acts.jsonl.zst"
    writer = RecordingWriter(recording, Header.of(NETWORKS["local"]))
    for frame in [*taken, *acts_]:
        writer.write_frame(frame)
    writer.close()
    again = Bot(Options.of("reckless"))
    again.run(replay(recording))

    assert [frame.message_id for frame in Recording(recording)][-4:] != [0, 0, 0, 0]
    assert again.journal.hash == reached.bot.journal.hash


def test_an_act_behind_which_no_frame_comes_says_so(
    reached: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the next one: a recording that is over, or that is paused."""
    monkeypatch.setattr(acts, "_EFFECT_S", 0.02)
    reached.served.desk.wake = reached.served.desk.answer  # and no frame enters
    answer = reached.client().post("/halt")

    assert answer.status_code == 503
    assert answer.json()["got"] == "none: the act waits for the next one"


def test_a_run_that_only_watches_is_not_acted_upon(tmp_path: Path) -> None:
    """Nothing of it could be sent."""
    reached = reached_run(tmp_path, mode="WATCH")
    answers = [reached.client().post(path) for path in ("/halt", "/reload")]

    assert [each.status_code for each in answers] == [409, 409]
    assert answers[0].json() == {"expected": "a run that trades", "got": "one that only watches"}


def test_a_recording_at_its_end_is_not_acted_upon(reached: Reached) -> None:
    """It is looked at, and no frame comes behind which an act could take effect."""
    reached.bot.shown.ended = True
    client = reached.client()

    assert client.post("/halt").json()["got"] == "a recording that is at its end"
    assert client.get("/status").status_code == 200


@pytest.mark.parametrize(
    ("reply", "code", "expected"),
    [
        (
            Reply(now={"policy.max_leverage": 2.0}, was={"policy.max_leverage": 1.0}),
            200,
            {"now": {"policy.max_leverage": 2.0}, "was": {"policy.max_leverage": 1.0}, "above": []},
        ),
        (
            Reply(refused="expected no other markets, got ETH-USD: restart", restart=True),
            409,
            {"expected": "no other markets", "got": "ETH-USD: restart: nothing changes"},
        ),
        (
            Reply(refused="bot.yaml:3: what is this"),
            409,
            {"expected": "bot.yaml:3: what is this", "got": "others: nothing changes"},
        ),
    ],
)
def test_a_reload_answers_what_changes(
    reply: Reply, code: int, expected: dict[str, Any], tmp_path: Path
) -> None:
    """Or why nothing does; both are noted, with who wanted it."""
    who: list[str] = []

    def reload(by: str) -> Reply:
        who.append(by)
        return reply

    reached = reached_run(tmp_path, reload=reload)
    answer = reached.client().post("/reload", json={"why": "a test"})

    assert (answer.status_code, answer.json()) == (code, expected)
    assert who == ["api"]
    note = reached.served.inbox.take(1, 0.0)
    assert note is not None
    assert (note.type, note.text) == ("note", "reload: a test (trading token, 127.0.0.1)")
    assert not is_of_settings(note)  # nobody is warned of it


def test_a_run_without_settings_reloads_nothing(reached: Reached) -> None:
    """In words."""
    assert reached.client().post("/reload").status_code == 409

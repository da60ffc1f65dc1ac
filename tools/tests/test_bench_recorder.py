"""The recorder's bench: it counts what is missing and measures a real recorder, briefly."""

import json

import bench_recorder
import pytest
from bench_recorder import book_updates, holes, main
from dydx_conn import Frame, contents, ws_frame


def numbered(link: str, *message_ids: int) -> list[Frame]:
    """Make messages of one connection."""
    return [Frame(1, 0, 0, link, "ws", message_id=number) for number in message_ids]


@pytest.mark.parametrize(
    ("frames", "missing"),
    [
        ([], 0),
        (numbered("c1", 0, 1, 3, 2), 0),
        (numbered("c1", 0, 1, 4), 2),
        (numbered("c1", 0, 1) + numbered("c2", 0, 2), 1),
        ([*numbered("c1", 0, 1), Frame(1, 0, 0, "c1", "tick", message_id=9)], 0),
    ],
)
def test_missing_messages_are_counted_on_each_connection(frames: list[Frame], missing: int) -> None:
    """In whatever order they came."""
    assert holes(frames) == missing


def test_the_source_sends_what_a_venue_sends() -> None:
    """The updates are real ones, readable as such."""
    update = json.loads(book_updates()[0])
    text = json.dumps({"type": "channel_batch_data", "channel": "v4_orderbook", "contents": update})

    books = contents(ws_frame(1, 0, 0, "c1", text))

    assert len(book_updates()) > 1000
    assert books[0].bids or books[0].asks


def test_a_recorder_is_measured_and_nothing_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its share of a core, its client's apart, and every frame there."""
    monkeypatch.setattr(bench_recorder, "WARM_UP_S", 2.0)
    monkeypatch.setattr(bench_recorder, "MOST_OF_A_CORE", 1.0)

    code = main(["--seconds", "2", "--rate", "200", "--burst", "4", "--count", "3"])

    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "0 missing, complete" in printed
    assert "of a core" in printed


def test_a_kill_costs_less_than_a_second(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is readable to the last block."""
    # The bound is the bench's to judge, on a machine that has time for it.
    monkeypatch.setattr(bench_recorder, "MOST_LOST_S", 10.0)

    code = main(["--kills", "1", "--rate", "200", "--count", "3"])

    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "0 missing" in printed
    assert "all files readable" in printed

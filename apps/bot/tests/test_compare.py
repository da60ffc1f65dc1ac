"""Two runs beside each other: the first decision that differs, what led to it, and its frame."""

import json
from pathlib import Path
from typing import Any

import pytest
from bot.__main__ import main
from bot.backtest.compare import Side, compared, compared_lines
from bot.run.journal import JournalEntry


def entry(number: int, words: str, seq: int = 1, kind: str = "decision") -> JournalEntry:
    """Return an entry of a journal."""
    return JournalEntry(
        id=f"{kind[0].upper()}{number}", kind=kind, seq=seq, at=seq * 10**9, ticker="BTC-USD",
        words=words, value=None,
    )  # fmt: skip


def side(label: str, *entries: JournalEntry, hash_: str = "", **settings: Any) -> Side:
    """Return a run that wrote these entries."""

    def walk(take: Any) -> str:
        all(take(one) for one in entries)
        return hash_ or " ".join(one.words for one in entries)

    return Side(label, None, settings, walk)


def test_runs_that_are_the_same_are_reported_to_be() -> None:
    """By their hashes, whatever they are called."""
    found = compared(side("a", entry(1, "buy")), side("b", entry(1, "buy")))

    assert found.equal
    assert found.decision is found.entry is None
    assert compared_lines(found)[-1].startswith("same         both runs decided and did the same")


def test_the_first_decision_that_differs_is_found_behind_what_led_to_it() -> None:
    """A fill that came otherwise is named before the decision that it changed."""
    first = [entry(1, "buy"), entry(1, "filled", 2, "fill"), entry(2, "sell", 3)]
    second = [entry(1, "buy"), entry(1, "filled half", 2, "fill"), entry(2, "hold", 3)]
    found = compared(side("a", *first), side("b", *second))

    assert found.decision is not None
    assert (found.decision.first and found.decision.first.words) == "sell"
    assert (found.entry and found.entry.seq) == 2
    lines = compared_lines(found)
    assert lines.index("before the first decision that differs:") < lines.index(
        "first decision that differs:"
    )


def test_a_run_that_decides_nothing_there_is_named() -> None:
    """With the frame at which the other one did, and what it decided next."""
    found = compared(side("a", entry(1, "buy", 5)), side("b", entry(1, "sell", 9)))

    assert found.why == ("b decided nothing at frame #5",)


def test_a_run_that_ends_before_the_other_wrote_nothing_more() -> None:
    """What the other one went on to decide is the difference."""
    found = compared(side("a", entry(1, "buy"), entry(2, "sell", 2)), side("b", entry(1, "buy")))

    assert found.decision is not None
    assert found.decision.second is None
    assert "b: nothing more" in compared_lines(found)


def test_verdicts_alone_may_differ() -> None:
    """Then all decisions are reported to be the same."""
    first, second = ([entry(1, "buy"), entry(1, words, 2, "approved")] for words in ("0.1", "0.2"))
    found = compared(side("a", *first), side("b", *second))

    assert found.decision is None
    assert "decisions    all are the same; what became of them is not" in compared_lines(found)
    assert "first entry that differs:" in compared_lines(found)


def test_figures_beneath_the_same_decisions_may_differ() -> None:
    """The hashes do, and nothing that was decided or done."""
    found = compared(side("a", entry(1, "b"), hash_="1"), side("b", entry(1, "b"), hash_="2"))

    assert not found.equal
    assert "figures that they rest on are not" in compared_lines(found)[-1]


def test_settings_that_differ_are_named_with_both_values() -> None:
    """Those by which a run decides, and of many the first few."""
    one: dict[str, Any] = {f"policy.p{n}": 1 for n in range(20)} | {"log.file": "a"}
    other: dict[str, Any] = {f"policy.p{n}": 2 for n in range(20)} | {"log.file": "b"}
    found = compared(side("a", entry(1, "b"), **one), side("b", entry(1, "c"), **other))
    lines = [line for line in compared_lines(found) if line.startswith("settings")]

    assert lines[0] == "settings     policy.p0 1 → 2"
    assert lines[-1] == "settings     and 12 more"
    assert "log.file" not in found.settings


# === Command ===


@pytest.mark.replays
def test_two_profiles_part_at_the_first_decision(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the same scores: what differs are settings. The frame's text is there, and it is a 1."""
    assert main(["backtest", "--compare", "steady", "reckless", str(short)]) == 1

    printed = capsys.readouterr().out
    assert 'settings     profile "steady" → "reckless"' in printed
    assert "why          both rest on the same scores" in printed
    assert "#197 ws v4_orderbook" in printed


def test_a_recording_and_its_copy_are_the_same(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By one strategy, which may be named."""
    copy = tmp_path / "copy.jsonl.zst"
    copy.write_bytes(short.read_bytes())
    words = ["backtest", "none", "--json", "--compare", str(short), str(copy)]

    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["equal"]
    assert [run["name"] for run in found["runs"]] == ["none on short", "none on copy"]


def test_runs_of_the_database_are_found_by_the_beginning_of_their_hashes(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They part where the same runs part that are played again."""
    database = ["--database", str(tmp_path / "bot.db")]
    played = ["backtest", "steady", "reckless", str(short), "--journal", "--json", *database]
    assert main(played) == 0
    hashes = [run["figures"]["run_hash"] for run in json.loads(capsys.readouterr().out)["runs"]]

    assert main(["backtest", "--json", *database, "--compare", *(h[:8] for h in hashes)]) == 1
    stored = json.loads(capsys.readouterr().out)
    assert main(["backtest", str(short), "--json", "--compare", "steady", "reckless"]) == 1
    again = json.loads(capsys.readouterr().out)
    assert [run["run_hash"] for run in stored["runs"]] == hashes
    assert stored["decision"] == again["decision"]
    assert main(["backtest", *database, "--compare", "1", "1"]) == 2
    assert main(["backtest", *database, "--compare", "1", "000000"]) == 2
    assert "which none has" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["rank", "sixty"], "expected two strategies, two recordings, or two runs"),
        (["rank", "rank"], "expected two runs to compare, got rank twice"),
        (["rank", "carry", "none"], "at most one recording, got more"),
        (["quickstart", "sixty", "account"], "at most one strategy, got more"),
    ],
)
def test_two_kinds_of_run_are_not_compared(
    words: list[str], refused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a line, before anything is played."""
    assert main(["backtest", *words[2:], "--compare", *words[:2]]) == 2

    assert refused in capsys.readouterr().err

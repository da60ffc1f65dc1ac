"""The bench beside nautilus_trader: its rows, and what it says where it cannot run."""

from pathlib import Path

import bench_peer
import pytest


def test_where_it_cannot_be_installed_the_bench_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row, no figures."""
    monkeypatch.setattr("elsewhere.found_python", lambda _: None)

    assert [*bench_peer.peer("")] == [
        ("nautilus_trader", "skipped", "", "expected Python 3.12 for nautilus_trader, got none")
    ]


def test_each_side_stands_beside_nautilus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames a second of the least CPU of all rounds, and how many times nautilus's that is."""
    seconds = {"nautilus": iter([3.0, 1.0, 2.0]), "lean": iter([1.0, 0.5, 2.0])}
    ours = {"frames": 1_000, "memory_mb": 80.0, "hash": "x"}
    theirs = {**ours, "parsed_s": 0.5, "orders": 4, "filled": 3}

    def played(_: Path, side: str, __: str) -> dict[str, object]:
        return {**(theirs if side == "nautilus" else ours), "cpu_s": next(seconds[side])}

    monkeypatch.setattr(bench_peer, "played", played)
    found = bench_peer.measured({side: Path(side) for side in seconds}, "sixty")
    rows = {figure: rest for figure, *rest in bench_peer._rows("sixty", found)}

    assert rows["sixty: nautilus, text to fill"] == ["1,000 f/s", "1.00x, 80 MB", ""]
    lean = rows["sixty: bot, WebSocket, no candles or flow"]
    assert lean == ["2,000 f/s", "2.00x, 80 MB", "≥ 0.85x"]


def test_a_side_that_decides_otherwise_ends_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same work done twice has the same hash."""
    hashes = iter("ab")
    monkeypatch.setattr(bench_peer, "played", lambda *_: {"cpu_s": 1.0, "hash": next(hashes)})

    with pytest.raises(SystemExit, match="bot: expected run a, got b"):
        bench_peer.measured({"bot": Path("python")}, "sixty")

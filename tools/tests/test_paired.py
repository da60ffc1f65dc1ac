"""Two trees in turns: figures, hashes, and a tree that cannot run."""

from pathlib import Path

import pytest
from dydx_conn import find_recording
from paired import main

ROOT = find_recording("quickstart").parent.parent
SHORT = str(ROOT / "recordings" / "localnet" / "01-one-taker-fill" / "frames.jsonl.zst")


def test_each_tree_has_its_turns_and_its_hash(capsys: pytest.CaptureFixture[str]) -> None:
    """The same tree twice does the same work."""
    assert main([str(ROOT), str(ROOT), "--recording", SHORT, "--rounds", "1"]) == 0

    old, new, last = capsys.readouterr().out.splitlines()
    assert old.partition("run ")[2] == new.partition("run ")[2] != ""
    assert last.startswith("throughput of the new: ")


def test_a_tree_that_cannot_replay_is_named(tmp_path: Path) -> None:
    """With the end of what it printed."""
    (tmp_path / "apps/bot/src/bot").mkdir(parents=True)
    (tmp_path / "apps/bot/src/bot/__init__.py").write_text("raise SystemExit('no bot here')\n")

    with pytest.raises(SystemExit, match=f"expected {tmp_path} to replay, got: no bot here"):
        main([str(tmp_path), str(tmp_path)])

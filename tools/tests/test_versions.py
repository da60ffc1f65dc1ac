"""The same bytes on each Python: what is compared, and what is printed where there is only one."""

import sys
from pathlib import Path

import check
import pytest
import versions


def test_a_recording_whose_hashes_differ_is_named() -> None:
    """Also one that was replayed on one Python alone."""
    hashes = {"3.11": {"calm": "a", "crash": "b"}, "3.12": {"calm": "a", "crash": "c", "new": "d"}}

    assert versions.differences(hashes) == ["crash", "new"]


def test_what_is_not_installed_is_skipped_and_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is downloaded for it."""
    monkeypatch.setattr(versions, "interpreter", lambda *_: None)
    monkeypatch.setattr(versions, "OURS", "3.11")

    assert versions.main() == check.SKIPPED
    assert capsys.readouterr().out == "Python 3.12 is not installed: nothing to compare with\n"


def test_a_python_that_the_path_hides_is_found_where_pyenv_keeps_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The newest of a version; none at all is None."""
    for patch in ("1", "2"):
        python = tmp_path / f"versions/3.99.{patch}/bin/python3.99"
        python.parent.mkdir(parents=True)
        python.touch()
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))

    assert versions.interpreter(check.find_uv(), "3.99") == str(python)
    assert versions.interpreter(check.find_uv(), "3.98") is None


def test_a_replay_is_known_by_its_hash() -> None:
    """As `bot replay --json` has it."""
    assert len(versions.run_hash(Path(sys.executable), "account")) == 64

"""The corruption harness: what is made wrong is found, and nothing else is."""

import corruptions
import pytest


def test_corruptions_of_a_calm_recording_are_found_and_nothing_else_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A few of each kind; `tools/corruptions.py` makes hundreds in the crash."""
    assert corruptions.main(["account", "-n", "5"]) == 0
    assert "false alarms 0 in" in capsys.readouterr().out

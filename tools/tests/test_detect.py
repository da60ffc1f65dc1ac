"""The detectors against the truth: few seeds here, many by hand with `tools/detect.py`."""

from pathlib import Path

import pytest
from detect import arbitrage, cost, discovery, find_lead, find_makers


def test_the_stand_ins_makers_are_found_coming_and_going() -> None:
    """Every finding is right, and most spells are found, within a minute."""
    run = find_makers("calm", 2, 200.0, leave_s=40.0)

    assert len(run.matched) == len(run.found)
    assert len(run.found) >= 0.6 * len(run.true) > 5


def test_a_halt_of_the_chain_is_no_finding() -> None:
    """Nothing is found while it stands, nor do makers seem to have left when it goes on."""
    run = find_makers("halt", 2, 150.0, leave_s=0.0)

    assert (run.frozen, run.found) == (0, ())


def test_planted_leads_are_recovered(capsys: pytest.CaptureFixture[str]) -> None:
    """Both prices that may follow the mid, and a table that says so."""
    assert discovery(2, 300.0)
    assert "trades" in capsys.readouterr().out


def test_a_market_that_is_not_planted_has_no_lead() -> None:
    """Too short a run finds nothing."""
    assert find_lead(1, 1.0, 5.0, "trades") is None


def test_no_claim_on_a_recording_is_more_than_the_books_pay(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Walked again in exact numbers, every leg by its own book."""
    assert arbitrage(["quickstart"])
    claims = int(capsys.readouterr().out.splitlines()[1].split()[2])
    assert claims > 0


def test_the_cost_of_each_detector_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the cost of the fold without any."""
    session = Path(__file__).parents[2] / "recordings/localnet/27-busy/frames.jsonl.zst"

    assert cost(str(session))
    assert "discovery" in capsys.readouterr().out

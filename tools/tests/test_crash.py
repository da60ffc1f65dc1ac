"""Accounts led through crashes: what a path is, what counts as an exit, what the guard owes."""

import crash
import pytest
from crash import Event, PathOutcome, both, lead, main, path_of


def test_a_seed_always_draws_the_same_path() -> None:
    """Frames and outcome are the seed's alone."""
    first, second = path_of(7), path_of(7)

    assert first == second
    assert [*crash.frames_of(first)] == [*crash.frames_of(second)]
    assert both(7) == both(7)
    assert path_of(8) != first


def test_every_account_opens_what_its_path_holds() -> None:
    """Markets of all prices have grids on which the positions fit."""
    for seed in range(1, 21):
        path = path_of(seed)
        outcome = lead(without_events(path), guard=False)

        assert outcome.opened, path
        assert outcome.liquidations == 0


def without_events(path: crash.Path) -> crash.Path:
    """Return the calm version of a path."""
    return crash._with(path, [])


# Each of these was liquidated once although it could have left: the market ran away from a limit
# that lagged it, or one order a block was too few after a book came back.
NEEDED = {
    21: (1, 3, 4), 24: (3, 4), 51: (3, 4), 112: (0, 1), 454: (0, 1, 2, 3), 593: (0, 1),
    1883: (2, 3, 4, 6), 3864: (0, 1, 2), 4856: (2, 3, 4),
}  # fmt: skip


@pytest.mark.parametrize("seed", NEEDED)
def test_a_path_that_failed_once_does_not_fail_again(seed: int) -> None:
    """Whole, and shrunk to the events that mattered."""
    path = path_of(seed)
    fewest = crash._with(path, [path.events[number] for number in NEEDED[seed]])

    assert not lead(path, guard=True).failed
    assert not lead(fewest, guard=True).failed


def test_no_guarded_account_is_liquidated_where_there_was_an_exit() -> None:
    """A small part of the proof; tools/crash.py runs all of it."""
    runs = [both(seed) for seed in range(1, 31)]

    assert [run.seed for run in runs if run.guarded.failed] == []
    saved = [r for r in runs if r.unguarded.liquidations and not r.guarded.liquidations]
    assert len(saved) > 10


def test_an_outcome_fails_only_with_an_exit_of_two_seconds() -> None:
    """One second to see, one to trade."""

    def outcome(liquidations: int, exits: int) -> PathOutcome:
        return PathOutcome(True, liquidations, 0, 0.0, 0.0, exits, ())

    assert outcome(1, 2).failed
    assert not outcome(1, 1).failed
    assert not outcome(0, 9).failed


def test_a_failing_path_is_shrunk_to_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events without which it fails as well are left out."""
    path = path_of(3)
    needed = {path.events[1], path.events[2]}

    def lead_(path: crash.Path, *, guard: bool) -> PathOutcome:
        return PathOutcome(True, int(needed <= set(path.events)), 0, 0.0, 0.0, 2, ())

    monkeypatch.setattr(crash, "lead", lead_)

    assert set(crash.shrunk(path).events) == needed


def test_a_path_is_shown_second_by_second(capsys: pytest.CaptureFixture[str]) -> None:
    """What it holds, what happens, what the guard did and how both ended."""
    assert main(["--seed", "51"]) == 0

    printed = capsys.readouterr().out
    assert "M0-USD  holds" in printed
    assert "event 0" in printed
    assert "restores" in printed
    assert "guarded    0 liquidations" in printed
    assert "unguarded" in printed


def test_the_table_shows_what_must_be_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """In words, and as JSON."""
    assert main(["--paths", "4", "--workers", "1"]) == 0
    assert "although there was an exit (must be 0)" in capsys.readouterr().out
    assert main(["--paths", "4", "--workers", "1", "--json"]) == 0
    assert '"failed": []' in capsys.readouterr().out


def test_what_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and a sentence."""
    assert main(["--seed", "51", "--only", "99"]) == 2
    assert "expected numbers of the" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--paths", "0"])


def test_a_gap_beyond_the_distance_is_nobodys_failure() -> None:
    """What takes more than the policy restores within a second leaves no time."""
    path = path_of(51)
    gap = Event("gap", 40, 1, 0.30)

    outcome = lead(crash._with(path, [gap]), guard=True)

    assert outcome.liquidations
    assert not outcome.failed

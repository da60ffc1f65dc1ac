"""The runner of all checks: it runs everything, in order, and tells the truth at the end."""

import sys

import check
import pytest

PASS = [[sys.executable, "-c", ""]]
FAIL = [[sys.executable, "-c", "print('what went wrong'); raise SystemExit(3)"]]
ABSENT = [["no-such-command-anywhere"]]


def test_one_failure_does_not_stop_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    """What comes after a failure still runs, and the sum counts all."""
    code = check.run_all({"first": PASS, "second": FAIL, "third": PASS, "fourth": ABSENT})

    written = capsys.readouterr().out
    assert code == 1
    assert "what went wrong" in written
    assert "failed: second" in written
    assert "failed: fourth" in written
    assert written.endswith("2 passed, 2 failed\n")


def test_when_all_pass_the_exit_code_is_zero(capsys: pytest.CaptureFixture[str]) -> None:
    """A green run prints no output of its checks."""
    code = check.run_all({"first": PASS, "second": PASS})

    assert code == 0
    assert capsys.readouterr().out.endswith("2 passed, 0 failed\n")


def test_a_check_fails_if_any_of_its_commands_does() -> None:
    """The verdict of a list of commands is that of the worst."""
    assert check.run_check(PASS + FAIL + PASS) is False


def test_an_unknown_check_is_refused_with_the_names_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A typing error runs nothing and ends with 2."""
    code = check.main(["rufff"])

    assert code == 2
    assert "expected any of lock, environment, ruff" in capsys.readouterr().out


def test_every_distribution_has_its_gate_among_the_checks() -> None:
    """Each gate is the command that a person types at the root."""
    checks = check.all_checks("uv", check.members())

    assert len(check.members()) == 8
    for name in check.members():
        assert [["uv", "run", "--package", name, "pytest"]] == checks[name]

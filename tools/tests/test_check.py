"""The runner of all checks: it runs everything, in order, and reports truly at the end."""

import os
import sys
from pathlib import Path

import check
import pytest

PASS = [[sys.executable, "-c", ""]]
FAIL = [[sys.executable, "-c", "print('what went wrong'); raise SystemExit(3)"]]
SKIP = [[sys.executable, "-c", "print('why not'); raise SystemExit(77)"]]
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


def test_what_only_computes_gives_way_to_what_takes_longest() -> None:
    """The longest checks would end last, with a core idle; those that wait for answers wait less."""
    given = [["uv", "run"]]

    assert [command[1:] for command in check.yielding("types", given)] == [["-n", "5", "uv", "run"]]
    for name in (*check.LONGEST, "wire", "dydx-conn"):
        assert check.yielding(name, given) == given
    assert set(check.YIELDING) <= check.all_checks("uv", check.members()).keys()


def test_a_check_fails_if_any_of_its_commands_does() -> None:
    """The verdict of a list of commands is that of the worst."""
    ended = [PASS + SKIP + FAIL + PASS, PASS + SKIP + PASS, PASS + PASS]

    words = [check.run_check(commands, os.environ).word for commands in ended]

    assert words == ["FAILED", "skipped", "ok"]


def test_what_is_imported_is_compiled_once_and_not_beside_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the shell forbids byte code beside the sources; when all have run, none is left."""
    (tmp_path / "imported.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    with check.compiled_once() as environment:
        import_it = [sys.executable, "-c", "import imported; print(imported.__cached__)"]
        _, printed = check.run(import_it, environment)
        cached = Path(printed.strip())
        there = cached.exists()

    assert (there, cached.exists()) == (True, False)
    assert [file.name for file in tmp_path.iterdir()] == ["imported.py"]


def test_what_is_skipped_shows_why_and_counts_as_neither(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is no failure, and nothing that passed."""
    code = check.run_all({"first": PASS, "second": SKIP})

    written = capsys.readouterr().out
    assert code == 0
    assert "skipped" in written
    assert "why not" in written
    assert written.endswith("1 passed, 0 failed\n")


def test_two_run_side_by_side_and_no_output_is_among_anothers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each waits for the other's file, and then fails with many lines, in one piece."""
    script = """
import pathlib, sys, time
mine, others = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
mine.touch()
ends = time.monotonic() + 60
while not others.exists() and time.monotonic() < ends:
    time.sleep(0.01)
for number in range(50):
    print(mine.name if others.exists() else "alone", number, flush=True)
raise SystemExit(1)
"""
    one, two = str(tmp_path / "one"), str(tmp_path / "two")

    check.run_all(
        {
            "first": [[sys.executable, "-c", script, one, two]],
            "second": [[sys.executable, "-c", script, two, one]],
        }
    )

    written = capsys.readouterr().out
    for name in ("one", "two"):
        assert "".join(f"{name} {number}\n" for number in range(50)) in written


def test_an_unknown_check_is_refused_with_the_names_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A typing error runs nothing and ends with 2."""
    code = check.main(["rufff"])

    assert code == 2
    assert "expected any of lock, environment, ruff" in capsys.readouterr().out


def test_long_proofs_are_listed_apart_and_run_only_when_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default everything runs but those; named, one runs alone."""
    ran: list[list[str]] = []
    monkeypatch.setattr(check, "run_all", lambda checks: ran.append([*checks]))

    assert check.main(["--list"]) == 0
    default, _, long = capsys.readouterr().out.partition("long, and only when named:\n")
    names = [line.split()[0] for line in long.splitlines()]
    check.main([])
    check.main(["crash"])

    assert {"crash", "soak", "recovery", "executable", "mutation"} <= {*names}
    assert names == [*check.LONG] == [*check.long_checks()]
    assert ran == [default.split(), ["crash"]]


def test_each_file_of_the_tools_tests_is_in_one_check() -> None:
    """None is left out, and none runs twice."""
    dealt = check.tests_of_tools()

    files = [Path(file).name for of_one in dealt.values() for file in of_one]
    assert sorted(files) == sorted(file.name for file in Path(__file__).parent.glob("test_*.py"))
    assert all(dealt.values())


def test_every_distribution_has_its_gate_among_the_checks() -> None:
    """Each gate is the command that a person types at the root."""
    checks = check.all_checks("uv", check.members())

    assert len(check.members()) == 8
    for name in check.members():
        assert [["uv", "run", "--package", name, "pytest"]] == checks[name]

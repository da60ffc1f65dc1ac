"""The look-out for secrets finds what tests print and write, and names no more than its beginning."""

import os
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import zstandard
from leaks import PLANTED, as_input, leaks_in, plant, secrets_in

# Nobody else plants these: a run that finds them here has nothing to say about the bot.
KEY = "c7" * 32
PHRASE = "zoo wrong zebra youth yellow wreck worth world wood wolf witness winter"


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant for one test alone what it is about."""
    monkeypatch.setattr("leaks.PLANTED", {KEY, PHRASE})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nothing", []),
        (f"0x{KEY}!", ["c7c7…"]),
        (KEY.upper(), ["c7c7…"]),
        (KEY[:-1], []),
        ("ZOO, wrong\\n2. Zebra", []),
        ('["zoo", "wrong", "zebra"]', ["zoo …"]),
        ("x\nwolf\nwitness\nwinter", ["zoo …"]),
        ("the wrong zebra crossing", []),
        ("zoowrongzebra wrong zebra youths", []),
    ],
)
def test_a_key_is_found_whole_and_a_mnemonic_by_three_of_its_words(
    text: str, found: list[str]
) -> None:
    """In any case, whatever stands between the words; what is reported is a beginning."""
    assert secrets_in(text.encode()) == found


@pytest.mark.parametrize("long", [14, 15, 16, 23])
def test_a_secret_is_found_wherever_it_stands(long: int) -> None:
    """Of long ones eight bytes at a time are looked at: some are whole, whatever stands before."""
    token = plant("Ab3-xY7_Kq9zLm2WvT5uJ8n"[:long])

    found = [secrets_in(b" " * before + token.encode() + b"\n") for before in range(20)]

    assert found == [["Ab3-…"]] * 20


def test_files_are_looked_at_whatever_they_are(tmp_path: Path) -> None:
    """A log, a recording that was cut off, a database; what is given to the bot is none."""
    kinds = {name: tmp_path / name for name in ("a.jsonl", "b.jsonl.zst", "c.db", "d.yaml", "e.db")}
    packed = zstandard.ZstdCompressor().compress(f"{{{KEY}}}".encode() + bytes(range(256)) * 999)
    kinds["a.jsonl"].write_text(f'{{"words":"{PHRASE}"}}')
    kinds["b.jsonl.zst"].write_bytes(packed[:-9])
    with sqlite3.connect(kinds["c.db"]) as database:
        database.execute("CREATE TABLE notes (words TEXT)")
        database.execute("INSERT INTO notes VALUES (?)", (KEY,))
    database.close()
    kinds["d.yaml"].write_text(KEY)
    as_input(kinds["e.db"]).write_text(KEY)
    (tmp_path / "token").write_text(f"{KEY}\n")

    found = [
        words.removeprefix(f"expected no secret in {tmp_path}/") for words in leaks_in(tmp_path)
    ]

    assert found == ["a.jsonl, got zoo …", "b.jsonl.zst, got c7c7…", "c.db, got c7c7…"]
    for path in kinds.values():
        path.unlink()


def test_what_is_planted_is_looked_for() -> None:
    """And handed back, so that it is planted where it is made."""
    assert plant("d8" * 32) == "d8" * 32
    assert secrets_in(b"d8" * 32) == ["d8d8…"]
    assert PLANTED  # those of all tests


LEAKING = f'''
import logging
import subprocess
import sys

import pytest
from leaks import plant

KEY = plant("c7" * 2 + "{KEY[4:]}")


def test_prints():
    print(KEY)


def test_prints_and_reads(capsys):
    print(KEY, file=sys.stderr)
    capsys.readouterr()


def test_logs():
    logging.getLogger("x").warning(KEY)


def test_runs():
    program = "import sys; print(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, KEY], capture_output=True, check=True)


def test_fits(tmp_path):
    print(KEY[1:])


def test_writes(tmp_path):
    (tmp_path / "run.jsonl").write_text(f"token {KEY}")
'''


def test_a_run_in_which_a_secret_comes_out_fails(tmp_path: Path) -> None:
    """On a stream, in a record, from a program or in a file; and the report does not repeat it."""
    (tmp_path / "conftest.py").write_text(
        "from leaks import look_out\n\n\ndef pytest_configure(config):\n    look_out(config)\n"
    )
    (tmp_path / "test_leaking.py").write_text(textwrap.dedent(LEAKING))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {Path(__file__).parent.parent}\n")
    typed = ["-q", "-rA", "-p", "no:cacheprovider", "--tb=short", f"--basetemp={tmp_path / 'base'}"]

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *typed],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip

    failed = {"prints", "prints_and_reads", "logs", "runs"}
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert KEY not in done.stdout + done.stderr
    assert {
        line.partition("::test_")[2].partition(" ")[0]
        for line in lines
        if line.startswith("FAILED test_")
    } == failed
    assert "PASSED test_leaking.py::test_fits" in lines
    [file] = [line for line in lines if line.startswith("FAILED expected")]
    assert file.endswith("run.jsonl, got c7c7…")
    (tmp_path / "base" / "test_writes0" / "run.jsonl").unlink()

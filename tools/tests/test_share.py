"""Most tests above the connection replay what was recorded, much of it by the real software."""

import subprocess
import sys
from collections import Counter
from functools import cache

import check
import pytest
from sessions import REAL

LAYERS = [name for name in check.members() if name not in ("dydx-conn", "bot")]
RECORDED = ("test_sessions", "test_recording")


@cache
def collected() -> dict[str, list[str]]:
    """List the tests of each layer by file and case, in one run: what all import is imported once."""
    directories = {name: check.members()[name].relative_to(check.ROOT) / "tests" for name in LAYERS}
    listed = subprocess.run(
        [
            sys.executable, "-m", "pytest", "--collect-only", "-q",
            *("-p", "no:cov", "-p", "no:cacheprovider", "-o", "pythonpath=tools"),
            *("-o", "addopts=--import-mode=importlib", *map(str, directories.values())),
        ],
        cwd=check.ROOT, capture_output=True, text=True, check=False,
    ).stdout.splitlines()  # fmt: skip
    starts = {name: f"{directory.as_posix()}/" for name, directory in directories.items()}
    return {
        name: [line.removeprefix(start) for line in listed if line.startswith(start)]
        for name, start in starts.items()
    }


@pytest.mark.parametrize("name", LAYERS)
def test_most_tests_of_a_layer_replay_a_recording(name: str) -> None:
    """Those in the files of sessions and recordings, the real software's most of all."""
    tests = collected()[name]
    recorded = [test for test in tests if test.startswith(RECORDED)]
    real = [test for test in recorded if any(str(session) in test for session in REAL)]

    assert 2 * len(recorded) > len(tests), f"{len(recorded)} of {len(tests)}"
    assert 2 * len(real) > len(recorded)


@pytest.mark.parametrize("name", LAYERS)
def test_what_counts_as_recorded_reads_recordings(name: str) -> None:
    """No file is called so without a recording in it."""
    tests = check.members()[name] / "tests"
    for file in [*tests.glob("test_sessions*.py"), *tests.glob("test_recording*.py")]:
        text = file.read_text()
        assert "from sessions import REAL" in text or "load_recorded_stream" in text, file


@pytest.mark.parametrize("name", LAYERS)
def test_every_real_session_is_replayed(name: str) -> None:
    """By several tests of every layer."""
    tests = [test for test in collected()[name] if test.startswith(RECORDED)]
    replays = Counter(session for session in REAL for test in tests if str(session) in test)

    assert min(replays[session] for session in REAL) >= 3

"""What only some systems have is not wanted where recordings are played."""

import math
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest
from bot import system
from dydx_conn import ConnError

# Hides what a system like Windows has not got, then types a command.
FOREIGN = textwrap.dedent("""
    import os, signal, sys
    for name in ("termios", "tty", "fcntl", "resource"):
        sys.modules[name] = None
    for name in ("SIGTSTP", "SIGCONT", "SIGHUP", "SIGALRM", "SIGTTIN", "SIGTTOU", "setitimer"):
        delattr(signal, name)
    for name in ("getuid", "getpgrp", "tcgetpgrp", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK"):
        delattr(os, name)
    from bot.__main__ import main
    sys.exit(main())
""")


def test_a_recording_is_played_where_there_is_no_unix() -> None:
    """Nothing it needs is of one kind of system alone."""
    typed = [sys.executable, "-c", FOREIGN, "replay", "account", "--quiet"]
    played = subprocess.run(typed, capture_output=True, text=True, check=False)

    assert (played.returncode, played.stderr) == (0, "")
    assert "run hash" in played.stdout


def test_a_system_without_locks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two live bots on one account would be worse than none."""
    monkeypatch.setattr(system, "IS_UNIX", False)

    with pytest.raises(ConnError, match=r"expected a system that locks files, .*, got linux: here"):
        system.lock(0)


def test_what_is_not_counted_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown as unknown, never as 0; no limit is none."""
    monkeypatch.setattr(system, "IS_UNIX", False)

    assert math.isnan(system.peak_mb())
    assert system.file_limits() == (math.inf, math.inf)


def test_only_the_signals_of_the_system_are_taken() -> None:
    """By their numbers."""
    assert system.by_number({"SIGTERM": "ends", "SIGNEVER": "is none"}) == {signal.SIGTERM: "ends"}


def test_the_bot_starts_itself_once_more_without_a_python_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In an executable what is typed follows its own name; there is no `-m` to hand it to."""
    assert system.own_command() == [sys.executable, "-m", "bot"]

    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert system.own_command() == [sys.executable]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """Whoever fails on the way leaves what was there, and nothing beside it."""
    path = tmp_path / "it"
    with system.replacing(path, on_disk=True) as file:
        file.write(b"whole")

    with suppress(OSError), system.replacing(path) as file:
        file.write(b"half of")
        raise OSError

    assert [one.name for one in tmp_path.iterdir()] == ["it"]
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"whole", 0o600)


def test_what_must_outlive_a_power_cut_is_on_the_disk_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, before it has its name, and then the directory that has it."""
    synced, fsync = list[Path](), os.fsync

    def noted(file: int) -> None:
        synced.append(Path(f"/proc/self/fd/{file}").resolve())
        fsync(file)

    monkeypatch.setattr(os, "fsync", noted)
    with system.replacing(tmp_path / "it", on_disk=True) as file:
        file.write(b"whole")

    assert [one.name.startswith(".it.") or one for one in synced] == [True, tmp_path.resolve()]

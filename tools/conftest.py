"""Let `uv run --package NAME pytest`, typed at the root, run NAME's own gate.

    uv run --package dydx-risk pytest -k margin      what was typed, at the root
        └─ pytest -k margin                          root configuration, this file
             └─ packages/dydx-risk $ pytest -k margin    the member's configuration

uv puts the right packages in place but passes pytest nothing about `--package`, and pytest
takes its configuration from the directory it was started in: the root's would silently
stand for the member's. So this hook reads the command line of the uv process above us and, if
that was a member, becomes the pytest that would run in the member's directory. Paths given by
hand need none of this: pytest finds the configuration nearest to them by itself.
"""

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from leaks import look_out

ROOT = Path(__file__).resolve().parent.parent

# The first of these ends uv's own options: what follows belongs to the command.
COMMANDS = ("--", "pytest", "py.test", "python", "python3")


def pytest_configure(config: pytest.Config) -> None:
    """Let no secret come out of any test."""
    look_out(config)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Hand over to the member's gate if uv was called for a member and no path was given."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS or "UV" not in os.environ:
        return
    name = requested_package(uv_arguments())
    if name is not None:
        become_gate(config, member(name))


def requested_package(arguments: Sequence[str]) -> str | None:
    """Read the value of `--package` out of a uv command line; None if it names none."""
    options = iter(arguments)
    for option in options:
        if option in COMMANDS:
            return None
        if option == "--package":
            return next(options, None)
        if option.startswith("--package="):
            return option.removeprefix("--package=")
        if option in ("-p", "--python"):
            next(options, None)  # its value may be called python, and is no command
    return None


def uv_arguments() -> list[str]:
    """Read the command line of the nearest uv above this process; empty if there is none."""
    # Not always the parent: a shell, a debugger or coverage may stand between.
    pid = os.getppid()
    while pid > 1:
        pid, arguments = process(pid)
        if arguments and Path(arguments[0]).stem == "uv":
            return arguments[1:]
    return []


def process(pid: int) -> tuple[int, list[str]]:
    """Return a process's parent and its arguments, from /proc or, where there is none, ps."""
    stat, cmdline = Path(f"/proc/{pid}/stat"), Path(f"/proc/{pid}/cmdline")
    try:
        if stat.exists():
            # The second field is a name in parentheses and may itself hold spaces.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            return parent, cmdline.read_text().split("\0")[:-1]
        columns = ["ps", "-ww", "-o", "ppid=,args=", "-p", str(pid)]
        answer = subprocess.run(columns, capture_output=True, text=True, check=True).stdout.split()
        return int(answer[0]), answer[1:]
    except (OSError, ValueError, IndexError, subprocess.CalledProcessError) as error:
        raise pytest.UsageError(
            f"expected to read the command line of process {pid} to learn which package uv was "
            f"called for, but {error}; run pytest in the package's own directory instead"
        ) from error


def member(name: str) -> Path:
    """Find the directory of the workspace member of that name."""
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]
    files = [file for glob in workspace["members"] for file in ROOT.glob(f"{glob}/pyproject.toml")]
    found = {tomllib.loads(file.read_text())["project"]["name"]: file.parent for file in files}
    if name not in found:
        raise pytest.UsageError(f"expected one of {', '.join(sorted(found))}, but it was {name!r}")
    return found[name]


def become_gate(config: pytest.Config, directory: Path) -> None:
    """Replace this process with pytest in `directory`: same arguments, terminal and exit code."""
    # The capture has turned stdin away from the terminal; `--pdb` wants it back.
    capture = config.pluginmanager.get_plugin("capturemanager")
    if capture is not None:
        capture.stop_global_capturing()
    arguments = ["-m", "pytest", "-c", "pyproject.toml", *config.invocation_params.args]
    print(f"{directory.relative_to(ROOT)} $ pytest {' '.join(arguments[4:])}".rstrip(), flush=True)
    os.chdir(directory)
    os.execv(sys.executable, [sys.executable, *arguments])

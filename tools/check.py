"""Run every check of the workspace, or those named, and say at the end what failed.

    uv run --all-packages --group dev tools/check.py                everything
    uv run --all-packages --group dev tools/check.py ruff format    these two
    uv run --all-packages --group dev tools/check.py --list         their names

    lock · environment · ruff · format · types · imports · structure  ──►  eight gates  ──►  tools

A check is a list of commands, typed as a person would type them at the root; it passes if
all of them exit with 0. A failure is shown in full at once and never stops the rest. The
exit code is 0 if all passed, 1 if any failed, 2 if a name is unknown.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

Command = list[str]

# Tests are checked too, but a fixture need not spell out what pytest hands it.
TEST_LENIENCE = [
    "--allow-untyped-defs",
    "--allow-incomplete-defs",
    "--allow-untyped-calls",
    "--allow-untyped-decorators",
    # An assert narrows an attribute; a call that changes it does not widen it again.
    "--no-warn-unreachable",
]


def main(arguments: Sequence[str]) -> int:
    """Run the checks named, or all of them; return the exit code."""
    checks = all_checks(find_uv(), members())
    if "--list" in arguments:
        print("\n".join(checks))
        return 0
    if unknown := [name for name in arguments if name not in checks]:
        print(f"expected any of {', '.join(checks)}, but it was {', '.join(unknown)}")
        return 2
    return run_all({name: checks[name] for name in (arguments or checks)})


def all_checks(uv: str, distributions: dict[str, Path]) -> dict[str, list[Command]]:
    """Name every check and its commands, cheap ones first."""
    python = [sys.executable, "-m"]
    return {
        "lock": [[uv, "lock", "--check"]],
        # uv does not check the bounds between members when it locks; this does.
        "environment": [[uv, "pip", "check", "--python", sys.executable]],
        "ruff": [[*python, "ruff", "check", "."]],
        "format": [[*python, "ruff", "format", "--check", "."]],
        "types": type_checks([*python, "mypy"], list(distributions.values())),
        "imports": [[str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]],
        "structure": [[sys.executable, "tools/structure.py"]],
        **{name: [[uv, "run", "--package", name, "pytest"]] for name in distributions},
        "tools": [[*python, "pytest", "tools"]],
    }


def type_checks(mypy: Command, directories: Sequence[Path]) -> list[Command]:
    """Check sources in one run, and each folder of tests in its own."""
    sources = [str(path.relative_to(ROOT) / "src") for path in directories]
    # Two members may both have a test_gate.py; in one run they would be one module.
    tests = [path / "tests" for path in [*directories, ROOT / "tools"]]
    return [
        [*mypy, *sources, "tools", "--exclude", "^tools/tests/"],
        *(
            [*mypy, *TEST_LENIENCE, str(path.relative_to(ROOT))]
            for path in tests
            if any(path.glob("*.py"))
        ),
    ]


def members() -> dict[str, Path]:
    """Map each distribution of the workspace to its directory, packages before the app."""
    workspace = read(ROOT)["tool"]["uv"]["workspace"]
    files = [
        file
        for glob in workspace["members"]
        for file in sorted(ROOT.glob(f"{glob}/pyproject.toml"))
    ]
    return {read_project(file.parent)["name"]: file.parent for file in files}


def read_project(directory: Path) -> dict[str, Any]:
    """Read the project table of a member: its name, version, dependencies."""
    project: dict[str, Any] = read(directory)["project"]
    return project


def read(directory: Path) -> dict[str, Any]:
    """Read a pyproject.toml."""
    return tomllib.loads((directory / "pyproject.toml").read_text())


def find_uv() -> str:
    """Find uv: the one that started us, or else the one on the path."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise SystemExit("expected uv in $UV or on the path, but it was in neither")
    return uv


# === Running ===


def run_all(checks: dict[str, list[Command]]) -> int:
    """Run each check in turn and print a line for each, then the sum."""
    failed = []
    started = time.monotonic()
    for number, (name, commands) in enumerate(checks.items(), 1):
        print(f"[{number:2}/{len(checks)}] {name:<14}", end=" ", flush=True)
        if not run_check(commands):
            failed.append(name)
    print(f"\ntook {time.monotonic() - started:.1f} s")
    for name in failed:
        print(f"failed: {name:<14} alone: uv run --all-packages --group dev tools/check.py {name}")
    print(f"{len(checks) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def run_check(commands: Sequence[Command]) -> bool:
    """Run one check's commands and print its verdict, with their output if any failed."""
    started = time.monotonic()
    outcomes = [run(command) for command in commands]
    bad = [
        (command, output)
        for command, (code, output) in zip(commands, outcomes, strict=True)
        if code
    ]
    print(f"{'FAILED' if bad else 'ok':<6} {time.monotonic() - started:6.1f} s", flush=True)
    for command, output in bad:
        print(f"$ {shlex.join([Path(command[0]).name, *command[1:]])}\n{output}", flush=True)
    return not bad


def run(command: Command) -> tuple[int, str]:
    """Run a command at the root; return its exit code and all it wrote."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        return 127, str(error)
    return done.returncode, done.stdout


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

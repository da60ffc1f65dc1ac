"""Run every check of the workspace, or those named, and print at the end what failed.

    uv run --all-packages --group dev tools/check.py                every check but the long ones
    uv run --all-packages --group dev tools/check.py ruff format    these two
    uv run --all-packages --group dev tools/check.py crash          a long one, named
    uv run --all-packages --group dev tools/check.py --list         their names

    lock · environment · ruff · format · imports · structure · picture
        ──►  bot · venue · types · tools · wire · seven gates · versions    three side by side

A check is a list of commands, typed as a person would type them at the root; it passes if
all of them exit with 0, and is skipped if one exits with 77. A failure is shown in full when
its check ends and never stops the rest. The exit code is 0 if none failed, 1 if any did, 2 if
a name is unknown.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

Command = list[str]

# Of two cores each gate uses one; with four side by side tests that trade ran out of patience.
SIDE_BY_SIDE = 3

# What a command exits with that could not do its work here and prints why, as automake has it.
SKIPPED = 77

# Tests are checked too, but a fixture need not spell out what pytest hands it.
TEST_LENIENCE = [
    "--allow-untyped-defs",
    "--allow-incomplete-defs",
    "--allow-untyped-calls",
    "--allow-untyped-decorators",
    # An assert narrows an attribute; a call that changes it does not widen it again.
    "--no-warn-unreachable",
]

# Each takes about as long as all others of its lane together.
LONGEST = ("bot", "venue")

# What waits for nothing but the processor gives way: the longest would end last, with a core idle.
YIELDING = ("types", "dydx-data", "dydx-signals", "dydx-strategy", "dydx-risk", "dydx-paper")
NICE = 5

# The tools' tests that take long, by what they run; the check "tools" runs the others.
OF_TOOLS = {
    "venue": ["test_venue*.py", "test_trading.py", "test_bot_trade.py"],
    "wire": ["test_record.py", "test_replay.py", "test_chaos.py", "test_soak.py", "test_bench*.py"],
}


def main(arguments: Sequence[str]) -> int:
    """Run the checks named, or all but the long ones; return the exit code."""
    default, long = all_checks(find_uv(), members()), long_checks()
    checks = default | long
    if "--list" in arguments:
        lines = (f"{name:<14} {LONG[name]}" for name in long)
        print("\n".join([*default, "", "long, and only when named:", *lines]))
        return 0
    if unknown := [name for name in arguments if name not in checks]:
        print(f"expected any of {', '.join(checks)}, but it was {', '.join(unknown)}")
        return 2
    return run_all({name: checks[name] for name in (arguments or default)})


def all_checks(uv: str, distributions: dict[str, Path]) -> dict[str, list[Command]]:
    """Name every check that runs by default, and its commands, in the order they begin.

    Cheap ones first, for an early word; then long before short, so that all lanes end together:
    the two longest fill one lane each, and the third is dealt what is left.
    """
    python = [sys.executable, "-m"]
    gates = {name: [[uv, "run", "--package", name, "pytest"]] for name in distributions}
    tools = {name: [[*python, "pytest", *files]] for name, files in tests_of_tools().items()}
    return {
        "lock": [[uv, "lock", "--check"]],
        # uv does not check the bounds between members when it locks; this does.
        "environment": [[uv, "pip", "check", "--python", sys.executable]],
        "ruff": [[*python, "ruff", "check", "."]],
        "format": [[*python, "ruff", "format", "--check", "."]],
        "imports": [[str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]],
        "structure": [[sys.executable, "tools/structure.py"]],
        "picture": [[sys.executable, "tools/picture.py"]],
        **{name: (gates | tools)[name] for name in LONGEST},
        "types": type_checks([*python, "mypy"], list(distributions.values())),
        **{name: commands for name, commands in (tools | gates).items() if name not in LONGEST},
        "versions": [[sys.executable, "tools/versions.py"]],
    }


def tests_of_tools() -> dict[str, list[str]]:
    """Deal the files of the tools' tests out to their checks, each to one."""
    tests = ROOT / "tools" / "tests"
    found = {name: [*map(tests.glob, globs)] for name, globs in OF_TOOLS.items()}
    dealt = {name: sorted({*chain(*files)}) for name, files in found.items()}
    rest = {*tests.glob("test_*.py")}.difference(*dealt.values())
    return {
        name: [str(file.relative_to(ROOT)) for file in files]
        for name, files in (dealt | {"tools": sorted(rest)}).items()
    }


LONG = {
    "crash": "ten thousand crashes under the guard and its rivals: ten minutes on two cores",
    "soak": "the connection through ten minutes of faults",
    "harsh": "the tests that trade, on a venue where everything that may go wrong does",
    "chaos": "a hundred bad days, and what survived them: two minutes",
    "recovery": "bot paper killed fifty times, and what came back: ten minutes",
    "orders": "bot trade killed fifteen times on the local venue, and what stood: eight minutes",
    "edits": "five thousand edits of the settings of runs at full speed: five minutes",
    "settings": "two thousand files and variables of settings, right and wrong: three minutes",
    "luck": "random walks, and an edge that was planted: which results are said to be luck",
    "sweep": "one sweep in every way, workers killed, over TLS: the same results: three minutes",
    "calibration": "scores on random walks, and on a drift that was planted: eight minutes",
    "api": "a run's HTTP interface, fuzzed by its own description: five minutes",
    "prometheus": "Prometheus scrapes bot paper for half a minute, and what it got",
    "browser": "headless Chromium looks at a run, on a desk and in a hand: two minutes",
    "pages": "headless Chromium opens a report: its charts, tables and whys, also on paper",
    "elsewhere": "bundles made here, replayed in environments of wheels alone: two minutes",
    "executable": "one executable is built, and tried in an empty root: four minutes",
    "variants": "fifty random variants on one pass, each against itself alone: five minutes",
    "compiled": "two layers compiled, and tried beside the pure ones: six minutes",
    "mutation": "forty changes to each layer, and whether its tests notice: half an hour",
}


_EDITS = [
    "apps/bot/tests/test_reload.py", "-c", "apps/bot/pyproject.toml", "--rootdir", "apps/bot",
    "--no-cov", "-k", "under_load",
]  # fmt: skip


_SETTINGS = [
    "apps/bot/tests/test_config_fuzz.py", "-c", "apps/bot/pyproject.toml", "--rootdir", "apps/bot",
    "--no-cov",
]  # fmt: skip


def long_checks() -> dict[str, list[Command]]:
    """Name the proofs that take minutes, which run only when they are named."""
    tool = [sys.executable]
    pytest = [*tool, "-m", "pytest"]
    return {
        "crash": [[*tool, "tools/crash.py"]],
        "soak": [[*tool, "tools/soak.py"]],
        "harsh": [["env", "TEST_VENUE_HABITS=harsh", *pytest, *tests_of_tools()["venue"]]],
        "chaos": [
            [*tool, "-m", "bot", "chaos", "quickstart", "--seeds", "100", "--profile", "reckless"]
        ],
        "recovery": [[*tool, "tools/killed.py"]],
        "orders": [[*tool, "tools/killed_trade.py"]],
        "edits": [["env", "TEST_EDIT_SEEDS=50", *pytest, *_EDITS]],
        "settings": [["env", "TEST_CONFIG_CASES=2000", *pytest, *_SETTINGS]],
        "luck": [[*tool, "tools/lucky.py"]],
        "sweep": [[*tool, "tools/swept.py"]],
        "calibration": [[*tool, "tools/calibration.py"]],
        "api": [[*tool, "tools/fuzz_api.py"]],
        "prometheus": [[*tool, "tools/scraped.py"]],
        "browser": [[*tool, "tools/browser.py"]],
        "pages": [[*tool, "tools/pages.py"]],
        "elsewhere": [[*tool, "tools/elsewhere.py"]],
        "executable": [[*tool, "tools/executable.py"]],
        "variants": [[*tool, "tools/variants.py"]],
        "compiled": [[*tool, "tools/compile.py"]],
        "mutation": [[*tool, "tools/mutation.py"]],
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """How a check ended: ok, skipped or FAILED, and what its commands wrote, if not ok."""

    word: str
    took_s: float
    written: str = ""


def run_all(checks: dict[str, list[Command]]) -> int:
    """Run the checks, some side by side; print a line for each as it ends, then the sum."""
    started = time.monotonic()
    outcomes: dict[str, CheckOutcome] = {}
    with compiled_once() as environment, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        running = {
            pool.submit(run_check, yielding(name, commands), environment): name
            for name, commands in checks.items()
        }
        try:
            for number, done in enumerate(as_completed(running), 1):
                name, outcome = running[done], done.result()
                outcomes[name] = outcome
                line = f"{name:<14} {outcome.word:<7} {outcome.took_s:6.1f} s"
                print(f"[{number:2}/{len(checks)}] {line}\n{outcome.written}", end="", flush=True)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # what runs was interrupted too
            raise
    print(f"\ntook {time.monotonic() - started:.1f} s")
    failed = [name for name in checks if outcomes[name].word == "FAILED"]
    passed = [name for name in checks if outcomes[name].word == "ok"]
    for name in failed:
        print(f"failed: {name:<14} alone: uv run --all-packages --group dev tools/check.py {name}")
    print(f"{len(passed)} passed, {len(failed)} failed")
    return 1 if failed else 0


@contextmanager
def compiled_once() -> Iterator[Mapping[str, str]]:
    """Give an environment in which what one process compiled is there for the others.

    Where a shell forbids byte code beside the sources, each of some hundred processes would
    compile all that it imports, a second or two of it: it lies elsewhere while the checks run.
    """
    # Nobody's own settings are checked.
    given = {name: text for name, text in os.environ.items() if not name.startswith("DYDX__")}
    given["DYDX_CONFIG"] = "none"
    # It is called by its functions here; its plug-in takes each of some twenty runs half a second.
    given["PYTEST_ADDOPTS"] = f"{given.get('PYTEST_ADDOPTS', '')} -p no:schemathesis".strip()
    if not given.pop("PYTHONDONTWRITEBYTECODE", ""):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="check-") as folder:
        yield given | {"PYTHONPYCACHEPREFIX": folder}


def yielding(name: str, commands: Sequence[Command]) -> list[Command]:
    """Return commands that leave the processor to the longest checks first, if these are some."""
    nice = shutil.which("nice") if name in YIELDING else None
    return [[nice, "-n", str(NICE), *command] if nice else command for command in commands]


def run_check(commands: Sequence[Command], environment: Mapping[str, str]) -> CheckOutcome:
    """Run one check's commands, one after the other, all of them."""
    started = time.monotonic()
    ended = [(command, *run(command, environment)) for command in commands]
    word = "ok"
    if any(code == SKIPPED for _, code, _ in ended):
        word = "skipped"
    if any(code not in (0, SKIPPED) for _, code, _ in ended):
        word = "FAILED"
    lines = [
        f"$ {shlex.join([Path(command[0]).name, *command[1:]])}\n{output}".rstrip() + "\n"
        for command, code, output in ended
        if code
    ]
    return CheckOutcome(word=word, took_s=time.monotonic() - started, written="".join(lines))


def run(command: Command, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a command at the root; return its exit code and all it wrote."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
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
    # Begun with `&`, a shell has us ignore Ctrl-C; what is run here is to be ended by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    raise SystemExit(main(sys.argv[1:]))

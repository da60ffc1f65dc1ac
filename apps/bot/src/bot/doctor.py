"""Look at the machine and at a network, and report what would stop a run.

Each check is a name, an outcome and what was seen; the exit code is 0 if none failed. The
network is received as a run receives it, so that what works here works in a run.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from bot import __version__
from bot.configured import environment_of
from bot.environment import Check, Validation, validate
from bot.outlet import as_lines


def doctor(arguments: argparse.Namespace) -> int:
    """Print every check with its outcome; return 1 if any failed."""
    settings = environment_of(arguments)
    net = settings.chosen()
    here = list(machine())
    if not arguments.json:
        _print(here)
    found, _ = validate(settings, net)
    checks = [*here, *found.checks]
    if arguments.json:
        print(json.dumps(health_of(here, found), indent=2))
    else:
        _print(found.checks)
        print(_summary(checks, found))
    return 1 if any(check.outcome == "failed" for check in checks) else 0


def health_of(here: Sequence[Check], found: Validation) -> dict[str, Any]:
    """Return the result as data: what a health endpoint answers, and the machine's own checks."""
    result: dict[str, Any] = msgspec.to_builtins(found)
    return result | {"http_status": found.http_status, "machine": msgspec.to_builtins(here)}


def machine() -> Iterator[Check]:
    """Look at what is here: Python, clock, terminal."""
    version = platform.python_version()
    right = (3, 11) <= sys.version_info < (3, 13)
    yield Check("python", "ok" if right else "failed", f"{version}; wanted 3.11 or 3.12")
    yield Check("bot", "ok", __version__)
    resolution_ns = time.get_clock_info("monotonic").resolution * 1e9
    fine = resolution_ns <= 1_000_000
    yield Check("clock", "ok" if fine else "warning", f"monotonic, steps of {resolution_ns:.0f} ns")
    columns, rows = shutil.get_terminal_size()
    if not sys.stdout.isatty():
        yield Check("terminal", "ok", "none: reports are plain, no dashboard")
    else:
        fits = columns >= 80 and rows >= 24
        seen = f"{columns}x{rows} {os.environ.get('TERM', '')}; wanted 80x24 or more"
        yield Check("terminal", "ok" if fits else "warning", seen)


def _print(checks: Sequence[Check]) -> None:
    for check in checks:
        print(as_lines([f"{check.outcome:<8} {check.name:<12} {check.seen}"]), flush=True)


def _summary(checks: Sequence[Check], found: Validation) -> str:
    failed = [check.name for check in checks if check.outcome == "failed"]
    fine = sum(check.outcome == "ok" for check in checks)
    listed = f"; failed: {', '.join(failed)}" if failed else ""
    return f"\n{found.network}: {found.status}, {fine} of {len(checks)} fine{listed}"

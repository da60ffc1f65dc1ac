"""Look at the machine and at a network, and report what would stop a run.

Each check is a name, an outcome and what was seen; the exit code is 0 if none failed. The
network is received as a run receives it, so that what works here works in a run.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bot.configured import account_settings, environment_of
from bot.environment import Check, Validation, validate
from bot.machine import machine
from bot.outlet import as_lines


def doctor(arguments: argparse.Namespace) -> int:
    """Print every check with its outcome and what to do; return 1 if any failed.

    With --offline it is the machine alone.
    """
    settings = None if arguments.offline else environment_of(arguments)
    net = None if settings is None else settings.chosen()
    where = account_settings(arguments).keys
    keys = [] if where.startswith(_NO_FILES) else [Path(where)]
    here = []
    for check in machine(keys=keys):
        here.append(check)
        if not arguments.json:
            _print([check])
    found = None if settings is None or net is None else hinted(validate(settings, net)[0])
    checks = [*here, *(() if found is None else found.checks)]
    if arguments.json:
        print(json.dumps(health_of(here, found), indent=2))
    else:
        _print(checks[len(here) :])
        print(_summary(checks, found))
    return 1 if any(check.outcome == "failed" for check in checks) else 0


_NO_FILES: Final = ("env", "keyring:")


def health_of(here: Sequence[Check], found: Validation | None) -> dict[str, Any]:
    """Return the result as data: what a health endpoint answers, and the machine's own checks."""
    seen = {"machine": msgspec.to_builtins(here)}
    if found is None:
        return seen
    result: dict[str, Any] = msgspec.to_builtins(found)
    return result | {"http_status": found.http_status} | seen


# What to do about what fails of a network, by the name of the check.
HINTS: Final[Mapping[str, str]] = {
    "environment": "choose another --network, or another --environment",
    "node": "wait, or name another one: --node HOST:PORT, or a list of them in a network file",
    "chain": "check --node and --network: nothing is signed for another chain",
    "rest": "wait, or name another one: --rest URL --ws URL",
    "socket": "wait, or name another one: --rest URL --ws URL",
    "tls": "check the address; a private authority's certificate is named by SSL_CERT_FILE",
    "skew": "let the system set its clock: timedatectl set-ntp true",
    "height": "wait until the indexer has come to the chain, or name another one: --rest, --ws",
    "indexer": "check --rest, --ws and --node: they are of two chains",
}


def hinted(found: Validation) -> Validation:
    """Add to each check of a network that is not well what to do about it."""
    checks = tuple(
        check
        if check.outcome == "ok"
        else msgspec.structs.replace(check, hint=HINTS.get(check.name, ""))
        for check in found.checks
    )
    return msgspec.structs.replace(found, checks=checks)


def _print(checks: Sequence[Check]) -> None:
    for check in checks:
        lines = [f"{check.outcome:<8} {check.name:<13} {check.seen}"]
        lines += [f"{'':<8} {'':<13} {check.hint}"] if check.hint else []
        print(as_lines(lines), flush=True)


def _summary(checks: Sequence[Check], found: Validation | None) -> str:
    failed = [check.name for check in checks if check.outcome == "failed"]
    fine = sum(check.outcome == "ok" for check in checks)
    listed = f"; failed: {', '.join(failed)}" if failed else ""
    what = "this machine" if found is None else f"{found.network}: {found.status}"
    return f"\n{what}, {fine} of {len(checks)} fine{listed}"

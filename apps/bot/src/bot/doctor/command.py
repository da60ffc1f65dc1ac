"""Look at the machine and at a network, and report what would stop a run.

Each check is a name, an outcome and what was seen; the exit code is 0 if none failed. The
network is received as a run receives it, so that what works here works in a run.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bot.config.configured import environment_of, loaded_of
from bot.config.document import ConfigError
from bot.config.loaded import Loaded
from bot.config.validation import Check, Validation, validate
from bot.doctor.machine import machine
from bot.doctor.services import secret_files, services, written_to
from bot.outlet import as_lines


def doctor(arguments: argparse.Namespace) -> int:
    """Print every check with its outcome and what to do; return 1 if any failed.

    With --offline it is the machine alone, and so where the settings name no network.
    """
    here = []
    configuration, loaded = configured(arguments)
    for check in (configuration, *_of_here(loaded)):
        here.append(check)
        if not arguments.json:
            _print([check])
    found = None
    if loaded is not None and not arguments.offline:
        settings = environment_of(arguments)
        found = hinted(validate(settings, settings.chosen())[0])
    checks = [*here, *(() if found is None else found.checks)]
    if arguments.json:
        print(json.dumps(health_of(here, found), indent=2))
    else:
        _print(checks[len(here) :])
        print(_summary(checks, found))
    return 1 if any(check.outcome == "failed" for check in checks) else 0


def configured(arguments: argparse.Namespace) -> tuple[Check, Loaded | None]:
    """Load the settings as a run does; what is wrong with them is a check as any other."""
    try:
        loaded = loaded_of(arguments)
    except ConfigError as error:
        fault, more = error.faults[0], len(error.faults) - 1
        seen = f"{fault.where}: {fault.words}" + (f" (and {more} more)" if more else "")
        return Check("configuration", "failed", seen, "bot config check lists all of it"), None
    path = loaded.path
    seen = "no bot.yaml: defaults" if path is None else f"{path.absolute()} is valid"
    return Check("configuration", "ok", seen), loaded


def _of_here(loaded: Loaded | None) -> Iterator[Check]:
    if loaded is None:
        yield from machine()
        return
    url, secrets = _stored(loaded)
    yield from machine(url, secrets, written_to(loaded.settings))
    yield from services(loaded.settings)


def _stored(loaded: Loaded) -> tuple[str, list[Path]]:
    """Return where runs are written down, and the files that nobody else may read."""
    where, settings = loaded.settings.account.keys, loaded.settings
    files = [] if where.startswith(_NO_FILES) else [Path(where)]
    # No file of settings holds a secret in the clear: only what is encrypted could be guessed at.
    files += [loaded.path] if loaded.path is not None and loaded.sealed else []
    return settings.database.url.get_secret_value(), [*files, *secret_files(settings)]


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

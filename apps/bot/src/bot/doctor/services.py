"""What stands beside a run, before it begins: its log, its API, and who is notified.

    settings ──► services ──► Check: a name, an outcome, what was seen, and what to do about it

What was chosen and cannot be is a failure, as a start is refused by it. Nothing is made or sent:
the address of the API is taken, and let go at once.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dydx_conn import ConnError

from bot.config.place import NONE
from bot.config.settings import Settings
from bot.config.validation import Check
from bot.logs.run import logs_directory
from bot.notify.command import check_sinks
from bot.run.acts import is_ours

_MEGA: Final = 1_000_000


def services(settings: Settings) -> Iterator[Check]:
    """Look at what a run would write its log to, listen at, and send notices to."""
    yield _log(settings)
    yield from _api(settings)
    yield from check_sinks(settings.notify)


def written_to(settings: Settings) -> dict[str, Path]:
    """Return the directories, by what is written there, that somebody has chosen."""
    chosen = {
        "the log": settings.log.file if settings.log.file != NONE else "",
        "a recording": settings.record or "",
        "the audit log": settings.audit,
    }
    return {what: Path(path).parent for what, path in chosen.items() if path}


def secret_files(settings: Settings) -> list[Path]:
    """Return the files that hold what nobody else may read, of those that are there."""
    named = [settings.api.key, *(sink.url_file for sink in settings.notify.sinks)]
    return [Path(path) for path in named if path]


# === Log ===


def _log(settings: Settings) -> Check:
    log = settings.log
    if log.file == NONE:
        return Check("log", "ok", "none is wanted: what happens is in the database alone")
    most_mb = log.max_bytes * (log.backups + 1) / _MEGA
    bound = f"at most {most_mb:,.0f} MB, from {log.level} on"
    if not log.file:
        return _own_log(bound)
    path = Path(log.file)
    if why := _unwritable(path):
        hint = "bot doctor --log FILE tries another one; a run is refused with this"
        return Check("log", "failed", f"expected to write a log to {path}, got {why}", hint)
    return Check("log", "ok", f"{path} can be written, {bound}")


def _own_log(bound: str) -> Check:
    directory = logs_directory()
    if directory.exists() and not is_ours(directory):
        seen = f"expected {directory} to be a directory of ours alone, got another one"
        return Check(
            "log", "warning", f"{seen}: a run goes on without its log", f"ls -ld {directory}"
        )
    return Check("log", "ok", f"one for each account in {directory}, each {bound}")


def _unwritable(path: Path) -> str:
    """Return why a file cannot be written, "" if it can."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return "something that is no file"
    there = path if path.exists() else path.parent
    if not there.exists():
        return f"no directory {there}"
    return "" if os.access(there, os.W_OK) else "no permission"


# === API ===

_TOKEN: Final = "bot token {} --new makes one, readable by you alone"


def _api(settings: Settings) -> Iterator[Check]:
    address = settings.api.address
    if not address:
        yield Check("api", "ok", "none is wanted (--api 127.0.0.1:8710)")
        return
    from bot.serve.server import listening

    try:
        with listening(settings.api):
            yield Check("api", "ok", f"{address} is free")
    except ConnError as error:
        yield Check(
            "api", "failed", str(error), "bot status shows what runs here; or --api HOST:PORT"
        )
    yield from _tokens(settings)


def _tokens(settings: Settings) -> Iterator[Check]:
    from bot.serve.tokens import KINDS, file_of, read

    for kind in KINDS:
        path, name = file_of(settings.api, kind), f"{kind} token"
        if not os.path.lexists(path):
            yield Check(name, "ok", f"none yet: the first run makes {path}")
            continue
        try:
            read(path)
        except ConnError as error:
            yield Check(name, "failed", str(error), _TOKEN.format(kind))
        else:
            yield Check(name, "ok", f"{path} is yours alone")

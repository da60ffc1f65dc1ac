"""What outlives a run, in one encrypted file, and back from it: all of it or nothing.

    database, state directory, configuration ──► bot backup FILE ──► bot.config.sealed
    FILE ──► checked whole ──► unpacked beside what is there ──► put in its place

SQLite's own online copy is taken, as it stood at one moment, while a bot may write; the rows of
PostgreSQL are read at one moment into a database of SQLite, so that a backup of either kind can be
restored into either. What a restore replaces stays beside it. No halt ends by a restore, no token
that was replaced comes back, and no client id that was used since is forgotten.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import sqlalchemy
from dydx_conn import KeyProblem
from pydantic import SecretStr
from sqlalchemy import Connection, select

from bot import __version__
from bot.config.passphrase import passphrase
from bot.config.place import CONFIG, NONE
from bot.config.place import found as found_configuration
from bot.config.sealed import BackupError, opened, sealing
from bot.database.spill import named_after
from bot.database.tables import (
    TABLES,
    decisions,
    engine_of,
    explained,
    file_of,
    metadata,
    order_blocks,
    order_counts,
    order_sums,
    runs,
    shown,
    upgrade,
    verdicts,
    writing,
)
from bot.history.reading import NothingYetError, chosen_url, reading
from bot.history.when import moment
from bot.run.acts import state_directory
from bot.run.handles import running
from bot.system import IS_UNIX, lock
from bot.times import iso, utc

_DATABASE: Final = "database/bot.db"
_STATE: Final = "state/"
_CONFIGURATIONS: Final = {"configuration/user.yaml": "user", "configuration/here.yaml": "here"}
_SUMS: Final = "sums.json"
# What is in the state directory, by how its names begin.
_KINDS: Final = {
    "api": "tokens", "claimed": "claims", "days": "days", "halted": "halts", "logs": "logs",
    "notices": "notices", "unwritten": "rows that wait for a database",
}  # fmt: skip
# What is newer here than in any backup, and would let more happen if it were older.
_STAYS: Final = ("halted-*.json", "claimed-*.json", "api-*.token")
_CHUNK: Final = 1 << 20
_ROWS: Final = 1_000
_COUNTED: Final = (order_blocks, order_counts, order_sums)  # the database does that by itself


# === Backup ===


def backup(arguments: argparse.Namespace) -> int:
    """Write what outlives a run into one encrypted file."""
    path = Path(arguments.file)
    if path.exists() and not arguments.force:
        raise BackupError(f"expected a file that is not there, got {path}: --force replaces it")
    if not path.absolute().parent.is_dir():
        raise BackupError(f"expected a directory for {path}, got none")
    url = chosen_url(arguments)
    before = None if arguments.trim is None else moment("--trim", arguments.trim, time.time_ns())
    if before is not None:
        _require_quiet()
    word = _new_passphrase()
    with sealing(path, word) as tar, _scratch(_place_of(url)) as place:
        taken = _Taken(tar, url)
        copy = place / "bot.db"
        # What a run could not write goes first: it may be in the database a moment later, and
        # what is in both is written once.
        for file in sorted(_state_files()):
            with contextlib.suppress(FileNotFoundError):  # a bot that runs removes its own
                taken.file(_STATE + str(file.relative_to(state_directory())), file)
        if _copied(url, copy, typed=bool(arguments.database)):
            taken.file(_DATABASE, copy)
        if (configuration := _configuration(arguments)) is not None:
            taken.file(_name_of(configuration), configuration)
        taken.end()
    for line in _taken_words(taken.sums):
        print(line)
    print(
        f"written to {path}, {_size(path.stat().st_size)}, encrypted: only the passphrase opens it"
    )
    if before is not None and _DATABASE in taken.sums:
        _checked(path, word)
        print(f"trimmed        {trimmed(url, before):,} rows of before {utc(before)} UTC")
    return 0


def trimmed(url: str, before: int) -> int:
    """Take out what only `bot backup` still has: the figures of decisions and verdicts.

    Most of a database is that; no page, sum or resume reads them. Returns of how many rows.
    """
    engine = engine_of(url)
    try:
        upgrade(engine)
        with explained(url), writing(engine).begin() as connection:
            found = [
                connection.execute(
                    of.update().where(of.c.at < before, of.c.data.is_not(None)).values(data=None)
                ).rowcount
                for of in (decisions, verdicts)
            ]
        with explained(url), engine.connect() as connection:  # what is free goes to the disk
            if file_of(url) is None:
                connection.execution_options(isolation_level="AUTOCOMMIT")
            else:
                connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("VACUUM")
    finally:
        engine.dispose()
    return sum(found)


def _new_passphrase() -> SecretStr:
    typed = not os.environ.get("DYDX_PASSPHRASE")
    word = passphrase("passphrase of the backup: ")
    if typed and passphrase("and again: ") != word:
        raise KeyProblem("expected the same passphrase twice, got two that differ")
    return word


def _place_of(url: str) -> Path:
    """Return where a copy may be for a moment: beside the database, where it is ours alone."""
    path = file_of(url)
    return path.parent if path is not None and path.exists() else Path(tempfile.gettempdir())


_SCRATCH: Final = ".dydx-bot-copy-"


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """Yield a directory in another one, for a moment; what a killed process left there goes."""
    for left in directory.glob(f"{_SCRATCH}*"):
        with contextlib.suppress(OSError), _held(left):  # what is held is in use
            shutil.rmtree(left)
    with (
        tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=directory) as place,
        _held(Path(place)),
    ):
        yield Path(place)


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    if not IS_UNIX:  # nor are files that are open removed there
        yield
        return
    file = os.open(directory, os.O_RDONLY)
    try:
        lock(file)
        yield
    finally:
        os.close(file)


class _Taken:
    """Members as they are put in, with what each is summed up to."""

    def __init__(self, tar: tarfile.TarFile, url: str) -> None:
        self._tar, self._unwritten = tar, named_after(url)
        self.sums: dict[str, dict[str, Any]] = {}

    def file(self, name: str, path: Path) -> None:
        with open(path, "rb") as file:
            member = tarfile.TarInfo(name)
            member.size = os.fstat(file.fileno()).st_size
            summed = _Summed(file)
            try:
                self._tar.addfile(member, summed)
            except OSError as error:
                raise BackupError(f"expected {path} to stay as it is, got {error}") from None
        self.sums[name] = {"size": member.size, "sha256": summed.sum}

    def end(self) -> None:
        text = json.dumps(
            {
                "bot": __version__, "made": iso(time.time_ns()), "unwritten": self._unwritten,
                "members": self.sums,
            }
        ).encode()  # fmt: skip
        member = tarfile.TarInfo(_SUMS)
        member.size = len(text)
        self._tar.addfile(member, io.BytesIO(text))


class _Summed:
    """Reads a file and sums up what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        part = self._file.read(size)
        self._hash.update(part)
        return part

    @property
    def sum(self) -> str:
        return self._hash.hexdigest()


def _copied(url: str, copy: Path, *, typed: bool) -> bool:
    """Copy a database as it stands; return whether there is one."""
    path = file_of(url)
    try:
        if path is None:
            with reading(url) as source:
                engine = engine_of(str(copy))
                upgrade(engine)
                with writing(engine).begin() as target:
                    copy_rows(source, target)
                engine.dispose()
            return True
        with reading(url):  # what is no database of ours is refused before it is copied
            pass
    except NothingYetError:
        if typed:
            raise
        return False
    with explained(url), contextlib.ExitStack() as stack:
        source_file = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        stack.callback(source_file.close)
        target_file = sqlite3.connect(copy)
        stack.callback(target_file.close)
        # All in one step: in parts it would begin again whenever a bot writes.
        source_file.backup(target_file, pages=-1)
        target_file.execute("PRAGMA journal_mode = DELETE")  # no log beside it
    return True


def copy_rows(source: Connection, target: Connection) -> None:
    """Copy the rows of all tables, those first that others refer to, some at a time."""
    for table in metadata.sorted_tables:
        if table in _COUNTED:
            continue
        found = source.execution_options(yield_per=_ROWS).execute(select(table))
        for part in found.mappings().partitions(_ROWS):
            target.execute(table.insert(), [dict(row) for row in part])
    if target.dialect.name == "postgresql":
        number = sqlalchemy.func.pg_get_serial_sequence("runs", "id")
        last = select(sqlalchemy.func.max(runs.c.id)).scalar_subquery()
        target.execute(select(sqlalchemy.func.setval(number, sqlalchemy.func.coalesce(last, 1))))


def _state_files() -> Iterator[Path]:
    for path in state_directory().rglob("*"):
        if path.is_file() and not path.is_symlink():  # a socket is of a process, and outlives none
            yield path


def _configuration(arguments: argparse.Namespace) -> Path | None:
    """Return the file of settings: as typed, as the environment has it, or the first found."""
    if arguments.config is None:
        return found_configuration()
    return None if arguments.config == NONE else Path(arguments.config)


def _name_of(configuration: Path) -> str:
    here = configuration.absolute().parent == Path.cwd()
    return next(name for name, kind in _CONFIGURATIONS.items() if (kind == "here") == here)


def _taken_words(sums: dict[str, dict[str, Any]]) -> Iterator[str]:
    if _DATABASE in sums:
        yield f"database       {_size(sums[_DATABASE]['size'])}"
    else:
        yield "database       none yet"
    state = [name.removeprefix(_STATE) for name in sums if name.startswith(_STATE)]
    kinds = sorted({_KINDS.get(re.split(r"[-/]", name)[0], "others") for name in state})
    files = f"{len(state)} file{'s' * (len(state) > 1)}: {', '.join(kinds)}" if state else "none"
    yield f"state          {files}"
    found = [name for name in sums if name in _CONFIGURATIONS]
    yield f"configuration  {'bot.yaml' if found else 'none'}"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"


# === Restore ===


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is put: what is unpacked, where it belongs, and what stands there now."""

    fresh: Path
    target: Path

    def before(self, stamp: str) -> Path:
        """Return where what stood there is left."""
        return self.target.with_name(f"{self.target.name}.before-{stamp}")


def restore(arguments: argparse.Namespace) -> int:
    """Put back what a backup has, all or nothing; what was there stays beside it."""
    path = Path(arguments.file)
    if not path.is_file():
        raise BackupError(f"expected a backup, got no file {path}")
    url = chosen_url(arguments)
    if not arguments.check:
        _require_quiet()
    word = passphrase("passphrase of the backup: ")
    sums = _checked(path, word)
    print(f"{path}: whole, made {sums['made'][:19]} UTC by version {sums['bot']}")
    for line in _taken_words(sums["members"]):
        print(line)
    if arguments.check:
        return 0
    with contextlib.ExitStack() as stack:
        try:
            places = _unpacked(stack, arguments, word, url, sums)
        except OSError as error:
            what = f"expected room and a right to unpack {path}, got {error}"
            raise BackupError(f"{what}: all is as it was") from None
        _require_quiet()
        for line in _swapped(places, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())):
            print(line)
    return 0


def _require_quiet() -> None:
    """Refuse while a bot of this user runs."""
    pids = sorted(running())
    if pids:
        named = ", ".join(map(str, pids))
        raise BackupError(f"expected no bot to run meanwhile, got process {named}: end it first")
    for path in state_directory().glob("claimed-*.json"):
        with open(path, "rb") as file:
            try:
                lock(file.fileno())
            except BlockingIOError:
                what = f"expected no bot to run meanwhile, got one that holds {path.name}"
                raise BackupError(f"{what}: end it first") from None


def _checked(path: Path, word: SecretStr) -> dict[str, Any]:
    """Read all of a backup and compare it with its sums, before anything is written."""
    found: dict[str, dict[str, Any]] = {}
    sums: dict[str, Any] | None = None
    with opened(path, word) as members:
        for name, file in members:
            if name == _SUMS:
                sums = json.load(file)
                continue
            _require_name(path, name)
            summed, size = _Summed(file), 0
            while part := summed.read(_CHUNK):
                size += len(part)
            found[name] = {"size": size, "sha256": summed.sum}
    if sums is None or sums["members"] != found:
        raise BackupError(f"expected {path} as its sums have it, got others")
    return sums


def _require_name(path: Path, name: str) -> None:
    parts = name.removeprefix(_STATE).split("/")
    known = name == _DATABASE or name in _CONFIGURATIONS or name.startswith(_STATE)
    if not known or not {"", ".", ".."}.isdisjoint(parts) or "\0" in name:
        raise BackupError(f"expected what a bot stores in {path}, got {name!r}")


def _unpacked(
    stack: contextlib.ExitStack,
    arguments: argparse.Namespace,
    word: SecretStr,
    url: str,
    sums: dict[str, Any],
) -> list[Place]:
    """Unpack beside where all of it belongs; what is not put in its place is gone in the end."""
    state = Place(_fresh(stack, state_directory()), state_directory())
    places = [state] if any(name.startswith(_STATE) for name in sums["members"]) else []
    was, now = f"unwritten/{sums.get('unwritten')}", f"unwritten/{named_after(url)}"
    file = file_of(url)
    with opened(Path(arguments.file), word) as members:
        for name, content in members:
            if name != _SUMS:
                _require_name(Path(arguments.file), name)
            if name == _DATABASE:
                target = file or Path(tempfile.gettempdir()) / "bot.db"
                fresh = _fresh(stack, target)
                _write(content, fresh)
                _put_database(fresh, url)
                places += [Place(fresh, target)] if file is not None else []
            elif name.startswith(_STATE):
                # What waits for the database that was backed up waits for this one.
                _write(content, state.fresh / name.removeprefix(_STATE).replace(was, now, 1))
            elif name in _CONFIGURATIONS:
                target = _configuration_target(name, arguments.config)
                fresh = _fresh(stack, target)
                _write(content, fresh)
                places.append(Place(fresh, target))
    if state in places:
        for path in (path for each in _STAYS for path in state_directory().glob(each)):
            shutil.copy2(path, state.fresh / path.name)
    return places


def _configuration_target(name: str, typed: str | None) -> Path:
    """Return where a file of settings belongs; no backup names a path, whoever made it."""
    named = typed or os.environ.get(CONFIG, NONE)
    if named != NONE:
        return Path(named).absolute()
    if _CONFIGURATIONS[name] == "here":
        return Path.cwd() / "bot.yaml"
    given = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(given) if given.startswith("/") else Path.home() / ".config"
    return base / "dydx-bot" / "bot.yaml"


def _fresh(stack: contextlib.ExitStack, target: Path) -> Path:
    """Return a path beside a target, on the same disk; what is left there is removed."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return stack.enter_context(_scratch(target.parent)) / target.name


def _write(content: IO[bytes], path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        shutil.copyfileobj(content, out, _CHUNK)
        out.flush()
        os.fsync(out.fileno())


def _put_database(fresh: Path, url: str) -> None:
    """Bring an unpacked database to this version; into a server its rows are copied."""
    engine = engine_of(str(fresh))
    try:
        upgrade(engine)
        with explained(str(fresh)), engine.connect() as source:
            (answer,) = source.exec_driver_sql("PRAGMA quick_check(1)").one()
            if answer != "ok":
                raise BackupError(f"expected a sound database in the backup, got {answer}")
            if file_of(url) is None:
                _into_server(source, url)
        with engine.connect() as last:
            # What was written on the way is in the file itself, and no log stands beside it.
            last.exec_driver_sql("COMMIT")
            last.exec_driver_sql("PRAGMA journal_mode = DELETE")
    finally:
        engine.dispose()


def _into_server(source: Connection, url: str) -> None:
    engine = engine_of(url)
    try:
        upgrade(engine)
        with explained(url), writing(engine).begin() as target:
            filled = [
                name for name, table in TABLES.items()
                if table not in _COUNTED and target.execute(select(table).limit(1)).first()
            ]  # fmt: skip
            if filled:
                what = f"expected an empty database in {shown(url)}, got rows in {filled[0]}"
                raise BackupError(f"{what}: restore into a new one, and name that by --database")
            copy_rows(source, target)
    finally:
        engine.dispose()


# SQLite's log and its index belong to the file.
_BESIDE: Final = ("", "-wal", "-shm")


def _swapped(places: Sequence[Place], stamp: str) -> Iterator[str]:
    """Put all in place; where one cannot be, all is as it was."""
    done: list[tuple[Path, Path]] = []
    lines: list[str] = []
    try:
        for place in places:
            left = place.before(stamp)
            for end in _BESIDE:
                old = place.target.with_name(place.target.name + end)
                if old.exists() or old.is_symlink():
                    _move(old, left.with_name(left.name + end), done)
            _move(place.fresh, place.target, done)
            beside = f", what was there is {left.name}" if left.exists() else ""
            lines.append(f"restored       {place.target}{beside}")
    except OSError as error:
        for source, target in reversed(done):
            os.rename(target, source)
        raise BackupError(f"expected to put all in place, got {error}: all is as it was") from None
    yield from lines
    yield "               bot history shows what is there"


def _move(source: Path, target: Path, done: list[tuple[Path, Path]]) -> None:
    if target.exists():
        raise FileExistsError(f"{target} is there already")
    os.rename(source, target)
    done.append((source, target))

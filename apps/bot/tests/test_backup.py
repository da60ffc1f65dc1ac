"""A backup of what outlives a run: every row comes back, or nothing is touched."""

import contextlib
import fcntl
import io
import resource
import signal
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import sqlalchemy
from bot.__main__ import main
from bot.config import sealed
from bot.database.spill import Spill, spilled
from bot.database.tables import (
    REVISIONS,
    TABLES,
    default_url,
    engine_of,
    metadata,
    upgrade,
    writing,
)
from bot.history import backup
from bot.run.acts import default_database, state_directory
from bot.times import utc
from dydx_conn import ConnError
from pydantic import SecretStr
from stored import NOON, ROWS

WORD = "correct horse battery"
MORE: dict[str, list[dict[str, Any]]] = {
    "ledger_events": [
        {"run_id": 1, "n": n, "seq": n, "at": NOON, "kind": "fill", "data": {"n": n, "é": None}}
        for n in range(2_500)
    ],
    "equity_points": [{"run_id": 1, "at": NOON, "equity": -(2**53) - 1, "leverage": 0.1}],
    "configs": [{"run_id": 2, "n": 1, "at": NOON, "who": "key", "accepted": False}],
}  # fmt: skip

Bot = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bot(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bot:
    """Return what types a command with a passphrase, and returns code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DYDX_CONFIG", raising=False)
    # It is a third of a second of work for each guess; not here.
    monkeypatch.setattr("dydx_conn._COST", 2**14)

    def typed(*words: str, word: str = WORD) -> tuple[int, str, str]:
        monkeypatch.setenv("DYDX_PASSPHRASE", word)
        code = main(words)
        out, err = capsys.readouterr()
        return code, out, err

    return typed


def filled(url: str) -> None:
    """Write a few rows of each kind into a new database."""
    engine = engine_of(url)
    upgrade(engine)
    with writing(engine).begin() as connection:
        for name, rows in (ROWS | MORE).items():
            connection.execute(TABLES[name].insert(), rows)
    engine.dispose()


def all_rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table."""
    engine = engine_of(url)
    with engine.connect() as connection:
        found = {
            table.name: sorted(map(tuple, connection.execute(sqlalchemy.select(table))), key=repr)
            for table in metadata.sorted_tables
        }
    engine.dispose()
    return found


@pytest.fixture
def state() -> Path:
    """Return the state directory, with a halt, days and what spills in it."""
    directory = state_directory()
    (directory / "unwritten").mkdir(parents=True, mode=0o700)
    (directory / "halted-c-me-0.json").write_text('{"who":"key","why":"news"}')
    (directory / "unwritten" / "1.jsonl").write_text("{}\n")
    return directory


def files(directory: Path) -> dict[str, bytes]:
    """Return what a directory has."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*") if path.is_file()
    }  # fmt: skip


# === There and back ===


def test_every_row_and_every_file_comes_back(bot: Bot, state: Path, tmp_path: Path) -> None:
    """Whatever became of them meanwhile, which stays beside."""
    filled(default_url())
    (tmp_path / "bot.yaml").write_text("profile: steady\n")
    rows, stored = all_rows(default_url()), files(state)
    assert bot("backup", "b.bak")[0] == 0
    engine = engine_of(default_url())
    with writing(engine).begin() as connection:
        connection.execute(TABLES["fills"].delete())
    engine.dispose()
    (state / "halted-c-me-0.json").unlink()
    (tmp_path / "bot.yaml").write_text("profile: reckless\n")
    code, out, _ = bot("restore", "b.bak")

    assert code == 0
    assert (all_rows(default_url()), files(state)) == (rows, stored)
    assert (tmp_path / "bot.yaml").read_text() == "profile: steady\n"
    assert out.count("what was there is") == 3
    (before,) = tmp_path.glob("bot.yaml.before-*")
    assert before.read_text() == "profile: reckless\n"
    (left,) = Path(default_url().removeprefix("sqlite:///")).parent.glob("bot.db.before-*Z")
    assert all_rows(str(left))["fills"] == []


def test_what_would_let_more_happen_if_it_were_older_stays(bot: Bot, state: Path) -> None:
    """A halt that nobody ended, a token that replaced another, the client ids used since."""
    (state / "api-read.token").write_text("leaked")
    (state / "days-c.json").write_text("noon")
    assert "state          4 files: days, halts, rows that wait" in bot("backup", "b.bak")[1]
    since = {"api-read.token": "new", "halted-c-me-1.json": "leaked", "claimed-c-me-0.json": "{}"}
    for name, text in since.items():
        (state / name).write_text(text)
    (state / "days-c.json").write_text("later")
    assert bot("restore", "b.bak")[0] == 0

    assert {name: (state / name).read_text() for name in since} == since
    assert (state / "days-c.json").read_text() == "noon"
    assert (state / "halted-c-me-0.json").exists()


def test_rows_that_no_database_took_wait_for_the_one_that_is_restored(
    bot: Bot, tmp_path: Path
) -> None:
    """Though it is elsewhere now: on another machine, or of another kind."""
    old, new = str(tmp_path / "old.db"), str(tmp_path / "new.db")
    filled(old)
    spill = Spill(old, {"began": 1, "chain_id": "c", "account": "me", "process": "h 1 1"})
    spill.add([("equity_points", {"at": NOON, "equity": 1})])
    spill.close()
    bot("backup", "b.bak", "--database", old)
    assert bot("restore", "b.bak", "--database", new)[0] == 0

    for database, count in ((old, 0), (new, 1)):
        with spilled(database) as found:
            assert len(found) == count


@pytest.mark.parametrize("how", ["typed", "variable", "user"])
def test_a_configuration_comes_back_where_it_is_looked_for(
    bot: Bot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """As typed, as the environment has it, or in the directory of the user."""
    path = tmp_path / "its" / "dydx-bot" / "bot.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("profile: steady\n")
    words = ("--config", str(path)) if how == "typed" else ()
    name, value = (
        ("DYDX_CONFIG", path) if how == "variable" else ("XDG_CONFIG_HOME", tmp_path / "its")
    )
    monkeypatch.setenv(name, str(value))
    assert bot("backup", "b.bak", *words)[0] == 0
    path.write_text("profile: reckless\n")
    assert bot("restore", "b.bak", *words)[0] == 0

    assert path.read_text() == "profile: steady\n"


def test_a_machine_that_lost_everything_has_it_again(
    bot: Bot, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directories are made as they were, for their owner alone."""
    filled(default_url())
    rows, stored = all_rows(default_url()), files(state)
    bot("backup", "b.bak")
    for name in ("STATE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / "new" / name))
    code, _, _ = bot("restore", "b.bak")

    assert (code, all_rows(default_url()), files(state_directory())) == (0, rows, stored)
    ours = [path for path in (tmp_path / "new").rglob("*") if "dydx-bot" in path.parts]
    assert [path for path in ours if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize(("source", "target"), [(0, 1), (1, 0), (1, 1)])
def test_a_backup_of_either_kind_of_database_is_restored_into_either(
    bot: Bot, tmp_path: Path, postgresql: Callable[[], str], source: int, target: int
) -> None:
    """Every row of it, and the next run has a number of its own."""
    urls = [str(tmp_path / "x.db") if not kind else postgresql() for kind in (source, target)]
    if not target:
        urls[1] = str(tmp_path / "y.db")
    filled(urls[0])
    assert bot("backup", "b.bak", "--database", urls[0])[0] == 0
    assert bot("restore", "b.bak", "--database", urls[1])[0] == 0

    counted = ("order_blocks", "order_counts", "order_sums")
    before, after = all_rows(urls[0]), all_rows(urls[1])
    assert {name: rows for name, rows in after.items() if name not in counted} == {
        name: rows for name, rows in before.items() if name not in counted
    }
    engine = engine_of(urls[1])
    with writing(engine).begin() as connection:
        new = {"chain_id": "c", "account": "a/0", "began": 1}
        made = connection.execute(TABLES["runs"].insert().values(new))
        assert made.inserted_primary_key == (3,)
    engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_makes_a_database_large_is_in_the_backup_alone(
    request: pytest.FixtureRequest, bot: Bot, tmp_path: Path, kind: str
) -> None:
    """Every row is there still, and of those that are young all of it."""
    url = request.getfixturevalue(kind)() if kind == "postgresql" else str(tmp_path / "bot.db")
    filled(url)
    engine, expected = engine_of(url), dict[str, Any]()
    row = {"run_id": 1, "seq": 1, "data": {"scores": "long"}}
    with writing(engine).begin() as connection:
        for id_, at in (("D8", NOON - 1), ("D9", NOON)):
            for name in ("decisions", "verdicts"):
                connection.execute(TABLES[name].insert(), [row | {"id": id_, "at": at}])
    engine.dispose()
    whole, noon = all_rows(url), utc(NOON)
    code, out, _ = bot("backup", "b.bak", "--database", url, f"--trim={noon}")
    bot("restore", "b.bak", "--database", "back.db")

    for name in ("decisions", "verdicts"):
        at_, data = (TABLES[name].c.keys().index(column) for column in ("at", "data"))
        left = [[*found] for found in whole[name]]
        for found in left:
            found[data] = None if found[at_] < NOON else found[data]
        expected[name] = sorted(map(tuple, left), key=repr)
    assert (code, f"trimmed        2 rows of before {noon} UTC" in out) == (0, True)
    assert all_rows(url) == whole | expected
    assert all_rows(str(tmp_path / "back.db")) == whole


@pytest.mark.parametrize(
    ("typed", "error"),
    [("--trim=never", "--trim: expected a date"), ("--trim=1d", "expected no bot to run")],
)
def test_nothing_is_trimmed_by_mistake(bot: Bot, state: Path, typed: str, error: str) -> None:
    """A time that is none is refused, and a bot may not run; then nothing is written either."""
    with open(state / "claimed-c-a.json", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, _, err = bot("backup", "b.bak", typed)

    assert (code, error in err, Path("b.bak").exists()) == (2, True, False)


def test_a_file_that_a_bot_removes_meanwhile_is_none_of_it(
    bot: Bot, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are in the database by then, which is copied last."""
    gone = state / "unwritten" / "2.jsonl"
    monkeypatch.setattr(backup, "_state_files", lambda: [gone, state / "unwritten" / "1.jsonl"])

    assert "state          1 file: rows that wait" in bot("backup", "b.bak")[1]


def test_a_backup_is_of_one_moment_while_a_bot_writes(bot: Bot, tmp_path: Path) -> None:
    """What is not committed is not in it, and nobody waits."""
    url = str(tmp_path / "x.db")
    filled(url)
    engine = writing(engine_of(url))
    with engine.connect() as connection:
        connection.execute(TABLES["fills"].delete())
        code, _, _ = bot("backup", "b.bak", "--database", url)
        connection.commit()
    engine.dispose()
    bot("restore", "b.bak", "--database", str(tmp_path / "y.db"))

    assert code == 0
    assert len(all_rows(str(tmp_path / "y.db"))["fills"]) == 2


def test_a_database_of_an_earlier_version_is_upgraded_when_restored(
    bot: Bot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup outlives a version of the bot."""
    monkeypatch.setattr(backup, "_copied", lambda _, copy, typed: bool(_old(copy)))
    bot("backup", "b.bak")
    code, _, _ = bot("restore", "b.bak", "--database", str(tmp_path / "y.db"))

    engine = engine_of(str(tmp_path / "y.db"))
    assert (code, upgrade(engine)) == (0, REVISIONS[-1])
    engine.dispose()


def _old(copy: Path) -> Path:
    engine = engine_of(str(copy))
    upgrade(engine, "0001")
    with engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
    engine.dispose()
    return copy


def test_a_check_writes_nothing(bot: Bot, state: Path, tmp_path: Path) -> None:
    """It shows what is in the file."""
    bot("backup", "b.bak")
    stored = files(state)
    code, out, _ = bot("restore", "b.bak", "--check")

    assert (code, files(state)) == (0, stored)
    assert "database       none yet" in out
    assert "state          2 files: halts, rows that wait for a database" in out


# === What is refused ===


def test_no_file_is_replaced_unless_that_is_typed(bot: Bot, tmp_path: Path) -> None:
    """Whoever backs up twice has two backups, or says so."""
    (tmp_path / "b.bak").write_text("precious")
    code, _, err = bot("backup", "b.bak")

    assert (code, (tmp_path / "b.bak").read_text()) == (2, "precious")
    assert "expected a file that is not there, got b.bak: --force replaces it" in err
    assert bot("backup", "b.bak", "--force")[0] == 0


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("backup", "no/where.bak"), "expected a directory for no/where.bak, got none"),
        (("backup", "b.bak", "--database", "no.db"), "no.db, got no file"),
        (("restore", "no.bak"), "expected a backup, got no file no.bak"),
    ],
)
def test_what_is_not_there_is_named(bot: Bot, words: tuple[str, ...], error: str) -> None:
    """And nothing is left behind."""
    code, _, err = bot(*words)

    assert (code, list(Path.cwd().iterdir())) == (2, [])
    assert error in err


def test_a_wrong_passphrase_opens_nothing(bot: Bot, state: Path) -> None:
    """It is not taken for a damaged file."""
    bot("backup", "b.bak")
    code, _, err = bot("restore", "b.bak", word="wrong horse battery")

    assert code == 2
    assert "b.bak: expected the passphrase of the sealed text, got another" in err


def test_a_short_passphrase_protects_nothing(bot: Bot) -> None:
    """It is refused, and no file is left."""
    code, _, err = bot("backup", "b.bak", word="short")

    assert (code, list(Path.cwd().iterdir())) == (2, [])
    assert "expected a passphrase of 8 or more characters" in err


def test_a_file_of_a_newer_version_and_another_file_are_named(bot: Bot, tmp_path: Path) -> None:
    """Before anybody types a passphrase for nothing."""
    (tmp_path / "new.bak").write_bytes(b"dydx-bot-backup 2\nxyz")
    (tmp_path / "cat.jpg").write_bytes(b"\xff\xd8\xff")

    assert (
        "expected version 1 of a backup in new.bak, got 2: a newer" in bot("restore", "new.bak")[2]
    )
    assert "expected a backup of this bot in cat.jpg, got another" in bot("restore", "cat.jpg")[2]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a small backup one of several chunks."""
    monkeypatch.setattr(sealed, "_CHUNK", 512)


@pytest.mark.usefixtures("small_chunks")
def test_a_file_that_is_cut_anywhere_restores_nothing(
    bot: Bot, state: Path, tmp_path: Path
) -> None:
    """Also between two chunks, and before the last one."""
    (state / "days.json").write_bytes(bytes(range(256)) * 9)
    bot("backup", "b.bak")
    whole, stored = (tmp_path / "b.bak").read_bytes(), files(state)
    for size in (3, 19, 60, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.bak").write_bytes(whole[:size])
        code, _, err = bot("restore", "cut.bak")
        assert code == 2
        assert ("cut off" in err) or ("another file" in err) or ("expected version 1" in err)

    assert files(state) == stored


@pytest.mark.usefixtures("small_chunks")
def test_chunks_that_are_changed_swapped_or_left_out_are_noticed(
    bot: Bot, state: Path, tmp_path: Path
) -> None:
    """Each has its number, and the last one is marked."""
    (state / "days.json").write_bytes(b"".join(n.to_bytes(4, "big") for n in range(900)))
    bot("backup", "b.bak")
    head, chunks = _chunks((tmp_path / "b.bak").read_bytes())
    assert len(chunks) > 3
    flipped = bytes([*chunks[1][:9], chunks[1][9] ^ 1, *chunks[1][10:]])
    for wrong in (
        [chunks[0], flipped, *chunks[2:]],
        [chunks[1], chunks[0], *chunks[2:]],
        [chunks[0], *chunks[2:]],
        [*chunks, chunks[0]],
        chunks[:-1],
    ):
        (tmp_path / "wrong.bak").write_bytes(head + b"".join(wrong))
        code, _, err = bot("restore", "wrong.bak")
        assert (code, "wrong.bak" in err) == (2, True)


def _chunks(whole: bytes) -> tuple[bytes, list[bytes]]:
    start = whole.index(b"\n") + 1
    start += 4 + int.from_bytes(whole[start : start + 4], "big")
    head, rest, found = whole[:start], whole[start:], []
    while rest:
        length = 4 + int.from_bytes(rest[:4], "big")
        found.append(rest[:length])
        rest = rest[length:]
    return head, found


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("state/../../x", b"", "expected what a bot stores in w.bak, got 'state/../../x'"),
        ("state//tmp/x", b"", "expected what a bot stores in w.bak, got 'state//tmp/x'"),
        ("state/", b"", "expected what a bot stores in w.bak, got 'state/'"),
        ("/etc/passwd", b"", "expected what a bot stores in w.bak, got '/etc/passwd'"),
        ("sums.json", b'{"members": {"state/x": {}}}', "expected w.bak as its sums have it"),
        ("state/x", b"", "expected w.bak as its sums have it, got others"),
    ],
)
def test_a_file_that_somebody_else_made_writes_nowhere_else(
    bot: Bot, tmp_path: Path, name: str, content: bytes, error: str
) -> None:
    """Whoever knows the passphrase may still not choose where it writes."""
    with sealed.sealing(tmp_path / "w.bak", SecretStr(WORD)) as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    code, _, err = bot("restore", "w.bak")

    assert code == 2
    assert error in err


def test_nothing_is_restored_while_a_bot_runs(bot: Bot, state: Path) -> None:
    """Nor while one holds a subaccount."""
    bot("backup", "b.bak")
    with open(state / "claimed-c-me-0.json", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _, err = bot("restore", "b.bak")

    assert code == 2
    assert "expected no bot to run meanwhile, got one that holds claimed-c-me-0.json" in err


def test_a_running_bot_is_named_by_its_process(
    bot: Bot, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever restores knows what to end."""
    bot("backup", "b.bak")
    monkeypatch.setattr(backup, "running", lambda: {4711: Path("x")})

    assert "got process 4711: end it first" in bot("restore", "b.bak")[2]


def test_a_server_that_has_rows_is_left_alone(
    bot: Bot, tmp_path: Path, postgresql: Callable[[], str]
) -> None:
    """There is no beside in it."""
    url = postgresql()
    filled(url)
    bot("backup", "b.bak", "--database", url)
    code, _, err = bot("restore", "b.bak", "--database", url)

    assert code == 2
    assert "got rows in runs: restore into a new one" in err


def test_what_cannot_be_put_in_place_leaves_all_as_it_was(
    bot: Bot, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails at the third of several files."""
    filled(default_url())
    bot("backup", "b.bak")
    (state / "new.json").write_text("1")
    stored, rows = files(state), all_rows(default_url())
    moves = _failing_at(3)
    monkeypatch.setattr(backup, "_move", lambda *how: next(moves)(*how))  # noqa: PLW0108 - each its own
    code, _, err = bot("restore", "b.bak")

    assert code == 2
    assert "expected to put all in place, got no space: all is as it was" in err
    assert (files(state), all_rows(default_url())) == (stored, rows)


def _failing_at(count: int) -> Iterator[Callable[..., None]]:
    move = backup._move
    for _ in range(count - 1):
        yield move

    def fails(*_: object) -> None:
        raise OSError("no space")

    yield fails


def test_a_disk_that_is_full_leaves_all_as_it_was(bot: Bot, state: Path, tmp_path: Path) -> None:
    """It is full while the database is unpacked."""
    filled(default_url())
    bot("backup", "b.bak")
    stored, rows = files(state.parent), all_rows(default_url())
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        code, _, err = bot("restore", "b.bak")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)

    assert code == 2
    assert "expected room and a right to unpack b.bak, got" in err
    assert ": all is as it was" in err
    assert (files(state.parent), all_rows(default_url())) == (stored, rows)


def test_what_a_killed_copy_left_is_removed_by_the_next_one(bot: Bot, state: Path) -> None:
    """It may be as large as the database; what another process copies stays."""
    filled(default_url())
    beside = (default_database().parent, state.parent)
    for directory in beside:
        for name in ("killed", "copies"):
            (directory / f"{backup._SCRATCH}{name}").mkdir()
            (directory / f"{backup._SCRATCH}{name}" / "bot.db").write_text("a copy")
    with contextlib.ExitStack() as stack:
        for directory in beside:
            stack.enter_context(backup._held(directory / f"{backup._SCRATCH}copies"))
        assert [bot("backup", "b.bak")[0], bot("restore", "b.bak")[0]] == [0, 0]

    left = [path.name for each in beside for path in each.glob(f"{backup._SCRATCH}*")]
    assert left == [f"{backup._SCRATCH}copies"] * 2


def test_a_damaged_database_in_a_backup_is_refused(
    bot: Bot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was damaged before it was backed up: its sums are right."""
    monkeypatch.setattr(backup, "_copied", lambda _, copy, typed: bool(copy.write_text("no" * 99)))
    bot("backup", "b.bak")
    code, _, err = bot("restore", "b.bak", "--database", str(tmp_path / "y.db"))

    assert (code, (tmp_path / "y.db").exists()) == (2, False)
    assert "got a file that is no database" in err


def test_a_large_member_passes_through_in_parts(tmp_path: Path) -> None:
    """No more than a chunk is in memory, however long it is."""

    class Endless(io.RawIOBase):
        most = 0

        def read(self, size: int = -1) -> bytes:
            self.most = max(self.most, size)
            return bytes(size)

    source = Endless()
    with sealed.sealing(tmp_path / "b.bak", SecretStr(WORD)) as tar:
        member = tarfile.TarInfo("state/x")
        member.size = 8 << 20
        tar.addfile(member, source)
    with sealed.opened(tmp_path / "b.bak", SecretStr(WORD)) as members:
        sizes = [_length(file) for _, file in members]

    assert (sizes, source.most <= 1 << 20) == ([8 << 20], True)


def _length(file: IO[bytes]) -> int:
    return sum(len(part) for part in iter(lambda: file.read(65_536), b""))


def test_a_passphrase_that_is_typed_is_typed_twice(
    bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slip would lose the backup."""
    words = iter([SecretStr("one passphrase"), SecretStr("another passphrase")])
    monkeypatch.setattr(backup, "passphrase", lambda _: next(words))
    monkeypatch.delenv("DYDX_PASSPHRASE", raising=False)

    with pytest.raises(ConnError, match="expected the same passphrase twice"):
        backup._new_passphrase()


def test_a_copy_has_no_log_beside_it(tmp_path: Path) -> None:
    """It is one file, to be put in one place."""
    filled(str(tmp_path / "x.db"))
    backup._copied(str(tmp_path / "x.db"), tmp_path / "copy", typed=True)

    with sqlite3.connect(tmp_path / "copy") as copy:
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    copy.close()

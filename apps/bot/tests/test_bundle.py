"""A bundle: what one id needs to come out the same elsewhere, and nothing that is secret."""

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from bot.__main__ import main
from bot.bundle import command as making
from bot.bundle.authored import code_of
from bot.bundle.manifest import Machine, differences
from bot.bundle.parcel import (
    JOURNAL,
    LIMITS,
    MANIFEST,
    RECORDING,
    WHY,
    BundleError,
    packed,
    unpacked,
)
from bot.bundle.recorded import source_of
from bot.bundle.trail import Row, first_difference
from bot.database.tables import engine_of, runs, upgrade, writing
from bot.findings import Finding
from dydx_conn import Frame, Recording, RecordingWriter, find_recording
from dydx_strategy import StrategyError
from leaks import as_input

pytestmark = pytest.mark.traced
MNEMONIC = "abandon " * 11 + "about"
STRATEGY = """
from dydx_strategy import Decision


class Once:
    name = "once"
    done = False

    def step(self, scored, held):
        if not self.done:
            self.done = True
            yield Decision.of(scored, 500.0, "once")


strategy = Once
"""
Bot = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bot(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bot:
    """Return what types a command in an empty folder, and returns code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def typed(*words: str) -> tuple[int, str, str]:
        try:
            code = main(words)
        except SystemExit as left:
            code = int(str(left.code))
        return code, *capsys.readouterr()

    return typed


def beginning(path: Path, seconds: float = 16.0, act: str = "") -> Path:
    """Write the first seconds of the bundled recording, and maybe an act in the midst of them."""
    source = Recording(find_recording("quickstart"))
    writer = RecordingWriter(path, source.header)
    first = None
    for frame in source:
        first = frame.mono if first is None else first
        if frame.mono - first > seconds * 1e9:
            break
        writer.write_frame(frame)
        if act and frame.seq == 100:
            made = Frame(0, frame.at, frame.mono, "key", "act", act, "note")
            writer.write_frame(made)
    writer.close()
    return path


def as_recorded(made: Path, path: Path, **header: str) -> None:
    """Write the recording of a bundle again, with other words in its header."""
    source = Recording(made.parent / "short.jsonl.zst")
    writer = RecordingWriter(path, msgspec.structs.replace(source.header, **header))
    for frame in source:
        writer.write_frame(frame)
    writer.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle about the third fill of the bundled recording."""
    folder = tmp_path_factory.mktemp("made")
    recording, out = beginning(folder / "short.jsonl.zst"), folder / "F3.tar.zst"
    assert main(["bundle", "f3", str(recording), "--out", str(out)]) == 0
    return out


def test_a_bundle_comes_out_the_same_on_another_machine(made: Path, tmp_path: Path) -> None:
    """Another folder, home, time zone, language, hash seed and settings change nothing."""
    (tmp_path / "bot.yaml").write_text("profile: reckless\ndeposit: 77\n")
    elsewhere = {
        "HOME": str(tmp_path), "TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7",
        "DYDX__POLICY__MAX_LEVERAGE": "0.5", "PATH": os.environ["PATH"],
    }  # fmt: skip

    done = subprocess.run(
        [sys.executable, "-m", "bot", "bundle", "check", str(made)],
        cwd=tmp_path, env=elsewhere, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("holds") == 5


def test_it_holds_frames_journal_reasons_settings_and_versions(made: Path, tmp_path: Path) -> None:
    """The frames up to a little after the id, every entry, the wire's text, what is installed."""
    members = unpacked(made)
    manifest, rows = json.loads(members[MANIFEST]), members[JOURNAL].splitlines()
    path = tmp_path / RECORDING
    path.write_bytes(members[RECORDING])
    recording = Recording(path)
    frames = [*recording]

    assert recording.complete
    assert len(frames) == manifest["frames"] < 400
    assert msgspec.json.decode(rows[-1], type=Row).value
    assert "wire: frames" in members[WHY].decode()
    assert "FILLED" in members[WHY].decode()
    assert manifest["settings"]["profile"] == "steady"
    assert manifest["machine"]["distributions"]["bot"]
    assert {"bot", "dydx-conn", "msgspec", "reactivex"} <= {*manifest["machine"]["needed"]}
    assert "pytest" not in manifest["machine"]["needed"]


def test_an_act_is_bundled_as_anything_else(bot: Bot, tmp_path: Path) -> None:
    """Who did what, and why; and what it led to."""
    recording = beginning(tmp_path / "acted.jsonl.zst", act="a headline")

    assert bot("bundle", "a1", str(recording), "--after", "1")[0] == 0

    manifest = json.loads(unpacked(Path("bundle-A1.tar.zst"))[MANIFEST])
    assert manifest["entry"]["value"] == {"who": "key", "what": "note", "why": "a headline"}
    assert bot("bundle", "check", "bundle-A1.tar.zst")[0] == 0


def test_an_id_that_is_none_is_refused_with_the_nearest(made: Path, bot: Bot) -> None:
    """A number too high, a letter that names nothing, and what is no id at all."""
    short = str(made.parent / "short.jsonl.zst")

    assert "the nearest are F" in bot("bundle", "F999", short)[2]
    assert "the newest are" in bot("bundle", "X1", short)[2]
    code, _, error = bot("bundle", "7", short)
    assert (code, "expected an id such as D7" in error) == (2, True)


def test_a_run_without_entries_has_no_ids(bot: Bot, tmp_path: Path) -> None:
    """A recording of a moment in which nothing happened."""
    short = beginning(tmp_path / "moment.jsonl.zst", 0.5)

    code, _, error = bot("bundle", "D1", str(short), "--strategy", "none")

    assert code == 2
    assert "got D1: it has none" in error or "the newest are" in error


def test_the_same_choices_make_the_same_bytes(made: Path, bot: Bot) -> None:
    """Nothing of the moment or the folder is in it; `--force` replaces a file that is there."""
    out, short = Path("mine.tar.zst"), str(made.parent / "short.jsonl.zst")
    out.write_text("mine")

    code, _, error = bot("bundle", "F3", short, "--out", str(out))

    assert (code, out.read_text()) == (2, "mine")
    assert "--force" in error
    assert bot("bundle", "F3", short, "--out", str(out), "--force", "--json")[0] == 0
    assert out.read_bytes() == made.read_bytes()


# === Secrets ===


def test_a_secret_in_a_frame_ends_the_making(bot: Bot, tmp_path: Path) -> None:
    """Somebody gave their mnemonic in a note: it is in the recording."""
    recording = beginning(as_input(tmp_path / "spilt.jsonl.zst"), act=MNEMONIC)

    code, out, error = bot("bundle", "F3", str(recording))

    assert code == 2
    assert "expected no secret in frame #" in error
    assert "abandon" not in out + error
    assert not Path("bundle-F3.tar.zst").exists()


def test_a_secret_in_a_strategy_ends_the_making(made: Path, bot: Bot) -> None:
    """The line is named, and not repeated."""
    Path("mine.py").write_text(f'{STRATEGY}\nKEY = "{MNEMONIC}"\n')

    code, _, error = bot(
        "bundle", "D1", str(made.parent / "short.jsonl.zst"), "--strategy", "mine.py"
    )

    assert code == 2
    assert "line 17 of mine.py" in error
    assert "abandon" not in error


def test_what_a_run_left_for_the_next_is_no_secret(made: Path, bot: Bot) -> None:
    """It names the hash of that run; as a file it is in the bundle, and read from there."""
    short = str(made.parent / "short.jsonl.zst")
    assert bot("replay", short, "--save-state", "day.json", "--quiet")[0] == 0

    assert bot("bundle", "D1", short, "--state", "day.json")[0] == 0

    Path("day.json").unlink()
    assert bot("bundle", "check", "bundle-D1.tar.zst")[0] == 0
    assert unpacked(Path("bundle-D1.tar.zst"))["state.json"].startswith(b'{"source":')


def test_the_password_of_an_address_is_left_out(made: Path, bot: Bot, tmp_path: Path) -> None:
    """Who may call the indexer is nobody else's business."""
    path = as_input(tmp_path / "own.jsonl.zst")
    as_recorded(made, path, rest="https://me:hunter2@example.org/v4?key=1")

    assert bot("bundle", "F3", str(path))[0] == 0

    members = unpacked(Path("bundle-F3.tar.zst"))
    (tmp_path / RECORDING).write_bytes(members[RECORDING])
    assert Recording(tmp_path / RECORDING).header.rest == "https://example.org/v4"


# === Code of the user's own ===


def test_a_strategy_of_the_users_runs_only_where_that_is_allowed(made: Path, bot: Bot) -> None:
    """It is in the bundle; whoever checks one that somebody else made reads it first."""
    Path("mine.py").write_text(STRATEGY)
    short = str(made.parent / "short.jsonl.zst")
    assert bot("bundle", "D1", short, "--strategy", "mine.py", "--out", "D1.tar.zst")[0] == 0
    Path("mine.py").unlink()

    code, _, error = bot("bundle", "check", "D1.tar.zst")

    assert (code, "--run-code" in error) == (2, True)
    assert bot("bundle", "check", "D1.tar.zst", "--run-code")[0] == 0


def test_several_strategies_of_a_file_are_in_it(made: Path, bot: Bot) -> None:
    """If they are built in; a file of the user's among them is bundled by itself."""
    short = str(made.parent / "short.jsonl.zst")
    Path("mix.toml").write_text('[[strategies]]\nuse = "rank"\n[[strategies]]\nuse = "sniper"\n')
    out = ("--out", "mix.tar.zst")
    assert bot("bundle", "D1", short, "--strategy", "mix.toml", *out)[0] == 0
    assert bot("bundle", "check", "mix.tar.zst", "--run-code")[0] == 0

    Path("mine.py").write_text(STRATEGY)
    Path("own.toml").write_text('[[strategies]]\nuse = "mine.py"\n')
    code, _, error = bot("bundle", "D1", short, "--strategy", "own.toml")

    assert (code, "built in" in error) == (2, True)


def test_a_module_is_in_no_bundle(made: Path, bot: Bot) -> None:
    """Its code is somewhere else."""
    Path("elsewhere.py").write_text(STRATEGY)
    sys.path.insert(0, str(Path.cwd()))
    try:
        code, _, error = bot(
            "bundle", "D1", str(made.parent / "short.jsonl.zst"), "--strategy", "elsewhere"
        )
    finally:
        sys.path.pop(0)

    assert (code, "no bundle holds" in error) == (2, True)


def test_signals_of_the_users_are_in_it(tmp_path: Path) -> None:
    """As the file that they are made by; a list of strategies that is none is refused."""
    (tmp_path / "mine.py").write_text("signals = tuple")
    (tmp_path / "mix.toml").write_text("strategies = 7")

    assert code_of("rank", str(tmp_path / "mine.py"), None) == {
        "signals/mine.py": b"signals = tuple"
    }
    with pytest.raises(StrategyError, match="expected a list of strategies"):
        code_of(str(tmp_path / "mix.toml"), "", None)


@pytest.mark.parametrize("settings", ["{", "[]", "7"])
def test_settings_that_are_none_are_refused(
    made: Path, bot: Bot, settings: str, tmp_path: Path
) -> None:
    """They are read as whatever else comes from somebody else."""
    path = tmp_path / "r.jsonl.zst"
    source = Recording(made.parent / "short.jsonl.zst")
    RecordingWriter(path, msgspec.structs.replace(source.header, settings=settings)).close()
    other(made, Path("evil.tar.zst"), {RECORDING: path.read_bytes()})

    assert bot("bundle", "check", "evil.tar.zst")[0] == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "/tmp/evil.py"},
        {"strategy": "antigravity"},
        {"signals": {"use": "evil.py"}},
        {"strategy": "mix", "strategies": {"mix": {"strategies": [{"use": "evil.py"}]}}},
    ],
)
def test_a_bundle_names_no_code_of_this_machine(
    made: Path, bot: Bot, settings: dict[str, Any], tmp_path: Path
) -> None:
    """A file or a module that is not in it is never loaded."""
    path = tmp_path / "r.jsonl.zst"
    source = Recording(made.parent / "short.jsonl.zst")
    header = msgspec.structs.replace(source.header, settings=json.dumps(settings))
    RecordingWriter(path, header).close()
    other(made, Path("evil.tar.zst"), {RECORDING: path.read_bytes()})

    code, _, error = bot("bundle", "check", "evil.tar.zst")

    assert code == 2
    assert "expected" in error


# === What is no bundle ===


def resealed(members: Mapping[str, bytes], **changes: Any) -> dict[str, bytes]:
    """Return members with a manifest that fits them, some of its fields changed."""
    manifest = json.loads(members[MANIFEST]) | changes
    manifest["members"] = [
        {"name": name, "hash": hashlib.sha256(content).hexdigest()}
        for name, content in members.items()
        if name != MANIFEST
    ]
    return {**members, MANIFEST: json.dumps(manifest).encode()}


def other(made: Path, path: Path, members: Mapping[str, bytes], **changes: Any) -> None:
    """Write a bundle that differs from a good one as somebody wanted, with sums that fit."""
    path.write_bytes(packed(resealed({**unpacked(made), **members}, **changes)))


def archive(*infos: tarfile.TarInfo) -> bytes:
    """Return an archive as somebody ill-meaning would make it."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        for info in infos:
            file.addfile(info, io.BytesIO(b"x" * info.size))
    return zstandard.compress(tar.getvalue())


def info(name: str, kind: bytes = tarfile.REGTYPE, size: int = 3) -> tarfile.TarInfo:
    """Describe a member."""
    found = tarfile.TarInfo(name)
    found.type, found.size, found.linkname = kind, size, "/etc/passwd"
    return found


def huge() -> bytes:
    """Return an archive whose first member claims a terabyte, which is not there."""
    head = info(RECORDING, size=2**40).tobuf(tarfile.GNU_FORMAT)
    return zstandard.compress(head + bytes(10_000))


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "an empty file"),
    "another file": (b"PK\x03\x04 zip", "begins with b'PK"),
    "no tar": (zstandard.compress(b"x" * 600), "got no tar"),
    "no members": (zstandard.compress(bytes(1024)), f"expected {MANIFEST}"),
    "a path that leads out": (archive(info("../../.bashrc")), "got '../../.bashrc'"),
    "an absolute path": (archive(info("/etc/cron.d/x")), "got '/etc/cron.d/x'"),
    "a path that leads out below a folder": (archive(info("strategy/../x.py")), "strategy/../x"),
    "a link": (archive(info(WHY, tarfile.SYMTYPE, 0)), "which is none"),
    "a device": (archive(info(WHY, tarfile.CHRTYPE, 0)), "which is none"),
    "the same twice": (archive(info(WHY), info(WHY)), "got 'why.txt' again"),
    "a huge member": (huge(), "of at most 512 MB"),
    "a tar that is cut off": (zstandard.compress(info(WHY).tobuf()), "cut off"),
    "a manifest that is none": (packed({MANIFEST: b"[]"}), "expected a manifest"),
    "a newer version": (packed({MANIFEST: b'{"version": 99}'}), "a newer release wrote it"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_bundle_is_refused_in_words(bot: Bot, tmp_path: Path, what: str) -> None:
    """Nothing is written anywhere, nothing is run."""
    content, words = BAD[what]
    path = tmp_path / "bad.tar.zst"
    path.write_bytes(content)

    code, _, error = bot("bundle", "check", str(path))

    assert code == 2
    assert words in error


def test_damage_is_noticed_wherever_it_is(made: Path, bot: Bot, tmp_path: Path) -> None:
    """A flipped bit, a missing end, a member that was edited, a member that is missing."""
    whole, path = made.read_bytes(), tmp_path / "bad.tar.zst"
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    members = unpacked(made)
    without = {name: content for name, content in members.items() if name != WHY}
    for content, words in (
        (flipped, "damage"),
        (whole[:-100], "whole"),
        (packed(members | {WHY: b"other"}), f"got other content: {WHY}"),
        (packed(without), f"got other content: {WHY}"),
        (packed(resealed(without)), f"expected {WHY}"),
    ):
        path.write_bytes(content)
        code, _, error = bot("bundle", "check", str(path))
        assert (code, words in error) == (2, True), error


def test_a_check_needs_a_file(bot: Bot) -> None:
    """There is none to be guessed."""
    assert "bot bundle check FILE" in bot("bundle", "check")[2]
    assert "No such file" in bot("bundle", "check", "none.tar.zst")[2]


def test_nothing_larger_than_may_be_is_packed() -> None:
    """What nobody could check is not made."""
    with pytest.raises(BundleError, match="of at most 4 MB"):
        packed({MANIFEST: bytes(LIMITS[MANIFEST] + 1)})


# === What comes out otherwise ===


def test_a_difference_is_found_and_worded(made: Path, bot: Bot) -> None:
    """A bundle of a bot that decided otherwise: the hash differs, and the first entry that does."""
    rows = [json.loads(line) for line in unpacked(made)[JOURNAL].splitlines()]
    changed = next(row for row in rows if row["kind"] == "decision")
    changed |= {"sum": "0" * 16, "words": changed["words"].replace("target", "targets")}
    journal = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    other(made, Path("otherwise.tar.zst"), {JOURNAL: journal}, run_hash="f" * 64)

    code, out, _ = bot("bundle", "check", "otherwise.tar.zst")

    words = " ".join(out.split())
    assert code == 1
    assert "broken run hash" in words
    assert f"broken journal expected {changed['id']} decision" in words


def test_what_does_not_fit_is_broken(made: Path, bot: Bot) -> None:
    """An id that never comes, frames that are missing, entries that cannot be read."""
    other(made, Path("other.tar.zst"), {}, id="F9", seq=7)

    code, out, _ = bot("bundle", "check", "other.tar.zst", "--json")

    found = {row["name"]: row for row in json.loads(out)}
    assert code == 1
    assert "got none of that id" in found["entry"]["words"]
    assert "expected frames up to #7" in found["frames"]["words"]
    other(made, Path("other.tar.zst"), {JOURNAL: b"{}\n"})
    assert bot("bundle", "check", "other.tar.zst")[0] == 2


def test_a_bundle_that_does_not_repeat_is_not_made(
    made: Path, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is replayed before it is written."""
    broken = [Finding("run hash", "broken", "expected this, got that")]
    monkeypatch.setattr(making, "rerun_findings", lambda *_: broken)

    code, out, _ = bot("bundle", "F3", str(made.parent / "short.jsonl.zst"))

    assert (code, "expected this, got that" in out) == (1, True)
    assert not Path("bundle-F3.tar.zst").exists()


def row(**fields: Any) -> Row:
    """Return an entry."""
    usual: dict[str, Any] = {
        "id": "D1",
        "kind": "decision",
        "seq": 1,
        "at": 10**18,
        "sum": "a",
        "words": "buy",
    }
    return Row(**(usual | fields))


def test_the_first_difference_is_worded() -> None:
    """Other words, other figures in the same words, fewer and more."""
    assert first_difference([row()], [row()]) == ""
    assert "got D1 decision" in first_difference([row()], [row(sum="b", words="sell")])
    same = first_difference(
        [row(value={"size": 1, "held": [1, 2]})],
        [row(sum="b", value={"size": 2, "held": [1, 3]})],
    )
    assert same.endswith("the figures are not: held.1 2, got 3, size 1, got 2")
    assert first_difference([row()], [row(sum="b")]).endswith("the figures are not")
    assert first_difference([row(), row()], [row()]).endswith("got nothing more")
    assert first_difference([], [row()]).startswith("expected nothing more")


def test_frames_that_a_recording_has_lost_are_lost_here_too(made: Path, bot: Bot) -> None:
    """The numbers of the others stand: decisions name them."""
    content = bytearray((made.parent / "short.jsonl.zst").read_bytes())
    content[20_000] ^= 255
    Path("damaged.jsonl.zst").write_bytes(content)

    code, out, _ = bot("bundle", "G1", "damaged.jsonl.zst", "--after", "30")

    assert (code, "\ndamage       at 1 places" in out) == (0, True)
    assert bot("bundle", "check", "bundle-G1.tar.zst")[0] == 0


def test_what_is_installed_otherwise_is_named() -> None:
    """Python, the system, and the first distributions that differ."""
    here = Machine(python="CPython 3.11.7", platform="Linux", distributions={"bot": "1"})
    then = Machine(
        python="CPython 3.12.1", platform="Linux",
        distributions={"bot": "1", **{f"d{n}": "2" for n in range(9)}, "beside": "7"},
        needed=["bot", *(f"d{n}" for n in range(9))],
    )  # fmt: skip

    found = differences(then, here)

    assert found[0] == "Python CPython 3.12.1 there, CPython 3.11.7 here"
    assert found[1] == "d0 2 there, none here"
    assert found[-1] == "and 3 more"
    assert differences(here, here) == []


# === Runs of the database ===


def test_a_run_of_the_database_is_bundled_by_its_number(made: Path, bot: Bot) -> None:
    """The database knows which recording it has; {time} in its name is that of its beginning."""
    short = made.parent / "short.jsonl.zst"
    engine = engine_of("runs.db")
    upgrade(engine)
    usual = {"mode": "paper", "chain_id": "", "account": "a", "state": "", "config": {}}
    named = [str(short), "", str(made.parent / "sh{time}t.jsonl.zst"), "gone.jsonl.zst"]
    named += [str(made.parent / "reckless.jsonl.zst")]
    with writing(engine).begin() as connection:
        for number, name in enumerate(named, 1):
            row_ = {"id": number, "began": number, "recording": name}
            connection.execute(runs.insert(), usual | row_)
    engine.dispose()

    def found(number: int, database: str = "runs.db", recording: str | None = None) -> Path:
        typed = {"run": number, "database": database, "recording": recording, "config": None}
        return source_of(argparse.Namespace(**typed))

    def refused(number: int, **more: str) -> str:
        with pytest.raises(BundleError) as caught:
            found(number, **more)
        return str(caught.value)

    assert found(1) == found(3) == short
    assert "which has none" in refused(2)
    assert "got no file" in refused(4)
    assert "expected a run of" in refused(6)
    assert "got both" in refused(1, recording="sixty")
    assert "expected a database" in refused(1, database="no.db")
    as_recorded(made, made.parent / "reckless.jsonl.zst", settings='{"profile": "reckless"}')
    assert bot("bundle", "D1", "--run", "5", "--database", "runs.db")[0] == 0
    recorded = json.loads(unpacked(Path("bundle-D1.tar.zst"))[MANIFEST])
    assert recorded["settings"]["profile"] == "reckless"

"""`bot bundle check`: a bundle is replayed here, and what comes of it held to what came there.

    bundle ─► members, each held to its sum ─► replay, in a folder of its own ─► Trail, run hash
        ─► the same hash, the same entry; or where the two runs began to differ, in words

Settings are those of the bundle alone: no file, no variable and no profile of this machine counts.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from dydx_conn import Recording
from dydx_conn import replay as play

from bot.bundle.authored import require_known
from bot.bundle.manifest import Machine, Manifest, differences, read_manifest
from bot.bundle.parcel import JOURNAL, RECORDING, STATE, WHY, BundleError, unpacked
from bot.bundle.trail import Row, Trail, first_difference, row_words
from bot.config.configured import typed_of
from bot.config.loaded import load
from bot.findings import Finding, print_findings
from bot.live.commands import bot_for
from bot.live.runs import run_to_end
from bot.run.budget import Foreseen
from bot.run.composition import Bot

_DIGITS: Final = 16


def check(arguments: argparse.Namespace) -> int:
    """Replay a bundle and report whether it comes out the same here: 1 if it does not."""
    if arguments.recording is None:
        raise BundleError("expected a file: bot bundle check FILE, got none")
    path = Path(arguments.recording)
    members = unpacked(path)
    manifest = read_manifest(members, str(path))
    if missing := [name for name in (RECORDING, JOURNAL, WHY) if name not in members]:
        raise BundleError(f"expected {missing[0]} in {path}, got a bundle without it")
    if manifest.code and not arguments.run_code:
        what = f"expected --run-code, as {', '.join(manifest.code)} in {path} is code"
        how = f"tar --zstd -xOf {path} {manifest.code[0]}"
        raise BundleError(f"{what}, which runs with all your rights: read it first ({how})")
    findings = rerun_findings(members, manifest)
    head = [
        f"bundle      {path}, from {manifest.source}",
        f"about       {row_words(manifest.entry)}",
    ]
    return print_findings(head, findings, as_json=arguments.json)


def rerun_findings(members: Mapping[str, bytes], manifest: Manifest) -> list[Finding]:
    """Return what is the same here, and what is not."""
    with tempfile.TemporaryDirectory(prefix="bot-bundle-") as folder:
        bot, trail, damage = _rerun(members, Path(folder))
    try:
        lines = members[JOURNAL].splitlines()
        expected = [msgspec.json.decode(line, type=Row) for line in lines]
    except msgspec.MsgspecError as error:
        raise BundleError(f"expected entries in {JOURNAL}, got {error}") from None
    got = trail.rows(lambda _: True)
    last = bot.shown.last_frames[-1].seq if bot.shown.last_frames else 0
    return [
        _frames(manifest, bot.data.frames, last, damage),
        _hash(manifest, bot.journal.hash),
        _entry(manifest, got),
        _entries(expected, got),
        _versions(manifest),
    ]


def _rerun(members: Mapping[str, bytes], folder: Path) -> tuple[Bot, Trail, list[str]]:
    for name, content in members.items():
        # Names are those of bot.bundle.parcel: one folder deep at most, and none that leads out.
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    recording = Foreseen(folder / RECORDING)
    bot = bot_for(_arguments(folder, members, recording), recording)
    trail = Trail(bot.journal)
    run_to_end(bot, play(recording))
    return bot, trail, recording.damage


def _arguments(
    folder: Path, members: Mapping[str, bytes], recording: Recording
) -> argparse.Namespace:
    """Return what would be typed, with the settings of the bundle and nothing of this machine."""
    files = {name.partition("/")[0]: str(folder / name) for name in members if "/" in name}
    arguments = argparse.Namespace(
        recording=str(recording.path), config=None, strategy=files.get("strategy"),
        signals=files.get("signals"), state=str(folder / STATE) if STATE in members else None,
    )  # fmt: skip
    try:
        recorded = json.loads(recording.header.settings or "{}")
    except ValueError as error:
        raise BundleError(f"expected settings in {RECORDING}, got {error}") from None
    require_known(load(recorded=recorded, environment={}).settings, members)
    arguments.loaded = load(typed_of(arguments), recorded=recorded, environment={})
    return arguments


# === What came of it ===


def _frames(manifest: Manifest, frames: int, last: int, damage: Sequence[str]) -> Finding:
    wrong = damage[0] if damage else ""
    if not wrong and last != manifest.seq:
        wrong = f"expected frames up to #{manifest.seq}, got them up to #{last}"
    return Finding.of("frames", wrong, f"{frames:,}, from the first to #{last}, all whole")


def _hash(manifest: Manifest, got: str) -> Finding:
    wrong = "" if got == manifest.run_hash else (
        f"expected {manifest.run_hash[:_DIGITS]}…, got {got[:_DIGITS]}…"
    )  # fmt: skip
    return Finding.of("run hash", wrong, f"{got[:_DIGITS]}… as there")


def _entry(manifest: Manifest, got: Sequence[Row]) -> Finding:
    found = next((row for row in reversed(got) if row.id == manifest.id), None)
    was = manifest.entry
    if found is None:
        return Finding.of("entry", f"expected {row_words(was)}; got none of that id", "")
    wrong = first_difference([was], [found])
    return Finding.of("entry", wrong, f"{manifest.id}: the same words and the same figures")


def _entries(expected: Sequence[Row], got: Sequence[Row]) -> Finding:
    return Finding.of(
        "journal",
        first_difference(expected, got),
        f"all {len(got):,} entries up to there are the same",
    )


def _versions(manifest: Manifest) -> Finding:
    """Return what is installed otherwise: that alone is nothing wrong, but may be why."""
    found = differences(manifest.machine, Machine.here())
    count = len(manifest.machine.needed)
    same = f"Python, system and the {count} distributions that it stands on are the same"
    return Finding("versions", "holds", "; ".join(found) if found else same)

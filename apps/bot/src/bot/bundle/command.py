"""`bot bundle`: all that is needed to see one thing that the bot did again, on another machine.

    recording, or that of a run ─► replay to the id, and some seconds on ─► Trail, run hash
        ─► the frames so far, journal, why, settings, versions ─► one file
    the file ─► replayed as whoever checks it would (bot.bundle.rerun) ─► the same hash, or no file

State and hash come of all frames, so the bundle has those from the beginning to a little after the
id, and none beyond. No key is in it: whatever looks like one ends the making.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
from dydx_conn import Frame, Header, RecordingWriter
from dydx_conn import replay as play

from bot.bundle.authored import code_of, state_of
from bot.bundle.manifest import Machine, Manifest, members_of
from bot.bundle.parcel import (
    JOURNAL,
    MANIFEST,
    RECORDING,
    WHY,
    BundleError,
    packed,
    require_no_secret,
)
from bot.bundle.recorded import source_of
from bot.bundle.rerun import check, rerun_findings
from bot.bundle.trail import Row, Trail, encode, row_words
from bot.findings import as_words, exit_code
from bot.live.commands import bot_for
from bot.live.runs import run_to_end
from bot.outlet import as_lines
from bot.report.why import chain
from bot.run.budget import Foreseen
from bot.run.journal import JournalEntry
from bot.system import replacing

_AROUND_NS: Final = 60_000_000_000  # entries so near are there with all of their figures
_ID: Final = re.compile(r"([A-Z])(\d{1,9})")
_NEAREST: Final = 3


def bundle(arguments: argparse.Namespace) -> int:
    """Make a bundle about an id, or check one that somebody made; return the exit code."""
    if arguments.id.lower() == "check":
        return check(arguments)
    if (name := arguments.id.upper()) and not _ID.fullmatch(name):
        what = "expected an id such as D7, V3, G1, O3, F2 or A1, or check"
        raise BundleError(f"{what}, got {arguments.id!r}")
    out = Path(arguments.out or f"bundle-{name}.tar.zst")
    if out.exists() and not arguments.force:
        raise BundleError(f"expected a new file, got {out}, which is there: --force replaces it")
    source = source_of(arguments)
    with tempfile.TemporaryDirectory(prefix="bot-bundle-") as folder:
        manifest, members = _members(arguments, source, name, Path(folder))
    content = packed(members)
    findings = rerun_findings(members, manifest)
    if exit_code(findings):
        print(as_lines(["expected the bundle to repeat what it is about, got:", ""]))
        print(as_lines(as_words(findings)))
        return 1
    with replacing(out) as file:
        file.write(content)
    if arguments.json:
        print(json.dumps(msgspec.to_builtins(manifest), indent=2))
    else:
        print(as_lines(_words(manifest, out, len(content), members)))
    return 0


def _words(manifest: Manifest, out: Path, size: int, members: Mapping[str, bytes]) -> Iterator[str]:
    yield f"bundle       {out}, {size / 1024:,.0f} KB"
    yield f"about        {row_words(manifest.entry)}"
    yield (
        f"frames       {manifest.frames:,} of {manifest.source}, to #{manifest.seq}: "
        f"{manifest.after_s:g} s after it"
    )
    if manifest.damage:
        yield f"damage       at {manifest.damage} places the recording has lost frames: so has this"
    entries = len(members[JOURNAL].splitlines())
    yield f"journal      {entries:,} entries in {JOURNAL}, the way to the wire in {WHY}"
    for name in manifest.code:
        yield f"code         {name} is in it, and whoever checks the bundle has to let it run"
    yield f"run hash     {manifest.run_hash} there: replayed from the bundle, and the same"
    yield f"check        bot bundle check {out}"


# === What is in it ===


def _members(
    arguments: argparse.Namespace, source: Path, name: str, folder: Path
) -> tuple[Manifest, dict[str, bytes]]:
    arguments.recording = str(source)
    recording = Foreseen(source)
    bot = bot_for(arguments, recording)
    options, trail = bot.options, Trail(bot.journal)
    members = {**code_of(options.strategy, options.signals, options.config), **state_of(arguments)}
    # As it begins: what is changed on the way is an act of the recording.
    settings = "" if options.config is None else options.config.text()
    cut = Cut(name, arguments.after, trail)
    run_to_end(bot, play(recording, pace=cut.goes_on))
    entry = bot.journal.find(name)
    if entry is None:
        raise BundleError(unknown(name, trail.entries, source))
    header = _header(recording.header, settings)
    path = folder / RECORDING
    _write_recording(path, header, recording, cut.frames)
    members[RECORDING] = path.read_bytes()
    members[JOURNAL], row = _journal(trail, entry)
    members[WHY] = "".join(f"{line}\n" for line in chain(entry, bot.journal, path)).encode()
    # The way to the wire is made of frames and entries, which are looked through.
    require_no_secret(JOURNAL, members[JOURNAL].decode())
    manifest = Manifest(
        id=name, entry=row, source=source.name, made_by=header.source, frames=cut.frames,
        damage=len(recording.damage),
        seq=cut.last, after_s=arguments.after, run_hash=bot.journal.hash,
        settings=json.loads(settings or "{}"),
        code=[name for name in members if "/" in name], machine=Machine.here(),
        members=members_of(members),
    )  # fmt: skip
    members[MANIFEST] = msgspec.json.format(encode(manifest), indent=1)
    return manifest, members


class Cut:
    """Ends a replay some seconds after an id first stands in the journal; `frames` went by."""

    def __init__(self, name: str, after_s: float, trail: Trail) -> None:
        self.frames = self.last = self._mono = 0
        self._name, self._after_ns, self._trail = name, int(after_s * 1e9), trail
        self._ends: int | None = None
        self._seen = 0

    def goes_on(self, frame: Frame) -> bool:
        """Return whether a frame is still one of the bundle's."""
        for entry in self._trail.entries[self._seen :]:
            if entry.id == self._name and self._ends is None:
                self._ends = self._mono + self._after_ns
        self._seen = len(self._trail.entries)
        # An act that a frame led to has its number, and is cut off from it by nothing.
        if self._ends is not None and frame.mono > self._ends and frame.seq != self.last:
            return False
        self.frames, self.last, self._mono = self.frames + 1, frame.seq, frame.mono
        return True


def unknown(name: str, entries: Iterable[JournalEntry], source: Path) -> str:
    """Put in words that a run has no such id, and which ones are near."""
    known = dict.fromkeys(entry.id for entry in entries)
    wanted = _ID.fullmatch(name)
    number = int(wanted[2]) if wanted else 0
    alike = [one for one in known if one[0] == name[:1]]
    near = sorted(alike, key=lambda one: abs(int(one[1:]) - number))[:_NEAREST]
    newest = {one[0]: one for one in known}.values()
    which = f"the nearest are {', '.join(near)}" if near else (
        f"the newest are {', '.join(newest)}" if known else "it has none"
    )  # fmt: skip
    return f"expected an id of {source.name} with these choices, got {name}: {which}"


def _journal(trail: Trail, about: JournalEntry) -> tuple[bytes, Row]:
    rows = trail.rows(lambda entry: abs(entry.at - about.at) <= _AROUND_NS)
    row = next(row for row in reversed(rows) if row.id == about.id)
    return b"".join(encode(row) + b"\n" for row in rows), row


def _header(header: Header, settings: str) -> Header:
    """Return the header with the settings of this run, and addresses without who may call them."""
    found = msgspec.structs.replace(
        header, settings=settings, rest=_bare(header.rest), ws=_bare(header.ws)
    )
    for field in ("client", "source", "run", "settings"):
        require_no_secret(f"the recording's {field}", getattr(found, field))
    return found


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}" if parts.netloc else ""


def _write_recording(path: Path, header: Header, source: Foreseen, frames: int) -> None:
    writer = RecordingWriter(path, header)
    for number, frame in enumerate(source):
        if number == frames:
            break
        require_no_secret(f"frame #{frame.seq}", frame.text)
        # Numbers stay, also where some are missing: decisions name them.
        writer.seq = max(writer.seq, frame.seq - 1)
        writer.write_frame(frame)
    writer.close()

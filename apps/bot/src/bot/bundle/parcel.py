"""A bundle as a file: members in a tar within zstd, the same bytes for the same members.

    members, by name ──► packed ──► bytes          path ──► unpacked ──► members, by name

A bundle comes from somebody else, so nothing of it is believed: only plain files of known names
are read, none larger than it may be, and nothing is written where an archive would have it. It is
read without the tar module's own unpacking, which would follow what an archive says.
"""

import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final, cast

import zstandard
from dydx_conn import ConnError, printable, redact

from bot.config.document import holds_password

MANIFEST: Final = "manifest.json"
RECORDING: Final = "recording.jsonl.zst"
JOURNAL: Final = "journal.jsonl"
WHY: Final = "why.txt"
STATE: Final = "state.json"
_MB: Final = 1024 * 1024
# What a bundle may hold, and how large each may be; a recording is of many hours, and packed.
LIMITS: Final[Mapping[str, int]] = {
    MANIFEST: 4 * _MB, RECORDING: 512 * _MB, JOURNAL: 256 * _MB, WHY: 16 * _MB, STATE: 16 * _MB,
}  # fmt: skip
# Files of the user's own: the strategy, and what makes signals.
_CODE: Final = re.compile(r"(strategy|signals)/(?!\.)[\w.-]{1,100}\.(py|toml|json)", re.ASCII)
_CODE_BYTES: Final = 4 * _MB
_LEFT_BY: Final = re.compile(r'^{"source": ?"[0-9a-f]{64}"')
_BLOCK: Final = 512
_WINDOW: Final = 128 * _MB
_MAGIC: Final = b"\x28\xb5\x2f\xfd"


class BundleError(ConnError):
    """What is no bundle, or cannot be made one; the message has what was expected."""


def require_no_secret(where: str, text: str) -> None:
    """Refuse a text that is or holds what looks like a key, or an address with a password."""
    # The hash of a transaction looks like a key, and is as public as the chain: `redact` knows it.
    # What a run left for the next names the hash of that run, which nobody else would know.
    text = _LEFT_BY.sub('{"source":""', text)
    if holds_password(text) or redact(text) != text:
        what = f"expected no secret in {printable(where)}, got what looks like one"
        raise BundleError(f"{what}: no bundle is made, as whoever gets it would have it")


def packed(members: Mapping[str, bytes]) -> bytes:
    """Return members as one file, by name and with no time: the same bytes each time."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(members, key=lambda name: (name != MANIFEST, name)):
            most = _most(name)
            if len(members[name]) > most:
                what = f"expected {name} of at most {most // _MB} MB"
                raise BundleError(f"{what}, got {len(members[name]) / _MB:,.0f} MB")
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(members[name]), 0o644
            archive.addfile(info, io.BytesIO(members[name]))
    return zstandard.ZstdCompressor(level=9, write_checksum=True).compress(tar.getvalue())


def unpacked(path: Path) -> dict[str, bytes]:
    """Return the members of a file; `BundleError` for what is no bundle, or a damaged one."""
    try:
        with path.open("rb") as file:
            if (start := file.read(len(_MAGIC))) != _MAGIC:
                got = f"a file that begins with {start!r}" if start else "an empty file"
                raise BundleError(f"expected a bundle in {path}, got {got}")
            file.seek(0)
            unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
            source = cast("IO[bytes]", unpacker.stream_reader(file, read_across_frames=True))
            return dict(_members(source, path))
    except zstandard.ZstdError as error:
        raise BundleError(f"expected {path} to be whole, got damage: {error}") from None
    except OSError as error:
        raise BundleError(f"expected a bundle in {path}, got {error.strerror or error}") from None


def _members(source: IO[bytes], path: Path) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    while (info := _header(source, path)) is not None:
        name = printable(info.name)[:100]
        if not info.isreg():
            raise BundleError(f"expected plain files alone in {path}, got {name!r}, which is none")
        if name in seen:
            raise BundleError(f"expected each file once in {path}, got {name!r} again")
        most = _most(info.name, str(path))
        if info.size > most:
            what = f"expected {name} of at most {most // _MB} MB in {path}"
            raise BundleError(f"{what}, got {info.size / _MB:,.0f} MB")
        content = _exactly(source, info.size, path)
        _exactly(source, -info.size % _BLOCK, path)
        seen.add(name)
        yield name, content


def _header(source: IO[bytes], path: Path) -> tarfile.TarInfo | None:
    block = _exactly(source, _BLOCK, path)
    if not any(block):
        # Two empty blocks are the end; to read on checks the sum of all that was packed.
        while source.read(_MB):
            pass
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.TarError, ValueError) as error:
        raise BundleError(f"expected a bundle in {path}, got no tar: {error}") from None


def _exactly(source: IO[bytes], size: int, path: Path) -> bytes:
    content = bytearray()
    while len(content) < size:
        part = source.read(min(size - len(content), _MB))
        if not part:
            raise BundleError(f"expected {path} to be whole, got its end too early: it is cut off")
        content += part
    return bytes(content)


def _most(name: str, where: str = "a bundle") -> int:
    """Return how large a member may be; `BundleError` if there may be none of that name."""
    if _CODE.fullmatch(name):
        return _CODE_BYTES
    if name not in LIMITS:
        known = f"{', '.join(LIMITS)}, strategy/NAME or signals/NAME"
        raise BundleError(f"expected {known} in {where}, got {printable(name)[:100]!r}")
    return LIMITS[name]

"""A file that only a passphrase opens, of any length: compressed, encrypted, whole or refused.

    Sealing ──► tar ──► zstd ──► chunks, each encrypted and counted ──► FILE
    opened(FILE) ──► the same way back ──► members, in order

A first line has the format. Then comes a key, made for this file alone and sealed by the passphrase
(`dydx_conn.seal`), so that a passphrase is worked on once; then chunks by ChaCha20-Poly1305, each
numbered, and the last one marked: none can be left out, swapped, changed or cut off unnoticed.
Memory is that of a chunk.
"""

import contextlib
import io
import secrets
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, cast

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from dydx_conn import ConnError, KeyProblem, seal, unseal
from pydantic import SecretStr

from bot.system import replacing

_FORMAT: Final = b"dydx-bot-backup "
_VERSION: Final = 1
_CHUNK: Final = 1 << 20
_TAG: Final = 16
_LONGEST_KEY: Final = 65_536
_MORE: Final = b"more"
_LAST: Final = b"last"


class BackupError(ConnError):
    """A backup that cannot be made, read or restored."""


class Writer(io.RawIOBase):
    """Encrypts what is written, a chunk at a time; `finish` marks the last one."""

    def __init__(self, out: IO[bytes], passphrase: SecretStr) -> None:
        key = secrets.token_bytes(32)
        sealed = seal(key, passphrase)
        out.write(_FORMAT + str(_VERSION).encode() + b"\n" + _length(sealed) + sealed)
        self._out, self._cipher = out, ChaCha20Poly1305(key)
        self._rest, self._count = bytearray(), 0

    def writable(self) -> bool:
        """Return that it is."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # a buffer, as all do
        """Encrypt all but what is no whole chunk yet."""
        self._rest += data
        while len(self._rest) > _CHUNK:
            self._put(bytes(self._rest[:_CHUNK]), _MORE)
            del self._rest[:_CHUNK]
        return len(data)

    def finish(self) -> None:
        """Write the last chunk."""
        self._put(bytes(self._rest), _LAST)

    def _put(self, plain: bytes, which: bytes) -> None:
        # A key encrypts one file: a number is a nonce that never comes again.
        chunk = self._cipher.encrypt(self._count.to_bytes(12, "big"), plain, which)
        self._count += 1
        self._out.write(_length(chunk) + chunk)


class Reader(io.RawIOBase):
    """Decrypts a file as it is read; `BackupError` where it is not as it was written."""

    def __init__(self, file: IO[bytes], passphrase: SecretStr) -> None:
        self._file, self._name = file, str(getattr(file, "name", "the backup"))
        line = file.readline(80)
        if not line.startswith(_FORMAT):
            raise BackupError(f"expected a backup of this bot in {self._name}, got another file")
        if (version := line.removeprefix(_FORMAT).strip()) != str(_VERSION).encode():
            got = version.decode("ascii", "replace")[:20]
            what = f"expected version {_VERSION} of a backup in {self._name}, got {got}"
            raise BackupError(f"{what}: a newer bot made it")
        try:
            key = unseal(self._block(_LONGEST_KEY), passphrase)
        except KeyProblem as error:
            raise BackupError(f"{self._name}: {str(error).removeprefix('unseal: ')}") from None
        self._cipher = ChaCha20Poly1305(key)
        self._rest, self._count, self._ended = b"", 0, False

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]  # a buffer, as all do
        """Decrypt what comes next."""
        while not self._rest and not self._ended:
            self._take()
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def _take(self) -> None:
        chunk, nonce = self._block(_CHUNK + _TAG), self._count.to_bytes(12, "big")
        self._count += 1
        for which in (_MORE, _LAST):
            with contextlib.suppress(InvalidTag):
                self._rest = self._cipher.decrypt(nonce, chunk, which)
                self._ended = which == _LAST
                if self._ended and self._file.read(1):
                    raise BackupError(f"expected {self._name} to end, got more after its end")
                return
        raise BackupError(f"expected {self._name} as it was written, got a damaged one")

    def _block(self, most: int) -> bytes:
        length = int.from_bytes(head := self._file.read(4), "big")
        if len(head) == 4 and length > most:
            raise BackupError(f"expected {self._name} as it was written, got a damaged one")
        block = self._file.read(length)
        if len(head) < 4 or len(block) < length:
            raise BackupError(f"expected all of {self._name}, got a file that is cut off")
        return block


def _length(block: bytes) -> bytes:
    return len(block).to_bytes(4, "big")


# === Files ===
# Members of a backup, one after the other, by name.


@contextlib.contextmanager
def sealing(path: Path, passphrase: SecretStr) -> Iterator[tarfile.TarFile]:
    """Yield what takes members; the file is there once all of them are in it, and on the disk."""
    with replacing(path, on_disk=True) as file:
        writer = Writer(file, passphrase)
        compressor = zstandard.ZstdCompressor(level=9, write_checksum=True)
        with (
            compressor.stream_writer(cast(IO[bytes], writer), closefd=False) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            yield tar
        writer.finish()


@contextlib.contextmanager
def opened(path: Path, passphrase: SecretStr) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """Yield the members of a file, each to be read before the next one."""
    with open(path, "rb") as file:
        reader = Reader(file, passphrase)
        source = cast(IO[bytes], reader)
        unpacked = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)
        yield _members(path, unpacked)


def _members(path: Path, unpacked: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    try:
        with tarfile.open(fileobj=unpacked, mode="r|") as tar:
            for member in tar:
                found = tar.extractfile(member)
                if found is None:
                    raise BackupError(f"expected files alone in {path}, got {member.name!r}")
                yield member.name, found
        while unpacked.read(_CHUNK):  # up to the mark of its end
            pass
    except (tarfile.TarError, zstandard.ZstdError) as error:
        raise BackupError(f"expected {path} as it was written, got {error}") from None

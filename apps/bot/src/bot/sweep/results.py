"""The results of a sweep: written as they come, taken up again, and the same in every order.

    Outcome ─► a line of results.jsonl, at once ─► results by key ─► digest, results.parquet

A line is whole or is not there: one that a killed sweep left torn is cut off. One that cannot be
read, or is another than its sum at its end is of, is left out and its result made again. The digest
is over what was found, in the order of the keys; who found it, when and in which order is no part
of it.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from dydx_conn import ConnError

from bot.sweep.block import Key, Outcome
from bot.system import absent, lock

FILE: Final = "results.jsonl"
TABLE: Final = "results.parquet"
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


class Results:
    """The results in a folder, and the file that they are added to; one sweep at a time has it.

    `torn` counts what could not be read of an earlier sweep.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.found: dict[Key, Outcome] = {}
        self.torn = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Without a buffer: what could not be written is not tried again as the file is closed.
            self._file: FileIO = self.path.open("ab+", buffering=0)
        except OSError as error:
            raise ConnError(f"expected to write to {self.path}, got {_why(error)}") from None

    def __enter__(self) -> Self:
        try:
            lock(self._file.fileno())
        except BlockingIOError:
            self._file.close()
            what = f"expected {self.path} for this sweep alone"
            raise ConnError(f"{what}, got another sweep that writes to it: --out DIR") from None
        self._read()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _read(self) -> None:
        self._file.seek(0)
        whole, _, torn = self._file.read().rpartition(b"\n")
        for line in whole.splitlines():
            if (outcome := _read(line)) is None:
                self.torn += 1
            else:
                self.found[outcome.key] = outcome
        if torn:
            self.torn += 1
            self._file.truncate(len(whole) + bool(whole))

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Write results down; `ConnError` where that fails, and what was written stays."""
        fresh = [*{one.key: one for one in outcomes if one.key not in self.found}.values()]
        lines = b"".join(map(_line, fresh))
        before = self._file.seek(0, os.SEEK_END)
        try:
            while lines:
                lines = lines[self._file.write(lines) :]
        except OSError as error:
            os.ftruncate(self._file.fileno(), before)
            what = f"expected to write {len(fresh)} results to {self.path}, got {_why(error)}"
            done = f"{len(self.found)} are in it: the same command goes on with them"
            raise ConnError(f"{what}; {done}") from None
        self.found |= {one.key: one for one in fresh}


def _line(outcome: Outcome) -> bytes:
    text = _ENCODER.encode(outcome)
    return b'%s%s%s"}\n' % (text[:-1], _SUM, _sum(text))


def _read(line: bytes) -> Outcome | None:
    """Return the result of a line; None where it is not what was written."""
    fields, _, stated = line.rpartition(_SUM)
    text = fields + b"}"
    if stated != _sum(text) + b'"}':
        return None
    try:
        return msgspec.json.decode(text, type=Outcome)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # another version wrote it


def _sum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_DIGITS].encode()


_SUM: Final = b',"sum":"'
_DIGITS: Final = 16


def digest_of(outcomes: Iterable[Outcome]) -> str:
    """Return the SHA-256 over results, sorted by their keys."""
    digest = hashlib.sha256()
    for one in sorted(outcomes, key=lambda one: one.key):
        digest.update(_ENCODER.encode(one) + b"\n")
    return digest.hexdigest()


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


# === Parquet ===


def write_table(path: Path, outcomes: Sequence[Outcome], names: dict[str, str]) -> str:
    """Write results as Parquet, sorted by key; return why it was not, where pyarrow is absent.

    `names` has of each recording's hash what it goes by. Each setting that was tried is a column,
    and each figure of the total; those by market and the curve of equity are JSON.
    """
    if missing := absent("parquet", str(path.name)):
        return missing
    import pyarrow
    import pyarrow.parquet

    rows = [_row(one, names) for one in sorted(outcomes, key=lambda one: one.key)]
    new = path.with_suffix(".new")
    try:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), new)
        new.replace(path)
    except OSError as error:
        return f"expected to write {path}, got {_why(error)}"
    return ""


def _row(one: Outcome, names: dict[str, str]) -> dict[str, Any]:
    figures = one.figures
    total = msgspec.to_builtins(figures.total)
    plain = {name: value for name, value in total.items() if not isinstance(value, dict)}
    return {
        "recording": one.key.recording,
        "name": names.get(one.key.recording, ""),
        "span": one.key.span,
        "config": one.key.config,
        "code": one.key.code,
        **{path: _cell(value) for path, value in sorted(one.changes.items())},
        "run_hash": figures.run_hash,
        "failure": one.failure,
        "fidelity": figures.fidelity,
        "optimism": figures.optimism,
        "since_ns": figures.since_ns,
        "until_ns": figures.until_ns,
        **plain,
        "exits": _text(figures.total.exits),
        "markets": _text(figures.markets),
        "equity": _text(figures.equity),
    }


def _cell(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else _text(value)


def _text(value: Any) -> str:
    return _ENCODER.encode(value).decode()

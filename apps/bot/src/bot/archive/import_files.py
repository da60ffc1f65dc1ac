"""Files of rows, whatever they are packed in: CSV, JSON lines and Parquet as texts by column.

    FILE[.gz|.zst] ──► Table: columns, (place, row), …

What is cut off or damaged ends the rows, and is counted: those before it are whole. A CSV without
names has its columns numbered, from 1.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import zstandard

from bot.archive.import_rows import Tally, UnfitError
from bot.system import absent

Row = tuple[str, Mapping[str, str | None]]
"""Where a row stands, and its texts by column."""

_BROKEN: Final = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError, csv.Error)
_CUT: Final = "file that ends before its end: the rows before are taken"
_PACKED: Final = (".gz", ".zst")
KINDS: Final = ("csv", "json", "parquet")


def kind_of(path: Path) -> str:
    """Return what a file is by its name: csv, json or parquet; `UnfitError` of another."""
    names = [name for name in path.suffixes if name not in _PACKED]
    last = names[-1].lower() if names else ""
    kinds = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".json": "json", ".jsonl": "json",
             ".ndjson": "json", ".parquet": "parquet", ".pq": "parquet"}  # fmt: skip
    if last not in kinds:
        such = "FILE.csv, .ndjson or .parquet (.gz or .zst behind them)"
        raise UnfitError(f"expected {such}, got {path.name}")
    return kinds[last]


@contextmanager
def opened(path: Path) -> Iterator[IO[str]]:
    """Open a file as text, unpacked; bytes that are no UTF-8 are replaced."""
    with path.open("rb") as file:
        unpacked: Any = file
        if path.suffix == ".gz":
            unpacked = gzip.GzipFile(fileobj=file)
        elif path.suffix == ".zst":
            unpacked = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        yield io.TextIOWrapper(unpacked, "utf-8-sig", errors="replace", newline="")


def lines_of(path: Path, tally: Tally) -> Iterator[tuple[str, str]]:
    """Yield each line of a file, with its place."""
    with opened(path) as file:
        try:
            for number, line in enumerate(file, 1):
                yield f"line {number}", line.rstrip("\r\n")
        except _BROKEN:
            tally.add(_CUT, path.name)


def columns_in(path: Path) -> list[str]:
    """Return the names of a file's columns."""
    kind = kind_of(path)
    if kind == "parquet":
        return [*_parquet(path).schema_arrow.names]
    if kind == "json":
        first = next((row for _, row in _json_rows(path, Tally())), {})
        return [*first]
    try:
        with opened(path) as file:
            names, *_ = _header(file)
    except _BROKEN:
        names = []
    if not names:
        raise UnfitError(f"expected a table with a row of names, got {path}, which is empty")
    return names


def rows_of(path: Path, tally: Tally) -> Iterator[Row]:
    """Yield the rows of a file; what cannot be one is counted."""
    kind = kind_of(path)
    if kind == "parquet":
        yield from _parquet_rows(path, tally)
    elif kind == "json":
        yield from _json_rows(path, tally)
    else:
        with opened(path) as file:
            try:
                yield from _csv_rows(file, tally)
            except _BROKEN:
                tally.add(_CUT, path.name)


# === CSV ===


def _header(file: IO[str]) -> tuple[list[str], str, list[str]]:
    """Return the names of the columns, what parts them, and a first line that is a row already."""
    line = file.readline()
    delimiter = max(",;\t|", key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    if names and all(_is_number(name) for name in names[:2]):
        return [str(n) for n in range(1, len(names) + 1)], delimiter, [line]
    return names, delimiter, []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _csv_rows(file: IO[str], tally: Tally) -> Iterator[Row]:
    names, delimiter, first = _header(file)
    reader = csv.reader(chain(first, file), delimiter=delimiter)
    for cells in reader:
        place = f"line {reader.line_num + (not first)}"
        if len(cells) == len(names):
            yield place, dict(zip(names, cells, strict=True))
        elif cells:
            tally.add(f"rows without the {len(names)} cells of the first", place)


# === JSON lines ===


def _json_rows(path: Path, tally: Tally) -> Iterator[Row]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for place, line in lines_of(path, tally):
        if not line.strip():
            continue
        try:
            row = decode(line)
        except (msgspec.DecodeError, RecursionError):
            tally.add("lines that are no JSON object", place)
            continue
        yield place, {name: _text(value) for name, value in row.items()}


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool | int | float):
        return repr(value)
    return str(value)


# === Parquet ===


def _parquet(path: Path) -> Any:
    if problem := absent("parquet", "Parquet"):
        raise UnfitError(problem)
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        what = str(error).split("\n", maxsplit=1)[0][:120]
        raise UnfitError(f"expected a whole Parquet file, got {path}: {what}") from None


def _parquet_rows(path: Path, tally: Tally) -> Iterator[Row]:
    import pyarrow as pa

    number = 0
    try:
        for batch in _parquet(path).iter_batches(batch_size=10_000):
            for row in _plain(batch).to_pylist():
                number += 1
                yield f"row {number}", {name: _text(value) for name, value in row.items()}
    except (pa.ArrowException, OSError):
        tally.add(_CUT, path.name)


def _plain(batch: Any) -> Any:
    """Return a batch whose times are of microseconds: Python's have no more."""
    import pyarrow as pa

    columns = []
    for column in batch.columns:
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)

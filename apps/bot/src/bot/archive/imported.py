"""`bot import`: what people have of the past, as a recording.

    tables of trades or candles ──► rows, sorted and looked at ──► pages ─┐
    captures of books ──► frames as the venue would have sent them ───────┴─► NAME.jsonl.zst

Nothing wrong goes into it in silence: whatever is refused, sorted or guessed stands in the report.
"""

import argparse
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from dydx_conn import Frame, Header, Recording, RecordingWriter, find_recording, recording_folders

from bot.archive.import_books import TRADES, Captures, capture_of, header_of_captures
from bot.archive.import_files import columns_in, rows_of
from bot.archive.import_pages import Table, frames_of, header_of
from bot.archive.import_rows import (
    Candle,
    Clock,
    Columns,
    Reader,
    Row,
    Tally,
    Trade,
    UnfitError,
    columns_of,
    in_order,
    resolution_of,
    sided,
)
from bot.archive.spans import SUFFIX
from bot.outlet import as_lines
from bot.progress import Progress
from bot.times import utc

_PARAMETERS: Final = "sixty"  # the bundled recording with the most markets

Lines = list[str]


def import_(arguments: argparse.Namespace) -> int:
    """Import what was typed; 1 where rows were refused or are missing."""
    work = _Import(arguments, time.time_ns())
    path = _target(arguments.out, work.files, force=arguments.force)
    lines, frames, header = work.read()
    count = _write(path, header, frames)
    print(as_lines([f"{path}: {count:,} frames, {path.stat().st_size / 1e6:.2f} MB", *lines]))
    print(as_lines(work.notes()))
    return int(work.is_doubtful)


class _Import:
    """One import: what was typed, and what was noticed of each file."""

    def __init__(self, arguments: argparse.Namespace, now_ns: int) -> None:
        self.files = [Path(file) for file in arguments.file]
        self.now_ns = now_ns
        self._unit, self._zone = arguments.time_unit or "", arguments.timezone or ""
        self._columns = _mapping(arguments.map or "")
        market, _, symbol = str(arguments.market or "").partition("=")
        self._ticker, self._symbol = market.strip().upper(), symbol.strip()
        self._markets, self._of_markets = _parameters(arguments.markets)
        self._tallies: dict[Path, Tally] = {}
        self._found = set[str]()

    def read(self) -> tuple[Lines, Iterable[Frame], Header]:
        """Return lines of the report, the frames and the header of the recording."""
        for file in self.files:
            if not file.is_file():
                what = "a directory" if file.is_dir() else "which is not here"
                raise UnfitError(f"expected a file to import, got {file}, {what}")
        captures = {file: capture_of(file) for file in self.files}
        if set(captures.values()) - {"", TRADES}:
            return self._captured(captures)
        tables = self._tables()
        header = header_of(tables, self._origin, self.now_ns)
        lines = [_described(table) for table in tables]
        return lines, frames_of(tables, self._markets, header), header

    def notes(self) -> Lines:
        """Return what was noticed, file by file, and which parameters were taken."""
        notes = [
            f"{file.name}: {line}"
            for file, tally in self._tallies.items()
            for line in tally.lines()
        ]
        return [*notes, f"parameters of markets: those of {self._of_markets}"]

    @property
    def is_doubtful(self) -> bool:
        """Return whether anything was refused, or is missing."""
        return any(
            not what.endswith(_HARMLESS)
            for tally in self._tallies.values()
            for what in tally.counts
        )

    @property
    def _origin(self) -> str:
        return ", ".join(file.name for file in self.files)

    # --- tables ---

    def _tables(self) -> list[Table]:
        found: dict[tuple[str, str], list[Row]] = {}
        tallies: dict[tuple[str, str], Tally] = {}
        with Progress("files", len(self.files)) as progress:
            for file in self.files:
                kind, by_ticker = self._rows(file)
                for ticker, rows in by_ticker.items():
                    found.setdefault((ticker, kind), []).extend(rows)
                    tallies.setdefault((ticker, kind), self._tallies[file])
                progress.step(file.name)
        if lost := next((name for name in self._columns if name not in self._found), ""):
            raise UnfitError(f"--map: expected a column of some file, got {self._columns[lost]!r}")
        tables = [
            _table(ticker, kind, in_order(rows, tallies[ticker, kind]), tallies[ticker, kind])
            for (ticker, kind), rows in sorted(found.items())
        ]
        if not tables:
            why = "; ".join(self.notes()[:-1]) or "the files are empty"
            raise UnfitError(f"expected rows that can be imported, got none: {why}")
        return tables

    def _rows(self, file: Path) -> tuple[str, dict[str, list[Row]]]:
        """Read the rows of a file by market."""
        tally = self._tallies[file] = Tally()
        names = columns_in(file)
        # What is typed may be of another file: here what is not found is guessed.
        typed = {role: name for role, name in self._columns.items() if name in names}
        self._found |= typed.keys()
        columns = columns_of(names, typed if len(self.files) > 1 else self._columns)
        clock = Clock(self._unit, self._zone, now_ns=self.now_ns)
        reader, found = Reader(columns, clock, tally), dict[str, list[Row]]()
        for place, row in rows_of(file, tally):
            ticker = self._ticker_of(columns, row, tally, place)
            read = reader.read(place, row) if ticker else None
            if read is not None:
                found.setdefault(ticker, []).append(read)
        if found and not self._unit and clock.unit != "iso":
            tally.add(f"row shows that times are in {clock.unit}, {_GUESSED}")
        return columns.kind, found

    def _ticker_of(
        self, columns: Columns, row: Mapping[str, str | None], tally: Tally, place: str
    ) -> str:
        """Return the market of a row; "" of one that is not wanted, or of no market here."""
        exchange = (row.get(columns.of.get("exchange", "")) or "").strip().lower()
        if exchange and "dydx" not in exchange:
            what = f"expected rows of dYdX, got {exchange[:40]!r} at {place}"
            raise UnfitError(f"{what}: prices of another venue are no past of this one")
        symbol = (row.get(columns.of.get("symbol", "")) or "").strip()
        if self._ticker:
            if symbol and self._of(symbol) != self._ticker and symbol != self._symbol:
                tally.add("rows of other markets: not wanted")
                return ""
            return self._ticker
        ticker = self._of(symbol)
        if not symbol:
            raise UnfitError("expected --market with a market such as BTC-USD: the file names none")
        if ticker not in self._markets:
            what = f"expected markets of dYdX such as BTC-USD, got {symbol[:40]!r} at {place}"
            raise UnfitError(
                f"{what}: --market BTC-USD={symbol[:40]} takes it for that, --markets FILE has "
                "parameters of others"
            )
        return ticker

    @staticmethod
    def _of(symbol: str) -> str:
        """Return the ticker that a symbol stands for: some add what kind of market it is."""
        return symbol.upper().removesuffix("-PERP")

    # --- captures ---

    def _captured(self, captures: Mapping[Path, str]) -> tuple[Lines, Iterable[Frame], Header]:
        for file, kind in captures.items():
            if not kind:
                raise UnfitError(f"expected captures alone, got {file.name}, which is a table")
            self._tallies[file] = Tally()
        found = Captures(
            captures, self._markets, self._tallies, ticker=self._ticker, now_ns=self.now_ns
        )
        return [], found.frames(), header_of_captures(captures, self.now_ns)


_GUESSED: Final = "by their size"
# What is noted of a file and takes nothing away from it.
_HARMLESS: Final = (
    _GUESSED, "sorted", "taken once", "not wanted", "the way the price went", "which may be gaps",
    "the middle of its books",
)  # fmt: skip


def _table(ticker: str, kind: str, rows: list[Row], tally: Tally) -> Table:
    if kind == "candles":
        candles = [row for row in rows if isinstance(row, Candle)]
        return Table(ticker, kind, candles, resolution_of(candles, tally))
    return Table(ticker, kind, sided((row for row in rows if isinstance(row, Trade)), tally))


def _described(table: Table) -> str:
    since, until = utc(table.rows[0].at_ns), utc(table.rows[-1].at_ns)
    kind = f"{table.kind} of {table.resolution}" if table.resolution else table.kind
    return f"{table.ticker}: {len(table.rows):,} {kind}, {since} to {until} (UTC)"


# === What was typed ===


def _mapping(text: str) -> dict[str, str]:
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        role, equals, name = part.partition("=")
        if not equals or not name:
            raise UnfitError(f"--map: expected such as time=ts,price=px, got {part!r}")
        found[role.strip().lower()] = name.strip()
    return found


def _parameters(typed: str | None) -> tuple[dict[str, Any], str]:
    """Return the descriptions of markets by ticker, and whose they are."""
    if typed is not None and Path(typed).suffix == ".json":
        try:
            shape = dict[str, dict[str, dict[str, Any]]]
            return msgspec.json.decode(Path(typed).read_bytes(), type=shape)["markets"], typed
        except (OSError, KeyError, msgspec.DecodeError) as error:
            raise UnfitError(f"--markets: expected an answer of /v4/perpetualMarkets, got {typed}: "
                             f"{error}") from None  # fmt: skip
    recording = Recording(find_recording(typed or _PARAMETERS))
    name = f"the recording {typed}" if typed else f"the bundled recording {_PARAMETERS}"
    pages: Iterator[Frame] = iter(recording)
    for frame in pages:
        if frame.channel == "v4_markets" and frame.is_snapshot:
            contents = msgspec.json.decode(frame.text, type=dict[str, Any])["contents"]
            return dict(contents["markets"]), name
    raise UnfitError(f"--markets: expected a recording with parameters of markets, got {typed}")


# === The recording ===


def _target(out: str | None, files: list[Path], *, force: bool) -> Path:
    *above, own = recording_folders()
    here = [folder for folder in above[: len(Path.cwd().parts)] if folder.is_dir()]
    name = re.sub(r"[^a-z0-9]+", "-", files[0].name.split(".")[0].lower()).strip("-")
    path = (here[0] if here else own) / f"{name or 'imported'}{SUFFIX}"
    path = path if out is None else Path(out)
    if not path.name.endswith(SUFFIX):
        raise UnfitError(f"--out: expected a file that ends in {SUFFIX}, got {str(path)!r}")
    if path.exists() and not force:
        raise UnfitError(f"expected a new file, got {path}: --out FILE is another, or --force")
    return path


def _write(path: Path, header: Header, frames: Iterable[Frame]) -> int:
    """Write the recording in whole, or nothing; return how many frames it has."""
    part = path.with_name(f"{path.name.removesuffix(SUFFIX)}.part{SUFFIX}")
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    try:
        with closing(RecordingWriter(part, header)) as writer:
            for frame in frames:
                writer.write_frame(frame)
                count += 1
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UnfitError(f"cannot write {path}: {error.strerror or error}") from error
        raise
    return count

"""Trades of a backtest as a file: CSV for a spreadsheet, Parquet for what reads columns.

    Row by Row ─► written ─► FILE.csv: exact text │ FILE.parquet: doubles, timestamps (bot[parquet])

Both have the same names in the same order, which are stable. Times are UTC.
"""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from dydx_conn import ConnError

from bot.backtest.playing import Row
from bot.history.listing import as_csv
from bot.times import iso

FIELDS: Final = Row.__struct_fields__
_TIMES: Final = ("opened", "closed")
_NUMBERS: Final = ("size", "entry", "exit", "profit", "fees", "funding", "mae", "mfe")


def require_parquet(path: str) -> None:
    """Refuse a file of Parquet before a run where nothing writes it."""
    if not path.endswith(".parquet"):
        return
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        what = f"expected what writes Parquet for {path}, got no module {error.name}"
        raise ConnError(f"{what}: install bot[parquet], or name a .csv") from None


def write_trades(path: str, rows: Sequence[Row]) -> str:
    """Write trades to a file, by its suffix; return why that failed, "" if it did not.

    Nothing is left of a file that could not be written whole.
    """
    try:
        if path.endswith(".parquet"):
            _write_parquet(path, rows)
        else:
            Path(path).write_text(as_csv(FIELDS, [_as_text(row) for row in rows]), encoding="utf-8")
    except OSError as error:
        if Path(path).is_file():
            Path(path).unlink()
        why = error.strerror or str(error)
        return f"expected to write {len(rows)} trades to {path}, got {why.lower()}"
    return ""


def _as_text(row: Row) -> dict[str, Any]:
    return {name: _text(name, getattr(row, name)) for name in FIELDS}


def _text(name: str, value: Any) -> Any:
    if name in _TIMES:
        return iso(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    return " ".join(value) if isinstance(value, tuple) else value


def _write_parquet(path: str, rows: Sequence[Row]) -> None:
    import pyarrow
    import pyarrow.parquet

    def column(name: str) -> Any:
        values = [getattr(row, name) for row in rows]
        if name in _TIMES:
            return pyarrow.array(values, pyarrow.timestamp("ns", tz="UTC"))
        if name in _NUMBERS:
            known = [None if value is None else float(value) for value in values]
            return pyarrow.array(known, pyarrow.float64())
        return pyarrow.array([_text(name, value) for value in values], pyarrow.string())

    table = pyarrow.table({name: column(name) for name in FIELDS})
    pyarrow.parquet.write_table(table, path)

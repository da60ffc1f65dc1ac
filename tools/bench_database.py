"""What it costs to write a run down: rows a second, and what the frames' thread pays for it.

Used by tools/bench.py. The floor of a row written is the driver's own, without tables to index.
"""

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bot.database.spill import process
from bot.database.writer import Writer

ROWS = 20_000
FRAMES = 4_000
Row = tuple[str, str, str, str]


def database(_: str) -> Iterator[Row]:
    """Write orders to SQLite, as fast as it goes, and beside frames."""
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "bot.db") as writer:
        rows = [order(number) for number in range(ROWS)]
        started = time.perf_counter()
        for row in rows:
            writer.put("orders", row)
        put_s = (time.perf_counter() - started) / ROWS
        started = time.perf_counter()
        writer.flush(120.0)
        a_second = ROWS / (time.perf_counter() - started)
        yield "database: a row put", f"{put_s * 1e6:.2f} µs", "", "< 2 µs"
        yield "database: orders written", f"{a_second:,.0f} /s", f"{driver(rows):,.0f} /s", ""
        for label, every in (("no rows", 0), ("100 rows a second", 10)):
            p99, worst = frames(writer, every)
            name = f"  20 µs of work, {label}, p99"
            yield name, f"{p99:,.0f} µs", "", "the same" if every else ""
            yield "    the slowest", f"{worst:,.0f} µs", "", ""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Writer]:
    """Run a writer of a database that is open."""
    run = {"mode": "paper", "began": time.time_ns(), "chain_id": "c", "account": "a/0"}
    writer = Writer(str(path), {**run, "process": process(), "ledger": None})
    writer.start()
    writer.flush(60.0)
    try:
        yield writer
    finally:
        writer.close()


def order(number: int) -> dict[str, Any]:
    """Return a row of an order, as long as those of a run are."""
    id_ = f"0f9da948-a6fb-4c45-9edc-{number:012d}"
    return {
        "order_id": id_, "id": f"O{number}", "client_id": str(number), "ticker": "BTC-USD",
        "side": "BUY", "type": "LIMIT", "size": "0.5", "price": "93000.5", "filled": "0",
        "status": "OPEN", "reason": "", "created": number, "updated": number,
        "verdict_id": f"V{number}", "words": "BUY 0.5 at 93000.5: OPEN",
        "data": {"reported": {"id": id_, "size": "0.5", "price": "93000.5", "side": "BUY"}},
    }  # fmt: skip


def driver(rows: list[dict[str, Any]]) -> float:
    """Return how many of these rows the driver alone writes in a second."""
    names = [name for name in rows[0] if name != "data"]
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE orders ({', '.join(names)}, PRIMARY KEY (order_id))")
        marks = ", ".join("?" * len(names))
        values = [tuple(row[name] for name in names) for row in rows]
        started = time.perf_counter()
        connection.executemany(f"INSERT INTO orders VALUES ({marks})", values)
        return len(rows) / (time.perf_counter() - started)


def frames(writer: Writer, every: int) -> tuple[float, float]:
    """Work as a run does, a row put with each so many frames; return p99 and the slowest, in µs."""
    took, rows = [], iter([order(10**6 + number) for number in range(FRAMES)])
    for number in range(FRAMES):
        started = time.perf_counter_ns()
        for _ in range(1_000):
            pass
        if every and number % every == 0:
            writer.put("orders", next(rows))
        took.append(time.perf_counter_ns() - started)
        time.sleep(0.001)
    took.sort()
    return took[FRAMES * 99 // 100] / 1e3, took[-1] / 1e3

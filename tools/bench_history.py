"""A million orders, and how long any page of them takes: the database's part of tools/bench.py.

    uv run --all-packages --group dev tools/bench.py history
    uv run --all-packages --group dev tools/bench_history.py --url postgresql+psycopg://…

Orders of sixty markets over a month, by two accounts and a thousand runs, are written in bulk;
then pages of 50 are looked up by filters at random, rare and common, one name or many, at any
depth. Each is timed as a person waits for it, the count of all and the rows of the page, the least
of three looks: noise only ever adds. On a busy machine the CPU time says more; a server's is apart.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARKETS = 60
RUNS = 1_000
BEGAN_NS = 1_700_000_000_000_000_000
STATUSES = {
    "FILLED": 70.0, "CANCELLED": 20.0, "PARTIALLY_FILLED": 7.0, "OPEN": 2.0, "REJECTED": 0.95,
    "UNRESOLVED": 0.05,
}  # fmt: skip
TICKERS = [f"M{number:02}-USD" for number in range(MARKETS)]
Row = tuple[str, str, str, str]


def main(arguments: list[str]) -> int:
    """Make a database of orders, or use the one that is there, and print what pages take."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="a database that is empty, or was made by this")
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--pages", type=int, default=400)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        url = options.url or str(Path(place) / "bot.db")
        for figure, measured, floor, budget in measured_pages(url, options.orders, options.pages):
            print(f"{figure:<46}{measured:>16}{floor:>16}  {budget}", flush=True)
    return 0


def history(_: str) -> Iterator[Row]:
    """Measure a million orders in a database of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        yield from measured_pages(str(Path(place) / "bot.db"), 1_000_000, 400)


def measured_pages(url: str, orders: int, pages: int) -> Iterator[Row]:
    """Write the orders, if there are none, then look up pages; yield rows of figures."""
    from bot.database.tables import engine_of, upgrade
    from bot.history.reading import reading

    engine = engine_of(url)
    upgrade(engine)
    started = time.perf_counter()
    if written(engine, orders):
        took = time.perf_counter() - started
        yield f"{orders:,} orders, written in bulk", f"{took:.0f} s", "", ""
    engine.dispose()
    with reading(url) as connection:
        times = {name: list(looks(connection, name, pages)) for name in KINDS}
    for name, found in times.items():
        for share in (0.5, 0.99, 1.0):
            label = f"p{share * 100:g}" if share < 1 else "worst"
            wall, cpu = (
                f"{sorted(column)[min(len(found) - 1, int(share * len(found)))] * 1e3:.1f} ms"
                for column in zip(*found, strict=True)
            )
            yield f"  page of 50 {name}, {label}", wall, f"{cpu} of CPU", "< 20 ms"


KINDS = ("of all", "by time", "by filters")


def looks(connection: Any, kind: str, count: int) -> Iterator[tuple[float, float]]:
    """Look up pages of any depth; yield what each took, and what of it was our CPU time."""
    from bot.history.pages import Wanted, page_of

    rng = random.Random(7)
    for number in range(max(1, count // len(KINDS)) + 1):
        wanted = Wanted() if kind == "of all" else any_wanted(rng, plain=kind == "by time")
        pages = page_of(connection, wanted, 1, 50).total // 50 + 1
        page = rng.randrange(1, pages + 1)
        took = []
        for _ in range(3):
            wall, cpu = time.perf_counter(), time.process_time()
            page_of(connection, wanted, page, 50)
            took.append((time.perf_counter() - wall, time.process_time() - cpu))
        if number:  # the first one compiles the statements
            yield min(took)


def any_wanted(rng: random.Random, *, plain: bool) -> Any:
    """Return a filter at random: of the time alone, or of anything."""
    from bot.history.pages import Wanted

    month_ns = 30 * 86_400_000_000_000
    since = BEGAN_NS + rng.randrange(month_ns) if plain or rng.random() < 0.3 else None
    until = since + rng.randrange(1, month_ns // 2) if since and rng.random() < 0.5 else None
    if plain:
        return Wanted(since=since, until=until)
    return Wanted(
        runs=(rng.randrange(1, RUNS + 1),) if rng.random() < 0.2 else (),
        accounts=(rng.choice(ACCOUNTS),) if rng.random() < 0.2 else (),
        tickers=some(rng, TICKERS) if rng.random() < 0.5 else (),
        statuses=some(rng, [*STATUSES]) if rng.random() < 0.6 else (),
        since=since, until=until,
    )  # fmt: skip


def some(rng: random.Random, names: list[str]) -> tuple[str, ...]:
    """Return one name, mostly, or two, or half of all."""
    return tuple(rng.sample(names, rng.choice((1, 1, 1, 2, len(names) // 2))))


# === A million orders ===

ACCOUNTS = ["dydx1" + "q" * 38 + "/0", "dydx1" + "z" * 38 + "/1"]


def written(engine: Any, count: int) -> bool:
    """Write orders in bulk; the triggers rest meanwhile, and what came is counted at the end."""
    import sqlalchemy
    from bot.database import counting
    from bot.database.tables import order_blocks, orders, runs, writing

    kind = engine.dialect.name
    with writing(engine).begin() as connection:
        if connection.scalar(sqlalchemy.select(orders.c.order_id).limit(1)) is not None:
            return False
        connection.execute(runs.insert(), list(run_rows()))
        if kind == "sqlite":
            names = ("orders_come", "orders_go", "orders_change", "order_blocks_part")
            for name in names:
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            connection.exec_driver_sql("ALTER TABLE orders DISABLE TRIGGER USER")
        rows = order_rows(random.Random(1), count)
        while chunk := [row for _, row in zip(range(20_000), rows, strict=False)]:
            connection.execute(orders.insert(), chunk)
        connection.execute(order_blocks.delete())
        for statement in counting.FILL:
            connection.exec_driver_sql(statement)
        if kind == "sqlite":
            for statement in counting.TRIGGERS[kind]:
                connection.exec_driver_sql(statement)
        else:
            connection.exec_driver_sql("ALTER TABLE orders ENABLE TRIGGER USER")
    if kind == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE orders")
    return True


def run_rows() -> Iterator[dict[str, Any]]:
    """Yield runs: two thirds of them of one account."""
    for number in range(1, RUNS + 1):
        yield {
            "id": number, "mode": "paper", "network": "testnet", "chain_id": "dydx-testnet-4",
            "account": ACCOUNTS[number % 3 == 0], "began": BEGAN_NS + number, "state": "ended",
            "process": str(number),
        }  # fmt: skip


def order_rows(rng: random.Random, count: int) -> Iterator[dict[str, Any]]:
    """Yield orders, oldest first: few markets have most of them, and few statuses."""
    shares = [1 / (number + 1) for number in range(MARKETS)]
    step_ns = 30 * 86_400_000_000_000 // count
    for number in range(count):
        at = BEGAN_NS + number * step_ns
        run_id = 1 + number * RUNS // count
        status = rng.choices([*STATUSES], [*STATUSES.values()])[0]
        yield {
            "chain_id": "dydx-testnet-4", "account": ACCOUNTS[run_id % 3 == 0], "ledger": 0,
            "order_id": f"{rng.getrandbits(128):032x}", "run_id": run_id, "id": f"O{number}",
            "client_id": str(rng.getrandbits(32)), "ticker": rng.choices(TICKERS, shares)[0],
            "side": "BUY", "type": "LIMIT", "size": "0.0123", "price": "65000", "filled": "0.0123",
            "status": status, "created": at, "updated": at + 10**9, "verdict_id": f"V{number}",
            "words": f"BUY 0.0123 at 65000: {status}, filled 0.0123",
        }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

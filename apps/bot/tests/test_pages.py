"""Any page of the orders: what it has, against all rows sorted; and that no count is ever wrong."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from bot.database import counting
from bot.database.tables import (
    engine_of,
    order_blocks,
    order_counts,
    order_sums,
    orders,
    runs,
    upgrade,
    writing,
)
from bot.history import pages
from bot.history.pages import Wanted, page_of
from sqlalchemy import Connection, Engine

TICKERS = ("BTC-USD", "ETH-USD", "SOL-USD", "DOGE-USD")
STATUSES = ("FILLED", "CANCELED", "OPEN", "REJECTED")


@pytest.fixture(params=["sqlite", "postgresql"])
def small_blocks(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Engine]:
    """Return a database of each kind whose blocks are of 64 orders at most."""
    for kind, statements in counting.TRIGGERS.items():
        smaller = [one.replace("32768", "64").replace("16384", "32") for one in statements]
        monkeypatch.setitem(counting.TRIGGERS, kind, tuple(smaller))
    monkeypatch.setattr(pages, "_FEW", 8)
    monkeypatch.setattr(pages, "_SOME", 20)
    if request.param == "sqlite":
        engine = engine_of(str(tmp_path / "bot.db"))
    else:
        engine = engine_of(request.getfixturevalue("postgresql")())
    upgrade(engine)
    yield writing(engine)
    engine.dispose()


def run_row(id_: int) -> dict[str, Any]:
    """Return a run: every third one is of another account."""
    return {
        "id": id_,
        "chain_id": "c",
        "account": f"a/{id_ % 3}",
        "began": id_,
        "process": f"vm {id_} 1",
    }


def order_row(number: int, **fields: Any) -> dict[str, Any]:
    """Return an order of no interest but for what is given."""
    return {
        "chain_id": "c", "account": "a/0", "ledger": 0, "order_id": f"{number:04}", "run_id": 1,
        "id": f"O{number}", "ticker": "BTC-USD", "status": "OPEN", "created": number,
        "updated": number, **fields,
    }  # fmt: skip


def random_rows(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Return orders in no order of time, many of one instant, few of some kinds."""
    return [
        order_row(
            number, run_id=1 + number * 9 // count, created=rng.randrange(count // 3),
            ticker=rng.choices(TICKERS, (60, 30, 9, 1))[0],
            status=rng.choices(STATUSES, (70, 25, 4, 1))[0],
        )
        for number in range(count)
    ]  # fmt: skip


Counts = tuple[dict[Any, int], dict[Any, int], int]


def counted(connection: Connection) -> Counts:
    """Return what the database has counted by kind, summed by account, and in the blocks."""
    kinds = (order_counts.c.run_id, order_counts.c.ticker, order_counts.c.status)
    found = sqlalchemy.select(*kinds, sqlalchemy.func.sum(order_counts.c.n)).group_by(*kinds)
    cells = {tuple(row[:3]): int(row[3]) for row in connection.execute(found)}
    total = connection.scalar(sqlalchemy.select(sqlalchemy.func.sum(order_blocks.c.n)))
    sums = {tuple(row[:-1]): row[-1] for row in connection.execute(sqlalchemy.select(order_sums))}
    return cells, sums, int(total or 0)


def expected_counts(connection: Connection) -> Counts:
    """Return what they should be."""
    kinds = (orders.c.run_id, orders.c.ticker, orders.c.status)
    found = sqlalchemy.select(*kinds, sqlalchemy.func.count()).group_by(*kinds)
    cells = {tuple(row[:3]): int(row[3]) for row in connection.execute(found)}
    block = sqlalchemy.select(sqlalchemy.func.max(order_blocks.c.since))
    since = block.where(order_blocks.c.since <= orders.c.created).scalar_subquery()
    sides = (since, runs.c.chain_id, runs.c.account, orders.c.ticker, orders.c.status)
    summed = sqlalchemy.select(*sides, sqlalchemy.func.count()).join(orders).group_by(*sides)
    sums = {tuple(row[:-1]): row[-1] for row in connection.execute(summed)}
    return cells, sums, sum(cells.values())


def key(row: Any) -> tuple[Any, ...]:
    """Return what rows are put in order by."""
    return (row["created"], row["run_id"], row["ticker"], row["status"])


def test_every_page_by_every_filter_is_what_sorting_all_rows_gives(
    small_blocks: Engine,
) -> None:
    """Rare and common ones together, any part of the time, and accounts with many runs."""
    rng = random.Random(5)
    rows = random_rows(rng, 600)
    with small_blocks.begin() as connection:
        connection.execute(runs.insert(), [run_row(number) for number in range(1, 10)])
        connection.execute(orders.insert(), rows)
    accounts = {number: f"a/{number % 3}" for number in range(1, 10)}

    with small_blocks.connect() as connection:
        for _ in range(60):
            wanted = Wanted(
                runs=tuple(rng.sample(range(1, 10), rng.choice((0, 0, 1, 3)))),
                accounts=rng.choice([(), (), ("a/1",), ("a/9",), ("a/0", "a/1", "a/2")]),
                tickers=tuple(rng.sample(TICKERS, rng.choice((0, 0, 1, 2)))),
                statuses=tuple(rng.sample(STATUSES, rng.choice((0, 0, 1, 2)))),
                since=rng.choice([None, None, rng.randrange(200)]),
                until=rng.choice([None, None, rng.randrange(200)]),
            )
            all_of_it = [
                row for row in rows
                if (not wanted.runs or row["run_id"] in wanted.runs)
                and (not wanted.accounts or accounts[row["run_id"]] in wanted.accounts)
                and (not wanted.tickers or row["ticker"] in wanted.tickers)
                and (not wanted.statuses or row["status"] in wanted.statuses)
                and (wanted.since is None or row["created"] >= wanted.since)
                and (wanted.until is None or row["created"] < wanted.until)
            ]  # fmt: skip
            all_of_it.sort(key=key, reverse=True)
            limit = rng.choice((1, 7, 50))
            number = rng.randrange(1, len(all_of_it) // limit + 3)
            first = (number - 1) * limit

            page = page_of(connection, wanted, number, limit)
            assert (page.total, page.first) == (len(all_of_it), first)
            assert [*map(key, page.rows)] == [*map(key, all_of_it[first : first + limit])]


def test_all_pages_together_have_every_order_once(small_blocks: Engine) -> None:
    """Also those of one instant that nothing else tells apart."""
    rows = [order_row(number, created=number // 40) for number in range(400)]
    with small_blocks.begin() as connection:
        connection.execute(runs.insert(), [run_row(1)])
        connection.execute(orders.insert(), rows)

    with small_blocks.connect() as connection:
        found = [
            row["order_id"]
            for number in range(1, 60)
            for row in page_of(connection, Wanted(), number, 7).rows
        ]
    assert sorted(found) == [row["order_id"] for row in rows]


@pytest.mark.parametrize("arranged", [sorted, lambda rows: sorted(rows)[::-1], list])
def test_blocks_are_parted_in_whatever_order_orders_come(
    small_blocks: Engine, arranged: Callable[[list[int]], list[int]]
) -> None:
    """Upwards, downwards and in none, no block has more than the most."""
    times = arranged(random.Random(1).sample(range(10_000), 500))
    with small_blocks.begin() as connection:
        connection.execute(runs.insert(), [run_row(1)])
        connection.execute(
            orders.insert(), [order_row(n, created=at) for n, at in enumerate(times)]
        )
        sizes = list(connection.execute(sqlalchemy.select(order_blocks.c.n)).scalars())

    assert max(sizes) <= 64
    assert sum(sizes) == 500


def test_orders_of_one_instant_are_never_parted(small_blocks: Engine) -> None:
    """No page is lost by them."""
    with small_blocks.begin() as connection:
        connection.execute(runs.insert(), [run_row(1)])
        connection.execute(orders.insert(), [order_row(n, created=7) for n in range(200)])

        assert counted(connection) == expected_counts(connection)


def test_counts_follow_whatever_becomes_of_an_order(small_blocks: Engine) -> None:
    """It changes its status, its run and even its time, is written twice, and is deleted."""
    rng = random.Random(3)
    with small_blocks.begin() as connection:
        connection.execute(runs.insert(), [run_row(number) for number in range(1, 10)])
        connection.execute(orders.insert(), random_rows(rng, 300))
        for number in range(0, 300, 2):
            changed = {"status": rng.choice(STATUSES), "run_id": rng.randrange(1, 10)}
            which = orders.c.order_id == f"{number:04}"
            connection.execute(orders.update().where(which).values(changed))
        late = orders.c.order_id.in_([f"{number:04}" for number in range(0, 300, 5)])
        connection.execute(orders.update().where(late).values(created=orders.c.created + 77))
        connection.execute(orders.delete().where(orders.c.order_id < "0100"))

        assert counted(connection) == expected_counts(connection)


def test_orders_of_an_earlier_version_are_counted_when_it_is_upgraded(
    tmp_path: Path, postgresql: Callable[[], str]
) -> None:
    """Nothing needs to be written again."""
    for url in (str(tmp_path / "bot.db"), postgresql()):
        engine = writing(engine_of(url))
        upgrade(engine, "0002")
        with engine.begin() as connection:
            connection.execute(runs.insert(), [run_row(1)])
            connection.execute(orders.insert(), [order_row(n) for n in range(100)])
        upgrade(engine)

        with engine.connect() as connection:
            assert counted(connection) == expected_counts(connection)
            assert counted(connection)[0] == {(1, "BTC-USD", "OPEN"): 100}
        engine.dispose()

"""A million orders in the bench: here a few, so that the tool itself is known to work."""

from pathlib import Path

import pytest
from bench_history import any_wanted, main
from bot.database.tables import engine_of, orders
from bot.history.pages import Wanted, page_of


def test_pages_are_measured_of_orders_that_are_written_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second time the same database is used."""
    url = str(tmp_path / "bot.db")
    for _ in range(2):
        assert main(["--url", url, "--orders", "3000", "--pages", "9"]) == 0
    printed = capsys.readouterr().out

    assert printed.count("3,000 orders, written in bulk") == 1
    assert printed.count("page of 50 by filters, worst") == 2


def test_orders_that_are_written_in_bulk_are_counted(tmp_path: Path) -> None:
    """The triggers rest meanwhile, and are there again."""
    url = str(tmp_path / "bot.db")
    main(["--url", url, "--orders", "2000", "--pages", "1"])
    engine = engine_of(url)
    with engine.begin() as connection:
        before = page_of(connection, Wanted(), 40, 50)
        connection.execute(orders.delete().where(orders.c.id < "O5"))
        after = page_of(connection, Wanted(), 1, 50)
    engine.dispose()

    assert (before.total, len(before.rows)) == (2_000, 50)
    assert 0 < after.total < 2_000


def test_filters_are_of_every_kind() -> None:
    """Of time alone, and of all else."""
    import random

    rng = random.Random(1)
    assert {any_wanted(rng, plain=True).anything for _ in range(9)} == {True}
    assert {any_wanted(rng, plain=False).anything for _ in range(99)} == {True, False}

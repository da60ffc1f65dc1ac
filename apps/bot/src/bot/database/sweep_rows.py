"""What a sweep found, in the database: a row for each result, once.

results of a sweep ──► rows ──► store_sweep ──► table sweep_results
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy

from bot.database.tables import engine_of, explained, sweep_results, upgrade, writing


def store_sweep(url: str, rows: Sequence[dict[str, Any]]) -> int:
    """Write rows that are not there yet; return how many. `DatabaseError` if that fails."""
    engine = engine_of(url)
    try:
        upgrade(engine)
        with explained(url), writing(engine).begin() as connection:
            named = [column.name for column in sweep_results.primary_key]
            keys = sqlalchemy.select(*(sweep_results.c[name] for name in named))
            grid = sweep_results.c.config_hash.in_({row["config_hash"] for row in rows})
            known = {tuple(row) for row in connection.execute(keys.where(grid))}
            fresh = [row for row in rows if tuple(row[name] for name in named) not in known]
            if fresh:
                connection.execute(sweep_results.insert(), fresh)
            return len(fresh)
    finally:
        engine.dispose()

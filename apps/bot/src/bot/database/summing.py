"""How the counts of orders are summed over runs: a filter that names none reads no count by run.

    order_counts: insert, update, delete ──► triggers ──► order_sums, by block and account

A thousand runs have a hundred thousand counts, and a page of half of all tickers would read most of
them. The sums have a few hundred a block, however many runs there were. This is what migration 0006
makes, and a database that is new: a later change is another migration's.
"""

from typing import Final

_SAME: Final = "(since, chain_id, account, ticker, status)"

# What is there is summed.
FILL: Final = (
    """INSERT INTO order_sums (since, chain_id, account, ticker, status, n)
SELECT since, chain_id, account, ticker, status, sum(n) FROM order_counts
JOIN runs ON runs.id = order_counts.run_id GROUP BY 1, 2, 3, 4, 5""",
)


def _added(n: str) -> str:
    return f"""
    INSERT INTO order_sums (since, chain_id, account, ticker, status, n)
        SELECT NEW.since, chain_id, account, NEW.ticker, NEW.status, {n} FROM runs
        WHERE id = NEW.run_id
        ON CONFLICT {_SAME} DO UPDATE SET n = order_sums.n + excluded.n;"""


_OF_IT: Final = """since = OLD.since AND ticker = OLD.ticker AND status = OLD.status
        AND (chain_id, account) = (SELECT chain_id, account FROM runs WHERE id = OLD.run_id)"""
_TAKEN: Final = f"""
    UPDATE order_sums SET n = n - OLD.n WHERE {_OF_IT};
    DELETE FROM order_sums WHERE {_OF_IT} AND n = 0;"""

_SQLITE: Final = (
    f"CREATE TRIGGER order_counts_come AFTER INSERT ON order_counts BEGIN{_added('NEW.n')}\nEND",
    f"CREATE TRIGGER order_counts_go AFTER DELETE ON order_counts BEGIN{_TAKEN}\nEND",
    f"""CREATE TRIGGER order_counts_change AFTER UPDATE OF n ON order_counts
BEGIN{_added("NEW.n - OLD.n")}\nEND""",
)

_POSTGRESQL: Final = (
    f"""CREATE FUNCTION sum_orders() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN{_added("NEW.n")}
    ELSIF TG_OP = 'UPDATE' THEN{_added("NEW.n - OLD.n")}
    ELSE{_TAKEN}
    END IF;
    RETURN NULL;
END $$""",
    """CREATE TRIGGER order_counts_come_and_go AFTER INSERT OR UPDATE OF n OR DELETE ON order_counts
FOR EACH ROW EXECUTE FUNCTION sum_orders()""",
)

# What sums from then on, by dialect.
TRIGGERS: Final = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}

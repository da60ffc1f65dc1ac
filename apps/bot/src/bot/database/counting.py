"""How the database counts its orders as they come and change, so that any page of them is found.

    orders: insert, update, delete ──► triggers ──► order_counts, a block of time after the other

A block begins at `since` and ends where the next one begins. One that grows too large is parted in
its middle, as a B-tree does it, in whatever order the orders come. Triggers do it, so that the
counts are those of the rows whoever writes them, and in the same transaction. This is what
migration 0003 makes, and a database that is new: a later change is another migration's.
"""

from typing import Final

# No `%` in any of it: one driver takes that for a parameter, the other one does not.
_MOST: Final = 32_768  # orders of a block: then it is parted
_HALF: Final = _MOST // 2
_FIRST: Final = -(2**63) + 1
_LAST: Final = 2**63 - 1
_LOCK: Final = 0x6479436F  # of PostgreSQL: who counts, one at a time

_SAME: Final = "(since, run_id, ticker, status)"

# What is there is counted: blocks of two thirds of the most, then what each of them has.
FILL: Final = (
    f"INSERT INTO order_blocks (since, n) VALUES ({_FIRST}, 0)",
    f"""INSERT INTO order_blocks (since, n) SELECT DISTINCT created, 0 FROM (
    SELECT created, row_number() OVER (ORDER BY created) AS place FROM orders
) AS placed WHERE place / {_MOST // 3 * 2} * {_MOST // 3 * 2} = place""",
    """INSERT INTO order_counts (since, run_id, ticker, status, n)
SELECT (SELECT max(since) FROM order_blocks WHERE since <= created),
    run_id, ticker, status, count(*) FROM orders GROUP BY 1, 2, 3, 4""",
    """UPDATE order_blocks SET n = coalesce(
    (SELECT sum(c.n) FROM order_counts AS c WHERE c.since = order_blocks.since), 0)""",
)


def _block(row: str) -> str:
    return f"(SELECT max(since) FROM order_blocks WHERE since <= {row}.created)"


def _added(row: str) -> str:
    return f"""
    INSERT INTO order_counts VALUES ({_block(row)}, {row}.run_id, {row}.ticker, {row}.status, 1)
        ON CONFLICT {_SAME} DO UPDATE SET n = n + 1;
    UPDATE order_blocks SET n = n + 1 WHERE since = {_block(row)};"""


def _taken(row: str) -> str:
    return f"""
    UPDATE order_counts SET n = n - 1 WHERE since = {_block(row)} AND run_id = {row}.run_id
        AND ticker = {row}.ticker AND status = {row}.status;
    DELETE FROM order_counts WHERE since = {_block(row)} AND run_id = {row}.run_id
        AND ticker = {row}.ticker AND status = {row}.status AND n = 0;
    UPDATE order_blocks SET n = n - 1 WHERE since = {_block(row)};"""


_SQLITE: Final = (
    f"CREATE TRIGGER orders_come AFTER INSERT ON orders BEGIN{_added('NEW')}\nEND",
    f"CREATE TRIGGER orders_go AFTER DELETE ON orders BEGIN{_taken('OLD')}\nEND",
    f"""CREATE TRIGGER orders_change AFTER UPDATE OF run_id, ticker, status, created ON orders
WHEN (OLD.run_id, OLD.ticker, OLD.status, OLD.created)
    IS NOT (NEW.run_id, NEW.ticker, NEW.status, NEW.created)
BEGIN{_taken("OLD")}{_added("NEW")}\nEND""",
    # Most of one instant are never parted: it is tried again with so many more alone.
    f"""CREATE TRIGGER order_blocks_part AFTER UPDATE OF n ON order_blocks
WHEN NEW.n > OLD.n AND NEW.n >= {_MOST} AND NEW.n / {_HALF} * {_HALF} = NEW.n
BEGIN
    INSERT OR IGNORE INTO order_blocks SELECT created, 0 FROM orders
        WHERE created >= NEW.since AND created < coalesce(
            (SELECT min(since) FROM order_blocks WHERE since > NEW.since), {_LAST})
        ORDER BY created LIMIT 1 OFFSET {_HALF};
    DELETE FROM order_counts WHERE since = NEW.since;
    INSERT INTO order_counts SELECT
        (SELECT max(since) FROM order_blocks WHERE since <= created) AS block,
        run_id, ticker, status, count(*) FROM orders
        WHERE created >= NEW.since AND NOT EXISTS
            (SELECT 1 FROM order_counts AS c WHERE c.since =
                (SELECT max(since) FROM order_blocks WHERE since <= orders.created))
        GROUP BY 1, 2, 3, 4;
    UPDATE order_blocks SET n =
        (SELECT coalesce(sum(c.n), 0) FROM order_counts AS c WHERE c.since = order_blocks.since)
        WHERE since IN
            (SELECT since FROM order_blocks WHERE since >= NEW.since ORDER BY since LIMIT 2);
END""",
)

# There a row's trigger comes after the whole statement, which may have changed more rows: a block
# is parted before the next statement, when every row is counted.
_POSTGRESQL: Final = (
    f"""CREATE FUNCTION part_orders() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    low bigint;
    high bigint;
    middle bigint;
BEGIN
    PERFORM pg_advisory_xact_lock({_LOCK});
    FOR low IN SELECT since FROM order_blocks WHERE n >= {_MOST} LOOP
        high := coalesce((SELECT min(since) FROM order_blocks WHERE since > low), {_LAST});
        SELECT created INTO middle FROM orders WHERE created >= low AND created < high
            ORDER BY created LIMIT 1 OFFSET {_HALF};
        CONTINUE WHEN middle IS NULL OR middle <= low;
        DELETE FROM order_counts WHERE since = low;
        INSERT INTO order_blocks VALUES (middle, 0);
        INSERT INTO order_counts SELECT CASE WHEN created < middle THEN low ELSE middle END,
            run_id, ticker, status, count(*) FROM orders
            WHERE created >= low AND created < high GROUP BY 1, 2, 3, 4;
        UPDATE order_blocks SET n =
            (SELECT coalesce(sum(c.n), 0) FROM order_counts AS c WHERE c.since = order_blocks.since)
            WHERE since IN (low, middle);
    END LOOP;
    RETURN NULL;
END $$""",
    f"""CREATE FUNCTION count_orders() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    block bigint;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        block := {_block("OLD")};
        UPDATE order_counts SET n = n - 1 WHERE since = block AND run_id = OLD.run_id
            AND ticker = OLD.ticker AND status = OLD.status;
        DELETE FROM order_counts WHERE since = block AND run_id = OLD.run_id
            AND ticker = OLD.ticker AND status = OLD.status AND n = 0;
        UPDATE order_blocks SET n = n - 1 WHERE since = block;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        block := {_block("NEW")};
        INSERT INTO order_counts VALUES (block, NEW.run_id, NEW.ticker, NEW.status, 1)
            ON CONFLICT {_SAME} DO UPDATE SET n = order_counts.n + 1;
        UPDATE order_blocks SET n = n + 1 WHERE since = block;
    END IF;
    RETURN NULL;
END $$""",
    """CREATE TRIGGER orders_part BEFORE INSERT OR UPDATE OR DELETE ON orders
FOR EACH STATEMENT EXECUTE FUNCTION part_orders()""",
    """CREATE TRIGGER orders_come_and_go AFTER INSERT OR DELETE ON orders
FOR EACH ROW EXECUTE FUNCTION count_orders()""",
    """CREATE TRIGGER orders_change AFTER UPDATE OF run_id, ticker, status, created ON orders
FOR EACH ROW WHEN ((OLD.run_id, OLD.ticker, OLD.status, OLD.created)
    IS DISTINCT FROM (NEW.run_id, NEW.ticker, NEW.status, NEW.created))
EXECUTE FUNCTION count_orders()""",
)

# What counts from then on, by dialect.
TRIGGERS: Final = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}

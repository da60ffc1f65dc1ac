"""How the database sums up equity by day: what runs have earned is seen without all of its points.

    equity_points: insert ──► trigger ──► equity_days: first, last, least, most, drawdown

A point is never changed and never deleted. This is what migration 0007 makes, and a database that
is new: a later change is another migration's.
"""

from typing import Final

DAY_NS: Final = 86_400_000_000_000

_COLUMNS: Final = "run_id, day, began, ended, first, last, least, most, drawdown"

# What is there is summed up: the ends of each day are looked up by their times.
FILL: Final = (
    f"""INSERT INTO equity_days ({_COLUMNS})
SELECT days.run_id, day, began, ended, a.equity, b.equity, least, most, deepest FROM (
    SELECT run_id, at / {DAY_NS} AS day, min(at) AS began, max(at) AS ended,
        min(equity) AS least, max(equity) AS most, max(drawdown) AS deepest
    FROM equity_points GROUP BY 1, 2
) AS days
JOIN equity_points AS a ON a.run_id = days.run_id AND a.at = began
JOIN equity_points AS b ON b.run_id = days.run_id AND b.at = ended""",
)


def _better(name: str, by: str, sign: str) -> str:
    new, old = f"excluded.{by}", f"equity_days.{by}"
    taken = f"{old} IS NULL OR {new} {sign} {old}"
    return f"{name} = CASE WHEN {taken} THEN excluded.{name} ELSE equity_days.{name} END"


_ADDED: Final = f"""
    INSERT INTO equity_days ({_COLUMNS})
        VALUES (NEW.run_id, NEW.at / {DAY_NS}, NEW.at, NEW.at,
            NEW.equity, NEW.equity, NEW.equity, NEW.equity, NEW.drawdown)
        ON CONFLICT (run_id, day) DO UPDATE SET
            {_better("first", "began", "<")}, {_better("last", "ended", ">")},
            {_better("began", "began", "<")}, {_better("ended", "ended", ">")},
            {_better("least", "least", "<")}, {_better("most", "most", ">")},
            {_better("drawdown", "drawdown", ">")};"""

# What sums up from then on, by dialect.
TRIGGERS: Final = {
    "sqlite": (
        f"CREATE TRIGGER equity_comes AFTER INSERT ON equity_points BEGIN{_ADDED}\nEND",
    ),
    "postgresql": (
        f"""CREATE FUNCTION sum_equity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN{_ADDED}
    RETURN NULL;
END $$""",
        """CREATE TRIGGER equity_comes AFTER INSERT ON equity_points
FOR EACH ROW EXECUTE FUNCTION sum_equity()""",
    ),
}  # fmt: skip

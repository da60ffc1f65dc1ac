"""Sum the counts of orders over runs, so that a filter that names none reads none by run."""

import sqlalchemy as sa
from alembic import op

from bot.database.summing import FILL, TRIGGERS

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Sum the counts of orders over runs; the indices that stood in for it go."""
    op.drop_index("ix_order_counts_status_since_ticker_run_id_n", "order_counts")
    op.create_table(
        "order_sums",
        sa.Column("since", sa.BigInteger(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False)
          for name in ("chain_id", "account", "ticker", "status")),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("since", "chain_id", "account", "ticker", "status"),
        sqlite_with_rowid=False,
    )  # fmt: skip
    for statement in (*FILL, *TRIGGERS[op.get_bind().dialect.name]):
        op.get_bind().exec_driver_sql(statement)

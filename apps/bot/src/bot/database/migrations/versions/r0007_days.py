"""Sum up equity by day: what runs have earned is seen without all of its points."""

import sqlalchemy as sa
from alembic import op

from bot.database.days import FILL, TRIGGERS

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Sum up equity by day."""
    op.create_table(
        "equity_days",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("began", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=True)
          for name in ("first", "last", "least", "most")),
        sa.Column("drawdown", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "day"),
    )  # fmt: skip
    for statement in (*FILL, *TRIGGERS[op.get_bind().dialect.name]):
        op.get_bind().exec_driver_sql(statement)

"""Count the orders as they come, and index what the pages of them are found by."""

import sqlalchemy as sa
from alembic import op

from bot.database.counting import FILL, TRIGGERS

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Count the orders as they come, and index what the pages of them are found by."""
    for columns in ("created", "run_id_created", "status_created", "ticker_created",
                    "ticker_status_created"):  # fmt: skip
        op.drop_index(f"ix_orders_{columns}_order_id", "orders")
    for names in (
        ("created", "run_id", "ticker", "status"),
        ("run_id", "ticker", "status", "created"),
        ("run_id", "id"),
    ):
        op.create_index(f"ix_orders_{'_'.join(names)}", "orders", list(names))
    op.create_index("ix_fills_chain_id_account_ledger_ticker_at", "fills",
                    ["chain_id", "account", "ledger", "ticker", "at"])  # fmt: skip
    op.create_table(
        "order_blocks",
        sa.Column("since", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("since"),
    )
    op.create_table(
        "order_counts",
        sa.Column("since", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ticker", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("since", "run_id", "ticker", "status"),
        sqlite_with_rowid=False,
    )
    for statement in (*FILL, *TRIGGERS[op.get_bind().dialect.name]):
        op.get_bind().exec_driver_sql(statement)

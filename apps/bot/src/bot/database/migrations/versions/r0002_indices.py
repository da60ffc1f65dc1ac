"""Index what is looked for."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Index what is looked for."""
    op.create_index(
        "ix_runs_chain_id_account_began", "runs", ["chain_id", "account", "began"], unique=False
    )
    op.create_index("ix_errors_minute", "errors", ["minute"], unique=False)
    op.create_index("ix_fills_at_fill_id", "fills", ["at", "fill_id"], unique=False)
    op.create_index("ix_fills_order_id", "fills", ["order_id"], unique=False)
    op.create_index("ix_fills_run_id_at", "fills", ["run_id", "at"], unique=False)
    op.create_index("ix_funding_payments_at", "funding_payments", ["at"], unique=False)
    op.create_index(
        "ix_order_changes_order_id_at", "order_changes", ["order_id", "at"], unique=False
    )
    op.create_index("ix_orders_created_order_id", "orders", ["created", "order_id"], unique=False)
    op.create_index(
        "ix_orders_run_id_created_order_id",
        "orders",
        ["run_id", "created", "order_id"],
        unique=False,
    )
    op.create_index(
        "ix_orders_status_created_order_id",
        "orders",
        ["status", "created", "order_id"],
        unique=False,
    )
    op.create_index(
        "ix_orders_ticker_created_order_id",
        "orders",
        ["ticker", "created", "order_id"],
        unique=False,
    )
    op.create_index(
        "ix_orders_ticker_status_created_order_id",
        "orders",
        ["ticker", "status", "created", "order_id"],
        unique=False,
    )
    op.create_index("ix_positions_run_id", "positions", ["run_id"], unique=False)
    op.create_index("ix_positions_status_opened", "positions", ["status", "opened"], unique=False)
    op.create_index("ix_positions_ticker_opened", "positions", ["ticker", "opened"], unique=False)
    op.create_index("ix_transfers_at", "transfers", ["at"], unique=False)

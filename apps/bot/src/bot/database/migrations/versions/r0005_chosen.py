"""Index the counts of orders by what is chosen: a thousand runs have a hundred thousand of them."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Index the counts of orders by what is chosen."""
    for names in (
        ("ticker", "status", "since", "run_id", "n"),
        ("status", "since", "ticker", "run_id", "n"),
        ("run_id", "since", "ticker", "status", "n"),
    ):
        op.create_index(f"ix_order_counts_{'_'.join(names)}", "order_counts", list(names))

"""Store what variants of settings came to on recordings."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Store what variants of settings came to on recordings."""
    texts = ("grid", "name", "run_hash", "fidelity", "failure")
    op.create_table(
        "sweep_results",
        *(sa.Column(name, sa.Text(), nullable=False)
          for name in ("recording", "span", "config_hash", "code")),
        sa.Column("at", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), server_default="", nullable=False) for name in texts),
        sa.Column("profit", sa.Float(), nullable=True),
        sa.Column("trades", sa.Integer(), nullable=False),
        sa.Column("changes", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("figures", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("recording", "span", "config_hash", "code"),
    )  # fmt: skip

"""What each decision is about, as a hash."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; of decisions that are there already it is not known."""
    op.add_column("decision", sa.Column("content", sa.String(64)))


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("decision") as table:
        table.drop_column("content")

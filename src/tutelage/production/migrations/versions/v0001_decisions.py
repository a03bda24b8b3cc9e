"""Decisions, and how often each advertisement was shown in a week."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "decision",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("ad_id", sa.String(512), nullable=False),
        sa.Column("model_version", sa.String(128), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("decision", sa.String(64), nullable=False),
        sa.Column("variant", sa.String(128), nullable=False),
        sa.Column("shadow", sa.Boolean(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("image", sa.Text()),
        sa.Column("headline", sa.Text()),
        sa.Column("subtask", sa.Text()),
        sa.UniqueConstraint("ad_id", "model_version", name="decision_once"),
    )
    op.create_index("decision_time", "decision", ["decided_at"])
    op.create_table(
        "impressions",
        sa.Column("ad_id", sa.String(512), primary_key=True),
        sa.Column("week", sa.String(8), primary_key=True),
        sa.Column("impressions", sa.Float(), nullable=False),
    )
    op.create_index("impressions_week", "impressions", ["week"])


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("impressions")
    op.drop_table("decision")

"""Audits: what was drawn, who looks at it, and the verdicts."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("drawn_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
    )
    op.create_table(
        "audit_stratum",
        sa.Column("week", sa.String(8), primary_key=True),
        sa.Column("variant", sa.String(128), primary_key=True),
        sa.Column("audit_id", sa.Integer(), sa.ForeignKey("audit.id"), nullable=False),
        sa.Column("impressions", sa.Float(), nullable=False),
        sa.Column("ads", sa.Integer(), nullable=False),
    )
    op.create_table(
        "audit_item",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("audit_id", sa.Integer(), sa.ForeignKey("audit.id"), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("ad_id", sa.String(512), nullable=False),
        sa.Column("week", sa.String(8)),
        sa.Column("variant", sa.String(128)),
        sa.Column("impressions", sa.Float()),
        sa.Column("probability", sa.Float()),
        sa.Column("label", sa.String(64)),
        sa.Column("image", sa.Text()),
        sa.Column("headline", sa.Text()),
        sa.Column("subtask", sa.Text()),
        sa.UniqueConstraint("audit_id", "place", name="item_place"),
    )
    op.create_table(
        "verdict",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("item_id", sa.Integer(), sa.ForeignKey("audit_item.id"), nullable=False),
        sa.Column("moderator", sa.String(64), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("given_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("item_id", "moderator", name="verdict_once"),
    )
    op.create_table(
        "lease",
        sa.Column("item_id", sa.Integer(), sa.ForeignKey("audit_item.id"), primary_key=True),
        sa.Column("moderator", sa.String(64), primary_key=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for name in ("lease", "verdict", "audit_item", "audit_stratum", "audit"):
        op.drop_table(name)

"""The tables of the decision log, as `migrations` makes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)


class Time(TypeDecorator[datetime]):
    """A moment in UTC, with its zone in Python whatever the database keeps."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return what is stored: SQLite has no zones, so that its times are UTC and do not say so."""
        if value is None:
            return None
        assert value.tzinfo is not None
        return value.astimezone(UTC).replace(tzinfo=None) if dialect.name == "sqlite" else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData()


def _table(name: str, *parts: Any) -> Table:
    return Table(name, metadata, *parts)


decisions = _table(
    "decision",
    Column("id", Integer, primary_key=True),
    Column("ad_id", String(512), nullable=False),
    Column("model_version", String(128), nullable=False),
    Column("score", Float, nullable=False),
    Column("decision", String(64), nullable=False),
    Column("variant", String(128), nullable=False),
    Column("shadow", Boolean, nullable=False),
    Column("decided_at", Time, nullable=False),
    Column("image", Text),
    Column("headline", Text),
    Column("subtask", Text),
    Column("content", String(64)),
    UniqueConstraint("ad_id", "model_version", name="decision_once"),
    Index("decision_time", "decided_at"),
)

impressions = _table(
    "impressions",
    Column("ad_id", String(512), primary_key=True),
    Column("week", String(8), primary_key=True),
    Column("impressions", Float, nullable=False),
    Index("impressions_week", "week"),
)

audits = _table(
    "audit",
    Column("id", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("drawn_at", Time, nullable=False),
    Column("seed", Integer, nullable=False),
)

strata = _table(
    "audit_stratum",
    Column("week", String(8), primary_key=True),
    Column("variant", String(128), primary_key=True),
    Column("audit_id", Integer, ForeignKey("audit.id"), nullable=False),
    Column("impressions", Float, nullable=False),
    Column("ads", Integer, nullable=False),
)

items = _table(
    "audit_item",
    Column("id", Integer, primary_key=True),
    Column("audit_id", Integer, ForeignKey("audit.id"), nullable=False),
    Column("place", Integer, nullable=False),
    Column("wanted", Integer, nullable=False),
    Column("ad_id", String(512), nullable=False),
    Column("week", String(8)),
    Column("variant", String(128)),
    Column("impressions", Float),
    Column("probability", Float),
    Column("label", String(64)),
    Column("image", Text),
    Column("headline", Text),
    Column("subtask", Text),
    UniqueConstraint("audit_id", "place", name="item_place"),
)

verdicts = _table(
    "verdict",
    Column("id", Integer, primary_key=True),
    Column("item_id", Integer, ForeignKey("audit_item.id"), nullable=False),
    Column("moderator", String(64), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("given_at", Time, nullable=False),
    UniqueConstraint("item_id", "moderator", name="verdict_once"),
)

leases = _table(
    "lease",
    Column("item_id", Integer, ForeignKey("audit_item.id"), primary_key=True),
    Column("moderator", String(64), primary_key=True),
    Column("until", Time, nullable=False),
)

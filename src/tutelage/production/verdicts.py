"""Verdicts of moderators: who looks at what, and what they say, with several at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from tutelage.production.database import Database
from tutelage.production.tables import audits, items, leases, verdicts

Verdict = Literal["acceptable", "defective", "unsure"]
LEASE = timedelta(minutes=10)


class Taken(ValueError):
    """The advertisement went to another moderator, when this one's time for it had run out."""


@dataclass(frozen=True)
class Item:
    """What a moderator looks at.

    Attributes:
        id: of the item.
        ad_id: the advertisement.
        image: path of its image.
        headline: its text.
        subtask: what the model takes the defect for, if it is one.
        verdict: what this moderator said of it before, where he has taken that back.
    """

    id: int
    ad_id: str
    image: str | None
    headline: str | None
    subtask: str | None
    verdict: str | None = None


@dataclass(frozen=True)
class Progress:
    """Verdicts given, by anyone and by this moderator, and asked for."""

    given: int
    mine: int
    wanted: int


class Desk:
    """Hands out what is to be judged, each advertisement to as many moderators as are wanted, and keeps the verdicts.

    An advertisement is lent to a moderator for some minutes; when these are over and no verdict was given, another may get it.
    One's own verdict may be given again, which replaces it, and be taken back.

    Args:
        database: with audits.
        lease: for how long an advertisement is lent.
    """

    def __init__(self, database: Database, lease: timedelta = LEASE) -> None:
        self.database = database
        self.lease = lease

    def next(self, moderator: str) -> Item | None:
        """Return what the moderator is to judge: what he has, or else the next that is free; None where nothing is."""
        return self.database.write(lambda connection: self._next(connection, moderator))

    def give(self, item: int, moderator: str, verdict: str) -> None:
        """Keep a verdict; one that was given before is replaced.

        Raises:
            ValueError: no such verdict or item.
            Taken: others have judged it, or have it.
        """
        if verdict not in get_args(Verdict):
            raise ValueError(f"verdict={verdict!r} must be one of {', '.join(get_args(Verdict))}")
        self.database.write(lambda connection: self._give(connection, item, moderator, verdict))

    def undo(self, moderator: str) -> Item | None:
        """Take back the moderator's last verdict and lend him that advertisement again; None where he gave none."""
        return self.database.write(lambda connection: self._undo(connection, moderator))

    def progress(self, moderator: str) -> Progress:
        """Return how far the audits are."""
        with self.database.read() as connection:
            given = connection.execute(select(func.count()).select_from(verdicts)).scalar_one()
            mine = connection.execute(
                select(func.count()).select_from(verdicts).where(verdicts.c.moderator == moderator)
            ).scalar_one()
            wanted = connection.execute(select(func.coalesce(func.sum(items.c.wanted), 0))).scalar_one()
        return Progress(given, mine, int(wanted))

    def image_of(self, item: int) -> str | None:
        """Return the path of an item's image, None where there is none."""
        with self.database.read() as connection:
            return connection.execute(select(items.c.image).where(items.c.id == item)).scalar()

    def _next(self, connection: Connection, moderator: str) -> Item | None:
        now = _locked(connection)
        own = and_(leases.c.item_id == items.c.id, leases.c.moderator == moderator)
        judged = _count(verdicts, verdicts.c.moderator == moderator)
        free = _count(verdicts) + _count(leases, leases.c.moderator != moderator) < items.c.wanted
        lent = select(leases.c.item_id).where(own).exists()
        chosen = (
            select(items)
            .where(judged == 0, or_(lent, free))
            .order_by((~lent).cast(items.c.id.type), items.c.audit_id, items.c.place)
            .limit(1)
        )
        row = connection.execute(chosen).mappings().first()
        if row is not None:
            self._lend(connection, row["id"], moderator, now)
        return None if row is None else _item(row)

    def _give(self, connection: Connection, item: int, moderator: str, verdict: str) -> None:
        now = _locked(connection)
        wanted = connection.execute(select(items.c.wanted).where(items.c.id == item)).scalar()
        if wanted is None:
            raise ValueError(f"item={item}: there is no such item")
        mine = and_(verdicts.c.item_id == item, verdicts.c.moderator == moderator)
        facts = {"verdict": verdict, "given_at": now}
        if connection.execute(update(verdicts).where(mine).values(facts)).rowcount:
            return
        lent = and_(leases.c.item_id == item, leases.c.moderator == moderator)
        if not connection.execute(select(leases).where(lent)).first():
            others = sum(
                connection.execute(select(func.count()).select_from(table).where(table.c.item_id == item)).scalar_one()
                for table in (verdicts, leases)
            )
            if others >= wanted:
                raise Taken("your time for this advertisement had run out, and it went to another moderator")
        connection.execute(delete(leases).where(lent))
        connection.execute(insert(verdicts).values(item_id=item, moderator=moderator, **facts))

    def _undo(self, connection: Connection, moderator: str) -> Item | None:
        now = _locked(connection)
        last = (
            select(verdicts.c.id, verdicts.c.verdict, verdicts.c.item_id)
            .where(verdicts.c.moderator == moderator)
            .order_by(verdicts.c.given_at.desc(), verdicts.c.id.desc())
            .limit(1)
        )
        row = connection.execute(last).mappings().first()
        if row is None:
            return None
        connection.execute(delete(verdicts).where(verdicts.c.id == row["id"]))
        connection.execute(delete(leases).where(leases.c.moderator == moderator))
        self._lend(connection, row["item_id"], moderator, now)
        found = connection.execute(select(items).where(items.c.id == row["item_id"])).mappings().one()
        return _item(found, row["verdict"])

    def _lend(self, connection: Connection, item: int, moderator: str, now: datetime) -> None:
        mine = and_(leases.c.item_id == item, leases.c.moderator == moderator)
        until = now + self.lease
        if not connection.execute(update(leases).where(mine).values(until=until)).rowcount:
            connection.execute(insert(leases).values(item_id=item, moderator=moderator, until=until))


def _locked(connection: Connection) -> datetime:
    """Return the time, after every other moderator's transaction; what is lent for too long is free again."""
    connection.execute(select(audits.c.id).order_by(audits.c.id).with_for_update()).all()
    now = datetime.now(UTC)
    connection.execute(delete(leases).where(leases.c.until <= now))
    return now


def _count(table: Any, *conditions: Any) -> Any:
    """How many rows of a table belong to the item."""
    return select(func.count()).where(table.c.item_id == items.c.id, *conditions).scalar_subquery()


def _item(row: Any, verdict: str | None = None) -> Item:
    return Item(row["id"], row["ad_id"], row["image"], row["headline"], row["subtask"], verdict)

"""The decision log: every decision once, on the disk before it is answered."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import Connection, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from tutelage.production.database import PATIENCE, Database
from tutelage.production.tables import decisions, impressions

if TYPE_CHECKING:
    import pandas as pd

_LONGEST = {"ad_id": 512, "model_version": 128, "decision": 64, "variant": 128}  # bytes
_AT_ONCE = 500


@dataclass(frozen=True)
class Decision:
    """What was decided about an advertisement by one version of a model.

    Args:
        ad_id: the advertisement's name, of at most 512 bytes.
        model_version: the model's content hash.
        score: high for acceptable.
        decision: ``acceptable`` passes; any other was held back.
        variant: of the A/B test.
        shadow: the variant only looked on: nothing followed from the decision.
        impressions: how often the advertisement was shown in the week of the decision, where that is known by now.
        image: path of the image, under a folder that `tutelage audit serve` is given.
        headline: the advertisement's text.
        subtask: what the model takes the defect for.
        content: SHA-256 of what was judged, in hexadecimal, where it is known.
        decided_at: when; the moment of recording by default.

    Raises:
        ValueError: a text that is empty, too long or cannot be stored, a score that is not finite, impressions below 0, or a
            time without a zone.
    """

    ad_id: str
    model_version: str
    score: float
    decision: str
    variant: str
    shadow: bool = False
    impressions: float | None = None
    image: str | None = None
    headline: str | None = None
    subtask: str | None = None
    content: str | None = None
    decided_at: datetime | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for name, most in _LONGEST.items():
            value = getattr(self, name)
            if not value or len(value.encode(errors="replace")) > most:
                raise ValueError(f"{name}={value!r:.200} must be a text of 1 to {most} bytes")
        for name in (*_LONGEST, "image", "headline", "subtask", "content"):
            value = getattr(self, name)
            if value is not None and ("\0" in value or any("\ud800" <= character <= "\udfff" for character in value)):
                raise ValueError(f"{name}={value!r:.200} holds a character that cannot be stored")
        if not math.isfinite(self.score):
            raise ValueError(f"score={self.score} must be a finite number")
        if self.impressions is not None and not 0 <= self.impressions < math.inf:
            raise ValueError(f"impressions={self.impressions} must be a number from 0")
        if self.decided_at is not None and self.decided_at.tzinfo is None:
            raise ValueError(f"decided_at={self.decided_at} has no time zone; write +00:00 behind it if it is UTC")


_STORED = tuple(field.name for field in fields(Decision) if field.name != "impressions")


class DecisionLog:
    """Decisions about advertisements, each of one model's version once.

    The first decision that is recorded for an advertisement and a model's version stands: whoever records another, a retry or a
    second process at the same moment, is told the first. What a version decided while it only looked on keeps its score, and
    becomes a decision of the variant that first acts on it. The row is on the disk before `record` returns.

    A name stands for one content. Who records a decision about another (`Decision.content`) is told the first, too, changes
    nothing, and must compare: the decision that stands is not about what was given.

    Args:
        database: path of SQLite's file, or a URL: ``postgresql://user:password@host/name``.
        patience: seconds for which a database that does not answer is asked again.

    Raises:
        ValueError, ConnectionError: see `Database`.
    """

    def __init__(self, database: str | Path, patience: float = PATIENCE) -> None:
        self.database = Database(database, patience)

    def record(
        self,
        ad_id: str,
        model_version: str,
        score: float,
        decision: str,
        variant: str,
        shadow: bool = False,
        **facts: Any,
    ) -> Decision:
        """Record one decision and return the one that stands; ``facts`` are the other fields of `Decision`.

        Raises:
            ValueError: see `Decision`.
            ConnectionError: the database did not answer: nothing is known to be recorded, and the call may be repeated.
        """
        return self.record_all([Decision(ad_id, model_version, score, decision, variant, shadow, **facts)])[0]

    def record_all(self, given: Iterable[Decision]) -> list[Decision]:
        """Record decisions in one transaction, which costs hardly more than one; return those that stand, in their order.

        Raises:
            ConnectionError: see `record`.
        """
        now = datetime.now(UTC)
        dated = [replace(each, decided_at=each.decided_at or now) for each in given]
        first: dict[tuple[str, str], Decision] = {}
        for each in dated:
            standing = first.setdefault((each.ad_id, each.model_version), each)
            if standing.shadow and not each.shadow:
                first[each.ad_id, each.model_version] = each
        # All processes insert in one order, so that none waits for another in a circle.
        ordered = [first[key] for key in sorted(first)]
        stand: dict[tuple[str, str], Decision] = {}
        for start in range(0, len(ordered), _AT_ONCE):
            part = ordered[start : start + _AT_ONCE]
            for each in self.database.write(partial(_recorded, given=part)):
                stand[each.ad_id, each.model_version] = each
        return [stand[each.ad_id, each.model_version] for each in dated]

    def add_impressions(self, counts: Iterable[tuple[str, str, float]]) -> int:
        """Set how often advertisements were shown: (advertisement, ISO week as ``2026-W07``, number); return how many were set.

        Raises:
            ValueError: a week or number that is none.
        """
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for ad_id, week, count in counts:
            if not 0 <= count < math.inf:
                raise ValueError(f"impressions={count} of {ad_id!r} must be a number from 0")
            week = week_of(monday(week))
            rows[ad_id, week] = {"ad_id": ad_id, "week": week, "impressions": float(count)}
        ordered = [rows[key] for key in sorted(rows)]
        for start in range(0, len(ordered), _AT_ONCE):
            part = ordered[start : start + _AT_ONCE]
            self.database.write(partial(_set_impressions, rows=part))
        return len(ordered)

    def table(self) -> pd.DataFrame:
        """Return all decisions in the order in which they were recorded, one row each."""
        import pandas as pd

        with self.database.read() as connection:
            found = connection.execute(select(*(decisions.c[name] for name in _STORED)).order_by(decisions.c.id))
            return pd.DataFrame(found.all(), columns=list(_STORED))

    def close(self) -> None:
        """Give back the connections."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def week_of(moment: date) -> str:
    """Return the ISO week of a moment, of UTC, as ``2026-W07``; such texts sort by time."""
    if isinstance(moment, datetime):
        moment = moment.astimezone(UTC)
    return moment.strftime("%G-W%V")


def monday(week: str) -> date:
    """Return the first day of an ISO week.

    Raises:
        ValueError: the text is no week.
    """
    try:
        return datetime.strptime(f"{week}-1", "%G-W%V-%u").date()
    except ValueError as error:
        raise ValueError(f"week={week!r} must be an ISO week such as 2026-W07") from error


def _inserting(connection: Connection) -> Any:
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert


def _recorded(connection: Connection, given: Sequence[Decision]) -> list[Decision]:
    """Insert what is not there, and read what is: PostgreSQL waits in the insert for others who insert the same."""
    keys = [(each.ad_id, each.model_version) for each in given]
    rows = [{name: value for name, value in asdict(each).items() if name in _STORED} for each in given]
    insert = _inserting(connection)(decisions)
    acted_on = {name: insert.excluded[name] for name in ("shadow", "variant", "decided_at")}
    same = decisions.c.content.is_not_distinct_from(insert.excluded.content)
    insert = insert.on_conflict_do_update(
        index_elements=["ad_id", "model_version"],
        set_=acted_on,
        where=decisions.c.shadow & ~insert.excluded.shadow & same,
    )
    ours = set(connection.execute(insert.returning(decisions.c.id), rows).scalars())
    chosen = select(decisions).where(tuple_(decisions.c.ad_id, decisions.c.model_version).in_(keys))
    found = connection.execute(chosen).mappings().all()
    shown = {(each.ad_id, each.model_version): each.impressions for each in given}
    counts = [
        {"ad_id": row["ad_id"], "week": week_of(row["decided_at"]), "impressions": count}
        for row in found
        if row["id"] in ours and (count := shown[row["ad_id"], row["model_version"]]) is not None
    ]
    _set_impressions(connection, counts)
    return [
        Decision(**{name: row[name] for name in _STORED}, impressions=shown[row["ad_id"], row["model_version"]])
        for row in found
    ]


def _set_impressions(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        insert = _inserting(connection)(impressions)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["ad_id", "week"], set_={"impressions": insert.excluded.impressions}
            ),
            rows,
        )

"""What people are to look at: a sample of what passed, by impressions, or the labels that a run doubts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from tutelage.checks import check_number
from tutelage.files import read_parquet
from tutelage.production.database import Database
from tutelage.production.decisions import monday, week_of
from tutelage.production.sampling import allocation, inclusion_probabilities, pivotal
from tutelage.production.tables import audits, decisions, impressions, items, strata
from tutelage.recipes import label_issues
from tutelage.recipes.moderation.answers import DRAWN, FOLDER
from tutelage.reports.subtask_names import called, typed_names

PASSED = "acceptable"
LABELS = {0: "defective", 1: PASSED}


@dataclass(frozen=True)
class Drawn:
    """An audit: its number, its advertisements by week and variant, and the verdicts asked for."""

    audit: int
    ads: dict[tuple[str, str], int]
    verdicts: int

    def summary(self) -> str:
        """Return what was drawn, in a sentence or two."""
        parts = "; ".join(f"{week} {variant}: {count}" for (week, variant), count in self.ads.items())
        return f"audit {self.audit}: {self.verdicts} verdicts of {sum(self.ads.values())} advertisements ({parts})"


def draw(database: Database, budget: int, weeks: Sequence[str] = (), *, overlap: float = 0.1, seed: int = 0) -> Drawn:
    """Draw an audit of what passed: strata by week and variant, and within each by the week's impressions.

    An advertisement belongs to the variant that decided about it last before the week's end; if that let it pass, and it had
    impressions in the week, it can be drawn, with a probability proportional to them (`sampling`). A week is drawn once.

    Args:
        database: with decisions and impressions.
        budget: verdicts, in all.
        weeks: ISO weeks such as ``2026-W07``; by default all that are over and were not drawn yet.
        overlap: share of the advertisements that two moderators judge, by which their agreement is known; chosen at random.
        seed: of the draw, together with its weeks.

    Raises:
        ValueError: a week that was drawn before or is not over, nothing to draw from, or a budget that is too small.
    """
    check_number("budget", budget, "[1, inf)", int)
    check_number("overlap", overlap, "[0, 1]")
    with database.read() as connection:
        chosen = _weeks(connection, weeks)
        passed = _passed(connection, chosen)
    if passed.empty:
        raise ValueError(
            f"nothing that passed had impressions in {', '.join(chosen) or 'a week that is over and not drawn'}"
        )
    groups = {(str(key[0]), str(key[1])): group for key, group in passed.groupby(["week", "variant"], sort=True)}
    # With the weeks in the seed, two weeks of the same ads and impressions are two samples, as their test takes them to be.
    generator = np.random.default_rng([seed, *(monday(week).toordinal() for week in chosen)])
    ads = int(budget / (1 + overlap))
    counts = allocation({key: (float(g["impressions"].sum()), len(g)) for key, g in groups.items()}, ads)
    drawn = []
    for key, group in groups.items():
        probabilities = inclusion_probabilities(group["impressions"], counts[key])
        places = pivotal(probabilities, generator)
        drawn.append(group.iloc[places].assign(probability=probabilities[places]))
    table = pd.concat(drawn, ignore_index=True)
    table["wanted"] = 1 + (generator.permutation(len(table)) < round(overlap * len(table))).astype(int)
    totals = [
        {"week": week, "variant": variant, "impressions": float(group["impressions"].sum()), "ads": len(group)}
        for (week, variant), group in groups.items()
    ]
    number = _stored(database, "passed", table, generator, seed, totals)
    return Drawn(number, counts, int(table["wanted"].sum()))


def draw_check(database: Database, run: Path, *, seed: int = 0) -> Drawn:
    """Send the test images that `tutelage.production.review.draw_test` has drawn of a moderation run to be judged.

    Args:
        database: where the verdicts go.
        run: folder of the run.
        seed: of the order in which they are shown.
    """
    drawn = read_parquet(run / FOLDER / DRAWN)
    examples = read_parquet(run / "examples.parquet").set_index("id").loc[drawn["id"]].reset_index()
    return _sent(database, run, examples, seed)


def draw_doubts(database: Database, run: Path, budget: int, *, seed: int = 0) -> Drawn:
    """Send the labels that a moderation run doubts most to be judged again, the first of `label_issues`' list.

    Args:
        database: where the verdicts go.
        run: folder of the run, with its examples.parquet.
        budget: how many.
        seed: of the order in which they are shown.

    Raises:
        FileNotFoundError: the run has no examples.parquet.
        ValueError: it doubts no label.
    """
    check_number("budget", budget, "[1, inf)", int)
    path = run / "examples.parquet"
    if not path.is_file():
        raise FileNotFoundError(
            f"{run} holds no examples.parquet: give the folder of a moderation run that has finished"
        )
    examples = read_parquet(path)
    doubted = examples[examples["split"] != "left_out"].iloc[label_issues(run).ranked]
    doubted = doubted[doubted["image"] != ""].head(budget)
    if doubted.empty:
        raise ValueError(f"{path} has no doubted label whose image is a file")
    return _sent(database, run, doubted, seed)


def _sent(database: Database, run: Path, doubted: pd.DataFrame, seed: int) -> Drawn:
    """Store images of a run whose labels are to be judged."""
    names = typed_names(run)
    table = pd.DataFrame({
        "ad_id": doubted["id"], "image": doubted["image"], "label": doubted["label"].map(LABELS),
        "headline": doubted.get("headline"), "wanted": 1,
        "subtask": [called(names, k) if k >= 0 else None for k in doubted["subtask"]],
    })  # fmt: skip
    number = _stored(database, "labels", table, np.random.default_rng(seed), seed, [])
    return Drawn(number, {("labels", run.name): len(table)}, len(table))


def _weeks(connection: Connection, asked: Sequence[str]) -> list[str]:
    done = set(connection.execute(select(strata.c.week).distinct()).scalars())
    running = week_of(datetime.now(UTC))
    if asked:
        chosen = sorted({week_of(monday(week)) for week in asked})
        if again := sorted(set(chosen) & done):
            raise ValueError(f"weeks={again}: drawn before; a week is drawn once, so that its probabilities are known")
        if early := [week for week in chosen if week >= running]:
            raise ValueError(
                f"weeks={early}: not over yet (this is {running}, by UTC); a week is drawn once, and what passes after the "
                "draw could never be audited. Draw it when it is over"
            )
        return chosen
    known = connection.execute(select(impressions.c.week).distinct()).scalars()
    return sorted(week for week in known if week not in done and week < running)


def _passed(connection: Connection, weeks: Sequence[str]) -> pd.DataFrame:
    """What passed and was shown, by week: one row for each advertisement and week."""
    if not weeks:
        return pd.DataFrame()
    columns = [
        decisions.c[name] for name in ("ad_id", "variant", "decision", "decided_at", "image", "headline", "subtask")
    ]
    acted = select(*columns).where(~decisions.c.shadow).order_by(decisions.c.decided_at, decisions.c.id)
    shown = select(impressions).where(impressions.c.week.in_(list(weeks)), impressions.c.impressions > 0)
    decided = pd.DataFrame(connection.execute(acted).all(), columns=[column.name for column in columns])
    counts = pd.DataFrame(connection.execute(shown).all(), columns=["ad_id", "week", "impressions"])
    found = []
    for week, group in counts.sort_values("ad_id").groupby("week", sort=True):
        end = datetime.combine(monday(str(week)) + timedelta(days=7), time(), UTC)
        last = decided[decided["decided_at"] < end].drop_duplicates("ad_id", keep="last")
        found.append(group.merge(last[last["decision"] == PASSED], on="ad_id"))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _stored(
    database: Database,
    kind: str,
    table: pd.DataFrame,
    generator: np.random.Generator,
    seed: int,
    totals: Sequence[dict[str, Any]],
) -> int:
    """Store an audit whose items come in random order; those of one that was not finished are a random part of each stratum."""
    names = [name for name in items.c.keys() if name in table]  # noqa: SIM118 (no dictionary: columns)
    cells = table[names].astype(object).where(table[names].notna(), None)
    rows: list[dict[str, Any]] = [{str(name): cell for name, cell in row.items()} for row in cells.to_dict("records")]
    places = generator.permutation(len(rows))

    def work(connection: Connection) -> int:
        drawn_at = datetime.now(UTC)
        number = connection.execute(
            insert(audits).values(kind=kind, drawn_at=drawn_at, seed=seed).returning(audits.c.id)
        ).scalar_one()
        if totals:
            connection.execute(insert(strata), [{**total, "audit_id": number} for total in totals])
        connection.execute(
            insert(items),
            [{**row, "audit_id": number, "place": int(place)} for row, place in zip(rows, places, strict=True)],
        )
        return number

    try:
        return database.write(work)
    except IntegrityError as error:
        raise ValueError("a week was drawn by somebody else at the same moment; draw again") from error

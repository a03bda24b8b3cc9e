"""The figures of the audits so far: rates by week and variant, changes, sequential tests, drift and agreement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import select

from tutelage.production.agreement import krippendorff_alpha
from tutelage.production.database import Database
from tutelage.production.decisions import monday, week_of
from tutelage.production.drift import drift
from tutelage.production.estimates import Rate, Stratum, relative_change, weighted_rate
from tutelage.production.sequential import confidence_sequence, log_e_values
from tutelage.production.tables import decisions, items, strata, verdicts
from tutelage.production.variants import INCUMBENT

WINDOW = 4  # weeks of an average, as in the paper's Table 3
ALPHA = 0.05
BEFORE, BESIDE = "in the 4 weeks before", "in the same weeks"


@dataclass(frozen=True)
class Audited:
    """What was drawn and said: one row for each advertisement, and the verdicts one by one.

    Attributes:
        items: with `given`, how many verdicts there are, and `defective`, the share that say so (NaN where there is none).
        strata: impressions and number of advertisements of each week and variant.
        verdicts: item_id, moderator and verdict.
    """

    items: pd.DataFrame
    strata: pd.DataFrame
    verdicts: pd.DataFrame

    def stratum(self, week: str, variant: str) -> Stratum:
        """Return what was drawn from a week and variant."""
        rows = self.items[(self.items["week"] == week) & (self.items["variant"] == variant)]
        total = self.strata.loc[(self.strata["week"] == week) & (self.strata["variant"] == variant), "impressions"]
        x_n, pi_n, y_n = (rows[name].to_numpy(np.float64) for name in ("impressions", "probability", "defective"))
        return Stratum(x_n, pi_n, y_n, float(total.item()))

    def complete(self, week: str, variant: str) -> bool:
        """Whether all verdicts that were asked for are given; only such weeks enter the sequential tests."""
        rows = self.items[(self.items["week"] == week) & (self.items["variant"] == variant)]
        return bool((rows["given"] >= rows["wanted"]).all())


def read_audits(database: Database) -> Audited:
    """Read all audits and verdicts."""
    with database.read() as connection:
        drawn, totals, said = (
            pd.DataFrame(connection.execute(select(table)).all(), columns=list(table.c.keys()))
            for table in (items, strata, verdicts)
        )
    sure = said[said["verdict"] != "unsure"]
    defective = sure["verdict"].eq("defective").astype(float).groupby(sure["item_id"]).mean()
    given = said.groupby("item_id").size()
    drawn["defective"] = drawn["id"].map(defective).astype(float)
    drawn["given"] = drawn["id"].map(given).fillna(0).astype(int)
    return Audited(drawn, totals, said)


def figures(database: Database, incumbent: str | None = None) -> dict[str, Any]:
    """Return all figures of a report, as plain values.

    Args:
        database: with audits.
        incumbent: the variant that others are compared with; by default ``incumbent``, as `tutelage serve` names it, or else
            the one that was there first.

    Raises:
        ValueError: nothing was audited, or the incumbent is unknown or not given where several variants began in the same week.
    """
    audited = read_audits(database)
    if audited.strata.empty:
        raise ValueError(
            "nothing was audited: draw a sample (tutelage audit draw) and give verdicts (tutelage audit serve)"
        )
    begins = audited.strata.groupby("variant")["week"].min().sort_values(kind="stable")
    base = _incumbent(begins, incumbent)
    weeks = sorted(audited.strata["week"].unique())
    rates = [_week(audited, row) for row in audited.strata.sort_values(["week", "variant"]).to_dict("records")]
    others = [str(name) for name in begins.index if name != base]
    tests = [row for name in others for row in _sequential(audited, name, base, weeks, len(others))]
    of_week = audited.items["week"].notna()
    passed, again = audited.items[of_week], audited.items[~of_week]  # of what passed, and labels of a run
    said = audited.verdicts[audited.verdicts["item_id"].isin(passed["id"])]
    return {
        "incumbent": base,
        "weeks": rates,
        "variants": [_overall(audited, str(name), weeks) for name in begins.index],
        "table3": [row for name in others for row in _table3(audited, name, base, begins[name])],
        "sequential": tests,
        "drift": _drift(database),
        "agreement": _agreement(said),
        "verdicts": {
            "given": int(passed["given"].sum()),
            "wanted": int(passed["wanted"].sum()),
            "unsure": int((said["verdict"] == "unsure").sum()),
            "advertisements": len(passed),
            "without": int(passed["defective"].isna().sum()),
        },
        "labels": {"given": int(again["given"].sum()), "wanted": int(again["wanted"].sum())},
    }


def _incumbent(begins: pd.Series, asked: str | None) -> str:
    if asked is not None:
        if asked not in begins.index:
            raise ValueError(f"incumbent={asked!r}: the audited variants are {', '.join(map(str, begins.index))}")
        return asked
    if INCUMBENT in begins.index:
        return INCUMBENT
    first = [str(name) for name in begins.index[begins == begins.iloc[0]]]
    if len(first) > 1:
        raise ValueError(f"{' and '.join(first)} began in the same week; name the incumbent: --incumbent {first[0]}")
    return first[0]


def _plain(rate: Rate) -> dict[str, Any]:
    facts = asdict(rate)
    return {"wfpr": facts.pop("value"), **facts}


def _week(audited: Audited, row: dict[Any, Any]) -> dict[str, Any]:
    week, variant = str(row["week"]), str(row["variant"])
    facts = {"week": week, "variant": variant, "impressions": row["impressions"], "ads": int(row["ads"])}
    facts["complete"] = audited.complete(week, variant)
    rate = _rate(audited, variant, [week])
    return {**facts, **(_plain(rate) if rate else dict.fromkeys(("wfpr", "low", "high")))}


def _overall(audited: Audited, variant: str, weeks: Sequence[str]) -> dict[str, Any]:
    rate = _rate(audited, variant, weeks)
    return {"variant": variant, **(_plain(rate) if rate else dict.fromkeys(("wfpr", "low", "high")))}


def _rate(audited: Audited, variant: str, weeks: Sequence[str]) -> Rate | None:
    """The rate over some weeks, None where there is no verdict."""
    there = set(audited.strata.loc[audited.strata["variant"] == variant, "week"])
    found = [audited.stratum(week, variant) for week in weeks if week in there]
    return weighted_rate(found) if any(stratum.answered for stratum in found) else None


def _shifted(week: str, by: int) -> str:
    return week_of(monday(week) + timedelta(weeks=by))


def _table3(audited: Audited, name: str, base: str, begins: str) -> list[dict[str, Any]]:
    """The change of a variant's rate, in the form of the paper's Table 3: averages of up to four weeks, since it began."""
    last = max(audited.strata.loc[audited.strata["variant"] == name, "week"])
    count = (monday(last) - monday(begins)).days // 7 + 1
    before = _rate(audited, base, [_shifted(begins, -k) for k in range(1, WINDOW + 1)])
    found = []
    for since in sorted({*range(WINDOW, count + 1, WINDOW), count}):
        window = [_shifted(begins, k) for k in range(max(since - WINDOW, 0), since)]
        new = _rate(audited, name, window)
        for against, old in ((BEFORE, before), (BESIDE, _rate(audited, base, window))):
            if new is None or old is None:
                continue
            change, low, high = relative_change(new, old)
            facts = {"variant": name, "weeks_since_deployment": since, "against": against}
            found.append(
                {**facts, "change": change, "low": low, "high": high, "wfpr": new.value, "wfpr_against": old.value}
            )
    return found


def _sequential(audited: Audited, name: str, base: str, weeks: Sequence[str], tests: int) -> list[dict[str, Any]]:
    """The always-valid test of a variant against the incumbent, after each week that both have all verdicts of."""
    keys = {(str(row["week"]), str(row["variant"])) for row in audited.strata.to_dict("records")}
    shared = [week for week in weeks if {(week, name), (week, base)} <= keys]
    whole = [week for week in shared if audited.complete(week, name) and audited.complete(week, base)]
    by_week = {week: (audited.stratum(week, name), audited.stratum(week, base)) for week in whole}
    both = [week for week, pair in by_week.items() if all(stratum.answered for stratum in pair)]
    pairs = [by_week[week] for week in both]
    if not pairs:
        return []
    new, old = ([pair[side] for pair in pairs] for side in (0, 1))
    draws, draws_ = (np.array([stratum.draws for stratum in each]) for each in (new, old))
    defects, defects_ = (
        np.array([weighted_rate([stratum]).value for stratum in each]) * n for each, n in ((new, draws), (old, draws_))
    )
    better, worse = log_e_values(defects, draws, defects_, draws_), log_e_values(defects_, draws_, defects, draws)
    # Each variant's bounds hold with half of what is left of alpha after all variants are compared, so that all hold together.
    bounds = [confidence_sequence(s, n, ALPHA / (2 * tests)) for s, n in ((defects, draws), (defects_, draws_))]
    limit = math.log(2 * tests / ALPHA)
    found, said = [], "open"
    for t, week in enumerate(both):
        said = said if said != "open" else "better" if better[t] >= limit else "worse" if worse[t] >= limit else "open"
        (low, high), (low_, high_) = ((float(pair[0][t]), float(pair[1][t])) for pair in bounds)
        found.append({
            "variant": name, "week": week, "e_better": math.exp(min(better[t], 700)), "e_worse": math.exp(min(worse[t], 700)),
            "limit": math.exp(limit), "said": said, "low": low / high_ - 1,
            "high": high / low_ - 1 if low_ > 0 else math.inf,
        })  # fmt: skip
    return found


def _drift(database: Database) -> list[dict[str, Any]]:
    """Every model's scores of each week against those of its first one."""
    columns = [decisions.c[name] for name in ("model_version", "variant", "score", "decided_at")]
    with database.read() as connection:
        table = pd.DataFrame(connection.execute(select(*columns)).all(), columns=[column.name for column in columns])
    table["week"] = [week_of(moment) for moment in table["decided_at"]]
    found = []
    for version, group in table.groupby("model_version", sort=True):
        by_week = {str(week): part["score"].to_numpy() for week, part in group.groupby("week", sort=True)}
        first = min(by_week)
        for week, scores in by_week.items():
            if week != first:
                facts = {
                    "model_version": str(version),
                    "variant": str(group["variant"].iloc[0]),
                    "week": week,
                    "since": first,
                }
                found.append({**facts, "decisions": len(scores), **asdict(drift(by_week[first], scores))})
    return found


def _agreement(said: pd.DataFrame) -> dict[str, Any]:
    units = [group.tolist() for _, group in said.groupby("item_id")["verdict"]]
    twice = sum(len(unit) > 1 for unit in units)
    alpha = krippendorff_alpha(units)
    moderators = said["moderator"].nunique()
    return {"alpha": None if math.isnan(alpha) else alpha, "advertisements": twice, "moderators": moderators}

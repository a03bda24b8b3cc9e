"""What the cells of a manifest mean, and which of its rows make no sense."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from tutelage.data.problems import Problems
from tutelage.data.splits import lacking_parts
from tutelage.data.table import UNLABELLED
from tutelage.data.written import Dates, distinct, numbers, times

_OPTIONAL = ("headline", "submitted_at", "advertiser", "impressions", "weight")


def checked(
    facts: pd.DataFrame,
    labels: Mapping[str, int],
    problems: Problems,
    source: str,
    dates: Dates,
    needed: str = "image",
) -> pd.DataFrame:
    """Return the rows whose cells make sense, with typed columns; optional columns without any entry are dropped."""
    reason = pd.Series("", index=facts.index, dtype=object)
    detail = reason.copy()

    def refuse(bad: pd.Series, why: str, text: str) -> None:
        fresh = bad & (reason == "")
        reason[fresh] = why
        detail[fresh] = text

    def refuse_cells(column: str, good: pd.Series, why: str, allowed: str) -> None:
        fresh = ~good & (facts[column] != "") & (reason == "")
        reason[fresh] = why
        detail[fresh] = column + " is " + facts[column][fresh].map(repr) + "; allowed: " + allowed

    def warn_cells(column: str, bad: pd.Series, why: str, text: str) -> None:
        for row in facts[bad & (facts[column] != "") & (reason == "")].itertuples():
            problems.warn(row.id, why, f"{column} is {getattr(row, column)!r}, {text}")

    facts["image"] = facts["image"].str.replace("\\", "/", regex=False)
    facts["id"] = facts["id"].where(facts["id"] != "", facts["image"])
    classes = {name.casefold(): label for name, label in labels.items()}
    label = facts["label"].str.casefold().map(classes)
    _require_labels(facts["label"], label, labels, source)
    submitted_at, unclear = times(facts["submitted_at"], dates)
    impressions = numbers(facts["impressions"], counts=True)
    impressions = impressions.where(impressions.between(0, np.inf, inclusive="left"))
    weight = numbers(facts["weight"])
    weight = weight.where(weight.between(0, np.inf, inclusive="left"))

    refuse(facts[needed] == "", f"no_{needed}", f"the column for {needed!r} is empty")
    refuse_cells("label", label.notna(), "unknown_label", ", ".join(labels) or "none")
    refuse_cells("weight", weight.notna(), "bad_weight", "a number from 0")
    unlabelled = label.isna() | (label < 0) | (facts["split"] == "unlabelled")
    if not lacking_parts(facts["split"]):
        refuse((facts["split"] == "") & ~unlabelled, "no_split", "the others name training, validation and test")
    good = facts[reason == ""]
    if not labels:  # each row has an answer, under its own id
        facts["own_id"] = facts["id"]
        facts["id"], _ = distinct(facts["id"], pd.Series(range(len(facts)), facts.index), Problems(), facts["label"])
    else:
        spelled = label[good.index].map({number: name for name, number in labels.items()}).fillna("")
        names, copies = distinct(good["id"], good["image"], problems, spelled)
        refuse(
            copies.reindex(facts.index, fill_value=False),
            "duplicate_id",
            "an earlier row has this id and image, and was kept",
        )
        facts["id"] = names.reindex(facts.index).fillna(facts["id"])

    for id, why, text in zip(facts["id"], reason, detail, strict=True):
        if why:
            problems.add(id, why, text)
    which = "whose day and month cannot be told apart: say which stands first by --dates day_first or month_first"
    warn_cells("submitted_at", unclear, "unclear_time", which)
    warn_cells("submitted_at", submitted_at.isna() & ~unclear, "bad_time", "which is no date or time")
    warn_cells("impressions", impressions.isna(), "bad_impressions", "which is no number from 0")
    split = facts["split"].replace("", "unassigned").mask(unlabelled, "unlabelled")
    label = label.mask(unlabelled, UNLABELLED).astype(np.int64)
    weight = weight.fillna(1.0) if (facts["weight"] != "").any() else weight
    typed = {"submitted_at": submitted_at, "impressions": impressions, "weight": weight}
    table = facts.assign(label=label, split=split, **typed)[reason == ""]
    return table.drop(columns=[column for column in _OPTIONAL if (table[column].isna() | (table[column] == "")).all()])


def _require_labels(cells: pd.Series, known: pd.Series, labels: Mapping[str, int], source: str) -> None:
    """Refuse a table none of whose labels is known, with the flag that maps them."""
    found = cells[cells != ""].value_counts()
    if not labels or found.empty or known.notna().any():
        return
    listed = ", ".join(f"{name!r} ({count:,})" for name, count in found.head(6).items())
    listed += f" and {len(found) - 6} more" if len(found) > 6 else ""
    example = ", ".join(f'"{name}": ...' for name in found.index[:3])
    meant = ", ".join(f"{number} {name}" for name, number in labels.items())
    raise ValueError(
        f"{source} holds {listed}; known are {', '.join(labels)}. Say what yours mean by --labels '{{{example}}}', "
        f"where ... is the number of the class: {meant}"
    )

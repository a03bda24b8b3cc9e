"""Which labels are missing in a multi-label run, the surest first, with reasons in words."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tutelage.files import read_parquet
from tutelage.recipes.relabel import sure


def doubts(run: Path) -> pd.DataFrame:
    """Return the labels that a run adds, one row for each, with the columns of `relabel_table`.

    The label is what was given, suspected is what is missing beside it, and suspicion is the model's score of that.
    """
    labels, examples = read_parquet(run / "labels.parquet"), read_parquet(run / "examples.parquet")
    examples["row"] = range(len(examples))
    found = labels.merge(examples[["id", "image", "split", "row"]], on="id").set_index("row")
    found = found.sort_values("score", ascending=False, kind="stable")
    generation = found["generation"].astype(object).where(found["generation"].notna(), 0)
    since = [f"since generation {number}" if number else "in its last generation" for number in generation]
    return pd.DataFrame(
        {
            "id": found["id"],
            "image": found["image"],
            "split": found["split"],
            "label": found["given"],
            "suspected": found["label"],
            "suspicion": found["score"].round(4),
            "reason": [
                f"the model names {label}, too ({sure(score)}), {when}"
                for label, score, when in zip(found["label"], found["score"], since, strict=True)
            ],
        }
    )

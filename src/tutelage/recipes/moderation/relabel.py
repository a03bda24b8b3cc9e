"""relabel.csv: the labels in doubt, for a person with a spreadsheet."""

from __future__ import annotations

import pandas as pd

NAMES = {0: "defective", 1: "acceptable"}
COLUMNS = ["image", "label", "suspected", "suspicion", "reason"]


def relabel_table(examples: pd.DataFrame, duplicates: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the examples whose label is rather wrong than right, the most suspicious first.

    Args:
        examples: the table of examples.parquet.
        duplicates: the listing of near-duplicates; see `tutelage.data.Duplicates`.
        score: the column with the probability of acceptable by the model that the run serves.

    Returns:
        image (the path, or the id where there is none), label and suspected label in words, suspicion (the probability that the
        label is wrong), and the reason in words.
    """
    doubted = examples[(examples["split"] != "left_out") & (examples["suspicion"] > 0.5)]
    doubted = doubted.sort_values("suspicion", ascending=False, kind="stable")
    both = set(duplicates.loc[duplicates["conflict"], "id"]) if "conflict" in duplicates else set()
    rows = []
    for _, row in doubted.iterrows():
        suspected = 1 - row["label"]
        reason = f"the model says {NAMES[suspected]} ({_sure(row[score], suspected)})"
        if "score_fine_tuned" in row and score != "score_fine_tuned":
            plain = int(row["score_fine_tuned"] > 0.5)
            agrees = "too" if plain == suspected else f"says {NAMES[plain]}"
            reason += f", plain fine-tuning {agrees} ({_sure(row['score_fine_tuned'], plain)})"
        if row["id"] in both:
            reason += "; copies of the picture have both labels"
        image = row["image"] or row["id"]
        rows.append((image, NAMES[row["label"]], NAMES[suspected], round(float(row["suspicion"]), 4), reason))
    return pd.DataFrame(rows, columns=COLUMNS)


def _sure(acceptable: float, label: int) -> str:
    return f"{acceptable if label else 1 - acceptable:.0%}"

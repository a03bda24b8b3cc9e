"""relabel.csv: the labels that a person should check first, the same list for every kind of run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from tutelage.files import read_parquet
from tutelage.metrics import find_label_issues

FILE = "relabel.csv"


def relabel_table(run: Path, reason: Callable[[dict[str, Any], str, str], str]) -> pd.DataFrame:
    """Return the labels that a run doubts, the most suspicious first: the list of `find_label_issues`, with reasons.

    Args:
        run: the folder, with examples.parquet and metrics.json.
        reason: from an example's row, its label and the suspected one, both in words, to why it is doubted, in words.

    Returns:
        By the row of examples.parquet: id, image or text where the run has them, split, label, suspected label, suspicion (the
        probability that the label is wrong), reason.
    """
    issues = find_label_issues(run)
    examples = read_parquet(run / "examples.parquet")
    doubted = examples[examples["split"] != "left_out"].iloc[issues.ranked]
    shown = doubted[[name for name in ("id", "image", "text", "split") if name in doubted]].copy()
    names = [(issues.classes[issues.given[row]], issues.classes[issues.suspected[row]]) for row in issues.ranked]
    shown["label"], shown["suspected"] = [given for given, _ in names], [other for _, other in names]
    shown["suspicion"] = doubted["suspicion"].round(4)
    rows = doubted.to_dict("records")
    shown["reason"] = [
        reason({str(name): value for name, value in row.items()}, *of) for row, of in zip(rows, names, strict=True)
    ]
    return shown


def sure(probability: float) -> str:
    """Return a probability as a reason has it."""
    return f"{probability:.0%}"

"""relabel.csv: the labels that a person should check first, the same list for every kind of run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tutelage.files import read_json, read_parquet
from tutelage.metrics import LabelIssues

FILE = "relabel.csv"


def label_issues(run: str | os.PathLike[str]) -> LabelIssues:
    """Return the labels that a finished run's model contradicts: those of its ``relabel.csv``, the most suspicious first.

    Args:
        run: the folder.

    Raises:
        FileNotFoundError: it has no ``examples.parquet``.
        ValueError: its table does not say what the model doubts.
    """
    folder = Path(run)
    path = folder / "examples.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no examples.parquet: give the folder of a run that has finished")
    examples = read_parquet(path)
    if missing := {"label", "suspected", "suspicion", "doubted"} - set(examples):
        raise ValueError(
            f"{path} has no column {min(missing)}: only runs of moderate, distill and denoise have it, by this version"
        )
    examples = examples[examples["split"] != "left_out"]
    classes = [str(name) for name in read_json(folder / "metrics.json")["data"]["classes"]]

    def numbers(column: str) -> NDArray[np.int64]:
        cells = examples[column]
        place = {name: number for number, name in enumerate(classes)}
        named = cells if cells.dtype.kind in "iuf" else cells.map(lambda name: place.get(name, -1))
        return named.fillna(-1).to_numpy(np.int64)

    given, suspected = numbers("label"), numbers("suspected")
    wrong = examples["suspicion"].to_numpy(np.float64)
    joint_CC = np.zeros((len(classes), len(classes)))
    known = given >= 0
    np.add.at(joint_CC, (given[known], given[known]), 1 - wrong[known])
    np.add.at(joint_CC, (given[known], suspected[known]), wrong[known])
    doubted = np.flatnonzero(known & examples["doubted"].to_numpy(bool))
    ranked = doubted[np.argsort(-wrong[doubted], kind="stable")]
    ids = examples["id"].astype(str).tolist()
    return LabelIssues(ranked, 1 - wrong, given, suspected, joint_CC / max(int(known.sum()), 1), ids, classes)


def relabel_table(run: Path, reason: Callable[[dict[str, Any], str, str], str]) -> pd.DataFrame:
    """Return the labels that a run doubts, the most suspicious first: the list of `label_issues`, with reasons.

    Args:
        run: the folder, with examples.parquet and metrics.json.
        reason: from an example's row, its label and the suspected one, both in words, to why it is doubted, in words.

    Returns:
        By the row of examples.parquet: id, image or text where the run has them, split, label, suspected label, suspicion (the
        probability that the label is wrong), reason.
    """
    issues = label_issues(run)
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

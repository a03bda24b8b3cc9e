"""What the report of a multi-label run shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from tutelage.reports.plots import Line, inlined, line_plot
from tutelage.reports.run_folder import RunFolder
from tutelage.reports.wording import why_served, why_unfrozen

SHOWN_LABELS = 8
NAMES = {
    "mile": "iterated learning",
    "sigmoid": "plain training with sigmoids",
    "softmax": "plain training with a softmax",
    "elr": "early-learning regularisation",
    "hard": "self-distillation by the best class",
    "soft": "self-distillation by probabilities",
    "distilled": "distillation from a teacher",
    "noisy_student": "noisy student",
}


def view(run: RunFolder) -> dict[str, Any]:
    """Return what the template shows besides the frame, as plain values."""
    metrics = run.metrics
    labels = run.table("labels.parquet", "new labels are not shown")
    coverage = metrics["generations"]["coverage"]
    return {
        "served": [
            *why_served(metrics["choice"], NAMES, points=metrics["validation"]["criterion"] != "added_label_score"),
            *why_unfrozen(metrics.get("unfrozen")),
        ],
        "verdict": verdict(metrics),
        "advice": advice(metrics["choice"]),
        "threshold_given": (run.config or {}).get("threshold") is not None,
        "test": metrics["test"],
        "points": {key: value for key, value in metrics["test"].items() if isinstance(value, dict) and "f1" in value},
        "coverage": _coverage_plot(coverage) if len(coverage) > 1 else None,
        "appeared": None if labels is None else _appeared(labels),
        "gallery": None if labels is None else _gallery(run, labels),
    }


def verdict(metrics: dict[str, Any]) -> str:
    """Return in a sentence whether the labels that the model adds are worth having; empty for one that adds none."""
    test, validation, anchors = metrics["test"], metrics["validation"], metrics["anchors"]
    if test["chosen"]["threshold"] is None:
        return ""
    if test["judged_by"] == "all labels":
        f1, one, every = (found["f1"] for found in (test["chosen"], anchors["one_right_label"], anchors["every_label"]))
        best, name = max((one, "one right label alone"), (every, "every label"))
        if f1["low"] > best:
            return f"Its sets are worth having: their F1 is above the {best:.3f} of naming {name}, and not by chance."
        if f1["high"] < best:
            return f"Its sets are not worth having: their F1 is below the {best:.3f} of naming {name}."
        return f"This test cannot tell whether its sets are worth having: naming {name} has an F1 of {best:.3f}."
    if validation["criterion"] != "added_label_score":
        return ""
    if metrics["labels"]["new"] == 0:
        return "It adds no label to the given ones."
    if validation["value"] > 1:
        return (
            f"The labels that it adds are better than chance: they score {validation['value']:.1f} on validation, where "
            "predicting every class scores 1."
        )
    return "The labels that it adds are not worth having: on validation they are no better than naming every class."


def advice(choice: dict[str, Any]) -> str:
    """Return what to try where the served model's labels are worthless: what its own method has."""
    if choice["chosen"] == "mile":
        return "a higher rho, longer interactions, or more training"
    return "more training" if choice["asked"] == "mile" else "iterated learning (--method mile), or more training"


def _coverage_plot(coverage: list[float]) -> Markup:
    generations = np.arange(1, len(coverage) + 1, dtype=np.float64)
    return line_plot(
        [Line("labels that the teacher names", generations, np.array(coverage))],
        x_label="generation",
        y_label="labels per image",
        name="coverage",
        alt=f"Labels per image predicted by each generation's teacher: {coverage[0]:.2f} in the first, {coverage[-1]:.2f} in "
        "the last.",
        y_range=(0, 1.1 * max(coverage) + 0.1),
        reference=("one per image", 1.0),
        whole=True,
    )


def _appeared(labels: pd.DataFrame) -> list[dict[str, Any]]:
    """New labels by the generation in which they first appeared; the last entry is of the model alone."""
    known = "right" in labels
    found = []
    for generation, members in labels.groupby(labels["generation"].fillna(-1).astype(int)):
        found.append(
            {
                "generation": None if int(str(generation)) < 0 else int(str(generation)),
                "labels": len(members),
                "images": int(members["id"].nunique()),
                "right": float(share) if known and not pd.isna(share := members["right"].mean()) else None,
            }
        )
    return sorted(found, key=lambda entry: entry["generation"] or 10**9)


def _gallery(run: RunFolder, labels: pd.DataFrame) -> list[dict[str, Any]]:
    """Images whose set grew, with what was given and what is new."""
    listed = run.table("examples.parquet", "the images whose set grew are not shown")
    if listed is None:
        return []
    by_id = dict(tuple(labels.groupby("id")))
    shown = []
    for row, image in run.gallery.items():
        facts = listed.iloc[row]
        new = by_id[facts["id"]].sort_values("score", ascending=False, kind="stable")
        shown.append(
            {
                "id": str(facts["id"]),
                "given": str(facts["given"]) or "no label",
                "picture": inlined([image]),
                "new": [
                    {
                        "label": str(entry["label"]),
                        "score": float(entry["score"]),
                        "generation": None if pd.isna(entry["generation"]) else int(entry["generation"]),
                        "right": None if pd.isna(entry.get("right")) else bool(entry["right"]),
                    }
                    for entry in new.head(SHOWN_LABELS).to_dict("records")
                ],
                "more": max(0, len(new) - SHOWN_LABELS),
            }
        )
    return shown

"""What the report of a moderation run shows."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from tutelage.data.table import SPLITS
from tutelage.files import literal
from tutelage.reports.curves import MODELS, judged_test, operating_plots
from tutelage.reports.run_folder import RunFolder
from tutelage.reports.sections import duplicate_groups, subtasks, suspects
from tutelage.reports.subtask_names import NAMES, typed_names
from tutelage.reports.wording import Names, rate, verdict, why_unfrozen

FIGURES = {
    "npv_at_fpr": "NPV: share of defects among the blocked",
    "lift_at_fpr": "Lift: NPV above its floor",
    "recall_at_fpr": "Share of acceptable images that pass",
}
CANDIDATES = {
    "fine_tuned": "plain fine-tuning",
    "student": "the student",
    "regression": "kernel regression on the features",
    "specialists": "the specialists",
    "unfrozen": "the model otherwise served, with its encoder’s last block trained",
}
COMPETENCES = {
    "precision": "local precision",
    "top": "local precision",
    "local_precision": "local precision",
    "npv": "NPV",
    "lift": "lift over the floor",
}


def view(run: RunFolder) -> dict[str, Any]:
    """Return what the template shows besides the frame, as plain values."""
    metrics = run.metrics
    examples = run.table("examples.parquet", "no curve on the test and no doubted label is shown")
    table = run.table("subtasks.parquet", "the sub-tasks are not shown")
    duplicates = run.table("duplicates.csv", "near-duplicates are not listed")
    rates = sorted(metrics["floor"], key=float)
    fpr = f"{metrics['pipeline'].get('fpr', 0.01):g}"
    fpr = fpr if fpr in rates else rates[0]
    bar = metrics["subtasks"].get("threshold")
    gallery, names = run.gallery, typed_names(run.folder)
    test = None if examples is None else judged_test(examples)
    return {
        "models": MODELS,
        "candidates": {
            name: " + ".join(CANDIDATES[part] for part in name.split("+")) for name in metrics["candidates"]
        },
        "chosen": " + ".join(CANDIDATES[part] for part in metrics["choice"]["chosen"].split("+")),
        "names": Names(),
        "unfrozen": why_unfrozen(metrics.get("unfrozen")),
        "names_file": NAMES,
        "weighting": metrics.get("weighting"),
        "token_cosine": metrics.get("token_cosine", {}),
        "figures": FIGURES,
        "rates": rates,
        "fpr": fpr,
        "splits": sorted(metrics["data"]["counts"], key=SPLITS.index),
        "verdict": "open"
        if fpr in (metrics["corrected"] or {}).get("doubtful", {})
        else verdict((metrics["corrected"] or metrics)["difference"]["npv_at_fpr"][fpr]),
        "passing": passing(run, test, fpr),
        "same": same_threshold(metrics),
        "competence": COMPETENCES.get(metrics["subtasks"]["competence"], metrics["subtasks"]["competence"]),
        "bar": bar if bar is not None and math.isfinite(bar) else None,
        "subtasks": None if table is None else list(subtasks(table, examples, gallery, names)),
        "operating": [] if test is None else operating_plots(test, metrics, rates),
        "suspects": None if examples is None else suspects(examples, gallery),
        "duplicates": None if duplicates is None else duplicate_groups(duplicates),
    }


def passing(run: RunFolder, test: pd.DataFrame | None, fpr: str) -> dict[str, int]:
    """Return how many test images are defective, by answers where people gave some, and how many of these pass."""
    if test is None:
        return {"defects": run.metrics["data"]["counts"]["test"]["defective"], "passed": 0}
    defects = test["truth"] == 0
    answers = run.folder / "review" / "answers.csv"
    told = run.metrics["corrected"] or {}
    if told.get("checked") and fpr not in told.get("too_few", {}):
        said = pd.read_csv(answers, dtype=str, keep_default_na=False).map(literal).set_index("id")["label"]
        defects = test["id"].astype(str).map(said) == "defective"
    passed = defects & (test["score"] > run.metrics["thresholds"][fpr])
    return {"defects": int(defects.sum()), "passed": int(passed.sum())}


def same_threshold(metrics: dict[str, Any]) -> list[list[str]]:
    """Return the rates that share a threshold, in words, of each threshold that several share."""
    by_threshold: dict[float, list[str]] = {}
    for name in sorted(metrics["thresholds"], key=float):
        by_threshold.setdefault(metrics["thresholds"][name], []).append(rate(name))
    return [names for names in by_threshold.values() if len(names) > 1]

"""What the report of a moderation run shows."""

from __future__ import annotations

import math
from typing import Any

from tutelage.data.table import SPLITS
from tutelage.reports.curves import MODELS, judged_test, operating_plots
from tutelage.reports.run_folder import RunFolder
from tutelage.reports.sections import duplicate_groups, subtasks, suspects
from tutelage.reports.subtask_names import NAMES, typed_names
from tutelage.reports.wording import Names, verdict, why_unfrozen

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
    "unfrozen": "what is served otherwise, with its encoder’s last block trained",
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
        "verdict": verdict(metrics["difference"]["npv_at_fpr"][fpr]),
        "defects": metrics["data"]["counts"]["test"]["defective"] if test is None else int((test["truth"] == 0).sum()),
        "competence": COMPETENCES.get(metrics["subtasks"]["competence"], metrics["subtasks"]["competence"]),
        "bar": bar if bar is not None and math.isfinite(bar) else None,
        "subtasks": None if table is None else list(subtasks(table, examples, gallery, names)),
        "operating": [] if test is None else operating_plots(test, metrics, rates),
        "suspects": None if examples is None else suspects(examples, gallery),
        "duplicates": None if duplicates is None else duplicate_groups(duplicates),
    }

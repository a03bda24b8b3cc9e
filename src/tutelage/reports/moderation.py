"""The report of a moderation run: one HTML file that needs nothing else, from what lies in the run's folder."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tutelage.data.table import SPLITS
from tutelage.reports.curves import MODELS, judged_test, operating_plots, training_plots
from tutelage.reports.page import write_page
from tutelage.reports.run_folder import RunFolder, read_run
from tutelage.reports.sections import duplicate_groups, settings, subtasks, suspects
from tutelage.reports.wording import verdict

LISTED = 100  # rows of a table that may be as long as the data
FIGURES = {
    "npv_at_fpr": "NPV: share of defects among the blocked",
    "lift_at_fpr": "Lift: NPV above its floor",
    "recall_at_fpr": "Share of acceptable images that pass",
}
COMPETENCES = {
    "precision": "local precision",
    "top": "local precision",
    "local_precision": "local precision",
    "npv": "NPV",
    "lift": "lift over the floor",
}


def write_report(run: Path) -> Path:
    """Write ``report.html`` from what lies in a run's folder, and return its path.

    Only metrics.json must be there; what else is missing is named in the report. The same folder gives the same file.

    Raises:
        FileNotFoundError: the folder holds no metrics.json.
    """
    found = read_run(run)
    return write_page(run / "report.html", "moderation.html", view(found))


def view(run: RunFolder) -> dict[str, Any]:
    """Everything that the template shows, as plain values."""
    metrics = run.metrics
    rates = sorted(metrics["floor"], key=float)
    fpr = f"{metrics['pipeline'].get('fpr', 0.01):g}"
    fpr = fpr if fpr in rates else rates[0]
    bar = metrics["subtasks"].get("threshold")
    test = None if run.examples is None else judged_test(run.examples)
    return {
        "metrics": metrics,
        "models": MODELS,
        "figures": FIGURES,
        "rates": rates,
        "fpr": fpr,
        "splits": sorted(metrics["data"]["counts"], key=SPLITS.index),
        "verdict": verdict(metrics["difference"]["npv_at_fpr"][fpr]),
        "defects": metrics["data"]["counts"]["test"]["defective"] if test is None else int((test["truth"] == 0).sum()),
        "finished": None if run.finished is None else datetime.fromtimestamp(run.finished, UTC),
        "competence": COMPETENCES.get(metrics["subtasks"]["competence"], metrics["subtasks"]["competence"]),
        "bar": bar if bar is not None and math.isfinite(bar) else None,
        "subtasks": None if run.subtasks is None else list(subtasks(run, run.subtasks)),
        "operating": [] if test is None else operating_plots(test, metrics, rates),
        "trainings": list(training_plots(run.trainings)),
        "suspects": None if run.examples is None else suspects(run.examples, run.gallery),
        "problems": None if run.problems is None else run.problems.to_dict("records"),
        "duplicates": None if run.duplicates is None else duplicate_groups(run.duplicates),
        "settings": None if run.config is None else settings(run.config),
        "missing": run.missing,
        "listed": LISTED,
    }

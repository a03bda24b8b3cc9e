"""The curves of a moderation run: both models on the test at every threshold, and how everything was trained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tutelage.metrics import operating_point
from tutelage.reports.plots import Line, line_plot, training_curves
from tutelage.reports.run_folder import Training
from tutelage.reports.wording import fixed, percent, rate

MODELS = {"model": "Tutelage", "fine_tuned": "Plain fine-tuning"}
SCORES = {"model": "score", "fine_tuned": "score_fine_tuned"}


def judged_test(examples: pd.DataFrame) -> pd.DataFrame:
    """The test with the labels that it is judged by: the true ones where they are known."""
    test = examples[examples["split"] == "test"]
    test = test.assign(truth=test["true_label"] if "true_label" in test else test["label"])
    return test[test["truth"] >= 0].dropna(subset=[*SCORES.values()])


def operating_curve(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """NPV at each false-positive rate that can be had: (n,) rates, at most 400 of them, and (n,) NPVs."""
    defects = int((labels == 0).sum())
    passing = np.unique(np.linspace(0, defects - 1, min(defects, 400)).round())
    npv = [operating_point(scores, labels, (count + 0.5) / defects).npv for count in passing]
    return passing / defects, np.array(npv)


def operating_plots(test: pd.DataFrame, metrics: dict[str, Any], rates: list[str]) -> list[dict[str, Any]]:
    """The two models at every threshold: NPV against the false-positive rate, and precision against recall."""
    labels = test["truth"].to_numpy(np.int64)
    if not {0, 1} <= set(labels):
        return []
    near, all_rates = [], []
    for model, name in MODELS.items():
        fpr, npv = operating_curve(test[SCORES[model]].to_numpy(np.float64), labels)
        known = metrics[model]["npv_at_fpr"]
        points = [(float(at), known[at]["value"], known[at]["low"], known[at]["high"]) for at in rates]
        near.append(Line(name, fpr, npv, step=True, points=points))
        all_rates.append(Line(name, 1 - fpr, npv))
    told = " ".join(
        f"At {rate(at)}: "
        + ", ".join(f"{name} {percent(metrics[model]['npv_at_fpr'][at]['value'])}" for model, name in MODELS.items())
        + "."
        for at in rates
    )
    widest = max(0.2, 1.5 * max(map(float, rates)))
    return [
        {
            "title": "Where the model is used",
            "caption": "Share of defects among the blocked images (NPV) by the share of defects that may pass (FPR). "
            "Points: the rates of the table above, with their 95 % intervals.",
            "svg": line_plot(
                near,
                x_label="defects that pass (FPR)",
                y_label="defects among the blocked (NPV)",
                name="npv",
                alt=f"NPV against the false-positive rate. {told}",
                x_range=(0, widest),
                y_range=(0, 1),
                reference=("floor", metrics["floor"][rates[0]]),
                percent=True,
            ),
        },
        {
            "title": "Precision and recall",
            "caption": "Share of defects among the blocked images (precision) by the share of all defects that are caught "
            "(recall), over every threshold.",
            "svg": line_plot(
                all_rates,
                x_label="defects that are caught (recall)",
                y_label="defects among the blocked (precision)",
                name="recall",
                alt="Precision against recall of defects, at every threshold, for both models.",
                x_range=(0, 1),
                y_range=(0, 1.02),
                percent=True,
            ),
        },
    ]


def training_plots(trainings: list[Training]) -> Iterator[dict[str, Any]]:
    """One figure a training; those whose names differ in a last number share one. The models that are compared come first."""
    families: dict[str, list[Training]] = {}
    for training in trainings:
        families.setdefault(re.sub(r"[- ]\d+$", "", training.name), []).append(training)
    first = ("student", "fine-tuned")
    ordered = sorted(families, key=lambda name: first.index(name) if name in first else len(first))
    for place, family in enumerate(ordered):
        members = families[family]
        title = members[0].name if len(members) == 1 else f"{family}, {len(members)} trainings"
        yield {"title": title, "svg": training_curves(members, f"training-{place}", described(members))}


def described(trainings: list[Training]) -> str:
    """Training curves in words: where the losses of the first start and end."""
    first = trainings[0]
    losses = ", ".join(f"{name} from {fixed(seen[0])} to {fixed(seen[-1])}" for name, seen in first.losses.items())
    return f"Training losses of {first.name} over {first.steps[-1]} steps: {losses}."

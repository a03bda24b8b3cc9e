"""What the report of a distillation shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from tutelage.reports.auxiliary import curves
from tutelage.reports.plots import histogram, inlined
from tutelage.reports.run_folder import RunFolder
from tutelage.reports.wording import Names, compared, fixed, why_served, why_unfrozen

NAMES = Names(
    ce="the labels alone",
    kd="distillation at a fixed weight",
    equal="label and teachers equally",
    hpo="distillation at a tuned weight",
    ridge="the labels alone, by a ridge classifier",
    coreset="a coreset by the examples’ weights",
)


def view(run: RunFolder) -> dict[str, Any]:
    """Return what the template shows besides the frame, as plain values."""
    metrics = run.metrics
    served = metrics["choice"]["chosen"]
    weights = run.table("weights.parquet", "weights are not shown")
    examples = run.table("examples.parquet", "the labels in doubt are not shown")
    importance = run.table("importance.parquet", "importances by module are not shown")
    return {
        "method": metrics["pipeline"]["method"],
        "served": served,
        "names": NAMES,
        "verdicts": [
            *why_served(metrics["choice"], NAMES),
            *why_unfrozen(metrics.get("unfrozen")),
            *(
                compared(NAMES[served], NAMES[other], gain, points=True)
                for other, gain in metrics["difference"].items()
            ),
        ],
        "figure": None if weights is None else weights_figure(weights, metrics),
        "mean_weights": None if weights is None else mean_weights(metrics),
        "doubted": None if examples is None else list(doubted(run, examples, weights)),
        "in_doubt": 0 if examples is None else int((examples["doubted"] & (examples["split"] != "left_out")).sum()),
        "known": examples is not None and "true_label" in examples,
        "curves": [] if importance is None else list(curves(importance)),
    }


def weights_figure(weights: pd.DataFrame, metrics: dict[str, Any]) -> Markup | None:
    """How the teachers' weight minus the label's is distributed, over right and wrong labels where they are known."""
    found = metrics["weights"]
    teachers = [name for name in weights if str(name).startswith("weight_teacher")]
    if found is None or not teachers:
        return None
    difference = weights[teachers].mean(axis=1) - weights["weight_label"]
    if not difference.min() < difference.max():
        return None
    parts: dict[str, NDArray[np.float64]] = {"all": difference.to_numpy(np.float64)}
    if "true_label" in weights and (wrong := weights["label"] != weights["true_label"]).any():
        labelled = weights["label"] != ""
        parts = {
            "right labels": difference[~wrong & labelled].to_numpy(np.float64),
            "wrong labels": difference[wrong & labelled].to_numpy(np.float64),
        }
    told = ", ".join(f"{name}: mean {fixed(float(np.mean(values)), 2)}" for name, values in parts.items())
    return histogram(
        parts,
        x_label="teacher’s weight minus the label’s",
        y_label="share of the examples",
        name="weights",
        alt=f"Distribution of the teacher's weight minus the label's. {told}.",
    )


def mean_weights(metrics: dict[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """The mean weight of each loss over the examples with right and with wrong labels, as far as that is known."""
    found = metrics["weights"] or {}
    rows = {"right": "examples with the right label", "wrong": "examples with a wrong label", "mean": "all examples"}
    return [(title, found[key]) for key, title in rows.items() if key in found]


def doubted(run: RunFolder, examples: pd.DataFrame, weights: pd.DataFrame | None) -> Iterator[dict[str, Any]]:
    """The labels in most doubt, with their pictures, and the weights of those that training has seen."""
    losses = [] if weights is None else [str(name) for name in weights if str(name).startswith("weight_")]
    by_id = {} if weights is None else weights.set_index("id")[losses].to_dict("index")
    for row, picture in run.gallery.items():
        facts = examples.iloc[row]
        told = by_id.get(facts["id"], {})
        yield {
            "id": str(facts["id"]),
            "picture": inlined([picture]),
            "label": facts["label"],
            "predicted": facts["predicted"],
            "suspicion": float(facts["suspicion"]),
            "weights": {str(name).removeprefix("weight_").replace("_", " "): value for name, value in told.items()},
            "truth": facts["true_label"] if "true_label" in examples else None,
            "wrong": bool(facts["true_label"] != facts["label"]) if "true_label" in examples else None,
        }

"""The report of a distillation: one HTML file that needs nothing else, from what lies in the run's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from markupsafe import Markup
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tutelage.reports.auxiliary import curves
from tutelage.reports.curves import training_plots
from tutelage.reports.page import write_page
from tutelage.reports.plots import histogram, montage
from tutelage.reports.run_folder import read_trainings
from tutelage.reports.sections import inlined, settings
from tutelage.reports.wording import fixed

NAMES = {
    "ce": "the labels alone",
    "kd": "distillation at a fixed weight",
    "dgkd": "DGKD",
    "equal": "label and teachers equally",
    "hpo": "distillation at a tuned weight",
    "uncertainty": "uncertainty weighting",
    "gradient_cosine": "gradient cosine",
    "superloss": "SuperLoss",
    "crust": "CRUST",
    "learning_to_reweight": "Learning to Reweight",
    "meta_weight_net": "Meta-Weight-Net",
    "auxilearn": "AuxiLearn",
    "maoal": "MAOAL",
    "amal": "AMAL",
    "joint": "Joint",
    "coreset": "a coreset by AMAL’s weights",
}


def write_distill_report(run: Path) -> Path:
    """Write ``report.html`` from what lies in a run's folder, and return its path. The same folder gives the same file.

    Raises:
        FileNotFoundError: the folder holds no metrics.json.
    """
    if not (run / "metrics.json").is_file():
        raise FileNotFoundError(f"{run} holds no metrics.json: give the folder of a run that has finished")
    return write_page(run / "report.html", "distill.html", view(run))


def view(run: Path) -> dict[str, Any]:
    """Everything that the template shows, as plain values."""
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    method, log, config = metrics["pipeline"]["method"], run / "log.jsonl", run / "config.yaml"
    weights, importance = (_table(run / f"{name}.parquet") for name in ("weights", "importance"))
    return {
        "metrics": metrics,
        "method": method,
        "names": NAMES,
        "verdicts": [
            (other, verdict(NAMES[method], NAMES[other], gain)) for other, gain in metrics["difference"].items()
        ],
        "figure": None if weights is None else weights_figure(weights, metrics),
        "weighed": None if weights is None else weighed(metrics),
        "doubted": None if weights is None else list(doubted(run, weights, metrics["data"]["classes"])),
        "known": weights is not None and "true_label" in weights,
        "curves": [] if importance is None else list(curves(importance)),
        "trainings": list(training_plots(read_trainings(log))) if log.is_file() else [],
        "settings": settings(yaml.safe_load(config.read_text(encoding="utf-8"))) if config.is_file() else None,
    }


def verdict(ours: str, theirs: str, gain: dict[str, float]) -> str:
    """Say what the interval of a difference of accuracies allows to say."""
    points, low, high = (100 * gain[key] for key in ("value", "low", "high"))
    between = f"{fixed(points, 1, '+')} points, with a 95 % interval from {fixed(low, 1, '+')} to {fixed(high, 1, '+')}"
    if low > 0:
        return f"Better than {theirs}: {between}."
    if high < 0:
        return f"Worse than {theirs}: {between}."
    return f"This test cannot tell {ours} from {theirs}: {between}."


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
        labelled = weights["label"] >= 0
        parts = {
            "right labels": difference[~wrong & labelled].to_numpy(np.float64),
            "wrong labels": difference[wrong & labelled].to_numpy(np.float64),
        }
    told = ", ".join(f"{name}: mean {fixed(float(np.mean(values)), 2)}" for name, values in parts.items())
    return Markup(
        histogram(
            parts,
            x_label="teacher’s weight minus the label’s",
            y_label="share of the examples",
            name="weights",
            alt=f"Distribution of the teacher's weight minus the label's. {told}.",
        )
    )


def weighed(metrics: dict[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """The mean weight of each loss over the examples with right and with wrong labels, as far as that is known."""
    found = metrics["weights"] or {}
    rows = {"right": "examples with the right label", "wrong": "examples with a wrong label", "mean": "all examples"}
    return [(title, found[key]) for key, title in rows.items() if key in found]


def doubted(run: Path, weights: pd.DataFrame, classes: list[str]) -> Any:
    """The labels that were believed least, with their pictures."""
    path = run / "gallery.safetensors"
    if not path.is_file():
        return
    tensors = load_file(path)
    losses = [str(name) for name in weights if str(name).startswith("weight_")]
    for place, picture in zip(tensors["rows"].tolist(), tensors["images"], strict=True):
        facts = weights.iloc[place]
        yield {
            "id": str(facts["id"]),
            "picture": inlined(montage([picture], 1, 120)),
            "label": classes[int(facts["label"])],
            "predicted": classes[int(facts["predicted"])],
            "doubt": float(facts["doubt"]),
            "weights": {name.removeprefix("weight_").replace("_", " "): float(facts[name]) for name in losses},
            "truth": classes[int(facts["true_label"])] if "true_label" in weights else None,
            "wrong": bool(facts["true_label"] != facts["label"]) if "true_label" in weights else None,
        }


def _table(path: Path) -> pd.DataFrame | None:
    return pd.read_parquet(path) if path.is_file() else None

"""What a run leaves behind: figures on the test part, which rules were trusted where, and what to label next."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.data.table import label_counts
from tutelage.data.text_table import SPLITS
from tutelage.files import write_table
from tutelage.metrics import confusion_interval
from tutelage.models import text_classifier
from tutelage.recipes.denoise.candidates import METRICS, Models
from tutelage.recipes.denoise.settings import DenoiseSettings
from tutelage.recipes.denoise.tables import examples_table, label_next, rules_table, trust_table
from tutelage.recipes.denoise.task import RuleTask

WEIGHTS = "weights.parquet"
SERVED = "model"
Predictions = dict[str, NDArray[np.int64]]


def evaluate(task: RuleTask, settings: DenoiseSettings, models: Models, out: Path) -> dict[str, Any]:
    """Evaluate the models on the test texts, and write the served model and the tables."""
    (out / WEIGHTS).unlink(missing_ok=True)  # of a former run with other settings
    shutil.rmtree(out / "model", ignore_errors=True)
    if (models.asked.stage / WEIGHTS).is_file():
        shutil.copy(models.asked.stage / WEIGHTS, out / WEIGHTS)
    trust = trust_table(task, models)
    write_table(out / "examples.parquet", examples_table(task, models))
    write_table(out / "trust.parquet", trust)
    write_table(out / "rules.parquet", rules_table(task, trust))
    task.votes.write(out / "votes.parquet", task.table["id"].tolist(), task.classes)
    write_table(out / "duplicates.csv", task.duplicates)
    write_table(out / "label_next.csv", label_next(task, settings.suggest))
    text_classifier([each.refit.model for each in models.served]).save(out / "model", classes=task.classes)
    if task.transform is not None:
        task.transform.save(out / "model")
    return figures(task, settings, models)


def predictions(task: RuleTask, models: Models) -> Predictions:
    """Return the classes that each predicts, for every text: the served model, each candidate if several, the rules alone."""
    found = {SERVED: models.probabilities().argmax(1)}
    if len(models.candidates) > 1:
        found |= {name: each.refit.probabilities.argmax(1) for name, each in models.candidates.items()}
    found["majority"] = task.majority()
    if "label_model" in models.asked.refit.outputs:
        label_model = models.asked.refit.outputs["label_model"].argmax(1).numpy()
        found["label_model"] = np.where(task.votes.covered, label_model, task.default_class())
    return found


def figures(task: RuleTask, settings: DenoiseSettings, models: Models) -> dict[str, Any]:
    """Return what metrics.json holds; it is a function of its arguments, without times or paths."""
    table = task.table
    test = ((table["split"] == "test") & (table["label"] >= 0)).to_numpy()
    labels = table["label"].to_numpy()[test]
    said = {name: predicted[test] for name, predicted in predictions(task, models).items()} if test.any() else {}
    covered, silent = task.votes.covered, task.silent_rules()
    few, _, val = task.parts()
    scores = {name: METRICS[settings.select_by](predicted, labels) for name, predicted in said.items()}

    def interval(metric: str, *predicted: NDArray[np.int64]) -> dict[str, float]:
        ours, *theirs = predicted
        given = {"classes": len(task.classes), "seed": settings.seed}
        return confusion_interval(METRICS[metric], ours, labels, *theirs, **given).plain()

    return {
        "pipeline": {"method": settings.method, "weighting": models.asked.refit.weighting.name},
        "data": {
            "classes": task.classes,
            "counts": label_counts(table, task.classes, SPLITS),
            "left_out": task.problems.counts(),
            "duplicates": len(task.duplicates),
            "rules": len(task.votes.names) - len(silent),
            "silent_rules": silent,
            "failures": task.failures,
            "covered": {
                split: float(covered[(table["split"] == split).to_numpy()].mean())
                for split in SPLITS
                if (table["split"] == split).any()
            },
        },
        "labels_used": {name: 0 if name == "majority" else len(few) + len(val) for name in said},
        "tested_on": int(test.sum()),
        "select_by": settings.select_by,
        "best": max(scores, key=lambda name: (scores[name], name == SERVED), default=None),
        "test": {name: {metric: interval(metric, predicted) for metric in METRICS} for name, predicted in said.items()},
        "difference": {
            name: {metric: interval(metric, said[SERVED], predicted) for metric in METRICS}
            for name, predicted in said.items()
            if name != SERVED
        },
        "choice": models.choice.told(),
    }

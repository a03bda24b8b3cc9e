"""What a run leaves behind: its figures, the new labels, and the pictures of the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tutelage.data.label_sets import joined
from tutelage.files import write_table
from tutelage.metrics import (
    added_label_score,
    bootstrap_rows,
    given_label_recall,
    label_sets,
    mean_average_precision,
    mean_set_size,
    real_accuracy,
    real_f1,
)
from tutelage.models import load_model, save_model
from tutelage.recipes.encoding import whole
from tutelage.recipes.multilabel.choice import Choice
from tutelage.recipes.multilabel.settings import ONE_LABEL, MultilabelSettings
from tutelage.recipes.multilabel.task import MultilabelTask
from tutelage.reports.run_folder import write_gallery
from tutelage.signals.pseudo_labels import NEVER

PAPER_THRESHOLDS = (0.25, 0.5)
RESAMPLES = 500
PICTURES = 48


def evaluate(task: MultilabelTask, settings: MultilabelSettings, choice: Choice, out: Path) -> dict[str, Any]:
    """Evaluate the chosen model on the test, and write it and the tables."""
    labels = labels_table(task, choice)
    new = {"new": len(labels), "images_that_grew": int(labels["id"].nunique())}
    model, _ = load_model(choice.trained.folder)
    model = model if model.spec.encoder is not None else whole(model, task.images)
    one = settings.method in ONE_LABEL
    save_model(model, out / "model", classes=task.classes, threshold=choice.threshold, softmax=one)
    write_table(out / "examples.parquet", examples_table(task, choice))
    write_table(out / "labels.parquet", labels)
    write_table(out / "duplicates.csv", task.duplicates)
    sure = labels.groupby("id")["score"].max().sort_values(ascending=False, kind="stable")
    row_of = {id: row for row, id in enumerate(task.images.table["id"])}
    rows = [row_of[id] for id in sure.index[:PICTURES]]
    write_gallery(out, task.images.images, rows)
    return {**figures(task, settings, choice), "labels": new}


def figures(task: MultilabelTask, settings: MultilabelSettings, choice: Choice) -> dict[str, Any]:
    """Return what metrics.json holds; a function of its arguments, without times or paths.

    The test is judged by all labels where they are known, and by the given ones elsewhere. Intervals are 95 % bootstrap over
    the test's images, figures without one are exact.
    """
    rows = task.images.rows("test")
    judged_NC = task.judged_by()[rows].numpy()
    judged = np.flatnonzero(judged_NC.any(1))
    rows, judged_NC = rows[judged], judged_NC[judged]
    scores_NC = choice.trained.scores_NC[rows].double().numpy()
    labels_N = task.images.labels[rows].numpy()
    test: dict[str, Any] = {}
    for name, threshold in thresholds(choice).items():
        sets_NC = label_sets(scores_NC, threshold)
        test[name] = {
            "threshold": threshold,
            "f1": _interval(real_f1, sets_NC, judged_NC, seed=settings.seed),
            "mean_set_size": _interval(mean_set_size, sets_NC, seed=settings.seed),
            "given_label_recall": given_label_recall(sets_NC, labels_N) if (labels_N >= 0).any() else None,
            "added_label_score": added_label_score(scores_NC, sets_NC, labels_N),
        }
    size = judged_NC.sum(1)
    everything, one = np.ones_like(judged_NC), np.eye(judged_NC.shape[1], dtype=bool)[judged_NC.argmax(1)]
    table = task.images.table
    return {
        "pipeline": {"method": settings.method},
        "data": {
            "counts": {
                split: {
                    "labelled": int(((table["split"] == split) & (table["label"] >= 0)).sum()),
                    "unlabelled": int(((table["split"] == split) & (table["label"] < 0)).sum()),
                }
                for split in sorted(set(table["split"]))
            },
            "classes": task.classes,
            "left_out": task.problems.counts(),
            "duplicates": len(task.duplicates),
        },
        "validation": {
            "criterion": choice.criterion,
            "value": choice.value,
            "chosen": choice.trained.name,
            "threshold": choice.threshold,
            "tried": choice.tried,
        },
        "test": {
            "judged_by": "all labels" if task.truth_NC is not None else "the given labels",
            "images": len(rows),
            "labels_per_image": float(size.mean()),
            "accuracy": _interval(real_accuracy, scores_NC, judged_NC, seed=settings.seed),
            "mean_average_precision": mean_average_precision(scores_NC, judged_NC),
            **test,
        },
        "anchors": {
            "one_right_label": {"f1": real_f1(one, judged_NC), "mean_set_size": 1.0},
            "every_label": {"f1": real_f1(everything, judged_NC), "mean_set_size": float(judged_NC.shape[1])},
        },
        "choice": choice.served.told(),
        "unfrozen": choice.unfrozen.told() if choice.unfrozen else None,
        "generations": {"coverage": choice.asked.coverage},
    }


def thresholds(choice: Choice) -> dict[str, float | None]:
    """Return the thresholds at which the test is judged: the chosen one, and the paper's two."""
    if choice.threshold is None:
        return {"chosen": None}
    return {"chosen": choice.threshold, **{f"at_{threshold:g}": threshold for threshold in PAPER_THRESHOLDS}}


def _interval(metric: Callable[..., float], *columns: NDArray[Any], seed: int) -> dict[str, float]:
    return bootstrap_rows(metric, *columns, resamples=RESAMPLES, seed=seed).plain()


def examples_table(task: MultilabelTask, choice: Choice) -> pd.DataFrame:
    """Return one row for each image: what was given, and the predicted set with its scores, the surest first."""
    table = task.images.table
    scores_NC = choice.trained.scores_NC.double().numpy()
    sets_NC = label_sets(scores_NC, choice.threshold)
    names, values = named(task.classes, scores_NC, sets_NC)
    listed = pd.DataFrame({"id": table["id"], "image": table.get("image", ""), "split": table["split"]})
    listed["given"] = joined(task.classes, task.given_NC.numpy())
    listed["labels"], listed["scores"] = names, values
    listed["grown_by"] = (sets_NC & ~task.given_NC.numpy()).sum(1)
    if task.truth_NC is not None:
        listed["truth"] = joined(task.classes, task.truth_NC.numpy())
    return listed


def named(
    classes: list[str], scores_NC: NDArray[np.float64], sets_NC: NDArray[np.bool_]
) -> tuple[list[list[str]], list[list[float]]]:
    """Return each set as names and as scores, the surest first."""
    order_NC = np.argsort(-scores_NC, axis=1, kind="stable")
    names, values = [], []
    for row, order in enumerate(order_NC):
        inside = order[sets_NC[row][order]]
        names.append([classes[c] for c in inside])
        values.append([float(scores_NC[row, c]) for c in inside])
    return names, values


def labels_table(task: MultilabelTask, choice: Choice) -> pd.DataFrame:
    """Return the new labels of the training images and of the unlabelled ones: one row for each that was not given.

    ``generation`` counts from 1 and says which teacher first named it; none is a label that only the last model names.
    ``right`` says whether it is true, where that is known of the image.
    """
    rows = task.images.rows("train", "unlabelled").numpy()
    scores_NC = choice.trained.scores_NC.double().numpy()
    sets_NC = label_sets(scores_NC, choice.threshold) & ~task.given_NC.numpy()
    place, label = np.nonzero(sets_NC[rows])
    row = rows[place]
    said = choice.trained.first_said
    first = np.full(len(row), NEVER) if said is None else said.numpy()[row, label].astype(np.int64)
    table = pd.DataFrame(
        {
            "id": task.images.table["id"].to_numpy()[row],
            "given": np.array(joined(task.classes, task.given_NC.numpy()), dtype=object)[row],
            "label": np.array(task.classes, dtype=object)[label],
            "score": scores_NC[row, label],
            "generation": pd.array(np.where(first == NEVER, 0, first), dtype="Int64"),
        }
    )
    table["generation"] = table["generation"].mask(first == NEVER)
    if task.truth_NC is not None:
        table["right"] = task.truth_NC.numpy()[row, label]
        unknown = ~task.truth_NC.any(1).numpy()[row]
        if unknown.any():
            table["right"] = table["right"].astype("boolean").mask(unknown)
    return table

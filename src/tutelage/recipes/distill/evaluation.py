"""What a run leaves behind: the figures, the weights of every example, and the pictures of the report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.data.drawn import PARTS
from tutelage.files import write_table
from tutelage.metrics import auroc, bootstrap, doubts, paired_bootstrap
from tutelage.models import load_model, save_model
from tutelage.recipes.distill.pipeline import Pipeline
from tutelage.recipes.distill.ridge import RIDGE
from tutelage.recipes.distill.settings import DistillSettings
from tutelage.recipes.distill.task import DistillTask
from tutelage.recipes.distill.taught import Taught, doubt_of
from tutelage.recipes.encoding import whole
from tutelage.recipes.served import Served, serve_best
from tutelage.recipes.unfreezing import Unfrozen, half_label, mean_gain, unfrozen
from tutelage.reports.auxiliary import importance_table
from tutelage.reports.run_folder import write_gallery
from tutelage.signals import CrossEntropy

PICTURES = 48
PLAIN = "ce"
"""The student of the labels alone, always a candidate; of features, the one in closed form is plain training, too."""
CRITERION = "accuracy on the validation part"


def share(right: NDArray[np.float64], _: NDArray[np.int64]) -> float:
    """Accuracy, of whether each answer is right."""
    return float(right.mean())


def right(taught: Taught, task: DistillTask) -> NDArray[np.float64]:
    """Return whether the answer to each test image is right, (n,), by the true labels where they are known."""
    rows = task.images.rows("test")
    return (taught.logits[rows].argmax(1) == task.judged_by()[rows]).double().numpy()


def served(task: DistillTask, settings: DistillSettings, found: dict[str, Taught]) -> Served:
    """Choose the student that is served by its accuracy on the validation part, the student of the labels alone being one.

    Accuracy, since it keeps its order where labels are wrong at random, while a likelihood prefers who learned the mistakes.
    Of features, what must be surely surpassed is the student in closed form: where labels are few or wrong it is better than
    one that is trained by steps, and which strength it needs the labels themselves have told. A coreset is to learn from fewer
    examples, so it is served as it was asked for.
    """
    rows = task.images.rows("val")
    labels = task.labels[rows].numpy()
    candidates = {"coreset": found["coreset"]} if settings.chosen == "coreset" else found
    return serve_best(
        lambda answers, labels: float((answers == labels).mean()),
        {name: [taught.logits[rows].argmax(1).numpy()] for name, taught in candidates.items()},
        [labels],
        criterion=CRITERION,
        plain=next(name for name in (RIDGE, PLAIN, settings.chosen) if name in candidates),
        asked=settings.chosen,
        seed=settings.seed,
    )


def unfreeze(pipeline: Pipeline, best: Taught) -> Unfrozen:
    """Train the last block of the encoder of the student that is served; it is kept if more validation labels are met."""
    task, settings = pipeline.task, pipeline.settings
    made = unfrozen(
        whole(load_model(best.folder)[0].cpu(), task.images),
        "backbone",
        task.images,
        task.images.rows("train"),
        half_label(task.labels, best.logits.softmax(1)),
        CrossEntropy("target", name="half label"),
        partial(save_model, classes=list(task.classes)),
        settings=settings,
        stages=pipeline.stages,
        log=pipeline.log,
    )
    rows = task.images.rows("val")
    right = [(each.logits[rows].argmax(1) == task.labels[rows]).double().numpy() for each in (made, best)]
    return replace(made, gain=mean_gain(right[0] - right[1]), judged_on=len(rows), criterion=CRITERION)


@dataclass(frozen=True)
class Models:
    """The students by method, the teachers, which student is served, and what its encoder's last block has learned."""

    students: dict[str, Taught]
    teachers: list[Taught]
    choice: Served
    unfrozen: Unfrozen | None = None

    def judged(self) -> dict[str, Taught]:
        """Return the students by method, the one that is served as it is served."""
        if self.unfrozen is None or not self.unfrozen.kept:
            return self.students
        best = self.students[self.choice.chosen]
        return {
            **self.students,
            self.choice.chosen: replace(best, logits=self.unfrozen.logits, folder=self.unfrozen.folder),
        }


def evaluate(task: DistillTask, settings: DistillSettings, models: Models, out: Path) -> dict[str, Any]:
    """Evaluate all models on the test, and write the student that is served and the tables."""
    choice, students = models.choice, models.judged()
    best, asked = students[choice.chosen], students[settings.chosen]
    network = load_model(best.folder)[0]
    network = network if network.spec.encoder is not None else whole(network, task.images)
    save_model(network, out / "model", classes=list(task.classes))
    examples = examples_table(task, best)
    weights = weights_table(task, asked, examples)
    write_table(out / "examples.parquet", examples)
    write_table(out / "duplicates.csv", task.duplicates)
    write_table(out / "weights.parquet", weights)
    history, modules = (asked.facts.get(name, []) for name in ("weighting_history", "modules"))
    write_table(out / "importance.parquet", importance_table(history, asked.losses[1:], modules))
    write_gallery(out, task.images.images, doubted(examples))
    found = figures(task, settings, students, models.teachers, choice)
    return {**found, "unfrozen": models.unfrozen.told() if models.unfrozen else None}


def figures(
    task: DistillTask, settings: DistillSettings, found: dict[str, Taught], teachers: list[Taught], choice: Served
) -> dict[str, Any]:
    """Return what metrics.json holds; it is a function of its arguments, without times or paths."""
    test, train = task.images.rows("test"), task.images.rows("train")
    labels, best, asked = task.judged_by()[test].numpy(), found[choice.chosen], found[settings.chosen]

    def judged(taught: Taught) -> dict[str, Any]:
        figure = bootstrap(share, right(taught, task), labels, seed=settings.seed).plain()
        facts = {
            key: value
            for key, value in taught.facts.items()
            if key in ("val", "steps", "skipped", "weights", "strength")
        }
        return {"accuracy": figure, **facts}

    def gain(other: Taught) -> dict[str, float]:
        return paired_bootstrap(share, right(best, task), right(other, task), labels, seed=settings.seed).plain()

    history = asked.facts.get("weighting_history", [])
    return {
        "pipeline": {"method": settings.chosen},
        "data": {
            "classes": list(task.classes),
            "counts": {part: len(task.images.rows(part)) for part in (*PARTS, "unlabelled")},
            "left_out": task.problems.counts(),
            "duplicates": len(task.duplicates),
            "label_noise": None
            if task.truth is None
            else {
                part: float((task.truth != task.labels)[task.images.rows(part)].double().mean())
                for part in ("train", "held_out", "val")
            },
        },
        "teachers": {teacher.name: judged(teacher) for teacher in teachers},
        "methods": {method: judged(taught) for method, taught in found.items()},
        "choice": choice.told(),
        "difference": {method: gain(taught) for method, taught in found.items() if method != choice.chosen},
        "weights": None if asked.weights is None else weights_told(asked, task, train),
        "importance": {
            "modules": asked.facts.get("modules"),
            "last": history[-1].get("importance") if history else None,
        },
    }


def weights_told(taught: Taught, task: DistillTask, rows: Tensor) -> dict[str, Any]:
    """Return how far each loss counts on the average, and how well that tells wrong labels where they are known.

    Args:
        taught: a student with weights.
        task: what it learned from.
        rows: the training examples.
    """
    assert taught.weights is not None
    weights_nK = taught.weights[rows]

    def means(which_n: Tensor) -> dict[str, float]:
        return dict(zip(taught.losses, weights_nK[which_n].double().mean(0).tolist(), strict=True))

    facts: dict[str, Any] = {"mean": means(torch.ones(len(rows), dtype=torch.bool)), "auroc": None, "gap": None}
    if task.truth is None:
        return facts
    wrong_n = (task.truth != task.labels)[rows]
    doubt_n = doubt_of(weights_nK)
    if not wrong_n.any() or wrong_n.all():
        return facts
    facts |= {"right": means(~wrong_n), "wrong": means(wrong_n)}
    if doubt_n.min() < doubt_n.max():
        facts["auroc"] = auroc(doubt_n.double().numpy(), wrong_n.long().numpy())
        facts["gap"] = float(doubt_n[wrong_n].double().mean() - doubt_n[~wrong_n].double().mean())
    return facts


def examples_table(task: DistillTask, taught: Taught) -> pd.DataFrame:
    """Return one row for each image: its label and the model's answer, by name, and how probable it finds the given label."""
    table = task.images.table
    probabilities_NC = taught.logits.double().softmax(1)
    given = task.labels
    names = np.array([*task.classes, ""], dtype=object)  # -1 is the last
    found = doubts(given.numpy(), probabilities_NC.numpy())
    listed = pd.DataFrame(
        {
            "id": table["id"],
            "image": table.get("image", ""),
            "split": table["split"],
            "label": names[given.numpy()],
            "predicted": names[probabilities_NC.argmax(1).numpy()],
            "probability": probabilities_NC.max(1).values.numpy(),
            "probability_of_label": torch.where(
                given >= 0, probabilities_NC.gather(1, given.clamp_min(0)[:, None])[:, 0], torch.nan
            ).numpy(),
            **found,
            "suspected": names[found["suspected"]],
        }
    )
    if task.truth is not None:
        listed["true_label"] = names[task.truth.numpy()]
    return listed


def weights_table(task: DistillTask, taught: Taught, examples: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each training image: its labels, the weight of each loss, and how far its label is doubted.

    ``doubt`` is the mean weight of the teachers minus that of the label where the method learns such weights, and otherwise how
    improbable the model finds the label.
    """
    rows = task.images.rows("train", "unlabelled").numpy()
    listed = examples.iloc[rows].drop(columns=["split", "suspected", "suspicion", "doubted"])
    weights = None if taught.weights is None else taught.weights[rows]
    doubt = 1 - listed["probability_of_label"]
    if weights is not None:
        for place, loss in enumerate(taught.losses):
            listed[f"weight_{loss}"] = weights[:, place].numpy()
        own = doubt_of(weights).double().numpy()
        doubt = pd.Series(own, index=listed.index) if np.nanmin(own) < np.nanmax(own) else doubt
    return listed.assign(doubt=doubt)


def doubted(examples: pd.DataFrame) -> list[int]:
    """Return the rows of the labels in most doubt, as relabel.csv has them first."""
    listed = examples[examples["doubted"] & (examples["split"] != "left_out")]
    return listed.sort_values("suspicion", ascending=False, kind="stable").index[:PICTURES].tolist()

"""AMAL as a recipe: from labelled images and teachers to a small model, and the labels that it did not believe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tutelage.data.table import ImageTable
from tutelage.models import load_model, save_model
from tutelage.recipes.distill import evaluation
from tutelage.recipes.distill.pipeline import Pipeline, Taught
from tutelage.recipes.distill.settings import DistillSettings, pocket
from tutelage.recipes.distill.task import Task
from tutelage.recipes.recipe import Recipe, logits_of
from tutelage.reports.distill import NAMES, view
from tutelage.training import Log


@dataclass(frozen=True)
class Models:
    """The students by method, and the teachers."""

    students: dict[str, Taught]
    teachers: list[Taught]


def train(task: Task, settings: DistillSettings, out: Path, log: Log) -> Models:
    """Train the teachers, and the student by the method and by its baselines."""
    log.say(f"{task.title}: {len(task.images)} images of {len(task.classes)} classes, {task.problems.summary()}")
    pipeline = Pipeline(task, settings, out, log)
    students: dict[str, Taught] = {}
    for method in dict.fromkeys((settings.chosen, *settings.baselines)):
        students[method] = pipeline.student(method)
        log.say(f"{NAMES[method]}: accuracy {students[method].facts['val']:.3f} on the validation part")
    return Models(students, [] if set(students) == {"ce"} else pipeline.teachers())


def evaluate(task: Task, settings: DistillSettings, models: Models, out: Path) -> dict[str, Any]:
    """Evaluate all models on the test, and write the method's student and the tables."""
    best = models.students[settings.chosen]
    save_model(load_model(best.folder)[0], out / "model", classes=list(task.classes))
    evaluation.write_tables(out, task, best)
    return evaluation.evaluate(task, settings, models.students, models.teachers)


def closing(metrics: dict[str, Any]) -> list[str]:
    """Say how the student does, and by how much it is better than the baselines."""
    method = metrics["pipeline"]["method"]
    figure = metrics["methods"][method]["accuracy"]
    gains = [
        f"  {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}] against {NAMES[other]}"
        for other, gain in metrics["difference"].items()
    ]
    return [f"accuracy {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}] by {NAMES[method]}", *gains]


def answer(loaded: Any, images: ImageTable) -> pd.DataFrame:
    """Return id, image, the predicted class and its probability."""
    probability, predicted = logits_of(loaded, images).softmax(1).max(1)
    names = [loaded[1]["classes"][place] for place in predicted.tolist()]
    return images.table[["id", "image"]].assign(predicted=names, probability=probability.numpy())


RECIPE = Recipe(
    "distill",
    {
        "pocket": (pocket(), "images of 8 pixels and perceptrons"),
        "paper": (DistillSettings(), "ResNet-110 teaches ResNet-8 on images of 32 pixels for 240 epochs"),
    },
    train,
    evaluate,
    closing,
    answer,
    lambda table: f"{len(table)} images classified",
    view,
)

"""AMAL as a recipe: from labelled images and teachers to a small model, and the labels that it did not believe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from tutelage.data.encoded import EncodedTable
from tutelage.data.table import ImageTable
from tutelage.recipes.distill.doubts import doubts
from tutelage.recipes.distill.evaluation import Models, evaluate, served, unfreeze
from tutelage.recipes.distill.pipeline import Pipeline
from tutelage.recipes.distill.rehearsal import rehearse, trainings
from tutelage.recipes.distill.ridge import RIDGE, ridge
from tutelage.recipes.distill.settings import DistillSettings, laptop, pocket
from tutelage.recipes.distill.task import DistillTask
from tutelage.recipes.distill.taught import Taught
from tutelage.recipes.forecast import forecast
from tutelage.recipes.images import load_images_model, logits_of, named
from tutelage.recipes.input import augmentation_of
from tutelage.recipes.presets import Presets
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.target import Target, image_or_features
from tutelage.reports.distill import NAMES, view
from tutelage.reports.wording import pluralise, why_served, why_unfrozen
from tutelage.training import Log


def train(task: DistillTask, settings: DistillSettings, out: Path, log: Log) -> Models:
    """Train the teachers, and the student by the method and by its baselines."""
    log.say(f"{task.title}: {len(task.images)} images of {len(task.classes)} classes, {task.problems.summary()}")
    examples = task.images.subset(task.rows("train"))
    log.say(forecast(trainings(task, settings), examples, settings.training.batch_size, augmentation_of(settings)))
    pipeline = Pipeline(task, settings, out, log)
    students: dict[str, Taught] = {}
    encoded = isinstance(task.images, EncodedTable)
    for method in (*settings.trained, *((RIDGE,) if encoded else ())):
        students[method] = ridge(pipeline) if method == RIDGE else pipeline.student(method)
        log.say(f"{NAMES[method]}: accuracy {students[method].facts['val']:.3f} on the validation part")
    choice = served(task, settings, students)
    made = Models(students, [] if set(settings.trained) == {"ce"} else pipeline.teachers(), choice)
    if settings.unfreeze is None:
        return made
    return replace(made, unfrozen=unfreeze(pipeline, students[choice.chosen]))


def closing(metrics: dict[str, Any]) -> list[str]:
    """Say how the student that is served does, by how much it is better than the others, and why it was chosen."""
    method = metrics["choice"]["chosen"]
    figure = metrics["methods"][method]["accuracy"]
    gains = [
        f"  {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}] against {NAMES[other]}"
        for other, gain in metrics["difference"].items()
    ]
    return [
        f"accuracy {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}] by {NAMES[method]}",
        *gains,
        *why_served(metrics["choice"], NAMES),
        *why_unfrozen(metrics.get("unfrozen")),
    ]


def answer(loaded: Any, images: ImageTable) -> pd.DataFrame:
    """Return id, image, the predicted class and its probability."""
    probability, predicted = logits_of(loaded, images).softmax(1).max(1)
    names = [loaded[1]["classes"][place] for place in predicted.tolist()]
    return named(images).assign(predicted=names, probability=probability.numpy())


def target(run: Path) -> Target:
    """Return what is exported: the student."""
    model, facts = load_images_model(run)
    takes = image_or_features(model.spec.image_size, model.spec.num_features)
    return Target(model, None, takes, {"kind": "class"}, list(facts["classes"]))


RECIPE = Recipe(
    "distill",
    Presets(
        {
            "pocket": (pocket(), "images of 8 pixels and perceptrons"),
            "laptop": (laptop(), "models of the features of a frozen encoder"),
            "paper": (DistillSettings(), "ResNet-110 teaches ResNet-8 on images of 32 pixels for 240 epochs"),
        },
        small=("digits",),
    ),
    rehearse,
    train,
    evaluate,
    closing,
    answer,
    lambda table: f"{pluralise(len(table), 'image')} classified",
    view,
    doubts,
    encodes=True,
    target=target,
)

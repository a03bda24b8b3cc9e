"""Multi-label iterated learning as a recipe: from one label an image to a multi-label model and the missing labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from tutelage.data.table import ImageTable
from tutelage.metrics import label_sets
from tutelage.recipes.forecast import forecast
from tutelage.recipes.images import load_images_model, logits_of
from tutelage.recipes.images import named as known
from tutelage.recipes.input import augmentation_of
from tutelage.recipes.multilabel.choice import Choice, choose, unfreeze
from tutelage.recipes.multilabel.doubts import doubts
from tutelage.recipes.multilabel.evaluation import evaluate, named
from tutelage.recipes.multilabel.lesson import training_rows
from tutelage.recipes.multilabel.rehearsal import rehearse, trainings
from tutelage.recipes.multilabel.settings import MultilabelSettings, laptop, pocket
from tutelage.recipes.multilabel.task import MultilabelTask
from tutelage.recipes.multilabel.training import candidates
from tutelage.recipes.multilabel.training import train as train_one
from tutelage.recipes.presets import Presets
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.target import Target, image_or_features
from tutelage.reports.multilabel import NAMES, verdict, view
from tutelage.reports.wording import pluralise, why_served, why_unfrozen
from tutelage.training import Log, Stages


def train(task: MultilabelTask, settings: MultilabelSettings, out: Path, log: Log) -> Choice:
    """Train every candidate, and choose one on validation."""
    log.say(f"{task.title}: {len(task.images)} images of {len(task.classes)} classes, {task.problems.summary()}")
    examples = task.images.subset(training_rows(task, settings))
    log.say(forecast(trainings(task, settings), examples, settings.training.batch_size, augmentation_of(settings)))
    stages = Stages(out, log)
    choice = choose(task, [train_one(task, tried, stages, log) for tried in candidates(settings)])
    return choice if settings.unfreeze is None else unfreeze(task, settings, choice, stages, log)


def closing(metrics: dict[str, Any]) -> list[str]:
    """Say how well the sets fit, which model is served and why, and whether its sets are better than naming every class."""
    test, chosen = metrics["test"], metrics["validation"]
    f1, size = test["chosen"]["f1"], test["chosen"]["mean_set_size"]
    lines = [
        f"F1 {f1['value']:.3f} [{f1['low']:.3f}, {f1['high']:.3f}] with {size['value']:.2f} labels per image, judged by "
        f"{test['judged_by']} ({test['labels_per_image']:.2f} an image); {pluralise(metrics['labels']['new'], 'new label')}"
    ]
    lines += why_served(metrics["choice"], NAMES, points=chosen["criterion"] != "added_label_score")
    return [*lines, *why_unfrozen(metrics.get("unfrozen")), *filter(None, [verdict(metrics)])]


def answer(loaded: Any, images: ImageTable) -> pd.DataFrame:
    """Return id, image, the predicted labels and their scores, in descending order."""
    logits_NC, facts = logits_of(loaded, images), loaded[1]
    scores_NC = (logits_NC.softmax(1) if facts["softmax"] else logits_NC.sigmoid()).numpy()
    names, scores = named(facts["classes"], scores_NC, label_sets(scores_NC, facts["threshold"]))
    return known(images).assign(labels=pd.Series(names, dtype=object), scores=pd.Series(scores, dtype=object))


def target(run: Path) -> Target:
    """Return what is exported: the model and the threshold of its label sets."""
    model, facts = load_images_model(run)
    takes = image_or_features(model.spec.image_size, model.spec.num_features)
    sets = {"kind": "labels", "threshold": facts["threshold"], "softmax": facts["softmax"]}
    return Target(model, None, takes, sets, list(facts["classes"]))


def summary(table: pd.DataFrame) -> str:
    """Say how many were scored, and how many labels each has."""
    what = "image" if "image" in table else "example"
    return f"{pluralise(len(table), what)} scored, {table['labels'].map(len).mean():.2f} labels each"


RECIPE = Recipe(
    "multilabel",
    Presets(
        {
            "pocket": (pocket(), "images of 24 pixels and a small model"),
            "laptop": (laptop(), "a model of the features of a frozen encoder"),
            "paper": (MultilabelSettings(), "images of 224 pixels and a ResNet-50"),
        },
        small=("digits",),
    ),
    rehearse,
    train,
    evaluate,
    closing,
    answer,
    summary,
    view,
    doubts,
    encodes=True,
    target=target,
    lacks=True,
)

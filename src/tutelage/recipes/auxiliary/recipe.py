"""MAOAL as a recipe: a primary task learned with auxiliary tasks, and how far each counts in each module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tutelage.data import TensorData
from tutelage.data.fields import FieldCodes
from tutelage.data.image_table import features_table
from tutelage.data.label_columns import read_label_columns
from tutelage.data.manifest import Columns
from tutelage.data.problems import Problems
from tutelage.models import load_ensemble
from tutelage.recipes.auxiliary.evaluation import evaluate, served, with_mean
from tutelage.recipes.auxiliary.network import augment_of
from tutelage.recipes.auxiliary.pipeline import Learned, Pipeline
from tutelage.recipes.auxiliary.rehearsal import rehearse, trainings
from tutelage.recipes.auxiliary.settings import AuxiliarySettings, TaskSpec, laptop, pocket, tabular
from tutelage.recipes.auxiliary.task import AuxiliaryTask
from tutelage.recipes.auxiliary.unfreezing import Models, unfreeze
from tutelage.recipes.forecast import forecast
from tutelage.recipes.presets import Presets
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.target import Target, image_or_features
from tutelage.reports.auxiliary import NAMES, view
from tutelage.reports.wording import pluralise, why_served, why_unfrozen
from tutelage.training import Log, predict


def train(problem: AuxiliaryTask, settings: AuxiliarySettings, out: Path, log: Log) -> Models:
    """Train by the method and by its baselines."""
    sides = ", ".join(task.name for task in problem.sides)
    log.say(f"{problem.title}: {problem.primary.name} with {sides}; {problem.problems.summary()}")
    if problem.codes is not None:
        log.say(problem.codes.told())
    examples = problem.part(problem.rows("train"), problem.tasks)
    augment = augment_of(problem, settings)
    pipeline = Pipeline(problem, settings, out, log)
    told = forecast(trainings(pipeline.problem, settings), examples, settings.training.batch_size, augment)
    more = (
        f"; then {settings.copies - 1} more of each network in the mean that is served" if settings.copies > 1 else ""
    )
    log.say(told + more)
    found: dict[str, Learned] = {}
    for method in settings.trained:
        found[method] = pipeline.learned(method)
        log.say(f"{NAMES[method]}: best validation {found[method].val:.4g}")
    found = with_mean(pipeline, found)
    models = Models(found, served(problem, settings, found))
    return models if settings.unfreeze is None else unfreeze(pipeline, models)


def closing(metrics: dict[str, Any]) -> list[str]:
    """Say how good the served model is at the primary task, how much better than the others, and why it was chosen."""
    method, name = metrics["choice"]["chosen"], metrics["task"]["figures"][0]["name"]
    figure = metrics["methods"][method][name]
    lines = [f"{name}: {figure['value']:.4f} [{figure['low']:.4f}, {figure['high']:.4f}] by {NAMES[method]}"]
    for other, gain in metrics["difference"].items():
        by = f"{gain['value']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
        lines.append(f"  {by} against {NAMES[other]}; positive is better")
    return [*lines, *why_served(metrics["choice"], NAMES, points=False), *why_unfrozen(metrics.get("unfrozen"))]


@dataclass(frozen=True)
class Loaded:
    """A run's model and its task, the names of the classes, how fields are read, the image size, or how many features."""

    model: Any
    task: TaskSpec
    classes: list[str] | None
    codes: FieldCodes
    image_size: int
    num_features: int | None


@dataclass(frozen=True)
class Examples:
    """New examples that can be answered."""

    ids: list[str]
    data: Any

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.ids)


def load(run: Path) -> Loaded:
    """Return the model of a run.

    Raises:
        ValueError: it answers with maps.
    """
    model, facts = load_ensemble(run / "model")
    task = TaskSpec(**facts["task"])
    if task.kind == "segmentation":
        raise ValueError(
            f"{run} answers with a map for each image, which no table holds; call tutelage.models.load_ensemble"
        )
    numbers = {name: (mean, deviation) for name, (mean, deviation) in facts.get("numbers", {}).items()}
    codes = FieldCodes(facts["values"], numbers)
    return Loaded(model, task, facts["classes"], codes, model.spec.image_size, model.spec.num_features)


def read(loaded: Loaded, data: Path, columns: Columns | None) -> tuple[Examples, Problems]:
    """Read a table as the run was made from: images by their paths, fields by their names, or features."""
    if loaded.num_features is not None:
        images = features_table(data, loaded.num_features)
        return Examples(images.table["id"].tolist(), images.subset(torch.arange(len(images)))), Problems()
    columns = columns or Columns()
    fields = [f"{name}:name" for name in loaded.codes.names]  # they are coded as the run's are, whatever they hold here
    found = read_label_columns(data, fields=fields, image=columns.image, id=columns.id, size=loaded.image_size)
    if found.fields is None:
        return Examples(found.id, found.examples()), found.problems
    sizes = dict(zip(loaded.codes.values, loaded.model.spec.members[0].fields, strict=False))
    closed = [
        name for name, values in loaded.codes.values.items() if sizes[name] == len(values)
    ]  # of an earlier release
    ids, input = found.coded_as(loaded.codes, closed)
    return Examples(ids, TensorData(input=input)), found.problems


def answer(loaded: Loaded, examples: Examples) -> pd.DataFrame:
    """Return id and answer: a number, or a class and its probability."""
    told, _ = predict(loaded.model, examples.data)
    assert isinstance(told, Mapping)
    outputs = told[loaded.task.name].double()
    if loaded.task.kind == "regression":
        return pd.DataFrame({"id": examples.ids, "answer": outputs[:, 0].tolist()})
    most, best = outputs.softmax(1).max(1)
    names = [loaded.classes[place] if loaded.classes else place for place in best.tolist()]
    return pd.DataFrame({"id": examples.ids, "answer": names, "probability": most.tolist()})


def target(run: Path) -> Target:
    """Return what is exported: the network's primary head.

    Raises:
        ValueError: it answers for fields of a table, or with maps.
    """
    loaded = load(run)
    if loaded.codes.names:
        raise ValueError(f"{run} answers for fields of a table; what labels images or texts is exported")
    number = {"kind": "answer", "number": loaded.task.kind == "regression"}
    takes = image_or_features(loaded.image_size, loaded.num_features)
    return Target(loaded.model, loaded.task.name, takes, number, loaded.classes)


RECIPE = Recipe(
    "auxiliary",
    Presets(
        {
            "pocket": (pocket(), "images of 24 pixels and a small network"),
            "laptop": (laptop(), "a perceptron of the features of a frozen encoder"),
            "paper": (AuxiliarySettings(), "images of 224 pixels, a ResNet-18"),
        },
        small=("digits",),
        unencoded=("movielens", "ratings", "rooms"),
        tabular=(tabular(), "a small network of the fields, at least 2,000 steps"),
    ),
    rehearse,
    train,
    evaluate,
    closing,
    answer,
    lambda table: f"{pluralise(len(table), 'example')} answered",
    view,
    load=load,
    read=read,
    examples="examples",
    encodes=True,
    target=target,
)

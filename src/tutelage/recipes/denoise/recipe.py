"""Labelling rules and few labels as a recipe: from texts to a classifier, which rule is trusted where, what to label next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from tutelage.data.given_features import GivenFeatures, read_given_features
from tutelage.data.manifest import Columns
from tutelage.data.problems import Problems
from tutelage.data.text import FeatureRows, Features
from tutelage.data.text_table import PLACE, TextColumns, read_texts
from tutelage.data.votes import unipolar
from tutelage.files import read_yaml
from tutelage.models import RuleModel, TextClassifier
from tutelage.recipes.denoise.candidates import Candidate, Models, chosen, settings_of
from tutelage.recipes.denoise.doubts import doubts
from tutelage.recipes.denoise.evaluation import WEIGHTS, evaluate
from tutelage.recipes.denoise.lesson import even, lesson_of
from tutelage.recipes.denoise.methods import Refit, Trained, weighting_for
from tutelage.recipes.denoise.methods import train as train_one
from tutelage.recipes.denoise.rehearsal import rehearse, trainings
from tutelage.recipes.denoise.settings import DenoiseSettings, pocket
from tutelage.recipes.denoise.task import RuleTask
from tutelage.recipes.forecast import forecast
from tutelage.recipes.presets import Presets
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.target import Target
from tutelage.reports.denoise import closing, view
from tutelage.training import Log, Stages, predict

WEIGHTING = "weighting.safetensors"


def train(task: RuleTask, settings: DenoiseSettings, out: Path, log: Log) -> Models:
    """Train each candidate, choose the served model, and train all anew on all labels except the test's."""
    covered = task.votes.covered.mean()
    log.say(f"{task.title}: {len(task.table)} texts, {len(task.votes.names)} rules that vote on {covered:.0%} of them")
    if task.failures:
        failed = ", ".join(f"{name} on {count}" for name, count in task.failures.items())
        log.say(f"rules that failed: {failed} texts; see problems.csv")
    if silent := task.silent_rules():
        log.say(f"rules that never voted: {', '.join(silent)}")
    for split, names in task.absent().items():
        told = {
            "train": "rules alone can teach it",
            "val": "it has no part in the choice",
            "test": "nothing is known of it",
        }
        several = f"{len(names)} classes: {', '.join(names)}" if len(names) > 1 else names[0]
        log.say(f"the {split} part has no labelled text of {several} ({told[split]}); label more of it")
    if task.transform is not None and task.transform.settings.kind != settings.features.kind:
        log.say(
            "words do not repeat in these texts: features are runs of one to three characters (--features.kind chars)"
        )
    planned = settings_of(task, settings)
    lesson = lesson_of(task, settings, even=even(settings))
    examples = lesson.data.subset(lesson.rows)
    log.say(forecast(trainings(task, planned), examples, settings.training.batch_size))
    stages = Stages(out, log)
    first = {name: trained_stage(task, own, stages, log) for name, own in planned.items()}
    choice = chosen(task, settings, {name: trained for name, (trained, _) in first.items()})
    candidates = {}
    for name, own in planned.items():
        trained, stage = first[name]
        refit = trained
        if len(task.parts()[2]) > 0:
            refit, _ = trained_stage(task, own, stages, log, Refit(trained.steps, stage / WEIGHTING))
        candidates[name] = Candidate(trained, refit, stage)
    return Models(candidates, choice)


def trained_stage(
    task: RuleTask, settings: DenoiseSettings, stages: Stages, log: Log, refit: Refit | None = None
) -> tuple[Trained, Path]:
    """Train a method in a stage of its own, or find it done; return what it says of every text, and the stage's folder."""
    first = f"{settings.method}-{settings.weighed_by}".replace("_", "-")
    name = first if refit is None else f"{first}-refit"

    def work(folder: Path) -> dict[str, Any]:
        trained = train_one(task, settings, refit=refit, even=even(settings), out=folder, log=log)
        trained.model.save(folder)
        trained.weighting.save(folder / WEIGHTING)
        trained.weighting.export(folder / WEIGHTS, trained.signals, task.table["id"].tolist())
        return {"validation": trained.validation, "signals": trained.signals, "steps": trained.steps}

    relevant = {each.name: getattr(settings, each.name) for each in fields(settings)}
    for unused in ("parts", "suggest", "features"):
        del relevant[unused]
    key = [task.fingerprint(), relevant]
    stage = stages.run(name, work, cache_key=key, after=[] if refit is None else [first])
    folder, facts = stage.folder, stage.facts
    model, _ = RuleModel.load(folder)
    columns = unipolar(task.votes)
    outputs, _ = predict(model, task.data(columns))
    assert isinstance(outputs, dict)
    weighting = weighting_for(settings, len(task.table), len(facts["signals"]), model)
    weighting.load(folder / WEIGHTING)
    validation = float("nan") if facts["validation"] is None else facts["validation"]
    return Trained(model, columns, outputs, weighting, facts["signals"], validation, facts["steps"]), folder


@dataclass(frozen=True)
class Loaded:
    """A run's classifier, the run's folder, and where the features of new ones come from."""

    run: Path
    model: TextClassifier
    classes: list[str]
    vectors: GivenFeatures | None


def load(run: Path, vectors: Path | None = None) -> Loaded:
    """Return the classifier of a run.

    Raises:
        ValueError: the run was given features, and ``vectors`` is not, or the other way round.
    """
    model, facts = TextClassifier.load(run / "model")
    if vectors is None and not (run / "model" / "features.json").is_file():
        raise ValueError(f"{run} learned from given features; give vectors, a file of those of the new texts")
    given = None if vectors is None else read_given_features(vectors)
    return Loaded(run, model, facts["classes"], given)


def read(loaded: Loaded, data: Path, columns: Columns | TextColumns | None) -> tuple[pd.DataFrame, Problems]:
    """Read new texts. Columns have the names that they had in the run; of an image manifest's, ``id`` alone is heeded."""
    if not isinstance(columns, TextColumns):
        config = loaded.run / "config.yaml"
        values: Mapping[str, Any] = read_yaml(config) if config.is_file() else {}
        own = TextColumns(**values.get("columns", {}))
        columns = own if columns is None or columns.id == "id" else replace(own, id=columns.id)
    table, _, problems = read_texts(data, columns, labelled=False, features=loaded.vectors)
    return table, problems


def answer(loaded: Loaded, table: pd.DataFrame) -> pd.DataFrame:
    """Return id, text, the likeliest class, its probability, and the probability of each class."""
    if loaded.vectors is None:
        vectors = Features.load(loaded.run / "model")(table["text"].tolist())
    else:
        vectors = loaded.vectors.first(table[PLACE].to_numpy(np.int64))
    width = loaded.model.spec.features
    if vectors.shape[1] != width:
        raise ValueError(f"the features of the new texts are {vectors.shape[1]} wide, those of {loaded.run} {width}")
    outputs, _ = predict(loaded.model, FeatureRows(vectors), batch_size=1024)
    assert isinstance(outputs, Tensor)
    probabilities_NC = outputs.double().softmax(1).numpy()
    return table[["id", "text"]].assign(
        label=[loaded.classes[place] for place in probabilities_NC.argmax(1)],
        probability=probabilities_NC.max(1),
        **{f"probability of {name}": probabilities_NC[:, place] for place, name in enumerate(loaded.classes)},
    )


def summary(table: pd.DataFrame) -> str:
    """Return how many texts got each label."""
    counts = ", ".join(f"{count} {name}" for name, count in table["label"].value_counts().items())
    return f"{len(table)} texts labelled: {counts}"


def target(run: Path) -> Target:
    """Return what is exported: the classifier of the features that the run made of its texts.

    Raises:
        ValueError: the run was given features, which nobody can compute from a text.
    """
    if not (run / "model" / "features.json").is_file():
        raise ValueError(
            f"{run} learned from given features, and an exported model of texts makes its own: nothing is exported. "
            "Label new texts with tutelage predict --vectors"
        )
    loaded = load(run)
    return Target(
        loaded.model,
        None,
        {"kind": "text", "features": loaded.model.spec.features},
        {"kind": "text"},
        list(loaded.classes),
    )


RECIPE = Recipe(
    "denoise",
    Presets(
        {
            "pocket": (pocket(), "TF-IDF and logistic regression, enough for thousands of short texts"),
            "paper": (DenoiseSettings(), "sentence embeddings and a perceptron of two layers of 512"),
        },
        auto="pocket",
    ),
    rehearse,
    train,
    evaluate,
    closing,
    answer,
    summary,
    view,
    doubts,
    load=load,
    read=read,
    examples="texts",
    options=("vectors",),
    target=target,
    rereads=False,
)

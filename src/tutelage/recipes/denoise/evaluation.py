"""What a run leaves behind: figures on the test part, which rules were trusted where, and what to label next."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tutelage.data.selection import facility_location
from tutelage.data.table import label_counts
from tutelage.data.text_table import SPLITS
from tutelage.data.votes import ABSTAIN, analyse_rules, disagreement
from tutelage.files import write_table
from tutelage.metrics import accuracy, bootstrap, doubts, macro_f1, paired_bootstrap
from tutelage.recipes.denoise.methods import Trained, divided_val
from tutelage.recipes.denoise.settings import DenoiseSettings
from tutelage.recipes.denoise.task import RuleTask
from tutelage.recipes.served import Served, serve_best

WEIGHTS = "weights.parquet"
METRICS = {"macro_f1": macro_f1, "accuracy": accuracy}
Predictions = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Models:
    """What a run has trained.

    Attributes:
        refit: the method's classifier on all labels but the test's.
        ours: the same, before the validation part's labels were trained on.
        labels_alone: the same classifier without rules, on the labels that `ours` had.
        all_labels: the same without rules, on those that `refit` had.
        stage: where the method's stage lies.
    """

    refit: Trained
    ours: Trained
    labels_alone: Trained
    all_labels: Trained
    stage: Path

    def each(self) -> dict[str, Trained]:
        """Return the classifiers by the names that metrics.json has for them."""
        named = {"model": self.refit, "before_refit": self.ours}
        return {**named, "all_labels": self.all_labels, "labels_alone": self.labels_alone}


def evaluate(task: RuleTask, settings: DenoiseSettings, models: Models, out: Path) -> dict[str, Any]:
    """Evaluate the models on the test texts, and write the classifier and the tables."""
    (out / WEIGHTS).unlink(missing_ok=True)  # of a former run with other settings
    shutil.rmtree(out / "model", ignore_errors=True)
    if (models.stage / WEIGHTS).is_file():
        shutil.copy(models.stage / WEIGHTS, out / WEIGHTS)
    choice = served(task, settings, models)
    best = models.each()[choice.chosen]
    trust = trust_table(task, models.refit)
    write_table(out / "examples.parquet", examples_table(task, models, choice))
    write_table(out / "trust.parquet", trust)
    write_table(out / "rules.parquet", rules_table(task, trust))
    task.votes.write(out / "votes.parquet", task.table["id"].tolist(), task.classes)
    write_table(out / "duplicates.csv", task.duplicates)
    write_table(out / "label_next.csv", label_next(task, settings.suggest))
    best.model.save(out / "model", classes=task.classes)
    if task.transform is not None:
        task.transform.save(out / "model")
    return figures(task, settings, models) | {"choice": choice.told()}


def served(task: RuleTask, settings: DenoiseSettings, models: Models) -> Served:
    """Choose between the method and the labels alone, on the texts of the validation part that neither has learned from.

    Their trainings before those labels were trained on are compared; what is served is that method's training on all labels.
    The majority of the rules is no candidate, since a new text comes without votes.
    """
    _, rows = divided_val(task, task.parts()[2], settings)
    pairs = {"model": models.ours, "all_labels": models.labels_alone}
    return serve_best(
        METRICS[settings.select_by],
        {name: [trained.probabilities.argmax(1)[rows.numpy()]] for name, trained in pairs.items()},
        [task.labels[rows].numpy()],
        criterion=f"{settings.select_by.replace('_f1', ' F1')} on the validation part",
        plain="all_labels",
        asked="model",
        seed=settings.seed,
    )


def predictions(task: RuleTask, models: Models) -> Predictions:
    """Return the classes that each model predicts, for every text: the run's, labels alone, the rules alone."""
    found = {name: trained.probabilities.argmax(1) for name, trained in models.each().items()}
    found["majority"] = task.majority()
    if "label_model" in models.refit.outputs:
        label_model = models.refit.outputs["label_model"].argmax(1).numpy()
        found["label_model"] = np.where(task.votes.covered, label_model, task.default_class())
    return found


def figures(task: RuleTask, settings: DenoiseSettings, models: Models) -> dict[str, Any]:
    """Return what metrics.json holds; it is a function of its arguments, without times or paths."""
    table = task.table
    test = ((table["split"] == "test") & (table["label"] >= 0)).to_numpy()
    labels = table["label"].to_numpy()[test]
    said = {name: predicted[test] for name, predicted in predictions(task, models).items()}
    covered, silent = task.votes.covered, task.silent_rules()
    few, _, val = task.parts()
    each = dict.fromkeys(("model", "all_labels", "label_model"), len(few) + len(val))
    scores = {name: macro_f1(predicted, labels) for name, predicted in said.items()}
    return {
        "pipeline": {"method": settings.method, "weighting": settings.weighed_by},
        "data": {
            "classes": task.classes,
            "counts": label_counts(table, task.classes, SPLITS),
            "left_out": task.problems.counts(),
            "duplicates": len(task.duplicates),
            "rules": len(task.votes.names) - len(silent),
            "silent_rules": silent,
            "failures": task.failures,
            "covered": {split: float(covered[(table["split"] == split).to_numpy()].mean()) for split in SPLITS},
        },
        "labels_used": {name: each.get(name, len(few)) for name in said if name != "majority"} | {"majority": 0},
        "best": max(scores, key=lambda name: (scores[name], name == "model")),
        "test": {
            name: {
                metric: bootstrap(METRICS[metric], predicted, labels, seed=settings.seed).plain() for metric in METRICS
            }
            for name, predicted in said.items()
        },
        "difference": {
            name: {
                metric: paired_bootstrap(METRICS[metric], said["model"], predicted, labels, seed=settings.seed).plain()
                for metric in METRICS
            }
            for name, predicted in said.items()
            if name != "model"
        },
        "validation": {"before_refit": models.ours.validation, "labels_alone": models.labels_alone.validation},
    }


def examples_table(task: RuleTask, models: Models, choice: Served) -> pd.DataFrame:
    """Return one row a text: what each model says of it, how far rules contradict each other, and how doubtful its label is.

    Labels are doubted by the model that was not trained on those of the validation part.
    """
    said = predictions(task, models)
    probabilities = models.each()[choice.chosen].probabilities
    labels = task.table["label"].to_numpy()
    names = np.array(task.classes, dtype=object)
    frame = task.table[[name for name in ("id", "text", "split") if name in task.table]].copy()
    frame["label"] = np.where(labels >= 0, names[labels.clip(0)], "")
    frame["predicted"] = names[said[choice.chosen]]
    frame["probability"] = probabilities.max(1)
    frame["labels_alone"] = names[said["labels_alone"]]
    frame["majority"] = names[said["majority"]]
    frame["votes"] = (task.votes.values != ABSTAIN).sum(1)
    frame["disagreement"] = disagreement(task.votes, len(task.classes))
    found = doubts(labels, models.ours.probabilities)
    found["suspected"] = np.where(labels >= 0, names[found["suspected"]], "")
    return frame.assign(**found)


def trust_table(task: RuleTask, trained: Trained) -> pd.DataFrame:
    """Return one row for every vote: who, on what, for which class, and how far the model trusts it there.

    ``trust`` is the probability that the vote is right: by the network of reliability where the method has one, otherwise
    the classifier's probability of the class. ``label_model`` is the label model's probability of that class.
    """
    columns = trained.columns
    row, column = np.nonzero(columns.fired)
    label = columns.rule_class[column]
    if "reliability" in trained.outputs:
        trust = trained.outputs["reliability"].double().sigmoid().numpy()[row, column]
    else:
        trust = trained.probabilities[row, label]
    labels = task.table["label"].to_numpy()[row]
    frame = pd.DataFrame(
        {
            "id": task.table["id"].to_numpy()[row],
            "split": task.table["split"].to_numpy()[row],
            "rule": np.array(task.votes.names, dtype=object)[columns.rule[column]],
            "vote": np.array(task.classes, dtype=object)[label],
            "trust": trust,
        }
    )
    if "label_model" in trained.outputs:
        frame["label_model"] = trained.outputs["label_model"].double().softmax(1).numpy()[row, label]
    frame["right"] = pd.Series(labels == label, dtype="boolean").mask(labels < 0)
    return frame


def rules_table(task: RuleTask, trust: pd.DataFrame) -> pd.DataFrame:
    """Return one row a rule: what it votes for, how often, how well where labels tell, and how far it is trusted."""
    table = analyse_rules(task.votes, task.table["label"].to_numpy())
    table["classes"] = [", ".join(task.classes[label] for label in labels) for labels in table["classes"]]
    table["trust"] = table["rule"].map(trust.groupby("rule")["trust"].mean())
    table["failures"] = table["rule"].map(task.failures).fillna(0).astype(int)
    return table


def label_next(task: RuleTask, count: int) -> pd.DataFrame:
    """Return the unlabelled training texts that stand for the most others, the first to be labelled first."""
    train = task.rows("train").numpy()
    labels = task.table["label"].to_numpy()[train]
    count = min(count, int((labels < 0).sum()))
    chosen, gains = facility_location(task.features[train], count, known=np.flatnonzero(labels >= 0))
    frame = task.table.iloc[train[chosen]]
    return frame[[name for name in ("id", "text") if name in frame]].assign(gain=gains).reset_index(drop=True)

"""From one label an image to a multi-label model, the labels that were missing, and a report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tutelage import distributed
from tutelage.data.manifest import Columns, read_manifest
from tutelage.data.problems import Problems
from tutelage.metrics import label_sets
from tutelage.models import joint_logits, load_model, save_model
from tutelage.recipes.base import begin
from tutelage.recipes.multilabel.choice import Choice, choose
from tutelage.recipes.multilabel.evaluation import (
    evaluate,
    examples_table,
    labels_table,
    named,
    write_results,
)
from tutelage.recipes.multilabel.settings import ONE_LABEL, MultilabelSettings
from tutelage.recipes.multilabel.task import SEPARATOR, MultilabelTask
from tutelage.recipes.multilabel.training import candidates, train
from tutelage.reports import write_multilabel_report
from tutelage.training import Stages, predict


@dataclass(frozen=True)
class Multilabelled:
    """Where a run's results lie, and its figures."""

    folder: Path
    metrics: dict[str, Any]
    report: Path


def multilabel(
    task: MultilabelTask,
    settings: MultilabelSettings,
    out: Path,
    *,
    told: dict[str, Any] | None = None,
    quiet: bool = False,
) -> Multilabelled:
    """Train, choose on validation, judge on the test, and say which labels are new.

    A run that was killed goes on where it was. The figures do not depend on it.

    Args:
        task: what is worked on.
        settings: how.
        out: the run's folder: config.yaml, log.jsonl, metrics.json, model/, report.html, labels.parquet and more.
        told: further values for config.yaml, such as the manifest that a command was given.
        quiet: say nothing on the terminal.

    Raises:
        ValueError: the task cannot be worked on, with what to do.
        Interrupted: SIGTERM or Ctrl-C came; run it again to go on.
    """
    first = distributed.join()
    log = begin(out, settings, told, first=first, quiet=quiet)
    log.say(f"{task.title}: {len(task.images)} images of {len(task.classes)} classes, {task.problems.summary()}")
    stages = Stages(out, log)
    choice = choose(task, [train(task, tried, stages, log) for tried in candidates(settings)])
    if first:
        _finish(task, settings, out, choice)
    distributed.barrier()
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    figures = metrics["test"]["chosen"]
    f1, size = figures["f1"], figures["mean_set_size"]
    log.say(
        f"F1 {f1['value']:.3f} [{f1['low']:.3f}, {f1['high']:.3f}] with {size['value']:.2f} labels an image, judged by "
        f"{metrics['test']['judged_by']} ({metrics['test']['labels_per_image']:.2f} an image); "
        f"{metrics['labels']['new']} new labels"
    )
    chosen = metrics["validation"]
    if chosen["criterion"] == "added_label_score" and settings.method not in ONE_LABEL and chosen["value"] <= 1:
        log.say("judged on validation, the added labels are no better than naming every class; see the report")
    return Multilabelled(out, metrics, out / "report.html")


def _finish(task: MultilabelTask, settings: MultilabelSettings, out: Path, choice: Choice) -> None:
    """Judge the chosen model, and write what people look at."""
    metrics = evaluate(task, settings, choice)
    examples, labels = examples_table(task, choice), labels_table(task, choice)
    metrics["labels"] = {"new": len(labels), "images_that_grew": int(labels["id"].nunique())}
    model, _ = load_model(choice.trained.folder)
    one = settings.method in ONE_LABEL
    save_model(model, out / "model", classes=task.classes, threshold=choice.threshold, softmax=one)
    write_results(out, task, metrics, examples, labels)
    write_multilabel_report(out)


def score(
    run: Path, manifest: Path, out: Path, *, columns: Columns | None = None, batch_size: int = 256
) -> tuple[pd.DataFrame, Problems]:
    """Name the labels of new images.

    Args:
        run: a run's folder.
        manifest: a CSV or Parquet file with a column ``image``; labels are not read.
        out: a .parquet or .csv file: id, image, the predicted labels and their scores, the surest first (lists in parquet,
            divided by ``|`` in CSV). What could not be read is listed beside it.
        columns: the manifest's own names.
        batch_size: images in one forward pass.

    Returns:
        The table that was written, and what was left out.

    Raises:
        FileNotFoundError: no such run or manifest.
        ValueError: another ending than .parquet or .csv.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise ValueError(f"out={str(out)!r} must end in .parquet or .csv")
    model, facts = load_model(run / "model")
    images, problems = read_manifest(manifest, columns, labels=None, size=model.spec.image_size)
    out.parent.mkdir(parents=True, exist_ok=True)
    listed = problems.write(out.parent, f"{out.stem}-problems.csv")
    problems.require(len(images), 1, "images", listed.name)
    outputs, _ = predict(model, images.subset(torch.arange(len(images))), batch_size=batch_size)
    logits_NC = joint_logits(outputs).double()
    scores_NC = (logits_NC.softmax(1) if facts["softmax"] else logits_NC.sigmoid()).numpy()
    names, values = named(facts["classes"], scores_NC, label_sets(scores_NC, facts["threshold"]))
    table = pd.DataFrame({"id": images.table["id"], "image": images.table["image"], "labels": names, "scores": values})
    if out.suffix == ".parquet":
        table.to_parquet(out, index=False)
    else:
        scores = [SEPARATOR.join(f"{value:.6g}" for value in row) for row in values]
        table.assign(labels=[SEPARATOR.join(row) for row in names], scores=scores).to_csv(out, index=False)
    return table, problems


def score_run(run: Path, manifest: Path, out: Path, *, fpr: float | None, columns: Columns) -> str:
    """Name the labels of a manifest's images as `score` does, and return a sentence about it.

    Raises:
        ValueError: a false-positive rate, which such a run does not decide by.
    """
    if fpr is not None:
        raise ValueError(f"fpr={fpr}: {run} is a multi-label run, which decides by its threshold; leave fpr out")
    table, problems = score(run, manifest, out, columns=columns)
    size = table["labels"].map(len).mean()
    return f"{len(table)} images scored, {size:.2f} labels each; {problems.summary()}. Written to {out}"

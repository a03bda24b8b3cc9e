"""From a task to a small model that teachers taught, its report, and the labels that it did not believe."""

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
from tutelage.models import joint_logits, load_model, save_model
from tutelage.recipes.base import begin
from tutelage.recipes.distill.evaluation import evaluate, write_results
from tutelage.recipes.distill.pipeline import Pipeline, Taught
from tutelage.recipes.distill.settings import DistillSettings
from tutelage.recipes.distill.task import Task
from tutelage.reports.distill import NAMES, write_distill_report
from tutelage.training import predict


@dataclass(frozen=True)
class Distilled:
    """Where a run's results lie, and its figures."""

    folder: Path
    metrics: dict[str, Any]
    report: Path


def distill(
    task: Task, settings: DistillSettings, out: Path, *, told: dict[str, Any] | None = None, quiet: bool = False
) -> Distilled:
    """Train the teachers, the student by a method and by its baselines, compare, report.

    A run that was killed goes on where it was; finished stages are kept. The figures do not depend on it.

    Args:
        task: what is worked on.
        settings: how.
        out: the run's folder: config.yaml, log.jsonl, metrics.json, model/, report.html, weights.parquet and more.
        told: further values for config.yaml, such as the data that a command was given.
        quiet: say nothing on the terminal.

    Raises:
        ValueError: the task cannot be worked on, with what to do.
        Interrupted: SIGTERM or Ctrl-C came; run it again to go on.
    """
    first = distributed.join()
    log = begin(out, settings, told, first=first, quiet=quiet)
    log.say(f"{task.title}: {len(task.images)} images of {len(task.classes)} classes, {task.problems.summary()}")
    pipeline = Pipeline(task, settings, out, log)
    found: dict[str, Taught] = {}
    for method in dict.fromkeys((settings.method, *settings.baselines)):
        found[method] = pipeline.student(method)
        log.say(f"{NAMES[method]}: accuracy {found[method].facts['val']:.3f} on the validation part")
    teachers = [] if set(found) == {"ce"} else pipeline.teachers()
    if first:
        _finish(pipeline, found, teachers)
    distributed.barrier()
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    figure = metrics["methods"][settings.method]["accuracy"]
    log.say(f"accuracy {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}] by {NAMES[settings.method]}")
    for other, gain in metrics["difference"].items():
        log.say(f"  {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}] against {NAMES[other]}")
    return Distilled(out, metrics, out / "report.html")


def _finish(pipeline: Pipeline, found: dict[str, Taught], teachers: list[Taught]) -> None:
    """Judge the models, and write what people look at."""
    task, out, best = pipeline.task, pipeline.stages.folder, found[pipeline.settings.method]
    metrics = evaluate(pipeline, found, teachers)
    save_model(load_model(best.folder)[0], out / "model", classes=list(task.classes))
    write_results(out, task, metrics, best)
    write_distill_report(out)


def score(
    run: Path, manifest: Path, out: Path, *, columns: Columns | None = None, batch_size: int = 256
) -> tuple[pd.DataFrame, Problems]:
    """Classify the images of a manifest with a run's model.

    Args:
        run: a run's folder.
        manifest: a CSV or Parquet file with a column ``image``; labels are not read.
        out: a .parquet or .csv file: id, image, predicted class and its probability. What could not be read is listed beside
            it, in a CSV file of the same name and ``-problems``.
        columns: the manifest's own names.
        batch_size: images in one forward pass.

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
    probability, predicted = joint_logits(outputs).double().softmax(1).max(1)
    table = images.table[["id", "image"]].assign(
        predicted=[facts["classes"][place] for place in predicted.tolist()], probability=probability.numpy()
    )
    table.to_parquet(out, index=False) if out.suffix == ".parquet" else table.to_csv(out, index=False)
    return table, problems


def score_run(run: Path, manifest: Path, out: Path, *, fpr: float | None, columns: Columns) -> str:
    """Classify the images of a manifest as `score` does, and return a sentence about it.

    Raises:
        ValueError: a false-positive rate, which such a run does not decide by.
    """
    if fpr is not None:
        raise ValueError(f"fpr={fpr}: {run} is a run of classes, which decides by the likeliest; leave fpr out")
    table, problems = score(run, manifest, out, columns=columns)
    return f"{len(table)} images classified; {problems.summary()}. Written to {out}"

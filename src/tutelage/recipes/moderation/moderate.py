"""From a task to a moderation model, its report, and the list of what to re-label."""

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
from tutelage.models import build, joint_logits, load_model, save_model
from tutelage.recipes.base import begin
from tutelage.recipes.moderation.evaluation import evaluate, examples_table, subtasks_table, write_results
from tutelage.recipes.moderation.pipeline import Found, Pipeline, Taught
from tutelage.recipes.moderation.settings import ModerationSettings
from tutelage.recipes.moderation.task import Task
from tutelage.reports import write_report
from tutelage.subtasks import Selection
from tutelage.training import predict


@dataclass(frozen=True)
class Moderated:
    """Where a run's results lie, and its figures."""

    folder: Path
    metrics: dict[str, Any]
    report: Path


def moderate(
    task: Task, settings: ModerationSettings, out: Path, *, told: dict[str, Any] | None = None, quiet: bool = False
) -> Moderated:
    """Run the main job: find the sub-tasks, train and select specialists, teach the student, compare, report.

    A run that was killed goes on where it was; finished stages are kept. The figures do not depend on it.

    Args:
        task: what is worked on.
        settings: how.
        out: the run's folder: config.yaml, log.jsonl, metrics.json, model/, report.html, examples.parquet and more.
        told: further values for config.yaml, such as the manifest that a command was given.
        quiet: say nothing on the terminal.

    Raises:
        ValueError: the task cannot be worked on, with what to do.
        Interrupted: SIGTERM or Ctrl-C came; run it again to go on.
    """
    first = distributed.join()
    with torch.device(
        "meta"
    ):  # nothing is computed: a student that cannot be taught is refused before hours of training
        if not build(settings.student.spec(2, settings.image_size)).distilled:
            raise ValueError(
                f"student.name={settings.student.name!r} has no distillation token; take one that has, such as "
                "deit_base_distilled_patch16_224 or pocket_deit"
            )
    log = begin(out, settings, told, first=first, quiet=quiet)
    if first:
        task.problems.write(out)  # at once: it also explains a run that comes to no end
    log.say(f"{task.title}: {len(task.images)} images, {task.problems.summary()}")
    pipeline = Pipeline(task, settings, out, log)

    found = pipeline.discovery()
    log.say(
        f"found {settings.discovery.subtasks} sub-tasks of {found.facts['smallest']} to {found.facts['largest']} examples"
    )
    log_odds_NK, failures = pipeline.specialists(found)
    selection = pipeline.selection(log_odds_NK, failures)
    log.say(f"kept {int(selection.kept.sum())} of {len(selection.kept)} specialists")
    student = pipeline.student(found, log_odds_NK, selection)
    fine_tuned = pipeline.fine_tuned(settings.student)

    if first:
        _finish(pipeline, found, selection, student, fine_tuned)
    distributed.barrier()
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    rate = f"{settings.fpr:g}"
    ours, theirs = (metrics[name]["npv_at_fpr"][rate] for name in ("student", "fine_tuned"))
    log.say(
        f"NPV at {settings.fpr:.0%} FPR: {ours['value']:.3f} [{ours['low']:.3f}, {ours['high']:.3f}]; plain fine-tuning "
        f"{theirs['value']:.3f} [{theirs['low']:.3f}, {theirs['high']:.3f}]; floor {metrics['floor'][rate]:.3f}"
    )
    return Moderated(out, metrics, out / "report.html")


def _finish(pipeline: Pipeline, found: Found, selection: Selection, student: Taught, fine_tuned: Taught) -> None:
    """Judge the models, and write what people look at."""
    task, settings, out = pipeline.task, pipeline.settings, pipeline.stages.folder
    metrics = evaluate(
        task,
        found,
        selection,
        student,
        fine_tuned,
        fpr=settings.fpr,
        seed=settings.seed,
        competence=settings.selection.rule,
    )
    examples = examples_table(task, found, selection, student, fine_tuned)
    model = pipeline.load(student)
    save_model(
        model,
        out / "model",
        labels=["defective", "acceptable"],
        fpr=settings.fpr,
        thresholds=metrics["student"]["threshold"],
    )
    write_results(out, task, metrics, examples, subtasks_table(found, selection))
    write_report(out)


def score(
    run: Path,
    manifest: Path,
    out: Path,
    *,
    fpr: float | None = None,
    columns: Columns | None = None,
    batch_size: int = 256,
) -> tuple[pd.DataFrame, Problems]:
    """Score the images of a manifest with a run's model, and decide at a false-positive rate.

    Args:
        run: a run's folder.
        manifest: a CSV or Parquet file with a column ``image``; labels are not needed and not read.
        out: a .parquet or .csv file: id, image, score (probability of acceptable) and decision. What could not be read is
            listed beside it, in a CSV file of the same name and ``-problems``.
        fpr: one of the rates whose thresholds the run has; its own by default.
        columns: the manifest's own names.
        batch_size: images in one forward pass.

    Returns:
        The table that was written, and what was left out.

    Raises:
        FileNotFoundError: no such run or manifest.
        ValueError: a rate without threshold, or another ending than .parquet or .csv.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise ValueError(f"out={str(out)!r} must end in .parquet or .csv")
    model, facts = load_model(run / "model")
    rate = f"{facts['fpr'] if fpr is None else fpr:g}"
    if rate not in facts["thresholds"]:
        raise ValueError(f"fpr={rate} has no threshold in {run}; it has {', '.join(facts['thresholds'])}")
    threshold = facts["thresholds"][rate]
    images, problems = read_manifest(manifest, columns, labels=None, size=model.spec.image_size)
    out.parent.mkdir(parents=True, exist_ok=True)
    listed = problems.write(out.parent, f"{out.stem}-problems.csv")
    problems.require(len(images), 1, "images", listed.name)
    outputs, _ = predict(model, images.subset(torch.arange(len(images))), batch_size=batch_size)
    scores = joint_logits(outputs).double().softmax(1)[:, 1].numpy()
    table = pd.DataFrame({"id": images.table["id"]})
    if "image" in images.table:
        table["image"] = images.table["image"]
    table["score"] = scores
    table["decision"] = ["acceptable" if value > threshold else "defective" for value in scores]
    table.to_parquet(out, index=False) if out.suffix == ".parquet" else table.to_csv(out, index=False)
    return table, problems


def score_run(run: Path, manifest: Path, out: Path, *, fpr: float | None, columns: Columns) -> str:
    """Score the images of a manifest as `score` does, and return a sentence about it."""
    table, problems = score(run, manifest, out, fpr=fpr, columns=columns)
    blocked = int((table["decision"] == "defective").sum())
    return f"{len(table)} images scored, {blocked} found defective; {problems.summary()}. Written to {out}"

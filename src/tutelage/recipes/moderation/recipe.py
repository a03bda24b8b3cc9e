"""Sub-task imputation as a recipe: from labelled images to a moderation model, and the list of what to re-label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tutelage.checks import check_number
from tutelage.data.table import ImageTable
from tutelage.models import Committee, load_committee
from tutelage.recipes.forecast import forecast
from tutelage.recipes.images import logits_of, named
from tutelage.recipes.input import augmentation_of
from tutelage.recipes.moderation.belief import believe, credible
from tutelage.recipes.moderation.choice import Choice
from tutelage.recipes.moderation.counts import suited, too_few, without_subtasks
from tutelage.recipes.moderation.doubts import doubts
from tutelage.recipes.moderation.evaluation import Models, evaluate
from tutelage.recipes.moderation.judged import judged_test, threshold_by
from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.recipes.moderation.rehearsal import rehearse, trainings
from tutelage.recipes.moderation.served import (
    choose_members,
    committee,
    doubted_labels,
    joint_teacher,
    told_by_others,
    unfreeze,
)
from tutelage.recipes.moderation.settings import ModerationSettings, laptop, pocket
from tutelage.recipes.moderation.task import ModerationTask
from tutelage.recipes.moderation.teaching import taught
from tutelage.recipes.presets import Presets
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.target import Target, image_or_features
from tutelage.recipes.unfreezing import Unfrozen
from tutelage.reports.moderation import view
from tutelage.reports.wording import pluralise, why_unfrozen
from tutelage.training import Log


def train(task: ModerationTask, settings: ModerationSettings, out: Path, log: Log) -> Models:
    """Find the sub-tasks, train and select specialists, teach the student, train plain models beside it, and choose.

    Where there are too few examples for sub-tasks, or no specialist knows more than chance, nobody teaches, and the result is
    plain: fine-tuning and, behind an encoder, kernel ridge regression.
    """
    used = int((task.table["split"] != "left_out").sum())
    log.say(f"{task.title}: {used} images are used, {task.problems.summary()}")
    if (weights := task.weights) is not None:
        log.say(weights_message(float(weights.min()), float(weights.max())))
    if why := too_few(task, settings):
        log.say(f"{why}: a plain model is the result")
        log.say(begins(task, settings, subtasks=False))
        pipeline = Pipeline(task, settings, out, log)
        fine_tuned = pipeline.fine_tuned(settings.student)
        found, selection = without_subtasks(task, why)
        choice = choose_members(pipeline, fine_tuned, None, torch.full((len(task.images),), torch.nan))
        log.say(chosen(choice))
        served, choice, unfrozen = finished(pipeline, choice, committee(pipeline, choice, selection))
        others = told_by_others(pipeline, choice, None)
        own = doubted_labels(pipeline, choice, others)
        return Models(found, selection, None, fine_tuned, choice, served, own, others, unfrozen)
    settings, changed = suited(task, settings)
    for line in changed:
        log.say(line)
    log.say(begins(task, settings, subtasks=True))
    pipeline = Pipeline(task, settings, out, log)
    discoveries = pipeline.discoveries() if settings.doubt.used else [pipeline.discovery()]
    found = discoveries[0]
    sizes = f"{found.facts['smallest']} to {found.facts['largest']}"
    log.say(f"found {settings.discovery.subtasks} sub-tasks of {sizes} examples")
    belief = believe(pipeline, discoveries) if settings.doubt.used else None
    log_odds_NK, failures = pipeline.specialists(found, belief.right if belief else None)
    selection = pipeline.selection(log_odds_NK, failures)
    if belief:
        selection = credible(selection, belief)
    log.say(f"kept {int(selection.kept.sum())} of {len(selection.kept)} specialists")
    fine_tuned, student = pipeline.fine_tuned(settings.student), None
    teacher = joint_teacher(log_odds_NK, selection)
    if torch.isfinite(teacher).all() or (settings.lesson.teacher == "own" and selection.kept.any()):
        student = taught(pipeline, found, log_odds_NK, selection, belief)
    else:
        log.say(
            "no specialist is better than chance on held-out labels, so none can teach: the result is a plain model"
        )
    choice = choose_members(pipeline, fine_tuned, student, teacher, belief)
    log.say(chosen(choice))
    doubted = belief.unjudged(task.labels) if belief else None
    served, choice, unfrozen = finished(pipeline, choice, committee(pipeline, choice, selection), doubted)
    others = told_by_others(pipeline, choice, belief)
    wrong = doubted_labels(pipeline, choice, others)
    return Models(found, selection, student, fine_tuned, choice, served, wrong, others, unfrozen)


def weights_message(least: float, most: float) -> str:
    """Say how training weights the examples."""
    if least == most:
        return f"the column weight is {least:g} for every example, so training counts all equally"
    return f"training weights the examples by their column weight, from {least:g} to {most:g}"


def chosen(choice: Choice) -> str:
    """Say what was chosen, and why."""
    return f"chosen: {choice.chosen.replace('_', ' ').replace('+', ' + ')}: {choice.why}"


def finished(
    pipeline: Pipeline, choice: Choice, served: Committee, doubted: Tensor | None = None
) -> tuple[Committee, Choice, Unfrozen | None]:
    """Return the served model and its choice, with the last block of its encoder trained if the settings say so."""
    if pipeline.settings.unfreeze is None:
        return served, choice, None
    choice, served, unfrozen = unfreeze(pipeline, choice, served, doubted)
    return served, choice, unfrozen


def begins(task: ModerationTask, settings: ModerationSettings, *, subtasks: bool) -> str:
    """Say what is trained and about how long that takes."""
    examples, batch_size = task.images.subset(task.rows("train")), settings.training.batch_size
    return forecast(trainings(task, settings, subtasks=subtasks), examples, batch_size, augmentation_of(settings))


def closing(metrics: dict[str, Any]) -> list[str]:
    """Say how the chosen model and plain fine-tuning do, and which figures cannot be right."""
    fpr = metrics["pipeline"]["fpr"]
    return [
        *(f"ALARM: {alarm}" for alarm in metrics["alarms"]),
        *why_unfrozen(metrics.get("unfrozen")),
        *npv_lines(metrics, f"{fpr:g}"),
    ]


def npv_lines(metrics: dict[str, Any], rate: str) -> list[str]:
    """Say the NPV by which the run decides, of the model and of plain fine-tuning, and that by the original labels."""
    told = metrics["corrected"] or metrics
    name = f"NPV at {100 * float(rate):g}% FPR"
    lines = [f"{name}{by_whom(metrics, rate)}: {_npv(told, rate)}; threshold {metrics['thresholds'][rate]:.4f}"]
    if metrics["corrected"]:
        lines.append(f"{name} by the original labels, which does not decide: {_npv(metrics, rate)}")
    return lines


def by_whom(metrics: dict[str, Any], rate: str) -> str:
    """Say what the deciding figures at a rate are based on, if labels are not taken as right."""
    if not metrics["corrected"]:
        return ""
    checked = metrics["corrected"].get("checked")
    if checked is None or rate in metrics["corrected"].get("too_few", {}):
        errors = metrics["labels"]["false_acceptable"] or metrics["labels"]["false_defective"]
        return ", corrected for the labels' estimated errors" if errors else ", by the labels as they are"
    return f", by {checked['answered']} answers of people"


def _npv(told: dict[str, Any], rate: str) -> str:
    ours, theirs = (told[name]["npv_at_fpr"][rate] for name in ("model", "fine_tuned"))
    return (
        f"{ours['value']:.3f} [{ours['low']:.3f}, {ours['high']:.3f}]; plain fine-tuning "
        f"{theirs['value']:.3f} [{theirs['low']:.3f}, {theirs['high']:.3f}]; floor {told['floor'][rate]:.3f}"
    )


def load(run: Path, fpr: float | None = None) -> Any:
    """Return the model of a run and the threshold at a false-positive rate, by default the run's own.

    Raises:
        ValueError: the rate is not between 0 and 1, or the run keeps no scores of held-out examples to find it by.
    """
    model, facts = load_committee(run / "model")
    rate = f"{facts['fpr'] if fpr is None else fpr:g}"
    known = facts["thresholds"]
    return model, known[rate] if rate in known else threshold_of(run, float(rate))


def threshold_of(run: Path, fpr: float) -> float:
    """Return the threshold at which a share of the defects of the run's test part passes, by the scores that the run keeps."""
    check_number("fpr", fpr, "(0, 1)")
    path = run / "examples.parquet"
    if not path.is_file():
        raise ValueError(
            f"fpr={fpr:g} has no threshold in {run}, and {path.name}, from which one is found, is not there"
        )
    test = judged_test(run)
    return threshold_by(test.scores, test.defect_at(fpr), fpr)


def answer(loaded: Any, images: ImageTable) -> pd.DataFrame:
    """Return id, image, score (the probability of acceptable), the threshold above which it passes, and decision."""
    scores = logits_of(loaded, images).softmax(1)[:, 1].numpy()
    decisions = ["acceptable" if score > loaded[1] else "defective" for score in scores]
    return named(images).assign(score=scores, threshold=loaded[1], decision=decisions)


def summary(table: pd.DataFrame) -> str:
    """Say how many were blocked, and that something is wrong where that is nearly everything."""
    blocked, count = int((table["decision"] == "defective").sum()), len(table)
    told = f"{pluralise(count, 'image' if 'image' in table else 'example')} scored, {blocked} found defective"
    if count < 10 or blocked < 0.9 * count:
        return told
    return (
        f"{told}. WARNING: nearly everything is blocked. Either nearly everything is defective, or the threshold is too high: "
        "see the alarms in the run's report, and try a higher rate, such as --fpr 0.05"
    )


def target(run: Path) -> Target:
    """Return what is exported: the committee that decides."""
    model, _ = load(run)
    takes = image_or_features(model.spec.image_size, model.spec.num_features)
    return Target(model, None, takes, {"kind": "decision"}, ["defective", "acceptable"])


RECIPE = Recipe(
    "moderation",
    Presets(
        {
            "pocket": (pocket(), "images of 24 pixels and small models"),
            "laptop": (laptop(), "models of the features of a frozen encoder"),
            "paper": (ModerationSettings(), "images of 224 pixels, ResNet-50 specialists, a DeiT-Base student"),
        }
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
    options=("fpr",),
    encodes=True,
    target=target,
    validation="student_val",
    decides=True,
)

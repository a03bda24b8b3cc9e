"""What a run leaves behind: the figures, the list from which a person re-labels, and the pictures of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tutelage.data.table import label_counts
from tutelage.files import read_parquet, write_table
from tutelage.metrics import (
    auroc,
    average_precision,
    bootstrap,
    intervals_at_fpr,
    normalised_mutual_information,
    npv_at_fpr,
    npv_floor,
    paired_bootstrap,
    purity,
)
from tutelage.metrics.error_rates import most_wrong
from tutelage.models import Committee, save_committee
from tutelage.recipes.moderation.choice import PLAIN, Choice, probability
from tutelage.recipes.moderation.corrected import corrected, lessons
from tutelage.recipes.moderation.found import Found, ModelScores
from tutelage.recipes.moderation.judged import threshold_by
from tutelage.recipes.moderation.pipeline import TOKENS
from tutelage.recipes.moderation.settings import ModerationSettings
from tutelage.recipes.moderation.task import ModerationTask
from tutelage.recipes.moderation.teaching import WEIGHTS
from tutelage.recipes.moderation.trust import alarms, calibration_facts, label_facts
from tutelage.recipes.unfreezing import Unfrozen
from tutelage.reports.run_folder import write_gallery
from tutelage.reports.subtask_names import NAMES
from tutelage.subtasks import Selection

RATES = (0.01, 0.05)
PICTURES = 12  # of each sub-task in the report
SUSPECTS = 48
CLASSES = ("defective", "acceptable")
SCORE = "score"  # the column of examples.parquet by which the run decides
OTHERS = "score_others"  # the one of what the other images say
IGNORANT = 0.55  # the AUROC under which a model may know nothing
Metric = Callable[[NDArray[np.float64], NDArray[np.int64]], float]


def judged(
    scores: NDArray[np.float64], labels: NDArray[np.int64], rates: tuple[float, ...], seed: int
) -> dict[str, Any]:
    """Return the figures of one model on the test, each with its 95 % interval."""
    at_rates = {f"{rate:g}": intervals_at_fpr(scores, labels, rate, seed=seed) for rate in rates}
    figures: dict[str, Any] = {
        name: {rate: made[name].plain() for rate, made in at_rates.items()}
        for name in ("npv_at_fpr", "lift_at_fpr", "recall_at_fpr")
    }
    figures["auroc"] = bootstrap(auroc, scores, labels, seed=seed).plain()
    figures["average_precision"] = bootstrap(partial(average_precision, positive=0), scores, labels, seed=seed).plain()
    figures["threshold"] = {f"{rate:g}": threshold_by(scores, (labels == 0).astype(np.float64), rate) for rate in rates}
    return figures


@dataclass(frozen=True)
class Models:
    """What a run has found and trained; without a student where no specialist was kept.

    Attributes:
        wrong: the probability that each label is wrong, (N,): see `doubted_labels`.
        others: those of what the other images say, (N,), where a run has asked them.
    """

    found: Found
    selection: Selection
    student: ModelScores | None
    fine_tuned: ModelScores
    choice: Choice
    served: Committee
    wrong: NDArray[np.float64]
    others: NDArray[np.float64] | None
    unfrozen: Unfrozen | None = None


def evaluate(task: ModerationTask, settings: ModerationSettings, models: Models, out: Path) -> dict[str, Any]:
    """Evaluate the candidates on the test, and write the one that is served and the tables."""
    metrics = figures(task, settings, models, out)
    facts = {
        "fpr": settings.fpr,
        "thresholds": metrics["thresholds"],
        "chosen": models.choice.chosen,
        "calibration": models.choice.served.calibration.plain(),
    }
    save_committee(models.served, out / "model", labels=list(CLASSES), **facts)
    examples = examples_table(task, models)
    if knows_nothing(metrics["model"]["auroc"]):
        examples["doubted"] = False
    write_table(out / "examples.parquet", examples)
    subtasks = subtasks_table(models.found, models.selection)
    write_table(out / "subtasks.parquet", subtasks)
    if not (out / NAMES).exists():  # what a person typed there stays
        write_table(out / NAMES, subtasks[["subtask"]].assign(name=""))
    write_gallery(out, task.images.images, shown(examples))
    write_table(out / "duplicates.csv", task.duplicates)
    (out / WEIGHTS).unlink(missing_ok=True)  # of a former run with other settings
    if (weights := weights_table(models)) is not None:
        write_table(out / WEIGHTS, weights)
    return metrics


def knows_nothing(area: Mapping[str, float]) -> bool:
    """Return whether a model's AUROC with its interval is that of one that knows nothing: it has no ground to doubt a label."""
    return area["low"] <= 0.5 and area["value"] < IGNORANT


def ignorance(area: Mapping[str, float]) -> list[str]:
    """Say that no label is doubted where `knows_nothing`."""
    if not knows_nothing(area):
        return []
    return [
        f"by the test's labels the model knows nothing (AUROC {area['value']:.3f}, from {area['low']:.3f} to "
        f"{area['high']:.3f}), so that it has no ground to doubt any: relabel.csv lists none"
    ]


def figures(task: ModerationTask, settings: ModerationSettings, models: Models, out: Path) -> dict[str, Any]:
    """Return what metrics.json holds; it is a function of its arguments, without times or paths."""
    found, selection, fpr, seed = models.found, models.selection, settings.fpr, settings.seed
    rows = task.images.rows("test")
    labels = task.judged_by()[rows].numpy()
    rates = tuple(sorted({*RATES, fpr}))
    candidates = models.choice.candidates
    ours, plain = (each.scores[rows.numpy()] for each in (models.choice.served, candidates[PLAIN]))
    defects, acceptable = int((labels == 0).sum()), int((labels == 1).sum())
    truth, true_label = task.truth("true_subtask"), task.truth("true_label")
    agreement: dict[str, float | None] = {"nmi": None, "purity": None}
    if truth is not None and len(selection.kept):
        known = (found.subtask >= 0) & (truth >= 0)
        pairs = truth[known].numpy(), found.subtask[known].numpy()
        agreement = {"nmi": normalised_mutual_information(*pairs), "purity": purity(*pairs)}
    given = task.labels >= 0
    trained_on = torch.from_numpy((task.table["split"] == "train").to_numpy(copy=True)) & given
    model = judged(ours, labels, rates, seed)
    by_errors = corrected(task, models.choice, rates, seed, out)
    thresholds = model["threshold"] if by_errors is None else by_errors["model"]["threshold"]
    return {
        "pipeline": {"fpr": fpr},
        "data": {
            "classes": list(CLASSES),
            "counts": label_counts(task.table, CLASSES, sorted(set(task.table["split"]))),
            "left_out": task.problems.counts(),
            "duplicates": len(task.duplicates),
            "label_noise": None
            if true_label is None
            else float((true_label[trained_on] != task.labels[trained_on]).float().mean()),
        },
        "floor": {f"{rate:g}": npv_floor(defects, acceptable, rate) for rate in rates},
        "model": model,
        "fine_tuned": judged(plain, labels, rates, seed),
        "candidates": {name: on_test(each.scores[rows.numpy()], labels, rates) for name, each in candidates.items()},
        "choice": models.choice.plain(),
        "unfrozen": models.unfrozen.told() if models.unfrozen else None,
        "labels": label_facts(task, models.choice),
        "calibration": calibration_facts(task, models.choice, models.fine_tuned),
        "corrected": by_errors,
        "thresholds": thresholds,
        "alarms": [
            *alarms(task, models.choice, thresholds, out),
            *lessons(by_errors, fpr),
            *ignorance(model["auroc"]),
        ],
        "difference": {
            "npv_at_fpr": {
                f"{rate:g}": paired_bootstrap(partial(npv_at_fpr, fpr=rate), ours, plain, labels, seed=seed).plain()
                for rate in rates
            }
        },
        "subtasks": {
            "count": len(selection.kept),
            "kept": int(selection.kept.sum()),
            "competence": settings.selection.rule,
            "threshold": selection.threshold if np.isfinite(selection.threshold) else None,
            **agreement,
            "discovery": found.facts,
        },
        "lesson": None
        if models.student is None
        else {name: count for name, count in models.student.facts.items() if name not in ("weighting", TOKENS)},
        "weighting": weighting_facts(models),
        TOKENS: {
            name: found.facts[TOKENS]
            for name, found in (("student", models.student), ("fine_tuned", models.fine_tuned))
            if found is not None and TOKENS in found.facts
        },
    }


def on_test(scores: NDArray[np.float64], labels: NDArray[np.int64], rates: tuple[float, ...]) -> dict[str, Any]:
    """Return the figures of a candidate on the test, without intervals."""
    npv = {f"{rate:g}": npv_at_fpr(scores, labels, rate) for rate in rates}
    return {"npv_at_fpr": npv, "auroc": auroc(scores, labels)}


def examples_table(task: ModerationTask, models: Models) -> pd.DataFrame:
    """Return one row for each example, with what the run thinks of it; the list from which a person re-labels."""
    found, selection = models.found, models.selection
    table = task.table
    subtask = found.subtask.numpy()
    kept = pd.array([bool(selection.kept[k]) if k >= 0 else pd.NA for k in subtask], dtype="boolean")
    candidates = models.choice.candidates
    score = models.choice.served.scores
    label = task.labels.numpy()
    others = {} if models.others is None else {OTHERS: probability(models.others)}
    listed = pd.DataFrame(
        {
            "id": table["id"],
            "image": table.get("image", ""),
            "label": label,
            "split": table["split"],
            "subtask": subtask,
            "subtask_confidence": np.where(subtask >= 0, found.confidence.numpy(), np.nan),
            "subtask_kept": kept,
            "score": score,
            **{f"score_{name}": each.scores for name, each in candidates.items()},
            **others,
            "suspected": np.where(label >= 0, 1 - label, -1),
            "suspicion": models.wrong,
            "doubted": most_wrong(models.wrong),
        }
    )
    for column in ("headline", "advertiser", "submitted_at", "impressions", "weight", "true_label", "true_subtask"):
        if column in table:
            listed[column] = table[column]
    return listed


def subtasks_table(found: Found, selection: Selection) -> pd.DataFrame:
    """Return one row for each sub-task: its size, its specialist's figures, and the verdict."""
    count = len(selection.kept)
    return pd.DataFrame(
        {
            "subtask": np.arange(count),
            "size": np.bincount(found.subtask[found.subtask >= 0].numpy(), minlength=count),
            "confidence": found.mean_confidence.numpy(),
            "npv": selection.npv,
            "auroc": selection.auroc,
            "local_precision": selection.local_precision,
            "competence": selection.competence,
            "competence_low": selection.low,
            "competence_high": selection.high,
            "p_value": selection.p_value,
            "kept": selection.kept,
            "reason": selection.reasons,
        }
    )


def weights_table(models: Models) -> pd.DataFrame | None:
    """Return how far each source counts for each example that was taught, where a weighting has learned that."""
    stage = None if models.student is None else models.student.folder.parent / WEIGHTS
    if stage is None or not stage.is_file():
        return None
    weights = read_parquet(stage)
    return weights[weights["visits"] > 0] if "visits" in weights else weights


def weighting_facts(models: Models) -> dict[str, Any] | None:
    """Return what weighed the student's sources, what it learned, and how far each source counts on the average."""
    facts, weights = (models.student.facts if models.student else {}).get("weighting"), weights_table(models)
    if facts is None:
        return None
    means = {} if weights is None else weights.filter(items=facts["sources"]).mean().to_dict()
    return {**facts, "mean": means}


def shown(examples: pd.DataFrame) -> list[int]:
    """Return the rows whose pictures the report shows: the surest of each sub-task, and the labels in most doubt."""
    inside = examples[examples["subtask"] >= 0]
    surest = inside.sort_values("subtask_confidence", ascending=False, kind="stable").groupby("subtask").head(PICTURES)
    doubted = examples[examples["split"] != "left_out"].nlargest(SUSPECTS, "suspicion")
    return sorted({*surest.index, *doubted.index})

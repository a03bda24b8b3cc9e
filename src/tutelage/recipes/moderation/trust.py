"""How far a run's labels, scores and thresholds can be trusted, and figures where the test's labels are wrong at times."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.metrics import auroc, bootstrap_rows, calibration_error, right_labels
from tutelage.metrics.wrong_test_labels import ExpectedPoint, defective_probability, expected_point
from tutelage.recipes.moderation.answers import Answers, answers_of
from tutelage.recipes.moderation.choice import PLAIN, Choice
from tutelage.recipes.moderation.found import ModelScores
from tutelage.recipes.moderation.task import ModerationTask

Floats = NDArray[np.float64]
ASSUMED = "a label is wrong at the estimated rates whatever the image shows, and the calibrated score is right"
DEGENERATE = 0.05  # the share of acceptable images that pass, under which a threshold blocks nearly everything
GOOD = 0.8  # the AUROC of a model that could do better than that


def calibration_facts(task: ModerationTask, choice: Choice, fine_tuned: ModelScores) -> dict[str, float]:
    """Return the expected calibration error on the test, of the served scores and of plain fine-tuning's as they came."""
    rows = task.images.rows("test").numpy()
    labels = task.judged_by().numpy()[rows]
    raw = fine_tuned.scores.double().numpy()
    return {
        "error": calibration_error(choice.served.scores[rows], labels),
        "error_uncalibrated": calibration_error(raw[rows], labels),
    }


def corrected(task: ModerationTask, choice: Choice, rates: tuple[float, ...], seed: int, out: Path) -> Any:
    """Return `corrected_figures` of a run that is being evaluated, with the answers that lie in its folder.

    None where the true labels are known, or where there are no answers and held-out labels show no errors.
    """
    rows = task.images.rows("test").numpy()
    if task.truth("true_label") is not None:
        return None
    scores = {"model": choice.served.scores[rows], "fine_tuned": choice.candidates[PLAIN].scores[rows]}
    answers = answers_of(out, task.table["id"].to_numpy()[rows])
    return corrected_figures(scores, task.labels.numpy()[rows], choice.errors, rates, seed, answers)


def corrected_figures(
    scores: Mapping[str, Floats],
    labels: NDArray[np.int64],
    errors: tuple[float, float],
    rates: tuple[float, ...],
    seed: int,
    answers: Answers | None,
) -> dict[str, Any] | None:
    """Return the figures of models, corrected for errors of the test's labels; None without answers and without errors.

    Each figure has its 95 % bootstrap interval, in which error rates and calibration stay as they are. With answers of people
    a label counts as `checked_labels` has it, in which the draw is one more thing that another sample would change.

    Args:
        scores: of each model, its probability of acceptable, (n,), calibrated.
        labels: of the test, (n,).
        errors: the labels' error rates.
        rates: false-positive rates.
        seed: of the bootstrap.
        answers: what people said of some of the test's images.
    """
    if answers is None and not any(errors):
        return None
    found: dict[str, Any] = {"assumed": ASSUMED if answers is None else answers.assumed}
    if answers is not None:
        found["checked"] = answers.facts(labels)

    def point(of: str, fpr: float, told: Floats, defective: Floats) -> Any:
        expected: ExpectedPoint = expected_point(told, defective, fpr)
        return getattr(expected, of)

    for name, each in scores.items():
        told = _log_odds(each)
        mass = defective_probability(told, labels, errors)
        if answers is not None:
            mass = answers.counted(mass)
        found[name] = {
            figure: {
                f"{rate:g}": bootstrap_rows(partial(point, of, rate), told, mass, resamples=300, seed=seed).plain()
                for rate in rates
            }
            for figure, of in (("npv_at_fpr", "npv"), ("recall_at_fpr", "recall"))
        }
        thresholds = {rate: point("threshold", rate, told, mass) for rate in rates}
        found[name]["threshold"] = {f"{rate:g}": float(each[told <= at].max()) for rate, at in thresholds.items()}
    return found


def alarms(task: ModerationTask, choice: Choice, thresholds: dict[str, float]) -> list[str]:
    """Return `alarms_of` a run that is being evaluated."""
    truth = None if task.truth("true_label") is None else task.judged_by().numpy()
    split = task.table["split"].to_numpy()
    return alarms_of(choice.served.scores, task.labels.numpy(), split, choice.errors, thresholds, truth)


def alarms_of(
    scores: Floats,
    labels: NDArray[np.int64],
    split: NDArray[Any],
    rates: tuple[float, float],
    thresholds: dict[str, float],
    truth: NDArray[np.int64] | None = None,
) -> list[str]:
    """Return sentences about what cannot be: more wrong labels than there can be, a level or a threshold that is off.

    Args:
        scores: of the served model, (N,).
        labels: as given, (N,).
        split: of each example, (N,).
        rates: the labels' error rates.
        thresholds: by false-positive rate.
        truth: the true labels, (N,), where they are known.
    """
    found = []
    train = (split == "train") & (labels >= 0)
    doubted = right_labels(_log_odds(scores[train]), labels[train], *rates) < 0.5
    acceptable = _truly_acceptable(labels[train], rates)
    wrong = int(train.sum()) * (rates[0] * (1 - acceptable) + rates[1] * acceptable)
    if doubted.sum() > wrong + 3 * np.sqrt(wrong) + 1:
        found.append(
            f"the model contradicts {doubted.sum():,} of the {train.sum():,} training labels, and by the held-out labels only "
            f"about {wrong:,.0f} can be wrong: do not trust the list of doubted labels"
        )
    test = split == "test"
    true, own = (labels if truth is None else truth)[test], scores[test]
    expected = _truly_acceptable(true, rates) if truth is None else float(true.mean())
    level = float(own.mean())
    if abs(level - expected) > 0.1:
        found.append(
            f"the mean score on the test is {level:.2f}, and {expected:.2f} of its images are acceptable: the test is not like "
            "the data by which scores were calibrated"
        )
    area = 0.5 + (auroc(own, true) - 0.5) / (_purity(expected, rates) if truth is None else 1)
    for rate, threshold in thresholds.items():
        passing = float((own[true == 1] > threshold).mean())
        if passing < DEGENERATE:
            why = (
                f"though the model ranks well (AUROC {area:.3f}): a few test labels, perhaps wrong ones, set the threshold"
                if area > GOOD
                else f"since by the test's labels it ranks poorly (AUROC {area:.3f}): it is too weak, or many labels are wrong"
            )
            found.append(
                f"at {float(rate):.2%} of the defects passing, {1 - passing:.0%} of the acceptable images is blocked, {why}; "
                "check a sample of the test's images (tutelage review), or decide at a higher rate (--fpr)"
            )
    return found


def _log_odds(scores: Floats) -> Floats:
    kept = np.clip(scores, 1e-15, 1 - 1e-15)
    return np.log(kept) - np.log1p(-kept)


def _purity(acceptable: float, rates: tuple[float, float]) -> float:
    """Return P(y = 1 | labelled 1) - P(y = 1 | labelled 0), by which wrong labels draw AUROC towards one half."""
    right, wrong = (1 - rates[1]) * acceptable, rates[0] * (1 - acceptable)
    missed, caught = rates[1] * acceptable, (1 - rates[0]) * (1 - acceptable)
    return max(right / max(right + wrong, 1e-12) - missed / max(missed + caught, 1e-12), 1e-2)


def _truly_acceptable(labels: NDArray[np.int64], rates: tuple[float, float]) -> float:
    """Return the share of examples that are truly acceptable, from the share of the labels."""
    return float(np.clip((labels.mean() - rates[0]) / (1 - sum(rates)), 0, 1))

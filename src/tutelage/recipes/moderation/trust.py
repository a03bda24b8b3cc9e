"""How far a run's labels, scores and thresholds can be trusted, and figures where the test's labels are wrong at times."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.metrics import auroc, bootstrap_rows, calibration_error, right_labels
from tutelage.metrics.wrong_test_labels import ExpectedPoint, defective_probability, expected_point
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


def corrected(task: ModerationTask, choice: Choice, rates: tuple[float, ...], seed: int) -> dict[str, Any] | None:
    """Return the figures of the served model and of plain fine-tuning, corrected for errors of the test's labels.

    None where the true labels are known, or where held-out labels show no errors. Each figure has its 95 % bootstrap interval,
    in which error rates and calibration stay as they are.
    """
    if task.truth("true_label") is not None or not any(choice.errors):
        return None
    rows = task.images.rows("test").numpy()
    labels = task.labels.numpy()[rows]
    found: dict[str, Any] = {"assumed": ASSUMED}

    def point(of: str, fpr: float, log_odds: Floats, given: NDArray[np.int64]) -> Any:
        defective = defective_probability(log_odds, given, choice.errors)
        expected: ExpectedPoint = expected_point(log_odds, defective, fpr)
        return getattr(expected, of)

    for name, candidate in (("model", choice.served), ("fine_tuned", choice.candidates[PLAIN])):
        told = candidate.log_odds[rows]
        found[name] = {
            figure: {
                f"{rate:g}": bootstrap_rows(partial(point, of, rate), told, labels, resamples=300, seed=seed).plain()
                for rate in rates
            }
            for figure, of in (("npv_at_fpr", "npv"), ("recall_at_fpr", "recall"))
        }
        thresholds = {rate: point("threshold", rate, told, labels) for rate in rates}
        scores = candidate.scores[rows]
        found[name]["threshold"] = {f"{rate:g}": float(scores[told <= at].max()) for rate, at in thresholds.items()}
    return found


def alarms(task: ModerationTask, choice: Choice, thresholds: dict[str, float]) -> list[str]:
    """Return sentences about what cannot be: more wrong labels than there can be, a level or a threshold that is off."""
    found, labels = [], task.labels.numpy()
    rates, served = choice.errors, choice.served
    train = (task.table["split"] == "train").to_numpy() & (labels >= 0)
    doubted = right_labels(served.log_odds, labels, *rates)[train] < 0.5
    acceptable = _truly_acceptable(labels[train], rates)
    wrong = int(train.sum()) * (rates[0] * (1 - acceptable) + rates[1] * acceptable)
    if doubted.sum() > wrong + 3 * np.sqrt(wrong) + 1:
        found.append(
            f"the model contradicts {doubted.sum():,} of the {train.sum():,} training labels, and by the held-out labels only "
            f"about {wrong:,.0f} can be wrong: do not trust the list of doubted labels"
        )
    test = task.images.rows("test").numpy()
    true = task.judged_by().numpy()[test]
    expected = float(true.mean()) if task.truth("true_label") is not None else _truly_acceptable(true, rates)
    level = float(served.scores[test].mean())
    if abs(level - expected) > 0.1:
        found.append(
            f"the mean score on the test is {level:.2f}, and {expected:.2f} of its images are acceptable: the test is not like "
            "the data by which scores were calibrated"
        )
    area = 0.5 + (auroc(served.scores[test], true) - 0.5) / (
        _purity(expected, rates) if task.truth("true_label") is None else 1
    )
    for rate, threshold in thresholds.items():
        passing = float((served.scores[test][true == 1] > threshold).mean())
        if passing < DEGENERATE and area > GOOD:
            found.append(
                f"at {float(rate):.2%} of the defects passing, {1 - passing:.0%} of the acceptable images is blocked, though "
                f"the model ranks well (AUROC {area:.3f}): a few test labels, perhaps wrong ones, set the threshold; look at "
                "the test's most doubted labels in relabel.csv, or decide at a higher rate (--fpr)"
            )
    return found


def _purity(acceptable: float, rates: tuple[float, float]) -> float:
    """Return P(y = 1 | labelled 1) - P(y = 1 | labelled 0), by which wrong labels draw AUROC towards one half."""
    right, wrong = (1 - rates[1]) * acceptable, rates[0] * (1 - acceptable)
    missed, caught = rates[1] * acceptable, (1 - rates[0]) * (1 - acceptable)
    return max(right / max(right + wrong, 1e-12) - missed / max(missed + caught, 1e-12), 1e-2)


def _truly_acceptable(labels: NDArray[np.int64], rates: tuple[float, float]) -> float:
    """Return the share of examples that are truly acceptable, from the share of the labels."""
    return float(np.clip((labels.mean() - rates[0]) / (1 - sum(rates)), 0, 1))

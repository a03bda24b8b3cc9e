"""A run's figures where the test's labels are wrong at times: by people's answers, or by the labels' estimated error rates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.metrics import bootstrap_rows, intervals_at_fpr
from tutelage.metrics.wrong_test_labels import expected_auroc, expected_floor, expected_point
from tutelage.recipes.moderation.answers import Answers, answers_of
from tutelage.recipes.moderation.choice import PLAIN, Choice
from tutelage.recipes.moderation.judged import defects_counted, threshold_by
from tutelage.recipes.moderation.task import ModerationTask

Floats = NDArray[np.float64]
ASSUMED = "a label is wrong at the estimated rates whatever the image shows, and the calibrated score is right"
AT_RATE = {"npv_at_fpr": "npv", "recall_at_fpr": "recall"}
RESAMPLES = 300


def corrected(task: ModerationTask, choice: Choice, rates: tuple[float, ...], seed: int, out: Path) -> Any:
    """Return `corrected_figures` of a run that is being evaluated, with the answers that lie in its folder.

    None where the true labels are known, or where there are no answers and held-out labels show no errors.
    """
    rows = task.images.rows("test").numpy()
    if task.truth("true_label") is not None:
        return None
    scores = {"model": choice.served, PLAIN: choice.candidates[PLAIN]}
    answers = answers_of(out, task.table["id"].to_numpy()[rows])
    return corrected_figures(
        {name: each.scores[rows] for name, each in scores.items()},
        task.labels.numpy()[rows],
        choice.errors,
        rates,
        seed,
        answers,
        {name: each.scores[rows] for name, each in choice.candidates.items()},
    )


def corrected_figures(
    scores: Mapping[str, Floats],
    labels: NDArray[np.int64],
    errors: tuple[float, float],
    rates: tuple[float, ...],
    seed: int,
    answers: Answers | None,
    candidates: Mapping[str, Floats] | None = None,
) -> dict[str, Any] | None:
    """Return the figures of models, corrected for errors of the test's labels; None without answers and without errors.

    Each figure has its 95 % bootstrap interval, in which error rates and calibration stay as they are. With answers of people
    a label counts as `checked_labels` has it, in which the draw is one more thing that another sample would change. Where
    people have answered about every image, figures and intervals are those by the answers (`intervals_at_fpr`).

    Args:
        scores: of the served model (``model``) and of plain fine-tuning (``fine_tuned``): probabilities of acceptable, (n,),
            calibrated.
        labels: of the test, (n,).
        errors: the labels' error rates.
        rates: false-positive rates.
        seed: of the bootstrap.
        answers: what people said of some of the test's images.
        candidates: scores of further models, whose figures get no intervals.
    """
    if answers is None and not any(errors):
        return None
    mass = {name: defects_counted(each, labels, errors, answers) for name, each in scores.items()}
    found: dict[str, Any] = {"assumed": ASSUMED if answers is None else answers.assumed}
    if answers is not None:
        found["checked"] = answers.facts(labels)
    found["defects"] = float(mass["model"].sum())
    found["floor"] = {f"{rate:g}": expected_floor(mass["model"], rate) for rate in rates}
    for name, each in scores.items():
        found[name] = _of_model(each, mass[name], rates, seed)
        npv = found[name]["npv_at_fpr"]
        found[name]["lift_at_fpr"] = {
            rate: {key: value - found["floor"][rate] for key, value in told.items()} for rate, told in npv.items()
        }
    pairs = [column for name in ("model", PLAIN) for column in (scores[name], mass[name])]
    found["difference"] = {
        "npv_at_fpr": {
            f"{rate:g}": bootstrap_rows(partial(_gain, rate), *pairs, resamples=RESAMPLES, seed=seed).plain()
            for rate in rates
        }
    }
    found["candidates"] = {
        name: _on_test(each, defects_counted(each, labels, errors, answers), rates)
        for name, each in (candidates or {}).items()
    }
    return found


def _of_model(scores: Floats, mass: Floats, rates: tuple[float, ...], seed: int) -> dict[str, Any]:
    """Return a model's figures with their intervals."""
    found: dict[str, Any] = {name: {} for name in AT_RATE}
    exact = np.isin(mass, (0.0, 1.0)).all()
    for rate in rates:
        told = intervals_at_fpr(scores, (1 - mass).astype(np.int64), rate, seed=seed) if exact else {}
        for name, of in AT_RATE.items():
            interval = told.get(name) or bootstrap_rows(
                partial(_point, of, rate), scores, mass, resamples=RESAMPLES, seed=seed
            )
            found[name][f"{rate:g}"] = interval.plain()
    found["threshold"] = {f"{rate:g}": threshold_by(scores, mass, rate) for rate in rates}
    found["auroc"] = bootstrap_rows(expected_auroc, scores, mass, resamples=RESAMPLES, seed=seed).plain()
    return found


def _on_test(scores: Floats, mass: Floats, rates: tuple[float, ...]) -> dict[str, Any]:
    npv = {f"{rate:g}": _point("npv", rate, scores, mass) for rate in rates}
    return {"npv_at_fpr": npv, "auroc": expected_auroc(scores, mass)}


def _point(of: str, fpr: float, scores: Floats, mass: Floats) -> float:
    """Return a figure of `expected_point`; of a resample without a defect, where nothing need be blocked, what holds there."""
    total = mass.sum()
    if not 0 < total < mass.size:
        return float(total > 0) if of == "npv" else float(total <= 0)
    return float(getattr(expected_point(scores, mass, fpr), of))


def _gain(fpr: float, ours: Floats, our_mass: Floats, plain: Floats, plain_mass: Floats) -> float:
    return _point("npv", fpr, ours, our_mass) - _point("npv", fpr, plain, plain_mass)

"""A run's figures where the test's labels are wrong at times: by people's answers, or by the labels' estimated error rates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.metrics import Interval, auroc, bootstrap_rows, intervals_at_fpr
from tutelage.metrics.wrong_test_labels import expected_auroc, expected_floor, expected_point
from tutelage.recipes.moderation.answers import Answers, answers_of
from tutelage.recipes.moderation.choice import PLAIN, Choice
from tutelage.recipes.moderation.judged import defects_counted, threshold_by
from tutelage.recipes.moderation.task import ModerationTask

Floats = NDArray[np.float64]
ASSUMED = (
    "a label is wrong at the estimated rates whatever the image shows, and the calibrated score is right; each model is "
    "judged by its own score"
)
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
    people have answered about every image, figures and intervals are those by the answers (`intervals_at_fpr`). At a rate
    for which the answers hold too few defects (`Answers.decide`), figures and threshold are by the labels, and ``too_few`` says
    what the answers would make of them.

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
    unchecked = {name: defects_counted(each, labels, errors, None) for name, each in scores.items()}
    mass = unchecked
    if answers is not None:
        mass = {name: defects_counted(each, labels, errors, answers) for name, each in scores.items()}
    at = {rate: mass if answers is None or answers.decide(mass["model"], rate) else unchecked for rate in rates}
    found: dict[str, Any] = {"assumed": ASSUMED if answers is None else answers.assumed}
    if answers is not None:
        found["checked"] = answers.facts(labels)
        found["too_few"] = {
            f"{rate:g}": _too_few(scores["model"], mass["model"], answers, rate)
            for rate in rates
            if not answers.decide(mass["model"], rate)
        }
    found["defects"] = float(mass["model"].sum())
    found["floor"] = {f"{rate:g}": expected_floor(at[rate]["model"], rate) for rate in rates}
    for name, each in scores.items():
        found[name] = _of_model(each, mass[name], {rate: at[rate][name] for rate in rates}, seed)
        npv = found[name]["npv_at_fpr"]
        found[name]["lift_at_fpr"] = {
            rate: {key: value - found["floor"][rate] for key, value in told.items()} for rate, told in npv.items()
        }
    found["difference"] = {
        "npv_at_fpr": {
            f"{rate:g}": gain(
                rate, scores["model"], at[rate]["model"], scores[PLAIN], at[rate][PLAIN], seed=seed
            ).plain()
            for rate in rates
        }
    }
    found["doubtful"] = {
        f"{rate:g}": doubt for rate in rates if at[rate] is unchecked and (doubt := _doubt(found, scores, labels, rate))
    }
    found["candidates"] = {}
    for name, each in (candidates or {}).items():
        alone, whole = (defects_counted(each, labels, errors, told) for told in (None, answers))
        by_rate = {rate: alone if at[rate] is unchecked else whole for rate in rates}
        found["candidates"][name] = {
            "npv_at_fpr": {f"{rate:g}": _point("npv", rate, each, by_rate[rate]) for rate in rates},
            "auroc": expected_auroc(each, whole),
        }
    return found


def lessons(found: Mapping[str, Any] | None, fpr: float) -> list[str]:
    """Return sentences about what corrected figures at a rate cannot tell, as alarms."""
    if found is None:
        return []
    rate, lines = f"{fpr:g}", []
    if few := found.get("too_few", {}).get(rate):
        more = (
            "none of them is about a defect"
            if few["more"] is None
            else f"about {few['more']:,} more answers are needed"
        )
        lines.append(
            f"the answers are worth {few['worth']:.1f} defects, and a threshold for {100 * fpr:g}% takes {few['needed']:.0f} "
            f"({more}): the threshold stays {found['model']['threshold'][rate]:.4f}, by the labels; by the answers it would be "
            f"{few['threshold']:.4f}, with NPV {few['npv']:.3f}"
        )
    if doubt := found.get("doubtful", {}).get(rate):
        lines.append(doubt)
    return lines


def _too_few(scores: Floats, mass: Floats, answers: Answers, fpr: float) -> dict[str, Any]:
    """Return what answers with too few defects for a rate would say, and how many more it takes."""
    usable = 0 < mass.sum() < mass.size
    return {
        "worth": answers.worth,
        "needed": answers.needed(mass, fpr),
        "more": answers.more(mass, fpr),
        "threshold": threshold_by(scores, mass, fpr) if usable else float(scores.max()),
        "npv": _point("npv", fpr, scores, mass),
    }


def _doubt(found: Mapping[str, Any], scores: Mapping[str, Floats], labels: NDArray[np.int64], fpr: float) -> str | None:
    """Return why the comparison by corrected figures is not to be trusted, None where nothing speaks against it.

    Labels that are wrong whatever the image shows draw the AUROC of both models towards one half alike, and leave their order.
    """
    told = found["difference"]["npv_at_fpr"][f"{fpr:g}"]["value"]
    ours, plain = (auroc(scores[name], labels) for name in ("model", PLAIN))
    if told * (ours - plain) >= 0:
        return None
    better, other = ("the served model", "plain fine-tuning") if told > 0 else ("plain fine-tuning", "the served model")
    return (
        f"by NPV at {100 * fpr:g}% FPR, corrected for the labels' estimated errors, {better} does better than {other}; by "
        f"AUROC, whose order such errors leave as it is, it does worse ({max(ours, plain):.4f} and {min(ours, plain):.4f}, by "
        "the labels as they are). The correction takes each model's own score for right, so that the surer one looks better: "
        "do not choose by it; check a sample of the test's images (tutelage review)"
    )


def _of_model(scores: Floats, mass: Floats, at: Mapping[float, Floats], seed: int) -> dict[str, Any]:
    """Return a model's figures with their intervals; ``at`` is how much of a defect each image counts as at each rate."""
    found: dict[str, Any] = {name: {} for name in AT_RATE}
    for rate, counted in at.items():
        for name, interval in rate_intervals(scores, counted, rate, seed).items():
            found[name][f"{rate:g}"] = interval.plain()
    found["threshold"] = {f"{rate:g}": threshold_by(scores, counted, rate) for rate, counted in at.items()}
    found["auroc"] = bootstrap_rows(expected_auroc, scores, mass, resamples=RESAMPLES, seed=seed).plain()
    return found


def rate_intervals(scores: Floats, mass: Floats, fpr: float, seed: int) -> dict[str, Interval]:
    """Return NPV and recall at a rate, each with its interval, in which another test part would have another threshold.

    Args:
        scores: (n,), high for acceptable.
        mass: how much of a defect each image counts as, (n,).
        fpr: the rate.
        seed: of the bootstrap.
    """
    if np.isin(mass, (0.0, 1.0)).all():
        told = intervals_at_fpr(scores, (1 - mass).astype(np.int64), fpr, seed=seed)
        return {name: told[name] for name in AT_RATE}
    return {
        name: bootstrap_rows(partial(_point, of, fpr), scores, mass, resamples=RESAMPLES, seed=seed)
        for name, of in AT_RATE.items()
    }


def gain(fpr: float, ours: Floats, our_mass: Floats, theirs: Floats, their_mass: Floats, seed: int) -> Interval:
    """Return by how much one model's NPV at a rate lies above another's, with its interval."""
    columns = (ours, our_mass, theirs, their_mass)
    return bootstrap_rows(partial(_gain, fpr), *columns, resamples=RESAMPLES, seed=seed)


def _point(of: str, fpr: float, scores: Floats, mass: Floats) -> float:
    """Return a figure of `expected_point`; of a resample without a defect, where nothing need be blocked, what holds there."""
    total = mass.sum()
    if not 0 < total < mass.size:
        return float(total > 0) if of == "npv" else float(total <= 0)
    return float(getattr(expected_point(scores, mass, fpr), of))


def _gain(fpr: float, ours: Floats, our_mass: Floats, plain: Floats, plain_mass: Floats) -> float:
    return _point("npv", fpr, ours, our_mass) - _point("npv", fpr, plain, plain_mass)

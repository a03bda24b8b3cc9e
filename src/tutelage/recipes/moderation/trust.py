"""How far a run's labels, scores and thresholds can be trusted: what cannot be is an alarm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tutelage.metrics import auroc, calibration_error, right_labels
from tutelage.metrics.beta import beta_cdf
from tutelage.metrics.promises import defects_needed, passing_bound
from tutelage.metrics.wrong_test_labels import expected_auroc
from tutelage.recipes.moderation.answers import answers_of
from tutelage.recipes.moderation.choice import Choice
from tutelage.recipes.moderation.found import ModelScores
from tutelage.recipes.moderation.judged import JudgedTest, log_odds
from tutelage.recipes.moderation.task import ModerationTask

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
DEGENERATE = 0.05  # the share of acceptable images that pass, under which a threshold blocks nearly everything
GOOD = 0.8  # the AUROC of a model that could do better than that
SURE = 0.95  # the probability of a label, from which the other one is a contradiction
TELLING = 0.1  # the share of wrong labels that must be excluded before "no errors" means anything
OFF = 0.1  # by how much the level of the scores may differ from the share of acceptable images
UNLIKELY = 0.01


def calibration_facts(task: ModerationTask, choice: Choice, fine_tuned: ModelScores) -> dict[str, float]:
    """Return the expected calibration error on the test, of the served scores and of plain fine-tuning's as they came."""
    rows = task.images.rows("test").numpy()
    labels = task.judged_by().numpy()[rows]
    raw = fine_tuned.scores.double().numpy()
    return {
        "error": calibration_error(choice.served.scores[rows], labels),
        "error_uncalibrated": calibration_error(raw[rows], labels),
    }


def label_facts(task: ModerationTask, choice: Choice) -> dict[str, float | int | bool]:
    """Return the labels' error rates by held-out labels, and what these can tell.

    Of the held-out labels those count of which the served model is sure (`SURE`) one way or the other: so many contradict it,
    and with 95 % confidence no greater share than ``at_most`` of them is wrong. Where that excludes little, the labels tell
    of no errors, and of none that there are.
    """
    split, labels = task.table["split"].to_numpy(), task.labels.numpy()
    rows = np.isin(split, ["teacher_val", "teacher_test", "student_val"]) & (labels >= 0)
    acceptable, own = choice.served.scores[rows], labels[rows]
    sure = np.maximum(acceptable, 1 - acceptable) >= SURE
    contradicted = int(((acceptable > 0.5) != (own == 1))[sure].sum())
    at_most = passing_bound(contradicted, int(sure.sum()), CONFIDENCE)
    return {
        "false_acceptable": choice.errors[0],
        "false_defective": choice.errors[1],
        "held_out": int(rows.sum()),
        "sure": int(sure.sum()),
        "contradicted": contradicted,
        "at_most": at_most,
        "too_few": at_most > TELLING,
    }


def alarms(task: ModerationTask, choice: Choice, thresholds: dict[str, float], out: Path) -> list[str]:
    """Return `alarms_of` a run that is being evaluated, with the answers that lie in its folder."""
    rows = task.images.rows("test").numpy()
    known = task.truth("true_label") is not None
    answers = None if known else answers_of(out, task.table["id"].to_numpy()[rows])
    table = task.table.iloc[rows].assign(score=choice.served.scores[rows])
    labels = task.judged_by().numpy()[rows]
    test = JudgedTest.of(table.assign(label=labels), choice.errors, answers, known=known)
    split = task.table["split"].to_numpy()
    return alarms_of(choice.served.scores, task.labels.numpy(), split, choice.errors, thresholds, test)


def alarms_of(
    scores: Floats,
    labels: NDArray[np.int64],
    split: NDArray[np.object_],
    rates: tuple[float, float],
    thresholds: Mapping[str, float],
    test: JudgedTest,
) -> list[str]:
    """Return sentences about what cannot be, and what the test cannot tell.

    More wrong labels than there can be, a level or a threshold that is off by more than chance explains, labelled defects that
    pass, and fewer defects than a rate takes.

    Args:
        scores: of the served model, (N,).
        labels: as given, (N,).
        split: of each example, (N,).
        rates: the labels' error rates.
        thresholds: by false-positive rate.
        test: the test part.
    """
    train = (split == "train") & (labels >= 0)
    return [
        *_contradicted(scores[train], labels[train], rates),
        *_level(test),
        *_blocked(test, thresholds),
        *_explained(test, thresholds),
        *_few(test, thresholds),
    ]


def _contradicted(scores: Floats, labels: NDArray[np.int64], rates: tuple[float, float]) -> Iterator[str]:
    if not len(labels):
        return
    doubted = right_labels(log_odds(scores), labels, *rates) < 0.5
    acceptable = _truly_acceptable(labels, rates)
    wrong = len(labels) * (rates[0] * (1 - acceptable) + rates[1] * acceptable)
    if doubted.sum() > wrong + 3 * np.sqrt(wrong) + 1:
        yield (
            f"the model contradicts {doubted.sum():,} of the {len(labels):,} training labels, and by the held-out labels only "
            f"about {wrong:,.0f} can be wrong: do not trust the list of doubtful labels"
        )


def _level(test: JudgedTest) -> Iterator[str]:
    """The mean score, where it is off by more than `OFF` and by more than three standard errors."""
    scores, errors = test.scores, test.errors
    one_by_one = 1 - test.defect if test.checked else (test.labels - errors[0]) / (1 - sum(errors))
    expected = float(np.clip(one_by_one.mean(), 0, 1))
    residual = scores - one_by_one
    error = float(residual.std(ddof=1) / np.sqrt(residual.size)) if residual.size > 1 else np.inf
    if abs(scores.mean() - expected) > max(OFF, 3 * error):
        yield (
            f"the mean score on the test is {scores.mean():.2f}, and {expected:.2f} of its images are acceptable: the test "
            "differs from the data on which scores were calibrated"
        )


def _blocked(test: JudgedTest, thresholds: Mapping[str, float]) -> Iterator[str]:
    """Thresholds that nearly nothing acceptable passes, where that is no chance."""
    scores, acceptable = test.scores, (1 - test.defect if test.checked else (test.labels == 1).astype(np.float64))
    total = max(float(acceptable.sum()), 0.0)
    if test.checked:
        area = expected_auroc(scores, test.defect)
    else:
        expected = _truly_acceptable(test.labels, test.errors)
        area = 0.5 + (auroc(scores, test.labels) - 0.5) / _purity(expected, test.errors)
    for rate, threshold in thresholds.items():
        passing = max(float(acceptable[scores > threshold].sum()), 0.0)
        if passing >= DEGENERATE * total or passing_bound(passing, total, CONFIDENCE) > 2 * DEGENERATE:
            continue
        why = (
            f"though the model ranks well (AUROC {area:.3f}): a few test labels, perhaps wrong ones, set the threshold"
            if area > GOOD
            else f"since by the test's labels it ranks poorly (AUROC {area:.3f}): it is too weak, or many labels are wrong"
        )
        yield (
            f"at {float(rate):.2%} of the defects passing, {1 - passing / total:.0%} of the acceptable images are blocked, "
            f"{why}; check a sample of the test's images (tutelage review), or decide at a higher rate (--fpr)"
        )


def _explained(test: JudgedTest, thresholds: Mapping[str, float]) -> Iterator[str]:
    """Labelled defects that pass although the rate and the labels' estimated errors hardly explain it, or only these errors.

    Of the labels "defective" a share q is wrong by the estimate; at most, all of these pass.
    """
    if test.checked or not any(test.errors):
        return
    scores, defects = test.scores, test.labels == 0
    acceptable, count = _truly_acceptable(test.labels, test.errors), int(defects.sum())
    wrong = test.errors[1] * acceptable
    q = wrong / max(wrong + (1 - test.errors[0]) * (1 - acceptable), 1e-12)
    for rate, threshold in thresholds.items():
        passing = scores > threshold
        passed = int((passing & defects).sum())
        alone, both = float(rate), q + (1 - q) * float(rate)
        if passed == 0 or beta_cdf(alone, passed, count - passed + 1) > UNLIKELY:
            continue  # the rate alone explains it
        begins = (
            f"{passed} of the {count} test images labelled defective pass at the threshold for {_percent(rate)}, by which at "
            f"most {_percent(rate)} of the defects should"
        )
        ends = "check them, or a sample of the test's images (tutelage review)"
        if beta_cdf(both, passed, count - passed + 1) <= UNLIKELY:
            yield f"{begins}, more than the estimated errors of the labels explain: {ends}"
        elif q > 0.5:
            yield f"{begins}: {q:.0%} of these labels are taken to be wrong, only by estimated error rates; {ends}"


def _few(test: JudgedTest, thresholds: Mapping[str, float]) -> Iterator[str]:
    """Rates for which the test has too few defects."""
    defects = (test.labels == 0) & (test.weight > 0)
    weight, scores = test.weight[defects], test.scores[defects]
    count, weighing = int(defects.sum()), float(weight.sum())
    lacking = {rate: at for rate, at in thresholds.items() if not passing_bound(0, weighing, CONFIDENCE) <= float(rate)}
    if not lacking:
        return
    needed = " and ".join(f"{defects_needed(float(rate), CONFIDENCE)} for {_percent(rate)}" for rate in lacking)
    by_threshold: dict[float, list[str]] = {}
    for rate, at in lacking.items():
        by_threshold.setdefault(at, []).append(_percent(rate))
    told = []
    for at, names in by_threshold.items():
        passing = scores > at
        bound = passing_bound(float(weight[passing].sum()), weighing, CONFIDENCE)
        name = f"threshold for {names[0]}" if len(names) == 1 else f"threshold, the same for {' and '.join(names)}"
        higher = f"{passing.sum()} of them score{'s' if passing.sum() == 1 else ''} higher"
        told.append(f"{higher} than the {name}, so that up to {bound:.0%} of all defects may pass")
    of = "of the test's answered images are defects" if test.answers else "images of the test are defects"
    worth = "" if weighing > count - 1e-9 else f" (worth {weighing:.1f} of a plain sample)"
    whose = "" if test.checked else " by their labels"
    yield (
        f"{count} {of}{whose}{worth}, too few for a guarantee with {CONFIDENCE:.0%} confidence, which takes {needed}; "
        f"{'; '.join(told)}"
    )


def _percent(rate: str) -> str:
    return f"{100 * float(rate):g}%"


def _purity(acceptable: float, rates: tuple[float, float]) -> float:
    """Return P(y = 1 | labelled 1) - P(y = 1 | labelled 0), by which wrong labels draw AUROC towards one half."""
    right, wrong = (1 - rates[1]) * acceptable, rates[0] * (1 - acceptable)
    missed, caught = rates[1] * acceptable, (1 - rates[0]) * (1 - acceptable)
    return max(right / max(right + wrong, 1e-12) - missed / max(missed + caught, 1e-12), 1e-2)


def _truly_acceptable(labels: NDArray[np.int64], rates: tuple[float, float]) -> float:
    """Return the share of examples that are truly acceptable, from the share of the labels."""
    return float(np.clip((labels.mean() - rates[0]) / (1 - sum(rates)), 0, 1))

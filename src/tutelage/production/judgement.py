"""Where an exported model decides, and what 8 bits cost it: figures of its own outputs on held-out examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.metrics import accuracy, bootstrap_rows
from tutelage.production.answers import answers, softmax
from tutelage.production.guarantee import TooFewDefects, guaranteed_threshold
from tutelage.recipes.moderation.corrected import gain, rate_intervals
from tutelage.recipes.moderation.judged import JudgedTest

RATES = (0.01, 0.05)
CONFIDENCE = 0.95
Logits = NDArray[Any]
Labels = NDArray[Any]


def thresholds(
    logits_n2: Logits,
    test: JudgedTest,
    run_threshold: Callable[[float], float],
    fpr: float,
    confidence: float | None,
    wrong_labels: float = 0.0,
    more: tuple[Logits, Labels] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return what a card says of thresholds: at each rate the run's and the guaranteed one, and the one that decides.

    The run's threshold is that of `tutelage predict`, in the scores of the exported model: as many test examples lie at or
    below it. (Scores that were computed in another way differ in their last digits, and in more by 8 bits.) NPV is that of
    the rate, with its interval, as the run's own figures have it.

    Args:
        logits_n2: of the test part's labelled images, by the exported model.
        test: the same images, by the run.
        run_threshold: from a rate to the run's threshold.
        fpr: the rate at which is decided.
        confidence: decide by the threshold that guarantees the rate; by the run's if None.
        wrong_labels: see `guaranteed_threshold`.
        more: logits and labels of further held-out examples, for the guarantee alone.
        seed: of the run, so that NPV has the interval that the run tells.

    Raises:
        TooFewDefects: for the guarantee by which is decided; at the other rates, the number that is needed is noted.
    """
    scores = softmax(logits_n2.astype(np.float64))[:, 1]
    wider, labels, weight = scores, test.labels, test.weight
    if more is not None:
        further, known = _judged(*more)
        wider, labels = np.concatenate([wider, further]), np.concatenate([labels, known])
        weight = np.concatenate([weight, np.ones(len(known))])
    listed: dict[str, dict[str, Any]] = {}
    for rate in sorted({*RATES, fpr}):
        at = run_threshold(rate)
        flagged = int((test.scores <= at).sum())
        own = bootstrap_rows(partial(_cut, share=flagged / len(scores), place=_place(np.sort(test.scores), at)), scores)
        npv = rate_intervals(scores, test.defect_at(rate), rate, seed)["npv_at_fpr"]
        try:
            found = guaranteed_threshold(wider, labels, rate, confidence or CONFIDENCE, wrong_labels, weight)
            promise: dict[str, Any] = {
                "value": found.threshold,
                "confidence": found.confidence,
                "bound": found.bound,
                "defects": found.defects,
                "passed": found.passed,
                "weighing": found.weighing,
                "wrong_labels": found.wrong_labels,
            }
        except TooFewDefects as error:
            if confidence is not None and rate == fpr:
                raise
            promise = {"value": None, "defects_needed": error.needed}
        listed[f"{rate:g}"] = {
            "run": own.plain(),
            "npv": {**npv.plain(), "by": test.told_by(rate)},
            "guaranteed": promise,
        }
    chosen = listed[f"{fpr:g}"]
    decides = chosen["run" if confidence is None else "guaranteed"]["value"]
    return {"threshold": decides, "fpr": fpr, "confidence": confidence, "thresholds": listed}


def lost(
    card: Mapping[str, Any],
    exact: Logits,
    rounded: Logits,
    labels: Labels,
    test: JudgedTest | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return what a model loses by 8 bits, on the test part: NPV of one that decides, else accuracy where labels are known.

    NPV is estimated as for the thresholds: by people's answers, else by the labels, corrected for their error rates.

    Args:
        card: what is answered.
        exact: logits in 32 bits.
        rounded: logits in 8 bits.
        labels: of the test part.
        test: its labelled examples, of a run of moderation.
        seed: of the intervals.
    """
    facts: dict[str, Any] = {"largest_difference_of_logits": float(np.abs(exact - rounded).max())}
    kind = card["answer"]["kind"]
    if kind == "decision":
        assert test is not None
        before, after = (_judged(each, labels)[0] for each in (exact, rounded))
        for rate in RATES:
            defect = test.defect_at(rate)
            figures = [rate_intervals(each, defect, rate, seed)["npv_at_fpr"].plain() for each in (before, after)]
            facts[f"npv at {rate:g}"] = {
                "float32": figures[0],
                "int8": figures[1],
                "difference": gain(rate, after, defect, before, defect, seed=seed).plain(),
                "by": test.told_by(rate),
            }
        return facts
    ours, theirs = answers(card, exact), answers(card, rounded)
    names = {"labels": "labels", "class": "predicted", "answer": "answer", "text": "label"}
    same = [a[names[kind]] == b[names[kind]] for a, b in zip(ours, theirs, strict=True)]
    if not (kind == "answer" and card["answer"]["number"]):
        facts["same_answer"] = float(np.mean(same))
    if kind in ("class", "text") or (kind == "answer" and not card["answer"]["number"]):
        right = labels >= 0
        facts["accuracy"] = {
            name: accuracy(logits.argmax(1)[right], labels[right])
            for name, logits in (("float32", exact), ("int8", rounded))
        }
    return facts


def _cut(scores: NDArray[np.float64], share: float, place: float = 0.0) -> float:
    """Return a cut above the share of lowest scores, at a place between the highest of them, 0, and the next score, 1.

    For a share of 0 it is what lies below all scores.
    """
    count, ordered = round(share * len(scores)), np.sort(scores)
    if not count:
        return float(np.nextafter(ordered[0], -np.inf))
    below, above = float(ordered[count - 1]), float(ordered[min(count, len(ordered) - 1)])
    cut = below + place * (above - below)
    return cut if cut < above else below


def _place(ordered: NDArray[np.float64], threshold: float) -> float:
    """Return where a threshold lies between the scores beside it: from 0, the lower one, to below 1, the upper one."""
    count = int(np.searchsorted(ordered, threshold, side="right"))
    if not 0 < count < len(ordered):
        return 0.0
    return float((threshold - ordered[count - 1]) / (ordered[count] - ordered[count - 1]))


def _judged(logits_N2: Logits, labels_N: Labels) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    known = labels_N >= 0
    return softmax(logits_N2.astype(np.float64))[known, 1], labels_N[known].astype(np.int64)

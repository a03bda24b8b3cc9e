"""Where an exported model decides, and what 8 bits cost it: figures of its own outputs on held-out examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.metrics import accuracy, bootstrap_rows, npv_at_fpr, paired_bootstrap
from tutelage.production.answers import answers, softmax
from tutelage.production.guarantee import TooFewDefects, guaranteed_threshold
from tutelage.recipes.moderation.judged import JudgedTest, npv_by

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
) -> dict[str, Any]:
    """Return what a card says of thresholds: at each rate the run's and the guaranteed one, and the one that decides.

    The run's threshold is that of `tutelage predict`, in the scores of the exported model: as many test examples lie at or
    below it. (Scores that were computed in another way differ in their last digits, and in more by 8 bits.)

    Args:
        logits_n2: of the test part's labelled images, by the exported model.
        test: the same images, by the run.
        run_threshold: from a rate to the run's threshold.
        fpr: the rate at which is decided.
        confidence: decide by the threshold that guarantees the rate; by the run's if None.
        wrong_labels: see `guaranteed_threshold`.
        more: logits and labels of further held-out examples, for the guarantee alone.

    Raises:
        TooFewDefects: for the guarantee by which is decided; at the other rates, the number that is needed is noted.
    """
    scores = softmax(logits_n2.astype(np.float64))[:, 1]
    wider, labels, weight = scores, test.labels, test.weight
    if more is not None:
        further, known = _judged(*more)
        wider, labels = np.concatenate([wider, further]), np.concatenate([labels, known])
        weight = np.concatenate([weight, np.ones(len(known))])
    listed = {}
    for rate in sorted({*RATES, fpr}):
        flagged = int((test.scores <= run_threshold(rate)).sum())
        own = bootstrap_rows(partial(_cut, share=flagged / len(scores)), scores)
        npv = bootstrap_rows(partial(npv_by, threshold=own.value), scores, test.defect)
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
        listed[f"{rate:g}"] = {"run": own.plain(), "npv": npv.plain(), "guaranteed": promise}
    chosen = listed[f"{fpr:g}"]
    decides = chosen["run" if confidence is None else "guaranteed"]["value"]
    return {"threshold": decides, "fpr": fpr, "confidence": confidence, "thresholds": listed}


def lost(card: Mapping[str, Any], exact: Logits, rounded: Logits, labels: Labels) -> dict[str, Any]:
    """Return what a model loses by 8 bits, on the test part: NPV of one that decides, else accuracy where labels are known.

    Args:
        card: what is answered.
        exact: logits in 32 bits.
        rounded: logits in 8 bits.
        labels: of the test part.
    """
    facts: dict[str, Any] = {"largest_difference_of_logits": float(np.abs(exact - rounded).max())}
    kind = card["answer"]["kind"]
    if kind == "decision":
        (before, known), (after, _) = _judged(exact, labels), _judged(rounded, labels)
        for rate in RATES:
            metric = partial(npv_at_fpr, fpr=rate)
            change = paired_bootstrap(metric, after, before, known).plain()
            facts[f"npv at {rate:g}"] = {
                "float32": metric(before, known),
                "int8": metric(after, known),
                "difference": change,
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


def _cut(scores: NDArray[np.float64], share: float) -> float:
    """Return the highest of the share of lowest scores, and what lies below all scores for a share of 0."""
    count = round(share * len(scores))
    return float(np.sort(scores)[count - 1]) if count else float(np.nextafter(scores.min(), -np.inf))


def _judged(logits_N2: Logits, labels_N: Labels) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    known = labels_N >= 0
    return softmax(logits_N2.astype(np.float64))[known, 1], labels_N[known].astype(np.int64)

"""Where an exported model decides, and what 8 bits cost it: figures of its own outputs on held-out examples."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.metrics import accuracy, bootstrap, npv_at_fpr, paired_bootstrap, threshold_at_fpr
from tutelage.production.answers import answers, softmax
from tutelage.production.guarantee import TooFewDefects, guaranteed_threshold

RATES = (0.01, 0.05)
CONFIDENCE = 0.95
Logits = NDArray[Any]
Labels = NDArray[Any]


def thresholds(
    logits_N2: Logits,
    labels_N: Labels,
    fpr: float,
    confidence: float | None,
    wrong_labels: float = 0.0,
    more: tuple[Logits, Labels] | None = None,
) -> dict[str, Any]:
    """Return what a card says of thresholds: at each rate the observed and the guaranteed one, and the one that decides.

    Args:
        logits_N2: of the test part.
        labels_N: 0 defective, 1 acceptable, negative: not known.
        fpr: the rate at which is decided.
        confidence: decide by the threshold that guarantees the rate; by the observed one if None.
        wrong_labels: see `guaranteed_threshold`.
        more: logits and labels of further held-out examples, for the guarantee alone.

    Raises:
        TooFewDefects: for the guarantee by which is decided; at the other rates, the number that is needed is noted.
    """
    scores, labels = _judged(logits_N2, labels_N)
    wider = scores, labels
    if more is not None:
        further = _judged(*more)
        wider = np.concatenate([scores, further[0]]), np.concatenate([labels, further[1]])
    listed = {}
    for rate in sorted({*RATES, fpr}):
        observed = bootstrap(partial(threshold_at_fpr, fpr=rate), scores, labels)
        npv = bootstrap(partial(npv_at_fpr, fpr=rate), scores, labels)
        try:
            found = guaranteed_threshold(*wider, rate, confidence or CONFIDENCE, wrong_labels)
            promise: dict[str, Any] = {
                "value": found.threshold,
                "confidence": found.confidence,
                "bound": found.bound,
                "defects": found.defects,
                "passed": found.passed,
                "wrong_labels": wrong_labels,
            }
        except TooFewDefects as error:
            if confidence is not None and rate == fpr:
                raise
            promise = {"value": None, "defects_needed": error.needed}
        listed[f"{rate:g}"] = {"observed": observed.plain(), "npv": npv.plain(), "guaranteed": promise}
    chosen = listed[f"{fpr:g}"]
    decides = chosen["observed" if confidence is None else "guaranteed"]["value"]
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


def _judged(logits_N2: Logits, labels_N: Labels) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    known = labels_N >= 0
    return softmax(logits_N2.astype(np.float64))[known, 1], labels_N[known].astype(np.int64)

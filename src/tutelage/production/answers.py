"""From a model's outputs to what is answered, with the columns of `tutelage predict`; numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.metrics.multilabel import label_sets

Answer = dict[str, Any]
NOT_FINITE = "the model's answer is not a finite number: the example holds numbers with which it cannot compute"


def answers(card: Mapping[str, Any], logits_NC: NDArray[Any], subtasks_NK: NDArray[Any] | None = None) -> list[Answer]:
    """Return one answer for each example; it is empty where a logit is not finite (`NOT_FINITE`).

    Args:
        card: the exported model's.
        logits_NC: the model's outputs.
        subtasks_NK: how near each sub-task is, where the model says.
    """
    logits_NC = logits_NC.astype(np.float64)
    if not (finite_N := np.isfinite(logits_NC).all(1)).all():
        near = None if subtasks_NK is None else subtasks_NK[finite_N]
        good = iter(answers(card, logits_NC[finite_N], near) if finite_N.any() else [])
        return [next(good) if finite else {} for finite in finite_N]
    told = card["answer"]
    classes: list[str] | None = card["classes"]
    kind = told["kind"]
    if kind == "decision":
        found = _decisions(softmax(logits_NC)[:, 1], told["threshold"])
        if subtasks_NK is not None:
            for answer, near_K in zip(found, subtasks_NK, strict=True):
                best = int(near_K.argmax())
                answer["subtask"] = told["subtasks"][best] if answer["decision"] == "defective" else None
        return found
    if kind == "labels":
        return _labels(softmax(logits_NC) if told["softmax"] else sigmoid(logits_NC), told["threshold"], classes or [])
    if kind == "answer" and told["number"]:
        return [{"answer": float(value)} for value in logits_NC[:, 0]]
    probabilities_NC = softmax(logits_NC)
    best_N = probabilities_NC.argmax(1)
    names = [classes[place] if classes else int(place) for place in best_N]
    most = probabilities_NC.max(1).tolist()
    if kind in ("answer", "class"):
        named = "answer" if kind == "answer" else "predicted"
        return [{named: name, "probability": share} for name, share in zip(names, most, strict=True)]
    each = [
        {f"probability of {name}": share for name, share in zip(classes or [], row, strict=True)}
        for row in probabilities_NC.tolist()
    ]
    return [{"label": name, "probability": share, **row} for name, share, row in zip(names, most, each, strict=True)]


def softmax(logits_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities (N, C)."""
    shifted_NC = np.exp(logits_NC - logits_NC.max(1, keepdims=True))
    return shifted_NC / shifted_NC.sum(1, keepdims=True)


def sigmoid(logits_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one probability for each logit."""
    return 0.5 * (1 + np.tanh(0.5 * logits_NC))


def _decisions(scores_N: NDArray[np.float64], threshold: float) -> list[Answer]:
    return [
        {"score": score, "decision": "acceptable" if score > threshold else "defective"} for score in scores_N.tolist()
    ]


def _labels(scores_NC: NDArray[np.float64], threshold: float | None, classes: list[str]) -> list[Answer]:
    found = []
    for scores_C, inside_C in zip(scores_NC, label_sets(scores_NC, threshold), strict=True):
        order = [place for place in np.argsort(-scores_C, kind="stable") if inside_C[place]]
        found.append({"labels": [classes[place] for place in order], "scores": scores_C[order].tolist()})
    return found

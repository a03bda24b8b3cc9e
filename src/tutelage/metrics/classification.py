"""How good predicted classes are: accuracy and F1, numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of predicted classes (N,) that are the labels (N,).

    Raises:
        ValueError: shapes that differ or are not (N,), N > 0.
    """
    predicted_N, labels_N = _checked(predicted, labels)
    return float((predicted_N == labels_N).mean())


def f1(predicted: ArrayLike, labels: ArrayLike, positive: int = 1) -> float:
    """Return the harmonic mean of precision and recall of one class: 2 TP / (2 TP + FP + FN); 0 where it is nowhere.

    Raises:
        ValueError: shapes that differ or are not (N,), N > 0.
    """
    predicted_N, labels_N = _checked(predicted, labels)
    said, true = predicted_N == positive, labels_N == positive
    both = int((said & true).sum())
    total = int(said.sum()) + int(true.sum())
    return 2 * both / total if total else 0.0


def macro_f1(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean of `f1` over the classes that occur among the predictions or the labels.

    Raises:
        ValueError: shapes that differ or are not (N,), N > 0.
    """
    predicted_N, labels_N = _checked(predicted, labels)
    classes = np.unique(np.concatenate([predicted_N, labels_N]))
    return float(np.mean([f1(predicted_N, labels_N, positive) for positive in classes]))


def _checked(predicted: ArrayLike, labels: ArrayLike) -> tuple[NDArray, NDArray]:
    predicted_N, labels_N = np.asarray(predicted), np.asarray(labels)
    if predicted_N.ndim != 1 or predicted_N.shape != labels_N.shape or not predicted_N.size:
        raise ValueError(
            f"predicted and labels must both be (N,), N > 0; they are {predicted_N.shape}, {labels_N.shape}"
        )
    return predicted_N, labels_N

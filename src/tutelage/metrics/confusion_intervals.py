"""Intervals of accuracy and macro F1 that are honest of a handful of examples, too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.metrics.classification import accuracy, macro_f1
from tutelage.metrics.intervals import Interval, Metric

Cells = NDArray[np.float64]


def _accuracy(counts_SCC: Cells) -> NDArray[np.float64]:
    found: NDArray[np.float64] = counts_SCC.trace(axis1=1, axis2=2) / counts_SCC.sum((1, 2))
    return found


def _macro_f1(counts_SCC: Cells) -> NDArray[np.float64]:
    right_SC = counts_SCC.diagonal(axis1=1, axis2=2)
    both_SC = counts_SCC.sum(1) + counts_SCC.sum(2)
    return np.divide(2 * right_SC, both_SC, out=np.zeros_like(both_SC), where=both_SC > 0).mean(1)


FIGURES: dict[Metric, Callable[[Cells], NDArray[np.float64]]] = {accuracy: _accuracy, macro_f1: _macro_f1}
"""The metrics as functions of S tables of counts, (S, C, C): the true class, then the predicted one."""


def confusion_interval(
    metric: Metric,
    predicted: ArrayLike,
    labels: ArrayLike,
    against: ArrayLike | None = None,
    *,
    classes: int,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    r"""Return a metric with its interval over other examples of as many of each class, or the difference of two models.

    For each true class the shares of the answers have Jeffreys' prior, and the interval is of the metric under their posterior:

    .. math:: (p_{c1}, \dots, p_{cA}) \sim \mathrm{Dirichlet}\big(n_{c1} + \tfrac{C}{2A}, \dots, n_{cA} + \tfrac{C}{2A}\big)

    with A = C answers of one model, or C squared pairs of answers of two. Of three examples that are all right a bootstrap says
    "1 to 1", since it knows of no others; this says how often three right ones are met by chance. For many examples the two
    agree.

    Args:
        metric: `accuracy` or `macro_f1`.
        predicted: classes, (N,).
        labels: true classes, (N,).
        against: another model's classes; the difference to it is returned then.
        classes: C.
        level: of the interval.
        resamples: draws of the posterior.
        seed: of the draws.

    Raises:
        ValueError: another metric, or no examples.

    Source: Brown, Cai and DasGupta, *Interval Estimation for a Binomial Proportion*, 2001 (Jeffreys' interval, of two classes).
    """
    if metric not in FIGURES:
        raise ValueError(f"metric={metric!r} is not one of {', '.join(each.__name__ for each in FIGURES)}")
    truth_N = np.asarray(labels, dtype=np.int64)
    if not len(truth_N):
        raise ValueError("labels is empty: give at least one")
    models = [np.asarray(each, dtype=np.int64) for each in (predicted, against) if each is not None]
    answer_N = np.ravel_multi_index(models, (classes,) * len(models))
    answers = classes ** len(models)
    counts_CA = np.zeros((classes, answers))
    np.add.at(counts_CA, (truth_N, answer_N), 1)
    draw = np.random.default_rng(seed)
    shares_SCA = draw.gamma(counts_CA + classes / (2 * answers), size=(resamples, classes, answers))
    shares_SCA /= shares_SCA.sum(2, keepdims=True)

    def figure(cells_SCA: Cells) -> NDArray[np.float64]:
        cells = cells_SCA.reshape(len(cells_SCA), classes, *(classes,) * len(models))
        if len(models) == 1:
            return FIGURES[metric](cells)
        return FIGURES[metric](cells.sum(3)) - FIGURES[metric](cells.sum(2))

    value = float(figure(counts_CA[None])[0])
    drawn_S = figure(counts_CA.sum(1)[:, None] * shares_SCA)
    low, high = np.quantile(drawn_S, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, min(float(low), value), max(float(high), value), level, resamples)

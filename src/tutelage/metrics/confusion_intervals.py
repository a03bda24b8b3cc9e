"""Intervals of accuracy and macro F1 that are honest of a handful of examples and of many classes, too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.metrics.classification import accuracy, macro_f1
from tutelage.metrics.intervals import Interval, Metric

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]
ROUNDS = 8
TINY = 1e-9
STRENGTH = 0.2
"""As so many examples all classes count in the share of one; 1 drew macro F1 upwards where a class is never named rightly."""


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

    What is drawn is who is right. The G outcomes of an example are "right" and "wrong", or for two models "both right", "ours
    alone", "theirs alone" and "neither", and their shares over all N examples have Jeffreys' prior:

    .. math:: s \sim \mathrm{Dirichlet}(n_1 + \tfrac12, \dots, n_G + \tfrac12)

    The interval of accuracy is that of s: for one model exactly Jeffreys'. The prior is half an example an outcome however many
    classes there are; half an example for each of C answers would say 1 to C in right, of which accuracy never recovers. For
    macro F1 each true class has its own shares, with a fifth of s added, :math:`\mathrm{Dirichlet}(n_{cg} + s_g / 5)`,
    which are then fitted to s by iterative proportions. Where the wrong answers go is drawn by the Bayesian bootstrap of those
    that the class has seen, and one more of those that the others have.

    Of three examples that are all right a bootstrap says "1 to 1", since it knows of no others; this says how often three right
    ones are met by chance. For many examples the two agree. Simulated coverage of 95 % intervals: of accuracy and its
    difference, with 2 to 20 classes and 16 to 200 examples, equal or not, 88 to 97 % of 100 draws a row (22 rows, mean 94 %);
    of macro F1 with 9 classes, 31 or 54 examples, as easy as each other or not, 93 to 98 % of 40 draws.

    Args:
        metric: `accuracy` or `macro_f1`, which is the mean over the classes that occur among the labels or the predictions.
        predicted: classes, (N,).
        labels: true classes, (N,).
        against: another model's classes; the difference to it is returned then.
        classes: C.
        level: of the interval.
        resamples: draws of the posterior.
        seed: of the draws.

    Raises:
        ValueError: another metric, or no examples.

    Source: Brown, Cai and DasGupta, *Interval Estimation for a Binomial Proportion*, 2001 (Jeffreys' interval); Rubin, *The
    Bayesian Bootstrap*, 1981.
    """
    if metric not in (accuracy, macro_f1):
        raise ValueError(f"metric={metric!r} is not one of {accuracy.__name__}, {macro_f1.__name__}")
    truth_N = np.asarray(labels, dtype=np.int64)
    if not len(truth_N):
        raise ValueError("labels is empty: give at least one")
    models = [np.asarray(each, dtype=np.int64) for each in (predicted, against) if each is not None]
    values = [metric(model, truth_N) for model in models]
    value = values[0] - values[1] if len(values) == 2 else values[0]

    draw = np.random.default_rng(seed)
    wrong_MN = np.stack([model != truth_N for model in models])
    group_N = wrong_MN.T @ (1 << np.arange(len(models)))  # bit m: model m is wrong
    groups = 1 << len(models)
    right_MG = 1.0 - (np.arange(groups) >> np.arange(len(models))[:, None] & 1)
    shares_SG = draw.dirichlet(np.bincount(group_N, minlength=groups) + 0.5, resamples)
    if metric is accuracy:
        drawn_SM = shares_SG @ right_MG.T
    else:
        counts_CG = np.zeros((classes, groups))
        np.add.at(counts_CG, (truth_N, group_N), 1)
        wrong = [_Wrong.of(model, truth_N, group_N, classes, groups) for model in models]
        occurs = [np.union1d(truth_N, model) for model in models]
        drawn_SM = np.empty((resamples, len(models)))
        for place, shares_G in enumerate(shares_SG):
            cells_CG = counts_CG.sum(1, keepdims=True) * _by_class(counts_CG, shares_G, draw)
            weights_N = draw.exponential(size=len(truth_N))
            for m, (each, classes_m) in enumerate(zip(wrong, occurs, strict=True)):
                right_C = cells_CG @ right_MG[m]
                said_C = right_C + each.answers(cells_CG * (1 - right_MG[m]), weights_N, draw)
                both_C = (said_C + counts_CG.sum(1))[classes_m]
                drawn_SM[place, m] = np.mean(2 * right_C[classes_m] / np.maximum(both_C, TINY))
    drawn_S = drawn_SM[:, 0] - (drawn_SM[:, 1] if len(models) == 2 else 0)
    low, high = np.quantile(drawn_S, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, min(float(low), value), max(float(high), value), level, resamples)


def _by_class(counts_CG: Floats, shares_G: Floats, draw: np.random.Generator) -> Floats:
    """Return each class's shares of the outcomes, (C, G), drawn around those of all, which they make up together."""
    found_CG = draw.gamma(counts_CG + STRENGTH * shares_G) + TINY
    count_C = counts_CG.sum(1)
    for _ in range(ROUNDS):
        found_CG /= found_CG.sum(1, keepdims=True)
        found_CG *= (shares_G + TINY) / (count_C @ found_CG / count_C.sum() + TINY)
    found_CG /= found_CG.sum(1, keepdims=True)
    return found_CG


@dataclass(frozen=True)
class _Wrong:
    """A model's wrong answers.

    Attributes:
        rows: of the examples that have one, (W,).
        cell: the true class and the outcome of each, as one number, (W,).
        answer: (W,).
        others_GCC: where those of other classes go in each outcome, to another class than one's own; rows sum to 1.
        counts_CG: how many there are.
    """

    rows: Classes
    cell: Classes
    answer: Classes
    others_GCC: Floats
    counts_CG: Floats

    @classmethod
    def of(cls, model: Classes, truth_N: Classes, group_N: Classes, classes: int, groups: int) -> _Wrong:
        rows = np.flatnonzero(model != truth_N)
        answer, cell = model[rows], truth_N[rows] * groups + group_N[rows]
        seen_GC = np.full((groups, classes), 1 / classes)
        np.add.at(seen_GC, (group_N[rows], answer), 1)
        others_GCC = seen_GC[:, None] * (1 - np.eye(classes))
        others_GCC /= np.maximum(others_GCC.sum(2, keepdims=True), TINY)
        counts = np.bincount(cell, minlength=classes * groups).reshape(classes, groups).astype(float)
        return cls(rows, cell, answer, others_GCC, counts)

    def answers(self, cells_CG: Floats, weights_N: Floats, draw: np.random.Generator) -> Floats:
        """Return how often each class is said wrongly, (C,), where so many are wrong in each class and outcome."""
        unseen_CG = draw.beta(1, np.maximum(self.counts_CG, TINY))
        unseen_CG[self.counts_CG == 0] = 1
        said_C = np.einsum("cg,gcd->d", cells_CG * unseen_CG, self.others_GCC)
        weight_W = weights_N[self.rows]
        total = np.bincount(self.cell, weight_W, minlength=cells_CG.size)
        spread = ((cells_CG * (1 - unseen_CG)).ravel() / np.maximum(total, TINY))[self.cell] * weight_W
        return said_C + np.bincount(self.answer, spread, minlength=len(said_C))

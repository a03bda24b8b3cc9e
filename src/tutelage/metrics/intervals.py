"""Bootstrap intervals for any metric of scores and labels, and for the difference of two models.

Examples are drawn with replacement within each class (stratified), so that every resample has the class sizes of the
data, a metric at a false-positive rate keeps its floor, and no resample lacks a class. A metric that picks a threshold
picks it anew in every resample. Percentile intervals: Efron and Tibshirani, An Introduction to the Bootstrap, ch. 13.
At 1 % of 160 defects the threshold is the second-highest defect, and no bootstrap knows what lies beyond it: for figures at a
false-positive rate take `intervals_at_fpr`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Metric = Callable[[NDArray[np.float64], NDArray[np.int64]], float]


@dataclass(frozen=True)
class Interval:
    """A metric on the data as they are, and the central `level` share of its bootstrap distribution.

    ``positive`` is the share of the resamples in which the metric is above 0, where there are any.
    """

    value: float
    low: float
    high: float
    level: float
    resamples: int
    positive: float | None = None

    def plain(self) -> dict[str, float]:
        """Return the value and its bounds as a metrics file has them."""
        return {"value": self.value, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    metric: Metric,
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Stratified percentile bootstrap interval of `metric(scores, labels)`.

    Args:
        metric: any function of (N,) scores and (N,) labels to a number, e.g. `partial(npv_at_fpr, fpr=0.01)`.
        scores: (N,) numbers.
        labels: (N,) classes; their sizes are kept.
        level: the share of resamples inside the interval.
        resamples: how often the data are drawn again.
        seed: of the draws; the same seed gives the same interval.

    Raises:
        ValueError: a level outside (0, 1), no resamples, wrong shapes, or a metric that is NaN.
    """
    return _of_models(metric, [np.asarray(scores, dtype=np.float64)], labels, level, resamples, seed)


def paired_bootstrap(
    metric: Metric,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    labels: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Interval of `metric(scores_a, labels) - metric(scores_b, labels)`, both on the same resampled examples.

    What the two models find equally hard cancels, so this is narrower than two intervals side by side, and is the one
    to ask whether a is better than b. Other arguments and errors: `bootstrap`.
    """
    both = [np.asarray(scores, dtype=np.float64) for scores in (scores_a, scores_b)]
    return _of_models(metric, both, labels, level, resamples, seed)


def bootstrap_rows(
    figure: Callable[..., float], *columns: NDArray[Any], level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of `figure(*columns)`, whose rows are drawn together, all from all.

    Args:
        figure: any function of the columns to a number.
        columns: arrays of N rows each, of any shapes and types.
        level, resamples, seed: as of `bootstrap`, which raises the same.
    """
    counts = {len(column) for column in columns}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(f"columns must have the same number of rows, at least one; they have {sorted(counts)}")
    return _interval(
        lambda rows: figure(*(column[rows] for column in columns)), np.zeros(counts.pop(), int), level, resamples, seed
    )


def _of_models(
    metric: Metric, models: list[NDArray[np.float64]], labels: ArrayLike, level: float, resamples: int, seed: int
) -> Interval:
    labels_N = np.asarray(labels)
    if any(labels_N.ndim != 1 or labels_N.shape != scores.shape for scores in models) or not labels_N.size:
        shapes = ", ".join(str(scores.shape) for scores in models)
        raise ValueError(f"scores and labels must all be (N,), N > 0; they are {shapes} and {labels_N.shape}")

    def value(rows: NDArray[np.int64] | slice) -> float:
        values = [metric(scores[rows], labels_N[rows]) for scores in models]
        return values[0] - values[1] if len(values) == 2 else values[0]

    return _interval(value, labels_N, level, resamples, seed)


def _interval(
    value: Callable[[NDArray[np.int64] | slice], float],
    strata_N: NDArray[Any],
    level: float,
    resamples: int,
    seed: int,
) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1; it is {level}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1; it is {resamples}")
    estimate = value(slice(None))
    draws = np.array([value(rows) for rows in _stratified_draws(strata_N, resamples, seed)])
    undefined = int(np.isnan(draws).sum())
    if undefined or np.isnan(estimate):
        raise ValueError(f"metric: NaN on {undefined} of {resamples} resamples, and {estimate} on the data themselves")
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(estimate), float(low), float(high), level, resamples, float((draws > 0).mean()))


def _stratified_draws(labels_N: NDArray, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Rows of one resample after another, each class drawn from itself."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels_N == label) for label in np.unique(labels_N)]
    for _ in range(resamples):
        yield np.concatenate([rows[rng.integers(rows.size, size=rows.size)] for rows in members])

r"""Intervals of the figures at a false-positive rate, which account for the uncertainty of the threshold with few defects.

The threshold at rate f is the (1 - f)-quantile of the defects' scores. Of n defects, B lie above it, and B is binomial:

.. math:: B \sim \mathrm{Bin}(n, f), \qquad x_{(n-B)} \le t < x_{(n-B+1)}

whatever their distribution, with nothing known beyond the highest where B = 0. A percentile bootstrap puts the threshold at a
seen score every time, so that its lower ends are too high: at 1 % of 160 defects B is 0 one time in five.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tutelage.metrics.intervals import Interval
from tutelage.metrics.moderation import npv_floor, operating_point
from tutelage.metrics.ranking import by_class

DRAWS = 4000


def intervals_at_fpr(
    scores: ArrayLike, labels: ArrayLike, fpr: float, *, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> dict[str, Interval]:
    r"""Return NPV, lift and recall at a false-positive rate, each with its interval.

    Draws B and, given it, the share G of acceptable examples that are flagged, from Clopper and Pearson's beta distributions:
    for the least and the most that the order statistics allow. All three figures are monotone in G,

    .. math:: \mathrm{NPV} = \frac{TN}{TN + G\,n_+}, \qquad \mathrm{recall} = 1 - G,

    so that their ends are those of G. `python -m benchmarks.speed.rate_intervals` simulates the coverage.

    Args:
        scores: (N,) numbers, high for acceptable.
        labels: (N,) 0 defective, 1 acceptable.
        fpr: a share in [0, 1), of defects that pass.
        level: the share of data sets whose interval holds the truth, at least.
        draws: how often B and G are drawn.
        seed: of the draws.

    Returns:
        By name: npv_at_fpr, lift_at_fpr, recall_at_fpr.

    Raises:
        ValueError: as of `operating_point`, and a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1; it is {level}")
    defects, acceptables = (np.sort(each) for each in by_class(scores, labels))
    point = operating_point(scores, labels, fpr)
    count, rng = acceptables.size, np.random.default_rng(seed)
    passing = rng.binomial(defects.size, fpr, draws)
    bounds = np.concatenate([[-np.inf], defects, [np.inf]])
    least = np.searchsorted(acceptables, bounds[defects.size - passing], side="right")
    most = np.searchsorted(acceptables, bounds[defects.size - passing + 1], side="left")
    fewest = np.where(least > 0, rng.beta(np.maximum(least, 1), count - least + 1), 0.0)
    largest = np.where(most < count, rng.beta(most + 1, np.maximum(count - most, 1)), 1.0)
    flagged = point.false_negatives / count
    low = min(float(np.quantile(fewest, (1 - level) / 2)), flagged)
    high = max(float(np.quantile(largest, (1 + level) / 2)), flagged)
    caught, floor = point.true_negatives, npv_floor(defects.size, count, fpr)

    def npv(share: float) -> float:
        return caught / (caught + share * count)

    value = point.npv
    return {
        "npv_at_fpr": Interval(value, npv(high), npv(low), level, draws),
        "lift_at_fpr": Interval(value - floor, npv(high) - floor, npv(low) - floor, level, draws),
        "recall_at_fpr": Interval(1 - flagged, 1 - high, 1 - low, level, draws),
    }

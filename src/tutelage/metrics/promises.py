"""What can be guaranteed about the share of all defects that pass a threshold, from the held-out ones that do."""

from __future__ import annotations

import math
from functools import cache

from tutelage.metrics.beta import beta_quantile


@cache
def tolerated_passes(defects: int, fpr: float, confidence: float) -> int:
    """The largest k with P(Bin(defects, fpr) <= k) <= 1 - confidence, -1 where there is none."""
    allowed, tolerated = 1 - confidence, -1
    total = 0.0
    for count in range(defects):
        total += math.exp(_log_binomial(count, defects, fpr))
        if total > allowed * (1 + 1e-12):
            break
        tolerated = count
    return tolerated


def defects_needed(fpr: float, confidence: float) -> int:
    """The smallest number of held-out defects that allows a guarantee: (1 - fpr)^n <= 1 - confidence."""
    least = math.ceil(math.log1p(-confidence) / math.log1p(-fpr))
    while tolerated_passes(least, fpr, confidence) < 0:  # rounding may take one away
        least += 1
    return least


def passing_bound(passed: float, defects: float, confidence: float) -> float:
    """The upper bound of Clopper and Pearson (1934), one-sided: the f with P(Bin(defects, f) <= passed) = 1 - confidence.

    Numbers need not be whole: a defect of a sample with unequal probabilities counts as less than one.
    """
    return 1.0 if passed >= defects else beta_quantile(confidence, passed + 1, defects - passed)


def _log_binomial(count: int, trials: int, share: float) -> float:
    ways = math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
    return ways + count * math.log(share) + (trials - count) * math.log1p(-share)

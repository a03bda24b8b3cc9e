"""A threshold with a guarantee: what can be promised of the false-positive rate from a number of held-out defects.

The rate is the paper's: the share of *defects* that pass, which is those with a score strictly above the threshold (see
`metrics.moderation`). An observed rate of 1 % promises nothing: of models whose threshold lets exactly 1 % of the held-out
defects pass, about half let more pass of all defects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from tutelage.checks import check_number
from tutelage.metrics.ranking import by_class


class TooFewDefects(ValueError):
    """There are fewer held-out defects than any promise at the rate needs; `needed` is how many it takes."""

    def __init__(self, message: str, needed: int) -> None:
        super().__init__(message)
        self.needed = needed


@dataclass(frozen=True)
class Guarantee:
    """A threshold, and what is promised of it.

    Attributes:
        threshold: call defective what scores at most this.
        fpr: the rate that is promised, with this `confidence`.
        defects: held-out examples labelled defective, of which `passed` score above the threshold.
        bound: the rate that is in fact excluded with this confidence, at most `fpr`.
        wrong_labels: the share of the labels "defective" that was taken to be wrong.
    """

    threshold: float
    fpr: float
    confidence: float
    defects: int
    passed: int
    bound: float
    wrong_labels: float


def guaranteed_threshold(
    scores: ArrayLike, labels: ArrayLike, fpr: float, confidence: float = 0.95, wrong_labels: float = 0.0
) -> Guarantee:
    r"""The lowest threshold of which P(false-positive rate > fpr) <= 1 - confidence can be promised.

    The threshold is the (k + 1)-th highest score of the n defects, with the largest k for which

    .. math:: P(\mathrm{Bin}(n, f) \le k) \le 1 - \mathrm{confidence}, \qquad f = \mathrm{fpr} \, (1 - \mathrm{wrong\_labels})

    k depends on n alone, not on the scores. The share of all defects above that order statistic has a Beta(k + 1, n - k)
    distribution where scores have no ties (Wilks 1941) and lies lower where they have, so that the promise holds for whatever
    scores there are, although the threshold was chosen on them. It is Clopper and Pearson's (1934) upper bound for k of n.

    Of the share ``wrong_labels`` of wrong labels "defective" nothing is supposed: in the worst case, from which f follows, none
    of them scores above the threshold. Where they do, as good ads should, they count as defects that pass, and the threshold
    is higher than it need be: look at the highest-scoring held-out defects first.

    Args:
        scores: (N,) high for acceptable, of examples that neither trained nor selected the model.
        labels: (N,) 0 for defective, 1 for acceptable; defects that were labelled acceptable are supposed to score like others.
        fpr: the rate to promise, in (0, 1).
        confidence: of the promise, in (0, 1).
        wrong_labels: the share of the labels "defective" that is wrong, in [0, 1), from an audit of them.

    Raises:
        TooFewDefects: even a threshold that no held-out defect passes promises too little.
        ValueError: a number out of range, or scores and labels that `metrics.operating_point` refuses.
    """
    check_number("wrong_labels", wrong_labels, "[0, 1)")
    defects, _ = by_class(scores, labels)
    check_number("fpr", fpr, "(0, 1)")
    check_number("confidence", confidence, "(0, 1)")
    rate = fpr * (1 - wrong_labels)
    tolerated = tolerated_passes(defects.size, rate, confidence)
    if tolerated < 0:
        needed = defects_needed(rate, confidence)
        raise TooFewDefects(
            f"{defects.size} held-out defects cannot promise a false-positive rate of at most {fpr:g} with confidence "
            f"{confidence:g}: {needed} are needed; label {needed - defects.size} more, or promise "
            f"{passing_bound(0, defects.size, confidence) / (1 - wrong_labels):.3f}",
            needed,
        )
    threshold = float(np.sort(defects)[defects.size - 1 - tolerated])
    passed = int((defects > threshold).sum())
    bound = passing_bound(passed, defects.size, confidence) / (1 - wrong_labels)
    return Guarantee(threshold, fpr, confidence, defects.size, passed, bound, wrong_labels)


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
    """The least number of held-out defects with which anything can be promised: (1 - fpr)^n <= 1 - confidence."""
    least = math.ceil(math.log1p(-confidence) / math.log1p(-fpr))
    while tolerated_passes(least, fpr, confidence) < 0:  # rounding may take one away
        least += 1
    return least


@cache
def passing_bound(passed: int, defects: int, confidence: float) -> float:
    """The upper bound of Clopper and Pearson (1934), one-sided: the f with P(Bin(defects, f) <= passed) = 1 - confidence."""
    if passed >= defects:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):  # the probability falls in f; 2^-60 is below the precision of a rate
        middle = (low + high) / 2
        likely = math.fsum(math.exp(_log_binomial(count, defects, middle)) for count in range(passed + 1))
        low, high = (middle, high) if likely > 1 - confidence else (low, middle)
    return high


def _log_binomial(count: int, trials: int, share: float) -> float:
    ways = math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
    return ways + count * math.log(share) + (trials - count) * math.log1p(-share)

"""A threshold with a guarantee: what can be promised of the false-positive rate from a number of held-out defects.

The rate is the paper's: the share of *defects* that pass, which is those with a score strictly above the threshold (see
`metrics.moderation`). An observed rate of 1 % promises nothing: of models whose threshold lets exactly 1 % of the held-out
defects pass, about half let more pass of all defects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tutelage.checks import check_number
from tutelage.metrics.moderation import above_gap
from tutelage.metrics.promises import defects_needed, passing_bound
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
        defects: held-out examples labelled defective that say anything, of which `passed` score above the threshold.
        weighing: as many defects of a plain sample they are worth.
        bound: the rate that is in fact excluded with this confidence, at most `fpr`.
        wrong_labels: the share of the labels "defective" that was taken to be wrong.
    """

    threshold: float
    fpr: float
    confidence: float
    defects: int
    passed: int
    weighing: float
    bound: float
    wrong_labels: float


def guaranteed_threshold(
    scores: ArrayLike,
    labels: ArrayLike,
    fpr: float,
    confidence: float = 0.95,
    wrong_labels: float = 0.0,
    weights: ArrayLike | None = None,
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

    From the order statistic the threshold is moved to the highest cut that blocks nothing more that may be acceptable
    (`above_gap`), by which no more defects pass.

    Where labels are people's answers about a sample with unequal probabilities, an example that was drawn with probability pi
    has the weight w = min pi / pi, with which it would also be in a plain sample of a rate of min pi. The bound is that of as
    many defects as such a plain sample has on the average: sum w in place of n, and the sum over those that pass in place of k.

    Args:
        scores: (N,) high for acceptable, of examples that neither trained nor selected the model.
        labels: (N,) 0 for defective, 1 for acceptable; defects that were labelled acceptable are supposed to score like others.
        fpr: the rate to promise, in (0, 1).
        confidence: of the promise, in (0, 1).
        wrong_labels: the share of the labels "defective" that is wrong, in [0, 1), from an audit of them.
        weights: (N,) in [0, 1], 1 by default; what has 0 says nothing.

    Raises:
        TooFewDefects: even a threshold that no held-out defect passes promises too little.
        ValueError: a number out of range, or scores and labels that `metrics.operating_point` refuses.
    """
    check_number("wrong_labels", wrong_labels, "[0, 1)")
    defects, _ = by_class(scores, labels)
    check_number("fpr", fpr, "(0, 1)")
    check_number("confidence", confidence, "(0, 1)")
    weight = np.ones(np.shape(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != np.shape(labels) or not ((weight >= 0) & (weight <= 1)).all():
        raise ValueError("weights must be (N,), all in [0, 1]")
    acceptable = (np.asarray(labels) != 0) | (weight == 0) | (wrong_labels > 0)  # or may be, for all that is known
    weight = weight[np.asarray(labels) == 0]
    order = np.argsort(-defects[weight > 0], kind="stable")
    highest, weight = defects[weight > 0][order], weight[weight > 0][order]
    rate, weighing = fpr * (1 - wrong_labels), float(weight.sum())
    if not passing_bound(0, weighing, confidence) <= rate * (1 + 1e-12):
        raise TooFewDefects(
            _too_few(highest.size, weighing, fpr, confidence, wrong_labels), defects_needed(rate, confidence)
        )
    above = np.concatenate([[0.0], np.cumsum(weight)[:-1]])  # at the threshold highest[i], without regard to ties
    low, high = 0, highest.size
    while high - low > 1:  # the bound rises with what lies above
        middle = (low + high) // 2
        fits = passing_bound(float(above[middle]), weighing, confidence) <= rate * (1 + 1e-12)
        low, high = (middle, high) if fits else (low, middle)
    threshold = above_gap(float(highest[low]), scores, acceptable)
    passing = highest > threshold
    bound = passing_bound(float(weight[passing].sum()), weighing, confidence) / (1 - wrong_labels)
    return Guarantee(threshold, fpr, confidence, highest.size, int(passing.sum()), weighing, bound, wrong_labels)


def _too_few(defects: int, weighing: float, fpr: float, confidence: float, wrong_labels: float) -> str:
    needed = defects_needed(fpr * (1 - wrong_labels), confidence)
    least = min(passing_bound(0, weighing, confidence) / (1 - wrong_labels), 1.0)
    worth, more = "", f"label {needed - defects} more"
    if weighing < defects * (1 - 1e-9):
        worth = f", worth {weighing:.1f} of a plain sample,"
        more = "have more test images judged, or add --held_out"
    return (
        f"{defects} held-out defects{worth} cannot promise a false-positive rate of at most {fpr:g} with confidence "
        f"{confidence:g}: {needed} are needed; {more}, or promise {least:.3f}"
    )

"""Moderation at a fixed false-positive rate: thresholds, NPV, recall, and the floor below which NPV cannot fall.

Label 0 is defective (the *negative* class), label 1 acceptable; a score is high for acceptable. One rule decides:
**an example is called defective where its score is at most the threshold**, so ties at the threshold are defective.

Two readings of "at a false-positive rate f" are kept apart by `convention`:

- `"paper"`: f bounds the share of *defects* that pass as acceptable. Of n_neg defects at most floor(f * n_neg) score
  strictly above the threshold, which is the smallest observed score with that property.
- `"swapped"`: f bounds the share of *acceptable* examples that are flagged. Of n_pos acceptable examples at most
  floor(f * n_pos) score at or below the threshold, which is the largest observed score with that property, or -inf
  where no observed score has it (nothing is flagged).

Nothing is interpolated, and f is read as the decimal that it prints as: 0.29 of 100 is 29. Where probabilities
saturate, pass log-odds: tied scores cannot be told apart.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from tutelage.metrics.ranking import by_class

Convention = Literal["paper", "swapped"]


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and how it divides the examples; positive means acceptable, so FP is a defect that passes."""

    threshold: float
    true_negatives: int
    false_negatives: int
    true_positives: int
    false_positives: int

    @property
    def npv(self) -> float:
        """TN / (TN + FN): the share of defects among the flagged examples; 0 where nothing is flagged."""
        flagged = self.true_negatives + self.false_negatives
        return self.true_negatives / flagged if flagged else 0.0


def operating_point(
    scores: ArrayLike, labels: ArrayLike, fpr: float, convention: Convention = "paper"
) -> OperatingPoint:
    """The threshold at a false-positive rate, with the counts on both sides of it.

    Args:
        scores: (N,) finite or infinite numbers, high for acceptable; any monotone scale.
        labels: (N,) 0 for defective, 1 for acceptable.
        fpr: a share in [0, 1), bounding what the convention says.
        convention: `"paper"` or `"swapped"`, as at the top of this file.

    Raises:
        ValueError: an empty class, NaN scores, wrong shapes or labels, a rate outside [0, 1), an unknown convention.
    """
    defects, acceptables = by_class(scores, labels)
    if convention == "paper":
        tolerated = _tolerated(fpr, defects.size)
        threshold = np.partition(defects, defects.size - 1 - tolerated)[defects.size - 1 - tolerated]
    elif convention == "swapped":
        tolerated = _tolerated(fpr, acceptables.size)
        bound = np.partition(acceptables, tolerated)[tolerated]
        below = np.concatenate([defects[defects < bound], acceptables[acceptables < bound]])
        if not below.size:
            return OperatingPoint(-np.inf, 0, 0, acceptables.size, defects.size)
        threshold = below.max()
    else:
        raise ValueError(f"convention: {convention!r} is unknown; choose one of {', '.join(get_args(Convention))}")
    caught, flagged = int((defects <= threshold).sum()), int((acceptables <= threshold).sum())
    return OperatingPoint(float(threshold), caught, flagged, acceptables.size - flagged, defects.size - caught)


def above_gap(threshold: float, scores: ArrayLike, acceptable: ArrayLike) -> float:
    """Return the highest cut that blocks no acceptable example beyond those that `threshold` blocks.

    It lies half way between the lowest acceptable score above the threshold and the next lower score of any example.
    Defects that a rate would let pass although nothing is gained by it are blocked; where the classes lie apart, the cut is in
    the middle of the gap and not at its lower edge. NPV and recall are the same or better.

    Args:
        threshold: what scores at most this is blocked.
        scores: (N,) high for acceptable.
        acceptable: (N,) which may be acceptable.
    """
    scores_N = np.asarray(scores, dtype=np.float64)
    passing_N = scores_N[np.asarray(acceptable, dtype=bool) & (scores_N > threshold)]
    if not passing_N.size:
        return threshold
    upper = float(passing_N.min())
    lower = max(float(scores_N[scores_N < upper].max(initial=-np.inf)), threshold)
    middle = lower + (upper - lower) / 2
    return middle if lower < middle < upper and np.isfinite(middle) else lower


def threshold_at_fpr(scores: ArrayLike, labels: ArrayLike, fpr: float, convention: Convention = "paper") -> float:
    """The threshold at a false-positive rate: call defective what scores at most this (see `operating_point`)."""
    return operating_point(scores, labels, fpr, convention).threshold


def npv_at_fpr(scores: ArrayLike, labels: ArrayLike, fpr: float, convention: Convention = "paper") -> float:
    """Negative predictive value at a false-positive rate: of the flagged examples, the share that are defects.

        NPV = TN / (TN + FN),  TN = defects at or below the threshold, FN = acceptable examples at or below it

    In the paper's convention chance does not give 0 but `npv_floor`, so print that beside it. In the swapped one the
    floor is 0, which is also the value where ties leave nothing that may be flagged.

    Arguments and errors are those of `operating_point`. Source: "defect interception precision (NPV) at a 1% defect
    misclassification rate (FPR)", Sub-Task Imputation, section 5.
    """
    return operating_point(scores, labels, fpr, convention).npv


def recall_at_fpr(scores: ArrayLike, labels: ArrayLike, fpr: float, convention: Convention = "paper") -> float:
    """Recall at a false-positive rate: the share kept of the class that the rate does not fix.

        "paper":   TP / (TP + FN), the share of acceptable examples that pass when at most `fpr` of the defects do
        "swapped": TN / (TN + FP), the share of defects that are caught when at most `fpr` of the acceptable are flagged

    Either is the height of a ROC curve at that rate. (In the paper's convention the share of defects caught is at
    least 1 - fpr by construction, and tells nothing about the model.) Arguments and errors: `operating_point`.
    """
    point = operating_point(scores, labels, fpr, convention)
    if convention == "paper":
        return point.true_positives / (point.true_positives + point.false_negatives)
    return point.true_negatives / (point.true_negatives + point.false_positives)


def npv_floor(n_negative: int, n_positive: int, fpr: float) -> float:
    """The lowest NPV at a false-positive rate that any scores can have, in the paper's convention.

        floor = m / (m + n_positive),  m = n_negative - floor(fpr * n_negative)

    At the paper's 160 defects and 960 acceptable examples it is 0.142 at 1 %: a threshold below it rejects nobody.

    Raises:
        ValueError: a class without examples, or a rate outside [0, 1).
    """
    if n_negative < 1 or n_positive < 1:
        raise ValueError(f"n_negative and n_positive must be at least 1; they are {n_negative} and {n_positive}")
    caught = n_negative - _tolerated(fpr, n_negative)
    return caught / (caught + n_positive)


def lift_at_fpr(scores: ArrayLike, labels: ArrayLike, fpr: float) -> float:
    """NPV at a false-positive rate less its floor: 0 for the worst scores possible, in the units of NPV.

    A difference, not a ratio, so that the lifts of two models on the same examples differ exactly as their NPVs do.
    Arguments and errors: `operating_point`, in the paper's convention.
    """
    point = operating_point(scores, labels, fpr)
    defects, acceptables = point.true_negatives + point.false_positives, point.true_positives + point.false_negatives
    return point.npv - npv_floor(defects, acceptables, fpr)


def local_precision(scores: ArrayLike, labels: ArrayLike, share: float = 0.02) -> float:
    """Precision of a specialist where it is confident: the share of defects among the examples it flags first.

    It flags from its lowest score upwards until `share` of the acceptable examples are flagged: NPV in the swapped
    convention. A specialist of a cluster of noise flags acceptable examples as readily as defects, and scores the base
    rate or less; the paper's own score cannot see that, because it asks every specialist for every defect. With fewer
    than 1 / share acceptable examples not a single one may be flagged, and the value is 0 or 1.
    Arguments and errors: `operating_point`.
    """
    return npv_at_fpr(scores, labels, share, "swapped")


def _tolerated(fpr: float, count: int) -> int:
    """floor(fpr * count) in exact arithmetic on the decimal that the rate prints as."""
    if not 0 <= fpr < 1:
        raise ValueError(f"fpr must be a share in [0, 1); it is {fpr}")
    return int(Fraction(str(float(fpr))) * count)

"""Moderation at a false-positive rate if some test labels are wrong: expected counts in place of counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.metrics.calibration import right_labels
from tutelage.metrics.moderation import npv_floor

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ExpectedPoint:
    """A threshold with its expected NPV and expected share of acceptable examples that pass."""

    threshold: float
    npv: float
    recall: float


def defective_probability(log_odds: ArrayLike, labels: ArrayLike, errors: tuple[float, float]) -> Floats:
    """Return the probability that each example is truly defective, (N,), by its calibrated score and its label.

    Args:
        log_odds: (N,) calibrated, of acceptable.
        labels: (N,) 0 defective, 1 acceptable.
        errors: the labels' error rates: false acceptable, false defective.
    """
    right = right_labels(log_odds, labels, *errors)
    return np.where(np.asarray(labels) == 0, right, 1 - right)


def checked_labels(
    expected: ArrayLike, true: ArrayLike, drawn: ArrayLike, probability: ArrayLike
) -> NDArray[np.float64]:
    r"""Return how much of a defect each example counts as, (N,), after a person has checked a sample with known probabilities.

    .. math:: \hat d_i = m_i + \frac{I_i}{\pi_i} (d_i - m_i)

    The sum over any set of examples that the draw does not depend on, such as all that score above a threshold, is unbiased
    by the design of the sample, however wrong the expectation m is: the difference estimator. What was checked with
    certainty counts as what it is.

    Args:
        expected: m, (N,), by the label and the score, without the answers: `defective_probability`.
        true: d, (N,), 1 defective, 0 acceptable, NaN where nobody has looked.
        drawn: I, (N,), whether the example was drawn and checked.
        probability: pi, (N,), above 0, of being drawn and checked.

    Raises:
        ValueError: a probability that is not in (0, 1], or no answer of what was checked.

    Source: Särndal, Swensson and Wretman, *Model Assisted Survey Sampling*, 1992, section 6.3.
    """
    m, d = np.asarray(expected, dtype=np.float64), np.asarray(true, dtype=np.float64)
    inside, pi = np.asarray(drawn, dtype=bool), np.asarray(probability, dtype=np.float64)
    if (outside := np.flatnonzero(~((pi > 0) & (pi <= 1)))).size:
        raise ValueError(
            f"probability[{outside[0]}]={pi[outside[0]]:g} must be in (0, 1]; give the probability by which it could be drawn"
        )
    if (unknown := np.flatnonzero(inside & np.isnan(d))).size:
        raise ValueError(
            f"true[{unknown[0]}] is NaN, and drawn[{unknown[0]}] says that it was checked; give the answer, or set drawn "
            "to false"
        )
    return m + np.where(inside, (np.nan_to_num(d) - m) / pi, 0.0)


def expected_point(scores: ArrayLike, defective: ArrayLike, fpr: float) -> ExpectedPoint:
    r"""Return the smallest threshold above which at most a share of the expected defects lies, with its expected figures.

    .. math:: t = \min\Big\{s_j : \sum_{s_i > s_j} d_i \le f \sum_i d_i\Big\}, \qquad
        \mathrm{NPV} = \frac{\sum_{s_i \le t} d_i}{\#\{s_i \le t\}}, \qquad
        \mathrm{recall} = \frac{\sum_{s_i > t} (1 - d_i)}{\sum_i (1 - d_i)}

    With probabilities d of 0 and 1 these are `operating_point`'s. Estimates by a sample (`checked_labels`) may lie outside
    [0, 1]: then the sum above a threshold, which can but rise as the threshold falls, is replaced by the largest so far, so
    that the threshold leans to blocking more.

    Args:
        scores: (N,) high for acceptable; what scores at most the threshold is blocked.
        defective: (N,) of each example how much of a defect is expected: `defective_probability`, or `checked_labels`.
        fpr: the share of the expected defects that may pass, in [0, 1).

    Raises:
        ValueError: no expected defect or nothing else, wrong shapes, or a rate outside [0, 1).
    """
    s, d = np.asarray(scores, dtype=np.float64), np.asarray(defective, dtype=np.float64)
    if s.ndim != 1 or s.shape != d.shape or not s.size:
        raise ValueError(f"scores and defective must both be (N,), N > 0; they are {s.shape} and {d.shape}")
    if not 0 <= fpr < 1:
        raise ValueError(f"fpr must be a share in [0, 1); it is {fpr}")
    if not 0 < d.sum() < d.size:
        raise ValueError(f"defective sums to {d.sum()} of {d.size}; both classes must be expected")
    ordered = np.unique(s)
    order = np.argsort(s, kind="stable")
    cumulated = np.concatenate([[0.0], np.cumsum(d[order])])
    upto = np.searchsorted(s[order], ordered, side="right")
    passing = np.maximum.accumulate((cumulated[-1] - cumulated[upto])[::-1])[::-1]
    first = int(np.argmax(passing <= fpr * cumulated[-1] * (1 + 1e-12) + 1e-12))
    blocked, caught = int(upto[first]), float(cumulated[upto[first]])
    acceptable = d.size - cumulated[-1]
    recall = (d.size - blocked - (cumulated[-1] - caught)) / acceptable
    return ExpectedPoint(float(ordered[first]), min(max(caught / blocked, 0.0), 1.0), min(max(float(recall), 0.0), 1.0))


def expected_floor(defective: ArrayLike, fpr: float) -> float:
    """Return `npv_floor` of expected counts: the NPV of scores that carry no information on acceptable examples.

    Args:
        defective: (N,) of each example how much of a defect is expected.
        fpr: a share in [0, 1).
    """
    d = np.asarray(defective, dtype=np.float64)
    total = float(np.clip(d.sum(), 0, d.size))
    if np.isin(d, (0.0, 1.0)).all() and 0 < total < d.size:
        return npv_floor(round(total), d.size - round(total), fpr)
    caught = (1 - fpr) * total
    return caught / (caught + d.size - total) if caught else 0.0


def expected_auroc(scores: ArrayLike, defective: ArrayLike) -> float:
    r"""Return AUROC where each example counts as so much of a defect: over all pairs of two different examples,

    .. math:: \frac{\sum_{i \ne j} (1 - d_i)\, d_j \left(1[s_i > s_j] + \tfrac12 1[s_i = s_j]\right)}
        {\sum_{i \ne j} (1 - d_i)\, d_j}

    With d of 0 and 1 it is `auroc`; it is kept within [0, 1], and 0.5 where no pair is expected.

    Args:
        scores: (N,) high for acceptable.
        defective: (N,) of each example how much of a defect is expected.
    """
    s, d = np.asarray(scores, dtype=np.float64), np.asarray(defective, dtype=np.float64)
    _, place = np.unique(s, return_inverse=True)
    tied = np.bincount(place, weights=d)
    below = np.cumsum(tied) - tied
    won = ((1 - d) * (below[place] + 0.5 * (tied[place] - d))).sum()
    pairs = (1 - d).sum() * d.sum() - ((1 - d) * d).sum()
    return float(np.clip(won / pairs, 0, 1)) if pairs > 0 else 0.5

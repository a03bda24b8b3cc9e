"""Moderation at a false-positive rate where the test's own labels are wrong at times: expected counts for counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.metrics.calibration import right_labels

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ExpectedPoint:
    """A threshold, and what is expected of it: NPV, and the share of acceptable examples that pass."""

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


def expected_point(scores: ArrayLike, defective: ArrayLike, fpr: float) -> ExpectedPoint:
    r"""Return the least threshold above which at most a share of the expected defects lies, and what is expected of it.

    .. math:: t = \min\Big\{s_j : \sum_{s_i > s_j} d_i \le f \sum_i d_i\Big\}, \qquad
        \mathrm{NPV} = \frac{\sum_{s_i \le t} d_i}{\#\{s_i \le t\}}, \qquad
        \mathrm{recall} = \frac{\sum_{s_i > t} (1 - d_i)}{\sum_i (1 - d_i)}

    With probabilities d of 0 and 1 these are `operating_point`'s.

    Args:
        scores: (N,) high for acceptable; what scores at most the threshold is blocked.
        defective: (N,) the probability of each example that it is defective, see `defective_probability`.
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
    passing = cumulated[-1] - cumulated[upto]
    first = int(np.argmax(passing <= fpr * cumulated[-1] * (1 + 1e-12) + 1e-12))
    blocked, caught = int(upto[first]), float(cumulated[upto[first]])
    acceptable = d.size - cumulated[-1]
    return ExpectedPoint(
        float(ordered[first]), caught / blocked, float((d.size - blocked - (cumulated[-1] - caught)) / acceptable)
    )

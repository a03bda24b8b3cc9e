"""How well scores rank acceptable examples above defective ones, over all thresholds."""

import numpy as np
from numpy.typing import ArrayLike

from tutelage.metrics._inputs import by_class


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve: the chance that an acceptable example outscores a defective one, ties counting half.

        AUROC = mean over pairs of  1[s_acceptable > s_defective] + 1/2 * 1[s_acceptable = s_defective]

    Args:
        scores: (N,) numbers, high for acceptable.
        labels: (N,) 0 for defective, 1 for acceptable.

    Raises:
        ValueError: an empty class, NaN scores, wrong shapes or labels.
    """
    defects, acceptables = by_class(scores, labels)
    defects.sort()
    below, up_to = (np.searchsorted(defects, acceptables, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * defects.size))


def average_precision(scores: ArrayLike, labels: ArrayLike, positive: int = 1) -> float:
    """Average precision: precision averaged over the recall that each threshold adds, without interpolation.

        AP = sum over distinct scores, best first, of  (R_j - R_{j-1}) * P_j

    Args:
        scores: (N,) numbers, high for acceptable.
        labels: (N,) 0 for defective, 1 for acceptable.
        positive: the class that is looked for: 1 ranks from the highest score down, 0 (defects) from the lowest up.

    Raises:
        ValueError: an empty class, NaN scores, wrong shapes or labels, a class other than 0 and 1.
    """
    defects, acceptables = by_class(scores, labels)
    if positive not in (0, 1):
        raise ValueError(f"positive must be 0 (defective) or 1 (acceptable); it is {positive}")
    found, others = (acceptables, defects) if positive else (-defects, -acceptables)
    found.sort()
    others.sort()
    cuts, new = np.unique(found, return_counts=True)
    hits = found.size - np.searchsorted(found, cuts)
    misses = others.size - np.searchsorted(others, cuts)
    return float((new * hits / (hits + misses)).sum() / found.size)

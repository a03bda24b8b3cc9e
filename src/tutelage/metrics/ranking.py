"""How well scores rank acceptable examples above defective ones, over all thresholds."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def by_class(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    """The scores of the defective (label 0) and of the acceptable (label 1) examples, checked.

    Infinite scores are ordered like any other: log-odds of saturated models may be passed as they are.

    Raises:
        ValueError: shapes that differ or are not (N,), labels other than 0 and 1, NaN scores, a class without examples.
    """
    scores_N, labels_N = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if scores_N.ndim != 1 or scores_N.shape != labels_N.shape:
        raise ValueError(f"scores and labels must both be (N,); they are {scores_N.shape} and {labels_N.shape}")
    missing = int(np.isnan(scores_N).sum())
    if missing:
        raise ValueError(f"scores: {missing} of {scores_N.size} are NaN; leave these examples out, and count them")
    defective_N, acceptable_N = labels_N == 0, labels_N == 1
    unknown = int((~(defective_N | acceptable_N)).sum())
    if unknown:
        raise ValueError(f"labels: {unknown} of {labels_N.size} are neither 0 (defective) nor 1 (acceptable)")
    defects, acceptables = scores_N[defective_N], scores_N[acceptable_N]
    for name, members in (("0 (defective)", defects), ("1 (acceptable)", acceptables)):
        if not members.size:
            raise ValueError(f"labels: no example has label {name}; the metric needs both classes")
    return defects, acceptables


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

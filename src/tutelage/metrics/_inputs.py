"""What every metric of scores and moderation labels asks of its input."""

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

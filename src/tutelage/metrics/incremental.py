"""How good a model is that learns its classes task by task (IIRC)."""

import numpy as np
from numpy.typing import ArrayLike


def pw_jaccard(sets: ArrayLike, truth: ArrayLike) -> float:
    """Precision-weighted Jaccard similarity, the mean over images.

        pw-JS = mean over i of  |P_i & Y_i| / |P_i or Y_i|  *  |P_i & Y_i| / |P_i|

    An empty prediction counts 0. Without the second factor, naming everything would pay.

    Args:
        sets: bool (N, C), the predicted sets P.
        truth: bool (N, C), the true sets Y, none of them empty.

    Raises:
        ValueError: shapes that differ, no image, or one without a true label.

    Source: Abdelsalam et al., *IIRC: Incremental Implicitly-Refined Classification*, CVPR 2021, equation 4.
    """
    sets_NC, truth_NC = np.asarray(sets, dtype=np.bool_), np.asarray(truth, dtype=np.bool_)
    if sets_NC.shape != truth_NC.shape or truth_NC.ndim != 2 or len(truth_NC) == 0:
        raise ValueError(f"sets and truth must both be (N, C), N > 0; they are {sets_NC.shape} and {truth_NC.shape}")
    if bare := int((~truth_NC.any(1)).sum()):
        raise ValueError(f"truth: {bare} of {len(truth_NC)} images have no label")
    common_N = (sets_NC & truth_NC).sum(1)
    jaccard_N = common_N / (sets_NC | truth_NC).sum(1)
    return float((jaccard_N * common_N / np.maximum(sets_NC.sum(1), 1)).mean())

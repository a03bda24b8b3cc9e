"""At which score does a specialist stop being right? Held-out data says, and that score becomes its zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def operating_points(
    log_odds_NK: FloatArray, labels_N: NDArray[np.int64], precision: float, window: int = 20
) -> FloatArray:
    """Return, for each specialist, the log-odds of acceptable down to which it finds defects with the given precision, (K,).

    A specialist's held-out examples are ranked from the most defective up. Its operating point is the score in the middle of
    the first window of so many examples in which less than ``precision`` are labelled defective: above it, the specialist says
    nothing about an image; below, it objects. With ``log_odds - operating_point`` specialists that were trained on different
    shares of the data, or are differently sure of themselves, speak on one scale.

    Args:
        log_odds_NK: each specialist's log-odds of acceptable on held-out examples.
        labels_N: 0 defective, 1 acceptable, as the moderator labelled them.
        precision: the share of defects under which a window counts as wrong.
        window: examples in a window; at most all.

    Returns:
        The operating points; NaN for a specialist whose very first window is wrong, or whose scores are not finite.
    """
    count, specialists = log_odds_NK.shape
    window = min(window, count)
    points = np.full(specialists, np.nan)
    for k in range(specialists):
        scores = log_odds_NK[:, k]
        if not np.isfinite(scores).all():
            continue
        order = np.argsort(scores, kind="stable")
        found = np.concatenate([[0], np.cumsum(labels_N[order] == 0)])
        shares = (found[window:] - found[:-window]) / window
        wrong = np.flatnonzero(shares < precision)
        first = int(wrong[0]) if len(wrong) else len(shares) - 1
        if first > 0 or not len(wrong):
            points[k] = scores[order[min(first + window // 2, count - 1)]]
    return points

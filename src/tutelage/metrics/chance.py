"""Which of many judges know more than chance does? A permutation test that is corrected for how many were tried."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.metrics.ranking import by_class

Floats = NDArray[np.float64]


def savage_scores(scores: ArrayLike) -> Floats:
    r"""Return Savage's scores of the ranks from the lowest score up, (N,), less their mean; ties share theirs.

    .. math:: a_{(i)} = \sum_{j=i}^{N} \frac 1 j - 1

    The lowest of N scores gets about log N, the highest nearly -1: a judge who is right about what it flags first earns most,
    whatever it thinks of the rest. Source: Savage, *Contributions to the Theory of Rank Order Statistics*, 1956.
    """
    values = np.asarray(scores, dtype=np.float64)
    count = values.size
    by_rank = np.cumsum(1 / np.arange(count, 0, -1))[::-1] - 1
    _, place, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    totals = np.concatenate([[0.0], np.cumsum(by_rank)])
    return ((totals[ends] - totals[ends - sizes]) / sizes)[place]


def beyond_chance(scores_NK: ArrayLike, labels: ArrayLike, *, resamples: int = 4000, seed: int = 0) -> Floats:
    r"""Return each judge's p-value, (K,), corrected for how many they are: the chance that useless ones look as good.

    A judge's evidence is the sum of its `savage_scores` over the examples that are labelled defective. If its scores have
    nothing to do with the labels, all orders of the labels are as likely, however many labels are wrong, so the
    same permuted labels are put before all judges. Westfall and Young's step-down maximum (*Resampling-Based Multiple Testing*,
    1993, algorithm 2.8) keeps the chance of any false discovery at the level that a p-value is compared with, and loses little
    where judges agree. The least p-value possible is 1 / (resamples + 1).

    Args:
        scores_NK: finite scores, high for acceptable.
        labels: (N,) 0 defective, 1 acceptable.
        resamples: permutations of the labels.
        seed: of these.

    Raises:
        ValueError: wrong shapes or labels, an empty class, a score that is not finite, or fewer than one resample.
    """
    matrix = np.asarray(scores_NK, dtype=np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise ValueError(f"scores_NK must be (N, K) and finite; it is {matrix.shape}")
    if resamples < 1:
        raise ValueError(f"resamples={resamples} must be at least 1")
    given = np.asarray(labels)
    if matrix.shape[1] == 0:
        return np.zeros(0)
    by_class(matrix[:, 0], given)
    ranked_NK = np.stack([savage_scores(column) for column in matrix.T], axis=1)
    spread_K = ranked_NK.std(0)
    ranked_NK /= np.where(spread_K > 0, spread_K, 1.0)
    defective = (given == 0).astype(np.float64)
    found_K = defective @ ranked_NK
    rng = np.random.default_rng(seed)
    order = np.argsort(-found_K, kind="stable")
    exceeding_K = np.ones(len(order))
    for start in range(0, resamples, 256):
        drawn_RN = rng.permuted(np.tile(defective, (min(256, resamples - start), 1)), axis=1)
        permuted_RK = (drawn_RN @ ranked_NK)[:, order]
        # the best of this judge and of all that look worse: those that look better are real by then
        best_RK = np.maximum.accumulate(permuted_RK[:, ::-1], axis=1)[:, ::-1]
        exceeding_K += (best_RK >= found_K[order] - 1e-9).sum(0)
    p_K = np.empty(len(order))
    p_K[order] = np.maximum.accumulate(exceeding_K / (resamples + 1))
    return p_K

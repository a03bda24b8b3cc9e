"""How well discovered sub-tasks agree with the true ones, whatever either calls them."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def normalised_mutual_information(truth: ArrayLike, found: ArrayLike) -> float:
    """Mutual information of two labellings over the mean of their entropies (the arithmetic normalisation).

        NMI = I(T; F) / ((H(T) + H(F)) / 2),  1 where both labellings are a single cluster

    Args:
        truth: (N,) names of the true sub-tasks, of any type that sorts.
        found: (N,) names of the discovered ones.

    Raises:
        ValueError: no examples, or shapes that differ or are not (N,).
    """
    joint_TF = _contingency(truth, found) / np.size(truth)
    truth_T, found_F = joint_TF.sum(1), joint_TF.sum(0)
    entropies = _entropy(truth_T) + _entropy(found_F)
    if entropies == 0:
        return 1.0
    information = entropies - _entropy(joint_TF.ravel())
    return float(np.clip(2 * information / entropies, 0.0, 1.0))


def purity(truth: ArrayLike, found: ArrayLike) -> float:
    """The share of examples that belong to the commonest true sub-task of their discovered one.

        purity = (1/N) sum_f max_t n_tf

    It rises with the number of discovered sub-tasks (each example its own is pure), so compare at equal numbers.
    Arguments and errors: `normalised_mutual_information`.
    """
    return float(_contingency(truth, found).max(0).sum() / np.size(truth))


def _contingency(truth: ArrayLike, found: ArrayLike) -> NDArray[np.int64]:
    truth_N, found_N = np.asarray(truth), np.asarray(found)
    if truth_N.ndim != 1 or truth_N.shape != found_N.shape or not truth_N.size:
        raise ValueError(f"truth and found must both be (N,), N > 0; they are {truth_N.shape} and {found_N.shape}")
    rows, row_N = np.unique(truth_N, return_inverse=True)
    columns, column_N = np.unique(found_N, return_inverse=True)
    cells = np.bincount(row_N * columns.size + column_N, minlength=rows.size * columns.size)
    return cells.reshape(rows.size, columns.size)


def _entropy(shares: NDArray[np.float64]) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())

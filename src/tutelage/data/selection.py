"""What to label first: the examples that stand for the most others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.greedy import choose_lazily


def facility_location(
    features: Any, count: int, *, known: NDArray[np.int64] | None = None, block: int = 4096
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    r"""Choose examples greedily by :math:`f(S) = \sum_i \max_{j \in S} s_{ij}`, s the cosine similarity, from 0.

    Greedy choice is within :math:`1 - 1/e` of the best (Nemhauser et al. 1978). It is lazy: as an example's gain never rises,
    only those on top of a heap are asked again. One row of similarities is built at a time, so nothing of size N x N is.

    Args:
        features: (N, D), a SciPy sparse matrix or an array.
        count: how many; at most N less those that are known.
        known: examples that are labelled already: what they stand for is not gained again.
        block: rows of the first pass, which needs block x N numbers.

    Returns:
        The chosen rows in the order of their choice, and what each gained.

    Raises:
        ValueError: more are asked for than there are.

    Source: Maheshwari et al., *Semi-Supervised Data Programming with Subset Selection*, Findings of ACL 2021, section 4.
    """
    rows = features.shape[0]
    known = np.zeros(0, np.int64) if known is None else np.asarray(known)
    if not 0 <= count <= rows - len(known):
        raise ValueError(f"count={count}, but {rows - len(known)} of {rows} examples are not labelled yet")
    unit = _unit(features)
    covered_N = np.zeros(rows)
    for start in range(0, len(known), block):
        covered_N = np.maximum(covered_N, _similarity(unit, known[start : start + block]).max(0))
    first_N = np.concatenate(
        [
            np.maximum(_similarity(unit, np.arange(start, min(start + block, rows))) - covered_N, 0).sum(1)
            for start in range(0, rows, block)
        ]
    )
    taken = set(known.tolist())

    def trial(j: int, covered_N: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        similarity_N = _similarity(unit, np.array([j]))[0]
        return float(np.maximum(similarity_N - covered_N, 0).sum()), np.maximum(covered_N, similarity_N)

    first = ((j, gain) for j, gain in enumerate(first_N.tolist()) if j not in taken)
    chosen, gains = choose_lazily(first, count, trial, covered_N)
    return np.array(chosen, dtype=np.int64), np.array(gains)


def _unit(features: Any) -> Any:
    squares = features.multiply(features) if hasattr(features, "multiply") else features * features
    lengths = np.sqrt(np.asarray(squares.sum(1), dtype=np.float64)).reshape(-1, 1)
    scale = 1 / np.where(lengths > 0, lengths, 1)
    return features.multiply(scale).tocsr() if hasattr(features, "multiply") else features * scale


def _similarity(unit: Any, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the cosine similarities of some rows with all, (n, N)."""
    products = unit[rows] @ unit.T
    dense = products.toarray() if hasattr(products, "toarray") else np.asarray(products)
    return np.maximum(dense.astype(np.float64), 0)

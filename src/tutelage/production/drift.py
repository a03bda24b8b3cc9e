"""Whether the scores of today are distributed as those of the week that a model began in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Drift:
    """How far two distributions of scores lie apart.

    Attributes:
        psi: population stability index; by custom up to 0.1 is stable and above 0.25 has shifted.
        psi_expected: its mean where nothing has changed.
        ks: Kolmogorov and Smirnov's statistic, the largest distance of the two distribution functions.
        p: the probability of such a `ks` where nothing has changed.
    """

    psi: float
    psi_expected: float
    ks: float
    p: float


def drift(reference: ArrayLike, current: ArrayLike, bins: int = 10) -> Drift:
    r"""Compare the scores of two periods.

    .. math:: \mathrm{PSI} = \sum_b (q_b - r_b) \log(q_b / r_b)

    over bins with the reference's quantiles as edges; half an example is added to each bin, so that none is empty. Without any
    change PSI is about :math:`(1/n + 1/m) \chi^2_{B-1}`, with mean :math:`(B - 1)(1/n + 1/m)`. The p-value of the KS statistic
    is Kolmogorov's with Stephens's correction,

    .. math:: p = 2 \sum_k (-1)^{k-1} e^{-2 k^2 z^2}, \quad z = (\sqrt e + 0.12 + 0.11 / \sqrt e) D, \quad e = n m / (n + m)

    Args:
        reference: (n,) scores.
        current: (m,) scores.
        bins: of equal share of the reference; tied scores leave fewer.

    Raises:
        ValueError: no scores on a side, or one that is not finite.

    Source: Siddiqi, Credit Risk Scorecards, 2006, chapter 8; Yurdakul and Naranjo, Statistical properties of the population
    stability index, Journal of Risk Model Validation 2020; Stephens, JRSS B 1970.
    """
    r, q = (np.sort(np.asarray(values, dtype=np.float64).ravel()) for values in (reference, current))
    if not len(r) or not len(q) or not (np.isfinite(r).all() and np.isfinite(q).all()):
        raise ValueError("reference, current: each needs at least one score, and finite ones")
    edges = np.unique(np.quantile(r, np.arange(1, bins) / bins))
    edges = edges[edges < r[-1]]
    counts_r, counts_q = (np.bincount(np.searchsorted(edges, s, side="left"), minlength=len(edges) + 1) for s in (r, q))
    kept = len(counts_r)
    shares_r, shares_q = ((c + 0.5) / (c.sum() + 0.5 * kept) for c in (counts_r, counts_q))
    both = np.concatenate([r, q])
    gap = np.searchsorted(r, both, side="right") / len(r) - np.searchsorted(q, both, side="right") / len(q)
    distance = float(np.abs(gap).max())
    psi = float(((shares_q - shares_r) * np.log(shares_q / shares_r)).sum())
    return Drift(psi, (kept - 1) * (1 / len(r) + 1 / len(q)), distance, _kolmogorov(distance, len(r), len(q)))


def _kolmogorov(distance: float, n: int, m: int) -> float:
    root = math.sqrt(n * m / (n + m))
    z = (root + 0.12 + 0.11 / root) * distance
    if z < 0.2:  # where the series alternates for long, and the value is 1 to ten digits
        return 1.0
    total = sum((-1) ** (k - 1) * math.exp(-2 * k * k * z * z) for k in range(1, 101))
    return min(max(2 * total, 0.0), 1.0)

"""Which advertisements an audit looks at: drawn by impressions, without replacement, with exact inclusion probabilities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray


def inclusion_probabilities(sizes: ArrayLike, count: int) -> NDArray[np.float64]:
    r"""Probabilities proportional to size that add up to ``count``, none above 1.

    .. math:: \pi_i = \min(1, n' x_i / X')

    where the :math:`n - n'` largest units that would exceed 1 are taken with certainty and X' is the total of the others.

    Args:
        sizes: (N,) x, numbers from 0; a unit of size 0 is never drawn.
        count: n; all units of a size above 0 are taken where there are no more.

    Returns:
        (N,) probabilities.

    Raises:
        ValueError: a size below 0 or not finite, or a count below 0.

    Source: Tillé, Sampling and Estimation from Finite Populations, 2020, section 5.2.
    """
    sizes_N = np.asarray(sizes, dtype=np.float64)
    if not (np.isfinite(sizes_N).all() and (sizes_N >= 0).all()):
        raise ValueError("sizes: each must be a number from 0")
    if count < 0:
        raise ValueError(f"count={count} must be at least 0")
    probabilities_N = np.zeros_like(sizes_N)
    order = np.argsort(-sizes_N, kind="stable")[: np.count_nonzero(sizes_N)]
    descending = sizes_N[order]
    if count >= len(order):
        probabilities_N[order] = 1.0
        return probabilities_N
    rest = np.cumsum(descending[::-1])[::-1]  # the total of each unit and all smaller ones
    certain = 0
    while certain < count and (count - certain) * descending[certain] >= rest[certain]:
        certain += 1
    probabilities_N[order[:certain]] = 1.0
    if certain < count:
        probabilities_N[order[certain:]] = (count - certain) * descending[certain:] / rest[certain]
    return probabilities_N


def pivotal(probabilities: ArrayLike, generator: np.random.Generator) -> NDArray[np.int64]:
    r"""Draw a sample in which each unit is with exactly its probability, by the pivotal method in random order.

    Two units fight, and one of them is decided: of the sum s of their probabilities, with s < 1 one is out and the other goes
    on with s; with s >= 1 one is in and the other goes on with s - 1. The chances are those that keep both expectations.

    The size is fixed where the probabilities add up to a whole number. The design is strongly Rayleigh (Brändén and Jonasson,
    Theorem 4.4), from which follows what the intervals and the sequential test rest on: indicators are negatively associated,
    and the number of defects in a sample of n is distributed as a sum of n independent indicators of the same mean.

    Args:
        probabilities: (N,) in [0, 1].
        generator: random numbers.

    Returns:
        The units drawn, ascending.

    Raises:
        ValueError: a probability outside [0, 1].

    Source: Deville and Tillé, Unequal probability sampling without replacement through a splitting method, Biometrika 1998;
    Brändén and Jonasson, Negative dependence in sampling, Scandinavian Journal of Statistics 2012.
    """
    probabilities_N = np.asarray(probabilities, dtype=np.float64)
    if not ((probabilities_N >= 0) & (probabilities_N <= 1)).all():
        raise ValueError("probabilities: each must be in [0, 1]")
    drawn = np.flatnonzero(probabilities_N == 1).tolist()
    open_units = generator.permutation(np.flatnonzero((probabilities_N > 0) & (probabilities_N < 1)))
    chances = generator.random(len(open_units)).tolist()
    holder, held = -1, 0.0
    for unit, p, chance in zip(open_units.tolist(), probabilities_N[open_units].tolist(), chances, strict=True):
        total = held + p
        if total < 1:
            if chance * total >= held:
                holder = unit
            held = total
        else:
            # The holder is in with probability (1 - p) / (2 - total); whoever is not goes on.
            if chance * (2 - total) < 1 - p:
                drawn.append(holder)
                holder = unit
            else:
                drawn.append(unit)
            held = total - 1
    if held > 1e-6 and generator.random() < (1.0 if held > 1 - 1e-6 else held):
        drawn.append(holder)
    return np.sort(np.array(drawn, dtype=np.int64))


def allocation(totals: Mapping[tuple[str, str], tuple[float, int]], budget: int) -> dict[tuple[str, str], int]:
    """Divide a budget over strata of week and variant: as much to each variant, and within it by impressions.

    Variants get equal shares because their difference is what an A/B test asks for, and a small variant would else get hardly a
    verdict. Each stratum gets at least two, so that its variance can be estimated, and none more than it has advertisements.

    Args:
        totals: impressions and number of advertisements of each (week, variant).
        budget: of all strata together.

    Returns:
        The number of each stratum; they add up to the budget, or to all advertisements where these are fewer.

    Raises:
        ValueError: a budget below two for each stratum.
    """
    most = {key: number for key, (_, number) in totals.items()}
    given = {key: min(2, number) for key, number in most.items()}
    if budget < sum(given.values()):
        raise ValueError(
            f"budget={budget} must be at least {sum(given.values())}: two for each of {len(totals)} strata"
        )
    impressions: dict[str, float] = {}
    for (_, variant), (total, _) in totals.items():
        impressions[variant] = impressions.get(variant, 0.0) + total
    share = {key: total / impressions[key[1]] for key, (total, _) in totals.items() if total > 0}
    left = min(budget, sum(most.values())) - sum(given.values())
    for _ in range(left):  # one by one to whoever is farthest behind his share
        waiting = [key for key in share if given[key] < most[key]]
        key = max(waiting or [key for key in most if given[key] < most[key]],
                  key=lambda key: (share.get(key, 0.0) / (given[key] + 0.5), key))  # fmt: skip
        given[key] += 1
    return given

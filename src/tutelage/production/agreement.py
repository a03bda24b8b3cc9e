"""How far moderators agree beyond chance."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def krippendorff_alpha(units: Sequence[Sequence[Hashable]]) -> float:
    r"""Krippendorff's alpha for names (nominal data), for any number of moderators and with verdicts missing.

    .. math:: \alpha = 1 - \frac{D_o}{D_e} = 1 - (n - 1) \frac{\sum_{c \ne k} o_{ck}}{\sum_{c \ne k} n_c n_k}

    with the coincidences :math:`o_{ck} = \sum_u (\text{pairs of verdicts c, k of unit u}) / (m_u - 1)`, of a unit's m verdicts,
    and their sums n_c and n. 1 is agreement, 0 what chance gives, below 0 less than that.

    Args:
        units: the verdicts of each unit; one alone tells nothing of agreement and is left out.

    Returns:
        Alpha; NaN where no unit has two verdicts, or all verdicts are the same, of which no agreement can be told.

    Source: Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011.
    """
    paired = [unit for unit in units if len(unit) > 1]
    names = sorted({name for unit in paired for name in unit}, key=repr)
    if len(names) < 2:
        return float("nan")
    place = {name: i for i, name in enumerate(names)}
    coincidences = np.zeros((len(names), len(names)))
    for unit in paired:
        counts = np.bincount([place[name] for name in unit], minlength=len(names)).astype(np.float64)
        coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    sums = coincidences.sum(axis=0)
    observed = coincidences.sum() - np.trace(coincidences)
    expected = sums.sum() ** 2 - (sums**2).sum()
    return float(1 - (sums.sum() - 1) * observed / expected)

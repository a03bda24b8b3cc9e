"""Which examples an epoch or an experiment sees: a share of each class, and classes nearer to equal numbers."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def fraction(labels: Tensor, share: float, seed: int) -> Tensor:
    """Return places of a share of each class, rounded up, ascending; a smaller share is contained in a larger one.

    Args:
        labels: int64 (N,); -1 (unlabelled) is a class of its own.
        share: in (0, 1]; the paper's are 0.01, 0.05, 0.1 and 1.
        seed: of the draw.

    Raises:
        ValueError: a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share} must be in (0, 1]")
    rng = np.random.default_rng([seed, 7])
    kept = []
    for label in torch.unique(labels).tolist():
        members = np.flatnonzero(labels.numpy() == label)
        kept.append(rng.permutation(members)[: math.ceil(share * len(members))])
    return torch.from_numpy(np.sort(np.concatenate(kept))) if kept else torch.zeros(0, dtype=torch.int64)


class Rebalanced:
    """An order in which rare classes come oftener: an example of class c is expected n_c^-power times as often as in all.

    Each epoch draws as many places as there are examples, systematically, so that an example comes as often as expected, up to
    less than one. Power 0.5 is MoPro's, which MILe takes over for WebVision (there by repeating files ten times and more);
    1 gives all classes the same number, 0 is a plain shuffle.

    Args:
        labels: int64 (N,), the class of each place.
        seed: of the draws.
        power: from 0 to 1.

    Source: Li et al., *MoPro: Webly Supervised Learning with Momentum Prototypes*, ICLR 2021, section 4.1 and released program.
    """

    def __init__(self, labels: Tensor, seed: int, power: float = 0.5) -> None:
        if not 0 <= power <= 1:
            raise ValueError(f"power={power} must be in [0, 1]")
        _, class_N, size_C = torch.unique(labels, return_inverse=True, return_counts=True)
        weight_N = size_C.double()[class_N] ** -power
        self.expected = (weight_N * len(labels) / weight_N.sum()).numpy()
        self.seed = seed

    def __call__(self, epoch: int) -> Tensor:
        """Return the places that this epoch visits, (N,)."""
        rng = np.random.default_rng([self.seed, 8, epoch])
        order = rng.permutation(len(self.expected))
        marks = rng.random() + np.arange(len(order))
        ends = np.cumsum(self.expected[order])
        ends[-1] = len(order)  # and not a rounding error less
        drawn = order[np.searchsorted(ends, marks, side="right").clip(max=len(order) - 1)]
        return torch.from_numpy(rng.permutation(drawn))

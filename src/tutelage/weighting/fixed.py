"""Weights that are given and stay."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.signals import Batch
from tutelage.weighting.base import Weighting


class Fixed(Weighting):
    """Constant weights: u[i, k] = weights[k].

    ``Fixed([1, 0])`` trains on the primary signal alone, ``Fixed([0.1, 0.9])`` is knowledge distillation at lambda = 0.9.

    Args:
        weights: one finite number for each signal, in the order of the signals.

    Raises:
        ValueError: no weight, a weight that is not finite, or another number of signals than weights.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__()
        weights_K = torch.as_tensor(weights, dtype=torch.float64)
        if weights_K.dim() != 1 or len(weights_K) == 0 or not torch.isfinite(weights_K).all():
            raise ValueError(f"weights={weights!r} must be one finite number for each signal")
        self.weights: list[float] = weights_K.tolist()

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return the weights, the same for each example."""
        if losses_BK.shape[1] != len(self.weights):
            raise ValueError(f"Fixed has {len(self.weights)} weights for {losses_BK.shape[1]} signals")
        return losses_BK.new_tensor(self.weights).expand_as(losses_BK)


class Equal(Weighting):
    """Every signal counts fully: the plain sum, u = a = 1."""

"""Weights that are given and never change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor, nn

from tutelage.signals import Batch
from tutelage.signals.reading import numbers_of
from tutelage.weighting.base import ModuleWeights, Weighting
from tutelage.weighting.partition import Partition


class Fixed(Weighting):
    """Constant weights: u[i, k] is the number weights[k], or ``batch[weights[k]][i]`` where weights[k] is a key of the batch.

    ``Fixed([1, 0])`` trains on the primary signal alone, ``Fixed([0.1, 0.9])`` is knowledge distillation at lambda = 0.9,
    ``Fixed(["confidence", 1])`` weighs each example's first loss by ``batch["confidence"]``, (B,).

    Args:
        weights: one finite number or key for each signal, in the order of the signals. What a key holds is finite and not
            negative; on an accelerator, where to look would be to wait, an example of which that is not true is left out of
            the step and counted in `skipped`.
        num_signals: K, where it is to be checked at once.

    Raises:
        ValueError: no weight, a weight that is not finite, another number of signals than weights, a key that the batch
            has not, or that holds something else.
    """

    name: ClassVar[str] = "fixed"

    def __init__(self, weights: Sequence[float | str], num_signals: int | None = None) -> None:
        super().__init__()
        self.weights = list(weights)
        if num_signals is not None and len(self.weights) != num_signals:
            raise ValueError(f"weights={weights!r} must be one for each of num_signals={num_signals}")
        if not self.weights or not all(_is_weight(weight) for weight in self.weights):
            raise ValueError(f"weights={weights!r} must be one finite number, or key of the batch, for each signal")

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return the weights, (B, K)."""
        if losses_BK.shape[1] != len(self.weights):
            raise ValueError(f"Fixed has {len(self.weights)} weights for {losses_BK.shape[1]} signals")
        columns = [
            numbers_of(batch, weight, "Fixed").to(losses_BK)
            if isinstance(weight, str)
            else losses_BK.new_tensor(float(weight))
            for weight in self.weights
        ]
        return torch.stack([column.expand(len(losses_BK)) for column in columns], dim=1)

    def backward(self, losses: Tensor, batch: Batch, model: nn.Module, scale: float | Tensor = 1.0) -> None:
        """Add the weighted gradient to ``.grad``, as every weighting does."""
        for key in self.weights:
            if isinstance(key, str) and losses.dim() == 2:
                bad_B = numbers_of(batch, key, "Fixed").to(losses.device).isnan()
                losses = torch.where(bad_B[:, None], torch.nan, losses)
        super().backward(losses, batch, model, scale)


class FixedByModule(Weighting):
    """Constant importances of each signal in each module: a[k, m] is given and never changes; that of the first signal is 1.

    Args:
        importance: a list of M finite numbers for each signal after the first.
        partition: the M modules.

    Raises:
        ValueError: other numbers than these.
    """

    name: ClassVar[str] = "fixed_by_module"

    def __init__(self, importance: Sequence[Sequence[float]], partition: Partition) -> None:
        super().__init__()
        if not importance or any(len(row) != len(partition) or not all(map(_is_number, row)) for row in importance):
            raise ValueError(f"importance={importance!r} must be {len(partition)} finite numbers for each side signal")
        self.partition = partition
        self.register_buffer("values_KM", torch.tensor([[1.0] * len(partition), *importance]))

    values_KM: Tensor

    def module_weights(self, model: nn.Module) -> ModuleWeights:
        """Return the importances."""
        return ModuleWeights(self.values_KM, self.partition.within(model))

    def module_names(self) -> list[str]:
        """Return the modules' names."""
        return list(self.partition.names)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _is_weight(value: object) -> bool:
    return isinstance(value, str) or _is_number(value)


class Equal(Weighting):
    """Every signal counts fully: the plain sum, u = a = 1."""

    name: ClassVar[str] = "equal"

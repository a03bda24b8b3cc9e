"""Squared error of numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.batches import Batch
from tutelage.signals.base import Outputs, Signal, entry
from tutelage.signals.pixels import mean_over_present


class SquaredError(Signal):
    r"""Squared error, for each example the mean over its numbers; the root of its mean is the RMSE.

    .. math:: \ell_i = \frac1{|P_i|}\sum_{j \in P_i} (z_{ij} - y_{ij})^2

    Args:
        target: the batch's key of the numbers, (B,) or (B, ...). One that is NaN is absent; an example without any has
            loss 0 and no gradient.
        head: the model's head that is judged, of the targets' shape, or (B, 1) for (B,), where it has several.

    Raises:
        ValueError: the output has another shape than the targets.
    """

    def __init__(self, target: str = "label", *, head: str | None = None, name: str = "squared_error") -> None:
        super().__init__(name, head)
        self.target = target

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        found = self.own_output(outputs)
        targets = entry(batch, self.target, self.name).to(found.dtype)
        if found.shape not in (targets.shape, (len(targets), 1) if targets.dim() == 1 else targets.shape):
            raise ValueError(
                f"signal {self.name!r}: the output is {tuple(found.shape)}; expected one number for each of the targets, "
                f"{tuple(targets.shape)}"
            )
        present = ~torch.isnan(targets)
        known = torch.where(present, targets, torch.zeros_like(targets))
        errors = (found.reshape(targets.shape) - known).square()
        return mean_over_present(errors.reshape(len(errors), -1), present.reshape(len(errors), -1))

"""Squared error of a number."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.signals.base import Batch, Outputs, Signal, entry, masked


class SquaredError(Signal):
    r"""Squared error, for each example: :math:`\ell_i = (z_i - y_i)^2`; the root of its mean is the RMSE.

    Args:
        target: the batch's key of the numbers, (B,). A target that is NaN is absent: loss 0, no gradient.
        head: the model's head that is judged, (B,) or (B, 1), where it has several.

    Raises:
        ValueError: the output is not one number an example.
    """

    def __init__(self, target: str = "label", *, head: str | None = None, name: str = "squared_error") -> None:
        super().__init__(name, head)
        self.target = target

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        found = self.own_output(outputs)
        targets_B = entry(batch, self.target, self.name).to(found.dtype)
        if found.shape not in (targets_B.shape, (*targets_B.shape, 1)):
            raise ValueError(
                f"signal {self.name!r}: the output is {tuple(found.shape)}; expected one number for each of "
                f"{len(targets_B)} examples"
            )
        present_B = ~torch.isnan(targets_B)
        known_B = torch.where(present_B, targets_B, torch.zeros_like(targets_B))
        return masked((found.reshape(targets_B.shape) - known_B).square(), present_B)

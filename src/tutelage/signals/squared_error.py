"""Squared error of numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.batches import Batch
from tutelage.checks import check_number
from tutelage.signals.base import Outputs, Signal, entry
from tutelage.signals.pixels import mean_over_present


class SquaredError(Signal):
    r"""Squared error, for each example the mean over its numbers; the root of its mean is the RMSE.

    .. math:: \ell_i = \frac1{|P_i|}\sum_{j \in P_i} \Big(z_{ij} - \frac{y_{ij} - \mu}{\sigma}\Big)^2

    Args:
        target: the batch's key of the numbers, (B,) or (B, ...). One that is NaN is absent; an example without any has
            loss 0 and no gradient.
        mean, deviation: mu and sigma; with those of the numbers the output is standardised, so that the loss is about 1 where
            it begins, whatever the unit.
        head: the model's head that is judged, of the targets' shape, or (B, 1) for (B,), where it has several.

    Raises:
        ValueError: a deviation that is not above 0, or an output of another shape than the targets.
    """

    def __init__(
        self,
        target: str = "label",
        *,
        mean: float = 0.0,
        deviation: float = 1.0,
        head: str | None = None,
        name: str = "squared_error",
    ) -> None:
        super().__init__(name, head)
        check_number("mean", mean, "(-inf, inf)")
        check_number("deviation", deviation, "(0, inf)")
        self.target = target
        self.mean = mean
        self.deviation = deviation

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        found = self.own_output(outputs)
        given = entry(batch, self.target, self.name)
        given = given if given.is_floating_point() else given.to(found.dtype)
        targets = ((given - self.mean) / self.deviation).to(found.dtype)
        if found.shape not in (targets.shape, (len(targets), 1) if targets.dim() == 1 else targets.shape):
            raise ValueError(
                f"signal {self.name!r}: the output is {tuple(found.shape)}; expected one number for each of the targets, "
                f"{tuple(targets.shape)}"
            )
        present = ~torch.isnan(targets)
        known = torch.where(present, targets, torch.zeros_like(targets))
        errors = (found.reshape(targets.shape) - known).square()
        return mean_over_present(errors.reshape(len(errors), -1), present.reshape(len(errors), -1))

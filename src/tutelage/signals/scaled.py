"""A signal in another unit."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.signals.base import Batch, Outputs, Signal
from tutelage.signals.reading import numbers_of


class Scaled(Signal):
    """A signal times a constant, or times a number of each example, under its own name.

    It puts losses of different units on one footing before any weighting sees them: 1e-3 for an L2 regulariser, or N / n for
    a signal that only n of N examples have, whose batch mean then estimates its mean over those.

    Args:
        signal: what is scaled.
        factor: a positive number, or the batch's key of one number an example, (B,), not negative.

    Raises:
        ValueError: another number, or a number an example for a signal that is one for all.
    """

    def __init__(self, signal: Signal, factor: float | str) -> None:
        super().__init__(signal.name, signal.head)
        if not isinstance(factor, str) and not 0 < factor < math.inf:
            raise ValueError(f"factor={factor} of signal {signal.name!r} must be a positive number")
        if isinstance(factor, str) and not signal.separable:
            raise ValueError(
                f"factor={factor!r} is a number for each example, and signal {signal.name!r} is one loss for the whole batch; "
                "give one number"
            )
        self.separable = signal.separable
        self.signal = signal
        self.factor = factor

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,), or a scalar where the signal returns one."""
        losses = self.signal(outputs, batch)
        if not isinstance(self.factor, str):
            return self.factor * losses
        return numbers_of(batch, self.factor, f"Scaled({self.name})").to(losses) * losses

    def begin_step(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Let the signal act before a step."""
        self.signal.begin_step(step, model, optimizer)

    def begin_epoch(self, epoch: int, predict_fn: Any) -> None:
        """Let the signal's targets follow the model."""
        self.signal.begin_epoch(epoch, predict_fn)

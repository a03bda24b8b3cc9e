"""A signal in another unit."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.signals.base import Batch, Outputs, Signal, entry


class Scaled(Signal):
    """A signal times a constant, or times a number of each example, under its own name.

    It puts losses of different units on one footing before any weighting sees them: 1e-3 for an L2 regulariser, or N / n for
    a signal that only n of N examples have, whose batch mean then estimates its mean over those.

    Args:
        signal: what is scaled.
        factor: a positive number, or the batch's key of one number an example, (B,).
    """

    def __init__(self, signal: Signal, factor: float | str) -> None:
        super().__init__(signal.name, signal.head)
        if not isinstance(factor, str) and not 0 < factor < math.inf:
            raise ValueError(f"factor={factor} of signal {signal.name!r} must be a positive number")
        self.separable = signal.separable
        self.signal = signal
        self.factor = factor

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,), or a scalar where the signal returns one."""
        losses = self.signal(outputs, batch)
        factor = entry(batch, self.factor, self.name).to(losses) if isinstance(self.factor, str) else self.factor
        return factor * losses

    def begin_step(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Let the signal act before a step."""
        self.signal.begin_step(step, model, optimizer)

    def begin_epoch(self, epoch: int, predict_fn: Any) -> None:
        """Let the signal's targets follow the model."""
        self.signal.begin_epoch(epoch, predict_fn)

"""Constant weights, of which the teachers' are 0 in some steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tutelage.signals import Batch
from tutelage.weighting.fixed import Fixed


class DroppedTeachers(Fixed):
    """Constant weights, of which those after the first are set to 0 at random, independently, in every step.

    Args:
        weights: one for each signal, the labels' first, which is never dropped; see `Fixed`.
        keep: probability with which a teacher counts in a step.
        num_signals: K, where it is to be checked at once.

    Raises:
        ValueError: an argument that makes no sense.

    Source: Son et al., *Densely Guided Knowledge Distillation Using Multiple Teacher Assistants*, ICCV 2021, section 3.3 (which
    drops one teacher a step; independent draws at 0.75 are those of AMAL's comparison).
    """

    name: ClassVar[str] = "dropped_teachers"
    title: ClassVar[str] = "DGKD"

    def __init__(self, weights: Sequence[float | str], keep: float = 0.75, num_signals: int | None = None) -> None:
        super().__init__(weights, num_signals)
        if not 0 < keep <= 1:
            raise ValueError(f"keep={keep} is a probability, in (0, 1]")
        self.keep = keep

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return the weights of this step; drawn from torch's global generator."""
        weights_BK = super().example_weights(losses_BK, batch)
        kept_K = torch.rand(len(self.weights)) < self.keep
        kept_K[0] = True
        return weights_BK * kept_K.to(weights_BK)

    def last_weights(self, losses_BK: Tensor, batch: Batch) -> None:
        """Return nothing: weights are forgotten with their batch."""

"""Uncertainty weighting: each signal's noise is learned with the model."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tutelage.checks import check_number
from tutelage.distributed import mean_over_processes
from tutelage.signals import Batch
from tutelage.weighting.base import Weighting


class Uncertainty(Weighting):
    r"""Each signal counts by its learned noise.

    .. math:: L = \sum_k \frac{L_k}{2 e^{s_k}} + \frac{s_k}{2}

    with :math:`s_k` the logarithm of the signal's variance. It is a parameter that the model's own optimiser trains, so it
    must be given to it::

        weighting = Uncertainty(num_signals=2)
        optimizer = torch.optim.SGD([*model.parameters(), *weighting.parameters()], lr=0.1)

    :math:`L_k` is the mean over all examples, a missing loss counting 0. Of a signal that a share r of the examples has, s
    therefore tends to :math:`\ln r` below the logarithm of its mean loss where it is present, and the weight to 1/r times as
    much: the pull on the model is in the end that of a signal which everybody has, but s speaks of a variance only after
    ``Scaled(signal, 1 / r)``.

    Args:
        num_signals: K.
        init: the first s; -0.5, as MAOAL's authors and LibMTL have it.

    Raises:
        ValueError: an argument that makes no sense.

    Source: Kendall et al., *Multi-Task Learning Using Uncertainty to Weigh Losses*, CVPR 2018, eq. 7.
    """

    name: ClassVar[str] = "uncertainty"
    title: ClassVar[str] = "uncertainty weighting"

    def __init__(self, num_signals: int, init: float = -0.5) -> None:
        super().__init__()
        check_number("num_signals", num_signals, "[1, inf)", int)
        check_number("init", init, "(-inf, inf)")
        self.log_variance_K = nn.Parameter(torch.full((num_signals,), float(init)))

    @property
    def weights(self) -> Tensor:
        """How far each signal counts, (K,)."""
        return (-self.log_variance_K.detach()).exp() / 2

    def learned(self) -> dict[str, Any]:
        """Return the weights as a list of K numbers."""
        return {"weights": self.weights.tolist()}

    def last_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return the weights, the same for each example."""
        return self.weights.to(losses_BK).expand_as(losses_BK)

    def descend(self, totals_K: Tensor, model: nn.Module, scale: float | Tensor) -> None:
        """Add the gradient of the weighted sum to ``.grad``, of the model's parameters and of s."""
        if totals_K.shape != self.log_variance_K.shape:
            raise ValueError(f"Uncertainty was made for {len(self.log_variance_K)} signals, there are {len(totals_K)}")
        weights_K = self.weights.to(totals_K)
        (scale * (weights_K * totals_K).sum()).backward()
        s = {"s": self.log_variance_K.detach()}
        gradient = mean_over_processes({"s": scale * (0.5 - weights_K * totals_K.detach())}, 1, s)[0]["s"].to(s["s"])
        grad = self.log_variance_K.grad
        self.log_variance_K.grad = gradient if grad is None else grad + gradient

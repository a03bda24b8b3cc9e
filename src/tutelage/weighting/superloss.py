"""SuperLoss: confidence weights in closed form, by how an example's loss compares with the usual one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tutelage.checks import check_number
from tutelage.distributed import all_reduce_sum
from tutelage.signals import Batch
from tutelage.weighting.base import Weighting


class SuperLoss(Weighting):
    r"""Easy examples count up to e times as much, hard ones less.

    .. math:: L = (\ell - \tau)\, \sigma^* + \lambda (\log \sigma^*)^2, \qquad
        \sigma^* = \exp\Big(-W\Big(\tfrac12 \max\big(-\tfrac2e, \tfrac{\ell - \tau}{\lambda}\big)\Big)\Big)

    where W is Lambert's function. As :math:`\sigma^*` minimises L, the gradient of L is :math:`\sigma^* \nabla \ell`: a weight.
    A loss of exactly 0 is missing supervision, and no part of a running mean.

    Args:
        threshold: :math:`\tau`, one number or one for each signal: the logarithm of the number of classes, for a
            cross-entropy. None is a running mean of each signal's loss.
        num_signals: K; used by the running mean.
        regularisation: :math:`\lambda > 0`: the smaller, the more the weights differ. 1 for CIFAR-10, 0.25 for CIFAR-100.
        smoothing: of the running mean, in [0, 1).

    Raises:
        ValueError: an argument that makes no sense.

    Source: Castells et al., *SuperLoss: A Generic Loss for Robust Curriculum Learning*, NeurIPS 2020, eq. 1 and 5.
    """

    name: ClassVar[str] = "superloss"
    weighs_signals: ClassVar[bool] = False
    threshold_K: Tensor

    def __init__(
        self,
        threshold: float | Sequence[float] | None = None,
        *,
        num_signals: int = 1,
        regularisation: float = 1.0,
        smoothing: float = 0.9,
    ) -> None:
        super().__init__()
        check_number("num_signals", num_signals, "[1, inf)", int)
        check_number("regularisation", regularisation, "(0, inf)")
        check_number("smoothing", smoothing, "[0, 1)")
        self.running = threshold is None
        self.regularisation = regularisation
        self.smoothing = smoothing
        given_K = torch.as_tensor([torch.nan] * num_signals if threshold is None else threshold).float().reshape(-1)
        if threshold is not None and not (len(given_K) and given_K.isfinite().all()):
            raise ValueError(f"threshold={threshold!r} must be one finite number, or one for each signal, or None")
        self.register_buffer("threshold_K", given_K)

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return the confidences, (B, K), after the running means have followed the batch."""
        self._check(losses_BK)
        if self.running:
            self._follow(losses_BK)
        return self.last_weights(losses_BK, batch)

    def last_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return the confidences, (B, K), by the thresholds as they are; 1 by a mean that is not known yet."""
        self._check(losses_BK)
        threshold_K = self.threshold_K.to(losses_BK)
        thresholds_BK = torch.where(threshold_K.isnan(), losses_BK, threshold_K)
        return super_loss(losses_BK, thresholds_BK, self.regularisation)[0]

    def _follow(self, losses_BK: Tensor) -> None:
        finite_BK = torch.isfinite(losses_BK).all(1, keepdim=True)
        own_BK = torch.where(finite_BK, losses_BK, 0)
        sums_2K = all_reduce_sum(torch.stack([own_BK.sum(0), (own_BK != 0).sum(0).to(own_BK)]))
        mean_K = (sums_2K[0] / sums_2K[1]).to(self.threshold_K)  # NaN where the batch has no loss
        known_K = self.threshold_K
        new_K = torch.where(known_K.isnan(), mean_K, torch.lerp(mean_K, known_K, self.smoothing))
        self.threshold_K.copy_(torch.where(mean_K.isnan(), known_K, new_K))

    def _check(self, losses_BK: Tensor) -> None:
        known, signals = len(self.threshold_K), losses_BK.shape[1]
        if self.running and known != signals:
            raise ValueError(
                f"SuperLoss has running means of {known} signals, and there are {signals}: give num_signals={signals}"
            )
        if known not in (1, signals):
            raise ValueError(f"SuperLoss has {known} thresholds for {signals} signals")


def super_loss(losses: Tensor, threshold: Tensor | float, regularisation: float) -> tuple[Tensor, Tensor]:
    r"""Return the confidences :math:`\sigma^*` and the losses that they minimise, both of the losses' shape."""
    beta = ((losses - threshold) / regularisation).clamp(min=-2 / math.e)
    log_sigma = -lambert_w(beta / 2)
    sigma = log_sigma.exp()
    return sigma, (losses - threshold) * sigma + regularisation * log_sigma.square()


def lambert_w(y: Tensor, steps: int = 8) -> Tensor:
    r"""Return the principal branch of Lambert's function, :math:`W e^W = y`; -1 at and below :math:`-1/e`.

    Halley's iteration from the series at the branch point or the asymptote. Libraries may return NaN for the double that
    stands for :math:`-1/e`, which every easy example hits.
    """
    distance = (math.e * y + 1).clamp(min=0)
    root = (2 * distance).sqrt()
    near = -1 + root - root.square() / 3
    w = torch.where(y < 1, near, torch.log1p(y.clamp(min=0)) * 0.75)
    for _ in range(steps):
        exp_w = w.exp()
        excess = w * exp_w - y
        slope = exp_w * (w + 1) - (w + 2) * excess / (2 * w + 2)
        step = excess / slope
        w = torch.where(torch.isfinite(step), w - step, w)
    return torch.where(distance > 0, w, -1)

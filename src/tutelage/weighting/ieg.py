"""IEG: of each example's label and pseudo-label, the one that would help held-out examples more, weighted by how much."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tutelage.hypergradient import Optimizers
from tutelage.signals import Batch, Objective
from tutelage.weighting.reweight import LearningToReweight, normalised


class IEG(LearningToReweight):
    r"""One source of supervision for each example of the batch, and a weight, from one step of look-ahead at weights of 0.

    .. math:: k_i^* = \arg\min_k g_{ik}, \qquad u_{ik} = [k = k_i^*]\,
        \frac{\max(0, -g_{ik_i^*})}{\sum_j \max(0, -g_{jk_j^*})}, \qquad
        g_{ik} = \frac{\partial L_V(\hat\theta(\epsilon))}{\partial \epsilon_{ik}} \Big|_{\epsilon = 0}

    With the label as first signal and the model's own sharpened answer (`OwnAnswer`) as second this is the paper's choice by
    the sign of the derivative: the cross-entropy of the mixed target :math:`\lambda y + (1-\lambda)\hat y` is linear in
    :math:`\lambda`, whose derivative is :math:`g_{i,y} - g_{i,\hat y}`. Ties keep the label. ``adapt`` comes before
    ``backward``, on the same batch, at every step.

    Args:
        strategy: how derivatives are taken, see `directional_derivatives`.

    Raises:
        ValueError: an unknown strategy.

    Source: Zhang et al., *Distilling Effective Supervision from Severe Label Noise*, CVPR 2020, section 3.
    """

    name: ClassVar[str] = "ieg"
    title: ClassVar[str] = "Distill (IEG)"
    weighs_signals: ClassVar[bool] = True

    def hypergradient(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> Tensor:
        """Return the derivative of the held-out loss by each weight at 0, (B, K)."""
        return self.derivatives(objective, batch, held_out, optimizer)

    def judged(self, gradient: Tensor) -> Tensor:
        """Return the weights that follow from `hypergradient`, (B, K)."""
        return chosen(gradient)


def chosen(gradient_BK: Tensor) -> Tensor:
    """Return the weights (B, K) that follow from derivatives: what helps of each example's best signal, with sum 1, or 0."""
    least_B, best_B = gradient_BK.nan_to_num(0.0).min(1)
    weights_B = normalised(least_B)
    return torch.zeros_like(gradient_BK).scatter_(1, best_B[:, None], weights_B[:, None])

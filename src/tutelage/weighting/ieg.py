"""IEG: of each example's label and pseudo-label the one that would have helped held-out examples most, as far as it would."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tutelage.batches import size_of, tensors_of
from tutelage.distributed import all_reduce_sum
from tutelage.hypergradient import Optimizers, Strategy, look_ahead_gradient
from tutelage.signals import Batch, Objective
from tutelage.weighting.base import Weighting
from tutelage.weighting.reweight import normalised
from tutelage.weighting.table import index_of


class IEG(Weighting):
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

    Source: Zhang et al., *Distilling Effective Supervision from Severe Label Noise*, CVPR 2020, section 3.
    """

    name: ClassVar[str] = "ieg"
    title: ClassVar[str] = "Distill (IEG)"
    adapts_first: ClassVar[bool] = True

    def __init__(self, strategy: Strategy = "auto") -> None:
        super().__init__()
        self.strategy: Strategy = strategy
        self._judged: tuple[Tensor, Tensor] | None = None  # of one batch: nothing that outlives it

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return the weights of the batch's examples, times their number, as the base divides by it.

        Raises:
            ValueError: `adapt` has not judged an example of the batch just before.
        """
        index_B = index_of(batch, "IEG")
        index_A, u_AK = self._judged or (index_B[:0], losses_BK[:0])
        same_BA = (index_B[:, None] == index_A).to(losses_BK.dtype)
        if not same_BA.any(1).all():
            raise ValueError("IEG knows no weights of this batch: call adapt on it before backward")
        u_BK = (
            same_BA @ u_AK.to(losses_BK.dtype) / same_BA.sum(1, keepdim=True)
        )  # the mean, where an example occurs twice
        return all_reduce_sum(torch.isfinite(losses_BK).all(1).sum()) * u_BK

    def last_weights(self, losses_BK: Tensor, batch: Batch) -> None:
        """Return nothing: weights are forgotten with their batch."""

    def hypergradient(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> Tensor:
        """Return the derivative of the held-out loss by each weight at 0, (B, K)."""
        zeros_BK = torch.zeros(size_of(batch), len(objective.signals), device=next(tensors_of(batch["input"])).device)
        return look_ahead_gradient(objective, batch, held_out, optimizer, zeros_BK, strategy=self.strategy).values

    def adapt(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> None:
        """Judge a batch, for the ``backward`` that follows."""
        gradient_BK = self.hypergradient(objective, batch, held_out, optimizer)
        self._judged = index_of(batch, "IEG"), chosen(gradient_BK)


def chosen(gradient_BK: Tensor) -> Tensor:
    """Return the weights (B, K) that follow from derivatives: what helps of each example's best signal, with sum 1, or 0."""
    least_B, best_B = gradient_BK.nan_to_num(0.0).min(1)
    weights_B = normalised(least_B)
    return torch.zeros_like(gradient_BK).scatter_(1, best_B[:, None], weights_B[:, None])

"""Learning to reweight: the weights of this batch that would have helped the held-out examples most."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from tutelage.batches import size_of, tensors_of
from tutelage.distributed import all_reduce_sum
from tutelage.hypergradient import Optimizers, Strategy, look_ahead_gradient
from tutelage.signals import Batch, Objective
from tutelage.weighting.base import Weighting
from tutelage.weighting.strategy import KeptStrategy
from tutelage.weighting.table import index_of


class LearningToReweight(Weighting):
    r"""A weight for each example of the batch, from one step of look-ahead at weights of 0, and forgotten after it.

    .. math:: w_i = \frac{\max(0, -g_i)}{\sum_j \max(0, -g_j)}, \qquad
        g_i = \frac{\partial L_V(\hat\theta(\epsilon))}{\partial \epsilon_i} \Big|_{\epsilon = 0}

    where :math:`\epsilon_i` weighs all signals of example i. Where no example helps, all weights are 0. In one's own loop
    ``adapt`` comes first, on the same batch, at every step::

        weighting.adapt(objective, batch, next(held_out), optimizer)
        weighting.backward(objective(batch), batch, model)

    ``backward`` may take the batch in parts; the weights of a part are forgotten once they are used.

    Args:
        strategy: how derivatives are taken, see `directional_derivatives`.

    Raises:
        ValueError: an unknown strategy.

    Source: Ren et al., *Learning to Reweight Examples for Robust Deep Learning*, ICML 2018, eq. 5 to 8 and 12.
    """

    name: ClassVar[str] = "learning_to_reweight"
    title: ClassVar[str] = "Learning to Reweight"
    weighs_signals: ClassVar[bool] = False
    adapts_first: ClassVar[bool] = True

    def __init__(self, strategy: Strategy = "auto") -> None:
        super().__init__()
        self.strategy = KeptStrategy(strategy)
        self._judged: tuple[Tensor, Tensor] | None = None  # of one batch: nothing that outlives it

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return the weights of the batch's examples, times their number, as the base divides by it.

        Raises:
            ValueError: `adapt` has not judged an example of the batch since it was last trained on.
        """
        index_B = index_of(batch, type(self).__name__)
        index_A, u_AK = self._judged or (index_B[:0], losses_BK[:0])
        same_BA = (index_B[:, None] == index_A).to(losses_BK.dtype)
        if not same_BA.any(1).all():
            raise ValueError(
                f"{type(self).__name__} knows no weights of this batch: call adapt on it before every backward"
            )
        # the mean, where an example occurs twice
        u_BK = same_BA @ u_AK.to(losses_BK.dtype) / same_BA.sum(1, keepdim=True)
        return (all_reduce_sum(torch.isfinite(losses_BK).all(1).sum()) * u_BK).expand_as(losses_BK)

    def backward(self, losses: Tensor, batch: Batch, model: nn.Module, scale: float | Tensor = 1.0) -> None:
        """Add the weighted gradient to ``.grad``, as every weighting does, and forget the weights of these examples.

        Raises:
            ValueError: `adapt` has not judged an example of the batch since it was last trained on.
        """
        super().backward(losses, batch, model, scale)
        if self._judged is not None:
            index_A, u_AK = self._judged
            used_A = (index_A[:, None] == index_of(batch, type(self).__name__)).any(1)
            self._judged = (
                torch.where(used_A, torch.iinfo(index_A.dtype).min, index_A),
                u_AK,
            )  # which is no example's index

    def last_weights(self, losses_BK: Tensor, batch: Batch) -> None:
        """Return nothing: weights are forgotten with their batch."""

    def hypergradient(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> Tensor:
        """Return the derivative of the held-out loss by each example's weight at 0, (B,)."""
        return self.derivatives(objective, batch, held_out, optimizer).sum(1)

    def derivatives(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> Tensor:
        """Return the derivative of the held-out loss by the weight at 0 of each signal of each example, (B, K)."""
        zeros_BK = torch.zeros(size_of(batch), len(objective.signals), device=next(tensors_of(batch["input"])).device)
        found = look_ahead_gradient(objective, batch, held_out, optimizer, zeros_BK, strategy=self.strategy.used)
        return self.strategy.keep(found)

    def adapt(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> None:
        """Judge a batch, for the ``backward`` that follows."""
        gradient = self.hypergradient(objective, batch, held_out, optimizer)
        self._judged = index_of(batch, type(self).__name__), self.judged(gradient)

    def judged(self, gradient: Tensor) -> Tensor:
        """Return the weights that follow from `hypergradient`, (B, 1) for all signals or (B, K)."""
        return normalised(gradient)[:, None]


def normalised(gradient_B: Tensor) -> Tensor:
    """Return the weights that follow from derivatives: what helps, to a sum of 1 over all processes' batches, or 0."""
    w_B = (-gradient_B).clamp(min=0)
    total_weight = all_reduce_sum(w_B.sum())
    return w_B / total_weight if total_weight > 0 else w_B

r"""How far does each loss count, for each example and each module of the model?

Every weighting known to us factors, c[i,k,m] = u[i,k] * a[k,m], so a method states u, or a, or both, and this file turns
them into gradients:

.. math:: g_m = \frac1n \sum_i \sum_k u_{ik}\, a_{km}\, \nabla_{\theta_m} \ell_k(x_i)

with one backward pass when a is all ones, and otherwise one for each distinct row of a, into the modules where it is not 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.signals import Batch


@dataclass(frozen=True)
class ModuleWeights:
    """a: how far each signal counts in each module.

    Attributes:
        values_KM: the weights, on the model's device.
        module_of: the module (a column of ``values_KM``) of each parameter, by its name in ``model.named_parameters()``.
            A parameter that is not named, such as a head that only its own loss trains, has weight 1 for every signal.
    """

    values_KM: Tensor
    module_of: Mapping[str, int]


class Weighting(nn.Module):
    """The base of every weighting; by itself it is the plain sum of all signals.

    Whatever a weighting learns is a parameter or a buffer, so that ``state_dict()`` is all of it.

    Attributes:
        skipped: how many examples have had no weight because a loss of theirs was not finite (a buffer, int64).
    """

    skipped: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("skipped", torch.zeros((), dtype=torch.int64))

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor | None:
        """Return u (B, K) without a graph, or None for all ones. ``losses_BK`` is detached and finite."""
        return None

    def module_weights(self, model: nn.Module) -> ModuleWeights | None:
        """Return a and the partition that it speaks of, or None for all ones."""
        return None

    def backward(self, losses: Tensor, batch: Batch, model: nn.Module) -> None:
        """Add the weighted gradient to ``.grad`` of the model's parameters, in the place of ``loss.backward()``.

        Args:
            losses: (B, K), as an `Objective` returns them. A row that is not finite is counted in `skipped` and left
                out; the mean is over the rest.
            batch: what the losses were computed from.
            model: the model whose parameters are trained.

        Raises:
            ValueError: ``losses`` is not a matrix of B rows.
        """
        if losses.dim() != 2:
            raise ValueError(
                f"losses has shape {tuple(losses.shape)}; expected (B, K): one row an example, one column a signal"
            )
        if not losses.requires_grad:  # every row was left out, or nothing is trained
            self.skipped += (~torch.isfinite(losses).all(1)).sum()
            return
        finite_B = torch.isfinite(losses.detach()).all(1)
        count = int(finite_B.sum())
        if count < len(losses):
            self.skipped += len(losses) - count
            rows = finite_B.nonzero().squeeze(1)
            losses = losses[rows]
            batch = {key: value[rows] for key, value in batch.items()}
            if count == 0:
                return
        u_BK = self.example_weights(losses.detach(), batch)
        totals_K = (losses if u_BK is None else u_BK * losses).mean(0)
        a = self.module_weights(model)
        if a is None:
            totals_K.sum().backward()
        else:
            accumulate(totals_K, a, model)

    def adapt(self, objective: Any, batch: Batch, held_out: Batch, optimizer: torch.optim.Optimizer) -> None:
        """Take one step on what the weighting learns; nothing to do for a weighting that learns nothing.

        Args:
            objective: the `Objective` whose losses are weighed.
            batch: training examples.
            held_out: examples that are not trained on; the primary signal's mean loss on them is what is improved.
            optimizer: the model's own, whose step is looked ahead.
        """


def accumulate(totals_K: Tensor, a: ModuleWeights, model: nn.Module) -> None:
    """Add sum_k a[k, m] * grad_m totals[k] to ``.grad``, one backward pass for each distinct row of a."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    rows, row_of_K = torch.unique(a.values_KM, dim=0, return_inverse=True)
    summed = [totals_K[row_of_K == row].sum() for row in range(len(rows))]
    ones = rows.new_ones(())
    gradients: dict[str, Tensor] = {}
    for row, total in enumerate(summed):
        scales = {name: rows[row, a.module_of[name]] if name in a.module_of else ones for name, _ in named}
        active = [(name, p) for name, p in named if scales[name] != 0]
        if not active or not total.requires_grad:
            continue
        found = torch.autograd.grad(
            total, [p for _, p in active], retain_graph=row + 1 < len(summed), allow_unused=True
        )
        for (name, _), gradient in zip(active, found, strict=True):
            if gradient is not None:
                scaled = scales[name].to(gradient.dtype) * gradient
                gradients[name] = gradients[name] + scaled if name in gradients else scaled
    for name, parameter in named:
        if name in gradients:
            parameter.grad = gradients[name] if parameter.grad is None else parameter.grad + gradients[name]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        _average_over_processes([p.grad for _, p in named if p.grad is not None])


def _average_over_processes(gradients: list[Tensor]) -> None:
    """Do by hand what ``autograd.grad`` keeps DistributedDataParallel's hooks from doing."""
    for gradient in gradients:
        torch.distributed.all_reduce(gradient)
        gradient /= torch.distributed.get_world_size()

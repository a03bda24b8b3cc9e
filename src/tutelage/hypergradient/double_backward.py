"""Directional derivatives by differentiating a backward pass: the exact reference."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tutelage.hypergradient.probe import Parameters, Probe, marked


def double_backward(probe: Probe, direction: Parameters) -> Tensor:
    r"""Return D (B, K) by double backward.

    :math:`g(v) = \sum_{ik} v_{ik} \nabla_\theta \ell_k(x_i)` is linear in v, so that
    :math:`D = \partial \langle p, g(v) \rangle / \partial v`. It differentiates just what a training step follows:
    what is detached, or computed under ``no_grad()``, counts as constant. Time: a forward and two backward passes; memory:
    two graphs.

    An operator that can be differentiated only once makes it fail or, where that operator is a custom one with
    ``once_differentiable``, hides what lies below it; "auto" notices.

    Raises:
        RuntimeError: an operator of the model can not be differentiated twice.
    """
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        leaves = {name: probe.parameters[name].detach().requires_grad_() for name in direction}

        def derive(losses_BK: Tensor) -> Tensor:
            D_BK = torch.zeros_like(losses_BK)
            if losses_BK.requires_grad:
                v_BK = torch.ones_like(losses_BK, requires_grad=True)
                found = torch.autograd.grad(
                    losses_BK, list(leaves.values()), grad_outputs=v_BK, create_graph=True, allow_unused=True
                )
                products = [(p * g).sum() for p, g in zip(direction.values(), found, strict=True) if g is not None]
                D_BK = torch.autograd.grad(sum(products, 0 * v_BK.sum()), v_BK)[0]
            return marked(D_BK, losses_BK)

        return probe.run(leaves, derive)

"""Small networks from losses to weights: how they are evaluated, and kept out of the model's optimiser."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tutelage.hypergradient.probe import Probe
from tutelage.signals import Batch, Objective


def leaves(network: nn.Module, like: Tensor) -> dict[str, Tensor]:
    """Return a network's parameters as new leaves of a graph, of a tensor's type."""
    return {name: p.detach().to(like).requires_grad_() for name, p in network.named_parameters()}


def evaluate(network: nn.Module, losses_BK: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
    """Return a network's output for losses, in their type and on their device.

    Raises:
        ValueError: it was made for another number of signals.
    """
    wanted = next(iter(network.parameters())).shape[1]
    if losses_BK.shape[1] != wanted:
        raise ValueError(f"the weighting was made for {wanted} signals, the objective has {losses_BK.shape[1]}")
    values = {name: p.to(losses_BK) for name, p in (parameters or dict(network.named_parameters())).items()}
    return functional_call(network, values, (losses_BK,))


def current_losses(objective: Objective, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the losses (B, K) of a batch without a graph or a trace, 0 where not finite, and which rows are (B)."""
    with torch.no_grad():
        losses_BK = Probe(objective, batch).run({}, torch.clone)
    finite_B = torch.isfinite(losses_BK).all(1)
    return torch.where(finite_B[:, None], losses_BK, 0), finite_B

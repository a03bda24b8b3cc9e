"""Meta-Weight-Net: a small network from an example's losses to their weights, learned on held-out data."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from tutelage.distributed import all_reduce_sum
from tutelage.hypergradient import Optimizers, Strategy, look_ahead_gradient
from tutelage.hypergradient.probe import full_types
from tutelage.signals import Batch, Objective
from tutelage.weighting.base import Makers, Weighting
from tutelage.weighting.hypernetwork import current_losses, evaluate, leaves
from tutelage.weighting.meta_optimizer import MetaOptimizer, MetaOptimizerState
from tutelage.weighting.strategy import KeptStrategy


class MetaWeightNet(Weighting):
    r"""The weights of an example are a learned function of its losses.

    .. math:: u_i = V(\ell_i; \phi), \qquad \frac{\partial L_V(\hat\theta)}{\partial \phi} =
        \sum_{ik} \frac{\partial L_V(\hat\theta)}{\partial u_{ik}} \frac{\partial V_k(\ell_i; \phi)}{\partial \phi}

    with one step of the actual optimiser ahead. V has one hidden layer and sigmoids at its end. With one signal this is the
    published method; with several it sees all losses of an example, and gives each its own weight.

    Args:
        num_signals: K.
        hidden: width of the hidden layer.
        meta_optimizer: how :math:`\phi` is moved; by default as in the authors' program.
        strategy: how derivatives are taken, see `directional_derivatives`.

    Raises:
        ValueError: an argument that makes no sense.

    Source: Shu et al., *Meta-Weight-Net: Learning an Explicit Mapping For Sample Weighting*, NeurIPS 2019, eq. 3 to 5.
    """

    name: ClassVar[str] = "meta_weight_net"
    title: ClassVar[str] = "Meta-Weight-Net"
    made_of: ClassVar[Makers] = {"meta_optimizer": MetaOptimizer.of_plain}

    def __init__(
        self,
        num_signals: int = 1,
        *,
        hidden: int = 100,
        meta_optimizer: MetaOptimizer | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        if num_signals < 1 or hidden < 1:
            raise ValueError(f"num_signals={num_signals} and hidden={hidden} must be positive")
        self.strategy = KeptStrategy(strategy)
        layers = (nn.Linear(num_signals, hidden), nn.ReLU(), nn.Linear(hidden, num_signals), nn.Sigmoid())
        self.network = nn.Sequential(*layers).requires_grad_(False)
        meta_optimizer = meta_optimizer or MetaOptimizer(lr=1e-3, weight_decay=1e-4)
        self.optimizer = MetaOptimizerState(meta_optimizer, dict(self.network.named_parameters()))

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return V of the losses, (B, K)."""
        return evaluate(self.network, losses_BK)

    @full_types()
    def hypergradient(
        self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers
    ) -> dict[str, Tensor]:
        r"""Return the derivative of the held-out loss after one step by :math:`\phi`, by the names of the network."""
        losses_BK, _ = current_losses(objective, batch)
        phi = leaves(self.network, losses_BK)
        with torch.enable_grad():
            u_BK = evaluate(self.network, losses_BK, phi)
            D = look_ahead_gradient(objective, batch, held_out, optimizer, u_BK.detach(), strategy=self.strategy.used)
            found = torch.autograd.grad(u_BK, list(phi.values()), self.strategy.keep(D).to(u_BK))
        return {name: all_reduce_sum(gradient) for name, gradient in zip(phi, found, strict=True)}

    def adapt(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> None:
        """Take one step on the network."""
        gradients = self.hypergradient(objective, batch, held_out, optimizer)
        self.optimizer.step(dict(self.network.named_parameters()), gradients)

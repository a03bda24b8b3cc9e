"""AuxiLearn: a small monotone network combines the losses, learned by implicit differentiation on held-out data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tutelage.batches import size_of
from tutelage.distributed import mean_over_processes
from tutelage.hypergradient import Optimizers, directional_derivatives
from tutelage.hypergradient.named import named_parameters
from tutelage.hypergradient.probe import full_types
from tutelage.signals import Batch, Objective, Outputs, Signal
from tutelage.weighting.base import Makers, Weighting
from tutelage.weighting.hypernetwork import current_losses, evaluate, leaves
from tutelage.weighting.implicit import NeumannSeries
from tutelage.weighting.meta_optimizer import MetaOptimizer, MetaOptimizerState
from tutelage.weighting.strategy import KeptStrategy


class AuxiLearn(Weighting):
    r"""Losses are combined by a learned function that rises with each of them.

    .. math:: L = \frac1n \sum_i \ell_{i0} + h(\ell_{i0}, \dots, \ell_{iK-1}; \phi), \qquad
        u_{ik} = \mathbb 1[k = 0] + \frac{\partial h}{\partial \ell_{ik}}, \qquad
        \frac{\partial L_V}{\partial \phi} = -\frac1n \sum_{ik} \langle p, \nabla \ell_k(x_i) \rangle
        \frac{\partial u_{ik}}{\partial \phi}

    with p the Neumann series with the Hessian of L, through h and all. h has softplus layers and no negative weight.

    Args:
        num_signals: K, the primary one included.
        hidden: widths of the hidden layers.
        neumann_steps: Hessian-vector products.
        neumann_lr: the step size of the series; None is the optimiser's learning rate.
        meta_optimizer: how :math:`\phi` is moved; by default as MAOAL's authors do.

    Raises:
        ValueError: an argument that makes no sense.

    Source: Navon et al., *Auxiliary Learning by Implicit Differentiation*, ICLR 2021, eq. 4 and 5, Algorithm 2.
    """

    name: ClassVar[str] = "auxilearn"
    made_of: ClassVar[Makers] = {"meta_optimizer": MetaOptimizer.of_plain}

    def __init__(
        self,
        num_signals: int,
        *,
        hidden: Sequence[int] = (5, 5),
        neumann_steps: int = 3,
        neumann_lr: float | None = None,
        meta_optimizer: MetaOptimizer | None = None,
    ) -> None:
        super().__init__()
        if num_signals < 1 or min(hidden, default=1) < 1:
            raise ValueError(f"num_signals={num_signals} and hidden={hidden} must be positive")
        self.neumann = NeumannSeries(neumann_steps, neumann_lr)
        self.strategy = KeptStrategy("auto")
        self.network = monotone([num_signals, *hidden, 1])
        meta_optimizer = meta_optimizer or MetaOptimizer("sgd", lr=1e-3, momentum=0.9)
        self.optimizer = MetaOptimizerState(meta_optimizer, dict(self.network.named_parameters()))

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return the slopes of the combined loss, (B, K)."""
        return self._slopes(losses_BK, dict(self.network.named_parameters())).detach()

    @full_types()
    def hypergradient(
        self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers
    ) -> dict[str, Tensor]:
        r"""Return the derivative of the held-out loss by :math:`\phi`, by the name of the network's parameter."""
        combined = self._combined(objective)
        losses_BK, finite_B = current_losses(objective, batch)
        only_L = torch.tensor([0.0, 1.0], device=losses_BK.device).expand(len(losses_BK), 2)
        p = _renamed(self.neumann.direction(combined, batch, held_out, optimizer, only_L), combined, objective)
        D_BK = self.strategy.keep(directional_derivatives(objective, batch, p, self.strategy.used))
        phi = leaves(self.network, losses_BK)
        with torch.enable_grad():
            slopes_BK = self._slopes(losses_BK, phi, True)
            found = torch.autograd.grad(slopes_BK, list(phi.values()), -D_BK, allow_unused=True)
        sums = {name: gradient for name, gradient in zip(phi, found, strict=True) if gradient is not None}
        mean = mean_over_processes(sums, int(finite_B.sum()), phi)[0]
        return {name: mean[name] if name in mean else torch.zeros_like(value) for name, value in phi.items()}

    def adapt(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> None:
        """Take one step on the network and clip negative weights to 0; none while the learning rate is 0."""
        if self.neumann.eta(optimizer, objective) == 0:
            return
        parameters = dict(self.network.named_parameters())
        self.optimizer.step(parameters, self.hypergradient(objective, batch, held_out, optimizer))
        for name, value in parameters.items():
            if name.endswith("weight"):
                value.clamp_(min=0)

    def _slopes(self, losses_BK: Tensor, phi: dict[str, Tensor], create_graph: bool = False) -> Tensor:
        with torch.enable_grad():
            losses_BK = losses_BK.detach().requires_grad_()
            h_B = evaluate(self.network, losses_BK, phi)[:, 0]
            slopes_BK = torch.autograd.grad(h_B.sum(), losses_BK, create_graph=create_graph)[0]
        return slopes_BK + torch.eye(1, slopes_BK.shape[1]).to(slopes_BK)

    def _combined(self, objective: Objective) -> Objective:
        """Return an objective of the primary loss and the combined one, the same for the same objective."""
        known = _combined.setdefault(self, WeakKeyDictionary())
        if objective not in known:
            signals: list[Signal] = list(objective.signals)
            known[objective] = Objective(objective.model, [signals[0], Combined(signals, self.network)])
        return known[objective]


_combined: WeakKeyDictionary[AuxiLearn, WeakKeyDictionary[Objective, Objective]] = WeakKeyDictionary()


def _renamed(p: Mapping[str, Tensor], combined: Objective, objective: Objective) -> dict[str, Tensor]:
    """Return a direction by the names of the objective that was combined: its signals' parameters have others there."""
    names = {id(parameter): name for name, parameter in named_parameters(combined).items()}
    known = {name: names.get(id(parameter), "") for name, parameter in named_parameters(objective).items()}
    return {name: p[other] for name, other in known.items() if other in p}


class Combined(Signal):
    """The primary loss plus a network's output for all losses."""

    def __init__(self, signals: Sequence[Signal], network: nn.Module) -> None:
        super().__init__("combined losses")
        self.signals = nn.ModuleList(signals)
        self.network = network

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the combined losses, (B,)."""
        losses_BK = torch.stack([signal(outputs, batch).expand(size_of(batch)) for signal in self.signals], dim=1)
        return losses_BK[:, 0] + evaluate(self.network, losses_BK)[:, 0]


def monotone(widths: Sequence[int]) -> nn.Sequential:
    """Return linear layers without negative weights, softplus between them: a function that rises with each of its inputs."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layer = nn.Linear(before, after)
        nn.init.uniform_(layer.weight, 0, 2 / before)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.Softplus()]
    return nn.Sequential(*layers[:-1]).requires_grad_(False)

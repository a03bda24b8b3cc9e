"""MAOAL: how far each auxiliary loss counts in each module, learned on held-out data."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.checks import check_number
from tutelage.hypergradient import Optimizers, module_derivatives
from tutelage.signals import Batch, Objective
from tutelage.weighting.base import Makers, ModuleWeights, Weighting
from tutelage.weighting.implicit import NeumannSeries
from tutelage.weighting.meta_optimizer import MetaOptimizer, MetaOptimizerState
from tutelage.weighting.partition import Level, Partition

Constraint = Literal["relu", "softplus"]
MEMORY = 0.95
"""Beta of the evidence: what an update counts for after each later one; 39 updates' worth are remembered."""


class MAOAL(Weighting):
    r"""Module-aware optimisation for auxiliary learning: an importance of each auxiliary loss for each module.

    .. math:: G_m = \nabla_{\theta_m} L_0 + \sum_{k \ge 1} \alpha_{km} \nabla_{\theta_m} L_k, \qquad
        \frac{\partial L_V}{\partial \alpha_{km}} = -\langle p_m, \nabla_{\theta_m} L_k \rangle, \qquad
        p = \eta \sum_{\tau=0}^{M} \big((I - \eta J)^\top\big)^\tau \nabla L_V

    (eq. 5, 7 and 9, as Algorithm 1 sums it) with J the Jacobian of the field G, which is not symmetric. Parameters in no
    module of the partition, such as heads, follow every loss with weight 1. A training step is one forward pass and one
    backward pass for each distinct row of the importances; no graph is kept.

    With ``evidence`` an importance counts only while its history excludes chance: with :math:`h_t = -\partial L_V / \partial
    \alpha_{km}` of update t, which says how far the loss helped the held-out examples there,

    .. math:: \frac{\sum_t \beta^{T-t} h_t}{\sqrt{\sum_t \beta^{2(T-t)} h_t^2}} > \sqrt{2 \ln \frac{(K - 1) M}{\delta}}

    and is 0 otherwise, so that a side task without use is not trained on in the modules. For a loss that has none,
    :math:`h_t` is as often positive as negative, and for such (conditionally symmetric) numbers the left side exceeds any x
    with probability at most :math:`e^{-x^2/2}`, whatever their scale and number (Efron 1969; de la Peña 1999): at one time
    some useless importance counts with probability at most :math:`\delta`.

    Args:
        model: the model whose modules are told apart.
        num_signals: K, the primary one included.
        partition: a `Partition`, or the level at which to divide the model: "block", "parameter" or "model".
        neumann_steps: M, how many Hessian-vector products; 0 is one step of look-ahead.
        neumann_lr: :math:`\eta` of the series; None is the optimiser's learning rate. The released program takes 1.0, with
            which the series diverges on many networks; it is then damped, with a warning.
        init: the first importance of all.
        constraint: None leaves importances free; "relu" and "softplus" keep them from being negative. The released program
            has "relu", below 0 of which an importance has no derivative and stays where it is.
        meta_optimizer: how importances are moved.
        evidence: :math:`\delta`, such as 0.05; None listens to all importances from the start, as the paper does.

    Raises:
        ValueError: an argument that makes no sense.

    Source: Chen et al., *Module-Aware Optimization for Auxiliary Learning*, NeurIPS 2022.
    """

    name: ClassVar[str] = "maoal"
    made_of: ClassVar[Makers] = {"partition": Partition.of_plain, "meta_optimizer": MetaOptimizer.of_plain}
    free: Tensor
    help_sum: Tensor
    help_squares: Tensor

    def __init__(
        self,
        model: nn.Module,
        num_signals: int,
        *,
        partition: Level | Partition = "block",
        neumann_steps: int = 3,
        neumann_lr: float | None = None,
        init: float = 1.0,
        constraint: Constraint | None = None,
        meta_optimizer: MetaOptimizer | None = None,
        evidence: float | None = None,
    ) -> None:
        super().__init__()
        if num_signals < 2:
            raise ValueError(f"num_signals={num_signals}: MAOAL weighs the signals after the first, and there are none")
        check_number("init", init, "(-inf, inf)")
        if constraint is not None and not init > 0:
            raise ValueError(f"init={init} must be positive with constraint={constraint!r}")
        if evidence is not None:
            check_number("evidence", evidence, "(0, 1)")
        self.partition = partition if isinstance(partition, Partition) else Partition.of(model, partition)
        self.neumann = NeumannSeries(neumann_steps, neumann_lr)
        self.constraint = constraint
        free = torch.full((num_signals - 1, len(self.partition)), float(init))
        if constraint == "softplus":
            free = free + (-free).expm1().neg().log()  # the inverse, which does not overflow
        parameter = next(model.parameters())
        self.register_buffer("free", free.to(parameter.device, torch.promote_types(parameter.dtype, torch.float32)))
        self.evidence = evidence
        if evidence is not None:
            self.register_buffer("help_sum", torch.zeros_like(self.free))
            self.register_buffer("help_squares", torch.zeros_like(self.free))
        self.optimizer = MetaOptimizerState(meta_optimizer or MetaOptimizer(), {"free": self.free})

    @property
    def importance(self) -> Tensor:
        r"""The importances :math:`\alpha`, (K - 1, M): how far each auxiliary signal counts in each module."""
        values = self._constrained(self.free)
        if self.evidence is None:
            return values
        needed = math.sqrt(2 * math.log(values.numel() / self.evidence))
        return torch.where(self.help_sum > needed * self.help_squares.sqrt(), values, 0)

    def learned(self) -> dict[str, Any]:
        """Return the importances as K - 1 lists of M numbers."""
        return {"importance": self.importance.tolist()}

    def module_names(self) -> list[str]:
        """Return the modules' names."""
        return list(self.partition.names)

    def module_weights(self, model: nn.Module) -> ModuleWeights:
        """Return the importances, under a first row of ones for the primary signal."""
        alpha = self.importance
        return ModuleWeights(torch.cat([torch.ones_like(alpha[:1]), alpha]), self.partition.within(model))

    def hypergradient(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> Tensor:
        """Return the derivative of the held-out loss by each importance, (K - 1, M)."""
        a = self.module_weights(objective.model)
        if len(a.values_KM) != len(objective.signals):
            raise ValueError(
                f"MAOAL was made for {len(a.values_KM)} signals, the objective has {len(objective.signals)}"
            )
        p = self.neumann.direction(objective, batch, held_out, optimizer, module_weights=a)
        return -module_derivatives(objective, batch, p, a.module_of)[1:]

    def adapt(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> None:
        """Take one step on the importances; none while the learning rate is 0."""
        if self.neumann.eta(optimizer, objective) > 0:
            self.update(self.hypergradient(objective, batch, held_out, optimizer))

    def update(self, gradient_KM: Tensor) -> None:
        """Take one step against a derivative by the importances, (K - 1, M), which is evidence if ``evidence`` is set."""
        if self.evidence is not None:
            help_KM = -gradient_KM.to(self.free)
            self.help_sum.mul_(MEMORY).add_(help_KM)
            self.help_squares.mul_(MEMORY**2).add_(help_KM.square())
        with torch.enable_grad():
            free = self.free.detach().requires_grad_()
            gradient = torch.autograd.grad(self._constrained(free), free, gradient_KM.to(free))[0]
        self.optimizer.step({"free": self.free}, {"free": gradient})

    def _constrained(self, free: Tensor) -> Tensor:
        if self.constraint == "relu":
            return free.relu()
        return F.softplus(free) if self.constraint == "softplus" else free.clone()

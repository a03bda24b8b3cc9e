"""Joint: a weight for each example and an importance for each module, learned together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tutelage.distributed import all_reduce_sum
from tutelage.hypergradient import (
    Optimizers,
    Strategy,
    directional_derivatives,
    greatest_learning_rate,
    look_ahead_direction,
    module_derivatives,
)
from tutelage.signals import Batch, Objective
from tutelage.weighting.amal import AMAL
from tutelage.weighting.base import Makers, ModuleWeights, Weighting
from tutelage.weighting.maoal import MAOAL, Constraint
from tutelage.weighting.meta_optimizer import MetaOptimizer
from tutelage.weighting.partition import Level, Partition
from tutelage.weighting.table import index_of


@dataclass(frozen=True)
class JointGradient:
    """What `Joint` descends on.

    Attributes:
        examples: the derivative of the held-out loss by each weight of the batch's examples, (B, K).
        modules: that by each importance, (K - 1, M).
    """

    examples: Tensor
    modules: Tensor


class Joint(Weighting):
    r"""Which examples of which signal help which module: the weights of AMAL times the importances of MAOAL.

    .. math:: c_{ikm} = \lambda_{ik}\, \alpha_{km}, \qquad \frac{\partial L_V}{\partial \lambda_{ik}} =
        -\frac1n \sum_m \alpha_{km} \langle p_m, \nabla_m \ell_k(x_i) \rangle, \qquad
        \frac{\partial L_V}{\partial \alpha_{km}} = -\frac1n \sum_i \lambda_{ik} \langle p_m, \nabla_m \ell_k(x_i) \rangle

    with one direction p for both, so that looking ahead is paid for once. Ours; neither paper has it.

    Args:
        model: the model whose modules are told apart.
        num_examples: N, the size of the data set that ``batch["index"]`` counts in.
        num_signals: K, the primary one included.
        partition: a `Partition`, or the level at which to divide the model.
        neumann_steps: Hessian-vector products of the Neumann series behind p, as in MAOAL; 0 takes p from one step of the
            actual optimiser, as in AMAL.
        neumann_lr: the step size of the series; None is the optimiser's learning rate.
        init: the first weight of every signal, or one for each.
        init_importance: the first importance of all.
        lr: the root mean square of one step of the weights.
        bounds: the least and the greatest weight.
        constraint: on importances, as in MAOAL.
        meta_optimizer: how importances are moved.
        strategy: how the examples' derivatives are taken, see `directional_derivatives`; not "last_layer".

    Raises:
        ValueError: an argument that makes no sense.
    """

    name: ClassVar[str] = "joint"
    made_of: ClassVar[Makers] = {"partition": Partition.of_plain, "meta_optimizer": MetaOptimizer.of_plain}

    def __init__(
        self,
        model: nn.Module,
        num_examples: int,
        num_signals: int,
        *,
        partition: Level | Partition = "block",
        neumann_steps: int = 3,
        neumann_lr: float | None = None,
        init: float | Sequence[float] = 1.0,
        init_importance: float = 1.0,
        lr: float = 0.5,
        bounds: tuple[float, float] = (1e-7, 2 - 1e-7),
        constraint: Constraint | None = None,
        meta_optimizer: MetaOptimizer | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        if strategy == "last_layer":
            raise ValueError("strategy='last_layer' sees one layer and no modules; use 'auto'")
        self.by_example = AMAL(num_examples, num_signals, init=init, lr=lr, bounds=bounds, strategy=strategy)
        self.by_module = MAOAL(
            model,
            num_signals,
            partition=partition,
            neumann_steps=neumann_steps,
            neumann_lr=neumann_lr,
            init=init_importance,
            constraint=constraint,
            meta_optimizer=meta_optimizer,
        )

    @property
    def weights(self) -> Tensor:
        r"""The weights :math:`\lambda`, (N, K); with several processes all of them ask."""
        return self.by_example.weights

    @property
    def importance(self) -> Tensor:
        r"""The importances :math:`\alpha`, (K - 1, M)."""
        return self.by_module.importance

    def learned(self) -> dict[str, Any]:
        """Return the importances as K - 1 lists of M numbers."""
        return self.by_module.learned()

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return the weights of the batch's examples."""
        return self.by_example.example_weights(losses_BK, batch)

    def module_weights(self, model: nn.Module) -> ModuleWeights:
        """Return the importances, under a first row of ones for the primary signal."""
        return self.by_module.module_weights(model)

    def hypergradient(
        self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers
    ) -> JointGradient:
        """Return the derivatives of the held-out loss by the weights of the batch's examples and by the importances."""
        u_BK = self.by_example.table.lookup(index_of(batch, "Joint"))
        a = self.module_weights(objective.model)
        series = self.by_module.neumann
        look = series.direction if series.neumann_steps else look_ahead_direction
        p = look(objective, batch, held_out, optimizer, u_BK, a)
        rows, row_of_K = torch.unique(a.values_KM, dim=0, return_inverse=True)
        gradient_BK, examples = torch.zeros_like(u_BK), 0
        for row, scales in enumerate(rows.tolist()):
            masked = {name: scales[a.module_of[name]] * v if name in a.module_of else v for name, v in p.items()}
            strategy = self.by_example.strategy
            D = directional_derivatives(objective, batch, masked, strategy.used)
            gradient_BK = torch.where(row_of_K == row, strategy.keep(D), gradient_BK)
            examples = len(u_BK) - D.skipped
        n = max(int(all_reduce_sum(torch.tensor(examples, device=u_BK.device))), 1)
        separable_K = torch.tensor(objective.separable, device=u_BK.device)
        by_module_KM = module_derivatives(objective, batch, p, a.module_of, u_BK)
        return JointGradient(separable_K * gradient_BK / -n, -by_module_KM[1:])

    def adapt(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> None:
        """Take one step on the weights of the batch's examples and on the importances; none while the learning rate is 0."""
        neumann = self.by_module.neumann
        eta = neumann.eta(optimizer, objective)
        if eta > 0:
            gradient = self.hypergradient(objective, batch, held_out, optimizer)
            if neumann.neumann_steps == 0:  # the look-ahead's derivatives are proportional to the optimiser's rates
                eta = greatest_learning_rate(optimizer, objective)
            self.by_example.update(index_of(batch, "Joint"), gradient.examples, eta)
            self.by_module.update(gradient.modules)

    def module_names(self) -> list[str]:
        """Return the modules' names."""
        return self.by_module.module_names()

    def columns(self, names: Sequence[str] | None) -> dict[str, Tensor]:
        """Return the examples' weights and visits."""
        return self.by_example.columns(names)

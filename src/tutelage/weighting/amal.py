"""AMAL: how far each signal counts, learned for each example on held-out data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from tutelage.checks import check_number
from tutelage.distributed import all_gather_rows
from tutelage.hardware import precise
from tutelage.hypergradient import (
    LastLayerLookAhead,
    Optimizers,
    Strategy,
    greatest_learning_rate,
    look_ahead_gradient,
)
from tutelage.signals import Batch, Objective
from tutelage.weighting.base import Weighting
from tutelage.weighting.strategy import KeptStrategy
from tutelage.weighting.table import ExampleTable, index_of

Rule = Literal["sum_of_squares", "difference", "ratio"]
FLOOR = 0.01  # of the largest derivatives: smaller ones take smaller steps


class AMAL(Weighting):
    r"""Adaptive mixing of auxiliary losses: a weight for each signal of each example.

    .. math:: \hat\theta = \mathrm{step}\Big(\theta, \frac1n \sum_{ik} \lambda_{ik} \nabla \ell_k(x_i)\Big), \qquad
        \lambda_{ik} \leftarrow \mathrm{clip}\Big(\lambda_{ik} - \eta_\lambda
        \frac{\partial L_V(\hat\theta) / \partial \lambda_{ik}}{\mathrm{rms}}\Big)

    (eq. 4 to 6, of which the step is the actual optimiser's). The division by the root mean square of the batch's derivatives
    is ours: as printed, they are proportional to the learning rate, and the authors' step of 1500 puts nearly every weight
    on a bound at once. ``lr=1500, normalise=False`` is what they run.

    Args:
        num_examples: N, the size of the data set that ``batch["index"]`` counts in.
        num_signals: K, primary and auxiliary.
        init: the first weight of every signal, or one for each; the released program begins with (0.1, 0.9).
        lr: :math:`\eta_\lambda`: the root mean square of a step's changes.
        normalise: whether steps are divided by the root mean square of their derivatives, those that are exactly 0 apart. One
            that is below a hundredth of the largest so far (for the same learning rate) is a solved task's noise, and is
            divided by that.
        bounds: the least and the greatest weight.
        num_updates: steps on each call of `adapt`, looking ahead anew each time. The released program makes 5.
        strategy: how derivatives are taken. "last_layer" looks at the last linear layer alone, as the authors do: cheap, and
            another estimate. Everything else, see `directional_derivatives`, is of the whole network.

    Raises:
        ValueError: an argument that makes no sense.

    Source: Sivasubramanian et al., *Adaptive Mixing of Auxiliary Losses in Supervised Learning*, AAAI 2023.
    """

    name: ClassVar[str] = "amal"
    largest: Tensor

    def __init__(
        self,
        num_examples: int,
        num_signals: int,
        *,
        init: float | Sequence[float] = 1.0,
        lr: float = 0.5,
        normalise: bool = True,
        bounds: tuple[float, float] = (1e-7, 2 - 1e-7),
        num_updates: int = 1,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        init_K = torch.as_tensor(init, dtype=torch.float32).reshape(-1)
        if num_signals < 1 or len(init_K) not in (1, num_signals):
            raise ValueError(f"init={init!r} must be one number, or one for each of num_signals={num_signals}")
        init_K = init_K.expand(num_signals).clone()
        if not (0 <= bounds[0] < bounds[1]) or not ((bounds[0] <= init_K) & (init_K <= bounds[1])).all():
            raise ValueError(f"init={init!r} must lie within bounds={bounds}, which must not be negative")
        if not init_K.isfinite().all():
            raise ValueError(f"init={init!r} must be finite")
        check_number("lr", lr, "(0, inf)")
        check_number("num_updates", num_updates, "[1, inf)", int)
        self.lr = lr
        self.normalise = normalise
        self.bounds = bounds
        self.num_updates = num_updates
        self.strategy = KeptStrategy(strategy)
        self.table = ExampleTable(num_examples, init_K)
        self.register_buffer("largest", torch.zeros(()))
        self.visits = ExampleTable(num_examples, torch.zeros(1, dtype=torch.int64))

    @property
    def weights(self) -> Tensor:
        """The weights, (N, K); with several processes all of them ask."""
        return self.table.whole()

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return the weights of the batch's examples."""
        return self._weights_of(index_of(batch, "AMAL"), losses_BK.shape[1]).to(losses_BK.dtype)

    def hypergradient(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> Tensor:
        """Return the derivative of the held-out loss after one step by each weight of the batch, (B, K).

        An example that occurs twice has its derivative in two parts. Losses that couple examples have none.
        """
        u_BK = self._weights_of(index_of(batch, "AMAL"), len(objective.signals))
        return self._derivative(objective, batch, held_out, optimizer)(u_BK)

    def adapt(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> None:
        """Take ``num_updates`` steps on the weights of the batch's examples; none while all learning rates are 0."""
        index_B = index_of(batch, "AMAL")
        eta = greatest_learning_rate(optimizer, objective)
        if eta == 0:
            return
        derivative = self._derivative(objective, batch, held_out, optimizer)
        for _ in range(self.num_updates):
            gradient_BK = derivative(self._weights_of(index_B, len(objective.signals)))
            self.update(index_B, gradient_BK, eta)

    def update(self, index_B: Tensor, gradient_BK: Tensor, eta: float) -> None:
        """Take one step against a derivative by the weights of some examples, (B, K).

        Args:
            index_B: the examples.
            gradient_BK: the derivative.
            eta: the learning rate that it is proportional to; of several, the greatest.

        Raises:
            ValueError: ``eta`` is not positive.
        """
        check_number("eta", eta, "(0, inf)")
        index_A, gradient_AK = all_gather_rows(index_B, gradient_BK)
        if not gradient_AK.any():  # such as of a batch without a finite example
            return
        if self.normalise:
            gradient_AK = gradient_AK / self._size_of(gradient_AK / eta) / eta
        self.table.add(index_A, -self.lr * gradient_AK, self.bounds)
        self.visits.add(index_A, torch.ones_like(index_A)[:, None])

    def _size_of(self, gradient_AK: Tensor) -> Tensor:
        """Return the root mean square of derivatives for a learning rate of 1, or `FLOOR` of the largest one so far.

        One that is far larger than all before it is doubted: the largest at most doubles.
        """
        greatest = gradient_AK.abs().max()  # so that no square leaves the type's range
        count = (gradient_AK != 0).sum()
        size = greatest * ((gradient_AK / greatest).square().sum() / count).sqrt()
        known = self.largest.to(size)
        self.largest = torch.where(known > 0, torch.maximum(known, torch.minimum(size, 2 * known)), size).to(
            self.largest
        )
        return torch.maximum(size, FLOOR * self.largest.to(size))

    def columns(self, names: Sequence[str] | None) -> dict[str, Tensor]:
        """Return the weights of each signal (which ones did the model not believe?), and how often each example was visited."""
        weights_NK = self.weights
        names = names or [f"signal_{k}" for k in range(weights_NK.shape[1])]
        if len(names) != weights_NK.shape[1]:
            raise ValueError(f"names={list(names)} for {weights_NK.shape[1]} signals")
        return {**dict(zip(names, weights_NK.unbind(1), strict=True)), "visits": self.visits.whole()[:, 0]}

    def _weights_of(self, index_B: Tensor, signals: int) -> Tensor:
        if self.table.rows.shape[1] != signals:
            raise ValueError(f"AMAL was made for {self.table.rows.shape[1]} signals, the objective has {signals}")
        return self.table.lookup(index_B)

    def _derivative(
        self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers
    ) -> Callable[[Tensor], Tensor]:
        separable_K = torch.tensor(objective.separable)
        if self.strategy.asked == "last_layer":
            ahead = LastLayerLookAhead(objective, batch, held_out, optimizer)
            return lambda u_BK: separable_K.to(u_BK.device) * ahead.gradient(u_BK).values

        def derivative(u_BK: Tensor) -> Tensor:
            found = look_ahead_gradient(objective, batch, held_out, optimizer, u_BK, strategy=self.strategy.used)
            return separable_K.to(u_BK.device) * self.strategy.keep(found)

        return derivative


def coreset_probabilities(weights_NK: Tensor, rule: Rule = "sum_of_squares") -> Tensor:
    r"""Return the probability of drawing each example into a coreset, (N,), by its weights (section 5.2).

    Args:
        weights_NK: the weights, the primary loss's first.
        rule: "sum_of_squares", :math:`\lambda_p^2 + \lambda_a^2`: what counts most. "difference",
            :math:`|\lambda_p - \lambda_a|`: what is best learned with one of the losses. "ratio",
            :math:`\lambda_a / \lambda_p`: what is best learned from the auxiliary loss. Of several auxiliary losses all
            squares are summed, and otherwise :math:`\lambda_a` is their mean.

    Raises:
        ValueError: an unknown rule, one that compares where there is no auxiliary loss, or "ratio" where a primary weight is 0.
    """
    weights_NK = weights_NK.to(precise(weights_NK.device))
    if rule not in get_args(Rule):
        raise ValueError(f"rule={rule!r} is not one of {', '.join(get_args(Rule))}")
    if rule == "sum_of_squares":
        scores_N = weights_NK.square().sum(1)
    elif weights_NK.shape[1] < 2:
        raise ValueError(f"rule={rule!r} compares the primary weight with auxiliary ones, and there are none")
    else:
        primary_N, auxiliary_N = weights_NK[:, 0], weights_NK[:, 1:].mean(1)
        if rule == "ratio" and (zeros := int((primary_N == 0).sum())):
            raise ValueError(
                f"rule='ratio' divides by the primary weight, which is 0 for {zeros} of {len(primary_N)} examples; give AMAL "
                "bounds=(1e-7, ...), or take rule='difference'"
            )
        scores_N = (primary_N - auxiliary_N).abs() if rule == "difference" else auxiliary_N / primary_N
    total = scores_N.sum()
    return scores_N / total if total > 0 else torch.full_like(scores_N, 1 / len(scores_N))

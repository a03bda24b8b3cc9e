"""The direction of the implicit derivative, as weightings compute it repeatedly."""

from __future__ import annotations

import warnings
from typing import get_args

import torch
from torch import Tensor, nn

from tutelage.hypergradient import NeumannWarning, Optimizers, learning_rate, neumann_direction
from tutelage.hypergradient.field import Products
from tutelage.hypergradient.optimizers import rates
from tutelage.signals import Batch, Objective
from tutelage.weighting.base import ModuleWeights

PRODUCTS: tuple[Products, ...] = get_args(Products)


class NeumannSeries(nn.Module):
    """A Neumann series that warns once, and counts, when it has to be damped or stopped.

    Args:
        neumann_steps: M, how many Hessian-vector products; 0 is one step of look-ahead.
        step_size: of the series; None is the optimiser's learning rate.

    Attributes:
        damped: how many series were damped or stopped (a buffer, int64).
        chosen: how Hessians are multiplied by, 1 + the place in `PRODUCTS`, tried on the first batch; 0 before it (a buffer,
            int64, so that a training that goes on after an interruption does not try again on another batch).
    """

    damped: Tensor
    chosen: Tensor

    def __init__(self, neumann_steps: int, step_size: float | None) -> None:
        super().__init__()
        if neumann_steps < 0:
            raise ValueError(f"neumann_steps={neumann_steps} must not be negative")
        if step_size is not None and not step_size > 0:
            raise ValueError(f"neumann_lr={step_size} must be positive, or None for the optimizer's learning rate")
        self.neumann_steps = neumann_steps
        self.step_size = step_size
        self.register_buffer("damped", torch.zeros((), dtype=torch.int64))
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))

    def eta(self, optimizer: Optimizers, objective: Objective) -> float:
        """Return the step size; of several learning rates, the one of most numbers that move, and 0 where nothing moves."""
        lr = learning_rate(optimizer, objective)
        return lr if self.step_size is None or lr == 0 else self.step_size

    def direction(
        self,
        objective: Objective,
        batch: Batch,
        held_out: Batch,
        optimizer: Optimizers,
        weights_BK: Tensor | None = None,
        module_weights: ModuleWeights | None = None,
    ) -> dict[str, Tensor]:
        """Return p of `neumann_direction`, which is 0 in what the optimiser does not move."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NeumannWarning)
            series = neumann_direction(
                objective,
                batch,
                held_out,
                self.eta(optimizer, objective),
                self.neumann_steps,
                weights_BK,
                module_weights,
                PRODUCTS[int(self.chosen) - 1] if self.chosen else "auto",
                rates(optimizer, objective),
            )
        self.chosen.fill_(1 + PRODUCTS.index(series.strategy))
        if series.remarks:
            if self.damped == 0:
                said = "; ".join(series.remarks)
                warnings.warn(f"{said} (said once: the buffer `damped` counts on)", NeumannWarning, stacklevel=4)
            self.damped += 1
        return series.direction

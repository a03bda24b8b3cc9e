"""Two modules, one of which an auxiliary loss helps: what module-wise importances are for, where the answer is known.

A linear model in two modules learns 24 coefficients from 36 noisy examples. A prior draws both modules to a guess, which is
good in the left one and arbitrary in the right one. Whoever weighs the prior as a whole must choose between the two.
"""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import Tensor, nn

from tutelage.hypergradient import NeumannWarning
from tutelage.signals import Batch, Objective, Outputs, Signal, SquaredError
from tutelage.weighting import MAOAL, Equal, Fixed, MetaOptimizer, Partition, Weighting

WIDTH, PIECES = 12, 6  # coefficients and parameter tensors of each module
TRAIN, HELD_OUT, NOISE = 36, 10, 4.0
Way = Literal["single", "equal", "block", "parameter", "model"]


class TwoModules(nn.Module):
    """A linear model in two modules of several parameter tensors each."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = (
            nn.ParameterList([nn.Parameter(torch.zeros(WIDTH // PIECES)) for _ in range(PIECES)]) for _ in range(2)
        )

    def forward(self, input: Tensor) -> dict[str, Tensor]:
        """Return the prediction ``y`` (B,), and the coefficients ``w`` (B, 24)."""
        w = torch.cat([*self.left, *self.right])
        return {"y": input @ w, "w": w.expand(len(input), -1)}


class Prior(Signal):
    """The squared distance of the coefficients to a guess."""

    def __init__(self, guess: Tensor) -> None:
        super().__init__("prior", "w")
        self.guess = guess

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        return (self.own_output(outputs) - self.guess).square().sum(1)


def ridge_error(way: Way, seed: int, steps: int = 90, every: int = 3) -> float:
    """Return the squared error of the coefficients after training in one way.

    Args:
        way: the primary loss alone (on all examples), both losses equally (on all examples), or MAOAL with importances by
            block, by parameter tensor or for the whole model (learned on the held-out examples).
        seed: of the data.
        steps: of gradient descent.
        every: steps between two steps of the importances.
    """
    draws = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draws, dtype=torch.float64)

    truth = draw(2 * WIDTH)

    def sample(size: int) -> dict[str, Tensor]:
        x = draw(size, 2 * WIDTH)
        return {"index": torch.arange(size), "input": x, "label": x @ truth + NOISE * draw(size)}

    train, held_out = sample(TRAIN), sample(HELD_OUT)
    guess = torch.cat([truth[:WIDTH] + 0.1 * draw(WIDTH), 2 * draw(WIDTH)])
    model = TwoModules().double()
    objective = Objective(model, [SquaredError(head="y"), Prior(guess)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.08)
    weighting = _weighting(way, model)
    if not isinstance(weighting, MAOAL):
        train = {key: torch.cat([train[key], held_out[key]]) for key in train}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeumannWarning)
        for step in range(steps):
            weighting.backward(objective(train), train, model)
            optimizer.step()
            optimizer.zero_grad()
            if step % every == every - 1:
                weighting.adapt(objective, train, held_out, optimizer)
    found = torch.cat([p.detach() for p in model.parameters()])
    return float((found - truth).square().sum())


def _weighting(way: Way, model: nn.Module) -> Weighting:
    if way == "single":
        return Fixed([1.0, 0.0])
    if way == "equal":
        return Equal()
    blocks = {"left": ["left"], "right": ["right"]}
    partition = Partition.given(model, blocks) if way == "block" else Partition.of(model, way)
    return MAOAL(model, 2, partition=partition, constraint="softplus", meta_optimizer=MetaOptimizer(lr=0.7))

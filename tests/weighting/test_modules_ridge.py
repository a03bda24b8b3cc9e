"""Two modules, one of which an auxiliary loss helps: what module-wise importances are for, where the answer is known."""

import math

import pytest
import torch
from torch import Tensor, nn

from tutelage.signals import Batch, Objective, Outputs, Signal
from tutelage.weighting import MAOAL, MetaOptimizer, Partition

WIDTH, PIECES = 12, 6  # inputs and parameter tensors of each module
NOISE = 4.0


class TwoModules(nn.Module):
    """A linear model in two modules of several parameter tensors each."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = (
            nn.ParameterList([nn.Parameter(torch.zeros(WIDTH // PIECES)) for _ in range(PIECES)]) for _ in range(2)
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        w = torch.cat([*self.left, *self.right])
        return {"y": x @ w, "w": w.expand(len(x), -1)}


class Fit(Signal):
    def __init__(self) -> None:
        super().__init__("fit", "y")

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        return (self.own_output(outputs) - batch["target"]).square()


class Prior(Signal):
    """The parameters are drawn to a guess at them."""

    def __init__(self, guess: Tensor) -> None:
        super().__init__("prior", "w")
        self.guess = guess

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        return (self.own_output(outputs) - self.guess).square().sum(1)


class Task:
    """Few examples, noisy; the prior's guess is good in the left module and arbitrary in the right one."""

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.w = self.draw(2 * WIDTH)
        self.train, self.held_out = self.sample(36), self.sample(10)
        guess = torch.cat([self.w[:WIDTH] + 0.1 * self.draw(WIDTH), 2 * self.draw(WIDTH)])
        self.model = TwoModules().double()
        self.objective = Objective(self.model, [Fit(), Prior(guess)])
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.08)

    def draw(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random, dtype=torch.float64)

    def sample(self, size: int) -> dict[str, Tensor]:
        x = self.draw(size, 2 * WIDTH)
        return {"index": torch.arange(size), "input": x, "target": x @ self.w + NOISE * self.draw(size)}

    def partition(self, level: str) -> Partition:
        if level == "module":
            return Partition.given(self.model, {"left": ["left"], "right": ["right"]})
        return Partition.of(self.model, level)  # type: ignore[arg-type]

    def learn(self, level: str, steps: int = 90, every: int = 3) -> MAOAL:
        settings = MetaOptimizer(lr=0.7)
        weighting = MAOAL(
            self.model, 2, partition=self.partition(level), constraint="softplus", meta_optimizer=settings
        )
        for step in range(steps):
            weighting.backward(self.objective(self.train), self.train, self.model)
            self.optimizer.step()
            self.optimizer.zero_grad()
            if step % every == every - 1:
                weighting.adapt(self.objective, self.train, self.held_out, self.optimizer)
        return weighting

    @property
    def error(self) -> float:
        """The expected squared error beyond the noise."""
        found = torch.cat([p.detach() for p in self.model.parameters()])
        return float((found - self.w).square().sum())


@pytest.mark.filterwarnings("ignore::tutelage.hypergradient.NeumannWarning")
@pytest.mark.parametrize("seed", range(3))
def test_modules_beat_parameters_beat_the_whole_model(seed):
    """The order of MAOAL's Table 4 on Pet: one importance is too few, one for each tensor more than 10 examples can tell."""
    error = {}
    for level in ("module", "parameter", "model"):
        task = Task(seed)
        weighting = task.learn(level)
        error[level] = task.error
        if level == "module":
            assert weighting.importance[0, 0] > 1 > 0.1 > weighting.importance[0, 1]
    assert error["module"] < error["parameter"] < error["model"]


@pytest.mark.parametrize("neumann_steps", [0, 1, 4])
def test_looking_back_is_unrolling_one_step_more_from_where_training_has_ended(neumann_steps):
    task, eta = Task(0), 0.05
    weighting = MAOAL(task.model, 2, partition=task.partition("module"), neumann_steps=neumann_steps, neumann_lr=eta)
    weighting.double().free.copy_(torch.tensor([[1.5, 0.4]]))
    alpha = weighting.importance.requires_grad_()
    x, guess = task.train["input"], task.objective.signals[1].guess
    pull = alpha[0].repeat_interleave(WIDTH)

    def field(w: Tensor) -> Tensor:
        return 2 * x.T @ (x @ w - task.train["target"]) / len(x) + pull * 2 * (w - guess)

    rhs = x.T @ task.train["target"] / len(x) + pull * guess
    w = torch.linalg.solve(x.T @ x / len(x) + torch.diag(pull), rhs).detach()  # the best response, where the field is 0
    with torch.no_grad():
        for p, part in zip(task.model.parameters(), w.split(WIDTH // PIECES), strict=True):
            p.copy_(part)
    for _ in range(neumann_steps + 1):
        w = w - eta * field(w)
    held_out = (task.held_out["input"] @ w - task.held_out["target"]).square().mean()
    expected = torch.autograd.grad(held_out, alpha)[0]
    found = weighting.hypergradient(task.objective, task.train, task.held_out, task.optimizer)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_a_step_size_beyond_the_curvature_is_damped_with_a_message():
    """The released program's step of 1: without a guard the series is longer than 1e20 after 20 products."""
    task = Task(0)
    weighting = MAOAL(task.model, 2, partition=task.partition("module"), neumann_steps=20, neumann_lr=1.0).double()
    with pytest.warns(RuntimeWarning, match="too long for the curvature"):
        found = weighting.hypergradient(task.objective, task.train, task.held_out, task.optimizer)
    assert torch.isfinite(found).all()
    assert int(weighting.neumann.damped) == 1
    weighting.hypergradient(task.objective, task.train, task.held_out, task.optimizer)  # said once, and counted on
    assert int(weighting.neumann.damped) == 2
    weighting.neumann.step_size = 0.05
    small = weighting.hypergradient(task.objective, task.train, task.held_out, task.optimizer)
    assert math.isclose(float(torch.cosine_similarity(found, small).min()), 1, abs_tol=0.1)

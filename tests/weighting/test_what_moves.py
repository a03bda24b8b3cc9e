"""Learned weightings while a part of the model is frozen, in warm-up or in no optimiser, and where a signal learns itself."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.hypergradient import greatest_learning_rate, learning_rate
from tutelage.signals import Batch, CrossEntropy, Objective, Outputs, Signal
from tutelage.weighting import AMAL, MAOAL, AuxiLearn, Joint


class Proxy(Signal):
    """Distances to a learned place for each class, as in metric learning."""

    def __init__(self) -> None:
        super().__init__("proxy")
        self.W = nn.Parameter(torch.randn(3, 3, generator=torch.Generator().manual_seed(3)))

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        return F.cross_entropy(-torch.cdist(self.own_output(outputs), self.W), batch["label"], reduction="none")


class Target(Signal):
    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        return (self.own_output(outputs) - batch["target"]).square().sum(1)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def batch_of(count: int, seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        "index": torch.arange(count),
        "input": torch.randn(count, 6, generator=g, dtype=torch.float64),
        "label": torch.randint(3, (count,), generator=g),
        "target": torch.randn(count, 3, generator=g, dtype=torch.float64),
    }


BATCH, HELD_OUT = batch_of(8, 1), batch_of(5, 2)


def problem() -> Objective:
    return Objective(net(), [CrossEntropy(), Target("target")])


def sgd(model: nn.Sequential, first: float, last: float) -> torch.optim.SGD:
    groups = [{"params": model[0].parameters(), "lr": first}, {"params": model[2].parameters(), "lr": last}]
    return torch.optim.SGD(groups, lr=1.0)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", ["amal", "joint", "joint with a series", "maoal", "auxilearn"])
def test_a_part_in_warm_up_keeps_nothing_from_learning(kind: str, frozen: bool) -> None:
    objective = problem()
    objective.model[0].requires_grad_(not frozen)
    weighting = {
        "amal": lambda: AMAL(8, 2),
        "joint": lambda: Joint(objective.model, 8, 2, neumann_steps=0, partition="parameter"),
        "joint with a series": lambda: Joint(objective.model, 8, 2, partition="parameter"),
        "maoal": lambda: MAOAL(objective.model, 2, partition="parameter"),
        "auxilearn": lambda: AuxiLearn(2),
    }[kind]()
    before = copy.deepcopy(weighting.state_dict())
    weighting.adapt(objective, BATCH, HELD_OUT, sgd(objective.model, 0.0, 0.0))
    assert all(torch.equal(value, before[name]) for name, value in weighting.state_dict().items())
    weighting.adapt(objective, BATCH, HELD_OUT, sgd(objective.model, 0.0, 0.1))  # the larger group stands still
    after = weighting.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert any(name.endswith(("rows", "free", "weight")) for name in moved)


def test_one_look_with_a_tiny_rate_does_not_shorten_all_later_steps() -> None:
    objective, weighting = problem(), AMAL(8, 2, lr=0.5, bounds=(0, 1e6))
    weighting.adapt(objective, BATCH, HELD_OUT, sgd(objective.model, 1e-8, 0.1))
    before = weighting.weights
    weighting.adapt(objective, BATCH, HELD_OUT, sgd(objective.model, 0.1, 0.1))
    assert float((weighting.weights - before).square().mean().sqrt()) > 0.2
    with pytest.raises(ValueError, match=r"eta=0.0 must be"):
        weighting.update(torch.arange(2), torch.ones(2, 2), 0.0)


def test_the_learning_rate_is_that_of_what_moves() -> None:
    objective = problem()
    optimizer = sgd(objective.model, 0.2, 0.1)
    assert (learning_rate(optimizer, objective), greatest_learning_rate(optimizer, objective)) == (0.2, 0.2)
    objective.model[0].requires_grad_(False)
    assert (learning_rate(optimizer, objective), greatest_learning_rate(optimizer, objective)) == (0.1, 0.1)
    objective.model.requires_grad_(False)
    assert (learning_rate(optimizer, objective), greatest_learning_rate(optimizer, objective)) == (0, 0)


@pytest.mark.parametrize("last", [None, 0.0])
def test_a_module_that_the_optimizer_does_not_move_has_no_derivative(last: float | None) -> None:
    """And the others have the one that they would have if it were frozen."""
    objective = problem()
    weighting = MAOAL(objective.model, 2, partition="parameter")
    first = torch.optim.SGD(objective.model[0].parameters(), lr=0.1)
    optimizer = first if last is None else sgd(objective.model, 0.1, last)
    found = weighting.hypergradient(objective, BATCH, HELD_OUT, optimizer)
    objective.model[2].requires_grad_(False)
    expected = MAOAL(objective.model, 2, partition=weighting.partition).hypergradient(objective, BATCH, HELD_OUT, first)
    still = torch.tensor(["2." in name for name in weighting.module_names()])
    assert still.sum() == 2
    assert (found[:, still] == 0).all()
    assert (found[:, ~still] != 0).all()
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("primary", [False, True])
def test_a_look_ahead_follows_what_a_signal_learns(primary: bool, frozen: bool) -> None:
    """AMAL's derivative against central differences of a real step."""
    proxy = Proxy().double()
    objective = Objective(net(), [proxy, CrossEntropy()] if primary else [CrossEntropy(), proxy])
    objective.model.requires_grad_(not frozen)
    optimizer = torch.optim.SGD([*objective.model.parameters(), *proxy.parameters()], lr=0.3)
    weighting = AMAL(8, 2).double()

    def loss_after_a_step(u_BK: Tensor) -> float:
        trial = copy.deepcopy(objective)
        (u_BK * trial(BATCH)).mean(0).sum().backward()
        with torch.no_grad():
            for parameter in trial.parameters():
                if parameter.grad is not None:
                    parameter -= 0.3 * parameter.grad
            return float(trial(HELD_OUT)[:, 0].mean())

    found_BK = weighting.hypergradient(objective, BATCH, HELD_OUT, optimizer)
    for i in range(2):
        for k in range(2):
            step = torch.zeros(8, 2, dtype=torch.float64)
            step[i, k] = 1e-5
            expected = (loss_after_a_step(1 + step) - loss_after_a_step(1 - step)) / 2e-5
            assert float(found_BK[i, k]) == pytest.approx(expected, rel=1e-5, abs=1e-9)
    others = (MAOAL(objective.model, 2, partition="parameter"), AuxiLearn(2).double())
    for other in others if not frozen else others[1:]:
        other.adapt(objective, BATCH, HELD_OUT, optimizer)


def test_auxilearn_adapts_where_gradients_are_off() -> None:
    objective, weighting = problem(), AuxiLearn(2).double()
    optimizer = torch.optim.SGD(objective.model.parameters(), lr=0.1)
    expected = weighting.hypergradient(objective, BATCH, HELD_OUT, optimizer)
    with torch.no_grad():
        found = weighting.hypergradient(objective, BATCH, HELD_OUT, optimizer)
        weighting.adapt(objective, BATCH, HELD_OUT, optimizer)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())

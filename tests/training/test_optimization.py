"""Parameter groups, schedules and budgets against values worked out by hand."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tutelage.training import Budget, Optimization


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)
        self.head_dist = nn.Linear(4, 2)
        self.header = nn.Linear(2, 2, bias=False)  # no head, whatever its name begins with


def groups(optimization: Optimization, heads: tuple[str, ...] = ()) -> dict[str, tuple[float, float]]:
    """Each parameter's learning rate and decay."""
    model = TwoHeads()
    names = {id(p): name for name, p in model.named_parameters()}
    found = optimization.build(model, heads).param_groups
    listed = [(names[id(p)], (group["lr"], group["weight_decay"])) for group in found for p in group["params"]]
    assert len(listed) == len(names)
    return dict(listed)


def test_heads_have_their_own_rate_and_only_matrices_decay() -> None:
    found = groups(Optimization(lr=1e-2, encoder_lr=1e-3, weight_decay=0.1), ("head", "head_dist"))
    assert found == {
        "encoder.0.weight": (1e-3, 0.1),
        "encoder.0.bias": (1e-3, 0.0),
        "encoder.1.weight": (1e-3, 0.0),
        "encoder.1.bias": (1e-3, 0.0),
        "head.weight": (1e-2, 0.1),
        "head.bias": (1e-2, 0.0),
        "head_dist.weight": (1e-2, 0.1),
        "head_dist.bias": (1e-2, 0.0),
        "header.weight": (1e-3, 0.1),
    }


def test_without_a_rate_for_the_encoder_there_is_one_rate() -> None:
    assert {lr for lr, _ in groups(Optimization(lr=0.5)).values()} == {0.5}


@pytest.mark.parametrize(
    ("optimizer", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_the_optimiser_is_the_one_that_is_named(optimizer: Any, kind: type) -> None:
    built = Optimization(optimizer=optimizer, momentum=0.7, nesterov=True).build(TwoHeads())
    assert type(built) is kind
    if optimizer == "sgd":
        assert all((group["momentum"], group["nesterov"]) == (0.7, True) for group in built.param_groups)


def test_frozen_parameters_are_not_moved() -> None:
    model = TwoHeads()
    model.encoder.requires_grad_(False)
    held = {id(p) for group in Optimization().build(model).param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}
    with pytest.raises(ValueError, match="no trainable parameter"):
        Optimization().build(model.requires_grad_(False))


def test_a_rate_for_the_encoder_needs_heads() -> None:
    for heads in ((), ("fc",)):
        with pytest.raises(ValueError, match=r"encoder_lr=0.001 needs to know the heads"):
            Optimization(encoder_lr=1e-3).build(TwoHeads(), heads)


def factors(steps: int, **settings: Any) -> list[float]:
    return [Optimization(**settings).factor(step, steps) for step in range(steps)]


def test_schedules() -> None:
    assert factors(4) == [1, 1, 1, 1]
    assert factors(4, schedule="cosine") == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])
    assert factors(8, schedule="quartiles") == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    milestones = factors(240, schedule="milestones")  # AMAL's epochs
    assert [epoch for epoch in range(1, 240) if milestones[epoch] < milestones[epoch - 1]] == [150, 180, 210]
    assert milestones[0] == 1
    assert milestones[-1] == pytest.approx(1e-3)
    assert factors(10, warmup=0.4) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1])
    half_risen = factors(10, warmup=0.4, schedule="cosine")[1]
    assert half_risen == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.1)) / 2)


@given(
    steps=st.integers(1, 500),
    warmup=st.floats(0, 0.99),
    schedule=st.sampled_from(["constant", "cosine", "quartiles", "milestones"]),
)
def test_every_step_has_a_positive_rate_that_falls_once_it_has_risen(steps: int, warmup: float, schedule: str) -> None:
    found = factors(steps, warmup=warmup, schedule=schedule)
    assert all(0 < factor <= 1 for factor in found)
    after = found[math.ceil(warmup * steps) :]
    assert all(later <= earlier for earlier, later in itertools.pairwise(after))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"lr": 0}, "lr=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"warmup": 1.0}, "warmup=1.0"),
        ({"warmup": -1}, "warmup=-1"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Optimization(**settings)


def test_a_budget_is_multiplied_with_its_bounds() -> None:
    assert Budget(steps=400, least_epochs=2, most_epochs=100).times(3) == Budget(
        steps=1200, least_epochs=6, most_epochs=300
    )
    assert Budget(epochs=5).times(1) == Budget(epochs=5)


def test_budgets() -> None:
    assert Budget(epochs=3).total(batches_per_epoch=7) == 21
    assert Budget(steps=10).total(batches_per_epoch=7) == 10


@pytest.mark.parametrize(
    ("budget", "in_a_pass", "steps"),
    [
        (Budget(steps=400, least_epochs=2, most_epochs=100), 1, 100),  # 48 examples
        (Budget(steps=400, least_epochs=2, most_epochs=100), 20, 400),
        (Budget(steps=400, least_epochs=2, most_epochs=100), 800, 1600),  # 100,000 examples
        (Budget(epochs=30, least_steps=100), 1, 100),
        (Budget(epochs=30, least_steps=100), 4, 120),
    ],
)
def test_the_number_of_examples_bounds_a_budget_and_that_is_said(budget: Budget, in_a_pass: int, steps: int) -> None:
    assert budget.total(in_a_pass) == steps
    plain = Budget(budget.epochs, budget.steps).total(in_a_pass)
    said = f"{steps} steps instead of {plain}, with {in_a_pass} in a pass over the examples (budget.least_"
    assert budget.changed(in_a_pass).startswith(said if steps != plain else "")
    assert bool(budget.changed(in_a_pass)) == (steps != plain)


def test_bounds_that_cross_are_refused() -> None:
    with pytest.raises(ValueError, match="least_epochs=3 is above most_epochs=2"):
        Budget(steps=1, least_epochs=3, most_epochs=2)


@pytest.mark.parametrize("given", [{}, {"epochs": 1, "steps": 1}, {"epochs": 0}, {"steps": -1}, {"steps": 0}])
def test_a_budget_is_one_positive_number(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"epochs=.*steps=|(epochs|steps)=-?\d must be an integer of at least 1"):
        Budget(**given)

"""What a user's own loop may hand over: compiled objectives, several optimisers, autocast, losses that couple examples."""

import copy

import pytest
import torch
from hostile_models import EXAMPLES, batch_of, distance, landed, mlp, objective_of, weights_of
from torch import Tensor, nn

from tutelage.hypergradient import (
    directional_derivatives,
    learning_rate,
    look_ahead_direction,
    look_ahead_gradient,
    neumann_direction,
)
from tutelage.signals import CrossEntropy, Distillation, Objective, Signal

BATCH, HELD_OUT = batch_of(), batch_of(7, seed=5)


def problem() -> Objective:
    torch.manual_seed(0)
    return Objective(mlp().double(), [CrossEntropy(), Distillation("teacher", temperature=3.0)])


def sgd(objective: Objective) -> torch.optim.Optimizer:
    return torch.optim.SGD(objective.model.parameters(), lr=0.1, momentum=0.9)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of the compiler's own
@pytest.mark.parametrize("strategy", ["auto", "last_layer"])
def test_a_compiled_objective_is_looked_through_and_left_whole(strategy):
    objective = problem()
    optimizer, weights_BK = sgd(objective), weights_of(EXAMPLES, 2)
    expected = look_ahead_gradient(objective, BATCH, HELD_OUT, optimizer, weights_BK, strategy=strategy).values
    series = neumann_direction(objective, BATCH, HELD_OUT, 0.1).direction
    compiled = torch.compile(objective, backend="eager")
    found = look_ahead_gradient(compiled, BATCH, HELD_OUT, optimizer, weights_BK, strategy=strategy).values
    assert torch.equal(found, expected)
    assert all(
        torch.equal(p, series[n]) for n, p in neumann_direction(compiled, BATCH, HELD_OUT, 0.1).direction.items()
    )
    assert compiled.model is objective.model
    assert len(compiled.signals) == 2
    assert torch.equal(compiled(BATCH), objective(BATCH))


def test_several_optimizers_are_one_with_their_groups():
    objective, weights_BK = problem(), weights_of(EXAMPLES, 2)
    first, last = (list(objective.model[i].parameters()) for i in (0, 2))
    one = torch.optim.SGD([{"params": first, "lr": 0.1}, {"params": last, "lr": 0.3}], lr=1.0, momentum=0.9)
    several = [torch.optim.SGD(first, lr=0.1, momentum=0.9), torch.optim.SGD(last, lr=0.3, momentum=0.9)]
    for look in (landed, look_ahead_direction):
        arguments = (objective, BATCH) if look is landed else (objective, BATCH, HELD_OUT)
        expected, found = look(*arguments, one, weights_BK), look(*arguments, several, weights_BK)
        assert found.keys() == expected.keys() == dict(objective.model.named_parameters()).keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert learning_rate(several, objective) == learning_rate(one, objective) == 0.1  # of 42 parameters


class Renamed(torch.optim.AdamW):
    """A subclass that adds something of its own and leaves the step as it is."""

    def __init__(self, parameters: object, note: str) -> None:
        super().__init__(parameters, lr=0.05, eps=1e-3)
        self.note = note


class Overridden(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data -= parameter.grad.sign()


def test_a_subclass_that_leaves_the_step_alone_is_its_base():
    objective = problem()
    plain = torch.optim.AdamW(objective.model.parameters(), lr=0.05, eps=1e-3)
    expected = landed(objective, BATCH, plain)
    found = landed(objective, BATCH, Renamed(objective.model.parameters(), "mine"))
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    with pytest.raises(ValueError, match=r"Overridden.*overrides step"):
        landed(objective, BATCH, Overridden(objective.model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="RMSprop can not be looked ahead;"):
        landed(objective, BATCH, torch.optim.RMSprop(objective.model.parameters()))


@pytest.mark.parametrize("strategy", ["auto", "last_layer"])
def test_another_model_s_optimizer_and_an_empty_held_out_batch_are_refused(strategy):
    objective = problem()
    foreign = sgd(problem())
    with pytest.raises(ValueError, match="holds no parameter of the Sequential"):
        look_ahead_gradient(objective, BATCH, HELD_OUT, foreign, strategy=strategy)
    with pytest.raises(ValueError, match="holds no parameter of the Sequential"):
        learning_rate([foreign], objective)
    empty = {key: value[:0] for key, value in HELD_OUT.items()}
    with pytest.raises(ValueError, match="held-out batch is empty"):
        look_ahead_gradient(objective, BATCH, empty, sgd(objective), strategy=strategy)
    with pytest.raises(ValueError, match="held-out batch is empty"):
        neumann_direction(objective, BATCH, empty, 0.1)


@pytest.mark.parametrize("strategy", ["auto", "last_layer", "finite_difference"])
def test_autocast_does_not_reach_derivatives(strategy):
    torch.manual_seed(0)
    objective = objective_of(mlp()).float()
    batch, held_out = ({k: v.float() if v.is_floating_point() else v for k, v in b.items()} for b in (BATCH, HELD_OUT))
    optimizer = torch.optim.Adam(objective.model.parameters(), lr=0.05)

    def all_of_it() -> list[Tensor]:
        direction = look_ahead_direction(objective, batch, held_out, optimizer)
        return [
            look_ahead_gradient(objective, batch, held_out, optimizer, strategy=strategy).values,
            directional_derivatives(objective, batch, direction, "forward_mode").values,
            *neumann_direction(objective, batch, held_out, 0.1).direction.values(),
        ]

    expected = all_of_it()
    with torch.autocast("cpu", torch.bfloat16):
        found = all_of_it()
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


class Contrast(Signal):
    """Each example's loss depends on the others' outputs, and the signal does not say so."""

    def forward(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return (outputs @ outputs.T).logsumexp(1)


def test_a_loss_of_one_number_an_example_that_couples_them_is_not_taken_by_the_last_layer():
    torch.manual_seed(0)
    objective = Objective(mlp().double(), [CrossEntropy(), Contrast("contrast")])
    optimizer, weights_BK = sgd(objective), weights_of(EXAMPLES, 2)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"'contrast'.*depend on other examples"):
            look_ahead_gradient(objective, BATCH, HELD_OUT, optimizer, weights_BK, strategy="last_layer")
    direction = {
        name: p for name, p in look_ahead_direction(objective, BATCH, HELD_OUT, optimizer).items() if "2." in name
    }
    exact = directional_derivatives(objective, BATCH, direction, "double_backward")
    found = directional_derivatives(objective, BATCH, direction)
    assert found.strategy != "last_layer"
    assert distance(found.values, exact.values) < 1e-10
    alone = Objective(objective.model, [objective.signals[0]])
    assert directional_derivatives(alone, BATCH, direction).strategy == "last_layer"


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = mlp()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.inside(torch.cat([first, second], 1))


def test_inputs_of_several_tensors_are_derived_through():
    torch.manual_seed(0)
    objective = problem()
    twin = Nested().double()
    twin.inside = copy.deepcopy(objective.model)
    nested = Objective(twin, objective.signals)

    def parts(batch: dict[str, Tensor]) -> dict[str, object]:
        first, second = batch["input"].split(3, 1)
        return {**batch, "input": {"first": first, "second": second}, "note": None}

    expected = look_ahead_gradient(objective, BATCH, HELD_OUT, sgd(objective)).values
    found = look_ahead_gradient(nested, parts(BATCH), parts(HELD_OUT), sgd(nested)).values
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    series = neumann_direction(objective, BATCH, HELD_OUT, 0.1).direction
    for name, value in neumann_direction(nested, parts(BATCH), parts(HELD_OUT), 0.1).direction.items():
        torch.testing.assert_close(value, series[name.removeprefix("inside.")], rtol=1e-10, atol=0)

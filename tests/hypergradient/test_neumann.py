from itertools import pairwise

import pytest
import torch
from hostile_models import Checkpointed, batch_of, direction_of, distance, masked_derivatives, objective_of, weights_of
from torch import Tensor, nn

from tutelage.hypergradient import NeumannWarning, module_derivatives, neumann_direction
from tutelage.hypergradient.field import Field
from tutelage.hypergradient.neumann import KEPT, _series
from tutelage.hypergradient.probe import Probe
from tutelage.signals import CrossEntropy, Objective, Signal
from tutelage.weighting import ModuleWeights

EXAMPLES, SIGNALS = 12, 3


class TwoModules(nn.Module):
    """Two linear maps of correlated inputs whose outputs are added: the two-module ridge problem."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
        self.tail = nn.Parameter(torch.zeros(1))  # in no module

    def forward(self, x: Tensor) -> Tensor:
        return (self.left(x[:, :2]) + self.right(x[:, 2:4] + 0.5 * x[:, :2])).squeeze(1) + self.tail


class SquaredError(Signal):
    def __init__(self, target: str, sign: float = 1.0) -> None:
        super().__init__(target)
        self.sign = sign

    def forward(self, outputs, batch):
        return self.sign * (outputs - batch[self.name]).square() * batch[self.name + " scale"]


MODULES = {"left.weight": 0, "right.weight": 1}
WEIGHTS = ModuleWeights(torch.tensor([[1.0, 1.0], [0.2, 2.0], [3.0, 0.0]], dtype=torch.float64), MODULES)


def problem(seed: int = 0) -> tuple[Objective, dict, dict, Tensor]:
    torch.manual_seed(seed)
    objective = Objective(TwoModules().double(), [SquaredError(name) for name in ("goal", "side", "other")])
    batch, held_out = batch_of(EXAMPLES), batch_of(6, seed=5)
    for part in (batch, held_out):
        for name in ("goal", "side", "other"):
            part[name] = torch.randn(len(part["input"]), dtype=torch.float64)
            part[name + " scale"] = torch.rand(len(part["input"]), dtype=torch.float64)
    return objective, batch, held_out, weights_of(EXAMPLES, SIGNALS)


def flat(direction: dict[str, Tensor], objective: Objective) -> Tensor:
    return torch.cat([direction[name].flatten() for name, _ in objective.model.named_parameters()])


def named(vector: Tensor, objective: Objective) -> dict[str, Tensor]:
    parameters = dict(objective.model.named_parameters())
    pieces = vector.split([p.numel() for p in parameters.values()])
    return {name: piece.view_as(p) for (name, p), piece in zip(parameters.items(), pieces, strict=True)}


def field_of(objective: Objective, batch: dict, u_BK: Tensor, a_KM: Tensor):
    """Return G as a differentiable function of one vector of all parameters, apart from the room under test."""

    def field(theta: Tensor) -> Tensor:
        parameters = named(theta, objective)
        totals_K = (u_BK * objective(batch, parameters)).mean(0)
        gradients = [
            torch.autograd.grad(total, list(parameters.values()), create_graph=True, allow_unused=True)
            for total in totals_K
        ]
        parts = []
        for place, name in enumerate(parameters):
            scales_K = a_KM[:, MODULES[name]] if name in MODULES else torch.ones(len(totals_K), dtype=theta.dtype)
            parts.append(sum(scale * row[place] for scale, row in zip(scales_K, gradients, strict=True)).flatten())
        return torch.cat(parts)

    return field


def parameters_of(objective: Objective) -> Tensor:
    return torch.cat([p.detach().flatten() for p in objective.model.parameters()]).requires_grad_()


def move_to_best_response(objective: Objective, batch: dict, u_BK: Tensor) -> Tensor:
    """Set the parameters to where G is 0 (one Newton step, as G is linear) and return J there."""
    theta = parameters_of(objective)
    field = field_of(objective, batch, u_BK, WEIGHTS.values_KM)
    J = torch.autograd.functional.jacobian(field, theta)
    best = (theta - torch.linalg.solve(J, field(theta))).detach()
    with torch.no_grad():
        for (_, p), value in zip(objective.model.named_parameters(), named(best, objective).values(), strict=True):
            p.copy_(value)
    assert field(best.requires_grad_()).norm() < 1e-12
    return J


@pytest.mark.parametrize(("strategy", "tolerance"), [("double_backward", 1e-12), ("finite_difference", 1e-8)])
def test_the_field_multiplies_by_its_transposed_jacobian_and_not_by_its_jacobian(strategy, tolerance):
    objective, batch, _, u_BK = problem()
    J = torch.autograd.functional.jacobian(
        field_of(objective, batch, u_BK, WEIGHTS.values_KM), parameters_of(objective)
    )
    assert (J - J.T).norm() > 0.05 * J.norm()
    field = Field(Probe(objective, batch), u_BK, WEIGHTS)
    v = torch.randn(J.shape[0], dtype=torch.float64)
    product = flat(field.with_products(strategy, lambda product: product(named(v, objective))), objective)
    assert distance(product, J.T @ v) < tolerance
    assert distance(product, J @ v) > 0.05


def test_products_by_rows_and_by_columns_are_the_same(monkeypatch):
    objective, batch, _, u_BK = problem()
    v = {name: torch.randn_like(p) for name, p in objective.model.named_parameters()}
    found = []
    for cheaper in (False, True):
        monkeypatch.setattr("tutelage.hypergradient.passes.columns_are_cheaper", lambda rows, columns: cheaper)  # noqa: B023
        field = Field(Probe(objective, batch), u_BK, WEIGHTS)
        assert all(set(each.scales.values()) == {1.0} for each in field.passes) == cheaper
        found.append(flat(field.with_products("double_backward", lambda product: product(v)), objective))
    assert distance(*found) < 1e-13


@pytest.mark.parametrize("neumann_steps", [0, 1, 4])
@pytest.mark.parametrize(("strategy", "tolerance"), [("double_backward", 1e-8), ("finite_difference", 1e-6)])
def test_m_loops_equal_m_plus_one_unrolled_steps_at_the_best_response(neumann_steps, strategy, tolerance):
    objective, batch, held_out, u_BK = problem()
    move_to_best_response(objective, batch, u_BK)
    eta = 0.05
    a_KM, weights_BK = WEIGHTS.values_KM.clone().requires_grad_(), u_BK.clone().requires_grad_()
    theta = parameters_of(objective)
    for _ in range(neumann_steps + 1):
        theta = theta - eta * field_of(objective, batch, weights_BK, a_KM)(theta)
    outer = objective(held_out, named(theta, objective))[:, 0].mean()
    by_a_KM, by_u_BK = torch.autograd.grad(outer, (a_KM, weights_BK))

    found = neumann_direction(objective, batch, held_out, eta, neumann_steps, u_BK, WEIGHTS, strategy)
    assert len(found.lengths) == neumann_steps + 1
    assert (found.strategy, found.step_size, found.remarks) == (strategy, eta, [])
    D_KM = module_derivatives(objective, batch, found.direction, MODULES, u_BK)
    assert distance(-D_KM, by_a_KM) < tolerance
    D_BK = masked_derivatives(objective, batch, found.direction, WEIGHTS)
    assert distance(D_BK / -EXAMPLES, by_u_BK) < tolerance


def test_many_loops_equal_the_implicit_function_theorem():
    objective, batch, held_out, u_BK = problem()
    J = move_to_best_response(objective, batch, u_BK)
    theta = parameters_of(objective)
    gradient = torch.autograd.grad(objective(held_out, named(theta, objective))[:, 0].mean(), theta)[0]
    exact = torch.linalg.solve(J.T, gradient)
    found = neumann_direction(objective, batch, held_out, 0.3, 400, u_BK, WEIGHTS)
    assert found.strategy == "double_backward"
    assert distance(flat(found.direction, objective), exact) < 1e-6


def test_a_step_that_is_too_long_is_shortened_with_a_warning():
    objective, batch, held_out, u_BK = problem()
    J = move_to_best_response(objective, batch, u_BK)
    too_long = 8 / float(torch.linalg.eigvals(J).abs().max())
    with pytest.warns(NeumannWarning, match="is too long for the curvature, the series begins again with"):
        found = neumann_direction(objective, batch, held_out, too_long, 400, u_BK, WEIGHTS)
    assert too_long / 64 < found.step_size < too_long
    assert found.lengths == sorted(found.lengths, reverse=True)
    theta = parameters_of(objective)
    gradient = torch.autograd.grad(objective(held_out, named(theta, objective))[:, 0].mean(), theta)[0]
    assert distance(flat(found.direction, objective), torch.linalg.solve(J.T, gradient)) < 1e-6


@pytest.mark.parametrize("sign", [-2.0, -5.0])
def test_terms_that_grow_a_little_by_negative_curvature_are_what_unrolling_gives(sign):
    """As on a minibatch: nothing is wrong with such a series but that it must not be continued for ever."""
    objective, batch, held_out, u_BK = problem()
    for signal in objective.signals[1:]:
        signal.sign = sign
    move_to_best_response(objective, batch, u_BK)
    neumann_steps, eta = 3, 0.02
    a_KM, theta = WEIGHTS.values_KM.clone().requires_grad_(), parameters_of(objective)
    for _ in range(neumann_steps + 1):
        theta = theta - eta * field_of(objective, batch, u_BK, a_KM)(theta)
    expected = torch.autograd.grad(objective(held_out, named(theta, objective))[:, 0].mean(), a_KM)[0]
    found = neumann_direction(objective, batch, held_out, eta, neumann_steps, u_BK, WEIGHTS)
    assert (len(found.lengths), found.remarks) == (neumann_steps + 1, [])
    assert any(after > 1.005 * before for before, after in pairwise(found.lengths))
    D_KM = module_derivatives(objective, batch, found.direction, MODULES, u_BK)
    assert distance(-D_KM, expected) < 1e-8


def test_a_shorter_step_costs_no_product_again():
    g = torch.Generator().manual_seed(0)
    draws = torch.randn(6, 6, dtype=torch.float64, generator=g)
    J = draws @ draws.T + 0.3 * torch.randn(6, 6, dtype=torch.float64, generator=g)  # positive, not symmetric
    gradient = {"w": torch.randn(6, dtype=torch.float64, generator=g)}
    products = 0

    def product(v):
        nonlocal products
        products += 1
        return {"w": J.T @ v["w"]}

    for neumann_steps in (3, 20):
        products = 0
        found, eta, lengths, remarks = _series(gradient, product, 10.0, neumann_steps)
        assert eta < 10
        assert remarks
        assert len(lengths) == neumann_steps + 1
        assert products <= max(neumann_steps, neumann_steps + len(remarks) * (neumann_steps - KEPT))
        I = torch.eye(6, dtype=torch.float64)
        terms = [
            torch.linalg.matrix_power((I - eta * J).T, power) @ gradient["w"] for power in range(neumann_steps + 1)
        ]
        torch.testing.assert_close(found["w"], eta * sum(terms), rtol=1e-9, atol=1e-12)


def test_negative_curvature_ends_the_series_with_a_warning():
    objective, batch, held_out, u_BK = problem()
    for signal in objective.signals[1:]:
        signal.sign = -20.0
    with pytest.warns(NeumannWarning, match="and no step size from 0.0001 on helps: the series ends before it"):
        found = neumann_direction(objective, batch, held_out, 0.1, 50, u_BK)
    assert len(found.lengths) < 51
    assert sum(p.norm() ** 2 for p in found.direction.values()).sqrt() <= sum(found.lengths) * (1 + 1e-9)


def test_no_loop_is_one_step_of_look_ahead_from_where_the_model_is():
    objective, batch, held_out, u_BK = problem()
    found = neumann_direction(objective, batch, held_out, 0.1, 0, u_BK)
    gradient = torch.autograd.grad(objective(held_out)[:, 0].mean(), list(objective.model.parameters()))
    assert distance(flat(found.direction, objective), 0.1 * torch.cat([g.flatten() for g in gradient])) < 1e-12


def test_checkpoints_are_computed_again_from_the_parameters_that_are_probed():
    """Dropout within a checkpoint, its backward taken at other parameters than the model's own."""
    torch.manual_seed(0)
    objective = objective_of(Checkpointed())
    batch, v = batch_of(), direction_of(objective.model)
    field = Field(Probe(objective, batch))
    products = [
        field.with_products(strategy, lambda product: product(v))
        for strategy in ("double_backward", "finite_difference")
    ]
    assert distance(*(torch.cat([p.flatten() for p in found.values()]) for found in products)) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_auto_multiplies_by_double_backward_through_relu_and_batch_normalisation(dtype):
    """At a longer step a difference of gradients crosses kinks, and the two have nothing in common."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 64, 3)).to(dtype)
    objective = Objective(model, [CrossEntropy()])
    batch = {"index": torch.arange(8), "input": torch.randn(8, 3, 12, 12, dtype=dtype), "label": torch.arange(8) % 3}
    before = [b.clone() for b in model.buffers()]
    found = neumann_direction(objective, batch, batch, 1e-3, 1)
    assert (found.strategy, found.why) == (
        "double_backward",
        "double_backward agrees with a difference of gradients",
    )
    assert all(p.dtype == dtype for p in found.direction.values())
    assert all(torch.equal(b, a) for b, a in zip(before, model.buffers(), strict=True))


def test_auto_takes_differences_of_gradients_where_second_derivatives_are_missing():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return gradient

    class Model(TwoModules):
        def forward(self, x):
            return Once.apply(super().forward(x))

    objective, batch, held_out, u_BK = problem()
    expected = neumann_direction(objective, batch, held_out, 0.05, 3, u_BK, WEIGHTS)
    model = Model().double()
    model.load_state_dict(objective.model.state_dict())
    objective = Objective(model, list(objective.signals))
    found = neumann_direction(objective, batch, held_out, 0.05, 3, u_BK, WEIGHTS)
    assert found.strategy == "finite_difference"
    assert found.why == "double_backward disagrees with a difference of gradients"
    assert distance(flat(found.direction, objective), flat(expected.direction, objective)) < 1e-6


def test_what_does_not_fit_is_named():
    objective, batch, held_out, _ = problem()
    with pytest.raises(ValueError, match="step_size=0 must be positive"):
        neumann_direction(objective, batch, held_out, 0)
    with pytest.raises(ValueError, match="neumann_steps=-1 must not be negative"):
        neumann_direction(objective, batch, held_out, 0.1, -1)
    with pytest.raises(ValueError, match="strategy='forward_mode' is not"):
        neumann_direction(objective, batch, held_out, 0.1, strategy="forward_mode")

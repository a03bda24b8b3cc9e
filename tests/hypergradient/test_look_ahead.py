import copy
import dataclasses

import pytest
import torch
from hostile_models import (
    CLASSES,
    EXAMPLES,
    WIDTH,
    ZOO,
    Spread,
    batch_of,
    distance,
    landed,
    masked_derivatives,
    mlp,
    objective_of,
    weights_of,
)
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tutelage.hypergradient import (
    LastLayerLookAhead,
    look_ahead_direction,
    look_ahead_gradient,
    module_derivatives,
)
from tutelage.hypergradient.optimizers import next_steps
from tutelage.signals import CrossEntropy, Distillation, Objective
from tutelage.weighting import ModuleWeights

SGD, Adam, AdamW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
OPTIMIZERS = {
    "SGD": (SGD, {"lr": 0.1}),
    "SGD with decay": (SGD, {"lr": 0.1, "weight_decay": 0.1}),
    "momentum": (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    "dampened momentum": (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.4}),
    "Nesterov": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "SGD, ascending": (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "maximize": True}),
    "Adam": (Adam, {"lr": 0.05, "eps": 1e-3}),
    "Adam with decay": (Adam, {"lr": 0.05, "eps": 1e-3, "weight_decay": 0.1, "betas": (0.8, 0.9)}),
    "AMSGrad": (Adam, {"lr": 0.05, "eps": 1e-3, "amsgrad": True}),
    "Adam, ascending": (Adam, {"lr": 0.05, "eps": 1e-3, "maximize": True}),
    "AdamW": (AdamW, {"lr": 0.05, "eps": 1e-3, "weight_decay": 0.1}),
    "AdamW with AMSGrad": (
        AdamW,
        {"lr": torch.tensor(0.05, dtype=torch.float64), "eps": 1e-3, "amsgrad": True, "betas": (0.5, 0.5)},
    ),
}


def really_stepped(objective, batch, optimizer, weights_BK, a=None):
    """Take the step with copies of all that it touches; return the objective after it."""
    stepped = copy.deepcopy(objective)
    twin_of = dict(zip(objective.model.parameters(), stepped.model.parameters(), strict=True))
    groups = [{**group, "params": [twin_of[p] for p in group["params"]]} for group in optimizer.param_groups]
    twin = type(optimizer)(groups)
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    if a is None:
        (weights_BK * stepped(batch)).mean(0).sum().backward()
    else:
        totals_K = (weights_BK * stepped(batch)).mean(0)
        for name, p in stepped.model.named_parameters():
            scales_K = a.values_KM[:, a.module_of[name]] if name in a.module_of else torch.ones(len(totals_K))
            p.grad = torch.autograd.grad((scales_K * totals_K).sum(), p, retain_graph=True, allow_unused=True)[0]
    twin.step()
    return stepped


def by_difference(of, at, step=1e-6):
    """Return the central differences of a function of a tensor."""
    found = torch.zeros_like(at)
    for place in range(at.numel()):
        move = torch.zeros_like(at).flatten()
        move[place] = step
        found.view(-1)[place] = (of(at + move.view_as(at)) - of(at - move.view_as(at))) / (2 * step)
    return found


def warmed(optimizer, objective, batch, steps):
    for step in range(steps):
        optimizer.zero_grad()
        ((1 + step) * objective(batch)).mean().backward()
        optimizer.step()
    optimizer.zero_grad()
    return optimizer


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_derivative_through_the_step_is_that_of_the_real_optimizer(name, steps):
    torch.manual_seed(0)
    kind, options = OPTIMIZERS[name]
    objective = objective_of(mlp())
    batch, held_out, u_BK = batch_of(3), batch_of(4, seed=7), weights_of(3, 3)
    optimizer = warmed(kind(objective.model.parameters(), **options), objective, batch, steps)
    before = copy.deepcopy(optimizer.state_dict())

    ahead = landed(objective, batch, optimizer, u_BK)
    stepped = dict(really_stepped(objective, batch, optimizer, u_BK).model.named_parameters())
    assert ahead.keys() == stepped.keys()
    assert all(torch.allclose(ahead[key], stepped[key], rtol=1e-12, atol=1e-14) for key in ahead)

    def held_out_loss(weights_BK):
        return really_stepped(objective, batch, optimizer, weights_BK)(held_out)[:, 0].mean().detach()

    expected = by_difference(held_out_loss, u_BK)
    for strategy in ("auto", "double_backward"):
        found = look_ahead_gradient(objective, batch, held_out, optimizer, u_BK, strategy=strategy)
        assert distance(found.values, expected) < 1e-6
    after = optimizer.state_dict()
    assert str(after) == str(before)


@pytest.mark.parametrize("epsilon", [1e-8, 1e-4])
def test_the_first_step_of_adam_loses_nothing_to_cancellation_in_float32(epsilon):
    """There S = eta eps / (|g| + eps)^2, the small rest of two large terms."""
    parameter = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    model = nn.Module()
    model.p = parameter
    objective = Objective(model, [CrossEntropy()])
    gradient = torch.tensor([0.3, -2.0, 0.0])
    step = next_steps(Adam([parameter], lr=0.1, eps=epsilon), objective, {"p": parameter.data}, {"p": gradient})["p"]
    assert torch.allclose(step.slope, 0.1 * epsilon / (gradient.abs() + epsilon) ** 2, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ZOO)
def test_every_model_of_the_zoo_can_be_looked_ahead(name, training):
    """Against the chain rule written out: the gradient of a copy, a step by hand, and the gradient of another copy there."""
    torch.manual_seed(0)
    objective = objective_of(ZOO[name]()).train(training)
    batch, held_out, u_BK = batch_of(), batch_of(4, seed=7), weights_of(EXAMPLES, len(objective.signals))
    del held_out["teacher"]  # the primary signal alone is asked
    random = torch.get_rng_state()  # the masks of the next training step are those of every pass
    first, second = copy.deepcopy(objective), copy.deepcopy(Objective(objective.model, [objective.signals[0]]))
    weights_BK = u_BK.clone().requires_grad_()
    parameters = {key: p for key, p in first.model.named_parameters() if p.requires_grad}
    with sdpa_kernel(SDPBackend.MATH):
        total = (weights_BK * first(batch)).mean(0).sum()
        found = torch.autograd.grad(total, list(parameters.values()), create_graph=True, allow_unused=True)
    gradients = {key: g for key, g in zip(parameters, found, strict=True) if g is not None}
    ahead = dict(second.model.named_parameters())
    with torch.no_grad():
        for key, g in gradients.items():
            ahead[key] -= 0.1 * g
    torch.set_rng_state(random)
    second(held_out).mean().backward()
    expected = {key: 0.1 * ahead[key].grad for key in gradients if ahead[key].grad is not None}
    along = sum((expected[key] * gradients[key]).sum() for key in expected)
    expected_BK = -torch.autograd.grad(along, weights_BK)[0]

    torch.set_rng_state(random)
    optimizer = SGD((p for p in objective.model.parameters() if p.requires_grad), lr=0.1)
    direction = look_ahead_direction(objective, batch, held_out, optimizer, u_BK)
    assert direction.keys() == expected.keys()
    assert distance(*(torch.cat([p[key].flatten() for key in expected]) for p in (direction, expected))) < 1e-9
    assert distance(look_ahead_gradient(objective, batch, held_out, optimizer, u_BK).values, expected_BK) < 1e-6


def test_weights_of_examples_and_modules_at_once():
    torch.manual_seed(0)
    objective = objective_of(mlp())
    batch, held_out, u_BK = batch_of(3), batch_of(4, seed=7), weights_of(3, 3)
    optimizer = warmed(SGD(objective.model.parameters(), lr=0.3, momentum=0.9), objective, batch, 2)
    module_of = {"0.weight": 0, "0.bias": 0, "2.weight": 1}
    a = ModuleWeights(torch.tensor([[1.0, 1.0], [0.3, 2.0], [0.0, 0.7]], dtype=torch.float64), module_of)

    def held_out_loss(weights_BK, values_KM):
        weighed = dataclasses.replace(a, values_KM=values_KM)
        return really_stepped(objective, batch, optimizer, weights_BK, weighed)(held_out)[:, 0].mean().detach()

    p = look_ahead_direction(objective, batch, held_out, optimizer, u_BK, a)
    by_u_BK = by_difference(lambda u: held_out_loss(u, a.values_KM), u_BK)
    by_a_KM = by_difference(lambda values: held_out_loss(u_BK, values), a.values_KM)
    assert distance(masked_derivatives(objective, batch, p, a) / -3, by_u_BK) < 1e-6
    assert distance(-module_derivatives(objective, batch, p, module_of, u_BK), by_a_KM) < 1e-6


@pytest.mark.parametrize("examples", [3, 40])  # through the kernel, and through the layer's gradient
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["SGD", "momentum", "Nesterov", "SGD, ascending", "Adam", "AdamW"])
def test_last_layer_equals_a_step_that_moves_that_layer_alone(name, bias, examples):
    torch.manual_seed(0)
    kind, options = OPTIMIZERS[name]
    model = nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, CLASSES, bias=bias))
    objective = Objective(model.double(), [CrossEntropy(), Distillation("teacher", temperature=3), Spread()])
    batch, held_out, u_BK = batch_of(examples), batch_of(examples + 1, seed=7), weights_of(examples, 3)
    optimizer = warmed(kind(model[2].parameters(), **options), objective, batch, 2)
    found = look_ahead_gradient(objective, batch, held_out, optimizer, u_BK, strategy="last_layer")
    expected = look_ahead_gradient(objective, batch, held_out, optimizer, u_BK, strategy="double_backward")
    assert ("kernel" in found.why) == (examples == 3 and kind is SGD)
    assert distance(found.values, expected.values) < 1e-9


def test_last_layer_asks_the_model_once_for_any_number_of_weights():
    torch.manual_seed(0)
    objective = objective_of(mlp())
    batch, held_out = batch_of(), batch_of(4, seed=7)
    optimizer = SGD(objective.model.parameters(), lr=0.1)
    look_ahead_gradient(objective, batch, held_out, optimizer, strategy="last_layer")
    calls = []
    objective.model.register_forward_hook(lambda *_: calls.append(1))
    look_ahead = LastLayerLookAhead(objective, batch, held_out, optimizer)
    for seed in range(3):
        u_BK = weights_of(EXAMPLES, 3, seed)
        expected = look_ahead_gradient(objective, batch, held_out, SGD(objective.model[2].parameters(), lr=0.1), u_BK)
        assert distance(look_ahead.gradient(u_BK).values, expected.values) < 1e-9
    calls.clear()
    LastLayerLookAhead(objective, batch, held_out, optimizer).gradient(u_BK)
    assert len(calls) == 2


@pytest.mark.parametrize("strategy", ["last_layer", "auto"])
def test_examples_that_are_not_finite_count_nowhere(strategy):
    torch.manual_seed(0)
    objective = objective_of(mlp())
    batch, held_out, u_BK = batch_of(), batch_of(4, seed=7), weights_of(EXAMPLES, 3)
    optimizer = SGD(objective.model.parameters(), lr=0.1)
    good = torch.tensor([0, 1, 3, 4])
    clean = {key: value[good] for key, value in batch.items()}
    clean_held_out = {key: value[1:] for key, value in held_out.items()}
    expected = look_ahead_gradient(objective, clean, clean_held_out, optimizer, u_BK[good], strategy=strategy)
    batch["input"][2, 3] = torch.inf
    held_out["input"][0, 0] = torch.nan
    found = look_ahead_gradient(objective, batch, held_out, optimizer, u_BK, strategy=strategy)
    assert found.skipped == 1
    assert distance(found.values[good], expected.values) < 1e-12
    assert (found.values[2] == 0).all()


def test_the_permuted_batch_has_the_permuted_derivative():
    torch.manual_seed(0)
    objective = objective_of(mlp())
    batch, held_out, u_BK = batch_of(), batch_of(4, seed=7), weights_of(EXAMPLES, 3)
    optimizer = AdamW(objective.model.parameters())
    order = torch.tensor([3, 1, 4, 0, 2])
    for strategy in ("last_layer", "auto"):
        first = look_ahead_gradient(objective, batch, held_out, optimizer, u_BK, strategy=strategy)
        permuted = {key: value[order] for key, value in batch.items()}
        second = look_ahead_gradient(objective, permuted, held_out, optimizer, u_BK[order], strategy=strategy)
        assert distance(second.values, first.values[order]) < 1e-9


def test_logits_of_ten_thousand_stay_finite():
    torch.manual_seed(0)
    objective = objective_of(mlp())
    with torch.no_grad():
        objective.model[2].weight *= 1e5
    optimizer = SGD(objective.model.parameters(), lr=0.1)
    for strategy in ("last_layer", "auto"):
        found = look_ahead_gradient(objective, batch_of(), batch_of(4, seed=7), optimizer, strategy=strategy)
        assert torch.isfinite(found.values).all()
        assert found.skipped == 0


class Wrapper(torch.optim.Optimizer):
    """As Accelerate's and Lightning's: an optimiser that holds another."""

    def __init__(self, optimizer):
        self.optimizer = optimizer


def test_wrappers_are_looked_through_and_other_optimizers_refused_by_name():
    objective = objective_of(mlp())
    optimizer = SGD(objective.model.parameters(), lr=0.1)
    bare = landed(objective, batch_of(), optimizer)
    wrapped = landed(objective, batch_of(), Wrapper(optimizer))
    assert all(torch.equal(bare[name], wrapped[name]) for name in bare)
    with pytest.raises(ValueError, match=r"the step of RMSprop can not be looked ahead; use torch\.optim's SGD, Adam"):
        landed(objective, batch_of(), torch.optim.RMSprop(objective.model.parameters()))
    with pytest.raises(ValueError, match=r"does not hold \['2.bias', '2.weight'\] of the last linear layer"):
        LastLayerLookAhead(objective, batch_of(), batch_of(), SGD(objective.model[0].parameters(), lr=0.1))
    with pytest.raises(ValueError, match=r"weights are \(2, 3\) for losses of \(5, 3\)"):
        look_ahead_gradient(objective, batch_of(), batch_of(), optimizer, torch.ones(2, 3))

import copy
import gc
import weakref

import pytest
import torch
from hostile_models import (
    CLASSES,
    EXAMPLES,
    WIDTH,
    ZOO,
    Attention,
    Checkpointed,
    Convolutional,
    Custom,
    Detached,
    Toward,
    batch_of,
    by_example,
    direction_of,
    distance,
    mlp,
    objective_of,
    weights_of,
)
from torch import nn

from tutelage.hypergradient import directional_derivatives, module_derivatives
from tutelage.hypergradient.derivatives import _choices
from tutelage.signals import CrossEntropy, Distillation, Objective

STRATEGIES = {"forward_mode": 1e-6, "double_backward": 1e-6, "finite_difference": 1e-4, "auto": 1e-6}


def objective_named(name: str, training: bool = True) -> Objective:
    torch.manual_seed(0)
    objective = objective_of(ZOO[name]())
    objective.model.train(training)
    for module in objective.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
    return objective


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ZOO)
def test_every_strategy_equals_the_gradient_of_each_example_and_leaves_no_trace(name, training):
    objective = objective_named(name, training)
    batch, direction = batch_of(), direction_of(objective.model)
    expected = by_example(objective, batch, direction)
    parameters = [id(p) for p in objective.parameters()]
    before, random = copy.deepcopy(objective.state_dict()), torch.get_rng_state()
    for strategy, tolerance in STRATEGIES.items():
        found = directional_derivatives(objective, batch, direction, strategy)
        assert distance(found.values, expected) < tolerance, (strategy, found.why)
        assert found.skipped == 0
    assert objective.model.training == training
    assert torch.equal(torch.get_rng_state(), random)
    after = objective.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert [id(p) for p in objective.parameters()] == parameters
    assert all(p.grad is None for p in objective.parameters())


@pytest.mark.parametrize("name", ["plain", "heads", "convolutional", "checkpointed", "compiled", "unused"])
def test_last_layer_is_exact_within_that_layer(name):
    objective = objective_named(name)
    batch, direction = batch_of(), direction_of(objective.model)
    last = dict(list(direction.items())[-4:-2] if name == "heads" else list(direction.items())[-2:])
    expected = by_example(objective, batch, last)
    for strategy in ("last_layer", "auto"):
        found = directional_derivatives(objective, batch, last, strategy)
        assert found.strategy == "last_layer"
        assert distance(found.values, expected) < 1e-6
    assert torch.equal(directional_derivatives(objective, batch, direction, "last_layer").values, found.values)


class Scored(nn.Module):
    """Ends in a view of a linear layer's output, for one yes-or-no question."""

    def __init__(self):
        super().__init__()
        self.score = nn.Linear(WIDTH, 1, bias=False)

    def forward(self, x):
        return self.score(x).squeeze(1)


class Squared(CrossEntropy):
    def forward(self, outputs, batch):
        return (outputs - batch["label"]).square()


def test_last_layer_may_be_returned_as_a_view():
    objective = Objective(Scored().double(), [Squared()])
    direction = direction_of(objective.model)
    expected = by_example(objective, batch_of(), direction)
    assert distance(directional_derivatives(objective, batch_of(), direction, "last_layer").values, expected) < 1e-12


def test_last_layer_may_be_the_whole_model():
    objective = Objective(nn.Linear(WIDTH, CLASSES).double(), [CrossEntropy()])
    direction = direction_of(objective.model)
    expected = by_example(objective, batch_of(), direction)
    assert distance(directional_derivatives(objective, batch_of(), direction, "last_layer").values, expected) < 1e-12


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.Linear(WIDTH, CLASSES), nn.LogSoftmax(1)), "no torch.nn.Linear's output is what Sequential"),
        (nn.Sequential(*[nn.Linear(WIDTH, WIDTH)] * 2), "'0' is used more than once"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, CLASSES)), "computed from other parameters"),
    ],
)
def test_last_layer_says_why_it_is_not_applicable(model, reason):
    objective = Objective(model.double(), [CrossEntropy()])
    with pytest.raises(ValueError, match=reason):
        directional_derivatives(objective, batch_of(), direction_of(model), "last_layer")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_direction_of_some_parameters_or_of_none(strategy):
    objective = objective_named("convolutional")
    direction = direction_of(objective.model)
    own = {name: p for name, p in direction.items() if name[0] in "12" and not name.endswith("bias")}
    whole = directional_derivatives(objective, batch_of(), direction, strategy).values
    found = directional_derivatives(objective, batch_of(), own, strategy).values
    assert torch.allclose(found, by_example(objective, batch_of(), own), rtol=1e-4, atol=1e-6 * float(whole.norm()))
    nowhere = directional_derivatives(objective, batch_of(), {}, strategy).values
    assert torch.equal(nowhere, torch.zeros(EXAMPLES, 3).double())


def test_module_derivatives_are_the_weighted_sum_over_examples():
    objective = objective_named("shared")
    batch, direction, u_BK = batch_of(), direction_of(objective.model), weights_of(EXAMPLES, 3)
    partition = {name: int(name.startswith("head")) for name in direction if name != "head.bias"}
    parts = ({n: p for n, p in direction.items() if partition.get(n) == module} for module in (0, 1))
    expected = torch.stack([(by_example(objective, batch, own) * u_BK).mean(0) for own in parts], 1)
    assert distance(module_derivatives(objective, batch, direction, partition, u_BK), expected) < 1e-12


def test_auto_keeps_forward_mode_for_fused_attention_in_eval_mode():
    objective = objective_of(Attention()).eval()
    assert directional_derivatives(objective, batch_of(), direction_of(objective.model)).strategy == "forward_mode"


def weight_normalised():
    model = mlp()
    nn.utils.parametrizations.weight_norm(model[0])
    return model


@pytest.mark.parametrize("model", [Custom, weight_normalised])
def test_auto_takes_the_finite_difference_where_an_operator_has_no_forward_mode(model):
    objective = objective_of(model())
    batch, direction = batch_of(), direction_of(objective.model)
    found = directional_derivatives(objective, batch, direction)
    assert found.strategy == "finite_difference"
    assert "forward_mode failed" in found.why
    assert distance(found.values, by_example(objective, batch, direction)) < 1e-4
    with pytest.raises(RuntimeError, match=r"jvp|forward AD"):
        directional_derivatives(objective, batch, direction, "forward_mode")


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_reentrant_checkpoints_leave_the_finite_difference_and_torch_says_what_to_do():
    objective = objective_of(Checkpointed(reentrant=True))
    batch, direction = batch_of(), direction_of(objective.model)
    found = directional_derivatives(objective, batch, direction, "finite_difference")
    objective.model.reentrant = False
    assert distance(found.values, by_example(objective, batch, direction)) < 1e-4
    objective.model.reentrant = True
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        directional_derivatives(objective, batch, direction)


def test_auto_follows_the_backward_pass_through_detached_parts():
    objective = objective_of(Detached())
    batch, direction = batch_of(), direction_of(objective.model)
    exact = by_example(objective, batch, direction)
    for strategy in ("forward_mode", "double_backward", "auto"):
        assert distance(directional_derivatives(objective, batch, direction, strategy).values, exact) < 1e-12
    assert distance(directional_derivatives(objective, batch, direction, "finite_difference").values, exact) > 0.01


def test_auto_tries_each_objective_once_and_forgets_it_with_it():
    objective = objective_named("plain")
    batch, direction = batch_of(), direction_of(objective.model)
    first = directional_derivatives(objective, batch, direction)
    calls = []
    objective.model.register_forward_hook(lambda *_: calls.append(1))
    assert directional_derivatives(objective, batch, direction).why == first.why
    assert len(calls) == 1
    gone = weakref.ref(objective)
    assert gone() in _choices
    del objective
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("strategy", [*STRATEGIES, "last_layer"])
@pytest.mark.parametrize(("key", "value"), [("input", torch.nan), ("goal", torch.inf)])
def test_an_example_that_is_not_finite_is_left_out_and_poisons_no_other(strategy, key, value):
    torch.manual_seed(0)
    objective = Objective(Convolutional().double(), [CrossEntropy(), Toward()])
    objective.model[4].p = 0.0  # without an example, its mask would be another's
    batch = batch_of()
    batch["goal"] = torch.zeros(EXAMPLES, CLASSES).double()
    batch[key][2, 0] = value
    direction = direction_of(objective.model)
    if strategy == "last_layer":
        direction = dict(list(direction.items())[-2:])
    good = torch.tensor([0, 1, 3, 4])
    expected = by_example(objective, {name: entry[good] for name, entry in batch.items()}, direction)
    found = directional_derivatives(objective, batch, direction, strategy)
    assert found.skipped == 1
    assert distance(found.values[good], expected) < 1e-4
    assert (found.values[2] == 0).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_batch_of_one_and_directions_that_are_empty_or_frozen(strategy):
    objective = objective_named("frozen")
    objective.signals = objective.signals[:2]
    batch = batch_of(1)
    assert (directional_derivatives(objective, batch, {}, strategy).values == 0).all()
    direction = {"0.weight": torch.ones(WIDTH, WIDTH, dtype=torch.float64)}
    thawed = copy.deepcopy(objective).requires_grad_(True)
    expected = by_example(thawed, batch, direction)
    assert distance(directional_derivatives(objective, batch, direction, strategy).values, expected) < 1e-4


def test_half_precision_is_probed_in_float32():
    torch.manual_seed(0)
    objective = objective_of(Convolutional())
    batch, direction = batch_of(), direction_of(objective.model)
    objective.model.to(torch.bfloat16)
    rounded = copy.deepcopy(objective)
    rounded.model.double()  # the same rounded parameters, computed with exactly
    batch["input"] = batch["input"].to(torch.bfloat16)
    exact = {**batch, "input": batch["input"].double()}
    expected = by_example(rounded, exact, direction)
    with torch.autocast("cpu", torch.bfloat16):
        for strategy in ("forward_mode", "double_backward", "finite_difference"):
            found = directional_derivatives(objective, batch, direction, strategy)
            assert found.values.dtype == torch.float32
            assert distance(found.values.double(), expected) < (1e-2 if strategy == "finite_difference" else 1e-4)
    assert objective.model[1].weight.dtype == torch.bfloat16


@pytest.mark.parametrize("setting", ["highest", "high", "medium"])
def test_a_difference_multiplies_in_full_precision_and_gives_the_setting_back(setting):
    before = torch.get_float32_matmul_precision()
    objective = Objective(mlp(), [CrossEntropy(), Distillation("teacher")])
    seen = []
    objective.model.register_forward_hook(lambda *_: seen.append(torch.backends.cuda.matmul.fp32_precision))
    batch = {key: value.float() if value.is_floating_point() else value for key, value in batch_of().items()}
    torch.set_float32_matmul_precision(setting)
    try:
        kept = torch.backends.cuda.matmul.fp32_precision
        directional_derivatives(objective, batch, direction_of(objective.model), "finite_difference")
        assert seen == ["ieee", "ieee"]
        assert torch.get_float32_matmul_precision() == setting
        assert torch.backends.cuda.matmul.fp32_precision == kept
    finally:
        torch.set_float32_matmul_precision(before)


def test_what_does_not_fit_is_named():
    objective = Objective(mlp().double(), [CrossEntropy()])
    with pytest.raises(ValueError, match=r"names '0\.weigth'.*did you mean '0\.weight'"):
        directional_derivatives(objective, batch_of(), {"0.weigth": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"\(1,\) for '0\.weight', whose shape is \(6, 6\)"):
        directional_derivatives(objective, batch_of(), {"0.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="strategy='forwards' is not one of auto, last_layer"):
        directional_derivatives(objective, batch_of(), {}, "forwards")
    with pytest.raises(ValueError, match="Tanh has no parameters"):
        directional_derivatives(Objective(nn.Tanh(), [CrossEntropy()]), batch_of(), {})

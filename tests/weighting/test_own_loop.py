"""What a user's own loop asks of `backward`: scaled gradients, accumulation, signals with parameters, no waiting."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from weighting_zoo import (
    LEARNED,
    METHODS,
    TOGETHER,
    Loop,
    assert_close,
    assert_same,
    build,
    examples,
    network,
    objective_of,
    rows,
)

from tutelage.signals import CrossEntropy, Distillation, Objective, Signal
from tutelage.weighting import AMAL, MAOAL, Equal, GradientCosine, Joint, SuperLoss, amal

pytestmark = pytest.mark.filterwarnings("ignore::tutelage.hypergradient.NeumannWarning")
every_method = pytest.mark.parametrize("name", METHODS)


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def adapted(name: str) -> Loop:
    """A weighting that has learned something, without gradients."""
    loop = Loop(name).run(range(3))
    if loop.weighting.adapts_first:
        loop.weighting.adapt(loop.objective, rows(examples(), range(8)), examples(6, seed=9), loop.optimizer)
    loop.optimizer.zero_grad()
    loop.weighting.zero_grad()
    return loop


@every_method
@pytest.mark.parametrize("scale", [0.25, torch.tensor(65536.0)], ids=["a share", "a GradScaler's"])
def test_a_scale_multiplies_the_gradient_and_is_not_seen_by_the_weights(name, scale):
    batch, found = rows(examples(), range(8)), []
    for each in (1.0, scale):
        loop = adapted(name)
        loop.weighting.backward(loop.objective(batch), batch, loop.model, each)
        found.append(gradients_of(loop.model) | {f"own {n}": g for n, g in gradients_of(loop.weighting).items()})
    assert_close(found[1], {name: float(scale) * gradient for name, gradient in found[0].items()})


@pytest.mark.parametrize("name", [name for name in METHODS if not build(name, network()).adapts_first])
def test_four_accumulated_batches_are_one_unless_the_weights_depend_on_the_batch(name):
    whole, found = rows(examples(), range(24)), []
    for size in (24, 6):
        loop = adapted(name)
        for start in range(0, 24, size):
            batch = rows(whole, range(start, start + size))
            loop.weighting.backward(loop.objective(batch), batch, loop.model, scale=size / 24)
        found.append(gradients_of(loop.model) | {f"own {n}": g for n, g in gradients_of(loop.weighting).items()})
    if name in TOGETHER:
        with pytest.raises(AssertionError, match="not close"):
            assert_close(found[1], found[0])
        return
    try:
        assert_close(found[1], found[0])
    except AssertionError as error:
        error.add_note(
            f"where the weights depend on the batch as a whole, add {name!r} to TOGETHER in weighting_zoo.py"
        )
        raise


def test_scaled_losses_would_have_changed_the_weights():
    """What ``scale`` is for: a weight that is a function of the loss sees another loss."""
    batch, found = rows(examples(), range(8)), []
    for by_hand in (False, True):
        model = network()
        losses = objective_of(model)(batch)
        SuperLoss(1.0).backward(losses / 4 if by_hand else losses, batch, model, scale=1.0 if by_hand else 0.25)
        found.append(torch.cat([g.flatten() for g in gradients_of(model).values()]))
    assert (found[0] - found[1]).norm() > 0.5 * found[0].norm()


def test_the_loop_of_a_gradient_scaler():
    batch, models = rows(examples(dtype=torch.float32), range(8)), []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        model = network(torch.float32)
        optimizer, objective = torch.optim.SGD(model.parameters(), lr=0.1), objective_of(model)
        for _ in range(2):
            if scaler is None:
                SuperLoss(1.0).backward(objective(batch), batch, model)
                optimizer.step()
            else:
                SuperLoss(1.0).backward(objective(batch), batch, model, scale=scaler.scale(torch.ones(())))
                scaler.step(optimizer)
                scaler.update()
            optimizer.zero_grad()
        models.append(dict(model.named_parameters()))
    assert_close(models[1], models[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_cannot_be_meant_is_refused(scale):
    batch, model = rows(examples(), range(8)), network()
    with pytest.raises(ValueError, match=f"scale={scale} must be a positive number"):
        Equal().backward(objective_of(model)(batch), batch, model, scale)


class Tempered(Signal):
    """A loss with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__("tempered")
        self.log_temperature = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(outputs * self.log_temperature.exp(), batch["label"], reduction="none")


@every_method
def test_a_signal_s_own_parameters_follow_their_losses(name):
    model = network()
    weighting, signal = build(name, model), Tempered()
    objective, batch = Objective(model, [CrossEntropy(), signal]), rows(examples(), range(8))
    optimizer = torch.optim.SGD([*model.parameters(), *signal.parameters(), *weighting.parameters()], lr=0.1)
    if weighting.adapts_first:
        weighting.adapt(objective, batch, examples(6, seed=9), optimizer)
    losses_BK = objective(batch)
    before = {key: value.clone() for key, value in weighting.state_dict().items()}
    torch.manual_seed(0)
    u_BK = weighting.example_weights(losses_BK.detach(), batch)
    if u_BK is None:  # which may still weigh the signals as wholes
        u_BK = weighting.last_weights(losses_BK.detach(), batch)
    expected = torch.autograd.grad((u_BK * losses_BK)[:, 1].mean(), signal.log_temperature, retain_graph=True)[0]
    weighting.load_state_dict(before)  # what follows the losses has moved on
    torch.manual_seed(0)
    weighting.backward(losses_BK, batch, model)
    found = signal.log_temperature.grad
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_a_signal_s_own_parameters_do_not_turn_a_gate():
    """They are in no module: the cosine is the model's alone."""
    batch, found = rows(examples(), range(8)), []
    for signals in ([CrossEntropy(), Tempered()], [CrossEntropy(), CrossEntropy(name="again")]):
        model = network()
        GradientCosine(model).backward(Objective(model, signals)(batch), batch, model)
        found.append(gradients_of(model))
    assert_close(found[0], found[1])


class Waits(TorchDispatchMode):
    """Counts where Python asks for a tensor's value, for which an accelerator would be waited."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["Equal", "Fixed", "AMAL", "SuperLoss", "SuperLoss, running", "MetaWeightNet"])
def test_a_training_step_waits_for_nothing(name):
    """Indices that lie on the CPU, as here, are looked at; on an accelerator the next `adapt` does so."""
    model = network()
    weighting, batch = build(name, model), rows(examples(), range(8))
    losses = objective_of(model)(batch)
    losses = torch.where(torch.arange(8)[:, None] == 3, torch.nan, losses)
    with Waits() as waited:
        weighting.backward(losses, batch, model)
    assert waited.count == 0
    assert int(weighting.skipped) == 1


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of the compiler's own
def test_a_compiled_objective_two_optimizers_and_autocast_teach_the_same(name):
    batch, held_out, found = rows(examples(dtype=torch.float32), range(8)), examples(6, seed=9, dtype=torch.float32), []
    for plain in (True, False):
        loop = Loop(name, network(torch.float32))
        objective, optimizer = loop.objective, loop.optimizer
        if not plain:
            objective = torch.compile(objective, backend="eager")
            halves = [loop.model.body, loop.model.head]
            optimizer = [torch.optim.SGD(half.parameters(), lr=0.2, momentum=0.9) for half in halves]
        with torch.autocast("cpu", torch.bfloat16, enabled=not plain):
            loop.weighting.adapt(objective, batch, held_out, optimizer)
        if not plain:
            assert objective.model is loop.model
            assert objective._orig_mod is loop.objective
        found.append(loop.weighting.state_dict())
        loop.weighting.backward(loop.objective(batch), batch, loop.model)
        found[-1] |= gradients_of(loop.model)
    assert_same(found[1], found[0])


@pytest.mark.parametrize("make", [lambda m: MAOAL(m, 2), lambda m: Joint(m, 8, 2), GradientCosine])
def test_several_passes_go_through_a_graph_that_was_compiled_ahead_of_time(make):
    """The backward pass of such a graph reuses the memory of its buffers, unless it is told that there are several."""
    batch, models = rows(examples(dtype=torch.float32), range(8)), [network(torch.float32), network(torch.float32)]
    for compiled, model in zip((True, False), models, strict=True):
        called = torch.compile(model, backend="aot_eager") if compiled else model
        objective = objective_of(called)
        warm = objective(batch)  # before there is a weighting
        assert warm.requires_grad
        weighting = make(called)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        for _ in range(2):
            weighting.backward(objective(batch), batch, called)
            optimizer.step()
            optimizer.zero_grad()
            weighting.adapt(objective, batch, examples(6, seed=9, dtype=torch.float32), optimizer)
    for one, two in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("name", LEARNED)
def test_another_model_s_optimizer_and_an_empty_held_out_batch_are_refused(name):
    loop, batch = Loop(name), rows(examples(), range(8))
    before = {key: value.clone() for key, value in loop.weighting.state_dict().items()}
    refusal = ""
    try:
        loop.weighting.adapt(loop.objective, batch, examples(6), torch.optim.SGD(network().parameters(), lr=0.2))
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert "the optimizer holds no parameter of the Network" in refusal
    else:  # a weighting that takes another model's optimizer asks no optimizer anything
        found = copy.deepcopy(loop.weighting.state_dict())
        loop.weighting.load_state_dict(before)
        loop.weighting.adapt(loop.objective, batch, examples(6), loop.optimizer)
        assert_same(loop.weighting.state_dict(), found)
        loop.weighting.load_state_dict(before)
    with pytest.raises(ValueError, match="the held-out batch is empty"):
        loop.weighting.adapt(loop.objective, batch, rows(examples(), []), loop.optimizer)
    assert_same(loop.weighting.state_dict(), before)


def test_amal_s_step_is_as_long_as_its_rate_and_shorter_for_derivatives_that_have_become_tiny():
    def moved(gradient: Tensor, eta: float = 0.1) -> float:
        before = weighting.weights
        weighting.update(torch.arange(2), gradient, eta)
        return float((weighting.weights - before).square().mean().sqrt())

    g = torch.tensor([[1.0, -1.0], [0.5, -0.5]])
    weighting = AMAL(2, 2, lr=1e-3)
    for size, eta, share in (
        (1.0, 0.1, 1.0),
        (0.02, 0.1, 1.0),  # smaller, and not yet a hundredth of the largest
        (1e-4, 0.1, 1e-2),  # a hundredth of that again
        (1e-4, 1e-5, 1.0),  # not when the learning rate has fallen as far
        (1e6, 0.1, 1.0),  # one that nothing before foretold
        (1.0, 0.1, 1.0),  # is not taken for the measure of the others
        (1e-30, 1e-31, 1.0),
    ):
        assert moved(size * g, eta) == pytest.approx(share * 1e-3, rel=1e-2), (size, eta)


def test_the_weights_of_a_solved_task_stay_where_they_are(monkeypatch):
    """Well separated classes, learned after few steps: without the floor, noise carries nearly half of the weights to a bound.

    Means of two seeds: one alone depends on the processor's rounding.
    """

    def share_on_a_bound_and_movement(seed: int) -> tuple[float, float]:
        g = torch.Generator().manual_seed(seed)
        centres, label = 3 * torch.randn(5, 20, generator=g), torch.randint(5, (280,), generator=g)
        input = centres[label] + torch.randn(280, 20, generator=g)
        torch.manual_seed(seed)
        model, teacher = (nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 5)) for _ in range(2))
        taught = torch.optim.Adam(teacher.parameters(), lr=1e-2)
        for _ in range(100):
            nn.functional.cross_entropy(teacher(input[:200]), label[:200]).backward()
            taught.step()
            taught.zero_grad()
        objective = Objective(model, [CrossEntropy(), Distillation(teacher, temperature=4)])
        weighting = AMAL(200, 2, strategy="last_layer")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for step in range(300):
            if step == 150:
                before = weighting.weights
            index, held_out = torch.randint(200, (50,)), torch.randint(200, 280, (50,))
            batch = {"index": index, "input": input[index], "label": label[index]}
            weighting.backward(objective(batch), batch, model)
            optimizer.step()
            optimizer.zero_grad()
            if step % 2:
                judges = {"index": held_out, "input": input[held_out], "label": label[held_out]}
                weighting.adapt(objective, batch, judges, optimizer)
        weights = weighting.weights
        on_a_bound = ((weights < 1e-6) | (weights > 2 - 1e-6)).double().mean()
        return float(on_a_bound), float((weights - before).abs().mean())

    with_floor = torch.tensor([share_on_a_bound_and_movement(seed) for seed in (0, 3)]).mean(0)
    monkeypatch.setattr(amal, "FLOOR", 0.0)
    without = torch.tensor([share_on_a_bound_and_movement(seed) for seed in (0, 3)]).mean(0)
    assert with_floor[0] < 0.15 < 0.3 < without[0]
    assert with_floor[1] < 0.1 < 0.4 < without[1]

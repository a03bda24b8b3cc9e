"""What each learned weighting descends on, against double backward through the whole of what it stands for."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from weighting_zoo import QUICK, K, Loop, N, examples, network, objective_of, rows

from tutelage.signals import Objective, Scaled, SquaredError
from tutelage.weighting import (
    AMAL,
    CRUST,
    MAOAL,
    AuxiLearn,
    Equal,
    GradientCosine,
    Joint,
    LearningToReweight,
    MetaWeightNet,
    Uncertainty,
)

BATCH, HELD_OUT = rows(examples(), range(8)), examples(6, seed=9)
RATE = 0.05


class Reference:
    """Losses and weighted gradients as functions of one vector of parameters, with a graph through all."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.named = dict(objective.model.named_parameters())
        self.theta = torch.cat([p.detach().flatten() for p in self.named.values()]).requires_grad_()

    def losses(self, theta: Tensor, batch: dict[str, Tensor]) -> Tensor:
        pieces = theta.split([p.numel() for p in self.named.values()])
        named = {n: piece.view_as(p) for (n, p), piece in zip(self.named.items(), pieces, strict=True)}
        return self.objective(batch, named)

    def held_out(self, theta: Tensor) -> Tensor:
        return self.losses(theta, HELD_OUT)[:, 0].mean()

    def spread(self, a_KM: Tensor, module_of: dict[str, int]) -> Tensor:
        """Return module weights for each parameter, (K, P)."""
        pieces = [a_KM[:, module_of[n]] if n in module_of else torch.ones_like(a_KM[:, 0]) for n in self.named]
        return torch.cat(
            [a[:, None].expand(-1, p.numel()) for a, p in zip(pieces, self.named.values(), strict=True)], 1
        )

    def field(self, theta: Tensor, u_BK: Tensor, a_KP: Tensor | float = 1.0) -> Tensor:
        """Return G, by which plain training moves."""
        totals_K = (u_BK * self.losses(theta, BATCH)).mean(0)
        by_signal = [torch.autograd.grad(total, theta, create_graph=True)[0] for total in totals_K]
        return (a_KP * torch.stack(by_signal)).sum(0)

    def neumann(self, field, eta: float, neumann_steps: int) -> Tensor:
        """Return p, with the whole Jacobian at hand."""
        J = torch.autograd.functional.jacobian(field, self.theta)
        shrink = (torch.eye(len(J)) - eta * J).T
        v = torch.autograd.grad(self.held_out(self.theta), self.theta)[0]
        p = v.clone()
        for _ in range(neumann_steps):
            v = shrink @ v
            p += v
        return eta * p


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm())


def made(weighting_of, model=None):
    model = network() if model is None else model
    return weighting_of(model).double(), Reference(objective_of(model)), model


def sgd(theta: Tensor, gradient: Tensor) -> Tensor:
    return theta - RATE * gradient


STEPS = {
    "SGD": (lambda p: torch.optim.SGD(p, lr=RATE), sgd),
    "Nesterov": (
        lambda p: torch.optim.SGD(p, lr=RATE, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda theta, g: theta - RATE * 1.9 * (g + 0.1 * theta),  # the first step: the momentum is the gradient
    ),
    "Adam": (
        lambda p: torch.optim.Adam(p, lr=RATE, eps=1e-2),
        lambda theta, g: theta - RATE * g / (g.abs() + 1e-2),  # the first step: m/c1 = g, v/c2 = g^2
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_amal(name):
    make, step = STEPS[name]
    weighting, reference, model = made(lambda m: AMAL(N, K, init=(0.4, 0.9)))
    u_BK = weighting.weights[:8].requires_grad_()
    after = step(reference.theta, reference.field(reference.theta, u_BK))
    expected = torch.autograd.grad(reference.held_out(after), u_BK)[0]
    for strategy in ("auto", "forward_mode", "double_backward"):
        weighting.strategy.asked = strategy
        found = weighting.hypergradient(reference.objective, BATCH, HELD_OUT, make(model.parameters()))
        assert relative(found, expected) < 1e-6


def test_amal_by_the_last_layer_looks_at_it_alone():
    """The rest of the network being frozen, the last layer is the network."""
    model = network()
    model.body.requires_grad_(False)
    full, reference, _ = made(lambda m: AMAL(N, K, init=(0.4, 0.9)), model)
    last = AMAL(N, K, init=(0.4, 0.9), strategy="last_layer").double()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=RATE)
    both = [each.hypergradient(reference.objective, BATCH, HELD_OUT, optimizer) for each in (full, last)]
    assert relative(both[1], both[0]) < 1e-9


def test_an_update_of_amal_is_the_one_that_is_printed():
    weighting, reference, model = made(lambda m: AMAL(N, K))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    gradient = weighting.hypergradient(reference.objective, BATCH, HELD_OUT, optimizer)
    literal, normalised = AMAL(N, K, lr=20, normalise=False).double(), AMAL(N, K, lr=0.1).double()
    for each in (literal, normalised):
        each.adapt(reference.objective, BATCH, HELD_OUT, optimizer)
        assert (each.weights[8:] == 1).all()
    torch.testing.assert_close(literal.weights[:8], (1 - 20 * gradient).clamp(1e-7, 2 - 1e-7))
    moved = normalised.weights[:8] - 1
    torch.testing.assert_close(moved, -0.1 * gradient / gradient.square().mean().sqrt())
    torch.testing.assert_close(moved.square().mean().sqrt(), torch.tensor(0.1, dtype=torch.float64))


def test_learning_to_reweight():
    weighting, reference, model = made(lambda m: LearningToReweight())
    epsilon_B = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    after = sgd(reference.theta, reference.field(reference.theta, epsilon_B[:, None]))
    expected = torch.autograd.grad(reference.held_out(after), epsilon_B)[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    found = weighting.hypergradient(reference.objective, BATCH, HELD_OUT, optimizer)
    assert relative(found, expected) < 1e-6

    weighting.adapt(reference.objective, BATCH, HELD_OUT, optimizer)
    weighting.backward(reference.objective(BATCH), BATCH, model)
    w_B = (-expected).clamp(min=0) / (-expected).clamp(min=0).sum()
    found = torch.cat([p.grad.flatten() for p in model.parameters()])
    loss = (w_B[:, None] * reference.losses(reference.theta, BATCH)).sum()
    assert relative(found, torch.autograd.grad(loss, reference.theta)[0]) < 1e-12


def test_meta_weight_net():
    weighting, reference, model = made(lambda m: MetaWeightNet(K, hidden=7))
    phi = {name: p.detach().clone().requires_grad_() for name, p in weighting.network.named_parameters()}
    u_BK = functional_call(weighting.network, phi, (reference.losses(reference.theta, BATCH).detach(),))
    after = sgd(reference.theta, reference.field(reference.theta, u_BK))
    expected = torch.autograd.grad(reference.held_out(after), list(phi.values()))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    found = weighting.hypergradient(reference.objective, BATCH, HELD_OUT, optimizer)
    for name, value in zip(phi, expected, strict=True):
        assert relative(found[name], value) < 1e-6


def shallow() -> nn.Module:
    """A convex problem in two modules, on which the series contracts."""

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(2, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.left(x[:, :2]) + self.right(x[:, 2:])

    return network(kind=Sum)


@pytest.mark.parametrize("neumann_steps", [0, 1, 3])
@pytest.mark.parametrize("level", ["block", "parameter", "model"])
def test_maoal(level, neumann_steps):
    weighting, reference, model = made(lambda m: MAOAL(m, K, partition=level, neumann_steps=neumann_steps), shallow())
    weighting.free.uniform_(0.2, 2.0, generator=torch.Generator().manual_seed(0))
    alpha = weighting.importance.requires_grad_()
    ones, module_of = torch.ones(1, alpha.shape[1], dtype=torch.float64), weighting.partition.module_of

    def field(theta: Tensor) -> Tensor:
        return reference.field(theta, torch.ones(8, K), reference.spread(torch.cat([ones, alpha]), module_of))

    p = reference.neumann(field, RATE, neumann_steps)
    expected = -torch.autograd.grad(field(reference.theta) @ p, alpha)[0]
    found = weighting.hypergradient(reference.objective, BATCH, HELD_OUT, torch.optim.SGD(model.parameters(), lr=RATE))
    assert found.shape == (K - 1, len(weighting.partition))
    assert relative(found, expected) < 1e-6


@pytest.mark.parametrize("name", ["MAOAL", "Joint", "AuxiLearn"])
def test_how_hessians_are_multiplied_is_tried_once_and_remembered_with_the_weighting(name, monkeypatch):
    """What a first batch decides must not be decided anew, by another batch, after an interruption."""
    loop = Loop(name).run([0])
    state = {key: value.clone() for key, value in loop.weighting.state_dict().items()}
    assert int(state[next(key for key in state if key.endswith("neumann.chosen"))]) == 1  # double backward
    monkeypatch.setattr("tutelage.hypergradient.neumann._choose", lambda *_: pytest.fail("tried again"))
    resumed = Loop(name)
    resumed.weighting.load_state_dict(state)
    resumed.run([1])
    with pytest.raises(pytest.fail.Exception, match="tried again"):
        Loop(name).run([1])


def test_joint():
    weighting, reference, model = made(lambda m: Joint(m, N, K, init=(0.4, 0.9)), shallow())
    weighting.by_module.free.uniform_(0.2, 2.0, generator=torch.Generator().manual_seed(0))
    u_BK, alpha = weighting.weights[:8].requires_grad_(), weighting.importance.requires_grad_()
    ones, module_of = torch.ones_like(alpha[:1]), weighting.by_module.partition.module_of
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def field(theta: Tensor) -> Tensor:
        return reference.field(theta, u_BK, reference.spread(torch.cat([ones, alpha]), module_of))

    p = reference.neumann(field, RATE, neumann_steps=3)
    expected = torch.autograd.grad(-(field(reference.theta) @ p), [u_BK, alpha])
    found = weighting.hypergradient(reference.objective, BATCH, HELD_OUT, optimizer)
    assert relative(found.examples, expected[0]) < 1e-6
    assert relative(found.modules, expected[1]) < 1e-6

    weighting.by_module.neumann.neumann_steps = 0
    after = sgd(reference.theta, field(reference.theta))
    expected = torch.autograd.grad(reference.held_out(after), [u_BK, alpha])
    found = weighting.hypergradient(reference.objective, BATCH, HELD_OUT, optimizer)
    assert relative(found.examples, expected[0]) < 1e-6
    assert relative(found.modules, expected[1]) < 1e-6


def test_joint_is_amal_with_importances_of_one_and_maoal_with_weights_of_one():
    model = shallow()
    objective, optimizer = objective_of(model), torch.optim.SGD(model.parameters(), lr=RATE)
    joint, amal = Joint(model, N, K, neumann_steps=0).double(), AMAL(N, K).double()
    found = joint.hypergradient(objective, BATCH, HELD_OUT, optimizer)
    assert relative(found.examples, amal.hypergradient(objective, BATCH, HELD_OUT, optimizer)) < 1e-12
    joint, maoal = Joint(model, N, K).double(), MAOAL(model, K).double()
    found = joint.hypergradient(objective, BATCH, HELD_OUT, optimizer)
    assert relative(found.modules, maoal.hypergradient(objective, BATCH, HELD_OUT, optimizer)) < 1e-12


@pytest.mark.parametrize("neumann_steps", [0, 3])
def test_auxilearn(neumann_steps):
    weighting, reference, model = made(lambda m: AuxiLearn(K, neumann_steps=neumann_steps), shallow())
    phi = {name: p.detach().clone().requires_grad_() for name, p in weighting.network.named_parameters()}

    def field(theta: Tensor) -> Tensor:
        losses_BK = reference.losses(theta, BATCH)
        total = (losses_BK[:, 0] + functional_call(weighting.network, phi, (losses_BK,))[:, 0]).mean()
        return torch.autograd.grad(total, theta, create_graph=True)[0]

    p = reference.neumann(field, RATE, neumann_steps)
    expected = torch.autograd.grad(-(field(reference.theta) @ p), list(phi.values()), allow_unused=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    found = weighting.hypergradient(reference.objective, BATCH, HELD_OUT, optimizer)
    for name, value in zip(phi, expected, strict=True):
        if value is None:
            assert (found[name] == 0).all()
        else:
            assert relative(found[name], value) < 1e-6

    weighting.backward(reference.objective(BATCH), BATCH, model)
    assert relative(torch.cat([p.grad.flatten() for p in model.parameters()]), field(reference.theta)) < 1e-12


@pytest.mark.filterwarnings("ignore::tutelage.hypergradient.NeumannWarning")
def test_auxilearn_stays_monotone():
    loop = Loop("AuxiLearn").run(range(5))
    assert all((p >= 0).all() for n, p in loop.weighting.network.named_parameters() if n.endswith("weight"))
    assert (loop.weighting.example_weights(torch.randn(9, K).exp().double(), {}) >= torch.tensor([1, 0])).all()


@pytest.mark.parametrize("mode", ["gate", "weighted"])
@pytest.mark.parametrize("level", ["model", "parameter"])
def test_gradient_cosine(mode, level):
    model = network()
    weighting, reference = GradientCosine(model, mode=mode, partition=level), Reference(objective_of(model))
    opposed = {**BATCH, "teacher": -5.0 * nn.functional.one_hot(BATCH["label"], 3).double()}
    for batch in (BATCH, opposed):
        model.zero_grad()
        weighting.backward(reference.objective(batch), batch, model)
        totals = reference.losses(reference.theta, batch).mean(0)
        first, second = (torch.autograd.grad(total, reference.theta, retain_graph=True)[0] for total in totals)
        sizes = [p.numel() for p in model.parameters()]
        body = sum(sizes[:4])
        parts = [slice(0, body)] if level == "model" else [slice(sum(sizes[:i]), sum(sizes[: i + 1])) for i in range(4)]
        expected = first + second
        for part in parts:
            cosine = float(torch.cosine_similarity(first[part], second[part], dim=0))
            share = max(cosine, 0.0) if mode == "weighted" else float(cosine > 0)
            expected[part] = first[part] + share * second[part]
        found = torch.cat([p.grad.flatten() for p in model.parameters()])
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_uncertainty_is_the_loss_that_is_printed():
    model = network()
    weighting, objective = Uncertainty(K).double(), objective_of(model)
    weighting.backward(objective(BATCH), BATCH, model)
    twin, s_K = network(), torch.full((K,), -0.5, dtype=torch.float64, requires_grad=True)
    ((objective_of(twin)(BATCH).mean(0) / (2 * s_K.exp())) + s_K / 2).sum().backward()
    torch.testing.assert_close(weighting.log_variance_K.grad, s_K.grad)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize(("scaled", "settled"), [(False, math.log(2.0)), (True, math.log(4.0))])
def test_uncertainty_of_a_signal_that_half_of_the_examples_have(scaled, settled):
    """By hand: the loss is w^2 = 4 where it is present, its mean over all 2; with L / 2e^s + s / 2, s settles at ln L."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 2.0)
    targets = torch.tensor([0.0, torch.nan, 0.0, torch.nan], dtype=torch.float64)
    batch = {"index": torch.arange(4), "input": torch.ones(4, 1, dtype=torch.float64), "label": targets}
    signal = SquaredError()
    weighting = Uncertainty(1, init=settled).double()
    weighting.backward(Objective(model, [Scaled(signal, 2.0) if scaled else signal])(batch), batch, model)
    torch.testing.assert_close(weighting.log_variance_K.grad, torch.zeros(1, dtype=torch.float64), rtol=0, atol=1e-7)
    torch.testing.assert_close(weighting.weights, torch.tensor([0.125 if scaled else 0.25], dtype=torch.float64))
    torch.testing.assert_close(model.weight.grad, torch.full((1, 1), 4 / 8, dtype=torch.float64))  # 2w / 2w^2, in both


def test_an_importance_moves_by_the_rules_of_torch():
    """The chain rule into what is learned, for each constraint, through the state that is kept."""
    for constraint, inside in ((None, lambda x: x), ("relu", torch.relu), ("softplus", nn.functional.softplus)):
        weighting = MAOAL(shallow(), K, constraint=constraint, meta_optimizer=QUICK).double()
        free = copy.deepcopy(weighting.free).requires_grad_()
        torch.testing.assert_close(weighting.importance, torch.ones_like(free))
        optimizer = torch.optim.Adam([free], lr=QUICK.lr)
        for number in range(4):
            gradient = torch.randn(free.shape, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
            weighting.update(gradient)
            optimizer.zero_grad()
            inside(free).backward(gradient)
            optimizer.step()
            torch.testing.assert_close(weighting.importance, inside(free).detach())


def test_a_dead_learning_rate_moves_nothing():
    loop = Loop("MAOAL", shallow())
    for group in loop.optimizer.param_groups:
        group["lr"] = 0.0
    for name in ("MAOAL", "Joint", "AuxiLearn", "AMAL"):
        loop.weighting = Loop(name, loop.model).weighting
        before = copy.deepcopy(loop.weighting.state_dict())
        loop.weighting.adapt(loop.objective, BATCH, HELD_OUT, loop.optimizer)
        for key, value in loop.weighting.state_dict().items():
            assert torch.equal(value, before[key]) or "visits" in key or "chosen" in key


def test_losses_that_couple_examples_are_not_weighed_apart():
    from tutelage.signals import CrossEntropy, Signal

    class Spread(Signal):
        separable = False

        def __init__(self) -> None:
            super().__init__("spread")

        def forward(self, outputs, batch):
            return outputs.var(0).sum()

    model = network()
    objective, optimizer = Objective(model, [CrossEntropy(), Spread()]), torch.optim.SGD(model.parameters(), lr=RATE)
    for weighting in (AMAL(N, K), AMAL(N, K, strategy="last_layer"), Joint(model, N, K, neumann_steps=0)):
        weighting.double().adapt(objective, BATCH, HELD_OUT, optimizer)
        assert (weighting.weights[:, 1] == 1).all()
        assert (weighting.weights[:8, 0] != 1).all()


def test_mistakes_are_named():
    model = network()
    objective, optimizer = objective_of(model), torch.optim.SGD(model.parameters(), lr=RATE)
    with pytest.raises(ValueError, match="rows 0 to 4"):
        AMAL(5, K).adapt(objective, BATCH, HELD_OUT, optimizer)
    with pytest.raises(ValueError, match="made for 3 signals, the objective has 2"):
        AMAL(N, 3).backward(objective(BATCH), BATCH, model)
    with pytest.raises(ValueError, match="made for 3 signals, the objective has 2"):
        MAOAL(model, 3).adapt(objective, BATCH, HELD_OUT, optimizer)
    with pytest.raises(ValueError, match="made for 3 signals, the objective has 2"):
        AMAL(N, 3).adapt(objective, BATCH, HELD_OUT, optimizer)
    for weighting in (MAOAL(model, 3), AuxiLearn(3), MetaWeightNet(3)):
        with pytest.raises(ValueError, match="made for 3 signals, the objective has 2"):
            weighting.backward(objective(BATCH), BATCH, model)
    with pytest.raises(ValueError, match=r"needs batch\['index'\].*Indexed"):
        AMAL(N, K).backward(objective(BATCH), {"label": BATCH["label"]}, model)
    for index in (BATCH["index"].float(), BATCH["index"][:, None], BATCH["index"].tolist()):
        for weighting in (AMAL(N, K), CRUST(N), LearningToReweight()):
            with pytest.raises(ValueError, match=r"batch\['index'\] is .*; \w+ needs an int64 tensor"):
                weighting.backward(objective(BATCH), {**BATCH, "index": index}, model)
    with pytest.raises(ValueError, match=r"losses have no graph.*torch\.no_grad"):
        Equal().backward(objective(BATCH).detach(), BATCH, model)
    with pytest.raises(ValueError, match="call adapt on it before every backward"):
        LearningToReweight().backward(objective(BATCH), BATCH, model)
    with pytest.raises(ValueError, match="the partition is another model's"):
        MAOAL(shallow(), K).backward(objective(BATCH), BATCH, model)
    with pytest.raises(ValueError, match="within bounds"):
        AMAL(N, K, init=3.0)
    with pytest.raises(ValueError, match="one for each of num_signals=2"):
        AMAL(N, K, init=(0.1, 0.5, 0.9))
    with pytest.raises(ValueError, match="there are none"):
        MAOAL(model, 1)
    with pytest.raises(ValueError, match="sees one layer"):
        Joint(model, N, K, strategy="last_layer")

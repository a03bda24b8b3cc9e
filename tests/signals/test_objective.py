"""The matrix of losses: its shape, its freedom from side effects, and examples that are not finite."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from tutelage.signals import Batch, CrossEntropy, Distillation, Objective, Outputs, Signal

B, D, C = 6, 3, 4


def network(*between: nn.Module) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(D, 8), *between, nn.Tanh(), nn.Linear(8, C)).double()


def batch() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    return {
        "index": torch.arange(B),
        "input": torch.randn(B, D, dtype=torch.float64, generator=g),
        "label": torch.randint(0, C, (B,), generator=g),
        "teacher": torch.randn(B, C, dtype=torch.float64, generator=g),
    }


class Cursed(Signal):
    """Cross-entropy that is not finite where the batch says so."""

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        losses_B = nn.functional.cross_entropy(self.own_output(outputs), batch["label"], reduction="none")
        return losses_B * batch["curse"]


class Spread(Signal):
    """A loss that couples the examples: the variance of the first logit over the batch."""

    separable = False

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        return self.own_output(outputs)[:, 0].var()


SIGNALS = (CrossEntropy(), Distillation("teacher", temperature=2.0))


def test_columns_are_the_signals_in_their_order() -> None:
    model, whole = network(), batch()
    objective = Objective(model, SIGNALS)
    losses = objective(whole)
    assert losses.shape == (B, 2)
    assert objective.names == ["cross_entropy", "distillation"]
    assert objective.separable == [True, True]
    for k, signal in enumerate(SIGNALS):
        assert torch.equal(losses[:, k], signal(model(whole["input"]), whole))


def test_a_coupled_signal_fills_its_column_so_that_the_mean_is_its_loss() -> None:
    model, whole = network(), batch()
    losses = Objective(model, [CrossEntropy(), Spread("spread")])(whole)
    assert (losses[:, 1] == losses[0, 1]).all()
    gradients = torch.autograd.grad(losses[:, 1].mean(), list(model.parameters()))
    direct = torch.autograd.grad(model(whole["input"])[:, 0].var(), list(model.parameters()))
    torch.testing.assert_close(gradients, direct, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("training", [True, False])
def test_given_parameters_are_used_and_nothing_is_touched(training: bool) -> None:
    model, whole = network(nn.BatchNorm1d(8)).train(training), batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    params = {name: (p.detach() + 0.1).requires_grad_() for name, p in model.named_parameters()}
    objective = Objective(model, SIGNALS)
    losses = objective(whole, params)
    gradients = torch.autograd.grad(losses.sum(), list(params.values()))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in model.parameters())

    model.load_state_dict({**before, **{name: p.detach() for name, p in params.items()}})
    plain = objective(whole)
    assert torch.equal(losses, plain)
    torch.testing.assert_close(gradients, torch.autograd.grad(plain.sum(), list(model.parameters())), rtol=0, atol=0)
    if training:  # and the plain path does keep statistics
        assert not torch.equal(model.get_buffer("1.running_mean"), before["1.running_mean"])


class Twice(nn.Module):
    """One normalised layer under two names, and a weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D))
        self.again = self.first
        self.head, self.twin = nn.Linear(D, C), nn.Linear(D, C)
        self.twin.weight = self.head.weight

    def forward(self, input: Tensor) -> Tensor:
        hidden = self.again(self.first(input).tanh())
        return self.head(hidden) + self.twin(hidden)


def test_a_module_under_two_names_keeps_its_own_parameters_and_buffers() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Twice().double()
    whole, objective = batch(), Objective(model, SIGNALS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    held = {name: (id(p), p.requires_grad) for name, p in model.named_parameters(remove_duplicate=False)}
    params = {name: (p.detach() + 0.1).requires_grad_() for name, p in model.named_parameters()}
    losses = objective(whole, params)
    gradients = torch.autograd.grad(losses.sum(), list(params.values()))
    assert {name: (id(p), p.requires_grad) for name, p in model.named_parameters(remove_duplicate=False)} == held
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(params[name])
    plain = objective(whole)
    assert torch.equal(losses, plain)
    torch.testing.assert_close(gradients, torch.autograd.grad(plain.sum(), list(model.parameters())), rtol=0, atol=0)


def test_some_parameters_may_be_given_and_unknown_ones_are_refused() -> None:
    model, whole = network(), batch()
    objective = Objective(model, SIGNALS)
    assert torch.equal(objective(whole, {"2.bias": model.get_parameter("2.bias") * 1}), objective(whole))
    with pytest.raises(ValueError, match=r"params names '2\.bais', which is no name in model\.named_parameters"):
        objective(whole, {"2.bais": torch.zeros(C)})


@given(order=st.permutations(range(B)))
def test_permuting_the_batch_permutes_the_rows(order: list[int]) -> None:
    objective, whole = Objective(network(), SIGNALS), batch()
    torch.testing.assert_close(
        objective({key: value[order] for key, value in whole.items()}), objective(whole)[order], rtol=1e-13, atol=0
    )


def spoilt(kind: str, rows: Tensor) -> dict[str, Tensor]:
    whole = batch() | {"curse": torch.ones(B, dtype=torch.float64)}
    if kind == "input":
        whole["input"][rows, 1] = torch.nan
    elif kind == "huge input":
        whole["input"][rows] = torch.inf
    else:
        whole["curse"][rows] = torch.nan if kind == "loss" else torch.inf
    return whole


@pytest.mark.parametrize("kind", ["input", "huge input", "loss", "infinite loss"])
@given(bad=st.sets(st.integers(0, B - 1), min_size=1, max_size=B - 1), training=st.booleans())
def test_an_example_that_is_not_finite_is_as_if_it_were_not_there(kind: str, bad: set[int], training: bool) -> None:
    """With batch normalisation in eval mode, where examples do not see each other, and with none in training."""
    model = network(*([] if training else [nn.BatchNorm1d(8)])).train(training)
    objective = Objective(model, [CrossEntropy(), Cursed("cursed")])
    rows = torch.tensor(sorted(bad))
    good = torch.tensor(sorted(set(range(B)) - bad))
    whole = spoilt(kind, rows)

    losses = objective(whole)
    assert losses.shape == (B, 2)
    assert losses[rows].isnan().all()
    without = objective({key: value[good] for key, value in whole.items()})
    assert torch.equal(losses[good], without)
    parameters = list(model.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(losses[good].sum(), parameters),
        torch.autograd.grad(without.sum(), parameters),
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize("kind", ["input", "loss"])
def test_nor_is_it_in_the_running_statistics(kind: str) -> None:
    model, twin = network(nn.BatchNorm1d(8)).train(), network(nn.BatchNorm1d(8)).train()
    whole, good = spoilt(kind, torch.tensor([2])), [0, 1, 3, 4, 5]
    losses = Objective(model, [CrossEntropy(), Cursed("cursed")])(whole)
    rest = {key: value[good] for key, value in whole.items()}
    assert torch.equal(losses[good], Objective(twin, [CrossEntropy(), Cursed("cursed")])(rest))
    for name, value in twin.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_features_that_overflow_are_not_in_the_running_statistics() -> None:
    """The input is finite; through batch normalisation it makes every example's loss NaN, and the step is lost, no more."""
    model, whole = network(nn.BatchNorm1d(8)).train(), batch()
    whole["input"][2] = 1e308
    nn.init.constant_(model.get_parameter("0.weight"), 10.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert Objective(model, [CrossEntropy()])(whole).isnan().all()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_teacher_that_is_not_finite_is_absent_and_the_example_stays() -> None:
    objective, whole = Objective(network(), SIGNALS), batch()
    full = objective(whole)
    whole["teacher"][1] = torch.nan
    losses = objective(whole)
    assert losses[1, 1] == 0
    assert torch.equal(losses[:, 0], full[:, 0])
    assert losses.isfinite().all()


@pytest.mark.parametrize("kind", ["input", "loss"])
def test_nothing_finite_is_a_constant(kind: str) -> None:
    losses = Objective(network(), [CrossEntropy(), Cursed("cursed")])(spoilt(kind, torch.arange(B)))
    assert losses.shape == (B, 2)
    assert losses.isnan().all()
    assert not losses.requires_grad


def test_a_coupled_loss_that_is_not_finite_takes_all_with_it() -> None:
    class Lost(Spread):
        def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
            return super().forward(outputs, batch) * torch.nan

    losses = Objective(network(), [CrossEntropy(), Lost("lost")])(batch())
    assert losses.isnan().all()
    assert not losses.requires_grad


def test_inputs_may_be_integers_or_numbers() -> None:
    tokens = {"input": torch.tensor([[1, 2], [3, 0]]), "label": torch.tensor([0, 1])}
    embedding = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 2))
    assert Objective(embedding, [CrossEntropy()])(tokens).shape == (2, 1)
    numbers = {"input": torch.tensor([1.0, torch.nan]), "label": torch.tensor([0, 1])}
    line = nn.Sequential(nn.Unflatten(0, (-1, 1)), nn.Linear(1, 2))
    assert Objective(line, [CrossEntropy()])(numbers).isnan().all(1).tolist() == [False, True]


def test_signals_belong_to_the_objective() -> None:
    """What a signal remembers moves, saves and loads with it."""

    class Counting(CrossEntropy):
        def __init__(self) -> None:
            super().__init__(name="counting")
            self.register_buffer("seen", torch.zeros(3))

    assert "signals.0.seen" in Objective(network(), [Counting()]).state_dict()


def test_mistakes_are_named() -> None:
    class Reduced(CrossEntropy):
        def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
            return super().forward(outputs, batch).mean()

    class Unreduced(Spread):
        def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
            return super().forward(outputs, batch).expand(B)

    with pytest.raises(ValueError, match="signals is empty"):
        Objective(network(), [])
    with pytest.raises(ValueError, match=r"equal names \['cross_entropy', 'cross_entropy'\]"):
        Objective(network(), [CrossEntropy(), CrossEntropy()])
    with pytest.raises(
        ValueError,
        match=r"'cross_entropy' returned \(\) for a batch of 6; expected one loss an example .*separable = False",
    ):
        Objective(network(), [Reduced()])(batch())
    with pytest.raises(ValueError, match=r"'spread' returned \(6,\) for a batch of 6; expected a scalar"):
        Objective(network(), [Unreduced("spread")])(batch())
    for loss, called in ((nn.CrossEntropyLoss(), "CrossEntropyLoss"), (functional.cross_entropy, "cross_entropy")):
        with pytest.raises(
            ValueError, match=rf"signals\[1\] is {called}, which is no Signal: give one of tutelage.signals"
        ):
            Objective(network(), [CrossEntropy(), loss])
    with pytest.raises(ValueError, match=r"signals is a CrossEntropy; give a list: Objective\(model, \[signal"):
        Objective(network(), CrossEntropy())
    with pytest.raises(ValueError, match=r"'objective' needs batch\['input'\]"):
        Objective(network(), [CrossEntropy()])({"label": torch.zeros(2)})

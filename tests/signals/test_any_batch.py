"""Batches and outputs as Hugging Face, timm or anybody yields them, in training, in probes and in an evaluation."""

import copy
from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tutelage.data import Indexed
from tutelage.hypergradient import directional_derivatives
from tutelage.models import Cage
from tutelage.signals import Batch, CrossEntropy, Distillation, EarlyLearning, Objective, Outputs, PseudoLabels, Signal
from tutelage.signals.base import by_head
from tutelage.training import Budget, Hardware, Optimization, Plan, fit, predict
from tutelage.weighting import AMAL, MAOAL, Equal

B, T, C = 8, 5, 3


class Reader(nn.Module):
    """A pocket text model: called by name, as Hugging Face's are."""

    def __init__(self, wrap=dict) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.head = nn.Linear(6, C)
        self.wrap = wrap

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> object:
        hidden = torch.tanh(self.embed(input_ids))
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        logits = self.head(pooled)
        return self.wrap(loss=None, logits=logits, hidden_states=(hidden,)) if self.wrap else logits


def reader(wrap=dict) -> Reader:
    torch.manual_seed(0)
    return Reader(wrap)


def batch(size: int = B, seed: int = 0) -> dict:
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 11, (size, T), generator=g)
    return {
        "index": torch.arange(size),
        "input": UserDict(input_ids=ids, attention_mask=(ids > 2).long().clamp_min(0) | (torch.arange(T) == 0)),
        "label": torch.randint(0, C, (size,), generator=g),
        "name": [f"text {row}" for row in range(size)],
        "epoch": 3,
        "scale": torch.tensor(2.0),
        "nothing": None,
        "meta": {"lengths": torch.full((size,), T), "tags": [["a"]] * size},
    }


SIGNALS = (CrossEntropy(), CrossEntropy(smoothing=0.2, name="smoothed"))


@pytest.mark.parametrize("kind", ["dict", "tuple"])
def test_a_model_is_called_with_what_the_input_holds(kind: str) -> None:
    whole, model = batch(), reader()
    expected = model(whole["input"]["input_ids"], whole["input"]["attention_mask"])["logits"]
    if kind == "tuple":
        whole["input"] = tuple(whole["input"].values())
    objective = Objective(model, SIGNALS)
    torch.testing.assert_close(objective(whole)[:, 0], CrossEntropy()(expected, whole))
    params = {name: p.detach() + 0.1 for name, p in model.named_parameters()}
    assert not torch.equal(objective(whole, params), objective(whole))
    assert torch.equal(objective(whole, dict(model.named_parameters())), objective(whole))


@dataclass
class Answer:
    loss: Tensor | None
    logits: Tensor
    hidden_states: tuple[Tensor, ...]


Named = namedtuple("Named", ["loss", "logits", "hidden_states"])


@pytest.mark.parametrize("wrap", [dict, OrderedDict, Answer, Named, lambda **out: (out["logits"], None), None])
def test_whatever_a_model_returns_its_logits_are_read(wrap) -> None:
    whole, plain = batch(), Objective(reader(None), SIGNALS)(batch())
    model = reader(wrap)
    assert torch.equal(Objective(model, SIGNALS)(whole), plain)
    teacher = Distillation(reader(wrap))
    assert (Objective(model, [teacher])(whole).abs() < 1e-6).all()
    outputs, rest = predict(
        model, [{"index": i, "input": {"input_ids": ids}} for i, ids in enumerate(whole["input"]["input_ids"])]
    )
    logits = outputs if isinstance(outputs, Tensor) else outputs.get("logits", outputs.get("0"))
    assert logits is not None
    assert logits.shape == (B, C)
    assert rest["index"].tolist() == list(range(B))


def test_the_heads_of_a_tuple_are_numbers() -> None:
    class Aux(nn.Linear):
        def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return super().forward(input), -super().forward(input)

    whole = {"index": torch.arange(B), "input": torch.randn(B, 4), "label": torch.arange(B) % C}
    model = Aux(4, C)
    losses = Objective(model, [CrossEntropy(), CrossEntropy(head="1", name="aux")])(whole)
    main, aux = model(whole["input"])
    assert torch.equal(losses, torch.stack([CrossEntropy()(main, whole), CrossEntropy()(aux, whole)], 1))
    with pytest.raises(ValueError, match=r"reads head '2', but the model returns \['0', '1'\]"):
        Objective(model, [CrossEntropy(head="2")])(whole)
    with pytest.raises(ValueError, match="the model returns a str; expected a tensor"):
        by_head("logits")


def test_an_example_that_is_not_finite_leaves_a_nested_batch() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(4), nn.Linear(4, C)

        def forward(self, numbers: Tensor, shift: Tensor) -> Tensor:
            return self.head(self.norm(numbers)) + shift[:, None]

    def made() -> Objective:
        torch.manual_seed(0)
        return Objective(Pair(), SIGNALS)

    numbers, shift = torch.randn(B, 4), torch.randn(B)
    numbers[2, 1], shift[5] = torch.nan, torch.inf
    whole = {**batch(), "input": {"numbers": numbers, "shift": shift}}
    objective, twin = made(), made()
    losses = objective(whole)
    assert losses.isnan().all(1).nonzero().flatten().tolist() == [2, 5]
    good = torch.tensor([0, 1, 3, 4, 6, 7])
    rest = {"index": good, "input": {"numbers": numbers[good], "shift": shift[good]}, "label": whole["label"][good]}
    assert torch.equal(losses[good], twin(rest))
    for name, value in twin.state_dict().items():
        assert torch.equal(objective.state_dict()[name], value), name
    weighting = Equal()
    weighting.backward(losses, whole, objective.model)
    assert int(weighting.skipped) == 2


class Remembering(nn.Module):
    """A running statistic that is replaced and not written into."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * input.detach().mean(0)
        return input - self.mean


def test_statistics_of_ones_own_making_are_gone_back_to() -> None:
    objective = Objective(nn.Sequential(Remembering(), nn.Linear(4, C)), [CrossEntropy()])
    whole = {"index": torch.arange(B), "input": torch.full((B, 4), 3e38), "label": torch.arange(B) % C}
    assert objective(whole).isnan().all()
    assert not objective.model[0].mean.any()


@pytest.mark.parametrize(
    "make", [lambda m: AMAL(B, 2), lambda m: MAOAL(m, 2), lambda m: AMAL(B, 2, strategy="last_layer")]
)
def test_weightings_learn_from_nested_batches(make) -> None:
    model = reader()
    objective, weighting = Objective(model, SIGNALS), make(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = {name: value.clone() for name, value in weighting.state_dict().items()}
    for step in range(2):
        whole = batch(seed=step)
        weighting.backward(objective(whole), whole, model)
        optimizer.step()
        optimizer.zero_grad()
        weighting.adapt(objective, whole, batch(4, seed=9), optimizer)
    assert any(not torch.equal(value, before[name]) for name, value in weighting.state_dict().items())


def test_derivatives_of_a_nested_batch_agree() -> None:
    model = reader().double()
    objective, whole = Objective(model, SIGNALS), batch()
    direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    found = [
        directional_derivatives(objective, whole, direction, strategy).values  # type: ignore[arg-type]
        for strategy in ("forward_mode", "double_backward", "auto")
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[2], found[1], rtol=1e-4, atol=1e-7)


def test_fit_trains_on_what_a_text_data_set_yields() -> None:
    whole = batch(16)
    rows = [
        {"input": {k: v[i] for k, v in whole["input"].items()}, "label": int(whole["label"][i]), "text": "t"}
        for i in range(16)
    ]
    plan = Plan(budget=Budget(steps=4), optimization=Optimization(batch_size=8, lr=0.1), hardware=Hardware())
    model = reader()
    before = model.head.weight.detach().clone()
    fitted = fit(model, Indexed(rows), signals=[CrossEntropy()], plan=plan)
    assert fitted.steps == 4
    assert not torch.equal(model.head.weight, before)


def test_pairs_are_answered_with_the_line_that_mends_them() -> None:
    loader = DataLoader(TensorDataset(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)), 4)
    objective = Objective(nn.Linear(2, C), [CrossEntropy()])
    for pair in loader:
        with pytest.raises(
            ValueError, match=r"batch is a list; .*DataLoader\(tutelage.data.Indexed\(dataset\)"
        ) as caught:
            objective(pair)
        assert 'batch = {"index": index, "input": x, "label": y}' in str(caught.value)
    with pytest.raises(
        ValueError, match=r'holds \[\'input_ids\', \'label\'\]; .*batch\["input"\] = \{"input_ids": ...'
    ):
        objective({"input_ids": torch.zeros(4, 2), "label": torch.zeros(4)})


def test_batches_that_can_not_be_meant_are_named() -> None:
    whole = {"index": torch.arange(4), "input": torch.zeros(4, 2), "label": torch.zeros(4, dtype=torch.int64)}
    objective = Objective(nn.Linear(2, C), [CrossEntropy(), EarlyLearning(9, C)])
    for changes, answer in (
        ({"input": torch.zeros(0, 2), "index": torch.arange(0)}, "the batch is empty"),
        ({"index": torch.arange(3)}, r"batch\['input'\] has 4 rows and batch\['index'\] 3"),
        (
            {"label": torch.zeros(3, dtype=torch.int64)},
            r"'cross_entropy' reads batch\['label'\], which has 3 rows in a batch of 4",
        ),
        ({"label": [0, 1, 2, 0]}, r"'cross_entropy' reads batch\['label'\], which is a list; give a tensor"),
        ({"label": torch.zeros(4)}, r"batch\['label'\] is torch.float32 \(4,\); expected integers"),
        ({"index": torch.arange(4.0)}, r"batch\['index'\] is torch.float32 \(4,\); early_learning needs an int64"),
    ):
        with pytest.raises(ValueError, match=answer):
            objective({**whole, **changes})


# --- what signals remember


def remembering(*before: nn.Module) -> tuple[Objective, dict, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(*before, nn.Linear(4, C))
    said = PseudoLabels(nn.Linear(4, C), remember=(B, C))
    signals = [CrossEntropy(), EarlyLearning(B, C), said]
    whole = {"index": torch.arange(B), "input": torch.randn(B, 4), "label": torch.arange(B) % C}
    return Objective(model, signals), whole, model


def remembered(objective: Objective) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in objective.signals.state_dict().items()}


@pytest.mark.parametrize(
    "make", [lambda m: AMAL(B, 3), lambda m: MAOAL(m, 3), lambda m: AMAL(B, 3, strategy="last_layer")]
)
def test_no_probe_and_no_evaluation_moves_what_signals_remember(make) -> None:
    objective, whole, model = remembering()
    weighting, optimizer = make(model), torch.optim.SGD(model.parameters(), lr=0.1)
    fresh = remembered(objective)
    weighting.adapt(objective, whole, whole, optimizer)  # before the first step: nothing has been seen in training
    with torch.no_grad():
        objective(whole)
    objective(whole, {name: p + 0.1 for name, p in model.named_parameters()})
    for name, value in remembered(objective).items():
        assert torch.equal(value, fresh[name]), name
    weighting.backward(objective(whole), whole, model)
    trained = remembered(objective)
    assert all(not torch.equal(trained[name], fresh[name]) for name in fresh)
    weighting.adapt(objective, whole, whole, optimizer)
    for name, value in remembered(objective).items():
        assert torch.equal(value, trained[name]), name


class Lost(Signal):
    """A loss that is not finite for one example, though the outputs are."""

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        return self.own_output(outputs).sum(1) * torch.where(batch["index"] == 3, torch.inf, 1.0)


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("bad", ["input", "loss"])
def test_what_is_remembered_of_the_rest_of_a_batch_is_as_if_the_bad_example_were_not_there(bad, normalised) -> None:
    norm = [nn.BatchNorm1d(4)] if normalised else []
    (objective, whole, _), (twin, _, _) = remembering(*norm), remembering(*copy.deepcopy(norm))
    objective = Objective(objective.model, [*objective.signals, *([Lost("lost")] if bad == "loss" else [])])
    for step in range(2):
        given = {**whole, "input": whole["input"] + step}
        rows = torch.tensor([0, 1, 2, 4, 5, 6, 7])
        twin({key: value[rows] for key, value in given.items()})
        if bad == "input":
            given["input"][3] = torch.nan
        assert objective(given)[3].isnan().all()
        for name, value in twin.state_dict().items():
            assert torch.equal(objective.state_dict()[name], value), name


# --- automatic mixed precision


class Prototypes(Signal):
    """A loss with a matrix product, which automatic mixed precision would take in bfloat16."""

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        z_BC = self.own_output(outputs)
        return (z_BC @ torch.full((C, C), 1 / 3)).square().sum(1)


def test_losses_are_computed_in_float32_and_teachers_in_the_precision_of_the_training() -> None:
    class Watched(nn.Linear):
        seen: torch.dtype | None = None

        def forward(self, input: Tensor) -> Tensor:
            said = super().forward(input)
            self.seen = said.dtype
            return said

    torch.manual_seed(0)
    teacher, model = Watched(4, C), nn.Linear(4, C)
    whole = {"index": torch.arange(B), "input": torch.randn(B, 4), "label": torch.arange(B) % C}
    objective = Objective(model, [Prototypes("prototypes"), Distillation(teacher)])
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(whole["input"])
        losses = objective(whole)
    assert outputs.dtype == teacher.seen == torch.bfloat16
    expected = (outputs.float() @ torch.full((C, C), 1 / 3)).square().sum(1)
    torch.testing.assert_close(losses[:, 0], expected, rtol=1e-6, atol=1e-7)
    objective(whole)
    assert teacher.seen == torch.float32


def test_a_label_model_keeps_its_log_probabilities_under_autocast() -> None:
    torch.manual_seed(0)
    cage = Cage([0, 1, 1, 0], 2, continuous=[True, False, True, False])
    nn.init.normal_(cage.theta, std=20.0)
    fired, scores = torch.randint(0, 2, (16, 4)).float(), torch.rand(16, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = cage(fired, scores)
    assert torch.equal(found, cage(fired, scores))

"""What every weighting promises."""

import copy
import json
from unittest.mock import patch

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from weighting_zoo import (
    CLASSES,
    LEARNED,
    METHODS,
    NEUTRAL,
    K,
    Loop,
    N,
    Network,
    assert_close,
    assert_same,
    build,
    drawn_anew,
    examples,
    network,
    objective_of,
    rows,
)

from tutelage.weighting import (
    MAOAL,
    ExampleTable,
    JointGradient,
    MetaOptimizer,
    Partition,
    registry,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::tutelage.hypergradient.NeumannWarning"
)  # these networks are not convex
every_method = pytest.mark.parametrize("name", METHODS)


def tensors(found: Tensor | dict[str, Tensor] | JointGradient) -> dict[str, Tensor]:
    """Return whatever a hypergradient is, by name."""
    if isinstance(found, JointGradient):
        return {"examples": found.examples, "modules": found.modules}
    return found if isinstance(found, dict) else {"it": found}


def derivative(loop: Loop, batch: dict[str, Tensor], held_out: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors(loop.weighting.hypergradient(loop.objective, batch, held_out, loop.optimizer))  # type: ignore[operator]


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_weights_are_the_plain_loop_bit_for_bit(name):
    batch, plain, model = examples(8, dtype=torch.float32), network(torch.float32), network(torch.float32)
    objective_of(plain)(batch).mean(0).sum().backward()
    build(name, model, NEUTRAL).backward(objective_of(model)(batch), batch, model)
    assert_same({n: p.grad for n, p in model.named_parameters()}, {n: p.grad for n, p in plain.named_parameters()})


@every_method
def test_the_order_of_a_batch_does_not_matter(name):
    loop, batch, held_out = Loop(name).run(range(3)), rows(examples(), range(8, 16)), examples(6, seed=9)
    order = torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])
    before = copy.deepcopy(loop.weighting.state_dict())
    straight = loop.gradients(batch, held_out)
    loop.weighting.load_state_dict(before)
    assert_close(loop.gradients(rows(batch, order), held_out), straight)
    if name in LEARNED:
        found, expected = derivative(loop, rows(batch, order), held_out), derivative(loop, batch, held_out)
        by_example = {key: value[order] if len(value) == 8 else value for key, value in expected.items()}
        assert_close(found, by_example, rtol=1e-7)


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types_stay_and_everything_is_finite(name, dtype):
    loop = Loop(name, network(dtype))
    types = {key: value.dtype for key, value in loop.weighting.state_dict().items()}
    for number in range(3):
        loop.step(rows(examples(dtype=dtype), range(number, number + 8)), examples(6, seed=5, dtype=dtype))
    assert {key: value.dtype for key, value in loop.weighting.state_dict().items()} == types
    for value in (*loop.model.parameters(), *loop.weighting.state_dict().values()):
        assert torch.isfinite(value).all()
    assert {p.dtype for p in loop.model.parameters()} == {dtype}
    assert {g.dtype for g in loop.gradients(examples(8, dtype=dtype), examples(6, dtype=dtype)).values()} == {dtype}


ODD = {
    "one example": lambda: rows(examples(), [3]),
    "one class": lambda: {**rows(examples(), range(8)), "label": torch.ones(8, dtype=torch.int64)},
    "an example twice": lambda: rows(examples(), [3, 3, 5, 7]),
    "no teacher for some": lambda: {
        **examples(8),
        "teacher": examples(8)["teacher"].index_fill(0, torch.arange(5), torch.nan),
    },
    "no teacher at all": lambda: {**examples(8), "teacher": torch.full((8, CLASSES), torch.nan, dtype=torch.float64)},
    "huge logits": lambda: {**examples(8), "teacher": 1e4 * examples(8)["teacher"].sign()},
}


@every_method
@pytest.mark.parametrize("odd", ODD)
def test_odd_batches(name, odd):
    loop = Loop(name)
    if odd == "huge logits":
        with torch.no_grad():
            loop.model.head.weight.mul_(1e4)
    batch = ODD[odd]()
    for _ in range(2):
        loop.step(batch, examples(1, seed=5))
    state = loop.weighting.state_dict()
    if (name, odd) == ("SuperLoss, running", "no teacher at all"):
        assert state.pop("threshold_K").isnan().tolist() == [False, True]  # no mean of what was never there
    for value in (*loop.model.parameters(), *state.values()):
        assert torch.isfinite(value).all()
    assert int(loop.weighting.skipped) == 0


@every_method
def test_lists_beside_the_tensors_of_a_batch_are_let_be(name):
    loop, held_out = Loop(name).run(range(2)), examples(6, seed=9)
    batch = rows(examples(), range(8, 16))
    batch["input"][2] = torch.nan  # from here on rows are chosen
    before = copy.deepcopy(loop.weighting.state_dict())
    expected = loop.gradients(batch, held_out)
    loop.weighting.load_state_dict(before)
    named = [{**each, "file": [f"{row}.png" for row in range(len(each["input"]))]} for each in (batch, held_out)]
    assert_same(loop.gradients(*named), expected)


class Partial(Network):
    """A frozen layer, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.never = nn.Linear(2, 2)
        self.body[0].requires_grad_(False)


@every_method
def test_frozen_and_unused_parameters_are_left_alone(name):
    model = network(kind=Partial)
    before = copy.deepcopy(model.state_dict())
    loop = Loop(name, model).run(range(3))
    for key, value in loop.model.state_dict().items():
        still = key.startswith(("never", "body.0"))
        assert torch.equal(value, before[key]) == still, key


@every_method
def test_an_example_that_is_not_finite_is_counted_and_has_no_weight(name):
    loop, held_out = Loop(name).run(range(2)), examples(6, seed=9)
    batch = rows(examples(), range(8, 16))
    batch["input"][2] = torch.nan
    rest = rows(batch, [0, 1, 3, 4, 5, 6, 7])
    before = copy.deepcopy(loop.weighting.state_dict())
    expected = loop.gradients(rest, held_out)
    loop.weighting.load_state_dict(before)
    found = loop.gradients(batch, held_out)
    assert_close(found, expected)
    assert int(loop.weighting.skipped) == 1
    if name in LEARNED:
        expected, found = derivative(loop, rest, held_out), derivative(loop, batch, held_out)
        for key, value in found.items():
            if len(value) == 8:
                assert (value[2] == 0).all()
                found[key] = value[torch.tensor([0, 1, 3, 4, 5, 6, 7])]
        assert_close(found, expected)


@every_method
def test_a_batch_without_a_finite_example_changes_nothing(name):
    loop, batch = Loop(name).run(range(2)), rows(examples(), range(8))
    batch["input"].fill_(torch.nan)
    before = copy.deepcopy(loop.weighting.state_dict())
    if not loop.weighting.adapts_first:
        loop.weighting.adapt(loop.objective, batch, examples(6), loop.optimizer)
    loop.weighting.backward(loop.objective(batch), batch, loop.model)
    assert all(p.grad is None for p in loop.model.parameters())
    assert int(loop.weighting.skipped) == 8
    before["skipped"] = torch.tensor(8)
    assert_same(loop.weighting.state_dict(), before)


@every_method
def test_saved_loaded_and_continued_is_uninterrupted(name, tmp_path):
    straight = Loop(name).run(range(6))
    first = Loop(name).run(range(3))
    first.weighting.save(tmp_path / "weighting.safetensors")
    second = Loop(name)
    second.weighting.load(tmp_path / "weighting.safetensors")
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.run(range(3, 6))
    assert_same(second.model.state_dict(), straight.model.state_dict())
    assert_same(second.weighting.state_dict(), straight.weighting.state_dict())


@every_method
def test_adapting_leaves_model_gradients_and_random_states_alone(name):
    model = network(
        kind=lambda: nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.ReLU(), nn.Linear(6, 3))
    )
    loop = Loop(name, model)
    loop.model.train()
    loop.objective(examples(8)).sum().backward()
    model_before = copy.deepcopy(model.state_dict())
    gradients = [p.grad.clone() for p in model.parameters()]
    random = torch.get_rng_state()
    loop.weighting.adapt(loop.objective, examples(8), examples(6, seed=9), loop.optimizer)
    assert_same(model.state_dict(), model_before)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training


@pytest.mark.parametrize("name", ["AMAL", "IEG", "Joint", "Joint, one step", "LearningToReweight", "MetaWeightNet"])
def test_all_strategies_agree(name):
    batch, held_out = rows(examples(), range(8)), examples(6, seed=9)
    loop = Loop(name).run(range(2))
    owner = loop.weighting.by_example if name.startswith("Joint") else loop.weighting  # type: ignore[union-attr]
    found = {}
    for strategy in ("double_backward", "forward_mode", "finite_difference", "auto"):
        with patch.object(owner.strategy, "asked", strategy):
            found[strategy] = derivative(loop, batch, held_out)
    for strategy, value in found.items():
        assert_close(
            value, found["double_backward"], rtol=1e-4 if strategy == "finite_difference" else 1e-10, atol=1e-9
        )


def test_a_user_s_first_lines():
    """The first example of the documentation, as it is printed there."""
    from tutelage.signals import CrossEntropy, Distillation, Objective
    from tutelage.weighting import AMAL

    train, model, teacher = examples(), network(), network()
    loader = [rows(train, range(8)), rows(train, range(8, 16))]
    held_out = iter([examples(6, seed=2)] * 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    objective = Objective(model, [CrossEntropy(), Distillation(teacher, temperature=4)])
    weighting = AMAL(num_examples=len(train["index"]), num_signals=2)
    for batch in loader:
        losses = objective(batch)
        weighting.backward(losses, batch, model)
        optimizer.step()
        optimizer.zero_grad()
        weighting.adapt(objective, batch, next(held_out), optimizer)

    assert weighting.weights.shape == (N, K)
    assert (weighting.weights[:16] != 1).any(1).all()
    assert (weighting.weights[16:] == 1).all()


@every_method
def test_what_has_been_learned_is_told_in_plain_numbers(name):
    loop = Loop(name).run(range(3))
    told = loop.weighting.learned()
    assert json.loads(json.dumps(told)) == told
    assert ("importance" in told) == bool(loop.weighting.module_names())
    if "importance" in told:
        shape = torch.tensor(told["importance"], dtype=torch.float64).shape
        assert shape == loop.weighting.importance.shape == (K - 1, len(loop.weighting.module_names()))


@every_method
def test_a_weighting_says_in_plain_values_what_it_was_made_with(name):
    model = network()
    weighting = build(name, model)
    config = weighting.config()
    assert json.loads(json.dumps(config)) == config
    again = registry.build(model=model, **config)
    assert type(again) is type(weighting)
    assert again.config() == config == copy.deepcopy(weighting).config()
    assert repr(again) == repr(weighting)
    assert repr(weighting).startswith(f"{type(weighting).__name__}(")
    assert_same(shapes(again.to(torch.float64)), shapes(weighting))


def test_another_option_is_another_config():
    model = network()
    configs = [json.dumps(build(name, model).config()) for name in METHODS]
    assert len(set(configs)) == len(METHODS)
    shown = {json.loads(config)["name"] for config in configs}
    assert shown == registry.WEIGHTINGS.keys(), (
        "each weighting of the registry needs a line in METHODS of weighting_zoo.py"
    )
    half, third = Partition.of(model, "model"), Partition.of(model, "parameter")
    assert MAOAL(model, K, partition=half).config() != MAOAL(model, K, partition=third).config()


def shapes(weighting: nn.Module) -> dict[str, Tensor]:
    return {key: torch.tensor(value.shape) for key, value in weighting.state_dict().items()}


def test_what_a_registry_is_asked_wrongly_it_says_with_the_nearest_it_knows():
    with pytest.raises(ValueError, match="weighting 'amale' is unknown; did you mean 'amal'"):
        registry.build("amale", num_examples=3, num_signals=2)
    with pytest.raises(ValueError, match="weighting 'amal' has no option 'initial'; did you mean 'init'"):
        registry.build("amal", num_examples=3, num_signals=2, initial=0.3)
    with pytest.raises(ValueError, match="weighting 'equal' has no option 'lr'; known: none"):
        registry.build("equal", lr=0.3)
    with pytest.raises(ValueError, match="meta_optimizer has no option 'learning_rate'; known: kind, lr"):
        registry.check("maoal", 2, {"meta_optimizer": {"learning_rate": 0.3}})
    with pytest.raises(ValueError, match="lr=-1 must be a number above 0"):
        registry.check("amal", 2, {"lr": -1})
    with pytest.raises(ValueError, match="lr='high' must be a number"):
        registry.check("amal", 2, {"lr": "high"})
    with pytest.raises(ValueError, match="weighting 'fixed' needs weights"):
        registry.check("fixed", 2, {})
    with pytest.raises(ValueError, match=r"weights=\[1.0\] must be one for each of num_signals=2"):
        registry.check("fixed", 2, {"weights": [1.0]})


def test_options_in_plain_values_are_those_of_the_constructor():
    model = network()
    made = registry.build("maoal", model=model, num_signals=2, partition="model", meta_optimizer={"lr": 0.3})
    assert made.config() == MAOAL(model, 2, partition="model", meta_optimizer=MetaOptimizer(lr=0.3)).config()
    divided = registry.build(
        "joint", model=model, num_examples=N, num_signals=2, divide=lambda level: Partition.of(model, level, [])
    )
    assert divided.module_names() == list(Partition.of(model, "block", []).names)


@every_method
def test_weights_that_outlive_their_batch_are_known_when_training_has_ended(name, tmp_path):
    loop, batch = Loop(name).run(range(2)), rows(examples(), range(8))
    with torch.no_grad():
        found = loop.weighting.last_weights(loop.objective(batch), batch)
    assert (found is None) == (loop.weighting.adapts_first or drawn_anew(loop, batch)), (
        "last_weights returns None where weights are drawn or learned for one batch, and weights otherwise"
    )
    if found is not None:
        assert found.shape == (8, K)
    kept = loop.weighting.export(tmp_path / "weights.parquet", ids=[f"image {i}" for i in range(N)])
    table = any(isinstance(module, ExampleTable) for module in loop.weighting.modules())
    assert kept == (tmp_path / "weights.parquet").is_file() == table, "columns() returns what an ExampleTable keeps"
    if kept and found is not None:
        frame = pd.read_parquet(tmp_path / "weights.parquet")
        assert frame["id"][3] == "image 3"
        columns = [column for column in frame if column.startswith(("signal", "weight"))]
        torch.testing.assert_close(torch.tensor(frame[columns].to_numpy()[:8], dtype=torch.float64).expand(8, K), found)

"""What is kept of each example, what is made of it, and the search for constant weights."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from weighting_zoo import Loop, N, examples, network, objective_of

from tutelage.weighting import (
    AMAL,
    CRUST,
    ExampleTable,
    Fixed,
    Joint,
    MetaOptimizer,
    coreset_probabilities,
    tune_weights,
)
from tutelage.weighting.meta_optimizer import MetaOptimizerState


def test_a_table_adds_what_occurs_twice_and_keeps_within_bounds():
    table = ExampleTable(4, torch.tensor([1.0, 0.5]))
    table.add(torch.tensor([2, 0, 2]), torch.tensor([[0.25, 0.0], [-3.0, 0.1], [0.5, 0.0]]), (0.0, 2.0))
    assert torch.equal(table.lookup(torch.tensor([2, 2, 1])), torch.tensor([[1.75, 0.5], [1.75, 0.5], [1.0, 0.5]]))
    torch.testing.assert_close(table.whole()[0], torch.tensor([0.0, 0.6]))
    assert torch.equal(table.state_dict()["rows"], table.whole())
    with pytest.raises(ValueError, match="index is the example's place in the whole data set"):
        table.lookup(torch.tensor([4]))
    with pytest.raises(RuntimeError, match="size mismatch"):
        ExampleTable(5, torch.ones(2)).load_state_dict(table.state_dict())


def test_coreset_probabilities():
    weighting = AMAL(3, 3, init=0.5).double()
    weighting.table.rows.copy_(torch.tensor([[1.0, 2.0, 0.0], [0.5, 0.5, 0.5], [1.0, 0.0, 0.0]]))
    for rule, scores in {
        "sum_of_squares": [5.0, 0.75, 1.0],
        "difference": [0.0, 0.0, 1.0],
        "ratio": [1.0, 1.0, 0.0],
    }.items():
        expected = torch.tensor(scores, dtype=torch.float64)
        torch.testing.assert_close(coreset_probabilities(weighting.weights, rule), expected / expected.sum())
    assert torch.equal(
        coreset_probabilities(AMAL(4, 2).weights, "difference"), torch.full((4,), 0.25, dtype=torch.float64)
    )
    with pytest.raises(ValueError, match="'best' is not one of sum_of_squares, difference, ratio"):
        coreset_probabilities(weighting.weights, "best")
    with pytest.raises(ValueError, match="there are none"):
        coreset_probabilities(AMAL(4, 1).weights, "ratio")


@pytest.mark.parametrize("name", ["AMAL", "Joint", "CRUST"])
@pytest.mark.filterwarnings("ignore::tutelage.hypergradient.NeumannWarning")
def test_weights_are_exported_by_stable_ids(name, tmp_path):
    loop, path = Loop(name).run(range(2)), tmp_path / "weights.parquet"
    weighting, ids = loop.weighting, [f"image-{i}" for i in range(N)]
    assert isinstance(weighting, AMAL | Joint | CRUST)
    names = {} if isinstance(weighting, CRUST) else {"names": loop.objective.names}
    weighting.export(path, ids=ids, **names)
    frame = pd.read_parquet(path)
    assert list(frame["id"]) == ids
    assert list(frame["index"]) == list(range(N))
    columns = ["weight"] if isinstance(weighting, CRUST) else ["cross_entropy", "distillation"]
    written = torch.tensor(frame[columns].to_numpy()).reshape(weighting.weights.shape)
    torch.testing.assert_close(written, weighting.weights, rtol=0, atol=0)
    if name != "CRUST":
        visited = set(
            torch.cat([torch.randperm(N, generator=torch.Generator().manual_seed(s))[:8] for s in range(2)]).tolist()
        )
        assert set(frame.index[frame["visits"] > 0]) == visited
    with pytest.raises(ValueError, match="ids names 2 examples of 24"):
        weighting.export(path, ids=ids[:2])


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_the_meta_step_is_torch_s(kind):
    settings = MetaOptimizer(kind, lr=0.1, momentum=0.9, weight_decay=0.05, clip_norm=0.5)
    tensors = {"a.b": torch.randn(3, dtype=torch.float64), "c": torch.randn(2, 2, dtype=torch.float64)}
    twins = {name: value.clone().requires_grad_() for name, value in tensors.items()}
    theirs = (
        torch.optim.Adam(twins.values(), lr=0.1, weight_decay=0.05)
        if kind == "adam"
        else torch.optim.SGD(twins.values(), lr=0.1, momentum=0.9, weight_decay=0.05)
    )
    moved = MetaOptimizerState(settings, tensors)
    for number in range(5):
        g = torch.Generator().manual_seed(number)
        gradients = {
            name: torch.randn(value.shape, generator=g, dtype=torch.float64) for name, value in tensors.items()
        }
        moved.step(tensors, gradients)
        for name, value in twins.items():
            value.grad = gradients[name].clone()
        torch.nn.utils.clip_grad_norm_(twins.values(), 0.5, error_if_nonfinite=True)
        theirs.step()
        for name, value in twins.items():
            torch.testing.assert_close(tensors[name], value.detach(), rtol=1e-5, atol=1e-7)


def test_fixed_weights_by_a_key_are_those_of_the_batch():
    model, twin, batch = network(), network(), examples(8)
    share = torch.arange(8) / 4
    weighting = Fixed(["confidence", np.float32(0.5)])
    weighting.backward(objective_of(model)(batch), {**batch, "confidence": share}, model)
    losses = objective_of(twin)(batch)
    (share * losses[:, 0] + 0.5 * losses[:, 1]).mean().backward()
    for own, expected in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(own.grad, expected.grad)
    assert json.loads(json.dumps(weighting.config())) == {
        "name": "fixed",
        "weights": ["confidence", 0.5],
        "num_signals": None,
    }


@pytest.mark.parametrize(
    ("confidence", "answer"),
    [
        (
            torch.tensor([1.0] * 5 + [math.nan] * 3),
            "which is nan in row 5; give finite numbers that are not negative, and 0",
        ),
        (torch.tensor([1.0, -0.5, *[1.0] * 6]), r"which is -0.5 in row 1"),
        (torch.tensor([math.inf] * 8), r"which is inf in row 0"),
        (
            torch.ones(8, 1),
            r"which is \(8, 1\); give one number an example, \(B,\): batch\['confidence'\].squeeze\(1\)",
        ),
        (torch.ones(7), "which has 7 rows in a batch of 8"),
        ([1.0] * 8, "which is a list; give a tensor"),
        (None, ", but the batch holds"),
    ],
)
def test_fixed_weights_that_a_key_cannot_hold_are_named(confidence, answer):
    model, batch = network(), examples(8)
    given = batch if confidence is None else {**batch, "confidence": confidence}
    with pytest.raises(ValueError, match=rf"'Fixed' .*batch\['confidence'\].*{answer}"):
        Fixed(["confidence", 1.0]).backward(objective_of(model)(batch), given, model)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_search_finds_constant_weights():
    def evaluate(weighting: Fixed) -> float:
        primary, first, second = weighting.weights
        assert primary == 1
        return math.nan if first > 0.9 else -((math.log(first) - math.log(0.1)) ** 2) - second

    found = tune_weights(evaluate, 3, trials=25, seed=1)
    assert 0.03 < found.weights[1] < 0.3
    assert found.value == evaluate(found.weighting) == max(value for _, value in found.trials if value is not None)
    assert len(found.trials) == 25
    assert found.trials[1] == ((1.0, 1.0, 1.0), None)  # what is not a number is a trial that failed
    assert tune_weights(evaluate, 3, trials=25, seed=1) == found
    with pytest.raises(ValueError, match="returned no number"):
        tune_weights(lambda _: math.nan, 2, trials=2)
    with pytest.raises(ValueError, match="nothing to search"):
        tune_weights(evaluate, 1)


def test_uncertainty_is_trained_by_the_model_s_optimiser():
    loop = Loop("Uncertainty")
    before: Tensor = loop.weighting.weights.clone()  # type: ignore[union-attr]
    loop.run(range(5))
    assert (loop.weighting.weights != before).all()  # type: ignore[union-attr]
    assert not any(p.requires_grad for p in Loop("MetaWeightNet").weighting.parameters())
    assert torch.isfinite(loop.objective(examples(8))).all()

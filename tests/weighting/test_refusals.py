"""What a loop may hand over by mistake, and what it is told."""

import math

import pytest
import torch
from torch import Tensor, nn
from weighting_zoo import examples, network, objective_of

from tutelage.signals import CrossEntropy, Distillation, Objective, Signal
from tutelage.weighting import MAOAL, AuxiLearn, Equal, GradientCosine, Joint
from tutelage.weighting.amal import coreset_probabilities


@pytest.mark.parametrize("scale", [-1.0, 0.0, math.nan, math.inf])
@pytest.mark.parametrize("wrap", [float, torch.tensor])
def test_a_scale_that_is_no_positive_number_is_refused(scale, wrap):
    model, batch = network(), examples(4)
    losses = objective_of(model)(batch)
    with pytest.raises(ValueError, match="must be a positive number"):
        Equal().backward(losses, batch, model, wrap(scale))
    Equal().backward(losses, batch, model, torch.tensor(0.5))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_without_a_softmax_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature="):
        Distillation("teacher", temperature=temperature)


def test_no_ratio_to_a_primary_weight_of_0():
    """0.5 / 1, 1 / 0.5: probabilities 0.2 and 0.8."""
    weights = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    assert coreset_probabilities(weights, "ratio").tolist() == pytest.approx([0.2, 0.8])
    for auxiliary in (0.0, 1.0):
        with pytest.raises(ValueError, match="which is 0 for 1 of 3 examples"):
            coreset_probabilities(torch.cat([weights, torch.tensor([[0.0, auxiliary]])]), "ratio")


class Bag(nn.Module):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 5, sparse=sparse), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embed(x).mean(1)))


class Shifted(Signal):
    def forward(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(outputs, (batch["label"] + 1) % 3, reduction="none")


@pytest.mark.parametrize(
    "make",
    [
        lambda model: GradientCosine(model, partition="parameter"),
        lambda model: MAOAL(model, 2, partition="parameter", init=0.5),
        lambda model: Joint(model, 6, 2, partition="parameter", init_importance=0.5),
        lambda model: AuxiLearn(2),
    ],
)
def test_a_sparse_embedding_is_weighed_as_a_dense_one(make):
    g = torch.Generator().manual_seed(0)
    batch = {"index": torch.arange(6), "input": torch.randint(7, (6, 3), generator=g), "label": torch.arange(6) % 3}
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = Bag(sparse).double()
        objective = Objective(model, [CrossEntropy(), Shifted("shifted")])
        torch.manual_seed(1)
        weighting = make(model)
        weighting.adapt(objective, batch, batch, torch.optim.SGD(model.parameters(), lr=0.1))
        weighting.backward(objective(batch), batch, model)
        found.append([p.grad.to_dense() for p in model.parameters()])
    for dense, sparse in zip(*found, strict=True):
        torch.testing.assert_close(sparse, dense, rtol=1e-4, atol=1e-7)

"""SCC and MoPro by hand; and a cut anywhere changes nothing."""

import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from chains import LABELLED, PLAN, C, assert_cuts_change_nothing, examples, network
from torch import nn

from tutelage.generations import (
    MomentumPrototypes,
    MoProSettings,
    Projected,
    SelfContainedSettings,
    mopro,
    self_contained,
)
from tutelage.generations.self_contained import aggregated, mixed_targets
from tutelage.signals import Objective
from tutelage.signals.base import unobserved
from tutelage.training import Budget, Plan, predict

# --- SCC


def test_a_label_counts_as_far_as_it_is_believed():
    s = torch.tensor([[0.8, 0.3], [0.5, 0.9]])
    soft, confidence = mixed_targets(s, torch.tensor([0, 0]), SelfContainedSettings())
    torch.testing.assert_close(confidence, torch.tensor([0.8, 0.5]))
    torch.testing.assert_close(soft, torch.tensor([[0.8 + 0.2 * 0.8, 0.2 * 0.3], [0.5 + 0.5 * 0.5, 0.5 * 0.9]]))
    hard, confidence = mixed_targets(s, torch.tensor([0, 0]), SelfContainedSettings(labels="hard", power=2.0))
    torch.testing.assert_close(confidence, torch.tensor([0.64, 0.25]))
    torch.testing.assert_close(hard, torch.tensor([[1.0, 0.0], [0.25, 0.75]]))


def test_probabilities_are_averaged_over_the_graph():
    features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.3], [0.0, 1.0]])
    values = torch.tensor([[1.0], [0.0], [0.0], [0.6]])
    # 0 and 1 are each other's nearest, 1 is the nearest of 2, and 2 of 3: a path, on which an end has two and a middle three.
    A = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1.0]])
    step = A / A.sum(1, keepdim=True)
    torch.testing.assert_close(aggregated(values, features, 1, 1), step @ values)
    torch.testing.assert_close(aggregated(values, features, 1, 2), step @ step @ values)
    assert aggregated(values, features, 9, 1).flatten().tolist() == pytest.approx([0.4] * 4)  # all are neighbours


def test_graphs_are_made_in_pieces(monkeypatch):
    g = torch.Generator().manual_seed(0)
    values, features = torch.rand(20, 3, generator=g), torch.randn(20, 4, generator=g)
    whole = aggregated(values, features, 5, 2)
    monkeypatch.setattr(sys.modules["tutelage.generations.self_contained"], "CHUNK", 7)
    torch.testing.assert_close(aggregated(values, features, 5, 2), whole)


def test_scc_learns_its_own_targets(monkeypatch):
    asked = []
    found = self_contained(
        network,
        examples(LABELLED),
        SelfContainedSettings(neighbours=2),
        PLAN,
        embed=lambda model: asked.append(model) or examples(LABELLED).examples.tensors["input"][LABELLED],
    )
    assert asked == [found.teacher.model]
    assert found.student.model is not found.teacher.model
    assert found.confidence.shape == (len(LABELLED),)
    assert ((found.confidence > 0) & (found.confidence < 1)).all()
    with pytest.raises(ValueError, match="neighbours=2 are found by features; give embed"):
        self_contained(network, examples(LABELLED), SelfContainedSettings(neighbours=2), PLAN)


def test_scc_cut_and_run_again(tmp_path, monkeypatch):
    def chain(plan: Plan) -> nn.Module:
        return self_contained(network, examples(LABELLED), SelfContainedSettings(), plan).student.model

    assert_cuts_change_nothing(chain, tmp_path, monkeypatch, (1, 4, 7))


# --- MoPro

SETTINGS = MoProSettings(start=1, queue=10, width=2, momentum=0.75)


def projected(width: int = 2) -> Projected:
    body = network()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        return Projected(body[:4], body[4], 8, width)


def outputs_of(logits: list[list[float]], z: list[list[float]]) -> dict[str, torch.Tensor]:
    return {
        "logits": torch.tensor(logits).requires_grad_(),
        "embedding": F.normalize(torch.tensor(z, dtype=torch.float32), dim=1),
    }


def test_labels_are_replaced_kept_and_taken_away():
    signal = MomentumPrototypes(projected(), 2, replace(SETTINGS, temperature=1.0))
    signal.prototypes_CD = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    sure, unsure = 6.0, 0.4
    outputs = outputs_of([[sure, -sure], [unsure, 0], [0, unsure], [unsure, 0]], [[3, 0], [1, 0.9], [0.9, 1], [1, 0.9]])
    near = (outputs["embedding"] @ signal.prototypes_CD.T).softmax(1)
    q = 0.5 * outputs["logits"].softmax(1) + 0.5 * near
    assert q[0].max() > 0.8 > q[1:].max()
    assert signal.corrected(outputs, torch.tensor([1, 0, 0, -1])).tolist() == [0, 0, -1, -1]


def test_mopro_s_losses_by_hand():
    signal = MomentumPrototypes(projected(), 2, replace(SETTINGS, prototypes=0.5, instances=2.0, queue=3))
    signal.prototypes_CD = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    outputs = outputs_of([[1.0, 0.0], [0.3, 0.2]], [[1, 2], [-1, 1]])
    batch = {"input": torch.randn(2, 2, generator=torch.Generator().manual_seed(0)), "label": torch.tensor([1, -1])}
    with unobserved():
        found = signal(outputs, batch)
    z, follower = outputs["embedding"], signal.follower(batch["input"])["embedding"]
    for row in range(2):
        positive = torch.exp(z[row] @ follower[row] / 0.1)
        told = -torch.log(positive / (positive + torch.exp(signal.queue_QD @ z[row] / 0.1).sum()))
        expected = 2.0 * told
        if row == 0:
            near = torch.exp(signal.prototypes_CD @ z[0] / 0.1)
            expected = expected - outputs["logits"][0].log_softmax(0)[1] - 0.5 * torch.log(near[1] / near.sum())
        torch.testing.assert_close(found[row], expected)


def test_prototypes_and_queue_follow_the_examples_in_training_alone():
    model = projected()
    signal = MomentumPrototypes(model, 2, replace(SETTINGS, queue=3))
    signal.prototypes_CD = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    outputs = outputs_of([[0.0, 0.0]] * 3, [[0, 1], [0, 1], [1, 1]])
    batch = {"input": torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), "label": torch.tensor([0, 0, -1])}
    before = {name: value.clone() for name, value in signal.state_dict().items()}
    with unobserved():
        signal(outputs, batch)
    for name, value in signal.state_dict().items():
        assert torch.equal(value, before[name]), name
    signal(outputs, batch)
    kept = 0.75**2
    torch.testing.assert_close(signal.prototypes_CD[0], F.normalize(torch.tensor([kept, 1 - kept]), dim=0))
    assert signal.prototypes_CD[1].tolist() == [0, 1]
    torch.testing.assert_close(signal.queue_QD, signal.follower(batch["input"])["embedding"])
    later = {"input": batch["input"][:1] + 1, "label": torch.tensor([0])}
    signal(outputs_of([[0.0, 0.0]], [[0, 1]]), later)  # takes the place of the oldest
    torch.testing.assert_close(signal.queue_QD[0], signal.follower(later["input"])["embedding"][0])
    weight = signal.follower.head.weight.clone()
    with torch.no_grad():
        model.head.weight += 1
    signal.begin_step(0, model, torch.optim.SGD(model.parameters(), lr=0.1))
    torch.testing.assert_close(signal.follower.head.weight, weight + 0.25)
    broken = {"input": batch["input"] * torch.tensor([[1.0], [torch.nan], [1.0]]), "label": torch.tensor([0, 1, 1])}
    Objective(model, [signal])(broken)
    assert all(torch.isfinite(value).all() for value in signal.state_dict().values())


def test_the_decoupled_head_learns_the_corrected_labels():
    model, plan = projected(), replace(PLAN, budget=Budget(epochs=4))
    found = mopro(model, C, examples(LABELLED), SETTINGS, plan, decoupled=lambda: nn.Linear(8, C))
    assert found.classifier is not None
    assert model.head is found.classifier.model
    assert found.labels.shape == (len(LABELLED),)
    assert set(found.labels.tolist()) <= {-1, *range(C)}
    outputs, _ = predict(model, examples(LABELLED))
    assert isinstance(outputs, dict)
    assert outputs["logits"].shape == (len(LABELLED), C)
    with pytest.raises(ValueError, match="reads logits and embedding, but the model returns one tensor"):
        mopro(network(), C, examples(LABELLED), SETTINGS, PLAN)  # type: ignore[arg-type]


def test_mopro_cut_and_run_again(tmp_path, monkeypatch):
    def chain(plan: Plan) -> nn.Module:
        model = projected()
        mopro(model, C, examples(LABELLED), SETTINGS, plan, decoupled=lambda: network()[4])
        return model

    assert_cuts_change_nothing(chain, tmp_path, monkeypatch, (2, 3))

"""Chains of teachers and students: who teaches whom with what, by hand; and a cut anywhere changes nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import chains
import pytest
import torch
from chains import LABELLED, PLAN, UNLABELLED, C, N, assert_cuts_change_nothing, examples, network
from torch import nn

from tutelage.data import TensorData
from tutelage.generations import (
    AssistantSettings,
    BornAgainSettings,
    NoisyStudentSettings,
    SelfTrainingSettings,
    assist,
    born_again,
    confident,
    noisy_student,
    self_training,
    surest_of_each_class,
)
from tutelage.generations.chain import Relabelled
from tutelage.signals import CrossEntropy, Distillation
from tutelage.signals.base import unobserved
from tutelage.signals.early_learning import EarlyLearning
from tutelage.training import Plan, fit
from tutelage.weighting import DroppedTeachers, Fixed


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each training of a chain was asked to do."""
    seen: list[dict[str, Any]] = []

    def spy(model, train, **others):
        seen.append({"model": model, "train": train, "name": others["plan"].name, **others})
        return fit(model, train, **others)

    chains.spy_on_fit(monkeypatch, spy)
    return seen


# --- ELR


def test_elr_golden_numbers():
    signal = EarlyLearning(1, 3).double()
    signal.averages_NC[0] = torch.tensor([0.2, 0.7, 0.1], dtype=torch.float64)
    z = torch.tensor([[2.0, 0.5, -1.0]], dtype=torch.float64, requires_grad=True)
    batch = {"index": torch.tensor([0]), "label": torch.tensor([0])}
    with unobserved():  # the averages as they are given
        loss = CrossEntropy()(z, batch) + 3 * signal(z, batch)
    loss.sum().backward()
    assert float(loss.detach()) == pytest.approx(-0.7597994646758, abs=1e-12)
    expected = torch.tensor([[0.0611139305964, -0.1303255446989, 0.0692116141025]], dtype=torch.float64)
    torch.testing.assert_close(z.grad, expected, rtol=0, atol=1e-12)


def test_the_averages_move_in_training_and_by_index():
    signal = EarlyLearning(4, 2, beta=0.75)
    z = torch.tensor([[0.0, 0.0], [20.0, -20.0]], requires_grad=True)
    batch = {"index": torch.tensor([3, 1])}
    signal(z, batch)
    torch.testing.assert_close(signal.averages_NC[3], torch.tensor([0.125, 0.125]))
    torch.testing.assert_close(signal.averages_NC[1], 0.25 * torch.tensor([1 - 1e-4, 1e-4]))
    assert not signal.averages_NC[[0, 2]].any()
    signal(z.detach(), batch)  # no gradient, no training
    with unobserved():
        signal(z, batch)  # nor in a probe
    signal(z, batch)
    torch.testing.assert_close(signal.averages_NC[3], torch.tensor([0.125, 0.125]) * 1.75)
    before = signal.averages_NC.clone()
    signal(torch.full((1, 2), torch.nan, requires_grad=True), {"index": torch.tensor([3])})
    assert torch.equal(signal.averages_NC, before)  # what is not finite poisons nobody


def test_elr_without_weight_is_cross_entropy(tiny_data):
    one, other = network(), network()
    plan = replace(PLAN, seed=1)
    fit(one, tiny_data, signals=[CrossEntropy(), EarlyLearning(22, C)], plan=plan, weighting=Fixed([1.0, 0.0]))
    fit(other, tiny_data, signals=[CrossEntropy()], plan=plan)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_elr_cut_and_run_again(tmp_path, monkeypatch):
    def chain(plan: Plan) -> nn.Module:
        own = plan.named("elr")
        signals = [CrossEntropy(), EarlyLearning(N, C)]
        return fit(network(), examples(LABELLED), signals=signals, plan=own, weighting=Fixed([1.0, 3.0])).model

    assert_cuts_change_nothing(chain, tmp_path, monkeypatch, (2, 3))


# --- born again


@pytest.mark.parametrize("language", ["soft", "hard", "sets"])
def test_each_generation_is_taught_by_the_one_before(language, calls):
    settings = BornAgainSettings(3, language, weight=0.5)
    chain = born_again(network, examples(LABELLED), settings, PLAN)
    assert [call["name"] for call in calls] == ["generation-0", "generation-1", "generation-2"]
    assert [len(call["signals"]) for call in calls] == [1, 2, 2]
    for generation in (1, 2):
        teacher = calls[generation]["signals"][1].teacher._held[0]
        assert teacher is chain[generation - 1].model
        assert calls[generation]["weighting"].weights == [0.5, 0.5]
        assert calls[generation]["model"] is not teacher


def test_born_again_cut_and_run_again(tmp_path, monkeypatch):
    def chain(plan: Plan) -> nn.Module:
        return born_again(network, examples(LABELLED), BornAgainSettings(3), plan)[-1].model

    assert_cuts_change_nothing(chain, tmp_path, monkeypatch, (1, 5, 12))


# --- assistants


@pytest.mark.parametrize(("teachers", "counts"), [("last", [0, 1, 1, 1]), ("all", [0, 1, 2, 3])])
def test_who_teaches_whom(teachers, counts, calls):
    chain = assist(
        [network(g) for g in range(4)], examples(LABELLED), AssistantSettings(teachers, 0.8), PLAN
    )  # fmt: skip
    for place, (call, count) in enumerate(zip(calls, counts, strict=True)):
        said = [signal for signal in call["signals"] if isinstance(signal, Distillation)]
        assert [signal.teacher._held[0] for signal in said] == [f.model for f in chain[place - count : place]]
        assert call["weighting"].weights == [pytest.approx(0.2) if count else 1.0, *[0.8] * count]


def test_teachers_are_dropped_on_their_own_and_the_labels_never():
    weighting = DroppedTeachers([0.1, 0.9, 0.9], keep=0.75)
    torch.manual_seed(0)
    drawn = torch.stack([weighting.example_weights(torch.zeros(2, 3), {}) for _ in range(4000)])
    assert torch.equal(drawn[:, 0], drawn[:, 1])  # the same for the whole batch
    assert (drawn[:, 0, 0] == 0.1).all()
    kept = (drawn[:, 0, 1:] > 0).double()
    torch.testing.assert_close(kept.mean(0), torch.full((2,), 0.75, dtype=torch.float64), atol=0.03, rtol=0)
    assert abs(float(kept.prod(1).mean()) - 0.75**2) < 0.03


def test_assistants_cut_and_run_again(tmp_path, monkeypatch):
    def chain(plan: Plan) -> nn.Module:
        models = [network(g) for g in range(3)]
        return assist(models, examples(LABELLED), AssistantSettings("all", keep=0.5), plan)[-1].model

    assert_cuts_change_nothing(chain, tmp_path, monkeypatch, (3, 6, 12))


# --- self-training


def test_the_surest_of_each_class_by_hand():
    probabilities = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.2, 0.2, 0.6], [0.4, 0.5, 0.1]])
    places, classes = surest_of_each_class(probabilities, top=2, considered=1)
    assert list(zip(places.tolist(), classes.tolist(), strict=True)) == [(0, 0), (1, 0), (3, 1), (2, 2)]
    places, classes = surest_of_each_class(probabilities, top=2, considered=2)
    found = list(zip(places.tolist(), classes.tolist(), strict=True))
    assert found == [(0, 0), (1, 0), (3, 1), (0, 1), (2, 2), (1, 2)]  # an image may come twice


def test_self_training_pretrains_on_pseudo_labels_and_ends_on_labels(calls):
    self_training(network, examples, LABELLED, UNLABELLED, SelfTrainingSettings(top=4, considered=1), PLAN)
    assert [call["name"] for call in calls] == ["teacher", "pretraining", "fine-tuning"]
    pretraining = calls[1]["train"]
    assert isinstance(pretraining, Relabelled)
    batch = pretraining.batch(list(range(len(pretraining))))
    assert set(batch["index"].tolist()) <= set(UNLABELLED.tolist())
    assert torch.bincount(batch["label"], minlength=C).max() <= 4
    assert calls[1]["model"] is calls[2]["model"]
    assert calls[0]["model"] is not calls[1]["model"]


def test_self_training_cut_and_run_again(tmp_path, monkeypatch):
    def chain(plan: Plan) -> nn.Module:
        return self_training(network, examples, LABELLED, UNLABELLED, SelfTrainingSettings(top=8), plan).model

    assert_cuts_change_nothing(chain, tmp_path, monkeypatch, (2, 5, 7))


# --- noisy student


def test_confident_and_balanced_images_by_hand():
    probabilities = torch.tensor([[0.9, 0.1], [0.55, 0.45], [0.8, 0.2], [0.3, 0.7]])
    assert confident(probabilities, 0.6, None).tolist() == [0, 2, 3]
    assert confident(probabilities, 0.0, 2).tolist() == [0, 2, 3, 3]
    assert confident(probabilities, 0.95, 2).tolist() == []


def test_the_losses_are_means_over_their_own_images(calls):
    settings = NoisyStudentSettings(students=2, confidence=0.0, per_class=5, ratio=0.5, smoothing=0.0)
    noisy_student(network, examples, LABELLED, UNLABELLED, settings, PLAN)
    assert [call["name"] for call in calls] == ["teacher", "student-1", "student-2"]
    train, weights = calls[1]["train"], calls[1]["weighting"].weights
    batch = train.batch(list(range(len(train))))
    said = torch.isfinite(batch["teacher"]).all(1)
    assert torch.equal(said, batch["label"] < 0)  # each image has one of the two
    z = torch.randn(len(train), C, dtype=torch.float64)
    losses = torch.stack([signal(z, batch) for signal in calls[1]["signals"]], 1)
    total = (losses * torch.tensor(weights)).mean(0).sum()
    expected = losses[~said, 0].mean() + 0.5 * losses[said, 1].mean()
    torch.testing.assert_close(total, expected)


def test_noisy_student_cut_and_run_again(tmp_path, monkeypatch):
    def chain(plan: Plan) -> nn.Module:
        settings = NoisyStudentSettings(students=2, confidence=0.0)
        return noisy_student(network, examples, LABELLED, UNLABELLED, settings, plan)[-1].model

    assert_cuts_change_nothing(chain, tmp_path, monkeypatch, (2, 6, 13))


def test_what_cannot_be_is_refused():
    nobody = LABELLED[:0]
    with pytest.raises(ValueError, match="unlabelled is empty"):
        self_training(network, examples, LABELLED, nobody, SelfTrainingSettings(), PLAN)
    with pytest.raises(ValueError, match="unlabelled is empty"):
        noisy_student(network, examples, LABELLED, nobody, NoisyStudentSettings(), PLAN)
    with pytest.raises(ValueError, match="sure of no image"):
        noisy_student(network, examples, LABELLED, UNLABELLED, NoisyStudentSettings(confidence=0.999999), PLAN)
    with pytest.raises(ValueError, match="models is empty"):
        assist([], examples(LABELLED), AssistantSettings(), PLAN)
    for bad in (lambda: AssistantSettings(keep=0), lambda: BornAgainSettings(0), lambda: SelfTrainingSettings(top=0)):
        with pytest.raises(ValueError, match="=0"):
            bad()


def test_trainings_of_one_chain_draw_differently():
    one, other = PLAN.named("a"), PLAN.named("b")
    assert one.seed != other.seed
    assert replace(PLAN, out=Path("x")).named("a").out == Path("x/a")
    assert isinstance(chains.points(), TensorData)
    assert Fixed([1.0]).weights == [1.0]

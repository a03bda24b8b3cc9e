"""SSKD: views, similarities and what is kept, against their definitions."""

import pytest
import torch
import torch.nn.functional as F
from chains import assert_cuts_change_nothing, spy_on_fit
from torch import Tensor, nn

from tutelage.data import TensorData
from tutelage.generations import FourViews, SSKDSettings, sskd
from tutelage.generations.sskd import ComparedDistillation, Contrast, RotatedDistillation, least_wrong, similarities
from tutelage.training import Budget, Optimization, Plan, fit

B, C, D = 5, 3, 4


def views(generation: int = 0) -> FourViews:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generation)
        encoder = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        return FourViews(encoder, nn.Linear(24, C), 24, D)


def images(size: int = B) -> TensorData:
    g = torch.Generator().manual_seed(0)
    return TensorData(input=torch.randn(size, 1, 6, 6, generator=g), label=torch.randint(0, C, (size,), generator=g))


def test_four_views_of_each_image():
    model = views().eval()
    batch = images().tensors
    outputs = model(batch["input"])
    torch.testing.assert_close(outputs["logits"], model.classify(batch["input"]))
    for turn in range(3):
        turned = torch.rot90(batch["input"], turn + 1, (2, 3))
        torch.testing.assert_close(outputs["rotated"][:, turn], model.classify(turned))
    torch.testing.assert_close(outputs["projected"].norm(dim=2), torch.ones(B, 4))


def test_similarities_are_cosines_of_copies_with_originals():
    projected = F.normalize(torch.randn(B, 4, D), dim=2)
    found = similarities(projected, 0.5)
    assert found.shape == (3 * B, B)
    for image in range(B):
        for turn in range(3):
            expected = projected[image, turn + 1] @ projected[2, 0] / 0.5
            torch.testing.assert_close(found[3 * image + turn, 2], expected)


def test_the_least_wrong_are_kept():
    scores = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0], [0.0, 0.1]])
    right = torch.zeros(4, dtype=torch.int64)
    assert least_wrong(scores, right, 1.0).tolist() == [0, 1, 2, 3]
    assert least_wrong(scores, right, 0.0).tolist() == [0]
    assert least_wrong(scores, right, 0.4).tolist() == [0, 3]  # one of three
    assert least_wrong(scores, right, 0.7).tolist() == [0, 1, 3]


def test_distillations_against_their_formulas():
    teacher, batch = views(1).eval(), images().tensors
    student_out = views(2).eval()(batch["input"])
    teacher_out = teacher(batch["input"])

    def divergence(t: Tensor, s: Tensor, tau: float) -> Tensor:
        p = (t / tau).softmax(1)
        return tau**2 * (p * ((t / tau).log_softmax(1) - (s / tau).log_softmax(1))).sum(1).mean()

    found = RotatedDistillation(teacher, 4.0, 1.0)(student_out, batch)
    expected = divergence(teacher_out["rotated"].flatten(0, 1), student_out["rotated"].flatten(0, 1), 4.0)
    torch.testing.assert_close(found, expected)
    found = ComparedDistillation(teacher, 0.5, 1.0)(student_out, batch)
    expected = divergence(similarities(teacher_out["projected"], 1.0), similarities(student_out["projected"], 1.0), 0.5)
    torch.testing.assert_close(found, expected)
    itself = ComparedDistillation(teacher, 0.5, 0.75)(teacher_out, batch)
    torch.testing.assert_close(itself, torch.tensor(0.0), atol=1e-6, rtol=0)
    own = torch.arange(B).repeat_interleave(3)
    expected = F.cross_entropy(similarities(teacher_out["projected"], 0.5), own)
    torch.testing.assert_close(Contrast(0.5)(teacher_out, batch), expected)


def test_nobody_kept_is_no_loss():
    teacher, batch = views(1).eval(), images().tensors
    wrong = {**batch, "label": teacher.classify(batch["input"]).argmin(1)}
    outputs = views(2)(batch["input"])
    signal = RotatedDistillation(teacher, 4.0, 0.0)
    right = (teacher(batch["input"])["rotated"].argmax(2) == wrong["label"][:, None]).any()
    assert right or float(signal(outputs, wrong).detach()) == 0


PLAN = Plan(Budget(epochs=2), Optimization(lr=0.01, batch_size=8), seed=1)


def test_the_teachers_body_stands_still_while_its_projection_learns(monkeypatch):
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def spy(model, train, **others):
        found = fit(model, train, **others)
        teacher = getattr(model, "teacher", model)
        projection = teacher.projection[0].weight.detach().clone()
        seen.append((teacher.encoder[0].weight.detach().clone(), teacher.encoder[1].running_mean.clone(), projection))
        return found

    spy_on_fit(monkeypatch, spy)
    found = sskd(views, images(20), SSKDSettings(projection=Budget(epochs=2)), PLAN)
    after_labels, after_projection, student = seen
    assert torch.equal(after_labels[0], after_projection[0])
    assert torch.equal(after_labels[1], after_projection[1])
    assert not torch.equal(after_labels[2], after_projection[2])
    assert isinstance(found.teacher.model, FourViews)
    assert not torch.equal(student[0], after_labels[0])
    assert found.student.model is not found.teacher.model


def test_sskd_cut_and_run_again(tmp_path, monkeypatch):
    def chain(plan: Plan) -> nn.Module:
        return sskd(views, images(20), SSKDSettings(projection=Budget(epochs=1)), plan).student.model

    assert_cuts_change_nothing(chain, tmp_path, monkeypatch, (3, 5, 8))


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="keep_rotated=2"):
        SSKDSettings(keep_rotated=2)
    with pytest.raises(ValueError, match="temperature=0 must be a number above 0"):
        SSKDSettings(temperature=0)

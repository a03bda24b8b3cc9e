import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pocket
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.data import ImageTable
from tutelage.metrics import auroc, npv_at_fpr
from tutelage.models import ImageClassifier
from tutelage.signals import Distillation
from tutelage.subtasks import Curriculum, Lesson, StudentSettings, acceptability, selects, teach
from tutelage.subtasks.lesson import two_way
from tutelage.subtasks.student import OwnSpecialist
from tutelage.training import Budget, Fitted, Optimization, Plan
from tutelage.weighting import AMAL, Equal

ROWS = torch.arange(0, 30)
STEP = Optimization(optimizer="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, batch_size=64)


@pytest.fixture(scope="module")
def images() -> ImageTable:
    return pocket.posters()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2


def a_lesson(images: ImageTable, substitute: bool = False) -> Lesson:
    """Thirty examples, some without a label, some whom nobody teaches, three sub-tasks."""
    label = images.labels.clone()
    label[ROWS[::7]] = -1
    subtask = torch.full((len(images),), -1)
    subtask[ROWS] = torch.arange(30) % 4 - 1
    teacher = two_way(normal(len(images)))
    teacher[ROWS[::5]] = torch.nan
    absent = torch.where((label < 0)[:, None], two_way(normal(len(images), seed=1)), torch.nan) if substitute else None
    return Lesson(ROWS, label, torch.ones(len(label)), subtask, teacher, absent, {})


def one_step(images: ImageTable) -> Plan:
    val = images.subset(images.rows("student_val"))
    return Plan(Budget(steps=1), STEP, val=val, select_by=selects("auroc", 0.01), seed=7)


def taught(
    images: ImageTable,
    lesson: Lesson,
    settings: StudentSettings,
    own: Tensor | None = None,
    adapt_every: int = 100,
    **weighed: Any,
) -> tuple[ImageClassifier, ImageClassifier, Fitted]:
    """One step on all examples at once: the student before and after."""
    student = pocket.network(2, "pocket_deit")
    before = copy.deepcopy(student)
    fitted = teach(
        student,
        lesson,
        images.subset(lesson.rows),
        settings,
        replace(one_step(images), adapt_every=adapt_every),
        confidence_K=torch.tensor([0.5, 0.1, 0.9]),
        log_odds_NK=own,
        **weighed,
    )
    return before, student, fitted


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """-sum target log softmax: equation 8's, for hard and soft targets alike."""
    return -(target * F.log_softmax(logits, 1)).sum(1)


def assert_stepped(before: ImageClassifier, after: ImageClassifier, loss: Tensor) -> None:
    gradients = torch.autograd.grad(loss, list(before.parameters()))
    for start, end, gradient in zip(before.parameters(), after.parameters(), gradients, strict=True):
        assert torch.allclose(end, start - STEP.lr * gradient, atol=2e-6)


def outputs_and_lesson(images: ImageTable, before: ImageClassifier, lesson: Lesson) -> tuple[dict[str, Tensor], Tensor]:
    outputs = before.train()(images.images.gather(ROWS.tolist()))
    label = lesson.label[ROWS]
    smooth = F.one_hot(label.clamp_min(0), 2) * 0.95 + 0.025
    assert isinstance(outputs, dict)
    return outputs, torch.where((label >= 0)[:, None], smooth, 0.0)


@pytest.mark.parametrize("substitute", [False, True])
def test_one_step_of_equation_8(images, substitute):
    lesson = a_lesson(images, substitute)
    before, after, _ = taught(images, lesson, StudentSettings(weight=1.5, curriculum="random"))
    outputs, smooth = outputs_and_lesson(images, before, lesson)
    teacher = lesson.teacher_logits[ROWS].softmax(1).nan_to_num(0.0)
    loss = cross_entropy(outputs["cls"], smooth) + 1.5 * cross_entropy(outputs["dist"], teacher)
    if lesson.substitute_logits is not None:
        loss += cross_entropy(outputs["cls"], lesson.substitute_logits[ROWS].softmax(1).nan_to_num(0.0))
    assert_stepped(before, after, loss.mean())


def test_one_step_with_a_weighting_is_the_same_sum_and_a_fine_tuned_teacher(images):
    """Neutral weights: the terms of equation 8 with their constants, and the further teacher at the distillation token."""
    fine_tuned = two_way(normal(len(images), seed=3))
    lesson = replace(a_lesson(images, substitute=True), fine_tuned_logits=fine_tuned)
    lesson.label_weight[ROWS[1::3]] = 0.25
    assert lesson.sources == ["label", "specialists", "substitute", "fine_tuned"]
    settings = StudentSettings(weight=1.5, curriculum="random")
    before, after, _ = taught(images, lesson, settings, weighting=Equal())
    outputs, smooth = outputs_and_lesson(images, before, lesson)
    teacher, further = (each[ROWS].softmax(1).nan_to_num(0.0) for each in (lesson.teacher_logits, fine_tuned))
    substitute = lesson.substitute_logits[ROWS].softmax(1).nan_to_num(0.0)
    share = torch.where(lesson.label[ROWS] < 0, 1.0, 1 - lesson.label_weight[ROWS])
    loss = lesson.label_weight[ROWS] * cross_entropy(outputs["cls"], smooth) + share * cross_entropy(
        outputs["cls"], substitute
    )
    loss += 1.5 * cross_entropy(outputs["dist"], teacher) + cross_entropy(outputs["dist"], further)
    assert_stepped(before, after, loss.mean())


def test_weights_are_learned_for_both_tokens(images):
    """A held-out label is judged at both tokens, so that what speaks to either has a derivative."""
    lesson = replace(a_lesson(images), fine_tuned_logits=two_way(normal(len(images), seed=3)))
    weighting = AMAL(len(images), 3)
    held_out = images.subset(images.rows("teacher_val", "teacher_test"))
    settings = StudentSettings(curriculum="random")
    taught(images, lesson, settings, weighting=weighting, held_out=held_out, adapt_every=1)
    moved = weighting.weights[ROWS] != 1
    assert moved[lesson.label[ROWS] >= 0, 0].all()
    assert not moved[lesson.label[ROWS] < 0, 0].any()
    assert moved[lesson.teacher_logits[ROWS].isfinite().all(1), 1].all()
    assert moved[:, 2].all()


def test_one_step_of_hard_distillation(images):
    lesson = a_lesson(images)
    before, after, _ = taught(images, lesson, StudentSettings("hard", curriculum="random"))
    outputs, smooth = outputs_and_lesson(images, before, lesson)
    logits = lesson.teacher_logits[ROWS]
    verdict = torch.where(logits.isfinite(), (logits == logits.max(1, keepdim=True).values).float(), 0.0)
    loss = cross_entropy(outputs["cls"], smooth) + cross_entropy(outputs["dist"], verdict)
    assert_stepped(before, after, loss.mean())


def test_one_step_with_everyones_own_specialist(images):
    """Temperature 2: the cross-entropy of the softened distributions, times 4."""
    lesson, own = a_lesson(images), normal(len(images), 3, seed=2)
    before, after, _ = taught(images, lesson, StudentSettings(temperature=2.0), own)
    outputs, smooth = outputs_and_lesson(images, before, lesson)
    dealt = Curriculum(lesson.subtask[ROWS], "cc", torch.tensor([0.5, 0.1, 0.9]), 7).deal(0)
    teacher = (two_way(own[ROWS, dealt]) / 2).softmax(1)
    loss = cross_entropy(outputs["cls"], smooth) + 4 * cross_entropy(outputs["dist"] / 2, teacher)
    assert_stepped(before, after, loss.mean())


def test_the_own_specialist_follows_the_deal():
    index = torch.tensor([9, 2, 5, 0, 7, 4])  # the row at each place
    log_odds_NK = normal(10, 3)
    curriculum = Curriculum(torch.tensor([0, -1, 2, -1, -1, 1]), "cc", torch.rand(3), seed=1)
    signal = OwnSpecialist(log_odds_NK, index, curriculum, StudentSettings())
    assert signal.teacher_logits({"index": torch.tensor([2])}).isnan().any()  # before the first epoch
    for epoch in (0, 1, 5):
        signal.begin_epoch(epoch, None)
        task = curriculum.deal(epoch)
        expected = torch.stack([log_odds_NK[row, k] for row, k in zip(index, task, strict=True)])
        assert torch.equal(signal.teacher_logits({"index": index}), two_way(expected))
        assert signal.teacher_logits({"index": torch.tensor([1])}).isnan().any()  # takes no part
    again = OwnSpecialist(log_odds_NK, index, curriculum, StudentSettings())
    again.load_state_dict(signal.state_dict())
    assert torch.equal(again.teacher_logits({"index": index}), signal.teacher_logits({"index": index}))
    assert isinstance(signal, Distillation)


def test_the_order_of_the_curriculum(images, monkeypatch):
    seen: list[int] = []
    original = Curriculum.__call__
    monkeypatch.setattr(Curriculum, "__call__", lambda self, epoch: seen.append(epoch) or original(self, epoch))
    taught(images, a_lesson(images), StudentSettings())
    assert 0 in seen


def test_the_score_is_the_last_class():
    one = normal(5, 4)
    assert torch.allclose(acceptability(one), one.double().softmax(1)[:, 3])
    two = {"cls": normal(5, 2), "dist": normal(5, 2, seed=1)}
    mean = (two["cls"] + two["dist"]) / 2
    assert torch.allclose(acceptability(two), (mean[:, 1] - mean[:, 0]).double().sigmoid())


def test_what_selects_a_student():
    logits, labels = normal(40, 2), torch.arange(40) % 3 % 2
    scores = acceptability(logits).numpy()
    area = auroc(scores, labels.numpy())
    assert selects("auroc", 0.05)(logits, {"label": labels}) == area
    npv = npv_at_fpr(scores, labels.numpy(), 0.05)
    assert selects("npv", 0.05)(logits, {"label": labels}) == pytest.approx(npv + 1e-3 * area)
    by_torch = -torch.nn.functional.cross_entropy(logits.double(), labels)
    assert selects("likelihood", 0.05)(logits, {"label": labels}) == pytest.approx(float(by_torch))


def test_the_checkpoint_is_what_student_val_selects(images):
    _, after, fitted = taught(images, a_lesson(images), StudentSettings())
    rows = images.rows("student_val")
    with torch.no_grad():
        scores = acceptability(after.eval()(images.images.gather(rows.tolist()))).numpy()
    assert fitted.best is not None
    assert fitted.best["val"] == pytest.approx(auroc(scores, images.labels[rows].numpy()), abs=1e-9)
    assert np.isfinite(scores).all()


def test_a_student_without_a_distillation_token(images):
    with pytest.raises(ValueError, match=r"student 'pocket_resnet' has no distillation token; take one that has"):
        teach(
            pocket.network(2),
            a_lesson(images),
            images.subset(ROWS),
            StudentSettings(),
            one_step(images),
            confidence_K=torch.rand(3),
        )

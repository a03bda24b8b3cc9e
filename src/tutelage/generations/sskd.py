"""SSKD: a student also learns how its teacher compares an image with rotated copies of all images of the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.checks import check
from tutelage.signals import Batch, CrossEntropy, Distillation, Frozen, Outputs, Signal
from tutelage.training import Budget, Fitted, Plan, fit
from tutelage.weighting import Fixed

TURNS = 3  # copies of an image: by 90, 180 and 270 degrees


@dataclass(frozen=True)
class SSKDSettings:
    """The four losses of SSKD. The defaults are the authors'.

    Args:
        label: Weight of the cross-entropy with the label.
        distillation: Weight of the distillation on the images as they are.
        rotated: Weight of the distillation on their rotated copies.
        comparison: Weight of the distillation of similarities.
        temperature: Of both distillations.
        similarity_temperature: Of the softmax over similarities.
        keep_rotated: Share of the rotated copies that the teacher gets wrong which are kept, the least wrong ones; those that
            it gets right always are.
        keep_comparison: The same of the comparisons.
        width: Outputs of the projections that are compared.
        projection: Budget of the teacher's own projection.
    """

    label: float = 0.1
    distillation: float = 0.9
    rotated: float = 2.7
    comparison: float = 10.0
    temperature: float = 4.0
    similarity_temperature: float = 0.5
    keep_rotated: float = 1.0
    keep_comparison: float = 0.75
    width: int = 128
    projection: Budget = Budget(epochs=60)

    def __post_init__(self) -> None:
        """Check the values."""
        weights = dict.fromkeys(("label", "distillation", "rotated", "comparison"), "[0, inf)")
        temperatures = dict.fromkeys(("temperature", "similarity_temperature"), "(0, inf)")
        check(self, **weights, **temperatures, keep_rotated="[0, 1]", keep_comparison="[0, 1]", width="[1, inf)")


class FourViews(nn.Module):
    """A classifier that sees each image and its three rotations, and projects what it sees for comparison.

    It returns ``logits`` (B, C) of the images, ``rotated`` (B, 3, C) of their copies, and ``projected`` unit vectors (B, 4, D).

    Args:
        encoder: from images to features (B, F).
        head: from features to logits.
        features: F.
        width: D.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, features: int, width: int = 128) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.projection = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, width))

    def forward(self, input: Tensor) -> dict[str, Tensor]:
        """Return the three outputs."""
        views = torch.stack([torch.rot90(input, turns, (2, 3)) for turns in range(TURNS + 1)], 1)
        features = self.encoder(views.flatten(0, 1))
        logits = self.head(features).unflatten(0, views.shape[:2])
        projected = F.normalize(self.projection(features), dim=1).unflatten(0, views.shape[:2])
        return {"logits": logits[:, 0], "rotated": logits[:, 1:], "projected": projected}

    def classify(self, input: Tensor) -> Tensor:
        """Return the logits (B, C) of the images alone, at a quarter of the cost."""
        return self.head(self.encoder(input))


def similarities(projected_BVD: Tensor, temperature: float) -> Tensor:
    """Return how like each rotated copy is to each image of the batch, (3 B, B): cosines over the temperature."""
    originals, copies = projected_BVD[:, 0], projected_BVD[:, 1:].flatten(0, 1)
    return copies @ originals.T / temperature


def least_wrong(scores_RC: Tensor, right_R: Tensor, keep: float) -> Tensor:
    """Return the rows that are kept: those whose best class is right, and a share of the others, the least wrong first.

    Args:
        scores_RC: the teacher's logits.
        right_R: the right class of each row.
        keep: the share.
    """
    correct_R = scores_RC.argmax(1) == right_R
    wrong = (~correct_R).nonzero().squeeze(1)
    order = scores_RC.log_softmax(1)[wrong, right_R[wrong]].argsort(descending=True, stable=True)
    return torch.cat([correct_R.nonzero().squeeze(1), wrong[order[: int(keep * len(wrong))]]]).sort().values


class _OfCopies(Signal):
    """Distillation on rotated copies: of those that the teacher gets right, and the least wrong of the others."""

    separable = False

    def __init__(self, teacher: nn.Module, temperature: float, keep: float, name: str) -> None:
        super().__init__(name)
        self.teacher = Frozen(teacher)
        self.temperature = temperature
        self.keep = keep

    def divergence(self, student_RC: Tensor, teacher_RC: Tensor, right_B: Tensor) -> Tensor:
        rows = least_wrong(teacher_RC, right_B.repeat_interleave(TURNS), self.keep)
        if len(rows) == 0:
            return 0 * student_RC.sum()
        student, teacher = (scores[rows].div(self.temperature).log_softmax(1) for scores in (student_RC, teacher_RC))
        return self.temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


class RotatedDistillation(_OfCopies):
    r"""Distillation on rotated copies, of those that the teacher gets right and the least wrong of the others.

    .. math:: \tau^2\,\frac1{|R|}\sum_{r\in R}\mathrm{KL}\big(\mathrm{softmax}(t_r/\tau)\,\|\,\mathrm{softmax}(z_r/\tau)\big)

    Args:
        teacher: a `FourViews`.
        temperature: tau.
        keep: the share of the wrong ones that is kept; all losses of the batch are one number, so that it is not separable.
        target: the batch's key of the labels.
    """

    def __init__(self, teacher: nn.Module, temperature: float, keep: float, target: str = "label") -> None:
        super().__init__(teacher, temperature, keep, "rotated")
        self.target = target

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the loss, a scalar."""
        both: tuple[Any, Any] = (outputs, self.teacher(batch["input"]))
        student, teacher = (said["rotated"].flatten(0, 1).float() for said in both)
        return self.divergence(student, teacher, batch[self.target])


class ComparedDistillation(_OfCopies):
    r"""Distillation of the similarities of rotated copies to all images of the batch.

    .. math:: T^2\,\frac1{|R|}\sum_{r\in R}\mathrm{KL}\big(\mathrm{softmax}(A^t_r)\,\|\,\mathrm{softmax}(A^s_r)\big)

    with A = cosines over ``temperature``, and T the same, since the softmax is taken once. Kept are the copies whose own image
    the teacher finds, and the least wrong of the others.

    Args:
        teacher: a `FourViews`.
        temperature: of the similarities.
        keep: the share of the wrong ones that is kept.
    """

    def __init__(self, teacher: nn.Module, temperature: float, keep: float) -> None:
        super().__init__(teacher, temperature, keep, "comparison")

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the loss, a scalar."""
        both: tuple[Any, Any] = (outputs, self.teacher(batch["input"]))
        student, teacher = (similarities(said["projected"].float(), 1.0) for said in both)
        return self.divergence(student, teacher, torch.arange(teacher.shape[1], device=teacher.device))


class Contrast(Signal):
    """The teacher's own task: to tell which image of the batch a rotated copy is of, by cross-entropy over similarities."""

    separable = False

    def __init__(self, temperature: float) -> None:
        super().__init__("contrast")
        self.temperature = temperature

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the loss, a scalar."""
        assert not isinstance(outputs, Tensor)
        found_RB = similarities(outputs["projected"].float(), self.temperature)
        own_R = torch.arange(found_RB.shape[1], device=found_RB.device).repeat_interleave(TURNS)
        return F.cross_entropy(found_RB, own_R)


@dataclass(frozen=True)
class SelfSupervised:
    """What `sskd` returns: the teacher with its projection, and the student."""

    teacher: Fitted
    student: Fitted


def sskd(
    new: Callable[[int], FourViews], train: Any, settings: SSKDSettings, plan: Plan, *, target: str = "label"
) -> SelfSupervised:
    """Train a teacher on the labels, then its projection alone on the contrast, then the student on all four losses.

    Args:
        new: ``new(0)`` is the teacher, ``new(1)`` the student.
        train: the data set of square images.
        settings: the losses.
        plan: what the trainings share.
        target: the batch's key of the labels.

    Source: Xu et al., *Knowledge Distillation Meets Self-Supervision*, ECCV 2020; the released program's weights.
    """
    teacher = new(0)
    fit(teacher, train, signals=[CrossEntropy(target, head="logits")], plan=plan.named("teacher"))
    teacher.encoder.requires_grad_(False)
    teacher.head.requires_grad_(False)
    projecting = replace(plan.named("projection"), budget=settings.projection, val=None, select_by=None, heads=())
    contrast = Contrast(settings.similarity_temperature)
    own = fit(_StillBody(teacher), train, signals=[contrast], plan=projecting)
    signals: list[Signal] = [
        CrossEntropy(target, head="logits"),
        Distillation(teacher, temperature=settings.temperature, head="logits", teacher_head="logits"),
        RotatedDistillation(teacher, settings.temperature, settings.keep_rotated, target),
        ComparedDistillation(teacher, settings.similarity_temperature, settings.keep_comparison),
    ]
    weights = [settings.label, settings.distillation, settings.rotated, settings.comparison]
    student = fit(new(1), train, signals=signals, plan=plan.named("student"), weighting=Fixed(weights))
    own.model = teacher
    return SelfSupervised(own, student)


class _StillBody(nn.Module):
    """A teacher of which the projection alone is trained: the rest stays in eval mode, its statistics as they are."""

    def __init__(self, teacher: FourViews) -> None:
        super().__init__()
        self.teacher = teacher

    def train(self, mode: bool = True) -> _StillBody:
        super().train(mode)
        self.teacher.encoder.eval()
        self.teacher.head.eval()
        return self

    def forward(self, input: Tensor) -> dict[str, Tensor]:
        return self.teacher(input)

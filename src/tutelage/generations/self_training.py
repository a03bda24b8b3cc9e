"""SWSL: pre-train a student on the images that a teacher is surest of, class by class, then fine-tune it on the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tutelage.checks import check
from tutelage.generations.chain import NewModel, Relabelled, logits_of
from tutelage.signals import CrossEntropy
from tutelage.training import Budget, Fitted, Plan, fit


@dataclass(frozen=True)
class SelfTrainingSettings:
    """How a student is pre-trained.

    Args:
        top: K, the images that a class gets.
        considered: P, the classes for which an image is considered: its likeliest ones.
        pretraining: The pre-training's budget; the plan's where it is not given.
        smoothing: Label smoothing of all trainings.
    """

    top: int = 16_000
    considered: int = 10
    pretraining: Budget | None = None
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, top="[1, inf)", considered="[1, inf)", smoothing="[0, 1)")


def surest_of_each_class(probabilities_NC: Tensor, top: int, considered: int) -> tuple[Tensor, Tensor]:
    """Return the places and classes of the ``top`` images that are likeliest in each class, (n,) and (n,).

    An image is considered for its ``considered`` likeliest classes, and may be chosen for several of them. Ties go to the
    earlier image.
    """
    considered = min(considered, probabilities_NC.shape[1])
    own_NC = torch.zeros_like(probabilities_NC, dtype=torch.bool)
    own_NC.scatter_(1, probabilities_NC.argsort(dim=1, descending=True, stable=True)[:, :considered], True)
    places, classes = [], []
    for number in range(probabilities_NC.shape[1]):
        members = own_NC[:, number].nonzero().squeeze(1)
        order = probabilities_NC[members, number].argsort(descending=True, stable=True)[:top]
        places.append(members[order])
        classes.append(torch.full((len(order),), number))
    return torch.cat(places), torch.cat(classes)


def self_training(
    new: NewModel,
    examples: Callable[[Tensor], Any],
    labelled: Tensor,
    unlabelled: Tensor,
    settings: SelfTrainingSettings,
    plan: Plan,
    *,
    head: str | None = None,
) -> Fitted:
    """Train a teacher on the labels, pre-train a student on what it is surest of, and fine-tune the student on the labels.

    Args:
        new: ``new(0)`` is the teacher, ``new(1)`` the student.
        examples: ``examples(rows)`` is the data set of these rows, with ``label``.
        labelled: the rows that have a label.
        unlabelled: the rows that the teacher labels.
        settings: K, P and the budget of the pre-training.
        plan: what the trainings share.
        head: the model's head that the teacher speaks with, where it has several.

    Source: Yalniz et al., *Billion-Scale Semi-Supervised Learning for Image Classification*, 2019, section 3.
    """
    if len(unlabelled) == 0:
        raise ValueError("unlabelled is empty: self-training needs images that the teacher labels")
    signals = [CrossEntropy(smoothing=settings.smoothing, head=head)]
    teacher = fit(new(0), examples(labelled), signals=signals, plan=plan.named("teacher"))
    said_NC = logits_of(teacher.model, examples(unlabelled), head).softmax(1)
    places, classes = surest_of_each_class(said_NC, settings.top, settings.considered)
    student = new(1)
    pretraining = Relabelled(examples(unlabelled[places]), label=classes)
    own = replace(plan.named("pretraining"), budget=settings.pretraining or plan.budget, val=None, select_by=None)
    fit(student, pretraining, signals=signals, plan=own)
    return fit(student, examples(labelled), signals=signals, plan=plan.named("fine-tuning"))

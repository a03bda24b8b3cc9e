"""Every training of a moderation run, tried on two examples before the first of them begins."""

from __future__ import annotations

from functools import partial

import torch

from tutelage.data import WithColumns
from tutelage.models import ImageClassifier
from tutelage.recipes.moderation.counts import suited
from tutelage.recipes.moderation.settings import ModerationSettings
from tutelage.recipes.moderation.task import ModerationTask
from tutelage.recipes.moderation.teaching import weighting_of
from tutelage.recipes.rehearsal import rehearse_model
from tutelage.subtasks.specialists import Membership


def rehearse(task: ModerationTask, settings: ModerationSettings) -> None:
    """Try discriminator, specialists and student, with what weighs the student's sources.

    Raises:
        ValueError: one of them does not work, or the student has no distillation token.
    """
    settings, _ = suited(task, settings)
    train = task.rows("train")
    outputs = settings.discovery.subtasks if settings.specialists.sharing == "trunk" else 1
    examples = WithColumns(task.images.subset(train[:2]), membership=torch.ones(len(task.images), outputs))
    tried = partial(rehearse_model, examples=examples, images=task.images, settings=settings)
    tried(
        "specialist",
        settings.specialist,
        settings.discovery.outputs,
        optimization=settings.discovery_training,
        optimization_name="discovery_training",
    )
    tried(
        "specialist",
        settings.specialist,
        outputs,
        optimization=settings.specialist_training,
        optimization_name="specialist_training",
        signals=[Membership(1.0)],
    )

    def weigh(student: ImageClassifier) -> None:
        if settings.weighting is not None:
            weighting_of(settings, settings.weighting, student, len(task.images), 3 + settings.lesson.substitute)

    tried("student", settings.student, 2, optimization=settings.training, weigh=weigh, fits=two_heads)


def two_heads(student: ImageClassifier) -> None:
    """Refuse a student without a distillation token."""
    if not student.distilled:
        raise ValueError(
            "the student has no distillation token; take one that has, such as deit_base_distilled_patch16_224 or pocket_deit"
        )

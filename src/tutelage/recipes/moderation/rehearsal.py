"""Every training of a moderation run: tried on two examples before the first of them begins, and listed with its steps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from tutelage.data import WithColumns
from tutelage.models import ImageClassifier, ModelSettings, build
from tutelage.recipes.forecast import Training, steps_of
from tutelage.recipes.input import two_heads
from tutelage.recipes.moderation.counts import suited
from tutelage.recipes.moderation.settings import ModerationSettings
from tutelage.recipes.moderation.start import ENCODER_BUDGET, starts_from_encoder
from tutelage.recipes.moderation.task import ModerationTask
from tutelage.recipes.rehearsal import rehearse_model
from tutelage.recipes.weighing import weighting_of
from tutelage.subtasks.lesson import most_unlabelled
from tutelage.subtasks.specialists import Membership
from tutelage.training import Budget
from tutelage.weighting.settings import options_of


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
            weighting_of(
                settings.weighting,
                options_of(settings, settings.weighting),
                student,
                examples=len(task.images),
                signals=3 + settings.lesson.substitute,
                seed=settings.seed,
            )

    tried("student", settings.student, 2, optimization=settings.training, weigh=weigh, fits=two_heads)


def trainings(task: ModerationTask, settings: ModerationSettings, *, subtasks: bool) -> list[Training]:
    """Return what a run trains, in its order: encoders where the task brings a start, then a stage after the other.

    Args:
        task: what is worked on.
        settings: suited to its counts.
        subtasks: whether sub-tasks are looked for; without, plain fine-tuning is all.
    """
    train = task.rows("train")
    defects = int((task.labels[train] == 0).sum())
    found, special = settings.discovery, settings.specialists
    acceptable = min(defects, len(train) - defects) if found.acceptable else 0
    taught = len(train) + most_unlabelled(len(task.rows("unlabelled")), len(train), settings.lesson)

    def of(name: str, model: ModelSettings, classes: int, budget: Budget, examples: int, batch_size: int) -> Training:
        spec = model.spec(classes, settings.image_size, task.images.num_features)
        return Training(name, spec, partial(build, spec), steps_of(budget, examples, batch_size))

    batch = settings.training.batch_size
    plain = of("plain fine-tuning", settings.student, 2, settings.budget, len(train), batch)
    listed = [plain]
    if subtasks:
        outputs, times, own = found.subtasks, 1, len(train)
        if special.sharing == "separate":  # one after the other, each on its own defects and all that is acceptable
            outputs, times, own = 1, found.subtasks, len(train) - defects + defects // found.subtasks
        size = settings.specialist_training.batch_size
        specialists = of("specialists", settings.specialist, outputs, special.budget, own, size)
        discovery = of(
            "discovery of sub-tasks",
            settings.specialist,
            found.outputs,
            found.budget,
            defects + acceptable,
            settings.discovery_training.batch_size,
        )
        discoveries = settings.doubt.discoveries if settings.doubt.used else 1
        listed = [
            replace(discovery, steps=discoveries * discovery.steps),
            replace(specialists, steps=times * specialists.steps),
            plain,
            of("student", settings.student, 2, settings.budget.times(settings.learning.times), taught, batch),
        ]
    models = [settings.specialist, settings.student] if subtasks else [settings.student]
    encoders = [
        of(f"encoder {model.name}", model, 2, ENCODER_BUDGET, 1, 1)
        for model in models
        if starts_from_encoder(model, task)
    ]
    return [*encoders, *listed]

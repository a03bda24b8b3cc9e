"""Every training of a distillation, tried on two examples before the first of them begins."""

from __future__ import annotations

from functools import partial

import torch

from tutelage.data import WithColumns
from tutelage.models import ImageClassifier, ModelSettings, build
from tutelage.recipes.distill.methods import method_of
from tutelage.recipes.distill.pipeline import LABEL
from tutelage.recipes.distill.settings import DistillSettings
from tutelage.recipes.distill.task import DistillTask
from tutelage.recipes.distill.teachers import given_teacher
from tutelage.recipes.forecast import Training, steps_of
from tutelage.recipes.input import one_head
from tutelage.recipes.rehearsal import rehearse_model
from tutelage.recipes.weighing import weighting_of
from tutelage.reports.distill import NAMES
from tutelage.signals import CrossEntropy, Distillation
from tutelage.training import Budget
from tutelage.weighting.hpo import check_search


def rehearse(task: DistillTask, settings: DistillSettings) -> None:
    """Try the teachers, and the student with what weighs its losses in each method.

    Raises:
        ValueError: one of them does not work, a given teacher knows other classes, or a coreset is to be drawn by a weighting
            that keeps no weights.
    """
    images, classes = task.images, len(task.classes)
    signals = [CrossEntropy(name=LABEL), Distillation("teacher_logits", temperature=settings.temperature)]
    examples = WithColumns(images.subset(images.rows("train")[:2]), teacher_logits=torch.zeros(len(images), classes))
    tried = partial(
        rehearse_model,
        examples=examples,
        images=images,
        settings=settings,
        optimization=settings.training,
        fits=one_head,
    )
    methods = settings.trained
    losses = 1 + len(settings.teachers)
    if "hpo" in methods:
        check_search(losses, settings.trials, (0.1, 10.0))

    def weigh(student: ImageClassifier) -> None:
        for name in methods:
            by_weights = name == "coreset" and settings.coreset.rule != "random"
            if name in ("hpo", "coreset") and not by_weights:
                continue
            method = method_of(settings.weighting if by_weights else name, settings)
            heard = losses if method.teachers else 1
            made = weighting_of(
                method.weighting, method.options, student, examples=len(images), signals=heard, seed=settings.seed
            )
            if (
                by_weights
                and made.last_weights(torch.zeros(1, heard), {"index": torch.zeros(1, dtype=torch.int64)}) is None
            ):
                raise ValueError(f"{settings.weighting!r} keeps no weights to draw a coreset by; take amal or joint")

    for place, teacher in enumerate(settings.teachers if set(methods) != {"ce"} else ()):
        name = f"teachers.{place}"
        if teacher.folder is not None:
            given_teacher(teacher.folder, task)
        else:
            tried(f"{name}.model", teacher.model, classes, signals=signals[:1])
    tried("student", settings.student, classes, signals=signals, weigh=weigh)


def trainings(task: DistillTask, settings: DistillSettings) -> list[Training]:
    """Return what a run trains: the teachers that are not given, and a student by each method."""
    images = task.images

    def of(name: str, model: ModelSettings, budget: Budget, times: int = 1) -> Training:
        spec = model.spec(len(task.classes), settings.image_size, images.num_features)
        steps = times * steps_of(budget, len(images.rows("train")), settings.training.batch_size)
        return Training(name, spec, partial(build, spec), steps)

    students = [
        of(NAMES[name], settings.student, settings.budget, settings.trials if name == "hpo" else 1)
        for name in settings.trained
    ]
    if set(settings.trained) == {"ce"}:
        return students
    own = [each for each in settings.teachers if each.folder is None]
    return [*(of("teacher", each.model, each.budget or settings.budget) for each in own), *students]

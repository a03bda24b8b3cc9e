"""Every training of a multi-label run, tried on two examples before the first of them begins."""

from __future__ import annotations

from functools import partial

from tutelage import training
from tutelage.generations.schedule import schedule_of
from tutelage.recipes.forecast import Training, steps_of
from tutelage.recipes.input import augmentation_of, described
from tutelage.recipes.multilabel.lesson import given_labels, new_model, teacher_settings, training_rows
from tutelage.recipes.multilabel.settings import ONE_LABEL, MultilabelSettings
from tutelage.recipes.multilabel.task import MultilabelTask
from tutelage.recipes.multilabel.training import ITERATED, candidates, stage_name
from tutelage.signals import BinaryCrossEntropy, CrossEntropy


def rehearse(task: MultilabelTask, settings: MultilabelSettings) -> None:
    """Try the model and its loss, and divide the budget into the generations of every candidate.

    Raises:
        ValueError: something of it does not work, the budget is shorter than a generation, or a softmax is to learn several
            labels of an image.
    """
    if settings.method in ONE_LABEL and task.several:
        raise ValueError(
            f"method={settings.method!r} learns one label an image, and some have several; take mile or sigmoid"
        )
    if settings.method == "noisy_student" and len(task.images.rows("unlabelled")) == 0:
        raise ValueError(
            "method='noisy_student' needs images without a label, which its teachers label; leave cells of the label empty"
        )
    if settings.method == "noisy_student" and settings.rebalance > 0:
        raise ValueError(
            f"rebalance={settings.rebalance}: noisy student balances what its teachers label by noisy_student.per_class; leave "
            "rebalance out"
        )
    rows = training_rows(task, settings)
    if settings.method in ITERATED:
        for tried in candidates(settings):
            schedule_of(tried.iterated, settings.budget, rows, settings.training.batch_size)
    target, examples = given_labels(task)
    teacher = [("distilled.teacher", teacher_settings(settings))] if settings.method == "distilled" else []
    for name, own in [("model", settings), *teacher]:
        training.rehearse(
            described(name, own.model, settings.image_size),
            partial(new_model, task, own),
            examples(rows[:2]),
            optimization=settings.training,
            weights=own.model.pretrained or own.self_supervised,
            augment=augmentation_of(settings),
            signals=[(CrossEntropy if settings.method in ONE_LABEL else BinaryCrossEntropy)(target)],
        )


def trainings(task: MultilabelTask, settings: MultilabelSettings) -> list[Training]:
    """Return what a run trains: a model of each candidate."""
    rows, size = training_rows(task, settings), settings.training.batch_size
    found = []
    for tried in candidates(settings):
        steps, everything = steps_of(tried.budget, len(rows), size), len(rows) + len(task.images.rows("unlabelled"))
        if tried.method == "distilled":
            own = teacher_settings(tried)
            found.append(Training("teacher", own.model, partial(new_model, task, own), steps))
            steps = steps_of(tried.budget, everything, size)
        elif tried.method == "noisy_student":
            found.append(Training("teacher", tried.model, partial(new_model, task, tried), steps))
            steps = tried.noisy_student.students * steps_of(tried.budget, everything, size)
        elif tried.method in ITERATED:
            steps = schedule_of(tried.iterated, tried.budget, rows, size).steps
        found.append(Training(stage_name(tried), settings.model, partial(new_model, task, settings), steps))
    return found

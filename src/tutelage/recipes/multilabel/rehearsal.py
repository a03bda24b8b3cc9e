"""Every training of a multi-label run, tried on two examples before the first of them begins."""

from __future__ import annotations

from functools import partial

from tutelage import training
from tutelage.generations.schedule import schedule_of
from tutelage.recipes.forecast import Training, steps_of
from tutelage.recipes.input import augmentation_of, described
from tutelage.recipes.multilabel.settings import ONE_LABEL, MultilabelSettings
from tutelage.recipes.multilabel.task import MultilabelTask
from tutelage.recipes.multilabel.training import candidates, given_labels, new_model, stage_name, training_rows
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
    rows = training_rows(task, settings)
    if settings.method in ("mile", "hard", "soft"):
        for tried in candidates(settings):
            schedule_of(tried.iterated, settings.budget, rows, settings.training.batch_size)
    target, examples = given_labels(task)
    training.rehearse(
        described("model", settings.model, settings.image_size),
        partial(new_model, task, settings),
        examples(rows[:2]),
        optimization=settings.training,
        weights=settings.model.pretrained or settings.self_supervised,
        augment=augmentation_of(settings),
        signals=[(CrossEntropy if settings.method in ONE_LABEL else BinaryCrossEntropy)(target)],
    )


def trainings(task: MultilabelTask, settings: MultilabelSettings) -> list[Training]:
    """Return what a run trains: a model of each candidate."""
    rows, size = training_rows(task, settings), settings.training.batch_size
    found = []
    for tried in candidates(settings):
        steps = steps_of(tried.budget, len(rows), size)
        if tried.method in ("mile", "hard", "soft"):
            steps = schedule_of(tried.iterated, tried.budget, rows, size).steps
        found.append(Training(stage_name(tried), settings.model, partial(new_model, task, settings), steps))
    return found

"""The training on rules and labels, tried on two examples before it begins."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tutelage import training
from tutelage.models import RuleModel
from tutelage.recipes.denoise.lesson import even, lesson_of
from tutelage.recipes.denoise.methods import seconds_of_step, weighting_for
from tutelage.recipes.denoise.settings import DenoiseSettings
from tutelage.recipes.denoise.task import RuleTask
from tutelage.recipes.forecast import Training, steps_of


def rehearse(task: RuleTask, settings: DenoiseSettings) -> None:
    """Try the model, the losses and what weighs them; the training on the labels alone is a part of that.

    Raises:
        ValueError: something of it does not work, or there is nothing for the method to learn from.
    """
    lesson = lesson_of(task, settings, even=even(settings))
    training.rehearse(
        f"classifier.kind={settings.classifier.kind!r}, method={settings.method!r}",
        partial(RuleModel, lesson.spec),
        lesson.data.subset(lesson.rows[:2]),
        optimization=lesson.optimization,
        signals=lesson.signals,
        weigh=lambda model: weighting_for(settings, len(task.table), len(lesson.signals), model),
    )


def trainings(task: RuleTask, planned: dict[str, DenoiseSettings]) -> list[Training]:
    """Return what a run trains: each candidate, and each again on all labels but the test's."""
    found = []
    for name, each in planned.items():
        lesson = lesson_of(task, each, even=even(each))
        seconds = seconds_of_step(task, each, even=even(each))
        steps = steps_of(each.budget, len(lesson.sampler(0)), each.training.batch_size)
        found.append(Training(name.replace("_", " "), lesson.spec, partial(RuleModel, lesson.spec), steps, seconds))
    again = [replace(each, name=f"{each.name}, all but the test's") for each in found]
    return found + again if len(task.parts()[2]) else found

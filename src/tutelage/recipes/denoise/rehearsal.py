"""The training on rules and labels, tried on two examples before it begins."""

from __future__ import annotations

from functools import partial

from tutelage import training
from tutelage.models import RuleModel
from tutelage.recipes.denoise.methods import lesson_of, weighting_of
from tutelage.recipes.denoise.settings import DenoiseSettings
from tutelage.recipes.denoise.task import RuleTask


def rehearse(task: RuleTask, settings: DenoiseSettings) -> None:
    """Try the model, the losses and what weighs them; the training on the labels alone is a part of that.

    Raises:
        ValueError: something of it does not work, or there is nothing for the method to learn from.
    """
    lesson = lesson_of(task, settings)
    training.rehearse(
        f"classifier.kind={settings.classifier.kind!r}, method={settings.method!r}",
        partial(RuleModel, lesson.spec),
        lesson.data.subset(lesson.rows[:2]),
        optimization=lesson.optimization,
        signals=lesson.signals,
        weigh=lambda model: weighting_of(settings, len(task.table), len(lesson.signals), model),
    )

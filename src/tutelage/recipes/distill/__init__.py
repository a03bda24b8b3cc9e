"""AMAL (AAAI 2023): distillation in which each example listens to its label and its teachers as far as they help."""

from tutelage.recipes.distill.distill import Distilled, distill, score, score_run
from tutelage.recipes.distill.pipeline import Pipeline
from tutelage.recipes.distill.settings import (
    CoresetSettings,
    DistillSettings,
    MixingSettings,
    NoiseSettings,
    Shares,
    TeacherSettings,
    pocket,
    settings_for,
)
from tutelage.recipes.distill.task import Task, task_of

__all__ = [
    "CoresetSettings",
    "DistillSettings",
    "Distilled",
    "MixingSettings",
    "NoiseSettings",
    "Pipeline",
    "Shares",
    "Task",
    "TeacherSettings",
    "distill",
    "pocket",
    "score",
    "score_run",
    "settings_for",
    "task_of",
]

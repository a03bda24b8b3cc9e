"""AMAL (AAAI 2023): distillation in which the label and the teachers of each example are weighed by how much they help."""

from tutelage.data.wrong_labels import NoiseSettings
from tutelage.recipes.distill.pipeline import Pipeline
from tutelage.recipes.distill.recipe import RECIPE
from tutelage.recipes.distill.settings import CoresetSettings, DistillSettings, Shares, TeacherSettings, laptop, pocket
from tutelage.recipes.distill.task import DistillTask, distill_task

__all__ = [
    "RECIPE",
    "CoresetSettings",
    "DistillSettings",
    "DistillTask",
    "NoiseSettings",
    "Pipeline",
    "Shares",
    "TeacherSettings",
    "distill_task",
    "laptop",
    "pocket",
]

"""Sub-task imputation (CIKM 2022): from labelled images and a policy's one label to a moderation model."""

from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.recipes.moderation.recipe import RECIPE
from tutelage.recipes.moderation.settings import ModerationSettings, laptop, pocket
from tutelage.recipes.moderation.task import ModerationTask, demo_task, moderation_task, posters_task

__all__ = [
    "RECIPE",
    "ModerationSettings",
    "ModerationTask",
    "Pipeline",
    "demo_task",
    "laptop",
    "moderation_task",
    "pocket",
    "posters_task",
]

"""Sub-task imputation (CIKM 2022): from labelled images and a policy's one label to a moderation model."""

from tutelage.recipes.moderation.moderate import Moderated, moderate, score, score_run
from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.recipes.moderation.settings import ModerationSettings, pocket, settings_for
from tutelage.recipes.moderation.task import Task, manifest_task, posters_task, products_task

__all__ = [
    "Moderated",
    "ModerationSettings",
    "Pipeline",
    "Task",
    "manifest_task",
    "moderate",
    "pocket",
    "posters_task",
    "products_task",
    "score",
    "score_run",
    "settings_for",
]

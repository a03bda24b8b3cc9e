"""Multi-label iterated learning (CVPR 2022): from one label an image to all of them."""

from tutelage.recipes.multilabel.multilabel import Multilabelled, multilabel, score, score_run
from tutelage.recipes.multilabel.settings import MultilabelSettings, SearchSettings, pocket, settings_for
from tutelage.recipes.multilabel.task import MultilabelTask, grids_task, manifest_task

__all__ = [
    "MultilabelSettings",
    "MultilabelTask",
    "Multilabelled",
    "SearchSettings",
    "grids_task",
    "manifest_task",
    "multilabel",
    "pocket",
    "score",
    "score_run",
    "settings_for",
]

"""Multi-label iterated learning (CVPR 2022): from one label an image to all of them."""

from tutelage.recipes.multilabel.recipe import RECIPE
from tutelage.recipes.multilabel.settings import DistilledSettings, MultilabelSettings, SearchSettings, laptop, pocket
from tutelage.recipes.multilabel.task import MultilabelTask, grids_task, multilabel_task

__all__ = [
    "RECIPE",
    "DistilledSettings",
    "MultilabelSettings",
    "MultilabelTask",
    "SearchSettings",
    "grids_task",
    "laptop",
    "multilabel_task",
    "pocket",
]

"""MAOAL (NeurIPS 2022): a primary task with auxiliary losses, each weighed in the modules that it helps."""

from tutelage.recipes.auxiliary.recipe import RECIPE
from tutelage.recipes.auxiliary.settings import (
    AuxiliarySettings,
    BodySettings,
    Shares,
    TaskSpec,
    declared,
    laptop,
    pocket,
    tabular,
)
from tutelage.recipes.auxiliary.sources import auxiliary_task
from tutelage.recipes.auxiliary.task import AuxiliaryTask

__all__ = [
    "RECIPE",
    "AuxiliarySettings",
    "AuxiliaryTask",
    "BodySettings",
    "Shares",
    "TaskSpec",
    "auxiliary_task",
    "declared",
    "laptop",
    "pocket",
    "tabular",
]

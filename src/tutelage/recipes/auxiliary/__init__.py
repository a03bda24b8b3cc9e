"""MAOAL (NeurIPS 2022): a primary task with auxiliary losses, each listened to in the modules that it helps."""

from tutelage.recipes.auxiliary.learn import Finished, learn
from tutelage.recipes.auxiliary.problem import Problem
from tutelage.recipes.auxiliary.score import score_run
from tutelage.recipes.auxiliary.settings import (
    AuxiliarySettings,
    BodySettings,
    Shares,
    TaskSpec,
    WeightSettings,
    declared,
    pocket,
    settings_for,
)
from tutelage.recipes.auxiliary.sources import problem_of

__all__ = [
    "AuxiliarySettings",
    "BodySettings",
    "Finished",
    "Problem",
    "Shares",
    "TaskSpec",
    "WeightSettings",
    "declared",
    "learn",
    "pocket",
    "problem_of",
    "score_run",
    "settings_for",
]

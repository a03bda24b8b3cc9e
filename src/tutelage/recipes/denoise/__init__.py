"""Labelling rules and few labels: AMAL's second application (AAAI 2023, section 4.2), and the methods of its Table 2."""

from tutelage.recipes.denoise.lesson import METHODS
from tutelage.recipes.denoise.methods import Trained, train
from tutelage.recipes.denoise.recipe import RECIPE
from tutelage.recipes.denoise.settings import DenoiseSettings, pocket
from tutelage.recipes.denoise.task import RuleTask, text_task

__all__ = ["METHODS", "RECIPE", "DenoiseSettings", "RuleTask", "Trained", "pocket", "text_task", "train"]

"""Labelling rules and few labels: AMAL's second application (AAAI 2023, section 4.2), and the methods of its Table 2."""

from tutelage.recipes.denoise.denoise import Denoised, denoise, score, score_run
from tutelage.recipes.denoise.methods import METHODS, Trained, train
from tutelage.recipes.denoise.settings import DenoiseSettings, pocket, settings_for
from tutelage.recipes.denoise.task import RuleTask, text_task, unipolar

__all__ = [
    "METHODS",
    "DenoiseSettings",
    "Denoised",
    "RuleTask",
    "Trained",
    "denoise",
    "pocket",
    "score",
    "score_run",
    "settings_for",
    "text_task",
    "train",
    "unipolar",
]

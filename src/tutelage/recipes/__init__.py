"""A paper each, as a short composition of the rooms; `run`, `predict` and `report` are the same for all."""

from tutelage.recipes.finished import predict, recipe_of, report
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.registry import RECIPES, load
from tutelage.recipes.relabel import label_issues
from tutelage.recipes.running import Run, run
from tutelage.recipes.task import Task

__all__ = ["RECIPES", "Recipe", "Run", "Task", "label_issues", "load", "predict", "recipe_of", "report", "run"]

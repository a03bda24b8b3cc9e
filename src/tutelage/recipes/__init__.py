"""A paper each, as a short composition of the rooms; `run`, `predict` and `report` are the same for all."""

from tutelage.recipes.recipe import RECIPES, Recipe, Run, Task, load, predict, recipe_of, report, run
from tutelage.recipes.relabel import label_issues

__all__ = ["RECIPES", "Recipe", "Run", "Task", "label_issues", "load", "predict", "recipe_of", "report", "run"]

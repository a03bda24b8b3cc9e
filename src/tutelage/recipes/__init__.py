"""A paper each, as a short composition of the rooms; `run`, `predict` and `report` are the same for all."""

from tutelage.recipes.recipe import RECIPES, Recipe, Run, Task, load, predict, recipe_of, report, run

__all__ = ["RECIPES", "Recipe", "Run", "Task", "load", "predict", "recipe_of", "report", "run"]

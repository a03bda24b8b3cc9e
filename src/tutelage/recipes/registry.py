"""Which recipes there are."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tutelage.checks import nearest
from tutelage.recipes.recipe import Recipe

RECIPES = {name: f"tutelage.recipes.{name}" for name in ("auxiliary", "denoise", "distill", "moderation", "multilabel")}
"""Each recipe's package, whose ``RECIPE`` it is; it is imported when the recipe is used."""


def load(name: str) -> Recipe[Any, Any, Any]:
    """Import a recipe.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe={name!r} is not one of {', '.join(RECIPES)}{nearest(name, RECIPES)}")
    return import_module(RECIPES[name]).RECIPE

"""A finished run of moderation, exported in a moment; its fixtures are those of the recipes' tests."""

from recipes.conftest import _in_a_hurry, moderated, task  # noqa: F401

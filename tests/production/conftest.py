"""A finished run of moderation, as the recipes' tests make it, and databases."""

import sys
from pathlib import Path

from databases import place, postgres  # noqa: F401

from recipes.conftest import _in_a_hurry, moderated, task  # noqa: F401

sys.path.append(str(Path(__file__).parents[1] / "data"))  # hostile images

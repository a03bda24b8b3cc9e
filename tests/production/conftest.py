"""A finished run of moderation, as the recipes' tests make it."""

import sys
from pathlib import Path

from recipes.conftest import _in_a_hurry, moderated, task  # noqa: F401

sys.path.append(str(Path(__file__).parents[1] / "data"))  # hostile images

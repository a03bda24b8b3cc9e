"""A primary task with auxiliary losses: `tutelage auxiliary`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tutelage.cli.job import Preset, finish, told
from tutelage.recipes.auxiliary import AuxiliarySettings, declared, learn, problem_of, settings_for

FOLDERS = {
    "movielens": "ml-1m",
    "people": "cifar100",
    "pets": "pets",
    "products": "fashion-products",
    "rooms": "nyuv2",
}


@dataclass(frozen=True)
class Auxiliary:
    """Learn a primary task with side tasks and regularisers, each listened to in the modules that it helps.

    Args:
        data: digits (built in), movielens, ratings, products, people (of CIFAR-100), pets, birds, rooms, or your own table.
        out: The run's folder.
        folder: Where a named set lies; its folder under the environment's TUTELAGE_DATA where it is not given.
        primary: The primary task: name, kind (classification, regression, segmentation), column. A named set has its own.
        sides: The side tasks, a list such as [{name: colour}, {name: turned, kind: rotation}]; keys are name, kind, column,
            weight and head, kinds besides those of primary map, normals, rotation and l2. A named set has some of its own.
        fields: Of a table, the columns that are the input; none means the images in its column image.
    """

    settings: ClassVar[Preset] = staticmethod(settings_for)
    scale: ClassVar[str] = "auto"
    positional: ClassVar[tuple[str, ...]] = ("data",)

    data: str
    out: Path
    folder: Path | None = None
    primary: dict[str, Any] | None = None
    sides: tuple[dict[str, Any], ...] | None = None
    fields: tuple[str, ...] = ()

    def run(self, settings: AuxiliarySettings) -> None:
        """Do it."""
        folder = self.folder
        if folder is None and self.data in FOLDERS and "TUTELAGE_DATA" in os.environ:
            folder = Path(os.environ["TUTELAGE_DATA"]) / FOLDERS[self.data]
        primary = None if self.primary is None else declared(self.primary)
        sides = None if self.sides is None else [declared(side) for side in self.sides]
        problem = problem_of(self.data, settings, folder=folder, primary=primary, sides=sides, fields=self.fields)
        finish(learn(problem, settings, self.out, told=told(self)).report)

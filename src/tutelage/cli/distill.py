"""Distillation: `tutelage distill`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tutelage.cli.job import Preset, finish, told
from tutelage.data.manifest import Columns
from tutelage.recipes.distill import DistillSettings, distill, settings_for, task_of


@dataclass(frozen=True)
class Distill:
    """Teach a small model by its labels and by larger models, each example as far as each of them helps.

    Args:
        data: digits (built in), cifar10, cifar100, a CSV or Parquet file with columns image and label, or a folder with a
            subfolder for each class.
        out: The run's folder.
        folder: Folder of CIFAR's files; where it is not given, cifar10 or cifar100 in the environment's TUTELAGE_DATA.
        columns: A manifest's own names of its columns.
        train_images: Of CIFAR: a sample of so many training images; none is all.
        test_images: Of CIFAR: a sample of so many test images; none is all.
        classes: Of CIFAR: only these classes, by name; none is all.
    """

    settings: ClassVar[Preset] = staticmethod(settings_for)
    scale: ClassVar[str] = "auto"
    positional: ClassVar[tuple[str, ...]] = ("data",)

    data: str
    out: Path
    folder: Path | None = None
    columns: Columns = Columns()
    train_images: int | None = None
    test_images: int | None = None
    classes: tuple[str, ...] | None = None

    def run(self, settings: DistillSettings) -> None:
        """Do it."""
        task = task_of(
            self.data,
            settings,
            folder=self.folder,
            columns=self.columns,
            rows=(self.train_images, self.test_images),
            classes=self.classes,
        )
        finish(distill(task, settings, self.out, told=told(self)).report)

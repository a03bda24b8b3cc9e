"""From one label an image to all of them: `tutelage multilabel`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tutelage.cli.job import Preset, finish, told
from tutelage.data.manifest import Columns
from tutelage.recipes.multilabel import MultilabelSettings, grids_task, manifest_task, multilabel, settings_for

DIGITS = "digits"


@dataclass(frozen=True)
class Multilabel:
    """Train a multi-label model on images with one label each, and find the labels that are missing.

    Args:
        data: A CSV or Parquet file with columns image and label, a folder with a subfolder for each class, or the word digits
            for grids of scikit-learn's handwritten digits.
        out: The run's folder.
        columns: The manifest's own names of its columns.
        truth: The manifest's column of all labels of an image, divided by |; for evaluation only.
    """

    settings: ClassVar[Preset] = staticmethod(settings_for)
    scale: ClassVar[str] = "auto"
    positional: ClassVar[tuple[str, ...]] = ("data",)

    data: str
    out: Path
    columns: Columns = Columns()
    truth: str | None = None

    def run(self, settings: MultilabelSettings) -> None:
        """Do it."""
        if self.data == DIGITS:
            if self.truth is not None:
                raise ValueError(
                    f"truth={self.truth!r}: grids of digits have no columns and know all labels; leave truth out"
                )
            if settings.image_size % 3:
                raise ValueError(f"image_size={settings.image_size}: a grid of digits needs a multiple of 3")
            task = grids_task(settings.seed, cell=settings.image_size // 3)
        else:
            task = manifest_task(Path(self.data), settings, self.columns, self.truth, out=self.out)
        finish(multilabel(task, settings, self.out, told=told(self)).report)

"""What is done with a finished run: `tutelage predict` and `tutelage report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tutelage.cli.job import finish
from tutelage.data.manifest import Columns
from tutelage.recipes.runs import REPORTS, SCORES, recipe_of


@dataclass(frozen=True)
class Predict:
    """Score new data with a run's model: images, or whatever the run learned from.

    Args:
        run_folder: The folder of a finished run.
        manifest: A CSV or Parquet file of new data; with a column image where the run learned from images.
        out: The table to write, .parquet or .csv.
        fpr: Of a moderation run: the false-positive rate to decide at, one that the run has a threshold for, or its own.
        columns: The manifest's own names of its columns.
    """

    positional: ClassVar[tuple[str, ...]] = ("run_folder", "manifest")

    run_folder: Path
    manifest: Path
    out: Path = Path("scores.parquet")
    fpr: float | None = None
    columns: Columns = Columns()

    def run(self) -> None:
        """Do it."""
        score = SCORES[recipe_of(self.run_folder)]
        print(score(self.run_folder, self.manifest, self.out, fpr=self.fpr, columns=self.columns))


@dataclass(frozen=True)
class Report:
    """Write a run's report.html anew from what lies in its folder.

    Args:
        run_folder: The folder of a finished run.
    """

    positional: ClassVar[tuple[str, ...]] = ("run_folder",)

    run_folder: Path

    def run(self) -> None:
        """Do it."""
        finish(REPORTS[recipe_of(self.run_folder)](self.run_folder))

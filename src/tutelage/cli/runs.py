"""What is done with a finished run: `tutelage predict` and `tutelage report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tutelage.cli.job import finish
from tutelage.data.manifest import Columns
from tutelage.recipes.moderation import score


@dataclass(frozen=True)
class Predict:
    """Score new images with a run's model, and decide at its false-positive rate.

    Args:
        run_folder: The folder of a finished run.
        manifest: A CSV or Parquet file with a column image.
        out: The table to write, .parquet or .csv.
        fpr: The false-positive rate to decide at, one that the run has a threshold for; the run's own where it is not given.
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
        table, problems = score(self.run_folder, self.manifest, self.out, fpr=self.fpr, columns=self.columns)
        blocked = int((table["decision"] == "defective").sum())
        print(f"{len(table)} images scored, {blocked} found defective; {problems.summary()}. Written to {self.out}")


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
        from tutelage.reports import write_report

        finish(write_report(self.run_folder))

"""What is done with a finished run: `tutelage predict` and `tutelage report`."""

from __future__ import annotations

import sys
from pathlib import Path

from tutelage import recipes
from tutelage.data.manifest import Columns


def predict(
    run_folder: Path,
    manifest: Path,
    out: Path = Path("scores.parquet"),
    fpr: float | None = None,
    vectors: Path | None = None,
    columns: Columns = Columns(),
) -> None:
    """Apply a run's model to new examples.

    Args:
        run_folder: Folder of a finished run.
        manifest: CSV or Parquet file of new examples, with a column image for a run of images, or a folder of images; for a run
            on given features, a file of features.
        out: Table to write, .csv, or .parquet with a .csv file beside it.
        fpr: For a moderation run: false-positive rate at which to decide; the run's own by default.
        vectors: For a denoise run on given features: file of the features of the new texts, in the same form.
        columns: Names of the manifest's columns.
    """
    table, problems = recipes.predict(run_folder, manifest, out, columns=columns, fpr=fpr, vectors=vectors)
    for line in problems.warnings():
        print(line, file=sys.stderr)
    print(f"{recipes.recipe_of(run_folder).summary(table)}; {problems.summary()}. Written to {out}")


def report(run_folder: Path) -> None:
    """Write a run's report again.

    Args:
        run_folder: Folder of a finished run.
    """
    print(f"report: {recipes.report(run_folder)}")

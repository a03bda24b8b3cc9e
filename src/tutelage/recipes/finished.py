"""What is done with a finished run: its recipe, its report, and answers for new examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tutelage.data.problems import Problems
from tutelage.files import write_table
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.registry import load
from tutelage.reports.page import write_report


def recipe_of(run_folder: Path) -> Recipe[Any, Any, Any]:
    """Return the recipe that made a finished run.

    Raises:
        FileNotFoundError: the folder holds no metrics.json.
        ValueError: it does not say which recipe made it.
    """
    path = Path(run_folder) / "metrics.json"
    if not path.is_file():
        raise FileNotFoundError(f"{run_folder} holds no metrics.json: give the folder of a run that has finished")
    name = json.loads(path.read_text(encoding="utf-8"))["pipeline"].get("recipe")
    if name is None:
        raise ValueError(f"{path} names no pipeline.recipe, as an older version left it; run the same command again")
    return load(name)


def require_decides(run_folder: Path) -> None:
    """Refuse a finished run whose recipe decides by no threshold.

    Raises:
        FileNotFoundError: no finished run.
        ValueError: a run of such a recipe.
    """
    recipe = recipe_of(run_folder)
    if not recipe.decides:
        raise ValueError(
            f"{run_folder} is a run of {recipe.name}, which decides by no threshold; give one of tutelage moderate"
        )


def report(run_folder: Path) -> Path:
    """Write a finished run's report.html from the files in its folder, and return its path."""
    recipe = recipe_of(run_folder)
    return write_report(Path(run_folder), f"{recipe.name}.html", recipe.view)


def predict(
    run_folder: Path,
    data: Path,
    out: Path,
    *,
    columns: Any = None,
    fpr: float | None = None,
    vectors: Path | None = None,
) -> tuple[pd.DataFrame, Problems]:
    """Apply a finished run's model to new examples.

    Args:
        run_folder: the run's folder.
        data: a .csv or .parquet file as the run was trained on, or a folder of images; labels are not needed and not read. For
            a run that was given features, a file of those.
        out: the table to write, .csv, or .parquet with a .csv file of the same beside it. What could not be read is listed
            there too, in a CSV file whose name ends in ``-problems``.
        columns: the file's own names of its columns.
        fpr: of a moderation run: the false-positive rate at which it decides, between 0 and 1.
        vectors: of a denoise run that was given features: a file of those of the new texts.

    Returns:
        The table that was written (in CSV, what a list holds is divided by ``|``), and what was left out.

    Raises:
        FileNotFoundError: no such run or file.
        ValueError: another ending than .parquet or .csv, an option that the recipe does not take, or nothing to predict on.
    """
    run_folder, data, out = Path(run_folder), Path(data), Path(out)  # a program may give text
    if out.suffix not in (".parquet", ".csv"):
        raise ValueError(f"out={str(out)!r} must end in .parquet or .csv")
    recipe = recipe_of(run_folder)
    options = {name: value for name, value in (("fpr", fpr), ("vectors", vectors)) if value is not None}
    for name, value in options.items():
        if name not in recipe.options:
            raise ValueError(f"{name}={value}: a run of {recipe.name} has no use for it; leave {name} out")
    loaded = recipe.load(run_folder, **options)
    examples, problems = recipe.read(loaded, data, columns)
    out.parent.mkdir(parents=True, exist_ok=True)
    listed = problems.write(out.parent, f"{out.stem}-problems.csv")
    problems.require(len(examples), 1, recipe.examples, listed.name)
    table = _finite(recipe.answer(loaded, examples), problems)
    problems.write(out.parent, listed.name)
    problems.require(len(table), 1, recipe.examples, listed.name)
    for path in dict.fromkeys([out, out.with_suffix(".csv")]):
        write_table(path, table)
    return table, problems


def _finite(table: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """Return the rows whose answers are finite numbers; the others are noted as left out."""
    numbers = [name for name in ("score", "probability", "answer") if name in table and table[name].dtype.kind == "f"]
    finite = np.isfinite(table[numbers].to_numpy(np.float64)).all(1)
    for id in table.loc[~finite, "id"]:
        problems.add(id, "not_finite", "the model's answer is no finite number: it cannot compute with this example")
    return table[finite].reset_index(drop=True)

"""Every recipe's smallest run on the accelerator beside the same run on the CPU: the largest difference of what they say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
from accelerate.state import AcceleratorState

from benchmarks.faults.smallest import SMALLEST
from tutelage import recipes
from tutelage.files import read_parquet
from tutelage.hypergradient.finite_difference import full_precision

TOLERANCE = 1e-3
ABSENT = -1e3  # in the place of what a shorter list has not
TOLD = ("examples.parquet", "labels.parquet", "weights.parquet", "importance.parquet")


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """Let everything inside run on the CPU, whatever accelerator there is."""
    AcceleratorState._reset_state(reset_partial_state=True)
    with (
        mock.patch.object(torch.accelerator, "is_available", return_value=False),
        mock.patch.object(torch.accelerator, "current_accelerator", return_value=None),
    ):
        yield
    AcceleratorState._reset_state(reset_partial_state=True)


def difference(name: str, folder: Path) -> float:
    """Return by how much the numbers of a recipe's smallest run differ between accelerator and CPU, at most.

    Args:
        name: a recipe.
        folder: of both runs.
    """
    with full_precision():
        there = run(name, folder / "accelerator")
        with on_the_cpu():
            here = run(name, folder / "cpu")
    return max(largest(here / table, there / table) for table in TOLD if (here / table).is_file())


def run(name: str, folder: Path) -> Path:
    """Make the smallest run of a recipe without what is drawn on the device, and return its folder."""
    task, settings = SMALLEST[name]()
    for part in ("student", "specialist", "model", "body"):
        if hasattr(getattr(settings, part, None), "dropout"):
            settings = replace(settings, **{part: replace(getattr(settings, part), dropout=0.0)})
    return recipes.run(name, task, settings, folder, quiet=True).folder


def largest(one: Path, other: Path) -> float:
    """Return the largest difference of the numbers of two tables with the same rows."""
    left, right = numbers(read_parquet(one)), numbers(read_parquet(other))
    if left.shape != right.shape:
        raise ValueError(f"{one} has the shape {left.shape}, {other} {right.shape}")
    return float(np.nanmax(np.abs(left - right), initial=0.0))


def numbers(table: pd.DataFrame) -> np.ndarray:
    """Return the floats of a table, those in lists too, one row each."""
    columns = []
    for name in table:
        column = table[name]
        if column.dtype.kind == "f":
            columns.append(column.to_numpy(np.float64)[:, None])
        elif len(column) and isinstance(column.iloc[0], np.ndarray) and column.iloc[0].dtype.kind == "f":
            rows = np.full((len(column), max(map(len, column))), ABSENT)
            for row, listed in zip(rows, column, strict=True):
                row[: len(listed)] = listed
            columns.append(rows)
    return np.concatenate(columns, axis=1) if columns else np.zeros((len(table), 0))

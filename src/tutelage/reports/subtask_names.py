"""What a person calls the sub-tasks of a run: names that are typed into a table in its folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tutelage.files import literal

NAMES = "subtask_names.csv"
"""Of a run's folder: ``subtask,name``."""


def typed_names(folder: Path) -> dict[int, str]:
    """Return the names by number that a run's folder has; a line that is none is passed over."""
    if not (folder / NAMES).is_file():
        return {}
    table = pd.read_csv(folder / NAMES, dtype=str, keep_default_na=False).map(literal)
    if not {"subtask", "name"} <= set(table):
        return {}
    lines = zip(table["subtask"].str.strip(), table["name"].str.split().str.join(" "), strict=True)
    return {int(number): name for number, name in lines if number.isdecimal() and name}


def called(names: dict[int, str], number: int) -> str:
    """Return what a sub-task is called: its typed name, or its number."""
    return names.get(number, f"sub-task {number}")

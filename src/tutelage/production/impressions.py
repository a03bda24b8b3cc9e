"""How often advertisements were shown, from a table into the decision log."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tutelage.data.cells import read_cells
from tutelage.data.problems import Problems
from tutelage.production.decisions import DecisionLog, monday

COLUMNS = ("id", "week", "impressions")


def add_impressions(log: DecisionLog, table: Path) -> str:
    """Set the impressions that a table lists, and return how many were set and what was left out, by reason.

    Args:
        log: where they go; a number that is there already is replaced.
        table: a .csv, .tsv, .parquet or .pq file with columns id, week (``2026-W07``) and impressions.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: a column is missing.
    """
    problems = Problems()
    cells = read_cells(table, problems)
    if missing := [name for name in COLUMNS if name not in cells]:
        raise ValueError(f"{table} has no column {missing[0]!r}; it has {', '.join(map(str, cells.columns))}")
    numbers = pd.to_numeric(cells["impressions"], errors="coerce")
    good = []
    for name, week, text, count in zip(cells["id"], cells["week"], cells["impressions"], numbers, strict=True):
        if not 0 <= count < float("inf"):
            problems.add(name, "bad_impressions", f"impressions is {text!r}; allowed: a number from 0")
        elif not _is_week(week):
            problems.add(name, "bad_week", f"week is {week!r}; allowed: an ISO week such as 2026-W07")
        else:
            good.append((name, week, float(count)))
    return f"impressions: {log.add_impressions(good)} set; {problems.summary()}"


def _is_week(text: str) -> bool:
    try:
        monday(text)
    except ValueError:
        return False
    return True

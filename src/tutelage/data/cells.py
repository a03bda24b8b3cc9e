"""Tables in files: Parquet, or text divided by commas or tabs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from tutelage.data.problems import Problems
from tutelage.files import read_parquet


def read_table(path: Path, problems: Problems, hint: str = "", **parquet: Any) -> pd.DataFrame:
    """Return a table, all of a .csv or .tsv file as text, which has an empty text where there is nothing.

    Args:
        path: the file.
        problems: collects the rows that have more cells than the header.
        hint: what else could be given, for the message.
        parquet: options of `tutelage.files.read_parquet`.

    Raises:
        ValueError: another ending.
        pandas.errors.EmptyDataError: a text without a header.
    """
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return read_parquet(path, **parquet)
    if suffix not in (".csv", ".tsv"):
        raise ValueError(f"{path} ends in {suffix!r}: give a .csv, .tsv, .parquet or .pq file{hint}.")

    def too_long(row: list[str]) -> None:
        problems.add(row[0], "bad_row", f"{len(row)} cells, more than the header has")

    return pd.read_csv(
        path,
        sep="\t" if suffix == ".tsv" else ",",
        dtype=str,
        keep_default_na=False,
        index_col=False,
        encoding="utf-8-sig",
        encoding_errors="replace",
        engine="python",
        on_bad_lines=too_long,
    )

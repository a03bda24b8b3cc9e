"""The folder of the real data sets, which a table needs that is measured on nothing else."""

from __future__ import annotations

from pathlib import Path


def given(data: Path | None) -> Path:
    """Return the folder.

    Raises:
        ValueError: there is none.
    """
    if data is None:
        raise ValueError(
            "data=None: this table is of real data; give the folder of the data sets, or set TUTELAGE_DATA"
        )
    return data

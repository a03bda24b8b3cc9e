"""Why a distillation doubts a label, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from tutelage.files import read_parquet
from tutelage.recipes.relabel import relabel_table, sure


def doubts(run: Path) -> pd.DataFrame:
    """Return the labels that a run doubts; see `relabel_table`."""
    weights = read_parquet(run / "weights.parquet").set_index("id")
    teachers = [name for name in weights if str(name).startswith("weight_teacher")]
    own = weights.get("weight_label", pd.Series(dtype=float))
    heard = weights[teachers].mean(axis=1) if teachers else pd.Series(dtype=float)

    def reason(row: dict[str, Any], given: str, suspected: str) -> str:
        told = f"the model says {suspected} ({sure(row['probability'])}) and gives {given} {sure(1 - row['suspicion'])}"
        if row["id"] in heard.index:
            label, others = float(own[row["id"]]), float(heard[row["id"]])
            told += f"; in training the label weighed {label:.2f}, the teachers {others:.2f}"
        return told

    return relabel_table(run, reason)

"""Why a moderation run doubts a label, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from tutelage.recipes.relabel import relabel_table, sure


def doubts(run: Path) -> pd.DataFrame:
    """Return the labels that a run doubts; see `relabel_table`."""
    path = run / "duplicates.csv"
    copies = pd.read_csv(path, dtype=str, keep_default_na=False) if path.is_file() else pd.DataFrame()
    both = set(copies.loc[copies["conflict"] == "True", "id"]) if "conflict" in copies else set()

    def reason(row: dict[str, Any], given: str, suspected: str) -> str:
        told = f"the model says {suspected} ({sure(row['suspicion'])})"
        if "score_fine_tuned" in row and row["score_fine_tuned"] != row["score"]:
            acceptable = row["score_fine_tuned"]
            plain = "acceptable" if acceptable > 0.5 else "defective"
            agrees = "too" if plain == suspected else f"says {plain}"
            told += f", plain fine-tuning {agrees} ({sure(max(acceptable, 1 - acceptable))})"
        return told + ("; copies of the picture have both labels" if row["id"] in both else "")

    return relabel_table(run, reason)

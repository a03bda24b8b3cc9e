"""Why a moderation run doubts a label, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from tutelage.files import read_parquet
from tutelage.recipes.moderation.evaluation import OTHERS, SCORE
from tutelage.recipes.relabel import relabel_table, sure


def doubts(run: Path) -> pd.DataFrame:
    """Return the labels that a run doubts; see `relabel_table`."""
    path = run / "duplicates.csv"
    copies = pd.read_csv(path, dtype=str, keep_default_na=False) if path.is_file() else pd.DataFrame()
    both = set(copies.loc[copies["conflict"] == "True", "id"]) if "conflict" in copies else set()

    examples = read_parquet(run / "examples.parquet")
    usual = examples[examples["label"].isin([0, 1])].groupby("label")[SCORE].mean()

    def reason(row: dict[str, Any], given: str, suspected: str) -> str:
        model, how_sure = verdict(row[SCORE])
        told = f"the model says {model} ({how_sure})"
        if model == given:
            other, mean = (1 - row[SCORE], 1 - usual[1]) if row["label"] == 1 else (row[SCORE], usual[0])
            told = (
                f"the model finds {suspected} {sure(other)} probable, where {sure(mean)} is usual for the label {given}"
            )
        if row.get(f"{SCORE}_fine_tuned", row[SCORE]) != row[SCORE]:
            plain, how_sure = verdict(row[f"{SCORE}_fine_tuned"])
            told += f", plain fine-tuning {'too' if plain == model != given else f'says {plain}'} ({how_sure})"
        if OTHERS in row:
            similar, how_sure = verdict(row[OTHERS])
            told += f", the labels of similar images {'too' if similar == model != given else f'say {similar}'} ({how_sure})"
        return told + ("; copies of the picture have both labels" if row["id"] in both else "")

    return relabel_table(run, reason)


def verdict(acceptable: float) -> tuple[str, str]:
    """Return what a probability of acceptable says, and how surely."""
    return ("acceptable", sure(acceptable)) if acceptable > 0.5 else ("defective", sure(1 - acceptable))

"""Why a run on labelling rules doubts a label, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from tutelage.recipes.relabel import relabel_table, sure


def doubts(run: Path) -> pd.DataFrame:
    """Return the labels that a run doubts; see `relabel_table`."""

    def reason(row: dict[str, Any], given: str, suspected: str) -> str:
        told = f"the model finds {given} {sure(1 - row['suspicion'])} probable and {suspected} likelier"
        votes = int(row["votes"])
        if votes:
            rules = f"{votes} rules vote, most of them" if votes > 1 else "a rule votes"
            told += f"; {rules} for {row['majority']}"
        alone = row["labels_alone"]
        return f"{told}; learned from labels alone, it says {'so too' if alone == suspected else alone}"

    return relabel_table(run, reason)

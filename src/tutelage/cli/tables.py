"""The papers' tables: `tutelage reproduce`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Reproduce:
    """Measure a paper's table, and write it as Markdown and JSON with the paper's figures beside ours.

    Args:
        name: The table.
        scale: pocket takes minutes on a CPU; paper is the paper's own configuration.
        seeds: Number of seeds.
        data: Folder of the real data sets; the environment's TUTELAGE_DATA where it is not given.
        out: Folder of the tables.
        runs: Folder of the runs behind them; finished stages are kept there.
        only: Measure only these rows, a list such as ["ViT-Base/16"].
    """

    positional: ClassVar[tuple[str, ...]] = ("name",)

    name: Literal["moderation", "amal", "maoal", "rules", "mile"]
    scale: Literal["pocket", "paper"] = "pocket"
    seeds: int = 3
    data: Path | None = None
    out: Path = Path("benchmarks/results")
    runs: Path = Path("runs/reproduce")
    only: tuple[str, ...] = ()

    def run(self) -> None:
        """Do it."""
        from tutelage.recipes.reproduce import reproduce

        data = self.data or (Path(os.environ["TUTELAGE_DATA"]) if "TUTELAGE_DATA" in os.environ else None)
        for path in reproduce(
            self.name, self.scale, seeds=self.seeds, data=data, out=self.out, runs=self.runs, only=self.only
        ):
            print(path)

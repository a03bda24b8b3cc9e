"""By which threshold an exported model decides: what was asked for, checked before anything long, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.checks import check_number
from tutelage.data.manifest import Columns
from tutelage.files import read_json, read_parquet
from tutelage.production.graph import run_graph
from tutelage.production.held_out import Further, further_images
from tutelage.production.judgement import thresholds
from tutelage.production.material import BATCH, Material
from tutelage.recipes.moderation.judged import JudgedTest, judged_test
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.target import Target
from tutelage.recipes.task import Task


@dataclass(frozen=True)
class Asked:
    """Which threshold is asked for; see `tutelage.production.export.export`."""

    fpr: float | None = None
    confidence: float | None = None
    wrong_labels: float = 0.0
    held_out: Path | None = None
    columns: Columns = Columns()

    def check(self, recipe: Recipe[Any, Any, Any]) -> None:
        """Refuse what no threshold can have, and anything for a recipe that has none.

        Raises:
            ValueError: with the first value that is refused.
        """
        for name, value in (("fpr", self.fpr), ("confidence", self.confidence)):
            if value is not None:
                check_number(name, value, "(0, 1)")
        check_number("wrong_labels", self.wrong_labels, "[0, 1)")
        told = {
            "fpr": self.fpr,
            "confidence": self.confidence,
            "wrong_labels": self.wrong_labels or None,
            "held_out": None if self.held_out is None else str(self.held_out),
        }
        given = next(((name, value) for name, value in told.items() if value is not None), None)
        if given is not None and not recipe.decides:
            raise ValueError(
                f"{given[0]}={given[1]!r}: a run of {recipe.name} decides by no threshold; leave {given[0]} out"
            )


@dataclass(frozen=True)
class Deciding:
    """What a run's thresholds are found by: its test part, and further held-out images."""

    run_folder: Path
    recipe: Recipe[Any, Any, Any]
    asked: Asked
    test: JudgedTest
    further: Further | None

    @property
    def seed(self) -> int:
        """The run's, so that NPV has the interval that the run tells."""
        return int(read_json(self.run_folder / "metrics.json")["pipeline"].get("seed", 0))

    @classmethod
    def read(
        cls, run_folder: Path, recipe: Recipe[Any, Any, Any], asked: Asked, target: Target, task: Task
    ) -> Deciding:
        """Read it.

        Raises:
            FileNotFoundError: no such file of held-out images.
            ValueError: the task is not the run's, or images that `further_images` refuses.
        """
        source: Any = task
        if read_parquet(run_folder / "examples.parquet")["id"].tolist() != source.table["id"].tolist():
            raise ValueError(f"the data are not those of {run_folder}: other examples can be read now; run it again")
        further = None
        if asked.held_out is not None:
            spec: Any = target.module.spec
            further = further_images(run_folder, asked.held_out, asked.columns, spec)
        return cls(run_folder, recipe, asked, judged_test(run_folder), further)

    def answer(self, graph: Path, logits_n2: NDArray[Any], material: Material) -> dict[str, Any]:
        """Return what the card says of thresholds.

        Args:
            graph: the exported one.
            logits_n2: its outputs for the test part.
            material: that part.

        Raises:
            TooFewDefects: for the guarantee that is asked for.
        """
        more = None
        if (further := self.further) is not None:
            batches = (further.images.batch(part.tolist())["input"].numpy() for part in further.rows.split(BATCH))
            more = run_graph(graph, batches)[0], further.labels
        return thresholds(
            logits_n2[np.asarray(material.labels) >= 0],
            self.test,
            partial(_threshold, self.recipe, self.run_folder),
            rate_of(self.run_folder) if self.asked.fpr is None else self.asked.fpr,
            self.asked.confidence,
            self.asked.wrong_labels,
            more,
            self.seed,
        )


def rate_of(run_folder: Path) -> float:
    """Return the false-positive rate at which a run decides."""
    return float(read_json(run_folder / "metrics.json")["pipeline"]["fpr"])


def _threshold(recipe: Recipe[Any, Any, Any], run_folder: Path, fpr: float) -> float:
    return float(recipe.load(run_folder, fpr=fpr)[1])

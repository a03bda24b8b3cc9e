"""Rules and few labels: `tutelage denoise`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tutelage.cli.job import Preset, finish, told
from tutelage.data.text_table import TextColumns
from tutelage.recipes.denoise import DenoiseSettings, denoise, settings_for, text_task


@dataclass(frozen=True)
class Denoise:
    """Train a text classifier on labelling rules and a few labels.

    Args:
        data: A CSV, TSV or Parquet file with a column text (and label, id, split), or a folder in WRENCH's form.
        out: The run's folder.
        rules: A Python file of labelling rules, which is run.
        votes: A file of votes (CSV, Parquet or WRENCH's JSON), where rules were applied elsewhere.
        vectors: A file of features (NPZ, NPY or Parquet), one row a text, in the place of those that are made.
        columns: The file's own names of its columns.
        classes: Names of the classes in the order of their numbers; the labels that occur, sorted, by default.
        processes: How many processes apply the rules; all cores where there is much to do.
    """

    settings: ClassVar[Preset] = staticmethod(settings_for)
    scale: ClassVar[str] = "auto"
    positional: ClassVar[tuple[str, ...]] = ("data",)

    data: Path
    out: Path
    rules: Path | None = None
    votes: Path | None = None
    vectors: Path | None = None
    columns: TextColumns = TextColumns()
    classes: tuple[str, ...] = ()
    processes: int | None = None

    def run(self, settings: DenoiseSettings) -> None:
        """Do it."""
        task = text_task(
            self.data,
            settings,
            rules=self.rules,
            votes=self.votes,
            features=self.vectors,
            columns=self.columns,
            classes=self.classes,
            processes=self.processes,
        )
        finish(denoise(task, settings, self.out, told=told(self)).report)

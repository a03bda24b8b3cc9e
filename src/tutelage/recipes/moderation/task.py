"""A moderation task: the images, their labels and splits, and where encoders start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tutelage.data.duplicates import drop_duplicates
from tutelage.data.fingerprint import fingerprint
from tutelage.data.manifest import LABELS, Columns, read_image_folder, read_manifest
from tutelage.data.posters import digit_posters, permitted_digits
from tutelage.data.problems import Problems
from tutelage.data.splits import split_table
from tutelage.data.table import ImageTable
from tutelage.data.written import Dates
from tutelage.recipes.encoding import given_features
from tutelage.recipes.input import input_size
from tutelage.recipes.moderation.settings import ModerationSettings

LEAST = 4  # examples of each class in every split, under which nothing can be said


@dataclass
class ModerationTask:
    """What a run works on.

    Attributes:
        title: a name for people.
        family: tasks of one family share their pre-trained encoders.
        noise: the kind of wrong labels, where it is known.
        images: the image table, with its splits.
        problems: what was left out, and why.
        duplicates: the groups of near-duplicates that were found, one row an example.
        pretraining: makes images and labels of another task on which encoders start, or None; a stand-in for ImageNet.
    """

    title: str
    family: str
    images: ImageTable
    noise: str | None = None
    problems: Problems = field(default_factory=Problems)
    duplicates: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["group", "id", "reason"]))
    pretraining: Callable[[], tuple[Tensor, Tensor]] | None = None

    @property
    def table(self) -> pd.DataFrame:
        """The facts of each image."""
        return self.images.table

    @property
    def labels(self) -> Tensor:
        """The moderator's labels, (N,): 0 defective, 1 acceptable, -1 not labelled."""
        return self.images.labels

    @property
    def weights(self) -> Tensor | None:
        """How often each example counts in training, (N,), in any unit; None where each counts once."""
        weight = self.table.get("weight")
        return None if weight is None else torch.from_numpy(weight.to_numpy(np.float64, copy=True))

    def rows(self, *splits: str) -> Tensor:
        """Return the rows of these splits, ascending."""
        return self.images.rows(*splits)

    def truth(self, column: str) -> Tensor | None:
        """Return ``true_label`` or ``true_subtask``, (N,), where the table knows it; for evaluation only."""
        return torch.from_numpy(self.table[column].to_numpy(np.int64, copy=True)) if column in self.table else None

    def judged_by(self) -> Tensor:
        """Return the labels that the test is judged by, (N,): the true ones where they are known."""
        truth = self.truth("true_label")
        return self.labels if truth is None else truth

    def fingerprint(self) -> str:
        """Return a hash of what training sees: images, ids, labels, splits and weights."""
        return fingerprint(self.images)


def moderation_task(
    manifest: Path,
    settings: ModerationSettings,
    columns: Columns = Columns(),
    labels: Mapping[str, int] = LABELS,
    dates: Dates = "auto",
    *,
    out: Path | None = None,
) -> ModerationTask:
    """Read a manifest, drop duplicates, and split.

    Args:
        manifest: CSV or Parquet file with columns image and label, or a folder with a subfolder for each label.
        settings: Image size, duplicate radius, splits and seed.
        columns: Names of the manifest's columns.
        labels: Class of each label name: 0 defective, 1 acceptable, -1 not labelled; such as '{"bad": 0, "ok": 1}'.
        dates: What comes first in dates such as 05/06/2024: day_first, month_first, or auto, which looks at the column.
        out: Folder in which problems.csv is written if the task cannot be worked on.

    Raises:
        FileNotFoundError, ValueError: see `read_manifest`; too few examples left.
    """
    how: dict[str, Any] = {"size": input_size(settings), "cache_bytes": settings.hardware.cache_bytes}
    how["features"] = given_features(settings)
    manifest = Path(manifest)  # a program may give text
    if manifest.is_dir():
        images, problems = read_image_folder(manifest, labels, **how)
    else:
        images, problems = read_manifest(manifest, columns, labels, dates=dates, weighted=True, **how)
    images, groups = drop_duplicates(images, problems, settings.radius, settings.duplicates)
    with problems.written_on_error(out):
        left = (images.labels >= 0).numpy() & (images.table["split"] != "left_out")
        problems.require(int(left.sum()), 5 * 2 * LEAST, "labelled examples")
        images = split_table(images, problems, settings.splits)
    if "weight" in images.table and not images.table["weight"][images.table["split"] == "train"].any():
        raise ValueError(
            f"column {columns.weight!r} of {manifest} is 0 for all training examples; nothing could be learned"
        )
    return ModerationTask(manifest.stem, str(manifest), images, problems=problems, duplicates=groups)


def demo_task(
    settings: ModerationSettings, noise: Literal["uniform", "structured", "none"] = "uniform", noise_rate: float = 0.2
) -> ModerationTask:
    """Return digit posters with wrong labels.

    Args:
        settings: Image size and seed.
        noise: Kind of label noise: uniform, or structured (one permitted digit is often mistaken for a forbidden one).
        noise_rate: Share of the training labels that are wrong.
    """
    rate = 0.0 if noise == "none" else noise_rate
    return posters_task(settings.seed, noise, input_size(settings), noise_rate=rate)


def posters_task(seed: int, noise: str = "uniform", image_size: int = 24, **options: Any) -> ModerationTask:
    """Return digit posters, and the permitted digits for encoders to start on."""
    images = digit_posters(seed=seed, noise=noise, size=image_size, **options)
    title = f"digit posters, {noise} noise"
    return ModerationTask(
        title, "posters", images, noise, pretraining=lambda: permitted_digits(0, size=image_size, examples=8_000)
    )

"""What an export is checked on: the run's own examples, its validation part to calibrate on, its test part to judge by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.data.encoded import EncodedTable
from tutelage.data.fingerprint import fingerprint
from tutelage.data.indexed import batch_of
from tutelage.data.text import Features
from tutelage.files import read_parquet
from tutelage.recipes.task import Task

BATCH = 64
CALIBRATED_ON = 256


@dataclass
class Material:
    """Examples as a graph takes them.

    Attributes:
        fingerprint: of the data that the run has learned from.
        test: rows to judge by, and their `labels` (negative or NaN: not known; several for each example of multi-label data).
        validation: rows to calibrate on.
    """

    fingerprint: str
    test: Tensor
    labels: NDArray[Any]
    validation: Tensor
    _inputs: Any

    def inputs(self, rows: Tensor) -> NDArray[Any]:
        """Return these rows, (B, ...)."""
        return self._inputs(rows)

    def batches(self, rows: Tensor) -> Iterator[NDArray[Any]]:
        """Return these rows in small batches."""
        return (self.inputs(part) for part in rows.split(BATCH))


def images_of(task: Task, validation: str) -> Material:
    """Return a task's images, with its validation part of this name."""
    source: Any = task
    examples: Any = source.examples if getattr(task, "images", None) is None else source.images

    def inputs(rows: Tensor) -> NDArray[Any]:
        if isinstance(examples, EncodedTable) and examples.features.encoder is None:  # given, and the model reads them
            return examples.features.rows[rows][:, 0].numpy()
        if isinstance(examples, EncodedTable):  # the run saw features, and its model sees images
            return examples.images.gather(rows.tolist()).numpy()
        found: Tensor = batch_of(examples, rows.tolist())["input"]
        return (found * 255).round().byte().numpy() if found.is_floating_point() else found.numpy()

    test = task.rows("test")
    labels = task.judged_by()[test].numpy()
    return Material(task.fingerprint(), test, labels, task.rows(validation)[:CALIBRATED_ON], inputs)


def texts_of(run_folder: Path, classes: list[str]) -> Material:
    """Return a run's texts, from the table in its folder: its rules are not run again."""
    table = read_parquet(run_folder / "examples.parquet")
    features = Features.load(run_folder / "model")
    texts = table["text"].tolist()

    def inputs(rows: Tensor) -> NDArray[np.float32]:
        found = features([texts[row] for row in rows])
        return np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=np.float32)

    code = {name: place for place, name in enumerate(classes)}
    labels = table["label"].map(code).fillna(-1).to_numpy(np.int64)
    test, val = (torch.from_numpy(np.flatnonzero(table["split"] == part)) for part in ("test", "val"))
    if len(test) == 0:  # no text was labelled: the graph is compared with the model on some that it has learned from
        test = val = torch.arange(min(CALIBRATED_ON, len(table)))
    learned_from = fingerprint(table[["id", "text", "label", "split"]])
    return Material(learned_from, test, labels[test.numpy()], val[:CALIBRATED_ON], inputs)

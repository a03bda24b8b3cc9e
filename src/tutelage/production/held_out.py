"""The examples of a moderation run that neither trained nor selected its model: what a threshold is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.data.manifest import Columns, read_manifest
from tutelage.data.table import ImageTable
from tutelage.files import read_parquet
from tutelage.models import CommitteeSpec
from tutelage.recipes.finished import require_decides
from tutelage.recipes.images import logits_of
from tutelage.recipes.moderation.judged import Floats, JudgedTest, judged_test
from tutelage.recipes.moderation.recipe import load


@dataclass(frozen=True)
class HeldOut:
    """Held-out examples, arrays of (N,), those of the run's test part first.

    Attributes:
        scores: high for acceptable.
        labels: 0 defective, 1 acceptable.
        weight: how much each says of all defects, in [0, 1]; see `guaranteed_threshold`.
        defect: how much of a defect each counts as in figures.
        ids: of the examples.
        test: the test part, with what is known of its labels.
    """

    scores: Floats
    labels: NDArray[np.int64]
    weight: Floats
    defect: Floats
    ids: list[str]
    test: JudgedTest


def held_out(run_folder: Path, more: Path | None = None, columns: Columns = Columns()) -> HeldOut:
    """Return a run's test part and, scored by the run's model, further labelled images that the run has not seen.

    Raises:
        FileNotFoundError: no finished run, or no such manifest.
        ValueError: a run of another recipe, which decides nothing, or images that `further_images` refuses.
    """
    require_decides(run_folder)
    test = judged_test(run_folder)
    own = HeldOut(test.scores, test.labels, test.weight, test.defect, test.table["id"].astype(str).tolist(), test)
    if more is None:
        return own
    loaded = load(run_folder)
    further = further_images(run_folder, more, columns, loaded[0].spec)
    scores = logits_of(loaded, further.images).softmax(1)[:, 1].numpy()[further.rows.numpy()]
    return HeldOut(
        np.concatenate([own.scores, scores]),
        np.concatenate([own.labels, further.labels]),
        np.concatenate([own.weight, np.ones(len(scores))]),
        np.concatenate([own.defect, further.labels == 0]),
        [*own.ids, *further.ids],
        test,
    )


@dataclass(frozen=True)
class Further:
    """Labelled images that a run has not seen: their `rows` of `images`, (n,), with `labels` (n,) and `ids`."""

    images: ImageTable
    rows: Tensor
    labels: NDArray[np.int64]
    ids: list[str]


def further_images(run_folder: Path, file: Path, columns: Columns, spec: CommitteeSpec) -> Further:
    """Read labelled images by which a run's guarantee may be made, in the size of its model.

    Raises:
        FileNotFoundError: there is no such manifest.
        ValueError: the model reads features, no image has a label, or the run has seen one of them.
    """
    if spec.num_features is not None:
        raise ValueError(f"held_out={str(file)!r} names images, and this run's model reads features; leave it out")
    images, problems = read_manifest(file, columns, size=spec.image_size)
    rows = torch.nonzero(images.labels >= 0)[:, 0]
    problems.require(len(rows), 1, "labelled images", str(file))
    ids = images.table["id"].iloc[rows.tolist()].astype(str).tolist()
    if twice := sorted(set(ids) & set(read_parquet(run_folder / "examples.parquet")["id"].astype(str))):
        raise ValueError(
            f"held_out={str(file)!r} holds {twice[0]!r}, which the run has already ({len(twice)} such); give images "
            "that it has not seen"
        )
    return Further(images, rows, images.labels[rows].numpy(), ids)

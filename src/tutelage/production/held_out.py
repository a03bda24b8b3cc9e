"""The examples of a moderation run that neither trained nor selected its model: what a threshold is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tutelage.data.manifest import Columns, read_manifest
from tutelage.files import read_parquet
from tutelage.recipes.moderation.judged import Floats, JudgedTest, judged_test
from tutelage.recipes.moderation.recipe import load
from tutelage.recipes.recipe import logits_of, recipe_of


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
        ValueError: a run of another recipe, which decides nothing, or no labelled image in the manifest.
    """
    name = recipe_of(run_folder).name
    if name != "moderation":
        raise ValueError(f"{run_folder} is a run of {name}; only a run of moderation decides by a threshold")
    test = judged_test(run_folder)
    own = HeldOut(test.scores, test.labels, test.weight, test.defect, test.table["id"].astype(str).tolist(), test)
    if more is None:
        return own
    loaded = load(run_folder)
    if loaded[0].spec.num_features is not None:
        raise ValueError(f"held_out={str(more)!r} names images, and this run's model reads features; leave it out")
    images, problems = read_manifest(more, columns, size=loaded[0].spec.image_size)
    labelled = (images.labels >= 0).numpy()
    problems.require(int(labelled.sum()), 1, "labelled images", str(more))
    ids = images.table["id"][labelled].astype(str).tolist()
    if twice := sorted(set(ids) & set(read_parquet(run_folder / "examples.parquet")["id"].astype(str))):
        raise ValueError(
            f"{more} holds {twice[0]!r}, which the run has already ({len(twice)} such); give images that it has not seen"
        )
    scores = logits_of(loaded, images).softmax(1)[:, 1].numpy()[labelled]
    labels = images.labels.numpy()[labelled]
    return HeldOut(
        np.concatenate([own.scores, scores]),
        np.concatenate([own.labels, labels]),
        np.concatenate([own.weight, np.ones(len(ids))]),
        np.concatenate([own.defect, labels == 0]),
        [*own.ids, *ids],
        test,
    )

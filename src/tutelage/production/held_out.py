"""The examples of a moderation run that neither trained nor selected its model: what a threshold is judged by."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tutelage.data.manifest import Columns, read_manifest
from tutelage.files import read_parquet
from tutelage.recipes.moderation.recipe import load
from tutelage.recipes.recipe import logits_of, recipe_of


class HeldOut(NamedTuple):
    """Scores (N,), high for acceptable, labels (N,), 0 defective and 1 acceptable, and the examples' ids."""

    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    ids: list[str]


def test_part(run_folder: Path) -> pd.DataFrame:
    """Return the labelled rows of a moderation run's test part: id, image, score and label (the true one, where it is known).

    Raises:
        FileNotFoundError: no finished run.
        ValueError: a run of another recipe, which decides nothing.
    """
    name = recipe_of(run_folder).name
    if name != "moderation":
        raise ValueError(f"{run_folder} is a run of {name}; only a run of moderation decides by a threshold")
    table = read_parquet(run_folder / "examples.parquet")
    table = table[table["split"] == "test"]
    table = table.assign(label=table.get("true_label", table["label"]))
    return table.loc[table["label"] >= 0, ["id", "image", "score", "label"]].reset_index(drop=True)


def held_out(run_folder: Path, more: Path | None = None, columns: Columns = Columns()) -> HeldOut:
    """Return a run's test part and, scored by the run's model, further labelled images that the run has not seen.

    Raises:
        FileNotFoundError: no finished run, or no such manifest.
        ValueError: a run of another recipe, or no labelled image in the manifest.
    """
    table = test_part(run_folder)
    parts = [table[["id", "score", "label"]]]
    if more is not None:
        loaded = load(run_folder)
        if loaded[0].spec.num_features is not None:
            raise ValueError(f"held_out={str(more)!r} names images, and this run's model reads features; leave it out")
        images, problems = read_manifest(more, columns, size=loaded[0].spec.image_size)
        labelled = (images.labels >= 0).numpy()
        problems.require(int(labelled.sum()), 1, "labelled images", str(more))
        scores = logits_of(loaded, images).softmax(1)[:, 1].numpy()
        found = pd.DataFrame({"id": images.table["id"], "score": scores, "label": images.labels.numpy()})[labelled]
        if twice := sorted(set(found["id"]) & set(read_parquet(run_folder / "examples.parquet")["id"])):
            raise ValueError(
                f"{more} holds {twice[0]!r}, which the run has already ({len(twice)} such); give images that it has not seen"
            )
        parts.append(found)
    table = pd.concat(parts, ignore_index=True)
    return HeldOut(
        table["score"].to_numpy(np.float64), table["label"].to_numpy(np.int64), table["id"].astype(str).tolist()
    )

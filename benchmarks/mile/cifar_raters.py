"""CIFAR-10 with people's disagreement: trained on one rater's label (CIFAR-10N), tested against all raters' (CIFAR-10H)."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tutelage.data.sampling import fraction
from tutelage.data.table import ImageArray, ImageTable


def cifar10_raters(
    folder: str | Path,
    seed: int = 0,
    *,
    rater: str = "random_label1",
    share: float = 1.0,
    votes: int = 2,
    val: int = 5_000,
    size: int = 32,
    train: int | None = None,
    test: int | None = None,
) -> tuple[ImageTable, Tensor]:
    """CIFAR-10 whose training labels are one rater's, and whose test images have the set of all raters' labels.

    Args:
        folder: holds ``train.parquet`` (``image``, ``label``, CIFAR-10N's five labellings) and ``test.parquet`` (``image``,
            ``label``, ``rater_counts``: CIFAR-10H's votes for each of the ten classes).
        seed: of what is drawn.
        rater: the column of the given labels: ``aggre_label``, ``random_label1`` to 3 or ``worse_label``.
        share: of the training images that keep their part, class by class; validation is not made smaller.
        votes: raters who must have named a class for it to count as a label of a test image; 1 takes every slip of a finger.
        val: training images that select, with the rater's labels.
        size: height and width in pixels.
        train, test: at most so many images in the part, drawn; None takes all.

    Returns:
        The table, with splits train, val and test and ``true_label`` (CIFAR-10's own), and the truth, bool (N, 10): all raters'
        labels in the test part, CIFAR-10's own elsewhere.

    Raises:
        FileNotFoundError: no such files.
        ValueError: a column that the file does not have, or votes below 1.

    Source: Wei et al., *Learning with Noisy Labels Revisited*, ICLR 2022; Peterson et al., *Human Uncertainty Makes
    Classification More Robust*, ICCV 2019.
    """
    if votes < 1:
        raise ValueError(f"votes={votes} must be at least 1")
    rng = np.random.default_rng([seed, 6])
    train_all, test_all = _read(folder, "train", rater), _read(folder, "test", "rater_counts")
    order = rng.permutation(len(train_all))
    for_val, rest = np.sort(order[:val]), order[val:][:train]
    given = torch.from_numpy(train_all[rater].to_numpy(np.int64, copy=True))
    for_train = np.sort(rest)[fraction(given[np.sort(rest)], share, seed).numpy()]
    for_test = np.sort(rng.permutation(len(test_all))[:test])
    parts = [(train_all, for_train, "train"), (train_all, for_val, "val"), (test_all, for_test, "test")]
    chosen = pd.concat([source.iloc[rows].assign(split=split) for source, rows, split in parts], ignore_index=True)
    true = chosen["label"].to_numpy(np.int64)
    truth_NC = np.eye(10, dtype=bool)[true]
    counts = np.stack(test_all["rater_counts"].iloc[for_test].to_list())
    truth_NC[(chosen["split"] == "test").to_numpy()] = counts >= votes
    table = pd.DataFrame({"split": chosen["split"], "true_label": true})
    table["label"] = chosen[rater].fillna(chosen["label"]).astype(np.int64)
    part = np.where(chosen["split"] == "test", "test", "train")
    table.insert(0, "id", [f"cifar10-{name}-{i:05d}" for name, i in zip(part, chosen["index"], strict=True)])
    return ImageTable(ImageArray(_decoded(chosen["image"], size)), table), torch.from_numpy(truth_NC)


def _read(folder: str | Path, part: str, column: str) -> pd.DataFrame:
    path = Path(folder) / f"{part}.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"folder={str(folder)!r} holds no {part}.parquet")
    table = pd.read_parquet(path)
    if column not in table:
        raise ValueError(f"{path} has no column {column!r}; it has: {', '.join(map(str, table))}")
    return table


def _decoded(images: pd.Series, size: int) -> Tensor:
    from PIL import Image

    out = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for row, data in enumerate(images):
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP"]) as image:
            picture = image.convert("RGB")
            out[row] = np.asarray(picture if picture.size == (size, size) else picture.resize((size, size)))
    return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous()

"""Features of images in the place of their pixels: computed once, kept on the disk, several views of each image."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tutelage.data.table import IDENTIFYING, Images, ImageTable
from tutelage.files import write_atomically

SEGMENT = 256  # rows in a file: what a kill may lose


class Rows(Protocol):
    """Features by row: those of a `FeatureStore`, or a tensor."""

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """Return the features of these rows, (n, V, D)."""


class StoredRows:
    """Rows of several memory-mapped tensors; what is not asked for is not read.

    Args:
        segments: the tensors, (n, V, D) each.
        segment, place: of each row, (N,).
    """

    def __init__(self, segments: Sequence[Tensor], segment: Tensor, place: Tensor) -> None:
        self.segments = segments
        self.segment = segment
        self.place = place

    def __getitem__(self, rows: Tensor) -> Tensor:
        segment, place = self.segment[rows], self.place[rows]
        found = torch.empty(len(rows), *self.segments[0].shape[1:])
        for number in segment.unique().tolist():
            here = segment == number
            found[here] = self.segments[number][place[here]]
        return found


class FeatureStore:
    """Features on the disk, found again by the hash of what they are of.

    They lie in files of at most `SEGMENT` rows that are written whole or not at all, so that a killed computation goes on
    where it was, and several may fill one store. A file whose checksum does not agree is removed, so that its rows are missing.

    Args:
        folder: of this encoder and these views; made where there is none.

    Attributes:
        damaged: the files that were removed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: list[Path] = []
        self.segments: list[Tensor] = []
        self.known: dict[int, tuple[int, int]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.read()

    def read(self) -> None:
        """Look at what the folder holds now."""
        self.segments, self.known = [], {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                self._add(*_read(path))
            except (SafetensorError, ValueError):
                self.damaged.append(path)
                path.unlink(missing_ok=True)

    def _add(self, keys: Tensor, features: Tensor) -> None:
        self.known |= {key: (len(self.segments), place) for place, key in enumerate(keys.tolist())}
        self.segments.append(features)

    def missing(self, keys: Sequence[int]) -> list[int]:
        """Return the places of the keys that have no features yet; of equal keys the first."""
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        return sorted(place for key, place in first.items() if key not in self.known)

    def fill(self, keys: Sequence[int], places: Sequence[int], compute: Callable[[Sequence[int]], Tensor]) -> None:
        """Compute the features of some places and keep them, a file at a time.

        Args:
            keys: of all places.
            places: those to compute.
            compute: from at most `SEGMENT` places to their features, (n, V, D).
        """
        for start in range(0, len(places), SEGMENT):
            part = places[start : start + SEGMENT]
            features = compute(part).float().cpu().contiguous()
            own = torch.tensor([keys[place] for place in part], dtype=torch.int64)
            metadata = {"checksum": str(_checksum(own, features))}
            tensors = {"keys": own, "features": features}
            path = self.folder / f"{uuid4().hex}.safetensors"
            write_atomically(path, partial(save_file, tensors, metadata=metadata))
            self._add(*_read(path))

    def rows(self, keys: Sequence[int]) -> StoredRows:
        """Return the features of these keys, all of which must be known."""
        found = torch.tensor([self.known[key] for key in keys], dtype=torch.int64).reshape(-1, 2)
        return StoredRows(self.segments, found[:, 0], found[:, 1])


def _read(path: Path) -> tuple[Tensor, Tensor]:
    with safe_open(path, "pt") as file:
        keys, features = file.get_tensor("keys"), file.get_tensor("features")
        told = file.metadata() or {}
    if str(_checksum(keys, features)) != told.get("checksum"):
        raise ValueError(f"{path} is damaged")
    return keys, features


def _checksum(*tensors: Tensor) -> int:
    value = 0
    for tensor in tensors:
        value = zlib.crc32(tensor.contiguous().view(torch.uint8).numpy().tobytes(), value)
    return value


class ImageFeatures:
    """The features of a table's images, standardised.

    .. math:: x' = (x - m) / s

    with mean m and standard deviation s of each number over the training rows.

    Args:
        rows: of all images, (V, D) each; the first view is the image as it is.
        key: what tells them from others: the encoder, the views and the images.
        training: rows over which they are standardised, (n,).
        encoder: what made them, which a trained model takes along; None where they were given.

    Attributes:
        views, num_features: V and D.
        mean, std: (D,).
    """

    def __init__(self, rows: Rows, key: str, training: Tensor, encoder: nn.Module | None = None) -> None:
        self.rows = rows
        self.key = key
        self.encoder = encoder
        self.views, self.num_features = rows[training[:1]].shape[1:]
        total, squares = torch.zeros(2, self.num_features, dtype=torch.float64)
        for part in training.split(4096):
            numbers = rows[part].double().flatten(0, 1)
            total += numbers.sum(0)
            squares += numbers.square().sum(0)
        mean = total / (len(training) * self.views)
        variance = squares / (len(training) * self.views) - mean.square()
        self.mean, self.std = mean.float(), variance.clamp_min(1e-12).sqrt().float()

    def gather(self, rows: Tensor) -> Tensor:
        """Return the standardised features of some rows, (n, V, D)."""
        return (self.rows[rows] - self.mean) / self.std


class RandomView:
    """The augmentation of features: for each example one of its views, drawn anew."""

    def __call__(self, features: Tensor) -> Tensor:
        """Return (B, D) of (B, V, D)."""
        drawn_B = torch.randint(features.shape[1], (len(features),))
        return features[torch.arange(len(features)), drawn_B]


class EncodedTable(ImageTable):
    """An image table whose batches hold features as ``input``, (B, V, D); its images are there to be looked at.

    Args:
        images, table: as of an `ImageTable`.
        features: of every row.
    """

    def __init__(self, images: Images, table: pd.DataFrame, features: ImageFeatures) -> None:
        super().__init__(images, table)
        self.features = features

    @property
    def num_features(self) -> int:
        """How many numbers an example's features have."""
        return self.features.num_features

    def batch(self, places: Sequence[int]) -> dict[str, Tensor]:
        """Return the rows at these places as one batch: `index`, `input`, `label`."""
        rows = torch.as_tensor(places, dtype=torch.int64)
        return {"index": rows, "input": self.features.gather(rows), "label": self.labels[rows]}

    def identity(self) -> list[object]:
        """Return what tells the table from another: all features, ids, labels, splits and weights."""
        return [self.features.key, self.table.filter(items=IDENTIFYING)]

    def with_split(self, split: Sequence[str] | np.ndarray) -> EncodedTable:
        """Return the same features and facts with another `split` column (N,)."""
        return EncodedTable(self.images, self.table.assign(split=split), self.features)

"""Features of images in the place of their pixels, several views of each image."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from tutelage.data.stored_rows import Rows
from tutelage.data.table import IDENTIFYING, Images, ImageTable


class ImageFeatures:
    """The features of a table's images, standardised.

    .. math:: x' = (x - m) / s

    with mean m and standard deviation s of each number over the training rows.

    Args:
        rows: of all images, (V, D) each; the first view is the image as it is.
        key: what tells them from others: the encoder, the views and the images.
        training: rows over which they are standardised, (n,); None leaves them as they are.
        encoder: what made them, which a trained model takes along; None where they were given.

    Attributes:
        views, num_features: V and D.
        mean, std: (D,).
    """

    def __init__(self, rows: Rows, key: str, training: Tensor | None, encoder: nn.Module | None = None) -> None:
        self.rows = rows
        self.key = key
        self.encoder = encoder
        self.views, self.num_features = rows[torch.zeros(1, dtype=torch.int64)].shape[1:]
        if training is None:
            self.mean, self.std = torch.zeros(self.num_features), torch.ones(self.num_features)
            return
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

    def with_table(self, table: pd.DataFrame) -> EncodedTable:
        """Return the same images and features with other facts, one row for each."""
        return EncodedTable(self.images, table, self.features)

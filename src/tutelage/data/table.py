"""The image table: one image and one row of facts per example."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tutelage.data.fingerprint import file_facts, fingerprint
from tutelage.data.image_cache import DecodedImages
from tutelage.data.indexed import Batched, Rows
from tutelage.decoding import Limits, UnreadableImage, decode, locate, read_bytes

SPLITS = (
    "train",
    "held_out",  # on which a weighting learns
    "val",  # which moderation divides into the next three
    "teacher_val",
    "teacher_test",
    "student_val",
    "test",
    "unlabelled",
    "unassigned",  # until `split_table` has seen it
    "left_out",
)
UNLABELLED = -1
IDENTIFYING = ("id", "label", "split", "weight")
"""The columns that training depends on."""
PICTURE = 160  # pixels of an image's side where a person looks at it


class Images(Protocol):
    """A sequence of uint8 images of one shape (3, H, W)."""

    def __len__(self) -> int:
        """Return how many images there are."""

    def __getitem__(self, row: int, /) -> Tensor:
        """Return one image (3, H, W)."""

    def gather(self, rows: Sequence[int], /) -> Tensor:
        """Return several images (B, 3, H, W)."""

    def pictures(self, rows: Sequence[int], /) -> Tensor:
        """Return several images (B, 3, h, w) for people to look at."""

    def key(self, row: int, /) -> str:
        """Return a hash that tells an image from others."""


class ImageArray:
    """Images in memory: one uint8 tensor (N, 3, H, W).

    Args:
        images: the tensor.
        files: where each was read from; what people look at is read from there again.
    """

    def __init__(self, images: Tensor, files: "ImageFiles | None" = None) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images are {images.dtype} {tuple(images.shape)}: give uint8 (N, 3, H, W)")
        self.images = images
        self.files = files

    def __len__(self) -> int:
        return len(self.images)

    def identity(self) -> Tensor:
        """Return what tells the images from others: their pixels."""
        return self.images

    def __getitem__(self, row: int) -> Tensor:
        return self.images[row]

    def gather(self, rows: Sequence[int]) -> Tensor:
        """Return several images (B, 3, H, W)."""
        return self.images[torch.as_tensor(rows, dtype=torch.int64)]

    def pictures(self, rows: Sequence[int]) -> Tensor:
        """Return several images for people to look at: from their files, or as they are where a file cannot be read now."""
        if self.files is not None:
            with suppress(UnreadableImage):
                return self.files.pictures(rows)
        return self.gather(rows)

    def key(self, row: int) -> str:
        """Return a hash of an image's pixels."""
        return fingerprint(self.images[row])


class ImageFiles:
    """Images on disk, decoded when asked for: upright RGB, uint8 (3, size, size).

    Args:
        root: the folder under which the paths lie.
        paths: one path per image under `root`; one that leads out of it is refused.
        size: side of the square that every image is resized to, in pixels.
        limits: what a file may be; the default `Limits()` when None.
        known: pixels that were decoded before.

    Raises:
        UnreadableImage: by an access, not by the constructor. `read_manifest` decodes every file once and
            leaves out those that fail, so that later a failure means that a file has changed.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        paths: Sequence[str],
        size: int = 224,
        limits: Limits | None = None,
        known: DecodedImages | None = None,
    ) -> None:
        self.root = Path(root)
        self.paths = list(paths)
        self.size = size
        self.limits = limits or Limits()
        self.known = known

    def __len__(self) -> int:
        return len(self.paths)

    def identity(self) -> list[object]:
        """Return what tells the images from others: how they are read, and each file's size and time of its last change."""
        return [self.size, self.limits, [(path, file_facts(self.root / path)) for path in self.paths]]

    def content(self, row: int) -> bytes:
        """Return what a file holds."""
        return read_bytes(locate(self.root, self.paths[row]), self.limits)

    def decoded(self, data: bytes) -> Tensor:
        """Return the image that a file with this content holds."""
        return torch.from_numpy(decode(data, self.size, self.limits))

    def __getitem__(self, row: int) -> Tensor:
        return self.gather([row])[0]

    def gather(self, rows: Sequence[int]) -> Tensor:
        """Return several images (B, 3, size, size)."""
        if len(rows) == 0:
            return torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)
        pixels, places = (torch.empty(0), []) if self.known is None else self.known.gather(rows)
        if len(places) == len(rows):
            return pixels
        images = dict(zip(places, pixels, strict=True))
        fresh = (place for place in range(len(rows)) if place not in images)
        images |= {place: self.decoded(self.content(rows[place])) for place in fresh}
        return torch.stack([images[place] for place in range(len(rows))])

    def pictures(self, rows: Sequence[int]) -> Tensor:
        """Return several images (B, 3, 160, 160) for people to look at."""
        return ImageFiles(self.root, self.paths, PICTURE, self.limits).gather(rows)

    def key(self, row: int) -> str:
        """Return a hash of how an image is read, its path, and its file's size and time of the last change."""
        path = self.root.resolve() / self.paths[row]
        return fingerprint(self.size, self.limits, str(path), file_facts(path))


class NoImages:
    """What stands for the images of examples that come without any, such as features alone.

    Args:
        count: how many examples there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> Tensor:
        return self.gather([row])[0]

    def gather(self, rows: Sequence[int]) -> Tensor:
        """Refuse: there are none.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"the data come without images, and example {rows[0] if len(rows) else 0} was asked for as one"
        )

    def pictures(self, rows: Sequence[int]) -> Tensor:
        """Return no picture, (0, 3, 1, 1), whatever is asked for."""
        return torch.empty(0, 3, 1, 1, dtype=torch.uint8)

    def key(self, row: int) -> str:
        """Return what stands for the image that is not there."""
        return ""


class ImageTable(Batched):
    """Images, and a pandas table with one row for each.

    Columns: `id` (unique text), `label` (class, -1 = unlabelled), `split` (one of `SPLITS`), and whatever else is
    known: `headline`, `submitted_at`, `advertiser`, `impressions`, `weight`; for evaluation only, `true_label` and
    `true_subtask` (-1 = none). Rows are numbered 0..N-1, and that number is an example's `index` everywhere.

    Args:
        images: a sequence of uint8 images (3, H, W).
        table: one row per image, in the same order; its own index is dropped.

    Raises:
        ValueError: a column is missing, the lengths differ, an id comes twice, a label or split is none.
    """

    def __init__(self, images: Images, table: pd.DataFrame) -> None:
        self.images = images
        self.table = table.reset_index(drop=True)
        for column in ("id", "label", "split"):
            if column not in table:
                raise ValueError(f"the table has no column {column!r}; it has: {', '.join(map(str, table))}")
        if len(images) != len(table):
            raise ValueError(f"{len(images)} images, but {len(table)} rows: give one row per image")
        if (twice := self.table["id"].duplicated()).any():
            raise ValueError(f"id {self.table['id'][twice].iloc[0]!r} comes twice: ids must be unique")
        if not pd.api.types.is_integer_dtype(table["label"]) or table["label"].min() < UNLABELLED:
            raise ValueError("column 'label' must hold classes 0, 1, ... or -1 for an unlabelled row")
        if strange := sorted(set(table["split"]) - set(SPLITS), key=str):
            raise ValueError(f"column 'split' holds {strange[0]!r}; known: {', '.join(SPLITS)}")
        self.labels = torch.from_numpy(self.table["label"].to_numpy(np.int64, copy=True))

    @property
    def num_features(self) -> int | None:
        """How many numbers an example's ``input`` has where it is features; None where it is the image."""
        return None

    def __len__(self) -> int:
        return len(self.table)

    def batch(self, places: Sequence[int]) -> dict[str, Tensor]:
        """Return the rows at these places as one batch: `index` (row of the table), `input`, `label`."""
        rows = torch.as_tensor(places, dtype=torch.int64)
        return {"index": rows, "input": self.images.gather(rows.tolist()), "label": self.labels[rows]}

    def identity(self) -> list[object]:
        """Return what tells the table from another: all images, ids, labels, splits and weights."""
        return [self.images, self.table.filter(items=IDENTIFYING)]

    def rows(self, *splits: str) -> Tensor:
        """Return the rows of the given splits, ascending: int64 (n,).

        Raises:
            ValueError: a name is not in `SPLITS`.
        """
        for split in splits:
            if split not in SPLITS:
                raise ValueError(f"split is {split!r}; known: {', '.join(SPLITS)}")
        return torch.from_numpy(np.flatnonzero(self.table["split"].isin(splits)))

    def with_table(self, table: pd.DataFrame) -> "ImageTable":
        """Return the same images with other facts, one row for each."""
        return ImageTable(self.images, table)

    def with_split(self, split: Sequence[str] | np.ndarray) -> "ImageTable":
        """Return the same images and facts with another `split` column (N,)."""
        return self.with_table(self.table.assign(split=split))

    def subset(self, rows: Tensor | Sequence[int]) -> Rows:
        """Return some rows, in the given order, as a map-style data set."""
        return Rows(self, torch.as_tensor(rows, dtype=torch.int64))


def label_counts(table: pd.DataFrame, classes: Sequence[str], splits: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return for each split how many rows have each label, by the classes' names, and how many have none."""
    return {
        split: {
            name: int(((table["split"] == split) & (table["label"] == label)).sum())
            for label, name in [*enumerate(classes), (UNLABELLED, "unlabelled")]
        }
        for split in splits
    }

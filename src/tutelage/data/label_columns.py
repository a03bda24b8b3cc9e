"""A table of examples with several columns of labels: images by their paths, or categorical fields."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tutelage.data.cells import read_cells
from tutelage.data.drawn import PARTS
from tutelage.data.given_features import GivenFeatures
from tutelage.data.image_table import image_table
from tutelage.data.indexed import TensorData
from tutelage.data.problems import Problems
from tutelage.data.read_once import MEMORY
from tutelage.data.table import UNLABELLED, ImageFiles, ImageTable
from tutelage.data.written import in_order, require_splits
from tutelage.data.written import numbers as read_numbers
from tutelage.data.written import splits as read_splits
from tutelage.decoding import Limits


@dataclass
class LabelColumns:
    """What `read_label_columns` returns.

    Attributes:
        id: of each example.
        split: one of `PARTS` for each, or empty where the table has none.
        images: the images as a table without labels, or None for a table of fields.
        fields: (N, F) int64, each field's value from 0, or None for a table of images.
        labels: for each column of classes (N,) int64, -1 where the cell is empty; of numbers (N,) float32, NaN there.
        classes: the classes' names, in their order, of each column of classes.
        values: the values' names, in their order, of each field.
        problems: what was left out.
    """

    id: list[str]
    split: list[str]
    images: ImageTable | None
    fields: Tensor | None
    labels: dict[str, Tensor]
    classes: dict[str, list[str]]
    values: dict[str, list[str]] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)

    def __len__(self) -> int:
        return len(self.id)

    def examples(self) -> Any:
        """Return all examples as a data set whose ``input`` is the fields or the images."""
        if self.fields is not None:
            return TensorData(input=self.fields)
        assert self.images is not None
        return self.images.subset(torch.arange(len(self.images)))

    def coded_as(self, values: dict[str, list[str]]) -> tuple[list[str], Tensor]:
        """Return the ids and the fields of the examples whose values are all among others', coded in their order.

        The rest is added to the problems.
        """
        assert self.fields is not None
        coded = []
        for place, (name, known) in enumerate(values.items()):
            codes = {value: code for code, value in enumerate(known)}
            coded.append(torch.tensor([codes.get(value, -1) for value in self.values[name]])[self.fields[:, place]])
        codes_NF = torch.stack(coded, 1)
        right = (codes_NF >= 0).all(1)
        for row in (~right).nonzero()[:, 0].tolist():
            self.problems.add(self.id[row], "unknown_value", "a field has a value that the run has not seen")
        return [self.id[row] for row in right.nonzero()[:, 0].tolist()], codes_NF[right]


def read_label_columns(
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] = (),
    numbers: Sequence[str] = (),
    fields: Sequence[str] = (),
    image: str = "image",
    id: str = "id",
    split: str = "split",
    size: int = 224,
    limits: Limits | None = None,
    memory_bytes: int = MEMORY,
    cache_bytes: int = 0,
    features: GivenFeatures | None = None,
) -> LabelColumns:
    """Read a .csv, .tsv or .parquet table of examples.

    An example is left out, and listed, for an image that is refused or a number that is none. An empty cell
    of a label column is an absent label, an empty field a value of its own.

    Args:
        path: the table; image paths stand under its folder.
        classes: columns whose cells are names of classes.
        numbers: columns whose cells are numbers.
        fields: columns that are the input; none of them means that the input is the image.
        image, id, split: the table's own names of these columns; the last two may be missing.
        size: side of the squares that images are resized to, in pixels.
        limits: what an image file may be.
        memory_bytes, cache_bytes, features: as in `read_manifest`.

    Raises:
        FileNotFoundError: no such table.
        ValueError: a column is missing, or one of the splits is not known.
    """
    path = Path(path)
    problems = Problems()
    cells = read_cells(path, problems)
    if fields and features is not None:
        raise ValueError(f"fields={list(fields)} and features of {features.path} are both the input; give one of them")
    pictured = not fields and (features is None or image in cells)
    told = [image] if pictured else [id] if features is not None and features.ids is not None else []
    for name in [*classes, *numbers, *fields, *told]:
        if name not in cells:
            raise ValueError(f"{path} has no column {name!r}; it has: {', '.join(map(str, cells))}")
    cells["_id"] = cells[id] if id in cells else cells[image] if pictured else cells.index.astype(str)
    cells["_split"] = read_splits(cells[split]).replace("unlabelled", "train") if split in cells else ""
    kept = np.ones(len(cells), dtype=bool)

    def refuse(bad: np.ndarray, reason: str, detail: str) -> None:
        for row in np.flatnonzero(bad & kept):
            problems.add(cells["_id"].iloc[row], reason, detail)
        kept[bad] = False

    if split in cells:
        require_splits(cells["_split"], PARTS, f"column {split!r} of {path}")
    values = {name: read_numbers(cells[name]) for name in numbers}
    for name, column in values.items():
        bad = ((cells[name] != "") & ~np.isfinite(column)).to_numpy(bool)
        refuse(bad, "bad_number", f"{name} is no finite number")
    images: ImageTable | None = None
    if not fields:
        paths = cells[image].str.replace("\\", "/", regex=False) if pictured else ""
        listed = pd.DataFrame({"id": cells["_id"], "image": paths, "label": UNLABELLED, "split": "unlabelled"})[kept]
        files = partial(ImageFiles, path.parent, size=size, limits=limits) if pictured else None
        images, left = image_table(listed, files, problems, memory_bytes, cache_bytes, features, len(cells))
        kept = np.isin(np.arange(len(cells)), left)
    cells = cells[kept]
    labels: dict[str, Tensor] = {}
    names: dict[str, list[str]] = {}
    for name in classes:
        names[name] = in_order(cells[name])
        code = pd.Index(names[name], dtype=object).get_indexer(pd.Index(cells[name]))
        labels[name] = torch.from_numpy(code.astype(np.int64))
    for name, column in values.items():
        labels[name] = torch.from_numpy(column.to_numpy(np.float32)[kept])
    coded = [pd.factorize(cells[name], sort=True) for name in fields]
    return LabelColumns(
        cells["_id"].tolist(),
        cells["_split"].tolist(),
        images,
        torch.from_numpy(np.stack([code for code, _ in coded], 1).astype(np.int64)) if fields else None,
        labels,
        names,
        {name: [str(each) for each in found] for name, (_, found) in zip(fields, coded, strict=True)},
        problems,
    )

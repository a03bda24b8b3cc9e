"""A table of examples with several columns of labels: images by their paths, or fields, which are names or numbers."""

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
from tutelage.data.fields import FieldCodes, declared
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
        fields: (N, F), what `FieldCodes.coded` returns, or None for a table of images.
        labels: for each column of classes (N,) int64, -1 where the cell is empty; of numbers (N,) float32, NaN there.
        classes: the classes' names, in their order, of each column of classes.
        codes: how the fields are read, or None for a table of images.
        cells: of the fields, as they are written, or None for a table of images.
        problems: what was left out.
    """

    id: list[str]
    split: list[str]
    images: ImageTable | None
    fields: Tensor | None
    labels: dict[str, Tensor]
    classes: dict[str, list[str]]
    codes: FieldCodes | None = None
    cells: pd.DataFrame | None = None
    problems: Problems = field(default_factory=Problems)

    def __len__(self) -> int:
        return len(self.id)

    def examples(self) -> Any:
        """Return all examples as a data set whose ``input`` is the fields or the images."""
        if self.fields is not None:
            return TensorData(input=self.fields)
        assert self.images is not None
        return self.images.subset(torch.arange(len(self.images)))

    def coded_as(self, codes: FieldCodes, closed: Sequence[str] = ()) -> tuple[list[str], Tensor]:
        """Return the ids and the input of the examples, read as others were; what was not seen there is noted.

        Args:
            codes: of the others.
            closed: fields in which a name that was not seen has no code; its examples are left out.
        """
        assert self.cells is not None
        input = codes.coded(self.cells, self.id, self.problems, closed=closed)
        right = ~(input < 0)[:, : len(codes.values)].any(1)
        return [self.id[row] for row in right.nonzero()[:, 0].tolist()], input[right]


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

    An example is left out, and listed, for an image that is refused. An empty cell of a label column is an absent label, and so
    is one that should be a number and is none, which is listed. An empty field is a name of its own, or no number.

    Args:
        path: the table; image paths stand under its folder.
        classes: columns whose cells are names of classes.
        numbers: columns whose cells are numbers.
        fields: columns that are the input; none of them means that the input is the image. One of more than 20 different
            numbers is read as a number, whole ones that come often as a number and as names, and all others as names;
            ``age:number`` and ``code:name`` say how.
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
    kinds = declared(fields, [str(name) for name in cells])
    for name in [*classes, *numbers, *kinds, *told]:
        if name not in cells:
            raise ValueError(f"{path} has no column {name!r}; it has: {', '.join(map(str, cells))}")
    cells["_id"] = cells[id] if id in cells else cells[image] if pictured else cells.index.astype(str)
    cells["_split"] = read_splits(cells[split]).replace("unlabelled", "train") if split in cells else ""
    kept = np.ones(len(cells), dtype=bool)
    if split in cells:
        require_splits(cells["_split"], PARTS, f"column {split!r} of {path}")
    values = {name: read_numbers(cells[name]) for name in numbers}
    for name, column in values.items():
        values[name] = column.where(np.isfinite(column))
        for row in np.flatnonzero((cells[name] != "") & values[name].isna()):
            detail = f"{name} is {cells[name].iloc[row]!r}, which is no finite number: an absent label"
            problems.warn(cells["_id"].iloc[row], "bad_number", detail)
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
    codes = FieldCodes.of(cells, kinds) if fields else None
    written = cells[list(kinds)].reset_index(drop=True) if fields else None
    ids = cells["_id"].tolist()
    return LabelColumns(
        ids,
        cells["_split"].tolist(),
        images,
        codes.coded(written, ids, problems) if codes is not None and written is not None else None,
        labels,
        names,
        codes,
        written,
        problems,
    )

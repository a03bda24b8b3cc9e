"""Images with several labels each, from a manifest whose cells name them or from a folder with one subfolder per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.data.cells import read_cells
from tutelage.data.given_features import GivenFeatures
from tutelage.data.manifest import Columns, read_image_folder, read_manifest
from tutelage.data.problems import Problems
from tutelage.data.table import UNLABELLED, ImageTable
from tutelage.data.written import in_order

SEPARATOR = "|"


@dataclass(frozen=True)
class LabelSets:
    """Images with the labels that were given, and for some all that are true.

    Attributes:
        images: the image table; ``label`` is the given label, or the first of several.
        classes: the names of the classes, see `in_order`.
        given_NC: which labels were given, bool.
        truth_NC: all labels, bool, where a column names them.
        problems: what was left out.
    """

    images: ImageTable
    classes: list[str]
    given_NC: Tensor
    truth_NC: Tensor | None
    problems: Problems


def read_label_sets(
    path: Path,
    columns: Columns = Columns(),
    truth: str | None = None,
    domain: str | None = None,
    *,
    size: int = 224,
    cache_bytes: int = 0,
    features: GivenFeatures | None = None,
) -> LabelSets:
    """Read images; a cell names several labels divided by ``|``, and an empty one is an unlabelled image.

    Args:
        path: CSV or Parquet file, or a folder with a subfolder for each class.
        columns: names of the manifest's columns.
        truth: name of the column of all labels of an image.
        domain: name of a column that becomes ``domain`` of the images' table.
        size: side that images are resized to, in pixels.
        cache_bytes, features: as in `read_manifest`.

    Raises:
        FileNotFoundError, ValueError: see `read_manifest`; no such column.
    """
    cells = None
    if path.is_dir():
        for argument, column in (("truth", truth), ("domain", domain)):
            if column is not None:
                raise ValueError(f"{argument}={column!r}: a folder has no columns; give a manifest")
        codes = {
            name: code for code, name in enumerate(sorted(entry.name for entry in path.iterdir() if entry.is_dir()))
        }
        images, problems = read_image_folder(path, codes, size=size, cache_bytes=cache_bytes, features=features)
    else:
        cells = read_cells(path, Problems())
        for column in filter(None, (columns.label, truth, domain)):
            if column not in cells:
                raise ValueError(f"{path} has no column {column!r}; it has: {', '.join(map(str, cells))}")
        texts = dict.fromkeys(text.casefold() for text in cells[columns.label] if text)
        codes = {text: code for code, text in enumerate(texts)}
        images, problems = read_manifest(path, columns, codes, size=size, cache_bytes=cache_bytes, features=features)
    used = set(images.labels.tolist())  # a label of images that could not be read is no class
    sets = [_names(text) if code in used else [] for text, code in codes.items()]
    truths = []
    if truth is not None and cells is not None:
        truths = [_names(text) for text in _told(cells, columns, truth, images.table)]
    classes = in_order(name for members in (*sets, *truths) for name in members)
    given_NC = _matrix([*sets, []], classes)[images.labels]  # of those without a label, -1, the last
    first = torch.where(given_NC.any(1), (given_NC.cumsum(1) == 0).sum(1), UNLABELLED)
    table = images.table.assign(label=first.numpy())
    table["split"] = table["split"].mask(table["label"] == UNLABELLED, "unlabelled")  # as where the cell is empty
    if domain is not None and cells is not None:
        table["domain"] = _told(cells, columns, domain, images.table)
    true_NC = None if truth is None else _matrix(truths, classes)
    return LabelSets(images.with_table(table), classes, given_NC, true_NC, problems)


def _told(cells: pd.DataFrame, columns: Columns, column: str, table: pd.DataFrame) -> list[str]:
    """Return the cell of a manifest's column for each image that was read."""
    paths = cells.get(columns.image, pd.Series("", index=cells.index, dtype=object))
    paths = paths.str.replace("\\", "/", regex=False)
    named = cells.get(columns.id, paths if columns.image in cells else pd.Series(map(str, cells.index)))
    ids, told = named.where(named != "", paths), cells[column]
    by_row = dict(zip(zip(ids[::-1], paths[::-1], strict=True), told[::-1], strict=True))  # of copies the first is kept
    by_image = dict(zip(paths[::-1], told[::-1], strict=True))  # for ids that were made distinct
    rows = zip(table["id"], table["image"], strict=True)
    return [by_row.get((id, image), by_image[image]) for id, image in rows]


def joined(classes: list[str], sets_NC: NDArray[np.bool_]) -> list[str]:
    """Return each set as one text, its names divided by ``|``."""
    return [SEPARATOR.join(classes[c] for c in np.flatnonzero(members)) for members in sets_NC]


def _names(text: str) -> list[str]:
    return [name.strip().casefold() for name in text.split(SEPARATOR) if name.strip()]


def _matrix(sets: list[list[str]], classes: list[str]) -> Tensor:
    place = {name: number for number, name in enumerate(classes)}
    found = torch.zeros(len(sets), len(classes), dtype=torch.bool)
    for row, members in enumerate(sets):
        found[row, [place[name] for name in members]] = True
    return found

"""From files to an image table: a CSV or Parquet manifest, or a folder with one subfolder per label."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import pandas as pd

from tutelage.checks import nearest
from tutelage.data.cells import read_cells
from tutelage.data.given_features import GivenFeatures
from tutelage.data.image_table import image_table
from tutelage.data.manifest_rows import checked
from tutelage.data.problems import Problems
from tutelage.data.read_once import MEMORY
from tutelage.data.table import SPLITS, UNLABELLED, ImageFiles, ImageTable
from tutelage.data.written import Dates, in_order, one_spelling, require_splits, splits
from tutelage.decoding import Limits

LABELS: Mapping[str, int] = {"acceptable": 1, "defective": 0, "unlabelled": UNLABELLED}


@dataclass(frozen=True)
class Columns:
    """What a manifest calls its columns. `image` (and `label`, to train) must be there, the others may be.

    Args:
        image: Path of the image under the manifest's folder.
        label: One of the label names; an empty cell is an unlabelled image.
        id: Unique name of the example; by default the image's path.
        headline: The advertisement's text, used to find duplicates.
        submitted_at: Date or time (UTC if it names no zone), used to split.
        advertiser: Who submitted it.
        impressions: How often it was shown, a number.
        split: One of train, val or validation (divided later), test, unlabelled, or any other split's name.
        weight: How often the example counts when `tutelage moderate` trains, a number from 0; an empty cell is 1.
    """

    image: str = "image"
    label: str = "label"
    id: str = "id"
    headline: str = "headline"
    submitted_at: str = "submitted_at"
    advertiser: str = "advertiser"
    impressions: str = "impressions"
    split: str = "split"
    weight: str = "weight"


def read_manifest(
    path: str | os.PathLike[str],
    columns: Columns | None = None,
    labels: Mapping[str, int] | None = LABELS,
    *,
    root: str | os.PathLike[str] | None = None,
    size: int = 224,
    limits: Limits | None = None,
    memory_bytes: int = MEMORY,
    cache_bytes: int = 0,
    dates: Dates = "auto",
    weighted: bool = False,
    features: GivenFeatures | None = None,
) -> tuple[ImageTable, Problems]:
    """Read a manifest and decode each of its images once; what cannot be used is left out and listed.

    A row is left out for an unknown label, an image that is refused, or because an earlier row has its id and its image; a time
    or number that cannot be read is a warning, and the row stays without it, and so is the id of another image, which gets a
    number. A row without label goes to the split `unlabelled`, and one marked `unlabelled` loses its label. Other rows
    without a split are `unassigned` (see `split_table`), but where the manifest names training, validation and test: there they
    are left out. Without labels no row is left out as a copy, and `own_id` is what the manifest calls it.
    The table gains a column `phash`, so that near-duplicates are found without decoding again.

    Args:
        path: a .csv, .tsv, .parquet or .pq file; image paths may be divided by slashes or backslashes.
        columns: the manifest's own names.
        labels: class by label name, without regard to case; None reads no labels, to score new images.
        root: the folder that image paths stand under; the manifest's by default.
        size: side that images are resized to, in pixels.
        limits: what an image file may be.
        memory_bytes: pixels are kept in memory up to this many bytes, and decoded at every use above.
        cache_bytes: above, they are kept on the disk up to this many bytes instead; see `ImageCache`.
        dates: which of day and month stands first in dates such as 05/06/2024; see `times`.
        weighted: read how often each row counts, too; a row whose weight is no number from 0 is left out.
        features: of the examples, which the table then yields in the place of pixels; a row without is left out. Images need
            not be there, and rows of equal features have the same ``phash`` where they are not.

    Returns:
        The table, in the manifest's order, and what was left out.

    Raises:
        FileNotFoundError: there is no such manifest.
        ValueError: it is no table, lacks a column, none of its labels is known, or one of its splits is not.
    """
    path = Path(path)
    columns = columns or Columns()
    problems = Problems()
    cells = read_cells(path, problems)
    pictured = features is None or columns.image in cells
    needed = (*(("image",) if pictured else ("id",)), *(() if labels is None else ("label",)))
    if not pictured and features is not None and features.ids is None and columns.id not in cells:
        cells[columns.id] = cells.index.astype(str)
    facts = _named(cells, columns, needed=needed, file=path)
    if labels is None:
        facts["label"] = facts["split"] = ""
    if not weighted:
        facts["weight"] = ""
    facts["split"] = splits(facts["split"])
    require_splits(facts["split"], SPLITS, f"column {columns.split!r} of {path}")
    source = f"column {columns.label!r} of {path}"
    table = checked(facts, labels or {}, problems, source, dates, needed="image" if pictured else "id")
    inside = path.parent if root is None else root
    files = partial(ImageFiles, inside, size=size, limits=limits) if pictured else None
    images, _ = image_table(table, files, problems, memory_bytes, cache_bytes, features, len(cells))
    return images, problems


def read_image_folder(
    path: str | os.PathLike[str],
    labels: Mapping[str, int] | None = LABELS,
    *,
    size: int = 224,
    limits: Limits | None = None,
    memory_bytes: int = MEMORY,
    cache_bytes: int = 0,
    features: GivenFeatures | None = None,
) -> tuple[ImageTable, Problems]:
    """Read a folder with one subfolder per label (the ImageFolder layout); ids are the paths, in sorted order.

    Hidden files are skipped; every other file is taken for an image. Arguments and results as in `read_manifest`; without
    labels, to score new images, the folder is read whatever its layout.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: none of its subfolders is a known label.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    problems = Problems()
    rows = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(folder).relative_to(path)
        for image in ((inside / name).as_posix() for name in names if not name.startswith(".")):
            if labels is None or inside.parts:
                rows.append({"image": image, "label": "" if labels is None else inside.parts[0]})
            else:
                problems.add(image, "no_label", "lies in no label's folder")
    rows.sort(key=lambda row: row["image"])
    facts = pd.DataFrame(rows, columns=[field.name for field in fields(Columns)], dtype=object).fillna("")
    table = checked(facts, labels or {}, problems, f"the subfolders of {path}", "auto")
    files = partial(ImageFiles, path, size=size, limits=limits)
    images, _ = image_table(table, files, problems, memory_bytes, cache_bytes, features, len(facts))
    return images, problems


def read_classes(
    path: Path,
    columns: Columns = Columns(),
    *,
    size: int = 224,
    cache_bytes: int = 0,
    features: GivenFeatures | None = None,
) -> tuple[ImageTable, tuple[str, ...], Problems]:
    """Read a manifest or a folder whose labels are the names of classes; classes are numbered in the order of `in_order`.

    Returns:
        The table, the classes, and what was left out.

    Raises:
        FileNotFoundError, ValueError: see `read_manifest`; fewer than two classes.
    """
    if path.is_dir():
        given = pd.Series(
            [entry.name for entry in path.iterdir() if entry.is_dir() and entry.name[0] != "."], dtype=object
        )
    else:
        cells = read_cells(path, Problems())
        if columns.label not in cells:
            raise ValueError(f"{path} has no column {columns.label!r}; it has {', '.join(map(str, cells.columns))}")
        given = cells[columns.label]
    spellings = Problems()
    names = in_order(one_spelling(given, spellings))
    if len(names) < 2:
        raise ValueError(f"{path} names {len(names)} classes; at least 2 are needed")
    labels = {name: number for number, name in enumerate(names)}
    if path.is_dir():
        images, problems = read_image_folder(path, labels, size=size, cache_bytes=cache_bytes, features=features)
    else:
        images, problems = read_manifest(path, columns, labels, size=size, cache_bytes=cache_bytes, features=features)
    problems.extend(spellings)
    return images, tuple(names), problems


def _named(cells: pd.DataFrame, columns: Columns, needed: Sequence[str], file: Path) -> pd.DataFrame:
    """Return all the columns of `Columns` under their own names, empty where the manifest has none."""
    facts = pd.DataFrame(index=cells.index)
    for field in fields(Columns):
        name = getattr(columns, field.name)
        if name not in cells and (field.name in needed or name != field.default):
            known = [str(column) for column in cells]
            raise ValueError(
                f"{file} has no column {name!r} for {field.name!r} (map it by columns.{field.name}); it has: "
                f"{', '.join(known)}{nearest(name, known)}"
            )
        facts[field.name] = cells.get(name, "")
    return facts

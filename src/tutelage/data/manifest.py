"""From files to an image table: a CSV or Parquet manifest, or a folder with one subfolder per label."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from tutelage.data.cells import read_table
from tutelage.data.duplicates import Hashes, as_hex, perceptual_hash
from tutelage.data.image_cache import ImageCache
from tutelage.data.problems import Problems
from tutelage.data.table import SPLITS, UNLABELLED, ImageArray, ImageFiles, Images, ImageTable
from tutelage.data.written import Dates, distinct, numbers, one_spelling, require_splits, splits, times
from tutelage.decoding import Limits, UnreadableImage
from tutelage.hardware import available_cpus

LABELS: Mapping[str, int] = {"acceptable": 1, "defective": 0, "unlabelled": UNLABELLED}
_OPTIONAL = ("headline", "submitted_at", "advertiser", "impressions", "weight")


@dataclass(frozen=True)
class Columns:
    """What a manifest calls its columns. `image` (and `label`, to train) must be there, the others may be.

    Args:
        image: path of the image under the manifest's folder.
        label: one of the label names; an empty cell is an unlabelled image.
        id: unique name of the example; the image's path where it is absent.
        headline: the advertisement's text, to find duplicates by.
        submitted_at: date or time (UTC where it names no zone), to split by.
        advertiser: who submitted it.
        impressions: how often it was shown, a number.
        split: train, val or validation (divided later), test, unlabelled, or any other split's name.
        weight: how often the example counts when `tutelage moderate` trains, a number from 0; once where the cell is empty.
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
    memory_bytes: int = 2 * 2**30,
    cache_bytes: int = 0,
    dates: Dates = "auto",
    weighted: bool = False,
) -> tuple[ImageTable, Problems]:
    """Read a manifest and decode each of its images once; what cannot be used is left out and listed.

    A row is left out for an unknown label, an image that is refused, or because an earlier row has its id and its image; a time
    or number that cannot be read is a warning, and the row stays without it, and so is the id of another image, which gets a
    number. A row without label goes to the split `unlabelled`, and one marked `unlabelled` loses its label. Where the manifest
    has no splits, the others are `unassigned`: see `split_table`.
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
    facts = _named(cells, columns, needed=("image",) if labels is None else ("image", "label"), file=path)
    if labels is None:
        facts["label"] = facts["split"] = ""
    if not weighted:
        facts["weight"] = ""
    facts["split"] = splits(facts["split"])
    require_splits(facts["split"], SPLITS, f"column {columns.split!r} of {path}")
    table = _checked(facts, labels or {}, problems, f"column {columns.label!r} of {path}", dates)
    files = ImageFiles(path.parent if root is None else root, table["image"].tolist(), size, limits)
    return _image_table(table, files, problems, memory_bytes, cache_bytes)


def read_image_folder(
    path: str | os.PathLike[str],
    labels: Mapping[str, int] | None = LABELS,
    *,
    size: int = 224,
    limits: Limits | None = None,
    memory_bytes: int = 2 * 2**30,
    cache_bytes: int = 0,
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
        raise FileNotFoundError(f"there is no folder {path}.")
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
    table = _checked(facts, labels or {}, problems, f"the subfolders of {path}", "auto")
    files = ImageFiles(path, table["image"].tolist(), size, limits)
    return _image_table(table, files, problems, memory_bytes, cache_bytes)


def read_classes(
    path: Path, columns: Columns = Columns(), *, size: int = 224, cache_bytes: int = 0
) -> tuple[ImageTable, tuple[str, ...], Problems]:
    """Read a manifest or a folder whose labels are the names of classes; classes are numbered in alphabetic order.

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
    names = sorted(set(one_spelling(given, spellings)) - {""})
    if len(names) < 2:
        raise ValueError(f"{path} names {len(names)} classes; at least 2 are needed")
    labels = {name: number for number, name in enumerate(names)}
    if path.is_dir():
        images, problems = read_image_folder(path, labels, size=size, cache_bytes=cache_bytes)
    else:
        images, problems = read_manifest(path, columns, labels, size=size, cache_bytes=cache_bytes)
    problems.extend(spellings)
    return images, tuple(names), problems


def read_cells(path: Path, problems: Problems) -> pd.DataFrame:
    """Return all cells as stripped text, the empty text where there is nothing."""
    if path.is_dir():
        raise ValueError(f"manifest {path} is a folder: give a .csv, .tsv, .parquet or .pq file.")
    if not path.is_file():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"there is no manifest {path}.{_nearest(path.name, beside)}")

    try:
        cells = read_table(path, problems, dtype_backend="numpy_nullable")
    except pd.errors.EmptyDataError as error:
        raise ValueError(
            f"manifest {path} is empty: it needs a line of column names, and a row for each image."
        ) from error
    if not isinstance(cells.index, pd.RangeIndex):
        cells = cells.reset_index()
    return cells.astype("string").fillna("").astype(object).apply(lambda column: column.str.strip())


def _named(cells: pd.DataFrame, columns: Columns, needed: Sequence[str], file: Path) -> pd.DataFrame:
    """Return all the columns of `Columns` under their own names, empty where the manifest has none."""
    facts = pd.DataFrame(index=cells.index)
    for field in fields(Columns):
        name = getattr(columns, field.name)
        if name not in cells and (field.name in needed or name != field.default):
            known = [str(column) for column in cells]
            raise ValueError(
                f"{file} has no column {name!r} for {field.name!r}; it has: {', '.join(known)}.{_nearest(name, known)} "
                f"Map it by columns.{field.name}."
            )
        facts[field.name] = cells.get(name, "")
    return facts


def _checked(
    facts: pd.DataFrame, labels: Mapping[str, int], problems: Problems, source: str, dates: Dates
) -> pd.DataFrame:
    """Return the rows whose cells make sense, with typed columns; optional columns without any entry are dropped."""
    reason = pd.Series("", index=facts.index, dtype=object)
    detail = reason.copy()

    def refuse(bad: pd.Series, why: str, text: str) -> None:
        fresh = bad & (reason == "")
        reason[fresh] = why
        detail[fresh] = text

    def refuse_cells(column: str, good: pd.Series, why: str, allowed: str) -> None:
        fresh = ~good & (facts[column] != "") & (reason == "")
        reason[fresh] = why
        detail[fresh] = column + " is " + facts[column][fresh].map(repr) + "; allowed: " + allowed

    def warn_cells(column: str, bad: pd.Series, why: str, text: str) -> None:
        for row in facts[bad & (facts[column] != "") & (reason == "")].itertuples():
            problems.warn(row.id, why, f"{column} is {getattr(row, column)!r}, {text}")

    facts["image"] = facts["image"].str.replace("\\", "/", regex=False)
    facts["id"] = facts["id"].where(facts["id"] != "", facts["image"])
    classes = {name.casefold(): label for name, label in labels.items()}
    label = facts["label"].str.casefold().map(classes)
    _require_labels(facts["label"], label, labels, source)
    submitted_at, unclear = times(facts["submitted_at"], dates)
    impressions = numbers(facts["impressions"], counts=True)
    impressions = impressions.where(impressions.between(0, np.inf, inclusive="left"))
    weight = numbers(facts["weight"])
    weight = weight.where(weight.between(0, np.inf, inclusive="left"))

    refuse(facts["image"] == "", "no_image", "the image's path is empty")
    refuse_cells("label", label.notna(), "unknown_label", ", ".join(labels) or "none")
    refuse_cells("weight", weight.notna(), "bad_weight", "a number from 0")
    unlabelled = label.isna() | (label < 0) | (facts["split"] == "unlabelled")
    if (facts["split"] != "").any():
        refuse((facts["split"] == "") & ~unlabelled, "no_split", "the other rows have one")
    good = facts[reason == ""]
    names, copies = distinct(good["id"], good["image"], problems)
    refuse(
        copies.reindex(facts.index, fill_value=False),
        "duplicate_id",
        "an earlier row has this id and image, and was kept",
    )
    facts["id"] = names.reindex(facts.index).fillna(facts["id"])

    for id, why, text in zip(facts["id"], reason, detail, strict=True):
        if why:
            problems.add(id, why, text)
    which = "whose day and month cannot be told apart: say which stands first by --dates day_first or month_first"
    warn_cells("submitted_at", unclear, "unclear_time", which)
    warn_cells("submitted_at", submitted_at.isna() & ~unclear, "bad_time", "which is no date or time")
    warn_cells("impressions", impressions.isna(), "bad_impressions", "which is no number from 0")
    split = facts["split"].replace("", "unassigned").mask(unlabelled, "unlabelled")
    label = label.mask(unlabelled, UNLABELLED).astype(np.int64)
    weight = weight.fillna(1.0) if (facts["weight"] != "").any() else weight
    typed = {"submitted_at": submitted_at, "impressions": impressions, "weight": weight}
    table = facts.assign(label=label, split=split, **typed)[reason == ""]
    return table.drop(columns=[column for column in _OPTIONAL if (table[column].isna() | (table[column] == "")).all()])


def _require_labels(cells: pd.Series, known: pd.Series, labels: Mapping[str, int], source: str) -> None:
    """Refuse a table none of whose labels is known, with the flag that maps them."""
    found = cells[cells != ""].value_counts()
    if not labels or found.empty or known.notna().any():
        return
    listed = ", ".join(f"{name!r} ({count:,})" for name, count in found.head(6).items())
    listed += f" and {len(found) - 6} more" if len(found) > 6 else ""
    example = ", ".join(f'"{name}": ...' for name in found.index[:3])
    meant = ", ".join(f"{number} {name}" for name, number in labels.items())
    raise ValueError(
        f"{source} holds {listed}; known are {', '.join(labels)}. Say what yours mean by --labels '{{{example}}}', "
        f"where ... is the number of the class: {meant}"
    )


def _image_table(
    table: pd.DataFrame, files: ImageFiles, problems: Problems, memory_bytes: int, cache_bytes: int
) -> tuple[ImageTable, Problems]:
    images, readable, hashes = read_once(files, table["id"], memory_bytes, problems, cache_bytes)
    return ImageTable(images, table[readable].assign(phash=as_hex(hashes))), problems


def read_once(
    files: ImageFiles, ids: Iterable[str], memory_bytes: int, problems: Problems, cache_bytes: int = 0
) -> tuple[Images, NDArray[np.bool_], Hashes]:
    """Decode each image once; one that is refused is left out and listed.

    Args:
        files: N images.
        ids: their names in the list.
        memory_bytes: pixels are kept in memory up to this many bytes.
        problems: collects what is left out.
        cache_bytes: above, they are kept on the disk up to this many bytes, and beyond that decoded at every use.

    Returns:
        The n images that can be read, which these are, bool (N,), and their hashes (n, 4).
    """
    shape = (len(files), 3, files.size, files.size)
    pixels = torch.empty(shape, dtype=torch.uint8) if math.prod(shape) <= memory_bytes else None
    cache = ImageCache(files.size, files.limits, limit=cache_bytes) if pixels is None and cache_bytes else None
    hashes = np.zeros((len(files), 4), dtype=np.uint64)
    keys = np.zeros(len(files), dtype=np.int64)
    errors: list[UnreadableImage | None] = [None] * len(files)

    def look(row: int, image: Tensor | UnreadableImage) -> None:
        if isinstance(image, UnreadableImage):
            errors[row] = image
            return
        hashes[row] = perceptual_hash(image[None])[0]
        if pixels is not None:
            pixels[row] = image

    def decode(row: int) -> None:
        try:
            image: Tensor | UnreadableImage = files[row]
        except UnreadableImage as error:
            image = error
        look(row, image)

    with (
        ThreadPoolExecutor(min(available_cpus(), 16)) as pool,
        tqdm(desc="images", total=len(files), disable=None, leave=False) as bar,
    ):
        if cache is None:
            for _ in pool.map(decode, range(len(files))):
                bar.update()
        else:
            for row, key, image in cache.images(files, pool):
                keys[row] = key
                look(row, image)
                bar.update()
    for id, error in zip(ids, errors, strict=True):
        if error is not None:
            problems.add(id, error.reason, error.detail)
    readable = np.array([error is None for error in errors], dtype=bool)
    paths = [path for path, good in zip(files.paths, readable, strict=True) if good]
    known = None if cache is None else cache.rows(keys[readable].tolist())
    kept = ImageFiles(files.root, paths, files.size, files.limits, known)
    if pixels is None:
        return kept, readable, hashes[readable]
    whole = pixels if readable.all() else pixels[torch.from_numpy(readable)]
    return ImageArray(whole, kept), readable, hashes[readable]


def _nearest(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""

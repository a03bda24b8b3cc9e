"""From a file to a table of texts: one row a text, its label where it has one, and the split that it belongs to."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tutelage.checks import nearest
from tutelage.data.cells import as_text, read_table
from tutelage.data.given_features import GivenFeatures
from tutelage.data.problems import Problems
from tutelage.data.written import distinct, in_order, one_spelling, require_splits, splits

SPLITS = ("train", "val", "test")
UNLABELLED = -1
PLACE = "place of features"


@dataclass(frozen=True)
class TextColumns:
    """What a file calls its columns. `text` must be there, the others may be.

    Args:
        text: The text.
        label: Name of its class; an empty cell is a text without a label.
        id: Unique name of the text; by default the row's number.
        split: One of train, val or test; without it labelled texts are divided at random.
    """

    text: str = "text"
    label: str = "label"
    id: str = "id"
    split: str = "split"


def read_texts(
    path: str | os.PathLike[str],
    columns: TextColumns | None = None,
    classes: Sequence[str] = (),
    *,
    labelled: bool = True,
    features: GivenFeatures | None = None,
) -> tuple[pd.DataFrame, list[str], Problems]:
    """Read a .csv, .tsv or .parquet file of texts; rows that cannot be used are left out and listed.

    A row is left out for an empty text, a label that is no class, or because an earlier row has its id and its text; where
    labels are not read, such a row stays.

    Args:
        path: the file.
        columns: the file's own names.
        classes: the names of the classes, in the order of their numbers; the labels that occur, sorted, by default.
        labelled: whether labels and splits are read.
        features: of the texts; a text without is left out, and the table gets a column `PLACE`, where each text's are.

    Returns:
        A table (id, text, label by number with -1 for none, split or "" for none, and the file's other columns, which rules
        may read; its index is the row in the file, from 0), the names of the classes, and what was left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no table, lacks a column, or one of its splits is not known.
    """
    path, columns, problems = Path(path), columns or TextColumns(), Problems()
    cells = _cells(path, problems)
    if cells.empty:
        raise ValueError(f"{path} holds no rows")
    named = _named(cells, columns, path, labelled)
    if not labelled:
        named = named.assign(label="", split="")
    if not classes:
        named["label"] = one_spelling(named["label"], problems)
    names = list(classes) or in_order(named["label"])
    written = {name.casefold(): name for name in names}
    named["label"] = named["label"].map(lambda name: name if name in names else written.get(name.casefold(), name))
    number = {name: place for place, name in enumerate(names)}
    named["split"] = splits(named["split"]).replace("unlabelled", "train")
    require_splits(named["split"], SPLITS, f"column {columns.split!r} of {path}")
    empty, unknown = named["text"] == "", (named["label"] != "") & ~named["label"].isin(names)
    copies = pd.Series(False, index=named.index)
    if labelled:  # else each row has an answer
        good = named[~empty & ~unknown]
        ids, again = distinct(good["id"], good["text"], problems, good["label"])
        copies[good.index] = again
        named["id"] = ids.reindex(named.index).fillna(named["id"])
    reasons = {"empty_text": empty, "unknown_label": unknown, "duplicate_id": copies}
    details = {
        "empty_text": lambda row: "the text is empty",
        "unknown_label": lambda row: f"label is {row.label!r}; the classes are {', '.join(names)}",
        "duplicate_id": lambda row: "an earlier row has this id and text, and was kept",
    }
    left = pd.Series(True, index=named.index)
    for reason, bad in reasons.items():
        for row in named[bad & left].itertuples():
            problems.add(row.id, reason, details[reason](row))
        left &= ~bad
    named["label"] = named["label"].map(number).fillna(UNLABELLED).astype(np.int64)
    named = named[left]
    if features is not None:
        places = features.places(named["id"], len(cells), problems)
        named = named.assign(**{PLACE: places})[places >= 0]
    return named, names, problems


def count_rows(path: Path) -> int:
    """Return how many rows a file has, with those that `read_texts` leaves out."""
    return len(_cells(path, Problems()))


def _cells(path: Path, problems: Problems) -> pd.DataFrame:
    if not path.is_file():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"there is no file {path}{nearest(path.name, beside)}")
    try:
        return read_table(path, problems, ", or a folder in WRENCH's form").reset_index(drop=True)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def _named(cells: pd.DataFrame, columns: TextColumns, path: Path, labelled: bool) -> pd.DataFrame:
    """Return the columns of `TextColumns` under their own names, before the file's others."""
    found: dict[str, pd.Series] = {}
    for field in fields(TextColumns):
        name = getattr(columns, field.name)
        if name not in cells:
            if field.name == "text" or name != field.default:
                known = [str(column) for column in cells]
                advice = f"Map it by columns.{field.name}" if labelled else "Give it the name that it had in the run"
                raise ValueError(
                    f"{path} has no column {name!r} for {field.name!r}; it has: {', '.join(known)}"
                    f"{nearest(name, known) or '.'} {advice}"
                )
            text = pd.Series([str(row) for row in range(len(cells))] if field.name == "id" else "", index=cells.index)
        else:
            text = as_text(cells[name])
        found[field.name] = text
    used = {getattr(columns, field.name) for field in fields(TextColumns)}
    rest = {str(name): cells[name] for name in cells if name not in used and str(name) not in found}
    return pd.DataFrame({**found, **rest}, index=cells.index)


def divide_texts(
    table: pd.DataFrame, shares: Mapping[str, float], generator: Callable[[int], torch.Generator]
) -> pd.DataFrame:
    """Return the table with every row in a split: labelled texts are divided class by class where the file has no splits.

    The first text of each class is for training, so that a class of one or two texts is learned rather than tested.

    Args:
        table: label (-1 for none) and split ("" for none) of each text.
        shares: for each split but train its share of each class.
        generator: the source of chance for each class.

    Raises:
        ValueError: some labelled texts have a split, and others none.
    """
    labels = table["label"].to_numpy()
    if (table["split"] != "").any():
        missing = int(((table["split"] == "") & (labels >= 0)).sum())
        if missing:
            raise ValueError(f"{missing} labelled texts have no split, while others have one; give all of them one")
        return table.assign(split=table["split"].replace("", "train"))
    split = np.full(len(table), "train", dtype=object)
    for label in np.unique(labels[labels >= 0]):
        rows = np.flatnonzero(labels == label)
        order = rows[torch.randperm(len(rows), generator=generator(int(label))).numpy()]
        ends = np.round(np.cumsum(list(shares.values())) * len(rows)).astype(int)
        ends = np.minimum(ends, len(rows) - 1)
        for name, part in zip(shares, np.split(order, ends), strict=False):
            split[part] = name
    return table.assign(split=split)

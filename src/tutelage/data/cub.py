"""CUB-200-2011: species of birds, and what a layman can tell of them (wing colour, bill shape, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tutelage.data.table import ImageFiles, ImageTable

CERTAIN = 3  # "probably"; 1 is "not visible", 2 "guessing", 4 "definitely"


def cub_200(
    folder: str | Path, size: int = 224, attributes: Sequence[str] = ("has_wing_color", "has_bill_shape")
) -> ImageTable:
    """Read the official layout of ``CUB_200_2011``, ``label`` the species from 0, and a column for each group of attributes.

    A group such as ``has_wing_color`` has one class for each of its attributes (``has_wing_color::blue``, ...), in their order.
    An image has the class that the annotator marked as present, the surest of several; -1 where none was marked, or none but
    as a guess or as not visible.

    Args:
        folder: holds images.txt, image_class_labels.txt, train_test_split.txt, images/ and attributes/.
        size: side of the squares that photographs are resized to, in pixels.
        attributes: groups of attributes.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: an unknown group.
    """
    folder = Path(folder)
    images = _listed(folder / "images.txt", ["image", "path"]).set_index("image")
    label = _listed(folder / "image_class_labels.txt", ["image", "label"]).set_index("image")["label"].astype(int) - 1
    trained = _listed(folder / "train_test_split.txt", ["image", "train"]).set_index("image")["train"].astype(int)
    split = np.where(trained.reindex(images.index) == 1, "train", "test")
    table = pd.DataFrame({"id": images["path"], "label": label.reindex(images.index), "split": split})
    if attributes:
        for group, classes in _attributes(folder, attributes).items():
            table[group] = classes.reindex(images.index).fillna(-1).astype(np.int64)
    return ImageTable(ImageFiles(folder / "images", list(images["path"]), size), table)


def _attributes(folder: Path, groups: Sequence[str]) -> dict[str, pd.Series]:
    inside, beside = folder / "attributes" / "attributes.txt", folder.parent / "attributes.txt"
    names_at = beside if beside.is_file() and not inside.is_file() else inside
    names = _listed(names_at, ["attribute", "name"])
    names["group"] = names["name"].str.split("::", n=1).str[0]
    if unknown := sorted(set(groups) - set(names["group"])):
        raise ValueError(
            f"attributes={unknown} are not in {names_at}; there are: {', '.join(sorted(set(names['group'])))}"
        )
    path = folder / "attributes" / "image_attribute_labels.txt"
    marks = _listed(path, ["image", "attribute", "present", "certainty"])
    marks = marks[(marks["present"] == "1") & (marks["certainty"].astype(int) >= CERTAIN)]
    found = {}
    for group in groups:
        own = names[names["group"] == group].reset_index(drop=True)
        place = pd.Series(own.index, index=own["attribute"])
        known = marks[marks["attribute"].isin(own["attribute"])]
        surest = known.sort_values("certainty", ascending=False, kind="stable").groupby("image")["attribute"].first()
        found[group] = surest.map(place)
    return found


def _listed(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """A text file of columns divided by blanks; further columns, of which some lines have more than others, are left out."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}")
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split(maxsplit=len(names) if len(names) > 2 else 1)[: len(names)] for line in lines if line.strip()]
    return pd.DataFrame(rows, columns=list(names))

"""Oxford-IIIT Pet: breeds of cats and dogs, in the official layout or as one Parquet file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tutelage.data.images import decoded
from tutelage.data.table import ImageArray, ImageFiles, ImageTable

FILE = "pets.parquet"


def oxford_pets(folder: str | Path, size: int = 64) -> ImageTable:
    """Read the photographs, ``label`` the breed from 0, ``name`` its name.

    The official layout (``images/NAME.jpg``; ``annotations/trainval.txt`` and ``test.txt`` with lines ``NAME CLASS SPECIES
    BREED``) has splits "train" and "test" and is decoded when asked for. ``pets.parquet`` (image, name) has none: "unassigned".

    Args:
        folder: holds either.
        size: side of the squares that photographs are resized to, in pixels.

    Raises:
        FileNotFoundError: neither is there.
        ValueError: a line of the annotations that cannot be read.
    """
    folder = Path(folder)
    if (folder / FILE).is_file():
        return _from_parquet(folder / FILE, size)
    rows = []
    for split, name in (("train", "trainval.txt"), ("test", "test.txt")):
        path = folder / "annotations" / name
        if not path.is_file():
            raise FileNotFoundError(f"folder={str(folder)!r} holds neither {FILE} nor annotations/{name}")
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            cells = line.split()
            if len(cells) != 4 or not cells[1].isdigit():
                raise ValueError(f"{path}: the line {line!r} is not NAME CLASS SPECIES BREED")
            rows.append((cells[0], int(cells[1]) - 1, cells[0].rpartition("_")[0], split))
    table = pd.DataFrame(rows, columns=["id", "label", "name", "split"])
    return ImageTable(ImageFiles(folder / "images", [f"{name}.jpg" for name in table["id"]], size), table)


def _from_parquet(path: Path, size: int) -> ImageTable:
    cells = pd.read_parquet(path)
    classes, _ = pd.factorize(cells["name"], sort=True)
    table = pd.DataFrame({"label": classes.astype(np.int64), "name": cells["name"], "split": "unassigned"})
    table.insert(0, "id", [str(row) for row in range(len(cells))])
    return ImageTable(ImageArray(decoded(cells["image"], (size, size))), table)

"""Stanford Cars: photographs of 196 makes, models and years."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tutelage.data.table import ImageFiles, ImageTable

FILES = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
NAMES = "devkit/cars_meta.mat"


def stanford_cars(folder: str | Path, size: int = 224) -> tuple[ImageTable, list[str]]:
    """Read the official layout: ``label`` from 0, ``split`` train and test, and the names of the classes.

    Whole photographs, not their boxes, as AMAL takes them. The test's labels are in a file of their own
    (``cars_test_annos_withlabels.mat``), beside ``devkit`` or in it. MATLAB's files are read by scipy, which the extra text
    brings.

    Args:
        folder: holds devkit/, cars_train/ and cars_test/.
        size: side of the squares that photographs are resized to, in pixels.

    Raises:
        FileNotFoundError: a file is missing; the message says which, and how the layout is.
        ValueError: a file lacks labels, or names a photograph that is not there.
    """
    folder = Path(folder)
    names = [str(name) for name in np.atleast_1d(_read(folder, NAMES, "class_names"))]
    parts = []
    for split, path in FILES.items():
        inside = folder / "devkit" / path
        found = np.atleast_1d(
            _read(folder, str(inside.relative_to(folder)) if inside.is_file() else path, "annotations")
        )
        if "class" not in (found.dtype.names or ()):
            raise ValueError(f"{folder / path} has no classes; take the file of the test with labels")
        files = [f"cars_{split}/{name}" for name in found["fname"]]
        parts.append(pd.DataFrame({"id": files, "label": found["class"].astype(np.int64) - 1, "split": split}))
    table = pd.concat(parts, ignore_index=True)
    if missing := [path for path in table["id"] if not (folder / path).is_file()]:
        raise ValueError(f"{len(missing)} photographs are not in {folder}, such as {missing[0]}")
    if not table["label"].between(0, len(names) - 1).all():
        raise ValueError(
            f"{folder}: the classes go from {table['label'].min() + 1} to {table['label'].max() + 1} of {len(names)}"
        )
    return ImageTable(ImageFiles(folder, list(table["id"]), size), table), names


def _read(folder: Path, path: str, variable: str) -> Any:
    """Return a variable of a MATLAB file, which is data and no program."""
    from scipy.io import loadmat

    if not (folder / path).is_file():
        raise FileNotFoundError(
            f"there is no {folder / path}; Stanford Cars is a folder with {NAMES}, {', '.join(FILES.values())}, cars_train/ "
            "and cars_test/"
        )
    found = loadmat(folder / path, squeeze_me=True)
    if variable not in found:
        raise ValueError(f"{folder / path} has no variable {variable!r}")
    return found[variable]

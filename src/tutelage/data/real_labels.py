"""ReaL: several labels for each image of ImageNet's validation set."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

CLASSES = 1000
_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})")
_SYNSET = re.compile(r"n\d{8}")


def read_real_labels(path: str | Path, classes: int = CLASSES) -> Tensor:
    """Return the label sets as bool (N, classes), in the file's order, which is that of ILSVRC2012_val_00000001 and on.

    An image without any label (3,163 of ReaL's 50,000) has an empty row, which ReaL's metrics leave out.

    Args:
        path: ReaL's ``real.json``: one list of class numbers an image.
        classes: C.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is something else, or names a class that there is not.

    Source: Beyer et al., *Are We Done with ImageNet?*, 2020; github.com/google-research/reassessed-imagenet.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    lists = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(lists, list) or not all(isinstance(labels, list) for labels in lists):
        raise ValueError(f"{path} holds no list of lists of class numbers")
    truth_NC = torch.zeros(len(lists), classes, dtype=torch.bool)
    for row, labels in enumerate(lists):
        if labels and not all(isinstance(label, int) and 0 <= label < classes for label in labels):
            raise ValueError(f"{path}: image {row} has labels {labels}; expected numbers from 0 to {classes - 1}")
        truth_NC[row, labels] = True
    return truth_NC


def real_truth(path: str | Path, table: pd.DataFrame, classes: list[str]) -> Tensor:
    """Return all labels of ImageNet's validation images among others, bool (N, C); the rows of other images are empty.

    Args:
        path: ReaL's ``real.json``.
        table: has a column ``image``, whose file names say which images they are, such as ILSVRC2012_val_00000293.JPEG.
        classes: names of the C classes: all 1,000 synsets (n01440764 and so on), or numbers from 0 to 999.

    Raises:
        FileNotFoundError: no such file.
        ValueError: classes of other names, a file that is not ReaL's, or no image of ImageNet's validation set.
    """
    if len(classes) == CLASSES and all(_SYNSET.fullmatch(name) for name in classes):
        order = sorted(classes)
        numbers = torch.tensor([order.index(name) for name in classes])
    elif all(name.isdecimal() and int(name) < CLASSES for name in classes):
        numbers = torch.tensor([int(name) for name in classes])
    else:
        raise ValueError(
            f"real={str(path)!r} numbers ImageNet's 1,000 classes, and the labels are {', '.join(classes[:3])}, ...; label by "
            "all 1,000 synsets (n01440764, ...), or by the numbers of their order, 0 to 999"
        )
    known_NC = read_real_labels(path)
    named = table["image"].astype(str).str.extract(_IMAGE, expand=False)
    rows = torch.from_numpy(named.notna().to_numpy().nonzero()[0])
    places = torch.tensor(named.dropna().astype(int).to_list(), dtype=torch.int64) - 1
    if len(rows) == 0:
        raise ValueError(
            f"real={str(path)!r} is of images named ILSVRC2012_val_00000001 and so on, and the data have none"
        )
    if int(places.max()) >= len(known_NC) or int(places.min()) < 0:
        raise ValueError(
            f"real={str(path)!r} has {len(known_NC)} images, and one is called number {int(places.max()) + 1}"
        )
    truth_NC = torch.zeros(len(table), len(classes), dtype=torch.bool)
    truth_NC[rows] = known_NC[places][:, numbers]
    return truth_NC

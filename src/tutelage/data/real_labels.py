"""ReaL: several labels for each image of ImageNet's validation set."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor


def read_real_labels(path: str | Path, classes: int = 1000) -> Tensor:
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

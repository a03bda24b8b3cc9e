"""New images for a run's model: how they are read, what it says of them, and how they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tutelage.data.image_table import features_table
from tutelage.data.manifest import Columns, read_image_folder, read_manifest
from tutelage.data.problems import Problems
from tutelage.data.table import ImageTable
from tutelage.models import joint_logits, load_model
from tutelage.training import predict


def load_images_model(run: Path) -> Any:
    """Return the image model of a run's folder and its facts."""
    return load_model(run / "model")


def read_images(loaded: Any, data: Path, columns: Columns | None) -> tuple[ImageTable, Problems]:
    """Read the images of a manifest or of a folder, without labels, in a loaded model's size, or the features that it reads."""
    model, _ = loaded
    if model.spec.num_features is not None:
        return features_table(data, model.spec.num_features), Problems()
    if data.is_dir():
        return read_image_folder(data, None, size=model.spec.image_size)
    return read_manifest(data, columns, labels=None, size=model.spec.image_size)


def logits_of(loaded: Any, images: ImageTable) -> Tensor:
    """Return a loaded image model's logits, (N, C) in float64."""
    outputs, _ = predict(loaded[0], images.subset(torch.arange(len(images))), batch_size=256)
    return joint_logits(outputs).double()


def named(images: ImageTable) -> pd.DataFrame:
    """Return the columns by which people know the examples: id, and image where there are images."""
    table = images.table
    return table.assign(id=table.get("own_id", table["id"])).filter(items=["id", "image"])

"""CIFAR as an encoder's features that never saw its classes: CIFAR-10 by an encoder of CIFAR-100, and the other way round."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.laptop.encoder import SPEC, cifar_encoder
from tutelage.data.cifar import CifarName, read_cifar
from tutelage.data.encoded import EncodedTable, ImageFeatures
from tutelage.data.table import ImageArray, ImageTable
from tutelage.recipes.encoding import EncoderSettings

OTHER: dict[CifarName, CifarName] = {"cifar10": "cifar100", "cifar100": "cifar10"}
FEATURES = EncoderSettings(pretrained="the features are there", views=0)
"""What a run's settings say of its encoder: one view, and nothing left to be computed."""


@cache
def described(name: CifarName, data: Path, runs: Path) -> tuple[Tensor, pd.DataFrame]:
    """Return the features of all images, (N, 1, D), and what is known of them; computed once, in a few core-minutes."""
    folder = runs / "described" / name
    if not (folder / "facts.parquet").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        images, _ = read_cifar(name, data / name)
        encoder = EncoderSettings(pretrained=str(cifar_encoder(data, runs, OTHER[name]))).open(SPEC.image_size)
        with torch.no_grad():
            parts = [
                encoder.features(images.images.gather(range(start, min(start + 256, len(images)))))
                for start in range(0, len(images), 256)
            ]
        save_file({"features": torch.cat(parts)}, folder / "features.safetensors")
        images.table.to_parquet(folder / "facts.parquet")
    features = load_file(folder / "features.safetensors")["features"]
    return features[:, None], pd.read_parquet(folder / "facts.parquet")


def encoded_table(features: Tensor, images: ImageTable, rows: np.ndarray, key: str) -> EncodedTable:
    """Return a table whose images have these rows of the features as input."""
    kept = ImageFeatures(features[torch.from_numpy(rows)], key, images.rows("train"))
    return EncodedTable(images.images, images.table, kept)


def table_of(facts: pd.DataFrame, rows: np.ndarray) -> ImageTable:
    """Return what is known of some images as a table; the pictures themselves are not there."""
    return ImageTable(ImageArray(torch.zeros(len(rows), 3, 1, 1, dtype=torch.uint8)), facts.iloc[rows])

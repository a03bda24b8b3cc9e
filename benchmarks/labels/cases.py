"""Labels of which it is known which are wrong, with features by an encoder that was trained on none of these images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.laptop.encoder import SHOP_SIZE, SPEC, cifar_encoder, people_encoder, shop_encoder
from benchmarks.mile.cifar_raters import cifar10_raters
from benchmarks.moderation.products import product_photographs
from tutelage.data.cifar import CifarName, read_cifar
from tutelage.data.table import Images, ImageTable
from tutelage.recipes.encoding import EncoderSettings

COUNT, COUNT_100, MANY, HELD_OUT = 3_000, 6_000, 20_000, 500
VOTES = 5  # of about 51 raters who name a further class
NOISE_RATE = 0.2


@dataclass(frozen=True)
class Labels:
    """Given labels (N,), which of them are wrong (N,), the number of classes, and features (N, D).

    The last `HELD_OUT` rows are not judged: AMAL learns its weights by those that are right.
    """

    given: NDArray[np.int64]
    wrong: NDArray[np.bool_]
    classes: int
    features: NDArray[np.float64]


def cases(data: Path, runs: Path) -> Iterator[tuple[str, Callable[[int], Labels]]]:
    """Yield each case's name, and what draws it by a seed; encoders and features are made once."""
    for rater, column in (
        ("aggregate", "aggre_label"),
        ("one rater", "random_label1"),
        ("the worst rater", "worse_label"),
    ):
        yield f"CIFAR-10N, {rater}", partial(_cifar10n, data, runs, column)
    yield "CIFAR-100N", partial(_cifar100n, data, runs, COUNT_100)
    yield f"CIFAR-100N, {MANY:,} images", partial(_cifar100n, data, runs, MANY)
    yield "CIFAR-100N, an encoder that has seen no such class", partial(_cifar100n_others, data, runs)
    yield "CIFAR-10H, a further label is missing", partial(_cifar10h, data, runs)
    for kind, noise in (("symmetric", "uniform"), ("structured", "structured")):
        yield f"products, {kind} errors", partial(_products, data, runs, noise)


def _cifar10n(data: Path, runs: Path, column: str, seed: int) -> Labels:
    rows = np.random.default_rng([seed, 11]).permutation(50_000)[: COUNT + HELD_OUT]
    table, _ = _cifar("cifar10", data)
    given = table[column].to_numpy()[rows]
    return Labels(
        given, given != table["label"].to_numpy()[rows], 10, _features("cifar10", "cifar100", data, runs)[rows]
    )


def _cifar10h(data: Path, runs: Path, seed: int) -> Labels:
    _, truth_NC = _raters(data)
    rows = np.random.default_rng([seed, 12]).permutation(10_000)[: COUNT + HELD_OUT]
    given = _cifar("cifar10", data)[0]["label"].to_numpy()[50_000:][rows]
    further = truth_NC.sum(1) > truth_NC[np.arange(10_000), _cifar("cifar10", data)[0]["label"].to_numpy()[50_000:]]
    return Labels(given, further[rows], 10, _features("cifar10", "cifar100", data, runs)[50_000:][rows])


def _cifar100n(data: Path, runs: Path, count: int, seed: int) -> Labels:
    half = seed % 2  # whose encoder has learned from people's labels of the other half
    return _of_100(data, "cifar100n-" + str(1 - half), runs, np.arange(half, 50_000, 2), count, seed)


def _cifar100n_others(data: Path, runs: Path, seed: int) -> Labels:
    return _of_100(data, "cifar10", runs, np.arange(50_000), COUNT_100, seed)


def _of_100(data: Path, encoder: str, runs: Path, rows: NDArray[np.int64], count: int, seed: int) -> Labels:
    rows = np.random.default_rng([seed, 13]).permutation(rows)[: count + HELD_OUT]
    table, _ = _cifar("cifar100", data)
    given = table["noisy_label"].to_numpy()[rows]
    return Labels(
        given, given != table["label"].to_numpy()[rows], 100, _features("cifar100", encoder, data, runs)[rows]
    )


def _products(data: Path, runs: Path, noise: str, seed: int) -> Labels:
    side = (SHOP_SIZE, SHOP_SIZE)
    nothing = (2, 2)
    found = product_photographs(
        data / "fashion-products", seed, noise, NOISE_RATE, side, validation=nothing, test=nothing, unlabelled=1
    )
    rows = np.random.default_rng([seed, 14]).permutation(found.rows("train").numpy())
    given = found.labels.numpy()[rows]
    features = _encoded(shop_encoder(data, runs), found.images, SHOP_SIZE, rows)
    return Labels(given, given != found.table["true_label"].to_numpy()[rows], 2, features)


@cache
def _cifar(name: CifarName, data: Path) -> tuple[pd.DataFrame, Images]:
    table, _ = read_cifar(name, data / name)
    return table.table, table.images


@cache
def _raters(data: Path) -> tuple[ImageTable, NDArray[np.bool_]]:
    table, truth_NC = cifar10_raters(data / "cifar10", votes=VOTES, train=1, val=1, size=8)
    test = (table.table["split"] == "test").to_numpy()
    place = table.table["id"][test].str[-5:].astype(int).to_numpy()
    return table, truth_NC.numpy()[test][np.argsort(place)]


@cache
def _features(name: str, encoder: str, data: Path, runs: Path) -> NDArray[np.float64]:
    """Return the features of all images of CIFAR-10 or CIFAR-100, training images first; they are kept."""
    path = runs / "features" / f"{name}-{encoder}.npy"
    if not path.is_file():
        made = {
            "cifar10": lambda: cifar_encoder(data, runs, "cifar10"),
            "cifar100": lambda: cifar_encoder(data, runs),
            "cifar100n-0": lambda: people_encoder(data, runs, 0),
            "cifar100n-1": lambda: people_encoder(data, runs, 1),
        }
        images = _cifar(name, data)[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, _encoded(made[encoder](), images, SPEC.image_size, np.arange(60_000)).astype(np.float32))
    return np.load(path, mmap_mode="r")


@torch.no_grad()
def _encoded(folder: Path, images: Images, size: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    encoder = EncoderSettings(pretrained=str(folder)).open(size)
    parts = [encoder.features(images.gather(part.tolist())) for part in np.split(rows, range(256, len(rows), 256))]
    return torch.cat(parts).double().numpy()

"""How good the small encoders are: a linear probe on their features, beside raw pixels and random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.laptop.encoder import SHOP_SIZE, SPEC, cifar_encoder, shop_encoder
from benchmarks.moderation.products import PRETRAINING
from benchmarks.results_table import Measured, ResultRow, rows_of
from tutelage.data import oxford_pets, product_attributes, read_cifar
from tutelage.data.images import resized
from tutelage.data.table import ImageArray, ImageTable
from tutelage.models import build
from tutelage.recipes.base import Scale
from tutelage.recipes.encoding import EncoderSettings
from tutelage.training import Log, seeds

RIDGES = tuple(10.0**power for power in range(-3, 4))
SMALL = 16  # pixels of a side for the row of raw pixels
COUNT = 4_000  # images of CIFAR-10 and of the shop
Describe = Callable[[Tensor], Tensor]


def results(
    scale: Scale, *, seeds: int, data: Path | None, runs: Path, only: tuple[str, ...] = ()
) -> tuple[list[ResultRow], list[str]]:
    """Train the encoders where they are not there yet, and measure linear probes on three data sets.

    Raises:
        ValueError: no folder of data, or rows in ``only``, of which this table has no use.
    """
    if data is None or only:
        raise ValueError(f"data={data}, only={only}: the table of encoders needs the data sets and is measured whole")
    log = Log(None, quiet=False)
    folders = {"CIFAR-100": cifar_encoder(data, runs), "CIFAR-100, then article types": shop_encoder(data, runs)}
    found: list[Measured] = []
    for seed in range(seeds):
        for case, images in data_sets(data, seed):
            for row, describe in describers(folders, seed).items():
                value = 100 * probe(describe, images, seed)
                found.append(Measured(case, row, seed, "accuracy", value))
                log.say(f"{case}, seed {seed}, {row}: {value:.1f}")
    return rows_of(found), [
        "A linear probe is a ridge regression on the classes; three fifths of the images train it, a fifth of these choose its "
        "strength, and two fifths are the test.",
        f"CIFAR-10 and the shop: {COUNT:,} images drawn by the seed. No encoder has seen the article types.",
        f"Images have {SHOP_SIZE} pixels, CIFAR's {SPEC.image_size}; raw pixels are those of images of {SMALL}.",
        "Both encoders are trained by this command, once; the folders under `encoders/` are what `--encoder.pretrained` takes.",
    ]


def data_sets(data: Path, seed: int) -> Iterator[tuple[str, ImageTable]]:
    """Yield each data set with its name."""
    yield "CIFAR-10", read_cifar("cifar10", data / "cifar10", train=COUNT, test=0, seed=seed)[0]
    yield "pets", oxford_pets(data / "pets", SHOP_SIZE)
    shop = product_attributes(data / "fashion-products", seed, size=(SHOP_SIZE, SHOP_SIZE), max_rows=2 * COUNT)
    rows = torch.from_numpy((~shop.table["article_type"].isin(PRETRAINING)).to_numpy().nonzero()[0])[:COUNT]
    pixels = ImageArray(shop.images.gather(rows.tolist()))
    yield "article types", ImageTable(pixels, shop.table.iloc[rows.numpy()])


def describers(folders: dict[str, Path], seed: int) -> dict[str, Describe]:
    """Return by row what makes vectors of images."""
    with seeds.fixed(seed, "random weights"):
        random = build(SPEC).eval()
    encoders = {name: EncoderSettings(pretrained=str(folder)).open(SPEC.image_size) for name, folder in folders.items()}
    return {
        "raw pixels": lambda images: resized(images, SMALL).flatten(1) / 255,
        "random weights": random.features,
        **{name: encoder.features for name, encoder in encoders.items()},
    }


@torch.no_grad()
def probe(describe: Describe, images: ImageTable, seed: int) -> float:
    """Return the test accuracy of a linear classifier of what describes the images."""
    count = len(images)
    parts = [describe(images.images.gather(range(i, min(count, i + 256)))) for i in range(0, count, 256)]
    vectors = torch.cat(parts).double()
    order = torch.randperm(count, generator=seeds.generator(seed, "probe"))
    train, val, test = order.split(
        [int(0.48 * count), int(0.12 * count), count - int(0.48 * count) - int(0.12 * count)]
    )
    best = max(RIDGES, key=lambda ridge: accuracy(vectors, images.labels, train, val, ridge))
    return accuracy(vectors, images.labels, torch.cat([train, val]), test, best)


def accuracy(vectors: Tensor, labels: Tensor, train: Tensor, test: Tensor, ridge: float) -> float:
    """Return the accuracy on some rows of a ridge regression on others."""
    mean, std = vectors[train].mean(0), vectors[train].std(0).clamp_min(1e-6)
    known, asked = (vectors[train] - mean) / std, (vectors[test] - mean) / std
    targets = F.one_hot(labels[train], int(labels.max()) + 1).double()
    gram = known.T @ known + ridge * len(train) * torch.eye(known.shape[1], dtype=known.dtype)
    weights = torch.linalg.solve(gram, known.T @ (targets - targets.mean(0)))
    return float(((asked @ weights + targets.mean(0)).argmax(1) == labels[test]).double().mean())

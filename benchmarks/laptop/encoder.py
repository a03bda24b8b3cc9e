"""Small encoders for the laptop scale where no hub can be reached, trained in a dozen core-minutes, and how good they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.moderation.products import article_types
from tutelage.data import TensorData
from tutelage.data.augment import augmentation
from tutelage.data.cifar import CifarName, read_cifar
from tutelage.models import ModelSpec, build, save_model
from tutelage.signals import CrossEntropy
from tutelage.training import Budget, Log, Optimization, Plan, fit, seeds

SPEC = ModelSpec("pocket_resnet", 100, 32, options={"widths": [32, 64, 128, 256]})
TRAINING = Optimization(
    optimizer="sgd",
    lr=0.1,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
    schedule="cosine",
    warmup=0.1,
    batch_size=128,
)
BUDGET = Budget(epochs=6)
PEOPLE_TRAINING = replace(TRAINING, lr=0.05)
SHOP_SIZE = 48
SHOP_TRAINING = replace(TRAINING, lr=0.02)
SHOP_BUDGET = Budget(epochs=3)


def cifar_encoder(data: Path, runs: Path, name: CifarName = "cifar100") -> Path:
    """Return the folder of an encoder trained on the training images of CIFAR-100 or of CIFAR-10, with their true classes."""
    folder = runs / "encoders" / name
    if not _there(folder):
        table, _ = read_cifar(name, data / name, test=0)
        examples = TensorData(input=table.images.gather(range(len(table))), label=table.labels)
        spec = replace(SPEC, num_classes=int(table.labels.max()) + 1)
        _train(spec, examples, None, TRAINING, BUDGET, folder)
    return folder


def people_encoder(data: Path, runs: Path, half: int) -> Path:
    """Return the folder of an encoder trained further, on people's labels (CIFAR-100N) of every second training image.

    Args:
        data: folder of the data sets.
        runs: where encoders lie.
        half: 0 or 1: on images of an even or an odd place in the published order.
    """
    folder = runs / "encoders" / f"cifar100n-{half}"
    if not _there(folder):
        start = cifar_encoder(data, runs, "cifar10") / "model.safetensors"
        table, _ = read_cifar("cifar100", data / "cifar100", test=0)
        rows = range(half, len(table), 2)
        labels = torch.from_numpy(table.table["noisy_label"].to_numpy(copy=True)[rows])
        examples = TensorData(input=table.images.gather(rows), label=labels)
        _train(SPEC, examples, str(start), PEOPLE_TRAINING, BUDGET, folder)
    return folder


def shop_encoder(data: Path, runs: Path) -> Path:
    """Return the folder of that encoder trained further, on photographs of article types that no moderation task has."""
    folder = runs / "encoders" / "shop"
    if not _there(folder):
        start = cifar_encoder(data, runs) / "model.safetensors"
        images, labels = article_types(data / "fashion-products", 0, size=(SHOP_SIZE, SHOP_SIZE), examples=12_000)
        spec = replace(SPEC, num_classes=int(labels.max()) + 1, image_size=SHOP_SIZE)
        _train(spec, TensorData(input=images, label=labels), str(start), SHOP_TRAINING, SHOP_BUDGET, folder)
    return folder


def _there(folder: Path) -> bool:
    """Return whether an encoder was trained: it is kept for good, whatever the code is now."""
    return (folder / "config.json").is_file()


def _train(
    spec: ModelSpec, examples: TensorData, start: str | None, training: Optimization, budget: Budget, folder: Path
) -> None:
    with seeds.fixed(0, "encoder"):
        network = build(spec, start)
    log = Log(None, quiet=False)
    out = folder.with_name(f"{folder.name}-training")
    plan = Plan(budget, training, augment=augmentation("crop_flip"), out=out, log=log, name=f"encoder {folder.name}")
    fit(network, examples, signals=[CrossEntropy(smoothing=0.1)], plan=plan)
    save_model(network, folder)

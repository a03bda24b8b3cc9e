"""A small encoder for the laptop scale where no hub can be reached, trained on CIFAR-100 in a dozen core-minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.data import TensorData
from tutelage.data.augment import augmentation
from tutelage.data.cifar import read_cifar
from tutelage.models import ModelSpec, build, save_model
from tutelage.signals import CrossEntropy
from tutelage.training import Budget, Log, Optimization, Plan, Stages, fit, seeds

SIZE = 32
CLASSES = 100
SPEC = ModelSpec("pocket_resnet", CLASSES, SIZE, options={"widths": [32, 64, 128, 256]})
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


def encoder(data: Path, runs: Path, log: Log) -> Path:
    """Train the encoder on CIFAR-100's training images in a stage under ``runs``, and return its model folder."""

    def work(folder: Path) -> dict[str, Any]:
        table, _ = read_cifar("cifar100", data / "cifar100", test=0)
        with seeds.fixed(0, "encoder"):
            network = build(SPEC)
        fit(
            network,
            TensorData(input=table.images.gather(range(len(table))), label=table.labels),
            signals=[CrossEntropy(smoothing=0.1)],
            plan=Plan(BUDGET, TRAINING, augment=augmentation("crop_flip"), out=folder, log=log, name="encoder"),
        )
        save_model(network, folder / "model")
        return {}

    return Stages(runs, log).run("encoder", work, cache_key=[SPEC, TRAINING, BUDGET]).folder / "model"

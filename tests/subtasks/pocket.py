"""A task of a few posters, networks of a few thousand weights, and a power cut at any training batch."""

from typing import Any

import torch
from torch import Tensor

from tutelage.data import ImageTable, digit_posters
from tutelage.models import ImageClassifier, ModelSpec, build
from tutelage.training import Budget, Optimization, Plan

SGD = Optimization(optimizer="sgd", lr=0.05, weight_decay=0.0, batch_size=16)


def plan(**changed: Any) -> Plan:
    return Plan(Budget(epochs=1), SGD, **changed)


def posters() -> ImageTable:
    return digit_posters(0, train=(40, 60), validation=(30, 60), test=(4, 8), unlabelled=8)


def rows_by_label(images: ImageTable) -> tuple[Tensor, Tensor]:
    """The defective and the acceptable training rows."""
    train = images.rows("train")
    return train[images.labels[train] == 0], train[images.labels[train] == 1]


def network(classes: int, name: str = "pocket_resnet", seed: int = 0, **options: Any) -> ImageClassifier:
    sizes = {
        "pocket_resnet": {"widths": (4, 8)},
        "pocket_deit": {"embed_dim": 8, "depth": 1, "num_heads": 2},
    }[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(ModelSpec(name, classes, 24, 0.0, sizes | options))


class PowerCut(Exception):
    pass


class Jitter:
    """A random change of the images, and from training batch number ``until`` on a power cut."""

    def __init__(self, until: int = 10**9) -> None:
        self.left = until

    def config(self) -> dict[str, Any]:
        return {"name": "jitter"}  # wherever the power cut is

    def __call__(self, images: Tensor) -> Tensor:
        if len(images) <= SGD.batch_size:  # and not the larger batches of a `predict`
            self.left -= 1
            if self.left < 0:
                raise PowerCut
        noise = torch.randint(-8, 9, (len(images), 3, 1, 1))
        return (images + noise).clamp(0, 255).to(torch.uint8)

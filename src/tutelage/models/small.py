"""Every model that timm does not have, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from tutelage.models.cifar import CifarResNet
from tutelage.models.convnet import ConvNet4
from tutelage.models.mlp import MLP
from tutelage.models.pocket import POCKET
from tutelage.models.wide_resnet import WideResNet


def _resnet(depth: int, img_size: int, **options: Any) -> nn.Module:  # of any size
    return CifarResNet(blocks=(depth - 2) // 6, **options)


def _wide(width: int, img_size: int, **options: Any) -> nn.Module:  # of any size
    return WideResNet(16, width, **options)


CIFAR: dict[str, Callable[..., nn.Module]] = {
    **{f"cifar_resnet{depth}": partial(_resnet, depth) for depth in (8, 14, 20, 26, 32, 44, 56, 110)},
    **{f"wrn_16_{width}": partial(_wide, width) for width in (1, 2, 3, 4, 6, 8)},
    "convnet4": ConvNet4,
}
SMALL: dict[str, Callable[..., nn.Module]] = {**POCKET, "pocket_mlp": MLP, **CIFAR}
"""By name, what makes a backbone from ``img_size``, ``num_classes``, ``drop_rate`` and options of its own."""

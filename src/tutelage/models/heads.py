"""How a classifier's heads start."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn


@torch.no_grad()
def expect_one_label(model: nn.Module, heads: Sequence[str]) -> None:
    """Set the biases of the heads to -log C, so that each sigmoid starts near 1 / C and an image has one label on average.

    Args:
        model: changed in place.
        heads: names of its heads, as in ``model.named_modules()``.

    Raises:
        ValueError: a name that is no linear layer with a bias.

    Source: the released program of MILe (``adjust_bias``).
    """
    modules = dict(model.named_modules())
    for name in heads:
        head = modules.get(name)
        if not isinstance(head, nn.Linear) or head.bias is None:
            raise ValueError(f"heads={tuple(heads)!r}: {name!r} is no linear layer with a bias")
        head.bias.fill_(-math.log(head.out_features))

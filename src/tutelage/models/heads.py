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


@torch.no_grad()
def grow_head(model: nn.Module, name: str, classes: int) -> None:
    """Give a head more classes; those that it has keep their weights, the new ones are drawn as in a fresh layer.

    Args:
        model: changed in place.
        name: of its head, a linear layer.
        classes: how many it has afterwards; with as many as before nothing changes.

    Raises:
        ValueError: fewer classes than before, or a name that is no linear layer.
    """
    head = dict(model.named_modules()).get(name)
    if not isinstance(head, nn.Linear):
        raise ValueError(f"name={name!r} is no linear layer of the model")
    before = head.out_features
    if classes < before:
        raise ValueError(f"classes={classes}: the head has {before} already")
    if classes == before:
        return
    grown = nn.Linear(head.in_features, classes, bias=head.bias is not None).to(head.weight)
    grown.weight[:before] = head.weight
    if head.bias is not None:
        grown.bias[:before] = head.bias
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, grown)

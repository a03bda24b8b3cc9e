"""What chains of teachers and students are made of, besides `fit` under a plan for each (`Plan.named`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.data.indexed import Derived, MapStyle, batch_of
from tutelage.training import predict

NewModel = Callable[[int], nn.Module]
"""``new(g)`` is a fresh model for generation g, counted from 0: equal ones, larger or smaller ones, with more noise or less."""


class Relabelled(Derived):
    """A data set whose examples have a target by their place, so that one may come twice with two of them.

    Args:
        examples: a map-style data set of dicts.
        targets: a tensor by name, with one row for each place.
    """

    def __init__(self, examples: MapStyle, **targets: Tensor) -> None:
        super().__init__(examples)
        self.targets = targets

    def batch(self, places: Sequence[int]) -> dict[str, Any]:
        """Return a whole batch at once."""
        at = torch.as_tensor(places, dtype=torch.int64)
        return {**batch_of(self.examples, places), **{name: rows[at] for name, rows in self.targets.items()}}


def logits_of(model: nn.Module, examples: Any, head: str | None = None) -> Tensor:
    """Return what a teacher says of all examples, (n, C), in eval mode and without augmentation."""
    outputs, _ = predict(model, examples)
    if isinstance(outputs, Tensor):
        return outputs
    if head not in outputs:
        raise ValueError(f"head={head!r}: the teacher returns {sorted(outputs)}")
    return outputs[head]

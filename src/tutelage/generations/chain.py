"""What chains of teachers and students are made of, besides `fit` under a plan for each (`Plan.named`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.training import predict

NewModel = Callable[[int], nn.Module]
"""``new(g)`` is a fresh model for generation g, counted from 0: equal ones, larger or smaller ones, with more noise or less."""


class Relabelled:
    """A data set whose examples have a target by their place, so that one may come twice with two of them.

    Args:
        examples: a map-style data set of dicts with ``__getitems__``.
        targets: a tensor by name, with one row for each place.
    """

    def __init__(self, examples: Any, **targets: Tensor) -> None:
        self.examples = examples
        self.targets = targets

    @property
    def index(self) -> Tensor | None:
        """The ``index`` of each place, where the data set underneath knows it."""
        return getattr(self.examples, "index", None)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return {**self.examples[place], **{name: rows[place] for name, rows in self.targets.items()}}

    def __getitems__(self, places: Sequence[int]) -> dict[str, Tensor]:
        """Return a whole batch at once."""
        at = torch.as_tensor(places, dtype=torch.int64)
        return {**self.examples.__getitems__(places), **{name: rows[at] for name, rows in self.targets.items()}}


def logits_of(model: nn.Module, examples: Any, head: str | None = None) -> Tensor:
    """Return what a teacher says of all examples, (n, C), in eval mode and without augmentation."""
    outputs, _ = predict(model, examples)
    if isinstance(outputs, Tensor):
        return outputs
    if head not in outputs:
        raise ValueError(f"head={head!r}: the teacher returns {sorted(outputs)}")
    return outputs[head]

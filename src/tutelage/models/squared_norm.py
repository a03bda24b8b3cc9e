"""A model that tells the length of its parameters beside its outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class WithSquaredNorm(nn.Module):
    """A model whose outputs hold one more, ``squared_norm`` (B,): the sum of its parameters' squares, for each example.

    What `tutelage.signals.SquaredNorm` reads. As an output it follows the parameters at which the model is asked, which is
    what a derivative through them needs.

    Args:
        model: returns a tensor, or a dict by head name.
        head: the name of the model's output where it is one tensor.
    """

    def __init__(self, model: nn.Module, head: str | None = None) -> None:
        super().__init__()
        self.model = model
        self.head = head

    @property
    def heads(self) -> tuple[str, ...]:
        """The names of the modules that are heads."""
        inside: Any = getattr(self.model, "heads", ())
        return tuple(f"model.{name}" for name in inside)

    def forward(self, input: Tensor) -> dict[str, Tensor]:
        """Return the model's outputs by head name, and ``squared_norm``."""
        outputs = self.model(input)
        if isinstance(outputs, Tensor):
            outputs = {self.head or "output": outputs}
        total = torch.stack([parameter.square().sum() for parameter in self.model.parameters()]).sum()
        return {**outputs, "squared_norm": total.expand(len(input))}

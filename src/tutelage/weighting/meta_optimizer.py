"""The meta step: how a weighting's own parameters follow their gradient, with a state that is saved like everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tutelage.checks import check, nearest_or_all


@dataclass(frozen=True)
class MetaOptimizer:
    """How a weighting's own parameters are updated: the rules of `torch.optim`.

    Args:
        kind: adam, whose step does not depend on the gradient's scale (hypergradients are as small as the learning
            rate), or sgd.
        lr: Learning rate.
        momentum: Momentum of sgd.
        betas: Decays of adam's averages.
        weight_decay: Decay towards 0, added to the gradient.
        clip_norm: The gradient's norm is clipped to this; null leaves it as it is.
    """

    kind: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-2
    momentum: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, lr="(0, inf)", momentum="[0, 1)", betas="[0, 1)", weight_decay="[0, inf)", clip_norm="(0, inf)")

    @classmethod
    def of_plain(cls, values: Mapping[str, Any]) -> MetaOptimizer:
        """Return the rules that a file states.

        Raises:
            ValueError: an unknown key, with the nearest known one, or a value that makes no sense.
        """
        takes = [field.name for field in fields(cls)]
        for key in values:
            if key not in takes:
                raise ValueError(f"meta_optimizer has no option {key!r}; {nearest_or_all(key, takes)}")
        return cls(**values)


class MetaOptimizerState(nn.Module):
    """An optimiser whose whole state is buffers.

    Args:
        settings: how to move.
        tensors: what is moved, by name.
    """

    steps: Tensor

    def __init__(self, settings: MetaOptimizer, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        for name, value in tensors.items():
            self.register_buffer(_flat("first", name), torch.zeros_like(value))
            if settings.kind == "adam":
                self.register_buffer(_flat("second", name), torch.zeros_like(value))

    @torch.no_grad()
    def step(self, tensors: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        """Update the tensors in place by one step of `torch.optim.Adam` or `SGD`; not at all if all gradients are 0."""
        if not any(gradient.any() for gradient in gradients.values()):
            return
        self.steps += 1
        scale = self._clip(gradients)
        for name, value in tensors.items():
            gradient = scale * gradients[name].to(value) + self.settings.weight_decay * value
            value -= self.settings.lr * self._update(name, gradient)

    def _update(self, name: str, gradient: Tensor) -> Tensor:
        first = self.get_buffer(_flat("first", name))
        if self.settings.kind == "sgd":
            return first.mul_(self.settings.momentum).add_(gradient)
        second, (beta1, beta2), t = self.get_buffer(_flat("second", name)), self.settings.betas, int(self.steps)
        first.lerp_(gradient, 1 - beta1)
        second.lerp_(gradient.square(), 1 - beta2)
        return (first / (1 - beta1**t)) / ((second / (1 - beta2**t)).sqrt() + 1e-8)

    def _clip(self, gradients: Mapping[str, Tensor]) -> float:
        if self.settings.clip_norm is None:
            return 1.0
        norm = float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients.values()])))
        return min(1.0, self.settings.clip_norm / max(norm, 1e-12))


def _flat(kind: str, name: str) -> str:
    """Return a name that a buffer may have."""
    return f"{kind}_{name.replace('.', '_')}"

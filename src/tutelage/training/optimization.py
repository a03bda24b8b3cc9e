"""How the model's parameters are moved: the optimiser, its parameter groups, its schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import nn

from tutelage.checks import check


@dataclass(frozen=True)
class Optimization:
    """The optimiser and its schedule.

    Args:
        optimizer: One of adamw, adam or sgd.
        lr: Learning rate of the heads, and of everything else unless encoder_lr is given.
        encoder_lr: Learning rate of all parameters outside the heads.
        weight_decay: Decay of every parameter except biases (and the scales of normalisations, which are one-dimensional).
        momentum: Momentum of sgd.
        nesterov: Nesterov momentum for sgd.
        schedule: constant, cosine (to zero), quartiles (times 0.1 after each quarter of training), or milestones (times 0.1
            after 5/8, 6/8 and 7/8 of it: AMAL's epochs 150, 180 and 210 of 240).
        warmup: Share of training over which the learning rate rises linearly from zero.
        clip_norm: Largest norm of the gradient, which is clipped to it; null does not clip.
        batch_size: Examples in the batch of a step, shared by all processes: batch_size / processes each.
    """

    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 3e-4
    encoder_lr: float | None = None
    weight_decay: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    schedule: Literal["constant", "cosine", "quartiles", "milestones"] = "constant"
    warmup: float = 0.0
    clip_norm: float | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Check the values."""
        positive, share = "(0, inf)", "[0, 1)"
        rates = {"lr": positive, "encoder_lr": positive, "clip_norm": positive, "weight_decay": "[0, inf)"}
        check(self, **rates, momentum=share, warmup=share, batch_size="[1, inf)")
        if self.nesterov and self.optimizer == "sgd" and not self.momentum:
            raise ValueError(f"nesterov=True needs a momentum; momentum={self.momentum}")

    def build(self, model: nn.Module, heads: tuple[str, ...] = ()) -> torch.optim.Optimizer:
        """Return the optimiser over the model's trainable parameters.

        Args:
            model: its parameters are grouped by encoder and head, decayed and not.
            heads: names of the modules that are heads, as in ``model.named_modules()``.

        Raises:
            ValueError: encoder_lr is given and no parameter belongs to a head of these names, or nothing is trainable.
        """
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        found_head = False
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            is_head = any(name.startswith(head + ".") for head in heads)
            found_head |= is_head
            lr = self.lr if is_head or self.encoder_lr is None else self.encoder_lr
            decay = self.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
        if not groups:
            raise ValueError("the model has no trainable parameter")
        if self.encoder_lr is not None and not found_head:
            raise ValueError(f"encoder_lr={self.encoder_lr} needs to know the heads; heads={heads!r} name no parameter")
        param_groups = [{"params": ps, "lr": lr, "weight_decay": decay} for (lr, decay), ps in groups.items()]
        if self.optimizer == "sgd":
            return torch.optim.SGD(param_groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov)
        kind = torch.optim.AdamW if self.optimizer == "adamw" else torch.optim.Adam
        return kind(param_groups, lr=self.lr)

    @property
    def extends(self) -> bool:
        """Whether a longer training begins with the same steps."""
        return self.schedule == "constant" and self.warmup == 0

    def factor(self, step: int, steps: int) -> float:
        """Return what the learning rates are multiplied by at ``step`` of ``steps``."""
        progress = step / max(steps, 1)
        rise = min(1.0, (step + 1) / (self.warmup * steps)) if self.warmup > 0 else 1.0
        if self.schedule == "cosine":
            return rise * 0.5 * (1 + math.cos(math.pi * progress))
        if self.schedule == "quartiles":
            return rise * 0.1 ** int(4 * progress)
        if self.schedule == "milestones":
            return rise * 0.1 ** max(0, int(8 * progress) - 4)
        return rise


@dataclass(frozen=True)
class Budget:
    """How long training lasts: a number of epochs, or of optimiser steps; the same for any number of processes.

    Args:
        epochs: Passes over the data, as the sampler makes them, by all processes together.
        steps: Optimiser steps, each with batch_size examples over all processes together.
        least_steps: Minimum number of steps, overriding epochs if there are few examples.
        least_epochs: Minimum number of epochs, overriding steps.
        most_epochs: Maximum number of epochs, overriding steps.
    """

    epochs: int | None = None
    steps: int | None = None
    least_steps: int | None = None
    least_epochs: int | None = None
    most_epochs: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, **dict.fromkeys(("epochs", "steps", "least_steps", "least_epochs", "most_epochs"), "[1, inf)"))
        if (self.least_epochs or 0) > (self.most_epochs or math.inf):
            raise ValueError(f"least_epochs={self.least_epochs} is above most_epochs={self.most_epochs}")
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"give exactly one of epochs={self.epochs} and steps={self.steps}; set the other to null")

    def times(self, factor: int) -> Budget:
        """Return so many times this budget."""
        return Budget(**{name: value and factor * value for name, value in asdict(self).items()})

    def extends(self, before: Mapping[str, int | None]) -> bool:
        """Return whether this is more of what an earlier budget gave."""
        both = (self.epochs, before["epochs"]), (self.steps, before["steps"])
        return any(now is not None and then is not None and now > then for now, then in both)

    def total(self, batches_per_epoch: int) -> int:
        """Return the number of steps."""
        steps = self.steps if self.steps is not None else (self.epochs or 0) * batches_per_epoch
        least = max(self.least_steps or 0, (self.least_epochs or 0) * batches_per_epoch)
        most = math.inf if self.most_epochs is None else self.most_epochs * batches_per_epoch
        return int(max(min(steps, most), least))

    def changed(self, batches_per_epoch: int) -> str:
        """Return why the number of examples makes another number of steps of it; empty where it does not."""
        plain = Budget(self.epochs, self.steps).total(batches_per_epoch)
        if (steps := self.total(batches_per_epoch)) == plain:
            return ""
        bounds = {name: getattr(self, name) for name in ("least_steps", "least_epochs", "most_epochs")}
        told = ", ".join(f"budget.{name}={value}" for name, value in bounds.items() if value is not None)
        return f"{steps} steps instead of {plain}, with {batches_per_epoch} in a pass over the examples ({told})"

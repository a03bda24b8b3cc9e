"""What the trainings of a chain have in common, and where each keeps its own checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.signals import Batch, Outputs, Signal
from tutelage.training import Augmentation, Budget, Fitted, Hardware, Log, Optimization, fit, predict, seeds

NewModel = Callable[[int], nn.Module]
"""``new(g)`` is a fresh model for generation g, counted from 0: equal ones, larger or smaller ones, with more noise or less."""


@dataclass(frozen=True)
class Course:
    """The arguments of `fit` that all trainings of a chain share.

    A chain that was interrupted is called again as it was: a training that has ended reads its checkpoint and returns at
    once, and the one that was cut goes on.

    Args:
        budget, optimization, heads, augment, val, select_by, hardware, log: as in `fit`.
        seed: each training derives its own from this and its name.
        out: a folder in which each training has one of its name.
    """

    budget: Budget
    optimization: Optimization
    heads: tuple[str, ...] = ()
    augment: Augmentation | None = None
    val: Any = None
    select_by: Callable[[Outputs, Batch], float] | None = None
    seed: int = 0
    hardware: Hardware | None = None
    out: Path | None = None
    log: Log | None = None

    def of(self, name: str) -> dict[str, Any]:
        """Return the arguments of the training of this name."""
        return {
            "budget": self.budget,
            "optimization": self.optimization,
            "heads": self.heads,
            "augment": self.augment,
            "val": self.val,
            "select_by": self.select_by,
            "seed": seeds.derive(self.seed, name),
            "hardware": self.hardware,
            "out": None if self.out is None else self.out / name,
            "log": self.log,
            "name": name,
        }

    def fit(self, model: nn.Module, train: Any, signals: Sequence[Signal], name: str, **others: Any) -> Fitted:
        """Train a model, under a name that is its own in the chain; ``others`` are further or other arguments of `fit`."""
        return fit(model, train, signals=signals, **self.of(name) | others)


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

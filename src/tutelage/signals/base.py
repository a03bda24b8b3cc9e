"""What a source of supervision is: one loss for each example, never reduced."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.batches import Batch

Outputs = Tensor | Mapping[str, Tensor]


class Signal(nn.Module, ABC):
    """One source of supervision: ``signal(outputs, batch) -> (B,)``.

    A signal is a module, so that whatever it remembers (self-labels, moving averages) is a buffer that moves, saves and
    loads with the rest. Anything of one row per example is indexed by ``batch["index"]``, never by the place in a batch.

    Supervision that an example lacks (no teacher, an abstaining rule, an unlabelled image) is a loss of exactly 0 with no
    gradient, chosen by a mask; it is never a made-up target.

    ``separable = False`` marks a loss that couples the examples of a batch (pairwise, mixed): it returns one scalar,
    and no weighting may weigh its examples apart.
    """

    separable: bool = True

    def __init__(self, name: str, head: str | None = None) -> None:
        super().__init__()
        self.name = name
        self.head = head

    @abstractmethod
    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the loss of each example, (B,), or a scalar when not ``separable``."""

    def begin_epoch(self, epoch: int, predict_fn: Any) -> None:
        """Let the targets of a self-labelling signal follow the model, before an epoch of training.

        ``predict_fn(augmented=...)`` gives (index, outputs): the ``index`` of every training example, of those that this
        process owns where there are several, and the model's outputs for them in eval mode. Most signals have fixed
        targets and do nothing here.
        """

    def begin_step(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Let a signal that follows the model from step to step act before a step of training, counted from 0.

        A signal whose teacher is an earlier state of the model takes it here, and may put other weights into the model.
        Most signals do nothing here.
        """

    def own_output(self, outputs: Outputs) -> Tensor:
        """Return the tensor that this signal judges: the whole output, or the head that it names.

        Half precision, which is what automatic mixed precision returns, becomes float32: its 8 to 11 bits are too few for
        a loss, and for the targets that follow the logits' type.

        Raises:
            ValueError: the model returns several heads and the signal names none of them, or the other way round.
        """
        if isinstance(outputs, Tensor):
            if self.head is not None:
                raise ValueError(
                    f"signal {self.name!r} reads head {self.head!r}, but the model returns one tensor; "
                    "return a dict by head name, or leave head=None"
                )
            return _at_least_float32(outputs)
        if self.head is None or self.head not in outputs:
            raise ValueError(
                f"signal {self.name!r} reads head {self.head!r}, but the model returns {sorted(outputs)}; set head= to one"
            )
        return _at_least_float32(outputs[self.head])


def entry(batch: Batch, key: str, whose: str) -> Tensor:
    """Return ``batch[key]``, or say who misses it, such as a signal by its name, and what the batch holds."""
    try:
        return batch[key]
    except KeyError:
        cure = "; tutelage.data.Indexed(dataset) adds it to any map-style data set" if key == "index" else ""
        raise ValueError(f"{whose!r} needs batch[{key!r}], but the batch holds {sorted(batch)}{cure}") from None


def masked(losses_B: Tensor, present_B: Tensor) -> Tensor:
    """Return the losses where supervision is present, and a constant 0 elsewhere."""
    return torch.where(present_B, losses_B, torch.zeros_like(losses_B))


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits

"""Held-out examples with wrong labels: what a method that asks for verified labels is shown beside the right ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tutelage.batches import size_of, usable_rows
from tutelage.distributed import all_gather_rows, all_reduce_sum
from tutelage.signals import Batch, Objective, Scaled
from tutelage.signals.base import entry


class WrongLabels(nn.Module):
    """Gives each held-out example another class, a different one at each turn, so that in time it meets all.

    Attributes:
        classes: one more than the largest class met so far (a buffer).
        turns: how often `turn` was called (a buffer).
    """

    classes: Tensor
    turns: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("classes", torch.zeros((), dtype=torch.int64))
        self.register_buffer("turns", torch.zeros((), dtype=torch.int64))

    def forward(self, held_out: Batch, key: str = "label") -> Batch:
        """Return the examples with wrong labels; -1 stays, and all are -1 while one class alone has been met.

        Args:
            held_out: the examples.
            key: the batch's entry that holds their labels.

        Raises:
            ValueError: the entry is no class of each example, or there is none.
        """
        if size_of(held_out, "held_out") == 0:
            raise ValueError(
                "the held-out batch is empty, so nothing could be learned from it: give at least one example"
            )
        label_B = entry(held_out, key, "a weighting by verified labels")
        if label_B.dim() != 1 or label_B.is_floating_point():
            raise ValueError(
                f"held_out[{key!r}] is {label_B.dtype} {tuple(label_B.shape)}; expected whole numbers (B,), one class each"
            )
        (all_A,) = all_gather_rows(label_B)
        if len(all_A):
            self.classes = torch.maximum(self.classes.to(all_A.device), all_A.max() + 1)
        classes = int(self.classes)
        if classes < 2:
            return {**held_out, key: torch.full_like(label_B, -1)}
        shift = 1 + int(self.turns) % (classes - 1)
        return {**held_out, key: torch.where(label_B >= 0, (label_B + shift) % classes, label_B)}

    def turn(self) -> None:
        """Let the next wrong labels be others."""
        self.turns += 1


def label_key(objective: Objective) -> str:
    """Return the batch's key of the labels that the primary signal judges by: its ``target``, or "label" where it has none."""
    signal = objective.signals[0]
    while isinstance(signal, Scaled):
        signal = signal.signal
    key = getattr(signal, "target", None)
    return key if isinstance(key, str) else "label"


def finite_anywhere(batch: Batch) -> bool:
    """Return whether some example of the batch, in any process, has a usable input."""
    finite_B = usable_rows(batch["input"], size_of(batch))
    return finite_B is None or int(all_reduce_sum(finite_B.sum())) > 0

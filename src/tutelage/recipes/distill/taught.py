"""What a trained teacher or student says of every image, and the weights that a student has learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

TRUSTED = 2.0


@dataclass(frozen=True)
class Taught:
    """A trained model's judgement.

    Attributes:
        name: the stage's.
        logits: for every image, (N, C).
        folder: the model's.
        weights: how far each loss of each image counted in the end, (N, K), NaN where it was not trained on; None where the
            method has no weight for each example.
        losses: the names of the K losses.
        facts: plain numbers for a report.
    """

    name: str
    logits: Tensor
    folder: Path
    weights: Tensor | None
    losses: list[str]
    facts: dict[str, Any]


def refit_weights(learned: Taught, held_out: Tensor) -> Tensor:
    """Return the weights of a student that is trained again, (N, K): those learned, and of held-out examples the label's alone.

    These labels are what the weights were learned by, so that theirs is `TRUSTED`, the most that a weight can be.
    """
    assert learned.weights is not None
    weights_NK = learned.weights.clone()
    weights_NK[held_out] = 0.0
    weights_NK[held_out, 0] = TRUSTED
    return weights_NK


def doubt_of(weights_NK: Tensor) -> Tensor:
    """Return how far the teachers count for more than the label (Figure 2), or how little both do where equal, (N,)."""
    label_N = weights_NK[:, 0]
    if weights_NK.shape[1] == 1 or torch.equal(*(w.nan_to_num() for w in (weights_NK[:, 1:].mean(1), label_N))):
        return -label_N
    return weights_NK[:, 1:].mean(1) - label_N

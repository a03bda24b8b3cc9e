"""What the stages of a moderation run return: plain tensors, and what was trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Found:
    """The sub-tasks of a task; tensors of N have one row for every row of the image table.

    Attributes:
        subtask: the sub-task of each defective training example, -1 elsewhere, (N,).
        confidence: the discriminator's probability of it, 0 elsewhere, (N,).
        mean_confidence: of each sub-task, (K,).
        unlabelled_probabilities: the discriminator's for the unlabelled rows, (U, K).
        facts: plain numbers for a report.
    """

    subtask: Tensor
    confidence: Tensor
    mean_confidence: Tensor
    unlabelled_probabilities: Tensor
    facts: dict[str, Any]


@dataclass(frozen=True)
class ModelScores:
    """A trained model's judgement.

    Attributes:
        scores: the probability of acceptable for every row, (N,).
        folder: the model's.
        facts: plain numbers for a report.
    """

    scores: Tensor
    folder: Path
    facts: dict[str, Any]

    @property
    def log_odds(self) -> NDArray[np.float64]:
        """The log-odds of acceptable, finite, (N,)."""
        return torch.logit(self.scores.double(), eps=1e-15).numpy()

"""In what order do the sub-tasks teach? One order of all examples per epoch, as `fit` needs it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tutelage.configured import Configured
from tutelage.training import seeds

CurriculumName = Literal["random", "cc", "pc", "acc", "apc"]


class Curriculum(Configured):
    """Sub-tasks one after another, each with its share of the acceptable examples (sub-task imputation, 4.3).

    ``cc`` and ``pc`` go by *increasing* confidence, as the text and Table 2 of the paper say (line 12 of its Algorithm 1
    says descending): by the discriminator's mean confidence in a sub-task's examples, or by its specialist's performance
    on teacher-val. ``acc`` and ``apc`` are the same orders reversed. ``random`` mixes all examples. Equal scores go by the
    sub-task's number.

    Every epoch visits every example exactly once: the examples of no sub-task (acceptable, unlabelled without one) are dealt
    out anew to the sub-tasks each epoch, in proportion to their sizes. (Algorithm 1 read literally would repeat all acceptable
    examples for every sub-task: K times the cost.) Within a sub-task the order is random.

    Args:
        subtask: the sub-task of the example at each place of the training set, -1 for none, (n,).
        name: random, cc, pc, acc or apc.
        scores: for each sub-task its confidence or performance, (K,); not used by ``random``.
        seed: of the random parts.

    Raises:
        ValueError: an unknown name, or a sub-task without a score.
    """

    def __init__(self, subtask: Tensor, name: CurriculumName, scores: Tensor, seed: int) -> None:
        self.name = name
        self.subtask = subtask
        self.seed = seed
        self.sizes = torch.bincount(subtask[subtask >= 0])
        present: list[int] = self.sizes.nonzero().squeeze(1).tolist()
        if name == "random":
            self.tasks = present
            return
        if present and present[-1] >= len(scores):
            raise ValueError(f"sub-task {present[-1]} has no score among {len(scores)}")
        ranked = sorted(present, key=lambda task: (float(scores[task]), task))
        self.tasks = ranked[::-1] if name in ("acc", "apc") else ranked

    def deal(self, epoch: int) -> Tensor:
        """Return the sub-task with which each position is learned in this epoch, (n,): its own, or one drawn for it."""
        task = self.subtask.clone()
        shared = (task < 0).nonzero().squeeze(1)
        if not self.tasks:
            return task
        shared = shared[torch.randperm(len(shared), generator=seeds.generator(self.seed, "deal", epoch))]
        ends = self.sizes[self.tasks].cumsum(0).double()
        cuts = (ends / ends[-1] * len(shared)).round().long()
        task[shared] = torch.tensor(self.tasks)[torch.searchsorted(cuts, torch.arange(len(shared)), right=True)]
        return task

    def __call__(self, epoch: int) -> Tensor:
        """Return the places of this epoch, (n,)."""
        shuffled = torch.randperm(len(self.subtask), generator=seeds.generator(self.seed, "curriculum", epoch))
        if self.name == "random" or not self.tasks:
            return shuffled
        rank = torch.empty(len(self.sizes), dtype=torch.int64)
        rank[self.tasks] = torch.arange(len(self.tasks))
        return shuffled[rank[self.deal(epoch)[shuffled]].argsort(stable=True)]

"""CurriculumNet: examples near the densest point of their class come first; those far from it come last and count half."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from tutelage.distributed import all_gather_rows
from tutelage.hypergradient.last_layer import LastLayer
from tutelage.hypergradient.probe import Probe, primary_only
from tutelage.modes import in_eval_mode
from tutelage.signals import Batch, Objective
from tutelage.weighting.base import Weighting
from tutelage.weighting.table import ExampleTable, classes_of, index_of

SUBSETS = 3  # clean, noisy, highly noisy


class CurriculumNet(Weighting):
    r"""A curriculum by density: each class is divided into clean, noisy and highly noisy examples, learned in turn.

    .. math:: D_{ij} = \lVert h_i - h_j \rVert^2, \qquad \rho_i = \big|\{j : D_{ij} < d_c\}\big|, \qquad
        c = \arg\max_i \rho_i

    (equations 1 and 2) with h the inputs of the model's last layer and :math:`d_c` the given quantile of the distances
    within the class. k-means divides the distances :math:`D_{ic}` from the densest example into three subsets. A first stage
    learns the nearest alone, a second one the next beside them, a third one all; the weights are 1, ``noisy`` and
    ``highly_noisy``.

    Args:
        num_examples: N, the size of the data set that ``batch["index"]`` counts in.
        quantile: of the distances, in (0, 1); the authors' is 0.6.
        noisy: weight of the middle subset from the second stage on.
        highly_noisy: weight of the last one in the third stage.
        start: the first epoch, counted from 0, with a curriculum. Before it all weights are 1, which stands in for the authors'
            first model, trained on everything, whose features they divide by.
        stage: epochs of the first stage, and of the second.

    Raises:
        ValueError: an argument that makes no sense.

    Source: Guo et al., *CurriculumNet: Weakly Supervised Learning from Large-Scale Web Images*, ECCV 2018, section 3.
    """

    name: ClassVar[str] = "curriculumnet"
    weighs_signals: ClassVar[bool] = False
    stage_now: Tensor

    def __init__(
        self,
        num_examples: int,
        *,
        quantile: float = 0.6,
        noisy: float = 0.5,
        highly_noisy: float = 0.5,
        start: int = 1,
        stage: int = 5,
    ) -> None:
        super().__init__()
        if not 0 < quantile < 1 or min(noisy, highly_noisy) < 0 or start < 0 or stage < 1:
            raise ValueError(
                f"quantile={quantile} must be in (0, 1), noisy={noisy}, highly_noisy={highly_noisy} and start={start} at least "
                f"0, stage={stage} at least 1"
            )
        self.quantile = quantile
        self.weight_of = ((1.0, 0.0, 0.0), (1.0, noisy, 0.0), (1.0, noisy, highly_noisy))
        self.start = start
        self.stage = stage
        self.table = ExampleTable(num_examples, torch.zeros(1))
        self.register_buffer("stage_now", torch.full((), -1))

    @property
    def subsets(self) -> Tensor:
        """The subset of each example, (N,): 0 clean, 1 noisy, 2 highly noisy; with several processes all of them ask."""
        return self.table.whole()[:, 0].long()

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return the weights of the batch's examples, the same for each signal."""
        subset_B = self.table.lookup(index_of(batch, "CurriculumNet"))[:, 0].long()
        return self._weights(subset_B).to(losses_BK)[:, None].expand_as(losses_BK)

    def _weights(self, subset_A: Tensor) -> Tensor:
        stage = int(self.stage_now)
        if stage < 0:
            return torch.ones(len(subset_A), device=subset_A.device)
        return torch.tensor(self.weight_of[stage], device=subset_A.device)[subset_A]

    def begin_epoch(self, epoch: int, objective: Objective, batches: Iterable[Batch]) -> None:
        """Divide the examples when the curriculum starts, and go on to the stage of the epoch."""
        if epoch < self.start:
            return
        if int(self.stage_now) < 0:
            self.divide(objective, batches)
        self.stage_now.fill_(min((epoch - self.start) // self.stage, SUBSETS - 1))

    def divide(self, objective: Objective, batches: Iterable[Batch]) -> None:
        """Divide the examples by the model as it is, in eval mode.

        Args:
            objective: its model ends in one linear layer.
            batches: every example once, with ``label``; with several processes each brings its share. An example that is not
                brought is clean; one that is not finite, or has no label, is highly noisy.

        Raises:
            ValueError: the model does not end in one linear layer, ``label`` is no class of each example, or there is no batch.
        """
        kept: list[tuple[Tensor, ...]] = []
        with in_eval_mode(objective.model):
            for batch in batches:
                label_B = classes_of(batch, "CurriculumNet")
                seen = LastLayer.of(Probe(primary_only(objective), batch), pulled=False)
                label_B = torch.where(seen.finite_B, label_B, -1)
                kept.append((index_of(batch, "CurriculumNet"), label_B, seen.features_Bd))
        if not kept:
            raise ValueError("batches is empty: every process brings its share of the examples")
        index, label, features = all_gather_rows(*(torch.cat(parts) for parts in zip(*kept, strict=True)))
        order = index.argsort(stable=True)  # the same in any number of processes
        index, label, features = index[order], label[order], features[order]
        subset = torch.full_like(index, SUBSETS - 1)
        for number in torch.unique(label[label >= 0]):
            own = (label == number).nonzero().squeeze(1)
            subset[own] = by_density(features[own], self.quantile)
        self.table.put(index, subset[:, None])

    def columns(self, names: object) -> dict[str, Tensor]:
        """Return the subsets and the weights."""
        subsets = self.subsets
        return {"weight": self._weights(subsets), "subset": subsets}


def by_density(features_Nd: Tensor, quantile: float) -> Tensor:
    """Return the subset of each example of a class, (N,): 0 for the nearest to the densest place, 1, 2 for the farthest."""
    centred_Nd = features_Nd - features_Nd.mean(0)
    lengths_N = centred_Nd.square().sum(1)
    squares_NN = (lengths_N[:, None] + lengths_N - 2 * centred_Nd @ centred_Nd.T).clamp(min=0).fill_diagonal_(0)
    flat = squares_NN.flatten()
    near = flat.kthvalue(max(1, round(quantile * len(flat)))).values
    center = (squares_NN < near).sum(1).argmax()
    return three_of(squares_NN[center])


def three_of(values_N: Tensor, rounds: int = 100) -> Tensor:
    """Return the cluster of each number, from 0 for the smallest to 2, by k-means from sextiles of what occurs."""
    marks = torch.tensor([1 / 6, 3 / 6, 5 / 6], dtype=values_N.dtype, device=values_N.device)
    occurring = values_N.unique()
    centers = occurring[(marks * (len(occurring) - 1)).round().long()]
    for _ in range(rounds):
        cluster_N = (values_N[:, None] - centers).abs().argmin(1)
        means = torch.stack([values_N[cluster_N == k].mean() for k in range(SUBSETS)])
        new = torch.where(means.isnan(), centers, means)
        if torch.equal(new, centers):
            break
        centers = new
    return cluster_N

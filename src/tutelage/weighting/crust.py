"""CRUST: train on the examples whose gradients represent the most others, weighted by how many they represent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tutelage.checks import check_number
from tutelage.distributed import all_gather_rows
from tutelage.greedy import choose_lazily
from tutelage.hypergradient.last_layer import LastLayer
from tutelage.hypergradient.probe import Probe, primary_only
from tutelage.modes import in_eval_mode
from tutelage.signals import Batch, Objective
from tutelage.weighting.base import Weighting
from tutelage.weighting.table import ExampleTable, classes_of, index_of


class CRUST(Weighting):
    r"""Coresets for robust training: medoids of the examples' gradients, class by class.

    .. math:: S^* = \arg\max_{|S| \le f n_c} \sum_i \max_{j \in S} \big(\max_{ab} d_{ab} - d_{ij}\big), \qquad
        d_{ij} = \lVert \nabla_W \ell(x_i) - \nabla_W \ell(x_j) \rVert

    with W the last linear layer, whose gradients' distances follow from its inputs and the losses' pulls on its outputs without
    being built. A medoid j weighs as many examples as lie within ``radius`` of it; an example that is not chosen weighs
    nothing. Clean examples' gradients lie close together, those of mislabelled ones do not. An example without a label has
    neither a class nor a gradient: it is not chosen, and no medoid stands for it. All weights are 1 until `select`, which
    `begin_epoch` calls before every epoch but the first few. In one's own loop::

        for epoch in range(epochs):
            weighting.begin_epoch(epoch, objective, loader_over_all_examples)
            for batch in loader_over(weighting.selected): ...

    Args:
        num_examples: N, the size of the data set that ``batch["index"]`` counts in.
        fraction: f, the share of each class that is kept.
        radius: how near an example is to be counted; None counts those for which the medoid is the nearest.
        start: the first epoch, counted from 0, before which there is a choice; the authors' is 5.

    Raises:
        ValueError: an argument that makes no sense.

    Source: Mirzasoleiman et al., *Coresets for Robust Training of Neural Networks against Noisy Labels*, NeurIPS 2020,
    eq. 7 and 8.
    """

    name: ClassVar[str] = "crust"
    weighs_signals: ClassVar[bool] = False

    def __init__(self, num_examples: int, *, fraction: float = 0.5, radius: float | None = 2.0, start: int = 5) -> None:
        super().__init__()
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction={fraction} must be in (0, 1]")
        if radius is not None and not radius > 0:
            raise ValueError(f"radius={radius} must be positive, or None")
        check_number("start", start, "[0, inf)", int)
        self.fraction = fraction
        self.radius = radius
        self.start = start
        self.table = ExampleTable(num_examples, torch.ones(1))

    @property
    def weights(self) -> Tensor:
        """The weights, (N,), with mean 1 over the chosen; with several processes all of them ask."""
        return self.table.whole()[:, 0]

    @property
    def selected(self) -> Tensor:
        """The index of each chosen example, ascending."""
        return self.weights.nonzero()[:, 0]

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return the weights of the batch's examples, the same for each signal."""
        u_B1 = self.table.lookup(index_of(batch, "CRUST"))
        return u_B1.to(losses_BK.dtype).expand_as(losses_BK)

    def begin_epoch(self, epoch: int, objective: Objective, batches: Iterable[Batch]) -> None:
        """Choose anew, from the epoch ``start`` on."""
        if epoch >= self.start:
            self.select(objective, batches)

    def select(self, objective: Objective, batches: Iterable[Batch]) -> None:
        """Choose anew, by the primary signal's gradients in eval mode.

        Args:
            objective: its model ends in one linear layer.
            batches: every example once, with ``label``, a class or -1 for none; with several processes each brings its share.
                An example that is not brought, is not finite, or has no label, is not chosen.

        Raises:
            ValueError: the model does not end in one linear layer, ``label`` is no class of each example, or no example is
                finite and labelled.
        """
        kept: list[tuple[Tensor, ...]] = []
        with in_eval_mode(objective.model):
            for batch in batches:
                label_B = classes_of(batch, "CRUST")
                seen = LastLayer.of(Probe(primary_only(objective), batch))
                rows = (index_of(batch, "CRUST"), label_B, seen.features_Bd, seen.pulls_BKC[:, 0])
                kept.append(tuple(row[seen.finite_B & (label_B >= 0)] for row in rows))
                biased = seen.bias in seen.parameters
        if not kept:
            raise ValueError("batches is empty: every process brings its share of the examples")
        index, label, features, pulls = (torch.cat(parts) for parts in zip(*kept, strict=True))
        classes = torch.unique(all_gather_rows(label)[0])
        if len(classes) == 0:
            raise ValueError("no example is finite and has a label (one that is not negative), so none can be chosen")
        chosen = [self._of_class(index[label == c], features[label == c], pulls[label == c], biased) for c in classes]
        index_S, weights_S = (torch.cat(parts) for parts in zip(*chosen, strict=True))
        self.table.lookup(index_S)  # says so if one is out of range, before anything changes
        self.table.rows.zero_()
        self.table.add(index_S, weights_S[:, None] / weights_S.mean())

    def _of_class(self, index: Tensor, features: Tensor, pulls: Tensor, biased: bool) -> tuple[Tensor, Tensor]:
        """Return the examples of one class that are chosen, and their weights."""
        index, features, pulls = all_gather_rows(index, features, pulls)
        order = index.argsort()  # the same in any number of processes
        index, features, pulls = index[order], features[order], pulls[order]
        distances = gradient_distances(features, pulls, biased)
        medoids = facility_location(distances.max() - distances, max(1, round(self.fraction * len(index))))
        from_medoids = distances[medoids]
        if self.radius is None:
            weights = torch.bincount(from_medoids.argmin(0), minlength=len(medoids))
        else:
            weights = (from_medoids <= self.radius).sum(1)
        return index[medoids], weights.to(features)

    def columns(self, names: Sequence[str] | None) -> dict[str, Tensor]:
        """Return the weights."""
        return {"weight": self.weights}


def gradient_distances(features_Nd: Tensor, pulls_NC: Tensor, biased: bool) -> Tensor:
    r"""Return the distances (N, N) of gradients by a linear layer, :math:`\delta_i (h_i, 1)^\top`, without building them."""
    products_NN = (pulls_NC @ pulls_NC.T) * (features_Nd @ features_Nd.T + float(biased))
    squares_N = products_NN.diagonal()
    squares_NN = (squares_N[:, None] + squares_N - 2 * products_NN).clamp(min=0)
    return squares_NN.fill_diagonal_(0).sqrt()


def facility_location(similarity_NN: Tensor, size: int) -> Tensor:
    r"""Return ``size`` examples that greedily maximise :math:`\sum_i \max_{j \in S} s_{ij}`, in the order of their choice.

    Ties go to the first.
    """

    def trial(j: int, covered_N: Tensor) -> tuple[float, Tensor]:
        return float((similarity_NN[:, j] - covered_N).clamp(min=0).sum()), torch.maximum(
            covered_N, similarity_NN[:, j]
        )

    first = enumerate(similarity_NN.sum(0).tolist())
    chosen, _ = choose_lazily(first, size, trial, torch.zeros_like(similarity_NN[0]))
    return torch.tensor(chosen, device=similarity_NN.device)

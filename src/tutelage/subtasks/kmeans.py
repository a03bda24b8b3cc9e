"""k-means, the plain alternative to self-labelling, and where it may start."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.hardware import precise
from tutelage.training import seeds


def kmeans(
    features_ND: Tensor, clusters: int, *, seed: int = 0, restarts: int = 4, iterations: int = 50
) -> tuple[Tensor, Tensor]:
    """Cluster standardised features by Lloyd's algorithm from k-means++ starts; the best of several restarts.

    Args:
        features_ND: one row an example; each column is standardised first.
        clusters: K, at most N.
        seed: of the starts.
        restarts: how many starts are tried.
        iterations: at most so many for each.

    Returns:
        The labels (N,) in 0..K-1, and the squared distance of each example to each centre divided by D, (N, K).

    Raises:
        ValueError: fewer examples than clusters.

    Source: Arthur and Vassilvitskii, *k-means++: The Advantages of Careful Seeding*, SODA 2007.
    """
    count = len(features_ND)
    if count < clusters:
        raise ValueError(f"clusters={clusters} for {count} examples; ask for at most one an example")
    x_ND = features_ND.to(precise(features_ND.device))
    x_ND = (x_ND - x_ND.mean(0)) / (x_ND.std(0, correction=0) + 1e-3)
    generator = seeds.generator(seed, "k-means")
    best: tuple[float, Tensor] | None = None
    for _ in range(restarts):
        distance_NK = _lloyd(x_ND, _starts(x_ND, clusters, generator), iterations)
        inertia = float(distance_NK.min(1).values.sum())
        if best is None or inertia < best[0]:
            best = inertia, distance_NK
    assert best is not None
    return best[1].argmin(1), best[1] / x_ND.shape[1]


def _starts(x_ND: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Draw centres one by one, each with probability proportional to its squared distance to those before."""
    centres = [x_ND[torch.randint(len(x_ND), (), generator=generator)]]
    nearest_N = (x_ND - centres[0]).square().sum(1)
    while len(centres) < clusters:
        weights = nearest_N if nearest_N.sum() > 0 else torch.ones_like(nearest_N)
        centres.append(x_ND[torch.multinomial(weights, 1, generator=generator).squeeze()])
        nearest_N = torch.minimum(nearest_N, (x_ND - centres[-1]).square().sum(1))
    return torch.stack(centres)


def _lloyd(x_ND: Tensor, centres_KD: Tensor, iterations: int) -> Tensor:
    """Return the squared distances to the centres (N, K) once the labels stop changing."""
    labels: Tensor | None = None
    while True:
        distance_NK = torch.cdist(x_ND, centres_KD).square()
        new = distance_NK.argmin(1)
        iterations -= 1
        if iterations <= 0 or (labels is not None and torch.equal(new, labels)):
            return distance_NK
        labels = new
        sums = torch.zeros_like(centres_KD).index_add_(0, labels, x_ND)
        sizes = torch.bincount(labels, minlength=len(centres_KD))
        centres_KD = torch.where(sizes[:, None] > 0, sums / sizes.clamp_min(1)[:, None], centres_KD)

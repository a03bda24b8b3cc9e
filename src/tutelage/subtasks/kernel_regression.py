"""Kernel ridge regression on features, in closed form: of further examples, and of each known one without itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.training import seeds

WIDTH = 3.0  # the kernel falls by this exponent over the median squared distance
RIDGES: tuple[float, ...] = (
    1.0,
    3.0,
    10.0,
    30.0,
)  # tried on the first part: who ranks examples best without themselves?
PART = 4000  # examples whose kernel matrix is inverted at once


@dataclass(frozen=True)
class Part:
    """What was learned from some of the examples.

    Attributes:
        known: the features' directions, (n, D).
        dual: each example's share in the answer, (n, M).
        mean: of the targets, (M,).
    """

    known: Tensor
    dual: Tensor
    mean: Tensor


@dataclass(frozen=True)
class KernelRegression:
    r"""The mean answer of regressions on parts of the examples.

    .. math:: f(x) = \frac1P \sum_p \Big( \bar y_p + \sum_{i \in p} \alpha_i\, e^{-s \| \hat x - \hat x_i \|^2} \Big)

    Attributes:
        parts: P of them.
        scale: s.
        without_own: of each known example, the mean answer of its own part without it and of the others, (N, M).
    """

    parts: tuple[Part, ...]
    scale: float
    without_own: Tensor

    def tell(self, features_PD: Tensor) -> Tensor:
        """Return the answers for further examples, (P, M)."""
        asked = F.normalize(features_PD, dim=1)
        return torch.stack([answers(part, asked, self.scale) for part in self.parts]).mean(0)

    def flat(self, most: int) -> Part:
        """Return as many parts as have so many examples, and at least one, as one part whose answer is their mean."""
        sizes = accumulate(len(part.known) for part in self.parts)
        parts = self.parts[: max(1, sum(size <= most for size in sizes))]
        known, dual = torch.cat([part.known for part in parts]), torch.cat([part.dual for part in parts])
        return Part(known, dual / len(parts), torch.stack([part.mean for part in parts]).mean(0))


def kernel_regression(
    features_ND: Tensor, targets_NM: Tensor, seed: int, weight_N: Tensor | None = None
) -> KernelRegression:
    r"""Fit M targets at once, and answer for each example without its own.

    .. math:: \hat y_{-i} = y_i - \frac{\alpha_i}{(G^{-1})_{ii}}, \quad \alpha = G^{-1}(y - \bar y),
        \quad G = K + \rho\,\mathrm{diag}(w)^{-1}

    with K the Gaussian kernel of the features' directions. Many examples are divided into random parts. :math:`\rho` is the
    one of `RIDGES` by which the first target is ranked best without the examples' own: where a class is rare, or many labels
    are wrong, more of it.

    Source: for the identity, Allen, *The Relationship Between Variable Selection and Data Augmentation*, Technometrics 1974.

    Args:
        features_ND: of the examples.
        targets_NM: M numbers for each, of which the first is 0 or 1.
        seed: of the division.
        weight_N: how far each example counts; 1 by default.
    """
    known = F.normalize(features_ND, dim=1)
    order = torch.randperm(len(known), generator=seeds.generator(seed, "leave-one-out"))
    weight = torch.ones(len(known)) if weight_N is None else weight_N.clamp_min(1e-3)
    scale = WIDTH / _median_distance(known[order[:1000]])
    parts, inside = [], torch.zeros_like(targets_NM)
    places = order.chunk(max(1, math.ceil(len(known) / PART)))
    ridges = RIDGES
    for own in places:
        tried = [_fitted(known[own], targets_NM[own], weight[own], scale, ridge) for ridge in ridges]
        ranked = [_ranked(without[:, 0], targets_NM[own, 0], weight[own]) for _, without in tried]
        best = ranked.index(max(ranked))
        ridges, (part, without) = (ridges[best],), tried[best]
        told = answers(part, known, scale)
        told[own] = without
        inside += told
        parts.append(part)
    return KernelRegression(tuple(parts), scale, inside / len(places))


def _fitted(known_nD: Tensor, targets_nM: Tensor, weight_n: Tensor, scale: float, ridge: float) -> tuple[Part, Tensor]:
    """Return a part, and its answer for each of its examples without that one, (n, M)."""
    mean_M = weight_n @ targets_nM / weight_n.sum()
    factor = torch.linalg.cholesky(_kernel(known_nD, known_nD, scale) + ridge * torch.diag(1 / weight_n))
    part = Part(known_nD, torch.cholesky_solve(targets_nM - mean_M, factor), mean_M)
    return part, targets_nM - part.dual / torch.cholesky_inverse(factor).diagonal()[:, None]


def _ranked(told_n: Tensor, target_n: Tensor, weight_n: Tensor) -> float:
    """Return the AUROC of answers, each example counting by its weight; 0.5 where a class is missing."""
    order = told_n.argsort(stable=True)
    ones, zeros = (weight_n * target_n)[order].double(), (weight_n * (1 - target_n))[order].double()
    pairs = float(ones.sum() * zeros.sum())
    return float(ones @ zeros.cumsum(0)) / pairs if pairs > 0 else 0.5


def answers(part: Part, asked_PD: Tensor, scale: float) -> Tensor:
    """Return one part's answers for directions, (P, M)."""
    return part.mean + torch.cat([_kernel(some, part.known, scale) @ part.dual for some in asked_PD.split(PART)])


def _kernel(a_ND: Tensor, b_MD: Tensor, scale: float) -> Tensor:
    return (-scale * (2 - 2 * a_ND @ b_MD.T).clamp_min(0)).exp()


def _median_distance(directions_ND: Tensor) -> float:
    """Return the median squared distance of two different examples; 1 where there is none."""
    squared = (2 - 2 * directions_ND @ directions_ND.T).clamp_min(0)
    return float(squared[~torch.eye(len(squared), dtype=torch.bool)].median()) if len(squared) > 1 else 1.0

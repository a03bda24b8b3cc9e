"""Kernel ridge regression on features, in closed form: predictions for new examples, leave-one-out ones for known examples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from tutelage.subtasks.kernels import Kernel, kernels
from tutelage.training import seeds

RIDGES: tuple[float, ...] = (
    1.0,
    3.0,
    10.0,
    30.0,
)  # tried on the first part: who ranks examples best without themselves?
PART = 4000  # examples whose kernel matrix is inverted at once
TRIED = 1000  # examples on which kernels are compared


@dataclass(frozen=True)
class Part:
    """What was learned from some of the examples.

    Attributes:
        known: the features as the kernel maps them, (n, D).
        dual: each example's share in the answer, (n, M).
        mean: of the targets, (M,).
    """

    known: Tensor
    dual: Tensor
    mean: Tensor


@dataclass(frozen=True)
class KernelRegression:
    r"""The mean answer of regressions on parts of the examples.

    .. math:: f(x) = \frac1P \sum_p \Big( \bar y_p + \sum_{i \in p} \alpha_i\, k(x, x_i) \Big)

    Attributes:
        parts: P of them.
        kernel: k.
        without_own: of each known example, the mean answer of its own part without it and of the others, (N, M).
    """

    parts: tuple[Part, ...]
    kernel: Kernel
    without_own: Tensor

    def tell(self, features_PD: Tensor) -> Tensor:
        """Return the answers for further examples, (P, M)."""
        asked = self.kernel.mapped(features_PD)
        return torch.stack([answers(part, asked, self.kernel) for part in self.parts]).mean(0)

    def flat(self, most: int) -> Part:
        """Merge the first parts, with at most ``most`` examples but at least one part, into one with their mean answer."""
        sizes = accumulate(len(part.known) for part in self.parts)
        parts = self.parts[: max(1, sum(size <= most for size in sizes))]
        known, dual = torch.cat([part.known for part in parts]), torch.cat([part.dual for part in parts])
        return Part(known, dual / len(parts), torch.stack([part.mean for part in parts]).mean(0))


def kernel_regression(
    features_ND: Tensor, targets_NM: Tensor, seed: int, weight_N: Tensor | None = None, std_D: Tensor | None = None
) -> KernelRegression:
    r"""Fit M targets at once, and predict each example without its own.

    .. math:: \hat y_{-i} = y_i - \frac{\alpha_i}{(G^{-1})_{ii}}, \quad \alpha = G^{-1}(y - \bar y),
        \quad G = K + \rho\,\mathrm{diag}(w)^{-1}

    with K the matrix of a Gaussian kernel, one of `kernels`. Many examples are divided into random parts. The kernel, by
    `TRIED` of the examples, and then :math:`\rho`, one of `RIDGES`, are those by which the first target is ranked best without
    the examples' own: where a class is rare, or many labels are wrong, more of the latter.

    Source: for the identity, Allen, *The Relationship Between Variable Selection and Data Augmentation*, Technometrics 1974.

    Args:
        features_ND: of the examples.
        targets_NM: M numbers for each, of which the first is 0 or 1.
        seed: of the division.
        weight_N: how far each example counts; 1 by default.
        std_D: the features' standard deviations before they were standardised, if they were.
    """
    order = torch.randperm(len(features_ND), generator=seeds.generator(seed, "leave-one-out"))
    weight = torch.ones(len(features_ND)) if weight_N is None else weight_N.clamp_min(1e-3)
    some = order[:TRIED]
    kernel = _best_kernel(features_ND[some], targets_NM[some, :1], weight[some], std_D)
    known = kernel.mapped(features_ND)
    parts, inside = [], torch.zeros_like(targets_NM)
    places = order.chunk(max(1, math.ceil(len(known) / PART)))
    ridges = RIDGES
    for own in places:
        tried = [_fitted(known[own], targets_NM[own], weight[own], kernel, ridge) for ridge in ridges]
        ranked = [_ranked(without[:, 0], targets_NM[own, 0], weight[own]) for _, without in tried]
        best = ranked.index(max(ranked))
        ridges, (part, without) = (ridges[best],), tried[best]
        told = answers(part, known, kernel)
        told[own] = without
        inside += told
        parts.append(part)
    return KernelRegression(tuple(parts), kernel, inside / len(places))


def _best_kernel(features_nD: Tensor, target_n1: Tensor, weight_n: Tensor, std_D: Tensor | None) -> Kernel:
    """Return the kernel, with any ridge, that ranks the target best without the examples' own."""

    def ranked(kernel: Kernel) -> float:
        known = kernel.mapped(features_nD)
        tried = [_fitted(known, target_n1, weight_n, kernel, ridge)[1] for ridge in RIDGES]
        return max(_ranked(without[:, 0], target_n1[:, 0], weight_n) for without in tried)

    return max(kernels(features_nD, std_D), key=ranked)


def _fitted(
    known_nD: Tensor, targets_nM: Tensor, weight_n: Tensor, kernel: Kernel, ridge: float
) -> tuple[Part, Tensor]:
    """Return a part, and its answer for each of its examples without that one, (n, M)."""
    mean_M = weight_n @ targets_nM / weight_n.sum()
    factor = torch.linalg.cholesky(kernel.between(known_nD, known_nD) + ridge * torch.diag(1 / weight_n))
    part = Part(known_nD, torch.cholesky_solve(targets_nM - mean_M, factor), mean_M)
    return part, targets_nM - part.dual / torch.cholesky_inverse(factor).diagonal()[:, None]


def _ranked(told_n: Tensor, target_n: Tensor, weight_n: Tensor) -> float:
    """Return the AUROC of answers, each example counting by its weight; 0.5 where a class is missing."""
    order = told_n.argsort(stable=True)
    ones, zeros = (weight_n * target_n)[order].double(), (weight_n * (1 - target_n))[order].double()
    pairs = float(ones.sum() * zeros.sum())
    return float(ones @ zeros.cumsum(0)) / pairs if pairs > 0 else 0.5


def answers(part: Part, asked_PD: Tensor, kernel: Kernel) -> Tensor:
    """Return one part's answers for features that the kernel has mapped, (P, M)."""
    return part.mean + kernel.answers(asked_PD, part.known, part.dual)

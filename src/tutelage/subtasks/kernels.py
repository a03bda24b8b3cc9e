"""Gaussian kernels of feature vectors: of their directions or of themselves, standardised or with the scales they came with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH = 3.0  # the kernel falls by this exponent over the median squared distance
AT_ONCE = 4000  # rows of a kernel matrix that are computed at once


@dataclass(frozen=True)
class Kernel:
    r"""The similarity of two feature vectors.

    .. math:: k(x, x') = e^{-s \| m(x) - m(x') \|^2}, \qquad m(x) = a \odot x \ \text{ or }\ \frac{a \odot x}{\|a \odot x\|}

    Attributes:
        stretch: a, by which each feature is multiplied, (D,).
        direction: whether only the direction of ``a * x`` counts.
        scale: s.
    """

    stretch: Tensor
    direction: bool
    scale: float

    def mapped(self, features_ND: Tensor) -> Tensor:
        """Return the vectors whose distances count, (N, D)."""
        stretched = features_ND * self.stretch
        return F.normalize(stretched, dim=1) if self.direction else stretched

    def between(self, mapped_ND: Tensor, mapped_MD: Tensor) -> Tensor:
        """Return the similarities of vectors that are `mapped`, (N, M)."""
        return (-self.scale * squared_distances(mapped_ND, mapped_MD)).exp()

    def answers(self, asked_PD: Tensor, known_ND: Tensor, dual_NM: Tensor) -> Tensor:
        """Return the sums of similarities, each weighted by its example's share, (P, M); both sides are `mapped`."""
        return torch.cat([self.between(some, known_ND) @ dual_NM for some in asked_PD.split(AT_ONCE)])


def squared_distances(a_ND: Tensor, b_MD: Tensor) -> Tensor:
    """Return the squared distance of every pair, (N, M)."""
    return (a_ND.square().sum(1)[:, None] + b_MD.square().sum(1) - 2 * a_ND @ b_MD.T).clamp_min(0)


def kernels(features_ND: Tensor, std_D: Tensor | None = None) -> Iterator[Kernel]:
    """Yield the kernels worth trying, the usual one first.

    Standardising a feature says that its spread means nothing. It does where units differ (age and income); it does not where
    features come from one source, such as principal components, whose small ones are noise. Directions leave out how long a
    vector is, which in an encoder's features is mostly contrast, and in a table may be all.

    Args:
        features_ND: standardised features, on which distances are measured.
        std_D: their standard deviations before; without, features are tried as they are.
    """
    plain = torch.ones_like(features_ND[0])
    stretches = [plain]
    if std_D is not None:
        stretches.append(std_D.to(plain) / std_D.double().square().mean().sqrt().clamp_min(1e-12).to(plain))
    for stretch in stretches:
        for direction in (True, False):
            distance = _median_distance(Kernel(stretch, direction, 1.0).mapped(features_ND))
            yield Kernel(stretch, direction, WIDTH / distance)


def _median_distance(mapped_ND: Tensor) -> float:
    """Return the median squared distance of two different examples; 1 where that is 0 or there are none."""
    squared = squared_distances(mapped_ND, mapped_ND)
    apart = squared[~torch.eye(len(squared), dtype=torch.bool, device=squared.device)]
    return float(apart.median()) or 1.0 if apart.numel() else 1.0

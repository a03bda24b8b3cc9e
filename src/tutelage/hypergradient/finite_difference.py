"""Directional derivatives by a central difference: works with any model, approximately."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tutelage.hypergradient.probe import Parameters, Probe

STEP = 1e-3


def finite_difference(probe: Probe, direction: Parameters) -> Tensor:
    r"""Return D (B, K) by a central difference.

    .. math:: D_{ik} \approx \frac{\ell_k(x_i; \theta + \epsilon p) - \ell_k(x_i; \theta - \epsilon p)}{2\epsilon},
        \qquad \epsilon = 10^{-3} / \lVert p \rVert

    Two forward passes without a graph, in float32 or wider, which any kernel and any wrapper of the model allows. The error
    is of order :math:`\epsilon^2` and, in float32, of the rounding of the losses over :math:`\epsilon`. A target that a signal
    computes from the model's own output moves with it, detached or not: the derivative is then another one.
    """
    length = norm(direction)
    epsilon = STEP / length if length > 0 else 0.0
    with torch.no_grad(), full_precision():
        ahead_BK = probe.run(moved(probe.parameters, direction, epsilon), torch.clone)
        behind_BK = probe.run(moved(probe.parameters, direction, -epsilon), torch.clone)
    return (ahead_BK - behind_BK) / (2 * epsilon) if epsilon else torch.zeros_like(ahead_BK)


@contextmanager
def full_precision() -> Iterator[None]:
    """Multiply float32 as float32: the ten bits that TF32 keeps of a number do not hold a small step."""
    backends: Any = torch.backends  # torch's own annotations do not know these settings
    kinds = (
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.cudnn.rnn,
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
    )
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision


def norm(direction: Parameters) -> float:
    """Return the length of a direction in parameter space."""
    lengths = [torch.linalg.vector_norm(p) for p in direction.values()]
    return float(torch.linalg.vector_norm(torch.stack(lengths))) if lengths else 0.0


def moved(parameters: Parameters, direction: Parameters, by: float) -> dict[str, Tensor]:
    """Return those parameters that the direction names, moved along it."""
    return {name: parameters[name].detach() + by * p for name, p in direction.items()}

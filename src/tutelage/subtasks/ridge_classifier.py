"""A linear classifier in closed form: ridge regression on the classes, its strength chosen by examples that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STRENGTHS: tuple[float, ...] = (1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 30.0, 100.0)
"""The ridge over the number of examples: of standardised features the mean eigenvalue is 1."""
TEMPERATURES = torch.logspace(0, 2.5, 51, dtype=torch.float64)
CHUNK = 4096
JUDGED = 5000
"""Of so many examples, at most, the likelihood tells which strength and temperature are best."""


@dataclass(frozen=True)
class RidgeClassifier:
    """What was learned.

    Attributes:
        weight: (C, D), and
        bias: (C,): the logits of features (N, D) are ``features @ weight.T + bias``.
        without_own: the logits of each known example by all others, (N, C).
        strength: the ridge over the number of examples.
        log_likelihood: the mean of the labels' by all other examples.
    """

    weight: Tensor
    bias: Tensor
    without_own: Tensor
    strength: float
    log_likelihood: float


def ridge_classifier(features_ND: Tensor, labels_N: Tensor, classes: int) -> RidgeClassifier:
    r"""Fit ridge regression on the indicators of the classes, and turn its answers into logits.

    .. math:: W_\rho = (Z^\top Z + \rho I)^{-1} Z^\top (Y - \bar y), \qquad
        f_{-i} = y_i - \frac{y_i - f_i}{1 - h_i}, \quad h_i = \frac1N + z_i^\top (Z^\top Z + \rho I)^{-1} z_i

    with Z the centred features and :math:`f_{-i}` the answer for an example by all others, in closed form. The logits are
    :math:`\tau f`. Of `STRENGTHS` and all temperatures :math:`\tau` those are taken by which the labels are likeliest without
    their own: where labels are wrong or few, much more ridge than training by steps would ever give.

    Args:
        features_ND: of the examples, standardised.
        labels_N: their classes.
        classes: C.

    Source: Hoerl and Kennard, *Ridge Regression*, Technometrics 1970; Allen, *The Relationship Between Variable Selection and
    Data Augmentation*, Technometrics 1974 (the answers without one's own).
    """
    count = len(labels_N)
    mean_D = features_ND.double().mean(0)
    shares_C = torch.bincount(labels_N, minlength=classes).double() / count
    gram_DD = torch.zeros(len(mean_D), len(mean_D), dtype=torch.float64)
    moved_DC = torch.zeros(len(mean_D), classes, dtype=torch.float64)
    for rows in torch.arange(count).split(CHUNK):
        centred = features_ND[rows].double() - mean_D
        gram_DD += centred.T @ centred
        moved_DC += centred.T @ (_indicators(labels_N[rows], classes) - shares_C)
    eigenvalues_D, basis_DD = torch.linalg.eigh(gram_DD)
    eigenvalues_D, moved_DC = eigenvalues_D.clamp_min(0), basis_DD.T @ moved_DC

    def without_own(strength: float, rows: Tensor) -> Tensor:
        shrunk_D = 1 / (eigenvalues_D + strength * count)
        told = []
        for some in rows.split(CHUNK):
            turned = (features_ND[some].double() - mean_D) @ basis_DD
            target = _indicators(labels_N[some], classes)
            own = 1 / count + turned.square() @ shrunk_D
            answer = shares_C + turned @ (shrunk_D[:, None] * moved_DC)
            told.append(target - (target - answer) / (1 - own).clamp_min(1e-6)[:, None])
        return torch.cat(told)

    judged = torch.linspace(0, count - 1, min(count, JUDGED)).long()
    best = (-torch.inf, 1.0, STRENGTHS[-1])
    for strength in STRENGTHS:
        told = without_own(strength, judged)
        for temperature in TEMPERATURES.tolist():
            likelihood = float((temperature * told).log_softmax(1).gather(1, labels_N[judged, None]).mean())
            best = max(best, (likelihood, temperature, strength))
    likelihood, temperature, strength = best
    weight_DC = temperature * basis_DD @ (moved_DC / (eigenvalues_D + strength * count)[:, None])
    bias_C = temperature * shares_C - mean_D @ weight_DC
    told_NC = temperature * without_own(strength, torch.arange(count))
    return RidgeClassifier(weight_DC.T.float(), bias_C.float(), told_NC.float(), strength, likelihood)


def _indicators(labels_n: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels_n, classes).double()

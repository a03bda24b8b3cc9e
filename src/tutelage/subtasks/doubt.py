"""Which labels are right? Models that have not learned a label judge it, and so do its acceptable look-alikes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tutelage.checks import check
from tutelage.metrics import auroc

LEAST = 15  # look-alikes of a sub-task, however small
TOLD = 0.75  # AUROC from which a sub-task is told from its look-alikes at all
TELLING = 1 / 3  # of the defective labels in sub-tasks that are told from their look-alikes: enough to go by


@dataclass(frozen=True)
class DoubtSettings:
    """How far each training label is trusted.

    Args:
        used: Whether each label is judged by the other examples. If not, as in the paper, only `lesson` decides on trust.
        lookalikes: Number of look-alikes for each defective example of a sub-task (see `told_apart`).
        apart: AUROC from which all labels of a sub-task are trusted (see `purity`).
        discoveries: Number of times that sub-tasks are discovered, each from another seed, to judge the labels.
    """

    used: bool = False
    lookalikes: float = 2.0
    apart: float = 0.85
    discoveries: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "doubt", lookalikes="(0, inf)", apart="(0.5, 1]", discoveries="[1, 100]")


def told_apart(
    features_ND: Tensor, scores_N: Tensor, label_N: Tensor, subtask_N: Tensor, count: int, lookalikes: float = 2.0
) -> NDArray[np.float64]:
    """Return the AUROC with which each sub-task's defects are told from the acceptable examples that look like them, (K,).

    The look-alikes of a sub-task are the acceptable examples whose features have the greatest cosine with the mean of its own,
    `lookalikes` for each of its examples and at least 15. Defects that a model cannot tell from them, though it has learned
    from others of both, carry their label by mistake: what looks the same is the same. Unlike precision this does not depend on
    how rare a sub-task is, nor on how much more of the acceptable there is.

    Args:
        features_ND: of the training examples.
        scores_N: high for acceptable, by models that have not learned the example.
        label_N: 0 defective, 1 acceptable.
        subtask_N: the sub-task of each defective example, -1 elsewhere.
        count: K.
        lookalikes: for each defective example.

    Returns:
        NaN for a sub-task without examples, or where nothing is acceptable.
    """
    directions_ND = F.normalize(features_ND, dim=1)
    acceptable = (label_N == 1).nonzero().squeeze(1)
    found = np.full(count, np.nan)
    for k in range(count):
        own = (subtask_N == k).nonzero().squeeze(1)
        wanted = min(max(LEAST, round(lookalikes * len(own))), len(acceptable))
        if len(own) == 0 or wanted == 0:
            continue
        near = (directions_ND[acceptable] @ directions_ND[own].mean(0)).topk(wanted).indices
        rows = torch.cat([own, acceptable[near]])
        found[k] = auroc(scores_N[rows].double().numpy(), label_N[rows].numpy())
    return found


def purity(apart_K: NDArray[np.float64], full: float) -> NDArray[np.float64]:
    r"""Return the share of each sub-task's labels that are right, by the AUROC of `told_apart`; 0 where that is NaN.

    .. math:: a = w\,\tfrac12 + (1 - w)\,A \;\Rightarrow\; 1 - w = \frac{a - 1/2}{A - 1/2}

    since the wrongly labelled share w cannot be told from the look-alikes, and the rest is told from them at A = ``full``;
    clipped to [0, 1].
    """
    return np.nan_to_num(np.clip((apart_K - 0.5) / (full - 0.5), 0, 1))


def unexplained(promised_K: NDArray[np.float64], purity_K: NDArray[np.float64], size_K: NDArray[np.int64]) -> float:
    r"""Return how much of the look-alikes' evidence against sub-tasks errors at a rate leave unexplained, 0 to 1.

    .. math:: s = \frac{\left(\sum_k n_k (p_k - u_k)\right)_+}{\sum_k n_k (p_k - u_k)_+}

    Where labels are wrong at a rate whatever the image shows, the probabilities that this gives them are right on the whole:
    purity, which is rough, lies above them as often as below, and s is near 0. Where an annotator takes one kind of image for
    another, no rate explains it: every probability lies above the purity, and s is 1.

    Args:
        promised_K: the mean probability that a label of each sub-task is right, by errors at a rate, p.
        purity_K: u, see `purity`.
        size_K: its examples, n.
    """
    gap_K = size_K * (promised_K - purity_K)
    against = gap_K.clip(min=0).sum()
    return float(gap_K.sum().clip(min=0) / against) if against > 0 else 0.0


def telling(apart_K: NDArray[np.float64], size_K: NDArray[np.int64]) -> float:
    r"""Return how far a low AUROC of `told_apart` is evidence against labels rather than against the features, 0 to 1.

    .. math:: t = \min\left(1,\ 3\,\frac{\sum_{k:\, a_k \ge 3/4} n_k}{\sum_k n_k}\right)

    Features in which hardly any sub-task is told from its look-alikes at an AUROC of 0.75 would not tell a right label either.

    Args:
        apart_K: the AUROC of each sub-task, a; NaN is none.
        size_K: its examples, n.
    """
    total = size_K.sum()
    return min(1.0, float(size_K[apart_K >= TOLD].sum() / total) / TELLING) if total else 0.0

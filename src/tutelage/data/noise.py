"""Wrong labels for experiments, with the rate that they really have."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoisyLabels:
    """Labels of which some are now wrong.

    Attributes:
        labels: int64 (N,).
        wrong: bool (N,), where the label has changed.
        rate: the effective rate, wrong labels over labelled examples: what a table should print.
    """

    labels: Tensor
    wrong: Tensor
    rate: float


def symmetric_noise(
    labels: Tensor, rate: float, classes: int, generator: torch.Generator, *, include_true: bool = False
) -> NoisyLabels:
    """Redraw a share of the labels uniformly.

    By default the draw is over the other C - 1 classes, and `rate` is the expected share of wrong labels. With
    `include_true` it is over all C classes, as in several papers' code, and only rate (C - 1) / C are wrong.

    Args:
        labels: int64 (N,); -1 (unlabelled) stays.
        rate: share redrawn, in [0, 1].
        classes: C, at least 2.
        generator: the source of chance; on the labels' device.
        include_true: whether the true class may be drawn again.

    Raises:
        ValueError: `rate` or `classes` is out of range, or a label is not below `classes`.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}: give a share between 0 and 1")
    if classes < 2:
        raise ValueError(f"classes is {classes}: a wrong label needs at least 2")
    same = torch.eye(classes, dtype=torch.float64, device=labels.device)
    drawn = torch.full_like(same, 1 / classes) if include_true else (1 - same) / (classes - 1)
    return class_conditional_noise(labels, (1 - rate) * same + rate * drawn, generator)


def class_conditional_noise(
    labels: Tensor, transition_GC: Tensor, generator: torch.Generator, *, given: Tensor | None = None
) -> NoisyLabels:
    """Draw each label anew from P(label | class): row `given[i]` of the transition matrix.

    With `given` finer than the labels (the article type, the annotator) the noise is structured: an annotator who
    takes one acceptable type for a forbidden one is a row of its own.

    Args:
        labels: int64 (N,); -1 (unlabelled) stays.
        transition_GC: rows that sum to 1; the column is the label drawn.
        generator: the source of chance; on the labels' device.
        given: int64 (N,), the row of each example; the label itself by default.

    Raises:
        ValueError: a row is no distribution, or an example has no row.
    """
    if transition_GC.ndim != 2 or (transition_GC < 0).any() or ((transition_GC.sum(1) - 1).abs() > 1e-6).any():
        raise ValueError("each row of the transition matrix must be a distribution over labels (sum 1, none below 0)")
    labelled = labels >= 0
    given = labels if given is None else given
    if labelled.any() and not 0 <= int(given[labelled].min()) <= int(given[labelled].max()) < len(transition_GC):
        raise ValueError(f"the transition matrix has {len(transition_GC)} rows, which is too few for the classes given")
    noisy = labels.clone()
    if labelled.any():
        noisy[labelled] = torch.multinomial(transition_GC[given[labelled]], 1, generator=generator).squeeze(1)
    wrong = noisy != labels
    return NoisyLabels(noisy, wrong, wrong.sum().item() / max(1, int(labelled.sum())))

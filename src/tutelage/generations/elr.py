"""ELR: one training that is held back by what the model itself said early on."""

from __future__ import annotations

from typing import Any

from torch import nn

from tutelage.signals import CrossEntropy
from tutelage.signals.early_learning import EarlyLearning
from tutelage.training import Fitted, Plan, fit
from tutelage.weighting import Fixed


def early_learning(
    model: nn.Module,
    train: Any,
    plan: Plan,
    *,
    num_examples: int,
    num_classes: int,
    beta: float = 0.7,
    weight: float = 3.0,
    target: str = "label",
    head: str | None = None,
) -> Fitted:
    """Train with cross-entropy and early-learning regularisation, CE + weight * log(1 - <t, p>).

    Args:
        model: trained in place.
        train: the data set.
        plan: as in `fit`.
        num_examples: N; each ``index`` is below it.
        num_classes: C.
        beta, weight: (0.7, 3) for CIFAR-10 and WebVision, (0.9, 7) for CIFAR-100.
        target: the batch's key of the labels.
        head: the model's head that is trained, where it has several.

    Source: Liu et al., *Early-Learning Regularization Prevents Memorization of Noisy Labels*, NeurIPS 2020.
    """
    regulariser = EarlyLearning(num_examples, num_classes, beta=beta, head=head)
    signals = [CrossEntropy(target, head=head), regulariser]
    return fit(model, train, signals=signals, plan=plan, weighting=Fixed([1.0, weight]))

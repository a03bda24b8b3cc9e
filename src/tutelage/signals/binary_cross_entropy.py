"""Binary cross-entropy, one yes-or-no question a class."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.signals.base import Batch, Outputs, Signal, entry
from tutelage.signals.reading import classes_of, known_classes, scores_of


class BinaryCrossEntropy(Signal):
    r"""Binary cross-entropy over the classes, for each example.

    .. math:: \ell_i = -\sum_c y_{ic}\log\sigma(z_{ic}) + (1-y_{ic})\log(1-\sigma(z_{ic}))

    Args:
        target: the batch's key of the targets: (B,) class labels (made one-hot), or (B, C) numbers in [0, 1]. Of a model with
            one output (B,) are the answers to its one question, numbers in [0, 1]. A negative entry or NaN means "not
            labelled" and contributes 0: one class of one example, or a whole example.
        reduction: "sum" over classes, as in the released program of MILe (with "mean" at C = 1000 the same learning rate
            barely trains), or "mean", as equation 1 of the paper prints it.
        head: the head of the model to use, if it has several.

    Raises:
        ValueError: targets of another shape, a label that is no class of the model, or a target above 1. On an accelerator,
            where to look would be to wait, such an example's loss is NaN, so that it is left out and counted.

    Source: Rajeswar et al., *Multi-label Iterated Learning for Image Classification with Label Ambiguity*, CVPR 2022, eq. 1.
    """

    def __init__(
        self,
        target: str = "label",
        *,
        reduction: Literal["sum", "mean"] = "sum",
        head: str | None = None,
        name: str = "binary_cross_entropy",
    ) -> None:
        super().__init__(name, head)
        self.target = target
        self.reduction = reduction

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        logits_BC = scores_of(self.own_output(outputs), self.name)
        classes = logits_BC.shape[1]
        targets = entry(batch, self.target, self.name)
        if targets.dim() == 1 and classes == 1:
            targets = targets[:, None]
        if targets.dim() == 1:
            labels_B = self._whole(targets)
            present_BC = (labels_B >= 0)[:, None]
            targets_BC = F.one_hot(classes_of(labels_B, classes, self.target, self.name), classes).to(logits_BC.dtype)
            losses_BC = F.binary_cross_entropy_with_logits(logits_BC, targets_BC, reduction="none")
            losses_BC = known_classes(losses_BC, labels_B[:, None], classes)
        else:
            self._check(targets, logits_BC)
            present_BC = targets >= 0
            targets_BC = torch.where(present_BC, targets, 0).to(logits_BC.dtype)
            losses_BC = F.binary_cross_entropy_with_logits(logits_BC, targets_BC, reduction="none")
            losses_BC = torch.where(targets_BC > 1, torch.nan, losses_BC)
        losses_B = torch.where(present_BC, losses_BC, 0).sum(1)
        return losses_B if self.reduction == "sum" else losses_B / classes

    def _whole(self, targets_B: Tensor) -> Tensor:
        """Return class labels as integers, NaN as -1; on an accelerator what is no whole number is a class of no model."""
        if not targets_B.is_floating_point():
            return targets_B.long()
        wrong_B = (targets_B >= 0) & (targets_B.frac() != 0) | targets_B.isposinf()
        if targets_B.is_cpu and wrong_B.any():
            row = int(wrong_B.nonzero()[0])
            raise ValueError(
                f"signal {self.name!r}: batch[{self.target!r}] is {float(targets_B[row]):g} in row {row}; (B,) holds the class "
                "of each example, a whole number: give numbers between 0 and 1 as (B, C), one for each class"
            )
        labels_B = torch.where(targets_B >= 0, targets_B, -1)
        return torch.where(wrong_B, torch.iinfo(torch.int64).max, labels_B.nan_to_num(posinf=-1).long())

    def _check(self, targets: Tensor, logits_BC: Tensor) -> None:
        if targets.shape != logits_BC.shape:
            raise ValueError(
                f"signal {self.name!r}: batch[{self.target!r}] is {targets.dtype} {tuple(targets.shape)}; expected a class for "
                f"each example, (B,), or numbers from 0 to 1 like the output, {tuple(logits_BC.shape)}"
            )
        if targets.is_cpu and (wrong_BC := targets > 1).any():
            row, column = wrong_BC.nonzero()[0].tolist()
            raise ValueError(
                f"signal {self.name!r}: batch[{self.target!r}] is {float(targets[row, column]):g} in row {row}, class {column};"
                " give numbers from 0 to 1, and -1 or NaN where there is no label"
            )

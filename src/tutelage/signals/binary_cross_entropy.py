"""Binary cross-entropy, one yes-or-no question a class."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from tutelage.signals.base import Batch, Outputs, Signal, entry
from tutelage.signals.reading import classes_of


class BinaryCrossEntropy(Signal):
    r"""Binary cross-entropy over the classes, for each example.

    .. math:: \ell_i = -\sum_c y_{ic}\log\sigma(z_{ic}) + (1-y_{ic})\log(1-\sigma(z_{ic}))

    Args:
        target: the batch's key of the targets: (B,) int64 class labels (made one-hot), or (B, C) floats in [0, 1].
            A negative entry means "not labelled" and contributes 0: one class of one example, or a whole example.
        reduction: "sum" over classes, as in the released program of MILe (with "mean" at C = 1000 the same learning rate
            barely trains), or "mean", as equation 1 of the paper prints it.
        head: the model's head that is judged, where it has several.

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
        logits_BC = self.own_output(outputs)
        targets = entry(batch, self.target, self.name)
        if targets.dim() == 1:
            present_BC = (targets >= 0)[:, None].expand_as(logits_BC)
            targets_BC = F.one_hot(
                classes_of(targets, logits_BC.shape[1], self.target, self.name), logits_BC.shape[1]
            ).to(logits_BC.dtype)
        else:
            present_BC = targets >= 0
            targets_BC = targets.clamp_min(0).to(logits_BC.dtype)
        losses_BC = F.binary_cross_entropy_with_logits(logits_BC, targets_BC, reduction="none")
        losses_B = (losses_BC * present_BC).sum(1)
        return losses_B if self.reduction == "sum" else losses_B / logits_BC.shape[1]

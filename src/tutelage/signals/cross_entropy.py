"""Cross-entropy with a class label."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tutelage.signals.base import Batch, Outputs, Signal, entry, masked


class CrossEntropy(Signal):
    r"""Cross-entropy with label smoothing, for each example.

    .. math:: \ell_i = -\sum_c \big((1-s)\,[c = y_i] + s/C\big)\,\log \mathrm{softmax}(z_i)_c

    Args:
        target: the batch's key of the labels, (B,) int64. A negative label means "not labelled": loss 0, no gradient.
        smoothing: s in [0, 1).
        head: the model's head that is judged, where it has several.

    Source: Szegedy et al., *Rethinking the Inception Architecture*, CVPR 2016, section 7 (smoothing).
    """

    def __init__(
        self,
        target: str = "label",
        *,
        smoothing: float = 0.0,
        head: str | None = None,
        name: str = "cross_entropy",
    ) -> None:
        super().__init__(name, head)
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"smoothing={smoothing} is not in [0, 1)")
        self.target = target
        self.smoothing = smoothing

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        logits_BC = self.own_output(outputs)
        labels_B = entry(batch, self.target, self.name)
        present_B = labels_B >= 0
        losses_B = F.cross_entropy(logits_BC, labels_B.clamp_min(0), reduction="none", label_smoothing=self.smoothing)
        return masked(losses_B, present_B)

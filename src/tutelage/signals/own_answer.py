"""A model's own answer, sharpened, as its pseudo-label."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.signals.base import Batch, Outputs, Signal, possible


class OwnAnswer(Signal):
    r"""Cross-entropy with the model's own current answer, sharpened and without gradient.

    .. math:: \ell_i = -\sum_c q_{ic} \log p_{ic}, \qquad q_{ic} = \frac{p_{ic}^{1/T}}{\sum_j p_{ij}^{1/T}}

    with :math:`p = \mathrm{softmax}(z)`. The smaller T, the more confident the answer; at 1 there is no gradient. A class
    that the model masks with a logit of -inf has no part.

    Args:
        temperature: T, in (0, 1].
        head: the head of the model to use, if it has several.

    Source: Zhang et al., *Distilling Effective Supervision from Severe Label Noise*, CVPR 2020, section 3, which sharpens the
    mean answer over augmented copies of the image; here the one copy of the batch.
    """

    def __init__(self, *, temperature: float = 0.5, head: str | None = None, name: str = "own_answer") -> None:
        super().__init__(name, head)
        if not 0 < temperature <= 1:
            raise ValueError(f"temperature={temperature} must be in (0, 1]")
        self.temperature = temperature

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        logits_BC = self.own_output(outputs)
        answers_BC = (logits_BC.detach() / self.temperature).softmax(1)
        return -torch.linalg.vecdot(answers_BC, possible(logits_BC.log_softmax(1)))

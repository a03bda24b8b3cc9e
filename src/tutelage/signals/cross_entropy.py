"""Cross-entropy with a class label."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.batches import Batch
from tutelage.signals.base import Outputs, Signal, entry, masked
from tutelage.signals.reading import classes_of, known_classes, scores_of


class CrossEntropy(Signal):
    r"""Cross-entropy with a class or with probabilities, for each example.

    .. math:: \ell_i = -\sum_c w_c \big((1-s)\,y_{ic} + s/C\big)\,\log \mathrm{softmax}(z_i)_c

    where :math:`y_i` is one-hot for a class. Losses of weighted classes are not divided by the weights' sum over the batch, as
    PyTorch's mean is: no example's loss depends on another's label.

    Args:
        target: the batch's key of the labels: (B,) integers, or (B, C) floats (soft labels). A negative class, or a row with a
            negative entry or NaN, means "not labelled": loss 0, no gradient.
        smoothing: s in [0, 1).
        class_weights: w, one positive number or 0 a class; 1 for all where it is None.
        head: the head of the model to use, if it has several.

    Raises:
        ValueError: an output or labels of another shape, a class that the model has not (on an accelerator, where to look would
            be to wait, its loss is NaN, so that the example is left out and counted), or weights of other classes.

    Source: Szegedy et al., *Rethinking the Inception Architecture*, CVPR 2016, section 7 (smoothing).
    """

    class_weights: Tensor | None

    def __init__(
        self,
        target: str = "label",
        *,
        smoothing: float = 0.0,
        class_weights: Sequence[float] | Tensor | None = None,
        head: str | None = None,
        name: str = "cross_entropy",
    ) -> None:
        super().__init__(name, head)
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"smoothing={smoothing} is not in [0, 1)")
        self.target = target
        self.smoothing = smoothing
        weights_C = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        if weights_C is not None and not (
            weights_C.dim() == 1 and (weights_C >= 0).all() and weights_C.isfinite().all()
        ):
            raise ValueError(f"class_weights={class_weights} must be one finite number, not negative, for each class")
        self.register_buffer("class_weights", weights_C, persistent=False)

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        logits_BC = scores_of(self.own_output(outputs), self.name)
        labels = entry(batch, self.target, self.name)
        soft = labels.is_floating_point()
        if labels.shape != (logits_BC.shape if soft else labels.shape[:1]):
            column = not soft and labels.shape[1:] == (1,)
            raise ValueError(
                f"signal {self.name!r}: batch[{self.target!r}] is {labels.dtype} {tuple(labels.shape)}; expected integers, "
                f"(B,), or soft labels, floats like the logits, {tuple(logits_BC.shape)}"
                + (f": batch[{self.target!r}].squeeze(1)" if column else "")
            )
        if soft:
            present_B = (labels >= 0).all(1)
            known = torch.where(present_B[:, None], labels, torch.zeros_like(labels)).to(logits_BC.dtype)
        else:
            present_B = labels >= 0
            known = classes_of(labels, logits_BC.shape[1], self.target, self.name)
        weights_C = None if self.class_weights is None else self.class_weights.to(logits_BC)
        if weights_C is not None and len(weights_C) != logits_BC.shape[1]:
            raise ValueError(
                f"signal {self.name!r}: class_weights are {len(weights_C)}, and the model has {logits_BC.shape[1]} classes; "
                "give one for each"
            )
        losses_B = F.cross_entropy(logits_BC, known, weights_C, reduction="none", label_smoothing=self.smoothing)
        if not soft:
            losses_B = known_classes(losses_B, labels, logits_BC.shape[1])
        return masked(losses_B, present_B)

"""Losses of maps, one prediction per pixel: the mean over the pixels of an image whose truth is known."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.signals.base import Batch, Outputs, Signal, entry
from tutelage.signals.reading import classes_of, known_classes


def mean_over_present(losses_BHW: Tensor, present_BHW: Tensor) -> Tensor:
    """Return each image's mean loss over its present pixels, (B,); exactly 0, without a gradient, if there are none."""
    kept_BHW = torch.where(present_BHW, losses_BHW, torch.zeros_like(losses_BHW))
    return kept_BHW.flatten(1).sum(1) / present_BHW.flatten(1).sum(1).clamp_min(1)


class PixelCrossEntropy(Signal):
    r"""Cross-entropy with a class for each pixel.

    .. math:: \ell_i = -\frac1{|P_i|}\sum_{p \in P_i} \log\mathrm{softmax}(z_{ip})_{y_{ip}}

    Args:
        target: the batch's key of the classes, (B, H, W) integers. A negative class is ignored.
        head: the model's head that is judged, (B, C, H, W), where it has several.
    """

    def __init__(self, target: str, *, head: str | None = None, name: str = "pixel_cross_entropy") -> None:
        super().__init__(name, head)
        self.target = target

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        logits_BCHW = self.own_output(outputs)
        labels_BHW = entry(batch, self.target, self.name).long()
        _check(self.name, logits_BCHW[:, 0], labels_BHW)
        known_BHW = classes_of(labels_BHW, logits_BCHW.shape[1], self.target, self.name)
        losses_BHW = F.cross_entropy(logits_BCHW, known_BHW, reduction="none")
        losses_BHW = known_classes(losses_BHW, labels_BHW, logits_BCHW.shape[1])
        return mean_over_present(losses_BHW, labels_BHW >= 0)


class PixelError(Signal):
    r"""Error of a number for each pixel, such as depth: :math:`\ell_i = \frac1{|P_i|}\sum_{p \in P_i} |z_{ip} - y_{ip}|^q`.

    Args:
        target: the batch's key of the numbers, (B, H, W). A pixel that is NaN is ignored.
        power: q, 1 or 2.
        head: the model's head that is judged, (B, 1, H, W), where it has several.
    """

    def __init__(
        self, target: str, *, power: Literal[1, 2] = 1, head: str | None = None, name: str = "pixel_error"
    ) -> None:
        super().__init__(name, head)
        self.target = target
        self.power = power

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        found_BHW = self.own_output(outputs).squeeze(1)
        targets_BHW = entry(batch, self.target, self.name).to(found_BHW.dtype)
        _check(self.name, found_BHW, targets_BHW)
        present_BHW = ~torch.isnan(targets_BHW)
        error_BHW = found_BHW - torch.where(present_BHW, targets_BHW, torch.zeros_like(targets_BHW))
        return mean_over_present(error_BHW.abs() if self.power == 1 else error_BHW.square(), present_BHW)


class SurfaceNormals(Signal):
    r"""Angle to a direction for each pixel: :math:`\ell_i = 1 - \frac1{|P_i|}\sum_{p \in P_i} \cos(z_{ip}, y_{ip})`.

    Args:
        target: the batch's key of the directions, (B, 3, H, W). A pixel whose direction is zero is ignored.
        head: the model's head that is judged, (B, 3, H, W), where it has several.

    Source: Eigen and Fergus, *Predicting Depth, Surface Normals and Semantic Labels*, ICCV 2015, section 4.2.
    """

    def __init__(self, target: str, *, head: str | None = None, name: str = "surface_normals") -> None:
        super().__init__(name, head)
        self.target = target

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        found_B3HW = self.own_output(outputs)
        targets_B3HW = entry(batch, self.target, self.name).to(found_B3HW.dtype)
        _check(self.name, found_B3HW, targets_B3HW)
        present_BHW = targets_B3HW.square().sum(1) > 0
        return mean_over_present(1 - F.cosine_similarity(found_B3HW, targets_B3HW, dim=1), present_BHW)


def _check(name: str, found: Tensor, targets: Tensor) -> None:
    if found.shape != targets.shape:
        raise ValueError(
            f"signal {name!r}: the output's map is {tuple(found.shape)}, the target's {tuple(targets.shape)}"
        )

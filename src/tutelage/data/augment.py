"""Random changes of training images: uint8 in, uint8 out, one draw for each image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tutelage import _vision

AugmentationName = Literal["randaugment", "shift", "light", "none"]


class RandAugment:
    """RandAugment (Cubuk et al. 2020) with 4 operations of magnitude 8 on its scale of 31, as in sub-task imputation, 5."""

    def __init__(self, operations: int = 4, magnitude: int = 8) -> None:
        self.transform = _vision.transforms().RandAugment(num_ops=operations, magnitude=magnitude)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the changed images, (B, 3, H, W) uint8."""
        return torch.stack([self.transform(image) for image in images])


class Shift:
    """A random shift by at most ``pixels`` and a random brightness and contrast, for images of a few pixels.

    It is drawn for the whole batch at once and costs next to nothing, where RandAugment on a 24x24 image costs more than
    the model.
    """

    def __init__(self, pixels: int = 2, contrast: float = 0.2, brightness: float = 20.0) -> None:
        self.pixels = pixels
        self.contrast = contrast
        self.brightness = brightness

    def __call__(self, images: Tensor) -> Tensor:
        """Return the changed images, (B, 3, H, W) uint8."""
        size, _, height, width = images.shape
        p = self.pixels
        padded = torch.nn.functional.pad(images.float(), (p, p, p, p), mode="replicate")
        dy, dx = torch.randint(0, 2 * p + 1, (2, size))
        rows = dy[:, None] + torch.arange(height)
        columns = dx[:, None] + torch.arange(width)
        shifted = padded[torch.arange(size)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(
            0, 3, 1, 2
        )
        gain = 1 + self.contrast * (2 * torch.rand(size, 1, 1, 1) - 1)
        offset = self.brightness * (2 * torch.rand(size, 1, 1, 1) - 1)
        return (128 + gain * (shifted - 128) + offset).clamp(0, 255).to(torch.uint8)


def augmentation(name: AugmentationName) -> RandAugment | Shift | None:
    """Return the augmentation of this name; light is shift without the shift, none changes nothing."""
    if name == "randaugment":
        return RandAugment()
    return None if name == "none" else Shift(pixels=2 if name == "shift" else 0)

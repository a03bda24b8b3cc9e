"""Random changes of training images: uint8 in, uint8 out, one draw for each image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tutelage import _vision

AugmentationName = Literal["randaugment", "crop_flip", "shift", "light", "none"]


class RandAugment:
    """RandAugment (Cubuk et al. 2020) with 4 operations of magnitude 8 on its scale of 31, as in sub-task imputation, 5."""

    def __init__(self, operations: int = 4, magnitude: int = 8) -> None:
        self.transform = _vision.transforms().RandAugment(num_ops=operations, magnitude=magnitude)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the changed images, (B, 3, H, W) uint8."""
        return torch.stack([self.transform(image) for image in images])


class CropFlip:
    """CIFAR's customary augmentation: a random crop of the image within a black border, mirrored half of the time.

    Source: He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016, section 4.2.
    """

    def __init__(self, border: int = 4) -> None:
        self.border = border

    def __call__(self, images: Tensor) -> Tensor:
        """Return the changed images, (B, 3, H, W) uint8."""
        padded = torch.nn.functional.pad(images, (self.border,) * 4)
        cropped = _windows(padded, torch.randint(0, 2 * self.border + 1, (2, len(images))), images.shape[2:])
        mirrored_B = torch.rand(len(images)) < 0.5
        return torch.where(mirrored_B[:, None, None, None], cropped.flip(3), cropped)


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
        size, p = len(images), self.pixels
        padded = torch.nn.functional.pad(images.float(), (p, p, p, p), mode="replicate")
        shifted = _windows(padded, torch.randint(0, 2 * p + 1, (2, size)), images.shape[2:])
        gain = 1 + self.contrast * (2 * torch.rand(size, 1, 1, 1) - 1)
        offset = self.brightness * (2 * torch.rand(size, 1, 1, 1) - 1)
        return (128 + gain * (shifted - 128) + offset).clamp(0, 255).to(torch.uint8)


def _windows(images: Tensor, corners_2B: Tensor, size: torch.Size) -> Tensor:
    """Return a window of each image, (B, C, h, w), whose upper left corner is at (row, column)."""
    rows = corners_2B[0][:, None] + torch.arange(size[0])
    columns = corners_2B[1][:, None] + torch.arange(size[1])
    each = torch.arange(len(images))[:, None, None]
    windows = images[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return windows.clone(memory_format=torch.contiguous_format)  # `contiguous` leaves the strides of a single channel


def augmentation(name: AugmentationName) -> RandAugment | CropFlip | Shift | None:
    """Return the augmentation of this name; light is shift without the shift, none changes nothing."""
    if name == "randaugment":
        return RandAugment()
    if name == "crop_flip":
        return CropFlip()
    return None if name == "none" else Shift(pixels=2 if name == "shift" else 0)

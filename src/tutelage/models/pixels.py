"""The door of every image model: what pixels become, and how they lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SIMD_BLOCK = 16  # floats in AVX-512's registers; AVX2's hold 8


class Pixels(nn.Module):
    """From uint8 pixels, (B, 3, H, W), to standardised floats; floats are taken to lie in [0, 1] already.

    The model holds its own mean and deviation, so that training, export and service cannot disagree on them, and decides
    how its input lies in memory, whatever the data set, the augmentation or a permuted array left (see `layout_of`).

    Args:
        mean, std: of each channel, of pixels in [0, 1].
        layout: of the result.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Return (images - mean) / std, (B, 3, H, W) float."""
        unit = images if images.is_floating_point() else images.to(self.mean.dtype) / 255
        return ((unit - self.mean) / self.std).contiguous(memory_format=self.layout)


def layout_of(network: nn.Module) -> torch.memory_format:
    """Return the layout in which a network's images are to lie: channels-last for convolutions, unless one must not see it.

    Activations keep their input's layout. Channels-last makes convolutions faster (a training step of our residual networks by
    a quarter to two fifths on a CPU), but there oneDNN computes the gradient of a strided 1x1 convolution with fewer input
    channels than a SIMD register holds wrongly, or crashes: https://github.com/uxlfoundation/oneDNN/issues/6035.
    """
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    unsafe = any(
        set(layer.kernel_size) == {1} and set(layer.stride) != {1} and layer.in_channels // layer.groups < _SIMD_BLOCK
        for layer in convolutions
    )
    return torch.channels_last if convolutions and not unsafe else torch.contiguous_format

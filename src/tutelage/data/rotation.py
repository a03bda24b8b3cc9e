"""Rotation prediction: how far an image was turned is a label that costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.data.indexed import Derived, MapStyle, batch_of

QUARTERS = 4


def turned(images: Tensor, quarters_B: Tensor) -> Tensor:
    """Return square images (B, C, H, H), each turned counter-clockwise by so many quarters, (B,) in 0 to 3.

    Raises:
        ValueError: images that are not square.
    """
    if images.shape[2] != images.shape[3]:
        raise ValueError(f"images are {images.shape[2]} x {images.shape[3]}: only square ones can be turned")
    out = images.clone()
    for quarters in range(1, QUARTERS):
        rows = (quarters_B == quarters).nonzero().squeeze(1)
        out[rows] = torch.rot90(images[rows], quarters, (2, 3))
    return out


class Turned(Derived):
    """A data set whose images are turned by a random multiple of 90 degrees, which the batch holds as ``rotation``.

    Every label of an image stays. Draws from torch's global generator, which `tutelage.training` seeds for each batch.

    Args:
        examples: a map-style data set of dicts with ``index`` and ``input`` (uint8 or float images).
        share: of the images that are turned, each by 90, 180 or 270 degrees with equal probability; 3/4 makes upright as
            likely as each of these, as in the paper. Less is for things that are not themselves upside down.

    Source: Zhai et al., *S4L: Self-Supervised Semi-Supervised Learning*, ICCV 2019, section 3.1.
    """

    def __init__(self, examples: MapStyle, share: float = 0.75) -> None:
        if not 0 < share < 1:
            raise ValueError(f"share={share} of the images to turn must lie between 0 and 1")
        super().__init__(examples)
        self.share = share

    def batch(self, places: Sequence[int]) -> dict[str, Any]:
        """Return a whole batch at once."""
        batch = batch_of(self.examples, places)
        size = len(batch["input"])
        quarters_B = (torch.rand(size) < self.share) * torch.randint(1, QUARTERS, (size,))
        return {**batch, "input": turned(batch["input"], quarters_B), "rotation": quarters_B}

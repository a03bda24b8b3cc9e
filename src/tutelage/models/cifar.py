"""Residual networks for images of 24 to 64 pixels (He et al. 2016, section 4.2; Xie et al. 2017 for grouped convolutions)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: the identity, or a 1x1 convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, groups=groups, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        same = before == after and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        )

    def forward(self, input: Tensor) -> Tensor:
        """Return the block's output, (B, after, H / stride, W / stride)."""
        hidden = F.relu(self.norm1(self.conv1(input)))
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(input))


class CifarResNet(nn.Module):
    """A stem of one 3x3 convolution, stages of residual blocks that halve the resolution from the second on, global mean.

    Depth 6n + 2 is ``blocks=n`` with three widths: n = 1 is ResNet-8, n = 3 ResNet-20, n = 18 ResNet-110.

    Args:
        blocks: residual blocks a stage.
        widths: channels of each stage.
        groups: groups of each block's second convolution (ResNeXt's cardinality).
        num_classes: outputs; 0 returns the features.
        drop_rate: dropout before the classifier.
        stem_stride: 2 halves the resolution at once.
        max_pool: append each map's maximum to its mean, so that one small object is not averaged away.
    """

    def __init__(
        self,
        blocks: int = 1,
        widths: tuple[int, ...] = (16, 32, 64),
        groups: int = 1,
        num_classes: int = 10,
        drop_rate: float = 0.0,
        stem_stride: int = 1,
        max_pool: bool = False,
    ) -> None:
        super().__init__()
        self.max_pool = max_pool
        self.widths = tuple(widths)
        self.num_features = widths[-1] * (2 if max_pool else 1)
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, stem_stride, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        stages, before = [], widths[0]
        for number, width in enumerate(widths):
            layers = []
            for place in range(blocks):
                layers.append(Block(before, width, 2 if number > 0 and place == 0 else 1, groups))
                before = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.drop = nn.Dropout(drop_rate)
        self.fc: nn.Module = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the last layer, as timm's models do."""
        return self.fc

    def forward_features(self, input: Tensor) -> Tensor:
        """Return the last stage's maps, (B, widths[-1], H', W')."""
        return self.stages(self.stem(input))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (B, C), or the pooled features (B, num_features) before them."""
        pooled = features.mean((2, 3))
        if self.max_pool:
            pooled = torch.cat([pooled, features.amax((2, 3))], dim=1)
        pooled = self.drop(pooled)
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, input: Tensor) -> Tensor:
        """Return the logits (B, C)."""
        return self.forward_head(self.forward_features(input))

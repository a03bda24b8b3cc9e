"""Residual networks for small images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.models.headed import Headed


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


class CifarResNet(Headed):
    """A stem of one 3x3 convolution, stages of residual blocks, global mean: for images of 24 to 64 pixels.

    Every stage but the first halves the resolution. Depth 6n + 2 is ``blocks=n`` with three widths: n = 1 is ResNet-8,
    n = 3 ResNet-20, n = 18 ResNet-110.

    Args:
        blocks: residual blocks a stage.
        widths: channels of each stage.
        groups: groups of each block's second convolution (ResNeXt's cardinality).
        num_classes: outputs; 0 returns the features.
        drop_rate: dropout before the classifier.
        stem_stride: 2 halves the resolution at once.
        max_pool: append each map's maximum to its mean, so that one small object is not averaged away.

    Source: He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016, section 4.2; Xie et al. 2017 for grouped
    convolutions.
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
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, stem_stride, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.stages = _stages(partial(Block, groups=groups), widths[0], widths, blocks)
        self.add_head(widths[-1] * (2 if max_pool else 1), num_classes, drop_rate)

    def forward_features(self, input: Tensor) -> Tensor:
        """Return the last stage's maps, (B, widths[-1], H', W')."""
        return self.stages(self.stem(input))

    def pool(self, features: Tensor) -> Tensor:
        """Return each map's mean, and its maximum where ``max_pool`` asks for it."""
        mean = features.mean((2, 3))
        return torch.cat([mean, features.amax((2, 3))], dim=1) if self.max_pool else mean


class PreActivationBlock(nn.Module):
    """Normalisation, ReLU and a 3x3 convolution, twice. The shortcut: the identity, or a 1x1 convolution of the activation."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.shortcut = None if before == after else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Return the block's output, (B, after, H / stride, W / stride)."""
        active = F.relu(self.norm1(input))
        hidden = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return hidden + (input if self.shortcut is None else self.shortcut(active))


class WideResNet(Headed):
    """WRN-d-k: a convolution, three stages of (d - 4) / 6 blocks of 16k, 32k and 64k channels, global mean.

    For images of 32 to 96 pixels.

    Args:
        depth: d: 6n + 4.
        width: k.
        num_classes: outputs; 0 returns the features.
        drop_rate: dropout before the classifier.

    Raises:
        ValueError: a depth that is not 6n + 4.

    Source: Zagoruyko and Komodakis, *Wide Residual Networks*, BMVC 2016.
    """

    def __init__(self, depth: int = 16, width: int = 1, num_classes: int = 10, drop_rate: float = 0.0) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth={depth} is not 6n + 4, such as 16")
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        widths = (16 * width, 32 * width, 64 * width)
        self.stages = _stages(PreActivationBlock, 16, widths, (depth - 4) // 6)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.add_head(widths[-1], num_classes, drop_rate)

    def forward_features(self, input: Tensor) -> Tensor:
        """Return the last stage's activated maps, (B, 64k, H / 4, W / 4)."""
        return F.relu(self.norm(self.stages(self.stem(input))))

    def pool(self, features: Tensor) -> Tensor:
        """Return each map's mean."""
        return features.mean((2, 3))


def _stages(
    block: Callable[[int, int, int], nn.Module], before: int, widths: Sequence[int], blocks: int
) -> nn.Sequential:
    """Return stages of so many blocks; from the second stage on the first block halves the resolution."""
    stages = []
    for number, width in enumerate(widths):
        layers = []
        for place in range(blocks):
            layers.append(block(before, width, 2 if number > 0 and place == 0 else 1))
            before = width
        stages.append(nn.Sequential(*layers))
    return nn.Sequential(*stages)
